"""Manhattan plots: one latent, or the best latent of every variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.plots.genome import GenomeAxis, Points, points_of
from imgwas.plots.labels import label_lane, power_text
from imgwas.plots.matrix import shortened
from imgwas.plots.style import CHROMOSOME_TONES, LEAD_COLOUR, RC, own_axes
from imgwas.plots.thin import thin_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

GENOME_WIDE = 5e-8


def manhattan(
    data: pd.DataFrame,
    *,
    ax: Axes | None = None,
    study_wide: float | None = None,
    labels: int | Mapping[str, str] = 20,
    y_break: float | None = None,
    locus_kb: float = 500.0,
) -> Axes:
    """Draw -log10 P along the genome.

    Points are thinned to what can be seen (all above -log10 P 4 stay) and drawn as one image inside
    vector axes, so that 10 M variants take seconds and the file stays small.

    Parameters
    ----------
    data : DataFrame
        ``chromosome`` (X is 23), ``base_pair_location``, ``neg_log_10_p_value``, ``variant_id``:
        what ``SumStats.latent`` and ``SumStats.best_latent`` return. Rows without P are left out.
    ax : Axes, optional
        Where to draw.
    study_wide : float, optional
        A second threshold on P, dashed; 5e-8 over the number of latents.
    labels : int or mapping, default 20
        How many lead variants to name, or a mapping from variant id to the text to write.
    y_break : float, optional
        Compress the axis above this -log10 P. By default an axis whose highest peak passes 60 and
        is more than three times the next highest locus is broken.
    locus_kb : float
        Leads nearer than this to a stronger one are not named.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    (points,) = points_of(data)
    check_range("locus_kb", locus_kb, low=0)
    with mpl.rc_context(RC):
        ax = own_axes(ax)
        genome = GenomeAxis.of(points.chromosome, points.position, points.names)
        leads = leads_of(points, study_wide, locus_kb)
        x, breaks = draw_association(ax, genome, points, leads, study_wide, y_break)
        genome.label(ax)
        draw_leads(ax, x, breaks.shown(points.neg_log10_p[leads]))
        names = lead_names(data, points.row[leads], labels)
        name_leads(ax, x, breaks.shown(points.neg_log10_p[leads]), names,
                   italic=isinstance(labels, Mapping))  # fmt: skip
    return ax


def aggregated_manhattan(
    data: pd.DataFrame, *, n_latents: int, ax: Axes | None = None, **options: Any
) -> Axes:
    """Draw for every variant the smallest P over all latents.

    Parameters
    ----------
    data : DataFrame
        ``SumStats.best_latent()``.
    n_latents : int
        How many latents were scanned; the study-wide line stands at 5e-8 over this number.
    ax, **options
        As in :func:`manhattan`.
    """
    check_range("n_latents", n_latents, low=1)
    options.setdefault("study_wide", GENOME_WIDE / n_latents)
    ax = manhattan(data, ax=ax, **options)
    ax.set_ylabel(f"max over {n_latents} latents of $-\\log_{{10}}P$")
    return ax


def leads_of(points: Points, study_wide: float | None, locus_kb: float) -> np.ndarray:
    """Indices of the strongest variant of each locus that reaches the strictest threshold."""
    limit = -np.log10(study_wide if study_wide is not None else GENOME_WIDE)
    return find_leads(points.chromosome, points.position, points.neg_log10_p, limit, locus_kb * 1e3)


def find_leads(
    chromosome: np.ndarray, position: np.ndarray, nlp: np.ndarray, limit: float, distance: float
) -> np.ndarray:
    """Indices of the strongest variant of each locus, by distance alone, strongest first."""
    passing = np.flatnonzero(nlp >= limit)
    # far apart on one axis where they are on different chromosomes
    place = position[passing] + chromosome[passing] * (2.0**40 + 2 * distance)
    order = np.argsort(place, kind="stable")
    passing, place = passing[order], place[order]
    is_free = np.ones(len(passing), bool)
    taken: list[int] = []
    for index in np.lexsort((passing, -nlp[passing])).tolist():
        if is_free[index]:
            first = np.searchsorted(place, place[index] - distance, "right")
            last = np.searchsorted(place, place[index] + distance, "left")
            is_free[first:last] = False
            taken.append(int(passing[index]))
    return np.array(taken, np.int64)


def draw_association(
    ax: Axes,
    genome: GenomeAxis,
    points: Points,
    leads: np.ndarray,
    study_wide: float | None,
    y_break: float | None = None,
    below: bool = False,
) -> tuple[np.ndarray, Break]:
    """Draw the cloud of points with its thresholds; return where leads stand, and the break."""
    x = genome.place(points.chromosome, points.position)
    breaks = Break.choose(points.neg_log10_p, leads, y_break)
    kept = thin_points(x, points.neg_log10_p, keep_above=4.0)
    height = breaks.shown(points.neg_log10_p[kept])
    for number, name in enumerate(genome.chromosomes):
        own = points.chromosome[kept] == name
        ax.plot(
            x[kept][own], height[own], linestyle="none", marker="o", markersize=1.5,
            markeredgewidth=0, color=CHROMOSOME_TONES[number % 2], rasterized=True, zorder=2,
        )  # fmt: skip
    _draw_lines(ax, breaks, study_wide, below)
    _frame(ax, genome, breaks, points.neg_log10_p, study_wide)
    return x[leads], breaks


class Break:
    """Compresses the part of the axis above a value, linearly."""

    def __init__(self, at: float, top: float) -> None:
        self.at, self.top = at, top
        self.room = 0.35 * at

    @classmethod
    def choose(cls, nlp: np.ndarray, leads: np.ndarray, y_break: float | None) -> Break:
        """Break where asked, or where one peak would flatten all others."""
        top = float(nlp.max())
        if y_break is not None:
            check_range("y_break", y_break, low=1)
            return cls(y_break if y_break < top else np.inf, top)
        peaks = nlp[leads]
        second = float(peaks[1]) if len(peaks) > 1 else 0.0
        if top > 60 and top > 3 * max(second, 10.0):
            return cls(max(1.15 * second, 15.0), top)
        return cls(np.inf, top)

    @property
    def is_on(self) -> bool:
        """Whether anything is compressed."""
        return bool(np.isfinite(self.at))

    def shown(self, nlp: np.ndarray) -> np.ndarray:
        """Height on the paper of a -log10 P."""
        if not self.is_on:
            return nlp
        above = np.clip((nlp - self.at) / (self.top - self.at), 0, 1)
        return np.asarray(np.where(nlp <= self.at, nlp, self.at * 1.06 + self.room * above))


def _draw_lines(ax: Axes, breaks: Break, study_wide: float | None, below: bool) -> None:
    thresholds = {GENOME_WIDE: "-"}
    if study_wide is not None:
        thresholds[study_wide] = "--"
    for value, style in thresholds.items():
        side = "bottom" if (value == min(thresholds)) != below else "top"
        height = float(breaks.shown(np.array([-np.log10(value)]))[0])
        ax.axhline(height, color="#555555", linewidth=0.6, linestyle=style, zorder=1)
        if study_wide is not None:
            ax.annotate(
                power_text(value), (1.003, height),
                xycoords=("axes fraction", "data"), fontsize=5, va=side, color="#555555",
                annotation_clip=False,
            )  # fmt: skip


def draw_leads(ax: Axes, x: np.ndarray, y: np.ndarray, *, colour: str = LEAD_COLOUR) -> None:
    """Mark lead variants by diamonds."""
    ax.plot(
        x, y, linestyle="none", marker="D", markersize=3, markerfacecolor=colour,
        markeredgecolor="black", markeredgewidth=0.3, zorder=4, clip_on=False,
    )  # fmt: skip


def _frame(
    ax: Axes, genome: GenomeAxis, breaks: Break, nlp: np.ndarray, study_wide: float | None
) -> None:
    margin = 0.008 * (genome.ends[-1] - genome.starts[0])
    ax.set_xlim(genome.starts[0] - margin, genome.ends[-1] + margin)
    lowest_top = -np.log10(study_wide or GENOME_WIDE) * 1.08
    highest = float(breaks.shown(np.array([nlp.max()]))[0])
    ax.set_ylim(0, max(highest * 1.04, lowest_top))
    ax.set_ylabel(r"$-\log_{10}P$")
    if breaks.is_on:
        _broken_ticks(ax, breaks)


def _broken_ticks(ax: Axes, breaks: Break) -> None:
    from matplotlib.ticker import MaxNLocator

    below = [v for v in MaxNLocator(6).tick_values(0, breaks.at) if 0 <= v <= 0.97 * breaks.at]
    above = [breaks.at + (breaks.top - breaks.at) * share for share in (0.5, 1.0)]
    above = [float(f"{v:.2g}") if v < breaks.top else float(np.floor(v)) for v in above]
    ticks = np.array([*below, *above])
    ax.set_yticks(breaks.shown(ticks), [f"{v:g}" for v in ticks])
    for offset in (0.985, 1.045):
        height = breaks.at * (offset + 0.03)
        ax.plot(
            [-0.008, 0.008], [height * 0.99, height * 1.01], color="black", linewidth=0.6,
            transform=ax.get_yaxis_transform(), clip_on=False,
        )  # fmt: skip


def lead_names(data: pd.DataFrame, rows: np.ndarray, labels: int | Mapping[str, str]) -> list[str]:
    """Name to write at each lead variant, empty where none is wanted."""
    if "variant_id" not in data.columns:
        return [""] * len(rows)
    ids = [str(name) for name in data["variant_id"].iloc[rows]]
    if isinstance(labels, Mapping):
        return [labels.get(name, "") for name in ids]
    return [name if number < labels else "" for number, name in enumerate(ids)]


def name_leads(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], *, italic: bool = False,
    below: bool = False, nouns: tuple[str, str] = ("locus", "loci"),
) -> None:  # fmt: skip
    """Write names in a lane beside the axes, and say how many lead variants have none."""
    named = np.array([bool(name) for name in names], bool)
    if not named.any():
        return
    words = [shortened(name) for name in names if name]
    label_lane(ax, x[named], y[named], words, italic=italic, below=below)
    rest = int((~named).sum())
    if rest:
        ax.annotate(
            f"and {rest:,}\nmore {nouns[rest > 1]}", (1.003, 0 if below else 1), (0, 0),
            xycoords="axes fraction", textcoords="offset points", ha="left",
            va="bottom" if below else "top", fontsize=5.5, color="#555555",
        )  # fmt: skip

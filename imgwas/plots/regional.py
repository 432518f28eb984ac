"""Regional plots: one locus with LD, genes, recombination, and what the locus does to images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import DegenerateError, InconsistentError, MalformedError, explain
from imgwas.genetics import genes as gene_tables
from imgwas.plots.chromosomes import chromosome_name
from imgwas.plots.gene_track import LANE, Placed, draw_genes, genes_inside
from imgwas.plots.genome import label_megabases, points_of
from imgwas.plots.layers import layer_of
from imgwas.plots.manhattan import GENOME_WIDE
from imgwas.plots.matrix import shortened
from imgwas.plots.panels import TITLE, inches, new_figure, panel
from imgwas.plots.planes import PLANES
from imgwas.plots.style import RC, TWO_COLUMNS
from imgwas.plots.traversal import traversal_strip

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Upper ends of the classes of r², their colours (dark to light, told apart by all), and none.
EDGES = (0.2, 0.4, 0.6, 0.8, 1.0)
LD_COLOURS = ("#2A2A8C", "#7A2DA0", "#C33D80", "#EE7150", "#FDB42F")
NO_LD = "#B5B5B5"
RATE_COLOUR = "#56B4E9"
#: Inches left and right of the axes, above and below them, of the points, of the strip of images.
LEFT, RIGHT, TOP, BOTTOM, TALL, STRIP = 0.55, 0.5, 0.42, 0.36, 2.3, 1.9


@dataclass(frozen=True)
class ImageStrip:
    """Images along the direction of a locus, for the strip under a regional plot.

    Parameters
    ----------
    images : (amounts, x, y, z) array
        Three or five, such as decoded at -2, 0 and 2 SD.
    affine : (4, 4) array
        Voxel indices to millimetres, RAS+.
    amounts_sd : sequence of float
        How far each was moved, in SD; increasing. Differences are from the one at 0.
    plane : {"axial", "coronal", "sagittal"}
        Cut where the ends differ most.
    """

    images: np.ndarray
    affine: np.ndarray
    amounts_sd: Sequence[float] = (-2.0, 0.0, 2.0)
    plane: str = "axial"

    def check(self) -> None:
        """Refuse what is no series of volumes."""
        check_option("plane", self.plane, PLANES)
        if self.images.ndim != 4 or len(self.images) != len(self.amounts_sd):
            raise InconsistentError(
                explain(f"the images of the strip have shape {self.images.shape}",
                        expected=f"({len(self.amounts_sd)}, x, y, z): one for each of the amounts "
                        f"{', '.join(f'{a:g}' for a in self.amounts_sd)} SD")
            )  # fmt: skip


def regional(
    data: pd.DataFrame,
    *,
    genes: gene_tables.Genes | None = None,
    recombination: pd.DataFrame | None = None,
    strip: ImageStrip | None = None,
    study_wide: float | None = None,
    title: str | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw one locus: -log10 P by position, coloured by r² with the lead variant.

    Parameters
    ----------
    data : DataFrame
        Of :func:`regional_data`, or any with ``chromosome``, ``base_pair_location``,
        ``neg_log_10_p_value``, ``variant_id``, and, if there are any, ``r2`` and ``is_lead``. All
        on one chromosome.
    genes : Genes, optional
        Drawn below with strands; see :func:`imgwas.read_genes`.
    recombination : DataFrame, optional
        Of :func:`read_recombination_map`; its rate is drawn behind the points.
    strip : ImageStrip, optional
        Decoded images under the plot, and their differences.
    study_wide : float, optional
        A second threshold on P, dashed.
    title : str, optional
        Written above.
    figure : Figure or SubFigure, optional
        Where to draw; by default one as high as it needs.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    MalformedError
        If a column is missing or r² is outside 0 to 1.
    InconsistentError
        If the variants are on several chromosomes.
    """
    import matplotlib as mpl

    region = _Region.of(data)
    if strip is not None:
        strip.check()
    width = TWO_COLUMNS if figure is None else inches(figure)[0]
    wide = width - LEFT - RIGHT
    placed: list[Placed] = []
    left_out = 0
    if genes is not None:
        placed, left_out = genes_inside(genes, region.chromosome, *region.limits, wide)
    track = 0.0 if genes is None else 0.12 + LANE * (max((g.lane for g in placed), default=0) + 1)
    above = TOP + (0.16 if title else 0.0)
    with mpl.rc_context(RC):
        whole = figure or new_figure(
            TWO_COLUMNS, above + TALL + track + BOTTOM + (STRIP if strip else 0.0)
        )
        plot, below = _split(whole, strip)
        if strip is not None and below is not None:
            _draw_strip(below, strip)
        high = inches(plot)[1]
        tall = high - above - track - BOTTOM
        ax = panel(plot, LEFT, BOTTOM + track, wide, tall)
        if recombination is not None:
            _draw_rate(ax, recombination, region)
        _draw_points(ax, region, study_wide)
        lowest = ax
        if genes is not None:
            lowest = panel(plot, LEFT, BOTTOM, wide, track)
            draw_genes(lowest, placed, left_out, *region.limits, wide)
            ax.tick_params(labelbottom=False)
        label_megabases(lowest, region.chromosome)
        _explain_colours(ax, region)
        if title:
            plot.text(LEFT / width, 1 - 0.05 / high, title, va="top", fontsize=8)
    return whole


@dataclass(frozen=True)
class _Region:
    chromosome: str
    position: np.ndarray
    nlp: np.ndarray
    r2: np.ndarray | None
    lead: int
    name: str

    @classmethod
    def of(cls, data: pd.DataFrame) -> _Region:
        (points,) = points_of(data)
        found = np.unique(points.chromosome)
        if len(found) > 1:
            names = ", ".join(points.names[i] for i in found[:5])
            raise InconsistentError(
                explain(f"the variants are on {len(found)} chromosomes ({names})",
                        expected="One region of one chromosome",
                        do="Choose it, as regional_data does")
            )  # fmt: skip
        rows = points.row
        lead = int(points.neg_log10_p.argmax())
        if "is_lead" in data and data["is_lead"].to_numpy()[rows].any():
            lead = int(data["is_lead"].to_numpy()[rows].argmax())
        ids = data.get("variant_id")
        name = "the lead variant" if ids is None else str(ids.iloc[int(rows[lead])])
        r2 = _checked_r2(data["r2"].to_numpy(float)[rows]) if "r2" in data else None
        return cls(points.names[found[0]], points.position, points.neg_log10_p, r2, lead, name)

    @property
    def limits(self) -> tuple[float, float]:
        """First and last position, with a margin."""
        low, high = float(self.position.min()), float(self.position.max())
        margin = max(0.015 * (high - low), 500.0)
        return low - margin, high + margin


def _checked_r2(r2: np.ndarray) -> np.ndarray:
    if (r2 < 0).any() or (r2 > 1 + 1e-6).any():
        raise MalformedError(
            explain(f"r2 goes from {np.nanmin(r2):.3g} to {np.nanmax(r2):.3g}",
                    expected="0 to 1, the square of a correlation")
        )  # fmt: skip
    return r2


def ld_class(r2: np.ndarray) -> np.ndarray:
    """Class of r² by the upper ends :data:`EDGES`, -1 where there is none; 0.2 is in the second."""
    classes = np.searchsorted(EDGES[:-1], np.nan_to_num(r2), side="right")
    return np.where(np.isnan(r2), -1, classes)


def _draw_points(ax: Axes, region: _Region, study_wide: float | None) -> None:
    classes = np.full(len(region.nlp), -1) if region.r2 is None else ld_class(region.r2)
    for number in range(-1, len(EDGES)):
        chosen = np.flatnonzero(classes == number)
        chosen = chosen[chosen != region.lead]
        colour = NO_LD if number < 0 else LD_COLOURS[number]
        ax.plot(
            region.position[chosen], region.nlp[chosen], "o", color=colour, markersize=3.2,
            markeredgecolor="#333333", markeredgewidth=0.2, zorder=3 + 0.1 * number,
            rasterized=len(classes) > 3000,
        )  # fmt: skip
    x, y = region.position[region.lead], region.nlp[region.lead]
    ax.plot([x], [y], "D", color=LD_COLOURS[-1], markersize=5.5, markeredgecolor="black",
            markeredgewidth=0.8, zorder=6)  # fmt: skip
    low, high = region.limits
    ax.set_xlim(low, high)
    is_right = x > (low + high) / 2
    ax.annotate(shortened(region.name), (x, y), (-6 if is_right else 6, 0), zorder=6,
                textcoords="offset points", ha="right" if is_right else "left", va="center",
                fontsize=6.5)  # fmt: skip
    for value, style in ((GENOME_WIDE, "-"), (study_wide, "--")):
        if value is not None:
            ax.axhline(-np.log10(value), color="#555555", linewidth=0.6, linestyle=style, zorder=1)
    top = max(float(region.nlp.max()), -np.log10(min(GENOME_WIDE, study_wide or 1)))
    ax.set_ylim(-0.02 * top, 1.08 * top)
    ax.set_ylabel(r"$-\log_{10}P$")


def _draw_rate(ax: Axes, table: pd.DataFrame, region: _Region) -> None:
    """Draw the rate as steps on an axis of its own, behind the points."""
    lacking = [n for n in ("chromosome", "position", "rate") if n not in table]
    if lacking:
        raise MalformedError(
            explain(f"the recombination map has no column {lacking[0]!r}",
                    expected="chromosome, position, rate, as read_recombination_map returns")
        )  # fmt: skip
    low, high = region.limits
    own = table[[chromosome_name(c) == region.chromosome for c in table["chromosome"].tolist()]]
    own = own.sort_values("position")
    position, rate = own["position"].to_numpy(float), own["rate"].to_numpy(float)
    first = max(int(np.searchsorted(position, low, "right")) - 1, 0)
    last = int(np.searchsorted(position, high, "right"))
    if first >= last:
        raise DegenerateError(
            explain(f"the recombination map has nothing on chromosome {region.chromosome} from "
                    f"{low:,.0f} to {high:,.0f}", expected="A map of the same genome build")
        )  # fmt: skip
    twin = ax.twinx()
    x = np.append(np.clip(position[first:last], low, high), high)
    y = np.append(rate[first:last], rate[last - 1])
    twin.fill_between(x, y, step="post", color=RATE_COLOUR, alpha=0.25, linewidth=0)
    twin.step(x, y, where="post", color=RATE_COLOUR, linewidth=0.8)
    twin.set_ylim(0, max(1.5 * float(y.max()), 10.0))
    twin.set_ylabel("Recombination (cM/Mb)")
    twin.spines["right"].set_visible(True)
    ax.set_zorder(twin.get_zorder() + 1)
    ax.patch.set_visible(False)


def _explain_colours(ax: Axes, region: _Region) -> None:
    """A line of classes above the axes."""
    from matplotlib.lines import Line2D

    def mark(colour: str, label: str, marker: str = "o") -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, markersize=4, color=colour,
                      markeredgecolor="#333333", markeredgewidth=0.4, label=label)  # fmt: skip

    marks = [mark(LD_COLOURS[-1], "lead variant", "D")]
    if region.r2 is not None:
        low = (0.0, *EDGES[:-1])
        marks += [mark(LD_COLOURS[i], f"{low[i]:g} to {EDGES[i]:g}")
                  for i in reversed(range(len(EDGES)))]  # fmt: skip
        if np.isnan(region.r2).any():
            marks.append(mark(NO_LD, "no r²"))
    words = "" if region.r2 is None else f"r² with {shortened(region.name)}:"
    legend = ax.legend(
        handles=marks, title=words, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(marks),
        frameon=False, fontsize=6, title_fontsize=6, handletextpad=0.1, columnspacing=0.9,
        borderaxespad=0.1, alignment="left",
    )  # fmt: skip
    legend.set_zorder(10)


def _split(
    figure: Figure | SubFigure, strip: ImageStrip | None
) -> tuple[Figure | SubFigure, SubFigure | None]:
    """Split off a part for the images, as wide as they are high enough to fill."""
    if strip is None:
        return figure, None
    width, height = inches(figure)
    share = STRIP / height
    parts: Any = figure.subfigures(2, 1, height_ratios=[1 - share, share])
    _, *across = PLANES[strip.plane]
    layer = layer_of(strip.images[0], strip.affine)
    wide, tall = (layer.span(axis)[1] - layer.span(axis)[0] for axis in across)
    need = min(1.1 + len(strip.images) * (0.06 + wide / tall * (STRIP - TITLE) / 2), width - 0.02)
    rest = (width - need) / 2
    return parts[0], parts[1].subfigures(1, 3, width_ratios=[rest, need, rest])[1]


def _draw_strip(figure: SubFigure, strip: ImageStrip) -> None:
    traversal_strip(strip.images, strip.amounts_sd, strip.affine, planes=(strip.plane,),
                    difference=0.0 in [float(a) for a in strip.amounts_sd],
                    figure=figure)  # fmt: skip

"""Miami plots: one scan above the genome, another below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.plots.genome import GenomeAxis, Points, points_of
from imgwas.plots.manhattan import (
    GENOME_WIDE,
    draw_association,
    draw_leads,
    lead_names,
    leads_of,
    name_leads,
)
from imgwas.plots.matrix import shortened
from imgwas.plots.panels import inches, new_figure, panel
from imgwas.plots.style import LEAD_COLOUR, RC, TWO_COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Colour of lead variants that the other half finds too; inches of a half.
SHARED_COLOUR, HALF = "white", 1.55


def miami(
    top: pd.DataFrame,
    bottom: pd.DataFrame,
    *,
    names: Sequence[str] = ("", ""),
    study_wide: Sequence[float | None] = (None, None),
    labels: int = 10,
    locus_kb: float = 500.0,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw -log10 P of two scans along one genome, upwards and downwards.

    Each half has its own scale, thresholds and loci; a peak far above all others breaks the axis of
    its half. A lead variant is white where the other half reaches its own threshold within
    ``locus_kb``, and filled where it does not.

    Parameters
    ----------
    top, bottom : DataFrame
        As for :func:`manhattan`, or what :func:`genome_points` returns. They need not hold the same
        variants.
    names : (str, str)
        What the halves are, such as ``("omnibus", "smallest P")``.
    study_wide : (float or None, float or None)
        A second threshold on P for each half, dashed. Leads reach it and 5e-8; a locus of the other
        half is found again where this one alone is reached, so that 0.05 over the number of loci
        suits a replication.
    labels : int, default 10
        Lead variants to name in each half, the strongest.
    locus_kb : float
        Leads nearer than this to a stronger one are not marked.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    MalformedError, DegenerateError
        As for :func:`manhattan`.
    InconsistentError
        If the two have no chromosome in common.
    """
    import matplotlib as mpl

    check_range("locus_kb", locus_kb, low=0)
    for given, what in ((names, "names"), (study_wide, "study_wide")):
        if len(given) != 2:
            raise UsageError(explain(f"{what} has {len(given)} entries", expected="Two"))
    halves = points_of(top, bottom)
    genome = _shared_axis(halves)
    limits = [p or GENOME_WIDE for p in study_wide]
    leads = [leads_of(half, min(p, GENOME_WIDE), locus_kb)
             for half, p in zip(halves, limits, strict=True)]  # fmt: skip
    shared = [_is_shared(halves[i], leads[i], halves[1 - i], limits[1 - i], locus_kb * 1e3)
              for i in (0, 1)]  # fmt: skip
    text = [[shortened(name) for name in lead_names(data, half.row[lead], labels)]
            for data, half, lead in zip((top, bottom), halves, leads, strict=True)]  # fmt: skip
    with mpl.rc_context(RC):
        figure, axes = _two_axes(figure, text, names)
        for i, ax in enumerate(axes):
            x, breaks = draw_association(ax, genome, halves[i], leads[i], study_wide[i],
                                         below=bool(i))  # fmt: skip
            heights = breaks.shown(halves[i].neg_log10_p[leads[i]])
            if i:
                _turn_over(ax)
            else:
                genome.label(ax)
                ax.set_xlabel(ax.get_xlabel().replace("Chromosome", ""))
            for both, colour in ((False, LEAD_COLOUR), (True, SHARED_COLOUR)):
                chosen = shared[i] == both
                draw_leads(ax, x[chosen], heights[chosen], colour=colour)
            ax.set_ylabel(f"{shortened(names[i])}\n{ax.get_ylabel()}".strip())
            name_leads(ax, x, heights, text[i], below=bool(i))
        _explain_leads(figure, shared)
    return figure


def _two_axes(
    figure: Figure | SubFigure | None, text: Sequence[Sequence[str]], names: Sequence[str]
) -> tuple[Figure | SubFigure, list[Axes]]:
    """Axes of one height, with room for the names of lead variants and of chromosomes."""
    lanes = [0.16 + 0.047 * max(map(len, words), default=0) for words in text]
    left, right, middle, legend = 0.52 + 0.14 * any(names), 0.5, 0.42, 0.16
    rest = sum(lanes) + middle + legend
    if figure is None:
        figure = new_figure(TWO_COLUMNS, rest + 2 * HALF)
    width, height = inches(figure)
    tall = max((height - rest) / 2, 0.4)
    bottom = legend + lanes[1]
    places = (bottom + tall + middle, bottom)
    return figure, [panel(figure, left, place, width - left - right, tall) for place in places]


def _turn_over(ax: Axes) -> None:
    ax.set_ylim(ax.get_ylim()[::-1])
    ax.spines["top"].set_visible(True)
    ax.spines["bottom"].set_visible(False)
    ax.set_xticks([])


def _shared_axis(halves: Sequence[Points]) -> GenomeAxis:
    """An axis long enough for both."""
    first, second = (set(np.unique(half.chromosome).tolist()) for half in halves)
    names = halves[0].names
    if not first & second:
        raise InconsistentError(
            explain(
                f"the upper half has chromosomes {_some(first, names)}, the lower "
                f"{_some(second, names)}",
                expected="At least one chromosome in common, named alike",
            )
        )
    ends = [GenomeAxis.of(half.chromosome, half.position, names) for half in halves]
    chromosome = np.concatenate([end.chromosomes for end in ends])
    length = np.concatenate([end.ends - end.starts for end in ends])
    return GenomeAxis.of(chromosome, length, names)


def _some(numbers: set[int], names: Sequence[str]) -> str:
    found = [names[i] for i in sorted(numbers)]
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _is_shared(
    own: Points, leads: np.ndarray, other: Points, limit: float, distance: float
) -> np.ndarray:
    """Whether the other half reaches its limit near each lead of this one."""
    passing = other.neg_log10_p >= -np.log10(limit)
    chromosome, position = other.chromosome[passing], other.position[passing]
    return np.array(
        [
            bool((np.abs(position[chromosome == own.chromosome[i]] - own.position[i])
                  < distance).any())
            for i in leads
        ],
        bool,
    )  # fmt: skip


def _explain_leads(figure: Figure | SubFigure, shared: Sequence[np.ndarray]) -> None:
    """Say under the figure how many loci the halves share."""
    from matplotlib.lines import Line2D

    if not sum(map(len, shared)):
        return
    found, alone = ([int((one == both).sum()) for one in shared] for both in (True, False))
    words = (
        (SHARED_COLOUR, f"passes in the other half too: {found[0]} above, {found[1]} below"),
        (LEAD_COLOUR, f"does not: {alone[0]} above, {alone[1]} below"),
    )
    marks = [
        Line2D([], [], linestyle="none", marker="D", markersize=3, markeredgewidth=0.3,
               markeredgecolor="black", markerfacecolor=colour, label=label)
        for colour, label in words
    ]  # fmt: skip
    figure.legend(handles=marks, loc="lower center", frameon=False, fontsize=5.5, ncols=2,
                  handletextpad=0.1, borderaxespad=0.1)  # fmt: skip

"""Which loci several encoders share: intersections as bars over a matrix of dots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, MalformedError, UsageError, explain
from imgwas.plots.chromosomes import chromosome_numbers
from imgwas.plots.matrix import shortened
from imgwas.plots.panels import inches, new_figure, panel
from imgwas.plots.style import COLOURS, RC

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Inches of a column and of a row, of the bars, of a character.
COLUMN, ROW, TALL, CHARACTER = 0.2, 0.17, 1.5, 0.05
_PLACE = ("chromosome", "start", "end")


def upset(
    sets: Mapping[str, pd.DataFrame],
    *,
    kb: float = 0.0,
    top: int = 20,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw how many loci are found by which encoders together.

    Parameters
    ----------
    sets : mapping of str to DataFrame
        ``Loci.table`` of each encoder (or half, or modality): ``chromosome``, ``start``, ``end``.
    kb : float, default 0
        Loci of different encoders are one where their gap is at most this; 0: they overlap.
    top : int, default 20
        Largest intersections to draw; the others are counted.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    UsageError
        If there are fewer than two sets.
    DegenerateError
        If no set has a locus.
    """
    import matplotlib as mpl

    check_range("top", top, low=1)
    shared = shared_loci(sets, kb=kb)
    if shared.empty:
        raise DegenerateError(explain("none of the sets has a locus"))
    names = list(sets)
    found = shared[names].to_numpy(bool)
    patterns, counts = np.unique(found, axis=0, return_counts=True)
    order = np.lexsort((*(~patterns).T[::-1], patterns.sum(axis=1), -counts))
    shown, rest = order[:top], order[top:]
    left = 0.9 + CHARACTER * max(len(shortened(name)) for name in names)
    with mpl.rc_context(RC):
        wide, high = max(COLUMN * len(shown), 1.2), ROW * len(names)
        figure = figure or new_figure(left + wide + 0.15, 0.2 + high + 0.08 + TALL + 0.3)
        width, height = inches(figure)
        wide = width - left - 0.15
        bars = panel(figure, left, 0.28 + high, wide, height - high - 0.58)
        dots = panel(figure, left, 0.2, wide, high)
        totals = panel(figure, 0.12, 0.2, 0.62, high)
        _draw_bars(bars, counts[shown], len(shared), rest, counts)
        _draw_dots(dots, patterns[shown], names)
        _draw_totals(totals, found.sum(axis=0))
    return figure


def shared_loci(sets: Mapping[str, pd.DataFrame], *, kb: float = 0.0) -> pd.DataFrame:
    """Merge the loci of several sets where they overlap, and say whose each is.

    Parameters
    ----------
    sets : mapping of str to DataFrame
        ``chromosome``, ``start``, ``end`` of every locus.
    kb : float, default 0
        Intervals whose gap is at most this are merged.

    Returns
    -------
    DataFrame
        ``chromosome``, ``start``, ``end`` of every merged locus, in the order of the genome, and a
        column of booleans for each set.
    """
    import pandas as pd

    check_range("kb", kb, low=0)
    if len(sets) < 2:
        raise UsageError(explain(f"{len(sets)} set of loci was given", expected="Two or more"))
    clash = sorted(set(sets) & set(_PLACE))
    if clash:
        raise UsageError(explain(f"a set is named {clash[0]!r}", do="Give it another name"))
    for name, table in sets.items():
        lacking = [column for column in _PLACE if column not in table]
        if lacking:
            raise MalformedError(
                explain(f"the loci of {name!r} have no column {lacking[0]!r}",
                        expected=f"Columns {', '.join(_PLACE)}, as Loci.table has")
            )  # fmt: skip
    numbers, names = chromosome_numbers([table["chromosome"] for table in sets.values()])
    chromosome = np.concatenate(numbers)
    start = np.concatenate([table["start"].to_numpy(float) for table in sets.values()])
    end = np.concatenate([table["end"].to_numpy(float) for table in sets.values()])
    owner = np.repeat(np.arange(len(sets)), [len(table) for table in sets.values()])
    if (end < start).any():
        raise MalformedError(explain(f"{int((end < start).sum()):,} loci end before they start"))
    merged: list[list[float]] = []
    members: list[set[int]] = []
    for i in np.lexsort((end, start, chromosome)).tolist():
        last = merged[-1] if merged else None
        if last and last[0] == chromosome[i] and start[i] - last[2] <= kb * 1e3:
            last[2] = max(last[2], end[i])
            members[-1].add(int(owner[i]))
        else:
            merged.append([int(chromosome[i]), start[i], end[i]])
            members.append({int(owner[i])})
    places = {
        "chromosome": [names[int(one[0])] for one in merged],
        "start": np.array([one[1] for one in merged], np.int64),
        "end": np.array([one[2] for one in merged], np.int64),
    }
    return pd.DataFrame(
        places | {name: [i in own for own in members] for i, name in enumerate(sets)}
    )


def _draw_bars(
    ax: Axes, heights: np.ndarray, n_loci: int, rest: np.ndarray, counts: np.ndarray
) -> None:
    from matplotlib.ticker import MaxNLocator

    at = np.arange(len(heights))
    ax.bar(at, heights, width=0.65, color=COLOURS[0], linewidth=0)
    for place, value in zip(at, heights, strict=True):
        ax.annotate(f"{value:,}", (place, value), (0, 1), textcoords="offset points", ha="center",
                    va="bottom", fontsize=5.5)  # fmt: skip
    ax.set_xlim(-0.6, len(heights) - 0.4)
    ax.set_ylim(0, 1.1 * float(heights.max()))
    ax.set_xticks([])
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_ylabel("Loci found together")
    words = f"{n_loci:,} {'locus' if n_loci == 1 else 'loci'}"
    if len(rest):
        words += f"; and {len(rest):,} more intersections with {int(counts[rest].sum()):,} loci"
    ax.set_title(words, fontsize=6.5, loc="right", pad=9)


def _draw_dots(ax: Axes, patterns: np.ndarray, names: list[str]) -> None:
    n = len(names)
    for row in range(0, n, 2):
        ax.axhspan(row - 0.5, row + 0.5, color="#F0F0F0", linewidth=0, zorder=0)
    for place, pattern in enumerate(patterns):
        own = np.flatnonzero(pattern)
        ax.plot([place] * n, range(n), "o", color="#D5D5D5", markersize=4, markeredgewidth=0)
        ax.plot([place] * len(own), own, "o-", color="#222222", markersize=4, linewidth=1.2,
                markeredgewidth=0)  # fmt: skip
    ax.set_xlim(-0.6, len(patterns) - 0.4)
    ax.set_ylim(n - 0.5, -0.5)
    ax.set_xticks([])
    ax.set_yticks(range(n), [shortened(name) for name in names])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _draw_totals(ax: Axes, totals: np.ndarray) -> None:
    ax.barh(np.arange(len(totals)), totals, height=0.6, color="#888888", linewidth=0)
    for row, value in enumerate(totals):
        ax.annotate(f"{value:,}", (value, row), (-1.5, 0), textcoords="offset points", ha="right",
                    va="center", fontsize=5.5)  # fmt: skip
    ax.set_ylim(len(totals) - 0.5, -0.5)
    ax.set_xlim(1.45 * max(float(totals.max()), 1.0), 0)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)

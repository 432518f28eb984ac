"""Forest plots: estimates with intervals, one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import UsageError, explain
from imgwas.plots.style import COLOURS, RC, own_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_ROWS = 80


def forest(
    table: pd.DataFrame,
    *,
    ax: Axes | None = None,
    label: str = "trait",
    group: str | None = None,
    ratio: bool = True,
    title: str | None = None,
) -> Axes:
    """Draw estimates and their 95 % intervals, one a line, numbers at the right.

    Parameters
    ----------
    table : DataFrame
        Rows of :func:`imgwas.associate_traits`, or any with ``beta``, ``ci_low`` and ``ci_high``,
        drawn from top to bottom.
    ax : Axes, optional
        Where to draw.
    label : str, default "trait"
        Column of the names at the left.
    group : str, optional
        Column whose values share a line, in different colours.
    ratio : bool, default True
        Draw exp(beta), a hazard or odds ratio, on a logarithmic axis; else beta.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
        An interval that leaves the axes ends in an arrow.
    """
    import matplotlib as mpl

    _check(table, label, group)
    lines = list(dict.fromkeys(table[label].map(str).tolist()))
    groups = list(dict.fromkeys(table[group].map(str).tolist())) if group else [""]
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=4.2, height=0.7 + 0.2 * len(lines) * max(1.0, 0.6 * len(groups)))
        if ratio:
            ax.set_xscale("log")
        limits = _limits(table, ratio)
        ax.set_xlim(*limits)
        ax.axvline(1.0 if ratio else 0.0, color="#999999", linewidth=0.7, zorder=0)
        for _, row in table.iterrows():
            k = groups.index(str(row[group])) if group else 0
            place = lines.index(str(row[label])) + (k - (len(groups) - 1) / 2) * 0.7 / len(groups)
            _one(ax, place, _scaled(row, ratio), COLOURS[k % len(COLOURS)], limits)
        for k, name in enumerate(groups if group else []):
            ax.plot([], [], "s", color=COLOURS[k % len(COLOURS)], markersize=4, label=name)
        ax.set_yticks(range(len(lines)), lines)
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel("Ratio per SD" if ratio else "Effect per SD")
        if ratio:
            _plain_ticks(ax)
        if group:
            ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0),
                      ncols=len(groups), handlelength=1)  # fmt: skip
        if title:
            ax.set_title(title, pad=18 if group else None)
    return ax


def _check(table: pd.DataFrame, label: str, group: str | None) -> None:
    needed = [label, "beta", "ci_low", "ci_high", *([group] if group else [])]
    lacking = [name for name in needed if name not in table]
    if lacking or table.empty or len(table) > MOST_ROWS:
        without = f" without {lacking[0]}" if lacking else ""
        raise UsageError(
            explain(
                f"a forest of {len(table):,} rows{without}",
                expected=f"1 to {MOST_ROWS} rows with {', '.join(needed)}",
                do="Choose rows, such as table.nlargest(20, 'neg_log_10_p_value')",
            )
        )


def _scaled(row: pd.Series, ratio: bool) -> tuple[float, float, float]:
    values = [float(row[name]) for name in ("beta", "ci_low", "ci_high")]
    if ratio:
        values = [float(np.exp(np.clip(value, -50, 50))) for value in values]
    return values[0], values[1], values[2]


def _limits(table: pd.DataFrame, ratio: bool) -> tuple[float, float]:
    """Show all estimates, and intervals up to three times as far as the farthest of them."""
    beta = table["beta"].to_numpy(float)
    far = 3 * max(float(np.nanmax(np.abs(beta))), 0.05)
    low = max(float(np.nanmin(table["ci_low"])), -far)
    high = min(float(np.nanmax(table["ci_high"])), far)
    low, high = min(low, 0.0), max(high, 0.0)
    margin = 0.06 * (high - low)
    low, high = low - margin, high + margin
    return (float(np.exp(low)), float(np.exp(high))) if ratio else (low, high)


def _one(
    ax: Axes, place: float, values: tuple[float, float, float], colour: str,
    limits: tuple[float, float],
) -> None:  # fmt: skip
    middle, low, high = values
    if not np.isfinite(middle):
        return
    ends = max(low, limits[0]), min(high, limits[1])
    ax.plot(ends, [place, place], color=colour, linewidth=1.0, solid_capstyle="butt")
    ax.plot([middle], [place], "s", color=colour, markersize=3.5)
    for end, inside, marker in ((low, low >= limits[0], "<"), (high, high <= limits[1], ">")):
        if not inside and not np.isnan(end):
            edge = limits[0] if marker == "<" else limits[1]
            ax.plot([edge], [place], marker, color=colour, markersize=3.5, clip_on=False)
    text = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    ax.annotate(text, (1, place), (4, 0), xycoords=ax.get_yaxis_transform(),
                textcoords="offset points", va="center", fontsize=6, color=colour,
                annotation_clip=False)  # fmt: skip


def _plain_ticks(ax: Axes) -> None:
    """Write 0.5, 1, 2 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = ax.get_xlim()
    for steps in (
        (1,),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 4, 5, 7),
    ):
        ticks = sorted({step * 10.0**power for power in range(-4, 5) for step in steps})
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) >= 3:
            break
    while len(shown) > 7:
        one = shown.index(1.0) if 1.0 in shown else 0
        shown = shown[one % 2 :: 2]
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

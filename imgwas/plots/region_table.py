"""Tables of regions as figures: regions by loci, and the regions of one variant with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_option, check_range, did_you_mean
from imgwas.errors import DegenerateError, MalformedError, UsageError, explain
from imgwas.plots.matrix import shortened
from imgwas.plots.panels import inches, new_figure, panel
from imgwas.plots.style import COLOURS, RC, own_axes, root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

#: Inches of a row and of a column of the heatmap; inches a character of a name takes.
ROW, COLUMN, CHARACTER = 0.118, 0.17, 0.052
SMALL_Q = 0.05
INCREASE, DECREASE = "#CB3A2E", "#1F66B0"
HEMISPHERES = {"L": "left", "R": "right", "": "both sides"}


def region_heatmap(
    table: pd.DataFrame,
    *,
    value: str = "volume",
    locus: str = "name",
    top: int | None = 40,
    order: str = "hemisphere",
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw regions by loci: the colour is the signed value, a dot says that q is below 0.05.

    Parameters
    ----------
    table : DataFrame
        One row for each pair of region and locus, as ``imgwas map`` writes it: columns ``region``,
        the locus, the value, and, if there are any, its q and ``hemisphere`` (``L``, ``R`` or
        empty).
    value : str
        Column that is drawn, symmetric about zero: ``volume``, ``effect``, ``z``. Its q is the
        column of the same name with ``_q``, or ``q_value``.
    locus : str
        Column that names the loci.
    top : int, optional
        Regions drawn: those with the smallest q, then the largest magnitude. None draws all.
    order : {"hemisphere", "cluster", "given"}
        Left, right and both-sided regions apart, in the order of the table; similar regions and
        similar loci together (average linkage of Euclidean distances); or as in the table.
    label : str, optional
        Of the colour bar; the name of the value by default.
    ax : Axes, optional
        Where to draw; by default a figure as large as the names need.

    Returns
    -------
    Axes

    Raises
    ------
    MalformedError
        If a column is missing or a pair occurs twice.
    """
    import matplotlib as mpl

    check_option("order", order, ["hemisphere", "cluster", "given"])
    cells, q, sides = _cells(table, value, locus)
    rows = _top_rows(cells, q, top)
    columns = np.arange(cells.shape[1])
    groups = sides.loc[cells.index].to_numpy()[rows]
    if order == "hemisphere":
        rows = rows[np.argsort([list(HEMISPHERES).index(s) for s in groups], kind="stable")]
    elif order == "cluster":
        rows, columns = _clustered(cells.to_numpy(), rows, columns)
    cells, q = cells.iloc[rows, columns], q.iloc[rows, columns]
    groups = sides.loc[cells.index].to_numpy()
    with mpl.rc_context(RC):
        ax = ax if ax is not None else _heatmap_axes(cells)
        _draw_cells(ax, cells, q.to_numpy() < SMALL_Q, label or value)
        if order == "hemisphere" and len(set(groups)) > 1:
            _divide(ax, groups)
        if q.notna().to_numpy().any():
            ax.set_title(f"• q < {SMALL_Q:g}", fontsize=6.5, loc="right", pad=3)
    return ax


def _cells(
    table: pd.DataFrame, value: str, locus: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Regions by loci: values and q; the side of every region. Order of first appearance."""
    import pandas as pd

    need_columns(table, ["region", locus, value])
    if table.empty:
        raise DegenerateError("the table of regions is empty.")
    pairs = table.duplicated(["region", locus])
    if pairs.any():
        first = table.loc[pairs, ["region", locus]].iloc[0]
        raise MalformedError(
            explain(f"{int(pairs.sum()):,} pairs of region and locus occur more than once",
                    where=f"first: {first['region']}, {first[locus]}",
                    do="Keep one map of each variant, or draw them apart")
        )  # fmt: skip
    values = _wide(table, locus, value)
    if not np.isfinite(values.to_numpy()).any():
        raise DegenerateError(explain(f"the column {value!r} holds no number"))
    small = next((name for name in (f"{value}_q", "q_value") if name in table), None)
    q = _wide(table, locus, small) if small else values * np.nan
    sides = pd.Series("", index=values.index)
    if "hemisphere" in table:
        sides = table.drop_duplicates("region").set_index("region")["hemisphere"]
    return values, q, sides.where(sides.isin(["L", "R"]), "")


def _wide(table: pd.DataFrame, locus: str, value: str) -> pd.DataFrame:
    """One column as regions by loci, both in the order of the table."""
    wide = table.pivot_table(index="region", columns=locus, values=value, sort=False, dropna=False,
                             aggfunc="first")  # fmt: skip
    rows, columns = table["region"].drop_duplicates(), table[locus].drop_duplicates()
    return wide.reindex(index=rows, columns=columns).astype(float)


def need_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table without some columns."""
    missing = [name for name in names if name not in table]
    if missing:
        raise MalformedError(
            explain(f"the table has no column {missing[0]!r}",
                    expected=f"It needs {', '.join(names)}; it has {', '.join(map(str, table))}",
                    do=did_you_mean(missing[0], [str(c) for c in table]))
        )  # fmt: skip


def _top_rows(cells: pd.DataFrame, q: pd.DataFrame, top: int | None) -> np.ndarray:
    """Rows to draw, in the order of the table."""
    if top is None or top >= len(cells):
        return np.arange(len(cells))
    check_range("top", top, low=1)
    least = q.min(axis=1).fillna(1.0).to_numpy()
    largest = cells.abs().max(axis=1).fillna(0.0).to_numpy()
    return np.sort(np.lexsort((-largest, least))[:top])


def _clustered(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put similar rows and similar columns together."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    filled = np.nan_to_num(values[rows])
    if len(rows) > 2:
        rows = rows[leaves_list(linkage(filled, "average", optimal_ordering=True))]
    if len(columns) > 2:
        columns = columns[leaves_list(linkage(filled.T, "average", optimal_ordering=True))]
    return rows, columns


def _heatmap_axes(cells: pd.DataFrame) -> Axes:
    names = [shortened(str(name)) for name in cells.index]
    loci = [shortened(str(name)) for name in cells.columns]
    left = 0.12 + CHARACTER * max(map(len, names))
    below = 0.12 + CHARACTER * max(map(len, loci))
    width, height = max(COLUMN * len(loci), 0.6), max(ROW * len(names), 0.6)
    figure = new_figure(left + width + 0.9, below + height + 0.28)
    return panel(figure, left, below, width, height)


def _draw_cells(ax: Axes, cells: pd.DataFrame, dotted: np.ndarray, label: str) -> None:
    values = cells.to_numpy(float)
    limit = float(np.nanmax(np.abs(values))) or 1.0
    drawn = ax.imshow(values, cmap=diverging(), vmin=-limit, vmax=limit, aspect="auto",
                      interpolation="nearest")  # fmt: skip
    ax.set_xticks(np.arange(-0.5, values.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, values.shape[0]), minor=True)
    ax.grid(which="minor", color="white", linewidth=0.5)
    ax.tick_params(which="both", length=0, pad=2)
    ax.spines[:].set_visible(False)
    ax.set_xticks(range(values.shape[1]), [shortened(str(n)) for n in cells.columns], rotation=90,
                  fontsize=6)  # fmt: skip
    ax.set_yticks(range(values.shape[0]), [shortened(str(n)) for n in cells.index], fontsize=6)
    for strong in (False, True):
        at = np.argwhere(dotted & ((np.abs(values) > 0.55 * limit) == strong))
        ax.plot(at[:, 1], at[:, 0], "o", color="white" if strong else "#222222", markersize=2.2,
                markeredgewidth=0, linestyle="none")  # fmt: skip
    _bar_beside(ax, drawn, label)


def _bar_beside(ax: Axes, drawn: Any, label: str) -> None:
    """Put a colour bar of fixed size, in inches, at the right of the axes."""
    figure = root_of(ax.figure)
    width, height = inches(figure)
    box = ax.get_position()
    wide, tall = box.width * width, box.height * height
    bar = ax.inset_axes((1 + 0.2 / wide, max(0.0, 1 - 1.6 / tall), 0.09 / wide,
                         min(1.0, 1.6 / tall)))  # fmt: skip
    scale = figure.colorbar(drawn, cax=bar, label=label)
    scale.outline.set_visible(False)
    bar.tick_params(length=2, pad=2, labelsize=6)


def diverging() -> Colormap:
    """Blue, white, red; missing is grey."""
    from imgwas.plots.planes import tones

    return tones(False).with_extremes(bad="#DDDDDD")


def _divide(ax: Axes, groups: np.ndarray) -> None:
    """Draw a line between hemispheres and name them at the left edge of the cells."""
    for start in np.flatnonzero(groups[1:] != groups[:-1]) + 1:
        ax.axhline(start - 0.5, color="white", linewidth=3)
    for side in dict.fromkeys(groups):
        rows = np.flatnonzero(groups == side)
        ax.plot([-0.5, -0.5], [rows[0] - 0.4, rows[-1] + 0.4], linewidth=1.6, clip_on=False,
                color={"L": COLOURS[0], "R": COLOURS[1]}.get(side, "#888888"),
                solid_capstyle="butt")  # fmt: skip
        ax.annotate(HEMISPHERES[side], (1, (rows[0] + rows[-1]) / 2), xytext=(2, 0),
                    xycoords=("axes fraction", "data"), textcoords="offset points", rotation=90,
                    fontsize=6, va="center", color="#555555")  # fmt: skip


def region_bars(
    table: pd.DataFrame,
    *,
    value: str = "volume",
    top: int | None = 12,
    label: str | None = None,
    truth: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the regions of one variant with their 95 % intervals, largest change on top.

    Changes whose interval leaves out zero are drawn in full colour, the others pale.

    Parameters
    ----------
    table : DataFrame
        One row for each region, as ``imgwas map`` writes it: columns ``region``, the value, and its
        interval in the columns of the same name with ``_low`` and ``_high``.
    value : str
        Column that is drawn.
    top : int, optional
        Regions drawn; None draws all.
    label : str, optional
        What is measured, with its unit; the name of the value by default.
    truth : str, optional
        Column of true changes, drawn as open diamonds; missing ones are not.
    title : str, optional
        Written above.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    ends = [f"{value}_low", f"{value}_high"]
    need_columns(table, ["region", value, *ends, *([truth] if truth else [])])
    rows = table[table[value].notna()]
    if rows.empty:
        raise DegenerateError("no region has a change to draw.")
    if ((rows[ends[0]] > rows[value]) | (rows[ends[1]] < rows[value])).any():
        wanted = f"{ends[0]} ≤ {value} ≤ {ends[1]} in every row"
        raise UsageError(explain("an interval does not hold its change", expected=wanted))
    rows = rows.iloc[np.argsort(-rows[value].abs().to_numpy(), kind="stable")[:top]]
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=3.4, height=0.6 + 0.17 * len(rows))
        _draw_intervals(ax, rows, [value, *ends])
        if truth:
            ax.plot(rows[truth].to_numpy(float), np.arange(len(rows)), "D", color="black",
                    fillstyle="none", markersize=5.5, markeredgewidth=0.9, zorder=4)  # fmt: skip
        ax.set_yticks(range(len(rows)), [shortened(str(n)) for n in rows["region"]])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(f"{label or value}\n95 % interval" + (", ◇ true" if truth else ""))
        if title:
            ax.set_title(title, loc="left")
    return ax


def _draw_intervals(ax: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw dots with intervals from the top, red for more, blue for less."""
    effect, low, high = (rows[name].to_numpy(float) for name in names)
    ax.axvline(0, color="#888888", linewidth=0.6, zorder=0)
    pale = (low <= 0) & (high >= 0)
    for place in range(len(rows)):
        looks: dict[str, Any] = {
            "color": INCREASE if effect[place] > 0 else DECREASE,
            "alpha": 0.4 if pale[place] else 1.0,
        }
        ax.plot([low[place], high[place]], [place, place], linewidth=1.3, solid_capstyle="butt",
                zorder=2, **looks)  # fmt: skip
        ax.plot(effect[place], place, "o", markersize=4, markeredgewidth=0, zorder=3, **looks)

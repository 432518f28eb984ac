"""Heritabilities of latents as bars with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.plots.labels import counted
from imgwas.plots.matrix import NAME_ROOM, NAME_SIZE, shortened
from imgwas.plots.panels import inches
from imgwas.plots.region_table import need_columns
from imgwas.plots.style import COLOURS, RC, TWO_COLUMNS, own_axes, root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def heritability_bars(
    table: pd.DataFrame,
    *,
    order: str = "size",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw heritabilities with their 95 % intervals; pale where the interval holds zero.

    Parameters
    ----------
    table : DataFrame
        ``latent``, ``heritability``, ``standard_error``, as ``imgwas heritability`` writes and
        ``GeneticCovariance.table()`` returns, by any of its methods.
    order : {"size", "given"}
        Largest first, or as in the table.
    title : str, optional
        Written above.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Nothing is cut off at 0 or 1. Latents without an estimate are counted.

    Raises
    ------
    MalformedError
        If a column is missing, a latent occurs twice or an error is negative.
    """
    import matplotlib as mpl

    check_option("order", order, ["size", "given"])
    rows = _checked(table)
    lacking = len(table) - len(rows)
    if order == "size":
        rows = rows.sort_values("heritability", ascending=False, kind="stable")
    h2, half = rows["heritability"].to_numpy(float), 1.96 * rows["standard_error"].to_numpy(float)
    clear = (h2 - half > 0) | (h2 + half < 0)
    with mpl.rc_context(RC):
        width = min(TWO_COLUMNS, max(1.8, 0.7 + 0.14 * len(rows)))
        ax = own_axes(ax, width=width, height=2.5)
        at = np.arange(len(rows))
        for sure, colour in ((True, COLOURS[0]), (False, "#A9C8DF")):
            ax.bar(at[clear == sure], h2[clear == sure], width=0.78, color=colour, linewidth=0)
        thin = len(rows) > 100
        ax.errorbar(at, h2, yerr=half, fmt="none", ecolor="#333333",
                    elinewidth=0.4 if thin else 0.8, capsize=0)  # fmt: skip
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set_xlim(-0.7, len(rows) - 0.3)
        ax.set_ylabel("Heritability, 95 % interval")
        every = _name(ax, [str(name) for name in rows["latent"]])
        words = f"{counted(len(rows), 'latent')}, {int((clear & (h2 > 0)).sum()):,} above zero"
        words += f", one in {every} named" if every > 1 else ""
        words += f"\n{lacking:,} without an estimate" if lacking else ""
        ax.set_xlabel(words)
        if title:
            ax.set_title(title)
    return ax


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    need_columns(table, ["latent", "heritability", "standard_error"])
    twice = table.duplicated(["latent"])
    if twice.any():
        raise MalformedError(
            explain(f"latent {table.loc[twice, 'latent'].iloc[0]!r} occurs more than once",
                    expected="One row a latent", do="Draw one method at a time")
        )  # fmt: skip
    values = table[["heritability", "standard_error"]].to_numpy(float)
    rows: pd.DataFrame = table[np.isfinite(values).all(axis=1)]
    if rows.empty:
        raise DegenerateError("no latent has a heritability with a standard error.")
    if (rows["standard_error"] < 0).any():
        raise MalformedError("a standard error is negative.")
    return rows


def _name(ax: Axes, names: list[str]) -> int:
    """Name what there is room for, evenly; return one in how many."""
    wide = ax.get_position().width * inches(root_of(ax.figure))[0]
    points = 72 * min(wide, inches(root_of(ax.figure))[0] - 0.6)
    every = max(1, int(np.ceil(len(names) * NAME_ROOM / points)))
    places = np.arange(0, len(names), every)
    ax.set_xticks(places, [shortened(names[i]) for i in places], rotation=90, fontsize=NAME_SIZE)
    ax.tick_params(axis="x", length=0 if every == 1 else 1.5, pad=1.5)
    return every

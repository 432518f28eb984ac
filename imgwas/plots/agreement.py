"""Agreement of seeds, and of repeat visits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import DegenerateError, explain
from imgwas.plots.matrix import draw_matrix, name_axis, shortened
from imgwas.plots.style import COLOURS, RC, own_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def agreement_matrix(
    square: pd.DataFrame, *, ax: Axes | None = None, label: str = "linear CKA"
) -> Axes:
    """Draw a measure of agreement between seeds, with its numbers.

    Parameters
    ----------
    square : DataFrame
        ``ConsensusReport.matrix("cka")``, or another measure.
    ax : Axes, optional
        Where to draw.
    label : str
        Name of the measure.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    values, names = square.to_numpy(float), [shortened(str(name)) for name in square.columns]
    k = len(names)
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=1.6 + 0.36 * max(k, 3), height=1.1 + 0.36 * max(k, 3))
        draw_matrix(ax, values, "Blues", (0.0, 1.0), label)
        ax.set_xticks(range(k), names, rotation=90 if max(map(len, names)) > 4 else 0)
        ax.set_yticks(range(k), names)
        ax.tick_params(length=0)
        for (row, column), value in np.ndenumerate(values):
            if row != column and k <= 20:
                text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1)
                ax.text(column, row, text, ha="center", va="center", fontsize=6,
                        color="white" if value > 0.6 else "black")  # fmt: skip
    return ax


def reliability_dots(
    table: pd.DataFrame, *, ax: Axes | None = None, kind: str = "icc_2_1",
    title: str | None = None,
) -> Axes:  # fmt: skip
    """Draw the intraclass correlation of every latent with its interval, best first.

    Parameters
    ----------
    table : DataFrame
        What :func:`imgwas.latents.visit_reliability` returns.
    ax : Axes, optional
        Where to draw.
    kind : {"icc_2_1", "icc_3_1"}
        Agreement, or consistency.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    check_option("kind", kind, ["icc_2_1", "icc_3_1"])
    rows = table[table[kind].notna()].sort_values(kind, ascending=False)
    if rows.empty:
        raise DegenerateError(explain("no latent has an intraclass correlation"))
    place, found = np.arange(len(rows)), rows[kind].to_numpy(float)
    with mpl.rc_context(RC):
        ax = own_axes(ax, height=2.4)
        for limit in (0.5, 0.75, 0.9):  # Koo and Li (2016): moderate, good, excellent from here
            ax.axhline(limit, color="#CCCCCC", linewidth=0.6, zorder=0)
        ax.vlines(place, rows[f"{kind}_low"], rows[f"{kind}_high"], color="#7FA7CC",
                  linewidth=min(1.2, 90 / len(rows)), zorder=1)  # fmt: skip
        ax.plot(place, found, "o", color=COLOURS[0], zorder=2, markeredgewidth=0,
                markersize=2.6 if len(rows) > 60 else 4)  # fmt: skip
        ax.set_xlim(-1, len(rows))
        lowest = min(0.0, float(np.nanmin(rows[f"{kind}_low"])))
        ax.set_ylim(max(lowest, -0.5) - 0.03, 1.03)
        name_axis(ax, [str(name) for name in rows["latent"]], "x")
        ax.set_ylabel(f"ICC({kind[4]},1), 95 % interval")
        ax.set_xlabel("Latents, most reliable first")
        ax.text(0.995, 0.98, f"median {np.median(found):.2f}", transform=ax.transAxes, ha="right",
                va="top")  # fmt: skip
        if title:
            ax.set_title(title)
    return ax

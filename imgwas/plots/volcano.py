"""Volcano plots: effects of many pairs of trait and latent against their -log10 P."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import UsageError, explain
from imgwas.plots.style import COLOURS, RC, own_axes, root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def volcano(
    table: pd.DataFrame,
    *,
    ax: Axes | None = None,
    threshold: float | None = None,
    labels: int = 10,
    effect: str = "beta",
    title: str | None = None,
) -> Axes:
    """Draw every association as a point: its effect and its -log10 P.

    Parameters
    ----------
    table : DataFrame
        Of :func:`imgwas.associate_traits`; traits of one kind, or effects of several units would
        share an axis.
    ax : Axes, optional
        Where to draw.
    threshold : float, optional
        -log10 P of the line; by default Bonferroni's 5 % over effective tests, read from the table.
    labels : int, default 10
        Strongest associations to name, trait and latent.
    effect : str, default "beta"
        Column of the horizontal axis; ``statistic`` has no unit and takes traits of all kinds.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
        Points beyond the line coloured by the sign of the effect.
    """
    import matplotlib as mpl

    needed = [effect, "neg_log_10_p_value", "trait", "latent"]
    lacking = [name for name in needed if name not in table]
    if lacking:
        raise UsageError(explain(f"the table has no column {lacking[0]}"))
    if effect == "beta" and "kind" in table and len(set(table["kind"])) > 1:
        raise UsageError(
            explain("the table holds traits of several kinds", expected="One, for one axis",
                    do="Draw one kind at a time, or effect='statistic'")
        )  # fmt: skip
    x, y = table[effect].to_numpy(float), table["neg_log_10_p_value"].to_numpy(float)
    line = _line(table) if threshold is None else threshold
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=3.5, height=3.0)
        passed = y >= line
        tones = np.where(~passed, "#BBBBBB", np.where(x > 0, COLOURS[1], COLOURS[0]))
        ax.scatter(x, y, s=6, c=tones, linewidth=0, rasterized=len(x) > 5000)
        ax.axhline(line, color="#555555", linewidth=0.7, linestyle=(0, (4, 2)))
        ax.axvline(0, color="#CCCCCC", linewidth=0.6, zorder=0)
        far = 1.08 * float(np.nanmax(np.abs(x), initial=1e-12))
        ax.set_xlim(-far, far)
        ax.set_ylim(0, 1.06 * max(float(np.nanmax(y, initial=0.0)), line))
        ax.set_xlabel(_LABELS.get(effect, effect))
        ax.set_ylabel("$-\\log_{10} P$")
        _name(ax, table, x, y, np.flatnonzero(passed), labels)
        if title:
            ax.set_title(title)
    return ax


_LABELS = {"beta": "Effect per SD of the latent", "statistic": "Test statistic"}


def _line(table: pd.DataFrame) -> float:
    """Threshold on -log10 P at which the corrected one is 5 %."""
    if "neg_log_10_p_bonferroni" in table:
        gap = (table["neg_log_10_p_value"] - table["neg_log_10_p_bonferroni"]).to_numpy(float)
        clear = gap[table["neg_log_10_p_bonferroni"].to_numpy(float) > 0]
        if len(clear):
            return float(np.nanmedian(clear) - np.log10(0.05))
    return float(-np.log10(0.05 / max(len(table), 1)))


def _name(
    ax: Axes, table: pd.DataFrame, x: np.ndarray, y: np.ndarray, passed: np.ndarray, labels: int
) -> None:
    """Write names beside the strongest points, pushed down where two would touch."""
    strongest = passed[np.argsort(-y[passed])][:labels]
    height = ax.get_position().height * root_of(ax.figure).get_size_inches()[1] * 72
    gap = 7.0 / height * ax.get_ylim()[1]
    for side in (-1, 1):
        level = np.inf
        for row in strongest[np.sign(x[strongest]) == side]:
            level = min(float(y[row]), level - gap)
            text = f"{table['trait'].iloc[row]}, {table['latent'].iloc[row]}"
            ax.annotate(
                text, (x[row], y[row]), (side * -5, (level - y[row]) / gap * 7.0),
                textcoords="offset points", ha="right" if side > 0 else "left", va="center",
                fontsize=5.5,
                arrowprops={"arrowstyle": "-", "linewidth": 0.3, "color": "#999999",
                            "shrinkA": 0, "shrinkB": 1},
            )  # fmt: skip

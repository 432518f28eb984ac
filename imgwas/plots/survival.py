"""Survival of groups: Kaplan and Meier's curves, cumulative hazards, people at risk below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import UsageError, explain
from imgwas.plots.style import COLOURS, RC, own_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_GROUPS = len(COLOURS)


def survival_curves(
    curves: Mapping[str, pd.DataFrame],
    *,
    ax: Axes | None = None,
    until: float | None = None,
    risk_table: bool = True,
    unit: str = "Years since imaging",
    title: str | None = None,
) -> Axes:
    """Draw survival or cumulative hazard of one or more groups.

    Parameters
    ----------
    curves : mapping from name to DataFrame
        Of :func:`imgwas.traits.kaplan_meier` or :func:`imgwas.traits.nelson_aalen`, not mixed.
    ax : Axes, optional
        Where to draw.
    until : float, optional
        Last time to show; by default the last time of all groups.
    risk_table : bool, default True
        Write the number of people at risk below.
    unit : str
        Label of the time axis.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
        Steps with 95 % bands; survival starts at 1, and its axis at the lowest value shown.
    """
    import matplotlib as mpl

    what = _what(curves)
    last = until or max(float(curve["time"].max()) for curve in curves.values())
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=3.5, height=2.8)
        for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
            shown = curve[curve["time"] <= last]
            time = np.append(shown["time"], last)
            for column, style in ((what, None), ("ci_low", "low")):
                values = np.append(shown[column], shown[column].iloc[-1])
                if style is None:
                    ax.step(time, values, where="post", color=colour, linewidth=1.1, label=name)
                else:
                    high = np.append(shown["ci_high"], shown["ci_high"].iloc[-1])
                    ax.fill_between(time, values, high, step="post", color=colour, alpha=0.15,
                                    linewidth=0)  # fmt: skip
        ax.set_xlim(0, last)
        if what == "survival":
            ax.set_ylim(top=1.0)
            ax.set_ylabel("Share without the event")
        else:
            ax.set_ylim(bottom=0)
            ax.set_ylabel("Cumulative hazard")
        ax.set_xlabel(unit)
        if len(curves) > 1:
            ax.legend(frameon=False, loc="lower left" if what == "survival" else "upper left")
        if risk_table:
            _write_risk(ax, curves, last)
        if title:
            ax.set_title(title)
    return ax


def _what(curves: Mapping[str, pd.DataFrame]) -> str:
    kinds = {"survival" if "survival" in curve else "hazard" for curve in curves.values()}
    if len(kinds) != 1 or len(curves) > MOST_GROUPS:
        raise UsageError(
            explain(f"there are {len(curves)} curves",
                    expected=f"One to {MOST_GROUPS}, all of survival or all of hazard")
        )  # fmt: skip
    return kinds.pop()


def _write_risk(ax: Axes, curves: Mapping[str, pd.DataFrame], last: float) -> None:
    """People at risk at the ticks, one line a group, below the label of the time axis."""
    from matplotlib.ticker import MaxNLocator

    ticks = [t for t in MaxNLocator(6, integer=last >= 4).tick_values(0, last) if 0 <= t <= last]
    ax.set_xticks(ticks)
    transform = ax.get_xaxis_transform()
    ax.annotate("At risk", (0, 0), (-16, -30), xycoords=transform, textcoords="offset points",
                ha="right", va="top", fontsize=6, color="#555555")  # fmt: skip
    for line, ((name, curve), colour) in enumerate(zip(curves.items(), COLOURS, strict=False)):
        drop = -30 - 8 * (line + (len(curves) > 1))
        if len(curves) > 1:
            ax.annotate(name, (0, 0), (-16, drop), xycoords=transform, textcoords="offset points",
                        ha="right", va="top", fontsize=6, color=colour)  # fmt: skip
        for tick in ticks:
            ax.annotate(f"{_at_risk(curve, tick):,}", (tick, 0), (0, drop), xycoords=transform,
                        textcoords="offset points", ha="center", va="top", fontsize=6,
                        color=colour)  # fmt: skip


def _at_risk(curve: pd.DataFrame, time: float) -> int:
    """People whose time is at or after ``time``."""
    later = curve[curve["time"] >= time]
    return int(later["n_at_risk"].iloc[0]) if len(later) else 0

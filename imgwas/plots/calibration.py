"""Are predictions right and useful: calibration curves and decision curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import UsageError, explain
from imgwas.plots.style import COLOURS, RC, own_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def calibration_plot(
    curves: Mapping[str, pd.DataFrame], *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Draw the observed share of cases against the predicted probability.

    Parameters
    ----------
    curves : mapping from name to DataFrame
        Of :func:`imgwas.traits.calibration_curve`.
    ax : Axes, optional
        Where to draw.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
        Points with 95 % intervals; perfect predictions lie on the diagonal.
    """
    import matplotlib as mpl

    _check(curves)
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=2.8, height=2.8)
        top = 1.05 * max(
            float(c[["predicted", "ci_high"]].to_numpy().max()) for c in curves.values()
        )
        top = min(top, 1.0)
        ax.plot([0, top], [0, top], color="#999999", linewidth=0.7, linestyle=(0, (4, 2)))
        for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
            below = curve["observed"] - curve["ci_low"]
            above = curve["ci_high"] - curve["observed"]
            ax.errorbar(
                curve["predicted"], curve["observed"], yerr=np.stack([below, above]), fmt="o-",
                color=colour, markersize=3, linewidth=0.8, elinewidth=0.7, label=name,
            )  # fmt: skip
        ax.set_xlim(0, top)
        ax.set_ylim(0, top)
        ax.set_aspect("equal")
        ax.set_xlabel("Predicted probability")
        ax.set_ylabel("Observed share of cases")
        if len(curves) > 1:
            ax.legend(frameon=False, loc="upper left")
        if title:
            ax.set_title(title)
    return ax


def decision_curves(
    curves: Mapping[str, pd.DataFrame],
    *,
    ax: Axes | None = None,
    until: float | None = None,
    title: str | None = None,
) -> Axes:
    """Draw net benefit against the threshold, beside treating everyone and no one.

    Parameters
    ----------
    curves : mapping from name to DataFrame
        Of :func:`imgwas.traits.decision_curve`, of the same people.
    ax : Axes, optional
        Where to draw.
    until : float, optional
        Last threshold; by default three times the share of cases, at least 0.1.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    _check(curves)
    first = next(iter(curves.values()))
    start = first.iloc[0]
    odds = start["threshold"] / (1 - start["threshold"])
    share = float((start["treat_all"] + odds) / (1 + odds))
    last = until or float(np.clip(3 * share, 0.1, 1.0))
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=3.5, height=2.6)
        ax.axhline(0, color="black", linewidth=0.8, label="treat no one")
        ax.plot(first["threshold"], first["treat_all"], color="#999999", linewidth=0.9,
                label="treat everyone")  # fmt: skip
        for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
            ax.plot(curve["threshold"], curve["net_benefit"], color=colour, linewidth=1.1,
                    label=name)  # fmt: skip
        ax.set_xlim(0, last)
        ax.set_ylim(-0.15 * share, 1.1 * share)
        ax.set_xlabel("Threshold probability")
        ax.set_ylabel("Net benefit")
        ax.legend(frameon=False)
        if title:
            ax.set_title(title)
    return ax


def _check(curves: Mapping[str, pd.DataFrame]) -> None:
    if not 1 <= len(curves) <= len(COLOURS):
        raise UsageError(
            explain(f"there are {len(curves)} curves", expected=f"1 to {len(COLOURS)}")
        )

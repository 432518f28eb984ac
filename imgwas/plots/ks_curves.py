"""Running sums of PerDI's region score: how far up the ranking the voxels of each region are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, InconsistentError, explain
from imgwas.plots.labels import pack
from imgwas.plots.matrix import shortened
from imgwas.plots.style import COLOURS, RC, own_axes, root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Points that a curve is drawn with; the turns of half a million voxels are kept.
POINTS = 1500
#: Scores below are those of regions that are nowhere up the ranking; they get no name.
LEAST = 0.01


def ks_curves(
    curves: pd.DataFrame | Mapping[str, np.ndarray],
    *,
    ax: Axes | None = None,
    labels: int = 6,
    title: str | None = None,
) -> Axes:
    """Draw the running sum of every region over the voxels ranked by magnitude.

    Each voxel of a region adds 1 / (voxels of the region), each voxel of any region takes away
    1 / (all voxels). The score of the region is the highest point, marked for the best ones.

    Parameters
    ----------
    curves : DataFrame or mapping
        One column or array for each region, all over the same voxels in the same order.
    ax : Axes, optional
        Where to draw.
    labels : int
        Regions with a colour and a name, best first; the others are grey.
    title : str, optional
        Written above.

    Returns
    -------
    Axes

    References
    ----------
    .. [1] Subramanian et al. (2005), PNAS 102:15545, for the running sum.
    """
    import matplotlib as mpl

    check_range("labels", labels, low=0)
    names, sums = _curves(curves)
    scores = np.array([float(curve.max()) for curve in sums])
    order = np.argsort(-scores, kind="stable")
    best = order[:labels][scores[order[:labels]] >= LEAST]
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=4.4, height=2.8)
        ax.axhline(0, color="#888888", linewidth=0.6, zorder=1)
        for number in order[len(best) :][::-1]:
            ax.plot(*_thinned(sums[number]), color="#CFCFCF", linewidth=0.6, zorder=1.5)
        peaks = []
        for rank, number in reversed(list(enumerate(best))):
            x, y = _thinned(sums[number])
            ax.plot(x, y, color=_tone(rank), linewidth=1.2, zorder=3)
            top = int(y.argmax())
            ax.plot(x[top], y[top], "o", color=_tone(rank), markersize=3, zorder=4)
            peaks.append((float(x[top]), float(y[top]), rank, names[number]))
        low = min(-0.02, float(min(curve.min() for curve in sums)) * 1.05)
        ax.set(xlim=(0, 1), ylim=(low, max(0.1, float(scores.max()) * 1.08)))
        ax.set_xlabel("Voxels from the largest to the smallest magnitude (share)")
        ax.set_ylabel("Running sum")
        if peaks:
            _name_curves(ax, sorted(peaks, key=lambda peak: peak[1]))
        if title:
            ax.set_title(title, loc="left")
    return ax


def _tone(rank: int) -> str:
    return COLOURS[rank % len(COLOURS)]


def _curves(curves: Any) -> tuple[list[str], list[np.ndarray]]:
    names = [str(name) for name in curves]
    sums = [np.asarray(curves[name], np.float64) for name in curves]
    if not sums or not len(sums[0]):
        raise DegenerateError("there is no running sum to draw.")
    lengths = {len(curve) for curve in sums}
    if len(lengths) > 1:
        raise InconsistentError(
            explain(f"the curves have {sorted(lengths)} voxels",
                    expected="The same ranked voxels for every region")
        )  # fmt: skip
    broken = [name for name, curve in zip(names, sums, strict=True) if not np.isfinite(curve).all()]
    if broken:
        raise DegenerateError(
            explain(f"the curves of {len(broken)} regions hold values that are not finite",
                    where=f"first: {broken[0]}")
        )  # fmt: skip
    return names, sums


def _thinned(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start at the origin; keep the lowest and highest point of every stretch."""
    y = np.concatenate([[0.0], curve])
    x = np.arange(len(y)) / len(curve)
    if len(y) <= POINTS:
        return x, y
    edges = np.linspace(0, len(y), POINTS // 2 + 1).astype(int)
    turns = [start + extreme(y[start:end]) for start, end in pairwise(edges)
             for extreme in (np.argmin, np.argmax)]  # fmt: skip
    kept = np.unique([0, *turns, len(y) - 1])
    return x[kept], y[kept]


def _name_curves(ax: Axes, peaks: list[tuple[float, float, int, str]]) -> None:
    """Write names in a lane at the right, best on top, each joined to its highest point."""
    points = ax.get_position().height * root_of(ax.figure).get_size_inches()[1] * 72
    low, high = ax.get_ylim()
    step = 8.5 / points * (high - low)
    at = pack(np.array([peak[1] for peak in peaks]), step, low + step / 2, high - step / 2)
    for place, (x, y, rank, name) in zip(at, peaks, strict=True):
        ax.plot([x, 0.985, 1.015], [y, place, place], color=_tone(rank), linewidth=0.4, alpha=0.6,
                clip_on=False, zorder=2)  # fmt: skip
        ax.text(1.02, place, f"{shortened(name)}  {y:.2f}", color=_tone(rank), fontsize=6.5,
                ha="left", va="center", clip_on=False)  # fmt: skip

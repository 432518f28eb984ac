"""Labels in a lane above the points, packed so that no two overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.plots.style import root_of
from imgwas.shapes import Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pack(centres: np.ndarray, width: float, low: float, high: float) -> Float64[np.ndarray, " n"]:
    """Move intervals of one width as little as possible so that they do not overlap.

    Minimises the sum of squared moves by pooling adjacent violators: with ``z_i = x_i - i width``
    the constraint is that z does not decrease.

    Parameters
    ----------
    centres : (n,) array
        Wanted centres, increasing.
    width : float
        Least distance between neighbours.
    low, high : float
        Range that all centres must keep.
    """
    n = len(centres)
    if n == 0:
        return np.empty(0)
    width = min(width, (high - low) / max(n - 1, 1))
    wanted = np.asarray(centres, float) - width * np.arange(n)
    means: list[float] = []
    sizes: list[int] = []
    for value in wanted:
        means.append(float(value))
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            total = sizes[-2] + sizes[-1]
            means[-2] = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / total
            sizes[-2] = total
            means.pop()
            sizes.pop()
    fitted = np.repeat(means, sizes)
    return np.asarray(np.clip(fitted, low, high - width * (n - 1)) + width * np.arange(n))


def label_lane(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: list[str], *, italic: bool = False,
    below: bool = False,
) -> None:  # fmt: skip
    """Write names upright above the axes, with thin leaders to their points.

    ``below`` is for axes upside down, whose largest values are at the bottom.
    """
    order = np.argsort(x, kind="stable")
    x, y, names = x[order], y[order], [names[i] for i in order]
    low, high = ax.get_xlim()
    points = ax.get_position().width * root_of(ax.figure).get_size_inches()[0] * 72
    size = 5.5 if len(names) <= 45 else max(3.0, 5.5 * 45 / len(names))
    step = size * 1.25 / points * (high - low)
    at = pack(x, step, low + step / 2, high - step / 2)
    transform = ax.get_xaxis_transform()
    edge, out = (0.0, -1) if below else (1.0, 1)
    for place, point, value, name in zip(at, x, y, names, strict=True):
        tip = ax.transLimits.transform(ax.transScale.transform((point, value)))[1] + 0.02 * out
        ax.plot(
            [point, point, place],
            [out * min(out * tip, out * edge), edge, edge + 0.05 * out],
            transform=transform, color="#999999", linewidth=0.35, clip_on=False, zorder=1,
        )  # fmt: skip
        ax.text(
            place, edge + 0.06 * out, name, transform=transform, rotation=90, fontsize=size,
            ha="center", va="top" if below else "bottom", clip_on=False,
            style="italic" if italic else "normal",
        )  # fmt: skip


def power_text(value: float) -> str:
    """Write 4.2e-09 as 4.2 × 10⁻⁹, for matplotlib."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}×10$^{{{int(exponent)}}}$"


def counted(n: int, noun: str) -> str:
    """Write a number with its noun: 1 latent, 2 latents."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"

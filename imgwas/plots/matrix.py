"""Matrices with a colour bar, and names along an axis as far as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgwas.plots.style import root_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Size of names along an axis, in points, and the room that each needs.
NAME_SIZE, NAME_ROOM = 5.0, 6.0


def draw_matrix(
    ax: Axes, values: np.ndarray, colours: str, limits: tuple[float, float], label: str
) -> None:
    """Draw a matrix with its colour bar; missing cells are grey."""
    import matplotlib as mpl

    tones = mpl.colormaps[colours].with_extremes(bad="#DDDDDD")
    drawn = ax.imshow(values, cmap=tones, vmin=limits[0], vmax=limits[1], aspect="auto",
                      interpolation="nearest", rasterized=True)  # fmt: skip
    for side in ax.spines.values():
        side.set_visible(False)
    bar = root_of(ax.figure).colorbar(drawn, ax=ax, fraction=0.05, pad=0.02, label=label)
    bar.outline.set_visible(False)


def name_axis(ax: Axes, names: Sequence[str], side: str) -> None:
    """Name as many latents as there is room for, evenly, so that no two names touch."""
    width, height = root_of(ax.figure).get_size_inches()
    box = ax.get_position()
    # colour bar, labels and title will take about a quarter of either side
    points = 0.75 * 72 * (box.width * width if side == "x" else box.height * height)
    every = max(1, int(np.ceil(len(names) * NAME_ROOM / points)))
    places = range(0, len(names), every)
    shown = [shortened(names[i]) for i in places]
    if side == "x":
        ax.set_xticks(places, shown, rotation=90, fontsize=NAME_SIZE)
    else:
        ax.set_yticks(places, shown, fontsize=NAME_SIZE)
    ax.tick_params(axis="x" if side == "x" else "y", length=1.5 if every > 1 else 0, pad=1.5)


def shortened(name: str) -> str:
    """Cut a long name in the middle: its end often says left or right."""
    return name if len(name) <= 24 else f"{name[:17]}…{name[-6:]}"

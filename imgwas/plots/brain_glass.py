"""A map seen through a glass brain: the largest magnitude along every line of sight, with sign."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.plots.brain_slices import scene_of, unit_of
from imgwas.plots.layers import Layer
from imgwas.plots.panels import (
    BAR,
    LABEL,
    TITLE,
    colour_bar,
    height_for,
    inches,
    new_figure,
    rows_of_panels,
    sizes,
)
from imgwas.plots.planes import PLANES, Scene, draw_outline, draw_plane
from imgwas.plots.style import RC, TWO_COLUMNS
from imgwas.types import BrainMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

#: What each projection is called.
NAMES = {"sagittal": "from the right", "coronal": "from behind", "axial": "from above"}


def glass_brain(
    brain_map: BrainMap,
    *,
    threshold: float = 0.0,
    limit: float | None = None,
    radiological: bool = False,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw the largest magnitude along every line of sight, with its sign, in three views.

    The mask of the map is drawn as a shell that is darker at its rims, where one looks along it.

    Parameters
    ----------
    brain_map : BrainMap
    threshold : float
        Magnitudes below it are transparent; without one, small values fade out.
    limit : float, optional
        Value at the ends of the colours; the largest magnitude by default.
    radiological : bool
        Draw the left of the brain at the right (views from the front and from below).
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure
    """
    import matplotlib as mpl

    if not brain_map.mask.any():
        raise DegenerateError(explain(f"the mask of {brain_map.name!r} is empty",
                                      expected="Voxels that were looked at"))  # fmt: skip
    with mpl.rc_context(RC):
        scene = scene_of(brain_map, None, threshold, limit, radiological=radiological)
        rows = [sizes(scene, list(PLANES))]
        if figure is None:
            tall = height_for(rows, TWO_COLUMNS - BAR)
            figure = new_figure(TWO_COLUMNS, tall + TITLE + LABEL)
        width, height = inches(figure)
        room = (0.0, LABEL, width - BAR, height - TITLE - LABEL)
        (axes,) = rows_of_panels(figure, rows, room)
        names = NAMES | ({"coronal": "from the front", "axial": "from below"} if radiological
                         else {})  # fmt: skip
        for ax, plane in zip(axes, PLANES, strict=True):
            flat = projected(scene, plane)
            draw_plane(ax, flat, plane, 0.0)
            if flat.grey is not None:
                silhouette = replace(flat.grey, values=(flat.grey.values > 0).astype(np.float32))
                draw_outline(ax, silhouette, plane, 0.0, colour="#777777", width=0.5, halo=0)
            ax.text(0.5, -0.01, names[plane], transform=ax.transAxes, ha="center", va="top",
                    fontsize=6)  # fmt: skip
        tall = room[3] * 0.8
        place = (width - BAR + 0.08, room[1] + (room[3] - tall) / 2, 0.09, tall)
        colour_bar(figure, projected(scene, "axial"), unit_of(brain_map), place, behind="#EFEFEF")
        figure.text(0.0, 1 - 0.04 / height, brain_map.name, va="top", fontsize=8)
    return figure


def projected(scene: Scene, plane: str) -> Scene:
    """Flatten a scene along the lines of sight of a plane into one slice at 0 mm."""
    axis = PLANES[plane][0]
    colour, mask = scene.colour, scene.mask
    if colour is None or mask is None:
        raise DegenerateError("a glass brain needs a map and its mask.")
    strongest = np.abs(colour.values).argmax(axis=axis, keepdims=True)
    signed = np.take_along_axis(colour.values, strongest, axis)
    depth = mask.values.sum(axis=axis, keepdims=True)
    thickest = max(float(depth.max()), 1.0)
    # the shell: glass is darker where the line of sight runs along it, at the rims
    shade = np.where(depth > 0, 1 - 0.45 * np.exp(-5 * depth / thickest), np.float32(-1))
    return replace(
        scene,
        colour=_flat(colour, axis, signed),
        grey=_flat(mask, axis, shade),
        window=(0.25, 0.99),
        mask=mask,
        contours=(),
    )


def _flat(layer: Layer, axis: int, values: np.ndarray) -> Layer:
    """One thick slice around 0 mm."""
    origin, zooms = layer.origin.copy(), layer.zooms.copy()
    origin[axis], zooms[axis] = 0.0, 1000.0
    return Layer(np.asarray(values, np.float32), origin, zooms)

"""A map on slices: three planes through its peak; original, shifted and difference; a lightbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import UsageError, explain
from imgwas.plots.layers import (
    LETTERS,
    InSpace,
    Layer,
    beside,
    check_grid,
    contour_layers,
    layer_of,
    map_layer,
)
from imgwas.plots.panels import (
    BAR,
    GAP,
    LABEL,
    TITLE,
    colour_bar,
    draw_row,
    height_for,
    inches,
    new_figure,
    rows_of_panels,
    signed_number,
    sizes,
)
from imgwas.plots.planes import PLANES, Scene, draw_plane, limit_of, peak_of, window_of
from imgwas.plots.style import RC, TWO_COLUMNS
from imgwas.types import Atlas, BrainMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


def brain_slices(
    brain_map: BrainMap,
    *,
    background: InSpace | np.ndarray | None = None,
    at: Sequence[float] | None = None,
    threshold: float = 0.0,
    limit: float | None = None,
    contour: Atlas | np.ndarray | None = None,
    radiological: bool = False,
    title: str | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw a map on three planes through its peak, with a crosshair and one colour bar.

    Images of any orientation are turned by their affines. Left is left, unless ``radiological``;
    letters say so. Colours are symmetric about zero. With a background and no threshold, values
    fade out towards zero instead of ending at an edge that means nothing.

    Parameters
    ----------
    brain_map : BrainMap
    background : array or image with an affine, optional
        Grey image below: an array on the grid of the map, or a ``Volume`` on any grid.
    at : (x, y, z), optional
        Point in mm; the largest magnitude of the map by default.
    threshold : float
        Magnitudes below it are transparent, in units of the map.
    limit : float, optional
        Value at the ends of the colours; the largest magnitude by default.
    contour : Atlas or array, optional
        Regions to outline; an array holds numbers or a mask on the grid of the map.
    radiological : bool
        Draw the left of the brain at the right.
    title : str, optional
        Written above; the name of the map by default.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    InconsistentError
        If background or contour are not where the map is.
    UsageError
        If the point lies outside the map.
    """
    import matplotlib as mpl

    with mpl.rc_context(RC):
        scene = scene_of(brain_map, background, threshold, limit, contour, radiological)
        place = point_of(scene.colour, at)
        planes = list(PLANES)
        rows = [sizes(scene, planes)]
        if figure is None:
            wide = TWO_COLUMNS - BAR
            figure = new_figure(TWO_COLUMNS, height_for(rows, wide) + TITLE + LABEL)
        width, height = inches(figure)
        room = (0.0, LABEL, width - BAR, height - TITLE - LABEL)
        (axes,) = rows_of_panels(figure, rows, room)
        draw_row(axes, scene, planes, place)
        for ax, plane in zip(axes, planes, strict=True):
            crosshair(ax, plane, place)
            name_place(ax, plane, place)
        tall = room[3] * 0.8
        middle = room[1] + (room[3] - tall) / 2
        colour_bar(figure, scene, unit_of(brain_map), (width - BAR + 0.08, middle, 0.09, tall))
        name = brain_map.name if title is None else title
        figure.text(0.0, 1 - 0.04 / height, name, va="top", fontsize=8)
    return figure


def scene_of(
    brain_map: BrainMap,
    background: InSpace | np.ndarray | None,
    threshold: float,
    limit: float | None,
    contour: Atlas | np.ndarray | None = None,
    radiological: bool = False,
) -> Scene:
    """Check what is to be drawn and turn it for display."""
    check_range("threshold", threshold, low=0)
    colour = map_layer(brain_map)
    if limit is not None:
        check_range("limit", limit, low=max(threshold, 1e-300))
    grey = beside(background, brain_map, "background")
    top = limit if limit is not None else max(limit_of(colour.values), threshold * 1.25)
    return Scene(
        grey=grey,
        window=window_of(grey.values) if grey is not None else (0.0, 1.0),
        colour=colour,
        limit=top,
        threshold=threshold,
        mask=layer_of(brain_map.mask, brain_map.affine, order=0),
        contours=contour_layers(contour, brain_map),
        radiological=radiological,
    )


def point_of(colour: Layer | None, at: Sequence[float] | None) -> tuple[float, float, float]:
    """Return the point asked for, or the peak."""
    if colour is None:
        raise UsageError("there is no map to draw.")
    if at is None:
        return peak_of(colour)
    if len(at) != 3:
        raise UsageError(explain(f"at has {len(at)} numbers", expected="x, y and z in mm"))
    for axis, place in enumerate(at):
        low, high = colour.span(axis)
        check_range(f"{LETTERS[axis]} of the point", float(place), low=low, high=high, unit="mm")
    x, y, z = (float(v) for v in at)
    return x, y, z


def crosshair(ax: Axes, plane: str, at: Sequence[float], *, gap: float = 5.0) -> None:
    """Draw thin lines through a point that leave the point itself free."""
    _, across, up = PLANES[plane]
    x, y = at[across], at[up]
    left, right = sorted(ax.get_xlim())
    bottom, top = ax.get_ylim()
    for start, end in ((left, x - gap), (x + gap, right)):
        ax.plot([start, end], [y, y], color="#333333", linewidth=0.4, zorder=4)
    for start, end in ((bottom, y - gap), (y + gap, top)):
        ax.plot([x, x], [start, end], color="#333333", linewidth=0.4, zorder=4)


def name_place(ax: Axes, plane: str, at: Sequence[float], *, short: bool = False) -> None:
    """Write where a slice is below it."""
    axis = PLANES[plane][0]
    number = signed_number(at[axis])
    text = number if short else f"{LETTERS[axis]} = {number} mm"
    ax.text(0.5, -0.01, text, transform=ax.transAxes, ha="center", va="top", fontsize=6)


def unit_of(brain_map: BrainMap) -> str:
    """Label of a colour bar: the statistic, and its unit if that says more."""
    words = {"effect": "effect", "change": "change"}
    name = words.get(brain_map.statistic, brain_map.statistic)
    return name if brain_map.unit in ("", name) else f"{name} ({brain_map.unit})"


def original_shifted_difference(
    original: np.ndarray,
    shifted: np.ndarray,
    affine: np.ndarray,
    *,
    at: Sequence[float] | None = None,
    labels: Sequence[str] = ("original", "shifted", "difference"),
    unit: str = "intensity",
    contour: Atlas | np.ndarray | None = None,
    radiological: bool = False,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw an image, the image after a move in latent space, and their difference.

    One row each, three planes through the largest difference. The first two rows share one
    intensity window; the difference is shifted minus original, drawn on the original.

    Parameters
    ----------
    original, shifted : (x, y, z) arrays
    affine : (4, 4) array
        Voxel indices to millimetres, RAS+.
    at : (x, y, z), optional
        Point in mm; the largest difference by default.
    labels : three str
        Names of the rows.
    unit : str
        Unit of the difference.
    contour : Atlas or array, optional
        Regions to outline.
    radiological : bool
        Draw the left of the brain at the right.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure
    """
    import matplotlib as mpl

    check_grid(shifted, original.shape, "shifted image")
    difference = np.asarray(shifted, np.float32) - np.asarray(original, np.float32)
    colour = layer_of(difference, affine)
    before, after = layer_of(original, affine), layer_of(shifted, affine)
    place = point_of(colour, at)
    outlines = contour_layers(contour, _Placed(original, affine))
    # the shifted image is framed like the original, so that growth is seen as growth
    plain = Scene(grey=before, window=window_of(before.values), contours=outlines,
                  radiological=radiological, frame=Scene(grey=before).box)  # fmt: skip
    moved = replace(plain, grey=after)
    signed = replace(plain, colour=colour, limit=limit_of(colour.values))
    planes = list(PLANES)
    rows = [sizes(plain, planes)] * 3
    margin = 0.22
    with mpl.rc_context(RC):
        if figure is None:
            tall = height_for(rows, TWO_COLUMNS - BAR - margin, (GAP, GAP))
            figure = new_figure(TWO_COLUMNS, tall + LABEL + 0.05)
        width, height = inches(figure)
        room = (margin, LABEL, width - BAR - margin, height - LABEL - 0.05)
        grid = rows_of_panels(figure, rows, room, gap=(GAP, GAP))
        for axes, scene, name in zip(grid, (plain, moved, signed), labels, strict=True):
            draw_row(axes, scene, planes, place, letters=scene is plain)
            name_row(figure, axes[0], name)
        for ax, plane in zip(grid[-1], planes, strict=True):
            name_place(ax, plane, place)
        third = room[3] / 3
        colour_bar(figure, signed, unit, (width - BAR + 0.08, LABEL + 0.1 * third, 0.09,
                                          0.8 * third))  # fmt: skip
    return figure


class _Placed:
    """An array and where it is."""

    def __init__(self, values: np.ndarray, affine: np.ndarray) -> None:
        self.values, self.affine = values, affine


def name_row(figure: Figure | SubFigure, ax: Axes, name: str) -> None:
    """Write a name upright at the left edge of the figure, beside a row."""
    box = ax.get_position()
    figure.text(0.06 / inches(figure)[0], (box.y0 + box.y1) / 2, name, rotation=90, ha="left",
                va="center", fontsize=7.5)  # fmt: skip


def brain_lightbox(
    brain_map: BrainMap,
    *,
    background: InSpace | np.ndarray | None = None,
    plane: str = "axial",
    slices: int | Sequence[float] = 12,
    columns: int = 6,
    threshold: float = 0.0,
    limit: float | None = None,
    contour: Atlas | np.ndarray | None = None,
    radiological: bool = False,
    title: str | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw a map on a mosaic of parallel slices, each with its place in mm.

    Parameters
    ----------
    brain_map : BrainMap
    background : array or image with an affine, optional
        Grey image below, as in :func:`brain_slices`.
    plane : {"axial", "coronal", "sagittal"}
    slices : int or sequence of float
        How many, evenly through the mask, or where in mm.
    columns : int
        Slices side by side.
    threshold, limit, contour, radiological, title
        As in :func:`brain_slices`.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure
    """
    import matplotlib as mpl

    check_option("plane", plane, PLANES)
    check_range("columns", columns, low=1)
    with mpl.rc_context(RC):
        scene = scene_of(brain_map, background, threshold, limit, contour, radiological)
        axis = PLANES[plane][0]
        places = _places(scene, axis, slices)
        columns = min(columns, len(places))
        one = sizes(scene, [plane])[0]
        n_rows = -(-len(places) // columns)
        rows = [[one] * columns] * n_rows
        if figure is None:
            tall = height_for(rows, TWO_COLUMNS - BAR)
            figure = new_figure(TWO_COLUMNS, tall + TITLE + LABEL)
        width, height = inches(figure)
        room = (0.0, LABEL, width - BAR, height - TITLE - LABEL)
        axes = [ax for row in rows_of_panels(figure, rows, room) for ax in row]
        for number, (ax, place) in enumerate(zip(axes, places, strict=False)):
            at = [place] * 3
            draw_plane(ax, scene, plane, place, letters=number == 0)
            name_place(ax, plane, at, short=number > 0)
        for ax in axes[len(places) :]:
            ax.remove()
        tall = min(room[3] * 0.8, 1.6)
        colour_bar(figure, scene, unit_of(brain_map),
                   (width - BAR + 0.08, room[1] + (room[3] - tall) / 2, 0.09, tall))  # fmt: skip
        name = brain_map.name if title is None else title
        figure.text(0.0, 1 - 0.04 / height, name, va="top", fontsize=8)
    return figure


def _places(scene: Scene, axis: int, slices: int | Sequence[float]) -> list[float]:
    """Return where slices are cut, at centres of voxels."""
    if scene.colour is None:
        raise UsageError("there is no map to draw.")
    low, high = scene.colour.span(axis)
    if isinstance(slices, int):
        check_range("slices", slices, low=1)
        first, last = scene.box[axis]
        margin = (last - first) * (0.12 if slices > 1 else 0.5)
        wanted = np.linspace(first + margin, last - margin, slices)
    else:
        wanted = np.asarray([check_range("a slice", float(s), low=low, high=high, unit="mm")
                             for s in slices])  # fmt: skip
    if not len(wanted):
        raise UsageError("there is no slice to draw.")
    origin, zoom = scene.colour.origin[axis], scene.colour.zooms[axis]
    return [float(origin + zoom * round((place - origin) / zoom)) for place in wanted]

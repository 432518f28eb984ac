"""A walk along a direction of latent space: a strip for the page, a film for the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.heart_function import as_cine
from imgwas.checks import check_option, check_range
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    UsageError,
    explain,
)
from imgwas.files import publish_bytes
from imgwas.plots.brain_slices import name_row, point_of
from imgwas.plots.films import check_film, film_bytes, pixels
from imgwas.plots.layers import LETTERS, layer_of
from imgwas.plots.panels import (
    BAR,
    GAP,
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
from imgwas.plots.planes import PLANES, Scene, draw_plane, finer, limit_of, tones, window_of
from imgwas.plots.style import RC, TWO_COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure


def traversal_strip(
    images: np.ndarray,
    amounts_sd: Sequence[float],
    affine: np.ndarray,
    *,
    planes: Sequence[str] = ("coronal", "axial"),
    at: Sequence[float] | None = None,
    difference: bool = True,
    unit: str = "intensity",
    radiological: bool = False,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw one brain at several amounts along a direction, one column each.

    All images share one intensity window. The last row is the difference from amount 0 in the
    last plane, drawn on the image at 0.

    Parameters
    ----------
    images : (amounts, x, y, z) array
    amounts_sd : sequence of float
        How far each image was moved, in SD of the direction; increasing.
    affine : (4, 4) array
        Voxel indices to millimetres, RAS+.
    planes : sequence of {"sagittal", "coronal", "axial"}
        Rows.
    at : (x, y, z), optional
        Point in mm; by default where the ends differ most.
    difference : bool
        Add the row of differences; needs an image at amount 0.
    unit : str
        Unit of the differences.
    radiological : bool
        Draw the left of the brain at the right.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure
    """
    import matplotlib as mpl

    amounts = _amounts(images, amounts_sd, needs_zero=difference)
    for plane in planes:
        check_option("plane", plane, PLANES)
    scenes, signed = _scenes(images, amounts, affine, radiological, difference)
    place = point_of(layer_of(images[-1] - images[0], affine), at)
    below = [planes[-1]] if difference else []
    rows = [[size] * len(amounts) for size in sizes(scenes[0], [*planes, *below])]
    room_right, margin = BAR if difference else 0.05, 0.22
    with mpl.rc_context(RC):
        if figure is None:
            tall = height_for(rows, TWO_COLUMNS - margin - room_right, (GAP / 2, GAP))
            figure = new_figure(TWO_COLUMNS, tall + TITLE + 0.04)
        width, height = inches(figure)
        room = (margin, 0.02, width - margin - room_right, height - TITLE)
        grid = rows_of_panels(figure, rows, room, gap=(GAP / 2, GAP))
        for axes, plane in zip(grid, [*planes, *below], strict=True):
            shown = signed if axes is grid[-1] and difference else scenes
            for ax, scene in zip(axes, shown, strict=True):
                draw_plane(ax, scene, plane, place[PLANES[plane][0]], letters=ax is axes[0])
            axis = PLANES[plane][0]
            where = f"{LETTERS[axis]} = {signed_number(place[axis])} mm"
            name_row(figure, axes[0], "difference" if shown is signed else where)
        for ax, amount in zip(grid[0], amounts, strict=True):
            ax.set_title(sd_label(amount), fontsize=7, pad=5)
        if difference:
            box = grid[-1][-1].get_position()
            tall = (box.y1 - box.y0) * height
            bottom = box.y0 * height + 0.06 * tall
            colour_bar(figure, signed[0], unit, (width - BAR + 0.08, bottom, 0.09, 0.88 * tall))
    return figure


def cine_ends(
    images: np.ndarray,
    amounts_sd: Sequence[float],
    frames: Sequence[tuple[int, int]],
    *,
    zooms: Sequence[float] = (1.0, 1.0),
    title: str = "",
    unit: str = "intensity",
) -> Figure:
    """Draw a heart at the ends of diastole and systole, at several amounts along a direction.

    A column an amount; two rows of pictures in one intensity window, and their differences from
    amount 0. The first axis runs to the right, the second upwards.

    Parameters
    ----------
    images : (amounts, x, y, frames) or (amounts, x, y, slices, frames) array
        Of several slices the middle one is drawn.
    amounts_sd : sequence of float
        How far each cine was moved, in SD of the direction; increasing, 0 among them.
    frames : sequence of (int, int)
        Frames at the ends of diastole and of systole, for each amount.
    zooms : sequence of float
        Voxel sizes in mm along the first two axes.
    title : str
        What was moved.
    unit : str
        Unit of the differences.

    Returns
    -------
    Figure
    """
    import matplotlib as mpl

    amounts = _amounts(images, amounts_sd, needs_zero=True, axes=(4, 5))
    if len(frames) != len(amounts):
        raise InconsistentError(
            explain(f"{len(frames)} pairs of frames were given", expected=f"{len(amounts)}")
        )
    cines = [as_cine(image) for image in images]
    middle = amounts.index(0.0)
    low, high = (float(v) for v in np.percentile(cines[middle], [0.5, 99.7]))
    rows = [[cine[:, :, pair[end]] for cine, pair in zip(cines, frames, strict=True)]
            for end in (0, 1)]  # fmt: skip
    rows += [[picture - row[middle] for picture in row] for row in rows]
    limit = limit_of(np.stack([*rows[2], *rows[3]]))
    wide, tall = cines[0].shape[0] * zooms[0], cines[0].shape[1] * zooms[1]
    margin = 0.22
    with mpl.rc_context(RC):
        each = (TWO_COLUMNS - margin - BAR) / len(amounts)
        figure = new_figure(TWO_COLUMNS, 4 * each * tall / wide + 2 * TITLE)
        width, height = inches(figure)
        room = (margin, 0.02, width - margin - BAR, height - 2 * TITLE)
        grid = rows_of_panels(figure, [[(wide, tall)] * len(amounts)] * 4, room, gap=(GAP / 2, GAP))
        for number, (axes, row) in enumerate(zip(grid, rows, strict=True)):
            signed = number > 1
            for ax, picture in zip(axes, row, strict=True):
                ax.set_axis_off()
                ax.imshow(
                    finer(picture.T), cmap=tones(False) if signed else "gray", origin="lower",
                    vmin=-limit if signed else low, vmax=limit if signed else high,
                    extent=(0, wide, 0, tall), interpolation="bilinear",
                )  # fmt: skip
            name_row(figure, axes[0], ("diastole", "systole", "Δ diastole", "Δ systole")[number])
        for ax, amount in zip(grid[0], amounts, strict=True):
            ax.set_title(sd_label(amount), fontsize=7, pad=3)
        figure.text(0.01, 1 - 0.06 / height, title, va="top", fontsize=8)
        box = grid[3][-1].get_position(), grid[2][-1].get_position()
        place = (width - BAR + 0.1, box[0].y0 * height, 0.09, (box[1].y1 - box[0].y0) * height)
        colour_bar(figure, Scene(limit=limit), unit, place)
    return figure


def _amounts(
    images: np.ndarray, amounts: Sequence[float], *, needs_zero: bool, axes: tuple[int, ...] = (4,)
) -> list[float]:
    if images.ndim not in axes or len(images) != len(amounts):
        raise InconsistentError(
            explain(f"the images have shape {images.shape}",
                    expected=f"({len(amounts)}, x, y, z): one image for each of the amounts")
        )  # fmt: skip
    found = [float(a) for a in amounts]
    if len(found) < 2 or (np.diff(found) <= 0).any():
        raise UsageError(explain(f"the amounts are {found}", expected="Two or more, increasing"))
    if needs_zero and 0.0 not in found:
        raise UsageError(
            explain(f"no image is at amount 0 (amounts: {found})",
                    do="Add it, or leave the differences out")
        )  # fmt: skip
    if not np.isfinite(images).all():
        raise DegenerateError("the images of a traversal hold values that are not finite.")
    return found


def _scenes(
    images: np.ndarray, amounts: Sequence[float], affine: np.ndarray, radiological: bool,
    difference: bool,
) -> tuple[list[Scene], list[Scene]]:  # fmt: skip
    """Images in one window, framed alike, and their differences from amount 0."""
    layers = [layer_of(image, affine) for image in images]
    middle = layers[amounts.index(0.0) if 0.0 in amounts else len(layers) // 2]
    window = window_of(middle.values)
    frame = Scene(grey=middle).box
    plain = [Scene(grey=layer, window=window, radiological=radiological, frame=frame)
             for layer in layers]  # fmt: skip
    if not difference:
        return plain, []
    changes = [layer_of(image - images[amounts.index(0.0)], affine) for image in images]
    limit = limit_of(np.stack([change.values for change in changes]))
    signed = [Scene(grey=middle, window=window, colour=change, limit=limit, frame=frame,
                    radiological=radiological) for change in changes]  # fmt: skip
    return plain, signed


def sd_label(amount: float) -> str:
    """Write an amount in SD with its sign."""
    number = f"{abs(amount):g}"
    return f"{'+' if amount > 0 else '−' if amount < 0 else ''}{number} SD"


def traversal_gif(
    path: str | Path,
    images: np.ndarray,
    amounts_sd: Sequence[float],
    affine: np.ndarray,
    *,
    at: Sequence[float] | None = None,
    title: str = "",
    seconds: float = 3.0,
    radiological: bool = False,
    dpi: int = 110,
) -> Path:
    """Write a film that walks along a direction and back, for ever: three planes, amount in SD.

    Parameters
    ----------
    path : str or Path
        Ends in .gif, or in .mp4 (needs ffmpeg, or ``pip install 'imgwas[film]'``).
    images : (amounts, x, y, z) array
        Shown in one intensity window.
    amounts_sd : sequence of float
        How far each image was moved, in SD of the direction; increasing.
    affine : (4, 4) array
        Voxel indices to millimetres, RAS+.
    at : (x, y, z), optional
        Point in mm; by default where the ends differ most.
    title : str
        What was moved.
    seconds : float
        For the way there and back.
    radiological : bool
        Draw the left of the brain at the right.
    dpi : int
        Pixels per inch; films are 5 inches wide.

    Returns
    -------
    Path
    """
    import matplotlib as mpl

    path = check_film(path)
    check_range("seconds", seconds, low=0.1)
    amounts = _amounts(images, amounts_sd, needs_zero=False)
    scenes, _ = _scenes(images, amounts, affine, radiological, False)
    place = point_of(layer_of(images[-1] - images[0], affine), at)
    order = [*range(len(amounts)), *range(len(amounts) - 2, 0, -1)]
    with mpl.rc_context(RC):
        drawn = [_traversal_frame(scene, place, amount, (amounts[0], amounts[-1]), title, dpi)
                 for scene, amount in zip(scenes, amounts, strict=True)]  # fmt: skip
    content = film_bytes([drawn[i] for i in order], seconds / len(order), path.suffix)
    publish_bytes(path, content)
    return path


def _traversal_frame(
    scene: Scene, place: Sequence[float], amount: float, ends: tuple[float, float], title: str,
    dpi: int,
) -> np.ndarray:  # fmt: skip
    planes = list(PLANES)
    rows = [sizes(scene, planes)]
    figure = new_figure(5.0, height_for(rows, 5.0) + 0.62)
    figure.set_dpi(dpi)
    width, height = inches(figure)
    (axes,) = rows_of_panels(figure, rows, (0.0, 0.38, width, height - 0.62))
    draw_row(axes, scene, planes, place)
    figure.text(0.02, 1 - 0.06 / height, title, va="top", fontsize=8)
    slider = figure.add_axes((0.3, 0.17 / height, 0.4, 0.12 / height))
    slider.plot(ends, [0, 0], color="#BBBBBB", linewidth=1.5, solid_capstyle="round")
    slider.plot([amount], [0], "o", color="#D55E00", markersize=5, clip_on=False)
    for end, side in zip(ends, (-1, 1), strict=True):
        slider.annotate(sd_label(end), (end, 0), xytext=(7 * side, 0), textcoords="offset points",
                        ha="right" if side < 0 else "left", va="center", fontsize=6,
                        color="#777777")  # fmt: skip
    slider.annotate(sd_label(amount), (amount, 0), xytext=(0, -5), textcoords="offset points",
                    ha="center", va="top", fontsize=7.5)  # fmt: skip
    slider.set(xlim=ends, ylim=(-1, 1))
    slider.set_axis_off()
    return pixels(figure)

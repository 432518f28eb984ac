"""Slices through layers: grey images, colours about zero, outlines, and letters for the sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.errors import UsageError
from imgwas.plots.layers import Layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

#: Plane -> the axis that it cuts, and the axes drawn across and upwards.
PLANES = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}
#: Pixels along the longer side that a slice is drawn with, at least.
PIXELS = 320
#: Without a threshold, values below this share of the limit fade out towards zero.
FADE = 0.3
#: Blue through white to red, light enough to shine on grey, told apart by all.
DIVERGING = ("#08306B", "#1F66B0", "#5BA3D0", "#C6DFEE", "#F7F7F7", "#FCD3BC", "#F08A62",
             "#CB3A2E", "#7F0018")  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What every panel of a figure shows.

    Parameters
    ----------
    grey : Layer, optional
        Background image.
    window : (float, float)
        Intensities drawn dark and light.
    colour : Layer, optional
        Signed values on top.
    limit, threshold : float
        Values at the ends of the colours; magnitudes below the threshold are transparent.
    mask : Layer, optional
        Voxels that have values; where there is no background, the others are left white.
    contours : tuple of Layer
        Masks whose outlines are drawn.
    radiological : bool
        Left of the brain at the right of the picture.
    frame : (3, 2) array, optional
        Box in mm that panels show; by default what is not background.
    """

    grey: Layer | None = None
    window: tuple[float, float] = (0.0, 1.0)
    colour: Layer | None = None
    limit: float = 1.0
    threshold: float = 0.0
    mask: Layer | None = None
    contours: tuple[Layer, ...] = ()
    radiological: bool = False
    frame: np.ndarray | None = None

    @property
    def box(self) -> np.ndarray:
        """Box in mm, (axes, low and high), around what is not background."""
        if self.frame is not None:
            return self.frame
        shown = self.mask if self.mask is not None else (self.grey or self.colour)
        if shown is None:
            raise UsageError("there is no image to draw.")
        inside = shown.values != corner(shown.values)
        if not inside.any():
            inside = np.ones_like(inside)
        spans = []
        for axis in range(3):
            found = np.flatnonzero(inside.any(axis=tuple(i for i in range(3) if i != axis)))
            ends = shown.origin[axis] + shown.zooms[axis] * found[[0, -1]]
            margin = shown.zooms[axis] / 2 + 3.0
            spans.append((ends[0] - margin, ends[1] + margin))
        return np.array(spans)


def corner(values: np.ndarray) -> float:
    """Intensity of the background: that of the first voxel."""
    return float(values.flat[0])


def window_of(values: np.ndarray) -> tuple[float, float]:
    """Percentiles 1 and 99.5 of what is not background."""
    inside = values[values != corner(values)]
    if not inside.size:
        return corner(values), corner(values) + 1
    low, high = (float(v) for v in np.percentile(inside, [1, 99.5]))
    return low, max(high, low + 1e-6)


def limit_of(values: np.ndarray) -> float:
    """Largest magnitude; 1 where everything is zero."""
    return float(np.abs(values).max(initial=0.0)) or 1.0


def peak_of(colour: Layer) -> tuple[float, float, float]:
    """Place in mm of the largest magnitude."""
    index = np.unravel_index(int(np.abs(colour.values).argmax()), colour.values.shape)
    return colour.place_of([int(i) for i in index])


def size_of(scene: Scene, plane: str) -> tuple[float, float]:
    """Width and height of a plane in mm."""
    _, across, up = PLANES[plane]
    span = scene.box[:, 1] - scene.box[:, 0]
    return float(span[across]), float(span[up])


def draw_plane(ax: Axes, scene: Scene, plane: str, place: float, *, letters: bool = True) -> None:
    """Draw one slice: grey image, colours, outlines; the letters say which side is which."""
    _, across, up = PLANES[plane]
    if scene.grey is not None:
        _draw_grey(ax, scene, plane, place)
    if scene.colour is not None:
        _draw_colour(ax, scene, plane, place)
    for mask in scene.contours:
        draw_outline(ax, mask, plane, place)
    if scene.mask is not None and scene.grey is None:
        draw_outline(ax, scene.mask, plane, place, colour="#888888", width=0.5, halo=0)
    box = scene.box
    low, high = box[across]
    flipped = scene.radiological and across == 0
    ax.set(xlim=(high, low) if flipped else (low, high), ylim=tuple(box[up]), aspect="equal")
    ax.set_axis_off()
    if letters:
        _write_letters(ax, ("R", "L") if flipped else ("L", "R") if across == 0 else ("P", "A"))


def _write_letters(ax: Axes, sides: tuple[str, str]) -> None:
    for place, side in zip((0.0, 1.0), sides, strict=True):
        ax.text(place, 0.99, side, transform=ax.transAxes, ha="left" if place == 0 else "right",
                va="top", fontsize=6, color="#555555")  # fmt: skip


def _cut(
    layer: Layer, plane: str, place: float
) -> tuple[np.ndarray, tuple[float, float, float, float]] | None:
    """Slice at a place as rows from below, and where its edges are; None outside the volume."""
    axis, across, up = PLANES[plane]
    index = layer.index(axis, place)
    if index is None:
        return None
    return layer.values.take(index, axis=axis).T, (*layer.span(across), *layer.span(up))


def finer(picture: np.ndarray) -> np.ndarray:
    """Interpolate a picture bilinearly to more pixels of the same area; extremes stay extremes."""
    from scipy import ndimage

    factor = int(np.ceil(PIXELS / max(picture.shape)))
    if factor <= 1:
        return np.asarray(picture, np.float32)
    zoom: Any = ndimage.zoom
    return np.asarray(zoom(picture.astype(np.float32), factor, order=1, mode="nearest",
                           grid_mode=True))  # fmt: skip


def soft(mask: np.ndarray) -> np.ndarray:
    """Share of each finer pixel that a mask covers, its steps smoothed by half a voxel."""
    from scipy import ndimage

    fine = finer(mask)
    return np.asarray(ndimage.gaussian_filter(fine, 0.5 * fine.shape[0] / mask.shape[0]))


def _draw_grey(ax: Axes, scene: Scene, plane: str, place: float) -> None:
    from scipy import ndimage

    grey = scene.grey
    found = _cut(grey, plane, place) if grey is not None else None
    if grey is None or found is None:
        return
    picture, extent = found
    inside = np.asarray(ndimage.binary_fill_holes(picture != corner(grey.values)), np.float32)
    low, high = scene.window
    # what is outside takes a middle tone before it is interpolated, so that edges have no dark rim
    tone = np.where(inside > 0, np.clip((picture - low) / (high - low), 0, 1), np.float32(0.35))
    ax.imshow(finer(tone), cmap=greys(), vmin=0, vmax=1, extent=extent, origin="lower",
              alpha=np.clip(3 * soft(inside) - 1, 0, 1), interpolation="bilinear",
              zorder=1)  # fmt: skip


def _draw_colour(ax: Axes, scene: Scene, plane: str, place: float) -> None:
    colour = scene.colour
    found = _cut(colour, plane, place) if colour is not None else None
    if found is None:
        return
    picture, extent = found
    values = finer(picture)
    shown = np.abs(values) >= max(scene.threshold, np.finfo(np.float32).tiny)
    if scene.grey is None and scene.mask is not None:
        inside = _cut(scene.mask, plane, place)
        shown &= soft(inside[0]) > 0.5 if inside is not None else True
    ax.imshow(np.where(shown, values, np.nan), cmap=tones(fades(scene)), vmin=-scene.limit,
              vmax=scene.limit, extent=extent, origin="lower", interpolation="nearest",
              zorder=2)  # fmt: skip


def fades(scene: Scene) -> bool:
    """Whether small values fade out: above an image, where no threshold was asked for."""
    return scene.grey is not None and not scene.threshold


def greys() -> Colormap:
    """Grey tones that leave room for colours: neither black nor white."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("greys", ["#2E2E2E", "#F2F2F2"], N=256)


def tones(fade: bool) -> Colormap:
    """Colours from negative to positive; where they fade, small values are transparent."""
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap

    colours = LinearSegmentedColormap.from_list("signed", DIVERGING, N=1025)
    if not fade:
        return colours
    at = np.linspace(-1, 1, 1025)
    table = colours(np.linspace(0, 1, 1025))
    table[:, 3] = np.clip(np.abs(at) / FADE, 0, 1) ** 1.5
    return ListedColormap(table, name="fading")


def draw_share(ax: Axes, mask: Layer, plane: str, place: float, colour: str) -> None:
    """Fill a mask with one colour, and draw its outline."""
    from matplotlib.colors import to_rgb

    found = _cut(mask, plane, place)
    if found is None or not (found[0] > 0).any():
        return
    cover = np.clip(3 * soft((found[0] > 0).astype(np.float32)) - 1, 0, 1)
    filled = np.dstack([np.broadcast_to(to_rgb(colour), (*cover.shape, 3)), 0.75 * cover])
    ax.imshow(filled, extent=found[1], origin="lower", interpolation="bilinear", zorder=2)
    draw_outline(ax, mask, plane, place)


def draw_outline(
    ax: Axes, mask: Layer, plane: str, place: float, *, colour: str = "black", width: float = 0.7,
    halo: float = 0.45,
) -> None:  # fmt: skip
    """Draw the outline of a mask, smoothed by less than a voxel."""
    from matplotlib.patheffects import Normal, Stroke

    found = _cut(mask, plane, place)
    if found is None or not (found[0] > 0).any():
        return
    picture, (left, right, bottom, top) = found
    picture = np.pad((picture > 0).astype(np.float32), 1)
    smooth = soft(picture)
    factor = smooth.shape[0] // picture.shape[0]
    if smooth.max() <= 0.5:
        return
    wide, high = ((right - left) / (picture.shape[1] - 2), (top - bottom) / (picture.shape[0] - 2))
    x = left - wide + (np.arange(smooth.shape[1]) + 0.5) * wide / factor
    y = bottom - high + (np.arange(smooth.shape[0]) + 0.5) * high / factor
    drawn = ax.contour(x, y, smooth, levels=[0.5], colors=[colour], linewidths=width, zorder=3)
    if halo:
        effects = [Stroke(linewidth=width + 2 * halo, foreground="white", alpha=0.8), Normal()]
        drawn.set_path_effects(effects)

"""Pictures of walks as sprites: slices of brains side by side, the frames of a beating heart.

A sprite holds the pictures of one step: a single tile of a brain, a tile a frame of a cine.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.brain.heart_function import as_cine
from imgwas.brain.traversal import Walk
from imgwas.plots.layers import LETTERS, layer_of
from imgwas.plots.panels import signed_number
from imgwas.plots.planes import PLANES, limit_of, tones
from imgwas.shapes import Bool, Float, Float32

if TYPE_CHECKING:
    from PIL.Image import Image

#: Edge in pixels that the longer side of a slice has at least.
FINE = 200
#: Between the slices of a tile.
_GAP = 6


@dataclass(frozen=True)
class Drawn:
    """All pictures of one walk.

    Parameters
    ----------
    plain, changes : sequence of (rows, columns, 3) or (rows, columns) uint8 array
        A sprite a step: the pictures, and their differences from the start.
    tile : (int, int)
        Width and height of one tile.
    columns, frames : int
        Tiles across, and tiles in all.
    limit : float
        Difference at the ends of the colours.
    place : str
        Where the slices lie; empty for cines.
    """

    plain: Sequence[np.ndarray]
    changes: Sequence[np.ndarray]
    tile: tuple[int, int]
    columns: int
    frames: int
    limit: float
    place: str


def draw_walk(
    walk: Walk, affine: np.ndarray, mask: Bool[np.ndarray, " *grid"], *, is_cine: bool
) -> Drawn:
    """Draw every step of a walk and its difference from the start.

    Parameters
    ----------
    walk : Walk
    affine : (4, 4) float array
        Voxel indices to millimetres.
    mask : bool array
        Voxels that are drawn; the others are black.
    is_cine : bool
        The last axis is time.
    """
    start = walk.images[walk.middle]
    window = _window(start[mask])
    changes = walk.images - start
    if is_cine:
        return _draw_cine(walk.images, changes, walk.middle, window)
    volumes = [np.where(mask, _grey(image, window), 0) for image in walk.images]
    place = _busiest(np.abs(changes).sum(axis=0), affine)
    limit = limit_of(changes)
    plain = [_slices(volume, affine, place) for volume in volumes]
    middle = plain[walk.middle]
    coloured = [_blend(middle, _slices(change / limit, affine, place)) for change in changes]
    where = ", ".join(f"{letter} = {signed_number(v)} mm"
                      for letter, v in zip(LETTERS, place, strict=True))  # fmt: skip
    size = (middle.shape[1], middle.shape[0])
    return Drawn([_bytes_of(one) for one in plain], coloured, size, 1, 1, limit, where)


def _busiest(sizes: np.ndarray, affine: np.ndarray) -> tuple[float, float, float]:
    """Place in mm whose three planes hold the most change."""
    layer = layer_of(sizes.astype(np.float32), affine)
    axes = ((1, 2), (0, 2), (0, 1))
    return layer.place_of([int(layer.values.sum(axis=axis).argmax()) for axis in axes])


def _window(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.7]))
    return low, max(high, low + 1e-6)


def _grey(values: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Scale intensities to 0..1."""
    return np.asarray(np.clip((values - window[0]) / (window[1] - window[0]), 0, 1), np.float32)


def _slices(volume: np.ndarray, affine: np.ndarray, place: Sequence[float]) -> np.ndarray:
    """Three planes through a place side by side, rows from above, on one scale."""
    layer = layer_of(volume.astype(np.float32), affine)
    span = [n * zoom for n, zoom in zip(layer.values.shape, layer.zooms, strict=True)]
    scale = FINE / max(span)
    cut = []
    for axis, across, up in PLANES.values():
        index = layer.index(axis, place[axis]) or 0
        picture = layer.values.take(index, axis=axis).T[::-1]
        cut.append(_resized(picture, round(span[across] * scale), round(span[up] * scale)))
    height = max(one.shape[0] for one in cut)
    joined = []
    for one in cut:
        missing = height - one.shape[0]
        joined.append(np.pad(one, ((missing // 2, missing - missing // 2), (0, _GAP))))
    return np.asarray(np.concatenate(joined, axis=1)[:, :-_GAP])


def _resized(picture: Float[np.ndarray, "rows columns"], width: int, height: int) -> np.ndarray:
    from PIL import Image

    image: Image.Image = Image.fromarray(np.ascontiguousarray(picture, np.float32))
    larger = width >= picture.shape[1]
    how = Image.Resampling.BICUBIC if larger else Image.Resampling.BOX
    return np.asarray(image.resize((max(width, 1), max(height, 1)), how), np.float32)


def _draw_cine(
    images: Float32[np.ndarray, "amounts ..."],
    changes: np.ndarray,
    middle: int,
    window: tuple[float, float],
) -> Drawn:
    """A sprite a step: frames in rows; the first axis to the right, the second upwards."""
    cines = [_grey(as_cine(image), window) for image in images]
    moved = [as_cine(change) for change in changes]
    limit = limit_of(np.stack(moved))
    wide, tall, n_frames = cines[0].shape
    factor = max(1, round(FINE / max(wide, tall)))
    size = (wide * factor, tall * factor)
    columns = int(np.ceil(np.sqrt(n_frames)))

    def frames(cine: np.ndarray) -> list[np.ndarray]:
        return [_resized(cine[:, :, t].T[::-1], *size) for t in range(n_frames)]

    still = frames(cines[middle])
    plain = [_sprite([_bytes_of(tile) for tile in frames(cine)], columns) for cine in cines]
    coloured = [
        _sprite([_blend(a, b) for a, b in zip(still, frames(one / limit), strict=True)], columns)
        for one in moved
    ]
    return Drawn(plain, coloured, size, columns, n_frames, limit, "")


def _sprite(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Lay tiles in rows."""
    blank = np.zeros_like(tiles[0])
    rows = []
    for start in range(0, len(tiles), columns):
        row = list(tiles[start : start + columns])
        rows.append(np.concatenate(row + [blank] * (columns - len(row)), axis=1))
    return np.concatenate(rows, axis=0)


def _bytes_of(picture: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(255 * np.clip(picture, 0, 1)), np.uint8)


def _blend(grey: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Colours of a difference, -1 to 1, over a picture; small ones let it through."""
    colours: Any = tones(True)((np.clip(change, -1, 1) + 1) / 2)
    alpha = colours[..., 3:]
    below = 0.15 + 0.7 * np.clip(grey, 0, 1)[..., None]
    return _bytes_of(alpha * colours[..., :3] + (1 - alpha) * below)


def colour_strip() -> str:
    """The colours of differences from low to high, as an address."""
    line = tones(False)(np.linspace(0, 1, 256))[None, :, :3]
    return address_of(_bytes_of(np.repeat(line, 12, axis=0)), 90)


def address_of(picture: np.ndarray, quality: int) -> str:
    """A picture as a ``data:`` address of WebP."""
    from PIL import Image

    image: Image.Image = Image.fromarray(np.ascontiguousarray(picture))
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=quality, method=3)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"

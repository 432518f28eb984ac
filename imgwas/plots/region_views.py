"""Regions of an atlas seen from outside, without meshes: rays that stop at the first voxel.

Along every line of sight the first voxel of any region is found to a fraction of a voxel; the light
falls on it by the gradient of the smoothed volume, and hollows are darker than their surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgwas.plots.layers import Layer, layer_of
from imgwas.shapes import Bool, Float64, Int32
from imgwas.types import Atlas

#: View -> (half of the brain or "" for all, axis looked along, whether from its high end).
VIEWS: dict[str, tuple[str, int, bool]] = {
    "left, outer": ("L", 0, False),
    "left, inner": ("L", 0, True),
    "right, inner": ("R", 0, False),
    "right, outer": ("R", 0, True),
    "above": ("", 2, True),
    "below": ("", 2, False),
    "front": ("", 1, True),
    "behind": ("", 1, False),
}
#: Size of a ray's cross-section and of the pixels of the picture, in mm.
RAY, PIXEL = 1.0, 0.5
#: Smoothing of surfaces, closing of gaps between regions, and how deep fillings lie, in mm.
SMOOTH, CLOSE, SUNKEN = 1.3, 7.0, 4.0
#: How far below a surface the region of its first labelled voxel is looked for, in mm.
REACH = 5.0


@dataclass(frozen=True)
class View:
    """What is seen along one direction.

    Parameters
    ----------
    labels : (rows, columns) int32 array
        Number of the region of each pixel, rows from the top; 0 is brain without a region.
    shade : (rows, columns) float array
        Brightness, 0 to 1.
    cover : (rows, columns) float array
        Share of the pixel that is brain.
    size : (float, float)
        Width and height in mm.
    """

    labels: Int32[np.ndarray, "rows columns"]
    shade: Float64[np.ndarray, "rows columns"]
    cover: Float64[np.ndarray, "rows columns"]
    size: tuple[float, float]


def halves(atlas: Atlas) -> dict[str, Layer]:
    """Labels of the left half, the right half and both, on straight axes.

    Regions with a side are whole; those without are cut in the plane between the sides.
    """
    whole = layer_of(atlas.labels, atlas.affine, order=0)
    numbers = whole.values.astype(np.int32)
    side = np.zeros(numbers.max() + 1, np.int8)
    for number, letter in atlas.hemispheres.items():
        if 0 < number < len(side):
            side[number] = {"L": -1, "R": 1}.get(letter, 0)
    x = whole.origin[0] + whole.zooms[0] * np.arange(numbers.shape[0])
    sides = side[numbers]
    right = np.sign(x - _middle(numbers > 0, sides, x))[:, None, None]
    belongs = np.where(sides == 0, np.where(right == 0, 1, right), sides)
    cut = {"": numbers, "L": numbers * (belongs < 0), "R": numbers * (belongs > 0)}
    return {name: _boxed(Layer(values, whole.origin, whole.zooms)) for name, values in cut.items()}


def _boxed(labels: Layer) -> Layer:
    """Cut off what holds no region."""
    if not labels.values.any():
        return labels
    ends = [np.flatnonzero(labels.values.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]]
            for axis in range(3)]  # fmt: skip
    start = np.array([low for low, _ in ends])
    part = tuple(slice(low, high + 1) for low, high in ends)
    return Layer(labels.values[part], labels.origin + start * labels.zooms, labels.zooms)


def _middle(inside: np.ndarray, sides: np.ndarray, x: np.ndarray) -> float:
    """Place in mm of the plane between the left and the right regions."""
    weight = [(inside & (sides == s)).sum(axis=(1, 2)) for s in (-1, 1)]
    if all(w.any() for w in weight):
        return float(np.mean([np.average(x, weights=w) for w in weight]))
    return float(np.average(x, weights=inside.sum(axis=(1, 2))))


@dataclass(frozen=True)
class Surface:
    """Regions in fine cubes: what rays stop at, what light falls on, and whose surface it is.

    Parameters
    ----------
    field : (x, y, z) float32 array
        0.5 at the surface.
    soft : (x, y, z) float32 array
        The same, smoother: its gradient is the direction of the surface.
    labels : (x, y, z) int32 array
    zooms : (3,) array
        In mm.
    """

    field: np.ndarray
    soft: np.ndarray
    labels: np.ndarray
    zooms: np.ndarray


def surface_of(labels: Layer, *, fill: bool = True) -> Surface:
    """Smooth the outside of regions; fill hollows between them, a little below the surface."""
    from scipy import ndimage

    pad = [(int(p), int(p)) for p in np.ceil((CLOSE + 4) / labels.zooms)]
    numbers = np.pad(labels.values, pad)
    body = numbers > 0
    blur: Any = ndimage.gaussian_filter
    width = np.maximum(SMOOTH / labels.zooms, 0.7)
    smooth = blur(body.astype(np.float32), width, truncate=3)
    # thin sheets would vanish when they are smoothed
    lost = body & (ndimage.maximum_filter(smooth, 3) < 0.55)
    smooth = np.maximum(smooth, lost * np.float32(0.5001))
    if fill:
        sunken = _filling(body, labels.zooms).astype(np.float32)
        smooth = np.maximum(smooth, blur(sunken, width, truncate=3))
    finer = [max(1, round(float(z) / RAY)) for z in labels.zooms]
    zoom: Any = ndimage.zoom
    fine = smooth
    if max(finer) > 1:
        fine = zoom(smooth, finer, order=1, mode="nearest", grid_mode=True)
    for axis, times in enumerate(finer):
        numbers = numbers.repeat(times, axis=axis) if times > 1 else numbers
    # steps between coarse voxels are no shape of the brain: light does not see them
    soft = blur(fine, np.maximum(0.8, 0.5 * np.array(finer) - 0.2), truncate=3)
    return Surface(fine, soft, numbers, labels.zooms / finer)


def _filling(body: Bool[np.ndarray, "x y z"], zooms: np.ndarray) -> Bool[np.ndarray, "x y z"]:
    """Close gaps, fill holes, and let what was added lie below the surface."""
    from scipy import ndimage

    # every second voxel of a fine grid will do for what nobody sees the details of
    every = tuple(slice(None, None, 2 if z < 1.5 else 1) for z in zooms)
    coarse, sampling = body[every], [z * (s.step or 1) for z, s in zip(zooms, every, strict=True)]
    distance: Any = ndimage.distance_transform_edt
    grown = ndimage.binary_fill_holes(distance(~coarse, sampling=sampling) <= CLOSE)
    deep = np.asarray(distance(grown, sampling=sampling) > CLOSE + SUNKEN)
    for axis, s in enumerate(every):
        deep = deep.repeat(s.step or 1, axis=axis)
    return deep[tuple(slice(n) for n in body.shape)]


def look(surface: Surface, axis: int, from_high: bool) -> View:
    """Render what is seen along an axis; up is up, and from above the front is up."""
    way = slice(None, None, -1 if from_high else 1)
    field, soft, numbers = (np.moveaxis(v, axis, 0)[way]
                            for v in (surface.field, surface.soft, surface.labels))  # fmt: skip
    zooms = np.delete(surface.zooms, axis)
    step = float(surface.zooms[axis])
    hit = field > 0.5
    seen = hit.any(axis=0)
    first = np.maximum(np.where(seen, hit.argmax(axis=0), 1), 1)
    rows, columns = np.indices(seen.shape)
    before, after = field[first - 1, rows, columns], field[first, rows, columns]
    part = np.clip((0.5 - before) / np.maximum(after - before, 1e-6), 0, 1)
    found = _labels_below(numbers, first, round(REACH / step))
    depth = (first - 1 + part) * step
    shade = _light(soft, first, depth, seen, np.array([step, *zooms]))
    return _picture(found, shade, seen, zooms, _mirrored(axis, from_high))


def _mirrored(axis: int, from_high: bool) -> bool:
    """Whether the axis across runs to the viewer's left: seen from left, front and below."""
    return (not from_high) if axis in (0, 2) else from_high


def _labels_below(numbers: np.ndarray, first: np.ndarray, reach: int) -> np.ndarray:
    """First label at or below each surface point."""
    rows, columns = np.indices(first.shape)
    found = np.zeros(first.shape, np.int32)
    for deeper in range(-1, reach + 1):
        at = np.clip(first + deeper, 0, len(numbers) - 1)
        found = np.where(found > 0, found, numbers[at, rows, columns])
    return found.astype(np.int32)


def _light(
    soft: np.ndarray, first: np.ndarray, depth: np.ndarray, seen: np.ndarray, zooms: np.ndarray
) -> np.ndarray:
    """Brightness of surface points: a lamp above the viewer, and less light in hollows."""
    from scipy import ndimage

    rows, columns = np.indices(first.shape)
    slopes = []
    for axis in range(3):
        sides = []
        for way in (-1, 1):
            at = [first, rows, columns]
            at[axis] = np.clip(at[axis] + way, 0, soft.shape[axis] - 1)
            sides.append(soft[tuple(at)])
        slopes.append((sides[0] - sides[1]) / zooms[axis])
    normal = np.stack(slopes)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-9)
    towards = -normal[0]
    lamp = np.clip(0.80 * towards + 0.60 * normal[2], 0, 1)
    known = np.asarray(ndimage.gaussian_filter(seen.astype(float), 6))
    around = np.asarray(ndimage.gaussian_filter(np.where(seen, depth, 0.0), 6))
    hollow = np.clip((depth - around / np.maximum(known, 1e-6)) / 14, 0, 0.35)
    facing = np.clip(towards, 0, 1)
    return np.asarray((0.42 + 0.38 * lamp + 0.24 * facing) * (1 - hollow), np.float64)


def _picture(
    labels: np.ndarray, shade: np.ndarray, seen: np.ndarray, zooms: np.ndarray, flip: bool
) -> View:
    """Turn rays (across, up) into pixels (rows from the top), with smooth borders of regions."""
    from scipy import ndimage

    zoom: Any = ndimage.zoom
    times = [max(1, round(float(z) / PIXEL)) for z in zooms]

    def fine(values: np.ndarray) -> np.ndarray:
        wide = zoom(values.astype(np.float32), times, order=1, mode="nearest", grid_mode=True)
        return np.asarray((wide[::-1] if flip else wide).T[::-1], np.float64)

    def fine_labels(values: np.ndarray) -> np.ndarray:
        wide = values.repeat(times[0], axis=0).repeat(times[1], axis=1)
        return np.asarray((wide[::-1] if flip else wide).T[::-1])

    blur = 1.2 / np.array([z / t for z, t in zip(zooms, times, strict=True)])[::-1]
    cover = np.asarray(ndimage.gaussian_filter(fine(seen), 0.6 * blur))
    # light leaks over silhouettes before it is interpolated, so that rims are not black
    near: Any = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    bright = fine(shade[tuple(near)])
    spread = labels[tuple(near)]
    winner = _smooth_borders(fine_labels(spread), blur)
    size = (float(zooms[0] * seen.shape[0]), float(zooms[1] * seen.shape[1]))
    return View(winner, bright, np.clip(2 * cover - 0.5, 0, 1), size)


def _smooth_borders(labels: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """Give each pixel to the region that is most frequent around it."""
    from scipy import ndimage

    best, winner = np.zeros(labels.shape, np.float32), labels.copy()
    reach = int(np.ceil(3 * blur.max())) + 1
    boxes: Any = ndimage.find_objects(labels + 1)
    for number, box in enumerate(boxes):
        if box is None:
            continue
        part = tuple(slice(max(0, b.start - reach), b.stop + reach) for b in box)
        mine = (labels[part] == number).astype(np.float32)
        share = np.asarray(ndimage.gaussian_filter(mine, blur, truncate=3))
        more = share > best[part]
        winner[part][more] = number
        best[part][more] = share[more]
    return winner


def cropped(view: View) -> View:
    """Cut off what is empty."""
    rows = np.flatnonzero((view.cover > 0).any(axis=1))
    columns = np.flatnonzero((view.cover > 0).any(axis=0))
    if not len(rows):
        return view
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    n_rows, n_columns = view.cover.shape
    size = (view.size[0] * len(view.cover[part][0]) / n_columns,
            view.size[1] * len(view.cover[part]) / n_rows)  # fmt: skip
    return View(view.labels[part], view.shade[part], view.cover[part], size)


def borders(labels: Int32[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Pixels whose right or lower neighbour is another region."""
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edge

"""A head drawn by formulae: folded cortex, white matter, ventricles, deep nuclei, cerebellum.

Coordinates are millimetres with the origin near the anterior commissure, x to the right, y to the
front, z up, as in MNI space. Nothing is read from a file, so that everything works offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from imgwas.shapes import Bool, Float32, Float64, Int16

#: Edges of the box that is drawn, and its voxel size. Unit: mm.
BOX, ZOOM = ((-74.0, 74.0), (-110.0, 76.0), (-74.0, 80.0)), 1.5
#: Regions that exist on both sides, then those on the midline, in the order of their numbers.
PAIRED = (
    "frontal_cortex", "parietal_cortex", "temporal_cortex", "occipital_cortex", "hippocampus",
    "amygdala", "thalamus", "caudate", "putamen", "pallidum", "lateral_ventricle", "cerebellum",
)  # fmt: skip
MIDLINE = ("brain_stem", "corpus_callosum")
NAMES = tuple(f"{name}_{side}" for name in PAIRED for side in ("left", "right")) + MIDLINE
#: T1 intensity of each tissue; white matter is 1.
CSF, VENTRICLE, GREY, WHITE = 0.17, 0.14, 0.66, 1.0
_INTENSITY = {
    "hippocampus": 0.67, "amygdala": 0.64, "thalamus": 0.80, "caudate": 0.70, "putamen": 0.74,
    "pallidum": 0.89, "lateral_ventricle": VENTRICLE, "brain_stem": 0.93, "corpus_callosum": 1.04,
}  # fmt: skip
#: Tubes: points (x, y, z, radius) of their centre lines on the right side.
_TUBES: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "hippocampus": ((22, -11, -20, 6), (27, -20, -16, 5.5), (29.5, -31, -9, 5), (24, -38, -1, 3.5)),
    "caudate": ((12, 17, 4, 7), (13, 7, 13, 5.5), (16, -9, 20, 4), (20, -25, 18, 2.5)),
    "lateral_ventricle": (
        (9, 31, 5, 4), (6.5, 15, 12, 6), (8, -8, 19, 5.5), (15, -28, 19, 6), (24, -42, 8, 6),
        (32, -27, -10, 2.5),
    ),
}  # fmt: skip
_OCCIPITAL_HORN = ((22.0, -38.0, 12.0, 5.0), (21.0, -64.0, 5.0, 2.5))
#: Ellipsoids: centre and half axes on the right side.
_BLOBS = {
    "amygdala": ((22, -2, -19), (7.5, 7.5, 8)),
    "thalamus": ((11, -18, 7), (10, 15, 10)),
    "putamen": ((27, 2, 1), (6.5, 16.5, 11)),
    "pallidum": ((19.5, -3, 0), (5, 10, 7.5)),
}
_STEM = ((0, -20, -4, 15), (0, -27, -26, 16), (0, -34, -44, 11), (0, -42, -70, 8))
_CALLOSUM = ((26, 0), (29, 9), (18, 21), (-6, 27), (-26, 24), (-37, 16), (-36, 10))


@dataclass(frozen=True)
class Anatomy:
    """A T1-like head and what each voxel is.

    Parameters
    ----------
    values : (x, y, z) float32 array
        Intensities, white matter about 1; 0 outside the brain.
    labels : (x, y, z) int16 array
        Region numbers 1, 2, ... in the order of ``names``; 0 is white matter and fluid.
    names : tuple of str
    affine : (4, 4) float array
        Voxel indices to millimetres, RAS+.
    """

    values: Float32[np.ndarray, "x y z"]
    labels: Int16[np.ndarray, "x y z"]
    names: tuple[str, ...]
    affine: Float64[np.ndarray, "4 4"]


@lru_cache(maxsize=1)
def draw_anatomy() -> Anatomy:
    """Draw the built-in brain once; the same in every run."""
    rng = np.random.default_rng(20)
    axes = [np.arange(low + ZOOM / 2, high, ZOOM, dtype=np.float32) for low, high in BOX]
    x, y, z = _bend(*np.meshgrid(*axes, indexing="ij", sparse=True))
    side = np.abs(x)
    cerebellum = _cerebellum(side, y, z)
    stem = np.where(z < -9, _tube(side, y, z, _STEM), -9).astype(np.float32)
    beside = np.maximum(cerebellum, np.where(z < -16, stem, -9))
    depth = np.where(beside > -2.0, -3, _cerebrum(side, y, z)).astype(np.float32)
    deep = _deep(side, y, z)
    core = _blob(side, y, z, (0, -12, 4), (36, 46, 24)) > 0
    fluid = _fluid(side, x, y, z, depth, core, rng)
    ribbon = _ribbon(depth, fluid) & ~core
    folia = _folia(y, z, cerebellum)
    brain = (np.maximum(np.maximum(depth, cerebellum), stem) > -1.5) & (z > -66)
    values = _paint(depth, fluid, ribbon, cerebellum, stem, folia)
    labels = np.zeros(values.shape, np.int16)
    _label_cortex(labels, ribbon, x, y, z)
    _label(labels, "cerebellum", cerebellum > 0, x)
    for name, where in (("brain_stem", (stem > 0) & (cerebellum <= 0) & (z < -8)), *deep.items()):
        _label(labels, name, where & brain, x)
        values[where] = _INTENSITY[name]
    values[_blob(side, y, z, (0, -12, 1), (2.0, 14, 9)) > 0] = VENTRICLE  # the third ventricle
    values *= _texture(values.shape, rng)
    affine = np.diag([ZOOM, ZOOM, ZOOM, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    values = np.where(brain, np.maximum(values, 0.05), 0).astype(np.float32)
    return Anatomy(values, np.where(brain, labels, 0).astype(np.int16), NAMES, affine)


def _bend(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[Float32[np.ndarray, "x y z"], ...]:
    """Bend space by a few millimetres, so that no surface is quite a formula."""
    bent_x = x + 1.2 * np.sin(y / 21 + 1) + 1.0 * np.sin(z / 17 + y / 40)
    bent_y = y + 2.2 * np.sin(x / 15 + z / 33) + 1.6 * np.sin(z / 13 + 2)
    bent_z = z + 2.0 * np.sin(y / 17 + np.abs(x) / 23) + 1.8 * np.sin(x / 13 + y / 29 + 1)
    return (bent_x + 0 * z, bent_y + 0 * y, bent_z + 0 * y)


def _blob(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, centre: Sequence[float], half: Sequence[float]
) -> Float32[np.ndarray, "x y z"]:
    """Distance to the surface of an ellipsoid, nearly in mm, positive inside."""
    scaled = [(v - c) / h for v, c, h in zip((x, y, z), centre, half, strict=True)]
    radius = np.sqrt(sum(s**2 for s in scaled))
    slope = np.sqrt(sum((s / h) ** 2 for s, h in zip(scaled, half, strict=True)))
    return np.asarray(radius * (1 - radius) / np.maximum(slope, 1e-4), np.float32)


def _tube(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, points: Sequence[Sequence[float]]
) -> Float32[np.ndarray, "x y z"]:
    """Distance to the surface of a bent tube, in mm, positive inside."""
    best = np.full(np.broadcast_shapes(x.shape, y.shape, z.shape), -1e3, np.float32)
    for (*a, r), (*b, s) in pairwise(points):
        along = np.subtract(b, a)
        share = sum((v - p) * d for v, p, d in zip((x, y, z), a, along, strict=True))
        share = np.clip(share / (along @ along), 0, 1)
        gap = sum((v - p - share * d) ** 2 for v, p, d in zip((x, y, z), a, along, strict=True))
        np.maximum(best, r + share * (s - r) - np.sqrt(gap), out=best)
    return best


def _cerebrum(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> Float32[np.ndarray, "x y z"]:
    """Depth below the smooth hull of both hemispheres: domes and temporal lobes."""
    narrow = 1 + 0.0016 * (y + 18) + 0.000022 * (y + 18) ** 2  # narrower in front
    dome = _blob(side * narrow, y, z, (0, -17, 10), (68, 86, 66))
    floor = np.where(y > -20, z + 17 + 0.06 * (y + 20), z + 6 + 0.12 * (y + 20))
    floor = np.where(side > 8, floor, floor - 0.2 * (8 - side))
    lobe = _blob(side, y, z, (44, -14, -21), (23, 41, 24))
    back = _blob(side, y, z, (30, -62, 0), (28, 36, 22))
    upper = _both(dome, np.asarray(floor, np.float32))
    hull = np.maximum(np.maximum(upper, lobe), np.minimum(back, dome))
    middle = _blob(side, y, z, (0, -12, -2), (20, 26, 18))
    return np.asarray(np.maximum(hull, middle), np.float32)


def _both(a: np.ndarray, b: np.ndarray, softness: float = 10.0) -> np.ndarray:
    """Intersection of two solids with its edge rounded."""
    mix = np.clip(0.5 - 0.5 * (a - b) / softness, 0, 1)
    return np.asarray(b * (1 - mix) + a * mix - softness * mix * (1 - mix))


def _cerebellum(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> Float32[np.ndarray, "x y z"]:
    lobe = _blob(side, y, z + 0.25 * (side - 25), (25, -63, -35), (28, 27, 20))
    vermis = _blob(side, y, z, (0, -62, -30), (15, 24, 21))
    return np.maximum(lobe, vermis)


def _deep(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict[str, Bool[np.ndarray, "x y z"]]:
    """Structures below the cortex, later ones on top of earlier ones."""
    parts = {"corpus_callosum": _callosum(side, y, z)}
    parts |= {name: _blob(side, y, z, *_BLOBS[name]) > 0 for name in _BLOBS}
    parts |= {name: _tube(side, y, z, points) > 0 for name, points in _TUBES.items()}
    horn = _tube(side, y, z, _OCCIPITAL_HORN) > 0
    parts["lateral_ventricle"] |= horn
    parts["lateral_ventricle"] &= side > 1.0
    parts["thalamus"] &= side > 1.5
    return parts


def _callosum(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> Bool[np.ndarray, "x y z"]:
    arch = _tube(0 * side[:1], y, z, [(0, a, b, 4.0) for a, b in _CALLOSUM])
    return np.asarray((arch - 0.012 * np.maximum(side - 6, 0) ** 2 > 0) & (side < 19))


def _waves(
    direction: Sequence[np.ndarray], length: float, rng: np.random.Generator, n: int = 36
) -> np.ndarray:
    """A random field of one wavelength, variance 1, at points of the unit sphere."""
    total: np.ndarray = np.zeros(direction[0].shape, np.float32)
    for _ in range(n):
        k = rng.standard_normal(3)
        k *= length * rng.uniform(0.85, 1.15) / np.linalg.norm(k)
        phase = sum(np.float32(a) * d for a, d in zip(k, direction, strict=True))
        total += np.cos(phase + np.float32(rng.uniform(0, 2 * np.pi)))
    return total * np.float32(np.sqrt(2 / n))


def _fluid(
    side: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    depth: np.ndarray,
    core: np.ndarray,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "x y z"]:
    """Fluid of the fissures and of the sulci, which run inwards along the radii."""
    shell = (depth > -3) & (depth < 30)
    inward = [v / h for v, h in ((side, 64.0), (y + 17, 84.0), (z - 6, 62.0))]
    inward = [np.broadcast_to(v, depth.shape)[shell] for v in inward]
    radius = np.sqrt(sum(v**2 for v in inward))
    direction = [v / radius for v in inward]
    mirror = np.broadcast_to(x > 0, depth.shape)[shell] * 0.04
    direction[1] = direction[1] + mirror.astype(np.float32)  # the sides differ a little
    below = depth[shell]
    for axis, (length, other) in enumerate(((5.5, 2), (6.5, 0), (6.0, 1))):  # no sulcus is straight
        curl = np.sin(below / length + 9 * direction[other]).astype(np.float32)
        direction[axis] = direction[axis] + np.float32(0.055) * curl
    folds = _waves(direction, 19.0, rng)
    deepest = 19 + 5 * _waves(direction, 9.0, rng, 12)
    width = 0.11 + 0.17 * np.exp(-np.maximum(below, 0) / 4)
    sulci = np.zeros(depth.shape, np.bool_)
    sulci[shell] = (np.abs(folds) < width) & (below < deepest)
    cleft = np.abs(z - _sylvian(y)) < 1.5
    lateral = cleft & (side > 36) & (y < 24) & (y > -44)
    insula = (np.abs(side - 37 - 0.1 * (z - 2)) < 1.2) & (y < 22) & (y > -26)
    insula &= (z > _sylvian(y) - 9) & (z < _sylvian(y) + 15)
    fissure = (side < 1.4) & ~core & ~_callosum(side, y, z)
    return np.asarray((sulci & ~core) | lateral | insula | fissure)


def _sylvian(y: np.ndarray) -> np.ndarray:
    """Height of the lateral fissure; it climbs towards the back."""
    return -8 + 0.38 * (8 - y)


def _ribbon(depth: np.ndarray, fluid: np.ndarray) -> Bool[np.ndarray, "x y z"]:
    """Cortex: what lies within 3 mm of fluid or of the surface."""
    from scipy import ndimage

    gap = ndimage.distance_transform_edt((depth > 0) & ~fluid, sampling=ZOOM)
    return np.asarray((gap > 0) & (gap < 3.2))


def _folia(y: np.ndarray, z: np.ndarray, depth: np.ndarray) -> Bool[np.ndarray, "x y z"]:
    """White matter of the cerebellum: a core that branches."""
    angle = np.arctan2(z + 38, -(y + 46))
    branches = (np.cos(13 * angle) > 0.45) & (depth > 3.5)
    return np.asarray((depth > 9) | branches)


def _paint(
    depth: np.ndarray,
    fluid: np.ndarray,
    ribbon: np.ndarray,
    cerebellum: np.ndarray,
    stem: np.ndarray,
    folia: np.ndarray,
) -> Float32[np.ndarray, "x y z"]:
    values = np.full(depth.shape, CSF, np.float32)
    values[depth > 0] = WHITE
    values[ribbon] = GREY
    values[fluid] = CSF
    values[stem > 0] = _INTENSITY["brain_stem"]
    values[cerebellum > 0] = GREY
    values[(cerebellum > 0) & folia] = 0.95
    return values


def _label(labels: np.ndarray, name: str, where: np.ndarray, x: np.ndarray) -> None:
    if name in MIDLINE:
        labels[where] = NAMES.index(name) + 1
        return
    for side, half in (("left", x < 0), ("right", x > 0)):
        labels[where & half] = NAMES.index(f"{name}_{side}") + 1


def _label_cortex(
    labels: np.ndarray, ribbon: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> None:
    """Divide the ribbon into lobes by the lateral fissure, the central sulcus and a plane."""
    temporal = (z < np.minimum(_sylvian(y), 14)) & (np.abs(x) > 14) & (y < 26)
    occipital = y < -68 + 0.15 * (z - 10)
    frontal = (y > -26 + 0.36 * (75 - z)) & ~temporal & ~occipital
    parietal = ~temporal & ~occipital & ~frontal
    for name, where in (("parietal", parietal), ("frontal", frontal), ("temporal", temporal),
                        ("occipital", occipital)):  # fmt: skip
        _label(labels, f"{name}_cortex", ribbon & where, x)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Multiply tissue by 1 with a smooth deviation of 2 percent."""
    from scipy import ndimage

    coarse = rng.standard_normal([n // 6 + 2 for n in shape]).astype(np.float32)
    zoom = [n / c for n, c in zip(shape, coarse.shape, strict=True)]
    smooth = ndimage.zoom(coarse, zoom, order=2)[tuple(slice(n) for n in shape)]
    return np.asarray(1 + 0.02 * smooth, np.float32)

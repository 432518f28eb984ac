"""Simulated brains: an anatomy of ellipsoids whose regional volumes follow planted factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import UsageError, explain
from imgwas.shapes import Float32, Float64, Int16

#: name -> (centre, half axes, intensity) of each region, on the cube from -1 to 1; later ones lie
#: inside or on top of earlier ones. Left and right structures have one factor each.
ANATOMY: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]] = {
    "ventricle": ((0.0, 0.10, 0.16), (0.18, 0.36, 0.18), 0.20),
    "thalamus": ((0.0, -0.16, -0.16), (0.26, 0.20, 0.15), 0.60),
    "caudate_left": ((-0.38, 0.26, 0.12), (0.16, 0.24, 0.20), 0.50),
    "caudate_right": ((0.38, 0.26, 0.12), (0.16, 0.24, 0.20), 0.50),
    "hippocampus_left": ((-0.44, -0.20, -0.36), (0.17, 0.30, 0.16), 0.45),
    "hippocampus_right": ((0.44, -0.20, -0.36), (0.17, 0.30, 0.16), 0.45),
    "brainstem": ((0.0, -0.26, -0.60), (0.18, 0.18, 0.24), 1.30),
}
HEAD = (0.80, 0.94, 0.84)


@dataclass(frozen=True)
class SimulatedBrains:
    """Images with their truth.

    Parameters
    ----------
    values : (samples, x, y, z) float32 array
        Intensities; exactly 0 outside the brain.
    sample_ids : tuple of str
    factors : (samples, regions) float array
        Standardised logarithm of each region's volume.
    regions : tuple of str
        Names of the factors.
    labels : (x, y, z) int16 array
        Region numbers (1, 2, ...) of the average brain; 0 elsewhere.
    affine : (4, 4) float array
        Voxel indices to millimetres, RAS+.
    """

    values: Float32[np.ndarray, "samples x y z"]
    sample_ids: tuple[str, ...]
    factors: Float64[np.ndarray, "samples regions"]
    regions: tuple[str, ...]
    labels: Int16[np.ndarray, " x y z"]
    affine: Float64[np.ndarray, "4 4"]


def simulate_brains(
    n_samples: int,
    *,
    grid: Sequence[int] = (40, 48, 40),
    factors: Float64[np.ndarray, "samples regions"] | None = None,
    regions: Sequence[str] = tuple(ANATOMY),
    effect: float = 0.4,
    head_sd: float = 0.005,
    noise: float = 0.03,
    seed: int = 0,
) -> SimulatedBrains:
    """Draw brains whose regions grow and shrink with planted factors.

    A region's half axes are multiplied by ``exp(effect * factor / 3)``, so that its log-volume is
    linear in the factor: a factor of 1 adds about half of the volume by default. Edges are soft
    over a voxel, the cortex has a rim, the whole head varies in size, and Gaussian noise is added
    inside the brain.

    Parameters
    ----------
    n_samples : int
    grid : sequence of int
        Voxels along x, y, z.
    factors : (samples, regions) float array, optional
        Planted factors, e.g. genetic ones; standard normal and independent by default.
    regions : sequence of str
        Regions that vary, of ``ANATOMY``; the others keep their size.
    effect : float
        Change of a region's log-volume per unit of its factor.
    head_sd : float
        Standard deviation of the logarithm of head size: what an affine registration leaves.
    noise : float
        Standard deviation of the noise; tissue has intensities from 0.25 to 1.
    seed : int
        The same seed gives the same brains.
    """
    unknown = [name for name in regions if name not in ANATOMY]
    if unknown:
        raise UsageError(
            explain(f"there is no region {unknown[0]!r}", expected=f"Regions: {', '.join(ANATOMY)}")
        )
    check_range("n_samples", n_samples, low=1)
    rng = np.random.default_rng(seed)
    if factors is None:
        factors = rng.standard_normal((n_samples, len(regions)))
    if factors.shape != (n_samples, len(regions)):
        raise UsageError(
            explain(f"the factors have shape {factors.shape}",
                    expected=f"({n_samples}, {len(regions)}) is needed")
        )  # fmt: skip
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in grid]
    mesh = np.meshgrid(*axes, indexing="ij")
    size = np.exp(head_sd * rng.standard_normal(n_samples))
    values = np.empty((n_samples, *grid), np.float32)
    for i in range(n_samples):
        grown = np.exp(effect * factors[i] / 3)
        scale = dict(zip(regions, grown.tolist(), strict=True))
        brain, inside = _draw(mesh, scale, float(size[i]), 2.0 / max(grid))
        brain += noise * rng.standard_normal(brain.shape, dtype=np.float32) * inside
        values[i] = np.where(inside > 0.5, np.maximum(brain, 0.01), 0)
    width = len(str(n_samples))
    return SimulatedBrains(
        values=values,
        sample_ids=tuple(f"sim{i + 1:0{width}d}" for i in range(n_samples)),
        factors=np.asarray(factors, np.float64),
        regions=tuple(regions),
        labels=_labels(mesh, regions),
        affine=_affine(grid),
    )


def _ellipsoid(
    mesh: list[np.ndarray], centre: Sequence[float], half: Sequence[float]
) -> np.ndarray:
    """Signed distance to an ellipsoid, roughly in units of the cube, negative inside."""
    terms = [((m - c) / h) ** 2 for m, c, h in zip(mesh, centre, half, strict=True)]
    return np.asarray((np.sqrt(sum(terms)) - 1) * min(half), np.float32)


def _draw(
    mesh: list[np.ndarray], scale: dict[str, float], size: float, softness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one brain; returns intensities and how much of each voxel is brain."""
    mesh = [m / size for m in mesh]
    outside = _ellipsoid(mesh, (0, 0, 0), HEAD)
    inside = _soft(outside, softness)
    brain = 0.9 - 0.3 * _soft(-(outside + 0.12), softness)  # white matter and a darker rim
    for name, (centre, half, intensity) in ANATOMY.items():
        grown = [h * scale.get(name, 1.0) for h in half]
        share = _soft(_ellipsoid(mesh, centre, grown), softness)
        brain = brain * (1 - share) + intensity * share
    return np.asarray(brain, np.float32), inside


def _soft(distance: np.ndarray, softness: float) -> np.ndarray:
    """Share of a voxel that lies inside a surface at that distance."""
    return np.asarray(np.clip(0.5 - distance / (2 * softness), 0, 1), np.float32)


def _labels(mesh: list[np.ndarray], regions: Sequence[str]) -> np.ndarray:
    labels = np.zeros(mesh[0].shape, np.int16)
    for number, name in enumerate(regions, start=1):
        centre, half, _ = ANATOMY[name]
        labels[_ellipsoid(mesh, centre, half) < 0] = number
    return labels


def _affine(grid: Sequence[int]) -> np.ndarray:
    """Voxels that make the head about 180 mm long, centred on the origin."""
    zooms = np.array([190.0 / n for n in grid])
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = -zooms * (np.asarray(grid) - 1) / 2
    return affine

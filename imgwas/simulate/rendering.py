"""One person's image: a warp, intensities, and what a scanner adds."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError
from imgwas.shapes import Float32, Float64
from imgwas.simulate.warps import Warp, Warps, solve_warp

#: Times that a warp is tried, each time with log-volumes 15 % smaller.
SMALLER = 3
#: Distance between the knots of the smooth fields. Unit: mm.
WARP_KNOTS, BIAS_KNOTS = 32.0, 80.0


@dataclass(frozen=True)
class ImageModel:
    """What makes people and scans differ, besides planted effects.

    Parameters
    ----------
    region_sd, ventricle_sd : float
        Standard deviation of a region's log-volume that nothing else explains; fluid varies more.
    side_correlation, brain_correlation : float
        Correlation of that variation between the two sides, and between all other regions.
    shrinkage, ventricle_growth : float
        Loss of log-volume per decade of age, and the ventricles' gain.
    head_sd, head_sex : float
        Variation of the log of head size (a length), and its difference between the sexes: what
        an affine registration leaves.
    intensity_sd : float
        Standard deviation of a region's own intensity; white matter is 1.
    smooth_mm : float
        Root mean square displacement of the random smooth deformation.
    bias, gain, noise : float
        Standard deviation of the smooth bias field, of the log of the scanner's scale, and of the
        noise; white matter is 1.
    """

    region_sd: float = 0.08
    ventricle_sd: float = 0.15
    side_correlation: float = 0.5
    brain_correlation: float = 0.1
    shrinkage: float = 0.03
    ventricle_growth: float = 0.12
    head_sd: float = 0.012
    head_sex: float = 0.02
    intensity_sd: float = 0.01
    smooth_mm: float = 0.8
    bias: float = 0.03
    gain: float = 0.03
    noise: float = 0.03

    def __post_init__(self) -> None:
        for part in fields(self):
            high = 0.95 if part.name.endswith("correlation") else 5
            check_range(part.name, getattr(self, part.name), low=0, high=high)

    @classmethod
    def split(cls, options: dict[str, Any]) -> tuple[ImageModel, dict[str, Any]]:
        """Return the model that some options describe, and the other options."""
        own = {part.name for part in fields(cls)}
        mine = {name: value for name, value in options.items() if name in own}
        return cls(**mine), {k: v for k, v in options.items() if k not in own}

    def spread(self, regions: tuple[str, ...]) -> Float64[np.ndarray, " regions"]:
        """Standard deviation of each region's own variation."""
        return np.array(
            [self.ventricle_sd if is_fluid(name) else self.region_sd for name in regions],
            np.float64,
        )

    def per_decade(self, regions: tuple[str, ...]) -> Float64[np.ndarray, " regions"]:
        """Change of each log-volume per decade of age."""
        return np.array(
            [self.ventricle_growth if is_fluid(name) else -self.shrinkage for name in regions],
            np.float64,
        )


def is_fluid(region: str) -> bool:
    """Whether a region is filled with fluid, by its name."""
    return any(word in region.lower() for word in ("ventricle", "latvent", "csf"))


class Renderer:
    """Draws one person after the other from a template.

    Parameters
    ----------
    warps : Warps
    model : ImageModel
    """

    def __init__(self, warps: Warps, model: ImageModel) -> None:
        from scipy import ndimage

        self.warps, self.model = warps, model
        values = warps.template.values
        self.spline = ndimage.spline_filter(values.astype(np.float64), 3).astype(np.float32)
        self.mask = warps.template.mask.ravel().astype(np.float32)
        self.centre = np.array(ndimage.center_of_mass(self.mask.reshape(values.shape)))
        self.coarse = [_knots(warps, WARP_KNOTS, shift) for shift in (0.0, 0.5)]
        self.smooth = [_knots(warps, BIAS_KNOTS, 0.0)]

    def render(
        self,
        log_volumes: Float64[np.ndarray, " regions"],
        intensities: Float64[np.ndarray, " regions"],
        head: float,
        rng: np.random.Generator,
    ) -> tuple[Float32[np.ndarray, "x y z"], Float64[np.ndarray, " regions"]]:
        """Draw one brain.

        Parameters
        ----------
        log_volumes : (regions,) float array
            Over the template's.
        intensities : (regions,) float array
            Added to each region; white matter is 1.
        head : float
            Logarithm of head size, a length.
        rng : numpy Generator

        Returns
        -------
        image : (x, y, z) float32 array
            0 outside the brain.
        volumes : (regions,) float array
            As the image shows them. Unit: microlitres (cubic millimetres).
        """
        from scipy import ndimage

        warp = self._warp(log_volumes, self._nuisance(head, rng))
        grid = self.warps.template.grid
        seen = ndimage.map_coordinates(self.spline, warp.where, order=3, prefilter=False)
        added = (self.warps.template.shares.T @ intensities).astype(np.float32)
        seen += (warp.weights * added[warp.corners]).sum(axis=0)
        inside = (warp.weights * self.mask[warp.corners]).sum(axis=0) > 0.5
        seen *= self._scanner(rng)
        seen += self.model.noise * rng.standard_normal(len(seen), dtype=np.float32)
        image = np.zeros(int(np.prod(grid)), np.float32)
        image[self.warps.voxels] = np.where(inside, np.maximum(seen, 0.01), 0)
        return image.reshape(grid), warp.volumes * self.warps.template.zoom**3

    def _warp(self, log_volumes: np.ndarray, nuisance: np.ndarray) -> Warp:
        """Find a warp; somebody at the edge of the possible is drawn in by steps of 15 %."""
        for _ in range(SMALLER - 1):
            with contextlib.suppress(DegenerateError):
                return solve_warp(self.warps, log_volumes, nuisance)
            log_volumes = 0.85 * log_volumes
        return solve_warp(self.warps, log_volumes, nuisance)

    def _nuisance(self, head: float, rng: np.random.Generator) -> Float32[np.ndarray, "3 points"]:
        """Displacement in voxels: head size, and a random smooth field."""
        from_centre: np.ndarray = self.warps.points - self.centre[:, None].astype(np.float32)
        scale = self.model.smooth_mm / self.warps.template.zoom
        wobble = np.stack([self._field(self.coarse, rng) for _ in range(3)])
        return np.asarray(from_centre * np.float32(np.expm1(-head)) + np.float32(scale) * wobble)

    def _scanner(self, rng: np.random.Generator) -> Float32[np.ndarray, " points"]:
        """Factor of the scanner: its scale and its bias field."""
        gain = self.model.gain * rng.standard_normal()
        bias = np.float32(self.model.bias) * self._field(self.smooth, rng)
        return np.asarray(np.exp(np.float32(gain) + bias))

    def _field(
        self, lattices: list[list[np.ndarray]], rng: np.random.Generator
    ) -> Float32[np.ndarray, " points"]:
        """Draw a random smooth field of variance about 1 at the voxels of each lattice."""
        knots = rng.standard_normal([b.shape[1] for b in lattices[0]]).astype(np.float32)
        parts = []
        for bases in lattices:
            field = np.einsum("abc,zc->abz", knots, bases[2])
            field = np.einsum("abz,yb->ayz", field, bases[1])
            full = bases[0] @ field.reshape(len(field), -1)
            parts.append(full.ravel()[self.warps.voxels])
        return np.concatenate(parts)


def _knots(warps: Warps, spacing: float, shift: float) -> list[np.ndarray]:
    """Cubic B-splines on knots ``spacing`` mm apart, along each axis, of unit mean square."""
    bases = []
    for n in warps.template.grid:
        step = spacing / warps.template.zoom
        knots = np.arange(-2, n / step + 3)
        t = np.abs((np.arange(n)[:, None] + shift) / step - knots)
        basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6)
        bases.append((basis / np.sqrt((basis**2).sum(axis=1).mean())).astype(np.float32))
    return bases

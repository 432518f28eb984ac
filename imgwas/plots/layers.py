"""Volumes as layers: turned to the right, the front and up, and placed in millimetres.

Volumes on different grids lie on top of each other without resampling, because every layer is drawn
where its affine says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from imgwas.errors import DegenerateError, InconsistentError, MalformedError, UsageError, explain
from imgwas.images.nifti import Volume
from imgwas.images.space import Space, reorient, resample
from imgwas.types import Atlas, BrainMap

LETTERS = ("x", "y", "z")
#: Affines turned by more than this (about a degree) are resampled to straight axes for display.
OBLIQUE = 0.02


@runtime_checkable
class InSpace(Protocol):
    """An image that knows where it is: a ``Volume``, a ``BrainMap``."""

    @property
    def values(self) -> np.ndarray: ...  # noqa: D102
    @property
    def affine(self) -> np.ndarray: ...  # noqa: D102


@dataclass(frozen=True)
class Layer:
    """Values on straight axes that grow to the right, to the front and up.

    Parameters
    ----------
    values : (x, y, z) float32 array
    origin : (3,) array
        Centre of the first voxel, in mm.
    zooms : (3,) array
        Voxel sizes in mm.
    """

    values: np.ndarray
    origin: np.ndarray
    zooms: np.ndarray

    def index(self, axis: int, place: float) -> int | None:
        """Return the slice nearest to a place in mm, or None outside."""
        number = round((place - self.origin[axis]) / self.zooms[axis])
        return number if 0 <= number < self.values.shape[axis] else None

    def span(self, axis: int) -> tuple[float, float]:
        """Outer edges of the first and the last voxel, in mm."""
        low = self.origin[axis] - self.zooms[axis] / 2
        return float(low), float(low + self.zooms[axis] * self.values.shape[axis])

    def place_of(self, index: Sequence[int]) -> tuple[float, float, float]:
        """Centre of a voxel in mm."""
        x, y, z = self.origin + self.zooms * np.asarray(index)
        return float(x), float(y), float(z)


def layer_of(values: np.ndarray, affine: np.ndarray, *, order: int = 1) -> Layer:
    """Turn a volume of any orientation for display.

    Parameters
    ----------
    values : (x, y, z) array
    affine : (4, 4) array
        Voxel indices to millimetres, RAS+. Swapped and flipped axes cost nothing; oblique ones are
        interpolated.
    order : {0, 1}
        Nearest voxel for labels and masks, trilinear for the rest.
    """
    affine = np.asarray(affine, np.float64)
    if values.ndim != 3:
        raise UsageError(explain(f"an image to draw has shape {values.shape}", expected="3 axes"))
    if (
        affine.shape != (4, 4)
        or not np.isfinite(affine).all()
        or (abs(np.linalg.det(affine[:3, :3])) < 1e-9)
    ):
        raise MalformedError(
            explain("the affine cannot say where the voxels are", where=f"{affine.tolist()}",
                    expected="A (4, 4) matrix from voxels to millimetres that can be inverted")
        )  # fmt: skip
    volume = reorient(Volume(np.asarray(values, np.float32), affine), "RAS")
    zooms = np.linalg.norm(volume.affine[:3, :3], axis=0)
    if np.abs(volume.affine[:3, :3] / zooms - np.eye(3)).max() > OBLIQUE:
        volume = resample(volume, _straight(volume, zooms), order=order)
    return Layer(volume.values, volume.affine[:3, 3], zooms)


def _straight(volume: Volume, zooms: np.ndarray) -> Space:
    """Lattice with straight axes around an oblique volume."""
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in volume.values.shape])).reshape(3, -1)
    corners = volume.affine[:3, :3] @ ends + volume.affine[:3, 3:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    grid = np.ceil((high - low) / zooms - 1e-6).astype(int) + 1
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = low
    return Space(tuple(int(n) for n in grid), affine)


def map_layer(brain_map: BrainMap) -> Layer:
    """Return the values of a map for display; refuse what is not finite inside its mask."""
    if brain_map.mask.shape != brain_map.values.shape:
        raise InconsistentError(
            explain(f"the map {brain_map.name!r} has grid {brain_map.values.shape}",
                    expected=f"Its mask has {brain_map.mask.shape}")
        )  # fmt: skip
    inside = np.where(brain_map.mask, brain_map.values, np.float32(0))
    broken = int((~np.isfinite(inside)).sum())
    if broken:
        raise DegenerateError(
            explain(f"the map {brain_map.name!r} holds {broken:,} values that are not finite",
                    expected="Numbers inside the mask")
        )  # fmt: skip
    return layer_of(inside, brain_map.affine)


def beside(image: InSpace | np.ndarray | None, partner: InSpace, name: str) -> Layer | None:
    """Turn a background for display: an array on the partner's grid, or an image with an affine.

    Raises
    ------
    InconsistentError
        If an array has another grid, or an image lies elsewhere in space.
    """
    if image is None:
        return None
    if isinstance(image, np.ndarray):
        check_grid(image, partner.values.shape, name)
        return layer_of(image, partner.affine)
    found = layer_of(image.values, image.affine)
    _check_overlap(found, layer_of(partner.values, partner.affine), name)
    return found


def check_grid(values: np.ndarray, grid: Sequence[int], name: str) -> None:
    """Refuse an array that is not on the grid it is drawn on."""
    if values.shape != tuple(grid):
        raise InconsistentError(
            explain(f"the {name} has grid {values.shape}", expected=f"The map has {tuple(grid)}",
                    do="Resample it, or give it with its own affine")
        )  # fmt: skip


def _check_overlap(found: Layer, partner: Layer, name: str) -> None:
    shared = 1.0
    for axis in range(3):
        (a, b), (c, d) = found.span(axis), partner.span(axis)
        shared *= max(0.0, min(b, d) - max(a, c)) / min(b - a, d - c)
    if shared < 0.25:
        spans = ", ".join(f"{LETTERS[i]} {found.span(i)[0]:.0f} to {found.span(i)[1]:.0f} mm"
                          for i in range(3))  # fmt: skip
        raise InconsistentError(
            explain(f"the {name} lies elsewhere than the map ({shared:.0%} is shared)",
                    where=f"It covers {spans}", do="Register both to one space")
        )  # fmt: skip


def contour_layers(contour: Atlas | np.ndarray | None, partner: InSpace) -> tuple[Layer, ...]:
    """One mask for each region whose outline is drawn."""
    if contour is None:
        return ()
    if isinstance(contour, Atlas):
        labels, affine = contour.labels, contour.affine
        _check_overlap(layer_of(labels, affine, order=0),
                       layer_of(partner.values, partner.affine), "atlas")  # fmt: skip
    else:
        check_grid(contour, partner.values.shape, "contour")
        labels, affine = contour, partner.affine
    whole = layer_of(labels, affine, order=0)
    numbers = [n for n in np.unique(whole.values) if n != 0]
    return tuple(replace(whole, values=(whole.values == n).astype(np.float32)) for n in numbers)

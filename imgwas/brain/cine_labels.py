"""Regions of cines: an own label image on their grid, which may move with the beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgwas.brain.atlas_tables import read_names
from imgwas.brain.volume_change import VolumeReader
from imgwas.errors import InconsistentError, MalformedError, explain
from imgwas.images.nifti import read_volume
from imgwas.shapes import Float64
from imgwas.types import Atlas


def read_cine_labels(
    path: str | Path,
    names: str | Path | None,
    grid: tuple[int, ...],
    affine: Float64[np.ndarray, "4 4"],
) -> Atlas:
    """Read regions of a cine, such as the chambers of the average heart.

    Parameters
    ----------
    path : path
        NIfTI of whole numbers, 0 for no region, on the grid of the cines; one frame stands for all.
    names : path, optional
        Names of the numbers, as for an atlas; without any regions are called ``region 1``.
    grid : tuple of int
        (x, y, slices, frames) or (x, y, frames) of the cines.
    affine : (4, 4) float array
        Of the cines.

    Raises
    ------
    MalformedError
        If the image holds other than whole numbers, or no region.
    InconsistentError
        If it is on another grid.
    """
    values = np.asarray(read_volume(Path(path), dimensions=(2, 3, 4)).values)
    still = values.reshape(*values.shape, *[1] * (len(grid) - values.ndim))
    if any(a not in (b, 1) for a, b in zip(still.shape, grid, strict=False)) or (
        still.ndim != len(grid) or still.shape[:2] != tuple(grid[:2])
    ):
        raise InconsistentError(
            explain(
                f"{path} has the grid {'x'.join(map(str, values.shape))}",
                expected=f"{'x'.join(map(str, grid))}, as the cines, or one frame of it",
            )
        )
    labels = np.broadcast_to(still, grid).astype(np.int32)
    if (labels != np.broadcast_to(still, grid)).any() or labels.min() < 0 or not labels.any():
        raise MalformedError(
            explain(f"{path} holds no labels", expected="Whole numbers from 0, some above it")
        )
    numbers = [int(n) for n in np.unique(labels) if n]
    known = {} if names is None else read_names(names, numbers[-1]).names
    named = {n: known.get(n) or f"region {n}" for n in numbers}
    return Atlas(labels, affine, named, {}, Path(path).name)


def without_volumes(n_latents: int, n_regions: int) -> VolumeReader:
    """Read no volumes: regions of a moving picture are told by their intensities alone."""
    reasons = dict.fromkeys(range(n_regions), "volumes of moving regions are not read")
    return VolumeReader(
        np.zeros((n_latents, n_regions)), np.full(n_regions, np.nan), np.zeros(n_regions),
        np.zeros((n_regions, n_regions)), "none", reasons,
    )  # fmt: skip

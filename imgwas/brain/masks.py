"""Which voxels are brain, as far as a decoder is concerned."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.images.nifti import read_volume
from imgwas.images.space import Space, check_space, space_of
from imgwas.shapes import Bool
from imgwas.types import Images

#: Images that are enough to say where the brain is.
ENOUGH = 100


def mask_of_images(
    images: Images, *, share: float = 0.5, enough: int = ENOUGH, seed: int = 0
) -> Bool[np.ndarray, " *grid"]:
    """Voxels that are not zero in at least a share of some prepared images.

    Parameters
    ----------
    images : Images
        Zero outside the brain.
    share : float
    enough : int
        Images read, chosen at random.
    seed : int

    Raises
    ------
    DegenerateError
        If no voxel is left.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(images))[:enough]
    inside = np.zeros(images.grid)
    for row in rows.tolist():
        inside += images.read(row) != 0
    mask = np.asarray(inside >= share * len(rows))
    if not mask.any():
        raise DegenerateError(
            explain(f"no voxel is inside the brain in {share:.0%} of {len(rows)} images",
                    do="Were they prepared on one grid?")
        )  # fmt: skip
    return mask


def read_mask(path: str | Path, space: Space) -> Bool[np.ndarray, " *grid"]:
    """Read a mask; it must lie on the decoder's grid.

    Raises
    ------
    InconsistentError
        If it lies elsewhere; the message says how.
    DegenerateError
        If it is empty.
    """
    volume = read_volume(Path(path))
    check_space(space_of(volume), space, str(path))
    mask = np.asarray(volume.values > 0)
    if not mask.any():
        raise DegenerateError(explain(f"the mask {path} is empty"))
    return mask

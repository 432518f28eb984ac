"""Overlapping patches of a grid and back: 27 of 55 x 55 x 35 in seed 001."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from imgwas.errors import UsageError, explain
from imgwas.shapes import Float32


def patch_corners(
    grid: Sequence[int], patch: Sequence[int], steps: Sequence[int]
) -> list[tuple[int, int, int]]:
    """First voxel of every patch, evenly spread from one end of each axis to the other.

    Parameters
    ----------
    grid : sequence of int
        Voxels along x, y, z.
    patch : sequence of int
        Size of a patch.
    steps : sequence of int
        Patches along each axis.

    Returns
    -------
    list of (int, int, int)
        x slowest, z fastest.

    Raises
    ------
    UsageError
        If a patch is larger than the grid, or patches leave voxels uncovered.

    Examples
    --------
    >>> corners = patch_corners((155, 155, 95), (55, 55, 35), (3, 3, 3))
    >>> len(corners), corners[0], corners[1], corners[-1]
    (27, (0, 0, 0), (0, 0, 30), (100, 100, 60))
    """
    if not len(grid) == len(patch) == len(steps):
        raise UsageError(
            explain(
                f"a patch of {_by(patch)} with {_by(steps)} steps does not divide a grid of "
                f"{_by(grid)}",
                expected="Each needs one number an axis",
                do="--set patch=55,55,35 --set steps=3,3,3",
            )
        )
    starts = []
    for n, size, count in zip(grid, patch, steps, strict=True):
        if not 1 <= size <= n or count < 1:
            raise UsageError(
                explain(
                    f"patches of {_by(patch)} do not fit a grid of {_by(grid)}",
                    do="--set patch=... --set steps=...",
                )
            )
        last = n - size
        along = [round(i * last / (count - 1)) if count > 1 else last // 2 for i in range(count)]
        gaps = [b - a - size for a, b in itertools.pairwise(along)]
        if max(gaps, default=0) > 0 or (count == 1 and size < n):
            raise UsageError(
                explain(
                    f"{count} patches of {size} voxels leave voxels of an axis of {n} uncovered",
                    do="Use more steps or larger patches",
                )
            )
        starts.append(along)
    return [(x, y, z) for x, y, z in itertools.product(*starts)]


def cut_patches(
    volume: Float32[np.ndarray, " x y z"], corners: Sequence[tuple[int, int, int]],
    patch: Sequence[int],
) -> Float32[np.ndarray, " n px py pz"]:  # fmt: skip
    """Cut patches out of a volume."""
    a, b, c = patch
    return np.stack([volume[x : x + a, y : y + b, z : z + c] for x, y, z in corners])


def join_patches(
    patches: Float32[np.ndarray, " n px py pz"], corners: Sequence[tuple[int, int, int]],
    grid: Sequence[int],
) -> Float32[np.ndarray, " x y z"]:  # fmt: skip
    """Lay patches back into a volume; where they overlap, their mean; 0 where there is none."""
    total = np.zeros(tuple(grid), np.float64)
    times = np.zeros(tuple(grid), np.int32)
    for cube, (x, y, z) in zip(patches, corners, strict=True):
        a, b, c = cube.shape
        total[x : x + a, y : y + b, z : z + c] += cube
        times[x : x + a, y : y + b, z : z + c] += 1
    return np.asarray(total / np.maximum(times, 1), np.float32)


def _by(grid: Sequence[int]) -> str:
    return "x".join(map(str, grid))

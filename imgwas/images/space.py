"""Where voxels are: axes, grids, affines, and the one interpolation that moves values.

Every function takes and returns whole :class:`~imgwas.images.nifti.Volume` objects, so that values
never part from their affine. Millimetres are RAS+: x grows to the right, y to the front, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.images.nifti import Volume
from imgwas.shapes import Float64

#: Affines closer than this, in mm at the corners, are the same place.
SAME_PLACE = 1e-3


@dataclass(frozen=True)
class Space:
    """A lattice of voxels: ``grid`` and ``affine``."""

    grid: tuple[int, ...]
    affine: Float64[np.ndarray, "4 4"]

    @property
    def zooms(self) -> tuple[float, ...]:
        """Voxel sizes in mm."""
        return tuple(float(z) for z in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def axes(self) -> str:
        """Direction in which each axis grows, e.g. RAS or PSR."""
        import nibabel

        return "".join(nibabel.orientations.aff2axcodes(self.affine))


def space_of(volume: Volume) -> Space:
    """Return the lattice of a volume."""
    return Space(volume.grid, volume.affine)


def same_space(a: Space, b: Space) -> bool:
    """Whether two lattices have the same voxels in the same places."""
    return a.grid == b.grid and distance(a, b) < SAME_PLACE


def distance(a: Space, b: Space) -> float:
    """Largest distance, in mm, between where two affines put the corners of ``a``."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a.grid[:3]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.abs((a.affine - b.affine) @ corners).max())


def check_space(found: Space, wanted: Space, name: str) -> None:
    """Refuse a volume that is not on the expected lattice, saying how it differs.

    Raises
    ------
    InconsistentError
        With both grids, the distance, or the axes that are flipped.
    """
    if same_space(found, wanted):
        return
    if found.axes != wanted.axes:
        how = f"its axes grow towards {found.axes}, not {wanted.axes}"
    elif found.grid != wanted.grid:
        how = f"its grid is {_by(found.grid)}, not {_by(wanted.grid)}"
    else:
        how = f"its corners are up to {distance(found, wanted):.3g} mm elsewhere"
    raise InconsistentError(
        explain(
            f"{name} is not in the expected space: {how}",
            do="Bring it there with imgwas preprocess, or choose a network made for its space",
        )
    )


def _by(grid: Sequence[int]) -> str:
    return "x".join(map(str, grid))


def reorient(volume: Volume, axes: str = "RAS") -> Volume:
    """Swap and flip axes until they grow towards ``axes``; no value is interpolated."""
    import nibabel

    orientations = nibabel.orientations
    try:
        wanted = orientations.axcodes2ornt(axes)
    except (ValueError, KeyError) as error:
        raise UsageError(
            explain(f"axes is {axes!r}", expected="Three letters, e.g. RAS")
        ) from error
    change = orientations.ornt_transform(orientations.io_orientation(volume.affine), wanted)
    spatial = volume.grid[:3]
    values = orientations.apply_orientation(volume.values, change)
    affine = volume.affine @ orientations.inv_ornt_aff(change, spatial)
    return Volume(np.ascontiguousarray(values), affine)


def resample(volume: Volume, space: Space, *, order: int = 1, fill: float = 0.0) -> Volume:
    """Give a volume the voxels of ``space`` by interpolation.

    Parameters
    ----------
    volume : Volume
        3-D, or 4-D with frames last (each frame by itself).
    space : Space
        Lattice to fill.
    order : {0, 1, 3}
        Nearest voxel (labels and masks), trilinear, or cubic spline.
    fill : float
        Value outside the volume.
    """
    from scipy import ndimage

    if same_space(space_of(volume), space):
        return volume
    to_voxels = np.linalg.inv(volume.affine) @ space.affine
    grid = space.grid[:3]
    transform: Any = ndimage.affine_transform

    def one(values: np.ndarray) -> np.ndarray:
        moved = transform(
            values, to_voxels, output_shape=grid, order=order, mode="constant", cval=fill,
            prefilter=order > 1,
        )  # fmt: skip
        return np.asarray(moved, np.float32)

    if volume.values.ndim == 3:
        return Volume(one(volume.values), space.affine)
    frames = [one(volume.values[..., i]) for i in range(volume.values.shape[3])]
    return Volume(np.stack(frames, axis=-1), space.affine)


def with_voxels(space: Space, zooms: Sequence[float]) -> Space:
    """Return the lattice that covers the same box with voxels of another size, centred on it."""
    old = np.asarray(space.zooms)
    new = np.asarray(zooms, np.float64)
    if (new <= 0).any():
        raise UsageError(explain(f"voxel sizes are {list(zooms)} mm", expected="Above zero"))
    n = np.maximum(1, np.ceil(np.asarray(space.grid[:3]) * old / new - 1e-6)).astype(int)
    affine = space.affine.copy()
    affine[:3, :3] = affine[:3, :3] * (new / old)
    centre = space.affine @ np.array([*((np.asarray(space.grid[:3]) - 1) / 2), 1])
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ ((n - 1) / 2)
    return Space(tuple(int(v) for v in n), affine)


def crop_or_pad(
    volume: Volume, grid: Sequence[int], *, offset: Sequence[int] | None = None, fill: float = 0.0
) -> Volume:
    """Cut off or add voxels until the grid fits; centred unless ``offset`` says where it starts.

    ``offset`` is the first kept voxel of each axis and may be negative. Values are not changed
    and stay where they are in millimetres.
    """
    old = np.asarray(volume.grid[: len(grid)])
    new = np.asarray(grid, int)
    start = (old - new) // 2 if offset is None else np.asarray(offset, int)
    rest = volume.grid[len(grid) :]
    values = np.full((*new, *rest), fill, np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + new, old)
    if (low < high).all():
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        target = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
        values[target] = volume.values[source]
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, : len(start)][:, :3] @ start[:3]
    return Volume(values, affine)


def flirt_to_world(matrix: np.ndarray, source: Space, reference: Space) -> np.ndarray:
    """Turn an FSL FLIRT matrix into one that maps millimetres to millimetres.

    FLIRT counts in voxels times voxel size, and along x from the other end when the affine has a
    positive determinant.

    Parameters
    ----------
    matrix : (4, 4) float array
        As in the ``.mat`` file: source to reference.
    source, reference : Space
        The two images that FLIRT was run on, as they are in their files.

    Returns
    -------
    (4, 4) float array
        RAS+ millimetres of the source to RAS+ millimetres of the reference.

    References
    ----------
    .. [1] Jenkinson & Smith (2001), Medical Image Analysis 5:143; the FSL wiki, FLIRT FAQ.
    """
    to_fsl = _scaled_voxels(source) @ np.linalg.inv(source.affine)
    from_fsl = reference.affine @ np.linalg.inv(_scaled_voxels(reference))
    return np.asarray(from_fsl @ matrix @ to_fsl, np.float64)


def _scaled_voxels(space: Space) -> np.ndarray:
    """Voxel indices to FSL's coordinates."""
    scaled = np.diag([*space.zooms, 1.0])
    if np.linalg.det(space.affine[:3, :3]) > 0:
        flip = np.eye(4)
        flip[0, 0], flip[0, 3] = -1, space.grid[0] - 1
        scaled = scaled @ flip
    return scaled


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks, 2|A and B| / (|A| + |B|); NaN if both are empty."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else float("nan")

"""One image of a list, in a file or in a store."""

from __future__ import annotations

import numpy as np

from imgwas.images.listing import ImageFile
from imgwas.images.nifti import Volume, read_volume
from imgwas.images.steadily import read_steadily


def is_stored(file: ImageFile) -> bool:
    """Whether an image of a list lies in an HDF5 store."""
    return bool(file.member) and file.path.suffix in (".h5", ".hdf5")


def read_stored(file: ImageFile) -> Volume:
    """Read a series as a volume (x, y, slices, frames); it knows voxel sizes and no place."""
    from imgwas.images.store import read_cine

    cine = read_steadily(file.path, file.shown, lambda: read_cine(file))
    affine = np.diag([*(size if size > 0 else 1.0 for size in cine.spacing), 1.0])
    return Volume(np.ascontiguousarray(cine.values, np.float32), affine)


def read_image(file: ImageFile, *, dimensions: tuple[int, ...] = (3, 4)) -> Volume:
    """Read an image of a list, from NIfTI or from a store."""
    return read_stored(file) if is_stored(file) else read_volume(file, dimensions=dimensions)

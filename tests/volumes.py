"""Small NIfTI files for tests of the image room, written by nibabel or byte by byte."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np


def blob(grid: tuple[int, ...] = (10, 12, 9), seed: int = 0) -> np.ndarray:
    """A head: zero outside an ellipsoid, structured inside."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in grid], indexing="ij")
    inside = sum(a**2 for a in axes) < 0.8
    values = 100 + 40 * axes[0] + 20 * axes[1] * axes[2] + 5 * rng.standard_normal(grid)
    return np.where(inside, values, 0).astype(np.float32)


def write_nifti(
    path: Path, values: np.ndarray, affine: np.ndarray | None = None, **header: object
) -> Path:
    """Write an image; header fields are set as given, without any check."""
    affine = np.diag([2.0, 2, 2, 1]) if affine is None else affine
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, code=2)
    content = bytearray(image.to_bytes())
    for name, value in header.items():
        dtype, offset = nib.nifti1.header_dtype.fields[name][:2]
        content[offset : offset + dtype.itemsize] = np.array(value, dtype.base).tobytes()
    out = bytes(content)
    path.write_bytes(gzip.compress(out, 1) if path.name.endswith(".gz") else out)
    return path

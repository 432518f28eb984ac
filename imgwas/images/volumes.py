"""Images of a study on one grid: NIfTI files, a folder of prepared ones, or arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.checks import check_unique
from imgwas.errors import InconsistentError, MalformedError, OpenError, UsageError, explain
from imgwas.files import read_json
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.manifest import read_image_list
from imgwas.images.nifti import read_header, read_volume
from imgwas.images.space import Space, check_space, space_of
from imgwas.shapes import Float32, Float64
from imgwas.types import Images


class VolumeImages(Images):
    """NIfTI files that all lie on one lattice, read when asked for.

    Parameters
    ----------
    files : sequence of ImageFile
        One per person, or several visits: ids are then ``id`` repeated, see ``keys``.
    space : Space, optional
        Lattice that every file must have; by default that of the first.
    recipe : list, optional
        How the files were prepared, for the record.
    """

    def __init__(
        self, files: Sequence[ImageFile], *, space: Space | None = None, recipe: Any = None
    ) -> None:
        if not files:
            raise UsageError("the list names no image.")
        self.files = tuple(files)
        self.sample_ids = tuple(f.sample_id for f in files)
        check_unique("the list of images", self.sample_ids, error=InconsistentError)
        if space is None:
            header = read_header(files[0])
            space = Space(header.grid, header.affine)
        self.space, self.recipe = space, recipe
        self.grid, self.affine = space.grid, space.affine

    def read(self, index: int) -> Float32[np.ndarray, " *grid"]:
        """Return one person's volume."""
        file = self.files[index]
        volume = read_volume(file, dimensions=(len(self.grid),))
        check_space(space_of(volume), self.space, file.shown)
        return volume.values

    def fingerprint(self) -> dict[str, Any]:
        """Names, sizes and times of the files in one digest, and how they were prepared."""
        identity = hashlib.sha256()
        for file in self.files:
            try:
                status = file.path.stat()
                state = f"{status.st_size}\t{status.st_mtime_ns}"
            except OSError:  # told when the file is read
                state = "absent"
            line = f"{file.sample_id}\t{file.name}\t{state}\n"
            identity.update(line.encode("utf-8", "surrogateescape"))
        return {"n": len(self), "files": identity.hexdigest(), "recipe": self.recipe}


@dataclass(frozen=True, repr=False)
class ArrayImages(Images):
    """Images in memory: for simulations, tests and notebooks.

    Parameters
    ----------
    values : (samples, x, y, z) float32 array
    sample_ids : tuple of str
    affine : (4, 4) float array
        Voxel indices to millimetres.
    """

    values: Float32[np.ndarray, "samples ..."]
    sample_ids: tuple[str, ...]
    affine: Float64[np.ndarray, "4 4"] = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        if len(self.sample_ids) != len(self.values):
            raise InconsistentError(
                explain(
                    f"{len(self.values):,} images came with {len(self.sample_ids):,} sample ids"
                )
            )
        check_unique("the images", self.sample_ids, error=InconsistentError)
        if not np.isfinite(self.values).all():
            raise MalformedError("the images hold values that are not finite.")

    @property
    def grid(self) -> tuple[int, ...]:  # type: ignore[override]
        """Voxels along each axis."""
        return tuple(self.values.shape[1:])

    def read(self, index: int) -> Float32[np.ndarray, " *grid"]:
        """Return one person's volume."""
        volume: np.ndarray = self.values[index]
        return volume

    def fingerprint(self) -> dict[str, Any]:
        """Digest of values and ids."""
        digest = hashlib.sha256(np.ascontiguousarray(self.values).tobytes())
        digest.update("\n".join(self.sample_ids).encode("utf-8", "surrogateescape"))
        return {"n": len(self), "files": digest.hexdigest(), "recipe": None}


class SubsetImages(Images):
    """Some people of a study, in a given order."""

    def __init__(self, images: Images, rows: Sequence[int]) -> None:
        self.images, self.rows = images, tuple(int(i) for i in rows)
        self.sample_ids = tuple(images.sample_ids[i] for i in self.rows)
        self.grid, self.affine = images.grid, images.affine

    def read(self, index: int) -> Float32[np.ndarray, " *grid"]:
        """Return one person's volume."""
        return self.images.read(self.rows[index])

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the whole and digest of the choice."""
        chosen = hashlib.sha256("\n".join(self.sample_ids).encode("utf-8", "surrogateescape"))
        return {**self.images.fingerprint(), "n": len(self), "chosen": chosen.hexdigest()}


def open_images(path: str | Path, *, visit: str | None = None) -> Images:
    """Open images on one grid.

    Parameters
    ----------
    path : path
        A folder that ``imgwas preprocess`` wrote, a list of images (TSV), a cache folder, or a
        store (``.h5``).
    visit : str, optional
        Which visit to take where the list holds several.

    Returns
    -------
    Images

    Raises
    ------
    OpenError
        If nothing of the kind is there.
    InconsistentError
        If people have several images and ``visit`` does not choose, or grids differ.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise OpenError(explain(f"{path} does not exist"))
    if path.suffix in (".h5", ".hdf5"):
        from imgwas.images.store import StoreImages, images_from_store

        return StoreImages(_one_visit(images_from_store(path), visit))
    if path.is_dir() and (path / "cache.json").exists():
        from imgwas.images.cache import CachedImages

        return CachedImages(path)
    recipe = None
    if path.is_dir():
        if not (path / "images.tsv").exists():
            raise OpenError(
                explain(
                    f"{path} holds no images.tsv",
                    expected="A folder that imgwas preprocess finished is needed",
                    do="Run the same preprocess command again to finish it, or name a list",
                )
            )
        about = path / "prepare.json"
        recipe = read_json(about)["steps"] if about.exists() else None
        path = path / "images.tsv"
    return VolumeImages(_one_visit(read_image_list(path), visit).files, recipe=recipe)


def _one_visit(images: ImageList, visit: str | None) -> ImageList:
    if visit is not None:
        rows = [i for i, file in enumerate(images) if file.visit == visit]
        if not rows:
            known = ", ".join(sorted({file.visit or "(none)" for file in images})[:8])
            raise UsageError(
                explain(f"no image is of visit {visit!r}", expected=f"Visits: {known}")
            )
        return images.take(rows)
    if len(set(images.sample_ids)) < len(images):
        visits = ", ".join(sorted({file.visit or "(none)" for file in images})[:8])
        raise InconsistentError(
            explain(
                f"{len(images) - len(set(images.sample_ids)):,} people have several images",
                where=f"visits: {visits}",
                do="Choose one with --visit",
            )
        )
    return images

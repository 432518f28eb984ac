"""Cine series of many people in one HDF5 file, read one person at a time.

A series is the dataset ``subject/field/instance/primary_LAX_4Ch_transverse_0`` with the axes
(channel, time, slice, x, y), the layout of the published cardiac systems. x runs along the rows of
the picture (DICOM columns), y down its columns.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.errors import (
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    OpenError,
    RefusedError,
    UsageError,
    explain,
    first_ids,
    redact,
)
from imgwas.files import digest_of_array
from imgwas.images.listing import ImageFile, ImageList
from imgwas.shapes import Float32
from imgwas.types import Images

if TYPE_CHECKING:
    import h5py

logger = logging.getLogger(__name__)

#: Marks a file as ours and says in which order the axes run.
LAYOUT = {"imgwas_store": 1, "axes": "channel,time,slice,x,y"}
#: A series may have this many voxels; 50 frames of 256 x 256 have 3.3 million.
MAX_VOXELS = 512_000_000
_DEPTH = 4


def load_h5py() -> Any:
    """Import h5py, or say how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise MissingLibraryError(
            explain("HDF5 stores need h5py", do="pip install 'imgwas[hdf5]'")
        ) from error
    return h5py


@dataclass(frozen=True)
class Cine:
    """One series: what is stored of it, and nothing else.

    Parameters
    ----------
    values : (x, y, slices, frames) array
        Integers as they came, or float32.
    spacing : tuple of float
        Size of a voxel along x, y and between slices. Unit: mm; 0 is unknown.
    view : str
        ``4Ch``, ``2Ch``, ``3Ch``; any word for other series.
    series : str
        Tells two series apart: a digest, never an identifier of the scanner.
    frame_times : tuple of float
        Time of each frame after the R wave. Unit: milliseconds; empty if unknown.
    """

    values: np.ndarray
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    view: str = "4Ch"
    series: str = ""
    frame_times: tuple[float, ...] = ()


def series_name(view: str, index: int = 0) -> str:
    """Name of the dataset of a view: ``primary_LAX_4Ch_transverse_0``."""
    return f"primary_LAX_{view}_transverse_{index}"


def open_store(path: Path) -> h5py.File:
    """Open a store for reading.

    Raises
    ------
    OpenError
        If it is absent.
    MalformedError
        If it is no HDF5 file, or was cut short.
    """
    h5py = load_h5py()
    if not path.is_file():
        raise OpenError(explain(f"{path} does not exist", expected="An HDF5 store"))
    try:
        return h5py.File(path, "r")
    except OSError as error:
        what = "was cut short" if "truncated" in str(error) else "is no HDF5 file, or damaged"
        raise MalformedError(
            explain(f"{path} {what}", do="Copy it again, or run imgwas images to-store again")
        ) from error


def images_from_store(
    path: str | Path,
    *,
    view: str | None = None,
    field: str | None = None,
    series: str | None = None,
) -> ImageList:
    """List the series of one kind in a store.

    Parameters
    ----------
    path : path
        HDF5 file with keys ``subject/field/instance/series``.
    view : str, optional
        ``4Ch`` means the dataset ``primary_LAX_4Ch_transverse_0``.
    field : str, optional
        Needed when the store holds several.
    series : str, optional
        Name of the dataset where it is another one.

    Returns
    -------
    ImageList
        Sorted by id and instance; ``member`` is the key, the visit is the instance.

    Raises
    ------
    UsageError
        If the store holds several kinds of series and none was chosen, or not the chosen one.
    RefusedError
        If a key links to another file.
    MalformedError
        If the file is damaged or of another layout.
    """
    path = Path(path).expanduser()
    wanted = series or (series_name(view) if view else None)
    with open_store(path) as store:
        keys = list(iterate_keys(store, path))
    if not keys:
        raise MalformedError(
            explain(f"{path} holds no series", expected="Keys subject/field/instance/series")
        )
    kinds = Counter((key.split("/")[1], key.split("/")[3]) for key in keys)
    chosen = [k for k in kinds if field in (None, k[0]) and wanted in (None, k[1])]
    if len(chosen) != 1:
        there = "; ".join(f"field {f}, {s} ({n:,})" for (f, s), n in kinds.most_common(8))
        problem = "several kinds of series" if chosen else "no such series"
        raise UsageError(
            explain(
                f"{path} holds {problem}", where=f"There are {there}", do="See --view and --field"
            )
        )
    files = [_listed(path, key) for key in keys if tuple(key.split("/")[1::2]) == chosen[0]]
    files.sort(key=lambda f: (f.sample_id, f.visit))
    return ImageList(tuple(files))


def _listed(path: Path, key: str) -> ImageFile:
    subject, _, instance, _ = key.split("/")
    return ImageFile(subject, path, member=key, visit=instance)


def iterate_keys(store: h5py.File, path: Path) -> Iterator[str]:
    """Keys of all series; groups and datasets are looked up link by link."""
    level = [""]
    for depth in range(_DEPTH):
        following = []
        for group in level:
            node = store[group] if group else store
            if not hasattr(node, "keys"):
                raise _other_layout(path)
            for name in node:
                _check_link(node, name, path)
                following.append(f"{group}/{name}" if group else name)
        level = following
        if depth == _DEPTH - 1:
            for key in level:
                if hasattr(store[key], "keys"):
                    raise _other_layout(path)
    yield from level


def _other_layout(path: Path) -> MalformedError:
    return MalformedError(
        explain(f"{path} has another layout", expected="Keys subject/field/instance/series")
    )


def _check_link(group: h5py.Group, name: str, path: Path) -> None:
    """Refuse links to other files and soft links: a store is whole by itself."""
    h5py = load_h5py()
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise RefusedError(
            explain(
                f"{path} holds a key that links elsewhere",
                expected="Series that lie in the store itself",
                do="Ask where the file came from",
            )
        )


def read_series(store: h5py.File, key: str, name: str) -> Cine:
    """Read one series of an open store, as it was stored.

    Raises
    ------
    MalformedError
        If it is absent, damaged, of another shape, complex, or holds values that are not finite.
    RefusedError
        If its values lie in another file.
    """
    try:
        dataset = _dataset(store, key, name)
        values = dataset[()]
        attributes = dict(dataset.attrs)
    except (OSError, RuntimeError) as error:
        raise _damaged(name) from error
    if str(attributes.get("sha256", "")) not in ("", digest_of_array(values)):
        raise _damaged(name)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise MalformedError(explain(f"{name} holds values that are not finite"))
    spacing = np.asarray(attributes.get("spacing", (0.0, 0.0, 0.0)), np.float64)
    times = np.asarray(attributes.get("frame_times", ()), np.float64)
    return Cine(
        np.transpose(values[0], (2, 3, 1, 0)),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        view=str(attributes.get("view", "")),
        series=str(attributes.get("series_id", "")),
        frame_times=tuple(float(t) for t in times),
    )


def _damaged(name: str) -> MalformedError:
    return MalformedError(f"{name} is damaged in the store. Run imgwas images to-store again.")


def _dataset(store: h5py.File, key: str, name: str) -> h5py.Dataset:
    """Look one series up and check what can be checked before its values are read."""
    node: Any = store
    for part in key.split("/"):
        if part not in node:
            raise MalformedError(explain(f"{name} is no longer in the store"))
        _check_link(node, part, Path(store.filename))
        node = node[part]
    shape = getattr(node, "shape", None)
    if shape is None or len(shape) != 5 or 0 in shape:
        raise MalformedError(
            explain(f"{name} has shape {shape}", expected="(channel, time, slice, x, y)")
        )
    if node.external or node.is_virtual:
        raise RefusedError(explain(f"the values of {name} lie in another file"))
    if node.dtype.kind not in "iuf":
        kind = "complex values" if node.dtype.kind == "c" else f"values of type {node.dtype}"
        raise MalformedError(explain(f"{name} holds {kind}", expected="Real numbers"))
    if shape[0] != 1:
        raise MalformedError(explain(f"{name} has {shape[0]} channels", expected="One channel"))
    if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise MalformedError(explain(f"{name} claims {shape} voxels", expected="A cine series"))
    return node


def read_cine(file: ImageFile) -> Cine:
    """Read one series of a list that :func:`images_from_store` made, on whatever grid it is."""
    name = _masked(file)
    with open_store(file.path) as store:
        return read_series(store, file.member, name)


def _masked(file: ImageFile) -> str:
    """Name a series for messages without whose it is."""
    subject, _, rest = file.member.partition("/")
    return f"{file.path.name}:{redact(subject)}/{rest}"


class StoreImages(Images):
    """Series of a store on one grid, read when asked for.

    The file is opened once per process and never sent to another.

    Parameters
    ----------
    images : ImageList
        Of :func:`images_from_store`, perhaps of several stores.

    Attributes
    ----------
    sample_ids : tuple of str
        :attr:`ImageList.row_ids`.
    grid : tuple of int
        (x, y, slices, frames); (x, y, slices) of series with one frame.
    affine : (4, 4) float array
        Voxel sizes only: every long-axis view lies in a plane of its own.

    Raises
    ------
    InconsistentError
        If grids or voxel sizes differ; the grids are counted.
    """

    def __init__(self, images: ImageList) -> None:
        if not len(images):
            raise InconsistentError("the list names no series of a store.")
        self.files = images.files
        self.sample_ids = images.row_ids
        self._handles: dict[Path, h5py.File] = {}
        self._pid = os.getpid()
        shapes, spacings = zip(*(self._describe(file) for file in self.files), strict=True)
        shape = _one_grid(shapes, images)
        self.grid = shape if shape[3] > 1 else shape[:3]
        self.affine = _affine(spacings, images)

    def read(self, index: int) -> Float32[np.ndarray, " *grid"]:
        """Return one person's series of shape ``grid`` as float32."""
        file = self.files[index]
        cine = read_series(self._store(file.path), file.member, _masked(file))
        values = cine.values if len(self.grid) == 4 else cine.values[..., 0]
        if values.shape != self.grid:
            raise MalformedError(
                explain(
                    f"{_masked(file)} has grid {values.shape}", expected=f"{self.grid} as before"
                )
            )
        return np.ascontiguousarray(values, np.float32)

    def fingerprint(self) -> dict[str, Any]:
        """Identity of the stores and of the series in them."""
        digest = hashlib.sha256()
        for file in self.files:
            dataset = self._store(file.path)[file.member]
            content = str(dataset.attrs.get("sha256", ""))
            digest.update(f"{file.member}\t{content}\n".encode())
        stores = []
        for path in sorted({file.path for file in self.files}):
            status = path.stat()
            stores.append(
                {"file": path.name, "bytes": status.st_size, "modified": status.st_mtime_ns}
            )
        return {"stores": stores, "n_series": len(self), "series": digest.hexdigest()}

    def _describe(self, file: ImageFile) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Grid and voxel size of a series, without its values."""
        dataset = _dataset(self._store(file.path), file.member, _masked(file))
        _, frames, slices, x, y = dataset.shape
        spacing = np.asarray(dataset.attrs.get("spacing", (0.0, 0.0, 0.0)), np.float64)
        return (x, y, slices, frames), tuple(float(s) for s in spacing)

    def _store(self, path: Path) -> h5py.File:
        if os.getpid() != self._pid:  # a forked process must not share the parent's file
            self._handles, self._pid = {}, os.getpid()
        if path not in self._handles:
            self._handles[path] = open_store(path)
        return self._handles[path]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": {}}


def _one_grid(shapes: Sequence[tuple[int, ...]], images: ImageList) -> tuple[int, ...]:
    counts = Counter(shapes)
    if len(counts) > 1:
        named = ", ".join(f"{shape} ({n:,})" for shape, n in counts.most_common(5))
        usual = counts.most_common(1)[0][0]
        others = [i for i, s in zip(images.sample_ids, shapes, strict=True) if s != usual]
        raise InconsistentError(
            explain(
                f"the series are on {len(counts)} grids (x, y, slices, frames): {named}",
                expected="One grid for everyone",
                where=f"not on the commonest {first_ids(others)}",
                do="Crop them to the heart first: imgwas preprocess",
            )
        )
    return shapes[0]


def _affine(spacings: Sequence[tuple[float, ...]], images: ImageList) -> np.ndarray:
    table = np.array(spacings)
    far = (np.abs(table - table[0]) > 1e-3).any(axis=1)
    if far.any():
        others = [i for i, odd in zip(images.sample_ids, far, strict=True) if odd]
        raise InconsistentError(
            explain(
                f"{len(others):,} series have other voxel sizes than {spacings[0]} mm",
                expected="One voxel size for everyone",
                where=first_ids(others),
                do="Resample them first: imgwas preprocess",
            )
        )
    sizes = [s if s > 0 else 1.0 for s in spacings[0]]
    return np.diag([*sizes, 1.0])

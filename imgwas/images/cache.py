"""A cache of prepared images: one flat array on disk, each volume at its place.

Training reads every volume once an epoch. Unpacking NIfTI each time costs more than a small
network does; from a flat file it is one read of known length, so 40,000 volumes train from a disk
with the memory of a few batches. Half precision keeps three digits, halves the disk, and is
refused where it would overflow.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from imgwas.cluster import compute_each
from imgwas.errors import DegenerateError, ImgwasError, InconsistentError, MalformedError, explain
from imgwas.files import publish_bytes, publish_json, read_json, write_error
from imgwas.locks import locked, sweep
from imgwas.shapes import Float32
from imgwas.types import Images

ABOUT, VALUES, PROGRESS = "cache.json", "values.bin", "filled.bin"


class CachedImages(Images):
    """Images read from a cache that :func:`build_cache` finished."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            about = read_json(self.folder / ABOUT)
        except (OSError, ValueError) as error:
            raise MalformedError(
                explain(f"{self.folder} holds no finished cache", do="Build it again")
            ) from error
        self.about = about
        self.sample_ids = tuple(about["sample_ids"])
        self.grid = tuple(about["grid"])
        self.affine = np.asarray(about["affine"], np.float64)
        self.dtype = np.dtype(about["dtype"])
        expected = len(self) * int(np.prod(self.grid)) * self.dtype.itemsize
        found = (self.folder / VALUES).stat().st_size
        if found != expected:
            raise MalformedError(
                explain(
                    f"{self.folder / VALUES} has {found:,} bytes",
                    expected=f"{expected:,} are needed",
                    do="Remove the folder and build it again",
                )
            )
        self._values: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """The mapped array (samples, x, y, z), opened in the process that asks."""
        if self._values is None:
            shape = (len(self), *self.grid)
            self._values = np.memmap(self.folder / VALUES, self.dtype, "r", shape=shape)
        return self._values

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": None}

    def read(self, index: int) -> Float32[np.ndarray, " *grid"]:
        """Return one person's volume."""
        n = int(np.prod(self.grid))
        path = self.folder / VALUES
        stored = np.fromfile(path, self.dtype, n, offset=index * n * self.dtype.itemsize)
        if len(stored) < n:
            raise MalformedError(explain(f"{path} was cut short", do="Build the cache again"))
        return stored.astype(np.float32).reshape(self.grid)

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of what was cached."""
        return dict(self.about["fingerprint"])


def build_cache(
    images: Images,
    folder: str | Path,
    *,
    dtype: str = "float16",
    threads: int = 1,
    progress: Callable[[int], object] | None = None,
) -> CachedImages:
    """Write a cache, or finish one that was interrupted; an up-to-date one is only opened.

    Parameters
    ----------
    images : Images
        What to cache.
    folder : path
        Where; it holds people's images, keep it private.
    dtype : {"float16", "float32"}
        Half precision has 11 bits; values above 65,504 are refused.
    threads : int
        Images read at a time.
    progress : callable, optional
        Called with 1 after each image.

    Raises
    ------
    InconsistentError
        If the folder caches other images.
    DegenerateError
        If a value does not fit half precision.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="ascii")
    except OSError as error:
        raise write_error(folder, error) from error
    with locked(folder):
        sweep(folder)
        about = _describe(images, dtype)
        if (folder / ABOUT).exists():
            return _open_same(folder, about)
        _fill(images, folder, np.dtype(dtype), about, threads, progress)
        publish_json(folder / ABOUT, about)
        (folder / PROGRESS).unlink(missing_ok=True)
    return CachedImages(folder)


def _describe(images: Images, dtype: str) -> dict[str, Any]:
    return {
        "sample_ids": list(images.sample_ids),
        "grid": list(images.grid),
        "affine": images.affine.tolist(),
        "dtype": dtype,
        "fingerprint": images.fingerprint(),
    }


def _open_same(folder: Path, about: dict[str, Any]) -> CachedImages:
    before = read_json(folder / ABOUT)
    if before != about:
        differs = ", ".join(key for key in about if before.get(key) != about[key])
        raise InconsistentError(
            explain(
                f"{folder} caches other images (differing: {differs})",
                do="Choose another folder or remove this one",
            )
        )
    return CachedImages(folder)


def _fill(
    images: Images, folder: Path, dtype: np.dtype, about: dict[str, Any], threads: int,
    progress: Callable[[int], object] | None,
) -> None:  # fmt: skip
    """Write every volume at its place; a file of flags says which are safely there."""
    n, size = len(images), int(np.prod(images.grid)) * dtype.itemsize
    ledger = _Ledger(folder / PROGRESS, n, about)
    path = folder / VALUES
    try:
        with path.open("r+b" if path.exists() else "w+b") as stream:
            _reserve(stream, n * size)
            todo = np.flatnonzero(~ledger.flags).tolist()
            if progress is not None:
                progress(n - len(todo))
            each = compute_each(_packed, todo, threads=threads, images=images, dtype=dtype)
            for index, content in each:
                if isinstance(content, Exception):
                    raise content
                stream.seek(todo[index] * size)
                stream.write(content)
                ledger.flags[todo[index]] = True
                if index % 64 == 63:
                    ledger.keep(stream)
                if progress is not None:
                    progress(1)
            ledger.keep(stream)
    except OSError as error:
        if isinstance(error, ImgwasError):
            raise
        raise write_error(path, error) from error


def _packed(row: int, *, images: Images, dtype: np.dtype) -> bytes:
    values = images.read(row)
    if dtype == np.float16 and np.abs(values).max() > 65_504:
        raise DegenerateError(
            explain(
                f"image {row + 1} holds values above 65,504",
                do="Scale intensities first (step zscore), or cache with float32",
            )
        )
    return np.ascontiguousarray(values, dtype).tobytes()


class _Ledger:
    """Which volumes are safely on disk, for one set of images."""

    def __init__(self, path: Path, n: int, about: dict[str, Any]) -> None:
        self.path = path
        self.identity = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).digest()
        self.flags = np.zeros(n, bool)
        if path.exists():
            content = path.read_bytes()
            if len(content) == len(self.identity) + n and content.startswith(self.identity):
                self.flags = np.frombuffer(content[len(self.identity) :], bool).copy()

    def keep(self, stream: IO[bytes]) -> None:
        """Make what is written survive a crash, then say so."""
        stream.flush()
        os.fsync(stream.fileno())
        publish_bytes(self.path, self.identity + self.flags.tobytes())


def _reserve(stream: IO[bytes], n_bytes: int) -> None:
    """Claim the disk now rather than fail half-way."""
    if os.fstat(stream.fileno()).st_size != n_bytes:
        stream.truncate(n_bytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, n_bytes)

"""Writing a store: one whole file per series first, one store of all of them at the end.

A run that is killed leaves only whole series behind; the next run takes them as they are. The store
itself appears when it is complete.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from imgwas.cluster import compute_each
from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    UsageError,
    WriteError,
    explain,
    redact,
)
from imgwas.files import digest_of_array, publish, write_error
from imgwas.images.checking import check_label
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.store import LAYOUT, Cine, iterate_keys, load_h5py, open_store, series_name
from imgwas.locks import empty, locked

if TYPE_CHECKING:
    import h5py
    from distributed import Client

logger = logging.getLogger(__name__)

#: Errors that every series would meet: the run stops at once.
FATAL = (UsageError, MissingLibraryError, WriteError)
#: Bytes of a compressed piece: a few frames.
_CHUNK = 1_000_000


@dataclass(frozen=True)
class Failure:
    """An image that could not be stored, and why."""

    sample_id: str
    visit: str
    view: str
    reason: str


@dataclass(frozen=True)
class StoreReport:
    """What writing a store came to: counts of series, and failures."""

    n_written: int
    n_present: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class _Job:
    """One series to store: where it comes from, its key, and its file until the store is whole."""

    file: ImageFile
    view: str
    key: str
    part: Path


def write_store(
    path: str | Path,
    images: ImageList,
    read: Callable[[ImageFile, str], Cine],
    *,
    views: Sequence[str] = ("4Ch",),
    field: str = "20208",
    settings: Mapping[str, Any] | None = None,
    client: Client | None = None,
    max_failures: float = 0.1,
    progress: Callable[[int], object] | None = None,
) -> StoreReport:
    """Read series and store them; the same call continues a killed one.

    Parameters
    ----------
    path : path
        The store; its folder must exist. Until it is complete, series lie in ``path.parts``.
        Series that an existing store holds stay, and are not read again.
    images : ImageList
        Where the series are.
    read : callable
        (ImageFile, view) -> series, for example :func:`imgwas.images.dicom.read_dicom_cine`.
    views : sequence of str, default ("4Ch",)
        Views to store of each image.
    field : str, default "20208"
        Second part of the keys.
    settings : mapping, optional
        How ``read`` reads, recorded in the store: one store is read in one way.
    client : distributed.Client, optional
        Workers that see the same folders; by default one series after another, here.
    max_failures : float, default 0.1
        Share of series that may fail before the call ends in an error.
    progress : callable, optional
        Called with 1 after each series.

    Returns
    -------
    StoreReport
        Series that could not be read are listed there and, with the ids of their people, in
        ``path.failures.tsv``; they do not stop the others.

    Raises
    ------
    MissingLibraryError
        If h5py, or a library that ``read`` needs, is not installed.
    InconsistentError
        If an existing store was written with other settings, or another run writes it now.
    WriteError
        If the disk is full; what is finished is safe.
    DegenerateError
        If more series failed than may; the others are stored.
    """
    path = Path(path).expanduser()
    load_h5py()
    wanted = json.dumps(dict(settings or {}), sort_keys=True)
    parts = _parts_of(path)
    with locked(parts, temporary=True):
        known = _keys_there(path, wanted)
        jobs = list(_jobs(images, views, field, parts, wanted))
        todo = [job for job in jobs if job.key not in known and not job.part.exists()]
        failures = _run(todo, read, client, progress)
        _merge(path, jobs, wanted)
        _list_failures(path.with_name(path.name + ".failures.tsv"), failures)
        empty(parts)
    if len(failures) > max_failures * len(jobs):
        raise DegenerateError(_too_many(failures, len(jobs), path))
    return StoreReport(len(todo) - len(failures), len(jobs) - len(todo), tuple(failures))


def _too_many(failures: Sequence[Failure], n_jobs: int, path: Path) -> str:
    return explain(
        f"{len(failures):,} of {n_jobs:,} series could not be stored",
        expected="At most the share that --max-failures allows",
        where=f"first: {failures[0].reason}",
        do=f"See {path.name}.failures.tsv; what came out is stored",
    )


def _parts_of(path: Path) -> Path:
    parts = path.with_name(path.name + ".parts")
    try:
        parts.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(parts, error) from error
    return parts


def _keys_there(path: Path, settings: str) -> set[str]:
    """Keys of an existing store, which must have been written in the same way."""
    if not path.exists():
        return set()
    with open_store(path) as store:
        recorded = str(store.attrs.get("settings", ""))
        if recorded != settings:
            raise InconsistentError(
                explain(
                    f"{path} was written with the settings {recorded or 'of another program'}",
                    expected=f"The same as now, {settings}",
                    do="Give another --out",
                )
            )
        return set(iterate_keys(store, path))


def _jobs(
    images: ImageList, views: Sequence[str], field: str, parts: Path, settings: str
) -> Iterator[_Job]:
    for file in images:
        instance = file.visit or "0"
        for view in views:
            words = (file.sample_id, field, instance, series_name(view))
            key = "/".join(_check_word(word) for word in words)
            digest = hashlib.sha256(f"{key}\n{settings}".encode()).hexdigest()
            yield _Job(file, view, key, parts / f"{digest[:32]}.h5")


def _check_word(word: str) -> str:
    """Refuse an id that would not be one level of a key."""
    if not word or "/" in word or word in (".", ".."):
        raise MalformedError(
            explain(
                f"the id {redact(word)!r} cannot be a key of a store",
                expected="Ids without '/', not '.' or '..'",
                do="Use a bridge table to other ids",
            )
        )
    return check_label(word, "id", "the list of images")


def _run(
    jobs: Sequence[_Job],
    read: Callable[[ImageFile, str], Cine],
    client: Client | None,
    progress: Callable[[int], object] | None,
) -> list[Failure]:
    """Store every series; failures in the order of the jobs."""
    failures: dict[int, Failure] = {}
    for index, result in compute_each(_store_one, jobs, client=client, read=read):
        if isinstance(result, FATAL):
            raise result
        if isinstance(result, Exception):
            known = isinstance(result, ImgwasError)
            reason = str(result) if known else f"{type(result).__name__}: {result}"
            file, view = jobs[index].file, jobs[index].view
            failures[index] = Failure(file.sample_id, file.visit, view, " ".join(reason.split()))
        if progress:
            progress(1)
    return [failures[index] for index in sorted(failures)]


def _store_one(job: _Job, *, read: Callable[[ImageFile, str], Cine]) -> None:
    cine = read(job.file, job.view)
    _check_cine(cine)
    with _published(job.part) as store:
        _write_series(store, job.key, cine)


def _check_cine(cine: Cine) -> None:
    values = cine.values
    if values.ndim != 4 or 0 in values.shape or values.dtype.kind not in "iuf":
        raise MalformedError(
            explain(
                f"the series has shape {values.shape} and type {values.dtype}",
                expected="Real numbers (x, y, slices, frames)",
            )
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise MalformedError(explain("the series holds values that are not finite"))


def _write_series(store: h5py.File, key: str, cine: Cine) -> None:
    """Write one series and what may be known of it: no name, no date, no private tag."""
    values = cine.values.astype(np.float32) if cine.values.dtype.kind == "f" else cine.values
    block = np.ascontiguousarray(np.transpose(values, (3, 2, 0, 1))[np.newaxis])
    _, frames, _, x, y = block.shape
    piece = min(frames, max(1, _CHUNK // (x * y * block.dtype.itemsize)))
    dataset = store.create_dataset(
        key,
        data=block,
        chunks=(1, piece, 1, x, y),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    dataset.attrs["min"] = float(block.min())
    dataset.attrs["max"] = float(block.max())
    dataset.attrs["view"] = cine.view
    dataset.attrs["series_id"] = cine.series
    dataset.attrs["spacing"] = np.array(cine.spacing)
    dataset.attrs["frame_times"] = np.array(cine.frame_times)
    dataset.attrs["sha256"] = digest_of_array(block)


@contextmanager
def _published(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file that takes its name when it is whole and on disk."""
    h5py = load_h5py()
    with publish(path, "w+b") as stream:
        careful = _Careful(stream)
        # this version of the format keeps checksums of everything but the values
        with h5py.File(careful, "w", libver=("v110", "v110")) as store:
            yield store
        if careful.error:
            raise careful.error


class _Careful:
    """A file for HDF5 that remembers when the disk was full.

    The library crashes if a write fails while it closes a file, so it is told that all went well;
    the file never gets its name.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.error = stream, cast("OSError | None", None)

    def _do(self, action: Callable[[], Any], otherwise: int) -> int:
        if self.error is None:
            try:
                done = action()
            except OSError as error:
                self.error = error
            else:
                return int(done) if done is not None else otherwise
        return otherwise

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self.stream.tell()

    def write(self, content: Any) -> int:
        """Write, or remember why it failed."""
        return self._do(lambda: self.stream.write(content), len(memoryview(content).cast("B")))

    def truncate(self, size: int | None = None) -> int:
        """Set the length, or remember why it failed."""
        return self._do(lambda: self.stream.truncate(size), size or 0)

    def flush(self) -> None:
        """Pass on what is buffered, or remember why it failed."""
        self._do(self.stream.flush, 0)

    def read(self, size: int = -1) -> bytes:
        """Read back; h5py tells a file by this method and uses the next."""
        return self.stream.read(size)

    def readinto(self, content: Any) -> int:
        """Read back; what was never written is zero."""
        view = memoryview(content).cast("B")
        found = self.stream.read(len(view))
        view[: len(found)] = found
        view[len(found) :] = bytes(len(view) - len(found))
        return len(view)


def _merge(path: Path, jobs: Sequence[_Job], settings: str) -> None:
    """Put the parts and an existing store together; pieces are copied as they are."""
    finished = [job for job in jobs if job.part.exists()]
    if not finished:
        return
    with _published(path) as store:
        store.attrs.update({**LAYOUT, "settings": settings})
        if path.exists():
            with open_store(path) as old:
                for subject in old:
                    old.copy(subject, store)
        for job in finished:
            with open_store(job.part) as part:
                folder, _, _ = job.key.rpartition("/")
                part.copy(job.key, store.require_group(folder))


def _list_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Write who failed and why for the owner of the data; the log gets counts."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    with publish(path, "w") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(["IID", "visit", "view", "reason"])
        table.writerows([f.sample_id, f.visit, f.view, f.reason] for f in failures)
    counts: dict[str, int] = {}
    for failure in failures:
        counts[failure.reason] = counts.get(failure.reason, 0) + 1
    for reason, n in sorted(counts.items(), key=lambda item: -item[1])[:10]:
        logger.warning("%s series not stored: %s", f"{n:,}", reason)

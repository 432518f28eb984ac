"""Long tables and arrays kept beside memory: in a file without a name, mapped read-only.

A table of ten million variants takes 400 MB, of which a scan looks at one part after another. Here
it lies in a temporary file that has lost its name, so that nothing is left behind whatever becomes
of the process, and :func:`release` lets go of the pages that were looked at; the system reads them
again when they are wanted. Where there is no room for the file, everything stays in memory.

The file is in the folder that ``TMPDIR`` names, or else in ``/var/tmp``, which is on a disk where
``/tmp`` may be memory.
"""

from __future__ import annotations

import contextlib
import io
import logging
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from imgwas.errors import WriteError, explain

logger = logging.getLogger(__name__)

#: What is smaller stays in memory.
LEAST_BYTES = 4 << 20
_DISK = Path("/var/tmp")  # noqa: S108 - the file has no name there
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_lock = threading.Lock()


def _unlock() -> None:
    """Begin with a lock of its own in a process that was forked while another thread held it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


def table_aside(batches: Iterable[pa.RecordBatch], schema: pa.Schema | None = None) -> pa.Table:
    """Gather batches, one at a time, into a table that lies beside memory if it is long.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        Each is let go of before the next is asked for, once the table is long.
    schema : pyarrow.Schema, optional
        Of all of them; else that of the first.
    """
    held, size, source = [], 0, iter(batches)
    for batch in source:
        if not len(batch):
            continue
        held.append(batch)
        size += batch.nbytes
        if size >= LEAST_BYTES:
            return _written(held, source)
    if not held and schema is None:
        return pa.table({})
    return pa.Table.from_batches(held, schema)


def _written(held: list[pa.RecordBatch], source: Iterator[pa.RecordBatch]) -> pa.Table:
    with _Paper() as paper:
        with pa.ipc.new_stream(pa.PythonFile(paper, "w"), held[0].schema) as stream:
            while held:
                stream.write_batch(held.pop(0))
            for batch in source:
                stream.write_batch(batch)
        table = pa.ipc.open_stream(paper.content()).read_all()
    release()  # it looked at the head of every batch
    return table


class ArrayAside:
    """A one-dimensional array that grows piece by piece, beside memory once it is long.

    Parameters
    ----------
    dtype : type
        Of its numbers.
    """

    def __init__(self, dtype: type[np.generic]) -> None:
        self._dtype, self._paper = dtype, _Paper()

    def __enter__(self) -> ArrayAside:
        return self

    def __exit__(self, *_: object) -> None:
        self._paper.close()

    def add(self, piece: np.ndarray) -> None:
        """Take the next numbers."""
        self._paper.write(np.ascontiguousarray(piece, self._dtype).data)

    def array(self) -> np.ndarray:
        """Everything that was added; nobody may write to it."""
        array = np.frombuffer(self._paper.content(), self._dtype)
        array.flags.writeable = False
        return array


def array_aside(pieces: Iterable[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    """Join one-dimensional arrays, one at a time, into one that lies beside memory if it is long.

    Nobody may write to it.
    """
    with ArrayAside(dtype) as aside:
        for piece in pieces:
            aside.add(piece)
        return aside.array()


def follow(array: np.ndarray) -> np.ndarray:
    """Return an array, which :func:`release` knows from now on if numpy has mapped it."""
    base: Any = array.base
    if isinstance(base, mmap.mmap):
        _note(base)
    return array


def release() -> None:
    """Let go of the pages of everything beside memory; who looks again gets them again."""
    with _lock:  # or another thread adds one while they are gone through
        maps = list(_maps)
    for mapped in maps:
        mapped.madvise(mmap.MADV_DONTNEED)


def _note(mapped: mmap.mmap) -> None:
    with _lock:
        _maps.add(mapped)


class _Paper(io.RawIOBase):
    """What is written to it: in memory while it is short or no file takes it, else in a file."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._size, self._is_file_wanted = 0, True

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, content: Any) -> int:
        """Add bytes."""
        view = memoryview(content).cast("B")
        try:
            if self._file is None and self._is_file_wanted and self._is_long(view):
                self._file = tempfile.TemporaryFile(buffering=0, dir=_folder())  # noqa: SIM115 - closed with this
                self._append(memoryview(self._memory))
                self._memory = bytearray()
            if self._file is not None:
                self._append(view)
                return len(view)
        except OSError as error:
            self._take_back(error)
        self._memory += view
        return len(view)

    def _is_long(self, more: memoryview) -> bool:
        return len(self._memory) + len(more) >= LEAST_BYTES

    def _append(self, view: memoryview) -> None:
        assert self._file is not None
        done = 0
        while done < len(view):
            done += os.pwrite(self._file.fileno(), view[done:], self._size + done)
        self._size += done

    def _take_back(self, error: OSError) -> None:
        """Go on in memory with what the file has."""
        logger.debug("a long table stays in memory: no file takes it (%s)", error.strerror)
        self._is_file_wanted = False
        if self._file is not None:
            if self._size:
                self._memory = bytearray(self._size)
                _fill(self._file, memoryview(self._memory))
            self._file.close()
        self._file, self._size = None, 0

    def content(self) -> pa.Buffer:
        """Everything that was written."""
        if self._file is not None:
            self._sync()
            try:
                mapped = mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ)
            except OSError as error:  # a limit of address space, or a file system without maps
                self._take_back(error)
            else:
                _note(mapped)
                return pa.py_buffer(mapped)
        return pa.py_buffer(self._memory)

    def _sync(self) -> None:
        """Bring everything to the disk: what fails later would be read as zeros."""
        assert self._file is not None
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WriteError(
                explain(
                    f"a temporary file in {_folder() or tempfile.gettempdir()} lost what was "
                    f"written to it ({error.strerror})",
                    do="Set TMPDIR to a folder with room on a sound disk",
                )
            ) from error

    def close(self) -> None:
        """Close the file; what is mapped of it stays."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # all of it is on the disk
                self._file.close()
        super().close()


def _fill(file: IO[bytes], view: memoryview) -> None:
    done = 0
    while done < len(view):
        done += os.preadv(file.fileno(), [view[done:]], done)


def _folder() -> str | None:
    """Where the file goes; None is where Python keeps temporary files."""
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")):
        return None
    return str(_DISK) if os.access(_DISK, os.W_OK) else None

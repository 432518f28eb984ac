"""Files that are either whole or absent: publish by rename, digest, disk-full in plain words.

A file appears under its final name only when every byte of it is on disk: it is written beside the
target under a temporary name, flushed, synced, renamed, and the folder is synced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from imgwas.errors import WriteError, explain

#: Key of the digest that a JSON file carries of itself.
SEAL = "seal_sha256"
#: errno values that all mean "this place takes no more bytes".
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: errno values of file systems that have no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


@contextlib.contextmanager
def publish(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that takes the name ``path`` when the block ends without an error.

    Parameters
    ----------
    path : Path
        Final name. Its folder must exist.
    mode : {"wb", "w"}
        Bytes or UTF-8 text.

    Raises
    ------
    WriteError
        If the disk is full, the quota is used up, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name[:80]}.{owner()}.{uuid.uuid4().hex[:16]}.tmp")
    encoding, errors = (None, None) if "b" in mode else ("utf-8", "surrogateescape")
    try:
        with temporary.open(mode, encoding=encoding, errors=errors) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, WriteError):
            raise write_error(path, error) from error
        raise


def owner() -> str:
    """Name of this process among all machines that see a folder, for temporary files."""
    return f"{host_digest()}-{os.getpid()}"


@lru_cache(maxsize=1)
def host_digest() -> str:
    """Eight letters for this machine."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add a digest of everything else, so that :func:`read_json` notices any change."""
    text = json.dumps(content, ensure_ascii=False)
    # names of files that the locale could not read come back as the text they are
    as_written = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    as_read: dict[str, Any] = json.loads(as_written)
    return {**as_read, SEAL: _seal_of(as_read)}


def _seal_of(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def publish_once(path: Path, content: Any) -> bool:
    """Publish JSON unless the name is taken; return whether this call took it.

    Any number of processes may try together: one of them wins, and nobody sees half a file.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    whole = path.with_name(f".{path.name[:80]}.{owner()}.{uuid.uuid4().hex[:16]}.tmp")
    try:
        with publish(whole, "w") as stream:
            stream.write(text + "\n")
        won = _take_name(whole, path)
        sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            whole.unlink(missing_ok=True)
    return won


def _take_name(whole: Path, path: Path) -> bool:
    """Give a file one more name that nobody has taken; without links, rename it."""
    try:
        os.link(whole, path)
    except OSError as error:
        if error.errno == errno.EEXIST or path.exists():
            # over a network the first answer may be lost and the second say that it is there
            with contextlib.suppress(FileNotFoundError):  # whose it was, it is gone already
                return path.samefile(whole)
            return False
        if error.errno not in _NO_LINKS:
            raise
        with held_still(path.parent):
            if path.exists():
                return False
            whole.replace(path)
    return True


@contextlib.contextmanager
def held_still(folder: Path) -> Iterator[None]:
    """Change names in a folder one process or thread at a time.

    The kernel keeps the turns and forgets the dead. File systems that cannot lock a folder (some
    network ones) keep none: there, what is done inside must be right but for microseconds.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def publish_bytes(path: Path, content: Any) -> str:
    """Publish ``content`` under ``path`` and return its SHA-256."""
    with publish(path) as stream:
        stream.write(content)
    return hashlib.sha256(content).hexdigest()


def publish_json(path: Path, content: Any) -> None:
    """Publish ``content`` as indented JSON; NaN and infinity are refused."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with publish(path, "w") as stream:
        stream.write(text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that imgwas wrote; ``ValueError`` if it is none, or its seal is broken."""
    content = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    if isinstance(content, dict) and SEAL in content and content.pop(SEAL) != _seal_of(content):
        raise ValueError("it was changed or damaged after it was written")
    return content


def absolute(value: Any) -> Any:
    """The same with every path absolute, for processes that work in another folder."""
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, tuple):
        return tuple(map(absolute, value))
    if isinstance(value, dict):
        return {name: absolute(one) for name, one in value.items()}
    return value


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of_array(values: np.ndarray) -> str:
    """SHA-256 of the shape, type and values of an array."""
    described = f"{values.shape} {values.dtype.str}".encode()
    return hashlib.sha256(described + values.tobytes()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a whole file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_error(path: Path, error: OSError) -> WriteError:
    """Turn an operating-system error into one sentence that says what to do."""
    if error.errno in _FULL:
        free = _free_bytes(path.parent)
        what = f"No space left for {path}: {free}"
        do = "Free some space or choose another --out, then run the same command again to resume"
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        what = f"{path.parent} cannot be written ({error.strerror})"
        do = "Choose another --out"
    else:
        what = f"Writing {path} failed ({error.strerror or error})"
        do = "Run the same command again to resume"
    return WriteError(explain(what, do=do))


def _free_bytes(folder: Path) -> str:
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(folder)
        return f"{usage.free / 1e6:,.0f} MB free of {usage.total / 1e6:,.0f} MB"
    return "free space unknown"

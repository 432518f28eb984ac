"""One run at a time in a folder: a lock that names its holder and outlives nobody.

Tasks of a job array share a folder instead: each leaves a small file while it is there, so that
nobody clears the folder under it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgwas.errors import InconsistentError, explain
from imgwas.files import held_still, host_digest, publish_json, publish_once, write_error

logger = logging.getLogger(__name__)

LOCK = ".lock"
#: Temporary files of processes that may live on another machine are left alone for this long.
FORGOTTEN_AFTER_S = 3600.0
#: A lock that cannot be read is that of a dead run, unless it is as young as this.
SETTLED_AFTER_S = 5.0
#: What is known of a lock that may not be read, as that of somebody else: it is there.
_HIDDEN = {"hidden": True}
_TEMPORARY = re.compile(r"\.([0-9a-f]{8})-(\d+)\.[0-9a-f]+\.tmp$")


class LockedError(InconsistentError):
    """Another run holds the folder."""


@contextlib.contextmanager
def locked(out: Path, *, break_lock: bool = False, temporary: bool = False) -> Iterator[None]:
    """Hold the folder against a second run; a lock left by a dead process is taken over.

    With ``temporary`` an empty folder goes with the lock, see :func:`empty`.

    Raises
    ------
    LockedError
        If another run holds it.
    WriteError
        If the folder takes no files.
    """
    path = out / LOCK
    mine = _about_me()
    before = _read(path)
    if before is not None and (break_lock or _is_stale(path, before)):
        _take_over(path, before)
    try:
        if not publish_once(path, mine):
            raise LockedError(_locked_by(path))
        yield
    finally:
        with contextlib.suppress(OSError):
            _remove_if(path, mine)  # and not that of a run that broke ours, or keeps us out
    if temporary:
        with contextlib.suppress(OSError):
            out.rmdir()


@contextlib.contextmanager
def joined(out: Path) -> Iterator[None]:
    """Say that this process works in the folder beside others."""
    path = out / f"{LOCK}-{uuid.uuid4().hex[:16]}"
    try:
        with _held_still(out):  # and not while a run that has seen nobody clears it
            publish_json(path, _about_me())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[list[str]]:
    """Keep everybody from joining for a moment; yields who has joined, as :func:`others`."""
    with _held_still(out):
        yield others(out)


def others(out: Path) -> list[str]:
    """Processes that share the folder now, as ``pid on host``; files of dead ones are removed."""
    found = []
    for path in sorted(out.glob(f"{LOCK}-*")):
        holder = _read(path)
        if holder is None or _is_stale(path, holder):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        else:
            found.append(_named(holder))
    return found


def holder_of(out: Path) -> str:
    """Who holds the folder, or an empty string."""
    path = out / LOCK
    holder = _read(path)
    if holder is None or _is_stale(path, holder):
        return ""
    return _named(holder)


def _named(holder: dict[str, Any]) -> str:
    return f"{holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown machine')}"


def _about_me() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start": int(time.time()),
        "key": uuid.uuid4().hex,
    }


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a lock, empty if it is not one, None if there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError:
        return dict(_HIDDEN)
    except (ValueError, TypeError):
        return {}


def _take_over(path: Path, judged: dict[str, Any]) -> None:
    try:
        if _remove_if(path, judged):
            logger.warning("taking over the lock that a dead run left in %s", path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def _remove_if(path: Path, judged: dict[str, Any]) -> bool:
    """Remove a lock that still says what was judged, and not one that another run put there since.

    A lock is never replaced, only removed and put there anew; whoever removes one holds the folder
    still meanwhile, so between the second look and the removal nobody else can.
    """
    with held_still(path.parent):
        if _read(path) != judged:
            return False
        path.unlink(missing_ok=True)
        return True


@contextlib.contextmanager
def _held_still(out: Path) -> Iterator[None]:
    """Hold a folder still, and say in a sentence when it has gone."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(held_still(out))
        except OSError as error:
            raise write_error(out / LOCK, error) from error
        yield


def _is_stale(path: Path, holder: dict[str, Any]) -> bool:
    if holder == _HIDDEN:
        return False
    try:
        return holder["host"] == socket.gethostname() and not _is_alive(int(holder["pid"]))
    except (KeyError, ValueError, TypeError):
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime > SETTLED_AFTER_S
        return True


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[0] == "Z"
    return False


def _locked_by(path: Path) -> str:
    holder = _read(path) or {}
    who = f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "another process"
    return explain(
        f"{path.parent} is in use by {who}",
        expected="Two runs may not write one folder",
        do="Wait for it, choose another --out, or pass --break-lock if that process is gone",
    )


def empty(folder: Path) -> None:
    """Remove what is in a folder of ours, and no lock: another run may be on its way in."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.lstrip(".").startswith(LOCK[1:]):
            with contextlib.suppress(OSError):
                path.unlink()


def sweep(*folders: Path) -> None:
    """Remove temporary files that killed processes left, and no file of a living one."""
    for folder in folders:
        for orphan in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if _is_orphan(orphan):
                    orphan.unlink()


def _is_orphan(path: Path) -> bool:
    found = _TEMPORARY.search(path.name)
    if found is None:
        return True
    if found[1] == host_digest():
        return not _is_alive(int(found[2]))
    return time.time() - path.stat().st_mtime > FORGOTTEN_AFTER_S

"""One run at a time in a folder: a lock that names its holder and outlives nobody."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from imgwas.errors import InconsistentError, explain
from imgwas.files import write_error

logger = logging.getLogger(__name__)

LOCK = ".lock"


@contextlib.contextmanager
def locked(out: Path, *, break_lock: bool = False) -> Iterator[None]:
    """Hold the folder against a second run; a lock left by a dead process is taken over."""
    path = out / LOCK
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "start": int(time.time())}
    if path.exists() and (break_lock or _is_stale(path)):
        logger.warning("taking over the lock that a dead run left in %s", out)
        path.unlink(missing_ok=True)
    try:
        with path.open("x", encoding="utf-8") as stream:
            json.dump(mine, stream)
    except FileExistsError as error:
        raise InconsistentError(_locked_by(path)) from error
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _is_stale(path: Path) -> bool:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        same_host = holder["host"] == socket.gethostname()
        return same_host and not _is_alive(int(holder["pid"]))
    except (OSError, ValueError, KeyError):
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
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    return explain(
        f"{path.parent} is in use by {who}",
        expected="Two runs may not write one folder",
        do="Wait for it, choose another --out, or pass --break-lock if that process is gone",
    )


def sweep(*folders: Path) -> None:
    """Remove temporary files that a killed run left in folders that are locked by us."""
    for folder in folders:
        for orphan in folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                orphan.unlink()

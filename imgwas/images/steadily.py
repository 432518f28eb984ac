"""Files on servers that stall: an image that cannot be read is tried again before it is given up.

Between the listing of a hundred thousand files and the reading of each of them hours pass, on file
systems shared with others. A read that fails for a reason that may pass, or of a file that changed
meanwhile, is repeated three times, a little later each time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from imgwas.errors import MalformedError, OpenError, ReadError, explain

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds to wait before each new try.
WAITS_S = (0.05, 0.25, 1.0)


def read_steadily(path: Path, shown: str, read: Callable[[], T]) -> T:
    """Read a file until it is read as it lies there, or three more tries have failed.

    Parameters
    ----------
    path : Path
        Whose size and time of change are compared before and after.
    shown : str
        How messages name it.
    read : callable
        Reads it.

    Raises
    ------
    OpenError, ReadError
        If it is absent, cannot be read, or goes on changing.
    MalformedError
        If it is damaged and does not change: at once, since reading again would not help.
    """
    for wait in WAITS_S:
        try:
            return _read_once(path, shown, read)
        except (OpenError, ReadError) as error:
            # no name: it may hold somebody's id
            logger.info(
                "an image could not be read (%s): again in %g s", type(error).__name__, wait
            )
        time.sleep(wait)
    return _read_once(path, shown, read)


def _read_once(path: Path, shown: str, read: Callable[[], T]) -> T:
    before, damaged = _state(path), None
    try:
        found = read()
    except MalformedError as error:
        damaged = error
    if before != _state(path):
        raise ReadError(explain(f"{shown} changes while it is read", do="Wait until it is written"))
    if damaged is not None:
        raise damaged
    return found


def _state(path: Path) -> tuple[int, ...] | None:
    """Size, time of change and identity of a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino

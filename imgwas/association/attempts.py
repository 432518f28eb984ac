"""How often a part was begun: a worker that dies cannot say which part killed it, but a file can.

A worker adds a line to the part's file before it starts and removes the file when the part is
published. A part that was begun several times and never finished is not begun again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

from imgwas.files import write_error

#: Times that a part may take its worker down before it is left out.
MOST = 4


def path_of(out: Path, part: int) -> Path:
    """File of a part's attempts."""
    return out / "private" / "attempts" / f"part-{part:05d}"


def count(out: Path, part: int) -> int:
    """Times that a part was begun and not finished."""
    try:
        return path_of(out, part).read_bytes().count(b"\n")
    except OSError:
        return 0


def begin(out: Path, part: int) -> None:
    """Note that a part is begun here."""
    path = path_of(out, part)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{socket.gethostname()} {os.getpid()}\n")
    except OSError as error:
        raise write_error(path, error) from error


def end(out: Path, part: int) -> None:
    """Forget the attempts of a part that is finished."""
    with contextlib.suppress(OSError):
        path_of(out, part).unlink(missing_ok=True)


def clear(out: Path, parts: Iterable[int] | None = None) -> None:
    """Give some parts, or all, new attempts."""
    if parts is None:
        shutil.rmtree(out / "private" / "attempts", ignore_errors=True)
        return
    for part in parts:
        end(out, part)

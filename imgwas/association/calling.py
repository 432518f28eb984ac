"""A program of the user's with a limit on its time: it ends together with whatever it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from imgwas.stopping import ending_with_us

#: Seconds between two looks at the clock.
TICK_S = 0.1
#: Seconds from being asked to end until being made to.
GRACE_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Parameters
    ----------
    code : int or None
        Its exit code; None if its time was over.
    words : str
        The last line that it wrote about errors, at most 200 letters.
    """

    code: int | None
    words: str


def call_within(command: list[str], seconds_left: Callable[[], float]) -> Ended:
    """Call a program without a shell, in a session of its own, and wait until it has ended.

    What it leaves running in the background with the same output is waited for as well. When no
    time is left, or an exception passes, all processes of its group are asked to end, and killed
    a few seconds later.

    Parameters
    ----------
    command : list of str
        The program and its arguments.
    seconds_left : callable
        Asked ten times a second; the call is over when it is not above zero.

    Returns
    -------
    Ended
        Its exit code and last words.

    Raises
    ------
    OSError
        If it could not be started.
    """
    process = subprocess.Popen(  # noqa: S603 - a list of words, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said = b""
    with ending_with_us(process.pid):
        try:
            while (left := seconds_left()) > 0:
                try:
                    said = process.communicate(timeout=min(left, TICK_S))[1]
                except subprocess.TimeoutExpired as error:
                    said = error.stderr or said
                else:
                    return Ended(process.returncode, _last_line(said))
        except BaseException:
            _end(process)
            raise
        _end(process)
    return Ended(None, _last_line(said))


def _last_line(said: bytes) -> str:
    return said.decode(errors="replace").strip().rsplit("\n", 1)[-1][:200]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End all processes of the group, and do not wait for one that even that does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + GRACE_S
        alive = _send(process.pid, number)
        while alive and time.monotonic() < until:
            time.sleep(TICK_S / 2)
            process.poll()  # a child that nobody asks about stays in its group
            alive = _send(process.pid, 0)
        if not alive:
            break
    process.poll()
    if process.stderr is not None:
        process.stderr.close()


def _send(group: int, number: int) -> bool:
    """Send a signal to a group of processes; say whether there was anybody."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False

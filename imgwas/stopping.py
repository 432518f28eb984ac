"""Stopping on request: signals become a wish that long work looks at between its steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from imgwas.errors import IncompleteError

#: Wishes of the work under way in this process, the innermost last.
_wishes: list[list[int | None]] = []
#: Groups of processes that do not outlive this one.
_groups: set[int] = set()


class Interrupted(IncompleteError):
    """Stopped by a signal; what is finished is safe."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


@contextlib.contextmanager
def stop_wishes() -> Iterator[list[int | None]]:
    """Turn SIGINT and SIGTERM into a wish to stop; the second one stops at once."""
    wish: list[int | None] = [None]
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def ask(number: int, frame: object) -> None:  # noqa: ARG001 - the interpreter's signature
        if wish[0] is not None:
            _end_groups()
            os._exit(128 + number)
        wish[0] = number

    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    _wishes.append(wish)
    try:
        yield wish
    finally:
        _wishes.pop()
        for number, handler in before.items():
            signal.signal(number, handler)


def is_asked_to_stop() -> bool:
    """Whether a signal has come since the innermost :func:`stop_wishes` was entered.

    For work that is done beside what looks at the wish itself, in any thread.
    """
    return bool(_wishes) and _wishes[-1][0] is not None


@contextlib.contextmanager
def ending_with_us(group: int) -> Iterator[None]:
    """Kill a group of processes, too, when a second signal stops this process at once."""
    _groups.add(group)
    try:
        yield
    finally:
        _groups.discard(group)


def _end_groups() -> None:
    for group in list(_groups):
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)

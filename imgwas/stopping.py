"""Stopping on request: signals become a wish that long work looks at between its steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from imgwas.errors import IncompleteError


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
            os._exit(128 + number)
        wish[0] = number

    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

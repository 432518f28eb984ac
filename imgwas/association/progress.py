"""How a scan tells how far it is: a bar on a terminal, lines in a log, or nothing."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from imgwas.association.task import ScanTask

logger = logging.getLogger(__name__)


@runtime_checkable
class Progress(Protocol):
    """Told of the work done."""

    def started(
        self, task: ScanTask, todo: Sequence[int]
    ) -> contextlib.AbstractContextManager[None]:
        """Enter before the first block, leave after the last."""

    def advance(self, n_variants: int) -> None:
        """Note that some variants are computed."""

    def part_done(self, receipt: Mapping[str, Any]) -> None:
        """Note that a part is published."""


class NoProgress:
    """Says nothing."""

    @contextlib.contextmanager
    def started(self, task: ScanTask, todo: Sequence[int]) -> Iterator[None]:  # noqa: ARG002
        """Do nothing around the work."""
        yield

    def advance(self, n_variants: int) -> None:
        """Do nothing."""

    def part_done(self, receipt: Mapping[str, Any]) -> None:
        """Do nothing."""


class LogProgress(NoProgress):
    """A line in the log for every part, at most one every few seconds, with rate and time left."""

    def __init__(self, every_s: float = 10.0) -> None:
        self.every_s = every_s

    @contextlib.contextmanager
    def started(self, task: ScanTask, todo: Sequence[int]) -> Iterator[None]:
        """Start the clock."""
        self._total = sum(b - a for a, b in map(task.part_range, todo))
        self._done, self._parts, self._n_parts = 0, task.n_parts - len(todo), task.n_parts
        self._start = self._said = time.monotonic()
        yield

    def advance(self, n_variants: int) -> None:
        """Count variants."""
        self._done += n_variants

    def part_done(self, receipt: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Say how far the scan is."""
        self._parts += 1
        now = time.monotonic()
        if now - self._said < self.every_s and self._parts < self._n_parts:
            return
        self._said = now
        rate = self._done / max(now - self._start, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        logger.info(
            "part %d/%d, %s variants/s, %.0f s left",
            self._parts,
            self._n_parts,
            f"{rate:,.0f}",
            left,
        )


class BarProgress(NoProgress):
    """A bar on the terminal: variants done, variants per second, time left."""

    @contextlib.contextmanager
    def started(self, task: ScanTask, todo: Sequence[int]) -> Iterator[None]:
        """Show the bar."""
        from tqdm import tqdm

        total = sum(b - a for a, b in map(task.part_range, todo))
        done = len(task.rows) - total
        with tqdm(
            total=len(task.rows),
            initial=done,
            unit="variant",
            unit_scale=True,
            desc="scan",
            file=sys.stderr,
            dynamic_ncols=True,
        ) as self._bar:
            yield

    def advance(self, n_variants: int) -> None:
        """Move the bar."""
        self._bar.update(n_variants)

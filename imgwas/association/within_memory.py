"""Blocks where memory is short: one of them at a time, then in smaller steps, the same numbers.

Only what lies in memory at once changes: the variants of a block, of a part, and the order in which
they are added up stay, so the results of a run that was short of memory are those of one that was
not, byte for byte. A block whose allocation fails waits until no other thread computes one and is
tried again alone; then its buffers are halved, and halved again. A worker that the system killed
leaves no error, but its part was begun before: that begins with halved buffers.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from imgwas.association.blocks import LARGE_PRODUCT, Workspace
from imgwas.association.parts import BlockResult, PartBuilder, scan_rows
from imgwas.association.task import ScanTask

logger = logging.getLogger(__name__)

#: Times that the buffers of a block are halved; the last ones still have whole tiles.
MOST_HALVINGS = 3


class _Turns:
    """Threads that compute side by side, until one of them needs to be alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n, self._someone_alone = 0, False

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._someone_alone)
            self._n += 1
        try:
            yield
        finally:
            with self._changed:
                self._n -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._someone_alone)
            self._someone_alone = True
            self._changed.wait_for(lambda: self._n == 0)
        try:
            yield
        finally:
            with self._changed:
                self._someone_alone = False
                self._changed.notify_all()


_turns = _Turns()


def scan_within_memory(
    task: ScanTask,
    rows: np.ndarray,
    workspace: Callable[[int], Workspace],
    *,
    halvings: int = 0,
) -> BlockResult:
    """Compute a block, and where memory is short compute it again with less.

    Parameters
    ----------
    task : ScanTask
        The scan.
    rows : (variants,) int array
        Rows of the genotype file.
    workspace : callable
        Buffers of this thread, of the size of a block halved so many times.
    halvings : int
        To begin with.

    Raises
    ------
    MemoryError
        If the smallest buffers do not fit either.
    """
    halvings = halvings and min(halvings, halvings_of(task))
    try:
        with _turns.beside():
            return scan_rows(task, rows, workspace(halvings))
    except MemoryError:
        logger.warning("memory is short: a block is computed again while the others wait")
    with _turns.alone():
        for times in range(halvings, halvings_of(task) + 1):
            if times > halvings:
                logger.warning("memory is short: blocks are computed in %d steps", 2**times)
            try:
                return scan_rows(task, rows, workspace(times))
            except MemoryError as error:
                reason = str(error)
    raise MemoryError(
        f"{len(rows):,} variants of {4 * task.n_bytes:,} people do not fit, not even alone and in "
        f"{2 ** halvings_of(task)} steps: {reason}"
    )


def publish_within_memory(builder: PartBuilder, digest: str) -> dict[str, Any]:
    """Write a part, and where memory is short write it while nothing is computed."""
    with contextlib.suppress(MemoryError):
        return builder.publish(digest)
    logger.warning("memory is short: part %d is written while the others wait", builder.part)
    with _turns.alone():
        return builder.publish(digest)


def halvings_of(task: ScanTask) -> int:
    """How often the buffers of a block may be halved without another bit in any result.

    Not where sums over the variants of a block are kept (heritability), nor in double precision,
    where the last bit depends on how many variants are computed again together. A device halves
    its batches itself, and products below a size take another path through BLAS.
    """
    settings = task.settings
    if settings.device != "cpu" or settings.precision != "single" or settings.heritability:
        return 0
    narrowest = min(m.shape[1] for matrices in task.matrices.values() for m in matrices)
    times = 0
    while times < MOST_HALVINGS:
        smaller = task.block_size >> (times + 1)
        if smaller % 16 or smaller * 4 * task.n_bytes * narrowest < LARGE_PRODUCT:
            break
        times += 1
    return times

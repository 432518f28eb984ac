"""Parts on the workers of a dask cluster that see the same folders.

What travels is a list of part numbers and some paths one way, receipts of a few hundred bytes the
other. Nothing is scattered, nothing depends on anything else, and only a few pieces of work per
worker are known to the scheduler at any time, so it stays as small for a million parts as for ten.

A worker that dies costs its part and no more. A part that takes its worker down every time is left
out and named, and so is one that raises every time; the others are computed. If nothing is finished
for a long while, or the scheduler is gone, the run ends as one that can be resumed.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas.association import engines
from imgwas.association.task import ScanTask, save_task
from imgwas.errors import ImgwasError, IncompleteError, UsageError, explain

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

Receipt = dict[str, Any]

#: Pieces of work known to the scheduler: at least, per worker thread, at most.
WINDOW_FROM, WINDOW_PER_THREAD, WINDOW_TO = 64, 4, 512
#: Quick parts travel together until they take about as long as this, and never more than so many.
WORTH_A_TASK_S, MOST_TOGETHER = 1.0, 256
#: Times that a part is tried again after an error that is no refusal of ours.
TRY_AGAIN = 2
#: Times that a part is sent again because its worker went away; what dask calls that.
SEND_AGAIN = 20
LOST = ("KilledWorker", "FutureCancelledError", "CancelledError")
#: How often to look whether anything moves, and what is too long without a finished part.
TICK_S, PATIENCE_S, PATIENCE_IN_PARTS = 1.0, 600.0, 10.0
#: Bytes of genotypes in memory that may travel with every task.
LARGEST_GENOTYPES = 1_000_000
#: How long parts under way may take to finish after a wish to stop.
GRACE_S = 30.0


def run_on_client(
    task: ScanTask,
    parts: Sequence[int],
    *,
    client: Client,
    digest: str,
    on_variants: Callable[[int], None],
    on_receipt: Callable[[Receipt], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Compute parts on the workers of a dask client that see the same folders.

    Raises
    ------
    IncompleteError
        If some parts could not be computed (the others are), if no part is finished for ten times
        the usual time and ten minutes, or if the scheduler is gone.
    """
    folder = (task.out / "private" / "task").resolve()
    save_task(task, folder)
    sender = _Sender(client, task, _named(task), folder, digest)
    dispatch = _Dispatch(sender, deque(parts), on_variants, on_receipt, stop)
    with _quiet():
        try:
            dispatch.run()
        finally:
            sender.cancel(list(dispatch.under_way))
    if dispatch.failed:
        raise IncompleteError(_failed(dispatch.failed, task))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep dask from writing pages of traceback about what we say in a sentence."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    except IncompleteError:  # a lost connection is told by dask long after this
        raise
    else:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _named(task: ScanTask) -> bytes:
    """Names of the genotype files, as they travel; an array in memory may be too much to send."""
    from distributed.protocol.pickle import dumps

    content: bytes = dumps(task.genotypes)
    if len(content) > LARGEST_GENOTYPES:
        raise UsageError(
            explain(
                f"genotypes in memory ({len(content) / 1e6:,.0f} MB) do not travel to a cluster",
                do="Write them to files and open those, or use threads",
            )
        )
    return content


@dataclass
class _Sender:
    """Sends parts to the cluster; what is done comes out of a queue."""

    client: Client
    task: ScanTask
    genotypes: bytes
    folder: Path
    digest: str
    done: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    _sent: int = 0

    def send(self, parts: list[int]) -> Any:
        self._sent += 1
        future = self.client.submit(
            engines.run_parts,
            parts,
            folder=self.folder,
            out=self.task.out.resolve(),
            genotypes=self.genotypes,
            digest=self.digest,
            key=f"imgwas-{self.digest[:12]}-{self._sent}-part-{parts[0]}",
            pure=False,
        )
        future.add_done_callback(self.done.put)
        return future

    def next(self) -> Any:
        """Something that is done, or None after a while."""
        try:
            return self.done.get(timeout=TICK_S)
        except queue.Empty:
            return None

    @property
    def n_threads(self) -> int:
        return sum(self.client.nthreads().values())

    @property
    def is_alive(self) -> bool:
        return bool(self.client.status == "running")

    @property
    def waits_for_a_queue(self) -> bool:
        """Whether having no worker is nothing to worry about: others may start some any time."""
        return type(self.client.cluster).__name__ != "LocalCluster"

    def cancel(self, futures: list[Any]) -> None:
        if futures and self.is_alive:
            self.client.cancel(futures, force=True)


@dataclass
class _Dispatch:
    """The parts of one run: waiting, under way, failed."""

    sender: _Sender
    waiting: deque[int]
    on_variants: Callable[[int], None]
    on_receipt: Callable[[Receipt], None]
    stop: Callable[[], bool]
    under_way: dict[Any, list[int]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    errors: Counter[tuple[int, bool]] = field(default_factory=Counter)
    alone: set[int] = field(default_factory=set)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    _threads: int = 1
    _moved: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _stopping: float | None = None

    def run(self) -> None:
        self._look()
        self._fill()
        while self.under_way:
            future = self.sender.next()
            if future is not None:
                self._collect(future)
            if time.monotonic() - self._looked > TICK_S:
                self._look()
            if self._stopping is None and self.stop():
                self._begin_to_stop()
            if self._stopping is None:
                self._fill()
            elif time.monotonic() - self._stopping > GRACE_S:
                return

    def _fill(self) -> None:
        window = min(max(WINDOW_FROM, WINDOW_PER_THREAD * self._threads), WINDOW_TO)
        while self.waiting and len(self.under_way) < window:
            parts = list(self._take(self._together()))
            self.under_way[self.sender.send(parts)] = parts

    def _take(self, n: int) -> Iterator[int]:
        """Parts for one task; one that was in trouble before travels alone."""
        yield (first := self.waiting.popleft())
        for _ in range(0 if first in self.alone else n - 1):
            if not self.waiting or self.waiting[0] in self.alone:
                return
            yield self.waiting.popleft()

    def _together(self) -> int:
        """Parts that make one task worth its way, without leaving threads idle at the end."""
        if not self.seconds:
            return 1
        worth = WORTH_A_TASK_S / max(statistics.median(self.seconds), 1e-4)
        share = len(self.waiting) / (2 * max(self._threads, 1))
        return int(max(1, min(worth, share, MOST_TOGETHER)))

    def _collect(self, future: Any) -> None:
        parts = self.under_way.pop(future, None)
        if parts is None:
            return
        receipts = self._outcome(future, parts)
        future.release()
        for receipt in receipts:
            if "error" in receipt:
                self._again(**receipt)
                continue
            self._moved = time.monotonic()
            self.seconds.append(receipt.get("seconds", 0.0))
            self.on_variants(receipt["stop"] - receipt["start"])
            self.on_receipt(receipt)

    def _outcome(self, future: Any, parts: list[int]) -> list[Receipt]:
        try:
            return list(future.result(timeout=30))
        except ImgwasError:
            raise
        except Exception as error:  # noqa: BLE001 - a worker can die of anything; the others go on
            if not self.sender.is_alive:
                self._scheduler_is_gone()
            logger.debug("%s: %s", future.key, error)
            name = type(error).__name__
            why = {"error": f"{name} on its worker", "lost": name in LOST}
            return [{"part": part, **why} for part in parts]

    def _again(self, part: int, error: str, *, died: bool = False, lost: bool = False) -> None:
        """Give a part in trouble another chance, on its own, or leave it out.

        A part whose worker went away may never have been begun: who took the worker down is told
        by the count of what was begun, so the others are sent again many times.
        """
        self.errors[part, lost] += 1
        if died or self.errors[part, lost] > (SEND_AGAIN if lost else TRY_AGAIN):
            self.failed[part] = error
            logger.error("part %d could not be computed: %s", part, error)
            return
        self.alone.add(part)
        self.waiting.append(part)

    def _begin_to_stop(self) -> None:
        """Let the oldest tasks finish, which are those that run, and take the others back."""
        self._stopping = time.monotonic()
        queued = list(self.under_way)[self._threads :]
        self.sender.cancel(queued)
        for future in queued:
            del self.under_way[future]

    def _look(self) -> None:
        """Look at the cluster: does it answer, does anything move."""
        now = self._looked = time.monotonic()
        if not self.sender.is_alive:
            self._scheduler_is_gone()
        self._threads = self.sender.n_threads
        if self._threads == 0 and self.sender.waits_for_a_queue:
            if now - self._moved > PATIENCE_S:
                logger.warning("no worker has joined yet: the queue may be long")
                self._moved = now
            return
        usual = statistics.median(self.seconds) if self.seconds else 0.0
        patience = max(PATIENCE_S, PATIENCE_IN_PARTS * usual)
        if now - self._moved > patience:
            raise IncompleteError(
                explain(
                    f"no part was finished within {patience:,.0f} s",
                    where=f"{self._threads} worker threads, {len(self.under_way)} tasks under way",
                    do="Workers may die faster than a part takes: try a smaller --part-size in a "
                    "new --out, or run the same command again to resume",
                )
            )

    def _scheduler_is_gone(self) -> None:
        raise IncompleteError(
            explain(
                f"the scheduler no longer answers (connection {self.sender.client.status})",
                do="Finished parts are kept. Start a scheduler, then run the same command again",
            )
        )


def _failed(failed: dict[int, str], task: ScanTask) -> str:
    shown = [_where(part, reason, task) for part, reason in sorted(failed.items())[:5]]
    return explain(
        f"{len(failed)} of {task.n_parts} parts could not be computed; all others are finished",
        where="; ".join(shown) + ("; ..." if len(failed) > 5 else ""),
        do="If workers ran out of memory give them more; then run the same command again, which "
        "computes only these",
    )


def _where(part: int, reason: str, task: ScanTask) -> str:
    """Name a part by its variants, as a reader of the genotype file would."""
    start, stop = task.part_range(part)
    ends = task.genotypes.variants.take([int(task.rows[start]), int(task.rows[stop - 1])])
    first, last = ends.select(["chromosome", "base_pair_location"]).to_pylist()
    place = (
        f"{first['chromosome']}:{first['base_pair_location']} to "
        f"{last['chromosome']}:{last['base_pair_location']}"
    )
    return f"part {part}: variants {start:,} to {stop - 1:,} ({place}): {reason}"

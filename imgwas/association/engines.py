"""Where parts are computed: threads of this process, or workers of a dask cluster.

Every engine runs the same functions on the same parts, so the numbers cannot depend on it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from imgwas.association import attempts
from imgwas.association.blocks import Workspace
from imgwas.association.devices import choose_devices
from imgwas.association.folder import read_receipt
from imgwas.association.integers import IntegerWorkspace
from imgwas.association.parts import PartBuilder
from imgwas.association.task import ScanTask, load_task
from imgwas.association.within_memory import publish_within_memory, scan_within_memory
from imgwas.errors import ImgwasError
from imgwas.types import Genotypes

Receipt = dict[str, Any]
_thread = threading.local()
#: Threads take turns with the devices.
_turns = itertools.count()
#: What a thread computes before it reports: fewer reports, less waiting for one another.
VARIANTS_PER_JOB = 1536


def run_on_threads(
    task: ScanTask,
    parts: Sequence[int],
    *,
    digest: str,
    threads: int,
    on_variants: Callable[[int], None],
    on_receipt: Callable[[Receipt], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Compute parts on threads of this process, block by block in order.

    The matrix product runs on one thread per block, so that its rounding does not depend on the
    number of threads. At most three jobs per thread are under way, and finished parts are
    encoded and written by one thread more while the others compute.
    """
    # made once, before threads ask for them together
    _ = task.matrices, task.panels, task.kinds, task.omnibus, task.jackknife
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads) as pool,
        ThreadPoolExecutor(1) as writer,
    ):
        under_way = _UnderWay(writer, digest, on_variants, on_receipt)
        try:
            for builder, blocks in _jobs(task, parts):
                if stop():
                    break
                under_way.add(pool.submit(_run_blocks, task, builder, blocks))
                while under_way.is_full(3 * threads):
                    under_way.collect()
            while under_way:
                under_way.collect()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            writer.shutdown(wait=True, cancel_futures=True)
            raise


class _UnderWay:
    """Blocks being computed and parts being written."""

    def __init__(
        self,
        writer: ThreadPoolExecutor,
        digest: str,
        on_variants: Callable[[int], None],
        on_receipt: Callable[[Receipt], None],
    ) -> None:
        self.writer, self.digest = writer, digest
        self.on_variants, self.on_receipt = on_variants, on_receipt
        self.blocks: set[Future] = set()
        self.parts: set[Future] = set()

    def __bool__(self) -> bool:
        return bool(self.blocks or self.parts)

    def add(self, block: Future) -> None:
        self.blocks.add(block)

    def is_full(self, limit: int) -> bool:
        """Whether to wait: enough blocks computing, or parts piling up behind the disk."""
        return len(self.blocks) >= limit or len(self.parts) > 2

    def collect(self) -> None:
        """Wait for anything to finish, and pass it on."""
        done, _ = wait(self.blocks | self.parts, return_when=FIRST_COMPLETED)
        for future in done & self.parts:
            self.on_receipt(future.result())
        for future in done & self.blocks:
            n, finished = future.result()
            self.on_variants(n)
            if finished is not None:
                self.parts.add(self.writer.submit(publish_within_memory, finished, self.digest))
        self.blocks -= done
        self.parts -= done


def _jobs(task: ScanTask, parts: Sequence[int]) -> Iterator[tuple[PartBuilder, range]]:
    for part in parts:
        builder = PartBuilder(task, part)
        n_blocks = len(builder.block_rows)
        step = max(1, VARIANTS_PER_JOB // task.block_size)
        for start in range(0, n_blocks, step):
            yield builder, range(start, min(start + step, n_blocks))


def _run_blocks(
    task: ScanTask, builder: PartBuilder, blocks: range
) -> tuple[int, PartBuilder | None]:
    """Compute some blocks of a part; also return the part if they were its last ones."""
    n, finished = 0, False
    for index in blocks:
        rows = builder.block_rows[index]
        finished = builder.add(index, scan_within_memory(task, rows, partial(_workspace, task)))
        n += len(rows)
    return n, builder if finished else None


def _workspace(task: ScanTask, halvings: int = 0) -> Workspace:
    """Buffers of this thread, for this task; once they are small they stay so."""
    held = getattr(_thread, "workspace", None)
    if held is None or held[0] is not task or held[1] < halvings:
        held = _thread.workspace = None
        held = _thread.workspace = (task, halvings, make_workspace(task, halvings))
    return held[2]


def make_workspace(task: ScanTask, halvings: int = 0) -> Workspace:
    """Buffers on the processor, or on one of the devices of the task."""
    settings = task.settings
    sizes = task.block_size >> halvings, task.n_bytes, settings.dtype
    devices = choose_devices(settings.device)
    if devices == ("cpu",):
        if task.multiplies_integers:
            return IntegerWorkspace(sizes[0], task.n_bytes, task.panels)
        return Workspace(*sizes)
    from imgwas.association.device import DeviceWorkspace

    return DeviceWorkspace(*sizes, devices[next(_turns) % len(devices)])


@lru_cache(maxsize=2)
def _opened(content: bytes, digest: str) -> Genotypes:  # noqa: ARG001 - of the cache
    """Open the genotypes that a task names, once a process and run: their tables may be long.

    The digest of the run knows when files were written; what names them may not.
    """
    from distributed.protocol.pickle import loads

    genotypes: Genotypes = loads(content)
    return genotypes


def run_parts(
    parts: Sequence[int], *, folder: Path, out: Path, genotypes: bytes, digest: str
) -> list[Receipt]:
    """Compute some parts in this process, a worker; return a receipt or an error for each.

    A part that someone else has finished meanwhile is not computed again. One that took down
    several workers is not begun again.
    """
    inputs: dict[str, Any] = {"folder": folder, "genotypes": _opened(genotypes, digest)}
    return [_run_or_explain(part, out=out, digest=digest, **inputs) for part in parts]


def _run_or_explain(part: int, *, out: Path, digest: str, **inputs: Any) -> Receipt:
    start = time.monotonic()
    receipt = read_receipt(out, part)
    if receipt is not None and receipt.get("digest") == digest:
        return receipt
    begun = attempts.count(out, part)
    if begun >= attempts.MOST:
        return {"part": part, "died": True, "error": f"its worker died {begun} times"}
    attempts.begin(out, part)
    try:
        receipt = run_part(part, out=out, digest=digest, halvings=begun, **inputs)
    except ImgwasError:
        attempts.end(out, part)
        raise
    except Exception as error:  # noqa: BLE001 - told to the driver, which tries again
        attempts.end(out, part)
        return {"part": part, "error": f"{type(error).__name__}: {error}"}
    attempts.end(out, part)
    return receipt | {"seconds": time.monotonic() - start}


def run_part(
    part: int, *, folder: Path, out: Path, genotypes: Genotypes, digest: str, halvings: int = 0
) -> Receipt:
    """Compute one part in this process; the function that every cluster runs.

    With buffers halved so many times: a part that took its worker down may be too large for it.
    """
    task = load_task(folder, out, genotypes, digest)
    builder, workspace = PartBuilder(task, part), partial(_workspace, task)
    with threadpool_limits(1, user_api="blas"):
        for index, rows in enumerate(builder.block_rows):
            builder.add(index, scan_within_memory(task, rows, workspace, halvings=halvings))
    return publish_within_memory(builder, digest)

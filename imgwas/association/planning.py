"""What a scan will take, before it runs: time, memory, disk, files, here and on a cluster.

Nothing is looked up in a table of machines. Some blocks of the real input, spread over the file,
are computed by the engine that would compute all of them, written to where the results would go,
and the rest is counted from there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from imgwas.association import engines, folder
from imgwas.association.correlation import write_correlation
from imgwas.association.launching import Run
from imgwas.association.parts import encode_part, part_path, receipt_path, scan_rows
from imgwas.association.probing import space_of_sums
from imgwas.association.scan import prepare_run
from imgwas.association.task import ScanTask
from imgwas.checks import check_range
from imgwas.cluster import available_cores
from imgwas.errors import explain
from imgwas.files import publish, write_error
from imgwas.types import Covariates, Genotypes, Latents

logger = logging.getLogger(__name__)

#: Copies of a part in memory while it is computed, laid out, encoded and written.
COPIES_OF_PART = 4
#: Bytes of the probe of the disk.
WRITE_PROBE = 16_000_000
#: Minutes that a task of a job array is proposed to take.
TASK_MINUTES = 30.0


@dataclass(frozen=True)
class Plan:
    """What a scan will take.

    Attributes
    ----------
    n_samples, n_variants, n_latents, n_groups : int
        What is scanned: people, variants to read, latents, groups of latents with the same people.
    part_size, n_parts, threads : int
        How the work is cut, and by how many threads it is done here.
    kept : float
        Share of the probed variants that the filters keep.
    start_s, scan_s, finish_s : float
        Seconds to read the inputs, to scan, to finish; measured, measured on blocks, measured.
    peak_bytes, worker_bytes : int
        Memory of the process, and of one that has a single thread.
    disk_bytes, n_files, free_bytes, write_bytes_per_s : int
        What is written, and how much and how fast the disk takes.
    memory_bytes : int
        Memory of this machine that is free; 0 where it does not say.
    part_core_s : float
        Seconds of one core for a part.
    probed_variants : int
        Variants that were computed to know.
    """

    n_samples: int
    n_variants: int
    n_latents: int
    n_groups: int
    part_size: int
    n_parts: int
    threads: int
    kept: float
    start_s: float
    scan_s: float
    finish_s: float
    peak_bytes: int
    worker_bytes: int
    disk_bytes: int
    n_files: int
    free_bytes: int
    write_bytes_per_s: int
    memory_bytes: int
    part_core_s: float
    probed_variants: int

    @property
    def total_s(self) -> float:
        """Seconds from the command to its end."""
        return self.start_s + self.scan_s + self.finish_s

    @property
    def n_tasks(self) -> int:
        """Tasks of a job array of about half an hour each."""
        wanted = self.n_parts * self.part_core_s / (60 * TASK_MINUTES)
        return int(min(max(1, np.ceil(wanted)), self.n_parts))

    def with_workers(self, n: int) -> float:
        """Seconds with n workers of one core, each reading the inputs once."""
        return self.start_s + -(-self.n_parts // n) * self.part_core_s + self.finish_s

    @property
    def problems(self) -> list[str]:
        """Reasons not to start, in sentences."""
        found = []
        if self.disk_bytes > self.free_bytes:
            found.append(
                explain(
                    f"The results need {_size(self.disk_bytes)} and "
                    f"{_size(self.free_bytes)} are free",
                    do="Choose another --out or free some space",
                )
            )
        if self.memory_bytes and self.peak_bytes > self.memory_bytes:
            found.append(
                explain(
                    f"The scan needs {_size(self.peak_bytes)} of memory and "
                    f"{_size(self.memory_bytes)} are free",
                    do="Use fewer --threads or a smaller --part-size",
                )
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything, for programs."""
        return asdict(self) | {"total_s": self.total_s, "n_tasks": self.n_tasks}

    def lines(self) -> list[str]:
        """The plan for people."""
        workers = sorted({w for w in (4, 16, 64, 256) if w < self.n_parts} | {self.n_parts})
        return [
            f"scan      {self.n_variants:,} variants x {self.n_samples:,} people x "
            f"{self.n_latents:,} latents in {self.n_groups} groups",
            f"kept      {self.kept:.1%} of {self.probed_variants:,} probed variants pass filters",
            f"time      {duration(self.total_s)} with {self.threads} threads here: "
            f"{duration(self.start_s)} to read, {duration(self.scan_s)} to scan",
            f"memory    {_size(self.peak_bytes)} at most; {_size(self.memory_bytes)} are free",
            f"disk      {_size(self.disk_bytes)} in {self.n_files:,} files; "
            f"{_size(self.free_bytes)} are free, {_size(self.write_bytes_per_s)} written a second",
            f"parts     {self.n_parts:,} of {self.part_size:,} variants, "
            f"{duration(self.part_core_s)} of one core each",
            *(
                f"cluster   {w:,} workers of 1 core and {_size(self.worker_bytes)}: "
                f"{duration(self.with_workers(w))}"
                for w in workers
            ),
            f"array     --array=1-{self.n_tasks} with --part auto: about "
            f"{duration(self.with_workers(self.n_tasks))} a task",
        ]


def plan(
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    out: str | Path,
    threads: int | None = None,
    seconds: float = 5.0,
    start_s: float = 0.0,
    **options: Any,
) -> Plan:
    """Say what a scan will take, by computing some of its blocks.

    Parameters
    ----------
    genotypes, latents, covariates
        As for :func:`imgwas.associate`.
    out : path
        Folder that the results would go to. It is not made; the disk is probed beside it.
    threads : int, optional
        Threads of the scan.
    seconds : float
        Time to spend on probing, about.
    start_s : float
        Seconds that reading the inputs took before this call.
    **options
        Everything else that :func:`imgwas.associate` takes and that changes the work.

    Returns
    -------
    Plan
        Its ``lines()`` are for people, ``to_dict()`` is for programs.
    """
    check_range("seconds", seconds, low=0.1, high=3600, unit="s")
    begin = time.monotonic()
    run = prepare_run(genotypes, latents, covariates, out=out, **options)
    start_s += time.monotonic() - begin
    n_threads = threads or available_cores()
    with _beside(Path(out)) as place:
        return _Prober(run, n_threads, place, seconds).plan(start_s)


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Make a folder on the disk of the results, removed at the end."""
    parent = out.resolve()
    while not parent.is_dir():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".imgwas-plan-", dir=parent) as name:
            yield Path(name)
    except PermissionError as error:
        raise write_error(parent / "plan", error) from error


@dataclass
class _Prober:
    run: Run
    threads: int
    place: Path
    seconds: float

    def plan(self, start_s: float) -> Plan:
        task = self.run.task
        block_s = self._block_seconds()
        buffers = sum(a.nbytes for a in vars(engines._workspace(task)).values() if _is_array(a))
        small = self._small(block_s)
        folder.create(self.place)
        begin = time.monotonic()
        receipts: list[dict[str, Any]] = []
        engines.run_on_threads(
            small,
            range(small.n_parts),
            digest="probe",
            threads=self.threads,
            on_variants=lambda _: None,
            on_receipt=receipts.append,
        )
        took = time.monotonic() - begin
        peak = peak_bytes()  # before anything below, which a scan does not do
        begin = time.monotonic()
        write_correlation(self.place, self.run.design, "")
        finish_s = time.monotonic() - begin
        n_rows = sum(receipt["rows"] for receipt in receipts)
        kept = n_rows / len(small.rows)
        disk, row_bytes = self._disk(receipts, kept)
        speed = self._write_speed()
        held = COPIES_OF_PART * row_bytes * kept
        missing_rows = min(len(task.rows), task.settings.part_size) - small.settings.part_size
        peak += int(held * max(0, missing_rows))
        shared = {
            "part_core_s": block_s * task.settings.part_size / task.block_size,
            "worker_bytes": peak - (self.threads - 1) * buffers,
        }
        return Plan(
            n_samples=len(self.run.design.sample_columns),
            n_variants=len(task.rows),
            n_latents=sum(map(len, task.names)),
            n_groups=len(task.names),
            part_size=task.settings.part_size,
            n_parts=task.n_parts,
            threads=self.threads,
            kept=kept,
            start_s=start_s,
            scan_s=max(took / len(small.rows) * len(task.rows), disk / speed),
            finish_s=finish_s,
            peak_bytes=peak,
            disk_bytes=int(disk),
            n_files=2 * task.n_parts + 4,
            free_bytes=shutil.disk_usage(self.place).free,
            write_bytes_per_s=int(speed),
            memory_bytes=free_memory(),
            probed_variants=len(small.rows),
            **shared,
        )

    def _block_seconds(self) -> float:
        """Seconds of one core for a block, buffers made and pages touched before."""
        task = self.run.task
        _ = task.matrices, task.kinds, task.omnibus, task.jackknife
        blocks = _spread(task, 3)
        with threadpool_limits(1, user_api="blas"):
            scan_rows(task, blocks[0], engines._workspace(task))
            begin = time.monotonic()
            for rows in blocks:
                scan_rows(task, rows, engines._workspace(task))
        computed = sum(map(len, blocks))
        return (time.monotonic() - begin) / computed * task.block_size

    def _small(self, block_s: float) -> ScanTask:
        """The same scan of as many blocks as there is time for, spread over the file."""
        task = self.run.task
        wanted = max(2 * self.threads, int(self.seconds * self.threads / max(block_s, 1e-6)))
        blocks = _spread(task, wanted)
        rows = np.concatenate(blocks)
        per_part = -(-len(blocks) // max(2, min(len(blocks), 2 * self.threads)))
        size = min(task.settings.part_size, per_part * task.block_size)
        small = replace(
            task, rows=rows, out=self.place, settings=replace(task.settings, part_size=size)
        )
        at = np.searchsorted(task.rows, rows)
        known = {
            "matrices": task.matrices,
            "panels": task.panels,
            "omnibus": task.omnibus,
            "kinds": task.kinds[at],
        }
        known["jackknife"] = task.jackknife[at] if task.settings.heritability else task.jackknife
        vars(small).update(known)  # what would be computed again for other rows
        return small

    def _disk(self, receipts: list[dict[str, Any]], kept: float) -> tuple[float, float]:
        """Bytes of the whole run, and of one row."""
        task = self.run.task
        table = pq.read_table(part_path(self.place, 0))
        fixed = encode_part(table.slice(0, 1)).size
        rows = sum(receipt["rows"] for receipt in receipts)
        written = sum(receipt["bytes"] for receipt in receipts)
        each = max(0.0, written - fixed * len(receipts)) / max(rows - len(receipts), 1)
        receipt = receipt_path(self.place, 0).stat().st_size
        beside = sum(path.stat().st_size for path in self.place.glob("*.parquet"))
        total = task.n_parts * (fixed + receipt * 1.3) + each * kept * len(task.rows) + beside
        return total + space_of_sums(task, task.n_parts), each

    def _write_speed(self) -> float:
        """Bytes a second that the disk takes, synced."""
        content = np.random.default_rng(0).bytes(WRITE_PROBE)
        begin = time.monotonic()
        with publish(self.place / "probe") as stream:
            stream.write(content)
        return len(content) / (time.monotonic() - begin)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _spread(task: ScanTask, n: int) -> list[np.ndarray]:
    """Whole blocks of the scan, evenly over the file, at most as many as there are."""
    size = task.block_size
    total = max(1, len(task.rows) // size)
    chosen = np.unique(np.linspace(0, total - 1, min(n, total)).astype(int))
    return [task.rows[i * size : (i + 1) * size] for i in chosen.tolist()]


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def free_memory() -> int:
    """Memory that this process may still take, of the machine and of its control group."""
    limits = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        limits.append(1024 * int(free.split()[1]))
    with contextlib.suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(limits, default=0)


def since_start() -> float:
    """Seconds since this process began, imports included; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
        ticks = float(text.rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))
    return 0.0


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:,.0f} {unit}" if n >= 10 or unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:,.1f} TB"

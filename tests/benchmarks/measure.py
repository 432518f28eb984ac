"""Whole processes, measured by the operating system."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One finished process."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def run(
    command: Sequence[str | Path],
    folder: Path,
    *,
    threads: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a command to its end on some threads; its failure is an error.

    It is started by a small process of its own: a child inherits the peak memory of the process
    that forked it, and that of a test run is large.
    """
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    env = os.environ | dict.fromkeys(variables, str(threads)) | dict(environment or {})
    with tempfile.NamedTemporaryFile("r") as answer:
        starter = [sys.executable, "-I", "-S", "-c", _STARTER, answer.name, *map(str, command)]
        with (folder / "output.txt").open("wb") as output:
            subprocess.run(starter, cwd=folder, env=env, stdout=output, stderr=output, check=True)
        code, wall, cpu, peak = map(float, answer.read().split())
    if code:
        tail = (folder / "output.txt").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{command[0]} ended with {code:.0f}: {tail}")
    return Run(wall, cpu, peak)


#: Starts a command, waits for it, and writes exit code, seconds and megabytes into a file.
_STARTER = """
import os, sys, time
os.sync()  # what an earlier process left unwritten is not this one's to wait for
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - start
code = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w") as answer:
    print(code, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, file=answer)
"""


def median(runs: Sequence[Run]) -> Run:
    """Each figure's median."""
    return Run(*(statistics.median(values) for values in zip(*map(_figures, runs), strict=True)))


def _figures(one: Run) -> tuple[float, float, float]:
    return one.wall_s, one.cpu_s, one.peak_mb


def ratios(slow: Sequence[Run], fast: Sequence[Run]) -> str:
    """Wall time of one against the other, pair by pair: least, median, most."""
    found = sorted(a.wall_s / b.wall_s for a, b in zip(slow, fast, strict=True))
    return f"{found[0]:.2f} / {statistics.median(found):.2f} / {found[-1]:.2f}"


def folder_mb(folder: Path) -> float:
    """Size of everything in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def report(name: str, **figures: object) -> None:
    """Print figures, and add them to the file named by ``IMGWAS_BENCHMARK_OUT``."""
    shown = {k: asdict(v) if isinstance(v, Run) else v for k, v in figures.items()}
    line = json.dumps({"benchmark": name, **shown}, default=float)
    sys.__stdout__.write(f"\n{line}\n")
    if out := os.environ.get("IMGWAS_BENCHMARK_OUT"):
        with Path(out).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

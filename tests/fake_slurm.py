"""SLURM without SLURM: sbatch and scancel that start and end programs of this machine."""

from __future__ import annotations

import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

_SBATCH = """#!{python}
import os, pathlib, subprocess, sys
home = pathlib.Path({home!r})
number = 1000 + len(list(home.glob("*.job")))
script = pathlib.Path(sys.argv[-1]).read_text()
(home / f"{{number}}.job").write_text(script)
output = (home / f"{{number}}.out").open("w")
job = subprocess.Popen(["bash", str(home / f"{{number}}.job")], stdout=output, stderr=output,
                       stdin=subprocess.DEVNULL, start_new_session=True,
                       env=os.environ | {{"SLURM_JOB_ID": str(number)}})
(home / f"{{number}}.pid").write_text(str(job.pid))
print(f"Submitted batch job {{number}}")
"""
_SCANCEL = """#!{python}
import os, pathlib, signal, sys
for number in sys.argv[1:]:
    pid = pathlib.Path({home!r}) / f"{{number}}.pid"
    try:
        os.killpg(int(pid.read_text()), signal.SIGTERM)
    except (OSError, ValueError):
        pass
"""


def install(home: Path) -> str:
    """Put the programs into a folder; return a PATH that starts with it."""
    home.mkdir(exist_ok=True)
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        program = home / name
        program.write_text(text.format(python=sys.executable, home=str(home)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{home}{os.pathsep}{os.environ['PATH']}"


def jobs(home: Path) -> list[int]:
    """Process ids of the jobs that were submitted."""
    return [int(path.read_text()) for path in sorted(home.glob("*.pid"))]


def end_all(home: Path) -> None:
    """Kill what is left of the jobs."""
    for pid in jobs(home):
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            continue


def run_array(
    script: Path, arguments: list[str], folder: Path, *, at_once: int, kills: int, seed: int
) -> dict[str, int]:
    """Run an array script as the controller does: so many at once, random kills, requeued.

    The first starts are killed within their first half second, which is less than any lasts.

    Returns
    -------
    dict
        How many tasks, starts and kills there were, and how often a task failed.
    """
    rng = random.Random(seed)
    found = re.search(r"#SBATCH --array=(\d+)-(\d+)", script.read_text())
    first, last = int(found[1]), int(found[2])
    waiting = list(range(first, last + 1))
    rng.shuffle(waiting)
    running: dict[int, subprocess.Popen] = {}
    dies_at: dict[int, float] = {}
    count = {"tasks": len(waiting), "starts": 0, "kills": 0, "failures": 0}
    array = {"MIN": first, "MAX": last, "COUNT": last - first + 1}
    while waiting or running:
        while waiting and len(running) < at_once:
            number = waiting.pop()
            named = array | {"ID": number}
            variables = {f"SLURM_ARRAY_TASK_{name}": str(one) for name, one in named.items()}
            running[number] = subprocess.Popen(
                ["bash", str(script), *arguments], cwd=folder, start_new_session=True,
                env=os.environ | variables | {"SLURM_CPUS_PER_TASK": "1"},
                stdout=subprocess.DEVNULL, stderr=(folder / f"task-{number}.txt").open("a"),
            )  # fmt: skip
            count["starts"] += 1
            if count["kills"] + len(dies_at) < kills:
                dies_at[number] = time.monotonic() + rng.uniform(0.05, 0.5)
        time.sleep(0.02)
        for number in [n for n, at in dies_at.items() if time.monotonic() >= at]:
            del dies_at[number]
            os.killpg(running[number].pid, signal.SIGKILL)
            count["kills"] += 1
        for number, process in list(running.items()):
            if process.poll() is not None:
                del running[number]
                dies_at.pop(number, None)
                if process.returncode == -signal.SIGKILL:
                    waiting.append(number)
                count["failures"] += process.returncode not in (0, -signal.SIGKILL)
    return count

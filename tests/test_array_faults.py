"""Tasks of a job array that fail at every single step, are killed, or find the disk full."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import imgwas
from tests.cli_cohort import imgwas as command_line

COMMAND = [
    *("associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet"),
    *("--part-size", "100", "--threads", "1"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cohort and its scan of four parts."""
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home / "cohort", n_samples=120, n_variants=400, n_latents=40, n_causal=2, seed=16
    )
    done = command_line(*COMMAND, "--out", "clean", folder=home)
    assert done.code == 0, done.text
    return home


def digest(folder: Path) -> str:
    assert not list(folder.rglob(".*.tmp"))
    return imgwas.open_sumstats(folder).digest()


@pytest.mark.slow
@pytest.mark.parametrize("call", ["replace", "fsync", "open", "link"])
def test_every_crash_point_of_the_last_task(home, tmp_path, monkeypatch, call):
    """Fail at the k-th rename, sync, new file or link, for every k; then the task again."""
    target = {"replace": (Path, "replace"), "fsync": (os, "fsync"), "open": (Path, "open"),
              "link": (os, "link")}[call]  # fmt: skip
    real, failures = getattr(*target), 0
    for k in range(1, 100):
        out, count = tmp_path / f"out{k}", 0
        done = command_line(*COMMAND, "--out", out, "--part", "1/2", folder=home)
        assert done.code == 0, done.text

        def fail(*args, **kwargs):
            nonlocal count
            writing = call != "open" or (args[1:2] and set(str(args[1])) & set("wxa"))
            count += bool(writing)
            if writing and count == k:  # noqa: B023 - called within this turn of the loop
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*args, **kwargs)

        monkeypatch.setattr(*target, fail)
        broken = command_line(*COMMAND, "--out", out, "--part", "2/2", folder=home)
        monkeypatch.setattr(*target, real)
        if count < k:
            break
        failures += 1
        assert broken.code in (0, 4, 5), broken.text
        assert "internal error" not in broken.text
        again = command_line(*COMMAND, "--out", out, "--part", "2/2", folder=home)
        assert again.code == 0, again.text
        assert digest(out) == digest(home / "clean")
    assert failures >= (2 if call == "link" else 6)


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(home, tmp_path):
    """The disk takes no part: exit code 5, nothing half-written, the task heals later."""
    command = [sys.executable, "-m", "imgwas_cli.main", *COMMAND, "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--part", "1/2"], cwd=home, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000)),
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    out = tmp_path / "out"
    assert not list((out / "parts").iterdir())
    assert not list(out.rglob(".*.tmp"))
    for part in ("2/2", "1/2"):
        done = command_line(*COMMAND, "--out", out, "--part", part, folder=home)
        assert done.code == 0, done.text
    assert digest(out) == digest(home / "clean")


@pytest.mark.slow
def test_tasks_killed_at_random_moments(home, tmp_path, capsys):
    """Three tasks at once, killed and given again until all have ended well."""
    rng, out, kills = random.Random(3), tmp_path / "out", 0
    command = [sys.executable, "-m", "imgwas_cli.main", *COMMAND, "--out", str(out)]
    waiting = ["1/3", "2/3", "3/3"]
    while waiting:
        running = {
            part: subprocess.Popen([*command, "--part", part], cwd=home, stderr=subprocess.DEVNULL)
            for part in waiting
        }
        time.sleep(rng.uniform(0.1, 0.6))  # less than all three last
        for part, process in running.items():
            if kills < 6 and rng.random() < 0.7:
                process.kill()
            if process.wait() == 0:
                waiting.remove(part)
            else:
                assert process.returncode == -signal.SIGKILL
                kills += 1
    done = command_line(*COMMAND, "--out", out, "--finish", folder=home)
    assert done.code == 0, done.text
    with capsys.disabled():
        print(f"\n{kills} kills")
    assert kills >= 3
    assert digest(out) == digest(home / "clean")

"""Killed, stopped, damaged, overtaken: what a run leaves behind and how it goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import imgwas
from imgwas.association import folder as run_folder
from imgwas.errors import ImgwasError, InconsistentError, WriteError
from imgwas.locks import locked
from tests.cli_cohort import imgwas as command_line
from tests.cli_cohort import replaced

COMMAND = [
    *("associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet"),
    *("--covar", "cohort/covariates.tsv", "--part-size", "100", "--threads", "2"),
]
KILLS = 5


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a cohort of 40 parts and an uninterrupted run."""
    home = tmp_path_factory.mktemp("home")
    made = imgwas.simulate_cohort(
        home / "cohort",
        n_samples=1501,
        n_variants=4000,
        n_latents=48,
        n_causal=4,
        missing_rate=0.01,
        missing_latents=0.05,
        seed=9,
    )
    assert made.bfile == home / "cohort" / "cohort"
    done = command_line(*COMMAND, "--out", "clean", folder=home)
    assert done.code == 0, done.text
    return home


def parts_of(out: Path) -> dict[str, str]:
    """SHA-256 of every part by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((out / "parts").glob("*.parquet"))
    }


#: The command, except that it writes no more parts than ``most`` before the file ``go`` is there:
#: however slow the one who watches is, the run is not over before it can be hit.
HELD = """
import runpy, sys, time
from pathlib import Path
from imgwas.association.parts import PartBuilder

folder, most, go = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
publish = PartBuilder.publish

def held(builder, digest):
    while len(list((folder / "parts").glob("*.ok.json"))) >= most and not go.exists():
        time.sleep(0.002)
    return publish(builder, digest)

PartBuilder.publish = held
sys.argv = ["imgwas", *sys.argv[4:]]
runpy.run_module("imgwas_cli.main", run_name="__main__")
"""


def start(home: Path, out: str, most: int) -> subprocess.Popen:
    """Start the command as a program of its own that hears Ctrl-C, and waits after some parts."""
    return subprocess.Popen(
        [sys.executable, "-c", HELD, out, str(most), f"{out}.go", *COMMAND, "--out", out],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_parts(process: subprocess.Popen, out: Path, n: int) -> None:
    """Return when a running command has published some parts."""
    while process.poll() is None and len(list((out / "parts").glob("*.ok.json"))) < n:
        time.sleep(0.002)


@pytest.mark.parametrize(
    "round_", [0, 1, *(pytest.param(k, marks=pytest.mark.slow) for k in range(2, KILLS))]
)
def test_kill_minus_nine_then_the_same_command(home, round_):
    out = home / f"killed{round_}"
    after = random.Random(round_).randrange(1, 30)
    process = start(home, out.name, after + round_)
    wait_for_parts(process, out, after)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (out / "RUN_COMPLETE.json").exists()
    with pytest.raises(ImgwasError, match=r"not finished|unfinished|is incomplete"):
        imgwas.open_sumstats(out)
    before = {p.name: p.stat().st_mtime_ns for p in (out / "parts").glob("*.parquet")}
    done = command_line(*COMMAND, "--out", out.name, "--resume", folder=home)
    assert done.code == 0, done.text
    assert parts_of(out) == parts_of(home / "clean")
    assert imgwas.open_sumstats(out).digest() == imgwas.open_sumstats(home / "clean").digest()
    kept = [name for name, t in before.items() if (out / "parts" / name).stat().st_mtime_ns == t]
    assert len(kept) >= after - 1
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_resumable_folder_and_says_so(home, number, code):
    out = home / f"signal{code}"
    process = start(home, out.name, 5)
    wait_for_parts(process, out, 3)
    process.send_signal(number)
    out.with_name(f"{out.name}.go").touch()
    said = process.communicate(timeout=240)[1]
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert f"Stopped by {signal.Signals(number).name}" in said
    assert "of 40 parts are finished and safe" in said
    assert "Run the same command again to resume" in said
    assert not (out / "RUN_COMPLETE.json").exists()
    assert not (out / ".lock").exists()
    done = command_line(*COMMAND, "--out", out.name, folder=home)
    assert done.code == 0, done.text
    assert "resuming:" in done.text
    assert parts_of(out) == parts_of(home / "clean")


class Fault(Exception):
    """Stands in for the power cut."""


@pytest.mark.parametrize(
    "call",
    ["replace", *(pytest.param(one, marks=pytest.mark.slow) for one in ("fsync", "open"))],
)
def test_every_crash_point(home, tmp_path, monkeypatch, call):
    """Fail at the k-th rename, sync or new file, for every k; then the same command heals it."""
    options = ["--extract", "few.txt", "--out", str(tmp_path / "out")]
    ids = imgwas.open_genotypes(home / "cohort/cohort").variants["variant_id"].to_pylist()[:250]
    (home / "few.txt").write_text("\n".join(ids))
    clean = tmp_path / "clean"
    assert command_line(*COMMAND, *options[:3], str(clean), folder=home).code == 0
    target = {"replace": (Path, "replace"), "fsync": (os, "fsync"), "open": (Path, "open")}[call]
    real = getattr(*target)
    failures = 0
    for k in range(1, 200):
        count = 0

        def fail(*args, **kwargs):
            nonlocal count
            writing = call != "open" or (args[1:2] and set(str(args[1])) & set("wx"))
            count += bool(writing)
            if writing and count == k:  # noqa: B023 - called within this turn of the loop
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*args, **kwargs)

        monkeypatch.setattr(*target, fail)
        broken = command_line(*COMMAND, *options, "--overwrite", folder=home)
        monkeypatch.setattr(*target, real)
        if count < k:
            break
        failures += 1
        assert broken.code in (4, 5), broken.text
        if (tmp_path / "out" / "RUN_COMPLETE.json").exists():  # before it was cleared, or after all
            assert parts_of(tmp_path / "out") == parts_of(clean)
        healed = command_line(*COMMAND, *options, folder=home)
        assert healed.code == 0, healed.text
        assert parts_of(tmp_path / "out") == parts_of(clean)
    assert failures >= 8


def test_a_complete_run_given_again_does_nothing(home):
    before = {p: p.stat().st_mtime_ns for p in (home / "clean" / "parts").iterdir()}
    done = command_line(*COMMAND, "--out", "clean", folder=home)
    assert done.code == 0
    assert "is complete already: nothing to do" in done.text
    assert before == {p: p.stat().st_mtime_ns for p in (home / "clean" / "parts").iterdir()}


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (["--maf", "0.05"], r"settings.filters.maf was null, now 0.05"),
        (["--missing-genotype", "drop"], r'missing_genotype was "mean", now "drop"'),
        (["--precision", "double"], r'precision was "single", now "double"'),
        (["--covar-name", "age"], r"covariates was"),
        (["--latent-name", "L0000"], r"latent"),
        (["--part-size", "50"], r"part_size was 100, now 50"),
        (["--effect-allele", "a2"], r"swapped_alleles was"),
        (["--chr", "1"], r"variants was"),
    ],
)
def test_other_settings_are_refused_with_the_difference(home, more, difference):
    names = imgwas.open_sumstats(home / "clean").latents
    more = [names[0] if word == "L0000" else word for word in more]
    done = command_line(*replaced(COMMAND, "--out", "clean", *more), folder=home)
    assert done.code == 7, done.text
    assert re.search(difference, done.text), done.text
    assert "--overwrite" in done.text
    assert (home / "clean" / "RUN_COMPLETE.json").exists()


def test_threads_and_verbosity_are_no_difference(home):
    words = replaced(COMMAND, "--out", "clean", "--threads", "1")
    done = command_line(*words, "--quiet", folder=home)
    assert done.code == 0, done.text


def copy_of_clean(home: Path, name: str) -> Path:
    """The finished run again, without its last file."""
    out = home / name
    shutil.copytree(home / "clean", out)
    (out / "RUN_COMPLETE.json").unlink()
    return out


@pytest.mark.parametrize("damage", ["shorter", "flipped", "no receipt", "receipt cut"])
def test_a_damaged_part_is_computed_again(home, damage):
    out = copy_of_clean(home, f"damaged-{damage.replace(' ', '-')}")
    part, receipt = out / "parts/part-00007.parquet", out / "parts/part-00007.ok.json"
    content = bytearray(part.read_bytes())
    if damage == "shorter":
        part.write_bytes(content[:-10])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    elif damage == "no receipt":
        receipt.unlink()
    else:
        receipt.write_text(receipt.read_text()[:50])
    done = command_line(*COMMAND, "--out", out.name, folder=home)
    assert done.code == 0, done.text
    assert parts_of(out) == parts_of(home / "clean")


def test_a_genotype_file_changed_between_runs_is_refused(home, tmp_path):
    shutil.copytree(home / "cohort", tmp_path / "cohort")
    done = command_line(*COMMAND, "--out", "out", folder=tmp_path)
    assert done.code == 0, done.text
    (tmp_path / "out" / "RUN_COMPLETE.json").unlink()
    (tmp_path / "out" / "parts/part-00003.ok.json").unlink()
    bed = tmp_path / "cohort/cohort.bed"
    content = bytearray(bed.read_bytes())
    content[5000] ^= 0b1100
    bed.write_bytes(content)
    done = command_line(*COMMAND, "--out", "out", folder=tmp_path)
    assert done.code == 7
    assert "bed_mtime_ns was" in done.text


def test_a_genotype_file_changed_under_a_run_is_refused(home, tmp_path):
    from imgwas.association.progress import NoProgress

    shutil.copytree(home / "cohort", tmp_path / "cohort")
    bed = tmp_path / "cohort/cohort.bed"

    class Touch(NoProgress):
        def part_done(self, receipt) -> None:
            os.utime(bed, ns=(1, 1))

    with pytest.raises(InconsistentError, match="changed while it was being read"):
        imgwas.associate(
            imgwas.open_genotypes(tmp_path / "cohort/cohort"),
            imgwas.read_latents(tmp_path / "cohort/latents.parquet"),
            out=tmp_path / "out",
            part_size=100,
            progress=Touch(),
        )
    assert not (tmp_path / "out" / "RUN_COMPLETE.json").exists()


def test_two_runs_may_not_share_a_folder(home, tmp_path):
    with locked(tmp_path):
        done = command_line(*COMMAND, "--out", tmp_path, folder=home)
        assert done.code == 7
        assert f"is in use by process {os.getpid()}" in done.text
        assert "--break-lock" in done.text
    assert command_line(*COMMAND, "--out", tmp_path, folder=home).code == 0


def test_a_lock_of_another_machine_holds_until_it_is_broken(home, tmp_path):
    (tmp_path / ".lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": 0}))
    done = command_line(*COMMAND, "--out", tmp_path, folder=home)
    assert done.code == 7
    assert "process 1 on elsewhere" in done.text
    assert command_line(*COMMAND, "--out", tmp_path, "--break-lock", folder=home).code == 0


def test_a_lock_of_a_dead_process_is_taken_over(home, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder = {"host": socket.gethostname(), "pid": dead.pid, "start": 0}
    (tmp_path / ".lock").write_text(json.dumps(holder))
    assert command_line(*COMMAND, "--out", tmp_path, folder=home).code == 0


def test_overwrite_removes_results_and_nothing_else(home, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert command_line(*COMMAND, "--out", tmp_path, folder=home).code == 0
    done = command_line(*COMMAND, "--out", tmp_path, "--chr", "1", "--overwrite", folder=home)
    assert done.code == 0, done.text
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("log-*.txt"))) == 2


def test_no_space_is_said_before_anything_is_computed(home, tmp_path, monkeypatch):
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    with pytest.raises(WriteError, match=r"The results need about .* MB free"):
        imgwas.associate(
            imgwas.open_genotypes(home / "cohort/cohort"),
            imgwas.read_latents(home / "cohort/latents.parquet"),
            out=tmp_path / "out",
        )
    assert not list((tmp_path / "out" / "parts").iterdir())

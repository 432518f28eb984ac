"""A disk that is full: said clearly, nothing half-written under a final name, and it can go on."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import imgwas
from tests.cli_cohort import imgwas as command_line

COMMAND = [
    *("associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet"),
    *("--part-size", "500", "--threads", "2"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cohort whose results take about three megabytes."""
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home / "cohort", n_samples=120, n_variants=6000, n_latents=100, n_causal=2, seed=1
    )
    return home


def check_nothing_half_written(out: Path) -> None:
    """Every part under a final name is whole; nothing temporary is left."""
    assert not (out / "RUN_COMPLETE.json").exists()
    assert not list(out.rglob("*.tmp"))
    for part in (out / "parts").glob("*.parquet"):
        assert pq.read_table(part, page_checksum_verification=True).num_rows == 500


@pytest.fixture
def small_disk(tmp_path):
    """A memory disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs can be mounted by root only")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_disk_of_two_megabytes(home, small_disk, monkeypatch, tmp_path):
    full = command_line(*COMMAND, "--out", small_disk / "out", folder=home)
    assert full.code == 5
    assert "The results need about" in full.text
    # and when others fill it meanwhile, so that it looked large enough at the start
    monkeypatch.setattr("imgwas.association.folder.check_space", lambda *_: None)
    full = command_line(*COMMAND, "--out", small_disk / "out", folder=home)
    assert full.code == 5, full.text
    assert "0 MB free of 2 MB" in full.text
    assert "run the same command again to resume" in full.text
    assert "Traceback" not in full.text
    finished = list((small_disk / "out" / "parts").glob("*.ok.json"))
    assert finished
    check_nothing_half_written(small_disk / "out")
    shutil.copytree(small_disk / "out", tmp_path / "larger")
    done = command_line(*COMMAND, "--out", tmp_path / "larger", folder=home)
    assert done.code == 0, done.text
    assert f"resuming: {len(finished)} of 12 parts are done" in done.text
    assert command_line(*COMMAND, "--out", tmp_path / "clean", folder=home).code == 0
    digests = [imgwas.open_sumstats(tmp_path / name).digest() for name in ("larger", "clean")]
    assert digests[0] == digests[1]


def test_a_limit_on_the_size_of_files(home, tmp_path):
    """The same without privileges: the system refuses files above 100 kB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-m", "imgwas_cli.main", *COMMAND, "--out", str(tmp_path / "out")],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert "part-0000" in done.stderr
    check_nothing_half_written(tmp_path / "out")


def test_standard_output_that_is_full():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "imgwas_cli.main", "associate", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        f"'{sys.executable}' -m imgwas_cli.main associate --help | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr

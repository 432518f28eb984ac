"""imgwas plan says beforehand what a scan takes."""

from __future__ import annotations

import json
import sys

import pytest

import imgwas
from imgwas.association.planning import duration
from tests.benchmarks.cohorts import Cohort, write
from tests.benchmarks.measure import run
from tests.cli_cohort import imgwas as command_line

WORDS = ["--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet", "--threads", "1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home / "cohort", n_samples=97, n_variants=2400, n_latents=5, n_causal=2, seed=13
    )
    return home


def test_what_is_counted_is_right(home):
    """Everything that is no measurement of speed."""
    words = [*WORDS, "--maf", "0.05", "--part-size", "500", "--out", "results"]
    done = command_line("plan", *words, "--json", "--seconds", "0.1", folder=home)
    assert done.code == 0, done.text
    plan = json.loads(done.text)
    assert not (home / "results").exists()
    assert not list(home.glob(".imgwas-plan-*"))
    done = command_line("associate", *words, folder=home)
    assert done.code == 0, done.text
    made = imgwas.open_sumstats(home / "results")
    assert plan["n_samples"] == made.samples["kept"]
    assert plan["n_latents"] == len(made.latents)
    assert plan["n_variants"] == 2400
    assert plan["n_parts"] == len(made.parts) == 5
    assert plan["kept"] == pytest.approx(made.n_variants / 2400, abs=0.05)
    files = [p for p in (home / "results").rglob("*") if p.is_file() and p.name[0] != "."]
    assert plan["n_files"] == pytest.approx(len(files), abs=1)
    disk = sum(path.stat().st_size for path in files)
    assert plan["disk_bytes"] == pytest.approx(disk, rel=0.3)
    assert plan["total_s"] > 0


def test_for_people(home):
    done = command_line("plan", *WORDS, "--out", "r", "--seconds", "0.1", folder=home)
    assert done.code == 0, done.text
    for line in (
        "scan      2,400 variants x 97 people x 5 latents",
        "time  ",
        "memory  ",
        "disk  ",
        "cluster   1 workers",
        "array     --array=1-1 with --part auto",
    ):
        assert line in done.text  # fmt: skip


def test_what_does_not_fit(home, monkeypatch):
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("imgwas.association.planning.shutil.disk_usage", lambda _: usage)
    done = command_line("plan", *WORDS, "--out", "r", "--seconds", "0.1", folder=home)
    assert done.code == 20
    assert "The results need" in done.text


@pytest.mark.parametrize("more", [["--heritability"], ["--omnibus", "--missing-genotype", "drop"]])
def test_other_models(home, more):
    words = [*WORDS, *more, "--out", "r", "--seconds", "0.1"]
    done = command_line("plan", *words, folder=home)
    assert done.code == 0, done.text


def test_same_refusals_as_the_scan(home):
    done = command_line("plan", "--bfile", "nowhere", *WORDS[2:], "--out", "r", folder=home)
    assert done.code == 3
    assert command_line("plan", *WORDS[2:], "--out", "r", folder=home).code == 8


def test_durations():
    shown = [duration(s) for s in (0.0123, 2.34, 120, 7200, 100_000)]
    assert shown == ["12 ms", "2.3 s", "2 min", "2.0 h", "27.8 h"]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "k"), [(2000, 400_000, 64), (6000, 100_000, 128)])
def test_predictions_within_thirty_percent(tmp_path, capsys, n, m, k):
    """A short probe against the whole run: time, memory, disk."""
    made = Cohort(tmp_path / "cohort", n=n, m=m, k=k, c=10)
    write(made, missing=0.01)
    words = made.imgwas("out")[2:]
    program = [sys.executable, "-m", "imgwas_cli.main"]
    words.remove("--overwrite")
    at = words.index("--out")
    del words[at : at + 2]
    ratios: list[dict[str, float]] = []
    for attempt in range(3):  # the machine may be busy with other things
        options = ["--out", f"out{attempt}", "--seconds", "0.5"]
        run([*program, "plan", *words, *options, "--json", "--quiet"], tmp_path)
        plan = json.loads((tmp_path / "output.txt").read_text())
        real = run([*program, "associate", *words, "--out", f"out{attempt}"], tmp_path)
        folder = tmp_path / f"out{attempt}"
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        ratios.append({
            "time": plan["total_s"] / real.wall_s,
            "memory": plan["peak_bytes"] / real.peak_mb / 2**20,
            "disk": plan["disk_bytes"] / disk,
            "probed": plan["probed_variants"] / m,
        })  # fmt: skip
        if all(abs(ratios[-1][name] - 1) < 0.3 for name in ("time", "memory", "disk")):
            break
    with capsys.disabled():
        for one in ratios:
            print("\npredicted / real:", {name: round(x, 2) for name, x in one.items()})
    assert all(abs(ratios[-1][name] - 1) < 0.3 for name in ("time", "memory", "disk")), ratios
    assert ratios[-1]["probed"] < 0.7

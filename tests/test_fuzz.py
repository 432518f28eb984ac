"""Damaged files of every kind are refused in our own words, or read as what they now say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imgwas
from tests.fuzz_targets import TARGETS, make_latents, read_latents
from tests.fuzzing import BYTES, Target, mutants, run_target, same
from tests.source_tree import ROOT

#: Mutants of each target under ``slow``, together more than ten thousand, and in every build.
MANY, FEW = 700, 14
#: Of some targets more: nearly every line of a VCF is text that something else must read.
MORE = {"vcf": 1000}
#: Import torch: not in the default tests.
SLOW = {"encoder", "checkpoint", "vcf"}


@pytest.mark.parametrize("name", sorted(set(TARGETS) - SLOW))
def test_a_few_mutants(name, tmp_path):
    assert run_target(TARGETS[name], tmp_path / "it", FEW, seed=7) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_many_mutants_under_limits(name, tmp_path):
    """In a process of its own: ten seconds a mutant, and two gigabytes of address space."""
    n = str(MORE.get(name, MANY))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", name, n, "11", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = tmp_path / f"{name}.last"
    assert done.returncode == 0, f"{last.read_text() if last.exists() else ''} {done.stderr}"
    found = json.loads(done.stdout)
    assert found["findings"] == []
    assert found["grown"] < BYTES


def test_there_are_ten_thousand_mutants():
    many = sum(MORE.get(name, MANY) for name in TARGETS)
    assert many >= 10_000
    few = (len(TARGETS) - len(SLOW)) * FEW
    assert few >= 300
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    for number in (len(TARGETS), many, few):
        assert f"{number:,}" in page, "docs/reliability.md says how many"


def test_mutants_differ_and_repeat_with_their_seed():
    content = bytes(range(200))
    one, again, other = (dict(mutants(content, 100, seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert content not in one.values()
    assert {name.split()[0] for name in one} >= {"flip", "set", "insert", "nasty", "delete", "cut"}


def careless(path: Path) -> dict[str, object]:
    """A reader without any check: what is missing is zero, and the last field counts."""
    lines = path.read_text(errors="replace").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    cells = [
        [row[k].replace("NA", "nan") if k < len(row) else "0" for k in (1, 2, 3)] for row in rows
    ]
    values = np.array([[float(cell) for cell in row] for row in cells])
    return {"ids": tuple(row[0] for row in rows), "names": ("z0", "z1", "z2"), "values": values}


def test_a_careless_reader_is_found_out(tmp_path):
    victim, make = TARGETS["tsv"].victims, make_latents
    target = Target("careless", victim, make, lambda f: careless(f / "z.tsv"), TARGETS["tsv"].check)
    findings = run_target(target, tmp_path / "it", 60, seed=1)
    assert any("ValueError" in one for one in findings)
    assert any("ragged" in one or "other" in one for one in findings)


def test_a_checksum_that_nobody_looks_at_is_found_out(tmp_path):
    """The same numbers without page checksums: some flipped bit reads as another number."""

    def make(folder: Path) -> None:
        make_latents(folder)
        frame = imgwas.read_latents(folder / "z.parquet")
        table = {name: frame.values[:, k] for k, name in enumerate(frame.names)}
        import pandas as pd

        pd.DataFrame({"IID": frame.sample_ids, **table}).to_parquet(
            folder / "z.parquet", compression=None
        )

    read = read_latents("z.parquet")
    target = Target("unprotected", ("z.parquet",), make, read, same)
    assert run_target(target, tmp_path / "it", 60, seed=1)

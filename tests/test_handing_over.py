"""Parts handed to a program: a machine whose disk is gone costs what it had not handed over."""

from __future__ import annotations

import json
import shutil
import stat

import pytest

import imgwas
from imgwas.association import handing_over
from imgwas.association.handing_over import HandingOver
from imgwas.association.progress import NoProgress
from imgwas.errors import IncompleteError, OpenError
from tests.cli_cohort import imgwas as command_line

SAVE = """#!/bin/sh
out=$1; shift
echo "$@" >> "{store}.calls"
for file in "$@"; do
    mkdir -p "{store}/$(dirname "$file")" && cp "$out/$file" "{store}/$file" || exit 7
done
"""


class Lost(Exception):
    """The machine is gone."""


class LostAfter(NoProgress):
    """Ends the run after some parts."""

    def __init__(self, n: int) -> None:
        self.left = n

    def part_done(self, receipt) -> None:
        self.left -= 1
        if self.left == 0:
            raise Lost


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return imgwas.simulate_cohort(
        tmp_path_factory.mktemp("cohort") / "cohort", n_samples=150, n_variants=1000,
        n_latents=3, n_causal=3, seed=8,
    )  # fmt: skip


def scan(cohort, out, **options) -> imgwas.SumStats:
    return imgwas.associate(
        imgwas.open_genotypes(cohort.bfile),
        imgwas.read_latents(cohort.latents),
        imgwas.read_covariates(cohort.covariates),
        out=out,
        **({"part_size": 100, "threads": 1, "ignore_file_times": True} | options),
    )


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def program(tmp_path, store):
    return script(tmp_path / "save it", SAVE.format(store=store))


def script(path, text):
    path.write_text(text)
    path.chmod(stat.S_IRWXU)
    return path


def calls(store) -> list[list[str]]:
    return [line.split() for line in (store.parent / "store.calls").read_text().splitlines()]


@pytest.mark.parametrize("heritability", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_another_machine_goes_on_from_what_was_handed_over(
    cohort, tmp_path, program, store, heritability
):
    """The disk goes with the job; the genotypes of the new one are a copy, with other times."""
    options = {"heritability": heritability}
    with pytest.raises(Lost):
        scan(cohort, tmp_path / "a", progress=HandingOver(program, LostAfter(5)), **options)
    shutil.rmtree(tmp_path / "a")
    done = len(list((store / "parts").glob("*.ok.json")))
    assert 1 <= done <= 5
    assert calls(store)[0] == ["run.json"]
    there = tmp_path / "elsewhere"
    shutil.copytree(cohort.bfile.parent, there, copy_function=shutil.copy)
    moved = imgwas.open_genotypes(there / cohort.bfile.name)
    shutil.copytree(store, tmp_path / "b")
    counted = LostAfter(1000)
    found = imgwas.associate(
        moved, imgwas.read_latents(cohort.latents), imgwas.read_covariates(cohort.covariates),
        out=tmp_path / "b", part_size=100, threads=2, ignore_file_times=True, progress=counted,
        **options,
    )  # fmt: skip
    assert 1000 - counted.left == 10 - done
    whole = scan(cohort, tmp_path / "whole", **options)
    assert found.digest() == whole.digest()


def test_every_part_once_and_never_again(cohort, tmp_path, program, store):
    out = tmp_path / "out"
    with pytest.raises(Lost):
        scan(cohort, out, progress=HandingOver(program, LostAfter(4)))
    scan(cohort, out, progress=HandingOver(program))
    called = calls(store)
    assert len(called) == 11
    assert sorted(files[0] for files in called) == sorted(
        ["run.json", *(f"parts/part-{k:05d}.parquet" for k in range(10))]
    )
    for path in (out / "parts").iterdir():
        assert (store / "parts" / path.name).read_bytes() == path.read_bytes()


def test_a_program_that_fails_is_called_again_and_then_named(
    cohort, tmp_path, program, store, monkeypatch
):
    waits: list[float] = []
    monkeypatch.setattr(handing_over.time, "sleep", waits.append)
    text = SAVE.format(store=store)
    script(program, "#!/bin/sh\necho no network >&2\nexit 3\n")
    with pytest.raises(IncompleteError, match=r"11 of the parts .*code 3: no network") as caught:
        scan(cohort, tmp_path / "out", progress=HandingOver(program))
    assert caught.value.exit_code == 20
    assert len(waits) == 22
    assert not (tmp_path / "out" / "RUN_COMPLETE.json").exists()
    script(program, text)
    results = scan(cohort, tmp_path / "out", progress=HandingOver(program))
    assert len(calls(store)) == 11, "computed before, handed over now"
    assert not results.is_partial


def test_a_task_of_an_array_hands_over_what_failed_before(
    cohort, tmp_path, program, store, monkeypatch
):
    monkeypatch.setattr(handing_over.time, "sleep", lambda _: None)
    text = SAVE.format(store=store)
    script(program, "#!/bin/sh\nexit 3\n")
    out, task = tmp_path / "out", {"part": (1, 2)}
    with pytest.raises(IncompleteError, match="Run the same command again, which hands them over"):
        scan(cohort, out, progress=HandingOver(program), **task)
    script(program, text)
    scan(cohort, out, progress=HandingOver(program), **task)
    assert len(list((store / "parts").glob("*.ok.json"))) == 5


def test_another_run_of_the_same_numbers_is_handed_over_too(cohort, tmp_path, program, store):
    """The parts of the second are those of the first, byte for byte; its receipts are not."""
    out = tmp_path / "out"
    scan(cohort, out, progress=HandingOver(program))
    scan(cohort, out, progress=HandingOver(program), overwrite=True, heritability=True)
    for path in (out / "parts").glob("*.ok.json"):
        assert (store / "parts" / path.name).read_bytes() == path.read_bytes()


def test_no_such_program(cohort, tmp_path):
    with pytest.raises(OpenError, match=r"nothing --here is no program .* without arguments"):
        HandingOver("nothing --here")
    done = command_line(
        "associate", "--bfile", cohort.bfile, "--latents", cohort.latents, "--out",
        tmp_path / "out", "--on-part", "upload --to there", folder=tmp_path,
    )  # fmt: skip
    assert done.code == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_repair_starts_no_program_that_a_file_names(cohort, tmp_path, program, store, monkeypatch):
    """The recorded command is read from ``run.json``, which came from somewhere."""
    out = tmp_path / "out"
    words = ["associate", "--bfile", str(cohort.bfile), "--latents", str(cohort.latents),
             "--out", str(out), "--on-part", str(program), "--part-size", "100"]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["imgwas", *words])
    done = command_line(*words, folder=tmp_path)
    assert done.code == 0, done.text
    assert len(calls(store)) == 11
    assert str(program) in json.loads((out / "run.json").read_text())["command"]
    (out / "parts" / "part-00003.parquet").write_bytes(b"damaged")
    done = command_line("repair", out, folder=tmp_path)
    assert done.code == 0, done.text
    assert (out / "parts" / "part-00003.parquet").stat().st_size > 1000
    assert len(calls(store)) == 11

"""Tasks of a job array: any order, any number at once, one folder, the same numbers."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from imgwas_cli import launchers

import imgwas
from imgwas.association import folder as run_folder
from imgwas.errors import ImgwasError, InconsistentError, UsageError
from imgwas.files import publish_once
from imgwas.locks import joined, locked, others, sweep
from tests.cli_cohort import imgwas as command_line

COMMAND = [
    *("associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet"),
    *("--covar", "cohort/covariates.tsv", "--part-size", "60", "--threads", "1"),
]
N_PARTS = 10


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A small cohort and a run of its own."""
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home / "cohort", n_samples=97, n_variants=600, n_latents=4, n_causal=2,
        missing_rate=0.02, missing_latents=0.1, seed=11,
    )  # fmt: skip
    done = command_line(*COMMAND, "--out", "clean", folder=home)
    assert done.code == 0, done.text
    return home


def digest(folder: Path) -> str:
    return imgwas.open_sumstats(folder).digest()


def state(folder: Path) -> dict[str, bytes]:
    """Everything that a run leaves, apart from logs and what says when and by which command."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("log-", "run.json"))
    }


@pytest.mark.parametrize(
    "order", [(3, 1, 2), *(pytest.param(o, marks=pytest.mark.slow) for o in [(1, 2, 3), (2, 3, 1)])]
)
def test_tasks_in_any_order(home, tmp_path, order):
    out = tmp_path / "out"
    for place, number in enumerate(order):
        done = command_line(*COMMAND, "--out", out, "--part", f"{number}/3", folder=home)
        assert done.code == 0, done.text
        if place < 2:
            left = sorted(p for k in order[place + 1 :] for p in range(k - 1, N_PARTS, 3))
            assert f"{len(left)} of 10 are still missing: " in done.text
            assert run_folder.ranges(left) in done.text
            assert not (out / "RUN_COMPLETE.json").exists()
    assert state(out) == state(home / "clean")


@pytest.mark.slow
def test_more_tasks_than_parts(home, tmp_path):
    out = tmp_path / "out"
    for number in (12, 11, *range(1, 11)):
        done = command_line(*COMMAND, "--out", out, "--part", f"{number}/12", folder=home)
        assert done.code == 0, done.text
    assert state(out) == state(home / "clean")


def test_finish_names_what_is_missing(home, tmp_path):
    out = tmp_path / "out"
    assert command_line(*COMMAND, "--out", out, "--part", "2/3", folder=home).code == 0
    done = command_line(*COMMAND, "--out", out, "--finish", folder=home)
    assert done.code == 20
    assert "7 of 10 parts" in done.text
    assert "are missing: 0, 2-3, 5-6, 8-9" in done.text
    before = {p: p.stat().st_mtime_ns for p in (out / "parts").iterdir()}
    done = command_line(*COMMAND, "--out", out, folder=home)
    assert done.code == 0, done.text
    assert "resuming: 3 of 10 parts are done" in done.text
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert state(out) == state(home / "clean")
    done = command_line(*COMMAND, "--out", out, "--finish", folder=home)
    assert done.code == 0
    assert "is complete already" in done.text


def test_finish_after_the_last_task_died_before_it_could(home, tmp_path):
    shutil.copytree(home / "clean", tmp_path / "out")
    (tmp_path / "out" / "RUN_COMPLETE.json").unlink()
    (tmp_path / "out" / "latent_correlation.parquet").unlink()
    done = command_line(*COMMAND, "--out", tmp_path / "out", "--finish", folder=home)
    assert done.code == 0, done.text
    assert state(tmp_path / "out") == state(home / "clean")


def test_a_damaged_part_is_not_finished_and_its_task_heals_it(home, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(home / "clean", out)
    (out / "RUN_COMPLETE.json").unlink()
    part = out / "parts" / "part-00004.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    done = command_line(*COMMAND, "--out", out, "--finish", folder=home)
    assert done.code == 20
    assert "1 of 10 parts" in done.text
    assert ": 4" in done.text
    done = command_line(*COMMAND, "--out", out, "--part", "5/10", folder=home)
    assert done.code == 0, done.text
    assert state(out) == state(home / "clean")


def test_other_settings_are_refused(home, tmp_path):
    out = tmp_path / "out"
    assert command_line(*COMMAND, "--out", out, "--part", "1/3", folder=home).code == 0
    done = command_line(*COMMAND, "--out", out, "--part", "2/3", "--maf", "0.01", folder=home)
    assert done.code == 7
    assert "settings.filters.maf was null, now 0.01" in done.text


def test_a_task_beside_a_run_on_its_own(home, tmp_path):
    """The lock of a run keeps other runs out, not the tasks of an array."""
    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        for number in (1, 2):
            done = command_line(*COMMAND, "--out", out, "--part", f"{number}/2", folder=home)
            assert done.code == 0, done.text
        assert "another process has the folder" in done.text
        assert not (out / "RUN_COMPLETE.json").exists()
    assert command_line(*COMMAND, "--out", out, "--finish", folder=home).code == 0
    assert digest(out) == digest(home / "clean")


def test_a_folder_is_not_cleared_under_its_tasks(home, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(home / "clean", out)
    with joined(out):
        done = command_line(*COMMAND, "--out", out, "--overwrite", folder=home)
    assert done.code == 7
    assert "1 tasks of an array work in" in done.text
    assert (out / "RUN_COMPLETE.json").exists()
    done = command_line(*COMMAND, "--out", out, "--part", "1/2", "--overwrite", folder=home)
    assert done.code == 8


def test_whole_parts_are_skipped(home, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(home / "clean", out)
    before = state(out)
    done = command_line(*COMMAND, "--out", out, "--part", "1/2", folder=home)
    assert "0 of its 5 parts are to be computed" in done.text
    assert state(out) == before


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
def test_tasks_that_do_not_exist(home, tmp_path, text):
    done = command_line(*COMMAND, "--out", tmp_path / "out", "--part", text, folder=home)
    assert done.code == 8
    assert "expected" not in done.text
    assert "I/N with I from 1 to N" in done.text
    assert not (tmp_path / "out").exists()


def array(number: int, first: int, last: int, n: int) -> dict[str, str]:
    names = ("ID", "MIN", "MAX", "COUNT")
    return {
        f"SLURM_ARRAY_TASK_{name}": str(value)
        for name, value in zip(names, (number, first, last, n), strict=True)
    }


def test_the_task_that_slurm_names():
    assert launchers.share_of("auto", array(0, 0, 9, 10)) == (1, 10)
    assert launchers.share_of("auto", array(10, 1, 10, 10)) == (10, 10)
    with pytest.raises(UsageError, match="without gaps"):
        launchers.share_of("auto", array(7, 3, 7, 2))
    with pytest.raises(UsageError, match="no job array"):
        launchers.share_of("auto", {})


def test_in_python(home, tmp_path):
    inputs = (
        imgwas.open_genotypes(home / "cohort/cohort"),
        imgwas.read_latents(home / "cohort/latents.parquet"),
        imgwas.read_covariates(home / "cohort/covariates.tsv"),
    )
    options = {"out": tmp_path / "out", "part_size": 60, "threads": 1}
    nothing = imgwas.associate(*inputs, part=(11, 11), **options)
    assert nothing.is_partial
    assert nothing.n_variants == 0
    some = imgwas.associate(*inputs, part=(1, 2), **options)
    assert some.is_partial
    assert some.n_variants == 300
    whole = imgwas.associate(*inputs, part=(2, 2), **options)
    assert not whole.is_partial
    assert whole.digest() == digest(home / "clean")
    with pytest.raises(UsageError, match="numbered from 1"):
        imgwas.associate(*inputs, part=(3, 2), **options)


def test_one_of_many_publishes(tmp_path):
    path, won = tmp_path / "run.json", []
    barrier = threading.Barrier(8)

    def race(number: int) -> None:
        barrier.wait()
        if publish_once(path, {"number": number}):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert json.loads(path.read_text()) == {"number": won[0]}
    assert list(tmp_path.iterdir()) == [path]


def test_one_of_many_takes_over_a_dead_lock(tmp_path):
    """Those who judge the same lock dead must not remove the lock of the one who was quicker."""
    for _ in range(20):
        (tmp_path / ".lock").write_text(json.dumps({"host": os.uname().nodename, "pid": 2**22 + 1}))
        inside, most, odd, barrier = [], [], [], threading.Barrier(6)

        def race(inside=inside, most=most, odd=odd, barrier=barrier) -> None:
            barrier.wait()
            try:
                with locked(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    threading.Event().wait(0.005)
                    inside.pop()
            except InconsistentError:
                pass
            except ImgwasError as error:
                odd.append(error)

        threads = [threading.Thread(target=race) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert odd == []
        assert most
        assert max(most) == 1


def test_files_of_living_processes_are_left(tmp_path):
    from imgwas.files import host_digest

    mine = tmp_path / f".a.{host_digest()}-{os.getpid()}.0123.tmp"
    dead = tmp_path / f".b.{host_digest()}-{2**22 + 1}.0123.tmp"
    far = tmp_path / ".c.00000000-1.0123.tmp"
    old = tmp_path / ".d.00000000-1.0123.tmp"
    for path in (mine, dead, far, old):
        path.touch()
    os.utime(old, (1, 1))
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == [mine, far]


def test_who_shares_a_folder(tmp_path):
    with joined(tmp_path), joined(tmp_path):
        assert len(others(tmp_path)) == 2
        (tmp_path / ".lock-dead").write_text(
            json.dumps({"host": os.uname().nodename, "pid": 2**22 + 1})
        )
        assert len(others(tmp_path)) == 2
    assert others(tmp_path) == []
    assert list(tmp_path.iterdir()) == []

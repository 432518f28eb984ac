"""Parts handed to a program: a machine whose disk is gone costs what it had not handed over."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import psutil
import pytest

import imgwas
from imgwas.association import Interrupted, calling, handing_over
from imgwas.association.calling import Ended, call_within
from imgwas.association.handing_over import HandingOver
from imgwas.association.progress import NoProgress
from imgwas.errors import IncompleteError, OpenError, UsageError
from tests.cli_cohort import imgwas as command_line

SAVE = """#!/bin/sh
out=$1; shift
echo "$@" >> "{store}.calls"
for file in "$@"; do
    mkdir -p "{store}/$(dirname "$file")" && cp "$out/$file" "{store}/$file" || exit 7
done
"""
#: Hangs, as does its child, whose number it leaves beside the store.
HANG = """#!/bin/sh
{ignoring}
sleep 3600 >/dev/null 2>&1 &
echo still trying >&2
echo $! >> "{store}.children"
sleep 3600
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
    monkeypatch.setattr(handing_over, "WAITS_S", (0.0, 0.01))
    text = SAVE.format(store=store)
    script(program, f'#!/bin/sh\necho "$2" >> "{store}.calls"\necho no network >&2\nexit 3\n')
    with pytest.raises(IncompleteError, match=r"11 of the parts .*code 3: no network") as caught:
        scan(cohort, tmp_path / "out", progress=HandingOver(program))
    assert caught.value.exit_code == 20
    called = [files[0] for files in calls(store)]
    assert {called.count(name) for name in called} == {3}
    assert len(called) == 33
    (store.parent / "store.calls").unlink()
    assert not (tmp_path / "out" / "RUN_COMPLETE.json").exists()
    script(program, text)
    results = scan(cohort, tmp_path / "out", progress=HandingOver(program))
    assert len(calls(store)) == 11, "computed before, handed over now"
    assert not results.is_partial


def test_a_task_of_an_array_hands_over_what_failed_before(
    cohort, tmp_path, program, store, monkeypatch
):
    monkeypatch.setattr(handing_over, "WAITS_S", ())
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


def children(store) -> list[int]:
    """Numbers of the children that the hanging program has started."""
    try:
        return [int(n) for n in (store.parent / "store.children").read_text().split("\n")[:-1]]
    except FileNotFoundError:
        return []


def is_running(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("ignoring", ["", "trap '' TERM"])
def test_a_program_that_hangs_is_ended_with_its_children(program, store, monkeypatch, ignoring):
    """A child that hears no SIGTERM is killed. The clock stops when the child is there."""
    monkeypatch.setattr(calling, "GRACE_S", 0.3 if ignoring else 60)
    script(program, HANG.format(store=store, ignoring=ignoring))
    ended = call_within([str(program)], lambda: 0.0 if children(store) else 60.0)
    assert ended.code is None
    (child,) = children(store)
    wait_until(lambda: not is_running(child))


def test_an_exception_ends_the_program_too(program, store):
    script(program, HANG.format(store=store, ignoring=""))

    def left() -> float:
        if children(store):
            raise Lost
        return 60.0

    with pytest.raises(Lost):
        call_within([str(program)], left)
    (child,) = children(store)
    wait_until(lambda: not is_running(child))


def test_what_a_program_leaves_in_the_background_is_waited_for(program, store):
    """A script that copies by ``cp ... &`` has not copied yet when it ends."""
    script(program, "#!/bin/sh\n(sleep 0.3; echo copied > store) &\necho last >&2\nexit 5\n")
    with contextlib.chdir(store.parent):
        ended = call_within([str(program)], lambda: 60.0)
    assert (ended.code, ended.words) == (5, "last")
    assert store.read_text() == "copied\n"


def wait_until(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_scan_ends_beside_a_program_that_hangs(cohort, tmp_path, program, store, monkeypatch):
    """All parts are computed; the next run hands over what was left."""
    monkeypatch.setattr(handing_over, "WAITS_S", ())
    monkeypatch.setattr(handing_over, "MOST_HANGING", 2)
    monkeypatch.setattr(calling, "GRACE_S", 0.2)
    script(program, HANG.format(store=store, ignoring=""))
    out, said = tmp_path / "out", r"5 of the parts .*first: run.json, it took longer than 0.2 s"
    with pytest.raises(IncompleteError, match=said) as caught:
        scan(cohort, out, progress=HandingOver(program, timeout_s=0.2), part_size=250)
    assert caught.value.exit_code == 20
    assert len(list((out / "parts").glob("*.ok.json"))) == 4
    assert len(children(store)) <= 2, "then it is called no more"
    wait_until(lambda: not any(map(is_running, children(store))))
    script(program, SAVE.format(store=store))
    results = scan(cohort, out, progress=HandingOver(program), part_size=250)
    assert len(calls(store)) == 5
    assert not results.is_partial


def test_a_part_that_takes_too_long_is_tried_again(cohort, tmp_path, program, monkeypatch):
    """Every file takes too long once or twice, but none three times."""
    monkeypatch.setattr(handing_over, "WAITS_S", (0.0, 0.0))
    seen: list[str] = []

    def slow(command, seconds_left):
        assert 500 < seconds_left() <= 600
        name = command[2]
        seen.append(name)
        n_slow = 1 + list(dict.fromkeys(seen)).index(name) % 2
        return Ended(None if seen.count(name) <= n_slow else 0, "")

    monkeypatch.setattr(handing_over, "call_within", slow)
    results = scan(cohort, tmp_path / "out", progress=HandingOver(program))
    assert not results.is_partial
    assert len(set(seen)) == 11
    assert {seen.count(name) for name in seen} == {2, 3}


def test_a_scan_is_stopped_beside_a_program_that_hangs(
    cohort, tmp_path, program, store, monkeypatch
):
    """I4, I5: one signal is enough, nothing is left running, the same command hands over."""
    monkeypatch.setattr(handing_over, "STOP_S", 0.1)
    script(program, HANG.format(store=store, ignoring=""))

    def interrupt() -> None:
        wait_until(lambda: children(store))
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=interrupt)
    asking.start()
    with pytest.raises(Interrupted, match="Run the same command again to resume") as caught:
        scan(cohort, tmp_path / "out", progress=HandingOver(program))
    asking.join()
    assert caught.value.exit_code == 143
    (child,) = children(store)
    wait_until(lambda: not is_running(child))
    script(program, SAVE.format(store=store))
    results = scan(cohort, tmp_path / "out", progress=HandingOver(program))
    assert len(calls(store)) == 11
    assert not results.is_partial


CALLING = """
import sys, threading, time
from imgwas.association.calling import call_within
from imgwas.stopping import is_asked_to_stop, stop_wishes
with stop_wishes():
    hanging = threading.Thread(target=call_within, args=([sys.argv[1]], lambda: 600.0), daemon=True)
    hanging.start()
    while not is_asked_to_stop():
        time.sleep(0.01)
    print("heard", flush=True)
    hanging.join()
"""


def test_the_second_signal_leaves_no_program_behind(program, store):
    script(program, HANG.format(store=store, ignoring=""))
    process = subprocess.Popen(
        [sys.executable, "-c", CALLING, str(program)], stdout=subprocess.PIPE
    )
    wait_until(lambda: children(store))
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == b"heard\n"
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    process.stdout.close()
    wait_until(lambda: not any(map(is_running, children(store))))


def test_seconds_of_a_call(cohort, tmp_path, program, store, monkeypatch):
    with pytest.raises(UsageError, match="timeout_s is 0"):
        HandingOver(program, timeout_s=0)
    monkeypatch.setattr(handing_over, "WAITS_S", ())
    monkeypatch.setattr(handing_over, "MOST_HANGING", 1)
    monkeypatch.setattr(calling, "GRACE_S", 0.2)
    script(program, HANG.format(store=store, ignoring=""))
    scanning = ("associate", "--bfile", cohort.bfile, "--latents", cohort.latents)
    limit = ("--on-part-timeout", "1")
    done = command_line(*scanning, "--out", tmp_path / "no", *limit, folder=tmp_path)
    assert done.code == 8
    assert "--on-part-timeout needs --on-part PROGRAM" in done.text
    out = ("--out", tmp_path / "out", "--on-part", program)
    done = command_line(*scanning, *out, *limit, folder=tmp_path)
    assert done.code == 20, done.text
    assert "2 of the parts (first: run.json, it took longer than 1 s" in done.text


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

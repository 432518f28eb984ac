"""A scan that is short of memory goes on with less, and the results keep every byte."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest

import imgwas
from imgwas.association import attempts, engines, parts, within_memory
from tests.faulty import FaultyGenotypes

PART = 1000


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three parts of several blocks, missing calls and latents, large enough to be halved."""
    return imgwas.simulate_cohort(
        tmp_path_factory.mktemp("cohort") / "cohort", n_samples=403, n_variants=2500,
        n_latents=40, n_causal=6, missing_rate=0.02, missing_latents=0.0, seed=4,
    )  # fmt: skip


def scan(cohort, out, genotypes=None, **options) -> imgwas.SumStats:
    return imgwas.associate(
        genotypes or imgwas.open_genotypes(cohort.bfile),
        imgwas.read_latents(cohort.latents),
        imgwas.read_covariates(cohort.covariates),
        out=out,
        **({"part_size": PART, "threads": 2} | options),
    )


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    """What a scan with enough memory writes."""
    return bytes_of(scan(cohort, tmp_path_factory.mktemp("whole") / "out"))


def bytes_of(results: imgwas.SumStats) -> tuple[str, list[bytes]]:
    return results.digest(), [
        p.read_bytes() for p in sorted(results.folder.glob("parts/*.parquet"))
    ]


@pytest.fixture
def small(monkeypatch):
    """A machine on which buffers do not fit until they are halved so many times."""
    made: list[int] = []

    def limit(times: int) -> list[int]:
        real = engines.make_workspace

        def make(task, halvings=0):
            made.append(halvings)
            if halvings < times:
                raise MemoryError("planted")
            return real(task, halvings)

        monkeypatch.setattr(engines, "make_workspace", make)
        return made

    return limit


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_halved_buffers_change_no_byte(cohort, tmp_path, small, caplog, monkeypatch, times, exact):
    """With the compiled product, where there is one, and with that of BLAS."""
    if not exact and hasattr(engines, "native"):
        monkeypatch.setattr(engines.native, "library", lambda: None)
    expected = bytes_of(scan(cohort, tmp_path / "whole"))
    made = small(times)
    monkeypatch.setattr(within_memory, "LARGE_PRODUCT", 400 * 48 * 40)
    with caplog.at_level(logging.WARNING, "imgwas"):
        found = scan(cohort, tmp_path / "out")
    assert bytes_of(found) == expected
    assert max(made) == times
    assert made.count(times) == 2, "each thread keeps its small buffers"
    assert "memory is short: blocks are computed in 2 steps" in caplog.text


def test_a_block_that_fits_alone_is_computed_alone(cohort, whole, tmp_path, monkeypatch):
    """Nobody else computes while a block that did not fit is tried again."""
    real, lock = parts.scan_rows, threading.Lock()
    now, together, failed = [0], [0], []

    def scan_rows(task, rows, workspace):
        with lock:
            now[0] += 1
            first = now[0] > 1 and not failed
            if first:
                failed.append(int(rows[0]))
            again = bool(failed) and not first and int(rows[0]) == failed[0]
            together[0] = now[0] if again else together[0]
        try:
            time.sleep(0.01)  # so that both threads are here
            if first:
                raise MemoryError("planted")
            return real(task, rows, workspace)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(within_memory, "scan_rows", scan_rows)
    assert bytes_of(scan(cohort, tmp_path / "out")) == whole
    assert len(failed) == 1
    assert together == [1]


def test_a_part_that_cannot_be_encoded_is_encoded_again(cohort, whole, tmp_path, monkeypatch):
    real, times = parts.encode_part, []

    def encode(table):
        times.append(1)
        if len(times) == 2:
            raise MemoryError("planted")
        return real(table)

    monkeypatch.setattr(parts, "encode_part", encode)
    assert bytes_of(scan(cohort, tmp_path / "out")) == whole
    assert len(times) == 4


@pytest.mark.parametrize("options", [{"precision": "double"}, {"heritability": True}])
def test_where_steps_would_change_bits_the_words_come(cohort, tmp_path, small, options):
    made = small(1)
    with pytest.raises(MemoryError, match=r"\d+ variants of 404 people do not fit, .* 1 steps"):
        scan(cohort, tmp_path / "out", **options)
    assert set(made) == {0}


def test_a_part_whose_worker_was_killed_begins_with_less(cohort, whole, tmp_path, monkeypatch):
    """Killed for its memory, a worker leaves nothing but the count of what it began."""
    made, real = [], engines.make_workspace

    def make(task, halvings=0):
        made.append(halvings)
        return real(task, halvings)

    monkeypatch.setattr(engines, "make_workspace", make)
    monkeypatch.setattr(within_memory, "LARGE_PRODUCT", 1)
    run = engines.run_parts

    def killed_before(parts, **how):
        attempts.begin(how["out"], parts[0])
        attempts.begin(how["out"], parts[0])
        return run(parts, **how)

    def in_this_process(task, todo, *, digest, on_receipt, on_variants, **_):
        folder = task.out / "private" / "task"
        launching_save(task, folder)
        for part in todo:
            how = {"folder": folder, "out": task.out, "digest": digest}
            (receipt,) = killed_before([part], genotypes=dumps(task.genotypes), **how)
            on_receipt(receipt)

    from distributed.protocol.pickle import dumps

    from imgwas.association import launching
    from imgwas.association.task import save_task as launching_save

    monkeypatch.setattr(launching, "run_on_threads", in_this_process)
    assert bytes_of(scan(cohort, tmp_path / "out")) == whole
    assert set(made) == {2}


@pytest.mark.slow
def test_workers_that_die_while_a_part_is_large(cohort, whole, tmp_path):
    """A real cluster: the first workers of a part are killed, as a system short of memory does."""
    from imgwas.cluster import local_cluster

    trap = FaultyGenotypes(cohort.bfile, tmp_path / "trap", "kill", row=1200, times=2)
    with local_cluster(2) as client:
        found = scan(cohort, tmp_path / "out", trap, client=client)
    assert trap.happened == 2
    assert np.array_equal(bytes_of(found)[1], whole[1])

"""One scan, many ways to compute it: threads, worker processes, a cluster, workers that die."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import imgwas
from imgwas.cluster import local_cluster, memory_share
from tests.cli_cohort import imgwas as command_line

SCAN = {"part_size": 200}
N_PARTS = 7


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A cohort on disk with every complication: missing calls and latents, X, relatives."""
    folder = tmp_path_factory.mktemp("cohort")
    return imgwas.simulate_cohort(
        folder,
        n_samples=233,
        n_variants=1300,
        n_latents=6,
        n_causal=3,
        missing_rate=0.02,
        missing_latents=0.1,
        seed=3,
    )


def scan(cohort, out: Path, **options: object) -> imgwas.SumStats:
    return imgwas.associate(
        imgwas.open_genotypes(cohort.bfile),
        imgwas.read_latents(cohort.latents),
        imgwas.read_covariates(cohort.covariates),
        out=out,
        **(SCAN | options),
    )


@pytest.fixture(scope="module")
def digests(cohort, tmp_path_factory):
    """What one thread computes, for each policy."""
    folder = tmp_path_factory.mktemp("reference")
    return {
        missing: scan(cohort, folder / missing, threads=1, missing_genotype=missing).digest()
        for missing in ("mean", "drop")
    }


@pytest.mark.parametrize("missing", ["mean", "drop"])
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads(cohort, digests, tmp_path, threads, missing):
    results = scan(cohort, tmp_path / "out", threads=threads, missing_genotype=missing)
    assert len(results.parts) == N_PARTS
    assert results.digest() == digests[missing]


@pytest.mark.parametrize("missing", ["mean", pytest.param("drop", marks=pytest.mark.slow)])
def test_worker_processes_get_every_part(cohort, digests, tmp_path, missing, monkeypatch):
    """With one worker, more parts than are submitted at once; with two, fewer."""
    monkeypatch.setattr("imgwas.association.dispatch.WINDOW_FROM", 4)
    for n_workers in (1, 2):
        out = tmp_path / f"out{n_workers}"
        with local_cluster(n_workers) as client:
            results = scan(cohort, out, client=client, missing_genotype=missing)
        assert results.digest() == digests[missing]


def test_local_cluster_listens_to_this_machine_only():
    with local_cluster(1) as client:
        info = client.scheduler_info()
        addresses = [info["address"], *info["workers"]]
        addresses += [worker["nanny"] for worker in info["workers"].values()]
    assert len(addresses) == 3
    assert all(re.match(r"tcp://127\.0\.0\.1:\d+$", address) for address in addresses)


@pytest.mark.parametrize(("workers", "cores", "share"), [(2, 64, 3), (2, 2, 2), (9, 4, 4)])
def test_memory_is_divided_by_workers_and_not_by_cores(monkeypatch, workers, cores, share):
    monkeypatch.setattr("dask.system.CPU_COUNT", cores)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 12_000_000_000)
    assert memory_share(workers) == 12_000_000_000 // share


def test_the_task_holds_no_genotypes_and_is_private(cohort, tmp_path):
    with local_cluster(1) as client:
        scan(cohort, tmp_path / "out", client=client)
    private = tmp_path / "out" / "private"
    assert private.stat().st_mode & 0o077 == 0
    held = sum(path.stat().st_size for path in private.rglob("*.npy"))
    assert held < 233 * (6 + 16) * 8 * 8


@contextlib.contextmanager
def cluster_of_processes(folder: Path, n_workers: int):
    """A scheduler and workers as separate programs, as on a real cluster."""
    address_file = folder / "scheduler.json"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}

    def start(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    processes = [
        start(
            *("dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
            *("--no-dashboard", "--scheduler-file", str(address_file)),
        )
    ]
    try:
        address = address_in(address_file, processes[0])
        processes += [
            start(
                *("dask_worker", address, "--nthreads", "1", "--no-dashboard"),
                *("--host", "127.0.0.1", "--local-directory", str(folder)),
            )
            for _ in range(n_workers)
        ]
        yield address
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def address_in(path: Path, scheduler: subprocess.Popen) -> str:
    """Wait until a scheduler has written where it is, the whole of it."""
    while scheduler.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads(path.read_text())["address"])
        time.sleep(0.05)
    raise AssertionError("the scheduler ended")


def test_a_scheduler_and_workers_of_other_programs(cohort, digests, tmp_path):
    from distributed import Client

    with (
        cluster_of_processes(tmp_path, 2) as address,
        Client(address, timeout="120s") as client,
    ):
        client.wait_for_workers(2, timeout=120)
        results = scan(cohort, tmp_path / "out", client=client)
        done = command_line(
            *("associate", "--bfile", cohort.bfile, "--latents", cohort.latents),
            *("--covar", cohort.covariates, "--part-size", 200),
            *("--scheduler", address, "--out", "joined"),
            folder=tmp_path,
        )
    assert results.digest() == digests["mean"]
    assert done.code == 0, done.text
    assert imgwas.open_sumstats(tmp_path / "joined").digest() == digests["mean"]


def test_a_worker_that_is_killed_costs_nothing_but_time(cohort, digests, tmp_path):
    from imgwas.association import progress

    with local_cluster(2) as client:
        victims = [worker["pid"] for worker in client.run(_about_me).values()]

        class KillOnce(progress.NoProgress):
            def part_done(self, receipt) -> None:
                if victims:
                    os.kill(victims.pop(), signal.SIGKILL)
                    victims.clear()

        results = scan(cohort, tmp_path / "out", client=client, progress=KillOnce(), part_size=200)
    assert victims == []
    assert results.digest() == digests["mean"]


def _about_me() -> dict[str, int]:
    return {"pid": os.getpid()}


def test_no_scheduler_there(tmp_path, cohort, monkeypatch):
    monkeypatch.setattr("imgwas.cluster.CONNECT_WITHIN", "1s")
    done = command_line(
        *("associate", "--bfile", cohort.bfile, "--latents", cohort.latents),
        *("--scheduler", "tcp://127.0.0.1:9", "--out", "out"),
        folder=tmp_path,
    )
    assert done.code == 9
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in done.text


def test_tasks_are_few_and_small(cohort, tmp_path, monkeypatch):
    """What travels through a scheduler per part: names and paths, not people."""
    sizes = []
    with local_cluster(1) as client:
        submit = client.submit

        def weigh(function, *args, **kwargs):
            genotypes = kwargs["genotypes"]
            sizes.append(len(pickle.dumps((args, genotypes))))
            return submit(function, *args, **kwargs)

        monkeypatch.setattr(client, "submit", weigh)
        scan(cohort, tmp_path / "out", client=client)
    assert len(sizes) == N_PARTS
    assert max(sizes) < 2000

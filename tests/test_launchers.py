"""One scan by every launcher there is, while workers, drivers and schedulers are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import imgwas
from imgwas.association import dispatch, launching
from imgwas.association.progress import NoProgress
from imgwas.cluster import join_cluster, local_cluster
from imgwas.errors import IncompleteError, MissingLibraryError
from tests.dry import dry_task
from tests.faulty import FaultyGenotypes

N_PARTS = 40
COMMAND = [
    *("associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet"),
    *("--covar", "cohort/covariates.tsv", "--part-size", "100", "--threads", "1"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cohort of 40 parts, every complication in it."""
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home / "cohort", n_samples=501, n_variants=4000, n_latents=24, n_causal=4,
        missing_rate=0.02, missing_latents=0.1, seed=21,
    )  # fmt: skip
    return home


@pytest.fixture(scope="module")
def serial(home):
    """What one thread computes."""
    return scan(home, home / "serial", threads=1).digest()


def scan(home: Path, out: Path, genotypes=None, **options) -> imgwas.SumStats:
    return imgwas.associate(
        genotypes or imgwas.open_genotypes(home / "cohort/cohort"),
        imgwas.read_latents(home / "cohort/latents.parquet"),
        imgwas.read_covariates(home / "cohort/covariates.tsv"),
        out=out,
        **({"part_size": 100} | options),
    )


def start(home: Path, *words: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "imgwas_cli.main", *COMMAND, *map(str, words)], cwd=home,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        **options,
    )  # fmt: skip


def ended(process: subprocess.Popen) -> str:
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    return said


def wait_for_parts(process: subprocess.Popen, out: Path, n: int) -> None:
    while process.poll() is None and len(list((out / "parts").glob("*.ok.json"))) < n:
        time.sleep(0.01)


def digest(out: Path) -> str:
    assert not list(out.rglob(".*.tmp")), "temporary files are left"
    assert not list(out.glob(".lock*"))
    return imgwas.open_sumstats(out).digest()


class KillWorkers(NoProgress):
    """Kill a worker with signal 9 after every few parts."""

    def __init__(self, kills: int) -> None:
        self.left, self.done = kills, 0

    def part_done(self, receipt) -> None:
        self.done += 1
        if self.done % 6 == 0 and self.left:
            workers = workers_of_this_process()
            if workers:
                self.left -= 1
                workers[self.left % len(workers)].kill()


def workers_of_this_process() -> list[psutil.Process]:
    """Worker processes; their nannies are threads of ours."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.slow
def test_one_digest_from_every_launcher(home, serial, tmp_path, capsys):
    found = {"serial": serial}
    found["2 threads"] = scan(home, tmp_path / "threads", threads=2).digest()
    with local_cluster(2) as client:
        found["LocalCluster of 2"] = scan(home, tmp_path / "cluster", client=client).digest()
    tasks = [1, 2, 3]
    random.Random(5).shuffle(tasks)
    for number in tasks:
        ended(start(home, "--out", tmp_path / "array", "--part", f"{number}/3"))
    found[f"3 tasks of an array, order {tasks}"] = digest(tmp_path / "array")
    together = [start(home, "--out", tmp_path / "at-once", "--part", f"{n}/3") for n in tasks]
    for process in together:
        ended(process)
    found["3 tasks at once"] = digest(tmp_path / "at-once")
    with local_cluster(2) as client:
        killer = KillWorkers(4)
        found["4 workers killed"] = scan(
            home, tmp_path / "killed", client=client, progress=killer
        ).digest()
        assert killer.left == 0, "not all kills took place"
    driver = start(home, "--out", tmp_path / "driver")
    wait_for_parts(driver, tmp_path / "driver", 11)
    driver.kill()
    driver.wait()
    assert driver.returncode == -signal.SIGKILL
    assert "resuming: " in ended(start(home, "--out", tmp_path / "driver"))
    found["driver killed, then resumed"] = digest(tmp_path / "driver")
    mixed = [
        start(home, "--out", tmp_path / "mixed", "--workers", 2),
        start(home, "--out", tmp_path / "mixed", "--part", "2/3"),
        start(home, "--out", tmp_path / "mixed", "--part", "3/3"),
    ]
    for process in mixed:
        ended(process)
    found["processes and 2 tasks of an array together"] = digest(tmp_path / "mixed")
    with capsys.disabled():
        print()
        for name, one in found.items():
            print(f"{one[:16]}  {name}")
    assert len(set(found.values())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kill", "segv"])
def test_a_part_that_kills_its_workers(home, serial, tmp_path, what):
    """It is named with its variants, all others finish, and the next run heals it."""
    trapped = FaultyGenotypes(home / "cohort/cohort", tmp_path / "trap", what, row=1720)
    out = tmp_path / "out"
    with local_cluster(2) as client, pytest.raises(IncompleteError) as caught:
        scan(home, out, trapped, client=client)
    text = str(caught.value)
    assert caught.value.exit_code == 20
    assert "1 of 40 parts could not be computed; all others are finished" in text
    assert "part 17: variants 1,700 to 1,799 (" in text
    assert "its worker died 4 times" in text
    assert trapped.happened == 4
    assert len(list((out / "parts").glob("*.ok.json"))) == N_PARTS - 1
    assert scan(home, out, threads=1).digest() == serial
    assert not (out / "private" / "attempts").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "says"), [("eio", "Input/output error"), ("memory", "1 TB")])
def test_errors_on_workers(home, serial, tmp_path, what, says):
    with local_cluster(2) as client:
        passing = FaultyGenotypes(home / "cohort/cohort", tmp_path / "a", what, row=520, times=2)
        assert scan(home, tmp_path / "healed", passing, client=client).digest() == serial
        assert passing.happened == 2
        lasting = FaultyGenotypes(home / "cohort/cohort", tmp_path / "b", what, row=520)
        with pytest.raises(IncompleteError, match=f"part 5: variants 500 to 599 .*{says}"):
            scan(home, tmp_path / "out", lasting, client=client)
    assert scan(home, tmp_path / "out").digest() == serial


@pytest.mark.slow
def test_a_part_that_hangs_is_noticed(home, serial, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "PATIENCE_S", 4.0)
    hanging = FaultyGenotypes(home / "cohort/cohort", tmp_path / "trap", "hang", row=3999)
    with local_cluster(1) as client, pytest.raises(IncompleteError, match="no part was finished"):
        scan(home, tmp_path / "out", hanging, client=client)
    assert len(list((tmp_path / "out/parts").glob("*.ok.json"))) == N_PARTS - 1
    assert scan(home, tmp_path / "out").digest() == serial


@pytest.mark.slow
@pytest.mark.parametrize("period_s", [4.0, 9.0])
def test_progress_although_workers_are_killed(home, serial, tmp_path, period_s, capsys):
    """Kills further apart than twice the start of a worker and a part leave room for progress."""
    slow = FaultyGenotypes(home / "cohort/cohort", tmp_path / "trap", "slow")
    over, killed = threading.Event(), []

    def kill() -> None:
        while not over.wait(period_s):
            for process in workers_of_this_process()[:1]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
                    killed.append(process.pid)

    killer = threading.Thread(target=kill)
    with local_cluster(2) as client:
        killer.start()
        try:
            results = scan(home, tmp_path / "out", slow, client=client)
        finally:
            over.set()
            killer.join()
    assert results.digest() == serial
    with capsys.disabled():
        print(f"\n{len(killed)} kills, {period_s:g} s apart")
    assert killed


@contextlib.contextmanager
def programs(folder: Path, *, protocol: str = "tcp", tls: list[str] = (), n_workers: int = 2):
    """A scheduler and workers as programs of their own; yields the address and the processes."""
    port = free_port()
    address = f"{protocol}://127.0.0.1:{port}"
    log = (folder / "programs.txt").open("w")

    def run(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", *words, *tls], env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=log, stderr=log, start_new_session=True, cwd=folder,
        )  # fmt: skip

    processes = [
        run(*("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)),
            *("--protocol", protocol, "--dashboard-address", "127.0.0.1:0"))
    ]  # fmt: skip
    processes += [
        run(*("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"),
            *("--protocol", protocol, "--host", "127.0.0.1", "--local-directory", str(folder)))
        for _ in range(n_workers)
    ]  # fmt: skip
    try:
        yield address, processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_the_scheduler_is_killed(home, serial, tmp_path):
    out = tmp_path / "out"
    with programs(tmp_path) as (address, processes):
        driver = start(home, "--out", out, "--scheduler", address)
        wait_for_parts(driver, out, 5)
        os.killpg(processes[0].pid, signal.SIGKILL)
        said = driver.communicate(timeout=120)[1]
    assert driver.returncode == 20, said
    assert "the scheduler no longer answers" in said
    assert "Traceback" not in said
    ended(start(home, "--out", out))
    assert digest(out) == serial


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority of our own with one key, and another that nobody trusts."""
    from distributed.security import Security

    found = {}
    for name in ("ours", "strangers"):
        folder = tmp_path_factory.mktemp(name)
        made = Security.temporary()
        (folder / "cert.pem").write_text(made.tls_client_cert)
        (folder / "key.pem").write_text(made.tls_client_key)
        (folder / "key.pem").chmod(0o600)
        found[name] = folder
    return found


@pytest.mark.slow
def test_an_encrypted_cluster(home, serial, tmp_path, certificates):
    ours, strangers = certificates["ours"], certificates["strangers"]
    cert, key = str(ours / "cert.pem"), str(ours / "key.pem")
    tls = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key]
    mine = ["--tls-ca", cert, "--tls-cert", cert, "--tls-key", key]
    with programs(tmp_path, protocol="tls", tls=tls) as (address, _):
        said = ended(start(home, "--out", tmp_path / "out", "--scheduler", address, *mine))
        assert "not encrypted" not in said
        assert digest(tmp_path / "out") == serial
        theirs = [str(strangers / "cert.pem"), str(strangers / "key.pem")]
        for wrong in ([], ["--tls-ca", cert, "--tls-cert", theirs[0], "--tls-key", theirs[1]]):
            words = ("--out", tmp_path / "no", "--scheduler", address, *wrong)
            refused = start(home, *words)
            said = refused.communicate(timeout=120)[1]
            assert refused.returncode == 9, said
            assert f"no dask scheduler answers at {address}" in said
        plain = join_cluster(address.replace("tls", "tcp"))
        with pytest.raises(MissingLibraryError):
            plain.__enter__()
    assert not list((tmp_path / "no" / "parts").iterdir())


@pytest.mark.slow
def test_two_drivers_in_one_folder(home, serial, tmp_path):
    """The second is refused; with --break-lock both go on and the result is right."""
    out = tmp_path / "out"
    slow = FaultyGenotypes(home / "cohort/cohort", tmp_path / "trap", "slow")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(scan, home, out, slow, threads=2)
        while not list((out / "parts").glob("*.ok.json")):
            time.sleep(0.05)
        second = start(home, "--out", out)
        said = second.communicate(timeout=60)[1]
        assert second.returncode == 7, said
        assert f"is in use by process {os.getpid()}" in said
        ended(start(home, "--out", out, "--break-lock"))
        assert not first.done(), "both were to work at once"
        assert imgwas.open_sumstats(out).digest() == serial
        assert first.result().digest() == serial
    assert digest(out) == serial


@pytest.mark.slow
def test_asked_to_stop_with_processes(home, serial, tmp_path):
    out = tmp_path / "out"
    driver = start(home, "--out", out, "--workers", "2")
    wait_for_parts(driver, out, 3)
    driver.send_signal(signal.SIGTERM)
    before = time.monotonic()
    said = driver.communicate(timeout=60)[1]
    assert driver.returncode == 143, said
    assert time.monotonic() - before < 40
    assert "of 40 parts are finished and safe" in said
    ended(start(home, "--out", out, "--workers", "2"))
    assert digest(out) == serial


def listening(processes: list[psutil.Process]) -> set[str]:
    """Addresses that processes listen on."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            connections = process.net_connections(kind="inet")
            found |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.slow
def test_a_local_cluster_is_reachable_from_this_machine_only(home, tmp_path, capsys):
    """Scheduler, nannies, workers and every dashboard, looked at from outside during a run."""
    driver = start(home, "--out", tmp_path / "out", "--workers", "2", "--overwrite")
    seen: dict[str, int] = {}
    most = 0
    while driver.poll() is None:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(driver.pid)
            family = [root, *root.children(recursive=True)]
            most = max(most, len(family))
            for address in listening(family):
                seen[address] = seen.get(address, 0) + 1
        time.sleep(0.1)
    ended(driver)
    with capsys.disabled():
        print(f"\n{most} processes listened on {seen}")
    assert most >= 3
    assert set(seen) == {"127.0.0.1"}


def no_op(parts, *, out, **_):
    """Stands for the task function: receipts, and nothing computed."""
    return [{"part": p, "start": 10 * p, "stop": 10 * p + 10, "seconds": 1e-5} for p in parts]


@pytest.mark.slow
def test_a_hundred_thousand_parts_on_a_cluster(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("imgwas.association.engines.run_parts", no_op)
    task, n = dry_task(tmp_path, 100_000), []
    with local_cluster(2) as client:
        scheduler, most = client.cluster.scheduler, 0

        def on_receipt(receipt) -> None:
            nonlocal most
            n.append(receipt["part"])
            if len(n) % 100 == 0:
                most = max(most, len(scheduler.tasks))

        start_s = time.monotonic()
        dispatch.run_on_client(
            task, range(100_000), client=client, digest="0" * 64,
            on_variants=lambda _: None, on_receipt=on_receipt,
        )  # fmt: skip
        took = time.monotonic() - start_s
    with capsys.disabled():
        print(f"\n100,000 dry parts on 2 processes: {took:.1f} s, at most {most} keys")
    assert sorted(n) == list(range(100_000))
    assert 0 < most < 1000
    assert took < 60


@pytest.mark.slow
def test_a_hundred_thousand_parts_one_by_one(tmp_path, monkeypatch, capsys):
    """Slow parts are not sent together: the bound on keys must hold for them, too."""
    monkeypatch.setattr("imgwas.association.engines.run_parts", no_op)
    monkeypatch.setattr(dispatch, "MOST_TOGETHER", 1)
    task, n, most = dry_task(tmp_path, 5000), [], 0
    with local_cluster(2) as client:

        def on_receipt(receipt) -> None:
            nonlocal most
            n.append(receipt["part"])
            most = max(most, len(client.cluster.scheduler.tasks))

        start_s = time.monotonic()
        dispatch.run_on_client(
            task, range(5000), client=client, digest="0" * 64,
            on_variants=lambda _: None, on_receipt=on_receipt,
        )  # fmt: skip
        took = time.monotonic() - start_s
    with capsys.disabled():
        print(f"\n5,000 tasks of one dry part: {1000 * took / 5000:.2f} ms each, {most} keys")
    assert len(n) == 5000
    assert most < 1000


class NoBuilder:
    """A part of one block that takes no time."""

    def __init__(self, task, part) -> None:
        self.part, self.block_rows = part, [range(10)]

    def add(self, index, result) -> bool:
        return True

    def publish(self, digest) -> dict:
        return {"part": self.part}


@pytest.mark.slow
def test_a_hundred_thousand_parts_on_threads(tmp_path, monkeypatch, capsys):
    from imgwas.association import engines

    monkeypatch.setattr(engines, "PartBuilder", NoBuilder)
    monkeypatch.setattr(engines, "scan_within_memory", lambda *_, **__: None)
    monkeypatch.setattr(engines, "publish_within_memory", lambda part, digest: part.publish(digest))
    monkeypatch.setattr(engines, "_workspace", lambda *_: None)
    monkeypatch.setattr(engines, "_run_blocks", plain(engines._run_blocks))
    n: list[int] = []
    start_s = time.monotonic()
    launching.run_on_threads(
        dry_task(tmp_path, 100_000), range(100_000), digest="0" * 64, threads=2,
        on_variants=lambda _: None, on_receipt=lambda receipt: n.append(receipt["part"]),
    )  # fmt: skip
    took = time.monotonic() - start_s
    with capsys.disabled():
        print(f"\n100,000 dry parts on 2 threads: {took:.1f} s")
    assert sorted(n) == list(range(100_000))
    assert took < 60


def plain(function):
    """The function without the checks of its annotations."""
    return getattr(function, "__wrapped__", function)

"""Workers as jobs of SLURM: what is submitted, and a whole scan under a SLURM that is none."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

import imgwas
from imgwas.association.progress import NoProgress
from imgwas.errors import UsageError
from imgwas.slurm import SlurmSettings, make_cluster, remove_keys, seconds_of, slurm_cluster
from tests import fake_slurm
from tests.cli_cohort import imgwas as command_line
from tests.faulty import FaultyGenotypes

GOLDEN = """#!/usr/bin/env bash

#SBATCH -J imgwas
#SBATCH -e FOLDER/jobs/imgwas-%J.err
#SBATCH -o FOLDER/jobs/imgwas-%J.out
#SBATCH -p long
#SBATCH -A brain
#SBATCH -n 1
#SBATCH --cpus-per-task=1
#SBATCH --mem=15G
#SBATCH -t 04:00:00
#SBATCH --requeue
umask 077
export OMP_NUM_THREADS=1
PYTHON -m distributed.cli.dask_worker tls://ADDRESS --name dummy-name --nthreads 1 \
--memory-limit 14.90GiB --nanny --death-timeout 600 \
--lifetime 14100s --lifetime-stagger 120s --dashboard-address 127.0.0.1:0 \
--protocol tls:// --tls-ca-file FOLDER/CERT --tls-cert FOLDER/CERT --tls-key FOLDER/CERT
"""


def test_what_is_submitted(tmp_path):
    """TLS, leaving before the time is up, nothing for others to look at."""
    settings = SlurmSettings(
        8, queue="long", account="brain", memory="16GB", job_options=("--requeue",)
    )
    private = tmp_path / "private" / "cluster"
    with make_cluster(settings, private) as cluster:
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tls://")
        assert private.stat().st_mode & 0o077 == 0
        assert private.parent.stat().st_mode & 0o077 == 0
        keys = list(private.glob(".dask-jobqueue*"))
        assert keys
        assert all(path.stat().st_mode & 0o077 == 0 for path in keys)
        dashboard = cluster.scheduler.http_server.port
        sockets = psutil.Process().net_connections(kind="inet")
        bound = {c.laddr.ip for c in sockets if c.laddr and c.laddr.port == dashboard}
        assert bound == {"127.0.0.1"}
    remove_keys(cluster)
    assert not list(private.glob(".dask-jobqueue*"))
    script = script.replace(str(private), "FOLDER").replace(sys.executable, "PYTHON")
    script = re.sub(r"tls://[\d.]+:\d+", "tls://ADDRESS", script)
    script = re.sub(r"\.dask-jobqueue\.worker\.\S+", "CERT", script)
    assert script.split() == GOLDEN.split()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:15", 1815), ("04:00:00", 14400), ("2-0", 172800), ("1-12:30", 131400),
     ("1-00:00:10", 86410)],
)  # fmt: skip
def test_times_as_slurm_writes_them(text, seconds):
    assert seconds_of(text) == seconds


def test_times_that_are_none():
    for text in ("", "four hours", "1:2:3:4", "-5"):
        with pytest.raises(UsageError, match="is no time"):
            seconds_of(text)
    with pytest.raises(UsageError, match="too short"):
        _ = SlurmSettings(4, walltime="00:05:00").lifetime_s


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cluster", "slurm"], "--cluster needs --workers N"),
        (["--queue", "long"], "--queue needs --cluster slurm"),
        (["--cluster", "slurm", "--workers", "2", "--scheduler", "tcp://a:1"], "choose one"),
        (["--part", "1/2", "--finish"], "choose one"),
        (["--tls-cert", "a.pem"], "go together"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, options, says):
    words = ["associate", "--bfile", "none", "--latents", "none.tsv", "--out", "r"]
    done = command_line(*words, *options, folder=tmp_path)
    assert done.code == 8
    assert says in done.text


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cohort, and programs called sbatch and scancel."""
    imgwas.simulate_cohort(
        tmp_path / "cohort", n_samples=201, n_variants=1000, n_latents=8, n_causal=2, seed=15
    )
    home = tmp_path / "slurm"
    monkeypatch.setenv("PATH", fake_slurm.install(home))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", os.fspath(Path.cwd())))
    yield home
    fake_slurm.end_all(home)


@pytest.mark.slow
def test_a_scan_by_jobs(slurm, tmp_path):
    """On the command line: a fake sbatch starts the scripts that are submitted."""
    words = ["associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet",
             "--part-size", "50"]  # fmt: skip
    assert command_line(*words, "--out", "serial", folder=tmp_path).code == 0
    jobs = ["--cluster", "slurm", "--workers", "2", "--walltime", "01:00:00", "--interface", "lo",
            "--worker-memory", "2GB"]  # fmt: skip
    done = command_line(*words, *jobs, "--out", "jobs", folder=tmp_path)
    assert done.code == 0, done.text
    results = [imgwas.open_sumstats(tmp_path / name).digest() for name in ("serial", "jobs")]
    assert results[0] == results[1]
    assert all("--protocol tls://" in path.read_text() for path in slurm.glob("*.job"))
    assert not list(tmp_path.glob("jobs/private/cluster/.dask-jobqueue*"))


@pytest.mark.slow
def test_a_job_that_is_killed_is_replaced(slurm, tmp_path, capsys):
    slow = FaultyGenotypes(tmp_path / "cohort/cohort", tmp_path / "trap", "slow")
    latents = imgwas.read_latents(tmp_path / "cohort/latents.parquet")
    killed: list[int] = []
    addresses: set[str] = set()

    class KillOne(NoProgress):
        def part_done(self, receipt) -> None:
            pids = fake_slurm.jobs(slurm)
            addresses.update(listening_of(pids))
            if not killed and len(pids) >= 2:
                killed.append(pids[0])
                os.killpg(pids[0], signal.SIGKILL)

    settings = SlurmSettings(2, walltime="01:00:00", memory="2GB", interface="lo")
    with slurm_cluster(settings, tmp_path / "private") as client:
        made = imgwas.associate(
            slow, latents, out=tmp_path / "jobs", part_size=25, client=client, progress=KillOne()
        )
    serial = imgwas.associate(
        imgwas.open_genotypes(tmp_path / "cohort/cohort"),
        latents,
        out=tmp_path / "serial",
        part_size=25,
    )
    assert made.digest() == serial.digest()
    assert killed
    assert addresses == {"127.0.0.1"}
    n_jobs = len(list(slurm.glob("*.job")))
    with capsys.disabled():
        print(f"\n{n_jobs} jobs were submitted for 2 workers, one was killed")
    assert n_jobs >= 3


def listening_of(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
                connections = process.net_connections(kind="inet")
                found |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return found

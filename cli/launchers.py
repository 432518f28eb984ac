"""Options that say where a scan is computed: threads, processes, a cluster, a job array."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.options import FILE, stack
from imgwas_cli.running import dask_client

if TYPE_CHECKING:
    from distributed import Client

launchers = stack(
    [
        click.option(
            "--workers",
            type=click.IntRange(1, 4096),
            help="Worker processes on this machine, instead of threads; with --cluster, jobs.",
        ),
        click.option(
            "--scheduler", metavar="ADDRESS", help="A running dask scheduler, tcp:// or tls://."
        ),
        click.option("--tls-ca", type=FILE, help="Authority of a tls:// scheduler (PEM)."),
        click.option("--tls-cert", type=FILE, help="Certificate to show to it."),
        click.option("--tls-key", type=FILE, help="Key of that certificate."),
        click.option(
            "--cluster", type=click.Choice(["slurm"]), help="Submit workers as jobs of a queue."
        ),
        click.option("--queue", metavar="NAME", help="Partition of the jobs."),
        click.option("--account", metavar="NAME", help="Account of the jobs."),
        click.option(
            "--walltime", default="04:00:00", show_default=True, metavar="H:M:S",
            help="Of each job; workers leave five minutes before.",
        ),
        click.option(
            "--min-workers", type=click.IntRange(0), help="Jobs to keep; the others come and go."
        ),
        click.option(
            "--worker-memory", default="8GB", show_default=True, metavar="SIZE",
            help="Memory of each job.",
        ),
        click.option("--interface", metavar="NAME", help="Network between jobs, e.g. ib0."),
        click.option(
            "--job-option", multiple=True, metavar="TEXT", help="Another #SBATCH line, as it is."
        ),
        click.option(
            "--part",
            metavar="I/N",
            help="Task I of N of a job array: every N-th part. auto: from SLURM's variables.",
        ),
        click.option(
            "--finish", is_flag=True, help="Compute nothing; finish what the tasks computed."
        ),
        click.option(
            "--ignore-file-times", is_flag=True,
            help="Tasks have copies of the genotypes: their times may differ.",
        ),
    ]
)  # fmt: skip
NAMES = ["workers", "scheduler", "tls_ca", "tls_cert", "tls_key", "part", "finish",
         "ignore_file_times"]  # fmt: skip
CLUSTER = [
    "cluster", "queue", "account", "walltime", "min_workers", "worker_memory", "interface",
    "job_option",
]  # fmt: skip


def check(given: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    from imgwas.errors import UsageError

    if given["workers"] and given["scheduler"]:
        raise UsageError("--workers starts a cluster and --scheduler joins one: choose one.")
    if given["cluster"] and not given["workers"]:
        raise UsageError("--cluster needs --workers N: the most jobs to submit.")
    if given["cluster"] and given["scheduler"]:
        raise UsageError("--cluster starts a scheduler and --scheduler joins one: choose one.")
    if given["part"] and given["finish"]:
        raise UsageError("--part computes and --finish does not: choose one.")
    for option in ("queue", "account", "min_workers", "interface", "job_option"):
        if given[option] and not given["cluster"]:
            raise UsageError(f"--{option.replace('_', '-')} needs --cluster slurm.")
    if bool(given["tls_cert"]) != bool(given["tls_key"]):
        raise UsageError("--tls-cert and --tls-key go together.")
    if (given["part"] or given["finish"]) and given["overwrite"]:
        raise UsageError("--overwrite would clear the folder under other tasks: leave it out.")


def share_of(text: str | None, environment: Mapping[str, str] | None = None) -> Any:
    """Turn ``3/10`` or ``auto`` into task and number of tasks.

    Raises
    ------
    UsageError
        If the text is neither, or there is no array to ask about.
    """
    from imgwas.errors import UsageError, explain

    if text is None:
        return None
    if text == "auto":
        return _slurm_share(os.environ if environment is None else environment)
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(
            explain(
                f"--part {text} is no task of an array",
                expected="I/N with I from 1 to N, such as 3/10, or auto",
            )
        )
    return int(found[1]), int(found[2])


def _slurm_share(environment: Mapping[str, str]) -> tuple[int, int]:
    from imgwas.errors import UsageError, explain

    prefix = "SLURM_ARRAY_TASK_"
    try:
        number, n, first, last = (
            int(environment[prefix + name]) for name in ("ID", "COUNT", "MIN", "MAX")
        )
    except (KeyError, ValueError) as error:
        raise UsageError(
            explain(
                f"--part auto finds no job array ({prefix}* is not set)",
                do="Submit with sbatch --array=1-N, or say --part I/N",
            )
        ) from error
    if last - first + 1 != n:
        raise UsageError(
            explain(
                f"the array {first} to {last} has {n} tasks only",
                expected="--part auto needs an array without gaps",
                do="Say --part $SLURM_ARRAY_TASK_ID/N with the N of the first submission",
            )
        )
    return number - first + 1, n


@contextlib.contextmanager
def client_for(given: dict[str, Any], out: Path) -> Iterator[Client | None]:
    """Start or join the cluster that the options ask for."""
    if given["cluster"]:
        from imgwas.slurm import SlurmSettings, slurm_cluster

        settings = SlurmSettings(
            most_workers=given["workers"],
            fewest_workers=given["min_workers"],
            queue=given["queue"],
            account=given["account"],
            walltime=given["walltime"],
            memory=given["worker_memory"],
            interface=given["interface"],
            job_options=tuple(given["job_option"]),
        )
        with slurm_cluster(settings, out / "private" / "cluster") as client:
            yield client
    else:
        with dask_client(given) as client:
            yield client

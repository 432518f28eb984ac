"""Workers as jobs of SLURM, by dask-jobqueue: encrypted, leaving before their time is up.

The scheduler runs in this process. Certificates are made for this run alone; those of the workers
lie in a folder that only you can read, on the file system that the nodes share, until the end.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas.errors import MissingLibraryError, UsageError, explain
from imgwas.files import write_error

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

#: Seconds before the end of a job at which its worker leaves, and how far workers spread.
LEAVE_BEFORE_S, STAGGER_S = 300, 120


@dataclass(frozen=True)
class SlurmSettings:
    """What to ask SLURM for: jobs of one core each.

    Parameters
    ----------
    most_workers : int
        Jobs to have at most.
    fewest_workers : int, optional
        Jobs to keep; by default all of them. A job that ends is replaced.
    queue, account : str, optional
        Partition and account.
    walltime : str
        Of each job, ``H:M:S`` or ``D-H:M:S``.
    memory : str
        Of each job.
    interface : str, optional
        Network interface that nodes reach each other by.
    job_options : tuple of str
        More ``#SBATCH`` lines.
    """

    most_workers: int
    fewest_workers: int | None = None
    queue: str | None = None
    account: str | None = None
    walltime: str = "04:00:00"
    memory: str = "8GB"
    interface: str | None = None
    job_options: tuple[str, ...] = ()

    @property
    def lifetime_s(self) -> int:
        """Seconds after which a worker leaves on its own."""
        total = seconds_of(self.walltime)
        if total <= LEAVE_BEFORE_S + 2 * STAGGER_S:
            raise UsageError(
                explain(
                    f"--walltime {self.walltime} is too short",
                    expected=f"Workers leave {LEAVE_BEFORE_S // 60} minutes before its end",
                    do="Ask for 15 minutes or more",
                )
            )
        return total - LEAVE_BEFORE_S


def seconds_of(walltime: str) -> int:
    """Seconds in a time as SLURM writes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", walltime.strip())
    if found is None:
        raise UsageError(explain(f"--walltime {walltime} is no time", expected="H:M:S or D-H:M:S"))
    days, *rest = (None if x is None else int(x) for x in found.groups())
    numbers = [x for x in rest if x is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(numbers) == 3:
        return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]
    return numbers[0] * 60 + (numbers[1] if len(numbers) == 2 else 0)


def make_cluster(settings: SlurmSettings, private: Path) -> Any:
    """Start a scheduler in this process that can submit workers; none is submitted yet.

    Parameters
    ----------
    settings : SlurmSettings
        What to ask for.
    private : Path
        Folder for certificates and logs of jobs, on a file system that the nodes see. It is made,
        with mode 0700.

    Returns
    -------
    dask_jobqueue.SLURMCluster
        Its ``job_script()`` is what is submitted.
    """
    try:
        from dask_jobqueue import SLURMCluster
        from distributed.security import Security

        security = Security.temporary()
    except ImportError as error:
        raise MissingLibraryError(
            explain(
                f"--cluster slurm needs {error.name or 'cryptography'}",
                do="pip install 'imgwas[slurm]'",
            )
        ) from error
    lifetime = settings.lifetime_s
    _make_private(private)
    try:
        return SLURMCluster(
            cores=1,
            processes=1,
            memory=settings.memory,
            queue=settings.queue,
            account=settings.account,
            walltime=settings.walltime,
            interface=settings.interface,
            job_extra_directives=list(settings.job_options),
            job_name="imgwas",
            log_directory=str(private / "jobs"),
            local_directory=None,
            shared_temp_directory=str(private),
            python=sys.executable,
            security=security,
            protocol="tls://",
            death_timeout=600,
            job_script_prologue=["umask 077", "export OMP_NUM_THREADS=1"],
            worker_extra_args=[
                *("--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{STAGGER_S}s"),
                *("--dashboard-address", "127.0.0.1:0"),
            ],
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            silence_logs="error",
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingLibraryError(
            explain(f"the scheduler for SLURM could not start ({error})")
        ) from error


@contextlib.contextmanager
def slurm_cluster(settings: SlurmSettings, private: Path) -> Iterator[Client]:
    """Submit workers as jobs, more or fewer as there is work, and cancel them at the end.

    Parameters
    ----------
    settings : SlurmSettings
        What to ask for.
    private : Path
        Folder for certificates and logs of jobs, on a file system that the nodes see. It is made,
        with mode 0700.

    Yields
    ------
    distributed.Client
        For ``imgwas.associate(..., client=client)``.

    Raises
    ------
    MissingLibraryError
        If dask-jobqueue is not installed, or the scheduler cannot start.
    """
    import dask
    from distributed import Client

    from imgwas.cluster import SCHEDULING, warn_of_preloads

    warn_of_preloads()
    with dask.config.set(SCHEDULING):
        cluster = make_cluster(settings, private.resolve())
    with contextlib.ExitStack() as stack:
        stack.callback(remove_keys, cluster)
        stack.enter_context(cluster)
        client = stack.enter_context(Client(cluster))
        fewest = settings.fewest_workers
        cluster.adapt(
            minimum=settings.most_workers if fewest is None else fewest,
            maximum=settings.most_workers,
        )
        logger.info("slurm    scheduler at %s, jobs are submitted", cluster.scheduler_address)
        yield client


def remove_keys(cluster: Any) -> None:
    """Remove the certificates that workers read, which would otherwise wait for the collector."""
    for name, file in vars(cluster).items():
        if name.startswith("_job_") and hasattr(file, "close"):
            file.close()


def _make_private(folder: Path) -> None:
    try:
        # mode of the last folder only, so the one above, private too, comes first
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise write_error(folder / "certificates", error) from error

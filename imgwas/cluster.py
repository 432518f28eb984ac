"""Worker processes of dask: started on this machine only, or joined where they run."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas.errors import MissingLibraryError, OpenError, UsageError, explain

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

logger = logging.getLogger(__name__)

#: How long a scheduler may take to answer.
CONNECT_WITHIN = "20s"


#: How schedulers of ours treat long work on machines that may vanish: a task is not given up
#: because its worker was taken away a few times (a part that takes workers down is found by its
#: own count), a long product is no dead worker, and receipts need no disk.
SCHEDULING = {
    "distributed.scheduler.allowed-failures": 20,
    "distributed.scheduler.worker-ttl": "15 minutes",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
}
#: Settings of dask that run code of others in every worker.
_PRELOADS = ("scheduler", "worker", "nanny", "client")


@contextlib.contextmanager
def local_cluster(workers: int, *, memory_limit: str | None = None) -> Iterator[Client]:
    """Start worker processes that listen on the loopback interface only.

    Parameters
    ----------
    workers : int
        Processes, of one thread each.
    memory_limit : str, optional
        Of each, such as ``"4GB"``; by default its share of the memory of this machine.

    Yields
    ------
    distributed.Client
        Connected to them; they end with the block.

    Raises
    ------
    UsageError
        If a script starts them outside ``if __name__ == "__main__":``: each would start more.
    MissingLibraryError
        If they cannot start for another reason.
    """
    import dask
    from distributed import Client, LocalCluster

    _leave_if_worker()
    warn_of_preloads()
    try:
        with dask.config.set(SCHEDULING):
            cluster: LocalCluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                memory_limit=memory_limit or memory_share(workers),
                silence_logs=logging.ERROR,
            )
    except (OSError, RuntimeError) as error:
        if _is_unguarded_script():
            raise UsageError(_GUARD) from error
        raise MissingLibraryError(
            explain(f"{workers} worker processes could not start ({error})")
        ) from error
    with cluster, Client(cluster) as client:
        yield client


def memory_share(workers: int) -> int:
    """Bytes for each of some workers of this machine, with room for the program that starts them.

    Dask divides by the cores, however few workers there are: with many cores and little memory
    they would be stopped while they import.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT // min(workers + 1, CPU_COUNT))


_GUARD = explain(
    "worker processes run the script again that starts them, which would start more",
    expected='if __name__ == "__main__": before what a script does',
    do="Put the call under that line",
)


def _leave_if_worker() -> None:
    """End a worker that is running the script again, before it starts workers of its own."""
    import multiprocessing

    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(1)


def _is_unguarded_script() -> bool:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return bool(path) and "__name__" not in Path(str(path)).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def warn_of_preloads() -> None:
    """Say when the configuration of dask makes processes run code at their start."""
    import dask

    for role in _PRELOADS:
        found = dask.config.get(f"distributed.{role}.preload", None)
        if found:
            logger.warning("the configuration of dask makes every %s run %s", role, found)


@contextlib.contextmanager
def join_cluster(
    address: str,
    *,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> Iterator[Client]:
    """Connect to a running scheduler; warn when the connection is neither local nor encrypted.

    Parameters
    ----------
    address : str
        ``tcp://`` or ``tls://``, host and port.
    tls_ca, tls_cert, tls_key : Path, optional
        For ``tls://``: who signed the scheduler's certificate, and what to show to it.

    Yields
    ------
    distributed.Client
        Connected; the cluster goes on after the block.

    Raises
    ------
    MissingLibraryError
        If nobody answers, or the scheduler refuses the certificate.
    """
    from distributed import Client

    if address.startswith("tcp://") and "127.0.0.1" not in address and "localhost" not in address:
        logger.warning("%s is not encrypted: anyone who reaches it can run code there", address)
    try:
        security = _security(tls_ca, tls_cert, tls_key)
        client = Client(address, timeout=CONNECT_WITHIN, security=security)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise MissingLibraryError(
            explain(
                f"no dask scheduler answers at {address} ({type(error).__name__})",
                do="Start one with 'dask scheduler', or use --workers N"
                if address.startswith("tcp://")
                else "Check the address, and give --tls-ca, --tls-cert and --tls-key",
            )
        ) from error
    with client:
        check_versions(client)
        yield client


def versions_here() -> dict[str, str]:
    """Versions of what results depend on, in this process."""
    from importlib.metadata import version

    found = {name: version(name) for name in ("imgwas", "numpy", "distributed")}
    return {"python": ".".join(map(str, sys.version_info[:2])), **found}


def check_versions(client: Client) -> None:
    """Refuse workers whose libraries are not ours: numbers would depend on who computed them.

    Raises
    ------
    MissingLibraryError
        With the versions that differ.
    """
    mine = versions_here()
    for address, theirs in client.run(versions_here, on_error="return").items():
        if isinstance(theirs, Exception):
            what = f"worker {address} has no imgwas ({type(theirs).__name__})"
            raise MissingLibraryError(explain(what, do="Start workers in this environment"))
        differ = [f"{n} {theirs.get(n)}, here {mine[n]}" for n in mine if theirs.get(n) != mine[n]]
        if differ:
            what = f"worker {address} has {'; '.join(differ)}"
            raise MissingLibraryError(explain(what, do="Start workers in this environment"))


def _security(ca: Path | None, cert: Path | None, key: Path | None) -> Any:
    """Certificates for a connection; none given, what the configuration of dask says."""
    if ca is None and cert is None:
        return None
    from distributed.security import Security

    for path in (ca, cert, key):
        if path is not None and not path.exists():
            raise OpenError(explain(f"{path} does not exist", expected="A certificate in PEM"))
    given = {"tls_ca_file": ca, "tls_client_cert": cert, "tls_client_key": key}
    names = {name: str(path) for name, path in given.items() if path is not None}
    return Security(require_encryption=True, **names)


def compute_each(
    function: Callable[..., Any],
    items: Sequence[Any],
    *,
    client: Client | None = None,
    threads: int = 1,
    **shared: Any,
) -> Iterator[tuple[int, Any]]:
    """Call ``function(item, **shared)`` for every item and yield (index, result) as they end.

    Work that raises yields its exception instead of a result: the others go on. At most four
    items per worker are under way, so a list of any length needs the memory of a few.

    Parameters
    ----------
    function : callable
        A function of a module, so that workers can import it.
    items : sequence
        One piece of work each.
    client : distributed.Client, optional
        Workers of a cluster; by default threads of this process.
    threads : int
        Threads of this process when there is no client.
    **shared
        The same for every item.

    Yields
    ------
    (int, object)
        Position of the item and what came out, in the order of finishing.
    """
    if client is not None:
        yield from _on_client(function, items, client, shared)
        return
    pool = ThreadPoolExecutor(threads)
    queue = iter(enumerate(items))
    under_way: dict[Future, int] = {}
    try:
        while True:
            for index, item in itertools.islice(queue, 2 * threads - len(under_way)):
                under_way[pool.submit(function, item, **shared)] = index
            if not under_way:
                break
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield under_way.pop(future), future.exception() or future.result()
    finally:
        # never wait here: an abandoned generator is closed by the garbage collector, in any
        # thread and at any moment, and joining threads then can deadlock the interpreter
        pool.shutdown(wait=False, cancel_futures=True)


def _on_client(
    function: Callable[..., Any], items: Sequence[Any], client: Client, shared: dict[str, Any]
) -> Iterator[tuple[int, Any]]:
    from distributed import as_completed

    window = max(4, 4 * sum(client.nthreads().values()))
    queue = iter(enumerate(items))
    run = uuid.uuid4().hex[:12]
    places: dict[str, int] = {}

    def submit(index: int, item: Any) -> Any:
        key = f"imgwas-{run}-{index}"
        places[key] = index
        return client.submit(function, item, **shared, key=key, pure=False, retries=2)

    under_way = as_completed([submit(*pair) for pair in itertools.islice(queue, window)])
    for future in under_way:
        error = future.exception()
        result = error if error is not None else future.result()
        future.release()
        yield places.pop(future.key), result
        pair = next(queue, None)
        if pair is not None:
            under_way.add(submit(*pair))


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

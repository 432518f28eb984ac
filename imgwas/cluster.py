"""Worker processes of dask: started on this machine only, or joined where they run."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from imgwas.errors import MissingLibraryError, explain

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

logger = logging.getLogger(__name__)

#: How long a scheduler may take to answer.
CONNECT_WITHIN = "20s"


@contextlib.contextmanager
def local_cluster(workers: int, *, memory_limit: str | None = None) -> Iterator[Client]:
    """Start worker processes that listen on the loopback interface only."""
    from distributed import Client, LocalCluster

    try:
        cluster: LocalCluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            memory_limit=memory_limit or "auto",
            silence_logs=logging.ERROR,
        )
    except (OSError, RuntimeError) as error:
        raise MissingLibraryError(
            explain(f"{workers} worker processes could not start ({error})")
        ) from error
    with cluster, Client(cluster) as client:
        yield client


@contextlib.contextmanager
def join_cluster(address: str) -> Iterator[Client]:
    """Connect to a running scheduler; warn when the connection is neither local nor encrypted."""
    from distributed import Client

    if address.startswith("tcp://") and "127.0.0.1" not in address and "localhost" not in address:
        logger.warning("%s is not encrypted: anyone who reaches it can run code there", address)
    try:
        client = Client(address, timeout=CONNECT_WITHIN)
    except (OSError, TimeoutError, ValueError) as error:
        raise MissingLibraryError(
            explain(
                f"no dask scheduler answers at {address} ({type(error).__name__})",
                do="Start one with 'dask scheduler', or use --workers N",
            )
        ) from error
    with client:
        yield client


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

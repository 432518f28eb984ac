"""What long commands share: a bar, a cluster, a log file, options of workers and settings."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs
from imgwas_cli.options import FILE, stack

if TYPE_CHECKING:
    from distributed import Client

    from imgwas.types import Images

logger = logging.getLogger("imgwas.cli")

workers = stack(
    [
        click.option("--workers", type=click.IntRange(1), help="Start that many dask processes."),
        click.option("--scheduler", metavar="URL", help="Join a running dask scheduler."),
    ]
)
people = stack(
    [
        click.option("--keep", type=FILE, multiple=True, help="Only the people of this list."),
        click.option("--remove", type=FILE, multiple=True, help="Not the people of this list."),
    ]
)
device = stack(
    [
        click.option(
            "--device",
            default="auto",
            show_default=True,
            metavar="NAME",
            help="auto, cpu, cuda, cuda:1, mps.",
        ),
    ]
)


@contextlib.contextmanager
def bar(
    total: int, label: str, unit: str, *, quiet: bool = False
) -> Iterator[Callable[[int], object] | None]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=unit, unit_scale=True, file=sys.stderr) as shown:
        yield shown.update


@contextlib.contextmanager
def dask_client(given: dict[str, Any]) -> Iterator[Client | None]:
    """Start or join a cluster if --workers or --scheduler say so."""
    if given["workers"]:
        from imgwas.cluster import local_cluster

        with local_cluster(given["workers"]) as client:
            yield client
    elif given["scheduler"]:
        from imgwas.cluster import join_cluster

        certificates = {name: given.get(name) for name in ("tls_ca", "tls_cert", "tls_key")}
        with join_cluster(given["scheduler"], **certificates) as client:
            yield client
    else:
        yield None


def log_into(folder: Path, given: dict[str, Any]) -> None:
    """Send messages to the terminal and to a log file in a folder, made if absent."""
    from imgwas.files import write_error

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logs.to_file(folder)
    except OSError as error:
        raise write_error(folder / "log-1.txt", error) from error


def cores(given: int | None) -> int:
    """Threads to use: those asked for, or the cores of this process."""
    from imgwas.cluster import available_cores

    return given or available_cores()


def choose_people(images: Images, given: dict[str, Any]) -> Images:
    """Keep and remove people by the lists of --keep and --remove."""
    if not given["keep"] and not given["remove"]:
        return images
    from imgwas.errors import InconsistentError, explain
    from imgwas.images.volumes import SubsetImages
    from imgwas.tables import read_id_list

    keep = {one for path in given["keep"] for one in read_id_list(path).sample_ids}
    remove = {one for path in given["remove"] for one in read_id_list(path).sample_ids}
    rows = [
        i
        for i, one in enumerate(images.sample_ids)
        if (not given["keep"] or one in keep) and one not in remove
    ]
    logger.info("people   %d of %d are chosen by --keep and --remove", len(rows), len(images))
    if not rows:
        raise InconsistentError(
            explain(
                "--keep and --remove leave nobody",
                do="Compare the ids of the lists with the column sample_id of images.tsv",
            )
        )
    return SubsetImages(images, rows)

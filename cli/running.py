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

    from imgwas.association.progress import Progress
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
part_handling = stack(
    [
        click.option(
            "--on-part",
            metavar="PROGRAM",
            help="Called as PROGRAM OUT FILE... for each finished part: to copy it elsewhere.",
        ),
        click.option(
            "--on-part-timeout",
            type=click.FloatRange(1),
            metavar="SECONDS",
            show_default="600",
            help="End a call of PROGRAM that takes longer; it counts as failed.",
        ),
    ]
)
#: Names of these two.
PART_HANDLING = ["on_part", "on_part_timeout"]


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


def choose_progress(given: dict[str, Any]) -> Progress:
    """Choose a bar on a terminal, and lines in the log elsewhere; a program may be told too."""
    from imgwas.association.handing_over import TIMEOUT_S, HandingOver
    from imgwas.association.progress import BarProgress, LogProgress

    shown = BarProgress() if sys.stderr.isatty() and not given["quiet"] else LogProgress()
    if not given["on_part"]:
        return shown
    return HandingOver(given["on_part"], shown, timeout_s=given["on_part_timeout"] or TIMEOUT_S)


#: A pair further from statsmodels than this, in standard errors, is a bug.
APART = 1e-3


def check_pairs(*inputs: Any, **options: Any) -> None:
    """Compare some pairs of a scan with statsmodels."""
    from imgwas.association.selfcheck import check_scan
    from imgwas.errors import ImgwasError, explain

    table = check_scan(*inputs, **options)
    worst = table.iloc[int(table["difference"].argmax())]
    logger.info(
        "checked  %d pairs with statsmodels: t and beta agree within %.1e standard errors",
        len(table),
        worst["difference"],
    )
    if not worst["difference"] < APART:
        raise ImgwasError(
            explain(
                f"{worst['variant_id']} x {worst['latent']} has t {worst['t']:.6g} here and "
                f"{worst['t_statsmodels']:.6g} in statsmodels",
                do="Please report it with the log file of this run",
            )
        )

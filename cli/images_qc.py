"""``imgwas images qc``: a table of what is wrong with images, and sheets of pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import options
from imgwas_cli.options import FILE, FOLDER, Command
from imgwas_cli.running import bar, cores, dask_client, log_into, workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgwas.images.listing import ImageList
    from imgwas.images.quality import Quality
    from imgwas.images.space import Space

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas images qc prepared/ --out qc/
imgwas images qc t1/ --pattern '{id}_T1.nii.gz' --out qc/ --expected MNI152_2mm.nii.gz
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "What": ["out", "expected", "n_axes", "pictures", "picture_format", "fail_on_problems"],
        "Input": ["kind", "pattern", "image", "id_column", "view", "visit"],
        "Compute": ["threads", "workers", "scheduler"],
    },
)
@click.argument("images", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Folder for qc.tsv and the pictures.")
@click.option("--expected", type=FILE, help="Image whose grid and place all others must have.")
@click.option(
    "--axes", "n_axes", type=click.Choice(["3", "4"]), default="3", show_default=True,
    help="How many axes an image has; series of a store have 4.",
)  # fmt: skip
@click.option(
    "--pictures", type=click.IntRange(0), default=63, show_default=True,
    help="Images to draw; those with problems are all drawn.",
)  # fmt: skip
@click.option(
    "--format", "picture_format", type=click.Choice(["png", "pdf"]), default="png",
    show_default=True, help="Of the pages of pictures.",
)  # fmt: skip
@click.option("--fail-on-problems", is_flag=True, help="End with exit code 7 if there is any.")
@click.option(
    "--kind", type=click.Choice(["table", "folder", "bids", "ukb", "store"]),
    help="What IMAGES is; recognised when not given.",
)  # fmt: skip
@click.option("--pattern", help="File names below a folder: '{id}_T1.nii.gz'.")
@click.option("--image", help="Column of the images; or the name of the image in bulk zips.")
@click.option("--id-column", help="Column of the ids.")
@click.option("--view", help="View of a store: 4Ch.")
@click.option("--visit", help="first, last or a label; all visits by default.")
@options.threads
@workers
@options.verbosity
def qc(images: Path, out: Path, **given: Any) -> None:
    """Look at every image: what is wrong with it, and is it unlike the others.

    IMAGES is a list, a folder that 'imgwas preprocess' wrote, or any source that 'imgwas images
    list' takes. Writes qc.tsv, worst first, and sheet-001.png, ...: three slices an image, titled
    by their number in qc.tsv. The terminal shows counts. The folder names people: keep it private.
    """
    from imgwas.images.quality import count_problems, inspect_images, write_quality

    log_into(out, given)
    (out / ".gitignore").write_text("*\n", encoding="ascii")
    found, space = _to_inspect(images, given), _expected_space(given["expected"])
    with dask_client(given) as client, bar(len(found), "qc", "image") as progress:
        rows = inspect_images(
            found,
            expected=space,
            threads=cores(given["threads"]),
            client=client,
            progress=progress,
            dimensions=(int(given["n_axes"]),),
        )
    n_bad = sum(bool(row.problems) for row in rows)
    n_pages = _draw_pages(rows, out, given)
    write_quality(out / "qc.tsv", rows)
    logger.info("looked at %s images: %s have problems", f"{len(rows):,}", f"{n_bad:,}")
    _say_problems(count_problems(rows))
    logger.info("wrote %s and %d pages of pictures", out / "qc.tsv", n_pages)
    if n_bad and given["fail_on_problems"]:
        _fail(n_bad, len(rows), out)


def _to_inspect(images: Path, given: dict[str, Any]) -> ImageList:
    """Read the list of a prepared folder, or find images."""
    from imgwas.images.finding import find_or_read

    choices = {name: given[name] for name in ("pattern", "image", "id_column", "view")}
    if given["kind"] is None and not any(choices.values()) and (images / "images.tsv").is_file():
        images = images / "images.tsv"
    return find_or_read(images, kind=given["kind"], visit=given["visit"], **choices)


def _expected_space(template: Path | None) -> Space | None:
    from imgwas.images.nifti import read_header
    from imgwas.images.space import Space

    if template is None:
        return None
    header = read_header(template)
    return Space(header.grid, header.affine)


def _draw_pages(rows: Sequence[Quality], out: Path, given: dict[str, Any]) -> int:
    """Write the sheets and remove those of an earlier run; return how many there are."""
    from imgwas.plots import save_figure
    from imgwas.plots.image_sheet import quality_pages

    kept = set()
    for number, page in enumerate(quality_pages(rows, pictures=given["pictures"]), start=1):
        kept.add(save_figure(page, out / f"sheet-{number:03d}.{given['picture_format']}", dpi=200))
    for path in (*out.glob("sheet-*.png"), *out.glob("sheet-*.pdf")):
        if path not in kept:
            path.unlink()
    return len(kept)


def _say_problems(counts: dict[str, int]) -> None:
    from imgwas.images.quality import KINDS

    for kind, n in counts.items():
        logger.info("%8s  %s", f"{n:,}", KINDS[kind])


def _fail(n_bad: int, n_all: int, out: Path) -> None:
    from imgwas.errors import InconsistentError, explain

    raise InconsistentError(
        explain(
            f"{n_bad:,} of {n_all:,} images have problems",
            where=f"see {out / 'qc.tsv'}, column problems",
            do="Mend them or leave them out of the list",
        )
    )

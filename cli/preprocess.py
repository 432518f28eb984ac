"""``imgwas preprocess``: images as they came to images on one grid."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from imgwas_cli import options
from imgwas_cli.options import FILE, FOLDER, CommaList, Command
from imgwas_cli.running import bar, cores, dask_client, log_into, workers

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas preprocess images.tsv --out prepared/ --template MNI152_2mm.nii.gz \\
    --steps reorient,register,resample --set resample.voxel_mm=4
imgwas preprocess ukb.tsv --out prepared/ --recipe udip.yaml --workers 8
"""
GROUPS = {
    "What is done": ["recipe", "steps", "settings", "template", "list_steps"],
    "Input": ["kind", "pattern", "id_column", "image_column", "visit"],
    "Output": ["out", "dtype", "max_failures", "overwrite", "quiet", "verbose"],
    "Compute": ["threads", "workers", "scheduler"],
}


@click.command(cls=Command, example=EXAMPLE, groups=GROUPS)
@click.argument("images", type=FOLDER, required=False)
@click.option("--out", type=FOLDER, help="Folder for the prepared images.")
@click.option("--recipe", type=FILE, help="YAML file with the list of steps.")
@click.option("--steps", type=CommaList(), help="Steps in order: reorient,register,resample.")
@click.option(
    "--set", "settings", multiple=True, metavar="STEP.FIELD=VALUE", help="A setting of a step."
)
@click.option("--template", type=FILE, help="Template of the steps that need one.")
@click.option("--list-steps", is_flag=True, help="Name every step with its settings and stop.")
@click.option(
    "--kind",
    type=click.Choice(["table", "folder", "bids", "ukb", "store"]),
    help="What IMAGES is; recognised otherwise.",
)
@click.option("--pattern", help="File names below a folder: '{id}_T1.nii.gz'.")
@click.option("--id-column", help="Column that holds the sample ids.")
@click.option("--image-column", help="Column that holds the paths.")
@click.option(
    "--visit", default=None, help="first, last, or a visit's label, where there are several."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "int16"]),
    default="float32",
    show_default=True,
    help="Of the stored voxels.",
)
@click.option(
    "--max-failures",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of images that may fail.",
)
@click.option("--overwrite", is_flag=True, help="Start anew although --out holds another recipe.")
@options.threads
@workers
@options.verbosity
def preprocess(images: Path | None, **given: Any) -> None:
    """Bring images onto one grid, by named steps in an order.

    IMAGES is a list that 'imgwas images list' wrote, or any source that it takes: a table with
    paths, a folder with --pattern, a BIDS folder, UK Biobank zips. One bad scan never stops the
    others: it is listed in failures.tsv. The same command given again continues.
    """
    if given["list_steps"]:
        _list_steps()
        return
    if images is None or given["out"] is None:
        raise click.UsageError("Name the images and the folder to write: IMAGES --out FOLDER.")
    from imgwas.images.prepare import prepare_images

    recipe = _recipe(given)
    log_into(given["out"], given)
    found = _find(images, given)
    with dask_client(given) as client, bar(len(found), "preprocess", "image") as progress:
        prepared = prepare_images(
            found,
            recipe,
            given["out"],
            threads=cores(given["threads"]),
            client=client,
            dtype=given["dtype"],
            max_failures=given["max_failures"],
            overwrite=given["overwrite"],
            progress=progress,
        )
    logger.info(
        "prepared %s images (%s were there), %s failed",
        f"{len(prepared.images):,}",
        f"{prepared.n_resumed:,}",
        f"{len(prepared.failures):,}",
    )
    logger.info("next: imgwas images qc %s --out %s", given["out"], given["out"] / "qc")
    logger.info("      imgwas train udip %s --out run/", given["out"])


def _list_steps() -> None:
    from imgwas.images.steps import STEPS
    from imgwas.settings import as_json

    for name, step in STEPS.items():
        click.echo(f"{name:12} {(step.__doc__ or '').splitlines()[0]}")
        for field, value in as_json(step()).items():
            click.echo(f"{'':14}{name}.{field}={_shown(value)}")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _recipe(given: dict[str, Any]) -> Any:
    from imgwas.images.recipe import Recipe
    from imgwas.settings import parse_assignments

    if (given["recipe"] is None) == (given["steps"] is None):
        raise click.UsageError("Say what to do by --steps a,b,c or by --recipe FILE.")
    if given["recipe"] is not None:
        return Recipe.read(given["recipe"])
    settings: dict[str, Any] = parse_assignments(given["settings"])
    if given["template"] is not None:
        for step in ("register", "apply-matrix", "resample"):
            if step in given["steps"]:
                settings.setdefault(f"{step}.template", str(given["template"]))
    return Recipe.of(given["steps"], settings)


def _find(images: Path, given: dict[str, Any]) -> Any:
    from imgwas.images.finding import find_or_read

    return find_or_read(
        images,
        kind=given["kind"],
        visit=given["visit"],
        pattern=given["pattern"],
        id_column=given["id_column"],
        image_column=given["image_column"],
    )

"""``imgwas encode`` and ``imgwas reconstruct``: images to latents, and back to look at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from imgwas_cli import options
from imgwas_cli.options import FOLDER, Command
from imgwas_cli.running import bar, choose_people, cores, device, log_into, people

logger = logging.getLogger("imgwas.cli")


@click.command(
    cls=Command,
    example="imgwas encode prepared/ run/ --out latents.parquet\n"
    "imgwas encode cache/ run/ --out latents.parquet --device cuda --precision bf16 --batch 16\n"
    "imgwas encode prepared/ runs/ --out latents/",
)
@click.argument("images", type=FOLDER)
@click.argument("encoder", type=FOLDER)
@click.option("--out", type=FOLDER, required=True,
              help="Table of latents, .parquet; of several seeds a folder.")  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Images at a time."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of activations.",
)
@people
@click.option("--visit", help="Which visit, where there are several.")
@click.option(
    "--in-sample",
    is_flag=True,
    help="Encode a supervised network's own training people; the scan will refuse them.",
)
@click.option(
    "--max-failures",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of images that may fail.",
)
@click.option(
    "--no-reconstruction-error",
    is_flag=True,
    help="Do not decode: half the work, and no column that tells bad images.",
)
@device
@options.threads
@options.verbosity
def encode(images: Path, encoder: Path, **given: Any) -> None:
    """Write the latents of people, one row each, as 'imgwas associate --latents' takes them.

    IMAGES is prepared as the encoder's training images were; ENCODER a run of 'imgwas train', a
    folder with encoder.json, or the folder of 'imgwas train --seeds': then --out is a folder that
    gets a table a seed. The same command given again continues.
    """
    from imgwas_cli.train_seeds import runs_of

    out: Path = given["out"]
    runs = runs_of(encoder)
    _check_out(out, runs)
    if not runs:
        log_into(out.parent / f"{out.stem}.logs", given)
        _encode_one(images, encoder, out, given)
        logger.info("next: imgwas associate --bfile cohort --latents %s --out results/", out)
        return
    log_into(out, given)
    for name, run in runs.items():
        logger.info("run      %s", name)
        _encode_one(images, run, out / f"{name}.parquet", given)
    logger.info("next: imgwas latents consensus %s --out consensus/", out)


def _check_out(out: Path, runs: dict[str, Path]) -> None:
    """Refuse a file for the tables of several seeds, and a folder for one table."""
    from imgwas.errors import UsageError, explain

    if runs and (out.suffix or out.is_file()):
        raise UsageError(
            explain(f"--out {out} is one table, and there are {len(runs)} runs",
                    do=f"Name a folder: --out {out.with_suffix('')}/")
        )  # fmt: skip
    if not runs and out.is_dir():
        raise UsageError(
            explain(f"--out {out} is a folder, and there is one encoder",
                    do=f"Name a table: --out {out / 'latents.parquet'}")
        )  # fmt: skip


def _encode_one(images: Path, encoder: Path, out: Path, given: dict[str, Any]) -> None:
    from imgwas.encoders.checkpoints import load_encoder
    from imgwas.encoders.devices import choose_device
    from imgwas.encoders.encoding import encode_images
    from imgwas.encoders.features import open_inputs
    from imgwas.encoders.runs import Run

    where = choose_device(given["device"])
    loaded = load_encoder(encoder, device=str(where))
    opened = open_inputs(images, visit=given["visit"], about=loaded.about)
    opened = choose_people(opened, given)
    _compare_recipes(opened, loaded.about)
    with bar(len(opened), "encode", "image") as progress:
        done = encode_images(
            opened,
            loaded.encoder,
            out,
            digest=loaded.digest,
            batch=given["batch"],
            threads=cores(given["threads"]),
            precision=given["precision"],
            people_seen=Run(encoder).people_seen(),
            in_sample=given["in_sample"],
            reconstruction_error=not given["no_reconstruction_error"],
            max_failures=given["max_failures"],
            progress=progress,
        )
    for row, reason in done.failures[:20]:
        logger.warning("image %d was not encoded: %s", row + 1, reason)
    logger.info(
        "encoded  %s people (%s were there), %s failed",
        f"{done.n_samples:,}",
        f"{done.n_resumed:,}",
        f"{len(done.failures):,}",
    )


def _compare_recipes(images: Any, about: Any) -> None:
    """Refuse images prepared by another recipe than the encoder's training images."""
    from imgwas.errors import InconsistentError, explain

    mine, theirs = images.fingerprint().get("recipe"), about.get("recipe")
    if mine is None or theirs is None or mine == theirs:
        return

    def names(recipe: Any) -> str:
        return ", ".join(step["step"] for step in recipe)

    how = (
        f"{names(mine)}; the encoder's were prepared by {names(theirs)}"
        if names(mine) != names(theirs)
        else "the same steps with other settings"
    )
    raise InconsistentError(
        explain(
            f"the images were prepared by another recipe: {how}",
            do="Prepare them with the recipe stored in encoder.json",
        )
    )


@click.command(
    cls=Command, example="imgwas reconstruct prepared/ run/ --out reconstructions.png --n 6"
)
@click.argument("images", type=FOLDER)
@click.argument("encoder", type=FOLDER)
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="A figure (.png, .pdf) of originals and reconstructions, or a folder for NIfTI.",
)
@click.option(
    "--n",
    "n_images",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Images: the first ones, held-out people first.",
)
@click.option(
    "--beside",
    type=FOLDER,
    multiple=True,
    help="Another run, to say how much of the same people comes back from its latents.",
)
@click.option("--visit", help="Which visit, where there are several.")
@options.verbosity
def reconstruct(images: Path, encoder: Path, out: Path, n_images: int, **given: Any) -> None:
    """Decode the latents of a few people and lay them beside their images.

    Also says, for up to 64 people, how much of what differs between them comes back, and how many
    reconstructions are nearest to the image of the right person.
    """
    from imgwas_cli import logs

    from imgwas.encoders.checkpoints import load_encoder
    from imgwas.encoders.features import is_table
    from imgwas.encoders.reconstruction import held_out_rows, reconstruct_images, write_pairs
    from imgwas.errors import UsageError, explain
    from imgwas.images.volumes import open_images
    from imgwas.plots import save_figure
    from imgwas.plots.image_sheet import reconstruction_sheet

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    if is_table(images):
        raise UsageError(
            explain(f"{images} is a table of features", expected="reconstruct draws images")
        )
    opened = open_images(images, visit=given["visit"])
    loaded = load_encoder(encoder)
    rows = held_out_rows(opened, encoder, n_images)
    pairs = reconstruct_images(opened, loaded.encoder, rows)
    if out.suffix in (".png", ".pdf", ".svg"):
        click.echo(f"wrote {save_figure(reconstruction_sheet(pairs), out)}", err=True)
    else:
        write_pairs(pairs, opened, out)
        click.echo(f"wrote {2 * len(pairs)} volumes to {out}", err=True)
    _say_likeness(opened, encoder, loaded.encoder, given["beside"])


def _say_likeness(images: Any, run: Path, encoder: Any, beside: tuple[Path, ...]) -> None:
    """Compare encoders on the same people, held-out ones of the first run before others."""
    from imgwas.encoders.checkpoints import load_encoder
    from imgwas.encoders.inversion import MOST_COMPARED, compare_likeness
    from imgwas.encoders.reconstruction import count_trained, held_out_rows

    rows = held_out_rows(images, run, MOST_COMPARED)
    if len(rows) < 2:
        return
    encoders = {str(run): encoder} | {str(one): load_encoder(one).encoder for one in beside}
    for painter in [name for name, one in encoders.items() if not one.exact_derivative]:
        click.echo(
            f"{painter}: how many people come back from latents is not measured, "
            f"{encoders.pop(painter).name} paints each of {len(rows)} in many steps"
            + (
                "; what was drawn started from each person's own noise, which can hold the image "
                "even if latents hold nothing"
                if painter == str(run)
                else ""
            ),
            err=True,
        )
    if not encoders:
        return
    for name, row in compare_likeness(encoders, images, rows).iterrows():
        trained = count_trained(images, Path(str(name)), rows)
        click.echo(
            f"{name}: {row['recognised'] * row['people']:.0f} of {row['people']:.0f} people are "
            f"nearest to their own image (1 by chance), {row['explained']:.1%} of the variance "
            "between people comes back; "
            + ("whom it learned from is not known" if trained is None
               else f"it learned from {trained} of them"),
            err=True,
        )  # fmt: skip

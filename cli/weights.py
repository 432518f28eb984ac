"""``imgwas weights``: published checkpoints to encoders of ours."""

from __future__ import annotations

from pathlib import Path

import click
from imgwas_cli.options import FOLDER, Command


@click.group()
def weights() -> None:
    """Convert published weights, without running anything that is in them."""


@weights.command(
    cls=Command,
    example="imgwas weights convert --from udip T1.ckpt --out udip_t1/\n"
    "imgwas weights convert --from imlatent checkpoint/ --out cardiac/",
)
@click.argument("checkpoint", type=FOLDER)
@click.option(
    "--from",
    "origin",
    type=click.Choice(["udip", "imlatent", "imgwas"]),
    required=True,
    help="Whose names the tensors have.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder for encoder.json and weights.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting.")
def convert(checkpoint: Path, origin: str, out: Path, settings: tuple[str, ...]) -> None:
    """Turn a .ckpt, .pt or .pth into a folder with encoder.json and safetensors."""
    from imgwas.encoders.convert import convert_weights
    from imgwas.settings import parse_assignments

    digest = convert_weights(checkpoint, out, origin=origin, settings=parse_assignments(settings))
    click.echo(f"wrote {out} (SHA-256 of the weights {digest})", err=True)
    click.echo(
        "next: imgwas encode IMAGES "
        f"{out} --out latents.parquet; whom these weights have seen is not known",
        err=True,
    )

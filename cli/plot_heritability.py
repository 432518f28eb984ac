"""``imgwas plot h2`` and ``rg``: figures of what ``imgwas heritability`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from imgwas_cli.options import FILE, FOLDER, Command

if TYPE_CHECKING:
    import pandas as pd

OUT = click.option("--out", type=FILE, required=True, help="Figure to write: .pdf, .svg or .png.")
ORDER = click.option("--keep-order", is_flag=True, help="Latents as they are in the table.")


@click.command(cls=Command, example="imgwas plot h2 heritability/ --out h2.pdf")
@click.argument("folder", type=FOLDER)
@ORDER
@OUT
def h2(folder: Path, out: Path, keep_order: bool) -> None:
    """Draw heritabilities as bars with 95 % intervals.

    FOLDER is that of `imgwas heritability`, or its heritability.tsv.
    """
    from imgwas_cli.plot_loci import read_text

    from imgwas.plots import heritability_bars, save_figure

    path = folder if folder.is_file() else folder / "heritability.tsv"
    ax = heritability_bars(read_text(path), order="given" if keep_order else "size")
    click.echo(f"wrote {save_figure(ax.figure, out)}", err=True)


@click.command(cls=Command, example="imgwas plot rg heritability/ --out rg.pdf")
@click.argument("folder", type=FOLDER)
@click.option("--phenotypic", is_flag=True, help="Phenotypic correlations above the diagonal.")
@click.option(
    "--alpha", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
    help="Of a dot, shared by all pairs.",
)  # fmt: skip
@ORDER
@OUT
def rg(folder: Path, out: Path, phenotypic: bool, alpha: float, keep_order: bool) -> None:
    """Draw genetic correlations as a matrix; hatched where they are not defined.

    FOLDER is that of `imgwas heritability` with --method he.
    """
    from imgwas.plots import genetic_correlation_matrix, save_figure

    ax = genetic_correlation_matrix(
        _matrix(folder, "genetic_correlation"),
        _matrix(folder, "genetic_correlation_error"),
        phenotypic=_matrix(folder, "phenotypic_correlation") if phenotypic else None,
        alpha=alpha,
        order="given" if keep_order else "cluster",
    )
    click.echo(f"wrote {save_figure(ax.figure, out)}", err=True)


def _matrix(folder: Path, name: str) -> pd.DataFrame:
    """One of the square tables, in either format."""
    import pandas as pd
    from imgwas_cli.plot_loci import read_text

    from imgwas.errors import MalformedError, OpenError, explain

    binary, text = folder / f"{name}.parquet", folder / f"{name}.tsv"
    if not binary.is_file() and not text.is_file():
        raise OpenError(
            explain(f"there is no {name}.parquet or .tsv in {folder}",
                    do="Run imgwas heritability RESULTS --method he --out FOLDER")
        )  # fmt: skip
    table = pd.read_parquet(binary) if binary.is_file() else read_text(text)
    if "latent" not in table:
        raise MalformedError(explain(f"{folder / name} has no column 'latent'"))
    return table.set_index("latent")

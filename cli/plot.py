"""``imgwas plot``: figures from a folder of statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.options import FILE, FOLDER, Command
from imgwas_cli.plot_genome import brisbane, miami
from imgwas_cli.plot_heritability import h2, rg
from imgwas_cli.plot_loci import heatmap, phewas, upset
from imgwas_cli.plot_regional import regional

if TYPE_CHECKING:
    import pandas as pd

    from imgwas.sumstats import SumStats


@click.group()
def plot() -> None:
    """Draw publication figures; --out decides pdf, svg or png."""


@plot.command(
    cls=Command,
    example="imgwas plot manhattan results/ --out manhattan.pdf\n"
    "imgwas plot manhattan results/ --latent L017 --out L017.png",
)
@click.argument("results", type=FOLDER)
@click.option("--latent", help="One latent; by default the best latent of every variant.")
@click.option("--out", type=FILE, required=True, help="Figure to write: .pdf, .svg or .png.")
@click.option("--labels", default=20, show_default=True, help="Lead variants to name.")
@click.option("--y-break", type=float, help="Compress the axis above this -log10 P.")
@click.option("--chr", "chromosome", help="One chromosome only.")
@click.option("--write-data", type=FILE, help="Also write what is drawn, as TSV.")
def manhattan(results: Path, out: Path, **given: Any) -> None:
    """Draw -log10 P along the genome, lead variants named."""
    from imgwas.plots import aggregated_manhattan, genome_points, save_figure
    from imgwas.plots import manhattan as draw
    from imgwas.sumstats import open_sumstats

    sumstats = open_sumstats(results)
    one = given["latent"] or (sumstats.latents[0] if len(sumstats.latents) == 1 else None)
    if given["write_data"]:
        data = sumstats.latent(one) if one else sumstats.best_latent()
        data = _on_chromosome(data, given["chromosome"])
    else:
        data = genome_points(sumstats, one, chromosome=given["chromosome"])
    options = {"labels": given["labels"], "y_break": given["y_break"]}
    if one:
        ax = draw(data, **options)
        ax.set_title(one)
    else:
        ax = aggregated_manhattan(data, n_latents=len(sumstats.latents), **options)
    click.echo(f"wrote {save_figure(ax.figure, out)}", err=True)
    _write_data(data, given["write_data"])


@plot.command(
    cls=Command,
    example="imgwas plot qq results/ --latent L017 --maf-strata --out qq.pdf\n"
    "imgwas plot qq results/ --out all_latents.pdf",
)
@click.argument("results", type=FOLDER)
@click.option("--latent", multiple=True, help="May be repeated; all by default.")
@click.option("--out", type=FILE, required=True, help="Figure to write: .pdf, .svg or .png.")
@click.option("--maf-strata", is_flag=True, help="One line per stratum of allele frequency.")
@click.option("--write-data", type=FILE, help="Also write what is drawn, as TSV.")
def qq(results: Path, out: Path, **given: Any) -> None:
    """Draw observed against expected -log10 P, with a 95 % band and lambda."""
    from imgwas.errors import UsageError
    from imgwas.plots import qq as draw_one
    from imgwas.plots import qq_many, save_figure
    from imgwas.sumstats import open_sumstats

    sumstats = open_sumstats(results)
    names = list(given["latent"]) or list(sumstats.latents)
    if given["maf_strata"] and len(names) != 1:
        raise UsageError("--maf-strata draws one latent: name it with --latent.")
    if len(names) == 1:
        data = sumstats.latent(names[0])
        frequency = data["effect_allele_frequency"].to_numpy()
        maf = frequency.clip(max=1 - frequency) if given["maf_strata"] else None
        ax = draw_one(data["neg_log_10_p_value"].to_numpy(), maf=maf, title=names[0])
    else:
        ax = qq_many(_columns(sumstats, names))
        data = None
    click.echo(f"wrote {save_figure(ax.figure, out)}", err=True)
    if data is not None:
        _write_data(data, given["write_data"])


for command in (miami, regional, heatmap, phewas, rg, h2, brisbane, upset):
    plot.add_command(command)


def _columns(sumstats: SumStats, names: list[str]) -> dict[str, Any]:
    return {name: sumstats.neg_log10_p(name) for name in names}


def _on_chromosome(data: pd.DataFrame, chromosome: str | None) -> pd.DataFrame:
    if chromosome is None:
        return data
    from imgwas.errors import DegenerateError
    from imgwas.sumstats.store import chromosome_code

    chosen = data[data["chromosome"] == chromosome_code(chromosome)]
    if chosen.empty:
        raise DegenerateError(f"No variant is on chromosome {chromosome}.")
    return chosen


def _write_data(data: pd.DataFrame, path: Path | None) -> None:
    if path is None:
        return
    from imgwas.files import publish

    with publish(path, "w") as stream:
        data.to_csv(stream, sep="\t", index=False, na_rep="NA")
    click.echo(f"wrote {path}", err=True)

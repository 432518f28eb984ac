"""``imgwas correlation``: genetic correlation of every latent with other studies."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from imgwas_cli import logs, options, recorded
from imgwas_cli.options import FILE, FOLDER, Command

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas correlation results/ --external height.tsv.gz --ld-scores eur_w_ld_chr/ --out rg/
imgwas correlation results/ --external a.sumstats.gz --external b.regenie.gz --out rg/
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "Other studies": ["external", "external_build", "external_n", "column"],
        "Estimate": ["min_maf", "blocks", "ld_scores", "window_kb"],
        "Output": ["out", "quiet", "verbose"],
        "Inputs of the scan, for LD scores": recorded.NAMES,
        "Compute": ["threads"],
    },
)
@click.argument("results", type=FOLDER)
@click.option(
    "--external", type=FILE, multiple=True, required=True,
    help="Summary statistics: GWAS-SSF, REGENIE, PLINK 2, LDSC. May be repeated.",
)  # fmt: skip
@click.option(
    "--external-build", type=click.Choice(["GRCh37", "GRCh38"]), help="Build of their positions."
)
@click.option("--external-n", type=click.FloatRange(1), help="People, where a file does not say.")
@click.option(
    "--column", multiple=True, metavar="WHAT=NAME",
    help="A column that is not recognised, e.g. effect_allele=tested.",
)  # fmt: skip
@click.option(
    "--min-maf", type=click.FloatRange(0, 0.5), default=0.01, show_default=True,
    help="Leave out variants with a minor allele this rare or rarer.",
)  # fmt: skip
@click.option(
    "--blocks", type=click.IntRange(10, 10_000), default=200, show_default=True,
    help="Jackknife blocks.",
)  # fmt: skip
@click.option(
    "--ld-scores", type=FOLDER,
    help="LD scores, e.g. eur_w_ld_chr/. [default: computed from the genotypes of the scan]",
)  # fmt: skip
@click.option(
    "--window-kb", type=click.FloatRange(1), default=1000, show_default=True,
    help="Reach of LD scores that are computed.",
)  # fmt: skip
@recorded.inputs
@options.out_folder
@options.threads
@options.verbosity
def correlation(results: Path, out: Path, **given: Any) -> None:
    """Correlate every latent genetically with other studies, by LD score regression.

    Effects are put on the same allele first; alleles.tsv counts what was swapped and dropped.
    Correlations of latents with one another come from imgwas heritability.
    """
    import pandas as pd
    from imgwas_cli.heritability import ld_scores

    from imgwas.genetics.external import read_statistics
    from imgwas.genetics.heritability_files import write_tsv
    from imgwas.genetics.ldsc import correlate_with
    from imgwas.sumstats import open_sumstats

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    columns = _columns(given["column"])
    sumstats = open_sumstats(results)
    studies = [
        read_statistics(
            path, columns=columns, n=given["external_n"], genome_build=given["external_build"]
        )
        for path in given["external"]
    ]
    scores = ld_scores(results, out, given)
    tables, alleles = [], []
    for study in studies:
        table = correlate_with(
            sumstats, study, scores, min_maf=given["min_maf"], n_blocks=given["blocks"]
        )
        alleles.append({"external": study.name, **table.attrs.pop("alleles")})
        tables.append(table)
    out.mkdir(parents=True, exist_ok=True)
    write_tsv(pd.concat(tables, ignore_index=True), out / "genetic_correlation.tsv")
    write_tsv(pd.DataFrame(alleles), out / "alleles.tsv")
    click.echo(f"wrote {out / 'genetic_correlation.tsv'}", err=True)


def _columns(given: tuple[str, ...]) -> dict[str, str]:
    from imgwas.checks import check_option
    from imgwas.errors import UsageError
    from imgwas.genetics.external import NAMES

    columns = {}
    for entry in given:
        what, equals, name = entry.partition("=")
        if not equals:
            raise UsageError(f"--column {entry!r} is not of the form WHAT=NAME.")
        columns[check_option("--column", what, NAMES)] = name
    return columns

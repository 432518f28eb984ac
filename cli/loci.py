"""``imgwas loci``: from statistics to a table of loci."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs, options, recorded
from imgwas_cli.options import FILE, FOLDER, CommaList, Command
from imgwas_cli.running import bar
from imgwas_cli.study_inputs import flat, panel_inputs

if TYPE_CHECKING:
    import numpy as np

    from imgwas.sumstats import SumStats

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas loci results/ --out loci.tsv
imgwas loci results/ --bfile cohort --preset plink --p1 1e-6 --out clumps.tsv
imgwas loci results/ --genes Homo_sapiens.GRCh38.gtf.gz \\
    --catalogue gwas_catalog_associations.tsv --out loci.tsv
"""

GROUPS = {
    "LD": ["max_people", "nonfounders", "ld", "seed", *recorded.NAMES],
    "Definition": ["preset", "p1", "study_wide", "p2", "r2", "lead_r2", "kb", "merge_kb", "mhc"],
    "What is searched": ["by", "latent_name", "table", "column", "genome_build"],
    "Names": ["genes", "biotype", "catalogue", "catalogue_build", "catalogue_kb"],
    "Output": ["out", "quiet", "verbose"],
}


@click.command(cls=Command, example=EXAMPLE, groups=GROUPS)
@click.argument("results", type=FOLDER)
@recorded.inputs
@click.option(
    "--max-people",
    type=click.IntRange(2),
    default=30_000,
    show_default=True,
    help="LD among so many people, drawn at random.",
)
@click.option("--nonfounders", is_flag=True, help="LD among everyone, not founders only.")
@click.option(
    "--ld",
    type=click.Choice(["haplotype", "dosage"]),
    default="haplotype",
    show_default=True,
    help="r² by maximum-likelihood haplotypes (PLINK's --clump) or of allele counts.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw of people.")
@click.option(
    "--preset",
    type=click.Choice(["fuma", "plink", "distance"]),
    default="fuma",
    show_default=True,
    help="What a locus is; the other options change its numbers.",
)
@click.option("--p1", type=click.FloatRange(0, 1, min_open=True), help="Largest P of a locus.")
@click.option("--study-wide", is_flag=True, help="5e-8 over the number of latents as --p1.")
@click.option("--p2", type=click.FloatRange(0, 1, min_open=True), help="Largest P of a partner.")
@click.option("--r2", type=click.FloatRange(0, 1), help="Smallest r² of a partner.")
@click.option("--lead-r2", type=click.FloatRange(0, 1), help="r² from which leads are one.")
@click.option("--kb", type=click.FloatRange(0, min_open=True), help="Reach of an index variant.")
@click.option("--merge-kb", type=click.FloatRange(0), help="Largest gap inside a locus.")
@click.option(
    "--mhc",
    type=click.Choice(["merge", "exclude", "keep"]),
    show_default="merge where the build is known, keep elsewhere",
    help="What happens to the MHC.",
)
@click.option(
    "--by",
    type=click.Choice(["best", "latent"]),
    default="best",
    show_default=True,
    help="Loci over all latents, or of each latent.",
)
@click.option("--latent-name", type=CommaList(), multiple=True, help="Only these latents.")
@click.option("--column", help="-log10 P of the scan's omnibus.combined, or a column of --table.")
@click.option("--table", type=FILE, help="Another table with variant_id and --column.")
@click.option(
    "--genome-build",
    type=click.Choice(["GRCh37", "GRCh38"]),
    help="Where the scan did not record it.",
)
@click.option(
    "--genes",
    type=FILE,
    help="GTF, GFF3, BED or PLINK's list, instead of the shipped protein-coding genes.",
)
@click.option("--biotype", type=CommaList(), multiple=True, help="Only genes such as these.")
@click.option("--catalogue", type=FILE, help="Known associations: GWAS Catalog, or chr and pos.")
@click.option(
    "--catalogue-build", type=click.Choice(["GRCh37", "GRCh38"]), help="Of its positions."
)
@click.option(
    "--catalogue-kb",
    type=click.FloatRange(0),
    default=500,
    show_default=True,
    help="A locus is known if an association is this near.",
)
@click.option("--out", type=FILE, required=True, help="Table to write, e.g. loci.tsv.")
@options.verbosity
def loci(results: Path, **given: Any) -> None:
    """Turn significant variants into loci, across all latents.

    Writes OUT with one row a locus, and beside it .variants.tsv (independent significant variants),
    .latents.tsv (every latent of every locus) and .json (the definition, which also stands above
    each table). An empty table is an answer: nothing reached the threshold. LD is measured among
    the people of the scan, whose inputs are read again as its command names them; with --bfile
    among everyone in it, or whom --keep and --remove leave.
    """
    import imgwas
    from imgwas.genetics.ld import LdSettings

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    if given["preset"] == "distance":
        sumstats, genotypes, columns = imgwas.open_sumstats(results), None, None
    else:
        sumstats, genotypes, columns = panel_inputs(results, given)
    latents = flat(given["latent_name"]) or None
    with bar(0, "blocks", "block", quiet=given["quiet"]) as progress:
        found = imgwas.find_loci(
            sumstats,
            genotypes,
            p1=_threshold(given, sumstats, latents),
            latents=latents,
            neg_log10_p=_values(given, sumstats),
            columns=columns,
            ld=LdSettings(given["ld"], given["max_people"], given["nonfounders"], given["seed"]),
            genes=_genes(given, sumstats),
            catalogue=_catalogue(given),
            progress=progress,
            **{name: given[name] for name in _PASSED},
        )
    for path in found.write(given["out"]):
        logger.info("wrote %s", path)
    _say(found)


_PASSED = (
    "preset", "p2", "r2", "lead_r2", "kb", "merge_kb", "mhc", "by", "genome_build",
    "catalogue_build",
)  # fmt: skip


def _threshold(given: dict[str, Any], sumstats: SumStats, latents: list[str] | None) -> Any:
    from imgwas.errors import UsageError

    if not given["study_wide"]:
        return given["p1"]
    if given["p1"] is not None:
        raise UsageError("--p1 and --study-wide both set the threshold: choose one.")
    return 5e-8 / len(latents or sumstats.latents)


def _values(given: dict[str, Any], sumstats: SumStats) -> np.ndarray | str | None:
    from imgwas.errors import UsageError
    from imgwas.genetics.value_table import read_values

    if given["table"] is None:
        return str(given["column"]) if given["column"] else None
    if given["column"] is None:
        raise UsageError("--table FILE needs --column NAME, the column of -log10 P.")
    return read_values(given["table"], given["column"], sumstats)


def _genes(given: dict[str, Any], sumstats: SumStats) -> Any:
    import imgwas

    build = sumstats.metadata.get("genome_build") or given["genome_build"]
    biotypes = flat(given["biotype"]) or None
    if given["genes"] is None:
        return None  # the shipped table of the build, which holds protein-coding genes only
    return imgwas.read_genes(given["genes"], genome_build=build, biotypes=biotypes)


def _catalogue(given: dict[str, Any]) -> Any:
    import imgwas

    if given["catalogue"] is None:
        return None
    return imgwas.read_catalogue(
        given["catalogue"], genome_build=given["catalogue_build"], window_kb=given["catalogue_kb"]
    )


def _say(found: Any) -> None:
    table = found.table
    if not len(table):
        logger.info("no locus at P = %g", found.definition["p1"])
        return
    logger.info(
        "%d loci, %d independent significant variants, %d latents; strongest %s (-log10 P %.1f)",
        len(table),
        len(found.variants),
        found.pairs["latent"].nunique(),
        table.loc[table["neg_log_10_p_value"].idxmax(), "lead_variant"],
        table["neg_log_10_p_value"].max(),
    )
    if found.definition["genes"] is None:
        logger.info("no genes: --genome-build, or --genes FILE.gtf.gz, adds the nearest gene")

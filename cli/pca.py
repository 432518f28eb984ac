"""``imgwas pca``: principal components of genotypes, as covariates of a scan."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs, options
from imgwas_cli.genotype_input import GENOTYPES, open_named
from imgwas_cli.options import FILE, Command, stack
from imgwas_cli.running import bar, people

if TYPE_CHECKING:
    from imgwas.genetics.pruning import LdPruning
    from imgwas.types import PackedGenotypes

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas pca --bfile cohort --genome-build GRCh38 --out pcs.tsv
imgwas associate --bfile cohort --latents latents.parquet --covar pcs.tsv --out results/
imgwas pca --bfile cohort --fit unrelated.txt --out pcs.tsv
imgwas pca --bfile others --project pcs.loadings.tsv.gz --out others_pcs.tsv
"""

GROUPS = {
    "Genotypes": [
        *GENOTYPES,
    ],
    "People": ["keep", "remove", "fit", "fit_remove"],
    "Variants": [
        "extract", "exclude", "maf", "geno", "indep_pairwise", "no_prune", "genome_build",
        "keep_long_range",
    ],
    "Components": ["n", "tolerance", "max_passes", "seed", "threads", "project"],
    "Output": ["out", "quiet", "verbose"],
}  # fmt: skip

variant_lists = stack(
    [
        click.option("--extract", type=FILE, multiple=True, help="Only the variants of this list."),
        click.option("--exclude", type=FILE, multiple=True, help="Not the variants of this list."),
    ]
)


@click.command(cls=Command, example=EXAMPLE, groups=GROUPS)
@options.genotype_input
@people
@click.option("--fit", type=FILE, multiple=True,
              help="Only these people are fitted; the others are projected.")  # fmt: skip
@click.option("--fit-remove", type=FILE, multiple=True, help="These people are projected.")
@variant_lists
@click.option("--maf", type=click.FloatRange(0, 0.5), default=0.01, show_default=True,
              help="Lowest minor allele frequency.")  # fmt: skip
@click.option("--geno", type=click.FloatRange(0, 1), default=0.02, show_default=True,
              help="Highest share of missing calls.")  # fmt: skip
@click.option("--indep-pairwise", nargs=3, default=("1000kb", "1", "0.1"), show_default=True,
              metavar="WINDOW STEP R2", help="LD pruning; a window of variants or kb.")  # fmt: skip
@click.option("--no-prune", is_flag=True, help="Use variants in LD too.")
@click.option("--genome-build", type=click.Choice(["GRCh37", "GRCh38"]),
              help="Leave regions of long-range LD out.")  # fmt: skip
@click.option("--keep-long-range", is_flag=True, help="Use them all the same.")
@click.option("--n", type=click.IntRange(1), default=10, show_default=True, help="Components.")
@click.option("--tolerance", type=click.FloatRange(0, 1, min_open=True), default=1e-3,
              show_default=True, help="Relative residual at which passes end.")  # fmt: skip
@click.option("--max-passes", type=click.IntRange(1), default=15, show_default=True,
              help="Passes over the file.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random vectors.")
@options.threads
@click.option("--project", type=FILE, metavar="LOADINGS",
              help="Place people on components that were computed before.")  # fmt: skip
@click.option("--out", type=FILE, required=True, help="Table to write, e.g. pcs.tsv.")
@options.verbosity
def pca(out: Path, **given: Any) -> None:
    """Compute principal components of genotypes, to be used as covariates.

    Autosomal variants, common and mostly called, pruned for LD, outside regions of long-range LD
    when the build is given. Writes OUT (IID, PC1, PC2, ...), and beside it .eigenvalues.tsv (how
    much variance each explains), .loadings.tsv.gz (for --project) and .json (what was done).
    """
    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    genotypes = open_input(given)
    if given["project"]:
        _project(genotypes, out, given)
        return
    import imgwas
    from imgwas.genetics.component_files import write_components

    with bar(0, "passes", "variant", quiet=given["quiet"]) as progress:
        found = imgwas.genotype_components(
            genotypes, given["n"], rows=chosen_rows(genotypes, given), min_maf=given["maf"],
            max_missing=given["geno"], pruning=_pruning(given), genome_build=_build(given),
            tolerance=given["tolerance"], max_passes=given["max_passes"], seed=given["seed"],
            threads=given["threads"], progress=progress, **_people(genotypes, given),
        )  # fmt: skip
    for path in write_components(found, out):
        logger.info("wrote    %s", path)
    first = ", ".join(f"{share:.2%}" for share in found.share[:5])
    logger.info("PCA      variance explained by the first components: %s", first)


def open_input(given: dict[str, Any]) -> PackedGenotypes:
    """Open the genotypes that the shared options name, as calls."""
    from imgwas.genotypes import hard_calls

    return hard_calls(open_named(given))


def chosen_rows(genotypes: PackedGenotypes, given: dict[str, Any]) -> Any:
    """Rows that --extract and --exclude leave; None where there is no list."""
    from imgwas.genotypes import select_rows

    if not given["extract"] and not given["exclude"]:
        return None
    rows, report = select_rows(genotypes, extract=given["extract"], exclude=given["exclude"])
    for name, line in report.items():
        logger.info("%-8s %s", name, line)
    return rows


def _people(genotypes: PackedGenotypes, given: dict[str, Any]) -> dict[str, Any]:
    from imgwas.genetics.matching import listed_columns

    samples = genotypes.samples
    return {
        "columns": listed_columns(samples, given["keep"], given["remove"]),
        "fit": listed_columns(samples, given["fit"], given["fit_remove"]),
    }


def _build(given: dict[str, Any]) -> str | None:
    if given["genome_build"] is None:
        logger.info("LD       without --genome-build regions of long-range LD are not left out")
    return None if given["keep_long_range"] else given["genome_build"]


def _pruning(given: dict[str, Any]) -> LdPruning | None:
    from imgwas.errors import UsageError, explain
    from imgwas.genetics.pruning import LdPruning

    if given["no_prune"]:
        return None
    window, step, r2 = given["indep_pairwise"]
    unit = "kb" if window.lower().endswith("kb") else "variants"
    try:
        return LdPruning(float(window.lower().removesuffix("kb")), int(step), float(r2), unit)
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            explain(f"--indep-pairwise is {window} {step} {r2}",
                    expected="Three numbers, such as 1000kb 1 0.1, or 50 5 0.2")
        ) from error  # fmt: skip


def _project(genotypes: PackedGenotypes, out: Path, given: dict[str, Any]) -> None:
    import imgwas
    from imgwas.genetics.component_files import read_loadings, write_table
    from imgwas.genetics.matching import listed_columns

    columns = listed_columns(genotypes.samples, given["keep"], given["remove"])
    ids = genotypes.samples.sample_ids
    found = imgwas.project_components(
        read_loadings(given["project"]), genotypes,
        people=None if columns is None else [ids[i] for i in columns],
    )  # fmt: skip
    logger.info("wrote    %s", write_table(found.values, found.names, found.sample_ids, None, out))

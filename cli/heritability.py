"""``imgwas heritability``: how much of each latent the variants explain, and what latents share."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs, options, recorded
from imgwas_cli.options import FOLDER, Command
from imgwas_cli.running import bar

if TYPE_CHECKING:
    import pandas as pd

    from imgwas.genetics.heritability import GeneticCovariance
    from imgwas.sumstats import SumStats

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas heritability results/ --out heritability/
imgwas heritability results/ --method greml --bfile moved/cohort --out heritability/
imgwas heritability results/ --method ldsc --ld-scores eur_w_ld_chr/ --out heritability/
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "Estimate": ["method", "min_maf", "blocks", "probes", "seed", "ld_scores", "window_kb"],
        "Output": ["out", "matrices", "quiet", "verbose"],
        "Inputs of the scan": recorded.NAMES,
        "Compute": ["threads"],
    },
)
@click.argument("results", type=FOLDER)
@click.option(
    "--method", type=click.Choice(["he", "greml", "ldsc"]), default="he", show_default=True,
    help="Haseman-Elston regression, restricted maximum likelihood, or LD score regression.",
)  # fmt: skip
@click.option(
    "--min-maf", type=click.FloatRange(0, 0.5), default=0.01, show_default=True,
    help="Leave out variants with a minor allele this rare or rarer.",
)  # fmt: skip
@click.option(
    "--blocks", type=click.IntRange(10, 10_000), show_default="100; ldsc 200",
    help="Jackknife blocks.",
)  # fmt: skip
@click.option(
    "--probes", type=click.IntRange(2, 1000), show_default="4, or more below 5,000 people",
    help="Random vectors of he.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random vectors.")
@click.option(
    "--ld-scores", type=FOLDER,
    help="LD scores for ldsc, e.g. eur_w_ld_chr/. [default: computed from the genotypes]",
)  # fmt: skip
@click.option(
    "--window-kb", type=click.FloatRange(1), default=1000, show_default=True,
    help="Reach of LD scores that are computed.",
)  # fmt: skip
@click.option(
    "--matrices", type=click.Choice(["parquet", "tsv"]), default="parquet", show_default=True,
    help="Format of the latent x latent matrices.",
)  # fmt: skip
@recorded.inputs
@options.out_folder
@options.threads
@options.verbosity
def heritability(results: Path, out: Path, **given: Any) -> None:
    """Estimate the heritability of every latent, and all genetic correlations.

    Genotypes, latents and covariates are those that the scan recorded; name them again if they
    moved. he writes heritability.tsv, genetic_correlation_pairs.tsv and the latent x latent
    matrices; greml and ldsc write heritability.tsv. After associate --heritability, he reads the
    results alone, unless other settings are asked for.
    """
    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    start = time.monotonic()
    estimate = {"he": _by_moments, "greml": _by_likelihood, "ldsc": _by_ldsc}[given["method"]]
    table = estimate(results, out, given)
    clear = int((table["z"] > 2).sum())
    logger.info(
        "%s of %s latents have a heritability above two standard errors; median %.3f (%.1f s)",
        f"{clear:,}", f"{len(table):,}", table["heritability"].median(), time.monotonic() - start,
    )  # fmt: skip
    click.echo(f"wrote {out / 'heritability.tsv'}", err=True)


def _by_moments(results: Path, out: Path, given: dict[str, Any]) -> pd.DataFrame:
    from imgwas.genetics.heritability_files import write_heritability
    from imgwas.sumstats import open_sumstats

    sumstats = open_sumstats(results)
    kept = _of_scan(sumstats, given)
    found = kept or _from_genotypes(results, given)
    settings = {"command": ["imgwas", *sys.argv[1:]], "scan": sumstats.metadata["digest"]}
    settings["from_scan"] = kept is not None
    settings |= {name: given[name] for name in ("min_maf", "probes", "seed")}
    write_heritability(out, found, matrices=given["matrices"], settings=settings)
    return found.table()


def _of_scan(sumstats: SumStats, given: dict[str, Any]) -> GeneticCovariance | None:
    """Use what the scan kept, if it did and nothing else is asked for."""
    from imgwas.genetics.scanned import heritability_of_scan

    kept = sumstats.metadata.get("heritability")
    if kept is None:
        return None
    wanted = {"min_maf": given["min_maf"], "n_blocks": given["blocks"], "seed": given["seed"],
              "n_probes": given["probes"]}  # fmt: skip
    other = [n for n, value in wanted.items() if value is not None and value != kept[n]]
    other += [name for name in recorded.NAMES if given.get(name)]
    if other:
        option = other[0].removeprefix("n_").replace("_", "-")
        logger.info("the genotypes are read, because of --%s", option)
        return None
    logger.info("from what the scan kept (associate --heritability): no genotypes are read")
    return heritability_of_scan(sumstats)


def _from_genotypes(results: Path, given: dict[str, Any]) -> GeneticCovariance:
    from imgwas.genetics.heritability import estimate_heritability

    sumstats, genotypes, design = recorded.open_scan(results, given)
    with bar(sumstats.n_variants, "heritability", "variant", quiet=given["quiet"]) as progress:
        return estimate_heritability(
            genotypes,
            design,
            sumstats=sumstats,
            min_maf=given["min_maf"],
            n_blocks=given["blocks"] or 100,
            n_probes=given["probes"],
            seed=given["seed"],
            threads=given["threads"],
            progress=progress,
        )


def _by_likelihood(results: Path, out: Path, given: dict[str, Any]) -> pd.DataFrame:
    from imgwas.genetics.greml import estimate_greml
    from imgwas.genetics.heritability import check_same_samples

    sumstats, genotypes, design = recorded.open_scan(results, given)
    check_same_samples(sumstats, design, genotypes.samples)
    total = genotypes.n_variants * len(design.groups)
    with bar(total, "relationships", "variant", quiet=given["quiet"]) as progress:
        table = estimate_greml(
            genotypes, design, min_maf=given["min_maf"], threads=given["threads"],
            progress=progress,
        )  # fmt: skip
    _write(table, out, "heritability.tsv")
    return table


def _by_ldsc(results: Path, out: Path, given: dict[str, Any]) -> pd.DataFrame:
    from imgwas.genetics.ldsc import estimate_ldsc
    from imgwas.sumstats import open_sumstats

    scores = ld_scores(results, out, given)
    table = estimate_ldsc(
        open_sumstats(results), scores, min_maf=given["min_maf"], n_blocks=given["blocks"] or 200
    )
    _write(table, out, "heritability.tsv")
    return table


def ld_scores(results: Path, out: Path, given: dict[str, Any]) -> Any:
    """Read LD scores, or compute them among the people of the scan and keep them in ``out``."""
    from imgwas.genetics.heritability import check_same_samples
    from imgwas.genetics.ld_scores import compute_ld_scores, read_ld_scores, write_ld_scores
    from imgwas.genetics.standard import largest_group, people_of

    if given["ld_scores"] is not None:
        return read_ld_scores(given["ld_scores"])
    sumstats, genotypes, design = recorded.open_scan(results, given)
    check_same_samples(sumstats, design, genotypes.samples)
    people = people_of(genotypes, design, largest_group(design))
    with bar(genotypes.n_variants, "LD scores", "variant", quiet=given["quiet"]) as progress:
        scores = compute_ld_scores(
            genotypes, columns=people.columns, basis=people.basis, window_kb=given["window_kb"],
            min_maf=given["min_maf"], threads=given["threads"], progress=progress,
        )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_ld_scores(scores, out / "ld_scores")
    return scores


def _write(table: pd.DataFrame, out: Path, name: str) -> None:
    from imgwas.genetics.heritability_files import write_tsv

    out.mkdir(parents=True, exist_ok=True)
    write_tsv(table, out / name)

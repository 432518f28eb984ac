"""``imgwas associate``: from genotypes and latents to a folder of statistics."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import launchers, logs, options
from imgwas_cli.genotype_input import GENOTYPES, check_named, open_named, source_and_options
from imgwas_cli.options import FILE, CommaList, Command
from imgwas_cli.running import PART_HANDLING, check_pairs, choose_progress, part_handling

if TYPE_CHECKING:
    from imgwas.association import Selection
    from imgwas.types import Covariates, DosageGenotypes, Genotypes, Latents, PackedGenotypes

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas associate --bfile cohort --latents latents.parquet --covar covariates.tsv --out results/
imgwas associate --bfile 'chr{chr}' --pheno traits.txt --covar covariates.tsv \\
    --categorical sex,centre --maf 0.01 --hwe 1e-6 --rank-normal --out results/
"""

GROUPS = {
    "Input": [
        *GENOTYPES,
        "latents",
        "pheno",
        "latent_name",
        "covar",
        "covar_name",
        "categorical",
        "formula",
        "id_column",
        "neg9",
        "genome_build",
    ],
    "Samples": ["keep", "remove", "mind", "min_overlap", "training_people"],
    "Variants": [
        "chromosomes",
        "extract",
        "exclude",
        "maf",
        "mac",
        "geno",
        "hwe",
        "nonfounders",
        "info",
    ],
    "Model": [
        "missing_genotype",
        "rank_normal",
        "residualize_first",
        "precision",
        "omnibus",
        "heritability",
        "set_hh_missing",
        "max_levels",
        "check",
    ],
    "Output": ["out", "resume", "overwrite", "break_lock", *PART_HANDLING, "quiet", "verbose"],
    "Compute": ["device", "threads", "part_size", *launchers.NAMES],
    "Jobs of a cluster": launchers.CLUSTER,
}


@click.command(cls=Command, example=EXAMPLE, groups=GROUPS)
@options.genotype_input
@click.option("--latents", type=FILE, help="Table of latents: Parquet, CSV, TSV; one row a person.")
@click.option("--pheno", type=FILE, help="The same as PLINK or REGENIE text (FID IID Y1 Y2 ...).")
@click.option(
    "--latent-name", type=CommaList(), multiple=True, help="Only these: a,b or ranges L0-L63."
)
@click.option("--covar", type=FILE, help="Table of covariates; the intercept is always added.")
@click.option("--covar-name", type=CommaList(), multiple=True, help="Only these columns.")
@click.option(
    "--categorical", type=CommaList(), multiple=True, help="Columns whose numbers are labels."
)
@click.option("--formula", help="Terms made of columns: 'age + age^2 + age:sex + C(centre)'.")
@click.option(
    "--max-levels",
    type=click.IntRange(2),
    default=50,
    show_default=True,
    help="Refuse a categorical covariate with more levels.",
)
@click.option("--id-column", help="Column that holds the sample ids, e.g. eid.")
@click.option(
    "--neg9",
    type=click.Choice(["plink", "missing", "value"]),
    default="plink",
    show_default=True,
    help="How -9 in text tables is read; plink refuses it beside values near -9.",
)
@click.option("--genome-build", type=click.Choice(["GRCh37", "GRCh38"]), help="Recorded.")
@click.option("--keep", type=FILE, multiple=True, help="Only the people of this list.")
@click.option("--remove", type=FILE, multiple=True, help="Not the people of this list.")
@click.option(
    "--mind", type=click.FloatRange(0, 1), help="Leave out people with more missing calls."
)
@click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Refuse when a smaller share of ids meets.",
)
@click.option(
    "--training-people",
    type=click.Choice(["refuse", "exclude", "allow"]),
    default="refuse",
    show_default=True,
    help="People who trained the encoder of the latents.",
)
@click.option("--chr", "chromosomes", type=CommaList(), multiple=True, help="1-22, X, ...")
@click.option("--extract", type=FILE, multiple=True, help="Only the variants of this list.")
@click.option("--exclude", type=FILE, multiple=True, help="Not the variants of this list.")
@click.option("--maf", type=click.FloatRange(0, 0.5), help="Lower limit of minor allele frequency.")
@click.option("--mac", type=click.FloatRange(0), help="Lower limit of minor allele count.")
@click.option(
    "--geno", type=click.FloatRange(0, 1), help="Upper limit of a variant's missing rate."
)
@click.option("--hwe", type=click.FloatRange(0, 1), help="Lower limit of the exact HWE P value.")
@click.option(
    "--info",
    type=click.FloatRange(0, 1),
    help="Lower limit of imputation quality: INFO of .bgen, MaCH r2 of dosages.",
)
@click.option("--nonfounders", is_flag=True, help="Count everyone, not founders only, in filters.")
@click.option(
    "--missing-genotype",
    type=click.Choice(["mean", "drop"]),
    default="mean",
    show_default=True,
    help="A missing call takes the mean dosage, or the person is dropped for that variant.",
)
@click.option("--rank-normal", is_flag=True, help="Rank-based inverse normal transform of latents.")
@click.option(
    "--residualize-first",
    is_flag=True,
    help="Two-step model of older scans; biased, see docs/statistics.md.",
)
@click.option(
    "--precision",
    type=click.Choice(["single", "double"]),
    default="single",
    show_default=True,
    help="Of the matrix product and the stored statistics.",
)
@click.option(
    "--omnibus",
    is_flag=True,
    help="Also test each variant against all latents at once; see also imgwas omnibus.",
)
@click.option(
    "--heritability",
    is_flag=True,
    help="Also keep what imgwas heritability needs, so that it reads no genotypes.",
)
@click.option(
    "--set-hh-missing", is_flag=True, help="Heterozygous calls of men on X and Y are missing."
)
@click.option(
    "--check",
    type=click.IntRange(0, 100_000),
    default=0,
    metavar="N",
    help="Fit N variant x latent pairs again with statsmodels and say how far they are apart.",
)
@options.out_folder
@click.option("--resume", is_flag=True, help="Insist that --out holds a run to continue.")
@click.option("--overwrite", is_flag=True, help="Start anew where --out holds another run.")
@click.option("--break-lock", is_flag=True, help="Take over the folder of a run known to be dead.")
@part_handling
@options.scan_device
@options.threads
@launchers.launchers
@click.option(
    "--part-size",
    type=click.IntRange(1),
    default=16384,
    show_default=True,
    help="Variants in a part, the unit of resuming.",
)
@options.verbosity
def associate(**given: Any) -> None:
    """Scan every variant for every latent, with covariates.

    Ordinary least squares of each latent on the count of the effect allele, the covariates and an
    intercept, for all latents in one pass over the genotypes. No filter is on unless asked for.
    People are matched by id. The same command given again continues a run that was stopped.
    """
    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    start = time.monotonic()
    _check_options(given)
    _open_log(given["out"])
    try:
        _associate(given)
    except BaseException as error:
        logger.debug("failed: %s: %s", type(error).__name__, error)
        raise
    finally:
        logs.describe_libraries()
    logger.info(
        "done in %.1f s, peak memory %.0f MB; results in %s",
        time.monotonic() - start,
        logs.peak_memory_mb(),
        given["out"],
    )


def _associate(given: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import imgwas
    from imgwas.association.seen import without_training_people
    from imgwas.genotypes.filters import VariantFilters

    with ThreadPoolExecutor(2) as pool:  # the tables are read beside the variants
        reading_latents = pool.submit(_read_latents, given)
        reading_covariates = pool.submit(_read_covariates, given)
        genotypes = _open_genotypes(given)
        latents, covariates = reading_latents.result(), reading_covariates.result()
    selection = _select(genotypes, given)
    filters = {name: given[name] for name in ("maf", "mac", "geno", "hwe", "nonfounders", "info")}
    part = launchers.share_of(given["part"])
    with launchers.client_for(given, given["out"]) as client:
        sumstats = imgwas.associate(
            genotypes,
            latents,
            covariates,
            out=given["out"],
            selection=selection,
            filters=VariantFilters(**filters),
            client=client,
            part=part,
            command=["imgwas", *sys.argv[1:]],
            progress=choose_progress(given),
            **{name: given[name] for name in _PASSED},
        )
    if given["check"] and not sumstats.is_partial:
        check_pairs(
            sumstats,
            genotypes,
            without_training_people(latents, given["training_people"]),
            covariates,
            selection=selection,
            pairs=given["check"],
            min_overlap=given["min_overlap"],
        )
    if sumstats.is_partial:
        logger.info("next: the other tasks; the last one finishes, or the same with --finish")
    else:
        _say_what_next(sumstats, given["out"])


_PASSED = (
    "missing_genotype",
    "precision",
    "rank_normal",
    "residualize_first",
    "omnibus",
    "heritability",
    "set_hh_missing",
    "min_overlap",
    "training_people",
    "genome_build",
    "device",
    "threads",
    "part_size",
    "finish",
    "ignore_file_times",
    "overwrite",
    "break_lock",
)


def _check_options(given: dict[str, Any]) -> None:
    from imgwas.errors import InconsistentError, UsageError, explain

    check_named(given)
    if (given["latents"] is None) == (given["pheno"] is None):
        raise UsageError("Name the latents by --latents FILE or by --pheno FILE, one of the two.")
    if given["covar"] is None:
        for option in ("covar_name", "categorical", "formula"):
            if given[option]:
                raise UsageError(f"--{option.replace('_', '-')} needs --covar FILE.")
    launchers.check(given)
    launchers.share_of(given["part"])
    if given["on_part_timeout"] and not given["on_part"]:
        raise UsageError("--on-part-timeout needs --on-part PROGRAM.")
    if given["on_part"]:
        choose_progress(given)
    if given["resume"] and not (given["out"] / "run.json").exists():
        raise InconsistentError(
            explain(f"{given['out']} holds no run to resume", do="Leave out --resume to start one")
        )


def _open_log(out: Path) -> None:
    from imgwas.association import folder
    from imgwas.files import write_error

    folder.create(out)
    try:
        logs.to_file(out)
    except OSError as error:
        raise write_error(out / "log-1.txt", error) from error


def _open_genotypes(given: dict[str, Any]) -> PackedGenotypes | DosageGenotypes:
    genotypes = open_named(given)
    logger.info(
        "genotypes %s variants x %s samples in %s",
        f"{genotypes.n_variants:,}",
        f"{genotypes.n_samples:,}",
        source_and_options(given)[0],
    )
    return genotypes


def _flat(lists: tuple[tuple[str, ...], ...]) -> list[str]:
    return [name for names in lists for name in names]


def _read_latents(given: dict[str, Any]) -> Latents:
    from imgwas.tables import read_latents, read_phenotypes

    names = _flat(given["latent_name"]) or None
    if given["latents"] is not None:
        return read_latents(given["latents"], id_column=given["id_column"], names=names)
    return read_phenotypes(
        given["pheno"], id_column=given["id_column"], names=names, neg9=given["neg9"]
    )


def _read_covariates(given: dict[str, Any]) -> Covariates | None:
    from imgwas.tables import read_covariates

    if given["covar"] is None:
        return None
    return read_covariates(
        given["covar"],
        id_column=given["id_column"],
        names=_flat(given["covar_name"]) or None,
        categorical=_flat(given["categorical"]),
        formula=given["formula"],
        max_levels=given["max_levels"],
        neg9=given["neg9"],
    )


def _select(genotypes: Genotypes, given: dict[str, Any]) -> Selection:
    from imgwas.association import select

    return select(
        genotypes,
        chromosomes=_flat(given["chromosomes"]),
        extract=given["extract"],
        exclude=given["exclude"],
        keep=given["keep"],
        remove=given["remove"],
        mind=given["mind"],
    )


def _say_what_next(sumstats: Any, out: Path) -> None:
    logger.info(
        "scanned %s variants x %s latents", f"{sumstats.n_variants:,}", f"{len(sumstats.latents):,}"
    )
    logger.info("next: imgwas plot manhattan %s --out manhattan.pdf", out)

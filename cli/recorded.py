"""The inputs of a finished scan again: from the command it recorded, or from options."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.genotype_input import SOURCES
from imgwas_cli.options import FILE, CommaList, stack

if TYPE_CHECKING:
    from imgwas.association import Design
    from imgwas.sumstats import SumStats
    from imgwas.types import PackedGenotypes

logger = logging.getLogger("imgwas.cli")

#: Options that replace what the scan recorded.
inputs = stack(
    [
        click.option("--bfile", metavar="PREFIX", help="Genotypes of the scan, if they moved."),
        click.option("--bed", metavar="FILE", help="The same as a .bed file."),
        click.option("--pfile", metavar="PREFIX", help="The same as a .pgen fileset."),
        click.option("--bgen", metavar="FILE", help="The same as a .bgen file."),
        click.option("--sample", metavar="FILE", help="The .sample file of --bgen."),
        click.option("--vcf", metavar="FILE", help="The same as a VCF or BCF file."),
        click.option("--vcz", metavar="FOLDER", help="The same as a VCF Zarr store."),
        click.option("--latents", type=FILE, help="Latents of the scan, if they moved."),
        click.option("--pheno", type=FILE, help="The same as PLINK or REGENIE text."),
        click.option("--covar", type=FILE, help="Covariates of the scan, if they moved."),
        click.option("--covar-name", type=CommaList(), multiple=True, help="As for the scan."),
        click.option("--categorical", type=CommaList(), multiple=True, help="As for the scan."),
        click.option("--formula", help="As for the scan."),
        click.option("--id-column", help="As for the scan."),
        click.option("--keep", type=FILE, multiple=True, help="As for the scan."),
        click.option("--remove", type=FILE, multiple=True, help="As for the scan."),
    ]
)
NAMES = [*SOURCES, "sample", "latents", "pheno", "covar", "covar_name", "categorical", "formula",
         "id_column", "keep", "remove"]  # fmt: skip
#: Giving one of a pair replaces the other.
PAIRS = [set(SOURCES), {"latents", "pheno"}]


def open_scan(results: Path, given: dict[str, Any]) -> tuple[SumStats, PackedGenotypes, Design]:
    """Open the results and prepare the same people, latents and covariates.

    Parameters
    ----------
    results : Path
        Folder of the scan.
    given : dict
        Options of :data:`inputs`; what is not given is taken from the recorded command.
    """
    from imgwas_cli import associate as scan

    from imgwas.association import build_design
    from imgwas.association.seen import without_training_people
    from imgwas.genotypes import hard_calls
    from imgwas.sumstats import open_sumstats

    sumstats = open_sumstats(results)
    options = _options(sumstats, given)
    genotypes = hard_calls(scan._open_genotypes(options))
    latents = without_training_people(scan._read_latents(options), options["training_people"])
    settings = sumstats.metadata["settings"]
    design = build_design(
        genotypes.samples,
        latents,
        scan._read_covariates(options),
        keep=scan._select(genotypes, options).sample_columns,
        min_overlap=options["min_overlap"],
        rank_normal=settings["rank_normal"],
        residualize_first=settings["residualize_first"],
    )
    return sumstats, genotypes, design


def _options(sumstats: SumStats, given: dict[str, Any]) -> dict[str, Any]:
    """Options of the scan, with those that were given now in their place."""
    from imgwas.errors import UsageError, explain

    options = _recorded(sumstats.metadata.get("command") or [])
    new = {name: given[name] for name in NAMES if given.get(name)}
    for pair in PAIRS:
        if pair & new.keys():
            options |= dict.fromkeys(pair)
    options |= new
    lacking = [
        "--bfile" if "bfile" in pair else "--latents"
        for pair in PAIRS
        if not any(options.get(name) for name in pair)
    ]
    if lacking:
        raise UsageError(
            explain(
                f"{sumstats.folder} does not record the command of its scan",
                do=f"Add {' and '.join(lacking)}, and --covar if the scan had covariates",
            )
        )
    return options


def _recorded(command: list[str]) -> dict[str, Any]:
    """Parse the command that ``run.json`` holds; without one, take the defaults of the scan."""
    from imgwas_cli.associate import associate

    arguments = command[2:] if command[1:2] == ["associate"] else []
    try:
        return associate.read_back([*arguments, "--out", "."])
    except click.ClickException as error:
        logger.warning("the command recorded by the scan is not understood: %s", error.message)
    return associate.make_context("associate", ["--out", "."]).params

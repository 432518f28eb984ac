"""Genotypes, latents and covariates of a command, each named by an option."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.genotype_input import open_named
from imgwas_cli.options import FILE, CommaList, stack
from imgwas_cli.study_inputs import flat

if TYPE_CHECKING:
    from imgwas.types import Covariates, DosageGenotypes, Latents, PackedGenotypes

table_options = stack(
    [
        click.option("--latents", type=FILE, help="Table of latents."),
        click.option("--pheno", type=FILE, help="The same as PLINK or REGENIE text."),
        click.option("--covar", type=FILE, help="Table of covariates."),
        click.option("--covar-name", type=CommaList(), multiple=True, help="Only these columns."),
        click.option(
            "--categorical",
            type=CommaList(),
            multiple=True,
            help="Columns whose numbers are labels.",
        ),
        click.option("--formula", help="Terms made of columns."),
        click.option(
            "--max-levels", type=click.IntRange(2), default=50, show_default=True,
            help="Refuse a categorical covariate with more levels.",
        ),
        click.option("--id-column", help="Column that holds the sample ids, e.g. eid."),
        click.option(
            "--neg9", type=click.Choice(["plink", "missing", "value"]), default="plink",
            show_default=True, help="How -9 in text tables is read.",
        ),
    ]
)  # fmt: skip


def open_genotypes(given: dict[str, Any]) -> PackedGenotypes | DosageGenotypes:
    """Open the genotypes that one of the options names."""
    return open_named(given)


def read_latents(given: dict[str, Any]) -> Latents:
    """Read --latents or --pheno."""
    from imgwas import tables
    from imgwas.errors import UsageError

    if (given["latents"] is None) == (given["pheno"] is None):
        raise UsageError("Name the latents by --latents FILE or by --pheno FILE, one of the two.")
    if given["latents"] is not None:
        return tables.read_latents(given["latents"], id_column=given["id_column"])
    return tables.read_phenotypes(given["pheno"], id_column=given["id_column"], neg9=given["neg9"])


def read_covariates(given: dict[str, Any]) -> Covariates | None:
    """Read --covar, if there is one."""
    from imgwas import tables

    if given["covar"] is None:
        return None
    return tables.read_covariates(
        given["covar"],
        id_column=given["id_column"],
        names=flat(given["covar_name"]) or None,
        categorical=flat(given["categorical"]),
        formula=given["formula"],
        max_levels=given["max_levels"],
        neg9=given["neg9"],
    )

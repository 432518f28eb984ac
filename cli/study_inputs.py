"""What a scan was made of, for commands that go back to its genotypes, latents and covariates."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from imgwas.sumstats import SumStats
    from imgwas.types import PackedGenotypes

logger = logging.getLogger("imgwas.cli")


def flat(lists: tuple[tuple[str, ...], ...]) -> list[str]:
    """Names of an option that takes lists and may be repeated."""
    return [name for names in lists for name in names]


def read_inputs(results: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Results, genotypes, latents, covariates and the columns of the genotypes that were chosen.

    Parameters
    ----------
    results : Path
        Folder of the scan.
    given : dict
        Options of :data:`imgwas_cli.recorded.inputs`; what is not given is taken from the command
        that the scan recorded.
    """
    from imgwas_cli import associate as scan
    from imgwas_cli import recorded

    from imgwas.association.seen import without_training_people
    from imgwas.sumstats import open_sumstats

    sumstats = open_sumstats(results)
    options = recorded._options(sumstats, given)
    genotypes = scan._open_genotypes(options)
    latents = without_training_people(scan._read_latents(options), options["training_people"])
    return {
        "sumstats": sumstats,
        "genotypes": genotypes,
        "latents": latents,
        "covariates": scan._read_covariates(options),
        "columns": scan._select(genotypes, options).sample_columns,
    }


def panel_inputs(
    results: Path, given: dict[str, Any]
) -> tuple[SumStats, PackedGenotypes, np.ndarray | None]:
    """Results, genotypes, and whom to measure LD among.

    With --bfile (or another format): everyone in them, or whom --keep and --remove leave. Without:
    exactly the people of the scan, by reading again what its recorded command names.
    """
    from imgwas_cli import recorded
    from imgwas_cli.genotype_input import is_named, open_named

    from imgwas.genetics.matching import listed_columns
    from imgwas.genotypes import hard_calls
    from imgwas.sumstats import open_sumstats

    if not is_named(given) or given["latents"] or given["pheno"]:
        sumstats, genotypes, design = recorded.open_scan(results, given)
        return sumstats, genotypes, design.sample_columns
    genotypes = hard_calls(open_named(given))
    columns = listed_columns(genotypes.samples, given["keep"], given["remove"])
    return open_sumstats(results), genotypes, columns

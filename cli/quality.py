"""``imgwas quality``: missing calls, heterozygosity and sex of people; quality of variants."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from imgwas_cli import logs, options
from imgwas_cli.genotype_input import GENOTYPES
from imgwas_cli.options import Command
from imgwas_cli.pca import chosen_rows, open_input, variant_lists
from imgwas_cli.running import bar, people

logger = logging.getLogger("imgwas.cli")

GROUPS = {
    "Genotypes": GENOTYPES,
    "Who and what": ["keep", "remove", "extract", "exclude", "nonfounders"],
    "Sex": ["max_female_f", "min_male_f"],
    "Output": ["out", "quiet", "verbose"],
}  # fmt: skip


@click.command(cls=Command, example="imgwas quality --bfile cohort --out qc/", groups=GROUPS)
@options.genotype_input
@people
@variant_lists
@click.option("--nonfounders", is_flag=True, help="Frequencies over everyone, not founders.")
@click.option("--max-female-f", type=click.FloatRange(-1, 1), default=0.2, show_default=True,
              help="F on X below this means a woman.")  # fmt: skip
@click.option("--min-male-f", type=click.FloatRange(-1, 1), default=0.8, show_default=True,
              help="F on X above this means a man.")  # fmt: skip
@options.out_folder
@options.verbosity
def quality(out: Path, **given: Any) -> None:
    """Tabulate the quality of genotypes; nothing is removed.

    Writes people.tsv (missing calls, heterozygosity and its excess F, sex by chromosome X) and
    variants.tsv (allele frequency, missing calls, Hardy-Weinberg).
    """
    import imgwas
    from imgwas.genetics.matching import listed_columns

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    genotypes = open_input(given)
    rows = chosen_rows(genotypes, given)
    total = genotypes.n_variants if rows is None else len(rows)
    with bar(total, "quality", "variant", quiet=given["quiet"]) as progress:
        found = imgwas.genotype_quality(
            genotypes, rows=rows, progress=progress,
            columns=listed_columns(genotypes.samples, given["keep"], given["remove"]),
            **{name: given[name] for name in ("nonfounders", "max_female_f", "min_male_f")},
        )  # fmt: skip
    for path in found.write(out):
        logger.info("wrote    %s", path)
    _say(found)


def _say(found: Any) -> None:
    missing = found.people["missing_rate"]
    logger.info("missing  %.3g of the calls of a person in the median, %.3g at most",
                missing.median(), missing.max())  # fmt: skip
    f = found.people["f"]
    far = int(((f - f.mean()).abs() > 3 * f.std()).sum())
    logger.info("F        %.3g in the mean, SD %.3g; %d people are beyond 3 SD", f.mean(), f.std(),
                far)  # fmt: skip
    problems = int((found.people["sex_status"] == "PROBLEM").sum())
    if (found.people["sex_status"] != "").any():
        logger.info("sex      chromosome X disagrees, or cannot tell, for %d people", problems)
    else:
        logger.info("sex      there is no chromosome X to tell it from")

"""``imgwas check``: every problem of a scan's inputs at once, before anything is computed."""

from __future__ import annotations

import logging
import time
from typing import Any

import click
from imgwas_cli import associate as scan
from imgwas_cli import logs
from imgwas_cli.genotype_input import is_named, source_and_options
from imgwas_cli.options import FOLDER, Command

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas check --bfile cohort --latents latents.parquet --covar covariates.tsv
imgwas check --bfile 'chr{chr}' --pheno traits.txt --covar covariates.tsv --full
"""


def _parameters() -> list[click.Parameter]:
    """All options of associate, so that only the word need be changed; --out may be left out."""
    mine: list[click.Parameter] = [
        click.Option(
            ["--full"],
            is_flag=True,
            help="Read the genotypes of all variants, not of a thousand spread over the file.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Write the findings as JSON."),
        click.Option(["--out"], type=FOLDER, help="Folder the results would go to: looked at."),
    ]
    return [*mine, *(p for p in scan.associate.params if p.name != "out")]


GROUPS = {"Check": ["full", "as_json"], **scan.GROUPS}


def _check(**given: Any) -> int:
    """Find every problem of a scan's inputs at once; compute and write nothing.

    Takes the options of imgwas associate. Reads every table, list and header, matches the people,
    builds the model, and reads the genotypes of a thousand variants (--full: of all). Up to 50
    problems are told, each with what to do; the exit code is that of the first, or 21 where
    something is refused for safety.
    """
    from imgwas.association.checking import InputReport

    start = time.monotonic()
    quiet = given["quiet"] or given["as_json"]
    logs.to_terminal(verbose=given["verbose"], quiet=quiet)
    report = InputReport()
    report.attempt(
        "command line", scan._check_options, {**given, "resume": given["resume"] and given["out"]}
    )
    if is_named(given):
        found = _report(given)
        report = InputReport(report.problems, found.warnings, found.funnel)
        for problem in found.problems:
            report.note(problem)
    if given["as_json"]:
        _show_json(report)
    else:
        _show(report, time.monotonic() - start)
    return report.exit_code


check = Command(
    "check",
    params=_parameters(),
    callback=_check,
    help=_check.__doc__,
    example=EXAMPLE,
    groups=GROUPS,
)


def _report(given: dict[str, Any]) -> Any:
    from imgwas.association.checking import check_inputs

    same = ("chromosomes", "extract", "exclude", "keep", "remove", "min_overlap")
    more = ("training_people", "rank_normal", "id_column", "neg9", "out", "full")
    options = {name: given[name] for name in (*same, *more)}
    options["chromosomes"] = scan._flat(given["chromosomes"])
    source, genotype_options = source_and_options(given)
    return check_inputs(
        source,
        latents=given["latents"],
        phenotypes=given["pheno"],
        covariates=given["covar"],
        latent_names=scan._flat(given["latent_name"]) or None,
        genotype_options=genotype_options,
        covariate_options={
            "names": scan._flat(given["covar_name"]) or None,
            "categorical": scan._flat(given["categorical"]),
            "formula": given["formula"],
            "max_levels": given["max_levels"],
        },
        **options,
    )


def _show(report: Any, seconds: float) -> None:
    width = max((len(step) for step, _ in report.funnel), default=0)
    for step, n in report.funnel:
        logger.info("%-*s  %s", width, step, f"{n:>11,}")
    for number, one in enumerate(report.problems, start=1):
        logger.error(
            "%d of %d, %s, exit code %d: %s",
            number, len(report.problems), one.source, one.exit_code, one.message,
        )  # fmt: skip
    if not report.problems:
        logger.info("no problem found in %.1f s; nothing was written", seconds)
        logger.info("next: the same command with associate in place of check, and --out")
    else:
        n = len(report.problems)
        logger.info("%d problem%s found in %.1f s; nothing was written", n, "s" * (n > 1), seconds)


def _show_json(report: Any) -> None:
    import json

    found = {
        "exit_code": report.exit_code,
        "problems": [vars(problem) for problem in report.problems],
        "warnings": report.warnings,
        "funnel": dict(report.funnel),
    }
    click.echo(json.dumps(found, indent=2))

"""``imgwas plan``: what a scan will take, before it runs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
from imgwas_cli import associate as scan
from imgwas_cli import logs
from imgwas_cli.options import Command

EXAMPLE = """
imgwas plan --bfile cohort --latents latents.parquet --covar covariates.tsv --out results/
imgwas plan ... --json | jq .n_tasks
"""

#: Options of the scan that say where or how often it runs, not what it is.
NOT_HERE = {
    "resume", "overwrite", "break_lock", "check", "workers", "scheduler", "tls_ca", "tls_cert",
    "tls_key", "cluster", "queue", "account", "walltime", "min_workers", "worker_memory",
    "interface", "job_option", "part", "finish",
}  # fmt: skip
NOT_PASSED = {"threads", "overwrite", "break_lock", "finish"}
GROUPS = {title: names for title, names in scan.GROUPS.items() if title != "Jobs of a cluster"}


def run(**given: Any) -> None:
    """Say what a scan will take: time, memory, disk and files, here and on a cluster.

    Takes the options of imgwas associate. Reads the inputs, computes some blocks of the real
    genotypes with the threads that the scan would have, and writes them beside --out, where nothing
    is left. Exit code 20 means that the results or the scan would not fit.
    """
    import imgwas
    from imgwas.association.planning import since_start
    from imgwas.errors import IncompleteError
    from imgwas.genotypes.filters import VariantFilters

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"] or given["as_json"])
    given = scan.associate.make_context("associate", ["--out", "."]).params | given
    scan._check_options(given)
    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read, given) for read in (scan._read_latents, scan._read_covariates)]
        genotypes = scan._open_genotypes(given)
        latents, covariates = (future.result() for future in reading)
    limits = ("maf", "mac", "geno", "hwe", "nonfounders", "info")
    filters = {name: given[name] for name in limits if name in given}
    made = imgwas.plan(
        genotypes,
        latents,
        covariates,
        out=given["out"],
        threads=given["threads"],
        seconds=given["seconds"],
        start_s=since_start(),
        selection=scan._select(genotypes, given),
        filters=VariantFilters(**filters),
        **{name: given[name] for name in scan._PASSED if name not in NOT_PASSED},
    )
    text = json.dumps(made.to_dict(), indent=2) if given["as_json"] else "\n".join(made.lines())
    click.echo(text)
    if made.problems:
        raise IncompleteError(" ".join(made.problems))


def _command() -> click.Command:
    """Build the command out of the options of the scan."""
    own = [
        click.Option(
            ["--seconds"], type=click.FloatRange(0.1, 3600), default=5.0, show_default=True,
            help="Time to spend on computing blocks.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="For programs."),
    ]  # fmt: skip
    shared = [p for p in scan.associate.params if p.name not in NOT_HERE]
    return Command(
        "plan",
        callback=run,
        params=[*shared, *own],
        help=run.__doc__,
        example=EXAMPLE,
        groups=GROUPS | {"Plan": ["seconds", "as_json"]},
    )


plan = _command()

"""``imgwas condition`` and ``imgwas finemap``: back to the genotypes of every locus."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from imgwas_cli import logs, options, recorded
from imgwas_cli.options import FILE, FOLDER, CommaList, Command, stack
from imgwas_cli.running import bar
from imgwas_cli.study_inputs import flat, read_inputs

logger = logging.getLogger("imgwas.cli")

_shared = stack(
    [
        click.option(
            "--loci", "loci_file", type=FILE, required=True, help="What imgwas loci wrote."
        ),
        click.option("--latent-name", type=CommaList(), multiple=True, help="Only these latents."),
        click.option(
            "--flank-kb", type=click.FloatRange(0), default=250, show_default=True,
            help="Look this far outside a locus too.",
        ),
        click.option("--out", type=FILE, required=True, help="Table to write (.tsv)."),
    ]
)  # fmt: skip


@click.command(
    cls=Command,
    example="imgwas condition results/ --loci loci.tsv --out signals.tsv",
    groups={
        "Input": ["loci_file", *recorded.NAMES],
        "Model": ["p1", "max_r2", "flank_kb", "latent_name"],
        "Output": ["out", "quiet", "verbose"],
    },
)
@click.argument("results", type=FOLDER)
@recorded.inputs
@_shared
@click.option(
    "--p1",
    type=click.FloatRange(0, 1, min_open=True),
    default=5e-8,
    show_default=True,
    help="Largest conditional and joint P of a signal.",
)
@click.option(
    "--max-r2",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Leave out variants that the chosen ones explain better.",
)
@options.verbosity
def condition(results: Path, **given: Any) -> None:
    """Find the independent signals of every locus by exact stepwise regression.

    Genotypes, latents and covariates are read again as the scan's command names them; options give
    their new places. Every latent that a locus hits is taken by itself.
    """
    import imgwas
    from imgwas.genetics.loci_table import definition_lines, write_table

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    inputs = _read(results, given)
    with bar(len(inputs["loci"]), "loci", "locus", quiet=given["quiet"]) as progress:
        table = imgwas.condition_loci(
            **inputs, p1=given["p1"], max_r2=given["max_r2"], progress=progress
        )
    about = {"method": "stepwise", "p1": given["p1"], "max_r2": given["max_r2"]}
    write_table(given["out"], table, definition_lines(_about(about, given)))
    n_places = len(table[["locus", "latent"]].drop_duplicates())
    logger.info("%d signals in %d pairs of locus and latent", len(table), n_places)
    logger.info("wrote %s", given["out"])


@click.command(
    cls=Command,
    example="imgwas finemap results/ --loci loci.tsv --out credible.tsv",
    groups={
        "Input": ["loci_file", *recorded.NAMES],
        "Model": ["effects", "coverage", "purity", "flank_kb", "latent_name"],
        "Output": ["out", "quiet", "verbose"],
    },
)
@click.argument("results", type=FOLDER)
@recorded.inputs
@_shared
@click.option(
    "--effects",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="Effects in a locus at most.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0.01, 0.9999),
    default=0.95,
    show_default=True,
    help="Posterior probability of a credible set.",
)
@click.option(
    "--purity",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Smallest absolute correlation within a set.",
)
@options.verbosity
def finemap(results: Path, **given: Any) -> None:
    """Find credible sets of every locus by the sum of single effects (SuSiE).

    Writes OUT with one row a credible set, and beside it .variants.tsv with posterior
    probabilities. Inputs are read again as the scan's command names them.
    """
    import imgwas
    from imgwas.genetics.loci_table import definition_lines, write_table

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    inputs = _read(results, given)
    options_ = {"coverage": given["coverage"], "purity": given["purity"]}
    with bar(len(inputs["loci"]), "loci", "locus", quiet=given["quiet"]) as progress:
        found = imgwas.fine_map_loci(
            **inputs, n_effects=given["effects"], **options_, progress=progress
        )
    about = {"method": "SuSiE", "n_effects": given["effects"], **options_}
    comments = definition_lines(_about(about, given))
    beside = Path(f"{given['out'].with_suffix('')}.variants.tsv")
    for path, table in ((given["out"], found.sets), (beside, found.variants)):
        write_table(path, table, comments)
        logger.info("wrote %s", path)
    logger.info("%d credible sets", len(found.sets))


def _about(method: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    import imgwas

    more = {"flank_kb": given["flank_kb"], "loci": given["loci_file"].name}
    return {"imgwas_version": imgwas.__version__, **method, **more}


def _read(results: Path, given: dict[str, Any]) -> dict[str, Any]:
    import imgwas

    return {
        **read_inputs(results, given),
        "loci": imgwas.read_loci(given["loci_file"]),
        "flank_kb": given["flank_kb"],
        "only": flat(given["latent_name"]) or None,
    }

"""``imgwas score``: polygenic scores of latents, fitted, applied, summed, evaluated, published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from imgwas_cli import logs, options
from imgwas_cli.latents import covariate_input, id_input, overlap, read_covariates_of
from imgwas_cli.options import FILE, FOLDER, CommaList, Command, stack
from imgwas_cli.replicate import read_leads, read_people
from imgwas_cli.running import bar, people
from imgwas_cli.table_inputs import open_genotypes, read_covariates, read_latents, table_options

build = click.option("--genome-build", help="Of the positions, e.g. GRCh37.")
scores_file = click.argument("scores", type=FILE)
weights_out = click.option("--out", type=FILE, required=True, help="File of weights: .parquet.")
genotypes_of_people = stack([options.genotype_input, people])


@click.group()
def score() -> None:
    """Make polygenic scores, and never evaluate them on people they were fitted on."""


@score.command(
    cls=Command,
    example="imgwas score clump results/ --variants clumps.variants.tsv --p 5e-8,1e-5 \\\n"
    "    --scanned latents.parquet --out scores.parquet",
)
@click.argument("results", type=FOLDER)
@click.option("--variants", type=FILE, required=True, help="What clumping left: of imgwas loci.")
@click.option("--scanned", type=FILE, required=True, help="Who was scanned: latents, or ids.")
@click.option("--p", "thresholds", type=CommaList(), default="5e-8", show_default=True,
              help="Thresholds; several make several scores a latent.")  # fmt: skip
@click.option("--any-latent", is_flag=True, help="A variant counts for every latent it passes in.")
@weights_out
@options.verbosity
def clump(results: Path, out: Path, **given: Any) -> None:
    """Take beta of clumped variants below a threshold as weights."""
    import imgwas
    from imgwas.types import Latents

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    variants = read_leads(given["variants"])
    if given["any_latent"] and "latent" in variants:
        variants = variants.drop(columns=["latent"])
    scanned = read_people(given["scanned"])
    ids = scanned.sample_ids if isinstance(scanned, Latents) else scanned
    found = imgwas.clump_scores(
        imgwas.open_sumstats(results), variants, ids,
        thresholds=[_number(text) for text in given["thresholds"]],
    )  # fmt: skip
    _write(found, out)


def _number(text: str) -> float:
    from imgwas.errors import UsageError, explain

    try:
        return float(text)
    except ValueError:
        raise UsageError(explain(f"{text!r} is no number", expected="Such as 5e-8")) from None


def _write(found: Any, out: Path) -> None:
    import imgwas

    imgwas.write_scores(found, out)
    click.echo(f"wrote {out}: {found!r}", err=True)


@score.command(
    cls=Command,
    example="imgwas score ridge --bfile cohort --latents latents.parquet \\\n"
    "    --covar covariates.tsv --keep discovery.txt --out scores.parquet",
)
@genotypes_of_people
@table_options
@click.option("--heritability", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Of every latent; by default each one's own, by REML.")  # fmt: skip
@click.option("--min-maf", type=click.FloatRange(0, 0.5), default=0.01, show_default=True,
              help="Leave out rarer variants.")  # fmt: skip
@click.option("--training-people", type=click.Choice(["refuse", "exclude", "allow"]),
              default="refuse", show_default=True,
              help="People who trained the encoder of the latents.")  # fmt: skip
@build
@options.threads
@weights_out
@options.verbosity
def ridge(out: Path, **given: Any) -> None:
    """Fit all variants at once: ridge regression, the best linear unbiased predictor."""
    from imgwas_cli.running import cores

    import imgwas
    from imgwas.association import build_design, select
    from imgwas.association.seen import without_training_people

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    genotypes = open_genotypes(given)
    latents = without_training_people(read_latents(given), given["training_people"])
    chosen = select(genotypes, keep=given["keep"], remove=given["remove"])
    design = build_design(
        genotypes.samples, latents, read_covariates(given),
        keep=None if chosen.sample_columns is None else chosen.sample_columns.tolist(),
    )  # fmt: skip
    with bar(2 * genotypes.n_variants, "ridge", "variant", quiet=given["quiet"]) as progress:
        found = imgwas.ridge_scores(
            genotypes, design, heritability=given["heritability"], min_maf=given["min_maf"],
            threads=cores(given["threads"]), genome_build=given["genome_build"], progress=progress,
        )  # fmt: skip
    _write(found, out)


@score.command(
    cls=Command,
    example="imgwas score apply scores.parquet --bfile cohort --remove discovery.txt \\\n"
    "    --out scored.parquet",
)
@scores_file
@genotypes_of_people
@click.option("--same-strand", is_flag=True, help="A/T and C/G alleles are on the scores' strand.")
@build
@click.option("--out", type=FILE, required=True, help="Table of scores of people: .parquet.")
@options.verbosity
def apply(scores: Path, out: Path, **given: Any) -> None:
    """Compute the scores of people."""
    import imgwas
    from imgwas.genetics.matching import listed_columns
    from imgwas.genetics.polygenic_files import write_scored

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    genotypes = open_genotypes(given)
    weights = imgwas.read_scores(scores)
    columns = listed_columns(genotypes.samples, given["keep"], given["remove"])
    ids = None
    if columns is not None:
        ids = [genotypes.samples.sample_ids[column] for column in columns]
    with bar(len(weights.variants), "score", "variant", quiet=given["quiet"]) as progress:
        table = imgwas.apply_scores(
            weights, genotypes, people=ids, same_strand=given["same_strand"],
            genome_build=given["genome_build"], progress=progress,
        )  # fmt: skip
    write_scored(table, out)
    click.echo(f"wrote {out}: {table!r}", err=True)


@score.command(
    cls=Command,
    example="imgwas score combine scores.parquet --coefficients alpha.tsv \\\n"
    "    --fitted-on training.txt --out combined.parquet",
)
@scores_file
@click.option("--coefficients", type=FILE, required=True,
              help="Table of score and coefficient; (intercept) is the constant.")  # fmt: skip
@click.option("--fitted-on", type=FILE, help="Whose data gave the coefficients.")
@click.option("--name", default="combined", show_default=True, help="Of the sum.")
@weights_out
@options.verbosity
def combine(scores: Path, out: Path, **given: Any) -> None:
    """Sum scores into one, with coefficients."""
    import imgwas
    from imgwas.types import Latents

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    alpha = _coefficients(given["coefficients"])
    fitted = read_people(given["fitted_on"])
    found = imgwas.combine_scores(
        imgwas.read_scores(scores), {n: a for n, a in alpha.items() if n != "(intercept)"},
        name=given["name"], intercept=alpha.get("(intercept)", 0.0),
        fitted_on=fitted.sample_ids if isinstance(fitted, Latents) else fitted,
    )  # fmt: skip
    _write(found, out)


def _coefficients(path: Path) -> dict[str, float]:
    from imgwas.errors import MalformedError, explain
    from imgwas.tables.columns import to_numbers
    from imgwas.tables.source import read_table

    table = read_table(path)
    if not {"score", "coefficient"} <= set(table.column_names):
        raise MalformedError(explain(f"{path} lacks the columns score and coefficient"))
    values = to_numbers(table, ["coefficient"], path)[:, 0]
    return dict(zip(table["score"].to_pylist(), map(float, values), strict=True))


@score.command(
    cls=Command,
    example="imgwas score evaluate scored.parquet --traits people.tsv --number bmi --binary mi \\\n"
    "    --covar covariates.tsv --out evaluation/",
)
@click.argument("scored", type=FILE)
@click.option("--traits", "traits_table", type=FILE, required=True, help="Table of traits.")
@click.option("--number", type=CommaList(), help="Its columns that are quantities.")
@click.option("--binary", type=CommaList(), help="Its columns of cases: 1 and 0, or 2 and 1.")
@covariate_input
@id_input
@overlap
@click.option("--folds", type=click.IntRange(2, 100), default=5, show_default=True,
              help="For cases.")  # fmt: skip
@click.option("--bootstrap", type=click.IntRange(0), default=500, show_default=True,
              help="Resamples for intervals.")  # fmt: skip
@click.option("--assume-held-out", is_flag=True,
              help="Where it is not known whom weights were fitted on: others.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of folds and resamples.")
@options.out_folder
@options.verbosity
def evaluate(scored: Path, out: Path, **given: Any) -> None:
    """Measure what scores add to covariates, in people the weights have not seen.

    Anybody among those the weights were fitted on is a reason to refuse.
    """
    from imgwas_cli.latent_reports import Results

    import imgwas

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    found = imgwas.read_traits(
        given["traits_table"], numbers=given["number"] or (), binary=given["binary"] or (),
        id_column=given["id_column"], neg9=given["neg9"],
    )  # fmt: skip
    from imgwas.genetics.polygenic_files import read_scored

    frame = imgwas.evaluate_scores(
        read_scored(scored), found, read_covariates_of(given), n_folds=given["folds"],
        n_bootstrap=given["bootstrap"], assume_held_out=given["assume_held_out"],
        min_overlap=given["min_overlap"], seed=given["seed"],
    )  # fmt: skip
    results = Results(out)
    results.table("evaluation.tsv", frame)
    results.finish("evaluation.json", {"traits": len(found), "rows": len(frame)})


@score.command(
    cls=Command,
    example="imgwas score export scores.parquet --genome-build GRCh37 --out deposit/",
)
@scores_file
@build
@click.option("--trait", default="imaging latent {name}", show_default=True, help="Reported trait.")
@click.option("--citation", default="", help="Of the paper.")
@options.out_folder
def export(scores: Path, out: Path, **given: Any) -> None:
    """Write scoring files of the PGS Catalog, version 2.0, one a score; no digest of anybody."""
    from dataclasses import replace

    import imgwas

    found = imgwas.read_scores(scores)
    if given["genome_build"]:
        found = replace(found, genome_build=given["genome_build"])
    files = imgwas.write_pgs_catalog(found, out, trait=given["trait"], citation=given["citation"])
    click.echo(f"wrote {len(files):,} files to {out}", err=True)

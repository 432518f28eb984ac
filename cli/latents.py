"""``imgwas latents``: transforms of latents, and reports on how good they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs, options
from imgwas_cli.options import FILE, FOLDER, CommaList, Command, stack

if TYPE_CHECKING:
    from imgwas.types import Covariates, Latents


@click.group()
def latents() -> None:
    """Transform latents, and report what they hold, repeat and predict."""


covariate_input = stack(
    [
        click.option("--covar", type=FILE, help="Table of covariates, matched by id."),
        click.option("--covar-name", type=CommaList(), help="Only these columns."),
        click.option("--categorical", type=CommaList(), help="Columns whose numbers are labels."),
        click.option("--formula", help="Terms made of columns: 'age + age^2 + C(centre)'."),
        click.option(
            "--max-levels",
            type=click.IntRange(2),
            default=50,
            show_default=True,
            help="Refuse a categorical covariate with more levels.",
        ),
    ]
)
id_input = stack(
    [
        click.option("--id-column", help="Column that holds the sample ids, e.g. eid."),
        click.option(
            "--neg9",
            type=click.Choice(["plink", "missing", "value"]),
            default="plink",
            show_default=True,
            help="How -9 is read in covariates and targets; in latents it is a value.",
        ),
    ]
)
latent_names = click.option(
    "--latent-name", type=CommaList(), help="Only these: a,b or ranges L0-L63."
)
overlap = click.option(
    "--min-overlap",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Refuse when a smaller share of the smallest table is in all.",
)


def read_covariates_of(given: Mapping[str, Any]) -> Covariates | None:
    """Read the table of ``--covar`` with the options that go with it."""
    from imgwas.errors import UsageError
    from imgwas.tables import read_covariates

    if given["covar"] is None:
        for option in ("covar_name", "categorical", "formula"):
            if given[option]:
                raise UsageError(f"--{option.replace('_', '-')} needs --covar FILE.")
        return None
    return read_covariates(
        given["covar"],
        id_column=given["id_column"],
        names=given["covar_name"],
        categorical=given["categorical"] or (),
        formula=given["formula"],
        max_levels=given["max_levels"],
        neg9=given["neg9"],
    )


def terminal(given: Mapping[str, Any]) -> None:
    """Send messages to the terminal as asked for."""
    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])


@latents.command(
    cls=Command,
    example="imgwas latents transform latents.parquet --steps rank-normal --out ready.parquet\n"
    "imgwas latents transform latents.parquet --steps residualize,rank-normal \\\n"
    "    --covar covariates.tsv --categorical centre --out ready.parquet\n"
    "imgwas latents transform latents.parquet --steps whiten --components 30 \\\n"
    "    --fit-on discovery.txt --out components.parquet",
    groups={
        "Input": ["latent_name", "id_column", "covar", "covar_name", "categorical", "formula",
                  "max_levels", "neg9"],
        "Transform": ["steps", "components", "fit_on"],
        "Output": ["out", "quiet", "verbose"],
    },
)  # fmt: skip
@click.argument("table", type=FILE)
@click.option(
    "--steps",
    type=CommaList(),
    required=True,
    help="In this order: rank-normal, quantile-normal, quantile-common, residualize, pca, whiten.",
)
@click.option("--components", type=click.IntRange(1), help="Components of pca and whiten.")
@click.option("--fit-on", type=FILE, help="List of people whom quantiles and components come from.")
@latent_names
@covariate_input
@id_input
@click.option("--out", type=FILE, required=True, help="Table to write: .parquet or .tsv.")
@options.verbosity
def transform(table: Path, out: Path, **given: Any) -> None:
    """Transform latents step by step into a table that imgwas associate takes unchanged.

    People, their order, their ids and what is missing stay. What was done stands in the footer of
    the Parquet file and in a JSON file beside it. Residuals are for looking at: for a scan, give
    the covariates to imgwas associate, which removes them from the variants too.
    """
    from imgwas_cli.latent_reports import source_of

    from imgwas._version import __version__
    from imgwas.errors import UsageError, explain
    from imgwas.files import publish_json
    from imgwas.latents import check_steps, open_latents, transform_latents, write_latents
    from imgwas.latents.tables import check_table_name
    from imgwas.tables import read_id_list

    terminal(given)
    check_table_name(out)
    if out.resolve() == table.resolve():
        raise UsageError(explain(f"--out {out} is the table that is read", do="Name another file"))
    check_steps(
        given["steps"],
        has_covariates=given["covar"] is not None,
        n_components=given["components"],
        has_people=given["fit_on"] is not None,
    )
    found, id_columns = open_latents(
        table, id_column=given["id_column"], names=given["latent_name"]
    )
    fit_on = None if given["fit_on"] is None else read_id_list(given["fit_on"]).sample_ids
    transformed, done = transform_latents(
        found,
        given["steps"],
        covariates=read_covariates_of(given),
        n_components=given["components"],
        fit_on=fit_on,
    )
    history = {"imgwas": __version__, "input": source_of(found), "steps": done}
    digest = write_latents(transformed, out, history=history, id_columns=id_columns)
    beside = out.with_suffix(".json")
    more = {"command": ["imgwas", *sys.argv[1:]], "table": {"file": out.name, "sha256": digest}}
    publish_json(beside, history | more)
    click.echo(f"wrote {out} ({len(transformed.sample_ids):,} people, "
               f"{len(transformed.names):,} latents) and {beside.name}", err=True)  # fmt: skip
    click.echo(f"next: imgwas associate --bfile PREFIX --latents {out} --out results/", err=True)


@latents.command(
    cls=Command,
    example="imgwas latents report latents.parquet --covar covariates.tsv \\\n"
    "    --categorical sex,centre --out latents_report/",
    groups={
        "Input": ["latent_name", "id_column", "covar", "covar_name", "categorical", "formula",
                  "max_levels", "neg9"],
        "Report": ["cluster", "individuals", "method"],
        "Output": ["out", "quiet", "verbose"],
    },
)  # fmt: skip
@click.argument("table", type=FILE)
@click.option("--cluster", is_flag=True, help="Order the correlation heatmap by similarity.")
@click.option("--individuals", is_flag=True, help="Draw a point per person, not means of cells.")
@click.option(
    "--method",
    type=click.Choice(["li-ji", "cheverud", "galwey"]),
    default="li-ji",
    show_default=True,
    help="Of the effective number of latents.",
)
@latent_names
@covariate_input
@id_input
@options.out_folder
@options.verbosity
def report(table: Path, out: Path, **given: Any) -> None:
    """Report oddities, correlation, eigen-spectrum and variance explained by nuisance.

    Writes quality.tsv, correlation.tsv, eigenvalues.tsv, figures, report.json, and with --covar
    nuisance_terms.tsv and nuisance_joint.tsv.
    """
    from imgwas_cli import latent_reports

    from imgwas.latents import open_latents

    terminal(given)
    found, _ = open_latents(table, id_column=given["id_column"], names=given["latent_name"])
    covariates = read_covariates_of(given)
    latent_reports.describe(
        latent_reports.Results(out),
        found,
        covariates,
        method=given["method"],
        cluster=given["cluster"],
        individuals=given["individuals"],
    )


@latents.command(
    cls=Command,
    example="imgwas latents consensus latents/ --out consensus/\n"
    "imgwas latents consensus seed1.parquet seed2.parquet seed3.parquet --out consensus/",
    groups={
        "Input": ["id_column", "min_overlap"],
        "Measure": ["threshold", "components", "ridge", "seed"],
        "Output": ["out", "quiet", "verbose"],
    },
)
@click.argument("tables", type=FOLDER, nargs=-1, required=True)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="|r| above which a latent counts as reproduced by another seed.",
)
@click.option("--components", type=click.IntRange(1), show_default="30", help="Shared components.")
@click.option(
    "--ridge",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Of the shared components, as a share of the largest variance.",
)
@click.option("--seed", default=0, show_default=True, help="Draws the halves of the people.")
@click.option("--id-column", help="Column that holds the sample ids, e.g. eid.")
@overlap
@options.out_folder
@options.verbosity
def consensus(tables: tuple[Path, ...], out: Path, **given: Any) -> None:
    """Compare latents of several training seeds, joined by id.

    TABLES are files, or the folder that imgwas encode wrote for the runs of imgwas train --seeds.
    Writes matches.tsv (best match of every latent), pairs.tsv (one to one), spaces.tsv (linear
    CKA), shared.parquet (components that all seeds share) and reproduced.parquet (latents that
    another seed has too); the last two are tables for imgwas associate.
    """
    from imgwas_cli import latent_reports

    terminal(given)
    found = _open_all(tables, given["id_column"])
    latent_reports.compare(
        latent_reports.Results(out),
        found,
        threshold=given["threshold"],
        n_components=given["components"],
        ridge=given["ridge"],
        min_overlap=given["min_overlap"],
        seed=given["seed"],
    )


@latents.command(
    cls=Command,
    example="imgwas latents reliability visit2.parquet visit3.parquet --out reliability/",
)
@click.argument("tables", type=FILE, nargs=-1, required=True)
@click.option(
    "--level",
    type=click.FloatRange(0.5, 0.999999),
    default=0.95,
    show_default=True,
    help="Coverage of the intervals.",
)
@click.option("--id-column", help="Column that holds the sample ids, e.g. eid.")
@options.out_folder
@options.verbosity
def reliability(tables: tuple[Path, ...], out: Path, **given: Any) -> None:
    """Measure how well latents repeat: ICC(2,1) and ICC(3,1) between visits, with intervals.

    One table per visit. People who missed a visit are counted and left out.
    """
    from imgwas_cli import latent_reports

    terminal(given)
    found = _open_all(tables, given["id_column"])
    latent_reports.repeat(latent_reports.Results(out), found, level=given["level"])


def _open_all(paths: tuple[Path, ...], id_column: str | None) -> dict[str, Latents]:
    """Read tables, or those of a folder, under the names of their files."""
    from imgwas.errors import UsageError, explain
    from imgwas.latents import open_latents

    if len(paths) == 1 and paths[0].is_dir():
        paths = tuple(sorted(paths[0].glob("*.parquet")))
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(
            explain(f"{len(set(names))} tables were given", expected="Two or more, each once")
        )
    return {
        name: open_latents(path, id_column=id_column)[0]
        for name, path in zip(names, paths, strict=True)
    }


def _prediction_options(function: Callable[..., Any]) -> Callable[..., Any]:
    choices = [
        click.option("--targets", type=FILE, required=True, help="Table of what is predicted."),
        click.option("--classes", type=CommaList(), help="Columns of labels, e.g. sex."),
        click.option("--number", type=CommaList(), help="Columns of numbers, e.g. age."),
        click.option("--bins", multiple=True, metavar="COLUMN:EDGES",
                     help="A number cut into classes: age:22,26,31,36. May be repeated."),
        click.option("--models", type=CommaList(), default="linear,forest,neighbours,tree",
                     show_default=True, help="Which models."),
        click.option("--schemes", type=CommaList(), default="multiclass", show_default=True,
                     help="Of: multiclass, one-vs-rest, one-vs-one."),
        click.option("--folds", type=click.IntRange(2, 100), default=5, show_default=True,
                     help="Folds, the same for all models."),
        click.option("--groups", metavar="COLUMN",
                     help="Column of --targets: people of a family or with repeats stay together."),
        click.option("--importance", is_flag=True,
                     help="Also which features matter, by permutation out of fold (slow)."),
        click.option("--seed", default=0, show_default=True, help="Of folds and forests."),
    ]  # fmt: skip
    return stack(choices)(function)


@latents.command(
    cls=Command,
    example="imgwas latents predict latents=latents.parquet raw=morphometry.tsv \\\n"
    "    --targets people.tsv --classes sex --number age --bins age:22,26,31,36 \\\n"
    "    --schemes multiclass,one-vs-rest,one-vs-one --out prediction/",
    groups={
        "Input": ["targets", "classes", "number", "bins", "groups", "id_column", "neg9"],
        "Models": ["models", "schemes", "folds", "importance", "seed", "threads"],
        "Output": ["out", "quiet", "verbose"],
    },
)
@click.argument("features", nargs=-1, required=True, metavar="[NAME=]FILE...")
@_prediction_options
@id_input
@options.threads
@options.out_folder
@options.verbosity
def predict(features: tuple[str, ...], out: Path, **given: Any) -> None:
    """Predict sex, age and the like by cross-validation, each score beside its chance level.

    FEATURES are tables of latents or raw features. All are judged on the same people and folds.
    """
    from imgwas_cli import latent_reports

    terminal(given)
    latent_reports.predict(latent_reports.Results(out), features, given)

"""``imgwas traits``: latents against traits of people, with dates and confounds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import options
from imgwas_cli.latents import (
    covariate_input,
    id_input,
    latent_names,
    overlap,
    read_covariates_of,
    terminal,
)
from imgwas_cli.options import FILE, CommaList, Command
from imgwas_cli.running import bar

if TYPE_CHECKING:
    import pandas as pd
    from imgwas_cli.latent_reports import Results

    from imgwas.traits import Trait
    from imgwas.types import Latents

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas traits latents.parquet --traits people.tsv --number bmi,sbp --binary smoker \\
    --covar covariates.tsv --categorical sex,centre --permutations 1000 --out traits/
imgwas traits latents.parquet --diagnoses diagnoses.tsv --definitions diseases.tsv \\
    --people people.tsv --imaging-date imaged --end 2024-03-31 --death-date died \\
    --lost-date lost --model cases,survival --covar covariates.tsv --out diseases/
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "Latents": ["latent_name", "id_column", "allow_in_sample"],
        "Traits of a table": ["traits_table", "number", "binary", "neg9"],
        "Diseases from records": [
            "diagnoses", "definitions", "people_table", "imaging_date", "code_column",
            "date_column", "model", "years_before", "years_after", "which", "min_cases", "end",
            "death_date", "lost_date", "horizon",
        ],
        "Confounds": ["covar", "covar_name", "categorical", "formula", "max_levels"],
        "Tests": ["permutations", "effective", "min_overlap", "seed"],
        "Output": ["out", "quiet", "verbose"],
    },
)  # fmt: skip
@click.argument("latents_table", metavar="LATENTS", type=FILE)
@latent_names
@click.option("--traits", "traits_table", type=FILE, help="Table with a column for each trait.")
@click.option("--number", type=CommaList(), help="Its columns that are quantities.")
@click.option("--binary", type=CommaList(), help="Its columns of cases: 1 and 0, or 2 and 1.")
@click.option("--diagnoses", type=FILE, help="Table of people, codes and dates, a row a record.")
@click.option("--definitions", type=FILE, help="Table of trait and code; I21* takes all below I21.")
@click.option("--people", "people_table", type=FILE, help="Table of people with their dates.")
@click.option("--imaging-date", default="imaging_date", show_default=True, help="Its column.")
@click.option("--code-column", default="code", show_default=True, help="Of the diagnoses.")
@click.option("--date-column", default="date", show_default=True, help="Of the diagnoses.")
@click.option(
    "--model", type=CommaList(), default="cases", show_default=True,
    help="cases (logistic, in a window), survival (Cox, after imaging), or both.",
)  # fmt: skip
@click.option(
    "--years-before", type=click.FloatRange(0), default=5.0, show_default=True,
    help="A case has the first diagnosis at most so long before imaging.",
)  # fmt: skip
@click.option(
    "--years-after", type=click.FloatRange(0), default=1.0, show_default=True,
    help="And at most so long after it.",
)  # fmt: skip
@click.option(
    "--which", type=click.Choice(["all", "prevalent", "incident"]), default="all",
    show_default=True, help="Cases of the window, or those up to imaging, or after it.",
)  # fmt: skip
@click.option(
    "--min-cases", type=click.IntRange(2), default=200, show_default=True,
    help="Leave out diseases with fewer cases or events.",
)  # fmt: skip
@click.option("--end", help="Last day the records cover, YYYY-MM-DD; survival needs it.")
@click.option("--death-date", help="Column of --people.")
@click.option("--lost-date", help="Column of --people: when a person left.")
@click.option("--horizon", type=click.FloatRange(0, min_open=True), help="Censor after N years.")
@covariate_input
@id_input
@click.option(
    "--permutations", type=click.IntRange(0), default=0, show_default=True,
    help="For P values of maxT over all tests; 1000 give at best P = 0.001.",
)  # fmt: skip
@click.option(
    "--effective", type=click.Choice(["cheverud", "li-ji", "galwey"]), default="cheverud",
    show_default=True, help="How many independent latents there are, for Bonferroni.",
)  # fmt: skip
@click.option("--allow-in-sample", is_flag=True, help="Accept features of training people.")
@overlap
@click.option("--seed", type=int, default=0, show_default=True, help="Of the permutations.")
@options.out_folder
@options.verbosity
def traits(latents_table: Path, out: Path, **given: Any) -> None:
    """Test every latent against every trait: least squares, logistic, Cox.

    Writes associations.tsv (a row per trait and latent), definitions.tsv (who was a case, a control
    or neither, and why), a volcano for each kind of trait, a forest of the strongest, and survival
    by thirds of the strongest latent for each disease that was followed.
    """
    from imgwas_cli.latent_reports import Results

    import imgwas

    terminal(given)
    table = _read(latents_table, given)
    covariates = read_covariates_of(given)
    found = [*_columns(given), *_diseases(given)]
    _check_any(found)
    results = Results(out)
    tests = len(found) * len(table.names) + given["permutations"]
    with bar(tests, "traits", "test", quiet=given["quiet"]) as progress:
        frame = imgwas.associate_traits(
            table, found, covariates, n_permutations=given["permutations"],
            effective=given["effective"], min_overlap=given["min_overlap"],
            allow_in_sample=given["allow_in_sample"], seed=given["seed"], progress=progress,
        )  # fmt: skip
    results.table("associations.tsv", frame)
    results.table("definitions.tsv", _counts(found))
    _draw(results, frame, found, table)
    passed = int((frame["neg_log_10_p_bonferroni"] >= -_LOG10_5).sum())
    results.finish("traits.json", {"traits": len(found), "latents": len(table.names),
                                   "tests": len(frame), "bonferroni": passed,
                                   "permutations": given["permutations"],
                                   "seed": given["seed"]})  # fmt: skip
    click.echo(f"{passed:,} of {len(frame):,} tests pass Bonferroni")


def _read(path: Path, given: dict[str, Any]) -> Latents:
    """Read latents, or polygenic scores with whom they were fitted on."""
    import imgwas
    from imgwas.genetics.polygenic_files import SCORED, read_scored
    from imgwas.tables.source import stored_footer

    names = {"id_column": given["id_column"], "names": given["latent_name"]}
    if path.is_file() and stored_footer(path).get("format") == SCORED:
        return read_scored(path, **names)
    table: Latents = imgwas.read_latents(path, **names)
    return table


_LOG10_5 = -1.3010299956639813


def _check_any(found: list[Trait]) -> None:
    from imgwas.errors import UsageError

    if not found:
        raise UsageError("Name traits: --traits with --number or --binary, or --diagnoses.")


def _columns(given: dict[str, Any]) -> list[Trait]:
    """Traits that are columns of a table."""
    import imgwas
    from imgwas.errors import UsageError

    if given["traits_table"] is None:
        if given["number"] or given["binary"]:
            raise UsageError("--number and --binary name columns of --traits FILE.")
        return []
    if not (given["number"] or given["binary"]):
        raise UsageError("--traits needs --number or --binary to say what its columns are.")
    found: list[Trait] = imgwas.read_traits(
        given["traits_table"], numbers=given["number"] or (), binary=given["binary"] or (),
        id_column=given["id_column"], neg9=given["neg9"],
    )  # fmt: skip
    return found


def _diseases(given: dict[str, Any]) -> list[Trait]:
    """Traits that are made of records with dates."""
    import imgwas
    from imgwas.checks import check_option
    from imgwas.errors import UsageError
    from imgwas.traits import read_dates, read_definitions, read_diagnoses

    needed = ("diagnoses", "definitions", "people_table")
    if not any(given[name] for name in needed):
        return []
    if not all(given[name] for name in needed):
        raise UsageError("Diseases need --diagnoses, --definitions and --people together.")
    for model in given["model"]:
        check_option("--model", model, ("cases", "survival"))
    records = read_diagnoses(
        given["diagnoses"], id_column=given["id_column"], code_column=given["code_column"],
        date_column=given["date_column"],
    )  # fmt: skip
    codes = read_definitions(given["definitions"])
    columns = [given[name] for name in ("imaging_date", "death_date", "lost_date") if given[name]]
    dates = read_dates(given["people_table"], columns, id_column=given["id_column"])
    imaged = dates[given["imaging_date"]]
    found: list[Trait] = []
    if "cases" in given["model"]:
        found += imgwas.define_cases(
            records, codes, imaged, years_before=given["years_before"],
            years_after=given["years_after"], which=given["which"], min_cases=given["min_cases"],
        )  # fmt: skip
    if "survival" in given["model"]:
        if given["end"] is None:
            raise UsageError("--model survival needs --end, the last day the records cover.")
        followed = imgwas.follow_up(
            records, codes, imaged, end=_day(given["end"]),
            death=dates.get(given["death_date"]), lost=dates.get(given["lost_date"]),
            horizon=given["horizon"], min_cases=given["min_cases"],
        )  # fmt: skip
        found += [_renamed(trait, found) for trait in followed]
    return found


def _day(text: str) -> Any:
    import numpy as np

    from imgwas.errors import UsageError, explain

    try:
        return np.datetime64(text, "D")
    except ValueError:
        raise UsageError(explain(f"--end is {text!r}", expected="A day, YYYY-MM-DD")) from None


def _renamed(trait: Trait, others: list[Trait]) -> Trait:
    """Tell follow-up of a disease from its cases."""
    from dataclasses import replace

    taken = {one.name for one in others}
    return replace(trait, name=f"{trait.name} (follow-up)") if trait.name in taken else trait


def _counts(found: list[Trait]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"trait": trait.name, "kind": trait.kind, "people": what, "n": n}
        for trait in found
        for what, n in (trait.counts or {"with a value": trait.n}).items()
    ]
    return pd.DataFrame(rows)


def _draw(results: Results, frame: pd.DataFrame, found: list[Trait], table: Latents) -> None:
    from imgwas.plots import forest, volcano

    for kind, own in frame.groupby("kind", sort=False):
        if own["beta"].notna().any():
            results.figure(f"volcano_{kind}", volcano(own, title=_TITLES[str(kind)]))
    ratios = frame[(frame["kind"] != "number") & frame["beta"].notna()]
    if len(ratios):
        top = ratios.nlargest(20, "neg_log_10_p_value")
        top = top.assign(pair=top["trait"] + ", " + top["latent"])
        results.figure("forest", forest(top, label="pair"))
    for number, trait in enumerate(one for one in found if one.kind == "survival"):
        own = frame[(frame["trait"] == trait.name) & frame["beta"].notna()]
        if len(own):
            best = own["latent"].iloc[int(own["neg_log_10_p_value"].argmax())]
            _draw_survival(results, f"survival_{number + 1:02d}", trait, table, str(best))


_TITLES = {"number": "Quantities", "binary": "Cases and controls", "survival": "Follow-up"}


def _draw_survival(results: Results, name: str, trait: Trait, table: Latents, latent: str) -> None:
    import numpy as np

    from imgwas.plots import survival_curves
    from imgwas.traits import kaplan_meier
    from imgwas.traits.people import placed

    values, time = placed(trait, table.sample_ids, 0.0)
    z = np.asarray(table.values)[:, table.names.index(latent)]
    used = np.isfinite(values) & np.isfinite(z)
    if time is None or used.sum() < _FEWEST_DRAWN:
        return
    third = np.digitize(z[used], np.quantile(z[used], [1 / 3, 2 / 3]))
    curves = {
        f"{word} third": kaplan_meier(time[used][third == k], values[used][third == k] == 1)
        for k, word in enumerate(("lowest", "middle", "highest"))
        if (third == k).any()
    }
    results.figure(name, survival_curves(curves, title=f"{trait.name} by {latent}"))


#: Fewer people than this make curves that tell of single people.
_FEWEST_DRAWN = 30

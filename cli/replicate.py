"""``imgwas replicate``: leads in other people; ``imgwas interaction``: G x E."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs, options
from imgwas_cli.genotype_input import GENOTYPES
from imgwas_cli.options import FILE, FOLDER, Command
from imgwas_cli.running import bar
from imgwas_cli.table_inputs import open_genotypes, read_covariates, read_latents, table_options

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from imgwas.types import Genotypes

EXAMPLE = """
imgwas replicate discovery/ replication/ --leads loci.tsv --out replication_of_loci/ \\
    --discovery-people latents_discovery.parquet --replication-people latents_replication.parquet
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "People": ["discovery_people", "replication_people", "assume_disjoint"],
        "Leads": ["leads", "selected_at", "alpha"],
        "Output": ["out", "quiet", "verbose"],
    },
)
@click.argument("discovery", type=FOLDER)
@click.argument("replication", type=FOLDER)
@click.option(
    "--leads", type=FILE, required=True,
    help="Table with chromosome, base_pair_location and perhaps latent, e.g. of imgwas loci.",
)  # fmt: skip
@click.option("--discovery-people", type=FILE, help="Who was scanned: latents, or a list of ids.")
@click.option("--replication-people", type=FILE, help="The same of the replication.")
@click.option("--assume-disjoint", is_flag=True, help="Go on without comparing people.")
@click.option(
    "--selected-at", type=click.FloatRange(0, 1, min_open=True), default=5e-8, show_default=True,
    help="P below which leads were selected, for the winner's curse.",
)  # fmt: skip
@click.option(
    "--alpha", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
    help="Level, one-sided, over all leads.",
)  # fmt: skip
@options.out_folder
@options.verbosity
def replicate(discovery: Path, replication: Path, out: Path, **given: Any) -> None:
    """Look up leads in a scan of other people.

    Writes replication.tsv (both effects on one allele, same sign, one-sided P, meta-analysis,
    winner's curse, power), directional.tsv (all latents at once along the direction of discovery)
    and replication.json (what came back, and what was to be expected).
    """
    from imgwas_cli.latent_reports import Results

    import imgwas

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    found = imgwas.replicate(
        imgwas.open_sumstats(discovery),
        imgwas.open_sumstats(replication),
        read_leads(given["leads"]),
        discovery_people=read_people(given["discovery_people"]),
        replication_people=read_people(given["replication_people"]),
        assume_disjoint=given["assume_disjoint"],
        alpha=given["alpha"],
        selected_at=given["selected_at"],
    )
    results = Results(out)
    results.table("replication.tsv", found.table)
    results.table("directional.tsv", found.directional)
    results.finish("replication.json", {"summary": found.summary, "alpha": given["alpha"],
                                        "selected_at": given["selected_at"]})  # fmt: skip
    one = found.summary
    click.echo(
        f"{one['same_sign']} of {one['leads']} leads have the same sign "
        f"({one['expected_same_sign']:.1f} expected), {one['replicated']} replicate "
        f"({one['expected_replicated']:.1f} expected)"
    )


def read_leads(path: Path) -> pd.DataFrame:
    """Read a table of leads; lines that begin with # are a description."""
    import pandas as pd

    from imgwas.errors import MalformedError, OpenError, explain

    text = {"chromosome": str, "variant_id": str, "lead_variant": str, "latent": str}
    try:
        frame = pd.read_csv(path, sep="\t", comment="#", dtype=text, keep_default_na=False)
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise MalformedError(explain(f"{path} is no table ({error})")) from error
    if "variant_id" not in frame and "lead_variant" in frame:
        frame = frame.rename(columns={"lead_variant": "variant_id"})
    lacking = [name for name in ("chromosome", "base_pair_location") if name not in frame]
    if lacking or frame.empty:
        raise MalformedError(
            explain(f"{path} has {'no rows' if not lacking else f'no column {lacking[0]}'}",
                    expected="Tab-separated chromosome, base_pair_location, and perhaps latent")
        )  # fmt: skip
    return frame


def read_people(path: Path | None) -> Any:
    """Read who was scanned: a table of latents with its ledger, or a list of ids."""
    import imgwas
    from imgwas.errors import MalformedError
    from imgwas.tables import read_id_list

    if path is None:
        return None
    try:
        return imgwas.read_latents(path)
    except MalformedError:
        return read_id_list(path).sample_ids


INTERACTION = """
imgwas interaction --bfile cohort --latents latents.parquet --covar covariates.tsv \\
    --environment sex --variants loci.tsv --out sex.tsv
"""


@click.command(
    cls=Command,
    example=INTERACTION,
    groups={
        "Genotypes": [*GENOTYPES, "variants"],
        "Tables": ["latents", "pheno", "covar", "covar_name", "categorical", "formula",
                   "max_levels", "id_column", "neg9"],
        "Model": ["environment", "without_covariates", "model_errors"],
        "Output": ["out", "quiet", "verbose"],
    },
)  # fmt: skip
@options.genotype_input
@click.option("--variants", type=FILE, help="Only these: a table such as imgwas loci writes.")
@table_options
@click.option("--environment", required=True, help="Column of --covar, e.g. sex.")
@click.option("--without-covariates", is_flag=True, help="Leave out covariates x environment.")
@click.option("--model-errors", is_flag=True, help="Errors of least squares, not robust ones.")
@click.option("--out", type=FILE, required=True, help="Table to write, e.g. sex.tsv.")
@options.verbosity
def interaction(out: Path, **given: Any) -> None:
    """Test whether variants act differently by sex or another environment.

    y = C + g + e + g e for every variant and latent, with every product of e and a covariate and
    errors that allow for unequal variances.
    """
    import imgwas
    from imgwas.errors import UsageError
    from imgwas.files import publish

    logs.to_terminal(verbose=given["verbose"], quiet=given["quiet"])
    genotypes = open_genotypes(given)
    covariates = read_covariates(given)
    if covariates is None:
        raise UsageError("--environment is a column of --covar FILE: name that file.")
    rows = None if given["variants"] is None else rows_of(genotypes, read_leads(given["variants"]))
    total = genotypes.n_variants if rows is None else len(rows)
    with bar(total, "interaction", "variant", quiet=given["quiet"]) as progress:
        frame = imgwas.find_interactions(
            genotypes, read_latents(given), covariates, given["environment"], rows=rows,
            with_covariates=not given["without_covariates"], robust=not given["model_errors"],
            progress=progress,
        )  # fmt: skip
    with publish(out, "w") as stream:
        frame.to_csv(stream, sep="\t", index=False, na_rep="NA", lineterminator="\n")
    click.echo(f"wrote {out}: {len(frame):,} tests", err=True)


def rows_of(genotypes: Genotypes, leads: pd.DataFrame) -> np.ndarray:
    """Rows of the genotype file at the places of a table."""
    import numpy as np

    from imgwas.errors import InconsistentError, explain
    from imgwas.sumstats.effects import chromosome_code

    wanted = {
        (chromosome_code(str(c)), int(p))
        for c, p in zip(leads["chromosome"], leads["base_pair_location"], strict=True)
    }
    table = genotypes.variants
    places = zip(table["chromosome"].to_pylist(), table["base_pair_location"].to_pylist(),
                 strict=True)  # fmt: skip
    rows = [row for row, (c, p) in enumerate(places) if (chromosome_code(c), p) in wanted]
    if not rows:
        raise InconsistentError(
            explain(f"none of {len(leads):,} variants is in the genotypes",
                    do="Check that positions are of the same genome build")
        )  # fmt: skip
    return np.array(rows, np.int64)

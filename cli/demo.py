"""``imgwas demo``: the whole path on a simulated cohort, in under a minute."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs
from imgwas_cli.options import FOLDER, Command

if TYPE_CHECKING:
    import pandas as pd

    from imgwas.simulate import Cohort
    from imgwas.sumstats import SumStats


@click.command(cls=Command, example="imgwas demo demo")
@click.argument("out", type=FOLDER, default=Path("demo"))
@click.option("--samples", default=3000, show_default=True, help="People.")
@click.option("--variants", default=30_000, show_default=True, help="Variants.")
@click.option("--latents", default=32, show_default=True, help="Latents.")
@click.option("--seed", default=7, show_default=True, help="Everything follows from it.")
def demo(out: Path, **given: Any) -> None:
    """Simulate a cohort, scan all latents, draw the figures, and compare with the truth.

    The cohort has what real ones have: leading zeros in ids, files in different orders, missing
    calls, missing latents, a categorical covariate and one that is correlated with a genotype.
    """
    logs.to_terminal()
    start = time.monotonic()
    cohort = _simulate(out, given)
    sumstats = _scan(cohort, out / "results")
    figures = _draw(sumstats, out)
    click.echo(_verdict(cohort.truth, sumstats))
    for figure in figures:
        click.echo(f"figure   {figure}")
    click.echo(f"results  {out / 'results'}")
    click.echo(
        f"next     imgwas export {out / 'results'} --format exchange --latent "
        f"{sumstats.latents[0]} --out {out / 'export'}"
    )
    click.echo(f"done in {time.monotonic() - start:.1f} s")


def _simulate(out: Path, given: dict[str, Any]) -> Cohort:
    from imgwas_cli.running import bar

    from imgwas.simulate import simulate_cohort

    with bar(given["variants"], "simulate", "variant") as progress:
        return simulate_cohort(
            out,
            n_samples=given["samples"],
            n_variants=given["variants"],
            n_latents=given["latents"],
            n_causal=12,
            variance_explained=0.025,
            populations=2,
            missing_rate=0.01,
            missing_latents=0.02,
            messy_ids=True,
            seed=given["seed"],
            progress=progress,
        )


def _scan(cohort: Cohort, out: Path) -> SumStats:
    from imgwas_cli.associate import choose_progress

    import imgwas
    from imgwas.association import associate

    return associate(
        imgwas.open_genotypes(cohort.bfile),
        imgwas.read_latents(cohort.latents),
        imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"]),
        out=out,
        overwrite=True,
        command=["imgwas", "demo"],
        progress=choose_progress(quiet=False),
    )


def _draw(sumstats: SumStats, out: Path) -> list[Path]:
    from imgwas.plots import aggregated_manhattan, qq_many, save_figure

    best = sumstats.best_latent()
    manhattan = aggregated_manhattan(best, n_latents=len(sumstats.latents))
    quantiles = qq_many({name: sumstats.neg_log10_p(name) for name in sumstats.latents})
    return [
        save_figure(ax.figure, out / f"{name}.{kind}")
        for ax, name in ((manhattan, "manhattan"), (quantiles, "qq"))
        for kind in ("png", "pdf")
    ]


def _verdict(truth: pd.DataFrame, sumstats: SumStats) -> str:
    """Count the planted effects that the scan found in their own latent."""
    limit = 7.30103
    top = sumstats.top(neg_log10_p=limit)
    found = truth.merge(top, on=["variant_id", "latent"], suffixes=("_true", ""))
    right = (found["beta"] * found["beta_true"] > 0).sum()
    lambdas = sumstats.lambda_gc()
    return (
        f"{len(found)} of {len(truth)} planted effects reach 5e-8, {right} with the right sign; "
        f"median lambda {lambdas.median():.3f}"
    )

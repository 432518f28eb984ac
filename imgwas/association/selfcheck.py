"""A scan checked by another program: some of its pairs fitted again by statsmodels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.arrow import from_numpy, to_numpy
from imgwas.association.alignment import align
from imgwas.association.selection import Selection
from imgwas.checks import check_range
from imgwas.errors import UsageError, explain
from imgwas.latents import rank_normalize
from imgwas.sumstats import SumStats
from imgwas.sumstats.effects import VARIANT_COLUMNS
from imgwas.types import Covariates, Genotypes, Latents, PackedGenotypes

if TYPE_CHECKING:
    import pandas as pd


def check_scan(
    results: SumStats,
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    selection: Selection | None = None,
    pairs: int = 100,
    min_overlap: float = 0.5,
    seed: int = 0,
) -> pd.DataFrame:
    """Fit some variant x latent pairs of a finished scan again with statsmodels.

    Each pair is fitted from the raw tables by ``statsmodels.api.OLS`` on the intercept, every
    covariate and the dosage, as a person would who distrusts the scan: nothing is projected, and
    nothing is shared with it but the alignment of ids.

    Parameters
    ----------
    results : SumStats
        The finished scan.
    genotypes, latents, covariates, selection
        What the scan was given.
    pairs : int
        How many pairs; half of them are the strongest of random latents, half are random.
    min_overlap : float
        What the scan was given.
    seed : int
        Decides which.

    Returns
    -------
    DataFrame
        One row a pair: ``variant_id latent n n_statsmodels t t_statsmodels beta
        beta_statsmodels`` and ``difference``, the larger of the differences of t and of beta in
        standard errors, over ``max(1, abs(t))``; infinite where n differs.

    Raises
    ------
    UsageError
        If the scan was two-step (``residualize_first``), which is no single regression.
    """
    check_range("pairs", pairs, low=1, high=100_000)
    settings = results.metadata["settings"]
    if settings["residualize_first"]:
        raise UsageError(explain("a two-step scan is no single regression that could be checked"))
    keep = selection.sample_columns if selection is not None else None
    aligned = align(genotypes.samples, latents, covariates, keep=keep, min_overlap=min_overlap)
    inputs = _Inputs(
        traits=latents.values[aligned.latent_rows],  # noqa: PD011 - an array, no frame
        covariates=_covariate_values(covariates, aligned.covariate_rows),
        sex=genotypes.samples.sex[aligned.sample_columns],
        columns=aligned.sample_columns,
        drop=settings["missing_genotype"] == "drop",
        rank_normal=bool(settings["rank_normal"]),
        set_hh_missing=isinstance(genotypes, PackedGenotypes)
        and bool(settings.get("set_hh_missing")),
    )
    rows = []
    for name, chosen in _choose(results, pairs, np.random.default_rng(seed)).items():
        latent = latents.names.index(name)
        for stored in _stored(results, name, chosen).to_dict("records"):
            row, chromosome = int(stored["row"]), str(stored["chromosome_name"])
            fit, n = _fit(genotypes, row, chromosome, latent, inputs)
            rows.append(_compare(stored, name, n, fit))
    return _table(rows)


@dataclass(frozen=True)
class _Inputs:
    """Raw tables of the analysed people."""

    traits: np.ndarray
    covariates: np.ndarray
    sex: np.ndarray
    columns: np.ndarray
    drop: bool
    rank_normal: bool
    set_hh_missing: bool


def _covariate_values(covariates: Covariates | None, rows: np.ndarray) -> np.ndarray:
    return np.empty((len(rows), 0)) if covariates is None else covariates.values[rows]  # noqa: PD011


def _choose(results: SumStats, pairs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows of the results to check, for some latents."""
    names = rng.permutation(list(results.latents))[: max(1, pairs // 10)]
    chosen = {}
    for number, name in enumerate(map(str, names)):
        share = pairs // len(names) + (number < pairs % len(names))
        nlp = results.neg_log10_p(name)
        tested = np.flatnonzero(np.isfinite(nlp))
        strongest = tested[np.argsort(-nlp[tested], kind="stable")][: share // 2]
        others = rng.permutation(np.setdiff1d(tested, strongest))[: share - len(strongest)]
        chosen[name] = np.unique(np.concatenate([strongest, others]))
    return chosen


def _stored(results: SumStats, name: str, chosen: np.ndarray) -> pd.DataFrame:
    """What the scan says of one latent at some rows, with the row of the genotype file."""
    import pandas as pd

    columns = [*VARIANT_COLUMNS, "row", *results.columns_of(name)]
    frames, start = [], 0
    for block in results.iter_blocks(columns):
        inside = chosen[(chosen >= start) & (chosen < start + block.num_rows)] - start
        start += block.num_rows
        if len(inside):
            some = block.take(from_numpy(inside))
            more = {"row": to_numpy(some["row"])}
            more["chromosome_name"] = np.array(some["chromosome"].to_pylist(), object)
            frames.append(results.statistics(some, name).assign(**more))
    return pd.concat(frames, ignore_index=True)


def _fit(
    genotypes: Genotypes, row: int, chromosome: str, latent: int, inputs: _Inputs
) -> tuple[Any, int]:
    """One regression by statsmodels on the people documented for the chromosome."""
    import statsmodels.api as sm

    dosage = genotypes.read_dosages(np.array([row]))[0][inputs.columns].astype(float)
    trait, nuisance = inputs.traits[:, latent], inputs.covariates
    people = np.isfinite(trait)
    if inputs.rank_normal:
        trait = rank_normalize(trait[:, None])[:, 0]
    if chromosome == "X":
        people &= inputs.sex > 0
        nuisance = np.column_stack([nuisance, inputs.sex == 1])
    elif chromosome == "Y":
        people &= inputs.sex == 1
    if inputs.set_hh_missing and chromosome in ("X", "Y"):
        dosage[(inputs.sex == 1) & (dosage == 1)] = np.nan
    called = ~np.isnan(dosage)
    if inputs.drop:
        people &= called
    else:
        dosage = np.where(called, dosage, dosage[people & called].mean())
    # the intercept takes the mean; a large offset would cost the second fit its digits
    y = trait[people] - trait[people].mean()
    model = [np.ones(len(y)), nuisance[people], dosage[people]]
    return sm.OLS(y, np.column_stack(model)).fit(), len(y)


def _compare(stored: dict[Any, Any], name: str, n: int, fit: Any) -> dict[str, Any]:
    t, beta = stored["beta"] / stored["standard_error"], stored["beta"]
    theirs, their_beta, error = fit.tvalues[-1], fit.params[-1], fit.bse[-1]
    apart = max(abs(t - theirs), abs(beta - their_beta) / error) / max(1.0, abs(theirs))
    return {
        "variant_id": stored["variant_id"],
        "latent": name,
        "n": stored["n"],
        "n_statsmodels": n,
        "t": t,
        "t_statsmodels": theirs,
        "beta": beta,
        "beta_statsmodels": their_beta,
        "difference": apart if stored["n"] == n else np.inf,
    }


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)

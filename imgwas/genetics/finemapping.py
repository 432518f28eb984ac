"""Credible sets of loci."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.genetics.loci_table import Loci
from imgwas.genetics.refine import Inputs, Study, name_variants, studies
from imgwas.genetics.stepwise import one_by_one
from imgwas.genetics.susie import SusieFit, fit_susie
from imgwas.sumstats import SumStats
from imgwas.types import Covariates, Genotypes, Latents

if TYPE_CHECKING:
    import pandas as pd

SET_COLUMNS = (
    "locus", "latent", "credible_set", "n_variants", "coverage", "purity", "log10_bayes_factor",
    "variant_id", "chromosome", "base_pair_location", "posterior_probability", "has_converged",
)  # fmt: skip
VARIANT_COLUMNS = (
    "locus", "latent", "variant_id", "chromosome", "base_pair_location", "effect_allele",
    "other_allele", "effect_allele_frequency", "beta", "standard_error", "neg_log_10_p_value",
    "posterior_probability", "credible_set",
)  # fmt: skip
#: Variants outside credible sets with less than this are not listed.
_LEAST = 0.01


@dataclass(frozen=True)
class FineMapping:
    """Credible sets, and the posterior probability of variants.

    Parameters
    ----------
    sets : DataFrame
        One row a credible set, with its likeliest variant.
    variants : DataFrame
        One row a variant that is in a set or has probability 0.01 and more; ``credible_set`` is 0
        outside all sets.
    """

    sets: pd.DataFrame
    variants: pd.DataFrame


def fine_map_loci(
    sumstats: SumStats,
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates | None,
    loci: Loci,
    *,
    n_effects: int = 10,
    coverage: float = 0.95,
    purity: float = 0.5,
    flank_kb: float = 250,
    only: Sequence[str] | None = None,
    columns: np.ndarray | None = None,
    progress: Callable[[int], object] | None = None,
) -> FineMapping:
    """Find credible sets of every locus, for every latent that the locus hits, by SuSiE.

    Genotypes, covariates and latents are those of the scan, so that LD and effects come from the
    same people and cannot disagree.

    Parameters
    ----------
    sumstats : SumStats
        Results of the scan.
    genotypes, latents, covariates
        What was scanned.
    loci : Loci
        From :func:`imgwas.find_loci`.
    n_effects : int
        Effects in a locus at most.
    coverage : float
        Posterior probability of a credible set.
    purity : float
        Smallest absolute correlation within a set that is reported.
    flank_kb : float
        Variants this far outside a locus are considered too.
    only : sequence of str, optional
        Only these latents.
    columns : (people,) int array, optional
        Columns of the genotype file that were scanned, where lists of people chose them.
    progress : callable, optional
        Told the number of loci finished.

    Returns
    -------
    FineMapping

    Raises
    ------
    InconsistentError
        If the inputs are not those of the scan.

    References
    ----------
    .. [1] Wang, Sarkar, Carbonetto & Stephens (2020), JRSS B 82:1273.
    """
    import pandas as pd

    check_range("the number of effects", n_effects, low=1)
    check_range("the coverage", coverage, low=0.01, high=0.9999)
    check_range("the purity", purity, low=0, high=1)
    inputs = Inputs(sumstats, genotypes, latents, covariates, columns)
    sets, variants = [], []
    for study in studies(inputs, loci, latents=only, flank_kb=flank_kb, progress=progress):
        fit = fit_susie(study.moments, n_effects=n_effects, coverage=coverage, purity=purity)
        sets.append(_set_rows(genotypes, study, fit))
        variants.append(_variant_rows(genotypes, study, fit))
    empty = (pd.DataFrame({n: [] for n in names}) for names in (SET_COLUMNS, VARIANT_COLUMNS))
    tables = [
        pd.concat(kept, ignore_index=True)[list(none.columns)]
        if (kept := [frame for frame in frames if len(frame)])
        else none
        for frames, none in zip((sets, variants), empty, strict=True)
    ]
    return FineMapping(*tables)


def _set_rows(genotypes: Genotypes, study: Study, fit: SusieFit) -> pd.DataFrame:
    best = [int(one.variants[0]) for one in fit.sets]
    table = name_variants(genotypes, study.moments.rows[best].tolist())
    return table.assign(
        locus=study.locus,
        latent=study.latent,
        credible_set=np.arange(1, len(best) + 1),
        n_variants=[len(one.variants) for one in fit.sets],
        coverage=[one.coverage for one in fit.sets],
        purity=[one.purity for one in fit.sets],
        log10_bayes_factor=[one.log10_bayes_factor for one in fit.sets],
        posterior_probability=fit.pip[best],
        has_converged=fit.has_converged,
    )


def _variant_rows(genotypes: Genotypes, study: Study, fit: SusieFit) -> pd.DataFrame:
    membership = np.zeros(len(fit.pip), np.int64)
    for number, one in reversed(list(enumerate(fit.sets, start=1))):
        membership[one.variants] = number
    chosen = np.flatnonzero((fit.pip >= _LEAST) | (membership > 0))
    effects = one_by_one(study.moments)
    table = name_variants(genotypes, study.moments.rows[chosen].tolist())
    return table.assign(
        locus=study.locus,
        latent=study.latent,
        effect_allele_frequency=study.moments.frequency[chosen],
        beta=effects.beta[chosen],
        standard_error=effects.standard_error[chosen],
        neg_log_10_p_value=effects.neg_log10_p[chosen],
        posterior_probability=fit.pip[chosen],
        credible_set=membership[chosen],
    )

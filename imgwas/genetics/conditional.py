"""Independent signals within loci, by exact stepwise regression on the people of the scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.genetics.loci_table import Loci
from imgwas.genetics.refine import Inputs, Study, name_variants, studies
from imgwas.genetics.stepwise import one_by_one, select, together
from imgwas.sumstats import SumStats
from imgwas.types import Covariates, Genotypes, Latents

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "locus", "latent", "signal", "variant_id", "chromosome", "base_pair_location", "effect_allele",
    "other_allele", "effect_allele_frequency", "n", "beta", "standard_error", "neg_log_10_p_value",
    "conditional_neg_log_10_p_value", "joint_beta", "joint_standard_error",
    "joint_neg_log_10_p_value",
)  # fmt: skip


def condition_loci(
    sumstats: SumStats,
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates | None,
    loci: Loci,
    *,
    p1: float = 5e-8,
    max_r2: float = 0.9,
    flank_kb: float = 250,
    only: Sequence[str] | None = None,
    columns: np.ndarray | None = None,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Find the independent signals of every locus, for every latent that the locus hits.

    Forward selection with backward checks. Each step is an ordinary least-squares regression of
    the latent on covariates, the variants chosen so far and one more, on the people themselves: no
    LD reference, no approximation.

    Parameters
    ----------
    sumstats : SumStats
        Results of the scan.
    genotypes, latents, covariates
        What was scanned. Whether it is, is checked by the digest of the people.
    loci : Loci
        From :func:`imgwas.find_loci`.
    p1 : float
        Largest P of a signal, at its entry given those before, and jointly with all of them.
    max_r2 : float
        A variant is not considered where the chosen ones explain more of it.
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
    DataFrame
        One row a signal: effect by itself (as in the scan), -log10 P at entry, and effect with all
        signals of the locus in one model. ``signal`` counts from 1 in the order of entry.

    Raises
    ------
    InconsistentError
        If the inputs are not those of the scan.

    References
    ----------
    .. [1] Frisch & Waugh (1933), Econometrica 1:387.
    """
    import pandas as pd

    check_range("p1", p1, low=1e-300, high=1)
    check_range("max_r2", max_r2, low=0, high=1)
    inputs = Inputs(sumstats, genotypes, latents, covariates, columns)
    found = studies(inputs, loci, latents=only, flank_kb=flank_kb, progress=progress)
    frames = [_signals(genotypes, study, p1, max_r2) for study in found]
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame({name: [] for name in COLUMNS})
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)]


def _signals(genotypes: Genotypes, study: Study, p1: float, max_r2: float) -> pd.DataFrame:
    moments = study.moments
    signals = select(moments, p1=p1, max_r2=max_r2)
    chosen = [one.index for one in signals]
    table = name_variants(genotypes, moments.rows[chosen].tolist())
    if not chosen:
        return table
    alone, joint = one_by_one(moments), together(moments, chosen)
    columns: dict[str, Any] = {
        "locus": study.locus,
        "latent": study.latent,
        "signal": np.arange(1, len(chosen) + 1),
        "effect_allele_frequency": moments.frequency[chosen],
        "n": moments.n,
        "beta": alone.beta[chosen],
        "standard_error": alone.standard_error[chosen],
        "neg_log_10_p_value": alone.neg_log10_p[chosen],
        "conditional_neg_log_10_p_value": [one.at_entry for one in signals],
        "joint_beta": joint.beta,
        "joint_standard_error": joint.standard_error,
        "joint_neg_log_10_p_value": joint.neg_log10_p,
    }
    return table.assign(**columns)

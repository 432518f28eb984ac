"""Exact test of Hardy-Weinberg equilibrium from genotype counts, for many variants at once.

Given the allele counts, the number of heterozygotes h has the known distribution
``P(h) = n! / (a! h! b!) 2^h (na! nb!) / (2n)!``; P is the sum over every h that is no likelier than
the one observed (Wigginton, Cutler & Abecasis 2005, AJHG 76:887).
"""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float64

#: Likelier by less than this factor counts as equally likely, as rounding would have it.
_TIE = 1e-8


def hardy_weinberg_p_value(
    n_effect_homozygote: np.ndarray, n_heterozygote: np.ndarray, n_other_homozygote: np.ndarray
) -> Float64[np.ndarray, " variants"]:
    """Exact two-sided P value of Hardy-Weinberg equilibrium for each variant.

    Parameters
    ----------
    n_effect_homozygote, n_heterozygote, n_other_homozygote : (variants,) int array
        Genotype counts. Variants without a call get 1.

    Returns
    -------
    (variants,) float64 array
        P values; the mid-P correction is not applied, as in PLINK by default.
    """
    counts = np.stack([n_effect_homozygote, n_heterozygote, n_other_homozygote]).astype(np.int64)
    unique, where = np.unique(counts, axis=1, return_inverse=True)
    values = np.array([_p_value(int(a), int(h), int(b)) for a, h, b in unique.T])
    return values[where.reshape(-1)] if len(values) else np.ones(counts.shape[1])


def _p_value(a: int, h: int, b: int) -> float:
    n_rare = 2 * min(a, b) + h
    n = a + h + b
    if n_rare == 0 or n == 0:
        return 1.0
    from scipy.special import gammaln

    hets = np.arange(n_rare % 2, n_rare + 1, 2, dtype=np.float64)
    rare = (n_rare - hets) / 2
    common = n - hets - rare
    log_p = (
        gammaln(n + 1)
        - gammaln(rare + 1)
        - gammaln(hets + 1)
        - gammaln(common + 1)
        + hets * np.log(2)
        + gammaln(n_rare + 1)
        + gammaln(2 * n - n_rare + 1)
        - gammaln(2 * n + 1)
    )
    observed = log_p[(h - n_rare % 2) // 2]
    return float(min(1.0, np.exp(log_p[log_p <= observed + _TIE]).sum()))

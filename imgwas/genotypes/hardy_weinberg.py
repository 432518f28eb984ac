"""Exact test of Hardy-Weinberg equilibrium from genotype counts, for many variants at once.

Given the allele counts, the number of heterozygotes h has the known distribution
``P(h) = n! / (a! h! b!) 2^h (na! nb!) / (2n)!``; P is the sum over every h that is no likelier than
the one observed (Wigginton, Cutler & Abecasis 2005, AJHG 76:887). P(h) rises to one mode and then
falls, so this is the sum of two tails, each walked outward until nothing is added.
"""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float64

#: Likelier by less than this factor counts as equally likely, as rounding would have it.
_TIE = 1e-8
#: A tail ends where its terms are below this share of its sum.
_NOTHING = 1e-17
#: Variants that walk together, so that they stay in the cache and stop at about the same time.
_TOGETHER = 4096


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
        P values, 0 below the smallest float; the mid-P correction is not applied, as in PLINK by
        default.

    Notes
    -----
    Cost: about nine standard deviations of h, a few times the square root of n, per variant.
    """
    a, h, b = (
        np.asarray(c, np.int64) for c in (n_effect_homozygote, n_heterozygote, n_other_homozygote)
    )
    rare = 2 * np.minimum(a, b) + h
    unique, where = np.unique(np.stack([a + h + b, rare, h]), axis=1, return_inverse=True)
    values = np.empty(unique.shape[1])
    for start in range(0, len(values), _TOGETHER):
        values[start : start + _TOGETHER] = _p_values(*unique[:, start : start + _TOGETHER])
    return np.asarray(values[where.reshape(-1)])


def _p_values(n: np.ndarray, rare: np.ndarray, h: np.ndarray) -> np.ndarray:
    """P values of n people with ``rare`` copies of the rarer allele and h heterozygotes."""
    mode = _mode(n, rare)
    below = h <= mode
    observed = _log_probability(n, rare, h)
    # the other tail, in steps of two away from the mode
    step = np.where(below, 2, -2)
    start = np.where(h == mode, mode + 2, mode)
    n_steps = (np.where(below, rare, rare % 2) - start) // step + 1
    taken = _first_unlikely(n, rare, start, step, n_steps, observed + _TIE)
    exists = taken < n_steps
    other = np.where(exists, start + step * taken, np.where(below, rare, rare % 2))
    far = _log_probability(n, rare, other)
    up, down = np.where(below, other, h), np.where(below, h, other)
    heights = [np.where(below, far, observed), np.where(below, observed, far)]
    tails = [_sum_up(n, rare, up), _sum_down(n, rare, down)]
    has = [exists | ~below, exists | below]
    parts = [np.where(i, np.exp(x) * t, 0.0) for i, x, t in zip(has, heights, tails, strict=True)]
    return np.asarray(np.minimum(1.0, parts[0] + parts[1]))


def _mode(n: np.ndarray, rare: np.ndarray) -> np.ndarray:
    """Smallest possible h after which P(h) no longer rises."""
    # P(h + 2) <= P(h) where (rare - h)(2n - rare - h) <= (h + 1)(h + 2), which is linear in h
    lowest = -((2 - rare * (2 * n - rare)) // (2 * n + 3))
    return np.asarray(np.maximum(lowest + (lowest - rare) % 2, rare % 2))


def _log_probability(n: np.ndarray, rare: np.ndarray, h: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln

    few = (rare - h) // 2
    genotypes = gammaln(n + 1) - gammaln(few + 1) - gammaln(h + 1) - gammaln(n - h - few + 1)
    alleles = gammaln(rare + 1) + gammaln(2 * n - rare + 1) - gammaln(2 * n + 1)
    return np.asarray(genotypes + h * np.log(2) + alleles)


def _first_unlikely(
    n: np.ndarray,
    rare: np.ndarray,
    start: np.ndarray,
    step: np.ndarray,
    n_steps: np.ndarray,
    limit: np.ndarray,
) -> np.ndarray:
    """Steps from ``start`` until log P is at most ``limit``, by bisection; n_steps if never."""
    low, high = np.zeros_like(n_steps), np.maximum(n_steps, 0)
    while (low < high).any():
        middle = (low + high) // 2
        # where the search has ended, ``middle`` may lie outside
        inside = np.minimum(middle, np.maximum(n_steps - 1, 0))
        unlikely = _log_probability(n, rare, start + step * inside) <= limit
        open_ = low < high
        high = np.where(open_ & unlikely, middle, high)
        low = np.where(open_ & ~unlikely, middle + 1, low)
    return low


def _sum_up(n: np.ndarray, rare: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Sum of P(x) / P(h) over x = h, h + 2, ..."""
    x, few, many = h.astype(float), (rare - h).astype(float), (2 * n - rare - h).astype(float)
    term, total = np.ones(len(h)), np.ones(len(h))
    while (term > _NOTHING * total).any():
        term *= few * many / ((x + 1) * (x + 2))
        total += term
        x += 2
        few -= 2
        many -= 2
    return total


def _sum_down(n: np.ndarray, rare: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Sum of P(x) / P(h) over x = h, h - 2, ..."""
    x, few, many = h.astype(float), (rare - h).astype(float), (2 * n - rare - h).astype(float)
    term, total = np.ones(len(h)), np.ones(len(h))
    while (term > _NOTHING * total).any():
        x -= 2
        few += 2
        many += 2
        term *= (x + 1) * (x + 2) / (few * many)
        total += term
    return total

"""False discovery rates and Bonferroni's bound, for P values and for their -log10."""

from __future__ import annotations

import numpy as np

from imgwas.checks import check_range
from imgwas.shapes import Bool, Float64


def benjamini_hochberg(
    neg_log10_p: Float64[np.ndarray, "*families tests"],
) -> Float64[np.ndarray, "*families tests"]:
    """-log10 of the q values of each family: the smallest false discovery rate that calls a test.

    ``q_(i) = min over j >= i of n p_(j) / j``, along the last axis. NaN is no test: it stays NaN
    and does not count.

    References
    ----------
    .. [1] Benjamini & Hochberg (1995), J R Stat Soc B 57:289.
    """
    untested = np.isnan(neg_log10_p)
    values = np.where(untested, -np.inf, neg_log10_p)
    order = np.argsort(-values, axis=-1, kind="stable")
    n_tests = np.maximum((~untested).sum(axis=-1, keepdims=True), 1)
    rank = np.arange(1, values.shape[-1] + 1)
    steps = np.take_along_axis(values, order, axis=-1) + np.log10(rank) - np.log10(n_tests)
    q = np.maximum.accumulate(steps[..., ::-1], axis=-1)[..., ::-1]
    out = np.empty_like(values)
    np.put_along_axis(out, order, np.maximum(q, 0.0), axis=-1)
    out[untested] = np.nan
    return out


def discoveries(
    neg_log10_p: Float64[np.ndarray, "*families tests"], level: float
) -> Bool[np.ndarray, "*families tests"]:
    """Which tests of each family are called at a false discovery rate of ``level``."""
    if level <= 0:
        return np.zeros(neg_log10_p.shape, bool)
    return np.asarray(benjamini_hochberg(neg_log10_p) >= -np.log10(level))


def false_discovery_rates(p: Float64[np.ndarray, " tests"]) -> Float64[np.ndarray, " tests"]:
    """Q values of P values, as :func:`benjamini_hochberg` has them; NaN stays NaN."""
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 ** -benjamini_hochberg(-np.log10(p)))


def bonferroni(
    neg_log10_p: Float64[np.ndarray, " tests"], n_tests: float
) -> Float64[np.ndarray, " tests"]:
    """-log10 of ``min(1, n P)`` for a number of tests that need not be whole."""
    check_range("the number of tests", n_tests, low=1)
    return np.asarray(np.maximum(neg_log10_p - np.log10(n_tests), 0.0))

"""Combinations of P values, on the scale of -log10 P from end to end."""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float64
from imgwas.sumstats.tails import LN10

#: above this -log10 P, cot(pi p) is 1 / (pi p) to the last bit
_TINY = 15.0


def sidak(neg_log10_p: np.ndarray, n_tests: np.ndarray | float) -> Float64[np.ndarray, ...]:
    """-log10 of ``1 - (1 - p)^n``: the smallest of ``n`` independent P values.

    Parameters
    ----------
    neg_log10_p : float array
        Largest -log10 P of the tests.
    n_tests : float or array that broadcasts
        How many tests there were.

    References
    ----------
    .. [1] Sidak (1967), JASA 62:626.
    """
    value = np.asarray(neg_log10_p, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        p = 10.0**-value
        none = n_tests * np.where(p < 0.5, np.log1p(-p), np.log(-np.expm1(-value * LN10)))
        likely = -np.log1p(-np.exp(none)) / LN10
        unlikely = -np.log(-np.expm1(none)) / LN10
        found = np.where(none > -np.log(2), unlikely, likely)
    found = np.where(value > _TINY, value - np.log10(n_tests), found)
    return np.asarray(np.where(np.isnan(value), np.nan, np.maximum(found, 0.0)))


def acat(neg_log10_p: Float64[np.ndarray, "variants tests"]) -> Float64[np.ndarray, " variants"]:
    """-log10 P of the aggregated Cauchy association test over the columns.

    ``T = mean(tan(pi (1/2 - p)))`` is close to standard Cauchy in its tail, whatever the
    correlation. NaN where any column is.

    Notes
    -----
    ``tan(pi (1/2 - p))`` is ``1 / (pi p)`` for small p. Terms are summed in units of the largest,
    so that 1e-1000 stays exact.

    References
    ----------
    .. [1] Liu & Xie (2020), JASA 115:393.
    """
    values = np.asarray(neg_log10_p, np.float64)
    scale = np.maximum(values.max(axis=1, keepdims=True), _TINY)  # NaN stays NaN
    with np.errstate(divide="ignore", invalid="ignore", under="ignore", over="ignore"):
        p, rest = 10.0**-values, -np.expm1(-values * LN10)
        rest = np.maximum(rest, 1e-16)  # a P of exactly one would be minus infinity
        moderate = np.where(p < 0.5, 1 / np.tan(np.pi * p), -1 / np.tan(np.pi * rest))
        small = 10.0 ** (values - scale) / np.pi
        terms = np.where(values > _TINY, small, moderate * 10.0**-scale)
        mean = terms.mean(axis=1)
        large = scale[:, 0] + np.log10(np.pi * mean)
        plain = -np.log10(0.5 - np.arctan(mean * 10.0 ** scale[:, 0]) / np.pi)
    far = (mean > 0) & (large > _TINY)
    found = np.where(far, large, _cauchy_tail(mean, scale[:, 0], plain))
    return np.where(np.isnan(values).any(axis=1), np.nan, found)


def _cauchy_tail(mean: np.ndarray, scale: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """-log10 of the upper tail of a Cauchy variable of moderate size, without cancellation."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        t = mean * 10.0**scale
        upper = -np.log10(np.arctan(1 / t) / np.pi)
        # t very negative: P is one less arctan(-1/t) / pi
        lower = -np.log1p(-np.arctan(-1 / t) / np.pi) / LN10
    return np.where(t > 1, upper, np.where(t < -1, lower, plain)) + 0.0


def twice_the_smaller(one: np.ndarray, other: np.ndarray) -> Float64[np.ndarray, ...]:
    """-log10 of ``2 min(p, q)``, at most one: valid whatever the two have in common."""
    return np.asarray(np.maximum(np.maximum(one, other) - np.log10(2), 0.0))

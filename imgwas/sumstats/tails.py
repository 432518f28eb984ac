"""-log10 P of F and chi-square statistics, far past where a P value underflows.

Where P is an ordinary number scipy computes it, its complement where P is near one; beyond, a
continued fraction is evaluated and its leading factor kept as a logarithm.
"""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float64

LN10 = float(np.log(10.0))
#: P below this is left to the continued fractions
_SMALLEST = 1e-250


def neg_log10_p_value_f(
    f: np.ndarray | float, dof1: np.ndarray | float, dof2: np.ndarray | float
) -> Float64[np.ndarray, ...]:
    """Upper-tail -log10 P of an F statistic.

    Parameters
    ----------
    f : float array
        Statistics; NaN stays NaN.
    dof1, dof2 : float or arrays that broadcast
        Degrees of freedom; NaN comes back where either is not positive.

    Returns
    -------
    float64 array of the broadcast shape
        Relative error below 1e-10 to P = 1e-1000 (under test against mpmath).

    References
    ----------
    .. [1] Abramowitz & Stegun (1964), Handbook of Mathematical Functions, 26.5.8 and 26.6.2.
    """
    shape, (f, dof1, dof2) = _flat(f, dof1, dof2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.maximum(f, 0) * dof1 / dof2
        log_x = -np.log1p(ratio)
        found = neg_log10_incomplete_beta(dof2 / 2, dof1 / 2, log_x, np.log(ratio) + log_x)
    return np.where((dof1 > 0) & (dof2 > 0), found, np.nan).reshape(shape)


def neg_log10_p_r2(
    r2: np.ndarray | float, n_terms: np.ndarray | float, dof: np.ndarray | float
) -> Float64[np.ndarray, ...]:
    """-log10 P of a squared multiple correlation of ``n_terms`` terms, ``dof`` left over.

    The F test of ``F = (r2 / n_terms) / ((1 - r2) / dof)``.
    """
    shape, (r2, terms, left) = _flat(r2, n_terms, dof)
    r2 = np.clip(r2, 0, 1 - np.finfo(np.float64).eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = neg_log10_incomplete_beta(left / 2, terms / 2, np.log1p(-r2), np.log(r2))
    return np.where((terms > 0) & (left > 0), found, np.nan).reshape(shape)


def _flat(*values: np.ndarray | float) -> tuple[tuple[int, ...], list[np.ndarray]]:
    """Broadcast to one shape; the shape and the arrays in one dimension."""
    arrays = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in values))
    return arrays[0].shape, [array.reshape(-1) for array in arrays]


def neg_log10_p_value_chi2(
    x: np.ndarray | float, dof: np.ndarray | float
) -> Float64[np.ndarray, ...]:
    """Upper-tail -log10 P of a chi-square statistic, degrees of freedom not necessarily whole.

    References
    ----------
    .. [1] Abramowitz & Stegun (1964), 26.4.19 and 6.5.31.
    """
    from scipy.special import gammainc, gammaincc

    shape, (x, dof) = _flat(x, dof)
    a, half = dof / 2, np.maximum(x, 0) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        p = gammaincc(a, half)
        found = np.where(p > 0.5, -np.log1p(-gammainc(a, half)), -np.log(p)) / LN10
        far = (p < _SMALLEST) & np.isfinite(half) & (a > 0)
        if far.any():
            found[far] = _gamma_tail(a[far], half[far])
    found = np.where(np.isposinf(half), np.inf, found)
    return np.where((dof > 0) & ~np.isnan(x), found + 0.0, np.nan).reshape(shape)


def _gamma_tail(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """-log10 of Q(a, x) for x well above a, Legendre's fraction by Lentz's method."""
    from scipy.special import gammaln

    b = x + 1 - a
    c = np.full_like(x, 1e300)
    d = 1 / b
    h = d.copy()
    for i in range(1, 1000):
        term = -i * (i - a)
        b = b + 2
        d = 1 / (term * d + b)
        c = b + term / c
        step = c * d
        h = h * step
        if np.all(np.abs(step - 1) <= 1e-15):
            break
    return np.asarray(-(a * np.log(x) - x - gammaln(a) + np.log(h)) / LN10)


def neg_log10_incomplete_beta(
    a: np.ndarray, b: np.ndarray, log_x: np.ndarray, log_y: np.ndarray
) -> Float64[np.ndarray, ...]:
    """-log10 of I_x(a, b), given log x and log(1 - x), also where x itself underflows."""
    from scipy.special import betainc

    a, b, log_x, log_y = np.broadcast_arrays(a, b, log_x, log_y)
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        p = betainc(a, b, np.exp(log_x))
        found = np.asarray(-np.log(p) / LN10)
        near = p > 0.5  # take the complement there
        found[near] = -np.log1p(-betainc(b[near], a[near], np.exp(log_y[near]))) / LN10
        far = (p < _SMALLEST) & (a > 0) & (b > 0) & np.isfinite(log_x)
        if far.any():
            found[far] = _beta_tail(a[far], b[far], log_x[far], log_y[far])
    return np.where(np.isneginf(log_x), np.inf, np.asarray(found + 0.0))


def _beta_tail(a: np.ndarray, b: np.ndarray, log_x: np.ndarray, log_y: np.ndarray) -> np.ndarray:
    from scipy.special import betaln

    front = a * log_x + b * log_y - np.log(a) - betaln(a, b)
    return np.asarray(-(front + np.log(continued_fraction(a, b, np.exp(log_x)))) / LN10)


def continued_fraction(a: np.ndarray, b: np.ndarray | float, x: np.ndarray) -> np.ndarray:
    """Evaluate Abramowitz & Stegun 26.5.8 front to back; fast for x < (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c = np.ones_like(x)
    d = 1 - (a + b) * x / (a + 1)
    d = 1 / np.where(np.abs(d) < tiny, tiny, d)
    h = d.copy()
    for m in range(1, 500):
        before = h
        for step in _coefficients(a, b, x, m):
            d = 1 + step * d
            d = 1 / np.where(np.abs(d) < tiny, tiny, d)
            c = 1 + step / c
            c = np.where(np.abs(c) < tiny, tiny, c)
            h = h * d * c
        if np.all(np.abs(h - before) <= 1e-15 * np.abs(h)):
            break
    return h


def _coefficients(
    a: np.ndarray, b: np.ndarray | float, x: np.ndarray, m: int
) -> tuple[np.ndarray, np.ndarray]:
    even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return even, odd

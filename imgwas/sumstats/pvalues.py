"""-log10 P of t statistics, far past where a P value underflows.

``P = I_x(dof/2, 1/2)`` with ``x = dof / (dof + t^2)``. Where P is an ordinary number scipy computes
it; beyond, the incomplete beta function's continued fraction is evaluated and its leading factor is
kept as a logarithm, so that nothing underflows.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

_LN10 = np.log(10.0)
#: P below this is left to the continued fraction.
_SMALLEST = 1e-250
_BLOCK = 1 << 20


def neg_log10_p_value(t: np.ndarray, dof: np.ndarray | float) -> Float64[np.ndarray, ...]:
    """Two-sided -log10 P of Student's t.

    Parameters
    ----------
    t : float array
        Statistics; NaN stays NaN.
    dof : float or array that broadcasts
        Degrees of freedom, at least 1.

    Returns
    -------
    float64 array of the broadcast shape

    Examples
    --------
    >>> float(neg_log10_p_value(40.0, 4978).round(3))
    301.907
    """
    t, dof = np.broadcast_arrays(np.asarray(t, np.float64), np.asarray(dof, np.float64))
    flat_t, flat_dof = t.reshape(-1), dof.reshape(-1)
    out = np.empty(flat_t.shape)
    for start in range(0, len(flat_t), _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block] = _neg_log10_p(np.abs(flat_t[block]), flat_dof[block])
    return out.reshape(t.shape)


def _neg_log10_p(t: np.ndarray, dof: np.ndarray) -> np.ndarray:
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        p = 2 * stdtr(dof, -t)
        out = -np.log10(p)
        far = (p < _SMALLEST) & np.isfinite(t) & (dof >= 1)
        if far.any():
            out[far] = _tail(t[far], dof[far])
        out[np.isinf(t)] = np.inf
        out[dof < 1] = np.nan
    return out + 0.0


def _tail(t: np.ndarray, dof: np.ndarray) -> np.ndarray:
    """-log10 of I_x(a, 1/2) by the continued fraction of Numerical Recipes, section 6.4."""
    from scipy.special import gammaln

    a = dof / 2
    ratio = t * t / dof
    log_x = -np.log1p(ratio)
    x = 1 / (1 + ratio)
    log_y = np.where(ratio > 1, -np.log1p(1 / ratio), np.log(ratio) - np.log1p(ratio))
    log_beta = gammaln(a) + gammaln(0.5) - gammaln(a + 0.5)
    log_beta = np.where(a > 1e4, _log_beta_half(a), log_beta)
    front = a * log_x + 0.5 * log_y - np.log(a) - log_beta
    return np.asarray(-(front + np.log(_continued_fraction(a, 0.5, x))) / _LN10)


def _log_beta_half(a: np.ndarray) -> np.ndarray:
    """Log B(a, 1/2) for large a, by Stirling's series for the ratio of gamma functions."""
    inverse = 1 / a
    series = inverse / 8 - inverse**3 / 192 + inverse**5 / 640
    return np.asarray(0.5 * np.log(np.pi) - 0.5 * np.log(a) + series)


def _continued_fraction(a: np.ndarray, b: float, x: np.ndarray) -> np.ndarray:
    """Lentz's method; converges fast for x below (a + 1) / (a + b + 2)."""
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


def _coefficients(a: np.ndarray, b: float, x: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
    odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return even, odd


def t_from_neg_log10_p(neg_log10_p: float, dof: float) -> float:
    """Invert :func:`neg_log10_p_value`: the t that has this two-sided -log10 P."""
    low, high = 0.0, 1.0
    while float(neg_log10_p_value(np.array(high), dof)) < neg_log10_p:
        high *= 2
        if high > 1e150:
            return np.inf
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if float(neg_log10_p_value(np.array(middle), dof)) < neg_log10_p:
            low = middle
        else:
            high = middle
    return high


def p_value_text(neg_log10_p: np.ndarray) -> list[str]:
    """Write P values as text that keeps its exponent below the smallest double: ``3.2e-412``."""
    values = np.asarray(neg_log10_p, np.float64)
    exponent = np.floor(-values)
    mantissa = np.round(10.0 ** (-values - exponent), 6)
    carried = mantissa >= 10
    mantissa = np.where(carried, mantissa / 10, mantissa)
    exponent = np.where(carried, exponent + 1, exponent)
    return [
        "NA" if not np.isfinite(m) else f"{m:.6g}e{int(e):+03d}" if e < 0 else f"{m:.6g}"
        for m, e in zip(mantissa.tolist(), exponent.tolist(), strict=True)
    ]

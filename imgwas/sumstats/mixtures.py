"""The upper tail of a weighted sum of chi-square variables, by saddlepoint."""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float64
from imgwas.sumstats.tails import LN10, neg_log10_p_value_chi2


def neg_log10_p_mixture(
    x: Float64[np.ndarray, " variants"], weights: Float64[np.ndarray, " terms"]
) -> Float64[np.ndarray, " variants"]:
    """Upper-tail -log10 P of ``sum_k w_k chi2_1``.

    The distribution of ``t' ((1 - d) R + d I)^-1 t`` where ``t`` has correlation R: its weights are
    ``v / ((1 - d) v + d)`` of the eigenvalues v.

    Parameters
    ----------
    x : (variants,) array
        Statistics; NaN stays NaN.
    weights : (terms,) array
        Positive. Equal weights give the exact chi-square.

    Notes
    -----
    Lugannani-Rice in Barndorff-Nielsen's form; P is off by a few per cent at most (under test), as
    far out as it goes. Near the mean, where that form is 0 / 0, a chi-square of the same mean and
    variance is used.

    References
    ----------
    .. [1] Kuonen (1999), Biometrika 86:929.
    """
    from scipy.special import log_ndtr

    x, weights = np.asarray(x, np.float64), np.asarray(weights, np.float64)
    if np.ptp(weights) <= 1e-12 * weights.max():
        return neg_log10_p_value_chi2(x / weights[0], len(weights))
    mean, variance = weights.sum(), 2 * np.square(weights).sum()
    at = _saddlepoint(x, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = 1 - 2 * at[:, None] * weights
        cumulant = -0.5 * np.log(left).sum(axis=1)
        curvature = 2 * np.square(weights / left).sum(axis=1)
        w = np.sign(at) * np.sqrt(np.maximum(2 * (at * x - cumulant), 0))
        v = at * np.sqrt(curvature)
        found = -log_ndtr(-(w + np.log(v / w) / w)) / LN10
    near = np.abs(x - mean) < 1e-3 * np.sqrt(variance)
    satterthwaite = neg_log10_p_value_chi2(x * 2 * mean / variance, 2 * mean**2 / variance)
    return np.where(np.isnan(x), np.nan, np.where(near | np.isnan(found), satterthwaite, found))


def _saddlepoint(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Solve ``sum w / (1 - 2 s w) = x`` for s.

    With ``u = 1 - 2 s max(w)`` the solution lies between ``max(w) / x`` and ``k max(w) / x``.
    """
    top = weights.max()
    share = weights / top
    low = np.log(top / np.where(x > 0, x, 1e-12 * top))  # NaN too; the caller puts it back
    high = low + np.log(len(weights))
    for _ in range(48):
        u = np.exp((low + high) / 2)
        slope = (weights / (1 - share * (1 - u[:, None]))).sum(axis=1)
        above = slope > x  # u is too small
        low, high = np.where(above, np.log(u), low), np.where(above, high, np.log(u))
    return np.asarray((1 - np.exp((low + high) / 2)) / (2 * top))

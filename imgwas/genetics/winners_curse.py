"""Effects that were selected for being large, corrected for that."""

from __future__ import annotations

import numpy as np

from imgwas.checks import check_range
from imgwas.shapes import Float64


def conditional_mean(
    z: Float64[np.ndarray, " tests"], threshold: float
) -> Float64[np.ndarray, " tests"]:
    """Most likely mean of a normal statistic of which it is known that it passed a threshold.

    Maximises ``phi(z - m) / (Phi(m - c) + Phi(-m - c))`` over m, for ``|z| >= c``. A statistic far
    beyond the threshold is left as it is; one just beyond it shrinks towards zero. Statistics that
    did not pass were not selected, and stay.

    Parameters
    ----------
    z : (tests,) array
        Statistics with standard error one.
    threshold : float
        ``c``.

    References
    ----------
    .. [1] Zhong & Prentice (2008), Biostatistics 9:621.
    """
    from scipy.special import log_ndtr

    check_range("threshold", threshold, low=0)
    size = np.abs(z)
    low, high = np.zeros_like(size), size.copy()
    for _ in range(60):
        m = (low + high) / 2
        # the slope of the log of the chance to pass, every term as a logarithm
        passed = np.logaddexp(log_ndtr(m - threshold), log_ndtr(-m - threshold))
        slope = np.exp(_log_density(m - threshold) - passed)
        slope -= np.exp(_log_density(m + threshold) - passed)
        rises = size - m - slope > 0
        low, high = np.where(rises, m, low), np.where(rises, high, m)
    return np.asarray(np.sign(z) * np.where(size >= threshold, (low + high) / 2, size))


def prior_variance(z: Float64[np.ndarray, " tests"], threshold: float) -> float:
    """Variance of the true means behind statistics of which only the large ones are seen.

    With means ``m ~ N(0, v)`` the statistics that pass are ``N(0, 1 + v)`` beyond the threshold;
    ``v`` maximises their likelihood.

    Parameters
    ----------
    z : (tests,) array
        Selected statistics with standard error one.
    threshold : float
        Beyond which they were selected.

    References
    ----------
    .. [1] Palmer & Pe'er (2017), PLoS Genet 13:e1006916.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_ndtr

    size = np.abs(z)
    size = size[size >= threshold]
    if not len(size):
        return 0.0

    def loss(log_variance: float) -> float:
        sd = np.sqrt(1 + np.exp(log_variance))
        passed = log_ndtr(-threshold / sd) + np.log(2)
        return float(-(_log_density(size / sd) - np.log(sd) - passed).sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-8, 12), method="bounded").x))


def replication_power(
    z: Float64[np.ndarray, " tests"],
    ratio: Float64[np.ndarray, " tests"],
    variance: float,
    alpha: float,
) -> Float64[np.ndarray, " tests"]:
    """Chance that a one-sided P of another study, in the direction of z, is below alpha.

    The mean given z is ``N(z v / (1 + v), v / (1 + v))``, selected or not; the chance is averaged
    over it, not taken at one value.

    Parameters
    ----------
    z : (tests,) array
        Statistics of the first study.
    ratio : (tests,) array
        Standard error of the first study over that of the other.
    variance : float
        ``v``, from :func:`prior_variance`.
    alpha : float
        Level, one-sided; 0.5 asks for the sign alone.
    """
    from scipy.special import ndtr, ndtri

    share = variance / (1 + variance)
    spread = np.sqrt(1 + share * ratio**2)
    return np.asarray(ndtr((np.abs(z) * share * ratio - ndtri(1 - alpha)) / spread))


def _log_density(x: np.ndarray) -> np.ndarray:
    return np.asarray(-0.5 * x * x - 0.5 * np.log(2 * np.pi))

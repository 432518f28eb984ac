"""MOSTest, from the formulas of its paper, for comparison.

Its statistic is ``z' C^-1 z`` with C the correlation of z over variants after genotypes were
permuted, small eigenvalues raised, and its null a gamma distribution fitted to the permuted
variants' own statistics. The smallest P over latents has a beta distribution fitted the same way.
Where K^2 is not small against the number of permuted variants, the gamma null is too light, because
C was estimated on the very z that it then standardises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, explain
from imgwas.shapes import Float64
from imgwas.sumstats.tails import (
    LN10,
    neg_log10_incomplete_beta,
    neg_log10_p_value_chi2,
)

if TYPE_CHECKING:
    import pandas as pd


def mostest(
    z: Float64[np.ndarray, "variants latents"],
    z_permuted: Float64[np.ndarray, "others others_latents"],
    *,
    eig_keep: int = 0,
) -> pd.DataFrame:
    """Test variants against all latents by MOSTest and by its smallest P value.

    Parameters
    ----------
    z : (variants, latents) array
        t statistics of the scan.
    z_permuted : (others, latents) array
        The same after permutation, such as those of a scan of ``permute_latents``.
    eig_keep : int
        Eigenvalues of C smaller than this number of largest ones are raised to the last of them;
        0 raises none.

    Returns
    -------
    DataFrame
        ``most`` and ``minp``, -log10 P of each variant.

    References
    ----------
    .. [1] van der Meer et al. (2020), Nature Communications 11:3512.
    """
    if z.shape[1] != z_permuted.shape[1]:
        raise InconsistentError(
            explain(f"z has {z.shape[1]:,} latents and z_permuted {z_permuted.shape[1]:,}")
        )
    check_range("eig_keep", eig_keep, low=0, high=z.shape[1], unit="eigenvalues")
    return _frame(
        most=_gamma_null(*_statistics(z, z_permuted, eig_keep)),
        minp=_beta_null(_smallest(z), _smallest(z_permuted)),
    )


def _frame(**columns: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _statistics(
    z: np.ndarray, z_permuted: np.ndarray, eig_keep: int
) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(np.corrcoef(z_permuted, rowvar=False))
    if eig_keep:
        values = np.maximum(values, values[-eig_keep])
    weights = vectors / np.sqrt(np.maximum(values, 1e-12))
    return np.square(z @ weights).sum(axis=1), np.square(z_permuted @ weights).sum(axis=1)


def _gamma_null(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Upper tail of the gamma distribution of largest likelihood for ``null``."""
    from scipy.optimize import brentq
    from scipy.special import digamma

    gap = np.log(null.mean()) - np.log(null).mean()
    shape = brentq(lambda a: np.log(a) - digamma(a) - gap, 1e-3, 1e9)
    return neg_log10_p_value_chi2(2 * observed * shape / null.mean(), 2 * shape)


def _smallest(z: np.ndarray) -> np.ndarray:
    """Log of the smallest two-sided normal P."""
    from scipy.special import log_ndtr

    return np.asarray(log_ndtr(-np.abs(z).max(axis=1)) + np.log(2))


def _beta_null(log_p: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Lower tail of the beta distribution of largest likelihood for the smallest P values."""
    from scipy.stats import beta

    a, b, _, _ = beta.fit(np.exp(null), floc=0, fscale=1)
    with np.errstate(divide="ignore"):
        log_rest = np.log(-np.expm1(np.minimum(log_p, 0)))
    shape = log_p.shape
    found = neg_log10_incomplete_beta(np.full(shape, a), np.full(shape, b), log_p, log_rest)
    return np.where(log_p * a < -700 * LN10, np.maximum(found, 0), found)

"""Many tests at once: permuted maxima under Freedman and Lane.

The permutation shuffles what covariates leave of the latents, the same way for all latents and all
traits, so that the correlations among latents and among traits stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, explain
from imgwas.shapes import Float64

#: Statistics this close are equal: both are sums in another order.
_SAME = 1e-9


def max_t(
    scores: Float64[np.ndarray, "samples traits"],
    exposures: Float64[np.ndarray, "samples latents"],
    *,
    n_permutations: int = 1000,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Float64[np.ndarray, "traits latents"]:
    """P values adjusted for all traits and latents by the step-down maximum of permuted statistics.

    The statistic of trait p and latent k is ``|u_p' x_k| sqrt(n) / (|u_p| |x_k|)``. Here ``u_p`` is
    the residual of the trait's null model (least squares: ``y - fitted``; logistic: ``y - p``; Cox:
    the martingale residual), zero for people without the trait, so that ``u'[1 C] = 0``; and
    ``x_k`` is the residual of the latent after the covariates. Freedman and Lane's permutation adds
    permuted residuals of x to its fitted values; the fitted values vanish in ``u'x``, so permuting
    ``x`` is the same.

    Parameters
    ----------
    scores : (samples, traits) array
        ``u``, columns orthogonal to the covariates.
    exposures : (samples, latents) array
        ``x``, residuals, nothing missing.
    n_permutations : int, default 1000
        B. No P is below ``1 / (B + 1)``.
    seed : int
        Of the permutations.
    progress : callable, optional
        Called with 1 after each permutation.

    Returns
    -------
    (traits, latents) float array
        ``(1 + b) / (B + 1)`` with b the number of permutations whose maximum over the tests that
        rank no better reaches the observed statistic, made monotone; NaN where a column is zero.

    References
    ----------
    .. [1] Westfall & Young (1993), Resampling-Based Multiple Testing, algorithm 4.1.
    .. [2] Freedman & Lane (1983), J Bus Econ Stat 1:292.
    .. [3] Phipson & Smyth (2010), Stat Appl Genet Mol Biol 9:39.
    """
    if len(scores) != len(exposures):
        raise InconsistentError(explain(f"{len(scores):,} and {len(exposures):,} people differ"))
    check_range("n_permutations", n_permutations, low=1)
    u, x = _unit(scores), _unit(exposures)
    observed = np.abs(u.T @ x)
    tested = np.isfinite(observed).ravel()
    u, x = np.nan_to_num(u), np.nan_to_num(x)
    order = np.argsort(-np.where(tested, observed.ravel(), -1), kind="stable")[: int(tested.sum())]
    sorted_observed = observed.ravel()[order]
    count = np.zeros(len(order), np.int64)
    rng = np.random.default_rng(seed)
    transposed = np.ascontiguousarray(u.T)
    for _ in range(n_permutations):
        permuted = np.abs(transposed @ x[rng.permutation(len(x))]).ravel()[order]
        successive = np.maximum.accumulate(permuted[::-1])[::-1]
        count += successive >= sorted_observed - _SAME
        if progress is not None:
            progress(1)
    adjusted = np.maximum.accumulate((1 + count) / (n_permutations + 1))
    out = np.full(observed.size, np.nan)
    out[order] = adjusted
    return out.reshape(observed.shape)


def _unit(values: np.ndarray) -> np.ndarray:
    """Columns of length one; NaN where nothing is left of a column."""
    length = np.sqrt(np.square(values).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(length > 1e-12, values / length, np.nan))

"""Rank-based normal scores and quantile normalisation, column by column, missing stays missing."""

from __future__ import annotations

import numpy as np

from imgwas.checks import check_finite, check_option, check_range
from imgwas.errors import TooFewSamplesError, UsageError, explain
from imgwas.shapes import Bool, Float, Float64

#: c of Blom's plotting position (rank - c) / (n - 2c + 1).
BLOM = 0.375


def rank_normalize(
    values: Float[np.ndarray, "samples latents"], *, offset: float = BLOM
) -> Float64[np.ndarray, "samples latents"]:
    """Replace each column by its rank-based inverse normal transform.

    ``z_i = Phi^-1((rank_i - c) / (n - 2c + 1))`` with Blom's c = 3/8; ties share their mean rank
    and NaN stays NaN.

    Parameters
    ----------
    values : (samples, latents) float array
        NaN is missing.
    offset : float, default 0.375
        c of the formula, from 0 to below 1.

    Returns
    -------
    (samples, latents) float array
        Standard normal scores; 0 for a single value, NaN for a column without values.

    Raises
    ------
    DegenerateError
        If a value is infinite.
    UsageError
        If the offset would send the first or last rank to infinity.

    References
    ----------
    .. [1] Blom (1958), Statistical Estimates and Transformed Beta-Variables.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    check_range("offset", offset, low=0, high=0.999)
    check_finite("the latents", values)
    if not len(values):
        return np.empty(values.shape)
    ranks = rankdata(values, axis=0, nan_policy="omit")
    n = np.isfinite(values).sum(axis=0)
    return np.asarray(ndtri((ranks - offset) / (n - 2 * offset + 1)), np.float64)


def quantile_normalize(
    values: Float[np.ndarray, "samples latents"],
    *,
    target: str = "normal",
    fit: Bool[np.ndarray, " rows"] | None = None,
) -> Float64[np.ndarray, "samples latents"]:
    """Give every column the distribution of the target, learned from some of the rows.

    Each value is placed among the sorted values of the fitted rows (ties share their mean rank,
    values between two others lie linearly between their ranks, values beyond either end take the
    end) and replaced by the target's quantile there.

    Parameters
    ----------
    values : (samples, latents) float array
        NaN is missing and stays missing.
    target : {"normal", "common"}
        ``"normal"``: the standard normal, ``Phi^-1((rank - 3/8) / (n + 1/4))``; on the fitted rows
        this is :func:`rank_normalize`. ``"common"``: one distribution for all columns, the mean of
        their quantiles [1]_.
    fit : (rows,) bool array, optional
        Rows that the distribution is learned from; all by default.

    Returns
    -------
    (samples, latents) float array
        NaN also for columns without a value in the fitted rows.

    Raises
    ------
    DegenerateError
        If a value is infinite.
    TooFewSamplesError
        If the common distribution is asked for and a column has fewer than two fitted values.

    References
    ----------
    .. [1] Bolstad et al. (2003), Bioinformatics 19:185.
    """
    check_option("target", target, ["normal", "common"])
    check_finite("the latents", values)
    rows = fitted_rows(fit, len(values))
    references = [np.sort(column[np.isfinite(column)]) for column in values[rows].T]
    ranks = [_ranks(c, reference) for c, reference in zip(values.T, references, strict=True)]
    if target == "common":
        return _common(ranks, references, values.shape)
    from scipy.special import ndtri

    found = np.empty(values.shape)
    for index, (rank, reference) in enumerate(zip(ranks, references, strict=True)):
        found[:, index] = ndtri((rank - BLOM) / (len(reference) - 2 * BLOM + 1))
    return found


def fitted_rows(fit: np.ndarray | None, n: int) -> np.ndarray:
    """Rows that something is fitted on: a bool array, all by default."""
    if fit is None:
        return np.ones(n, bool)
    if fit.shape != (n,):
        raise UsageError(explain(f"fit has shape {fit.shape}", expected=f"({n},), one per row"))
    return fit


def _ranks(column: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rank (1 to n) of each value among the reference, mean over ties, linear in between."""
    if not len(reference):
        return np.full(len(column), np.nan)
    distinct, counts = np.unique(reference, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return np.interp(column, distinct, mean_rank)


def _common(
    ranks: list[np.ndarray], references: list[np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Mean of all columns' quantiles, read at each value's place."""
    short = min((len(reference) for reference in references), default=2)
    if short < 2:
        raise TooFewSamplesError(
            explain(
                f"a latent has {short} values in the fitted rows",
                expected="At least two are needed for a common distribution",
                do="Leave that latent out, or use the target 'normal'",
            )
        )
    places = np.linspace(0, 1, max(map(len, references), default=2))
    quantiles = np.zeros(len(places))
    for reference in references:
        own = np.linspace(0, 1, len(reference))
        quantiles += np.interp(places, own, reference) / len(references)
    found = np.empty(shape)
    for index, (rank, reference) in enumerate(zip(ranks, references, strict=True)):
        found[:, index] = np.interp((rank - 1) / (len(reference) - 1), places, quantiles)
    return found

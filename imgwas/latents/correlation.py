"""Correlation with missing values, its eigen-spectrum, the effective number of latents."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import DegenerateError, explain
from imgwas.latents.basis import CONSTANT
from imgwas.shapes import Float, Float64
from imgwas.types import Latents

logger = logging.getLogger(__name__)

#: Fewer people than this who have both latents give no correlation.
FEWEST = 3
GENOME_WIDE = 5e-8


def latent_correlation(latents: Latents) -> Float64[np.ndarray, "latents latents"]:
    """Pearson correlation of each pair of latents among the people who have both.

    Returns
    -------
    (latents, latents) float array
        Symmetric, diagonal 1; NaN where a latent is constant or fewer than three people have both.
    """
    return correlate(latents.values, latents.values)


def correlate(
    first: Float[np.ndarray, "samples first"], second: Float[np.ndarray, "samples second"]
) -> Float64[np.ndarray, "first second"]:
    """Pearson correlation of the columns of two arrays, pair by pair on the rows both have.

    Parameters
    ----------
    first, second : (samples, columns) float array
        Rows are the same people; NaN is missing.

    Returns
    -------
    (first, second) float array
        NaN where a column is constant among the shared rows, or these are fewer than three.

    Notes
    -----
    Five matrix products, whatever the pattern of missing values.
    """
    a, has_a = _filled(first)
    b, has_b = _filled(second)
    n = has_a.T @ has_b
    sum_a, sum_b = a.T @ has_b, has_a.T @ b
    with np.errstate(invalid="ignore", divide="ignore"):
        var_a = np.square(a).T @ has_b - sum_a**2 / n
        var_b = has_a.T @ np.square(b) - sum_b**2 / n
        together = a.T @ b - sum_a * sum_b / n
        r = together / np.sqrt(np.maximum(var_a, 0) * np.maximum(var_b, 0))
    lost = (n < FEWEST) | ~(var_a > CONSTANT * n) | ~(var_b > CONSTANT * n)
    r = np.where(lost, np.nan, np.clip(r, -1, 1))
    if first is second:
        r = (r + r.T) / 2
        np.fill_diagonal(r, np.where(np.isnan(np.diag(r)), np.nan, 1.0))
    return np.asarray(r, np.float64)


def _filled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardised columns with zeros for missing values, and where values are."""
    has = np.isfinite(values)
    n = np.maximum(has.sum(axis=0), 1)
    filled = np.where(has, values, 0.0)
    largest = np.abs(filled).max(axis=0, initial=0.0)
    filled = filled / np.where(largest > 0, largest, 1.0)
    filled = np.where(has, filled - filled.sum(axis=0) / n, 0.0)
    sd = np.sqrt(np.square(filled).sum(axis=0) / n)
    filled /= np.where(sd > CONSTANT, sd, np.inf)
    return filled, has.astype(np.float64)


@dataclass(frozen=True)
class EigenSpectrum:
    """Eigenvalues of the correlation matrix of latents.

    Parameters
    ----------
    eigenvalues : (latents,) float array
        Decreasing. They sum to the number of latents.
    names : tuple of str
        Latents that took part.
    left_out : tuple of str
        Constant latents, which have no correlation.
    """

    eigenvalues: Float64[np.ndarray, " latents"]
    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"EigenSpectrum({len(self.names)} latents, {self.effective_number():.1f} effective)"

    def effective_number(self, method: str = "li-ji") -> float:
        """How many independent latents there are, for a threshold on P.

        Parameters
        ----------
        method : {"li-ji", "cheverud", "galwey"}
            Li and Ji [1]_: ``sum(1[x >= 1] + x - floor(x))`` over the absolute eigenvalues.
            Cheverud, as written by Nyholt [2]_: ``1 + (M - 1)(1 - Var(x) / M)``, variance over
            M - 1. Galwey [3]_: ``sum(sqrt x)^2 / sum x``.

        Returns
        -------
        float
            From 1 (all latents alike) to M (none correlated).

        References
        ----------
        .. [1] Li & Ji (2005), Heredity 95:221.
        .. [2] Nyholt (2004), Am J Hum Genet 74:765, after Cheverud (2001), Heredity 87:52.
        .. [3] Galwey (2009), Genet Epidemiol 33:559.
        """
        check_option("method", method, ["li-ji", "cheverud", "galwey"])
        # the sum of a step function of eigenvalues: rounding must not carry one across a step
        values = np.abs(np.round(self.eigenvalues, 9))
        m = len(values)
        if method == "li-ji":
            return float(((values >= 1) + values - np.floor(values)).sum())
        if method == "galwey":
            return float(np.sqrt(values).sum() ** 2 / values.sum())
        return 1 + (m - 1) * (1 - float(values.var(ddof=1)) / m) if m > 1 else 1.0

    def study_wide(self, method: str = "li-ji") -> float:
        """Threshold on P for all latents together: 5e-8 over the effective number."""
        return GENOME_WIDE / self.effective_number(method)

    def n_components(self, share: float = 0.95) -> int:
        """How many principal components hold this share of the standardised variance."""
        check_range("share", share, low=0, high=1)
        running = np.cumsum(np.maximum(self.eigenvalues, 0))
        return int(np.searchsorted(running, share * running[-1] * (1 - 1e-12))) + 1


def eigen_spectrum(latents: Latents) -> EigenSpectrum:
    """Eigenvalues of the correlation matrix of latents, missing values pair by pair.

    Returns
    -------
    EigenSpectrum
        A matrix of pairwise correlations can have slightly negative eigenvalues; a warning says
        when they are not slight.

    Raises
    ------
    DegenerateError
        If no latent varies, or two latents are never present together.
    """
    matrix = latent_correlation(latents)
    varies = ~np.isnan(np.diag(matrix))
    names = tuple(name for name, kept in zip(latents.names, varies, strict=True) if kept)
    left_out = tuple(name for name, kept in zip(latents.names, varies, strict=True) if not kept)
    if not names:
        raise DegenerateError(explain("no latent varies, so there is no correlation"))
    if left_out:
        logger.warning("constant, so without correlation: %s", ", ".join(left_out[:10]))
    matrix = matrix[np.ix_(varies, varies)]
    if np.isnan(matrix).any():
        first, second = np.argwhere(np.isnan(matrix))[0]
        raise DegenerateError(
            explain(
                f"{names[first]} and {names[second]} have no correlation",
                expected=f"At least {FEWEST} people with both, among whom both vary",
                do="Leave out latents that many people lack",
            )
        )
    eigenvalues = np.linalg.eigvalsh(matrix)[::-1]
    if eigenvalues[-1] < -0.01 * eigenvalues[0]:
        logger.warning(
            "missing values make the correlation matrix indefinite (smallest eigenvalue %.2g): "
            "its spectrum is rough", eigenvalues[-1],
        )  # fmt: skip
    return EigenSpectrum(eigenvalues, names, left_out)

"""Logistic regression: maximum likelihood, and Firth's penalty where classes separate.

Maximum likelihood has no answer when a column, or a sum of columns, tells cases from controls
without error: the coefficient grows with every iteration. That is what :func:`fit_logistic` looks
for. Firth's penalty, half the logarithm of the determinant of the information, always has one.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Float64

MAX_STEPS, TOLERANCE, LONGEST_STEP = 30, 1e-9, 5.0
#: A coefficient of a standardised column beyond this is on its way to infinity.
RUNAWAY = 15.0
#: Half of the 95 % point of chi-square with one degree of freedom.
HALF_CHI2 = 1.9207294103470677


@dataclass(frozen=True)
class LogisticFit:
    """Coefficients of a logistic regression.

    Parameters
    ----------
    beta : (columns,) float array
        Log odds ratio per unit of each column.
    covariance : (columns, columns) float array
        Inverse of the information at ``beta``.
    log_likelihood : float
        With Firth's penalty where ``is_firth``.
    is_firth : bool
        Whether the penalty was used.
    is_separated : bool
        Whether maximum likelihood has no finite answer.
    """

    beta: Float64[np.ndarray, " columns"]
    covariance: Float64[np.ndarray, "columns columns"]
    log_likelihood: float
    is_firth: bool = False
    is_separated: bool = False

    @property
    def standard_error(self) -> Float64[np.ndarray, " columns"]:
        """Wald standard errors."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def fit_logistic(
    outcome: Float64[np.ndarray, " samples"],
    design: Float64[np.ndarray, "samples columns"],
    *,
    start: Float64[np.ndarray, " columns"] | None = None,
    offset: Float64[np.ndarray, " samples"] | None = None,
) -> LogisticFit:
    """Fit ``logit P(y = 1) = X beta + offset`` by maximum likelihood (Newton's method).

    Parameters
    ----------
    outcome : (samples,) array
        0 or 1.
    design : (samples, columns) array
        With a column of ones where an intercept is wanted; of full rank.
    start : (columns,) array, optional
        Where to begin.
    offset : (samples,) array, optional
        Added to the linear predictor.

    Returns
    -------
    LogisticFit
        ``is_separated`` where the coefficients do not settle, or one of a column of SD 1 is
        beyond 15; they are then where the search stopped.
    """
    beta = np.zeros(design.shape[1]) if start is None else np.array(start, np.float64)
    shift = np.zeros(len(outcome)) if offset is None else offset
    value, slope, information = _likelihood(outcome, design, beta, shift)
    settled = False
    for _ in range(MAX_STEPS):
        step = _solve(information, slope)
        new, trial = _shorten(outcome, design, beta, step, shift, value)
        beta, (value, slope, information) = new, trial
        if np.abs(step).max() < TOLERANCE * (1 + np.abs(beta).max()):
            settled = True
            break
    spread = design.std(axis=0)
    runaway = bool((np.abs(beta * spread) > RUNAWAY).any())
    return LogisticFit(beta, _inverse(information), value, is_separated=not settled or runaway)


def _likelihood(
    outcome: np.ndarray, design: np.ndarray, beta: np.ndarray, shift: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    eta = design @ beta + shift
    p = _expit(eta)
    value = float((outcome * eta - np.logaddexp(0, eta)).sum())
    weight = p * (1 - p)
    return value, design.T @ (outcome - p), (design * weight[:, None]).T @ design


def _shorten(
    outcome: np.ndarray, design: np.ndarray, beta: np.ndarray, step: np.ndarray,
    shift: np.ndarray, value: float,
) -> tuple[np.ndarray, tuple[float, np.ndarray, np.ndarray]]:  # fmt: skip
    """Take the step, or half of it as often as the likelihood would fall."""
    size = 1.0
    for _ in range(25):
        new = beta + size * step
        trial = _likelihood(outcome, design, new, shift)
        if trial[0] >= value - 1e-10 * abs(value):
            break
        size /= 2
    return new, trial


def _expit(eta: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(eta, -500, 500))))


def _solve(information: np.ndarray, slope: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(np.linalg.solve(information, slope))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(information, slope, rcond=None)[0])


def _inverse(information: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(np.linalg.inv(information))
    except np.linalg.LinAlgError:
        return np.full_like(information, np.nan)


def fit_firth(
    outcome: Float64[np.ndarray, " samples"],
    design: Float64[np.ndarray, "samples columns"],
    *,
    fixed: int | None = None,
    fixed_at: float = 0.0,
    start: Float64[np.ndarray, " columns"] | None = None,
) -> LogisticFit:
    """Maximise ``l(beta) + log|X'WX| / 2``, Firth's penalised likelihood.

    Newton steps on the modified score ``X'(y - p + h(1/2 - p))`` with h the diagonal of the hat
    matrix; steps are cut where the penalised likelihood would fall.

    Parameters
    ----------
    outcome, design, start
        As in :func:`fit_logistic`.
    fixed : int, optional
        Column whose coefficient is held at ``fixed_at``. The penalty stays that of all columns, as
        a penalised likelihood-ratio test needs it.
    fixed_at : float
        Value it is held at.

    Raises
    ------
    DegenerateError
        If columns are collinear or the search does not settle in 500 steps.

    References
    ----------
    .. [1] Firth (1993), Biometrika 80:27.
    .. [2] Heinze & Schemper (2002), Stat Med 21:2409.
    """
    k = design.shape[1]
    free = np.array([column for column in range(k) if column != fixed], np.int64)
    beta = np.zeros(k) if start is None else np.array(start, np.float64)
    if fixed is not None:
        beta[fixed] = fixed_at
    value, slope, information = _penalised(outcome, design, beta)
    still = 0
    for _ in range(500):
        step = np.zeros(k)
        step[free] = _solve(information[np.ix_(free, free)], slope[free])
        longest = np.abs(step).max(initial=0.0)
        step *= min(1.0, LONGEST_STEP / max(longest, 1e-300))
        for _ in range(25):
            trial = _penalised(outcome, design, beta + step)
            if trial[0] >= value - 1e-12 * (1 + abs(value)):
                break
            step /= 2
        beta = beta + step
        # far out the likelihood is flat and steps stay long: what it is worth decides
        still = still + 1 if trial[0] - value < 1e-10 * (1 + abs(value)) else 0
        value, slope, information = trial
        if longest < 1e-8 * (1 + np.abs(beta).max()) or still >= 5:
            return LogisticFit(beta, _inverse(information), value, is_firth=True)
    raise DegenerateError(
        explain("Firth's logistic regression did not settle in 500 steps",
                do="Look for covariates that are almost combinations of others")
    )  # fmt: skip


def _penalised(
    outcome: np.ndarray, design: np.ndarray, beta: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Penalised log likelihood, modified score, information."""
    eta = design @ beta
    p = _expit(eta)
    weight = p * (1 - p)
    information = (design * weight[:, None]).T @ design
    sign, log_determinant = np.linalg.slogdet(information)
    if sign <= 0:
        return -np.inf, np.zeros(len(beta)), np.eye(len(beta))
    hat = weight * np.einsum("nk,nk->n", design @ np.linalg.inv(information), design)
    value = float((outcome * eta - np.logaddexp(0, eta)).sum()) + 0.5 * log_determinant
    return value, design.T @ (outcome - p + hat * (0.5 - p)), information


def firth_test(
    outcome: Float64[np.ndarray, " samples"],
    design: Float64[np.ndarray, "samples columns"],
    column: int,
) -> tuple[LogisticFit, float, tuple[float, float]]:
    """Fit, test and bound one coefficient by penalised likelihood.

    Returns
    -------
    fit : LogisticFit
        All columns free.
    statistic : float
        Twice the difference of penalised log likelihoods with the coefficient free and at zero;
        chi-square with one degree of freedom.
    interval : (float, float)
        95 % profile interval: where that difference is 3.84.
    """
    fit = fit_firth(outcome, design)
    null = fit_firth(outcome, design, fixed=column, start=fit.beta)
    statistic = max(2 * (fit.log_likelihood - null.log_likelihood), 0.0)
    low, high = (_bound(outcome, design, column, fit, sign) for sign in (-1.0, 1.0))
    return fit, statistic, (low, high)


def _bound(
    outcome: np.ndarray, design: np.ndarray, column: int, fit: LogisticFit, sign: float
) -> float:
    """End of the profile interval on one side; infinite if the likelihood stays that high."""
    from scipy.optimize import brentq

    centre, error = float(fit.beta[column]), float(fit.standard_error[column])

    def excess(value: float) -> float:
        # far out the penalised likelihood has more than one hill: climb from two sides
        starts = (fit.beta, fit.beta * (value / centre if centre else 1.0))
        held = [-np.inf]
        for start in starts:
            # where the information is lost to rounding, nothing holds the coefficient there
            with contextlib.suppress(DegenerateError):
                at = fit_firth(outcome, design, fixed=column, fixed_at=value, start=start)
                held.append(at.log_likelihood)
        return min(fit.log_likelihood - max(held) - HALF_CHI2, 1e6)

    width = 2 * error
    for _ in range(8):
        if excess(centre + sign * width) > 0:
            return float(brentq(excess, centre, centre + sign * width, xtol=1e-6 * (1 + error)))
        width *= 2
    return sign * np.inf

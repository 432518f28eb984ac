"""Cox's proportional hazards with Efron's ties, by Newton's method on whole arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Bool, Float64, Int64

MAX_STEPS, TOLERANCE = 30, 1e-9


@dataclass(frozen=True)
class CoxFit:
    """Coefficients of a proportional hazards model.

    Parameters
    ----------
    beta : (columns,) float array
        Log hazard ratio per unit of each column.
    covariance : (columns, columns) float array
        Inverse of the observed information.
    log_likelihood : float
        Partial, Efron's approximation.
    is_settled : bool
        False where coefficients run away: a column has no event on one side of it.
    """

    beta: Float64[np.ndarray, " columns"]
    covariance: Float64[np.ndarray, "columns columns"]
    log_likelihood: float
    is_settled: bool = True

    @property
    def standard_error(self) -> Float64[np.ndarray, " columns"]:
        """Wald standard errors."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


@dataclass(frozen=True)
class RiskSets:
    """People in order of time, and the events among them; the same for every column of X.

    Parameters
    ----------
    order : (samples,) int array
        People from the longest time to the shortest.
    n_at_risk : (events,) int array
        How many people, in that order, are at risk at each event.
    tie : (events,) int array
        Number of the event's time, from the longest.
    share : (events,) float array
        Efron's weight ``l / d`` of the l-th of d events at the same time, from 0.
    events : (events,) int array
        Places, in that order, of the people with events, sorted by time as ``tie`` is.
    joined : (samples,) int array
        For each person, in that order, the number of events strictly later in ``tie`` order than
        their own time, i.e. where their part of the cumulative hazard begins.
    """

    order: Int64[np.ndarray, " samples"]
    n_at_risk: Int64[np.ndarray, " events"]
    tie: Int64[np.ndarray, " events"]
    share: Float64[np.ndarray, " events"]
    events: Int64[np.ndarray, " events"]
    joined: Int64[np.ndarray, " samples"]


def risk_sets(
    time: Float64[np.ndarray, " samples"], event: Bool[np.ndarray, " samples"]
) -> RiskSets:
    """Sort people once for any number of fits.

    Raises
    ------
    DegenerateError
        If nobody has an event.
    """
    if not event.any():
        raise DegenerateError(explain("nobody has an event", expected="Events to compare with"))
    order = np.lexsort((~event, -time))
    t, is_event = time[order], event[order]
    events = np.flatnonzero(is_event)
    at = t[events]
    _, first, tie, size = np.unique(-at, return_index=True, return_inverse=True, return_counts=True)
    share = (np.arange(len(at)) - first[tie]) / size[tie]
    n_at_risk = np.searchsorted(-t, -at, side="right")
    joined = np.searchsorted(-at, -t, side="left")
    return RiskSets(
        order, n_at_risk.astype(np.int64), tie.astype(np.int64), share, events,
        joined.astype(np.int64),
    )  # fmt: skip


def fit_cox(
    sets: RiskSets,
    design: Float64[np.ndarray, "samples columns"],
    *,
    start: Float64[np.ndarray, " columns"] | None = None,
) -> CoxFit:
    """Fit ``hazard(t) = hazard_0(t) exp(x beta)`` by partial likelihood.

    Parameters
    ----------
    sets : RiskSets
        From :func:`risk_sets`.
    design : (samples, columns) array
        No intercept, people in their own order; of full rank.
    start : (columns,) array, optional
        Where to begin.

    Notes
    -----
    With ``S0`` the sum of ``exp(x beta)`` over the risk set and ``D0`` over the d events of one
    time, Efron replaces the product of the d denominators by ``prod_l (S0 - (l / d) D0)``. The
    information is ``X' diag(r H) X - M'M`` with H each person's cumulative hazard and a row of M
    the mean of x in an event's risk set: two matrix products a step.

    References
    ----------
    .. [1] Cox (1972), J R Stat Soc B 34:187.
    .. [2] Efron (1977), J Am Stat Assoc 72:557.
    """
    x = design[sets.order]
    x = x - x.mean(axis=0)
    beta = np.zeros(x.shape[1]) if start is None else np.array(start, np.float64)
    value, slope, information = _partial(sets, x, beta)
    settled = False
    for _ in range(MAX_STEPS):
        step = _solve(information, slope)
        for _ in range(25):
            trial = _partial(sets, x, beta + step)
            if trial[0] >= value - 1e-10 * abs(value):
                break
            step = step / 2
        beta = beta + step
        value, slope, information = trial
        if np.abs(step).max(initial=0.0) < TOLERANCE * (1 + np.abs(beta).max(initial=0.0)):
            settled = True
            break
    settled &= bool((np.abs(beta * x.std(axis=0)) < 15).all())
    return CoxFit(beta, _inverse(information), value, settled)


def _solve(information: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.lstsq(information, slope, rcond=1e-14)[0])


def _inverse(information: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(np.linalg.inv(information))
    except np.linalg.LinAlgError:
        return np.full_like(information, np.nan)


def _denominators(
    sets: RiskSets, risk: np.ndarray, cumulative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Efron's denominator of each event, and the summed risk of the events of its time."""
    tied = np.zeros(int(sets.tie[-1]) + 1)
    np.add.at(tied, sets.tie, risk[sets.events])
    d0 = tied[sets.tie]
    return cumulative[sets.n_at_risk - 1] - sets.share * d0, d0


def _partial(
    sets: RiskSets, x: np.ndarray, beta: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Partial log likelihood, its slope, and the observed information."""
    eta = x @ beta
    top = float(eta.max(initial=0.0))
    risk = np.exp(eta - top)
    below, _ = _denominators(sets, risk, np.cumsum(risk))
    weighted = x * risk[:, None]
    sums = np.cumsum(weighted, axis=0)[sets.n_at_risk - 1]
    tied = np.zeros((int(sets.tie[-1]) + 1, x.shape[1]))
    np.add.at(tied, sets.tie, weighted[sets.events])
    means = (sums - sets.share[:, None] * tied[sets.tie]) / below[:, None]
    hazard = cumulative_hazard(sets, below)
    value = float((eta[sets.events] - top - np.log(below)).sum())
    slope = x[sets.events].sum(axis=0) - means.sum(axis=0)
    information = (weighted * hazard[:, None]).T @ x - means.T @ means
    return value, slope, information


def cumulative_hazard(
    sets: RiskSets, below: Float64[np.ndarray, " events"]
) -> Float64[np.ndarray, " samples"]:
    """Sum of ``1 / denominator`` over the events at or before each person's time.

    People with an event of their own leave Efron's share of the events tied with them.
    """
    parts = 1 / below
    # from the shortest time up: events are in order of falling time
    upwards = np.append(np.cumsum(parts[::-1])[::-1], 0.0)
    hazard = upwards[sets.joined]
    own = np.zeros(int(sets.tie[-1]) + 1)
    np.add.at(own, sets.tie, parts * sets.share)
    hazard[sets.events] -= own[sets.tie]
    return np.asarray(hazard)


def martingale_residuals(
    sets: RiskSets,
    design: Float64[np.ndarray, "samples columns"],
    beta: Float64[np.ndarray, " columns"],
) -> Float64[np.ndarray, " samples"]:
    """Events minus expected events of each person; their product with x is the score.

    Returns
    -------
    (samples,) float array
        People in their own order; the residuals sum to zero.
    """
    x = design[sets.order]
    eta = (x - x.mean(axis=0)) @ beta
    risk = np.exp(eta - eta.max(initial=0.0))
    below, _ = _denominators(sets, risk, np.cumsum(risk))
    residual = -risk * cumulative_hazard(sets, below)
    residual[sets.events] += 1
    back = np.empty(len(residual))
    back[sets.order] = residual
    return back


def schoenfeld_residuals(
    sets: RiskSets,
    design: Float64[np.ndarray, "samples columns"],
    beta: Float64[np.ndarray, " columns"],
) -> Float64[np.ndarray, "events columns"]:
    """X of each event minus the mean of x in its risk set; events from the longest time."""
    x = design[sets.order]
    x = x - x.mean(axis=0)
    eta = x @ beta
    risk = np.exp(eta - eta.max(initial=0.0))
    below, _ = _denominators(sets, risk, np.cumsum(risk))
    weighted = x * risk[:, None]
    tied = np.zeros((int(sets.tie[-1]) + 1, x.shape[1]))
    np.add.at(tied, sets.tie, weighted[sets.events])
    sums = np.cumsum(weighted, axis=0)[sets.n_at_risk - 1]
    means = (sums - sets.share[:, None] * tied[sets.tie]) / below[:, None]
    if not len(means):
        return np.asarray(means)
    # events of one time share one mean, as all programs report it
    pooled = np.zeros_like(tied)
    np.add.at(pooled, sets.tie, means)
    pooled /= np.bincount(sets.tie)[:, None]
    return np.asarray(x[sets.events] - pooled[sets.tie])

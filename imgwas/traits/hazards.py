"""Around a Cox model: are hazards proportional, and how well does a score order people."""

from __future__ import annotations

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Bool, Float64
from imgwas.traits.cox import CoxFit, RiskSets, schoenfeld_residuals

#: Cells of a comparison of people with people held at once.
_CELLS = 20_000_000


def proportional_hazards_test(
    sets: RiskSets,
    time: Float64[np.ndarray, " samples"],
    design: Float64[np.ndarray, "samples columns"],
    fit: CoxFit,
    *,
    transform: str = "rank",
) -> tuple[Float64[np.ndarray, " columns"], Float64[np.ndarray, " columns"]]:
    """Test whether the hazard ratio of each column changes with time.

    With d events, Schoenfeld residuals s, covariance V of the coefficients, and g(t) the rank of an
    event's time or the time itself: ``T = (sum (g - mean g) d s V)^2 / (d V_jj sum (g - mean
    g)^2)``, chi-square with one degree of freedom.

    Parameters
    ----------
    sets, design, fit
        As in :func:`imgwas.traits.fit_cox`.
    time : (samples,) array
        The times the risk sets were made from.
    transform : {"rank", "identity"}
        What time is turned into.

    Returns
    -------
    chi2, neg_log10_p : (columns,) float array

    References
    ----------
    .. [1] Grambsch & Therneau (1994), Biometrika 81:515.
    """
    from scipy.stats import chi2, rankdata

    check_option("transform", transform, ("rank", "identity"))
    residual = schoenfeld_residuals(sets, design, fit.beta)
    at = time[sets.order][sets.events]
    # ties take the order they are in, from the first event to the last
    g = at if transform == "identity" else rankdata(at, method="ordinal").astype(np.float64)
    g = g - g.mean()
    d = len(at)
    if d < 3 or not np.square(g).sum() > 0:
        raise DegenerateError(explain(f"there are {d} events", expected="Three at several times"))
    trend = d * (g @ residual) @ fit.covariance
    statistic = trend**2 / (d * np.diag(fit.covariance) * np.square(g).sum())
    return statistic, np.asarray(-chi2.logsf(statistic, 1) / np.log(10))


def concordance(
    time: Float64[np.ndarray, " samples"],
    event: Bool[np.ndarray, " samples"],
    risk: Float64[np.ndarray, " samples"],
) -> float:
    """Harrell's C: how often, of two people, the one with the event first has the higher risk.

    A pair counts where the earlier time is an event; at equal times, where one is censored. Equal
    risks count half.

    References
    ----------
    .. [1] Harrell et al. (1982), JAMA 247:2543.
    """
    events = np.flatnonzero(event)
    good = total = 0.0
    step = max(1, _CELLS // max(len(time), 1))
    for start in range(0, len(events), step):
        own = events[start : start + step, None]
        later = (time > time[own]) | ((time == time[own]) & ~event)
        good += float((later & (risk[own] > risk)).sum())
        good += 0.5 * float((later & (risk[own] == risk)).sum())
        total += float(later.sum())
    if not total:
        raise DegenerateError(explain("no two people can be compared", expected="Some events"))
    return good / total

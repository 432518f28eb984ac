"""Are predicted probabilities right, and is acting on them worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.shapes import Float64

if TYPE_CHECKING:
    import pandas as pd

_Z95 = 1.959963984540054


def _check(outcome: np.ndarray, probability: np.ndarray) -> None:
    if len(outcome) != len(probability) or not len(outcome):
        raise DegenerateError(
            explain(f"{len(outcome):,} outcomes and {len(probability):,} probabilities")
        )
    if not np.isin(outcome, (0, 1)).all():
        raise MalformedError(explain("an outcome is neither 0 nor 1"))
    if not ((probability >= 0) & (probability <= 1)).all():
        raise MalformedError(
            explain("a probability is missing or outside 0 to 1", expected="Probabilities")
        )


def brier_score(
    outcome: Float64[np.ndarray, " samples"], probability: Float64[np.ndarray, " samples"]
) -> float:
    """Mean of ``(y - p)^2``; the share of cases times the share of controls knows nothing.

    References
    ----------
    .. [1] Brier (1950), Mon Weather Rev 78:1.
    """
    _check(outcome, probability)
    return float(np.square(outcome - probability).mean())


def log_loss(
    outcome: Float64[np.ndarray, " samples"], probability: Float64[np.ndarray, " samples"]
) -> float:
    """Mean of ``-y log p - (1 - y) log(1 - p)``; infinite if a certainty was wrong."""
    _check(outcome, probability)
    right = np.where(outcome == 1, probability, 1 - probability)
    with np.errstate(divide="ignore"):
        return float(-np.log(right).mean())


def calibration_curve(
    outcome: Float64[np.ndarray, " samples"],
    probability: Float64[np.ndarray, " samples"],
    *,
    n_bins: int = 10,
) -> pd.DataFrame:
    """Observed share of cases in groups of rising predicted probability.

    Parameters
    ----------
    outcome, probability : (samples,) array
        0 or 1, and what was predicted.
    n_bins : int
        Groups of equal size; people of one probability are never split.

    Returns
    -------
    DataFrame
        ``n``, ``predicted`` (mean), ``observed`` (share of cases), ``ci_low`` and ``ci_high``
        (95 %, Wilson).
    """
    import pandas as pd

    _check(outcome, probability)
    check_range("n_bins", n_bins, low=1, high=len(outcome))
    edges = np.quantile(probability, np.linspace(0, 1, n_bins + 1)[1:-1])
    group = np.searchsorted(edges, probability, side="right")
    rows = []
    for number in np.unique(group):
        inside = group == number
        n, share = int(inside.sum()), float(outcome[inside].mean())
        low, high = _wilson(share, n)
        rows.append((n, float(probability[inside].mean()), share, low, high))
    return pd.DataFrame(rows, columns=["n", "predicted", "observed", "ci_low", "ci_high"])


def _wilson(share: float, n: int) -> tuple[float, float]:
    factor = 1 + _Z95**2 / n
    middle = (share + _Z95**2 / (2 * n)) / factor
    width = _Z95 / factor * np.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n * n))
    return max(middle - width, 0.0), min(middle + width, 1.0)


def calibration_line(
    outcome: Float64[np.ndarray, " samples"], probability: Float64[np.ndarray, " samples"]
) -> tuple[float, float]:
    """Intercept and slope of ``logit P(y = 1) = a + b logit(p)``; 0 and 1 are perfect.

    A slope below 1 says that predictions are too extreme, as those of an overfitted model are.

    References
    ----------
    .. [1] Cox (1958), Biometrika 45:562.
    """
    from imgwas.traits.logistic import fit_logistic

    _check(outcome, probability)
    if not ((probability > 0) & (probability < 1)).all():
        raise DegenerateError(explain("a probability is 0 or 1", expected="A finite logit"))
    logit = np.log(probability / (1 - probability))
    fit = fit_logistic(outcome.astype(np.float64), np.stack([np.ones(len(logit)), logit], axis=1))
    if fit.is_separated:
        raise DegenerateError(explain("the probabilities tell cases from controls without error"))
    return float(fit.beta[0]), float(fit.beta[1])


def decision_curve(
    outcome: Float64[np.ndarray, " samples"],
    probability: Float64[np.ndarray, " samples"],
    *,
    thresholds: Float64[np.ndarray, " thresholds"] | None = None,
) -> pd.DataFrame:
    """Net benefit of treating everyone whose probability reaches a threshold.

    ``TP / N - FP / N * p / (1 - p)`` at threshold p: true positives minus false ones at the
    exchange rate that the threshold implies.

    Parameters
    ----------
    outcome, probability : (samples,) array
        0 or 1, and what was predicted.
    thresholds : (thresholds,) array, optional
        Between 0 and 1; 0.01 to 0.99 by default.

    Returns
    -------
    DataFrame
        ``threshold``, ``net_benefit``, ``treat_all`` (``q - (1 - q) p / (1 - p)`` with q the share
        of cases), ``treat_none`` (0).

    References
    ----------
    .. [1] Vickers & Elkin (2006), Med Decis Making 26:565.
    """
    import pandas as pd

    _check(outcome, probability)
    if thresholds is None:
        thresholds = np.linspace(0.01, 0.99, 99)
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise MalformedError(explain("a threshold is not between 0 and 1"))
    order = np.argsort(probability)
    # how many cases and people lie at or above each threshold
    start = np.searchsorted(probability[order], thresholds, side="left")
    cases_above = np.append(np.cumsum(outcome[order][::-1])[::-1], 0.0)[start]
    people_above = len(outcome) - start
    odds = thresholds / (1 - thresholds)
    share = float(outcome.mean())
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "net_benefit": (cases_above - (people_above - cases_above) * odds) / len(outcome),
            "treat_all": share - (1 - share) * odds,
            "treat_none": 0.0,
        }
    )

"""Kaplan and Meier's survival curve, Nelson and Aalen's cumulative hazard, the log-rank test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.shapes import Bool, Float64, Int64

if TYPE_CHECKING:
    import pandas as pd

_Z95 = 1.959963984540054


def kaplan_meier(
    time: Float64[np.ndarray, " samples"], event: Bool[np.ndarray, " samples"]
) -> pd.DataFrame:
    """Estimate ``S(t) = prod (1 - d_i / n_i)`` over the event times up to t.

    Parameters
    ----------
    time : (samples,) array
        To the event or to censoring, above zero.
    event : (samples,) bool array
        False is censored. A person censored at the time of an event was at risk of it.

    Returns
    -------
    DataFrame
        One row for time 0 and every distinct time: ``time``, ``n_at_risk``, ``n_events``,
        ``n_censored``, ``survival``, ``standard_error`` (Greenwood), ``ci_low`` and ``ci_high``
        (95 %, on the scale of log(-log S), so that they stay between 0 and 1).

    References
    ----------
    .. [1] Kaplan & Meier (1958), J Am Stat Assoc 53:457.
    .. [2] Kalbfleisch & Prentice (1980), The Statistical Analysis of Failure Time Data.
    """
    import pandas as pd

    table = _counts(time, event)
    n, d = table.n_at_risk, table.n_events
    with np.errstate(divide="ignore", invalid="ignore"):
        survival = np.cumprod(1 - d / n)
        spread = np.cumsum(d / (n * (n - d).astype(np.float64)))
        width = _Z95 * np.sqrt(spread) / np.abs(np.log(survival))
        low, high = survival ** np.exp(width), survival ** np.exp(-width)
        error = survival * np.sqrt(spread)
    open_end = survival == 1
    low[open_end], high[open_end] = 1.0, 1.0
    gone = survival == 0
    error[gone], low[gone], high[gone] = np.nan, np.nan, np.nan
    return pd.DataFrame(
        {
            **table.columns(),
            "survival": survival, "standard_error": error, "ci_low": low, "ci_high": high,
        }
    )  # fmt: skip


def nelson_aalen(
    time: Float64[np.ndarray, " samples"], event: Bool[np.ndarray, " samples"]
) -> pd.DataFrame:
    """Estimate the cumulative hazard ``H(t) = sum d_i / n_i`` over the event times up to t.

    Returns
    -------
    DataFrame
        As :func:`kaplan_meier`, with ``hazard``; its variance is ``sum d_i / n_i^2`` and the
        interval is on the scale of log H.

    References
    ----------
    .. [1] Aalen (1978), Ann Stat 6:701.
    """
    import pandas as pd

    table = _counts(time, event)
    n, d = table.n_at_risk, table.n_events
    hazard = np.cumsum(d / n)
    error = np.sqrt(np.cumsum(d / n.astype(np.float64) ** 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(hazard > 0, np.exp(_Z95 * error / hazard), 1.0)
    return pd.DataFrame(
        {
            **table.columns(),
            "hazard": hazard, "standard_error": error,
            "ci_low": hazard / factor, "ci_high": hazard * factor,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class _Counts:
    """People at risk, events and censorings at time 0 and at every distinct time."""

    time: Float64[np.ndarray, " times"]
    n_at_risk: Int64[np.ndarray, " times"]
    n_events: Int64[np.ndarray, " times"]
    n_censored: Int64[np.ndarray, " times"]

    def columns(self) -> dict[str, np.ndarray]:
        return dict(vars(self))


def _counts(time: np.ndarray, event: np.ndarray) -> _Counts:
    check_times(time, event)
    times, place = np.unique(time, return_inverse=True)
    n_events = np.bincount(place, weights=event, minlength=len(times)).astype(np.int64)
    n_here = np.bincount(place, minlength=len(times)).astype(np.int64)
    at_risk = len(time) - np.concatenate([[0], np.cumsum(n_here)[:-1]])
    return _Counts(
        np.append(0.0, times),
        np.append(len(time), at_risk),
        np.append(0, n_events),
        np.append(0, n_here - n_events),
    )


def check_times(time: np.ndarray, event: np.ndarray) -> None:
    """Refuse times that are missing, infinite or not above zero, and no people at all."""
    if len(time) != len(event) or not len(time):
        raise DegenerateError(explain(f"{len(time):,} times and {len(event):,} events were given"))
    bad = int((~(time > 0) | np.isinf(time)).sum())
    if bad:
        raise MalformedError(
            explain(f"{bad:,} of {len(time):,} times are missing, infinite or not above zero",
                    do="Leave those people out")
        )  # fmt: skip


def log_rank(
    time: Float64[np.ndarray, " samples"],
    event: Bool[np.ndarray, " samples"],
    group: Int64[np.ndarray, " samples"],
) -> tuple[float, float, int]:
    """Compare the survival of two or more groups.

    Returns
    -------
    chi2 : float
        Of observed minus expected events, with the hypergeometric covariance.
    neg_log10_p : float
        Of chi-square.
    dof : int
        Groups minus one.

    References
    ----------
    .. [1] Mantel (1966), Cancer Chemother Rep 50:163.
    """
    from scipy.stats import chi2 as chi_square

    check_times(time, event)
    names, code = np.unique(group, return_inverse=True)
    if len(names) < 2:
        raise DegenerateError(explain("there is one group", expected="Two or more to compare"))
    times = np.unique(time[event])
    at_risk = np.stack([_still(time[code == g], times) for g in range(len(names))])
    events = np.stack([_at(time[event & (code == g)], times) for g in range(len(names))])
    n, d = at_risk.sum(axis=0), events.sum(axis=0)
    excess = (events - at_risk * d / n).sum(axis=1)
    factor = np.where(n > 1, d * (n - d) / np.maximum(n - 1, 1), 0.0)
    share = at_risk / n
    covariance = np.diag((share * factor).sum(axis=1)) - (share * factor) @ share.T
    kept = slice(0, len(names) - 1)
    statistic = float(excess[kept] @ np.linalg.pinv(covariance[kept, kept]) @ excess[kept])
    dof = len(names) - 1
    return statistic, float(-chi_square.logsf(statistic, dof) / np.log(10)), dof


def _still(time: np.ndarray, times: np.ndarray) -> np.ndarray:
    """How many times are at or after each of ``times``."""
    return len(time) - np.searchsorted(np.sort(time), times, side="left")


def _at(time: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(times, time), minlength=len(times))

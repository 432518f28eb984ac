"""Around a Cox model: are hazards proportional, and how well does a score order people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import DegenerateError, explain
from imgwas.latents.basis import orthonormal_basis
from imgwas.shapes import Bool, Float64
from imgwas.traits.cox import CoxFit, RiskSets, fit_cox, risk_sets, schoenfeld_residuals
from imgwas.traits.fits import Row, wald_row

if TYPE_CHECKING:
    import pandas as pd

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


def hazard_ratios(
    time: Float64[np.ndarray, " samples"],
    event: Bool[np.ndarray, " samples"],
    group: Sequence[str],
    *,
    reference: str,
    covariates: Float64[np.ndarray, "samples covariates"] | None = None,
) -> pd.DataFrame:
    """Compare the hazards of groups, such as thirds of a score, with one of them.

    Parameters
    ----------
    time, event : (samples,) array
        As in :func:`imgwas.traits.kaplan_meier`.
    group : sequence of str
        Group of each person.
    reference : str
        Group that the others are compared with.
    covariates : (samples, covariates) array, optional
        Nothing missing.

    Returns
    -------
    DataFrame
        One row a group in the order they first occur: ``group``, ``n``, ``n_events``, ``beta`` (log
        hazard ratio), ``standard_error``, ``ci_low``, ``ci_high``, ``neg_log_10_p_value``; zeros
        and NaN for the reference. :func:`imgwas.plots.forest` draws it.
    """
    import pandas as pd

    names = np.array([str(one) for one in group])
    others = [name for name in dict.fromkeys(names.tolist()) if name != reference]
    if not others or not (names == reference).any():
        raise DegenerateError(
            explain(f"the groups are {', '.join(sorted(set(names.tolist()))[:5])}",
                    expected=f"{reference} and at least one other")
        )  # fmt: skip
    columns = np.stack([(names == name).astype(np.float64) for name in others], axis=1)
    if covariates is not None:
        columns = np.column_stack([columns, orthonormal_basis(covariates) * np.sqrt(len(names))])
    fit = fit_cox(risk_sets(time, event), columns)
    rows = []
    for name in dict.fromkeys(names.tolist()):
        inside = names == name
        row = Row(int(inside.sum()), int(event[inside].sum()), 0.0)
        if name != reference:
            k = others.index(name)
            note = "" if fit.is_settled else "the search did not settle"
            row = wald_row(row.n, row.n_cases, fit.beta[k], fit.standard_error[k], "cox", note)
        rows.append({"group": name, **asdict(row)})
    frame = pd.DataFrame(rows).rename(
        columns={"n_cases": "n_events", "neg_log10_p": "neg_log_10_p_value"}
    )
    return frame[["group", "n", "n_events", "beta", "standard_error", "ci_low", "ci_high",
                  "neg_log_10_p_value", "note"]]  # fmt: skip

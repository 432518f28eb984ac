"""Agreement of repeat visits: intraclass correlations with intervals."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, TooFewSamplesError, UsageError, explain
from imgwas.latents.basis import CONSTANT
from imgwas.latents.joining import join_tables
from imgwas.shapes import Float
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def visit_reliability(
    visits: Sequence[Latents],
    *,
    names: Sequence[str] | None = None,
    level: float = 0.95,
    min_overlap: float = 0.0,
) -> pd.DataFrame:
    """Intraclass correlations of latents between visits, people matched by id.

    Two-way model ``y_ij = mu + person_i + visit_j + e_ij``. ICC(2,1) counts a shift between
    visits as disagreement (visits are a sample of visits); ICC(3,1) does not (these visits and no
    others). Each latent uses the people who have it at every visit.

    Parameters
    ----------
    visits : sequence of Latents
        Two or more tables with the same latents, in any order.
    names : sequence of str, optional
        What the visits are called in messages.
    level : float, default 0.95
        Coverage of the intervals.
    min_overlap : float, default 0
        Share of the smallest visit whose people must have come to all.

    Returns
    -------
    DataFrame
        One row per latent: ``latent``; ``n`` people with it at all visits; ``n_incomplete`` people
        who came to all visits and lack it at one; ``icc_2_1``, ``icc_2_1_low``,
        ``icc_2_1_high``, the same of ``icc_3_1``; ``pearson_r``, the mean over pairs of visits.
        NaN for a latent that does not vary. ``attrs`` holds how many people came to each visit.

    Raises
    ------
    InconsistentError
        If the tables have different latents, share too few people, or hold the same numbers.
    TooFewSamplesError
        If fewer than three people came to all visits.

    References
    ----------
    .. [1] Shrout & Fleiss (1979), Psychological Bulletin 86:420.
    .. [2] McGraw & Wong (1996), Psychological Methods 1:30.
    """
    import pandas as pd

    check_range("level", level, low=0.5, high=0.999999)
    called = list(names) if names else [f"visit {i + 1}" for i in range(len(visits))]
    join = join_tables(visits, names=called, min_overlap=min_overlap)
    latents = _shared_latents(visits, called)
    if len(join.sample_ids) < 3:
        raise TooFewSamplesError(
            explain(f"{len(join.sample_ids)} people came to all visits", expected="At least 3")
        )
    values = np.stack(
        [_chosen(visit, rows, latents) for visit, rows in zip(visits, join.rows, strict=True)],
        axis=1,
    )  # people, visits, latents
    _check_not_the_same(values, called)
    table = pd.DataFrame(
        [{"latent": name} | _one_latent(values[:, :, i], level) for i, name in enumerate(latents)]
    )
    table.attrs["people"] = {
        name: len(visit.sample_ids) for name, visit in zip(called, visits, strict=True)
    }
    table.attrs["people_at_all_visits"] = len(join.sample_ids)
    return table


def _chosen(visit: Latents, rows: np.ndarray, latents: Sequence[str]) -> np.ndarray:
    columns = np.array([visit.names.index(name) for name in latents])
    people = np.asarray(visit.values)
    return np.asarray(people[np.ix_(rows, columns)])


def _shared_latents(visits: Sequence[Latents], called: Sequence[str]) -> list[str]:
    for visit, name in zip(visits[1:], called[1:], strict=True):
        odd = sorted(set(visit.names) ^ set(visits[0].names))
        if odd:
            raise InconsistentError(
                explain(
                    f"{name} and {called[0]} do not have the same latents",
                    where=f"{len(odd)} are in one only (first: {', '.join(odd[:3])})",
                    do="Encode all visits with one encoder, or choose latents both have",
                )
            )
    return list(visits[0].names)


def _check_not_the_same(values: np.ndarray, called: Sequence[str]) -> None:
    """Refuse a visit given twice, which would look perfectly reliable."""
    for i, j in combinations(range(values.shape[1]), 2):
        if np.array_equal(values[:, i], values[:, j], equal_nan=True):
            raise InconsistentError(
                explain(
                    f"{called[i]} and {called[j]} hold the same number for every person",
                    expected="Two scans of a person never give exactly the same latents",
                    do="Was one table given twice, or written for both visits?",
                )
            )


def _one_latent(scores: np.ndarray, level: float) -> dict[str, float]:
    complete = np.isfinite(scores).all(axis=1)
    n = int(complete.sum())
    found: dict[str, float] = {"n": n, "n_incomplete": len(scores) - n}
    used = scores[complete]
    return found | intraclass_correlations(used, level=level) | {"pearson_r": _mean_r(used)}


def intraclass_correlations(
    scores: Float[np.ndarray, "people visits"], *, level: float = 0.95
) -> dict[str, float]:
    """ICC(2,1) and ICC(3,1) of one trait with their F intervals.

    With mean squares of people, visits and error, ``n`` people and ``k`` visits,
    ``ICC(3,1) = (MSP - MSE) / (MSP + (k - 1) MSE)`` and
    ``ICC(2,1) = (MSP - MSE) / (MSP + (k - 1) MSE + k (MSV - MSE) / n)``.

    Parameters
    ----------
    scores : (people, visits) float array
        Without missing values.
    level : float, default 0.95
        Coverage of the intervals.

    Returns
    -------
    dict
        ``icc_2_1`` and ``icc_3_1``, each with ``_low`` and ``_high``; NaN if fewer than three
        people are given or nothing varies.
    """
    n, k = scores.shape
    if k < 2:
        raise UsageError(explain(f"scores have {k} visits", expected="At least 2"))
    largest = float(np.abs(scores).max(initial=0.0))
    scaled = scores / largest if largest > 0 else scores
    if n < 3 or scaled.std() <= CONSTANT:
        return {f"icc_{kind}_1{end}": np.nan for kind in (2, 3) for end in ("", "_low", "_high")}
    people, visit = scaled.mean(axis=1), scaled.mean(axis=0)
    rest = scaled - people[:, None] - visit + scaled.mean()
    msp = k * float(people.var(ddof=1))
    msv = n * float(visit.var(ddof=1))
    mse = float(np.square(rest).sum()) / ((n - 1) * (k - 1))
    icc2 = (msp - mse) / (msp + (k - 1) * mse + k * (msv - mse) / n)
    icc3 = (msp - mse) / (msp + (k - 1) * mse)
    low2, high2 = _interval_2(msp, msv, mse, n, k, icc2, level)
    low3, high3 = _interval_3(msp, mse, n, k, level)
    return {
        "icc_2_1": icc2, "icc_2_1_low": low2, "icc_2_1_high": high2,
        "icc_3_1": icc3, "icc_3_1_low": low3, "icc_3_1_high": high3,
    }  # fmt: skip


def _interval_3(msp: float, mse: float, n: int, k: int, level: float) -> tuple[float, float]:
    from scipy.stats import f

    tail, between, within = 1 - (1 - level) / 2, n - 1, (n - 1) * (k - 1)
    low = msp / float(f.ppf(tail, between, within))
    high = msp * float(f.ppf(tail, within, between))
    return (low - mse) / (low + (k - 1) * mse), (high - mse) / (high + (k - 1) * mse)


def _interval_2(
    msp: float, msv: float, mse: float, n: int, k: int, icc: float, level: float
) -> tuple[float, float]:
    """Satterthwaite's degrees of freedom for the denominator, as in Shrout and Fleiss."""
    from scipy.stats import f

    if mse <= 0:  # visits differ by a constant shift at most
        return icc, icc
    ratio, spread = msv / mse, n * (1 + (k - 1) * icc) - k * icc
    above = (k - 1) * (n - 1) * (k * icc * ratio + spread) ** 2
    dof = above / ((n - 1) * (k * icc * ratio) ** 2 + spread**2)
    tail = 1 - (1 - level) / 2
    down, up = float(f.ppf(tail, n - 1, dof)), float(f.ppf(tail, dof, n - 1))
    rest = k * msv + (k * n - k - n) * mse
    low = n * (msp - down * mse) / (down * rest + n * msp)
    high = n * (up * msp - mse) / (rest + n * up * msp)
    return low, high


def _mean_r(used: np.ndarray) -> float:
    from imgwas.latents.correlation import correlate

    if len(used) < 3:
        return float("nan")
    matrix = correlate(used, used)
    pairs = [matrix[i, j] for i, j in combinations(range(used.shape[1]), 2)]
    return float(np.mean(pairs))

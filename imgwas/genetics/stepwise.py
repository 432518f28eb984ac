"""Exact forward selection with backward checks, on sums of products alone.

By Frisch & Waugh, conditioning on a variant is projecting it out of the trait and of every other
variant. On ``X'X``, ``X'y`` and ``y'y`` that projection is one rank-one update, so that no pass
over people is needed after the first and nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.genetics.moments import Moments
from imgwas.shapes import Float64
from imgwas.sumstats import neg_log10_p_value

#: Signals in one locus and trait at most.
MOST_SIGNALS = 50


@dataclass(frozen=True)
class Effects:
    """Least-squares effects, each with its own test.

    Parameters
    ----------
    beta, standard_error, neg_log10_p : (variants,) float array
        NaN where there is nothing to test.
    """

    beta: Float64[np.ndarray, " variants"]
    standard_error: Float64[np.ndarray, " variants"]
    neg_log10_p: Float64[np.ndarray, " variants"]


@dataclass(frozen=True)
class Signal:
    """A variant that stayed in the model.

    Parameters
    ----------
    index : int
        Number of the variant in the moments.
    at_entry : float
        -log10 P when it was chosen, given those chosen before.
    """

    index: int
    at_entry: float


def one_by_one(moments: Moments) -> Effects:
    """Every variant by itself."""
    return given(moments, [])


def together(moments: Moments, chosen: list[int]) -> Effects:
    """Some variants in one model."""
    gram = moments.gram[np.ix_(chosen, chosen)]
    cross = moments.cross[chosen]
    inverse = np.linalg.inv(gram)
    beta = inverse @ cross
    dof = moments.dof + 1 - len(chosen)
    variance = max(moments.total - float(cross @ beta), 0.0) / dof
    error = np.sqrt(variance * np.diagonal(inverse))
    with np.errstate(divide="ignore"):
        return Effects(beta, error, neg_log10_p_value(beta / error, dof))


def given(moments: Moments, chosen: list[int]) -> Effects:
    """Every variant, given some others; NaN for those themselves."""
    gram, cross, total = _after(moments, chosen)
    square = np.diagonal(gram).copy()
    square[chosen] = 0
    return _effects(cross, square, total, moments.dof - len(chosen), np.diagonal(moments.gram))


def _after(moments: Moments, chosen: list[int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Products with some variants projected out of everything, one rank-one update each."""
    gram, cross, total = moments.gram, moments.cross, moments.total
    for index in chosen:
        column, pivot = gram[:, index], gram[index, index]
        share = cross[index] / pivot
        total = total - share**2 * pivot
        cross = cross - column * share
        gram = gram - np.outer(column, column / pivot)
    return gram, cross, total


def _effects(
    cross: np.ndarray,
    square: np.ndarray,
    total: float,
    dof: int,
    before: np.ndarray,
) -> Effects:
    usable = square > 1e-9 * before
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = np.where(usable, cross / square, np.nan)
        rest = np.maximum(total - beta * cross, 0)
        error = np.sqrt(rest / dof / square)
        return Effects(beta, error, neg_log10_p_value(beta / error, dof))


def select(moments: Moments, *, p1: float, max_r2: float = 0.9) -> list[Signal]:
    """Choose variants one after another while one has P at most ``p1`` given the others.

    After each choice all chosen variants are fitted together, and the weakest leaves while its
    joint P is above ``p1``; what has left does not come back. A variant of which the chosen ones
    explain more than ``max_r2`` is not considered.

    Parameters
    ----------
    moments : Moments
        One locus, one trait.
    p1 : float
        Largest P, conditional and joint.
    max_r2 : float
        Limit of collinearity.

    Returns
    -------
    list of Signal
        In the order in which they were chosen.

    References
    ----------
    .. [1] Yang et al. (2012), Nature Genetics 44:369, for the order of steps.
    """
    limit = -np.log10(p1)
    chosen: list[Signal] = []
    banned: set[int] = set()
    while len(chosen) < min(MOST_SIGNALS, moments.dof - 1):
        best = _best_left(moments, [one.index for one in chosen], banned, max_r2)
        if best is None or best.at_entry < limit:
            break
        chosen.append(best)
        while len(chosen) > 1:
            joint = together(moments, [one.index for one in chosen]).neg_log10_p
            weakest = int(joint.argmin())
            if joint[weakest] >= limit:
                break
            banned.add(chosen.pop(weakest).index)
    return chosen


def _best_left(
    moments: Moments, chosen: list[int], banned: set[int], max_r2: float
) -> Signal | None:
    gram, cross, total = _after(moments, chosen)
    before, square = np.diagonal(moments.gram), np.diagonal(gram)
    left = square >= (1 - max_r2) * before
    left[[*chosen, *banned]] = False
    effects = _effects(cross, square, total, moments.dof - len(chosen), before)
    value = np.where(left & ~np.isnan(effects.neg_log10_p), effects.neg_log10_p, -1.0)
    best = int(value.argmax())
    return Signal(best, float(value[best])) if value[best] >= 0 else None

"""Every latent against one trait: least squares, logistic regression, proportional hazards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError
from imgwas.latents.basis import missing_patterns, orthonormal_basis, remove
from imgwas.shapes import Bool, Float64
from imgwas.traits.cox import fit_cox, martingale_residuals, risk_sets
from imgwas.traits.linear import linear_scan
from imgwas.traits.logistic import LogisticFit, firth_test, fit_firth, fit_logistic
from imgwas.traits.outcomes import Trait

logger = logging.getLogger(__name__)

_Z95 = 1.959963984540054
#: Fewer cases (or controls, or events) than this give no fit.
FEWEST_CASES = 2
#: Events per coefficient below which estimates are said to be shaky.
EVENTS_PER_VARIABLE = 10


@dataclass(frozen=True)
class Row:
    """One latent against one trait.

    Parameters
    ----------
    n, n_cases : int
        People, and cases or events among them (0 for a number).
    beta, standard_error : float
        Per SD of the latent: change of a number, log odds ratio, log hazard ratio.
    ci_low, ci_high : float
        95 % interval of beta: t, Wald, or profile of the penalised likelihood.
    statistic, neg_log10_p : float
        t, z, or the signed root of the penalised likelihood ratio.
    method : str
        ``ols``, ``logistic``, ``firth`` or ``cox``; empty where nothing was fitted.
    note : str
        Why not, or what to beware of.
    """

    n: int
    n_cases: int
    beta: float = np.nan
    standard_error: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan
    statistic: float = np.nan
    neg_log10_p: float = np.nan
    method: str = ""
    note: str = ""


@dataclass(frozen=True)
class TraitFit:
    """All latents against one trait.

    Parameters
    ----------
    rows : list of Row
        In the order of the latents.
    score : (samples,) float array
        Residual of the model without any latent; zero for people without the trait.
    """

    rows: list[Row]
    score: Float64[np.ndarray, " samples"]


def fit_trait(
    trait: Trait,
    values: Float64[np.ndarray, " samples"],
    time: Float64[np.ndarray, " samples"] | None,
    latents: Float64[np.ndarray, "samples latents"],
    covariates: Float64[np.ndarray, "samples covariates"],
    *,
    progress: Callable[[int], object] | None = None,
) -> TraitFit:
    """Fit a trait on every latent, one at a time, beside the covariates.

    Parameters
    ----------
    trait : Trait
        Says which model; its own values are not looked at.
    values, time : (samples,) array
        The trait of the people of ``latents``; NaN is missing.
    latents : (samples, latents) array
        Standardised; NaN is missing.
    covariates : (samples, covariates) array
        Complete.
    progress : callable, optional
        Called with the number of latents done.
    """
    has = np.isfinite(values)
    if trait.kind == "number":
        rows = _linear_rows(values, latents, covariates)
        score = np.zeros(len(values))
        if has.sum() > 2:
            score[has] = remove(values[has][:, None], orthonormal_basis(covariates[has]))[:, 0]
        _tell(progress, latents.shape[1])
        return TraitFit(rows, score)
    fit = _fit_logistic_block if trait.kind == "binary" else _fit_cox_block
    rows = [Row(0, 0)] * latents.shape[1]
    for columns, used in missing_patterns(latents, has):
        block = _Block(values[used], None if time is None else time[used], covariates[used])
        fitted = block.problem and [Row(block.n, block.n_cases, note=block.problem)] * len(columns)
        for column, row in zip(columns, fitted or fit(block, latents[used][:, columns], progress),
                               strict=True):  # fmt: skip
            rows[column] = row
    return TraitFit(rows, _null_score(trait.kind, values, time, covariates, has))


def _tell(progress: Callable[[int], object] | None, n: int) -> None:
    if progress is not None:
        progress(n)


def _linear_rows(values: np.ndarray, latents: np.ndarray, covariates: np.ndarray) -> list[Row]:
    from scipy.special import stdtrit

    scan = linear_scan(values[:, None], latents, covariates)
    p = scan.neg_log10_p[0]
    rows = []
    for k in range(latents.shape[1]):
        n, dof = int(scan.n[0, k]), int(scan.dof[0, k])
        beta, error = float(scan.beta[0, k]), float(scan.standard_error[0, k])
        if not np.isfinite(beta):
            rows.append(Row(n, 0, note="nothing is left beside the covariates"))
            continue
        width = float(stdtrit(dof, 0.975)) * error
        rows.append(Row(n, 0, beta, error, beta - width, beta + width, float(scan.t[0, k]),
                        float(p[k]), "ols"))  # fmt: skip
    return rows


class _Block:
    """People who have the trait and some latents, and their covariates as unit columns."""

    def __init__(self, values: np.ndarray, time: np.ndarray | None, covariates: np.ndarray) -> None:
        self.values, self.time = values, time
        self.n, self.n_cases = len(values), int(values.sum())
        basis = orthonormal_basis(covariates) if self.n > 2 else np.empty((self.n, 0))
        self.basis = basis
        self.columns = basis * np.sqrt(max(self.n, 1))
        self.problem = ""
        n_controls = self.n - self.n_cases
        if self.n_cases < FEWEST_CASES or (time is None and n_controls < FEWEST_CASES):
            self.problem = "too few cases or controls"
        elif self.n <= basis.shape[1] + 2:
            self.problem = "fewer people than coefficients"

    def latent(self, column: np.ndarray) -> np.ndarray | None:
        """Centre a latent; None where the covariates leave nothing of it."""
        rest = remove(column[:, None], self.basis)[:, 0]
        centred = column - column.mean()
        if not rest @ rest > 1e-10 * (centred @ centred):
            return None
        return np.asarray(centred)

    def caution(self, n_events: int) -> str:
        """Say that there are few events for the number of coefficients."""
        per = n_events / (self.basis.shape[1] + 1)
        return f"{per:.1f} events per coefficient" if per < EVENTS_PER_VARIABLE else ""


_NOTHING = "nothing is left beside the covariates"


def _fit_logistic_block(
    block: _Block, latents: np.ndarray, progress: Callable[[int], object] | None
) -> list[Row]:
    base = np.column_stack([np.ones(block.n), block.columns])
    null = fit_logistic(block.values, base)
    note = block.caution(min(block.n_cases, block.n - block.n_cases))
    rows = []
    for column in latents.T:
        z = block.latent(column)
        if z is None:
            rows.append(Row(block.n, block.n_cases, note=_NOTHING))
        else:
            rows.append(_logistic_row(block, np.column_stack([base, z]), null, note))
        _tell(progress, 1)
    return rows


def _logistic_row(block: _Block, design: np.ndarray, null: LogisticFit, note: str) -> Row:
    last = design.shape[1] - 1
    fit = null
    if not null.is_separated:
        fit = fit_logistic(block.values, design, start=np.append(null.beta, 0.0))
    if not fit.is_separated:
        return wald_row(block.n, block.n_cases, fit.beta[last], fit.standard_error[last],
                        "logistic", note)  # fmt: skip
    try:
        firth, chi2, (low, high) = firth_test(block.values, design, last)
    except DegenerateError:
        return Row(block.n, block.n_cases, note="separated, and Firth's fit did not settle")
    beta, root = float(firth.beta[last]), float(np.sqrt(chi2))
    return Row(
        block.n, block.n_cases, beta, float(firth.standard_error[last]), low, high,
        float(np.copysign(root, beta)), normal_neg_log10_p(root), "firth",
        "; ".join(text for text in ("cases and controls separate", note) if text),
    )  # fmt: skip


def _fit_cox_block(
    block: _Block, latents: np.ndarray, progress: Callable[[int], object] | None
) -> list[Row]:
    assert block.time is not None
    sets = risk_sets(block.time, block.values == 1)
    start = fit_cox(sets, block.columns).beta
    note = block.caution(block.n_cases)
    rows = []
    for column in latents.T:
        z = block.latent(column)
        if z is None:
            rows.append(Row(block.n, block.n_cases, note=_NOTHING))
            continue
        fit = fit_cox(sets, np.column_stack([block.columns, z]), start=np.append(start, 0.0))
        caution = note if fit.is_settled else "the search did not settle: a covariate has no events"
        rows.append(wald_row(block.n, block.n_cases, fit.beta[-1], fit.standard_error[-1], "cox",
                             caution))  # fmt: skip
        _tell(progress, 1)
    return rows


def wald_row(n: int, n_cases: int, beta: float, error: float, method: str, note: str) -> Row:
    """Row of an estimate with a normal test and interval."""
    beta, error = float(beta), float(error)
    return Row(n, n_cases, beta, error, beta - _Z95 * error, beta + _Z95 * error, beta / error,
               normal_neg_log10_p(beta / error), method, note)  # fmt: skip


def normal_neg_log10_p(z: float) -> float:
    """Two-sided -log10 P of a normal statistic, also where P underflows."""
    from scipy.special import log_ndtr

    return float(max(-(np.log(2) + log_ndtr(-abs(z))) / np.log(10), 0.0))


def _null_score(
    kind: str,
    values: np.ndarray,
    time: np.ndarray | None,
    covariates: np.ndarray,
    has: Bool[np.ndarray, " samples"],
) -> np.ndarray:
    """Residual of the model without any latent: y - p, or events minus expected events."""
    score = np.zeros(len(values))
    block = _Block(values[has], None if time is None else time[has], covariates[has])
    if block.problem:
        return score
    if kind == "binary":
        design = np.column_stack([np.ones(block.n), block.columns])
        null = fit_logistic(block.values, design)
        if null.is_separated:
            null = fit_firth(block.values, design)
        raw = block.values - 1 / (1 + np.exp(-design @ null.beta))
    else:
        assert block.time is not None
        sets = risk_sets(block.time, block.values == 1)
        null_beta = fit_cox(sets, block.columns).beta
        raw = martingale_residuals(sets, block.columns, null_beta)
    # exact zeros, also after a penalised fit
    score[has] = remove(raw[:, None], block.basis)[:, 0]
    return score

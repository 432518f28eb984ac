"""Many traits against many latents by least squares: one matrix product, not one fit a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.latents.basis import missing_patterns, orthonormal_basis, remove
from imgwas.shapes import Float64, Int64
from imgwas.sumstats import neg_log10_p_value

#: A column counts as explained by the covariates below this share of its sum of squares.
EXPLAINED = 1e-10


@dataclass(frozen=True)
class LinearScan:
    """Least squares of every outcome on every exposure.

    Parameters
    ----------
    beta, standard_error, t : (outcomes, exposures) float array
        Change of the outcome per unit of the exposure; NaN where nothing could be fitted.
    dof, n : (outcomes, exposures) int array
        n - rank(C) - 1 with the intercept counted in the rank, and people used.
    """

    beta: Float64[np.ndarray, "outcomes exposures"]
    standard_error: Float64[np.ndarray, "outcomes exposures"]
    t: Float64[np.ndarray, "outcomes exposures"]
    dof: Int64[np.ndarray, "outcomes exposures"]
    n: Int64[np.ndarray, "outcomes exposures"]

    @property
    def neg_log10_p(self) -> Float64[np.ndarray, "outcomes exposures"]:
        """Two-sided -log10 P of t, exact where P underflows."""
        return neg_log10_p_value(self.t, self.dof)


def linear_scan(
    outcomes: Float64[np.ndarray, "samples outcomes"],
    exposures: Float64[np.ndarray, "samples exposures"],
    covariates: Float64[np.ndarray, "samples covariates"],
) -> LinearScan:
    """Fit ``y = [1 C] gamma + x beta + e`` for every outcome y and exposure x.

    Each pair uses the people who have both and every covariate, so a pair's numbers do not depend
    on the others. Outcomes, and exposures, that are missing on the same people share one product
    of residuals ``X'Y`` (Frisch, Waugh and Lovell).

    Parameters
    ----------
    outcomes, exposures, covariates : (samples, columns) float array
        NaN is missing. The intercept is always in the model and never a column.
    """
    shape = (outcomes.shape[1], exposures.shape[1])
    beta, error, t = (np.full(shape, np.nan) for _ in range(3))
    dof, count = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    complete = np.isfinite(covariates).all(axis=1)
    for rows, has_outcome in missing_patterns(outcomes, complete):
        for columns, used in missing_patterns(exposures, has_outcome):
            block = np.ix_(rows, columns)
            fit = _fit(outcomes[used][:, rows], exposures[used][:, columns], covariates[used])
            beta[block], error[block], t[block], dof[block] = fit
            count[block] = int(used.sum())
    return LinearScan(beta, error, t, dof, count)


def _fit(
    outcomes: np.ndarray, exposures: np.ndarray, covariates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    shape = (outcomes.shape[1], exposures.shape[1])
    empty = (np.full(shape, np.nan),) * 3
    if len(outcomes) < 3:
        return *empty, 0
    basis = orthonormal_basis(covariates)
    dof = len(outcomes) - basis.shape[1] - 2
    if dof < 1:
        return *empty, 0
    y, yy = _residual(outcomes, basis)
    x, xx = _residual(exposures, basis)
    xy = y.T @ x
    with np.errstate(invalid="ignore", divide="ignore"):
        beta = xy / xx
        r = np.clip(xy / np.sqrt(np.outer(yy, xx)), -1, 1)
        t = r * np.sqrt(dof / (1 - r * r))
        error = np.sqrt(np.outer(yy, 1 / xx) * (1 - r * r) / dof)
    return beta, error, t, dof


def _residual(values: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns without covariates and their sums of squares; NaN where nothing is left."""
    total = np.square(values - values.mean(axis=0)).sum(axis=0)
    rest = remove(values, basis)
    left = np.square(rest).sum(axis=0)
    floor = EXPLAINED * np.maximum(total, np.square(values).sum(axis=0) * 1e-12)
    return rest, np.where(left > floor, left, np.nan)

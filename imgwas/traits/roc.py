"""Areas under ROC curves, and DeLong's test of the difference of two on the same people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Float64


@dataclass(frozen=True)
class RocAreas:
    """Areas of one or more scores of the same people.

    Parameters
    ----------
    area : (scores,) float array
        Chance that a case scores above a control, ties counted half.
    covariance : (scores, scores) float array
        DeLong's, of the areas.
    n_cases, n_controls : int
        People.
    """

    area: Float64[np.ndarray, " scores"]
    covariance: Float64[np.ndarray, "scores scores"]
    n_cases: int
    n_controls: int

    @property
    def standard_error(self) -> Float64[np.ndarray, " scores"]:
        """Root of the variances."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    def interval(self) -> Float64[np.ndarray, "scores 2"]:
        """95 % interval of each area, normal, cut at 0 and 1."""
        width = 1.959963984540054 * self.standard_error
        return np.asarray(np.clip(np.stack([self.area - width, self.area + width], axis=1), 0, 1))


def roc_areas(
    outcome: Float64[np.ndarray, " samples"], scores: Float64[np.ndarray, "samples scores"]
) -> RocAreas:
    """Areas under the ROC curves of several scores, with their covariance.

    For a case, ``V10`` is the share of controls that it beats; for a control, ``V01`` the share of
    cases that beat it, ties half. The area is the mean of either, and its covariance
    ``S10 / cases + S01 / controls`` with S the sample covariances. Midranks give both in
    O(n log n).

    Parameters
    ----------
    outcome : (samples,) array
        1 for cases, 0 for controls.
    scores : (samples, scores) array
        Larger is more likely a case.

    Raises
    ------
    DegenerateError
        If there are fewer than two cases or two controls.

    References
    ----------
    .. [1] DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837.
    .. [2] Sun & Xu (2014), IEEE Signal Process Lett 21:1389.
    """
    from scipy.stats import rankdata

    is_case = outcome == 1
    m, n = int(is_case.sum()), int((outcome == 0).sum())
    if m < 2 or n < 2 or m + n != len(outcome) or not np.isfinite(scores).all():
        raise DegenerateError(
            explain(f"there are {m:,} cases and {n:,} controls among {len(outcome):,} people",
                    expected="Two of each, nothing missing")
        )  # fmt: skip
    everyone = rankdata(scores, axis=0)
    case_beats = (everyone[is_case] - rankdata(scores[is_case], axis=0)) / n
    control_beaten = 1 - (everyone[~is_case] - rankdata(scores[~is_case], axis=0)) / m
    area = case_beats.mean(axis=0)
    spread = np.atleast_2d(np.cov(case_beats.T)) / m + np.atleast_2d(np.cov(control_beaten.T)) / n
    return RocAreas(area, spread, m, n)


@dataclass(frozen=True)
class AreaDifference:
    """Difference of two areas of the same people: first minus second."""

    difference: float
    standard_error: float
    z: float
    neg_log10_p: float


def delong_test(
    outcome: Float64[np.ndarray, " samples"],
    first: Float64[np.ndarray, " samples"],
    second: Float64[np.ndarray, " samples"],
) -> AreaDifference:
    """Test whether two scores of the same people have the same area, two-sided.

    Scores that order everybody alike have no difference and P = 1.

    References
    ----------
    .. [1] DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837.
    """
    from scipy.special import log_ndtr

    areas = roc_areas(outcome, np.stack([first, second], axis=1))
    contrast = np.array([1.0, -1.0])
    difference = float(contrast @ areas.area)
    variance = max(float(contrast @ areas.covariance @ contrast), 0.0)
    error = float(np.sqrt(variance))
    if error < 1e-12:
        z = 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
    else:
        z = difference / error
    log10_p = (np.log(2) + log_ndtr(-abs(z))) / np.log(10)
    return AreaDifference(difference, error, z, float(max(-log10_p, 0.0)))

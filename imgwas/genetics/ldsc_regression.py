"""LD score regression for many traits at once: arrays in, arrays out.

    E[z_j^2] = N h2 l_j / M + a            E[z_1j z_2j] = sqrt(N1 N2) rho l_j / M + a_12

Ordinary weighted regressions whose weights follow from their own estimates, refined twice.
A variant weighs ``1/(l_j var)``: neighbours say the same thing ``l_j`` times, and a variant with a
large expectation scatters more. Blocks of variants are left out one at a time for standard errors.
Written from the formulas of the papers (Bulik-Sullivan 2015a, 2015b and their supplements).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.genetics.jackknife import jackknife_error
from imgwas.shapes import Bool, Float64, Int64

#: Times the weights are computed again from the estimates.
UPDATES = 2
#: In the first of two steps, variants below this chi-square find the intercept.
FIRST_STEP = 30.0


@dataclass(frozen=True)
class Line:
    """Slope and intercept of weighted regressions, and the same without each block.

    Parameters
    ----------
    slope, intercept : (traits,) float array
        Slope per unit of ``x``.
    deleted_slope, deleted_intercept : (blocks, traits) float array
        With one block left out.
    """

    slope: Float64[np.ndarray, " traits"]
    intercept: Float64[np.ndarray, " traits"]
    deleted_slope: Float64[np.ndarray, "blocks traits"]
    deleted_intercept: Float64[np.ndarray, "blocks traits"]


@dataclass(frozen=True)
class _Sums:
    """Weighted sums by block of variants: of 1, x, x^2, y, xy."""

    w: np.ndarray
    x: np.ndarray
    xx: np.ndarray
    y: np.ndarray
    xy: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> _Sums:
        wx, wy = weight * x, weight * y
        return cls(*(np.add.reduceat(v, edges[:-1], axis=0)
                     for v in (weight, wx, wx * x, wy, wx * y)))  # fmt: skip

    def total(self) -> _Sums:
        return _Sums(*(getattr(self, name).sum(axis=0) for name in vars(self)))

    def deleted(self) -> _Sums:
        return _Sums(*(getattr(self, name).sum(axis=0) - getattr(self, name)
                       for name in vars(self)))  # fmt: skip

    def line(self) -> tuple[np.ndarray, np.ndarray]:
        determinant = self.w * self.xx - self.x * self.x
        slope = (self.w * self.xy - self.x * self.y) / determinant
        return slope, (self.xx * self.y - self.x * self.xy) / determinant

    def slope_through(self, intercept: np.ndarray) -> np.ndarray:
        return np.asarray((self.xy - intercept * self.x) / self.xx)


def fit_line(
    x: Float64[np.ndarray, "variants traits"],
    y: Float64[np.ndarray, "variants traits"],
    weight: Float64[np.ndarray, "variants traits"],
    edges: Int64[np.ndarray, " edges"],
    intercept: Line | Float64[np.ndarray, " traits"] | None = None,
) -> Line:
    """Weighted least squares of each column of ``y`` on ``x``, with every block left out in turn.

    Parameters
    ----------
    x, y, weight : (variants, traits) float array
        A weight of zero leaves the variant out.
    edges : (blocks + 1,) int array
        Blocks of variants.
    intercept : Line or (traits,) float array, optional
        Fixed: a number per trait, or that of another fit, whose own uncertainty is then carried
        along block by block.
    """
    sums = _Sums.of(x, y, weight, edges)
    if intercept is None:
        return Line(*sums.total().line(), *sums.deleted().line())
    if isinstance(intercept, Line):
        value, deleted = intercept.intercept, intercept.deleted_intercept
    else:
        value = intercept
        deleted = np.broadcast_to(intercept, (len(edges) - 1, len(intercept))).copy()
    return Line(
        sums.total().slope_through(value), value, sums.deleted().slope_through(deleted), deleted
    )


@dataclass(frozen=True)
class Heritabilities:
    """LD score regression of chi-square statistics, per trait; lines are on the scale of h2."""

    line: Line
    mean_chi2: Float64[np.ndarray, " traits"]
    n_variants: Int64[np.ndarray, " traits"]

    @property
    def heritability(self) -> np.ndarray:
        """Slope: share of variance."""
        return self.line.slope

    @property
    def heritability_error(self) -> np.ndarray:
        """Jackknife error of the slope."""
        return jackknife_error(self.line.deleted_slope)

    @property
    def intercept_error(self) -> np.ndarray:
        """Jackknife error of the intercept."""
        return jackknife_error(self.line.deleted_intercept)

    @property
    def ratio(self) -> np.ndarray:
        """Share of the inflation that is not polygenic, ``(a - 1)/(mean chi2 - 1)``."""
        return self._ratio(self.line.intercept - 1)

    @property
    def ratio_error(self) -> np.ndarray:
        """Error of the ratio, the mean taken as known."""
        return self._ratio(self.intercept_error)

    def _ratio(self, excess: np.ndarray) -> np.ndarray:
        inflation = self.mean_chi2 - 1
        defined = np.where(inflation > 0, inflation, np.nan)
        return np.asarray(excess / defined)


def regress_chi2(
    chi2: Float64[np.ndarray, "variants traits"],
    score: Float64[np.ndarray, " variants"],
    n: Float64[np.ndarray, "variants traits"],
    n_effects: float,
    edges: Int64[np.ndarray, " edges"],
    *,
    two_step: float | None = FIRST_STEP,
    intercept: float | None = None,
    chi2_max: float | None = None,
) -> Heritabilities:
    """Heritability and intercept of each trait.

    Parameters
    ----------
    chi2 : (variants, traits) float array
        Squared z; NaN leaves a variant out of that trait.
    score : (variants,) float array
        LD scores.
    n : (variants, traits) float array
        People.
    n_effects : float
        ``M`` of the scores.
    edges : (blocks + 1,) int array
        Blocks of variants.
    two_step : float, optional
        Variants below this chi-square find the intercept, then all find the slope. None is one
        step.
    intercept : float, optional
        Fixed intercept.
    chi2_max : float, optional
        Leave out larger ones; by default the larger of 80 and n/1000 in two steps or with a fixed
        intercept, and none otherwise.
    """
    here = np.isfinite(chi2) & np.isfinite(score)[:, None] & (n > 0)
    if chi2_max is None and (two_step is not None or intercept is not None):
        chi2_max = max(80.0, 0.001 * float(np.max(n[here], initial=0.0)))
    if chi2_max is not None:
        here &= np.where(here, chi2, np.inf) < chi2_max
    y, floored = np.where(here, chi2, 0.0), np.maximum(score, 1.0)
    people = np.where(here, n, 0.0)
    x = people * score[:, None] / n_effects
    mean = _mean(y, here)

    def refined(used: Bool[np.ndarray, "variants traits"], fixed: Line | np.ndarray | None) -> Line:
        a = np.ones(y.shape[1]) if fixed is None else _value(fixed)
        h2 = (_mean(y, used) - a) / _mean(x, used)
        for _ in range(UPDATES):
            weight = _chi2_weight(floored, people, n_effects, h2, a, used)
            total = _Sums.of(x, y, weight, edges).total()
            if fixed is None:
                h2, a = total.line()
            else:
                h2 = total.slope_through(a)
        return fit_line(x, y, _chi2_weight(floored, people, n_effects, h2, a, used), edges, fixed)

    if intercept is not None:
        line = refined(here, np.full(y.shape[1], float(intercept)))
    elif two_step is None:
        line = refined(here, None)
    else:
        line = refined(here, refined(here & (y < two_step), None))
    return Heritabilities(line, mean, here.sum(axis=0))


def _value(fixed: Line | np.ndarray) -> np.ndarray:
    return fixed.intercept if isinstance(fixed, Line) else fixed


def _mean(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(used, values, 0.0).sum(axis=0) / np.maximum(used.sum(axis=0), 1))


def _chi2_weight(
    score: np.ndarray,
    n: np.ndarray,
    n_effects: float,
    h2: np.ndarray,
    a: np.ndarray,
    used: np.ndarray,
) -> np.ndarray:
    expected = a + np.clip(h2, 0, 1) * n * score[:, None] / n_effects
    return np.asarray(np.where(used, 1 / (score[:, None] * 2 * expected**2), 0.0))


@dataclass(frozen=True)
class Correlations:
    """Cross-trait LD score regression, one column per pair."""

    first: Heritabilities
    second: Heritabilities
    line: Line

    @property
    def correlation(self) -> np.ndarray:
        """Genetic correlation; NaN where a heritability is not positive."""
        return _ratio(self.line.slope, self.first.line.slope, self.second.line.slope)

    @property
    def correlation_error(self) -> np.ndarray:
        """Jackknife error of :attr:`correlation`."""
        deleted = _ratio(
            self.line.deleted_slope, self.first.line.deleted_slope, self.second.line.deleted_slope
        )
        return jackknife_error(deleted)


def _ratio(covariance: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    product = np.where((one > 0) & (other > 0), one * other, np.nan)
    return np.asarray(covariance / np.sqrt(product))


def regress_products(
    z1: Float64[np.ndarray, "variants traits"],
    z2: Float64[np.ndarray, "variants traits"],
    score: Float64[np.ndarray, " variants"],
    n1: Float64[np.ndarray, "variants traits"],
    n2: Float64[np.ndarray, "variants traits"],
    n_effects: float,
    edges: Int64[np.ndarray, " edges"],
) -> Correlations:
    """Genetic covariance and correlation of pairs of traits on the same effect alleles.

    Parameters
    ----------
    z1, z2 : (variants, traits) float array
        Statistics of the first and second trait of each pair; NaN leaves a variant out.
    score : (variants,) float array
        LD scores.
    n1, n2 : (variants, traits) float array
        People of each.
    n_effects : float
        ``M`` of the scores.
    edges : (blocks + 1,) int array
        Blocks of variants.
    """
    here = np.isfinite(z1) & np.isfinite(z2) & np.isfinite(score)[:, None]
    one = regress_chi2(np.where(here, z1**2, np.nan), score, n1, n_effects, edges, two_step=None)
    two = regress_chi2(np.where(here, z2**2, np.nan), score, n2, n_effects, edges, two_step=None)
    y, floored = np.where(here, z1 * z2, 0.0), np.maximum(score, 1.0)[:, None]
    both = np.sqrt(n1 * n2)
    x = both * score[:, None] / n_effects
    slope, a = _mean(y, here) / _mean(x, here), np.zeros(y.shape[1])

    def weight() -> np.ndarray:
        v1 = np.clip(one.heritability, 0, 1) * n1 * floored / n_effects + one.line.intercept
        v2 = np.clip(two.heritability, 0, 1) * n2 * floored / n_effects + two.line.intercept
        c = np.clip(slope, -1, 1) * both * floored / n_effects + a
        return np.asarray(np.where(here, 1 / (floored * (v1 * v2 + c * c)), 0.0))

    for _ in range(UPDATES):
        slope, a = _Sums.of(x, y, weight(), edges).total().line()
    return Correlations(one, two, fit_line(x, y, weight(), edges))

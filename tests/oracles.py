"""Slow, obvious, independent answers that the fast code must give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import statsmodels.api as sm


@dataclass(frozen=True)
class Fit:
    """One ordinary least squares fit of a trait on a variant and covariates."""

    beta: float
    standard_error: float
    t: float
    dof: float
    n: int


def ols(trait: np.ndarray, dosage: np.ndarray, covariates: np.ndarray) -> Fit:
    """Fit by statsmodels on the people who have everything; the variant is the last column."""
    complete = np.isfinite(trait) & np.isfinite(dosage) & np.isfinite(covariates).all(axis=1)
    design = np.column_stack([np.ones(complete.sum()), covariates[complete], dosage[complete]])
    fit = sm.OLS(trait[complete], design).fit()
    return Fit(fit.params[-1], fit.bse[-1], fit.tvalues[-1], fit.df_resid, int(complete.sum()))


def mean_imputed(dosage: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Replace missing calls by the mean among some people."""
    return np.where(np.isnan(dosage), np.nanmean(dosage[people]), dosage)


def codes_of(dosage: np.ndarray) -> np.ndarray:
    """PLINK's two-bit codes of effect-allele counts, packed by a plain loop."""
    table = {2.0: 0b00, 1.0: 0b10, 0.0: 0b11}
    n_variants, n_people = dosage.shape
    packed = np.zeros((n_variants, -(-n_people // 4)), np.uint8)
    for variant in range(n_variants):
        for person in range(n_people):
            value = dosage[variant, person]
            code = 0b01 if np.isnan(value) else table[float(value)]
            packed[variant, person // 4] |= code << (2 * (person % 4))
    return packed

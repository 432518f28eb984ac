"""Latents against traits of people: numbers, cases and controls, times to an event."""

from __future__ import annotations

from imgwas.traits.calibration import (
    brier_score,
    calibration_curve,
    calibration_line,
    decision_curve,
    log_loss,
)
from imgwas.traits.cases import code_matches, define_cases, follow_up
from imgwas.traits.cox import CoxFit, fit_cox, martingale_residuals, risk_sets
from imgwas.traits.curves import kaplan_meier, log_rank, nelson_aalen
from imgwas.traits.dates import Dates, Diagnoses, read_dates, read_definitions, read_diagnoses
from imgwas.traits.hazards import concordance, hazard_ratios, proportional_hazards_test
from imgwas.traits.held_out import check_held_out, evaluate_scores
from imgwas.traits.linear import LinearScan, linear_scan
from imgwas.traits.logistic import LogisticFit, firth_test, fit_firth, fit_logistic
from imgwas.traits.multiple import max_t
from imgwas.traits.outcomes import Trait, read_traits
from imgwas.traits.roc import RocAreas, delong_test, roc_areas
from imgwas.traits.scan import associate_traits

__all__ = [
    "CoxFit",
    "Dates",
    "Diagnoses",
    "LinearScan",
    "LogisticFit",
    "RocAreas",
    "Trait",
    "associate_traits",
    "brier_score",
    "calibration_curve",
    "calibration_line",
    "check_held_out",
    "code_matches",
    "concordance",
    "decision_curve",
    "define_cases",
    "delong_test",
    "evaluate_scores",
    "firth_test",
    "fit_cox",
    "fit_firth",
    "fit_logistic",
    "follow_up",
    "hazard_ratios",
    "kaplan_meier",
    "linear_scan",
    "log_loss",
    "log_rank",
    "martingale_residuals",
    "max_t",
    "nelson_aalen",
    "proportional_hazards_test",
    "read_dates",
    "read_definitions",
    "read_diagnoses",
    "read_traits",
    "risk_sets",
    "roc_areas",
]

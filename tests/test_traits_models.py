"""Logistic, Firth, Cox, curves, DeLong, calibration: each against another way to its number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, stats
from statsmodels.duration.hazard_regression import PHReg

from imgwas.errors import DegenerateError, MalformedError
from imgwas.traits import (
    brier_score,
    calibration_curve,
    calibration_line,
    concordance,
    decision_curve,
    delong_test,
    firth_test,
    fit_cox,
    fit_firth,
    fit_logistic,
    hazard_ratios,
    kaplan_meier,
    log_loss,
    log_rank,
    martingale_residuals,
    nelson_aalen,
    proportional_hazards_test,
    risk_sets,
    roc_areas,
)

#: Weeks of remission of children with leukaemia, 6-mercaptopurine and placebo, + censored:
#: Freireich et al. (1963), Blood 21:699, the table of Cox (1972).
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
TREATED_EVENTS = [1] * 9 + [0] * 12
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def leukaemia() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, events and 1 for placebo."""
    time = np.array(TREATED + PLACEBO, float)
    event = np.array(TREATED_EVENTS + [1] * 21, bool)
    return time, event, np.repeat([0.0, 1.0], 21)


def follow(seed: int, n: int = 600, beta: tuple[float, ...] = (0.5, -0.3, 0.0)):
    """Exponential times in whole months, so that many are tied, with random censoring."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(beta)))
    time = np.ceil(rng.exponential(20 * np.exp(-x @ np.array(beta))))
    stop = np.ceil(rng.exponential(20, n))
    return x, np.minimum(time, stop), time <= stop


def test_cox_gives_the_published_answer_for_leukaemia():
    """beta 1.572 (0.412) by Efron's ties, as in textbooks and R's survival."""
    time, event, placebo = leukaemia()
    fit = fit_cox(risk_sets(time, event), placebo[:, None])
    assert fit.beta[0] == pytest.approx(1.5721, abs=1e-4)
    assert fit.standard_error[0] == pytest.approx(0.4124, abs=1e-4)
    assert np.exp(fit.beta[0]) == pytest.approx(4.817, abs=1e-3)


def test_kaplan_meier_gives_the_published_curve_for_leukaemia():
    """The treated arm's table of Kalbfleisch and Prentice: 0.857 at 6 weeks, 0.448 at 23."""
    curve = kaplan_meier(np.array(TREATED, float), np.array(TREATED_EVENTS, bool))
    at = curve.set_index("time")
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    for week, survival in published.items():
        assert at.loc[week, "survival"] == pytest.approx(survival, abs=5e-4)
    greenwood = {6: 0.0764, 7: 0.0869, 10: 0.0963, 13: 0.1068, 16: 0.1141, 22: 0.1282, 23: 0.1346}
    for week, error in greenwood.items():
        assert at.loc[week, "standard_error"] == pytest.approx(error, abs=5e-5)
    assert at.loc[10, "n_at_risk"] == 15
    assert list(curve["survival"]) == sorted(curve["survival"], reverse=True)


def test_log_rank_gives_the_published_answer_for_leukaemia():
    time, event, placebo = leukaemia()
    statistic, neg_log10_p, dof = log_rank(time, event, placebo.astype(np.int64))
    assert statistic == pytest.approx(16.79, abs=5e-3)
    assert dof == 1
    assert neg_log10_p == pytest.approx(-np.log10(stats.chi2.sf(statistic, 1)))


@pytest.mark.parametrize("seed", range(3))
def test_cox_equals_statsmodels_with_ties(seed):
    x, time, event = follow(seed)
    fit = fit_cox(risk_sets(time, event), x)
    slow = PHReg(time, x, status=event, ties="efron").fit()
    np.testing.assert_allclose(fit.beta, slow.params, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fit.standard_error, slow.bse, rtol=1e-8)
    assert fit.log_likelihood == pytest.approx(slow.llf, rel=1e-10)


def test_martingale_residuals_are_orthogonal_to_what_was_fitted():
    x, time, event = follow(4)
    sets = risk_sets(time, event)
    residual = martingale_residuals(sets, x, fit_cox(sets, x).beta)
    assert residual.sum() == pytest.approx(0, abs=1e-8)
    np.testing.assert_allclose(x.T @ residual, 0, atol=1e-7)


def test_hazard_ratios_of_simulated_survival_are_within_two_errors():
    z = np.array([
        (fit.beta[0] - 0.4) / fit.standard_error[0]
        for fit in (fit_cox(risk_sets(t, e), x) for x, t, e in
                    (follow(seed, 400, (0.4, 0.2)) for seed in range(100, 160)))
    ])  # fmt: skip
    assert (np.abs(z) < 2).mean() >= 0.9
    assert abs(z.mean()) < 0.35
    assert 0.75 < z.std() < 1.25


def test_a_covariate_without_events_is_said_not_to_settle():
    x, time, event = follow(5)
    empty = np.zeros(len(time))
    empty[np.flatnonzero(~event)[:40]] = 1
    assert not fit_cox(risk_sets(time, event), np.column_stack([x, empty])).is_settled
    with pytest.raises(DegenerateError, match="nobody has an event"):
        risk_sets(time, np.zeros(len(time), bool))


def test_survival_equals_lifelines():
    lifelines = pytest.importorskip("lifelines")
    from lifelines.statistics import multivariate_logrank_test, proportional_hazard_test
    from lifelines.utils import concordance_index

    x, time, event = follow(6)
    frame = pd.DataFrame(x).assign(time=time, event=event)
    theirs = lifelines.CoxPHFitter().fit(frame, "time", "event")
    sets = risk_sets(time, event)
    ours = fit_cox(sets, x)
    np.testing.assert_allclose(ours.beta, theirs.params_.to_numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.standard_error, theirs.standard_errors_.to_numpy(), atol=1e-6)
    for transform in ("rank", "identity"):
        test = proportional_hazard_test(theirs, frame, time_transform=transform)
        chi2, _ = proportional_hazards_test(sets, time, x, ours, transform=transform)
        np.testing.assert_allclose(chi2, test.test_statistic, rtol=1e-4)
    risk = x @ ours.beta
    assert concordance(time, event, risk) == pytest.approx(concordance_index(time, -risk, event))
    group = np.arange(len(time)) % 3
    test = multivariate_logrank_test(time, group, event)
    assert log_rank(time, event, group)[0] == pytest.approx(test.test_statistic)
    curve, slow = kaplan_meier(time, event), lifelines.KaplanMeierFitter().fit(time, event)
    np.testing.assert_allclose(curve["survival"], slow.survival_function_.iloc[:, 0], rtol=1e-10)
    bounds = slow.confidence_interval_.to_numpy()
    np.testing.assert_allclose(curve[["ci_low", "ci_high"]].iloc[:-1], bounds[:-1], rtol=1e-8)
    slow = lifelines.NelsonAalenFitter(nelson_aalen_smoothing=False).fit(time, event)
    hazard = nelson_aalen(time, event)["hazard"]
    np.testing.assert_allclose(hazard, slow.cumulative_hazard_.iloc[:, 0], rtol=1e-10)


def test_concordance_counts_pairs():
    """Against every pair, one by one, with ties in time and risk."""
    rng = np.random.default_rng(7)
    time, risk = rng.integers(1, 12, 60).astype(float), rng.integers(0, 8, 60).astype(float)
    event = rng.random(60) < 0.6
    good = total = 0.0
    for i in range(60):
        for j in range(60):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                total += 1
                good += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    assert concordance(time, event, risk) == pytest.approx(good / total, rel=1e-12)


def test_hazard_ratios_of_thirds_equal_statsmodels_whatever_the_reference():
    x, time, event = follow(16)
    names = np.array(["low", "middle", "high"])
    third = names[np.digitize(x[:, 0], np.quantile(x[:, 0], [1 / 3, 2 / 3]))]
    c = x[:, 1:] * [1, 100]
    tables = {
        one: hazard_ratios(time, event, third.tolist(), reference=one, covariates=c).set_index(
            "group"
        )
        for one in names
    }
    dummies = np.column_stack([third == "high", third == "low", c]).astype(float)
    slow = PHReg(time, dummies, status=event, ties="efron").fit()
    row = tables["middle"].loc[["high", "low"]]
    np.testing.assert_allclose(row["beta"], slow.params[:2], rtol=1e-7)
    np.testing.assert_allclose(row["standard_error"], slow.bse[:2], rtol=1e-7)
    np.testing.assert_allclose(10 ** -row["neg_log_10_p_value"], slow.pvalues[:2], rtol=1e-5)
    assert tables["low"].loc["high", "beta"] == pytest.approx(-tables["high"].loc["low", "beta"])
    assert tables["middle"].loc["middle", "beta"] == 0
    assert tables["low"]["n_events"].sum() == event.sum()
    with pytest.raises(DegenerateError, match="at least one other"):
        hazard_ratios(time, event, ["low"] * len(time), reference="low")


def test_nelson_aalen_adds_events_over_people_at_risk():
    time = np.array([1, 2, 2, 3, 4.0])
    event = np.array([True, True, True, False, True])
    curve = nelson_aalen(time, event)
    np.testing.assert_allclose(curve["hazard"], [0, 1 / 5, 1 / 5 + 2 / 4, 0.7, 1.7])
    np.testing.assert_allclose(
        curve["standard_error"] ** 2, np.array([0, 1 / 25, 1 / 25 + 2 / 16, 0.165, 1.165])
    )
    with pytest.raises(MalformedError, match="not above zero"):
        nelson_aalen(np.array([0.0, 1.0]), np.array([True, False]))


def test_logistic_equals_statsmodels():
    rng = np.random.default_rng(8)
    x = np.column_stack([np.ones(500), rng.standard_normal((500, 3)) * [1, 10, 0.1]])
    y = (rng.random(500) < 1 / (1 + np.exp(-x @ [-1, 0.5, 0.05, -2]))).astype(float)
    fit, slow = fit_logistic(y, x), sm.Logit(y, x).fit(disp=0)
    np.testing.assert_allclose(fit.beta, slow.params, rtol=1e-7)
    np.testing.assert_allclose(fit.standard_error, slow.bse, rtol=1e-7)
    assert fit.log_likelihood == pytest.approx(slow.llf)
    assert not fit.is_separated


def test_firth_of_a_two_by_two_table_adds_half_to_each_cell():
    """A saturated table has this answer (Firth 1993), separated or not."""
    y = np.repeat([1.0, 1.0, 0.0], [12, 7, 9])
    exposed = np.repeat([1.0, 0.0], [12, 16])
    x = np.column_stack([np.ones(28), exposed])
    assert fit_logistic(y, x).is_separated
    fit = fit_firth(y, x)
    assert fit.beta[0] == pytest.approx(np.log(7.5 / 9.5), abs=1e-7)
    assert fit.beta[1] == pytest.approx(np.log(12.5 / 0.5) - np.log(7.5 / 9.5), abs=1e-6)


def test_firth_and_its_interval_maximise_the_penalised_likelihood():
    """Against a general optimiser of the likelihood as it is written."""
    rng = np.random.default_rng(9)
    x = np.column_stack([np.ones(60), rng.standard_normal((60, 2))])
    y = (x[:, 1] > 0.3).astype(float)

    def penalised(beta):
        eta = x @ beta
        p = 1 / (1 + np.exp(-eta))
        information = (x * (p * (1 - p))[:, None]).T @ x
        likelihood = (y * eta - np.logaddexp(0, eta)).sum()
        return -likelihood - 0.5 * np.linalg.slogdet(information)[1]

    fit, statistic, (low, high) = firth_test(y, x, 1)
    best = optimize.minimize(penalised, np.zeros(3), method="Nelder-Mead",
                             options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000})  # fmt: skip
    np.testing.assert_allclose(fit.beta, best.x, atol=1e-5)

    def profile(value):
        starts = (fit.beta[[0, 2]], fit.beta[[0, 2]] * value / fit.beta[1], np.zeros(2))
        held = [
            optimize.minimize(
                lambda b: penalised(np.array([b[0], value, b[1]])), start, method="Nelder-Mead",
                options={"xatol": 1e-8, "fatol": 1e-11, "maxiter": 5000},
            ).fun
            for start in starts
        ]  # fmt: skip
        return 2 * (min(held) - best.fun)

    assert statistic == pytest.approx(profile(0.0), abs=1e-5)
    assert profile(low) == pytest.approx(3.8415, abs=1e-3)
    assert profile(high) == pytest.approx(3.8415, abs=1e-3)
    assert low < fit.beta[1] < high


def test_delong_gives_the_published_answer_for_the_ct_readings():
    """Hanley and McNeil (1982): area 0.893; DeLong's error and interval as in Stata's manual."""
    normal = np.repeat([1, 2, 3, 4, 5], [33, 6, 6, 11, 2])
    abnormal = np.repeat([1, 2, 3, 4, 5], [3, 2, 2, 11, 33])
    outcome = np.repeat([0.0, 1.0], [58, 51])
    areas = roc_areas(outcome, np.concatenate([normal, abnormal]).astype(float)[:, None])
    assert areas.area[0] == pytest.approx(0.8932, abs=5e-5)
    assert areas.standard_error[0] == pytest.approx(0.0307, abs=5e-5)
    np.testing.assert_allclose(areas.interval()[0], [0.83295, 0.95339], atol=5e-6)


def test_delong_equals_its_definition():
    """Every case against every control, one by one."""
    rng = np.random.default_rng(10)
    y = np.repeat([1.0, 0.0], [25, 40])
    scores = rng.integers(0, 12, (65, 2)) + y[:, None] * [2, 1]
    kernel = (np.sign(scores[:25, None] - scores[None, 25:]) + 1) / 2
    cases, controls = kernel.mean(axis=1), kernel.mean(axis=0)
    covariance = np.cov(cases.T) / 25 + np.cov(controls.T) / 40
    areas = roc_areas(y, scores.astype(float))
    np.testing.assert_allclose(areas.area, cases.mean(axis=0))
    np.testing.assert_allclose(areas.covariance, covariance)
    test = delong_test(y, scores[:, 0].astype(float), scores[:, 1].astype(float))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert test.z == pytest.approx((areas.area[0] - areas.area[1]) / np.sqrt(variance))
    assert test.neg_log10_p == pytest.approx(-np.log10(2 * stats.norm.sf(abs(test.z))))


def test_delong_of_a_score_with_itself_is_no_difference():
    y = np.repeat([1.0, 0.0], [25, 40])
    score = np.random.default_rng(11).standard_normal(65)
    test = delong_test(y, score, 2 * score + 1)
    assert (test.difference, test.z, test.neg_log10_p) == (0, 0, 0)
    with pytest.raises(DegenerateError, match="25 cases and 0 controls"):
        delong_test(y[:25], score[:25], score[:25])


def delong_rejections(n_runs: int, seed: int) -> float:
    """How often two equally good scores of 1,000 people, 5 % of them cases, differ at 5 %."""
    rng = np.random.default_rng(seed)
    y = np.repeat([1.0, 0.0], [50, 950])
    p = []
    for _ in range(n_runs):
        common = rng.standard_normal(1000) + 0.8 * y
        first, second = (common + 0.7 * rng.standard_normal(1000) for _ in range(2))
        p.append(delong_test(y, first, second).neg_log10_p)
    return float((np.array(p) >= -np.log10(0.05)).mean())


def test_delong_rejects_five_percent_of_true_nulls():
    assert 0.02 < delong_rejections(400, 12) < 0.085


def test_calibration_scores_by_hand():
    y, p = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.2, 0.4, 0.4])
    assert brier_score(y, p) == pytest.approx((0.01 + 0.04 + 0.36 + 0.16) / 4)
    assert log_loss(y, p) == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.6]).mean())
    with pytest.raises(MalformedError, match="outside 0 to 1"):
        brier_score(y, p + 0.5)


def test_brier_and_log_loss_equal_sklearn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(13)
    p = rng.random(300)
    y = (rng.random(300) < p).astype(float)
    assert brier_score(y, p) == pytest.approx(metrics.brier_score_loss(y, p), rel=1e-12)
    assert log_loss(y, p) == pytest.approx(metrics.log_loss(y, p), rel=1e-12)
    assert roc_areas(y, p[:, None]).area[0] == pytest.approx(metrics.roc_auc_score(y, p))


def test_calibration_curve_and_line_see_predictions_that_are_too_extreme():
    rng = np.random.default_rng(14)
    logit = rng.standard_normal(20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(float)
    right, extreme = (1 / (1 + np.exp(-factor * logit)) for factor in (1, 2))
    curve = calibration_curve(y, right)
    assert curve["n"].sum() == 20_000
    assert (
        (curve["ci_low"] < curve["predicted"]) & (curve["predicted"] < curve["ci_high"])
    ).sum() >= 8
    np.testing.assert_allclose(calibration_line(y, right), (0, 1), atol=0.08)
    assert calibration_line(y, extreme)[1] == pytest.approx(0.5, abs=0.04)
    wide = calibration_curve(y, extreme)
    assert wide["predicted"].iloc[-1] > wide["ci_high"].iloc[-1]


def test_people_of_one_probability_are_never_split():
    y, p = np.array([0.0, 1.0] * 10), np.repeat([0.1, 0.2, 0.7], [14, 3, 3])
    curve = calibration_curve(y, p, n_bins=5)
    assert list(curve["n"]) == [14, 6]
    np.testing.assert_allclose(curve["predicted"], [0.1, 0.45])


def test_decision_curve_counts():
    """Net benefit by counting at each threshold; treat-all and treat-none exactly."""
    rng = np.random.default_rng(15)
    p = rng.random(200).round(2)
    y = (rng.random(200) < p).astype(float)
    curve = decision_curve(y, p)
    for _, row in curve.iterrows():
        treated = p >= row["threshold"]
        odds = row["threshold"] / (1 - row["threshold"])
        right, wrong = (treated & (y == 1)).sum(), (treated & (y == 0)).sum()
        assert row["net_benefit"] == pytest.approx(right / 200 - wrong / 200 * odds, abs=1e-12)
        assert row["treat_all"] == pytest.approx(y.mean() - (1 - y.mean()) * odds, abs=1e-12)
    assert (curve["treat_none"] == 0).all()

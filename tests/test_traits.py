"""Who is a case, and every latent against every trait."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.duration.hazard_regression import PHReg

from imgwas import Covariates, Latents
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    RefusedError,
    UsageError,
)
from imgwas.latents.ledger import mark_people
from imgwas.traits import (
    Trait,
    associate_traits,
    code_matches,
    define_cases,
    follow_up,
    linear_scan,
    max_t,
    read_dates,
    read_definitions,
    read_diagnoses,
    read_traits,
)

N = 400
IDS = tuple(f"p{i:04d}" for i in range(N))


def cohort(seed: int = 0, n: int = N, effect: float = 0.5):
    """Three latents, two covariates that they depend on, and z0's effect on a liability."""
    rng = np.random.default_rng(seed)
    c = np.column_stack([rng.normal(60, 8, n), rng.integers(0, 2, n)]).astype(float)
    z = rng.standard_normal((n, 3)) + 0.5 * (c[:, :1] - 60) / 8
    liability = effect * z[:, 0] + 0.6 * (c[:, 0] - 60) / 8 + rng.standard_normal(n)
    ids = tuple(f"p{i:04d}" for i in range(n))
    return (Latents(5 * z + 2, ids, ("z0", "z1", "z2")), Covariates(c, ids, ("age", "sex")),
            liability, rng)  # fmt: skip


# --- who is a case


@pytest.mark.parametrize(
    ("code", "wanted", "answer"),
    [
        ("I21", "I21", True), ("I21.4", "I214", True), ("i214", "I21.4", True),
        ("I214", "I21", False), ("I21", "I214", False), ("XI21", "I21", False),
        ("I214", "I21*", True), ("I21", "I21*", True), ("I2", "I21*", False),
        ("XI214", "I21*", False), ("E110", "E11.0", True), ("E11", "E1", False),
    ],
)  # fmt: skip
def test_codes_match_as_a_whole(code, wanted, answer):
    assert code_matches(code, wanted) is answer


def write_records(folder):
    """Six people imaged on the first of January 2015."""
    (folder / "people.tsv").write_text(
        "eid\timaging\tdeath\tlost\n"
        "1\t2015-01-01\tNA\tNA\n2\t2015-01-01\t\t2016-01-01\n3\t2015-01-01\t2018-01-01\tNA\n"
        "4\t2015-01-01\tNA\tNA\n5\t2015-01-01\tNA\tNA\n6\t2015-01-01\tNA\tNA\n7\tNA\tNA\tNA\n"
    )
    (folder / "diagnoses.tsv").write_text(
        "eid\tcode\tdate\n"
        "1\tI21.4\t2012-06-01\n1\tI21\t2015-06-01\n"  # first one counts: prevalent, in the window
        "2\tI210\t2015-06-01\n"  # incident, in the window
        "3\tI21\t2005-01-01\n"  # long before: neither
        "4\tI21\t1900-01-01\n"  # date not known: neither
        "5\tXI21\t2014-01-01\n"  # another code: control
        "6\tI21\t2017-01-01\n"  # after the window: neither, an event of follow-up
        "99\tI21\t2015-01-01\n"  # not imaged
    )
    (folder / "definitions.tsv").write_text("trait\tcode\nMI\tI21*\n")
    dates = read_dates(folder / "people.tsv", ["imaging", "death", "lost"])
    return (
        read_diagnoses(folder / "diagnoses.tsv"),
        read_definitions(folder / "definitions.tsv"),
        dates,
    )


def test_cases_lie_in_the_window_and_others_are_no_controls(tmp_path):
    diagnoses, definitions, dates = write_records(tmp_path)
    (trait,) = define_cases(diagnoses, definitions, dates["imaging"], min_cases=1)
    np.testing.assert_array_equal(trait.values[:6], [1, 1, np.nan, np.nan, 0, np.nan])
    assert trait.counts["outside the window"] == 2
    assert trait.counts["without a usable date"] == 1
    assert (trait.counts["prevalent in the window"], trait.counts["incident in the window"]) == (
        1,
        1,
    )
    (prevalent,) = define_cases(
        diagnoses, definitions, dates["imaging"], which="prevalent", min_cases=1
    )
    np.testing.assert_array_equal(prevalent.values[:6], [1, np.nan, np.nan, np.nan, 0, np.nan])


def test_follow_up_has_everyones_own_censoring(tmp_path):
    diagnoses, definitions, dates = write_records(tmp_path)
    (trait,) = follow_up(
        diagnoses, definitions, dates["imaging"], end="2016-07-01", death=dates["death"],
        lost=dates["lost"], min_cases=1,
    )  # fmt: skip
    # prevalent, event, prevalent, undated, censored at the end, event after the end, not imaged
    np.testing.assert_array_equal(trait.values, [np.nan, 1, np.nan, np.nan, 0, 0, np.nan])
    days = [np.nan, 151, np.nan, np.nan, 547, 547, np.nan]
    np.testing.assert_allclose(trait.time, np.array(days) / 365.25)
    assert trait.counts["diagnosed after censoring"] == 1
    (short,) = follow_up(
        diagnoses, definitions, dates["imaging"], end="2020-01-01", death=dates["death"],
        lost=dates["lost"], horizon=1.0, min_cases=1,
    )  # fmt: skip
    assert short.time[4] == pytest.approx(1.0)
    assert short.values[5] == 0
    (whole,) = follow_up(diagnoses, definitions, dates["imaging"], end="2020-01-01", min_cases=1)
    assert whole.values[5] == 1


def test_death_and_loss_censor(tmp_path):
    _, _, dates = write_records(tmp_path)
    (tmp_path / "d.tsv").write_text("eid\tcode\tdate\n6\tI21\t2017-01-01\n")
    (trait,) = follow_up(
        read_diagnoses(tmp_path / "d.tsv"), {"MI": ["I21"]}, dates["imaging"], end="2020-01-01",
        death=dates["death"], lost=dates["lost"], min_cases=1,
    )  # fmt: skip
    np.testing.assert_allclose(trait.time[[1, 2]] * 365.25, [365, 1096])
    assert trait.values[[1, 2]].tolist() == [0, 0]


def test_too_few_cases_are_left_out_by_name(tmp_path):
    diagnoses, definitions, dates = write_records(tmp_path)
    with pytest.raises(DegenerateError, match="none of 1 diseases has 200 cases"):
        define_cases(diagnoses, definitions, dates["imaging"])


def test_bad_dates_are_named_with_their_line(tmp_path):
    (tmp_path / "d.tsv").write_text("eid\tcode\tdate\n1\tI21\t2015-01-01\n2\tI21\t31/12/2015\n")
    with pytest.raises(MalformedError, match=r"d.tsv:3 has '31/12/2015' in column date"):
        read_diagnoses(tmp_path / "d.tsv")
    with pytest.raises(UsageError, match="no column 'icd10'"):
        read_diagnoses(tmp_path / "d.tsv", code_column="icd10")


def test_traits_of_a_table_are_checked(tmp_path):
    (tmp_path / "t.tsv").write_text("IID\tbmi\tcase\tlevel\na\t25.5\t2\t0\nb\tNA\t1\t3\n")
    bmi, case = read_traits(tmp_path / "t.tsv", numbers=["bmi"], binary=["case"])
    np.testing.assert_array_equal(bmi.values, [25.5, np.nan])
    np.testing.assert_array_equal(case.values, [1, 0])
    with pytest.raises(MalformedError, match="level holds 3"):
        read_traits(tmp_path / "t.tsv", binary=["level"])
    with pytest.raises(MalformedError, match="not above zero"):
        Trait("x", "survival", np.array([1.0]), ("a",), np.array([0.0]))


# --- the scan


def test_linear_scan_equals_statsmodels_pair_by_pair_with_missing_values():
    rng = np.random.default_rng(1)
    c = rng.standard_normal((120, 3)) @ np.diag([1, 100, 1e-3])
    x = rng.standard_normal((120, 3)) + c[:, :1]
    y = rng.standard_normal((120, 4)) + c[:, :1] + x[:, :1]
    y[rng.random(y.shape) < 0.1] = np.nan
    x[rng.random(120) < 0.1, 1] = np.nan
    scan = linear_scan(y, x, c)
    for i in range(4):
        for j in range(3):
            used = np.isfinite(y[:, i]) & np.isfinite(x[:, j])
            fit = sm.OLS(y[used, i], np.column_stack([np.ones(used.sum()), c[used], x[used, j]]))
            slow = fit.fit()
            assert scan.beta[i, j] == pytest.approx(slow.params[-1], rel=1e-9)
            assert scan.standard_error[i, j] == pytest.approx(slow.bse[-1], rel=1e-9)
            assert scan.t[i, j] == pytest.approx(slow.tvalues[-1], rel=1e-8)
            assert scan.dof[i, j] == slow.df_resid
    assert (scan.neg_log10_p > 0).all()


def traits_of(liability, rng):
    ids = tuple(f"p{i:04d}" for i in range(len(liability)))
    time = np.ceil(10 * rng.exponential(np.exp(-0.5 * liability))) / 10
    stop = np.ceil(10 * rng.exponential(2, len(time))) / 10
    number = liability.copy()
    number[::7] = np.nan
    case = (liability > 1).astype(float)
    case[::11] = np.nan
    return [
        Trait("number", "number", number, ids),
        Trait("case", "binary", case, ids),
        Trait("event", "survival", (time <= stop).astype(float), ids, np.minimum(time, stop)),
    ]


def test_every_row_equals_its_own_fit():
    latents, covariates, liability, rng = cohort()
    traits = traits_of(liability, rng)
    frame = associate_traits(latents, traits, covariates).set_index(["trait", "latent"])
    z = (latents.values - latents.values.mean(axis=0)) / latents.values.std(axis=0, ddof=1)
    for k, name in enumerate(latents.names):
        x = np.column_stack([covariates.values, z[:, k]])
        for trait in traits:
            used = np.isfinite(trait.values)
            own, y = sm.add_constant(x[used]), trait.values[used]
            if trait.kind == "number":
                slow = sm.OLS(y, own).fit()
            elif trait.kind == "binary":
                slow = sm.Logit(y, own).fit(disp=0)
            else:
                slow = PHReg(trait.time[used], x[used], status=y, ties="efron").fit()
            row = frame.loc[trait.name, name]
            assert row["beta"] == pytest.approx(slow.params[-1], rel=1e-6)
            assert row["standard_error"] == pytest.approx(slow.bse[-1], rel=1e-6)
            assert row["neg_log_10_p_value"] == pytest.approx(-np.log10(slow.pvalues[-1]), rel=1e-5)
            low, high = np.asarray(slow.conf_int())[-1]
            assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), rel=1e-5)
            assert row["n"] == used.sum()
    assert set(frame["method"]) == {"ols", "logistic", "cox"}
    assert frame.loc[("case", "z0"), "ratio"] == pytest.approx(
        np.exp(frame.loc[("case", "z0"), "beta"])
    )


def test_a_pair_does_not_depend_on_its_companions():
    latents, covariates, liability, rng = cohort()
    values = latents.values.copy()
    values[::5, 1] = np.nan
    latents = Latents(values, latents.sample_ids, latents.names)
    traits = traits_of(liability, rng)
    joint = associate_traits(latents, traits, covariates)
    for trait in traits:
        for k, name in enumerate(latents.names):
            one = Latents(values[:, [k]], latents.sample_ids, (name,))
            alone = associate_traits(one, trait, covariates)
            row = joint[(joint["trait"] == trait.name) & (joint["latent"] == name)]
            for column in ("beta", "standard_error", "neg_log_10_p_value", "n"):
                assert row[column].item() == pytest.approx(alone[column].item(), rel=1e-9)


def test_people_are_matched_by_id_not_by_position():
    latents, covariates, liability, rng = cohort()
    traits = traits_of(liability, rng)
    order = rng.permutation(N)
    shuffled = [
        Trait(t.name, t.kind, t.values[order], tuple(np.array(IDS)[order]),
              None if t.time is None else t.time[order])
        for t in traits
    ]  # fmt: skip
    pd.testing.assert_frame_equal(
        associate_traits(latents, traits, covariates),
        associate_traits(latents, shuffled, covariates),
    )
    other = Trait("number", "number", liability, tuple(f"q{i}" for i in range(N)))
    with pytest.raises(InconsistentError, match="0 people have latents and number"):
        associate_traits(latents, other, covariates)


def test_separation_is_answered_by_firth():
    latents, covariates, _, rng = cohort()
    case = np.zeros(N)
    case[np.argsort(latents.values[:, 0])[-15:]] = 1
    frame = associate_traits(latents, Trait("rare", "binary", case, IDS), covariates)
    row = frame.set_index("latent").loc["z0"]
    assert row["method"] == "firth"
    assert "separate" in row["note"]
    assert 0 < row["ci_low"] < row["beta"] < 100
    assert row["neg_log_10_p_value"] > 10
    # a covariate that separates is answered too
    sex = covariates.values[:, 1]
    only = Trait("men", "binary", np.where(sex == 1, (rng.random(N) < 0.3).astype(float), 0.0), IDS)
    assert set(associate_traits(latents, only, covariates)["method"]) == {"firth"}


def test_few_events_are_said_and_nothing_is_fitted_without_cases():
    latents, covariates, _, rng = cohort()
    few = np.zeros(N)
    few[rng.choice(N, 12, replace=False)] = 1
    frame = associate_traits(latents, Trait("few", "binary", few, IDS), covariates)
    assert frame["note"].str.contains("events per coefficient").all()
    frame = associate_traits(latents, Trait("none", "binary", np.zeros(N), IDS), covariates)
    assert frame["beta"].isna().all()
    assert (frame["note"] == "too few cases or controls").all()


def test_a_trait_that_is_a_latent_is_refused_and_so_are_in_sample_features():
    latents, covariates, _, _ = cohort()
    same = Trait("same", "number", 3 - 2 * latents.values[:, 1], IDS)
    with pytest.raises(InconsistentError, match="the trait same is the latent z1 itself"):
        associate_traits(latents, same, covariates)
    supervised = Latents(latents.values, IDS, latents.names, source={"in_sample": True})
    trait = Trait("x", "number", np.arange(N) % 7.0, IDS)
    with pytest.raises(RefusedError, match="trained the network"):
        associate_traits(supervised, trait, covariates)
    assert len(associate_traits(supervised, trait, covariates, allow_in_sample=True)) == 3


def test_polygenic_scores_are_refused_for_people_they_were_fitted_on():
    latents, covariates, _, _ = cohort()
    source = {"polygenic": True, "fitted_on": [mark_people(["x", *IDS[:2]])]}
    scores = Latents(latents.values, IDS, latents.names, source=source)
    trait = Trait("x", "number", np.arange(N) % 7.0, IDS)
    with pytest.raises(RefusedError, match="2 of 400 people"):
        associate_traits(scores, trait, covariates)


# --- many tests


def test_max_t_is_step_down_by_the_book():
    """Against algorithm 4.1 of Westfall and Young in loops, with the same permutations."""
    rng = np.random.default_rng(3)
    u, x = rng.standard_normal((50, 2)), rng.standard_normal((50, 3))
    u[:, 0] += x[:, 0]
    p = max_t(u, x, n_permutations=99, seed=5)
    draws = np.random.default_rng(5)

    def statistics(rows):
        return [abs(u[:, i] @ x[rows, j]) / np.linalg.norm(u[:, i]) / np.linalg.norm(x[:, j])
                for i in range(2) for j in range(3)]  # fmt: skip

    observed = np.array(statistics(np.arange(50)))
    order = np.argsort(-observed)
    count = np.zeros(6)
    for _ in range(99):
        permuted = np.array(statistics(draws.permutation(50)))[order]
        running = -np.inf
        for place in range(5, -1, -1):
            running = max(running, permuted[place])
            count[place] += running >= observed[order][place]
    expected = np.empty(6)
    expected[order] = np.maximum.accumulate((1 + count) / 100)
    np.testing.assert_allclose(p.ravel(), expected)
    assert p.min() >= 0.01


def family_wise_errors(n_runs: int, seed: int, n_permutations: int = 99) -> float:
    """How often any P of maxT is at most 0.05 without an effect: latents, traits and covariates
    are all correlated, cases are rare, survival is censored."""
    hits = 0
    for run in range(n_runs):
        latents, covariates, liability, rng = cohort(seed + run, n=200, effect=0.0)
        traits = traits_of(liability, rng)
        frame = associate_traits(
            latents, traits, covariates, n_permutations=n_permutations, seed=run
        )
        hits += frame["p_max_t"].min() <= 0.05
    return hits / n_runs


def test_max_t_holds_the_family_wise_error():
    assert family_wise_errors(30, 1000) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 30)


@pytest.mark.slow
def test_max_t_is_neither_liberal_nor_idle():
    assert 0.035 <= family_wise_errors(1500, 5000, 199) <= 0.065


def test_max_t_ignores_confounding_and_finds_effects():
    latents, covariates, liability, rng = cohort(7, effect=0.5)
    frame = associate_traits(
        latents, traits_of(liability, rng), covariates, n_permutations=199, seed=1
    ).set_index(["latent", "trait"])
    assert (frame.loc["z0", "p_max_t"] == 1 / 200).all()
    assert (frame.loc["z1", "p_max_t"] > 0.05).all()

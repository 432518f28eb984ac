"""Latents after encoding: transforms, components, correlation, nuisance, reliability, oddities."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import imgwas
from imgwas.errors import DegenerateError, InconsistentError, TooFewSamplesError, UsageError
from imgwas.latents import (
    EigenSpectrum,
    Finding,
    correlate,
    eigen_spectrum,
    fit_components,
    join_tables,
    latent_correlation,
    latent_quality,
    quantile_normalize,
    read_history,
    residualize,
    variance_explained,
    visit_reliability,
    write_latents,
)
from imgwas.latents.reliability import intraclass_correlations
from imgwas.types import Covariates
from tests.data import data_file
from tests.people import IDS, covariates_of, latents_of

RNG = np.random.default_rng(0)


def blom(column: np.ndarray, offset: float = 0.375) -> np.ndarray:
    """The transform of one column, by SciPy, missing values left out."""
    result = np.full(len(column), np.nan)
    used = np.isfinite(column)
    n = used.sum()
    result[used] = stats.norm.ppf((stats.rankdata(column[used]) - offset) / (n - 2 * offset + 1))
    return result


@pytest.mark.parametrize("offset", [0.375, 0, 0.5])
@pytest.mark.parametrize(
    "values",
    [
        RNG.exponential(size=(80, 3)),
        np.round(RNG.exponential(size=(80, 3)), 1),
        np.where(RNG.random((80, 3)) < 0.1, np.nan, np.round(RNG.exponential(size=(80, 3)), 1)),
        RNG.integers(0, 2, (80, 2)).astype(float),
        np.full((7, 1), 3.0),
        np.array([[np.nan], [5.0], [np.nan]]),
        RNG.standard_normal((9, 2)).astype(np.float32),
        RNG.standard_normal((6, 2)) * 1e300,
    ],
    ids=["plain", "ties", "ties and NaN", "binary", "constant", "one value", "float32", "huge"],
)
def test_rank_normal_equals_scipy(values, offset):
    found = imgwas.rank_normalize(values, offset=offset)
    expected = np.column_stack([blom(column, offset) for column in values.T.astype(float)])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@given(
    values=st.lists(
        st.one_of(st.just(np.nan), st.integers(-3, 3).map(float)), min_size=1, max_size=12
    )
)
def test_rank_normal_of_any_column(values):
    column = np.array(values)
    found = imgwas.rank_normalize(column[:, None])[:, 0]
    np.testing.assert_allclose(found, blom(column), rtol=1e-12, atol=1e-14)


def test_rank_normal_keeps_order_and_ignores_units():
    values = RNG.standard_normal((50, 1))
    a, b = imgwas.rank_normalize(values), imgwas.rank_normalize(np.exp(5 * values) * 1e9)
    np.testing.assert_allclose(a, b)
    assert (np.argsort(a[:, 0]) == np.argsort(values[:, 0])).all()


def test_rank_normal_mirrors_with_the_sign():
    values = np.round(RNG.standard_normal((50, 4)), 1)
    np.testing.assert_allclose(
        imgwas.rank_normalize(-values), -imgwas.rank_normalize(values), atol=1e-13
    )


def test_columns_without_values_or_rows():
    assert np.isnan(imgwas.rank_normalize(np.full((4, 2), np.nan))).all()
    assert imgwas.rank_normalize(np.empty((0, 3))).shape == (0, 3)


def test_what_has_no_rank_is_refused():
    with pytest.raises(DegenerateError, match="the latents holds 1 infinite values"):
        imgwas.rank_normalize(np.array([[1.0], [np.inf], [2.0]]))
    for offset in (-0.1, 1.0, np.nan):
        with pytest.raises(UsageError, match=r"offset is .*from 0 to 0.999"):
            imgwas.rank_normalize(np.ones((3, 1)), offset=offset)


# --- quality


def findings_of(*columns: object) -> list[Finding]:
    values = np.column_stack([np.asarray(column, float) for column in columns])
    ids = [f"p{i}" for i in range(len(values))]
    return latent_quality(latents_of(ids, None, [f"z{i}" for i in range(len(columns))], values))


NORMAL = np.random.default_rng(1).standard_normal(60)
OUTLIER = np.where(np.arange(60) == 7, 1e8, NORMAL)


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (NORMAL, None),
        (NORMAL * 1e-200, None),
        (NORMAL * 1e200, None),
        (np.full(60, 3.0), "constant"),
        (np.zeros(60), "constant"),
        (np.where(np.arange(60) < 9, 2.0, np.nan), "constant"),
        (np.full(60, np.nan), "constant"),
        (OUTLIER, "one sample carries 98% of the variance"),
        (-OUTLIER * 1e-20, "one sample carries 98% of the variance"),
        (np.where(np.arange(60) == 7, 12.0, NORMAL), "one sample carries"),
        (np.where(np.arange(60) == 7, 6.0, NORMAL), None),
        (np.where(np.arange(60) < 20, -65504.0, NORMAL * 1e4), "reaches 65504, the end of half"),
        (np.arange(60) % 2, "takes 2 distinct values"),
        (np.arange(60) % 9, "takes 9 distinct values"),
        (np.arange(60) % 10, None),
        (np.where(np.arange(60) < 40, np.arange(60) % 2, np.nan), None),
    ],
)
def test_oddities_of_one_latent(column, problem):
    found = findings_of(column)
    if problem is None:
        assert found == []
    else:
        assert [finding.latent for finding in found] == ["z0"]
        assert found[0].problem.startswith(problem)


def test_few_people_may_well_have_an_outlier():
    assert findings_of([0.0, 0.1, 0.2, 50.0]) == []


def test_equal_latents_are_named():
    gaps = np.where(np.arange(60) == 3, np.nan, NORMAL)
    assert findings_of(NORMAL, gaps, NORMAL, 2 * NORMAL, gaps, NORMAL) == [
        Finding("z2", "equal to z0"),
        Finding("z4", "equal to z1"),
        Finding("z5", "equal to z0"),
    ]
    assert findings_of(np.ones(60), np.ones(60)) == [
        Finding("z0", "constant"),
        Finding("z1", "constant"),
    ]


def test_one_latent_may_be_odd_in_several_ways():
    column = np.where(np.arange(60) == 7, 65504.0, 0.0)
    assert [finding.problem for finding in findings_of(column)] == [
        "one sample carries 98% of the variance",
        "reaches 65504, the end of half precision",
        "takes 2 distinct values",
    ]


# --- quantile normalisation


def test_quantile_normal_of_the_fitted_rows_is_rank_normal():
    values = np.where(RNG.random((60, 3)) < 0.1, np.nan, np.round(RNG.exponential(size=(60, 3)), 1))
    np.testing.assert_allclose(
        quantile_normalize(values), imgwas.rank_normalize(values), rtol=1e-12, atol=1e-13
    )


def test_quantile_normal_is_learned_from_some_rows_only():
    values = RNG.standard_normal((50, 2))
    fit = np.arange(50) < 30
    found = quantile_normalize(values, fit=fit)
    other = quantile_normalize(np.where(fit[:, None], values, 5 * values + 1), fit=fit)
    np.testing.assert_array_equal(found[fit], other[fit])
    np.testing.assert_allclose(found[fit], imgwas.rank_normalize(values[fit]), atol=1e-13)
    ends = imgwas.rank_normalize(values[fit])
    beyond = quantile_normalize(np.vstack([values[fit], [[1e9, -1e9]]]), fit=np.arange(31) < 30)
    np.testing.assert_allclose(beyond[-1], [ends[:, 0].max(), ends[:, 1].min()])


def test_values_between_two_fitted_ones_lie_between_their_ranks():
    values = np.array([[1.0], [2.0], [4.0], [3.0], [np.nan]])
    found = quantile_normalize(values, fit=np.array([True, True, True, False, False]))
    expected = stats.norm.ppf((2.5 - 0.375) / 3.25)  # between rank 2 and rank 3 of three
    assert found[3, 0] == pytest.approx(expected)
    assert np.isnan(found[4, 0])


def test_common_quantiles_equal_the_published_example():
    """The worked example of the article on quantile normalisation in Wikipedia, ties averaged."""
    values = np.array([[5.0, 4, 3], [2, 1, 4], [3, 4, 6], [4, 2, 8]])
    expected = [[5.67, 5.17, 2.0], [2.0, 2.0, 3.0], [3.0, 5.17, 4.67], [4.67, 3.0, 5.67]]
    np.testing.assert_allclose(quantile_normalize(values, target="common"), expected, atol=0.005)


def test_common_quantiles_make_all_columns_alike_and_keep_their_order():
    values = np.column_stack(
        [RNG.exponential(size=90), RNG.standard_normal(90) * 9, RNG.random(90)]
    )
    found = quantile_normalize(values, target="common")
    ordered = np.sort(found, axis=0)
    np.testing.assert_allclose(ordered, np.sort(values, axis=0).mean(axis=1)[:, None].repeat(3, 1))
    for before, after in zip(values.T, found.T, strict=True):
        assert (np.argsort(before) == np.argsort(after)).all()
    values[:40, 1] = np.nan
    gaps = quantile_normalize(values, target="common")
    assert np.isnan(gaps[:40, 1]).all()
    assert np.isfinite(gaps[40:]).all()
    assert gaps[40:, 1].mean() == pytest.approx(gaps[:, 0].mean(), abs=0.05)


def test_quantile_targets_that_cannot_be():
    with pytest.raises(UsageError, match=r"target is 'uniform'\. It must be one of common, normal"):
        quantile_normalize(np.ones((3, 1)), target="uniform")
    with pytest.raises(TooFewSamplesError, match="a latent has 1 values in the fitted rows"):
        quantile_normalize(np.array([[1.0, 2], [2, np.nan]]), target="common")
    with pytest.raises(UsageError, match=r"fit has shape \(2,\)\. \(3,\), one per row"):
        quantile_normalize(np.ones((3, 1)), fit=np.ones(2, bool))
    with pytest.raises(DegenerateError, match="infinite"):
        quantile_normalize(np.array([[np.inf], [1.0]]))
    assert np.isnan(quantile_normalize(np.full((3, 1), np.nan))).all()


# --- residuals


def table(values, prefix="z", ids=IDS, kind=latents_of):
    """Latents of the first people, named after their column."""
    values = np.asarray(values, float)
    return kind(ids[: len(values)], None, [f"{prefix}{i}" for i in range(values.shape[1])], values)


def ols(y, x):
    """Least squares by statsmodels on the complete rows."""
    import statsmodels.api as sm

    used = np.isfinite(y) & np.isfinite(x).all(axis=1)
    return sm.OLS(y[used], sm.add_constant(x[used], has_constant="add")).fit(), used


def test_residuals_equal_statsmodels_whatever_the_order_of_people():
    nuisance = np.column_stack(
        [RNG.normal(60, 8, 60), RNG.integers(0, 2, 60), RNG.random(60) * 1e3]
    )
    values = RNG.standard_normal((60, 4)) + 0.05 * nuisance[:, :1]
    values[RNG.random((60, 4)) < 0.1] = np.nan
    values[:, 3] = values[:, 0] * 1e200
    nuisance[5, 0] = np.nan
    order = RNG.permutation(60)
    covariates = covariates_of([IDS[i] for i in order], nuisance[order])
    found = residualize(table(values), covariates)
    assert found.sample_ids == IDS
    for column in range(4):
        scale = 1e200 if column == 3 else 1.0
        fitted, used = ols(values[:, column] / scale, nuisance)
        np.testing.assert_allclose(found.values[used, column] / scale, fitted.resid, atol=1e-11)
        assert np.isnan(found.values[~used, column]).all()


def test_people_without_covariates_become_missing_and_are_counted(caplog):
    with caplog.at_level(logging.WARNING, "imgwas"):
        found = residualize(table(RNG.standard_normal((60, 2))), covariates_of(IDS[:50]))
    assert np.isnan(found.values[50:]).all()
    assert np.isfinite(found.values[:50]).all()
    assert "10 of 60 people lack a covariate" in caplog.text


def test_what_covariates_explain_is_missing_not_noise(caplog):
    covariates = covariates_of(IDS)
    copy = covariates.values[:, :1].astype(np.float32).astype(float) * 3 + 1
    values = np.column_stack([copy, np.full(60, 2.0), RNG.standard_normal(60)])
    with caplog.at_level(logging.WARNING, "imgwas"):
        found = residualize(table(values), covariates)
    assert np.isnan(found.values[:, :2]).all()
    assert np.isfinite(found.values[:, 2]).all()
    assert "nothing is left of z0, z1 after the covariates" in caplog.text
    with pytest.raises(DegenerateError, match="nothing is left of any of the 1 latents"):
        residualize(table(copy), covariates)
    with pytest.raises(DegenerateError, match="nothing is left"):  # as many covariates as people
        residualize(table(values[:4]), covariates_of(IDS[:4], RNG.standard_normal((4, 3))))


def test_residuals_of_residuals_are_themselves():
    covariates = covariates_of(IDS)
    once = residualize(table(RNG.standard_normal((60, 3))), covariates)
    np.testing.assert_allclose(residualize(once, covariates).values, once.values, atol=1e-13)


def test_tables_of_other_people_are_refused_with_masked_ids():
    with pytest.raises(InconsistentError) as caught:
        residualize(
            table(RNG.standard_normal((60, 1))), covariates_of([f"x{i}" for i in range(60)])
        )
    text = str(caught.value)
    assert "0 people are in all 2 tables. At least 50% of the smallest table." in text
    assert "the latents 60, first: sub##00" in text
    assert "sub1000" not in text


# --- joining


def test_joining_is_by_id_and_in_the_order_of_the_first():
    join = join_tables([latents_of(list("dbac")), latents_of(list("abcx"))], min_overlap=0)
    assert join.sample_ids == ("b", "a", "c")
    assert [rows.tolist() for rows in join.rows] == [[1, 2, 3], [1, 0, 2]]


def test_repeated_ids_need_families_in_every_table():
    twice = latents_of(["1", "1", "2"], ["a", "b", "c"])
    join = join_tables([twice, latents_of(["2", "1", "1"], ["c", "b", "a"])])
    assert join.family_ids == ("a", "b", "c")
    assert join.rows[1].tolist() == [2, 1, 0]
    with pytest.raises(InconsistentError, match=r"sample ids repeat in one\..*two has none"):
        join_tables([twice, latents_of(["1", "2"])], names=["one", "two"])
    with pytest.raises(UsageError, match=r"1 table was given\. Two or more"):
        join_tables([twice])


# --- components


def test_components_equal_scikit_learn_up_to_the_fixed_sign():
    from sklearn.decomposition import PCA

    values = RNG.standard_normal((60, 5)) @ RNG.standard_normal((5, 5)) + 3
    fit = np.arange(60) < 45
    found = fit_components(table(values), fit=fit, standardize=False, n_components=4)
    oracle = PCA(4, whiten=True).fit(values[fit])
    sign = np.sign((found.directions * oracle.components_.T).sum(axis=0))
    np.testing.assert_allclose(found.directions * sign, oracle.components_.T, atol=1e-10)
    np.testing.assert_allclose(found.variance, oracle.explained_variance_)
    np.testing.assert_allclose(found.share, oracle.explained_variance_ratio_)
    np.testing.assert_allclose(
        found.transform(values, whiten=True) * sign, oracle.transform(values), atol=1e-10
    )
    assert found.n == 45


def test_whitened_latents_are_uncorrelated_with_variance_one_where_fitted():
    values = RNG.standard_normal((60, 6)) * np.array([1e-8, 1, 1e8, 1, 1, 1]) + 5
    latents = table(values)
    white = fit_components(latents).apply(latents, whiten=True)
    np.testing.assert_allclose(np.cov(white.values.T), np.eye(6), atol=1e-9)
    assert white.names == ("PC1", "PC2", "PC3", "PC4", "PC5", "PC6")
    assert white.sample_ids == latents.sample_ids


def test_the_sign_does_not_depend_on_the_sign_of_the_data():
    latents = table(RNG.standard_normal((60, 4)) @ RNG.standard_normal((4, 4)))
    a, b = fit_components(latents), fit_components(latents)
    np.testing.assert_array_equal(a.directions, b.directions)
    largest = np.abs(a.directions).argmax(axis=0)
    assert (a.directions[largest, np.arange(4)] > 0).all()


def test_redundant_latents_are_named_and_add_no_component(caplog):
    free = RNG.standard_normal((60, 3))
    sum_of_two = (free[:, :1] + free[:, 1:2]).astype(np.float32).astype(float)
    values = np.column_stack([free, np.full(60, 7.0), sum_of_two])
    with caplog.at_level(logging.WARNING, "imgwas"):
        found = fit_components(table(values))
    assert found.redundant == ("z3", "z4")
    assert "no dimension of their own: z3, z4" in caplog.text
    scores = found.transform(values, whiten=True)
    assert scores.shape == (60, 3)
    np.testing.assert_allclose(np.cov(scores.T), np.eye(3), atol=1e-9)
    with pytest.raises(
        UsageError, match=r"n_components is 4\. At most 3, the rank\. z3, z4 add no"
    ):
        fit_components(table(values), n_components=4)


def test_a_missing_latent_is_a_missing_score():
    values = RNG.standard_normal((60, 3))
    gaps = np.where(np.arange(180).reshape(60, 3) == 20, np.nan, values)
    found = fit_components(table(gaps))
    assert found.n == 59
    scores = found.apply(table(gaps), whiten=True).values
    assert np.isnan(scores[6]).all()
    assert np.isfinite(np.delete(scores, 6, axis=0)).all()


def test_few_people_give_few_components_and_blame_no_latent(caplog):
    values = RNG.standard_normal((20, 40))
    with caplog.at_level(logging.WARNING, "imgwas"):
        found = fit_components(table(values), n_components=10)
    assert caplog.text == ""
    assert found.redundant == ()
    assert found.directions.shape == (40, 10)
    with pytest.raises(TooFewSamplesError, match=r"20 people have all 40 latents\. More than 41"):
        fit_components(table(values))
    with pytest.raises(DegenerateError, match="no latent varies"):
        fit_components(table(np.ones((20, 2))))
    with pytest.raises(UsageError, match=r"n_components is 0\. It must be at least 1"):
        fit_components(table(values), n_components=0)


def test_components_fit_no_other_latents():
    found = fit_components(table(RNG.standard_normal((20, 2))))
    with pytest.raises(
        InconsistentError, match=r"fitted on 2 latents \(z0, z1\)\..*2 latents \(y0"
    ):
        found.apply(table(RNG.standard_normal((20, 2)), "y"))
    assert repr(found) == "PrincipalComponents(2 of 2 latents, 20 people)"


# --- correlation and its spectrum


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_correlation_equals_pandas_pair_by_pair(share):
    import pandas as pd

    values = RNG.standard_normal((60, 6))
    values[:, 3] += 1e6
    values[RNG.random((60, 6)) < share] = np.nan
    values[:, 5] = 2.0
    expected = pd.DataFrame(values).corr(min_periods=3).to_numpy()
    found = latent_correlation(table(values * 10.0 ** np.arange(-150, 150, 50)))  # any unit
    np.testing.assert_allclose(found[:5, :5], expected[:5, :5], atol=1e-9)
    assert np.isnan(found[5]).all()
    assert (np.diag(found)[:5] == 1).all()
    assert (found[:5, :5] == found[:5, :5].T).all()


@given(
    st.lists(
        st.tuples(*[st.one_of(st.just(np.nan), st.integers(-4, 4).map(float))] * 2),
        min_size=1, max_size=15,
    )
)  # fmt: skip
def test_correlation_of_any_pair_of_columns(rows):
    values = np.array(rows)
    found = correlate(values[:, :1], values[:, 1:])[0, 0]
    both = values[np.isfinite(values).all(axis=1)]
    if len(both) < 3 or (np.ptp(both, axis=0) == 0).any():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(both.T)[0, 1], abs=1e-9)


@pytest.mark.parametrize("method", ["li-ji", "cheverud", "galwey"])
def test_effective_number_at_its_ends(method):
    """Independent latents count each, copies count once: identity 128 is 128, rank 1 is 1."""
    assert EigenSpectrum(np.ones(128), NAMES).effective_number(method) == pytest.approx(128)
    one = np.zeros(128)
    one[0] = 128
    assert EigenSpectrum(one, NAMES).effective_number(method) == pytest.approx(1)
    noisy = np.linalg.eigvalsh(np.ones((128, 128)))[::-1]  # 128 and zeros, with rounding errors
    assert EigenSpectrum(noisy, NAMES).effective_number(method) == pytest.approx(1, abs=1e-3)


NAMES = tuple(f"z{i}" for i in range(128))


def test_effective_number_by_hand():
    found = EigenSpectrum(np.array([2.25, 1.5, 0.25, 0.0]), tuple("abcd"))
    assert found.effective_number() == pytest.approx(1.25 + 1.5 + 0.25)
    assert found.effective_number("galwey") == pytest.approx((1.5 + 1.5**0.5 + 0.5) ** 2 / 4)
    variance = np.var([2.25, 1.5, 0.25, 0.0], ddof=1)
    assert found.effective_number("cheverud") == pytest.approx(1 + 3 * (1 - variance / 4))
    assert found.study_wide() == pytest.approx(5e-8 / 3.0)
    assert [found.n_components(s) for s in (0.5, 0.9, 0.99, 1.0)] == [1, 2, 3, 3]
    with pytest.raises(UsageError, match=r"method is 'liji'.*Did you mean li-ji\?"):
        found.effective_number("liji")


def test_the_spectrum_of_blocks_of_copies_counts_the_blocks():
    factors = np.linalg.qr(RNG.standard_normal((500, 8)) - 0)[0]
    factors = np.linalg.qr(factors - factors.mean(axis=0))[0]
    ids = tuple(f"p{i}" for i in range(500))
    latents = table(np.repeat(factors, 4, axis=1), ids=ids)
    found = eigen_spectrum(latents)
    assert found.effective_number() == pytest.approx(8)
    assert found.n_components(0.999) == 8
    assert found.eigenvalues.sum() == pytest.approx(32)


def test_spectrum_leaves_constants_out_and_refuses_strangers(caplog):
    values = np.column_stack([RNG.standard_normal((60, 2)), np.ones(60)])
    with caplog.at_level(logging.WARNING, "imgwas"):
        found = eigen_spectrum(table(values))
    assert found.left_out == ("z2",)
    assert found.names == ("z0", "z1")
    assert "constant, so without correlation: z2" in caplog.text
    half = np.arange(60) < 30
    apart = np.column_stack([np.where(half, values[:, 0], np.nan), np.where(half, np.nan, 1)])
    apart[:, 1] *= values[:, 1]
    with pytest.raises(DegenerateError, match=r"z0 and z1 have no correlation\. At least 3 people"):
        eigen_spectrum(table(apart))
    with pytest.raises(DegenerateError, match="no latent varies"):
        eigen_spectrum(table(np.ones((60, 2))))


def test_an_indefinite_matrix_of_pairs_is_mentioned(caplog):
    a, b = RNG.standard_normal((2, 60))
    gap = np.arange(60)
    values = np.column_stack([a, a + 0.1 * b, a - 0.1 * b])
    values[:, 2] = np.where(gap < 30, values[:, 2], -values[:, 2])
    values[gap >= 30, 0] = np.nan
    values[gap < 30, 1] = np.where(gap[:30] % 3, np.nan, values[gap < 30, 1])
    with caplog.at_level(logging.WARNING, "imgwas"):
        eigen_spectrum(table(values))
    assert "missing values make the correlation matrix indefinite" in caplog.text


# --- nuisance


def test_variance_explained_equals_statsmodels_term_by_term():
    n = 60
    site = RNG.integers(0, 4, n)
    columns = np.column_stack(
        [RNG.normal(60, 8, n), RNG.normal(60, 8, n) ** 2, *[(site == k) * 1.0 for k in (1, 2, 3)]]
    )
    columns[:, 1] = columns[:, 0] ** 2 + RNG.normal(0, 1, n)  # nearly collinear
    covariates = Covariates(
        columns, IDS, ("age", "age2", "s1", "s2", "s3"), terms=("age", "age2", *["site"] * 3)
    )
    values = RNG.standard_normal((n, 3)) + columns[:, :1] / 20 + (site == 2)[:, None]
    values[RNG.random((n, 3)) < 0.1] = np.nan
    found = variance_explained(table(values), covariates)
    groups = {"age": [0], "age2": [1], "site": [2, 3, 4]}
    for i in range(3):
        joint, used = ols(values[:, i], columns)
        row = found.joint.iloc[i]
        assert row["n"] == used.sum()
        assert row["r2"] == pytest.approx(joint.rsquared, abs=1e-9)
        assert row["r2_adjusted"] == pytest.approx(joint.rsquared_adj, abs=1e-9)
        for term, own in groups.items():  # noqa: B007, PERF102  (the query reads term)
            rest = [c for c in range(5) if c not in own]
            alone = ols(values[:, i], columns[:, own])[0].rsquared
            without = ols(values[:, i], columns[:, rest])[0].rsquared
            cell = found.terms.query("latent == @row.latent and term == @term").iloc[0]
            assert cell["columns"] == len(own)
            assert cell["r2_alone"] == pytest.approx(alone, abs=1e-9)
            assert cell["r2_unique"] == pytest.approx(joint.rsquared - without, abs=1e-8)
            assert cell["r2_partial"] == pytest.approx(
                (joint.rsquared - without) / (1 - without), abs=1e-8
            )
    assert list(found.matrix().columns) == ["age", "age2", "site"]
    assert found.matrix("r2_unique").shape == (3, 3)
    assert repr(found) == "NuisanceReport(3 latents x 3 terms)"


def test_a_planted_nuisance_is_found_and_a_copy_has_no_share_of_its_own():
    age = RNG.standard_normal(60)
    covariates = Covariates(np.column_stack([age, 2 * age + 1]), IDS, ("age", "again"))
    noise = RNG.standard_normal(60)
    noise -= age * (noise @ age) / (age @ age)
    values = np.column_stack([age, np.full(60, 3.0)])
    found = variance_explained(table(values), covariates)
    assert found.joint["r2"][0] == pytest.approx(1)
    assert found.joint["columns"][0] == 1
    assert found.matrix().loc["z0"].tolist() == pytest.approx([1, 1])
    assert found.matrix("r2_unique").loc["z0"].tolist() == pytest.approx([0, 0])
    assert found.matrix().loc["z1"].isna().all()
    assert np.isnan(found.joint["r2"][1])


def test_nuisance_needs_people():
    with pytest.raises(
        TooFewSamplesError, match=r"4 people have z0 and every covariate\. At least 5"
    ):
        variance_explained(table(RNG.standard_normal((4, 1))),
                           covariates_of(IDS[:4], RNG.standard_normal((4, 3))))  # fmt: skip
    empty = np.column_stack([np.full(60, np.nan), np.arange(60.0)])
    with pytest.raises(DegenerateError, match="nobody has every covariate"):
        variance_explained(table(RNG.standard_normal((60, 1))), covariates_of(IDS, empty))


# --- reliability

#: Shrout and Fleiss (1979), table 2: six people, four judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_intraclass_correlations_equal_the_published_example():
    """Coefficients of the paper; intervals as psych::ICC in R prints them for the same table."""
    found = intraclass_correlations(SHROUT_FLEISS)
    expected = {"icc_2_1": 0.29, "icc_2_1_low": 0.019, "icc_2_1_high": 0.76,
                "icc_3_1": 0.71, "icc_3_1_low": 0.34, "icc_3_1_high": 0.95}  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.005), name


def anova(scores):
    """ICC(2,1) and ICC(3,1) from statsmodels' two-way analysis of variance."""
    import pandas as pd
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    n, k = scores.shape
    long = pd.DataFrame({"y": scores.ravel(), "person": np.repeat(np.arange(n), k)})
    long["visit"] = np.tile(np.arange(k), n)
    parts = anova_lm(smf.ols("y ~ C(person) + C(visit)", long).fit())
    person, visit, error = parts["mean_sq"]
    return (
        (person - error) / (person + (k - 1) * error + k * (visit - error) / n),
        (person - error) / (person + (k - 1) * error),
    )


@pytest.mark.parametrize(("n", "k"), [(12, 2), (9, 3)])
def test_intraclass_correlations_equal_an_analysis_of_variance(n, k):
    scores = 3 * RNG.standard_normal((n, 1)) + RNG.standard_normal((n, k)) + np.arange(k)
    found = intraclass_correlations(scores * 1e-180)
    assert (found["icc_2_1"], found["icc_3_1"]) == pytest.approx(anova(scores))


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(5)
    truth = 0.6
    covered = np.zeros(2)
    for _ in range(600):
        scores = rng.normal(0, truth**0.5, (25, 1)) + rng.normal(0, (1 - truth) ** 0.5, (25, 2))
        found = intraclass_correlations(scores, level=0.9)
        covered += [found[f"icc_{m}_1_low"] < truth < found[f"icc_{m}_1_high"] for m in (2, 3)]
    assert (np.abs(covered / 600 - 0.9) < 0.04).all(), covered


def test_a_shift_between_visits_costs_agreement_not_consistency():
    person = RNG.standard_normal(40)
    found = intraclass_correlations(np.column_stack([person, person + 2]))
    assert found["icc_3_1"] == pytest.approx(1)
    assert found["icc_2_1"] < 0.6
    assert found["icc_3_1_low"] == pytest.approx(1)
    nothing = intraclass_correlations(np.ones((10, 2)))
    assert all(np.isnan(value) for value in nothing.values())
    with pytest.raises(UsageError, match="scores have 1 visits"):
        intraclass_correlations(np.ones((10, 1)))


def test_visits_are_matched_by_id_and_missing_ones_are_counted():
    person = RNG.standard_normal((60, 2))
    first = person + 0.2 * RNG.standard_normal((60, 2))
    second = person + 0.2 * RNG.standard_normal((60, 2))
    first[3, 1] = np.nan
    order = RNG.permutation(60)[:40]
    later = latents_of([IDS[i] for i in order], None, ["z1", "z0"], second[order][:, ::-1])
    found = visit_reliability([table(first), later], names=["2014", "2019"])
    by_name = found.set_index("latent")
    n_lost = int(3 in order)
    assert by_name.loc["z1", ["n", "n_incomplete"]].tolist() == [40 - n_lost, n_lost]
    expected = intraclass_correlations(np.column_stack([first[order, 0], second[order, 0]]))
    assert by_name.loc["z0", "icc_2_1"] == pytest.approx(expected["icc_2_1"])
    r = stats.pearsonr(first[order, 0], second[order, 0])[0]
    assert by_name.loc["z0", "pearson_r"] == pytest.approx(r)
    assert found.attrs == {"people": {"2014": 60, "2019": 40}, "people_at_all_visits": 40}


def test_visits_that_are_no_visits():
    values = RNG.standard_normal((60, 2))
    with pytest.raises(
        InconsistentError, match="visit 1 and visit 2 hold the same number for every"
    ):
        visit_reliability([table(values), table(values)])
    with pytest.raises(
        InconsistentError, match=r"do not have the same latents\. 4 are in one only"
    ):
        visit_reliability([table(values), table(values, "y")])
    with pytest.raises(TooFewSamplesError, match="2 people came to all visits"):
        visit_reliability([table(values), latents_of(IDS[58:], None, ["z0", "z1"])])
    with pytest.raises(UsageError, match="level is 2"):
        visit_reliability([table(values), table(values)], level=2.0)
    lone = table(np.column_stack([values[:, 0], np.full(60, np.nan)]))
    found = visit_reliability([lone, table(values + 0.1 * RNG.standard_normal((60, 2)))])
    assert found["n"].tolist() == [60, 0]
    assert np.isnan(found["icc_3_1"][1])
    assert np.isnan(found["pearson_r"][1])


# --- tables


@pytest.mark.parametrize("name", ["latents.parquet", "latents.tsv"])
@pytest.mark.parametrize("families", [None, ["f1", "007", "f3"]])
def test_written_latents_are_read_back_as_they_were(tmp_path, name, families):
    values = np.array([[0.1 + 0.2, np.nan], [1e-300, -9.0], [np.nan, 65504.0]])
    latents = latents_of(["007", "NA", "1e5"], families, ["z 0", "L1"], values)
    digest = write_latents(latents, tmp_path / name, history={"steps": ["whiten"]})
    back = imgwas.read_latents(tmp_path / name)
    np.testing.assert_array_equal(back.values, values)
    assert (back.sample_ids, back.family_ids) == (latents.sample_ids, latents.family_ids)
    assert back.names == latents.names
    assert back.source["sha256"] == digest
    expected = {"steps": ["whiten"]} if name.endswith("parquet") else {}
    assert read_history(tmp_path / name) == expected
    assert write_latents(latents, tmp_path / name, history={"steps": ["whiten"]}) == digest


def test_tables_keep_the_name_of_their_id_column(tmp_path):
    write_latents(latents_of(["1", "2"]), tmp_path / "l.tsv", id_columns=("FID", "eid"))
    assert (tmp_path / "l.tsv").read_text().startswith("eid\tz\n1\t")
    with pytest.raises(UsageError, match=r"'l.csv' has the suffix '.csv'\. One of .parquet, .tsv"):
        write_latents(latents_of(["1", "2"]), tmp_path / "l.csv")
    assert read_history(tmp_path / "absent.parquet") == {}


# --- real data


@pytest.fixture(scope="module")
def volumes():
    """Volumes of regions of 40 real brains: sums of others, and one that has two names."""
    return imgwas.read_latents(
        data_file("ixi40/dlmuse_vol.csv"),
        id_column="MRID",
        names=["702", "512", "520", "504", "513", "521", "418", "505", "516", "524"],
    )


def test_real_volumes_that_are_sums_of_others_are_named(volumes):
    """Frontal (504) and limbic (505) are left plus right; 418 is another name of 513."""
    found = fit_components(volumes)
    assert found.redundant == ("504", "418", "505")
    assert latent_quality(volumes) == [Finding("418", "equal to 513")]
    white = found.apply(volumes, whiten=True)
    np.testing.assert_allclose(np.cov(white.values.T), np.eye(7), atol=1e-9)
    spectrum = eigen_spectrum(volumes)
    np.testing.assert_allclose(spectrum.eigenvalues[7:], 0, atol=1e-9)
    assert spectrum.effective_number() < 4


def test_nuisance_of_real_volumes_equals_statsmodels(volumes):
    people = imgwas.read_covariates(
        data_file("ixi40/participants.csv"), id_column="MRID", names=["Age", "Sex"]
    )
    found = variance_explained(volumes, people)
    order = [people.sample_ids.index(sample) for sample in volumes.sample_ids]
    for index, name in enumerate(volumes.names):
        fitted, _ = ols(volumes.values[:, index], people.values[order])
        row = found.joint.iloc[index]
        assert (row["latent"], row["n"]) == (name, 40)
        assert row["r2_adjusted"] == pytest.approx(fitted.rsquared_adj, abs=1e-9)
    assert found.matrix("r2_unique").loc["702", "Sex"] > 0.2  # men have larger heads
    residual = residualize(volumes, people)
    again = variance_explained(residual, people)
    np.testing.assert_allclose(again.joint["r2"], 0, atol=1e-12)


def test_residuals_of_the_public_toy_equal_statsmodels():
    latents = imgwas.read_phenotypes(data_file("torchgwas_toy/pheno.tsv"))
    covariates = imgwas.read_covariates(data_file("torchgwas_toy/covar.tsv"))
    found = residualize(latents, covariates)
    for index in range(len(latents.names)):
        fitted, used = ols(latents.values[:, index], covariates.values)
        np.testing.assert_allclose(found.values[used, index], fitted.resid, atol=1e-12)

"""Transforms of latents against SciPy, and what is said about odd ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import imgwas
from imgwas.errors import DegenerateError, UsageError
from imgwas.latents import Finding, latent_quality
from tests.people import latents_of

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

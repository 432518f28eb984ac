"""-log10 P against arithmetic with sixty digits."""

from __future__ import annotations

from decimal import Decimal

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgwas.sumstats import neg_log10_p_value, p_value_text, t_from_neg_log10_p
from imgwas.sumstats.pvalues import chi2_from_neg_log10_p

DOFS = [1, 2, 5, 30, 500, 5000, 40_000, 1_000_000]
TS = [0.0, 1e-8, 1e-3, 0.0099, 0.0101, 0.5, 1.96, 5.5, 12.0, 33.0, 34.0, 40.0, 150.0, 1e3, 1e4]


def exact(t: float, dof: int) -> mp.mpf:
    """Sum the incomplete beta function term by term, or let mpmath do it near P = 1."""
    with mp.workdps(60):
        t, a = mp.mpf(t), mp.mpf(dof) / 2
        x = dof / (dof + t * t)
        if x > 0.995:
            return -mp.log10(mp.betainc(a, 0.5, 0, x, regularized=True))
        term, total, k = 1 / a, 1 / a, 0
        while term > total * mp.mpf(10) ** -55:
            term *= x * (k + a + 0.5) / (k + a + 1) if k else x * (a + mp.mpf(1) / 2) / (a + 1)
            k += 1
            total += term
        front = a * mp.log(x) + mp.log(1 - x) / 2 - mp.log(mp.beta(a, mp.mpf(1) / 2))
        return -(front + mp.log(total)) / mp.log(10)


@pytest.mark.parametrize("dof", DOFS)
def test_equals_sixty_digits(dof):
    found = neg_log10_p_value(np.array(TS), dof)
    for t, value in zip(TS, found.tolist(), strict=True):
        assert value == pytest.approx(float(exact(t, dof)), rel=1e-10, abs=1e-300)


def test_sign_missing_infinite_and_hopeless():
    assert neg_log10_p_value(-3.0, 50) == neg_log10_p_value(3.0, 50)
    assert np.isnan(neg_log10_p_value(np.nan, 50))
    assert np.isnan(neg_log10_p_value(1.0, 0))
    assert np.isnan(neg_log10_p_value(1.0, np.nan))
    assert neg_log10_p_value(np.inf, 50) == np.inf
    assert not np.signbit(neg_log10_p_value(0.0, 50))


def test_broadcasts_one_dof_per_variant():
    t, dof = np.full((3, 2), 2.0), np.array([[5], [50], [500]])
    found = neg_log10_p_value(t, dof)
    assert found.shape == (3, 2)
    assert found[1, 0] == neg_log10_p_value(2.0, 50)


def test_grows_with_t_across_the_hand_over_to_the_tail():
    t = np.linspace(30, 40, 20_001)
    assert (np.diff(neg_log10_p_value(t, 5000)) > 0).all()


@pytest.mark.parametrize("dof", [1, 3, 4978])
@pytest.mark.parametrize("value", [1e-9, 0.3, 7.30103, 300.0, 5000.0])
def test_threshold_is_the_smallest_t_that_reaches_it(dof, value):
    t = t_from_neg_log10_p(value, dof)
    if np.isinf(t):  # one dof: P = 1e-5000 needs a t beyond double precision
        assert (dof, value) in {(1, 5000.0), (3, 5000.0)}
        return
    assert float(neg_log10_p_value(t, dof)) >= value
    assert float(neg_log10_p_value(t * (1 - 1e-9), dof)) < value


def test_threshold_of_nothing():
    assert t_from_neg_log10_p(0, 10) == 0
    assert np.isnan(t_from_neg_log10_p(5, 0))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "1"),
        (2.0, "0.01"),
        (3.5, "0.000316228"),
        (4.3, "5.01187e-5"),
        (300.5, "3.16228e-301"),
        (307.99999999, "1e-308"),
        (411.5, "3.16228e-412"),
        (412.9, "1.25893e-413"),
        (100_000.25, "5.62341e-100001"),
        (np.nan, "NA"),
    ],
)
def test_p_value_text(value, text):
    assert p_value_text(value) == [text]


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=20))
def test_p_value_text_reads_back(values):
    for value, text in zip(values, p_value_text(np.array(values)), strict=True):
        read = Decimal(text)
        assert 0 < read <= 1
        assert float(-read.log10()) == pytest.approx(value, rel=1e-9, abs=5e-6)


@pytest.mark.parametrize("value", [1e-6, 0.30103, 7.3, 100.0, 400.0, 1e4])
def test_chi_square_has_the_same_p(value):
    with mp.workdps(60):
        z = mp.sqrt(mp.mpf(float(chi2_from_neg_log10_p(np.array(value)))))
        back = -mp.log10(mp.erfc(z / mp.sqrt(2)))
    assert float(back) == pytest.approx(value, rel=1e-9)

"""-log10 P of F and chi-square against arithmetic with many digits."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from imgwas.sumstats.pvalues import neg_log10_p_value
from imgwas.sumstats.tails import (
    neg_log10_incomplete_beta,
    neg_log10_p_r2,
    neg_log10_p_value_chi2,
    neg_log10_p_value_f,
)

DOFS = [(1, 30), (5, 40), (64, 400), (128, 4870), (256, 39_700), (1024, 400_000)]
SHARES = [1e-6, 1e-3, 0.02, 0.1, 0.3, 0.6, 0.9, 0.999]


def series(a, b, x):
    """-log10 of the incomplete beta function, its series summed term by term."""
    with mp.workdps(60):
        a, b, x = mp.mpf(a), mp.mpf(b), mp.mpf(x)
        if x > a / (a + b):  # the other side, whose series is short
            return -mp.log10(1 - mp.mpf(10) ** -series(b, a, 1 - x))
        term = total = 1 / a
        k = 0
        while term > total * mp.mpf(10) ** -50:
            term *= x * (k + a + b) / (k + a + 1)
            k += 1
            total += term
        logs = a * mp.log(x) + b * mp.log(1 - x) + mp.log(total)
        logs -= mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
        return -logs / mp.log(10)


@pytest.mark.parametrize(("dof1", "dof2"), DOFS)
def test_f_equals_many_digits(dof1, dof2):
    for r2 in SHARES:
        f = r2 / (1 - r2) * dof2 / dof1
        with mp.workdps(60):
            ratio = mp.mpf(f) * dof1
            expected = float(series(mp.mpf(dof2) / 2, mp.mpf(dof1) / 2, dof2 / (dof2 + ratio)))
        assert float(neg_log10_p_value_f(f, dof1, dof2)) == pytest.approx(
            expected, rel=1e-10, abs=1e-40
        )
        if expected > 1e-3:
            found = float(neg_log10_p_r2(np.array(r2), dof1, dof2))
            assert found == pytest.approx(expected, rel=1e-9)


def test_f_goes_past_a_thousand():
    r2 = np.array([0.6, 0.7, 0.9])
    found = neg_log10_p_r2(r2, 128, 4870)
    assert (found > 800).all()
    for value, share in zip(found, r2, strict=True):
        assert value == pytest.approx(float(series(2435, 64, 1 - mp.mpf(share))), rel=1e-12)


def test_f_with_one_term_is_the_t_test():
    t = np.array([0.001, 1.0, 6.0, 45.0, 300.0])
    np.testing.assert_allclose(
        neg_log10_p_value_f(t**2, 1, 4978), neg_log10_p_value(t, 4978), rtol=1e-9
    )


@pytest.mark.parametrize("dof", [1, 2.5, 40, 128, 1000.7])
@pytest.mark.parametrize("per_dof", [1e-3, 0.5, 1.0, 1.7, 6.0, 20.0, 60.0])
def test_chi2_equals_many_digits(dof, per_dof):
    x = dof * per_dof
    with mp.workdps(60):
        q = mp.gammainc(mp.mpf(dof) / 2, mp.mpf(x) / 2, mp.inf, regularized=True)
        expected = float(-mp.log10(q))
    assert float(neg_log10_p_value_chi2(x, dof)) == pytest.approx(expected, rel=1e-11, abs=1e-40)


@pytest.mark.parametrize("value", [1200.0, 4600.0, 5000.0])
def test_chi2_goes_past_a_thousand(value):
    with mp.workdps(60):
        expected = float(-mp.log10(mp.gammainc(64, mp.mpf(value) / 2, mp.inf, regularized=True)))
    assert float(neg_log10_p_value_chi2(value, 128)) == pytest.approx(expected, rel=1e-12)
    if value > 2000:
        assert expected > 850
        assert stats.chi2.sf(value, 128) == 0


def test_incomplete_beta_of_an_argument_that_underflows():
    """The smallest P of MOSTest's beta null: x = 1e-1000 with a = 1.3."""
    log_x = np.array([-1000 * np.log(10)])
    found = neg_log10_incomplete_beta(np.array([1.3]), np.array([90.0]), log_x, np.array([0.0]))
    with mp.workdps(40):
        front = mp.mpf(10) ** -1300 / (mp.mpf("1.3") * mp.beta(mp.mpf("1.3"), 90))
        expected = float(-mp.log10(front))
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_the_ends_and_what_has_no_answer():
    assert neg_log10_p_value_f(np.nan, 3, 5) != neg_log10_p_value_f(np.nan, 3, 5)
    assert np.isnan(neg_log10_p_value_f(1.0, 3, 0))
    assert np.isnan(neg_log10_p_value_chi2(np.nan, 3))
    assert np.isnan(neg_log10_p_value_chi2(1.0, 0))
    assert neg_log10_p_value_chi2(np.inf, 3) == np.inf
    assert neg_log10_p_value_chi2(0.0, 3) == neg_log10_p_value_f(0.0, 3, 5) == 0
    assert not np.signbit(neg_log10_p_value_chi2(0.0, 3))


def test_grows_across_the_hand_over():
    x = np.linspace(1100, 1500, 4001)
    assert (np.diff(neg_log10_p_value_chi2(x, 60)) > 0).all()
    r2 = np.linspace(0.2, 0.5, 4001)
    assert (np.diff(neg_log10_p_r2(r2, 60, 2000)) > 0).all()

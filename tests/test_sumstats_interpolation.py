"""Tables of P values against the functions they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from imgwas.sumstats.interpolation import Interpolant
from imgwas.sumstats.joint import TABLE, OmnibusTest
from imgwas.sumstats.tails import neg_log10_p_r2


@pytest.mark.parametrize(("terms", "dof"), [(1, 4978.0), (16, 485.0), (128, 4850), (256, 39700.0)])
def test_a_table_equals_its_function(terms, dof):
    def exact(x):
        return neg_log10_p_r2(np.exp(x), terms, dof)

    table = Interpolant.between(exact, (-40.0, -1e-9), TABLE)
    assert exact(np.array([table.low]))[0] == pytest.approx(TABLE[0], rel=0.01)
    assert exact(np.array([table.high]))[0] == pytest.approx(TABLE[1], rel=0.01)
    x = np.random.default_rng(0).uniform(table.low - 0.5, table.high + 0.2, 5000)
    np.testing.assert_allclose(table(x), exact(x), rtol=1e-9)


def test_inside_it_asks_for_nothing_and_outside_for_everything():
    asked = []

    def exact(x):
        asked.append(x)
        return np.exp(x)

    table = Interpolant(exact, 0.0, 1.0)
    asked.clear()
    np.testing.assert_allclose(table(np.array([0.1, 0.9])), np.exp([0.1, 0.9]), rtol=1e-12)
    assert not asked
    np.testing.assert_allclose(table(np.array([0.1, 3.0])), np.exp([0.1, 3.0]), rtol=1e-12)
    assert [x.tolist() for x in asked] == [[3.0]]


def test_what_is_not_smooth_is_computed():
    table = Interpolant(lambda x: 1 + np.abs(x - 0.501), 0.0, 1.0)
    assert table(np.array([0.501]))[0] == 1.0


def test_the_omnibus_tests_are_the_same_with_and_without_tables():
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((24, 24)) / 8 + np.eye(24)
    t = rng.standard_normal((3000, 24)) @ mix
    t[:40] += rng.uniform(3, 30, (40, 1))
    t[40:80] *= 0.05
    t = t.astype(np.float32)
    correlation = np.corrcoef(t[80:].T)
    dof = np.full((3000, 1), 900)
    with_table = OmnibusTest(correlation, [0] * 24, n=1000, dof=900).columns(t, dof)
    without = OmnibusTest(correlation, [0] * 24, n=1000).columns(t, dof)
    for name, values in without.items():
        np.testing.assert_allclose(with_table[name], values, rtol=1e-9)
    dof[::3] = 899
    mixed = OmnibusTest(correlation, [0] * 24, n=1000, dof=900).columns(t, dof)
    separate = OmnibusTest(correlation, [0] * 24, n=1000).columns(t, dof)
    for name, values in separate.items():
        np.testing.assert_allclose(mixed[name], values, rtol=1e-9)

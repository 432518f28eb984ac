"""False discovery rates against statsmodels: P, -log10 P, families, gaps."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from imgwas.errors import UsageError
from imgwas.multiple_testing import (
    benjamini_hochberg,
    bonferroni,
    discoveries,
    false_discovery_rates,
)


def test_rates_equal_statsmodels():
    p = np.random.default_rng(0).random(50) ** 3
    wanted = multipletests(p, method="fdr_bh")[1]
    np.testing.assert_allclose(false_discovery_rates(p), wanted, rtol=1e-12)
    np.testing.assert_allclose(benjamini_hochberg(-np.log10(p)), -np.log10(wanted), atol=1e-12)
    holed = np.insert(p, 7, np.nan)
    np.testing.assert_allclose(np.delete(false_discovery_rates(holed), 7), wanted)
    assert np.isnan(false_discovery_rates(holed)[7])


def test_values_no_number_holds():
    np.testing.assert_allclose(benjamini_hochberg(np.array([500.0, 1.0])), [500 - np.log10(2), 1])
    np.testing.assert_array_equal(false_discovery_rates(np.array([0.0, 1.0])), [0, 1])
    assert np.isnan(false_discovery_rates(np.full(3, np.nan))).all()
    assert benjamini_hochberg(np.empty(0)).shape == (0,)
    assert discoveries(np.empty((0, 4)), 0.1).shape == (0, 4)


def test_families_are_corrected_one_by_one():
    rng = np.random.default_rng(4)
    p = rng.random((50, 30)) ** rng.uniform(1, 6, (50, 1))
    p[3, 4:] = np.nan
    p[5] = np.round(p[5], 1) + 0.01
    found = discoveries(-np.log10(p), 0.1)
    for family in range(50):
        has = np.isfinite(p[family])
        expected = multipletests(p[family][has], 0.1, "fdr_bh")[0]
        assert found[family][has].tolist() == expected.tolist()
        assert not found[family][~has].any()
    assert 0 < found.mean() < 1
    assert not discoveries(-np.log10(p), 0.0).any()


def test_bonferroni():
    np.testing.assert_allclose(bonferroni(np.array([3.0, 0.5]), 10.0), [2.0, 0.0])
    with pytest.raises(UsageError, match="the number of tests"):
        bonferroni(np.ones(1), 0.5)

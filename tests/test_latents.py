"""Transforms of latents against SciPy."""

from __future__ import annotations

import numpy as np
from scipy import stats

import imgwas


def test_rank_normal_equals_blom_by_scipy():
    rng = np.random.default_rng(0)
    values = np.round(rng.exponential(size=(80, 3)), 1)  # with ties
    values[rng.random(values.shape) < 0.1] = np.nan
    found = imgwas.rank_normalize(values)
    for column, original in zip(found.T, values.T, strict=True):
        used = np.isfinite(original)
        ranks = stats.rankdata(original[used])
        expected = stats.norm.ppf((ranks - 0.375) / (used.sum() + 0.25))
        np.testing.assert_allclose(column[used], expected, rtol=1e-12)
        assert np.isnan(column[~used]).all()


def test_rank_normal_keeps_order_and_ignores_units():
    values = np.random.default_rng(1).standard_normal((50, 1))
    a, b = imgwas.rank_normalize(values), imgwas.rank_normalize(np.exp(5 * values) * 1e9)
    np.testing.assert_allclose(a, b)
    assert (np.argsort(a[:, 0]) == np.argsort(values[:, 0])).all()

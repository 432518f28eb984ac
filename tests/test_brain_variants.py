"""Effects of a scan in the encoder's units: other scales, ranks, people who lack a latent."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

import imgwas
from imgwas.brain.effects import Readout, Spread
from imgwas.brain.mapping import joint_neg_log10_p
from imgwas.brain.variants import find_variants, scan_space, variant_direction
from imgwas.types import Covariates, Latents
from tests.filesets import write_fileset

N, M, K = 300, 160, 5
ALL = tuple(range(M))
IDS = tuple(f"p{i}" for i in range(N))
NAMES = tuple(f"L{i:03d}" for i in range(K))


def people(seed=0):
    """Null genotypes, two covariates, correlated latents of very different scales."""
    rng = np.random.default_rng(seed)
    g = rng.binomial(2, 0.3, (M, N)).astype(np.int8)
    c = rng.standard_normal((N, 2))
    z = rng.standard_normal((N, K)) @ rng.standard_normal((K, K)) + c @ rng.standard_normal((2, K))
    return g, Covariates(c, IDS, ("a", "b")), z * np.array([1.0, 5.0, 0.1, 2.0, 0.3])


def scan(folder, g, values, covariates, **how):
    prefix = write_fileset(folder, g)
    latents = Latents(values, IDS, NAMES)
    return imgwas.associate(
        imgwas.open_genotypes(prefix), latents, covariates, out=folder / "out", **how
    )


def directions(sumstats, space, which=ALL):
    rows = find_variants(sumstats, [f"rs{i}" for i in which])
    return [variant_direction(sumstats, space, row) for _, row in rows.iterrows()]


@pytest.mark.parametrize("rank_normal", [pytest.param(False, marks=pytest.mark.slow), True])
def test_null_is_calibrated_where_people_lack_latents(tmp_path, rank_normal):
    g, covariates, values = people()
    rng = np.random.default_rng(1)
    values[rng.random(N) < 0.5, 0] = np.nan
    values[rng.random(N) < 0.25, 1] = np.nan
    sumstats = scan(tmp_path, g, values, covariates, rank_normal=rank_normal)
    space = scan_space(sumstats, Latents(values, IDS, NAMES))
    spread = Spread.of(space.covariance)
    sd = np.nanstd(values, axis=0)
    mixtures = np.random.default_rng(2).standard_normal((K, 6)) / sd[:, None]
    readout = Readout(np.hstack([np.diag(1 / sd), mixtures]).astype(np.float32), spread)
    found = directions(sumstats, space)
    z = np.array([readout.z(one.vector, one.variance) for one in found])
    # standard error of a standard deviation of 160 values is 0.056
    assert np.abs(z.std(axis=0) - 1).max() < 0.2, z.std(axis=0)
    p = [10 ** -joint_neg_log10_p(one, spread) for one in found]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) <= 0.1


def test_effects_are_those_of_a_regression_in_the_encoders_units(tmp_path):
    g, covariates, values = people(3)
    latents = Latents(values, IDS, NAMES)
    sumstats = scan(tmp_path, g, values, covariates)
    space = scan_space(sumstats, latents)
    np.testing.assert_array_equal(space.scale, 1)
    found = directions(sumstats, space, [7])[0]
    design = sm.add_constant(np.column_stack([covariates.values, g[7]]))
    fits = [sm.OLS(values[:, k], design).fit() for k in range(K)]
    np.testing.assert_allclose(found.vector, [fit.params[-1] for fit in fits], rtol=1e-4)
    residual = values - design[:, :3] @ np.linalg.lstsq(design[:, :3], values, rcond=None)[0]
    np.testing.assert_allclose(space.covariance, residual.T @ residual / (N - 4), rtol=1e-5)
    own = g[7] - design[:, :3] @ np.linalg.lstsq(design[:, :3], g[7], rcond=None)[0]
    assert found.variance == pytest.approx(1 / (own @ own), rel=1e-4)


def test_scans_of_standardised_latents_come_back_to_their_units(tmp_path):
    g, covariates, values = people(4)
    values = (values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    values = values * np.array([1.15, 5.0, 0.1, 2.0, 0.3])
    plain, scaled = tmp_path / "plain", tmp_path / "scaled"
    plain.mkdir()
    scaled.mkdir()
    latents = Latents(values, IDS, NAMES)
    spaces, moves = [], []
    for folder, divisor in ((plain, 1.0), (scaled, values.std(axis=0, ddof=1))):
        sumstats = scan(folder, g, values / divisor, covariates)
        spaces.append(scan_space(sumstats, latents))
        moves.append(directions(sumstats, spaces[-1], [3])[0])
    np.testing.assert_allclose(moves[1].vector, moves[0].vector, rtol=1e-4)
    np.testing.assert_allclose(spaces[1].covariance, spaces[0].covariance, rtol=1e-4)
    assert moves[1].variance == pytest.approx(moves[0].variance, rel=1e-4)

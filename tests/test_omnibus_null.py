"""Permutation of latents, MOSTest's null, and tests from tables of summary statistics."""

from __future__ import annotations

from dataclasses import replace

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import imgwas
from imgwas.association.permutation import permute_latents, permute_omnibus
from imgwas.errors import DegenerateError, InconsistentError
from imgwas.sumstats.joint import IN_SCAN, OmnibusTest
from imgwas.sumstats.joint_tables import omnibus_from_tables
from imgwas.sumstats.mostest import mostest
from imgwas.sumstats.omnibus_null import OmnibusNull, simulate_null
from imgwas.sumstats.omnibus_table import omnibus_test
from tests.test_omnibus import K, columns, complete
from tests.test_scan import study

NAMES = [f"z{i}" for i in range(K)]


def test_permuted_latents_are_whole_rows_of_residuals():
    made = study(n_latents=K)
    shuffled = permute_latents(made.genotypes, made.latents, made.covariates, seed=5)
    model = np.column_stack([np.ones(len(made.dosage.T)), made.covariates.values])
    residual = made.latents.values.copy()
    for k in range(K):
        has = np.isfinite(residual[:, k])
        fit = np.linalg.lstsq(model[has], residual[has, k], rcond=None)[0]
        residual[has, k] -= model[has] @ fit
        residual[has, k] /= np.linalg.norm(residual[has, k])

    def rows(values):
        return sorted(np.nan_to_num(np.round(values, 9), nan=9).tolist())

    assert rows(shuffled.values) == rows(residual)
    assert not np.array_equal(shuffled.values, residual, equal_nan=True)
    again = permute_latents(made.genotypes, made.latents, made.covariates, seed=5)
    assert np.array_equal(shuffled.values, again.values, equal_nan=True)


def test_a_permutation_is_a_scan_of_permuted_latents(tmp_path):
    made = complete(m=60)
    null = permute_omnibus(
        made.genotypes, made.latents, made.covariates, n_permutations=2, seed=3, threads=3
    )
    seeds = np.random.SeedSequence(3).generate_state(2).tolist()
    for number, seed in enumerate(seeds):
        shuffled = permute_latents(made.genotypes, made.latents, made.covariates, seed=seed)
        scan = replace(made, latents=shuffled).scan(tmp_path / str(number), omnibus=True)
        for name, values in null.tests.items():
            np.testing.assert_allclose(values[number], columns(scan)[name], rtol=1e-6, atol=1e-9)


def test_permutation_p_values_are_ranks():
    null = OmnibusNull({"combined": np.array([[1.0, 2.0, np.nan], [3.0, 0.5, 2.5]])})
    found = null.neg_log10_p(np.array([0.1, 2.0, 2.9, 9.0, np.nan]))
    np.testing.assert_allclose(10.0 ** -found[:4], [6 / 6, 4 / 6, 2 / 6, 1 / 6])
    assert np.isnan(found[4])
    family = null.family_wise(np.array([1.9, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(10.0**-family, [3 / 3, 3 / 3, 2 / 3, 1 / 3])
    assert null.shares([0.01]).loc[0.01, "combined"] == pytest.approx(2 / 5 / 0.01)


def test_the_null_keeps_what_was_planted_out():
    """Variant 3 moves latent 1: found in the scan, not by the permuted latents."""
    made = complete()
    null = permute_omnibus(made.genotypes, made.latents, made.covariates, n_permutations=10, seed=1)
    largest = np.nanmax(null.tests["combined"])
    assert largest < 5
    assert null.family_wise(np.array([8.0]))[0] == pytest.approx(np.log10(11))


def test_simulated_null_is_that_of_permutation(results):
    """Alike latents: minP and the combination are conservative, and the ranks put that right."""
    made = complete(n=200, m=500)
    shared = made.latents.values.mean(axis=1, keepdims=True)
    alike = replace(made.latents, values=made.latents.values + 8 * shared)
    permuted = permute_omnibus(
        made.genotypes, alike, made.covariates, n_permutations=40, seed=1
    ).tests
    test = OmnibusTest(_correlation(alike, made.covariates), [0] * K, n=200, dof=195, single=False)
    drawn = simulate_null(test, n_draws=100_000, seed=2)
    for name in IN_SCAN:
        for level in (0.2, 0.02):
            share = np.mean(permuted[name] > -np.log10(level))
            expected = np.mean(drawn.tests[name] > -np.log10(level))
            assert share == pytest.approx(expected, rel=0.15), name
    judged = drawn.calibrated(permuted["combined"].ravel())
    assert np.mean(permuted["combined"] > 2) / 0.01 < 0.8
    assert np.mean(judged > 2) / 0.01 == pytest.approx(1, abs=0.2)


def _correlation(latents, covariates):
    """Partial correlation of complete latents."""
    model = np.column_stack([np.ones(len(latents.values)), covariates.values])
    fit = np.linalg.lstsq(model, latents.values, rcond=None)[0]
    return np.corrcoef(latents.values - model @ fit, rowvar=False)


def test_calibration_never_makes_a_signal_stronger_than_computed():
    rng = np.random.default_rng(0)
    null = OmnibusNull({"combined": -np.log10(rng.random((1, 10_000))) * 0.9})
    observed = np.array([0.5, 1.0, 1.79, 1.81, 3.0, 400.0, np.nan])
    found = null.calibrated(observed)
    assert (np.diff(found[:-1]) >= 0).all()
    assert found[1] == pytest.approx(1 / 0.9, abs=0.03)
    assert found[5] == 400
    assert np.isnan(found[6])
    few = OmnibusNull({"combined": np.ones((1, 50))})
    assert few.calibrated(observed)[0] == 0.5


def test_the_null_of_latents_with_other_people_needs_genotypes(tmp_path):
    test = omnibus_test(study(n_latents=K).scan(tmp_path / "out"))
    with pytest.raises(DegenerateError, match="permute_omnibus"):
        simulate_null(test, n_draws=10, seed=0)


def test_mostest_equals_its_formulas():
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((K, K))
    z, permuted = rng.standard_normal((200, K)) @ mix, rng.standard_normal((3000, K)) @ mix
    found = mostest(z, permuted)
    inverse = np.linalg.inv(np.corrcoef(permuted.T))
    most = np.einsum("vi,ij,vj->v", z, inverse, z)
    null = np.einsum("vi,ij,vj->v", permuted, inverse, permuted)
    a, _, scale = stats.gamma.fit(null, floc=0)
    np.testing.assert_allclose(
        found["most"], -stats.gamma.logsf(most, a, scale=scale) / np.log(10), rtol=1e-4
    )
    smallest = 2 * stats.norm.sf(np.abs(permuted).max(axis=1))
    a, b, _, _ = stats.beta.fit(smallest, floc=0, fscale=1)
    p = 2 * stats.norm.sf(np.abs(z).max(axis=1))
    np.testing.assert_allclose(found["minp"], -stats.beta.logcdf(p, a, b) / np.log(10), rtol=1e-6)


def test_mostest_raises_small_eigenvalues_and_never_underflows():
    rng = np.random.default_rng(1)
    permuted = rng.standard_normal((2000, 3)) @ np.array([[1, 1, 0], [0, 0.01, 0], [0, 0, 1.0]])
    z = np.array([[1.0, -1.0, 0.0], [60.0, 60.0, 0.0]])
    plain, raised = mostest(z, permuted), mostest(z, permuted, eig_keep=2)
    assert raised["most"][0] < 1 < plain["most"][0]
    assert plain["minp"][1] > 700
    with mp.workdps(30):
        tail = -mp.log10(mp.erfc(60 / mp.sqrt(2)))
    assert plain["minp"][1] == pytest.approx(float(tail), rel=0.2)
    with pytest.raises(InconsistentError, match="3 latents"):
        mostest(z, permuted[:, :2])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return complete(n=900, m=300).scan(tmp_path_factory.mktemp("scan") / "out", precision="double")


def test_tables_give_what_the_folder_gives(results):
    tables = {name: results.latent(name) for name in NAMES}
    found = omnibus_from_tables(tables, results.latent_correlation())
    expected = imgwas.omnibus(results, tests=["chi2"])
    np.testing.assert_allclose(found["omnibus.chi2"], expected["omnibus.chi2"], rtol=1e-6)
    assert list(found["base_pair_location"]) == list(expected["base_pair_location"])
    estimated = omnibus_from_tables(tables)
    assert np.corrcoef(estimated["omnibus.chi2"], found["omnibus.chi2"])[0, 1] > 0.95


def test_tables_in_other_orders_and_counting_other_alleles(results):
    tables = {name: results.latent(name) for name in NAMES}
    expected = omnibus_from_tables(tables, results.latent_correlation())
    other = tables["z2"].sample(frac=1, random_state=0)
    turned = other.index % 3 == 0
    alleles = other[["effect_allele", "other_allele"]].to_numpy()
    other["beta"] = np.where(turned, -other["beta"], other["beta"])
    other["effect_allele"] = np.where(turned, alleles[:, 1], alleles[:, 0])
    other["other_allele"] = np.where(turned, alleles[:, 0], alleles[:, 1])
    found = omnibus_from_tables(tables | {"z2": other}, results.latent_correlation())
    pd.testing.assert_frame_equal(found, expected)
    fewer = omnibus_from_tables(tables | {"z2": other.iloc[:100]}, results.latent_correlation())
    assert len(fewer) == 100


def test_tables_that_do_not_fit_are_refused(results):
    table = results.latent("z0")
    with pytest.raises(InconsistentError, match="two tables"):
        omnibus_from_tables({"z0": table})
    with pytest.raises(InconsistentError, match="no column 'beta'"):
        omnibus_from_tables({"z0": table, "z1": table.drop(columns="beta")})
    elsewhere = table.assign(base_pair_location=table["base_pair_location"] + 10**6)
    with pytest.raises(InconsistentError, match="no variant in common"):
        omnibus_from_tables({"z0": table, "z1": elsewhere})
    with pytest.raises(InconsistentError, match="'other'"):
        omnibus_from_tables({"z0": table, "other": table}, results.latent_correlation())
    with pytest.raises(DegenerateError, match="Pass correlation"):
        omnibus_from_tables({"z0": table[:15], "z1": table[:15]})

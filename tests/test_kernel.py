"""The block kernel against statsmodels, where it could go wrong."""

from __future__ import annotations

import numpy as np
import pytest

from imgwas.association.blocks import GroupArrays, Workspace
from imgwas.association.kernel import scan_block
from imgwas.association.projection import orthonormal_basis, residual_traits, spread
from imgwas.genotypes.counts import pack_mask
from imgwas.sumstats.reasons import ALL_MISSING, EXPLAINED_BY_COVARIATES, MONOMORPHIC, TESTED
from tests.oracles import codes_of, mean_imputed, ols

RNG = np.random.default_rng


def cohort(n=203, n_variants=24, n_traits=5, n_covariates=4, missing=0.03, seed=0):
    """Genotypes whose covariates are correlated with them, and traits that both move."""
    rng = RNG(seed)
    ancestry = rng.standard_normal(n)
    frequency = rng.uniform(0.05, 0.95, n_variants)
    logit = np.log(frequency / (1 - frequency))[:, None] + 2.0 * ancestry
    dosage = rng.binomial(2, 1 / (1 + np.exp(-logit))).astype(float)
    covariates = rng.standard_normal((n, n_covariates))
    covariates[:, 0] = ancestry + 0.3 * rng.standard_normal(n)
    traits = rng.standard_normal((n, n_traits)) + covariates @ rng.standard_normal(
        (n_covariates, n_traits)
    )
    traits[:, 0] += 0.8 * dosage[0] + 50
    traits[:, 1] = 3 * dosage[1] + 1e-3 * rng.standard_normal(n)
    dosage[rng.random(dosage.shape) < missing] = np.nan
    return dosage, covariates, traits


def group_of(traits, covariates, used):
    """Project as the design does, laid out over the bytes of the file."""
    basis = orthonormal_basis(covariates[used])
    unit, scale, _, _ = residual_traits(traits[used], basis)
    n_people = -(-len(used) // 4) * 4
    full = np.zeros(n_people, bool)
    full[: len(used)] = used
    return GroupArrays(
        traits=spread(unit, full),
        basis=spread(basis, full),
        trait_scale=scale,
        mask=pack_mask(full),
        n=int(used.sum()),
        rank=basis.shape[1] + 1,
    )


def scan(dosage, groups, *, missing="mean", dtype=np.float64, block=32):
    packed = codes_of(dosage)
    workspace = Workspace(block, packed.shape[1], dtype)
    matrices = [group.product_matrix(dtype) for group in groups]
    return scan_block(packed, groups, matrices=matrices, workspace=workspace, missing=missing)


def beta_and_error(result, group):
    r = result.t / np.sqrt(result.t.astype(float) ** 2 + result.dof[:, None])
    ratio = group.trait_scale / result.scale[:, None]
    return r * ratio, ratio * np.sqrt((1 - r**2) / result.dof[:, None])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-8), (np.float32, 1e-5)])
@pytest.mark.parametrize("n", [200, 201, 202, 203])
def test_mean_imputed_scan_equals_statsmodels(dtype, tolerance, n):
    dosage, covariates, traits = cohort(n=n)
    used = RNG(1).random(n) < 0.9
    group = group_of(traits, covariates, used)
    (result,) = scan(dosage, [group], dtype=dtype)
    beta, error = beta_and_error(result, group)
    for variant in range(len(dosage)):
        x = mean_imputed(dosage[variant], used)
        for trait in range(traits.shape[1]):
            fit = ols(traits[used, trait], x[used], covariates[used])
            assert result.dof[variant] == fit.dof
            assert result.t[variant, trait] == pytest.approx(fit.t, rel=tolerance, abs=tolerance)
            assert beta[variant, trait] == pytest.approx(
                fit.beta, rel=tolerance, abs=tolerance * fit.standard_error
            )
            assert error[variant, trait] == pytest.approx(fit.standard_error, rel=tolerance)


def test_covariates_of_the_test_cohort_do_explain_genotypes():
    dosage, covariates, _ = cohort(missing=0)
    r2 = [ols(x, covariates[:, 0], covariates[:, 1:]) for x in dosage]
    share = np.median([f.t**2 / (f.t**2 + f.dof) for f in r2])
    assert share >= 0.3


def test_dropping_equals_complete_cases():
    dosage, covariates, traits = cohort(missing=0.1)
    used = np.ones(len(covariates), bool)
    used[5:20] = False
    group = group_of(traits, covariates, used)
    (result,) = scan(dosage, [group], missing="drop")
    for variant in range(len(dosage)):
        for trait in range(traits.shape[1]):
            fit = ols(traits[used, trait], dosage[variant, used], covariates[used])
            assert (result.n[variant], result.dof[variant]) == (fit.n, fit.dof)
            assert result.t[variant, trait] == pytest.approx(fit.t, rel=1e-7, abs=1e-8)
            assert result.beta[variant, trait] == pytest.approx(fit.beta, rel=1e-7, abs=1e-9)


def test_dropping_everyone_who_tells_a_covariate_apart_lowers_the_rank():
    dosage, covariates, traits = cohort(n=80, n_variants=2, missing=0)
    covariates[:, 1] = 0
    covariates[:3, 1] = 1
    dosage[0, :3] = np.nan
    used = np.ones(80, bool)
    group = group_of(traits, covariates, used)
    (result,) = scan(dosage, [group], missing="drop")
    left = np.delete(covariates[3:], 1, axis=1)
    fit = ols(traits[3:, 0], dosage[0, 3:], left)
    assert result.dof[0] == fit.dof
    assert result.t[0, 0] == pytest.approx(fit.t, rel=1e-7)


def test_effect_allele_frequency_counts_the_people_of_the_group():
    dosage, covariates, traits = cohort()
    used = RNG(2).random(len(covariates)) < 0.5
    (result,) = scan(dosage, [group_of(traits, covariates, used)])
    expected = np.nanmean(dosage[:, used], axis=1) / 2
    np.testing.assert_allclose(result.effect_allele_frequency, expected, rtol=1e-12)


def test_a_trait_does_not_feel_the_other_groups():
    dosage, covariates, traits = cohort(n_traits=6)
    everyone = np.ones(len(covariates), bool)
    some = RNG(3).random(len(covariates)) < 0.7
    first, second = (
        group_of(traits[:, :3], covariates, everyone),
        group_of(traits[:, 3:], covariates, some),
    )
    together = scan(dosage, [first, second], dtype=np.float32)
    alone = scan(dosage, [second], dtype=np.float32)
    assert np.array_equal(together[1].t, alone[0].t)


@pytest.mark.parametrize("missing", [0, 0.03])
def test_many_groups_at_once_are_each_group_alone(missing, monkeypatch):
    """Counts by whom a group lacks, and one product for all groups where no call is missing."""
    n = 801
    dosage, covariates, traits = cohort(n=n, n_traits=7, missing=missing)
    rng, groups = RNG(5), []
    for lost in (0, 1, 4, 9, 200):
        used = np.ones(n, bool)
        used[rng.choice(n, lost, replace=False)] = False
        groups.append(group_of(traits[:, len(groups) : len(groups) + 2], covariates, used))
    shared = []
    multiply = Workspace._multiply_all

    def counted(workspace, matrix):
        shared.append(matrix.shape[1])
        return multiply(workspace, matrix)

    monkeypatch.setattr(Workspace, "_multiply_all", counted)
    together = scan(dosage, groups, dtype=np.float32, block=192)
    assert len(shared) == (5 if missing else 1)
    for group, found in zip(groups, together, strict=True):
        (alone,) = scan(dosage, [group], dtype=np.float32, block=192)
        # products of another width are rounded in another order on some processors
        np.testing.assert_allclose(found.t, alone.t, rtol=3e-6, atol=1e-5)
        np.testing.assert_allclose(found.scale, alone.scale, rtol=1e-6)
        for name in ("effect_allele_frequency", "n", "dof", "reason"):
            assert np.array_equal(getattr(found, name), getattr(alone, name), equal_nan=True)


def test_degenerate_variants_get_a_reason_and_no_number():
    dosage, covariates, traits = cohort(n_variants=6, missing=0)
    dosage[1] = 2
    dosage[2] = np.nan
    dosage[3] = np.round(covariates[:, 1] > 0)
    covariates[:, 2] = dosage[3] * 1.7 - 4
    group = group_of(traits, covariates, np.ones(len(covariates), bool))
    for missing in ("mean", "drop"):
        (result,) = scan(dosage, [group], dtype=np.float32, missing=missing)
        expected = [TESTED, MONOMORPHIC, ALL_MISSING, EXPLAINED_BY_COVARIATES, TESTED, TESTED]
        assert result.reason.tolist() == expected
        assert np.isnan(result.t[1:4]).all()
        assert np.isfinite(result.t[[0, 4, 5]]).all()


@pytest.mark.parametrize("major", [False, True])
def test_rare_variants_in_a_large_cohort_stay_exact_in_single_precision(major):
    rng = RNG(5)
    n = 20_000
    rare = (rng.random((8, n)) < 2e-4).astype(float)
    dosage = 2 - rare if major else rare
    covariates, traits = rng.standard_normal((n, 3)), rng.standard_normal((n, 2))
    group = group_of(traits, covariates, np.ones(n, bool))
    (single,) = scan(dosage, [group], dtype=np.float32)
    (double,) = scan(dosage, [group], dtype=np.float64)
    error = np.abs(single.t - double.t) / np.maximum(1, np.abs(double.t))
    assert error.max() < 1e-4
    np.testing.assert_allclose(single.scale, double.scale, rtol=1e-9)


def test_single_precision_holds_its_bound_when_covariates_nearly_explain_the_variant():
    rng = RNG(6)
    n = 3_000
    dosage = rng.binomial(2, 0.3, (4, n)).astype(float)
    covariates = np.column_stack([dosage[0] + 1e-3 * rng.standard_normal(n), rng.random(n)])
    traits = rng.standard_normal((n, 2)) + dosage[0][:, None]
    group = group_of(traits, covariates, np.ones(n, bool))
    (single,) = scan(dosage, [group], dtype=np.float32)
    for trait in range(2):
        fit = ols(traits[:, trait], dosage[0], covariates)
        assert single.t[0, trait] == pytest.approx(fit.t, rel=1e-3, abs=1e-3)


def test_perfect_fit_is_finite():
    dosage, covariates, traits = cohort(missing=0)
    traits[:, 0] = dosage[4] * 2
    group = group_of(traits, covariates, np.ones(len(covariates), bool))
    for dtype in (np.float32, np.float64):
        (result,) = scan(dosage, [group], dtype=dtype)
        assert np.isfinite(result.t[4, 0])
        assert result.t[4, 0] > 1e5

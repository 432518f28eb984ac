"""Calibration under the null: millions of tests, people and traits that follow structure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, chi2

import imgwas
from imgwas.types import Covariates, Latents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

N, M, K = 2000, 20_000, 100


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two populations; traits and covariates differ between them, no variant has an effect."""
    folder = tmp_path_factory.mktemp("null")
    made = imgwas.simulate_cohort(
        folder,
        n_samples=N,
        n_variants=M,
        n_latents=2,
        n_causal=0,
        populations=2,
        fst=0.05,
        missing_rate=0.01,
        ld_length_kb=0.1,  # next to none, so that tests are independent and the interval holds
        seed=2026,
    )
    genotypes = imgwas.open_genotypes(made.bfile)
    some = np.arange(0, M, 10)
    dosage = genotypes.read_dosages(some).astype(float)
    dosage = np.nan_to_num(dosage - np.nanmean(dosage, axis=1, keepdims=True))
    components = np.linalg.svd(dosage, full_matrices=False)[2][:2].T * np.sqrt(N)
    rng = np.random.default_rng(1)
    age = rng.normal(60, 8, N)
    covariates = np.column_stack([components, age, age**2])
    traits = rng.standard_normal((N, K)) + 1.0 * components[:, :1] + 0.03 * age[:, None]
    traits[rng.random(N) < 0.1, K // 2 :] = np.nan
    ids = genotypes.samples.sample_ids
    return (
        genotypes,
        Latents(traits, ids, tuple(f"z{i:03d}" for i in range(K))),
        Covariates(covariates, ids, ("pc1", "pc2", "age", "age^2")),
    )


def p_values(results: imgwas.SumStats) -> np.ndarray:
    """P of every tested pair."""
    found = [10.0 ** -results.neg_log10_p(name) for name in results.latents]
    p = np.concatenate(found)
    return p[np.isfinite(p)]


def check_calibrated(p: np.ndarray, label: str, capsys) -> None:
    """Lambda in [0.99, 1.01]; shares below each level within the 99 % interval of their number."""
    lambda_gc = chi2.isf(np.median(p), 1) / chi2.isf(0.5, 1)
    low, high = binom.interval(0.99, len(p), 1e-4)
    n_below = int((p < 1e-4).sum())
    report = [
        f"{label}: {len(p):,} tests, lambda {lambda_gc:.4f}",
        f"P < 1e-4: {n_below} (99 % interval {low:.0f} to {high:.0f})",
        *(f"P < {level:g}: {np.mean(p < level):.6f}" for level in (0.05, 0.01, 1e-3)),
    ]
    with capsys.disabled():
        print("\n" + "; ".join(report))
    assert 0.99 <= lambda_gc <= 1.01
    assert low <= n_below <= high


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_null_is_calibrated_with_structure_covariates(tmp_path, cohort, missing, capsys):
    genotypes, latents, covariates = cohort
    results = imgwas.associate(
        genotypes,
        latents,
        covariates,
        out=tmp_path / "out",
        missing_genotype=missing,
        filters=imgwas.VariantFilters(maf=0.01),
    )
    p = p_values(results)
    assert len(p) >= 1_000_000
    check_calibrated(p, f"structure covariates, {missing}", capsys)


def test_without_structure_covariates_it_is_inflated(tmp_path, cohort):
    """The test above can fail: leave the components out and lambda is far from one."""
    genotypes, latents, covariates = cohort
    only_age = Covariates(covariates.values[:, 2:], covariates.sample_ids, ("age", "age^2"))
    results = imgwas.associate(genotypes, latents, only_age, out=tmp_path / "out")
    assert results.lambda_gc().median() > 1.5

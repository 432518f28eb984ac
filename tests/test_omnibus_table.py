"""Tests of all latents from a finished scan, thresholds and two-level FDR, against plain loops."""

from __future__ import annotations

from dataclasses import replace

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import imgwas
from imgwas.errors import DegenerateError, UsageError
from imgwas.multiple_testing import discoveries
from imgwas.sumstats.combining import acat, sidak, twice_the_smaller
from imgwas.sumstats.effective_tests import METHODS, effective_tests
from imgwas.sumstats.mixtures import neg_log10_p_mixture
from imgwas.sumstats.tails import neg_log10_p_value_chi2
from imgwas.sumstats.two_level import two_level_fdr
from tests.cli_cohort import imgwas as command_line
from tests.test_omnibus import K, complete
from tests.test_scan import M, genotypes_of, study

ALL = ["combined", "joint", "f", "chi2", "minp", "acat", "share_last"]


@pytest.fixture(scope="module")
def made():
    return complete()


@pytest.fixture(scope="module")
def results(made, tmp_path_factory):
    return made.scan(tmp_path_factory.mktemp("scan") / "out", precision="double", omnibus=True)


@pytest.fixture(scope="module")
def single(made, tmp_path_factory):
    return made.scan(tmp_path_factory.mktemp("scan") / "out", part_size=17)


def statistics_of(results):
    """t of every latent, and the correlation, by hand."""
    t = [results.variants([f"t.{name}"]).to_numpy()[:, 0] for name in results.latents]
    return np.column_stack(t).astype(float), results.latent_correlation().to_numpy()


def test_equals_what_the_scan_computed(results):
    found = imgwas.omnibus(results, tests=["joint", "minp", "combined"])
    for name in ("joint", "minp", "combined"):
        stored = results.variants([f"omnibus.{name}"])[f"omnibus.{name}"]
        np.testing.assert_allclose(found[f"omnibus.{name}"], stored, rtol=1e-10)
    assert (found["neg_log_10_p_value"] == found["omnibus.joint"]).all()


def test_every_test_against_a_loop(results):
    found = imgwas.omnibus(results, tests=ALL, shrink=0.0)
    t, correlation = statistics_of(results)
    dof = results.variants(["dof.0"])["dof.0"].to_numpy()
    values, vectors = np.linalg.eigh(correlation)
    for variant in range(M):
        r = t[variant] / np.sqrt(t[variant] ** 2 + dof[variant])
        r2 = r @ np.linalg.inv(correlation) @ r
        left = dof[variant] + 1 - K
        f = stats.f.sf(r2 / K / ((1 - r2) / left), K, left)
        row = found.loc[variant]
        assert row["omnibus.f"] == row["omnibus.joint"] == pytest.approx(-np.log10(f), rel=1e-9)
        chi2 = stats.chi2.sf(t[variant] @ np.linalg.inv(correlation) @ t[variant], K)
        assert row["omnibus.chi2"] == pytest.approx(-np.log10(chi2), rel=1e-9)
        p = 2 * stats.t.sf(abs(t[variant]), dof[variant])
        assert row["omnibus.acat"] == pytest.approx(float(slow_acat(-np.log10(p))), rel=1e-9)
        small = (vectors[:, 0] @ r) ** 2 / values[0] / r2
        assert row["omnibus.share_last"] == pytest.approx(small, rel=1e-8)


def test_kept_eigenvectors_are_principal_components_of_the_latents(made, results):
    """F on two directions is the regression on the two leading components of the residuals."""
    import statsmodels.api as sm

    found = imgwas.omnibus(results, tests=["f"], eig_keep=2)["omnibus.f"]
    nuisance = sm.add_constant(made.covariates.values)
    residual = sm.OLS(made.latents.values, nuisance).fit().resid
    residual /= np.linalg.norm(residual, axis=0)
    order = [made.latents.names.index(name) for name in results.latents]
    components = np.linalg.svd(residual[:, order], full_matrices=False)[0][:, :2]
    for variant in (0, 3, 5, 11):
        dosage = made.dosage[variant]
        dosage = np.where(np.isnan(dosage), np.nanmean(dosage), dosage)
        whole = sm.OLS(dosage, np.column_stack([nuisance, components])).fit()
        p = whole.compare_f_test(sm.OLS(dosage, nuisance).fit())[1]
        # two residual degrees more than the scan leaves after K latents: only 2 are used
        assert found[variant] == pytest.approx(-np.log10(p), rel=1e-8)


def test_shrunk_chi_square_is_a_mixture(results):
    found = imgwas.omnibus(results, tests=["chi2"], shrink=0.3)["omnibus.chi2"]
    t, correlation = statistics_of(results)
    shrunk = 0.7 * correlation + 0.3 * np.eye(K)
    weights = np.linalg.eigvals(np.linalg.solve(shrunk, correlation)).real
    draws = np.random.default_rng(0).standard_normal((400_000, K)) ** 2 @ weights
    for variant in range(0, M, 4):
        total = t[variant] @ np.linalg.solve(shrunk, t[variant])
        share = (draws >= total).mean()
        assert 10.0 ** -found[variant] == pytest.approx(share, rel=0.05, abs=1e-3)


def test_some_latents_only(made, results, tmp_path):
    some = list(made.latents.names[1:4])
    found = imgwas.omnibus(results, latents=some)
    alone = imgwas.omnibus(made.only(*some).scan(tmp_path / "some", precision="double"))
    np.testing.assert_allclose(found["neg_log_10_p_value"], alone["neg_log_10_p_value"], rtol=1e-8)


def test_f_of_latents_with_other_people_is_refused(tmp_path):
    results = study(n_latents=K).scan(tmp_path / "out")
    with pytest.raises(DegenerateError, match="Ask for chi2"):
        imgwas.omnibus(results, tests=["f"])


def test_far_fewer_people_take_chi_square(tmp_path):
    """On Y only men are used: the correlation of everyone is no longer that of the sample."""
    rng = np.random.default_rng(3)
    sex = np.tile([1, 2], 75)
    made = complete(chromosomes=["1"] * 20 + ["Y"] * 20, sex=sex, missing_calls=0)
    made.dosage[20:, sex == 1] = 2 * rng.integers(0, 2, (20, 75))
    made = replace(made, genotypes=genotypes_of(made.dosage, made.chromosome, sex))
    found = imgwas.omnibus(made.scan(tmp_path / "out"), tests=["joint", "f", "chi2"])
    assert (found["omnibus.joint"] == found["omnibus.chi2"]).to_numpy()[20:].all()
    assert found["omnibus.f"].isna().to_numpy().tolist() == [False] * 20 + [True] * 20


def slow_acat(neg_log10_p):
    with mp.workdps(1200):
        p = [mp.mpf(10) ** -mp.mpf(float(value)) for value in neg_log10_p]
        total = sum(mp.cot(mp.pi * one) for one in p) / len(p)
        return -mp.log10(mp.acot(total) / mp.pi if total > 0 else 1 + mp.acot(total) / mp.pi)


@pytest.mark.parametrize(
    "values",
    [
        [0.3, 2.0, 1.1], [0.01, 0.02, 0.0005], [14.0, 16.0, 0.2], [1000.0, 999.5, 3.0, 0.0001],
        [400.0, 0.3], [7.3], [15.2, 15.1, 14.9, 0.9], [0.301, 0.301],
    ],
)  # fmt: skip
def test_acat_equals_many_digits(values):
    found = acat(np.array([values]))
    assert found[0] == pytest.approx(float(slow_acat(values)), rel=1e-10)


def test_acat_of_a_p_value_of_one_and_of_nothing():
    assert acat(np.array([[0.0, 1.0]]))[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(acat(np.array([[np.nan, 1.0]]))[0])


@pytest.mark.parametrize("n", [1, 2, 128, 10_000])
@pytest.mark.parametrize("value", [0.0, 1e-9, 0.01, 0.3, 2.0, 8.0, 14.9, 15.1, 400.0])
def test_sidak_equals_many_digits(n, value):
    with mp.workdps(500):
        expected = -mp.log10(1 - (1 - mp.mpf(10) ** -mp.mpf(value)) ** n)
    assert float(sidak(np.array(value), n)) == pytest.approx(float(expected), rel=1e-10, abs=1e-40)


def test_twice_the_smaller_is_never_above_one():
    found = twice_the_smaller(np.array([0.1, 3.0, np.nan]), np.array([0.2, 1.0, 1.0]))
    np.testing.assert_allclose(found[:2], [0, 3 - np.log10(2)])
    assert np.isnan(found[2])


def test_mixture_of_equal_weights_is_chi_square_and_of_pairs_is_known():
    x = np.array([1.0, 20.0, 300.0, 9000.0])
    np.testing.assert_allclose(
        neg_log10_p_mixture(2 * x, np.full(8, 2.0)), neg_log10_p_value_chi2(x, 8), rtol=1e-12
    )
    # weights in pairs give a mixture of exponentials with a closed tail
    x = np.array([0.1, 3.0, 6.0, 6.01, 20.0, 200.0, 4000.0])
    tail = 2 * np.exp(-0.25 * x) - np.exp(-0.5 * x)
    with np.errstate(divide="ignore"):
        expected = np.where(x < 1000, -np.log10(tail), 0.25 * x / np.log(10) - np.log10(2))
    found = neg_log10_p_mixture(x, np.array([2.0, 2.0, 1.0, 1.0]))
    np.testing.assert_allclose(found, expected, atol=np.log10(1.1))


def test_effective_numbers_of_worked_matrices():
    alike = np.full((4, 4), 1.0)
    for method, value in {"bonferroni": 4, "nyholt": 1, "li_ji": 1, "gao": 1, "galwey": 1}.items():
        assert effective_tests(alike, method) == pytest.approx(value, abs=1e-6)
        assert effective_tests(np.eye(4), method) == pytest.approx(4)
    pair = np.array([[1.0, 0.6], [0.6, 1.0]])  # eigenvalues 1.6 and 0.4
    assert effective_tests(pair, "nyholt") == pytest.approx(1 + (1 - 0.72 / 2))
    assert effective_tests(pair, "li_ji") == pytest.approx(1 + 0.6 + 0.4)
    assert effective_tests(pair, "galwey") == pytest.approx((1.6**0.5 + 0.4**0.5) ** 2 / 2)
    assert imgwas.study_wide_threshold(pair) == 2.5e-8
    with pytest.raises(UsageError, match="li_ji"):
        imgwas.study_wide_threshold(pair, "li-ji")
    with pytest.raises(UsageError, match="square"):
        effective_tests(np.ones((2, 3)))


def test_li_and_ji_let_through_more_than_they_promise():
    """Simulation: 40 dimensions in 128 latents, P = 1e-3; Nyholt holds, Li and Ji do not."""
    rng = np.random.default_rng(1)
    loadings = rng.standard_normal((128, 40))
    covariance = loadings @ loadings.T / 40 + 0.05 * np.eye(128)
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    z = rng.standard_normal((60_000, 128)) @ np.linalg.cholesky(correlation).T
    family_wise = (np.abs(z).max(axis=1) > stats.norm.isf(0.5e-3)).mean()
    truth = np.log1p(-family_wise) / np.log1p(-1e-3)
    numbers = {method: effective_tests(correlation, method) for method in METHODS}
    assert numbers["li_ji"] < 0.7 * truth
    assert 0.85 * truth < numbers["nyholt"] < 1.25 * truth


def test_two_levels_select_variants_and_then_latents(results):
    table = imgwas.omnibus(results)
    found = two_level_fdr(results, table["neg_log_10_p_value"].to_numpy(), q_variants=0.2)
    p = 10.0 ** -table["neg_log_10_p_value"].to_numpy()
    chosen = multipletests(p, 0.2, "fdr_bh")[0]
    assert 0 < chosen.mean() < 1
    expected = set()
    for variant in np.flatnonzero(chosen):
        own = [10.0 ** -results.neg_log10_p(name)[variant] for name in results.latents]
        passes = multipletests(own, 0.05 * chosen.mean(), "fdr_bh")[0]
        expected |= {
            (f"rs{variant}", name) for name, ok in zip(results.latents, passes, strict=True) if ok
        }
    assert expected
    assert set(zip(found["variant_id"], found["latent"], strict=True)) == expected
    none = two_level_fdr(results, np.zeros(M), threshold=5e-8)
    assert len(none) == 0
    assert list(none.columns) == list(found.columns)


def test_two_levels_hold_their_rate():
    """The share of false latents, averaged over selected variants, stays below q."""
    rng = np.random.default_rng(12)
    rates = []
    for _ in range(20):
        z = rng.standard_normal((2000, 20))
        true = np.zeros(z.shape, bool)
        true[:60, :3] = True
        z += 4.5 * true
        p = -np.log10(2 * stats.norm.sf(np.abs(z)))
        omnibus = neg_log10_p_value_chi2((z**2).sum(axis=1), 20)
        selected = discoveries(omnibus[None], 0.05)[0]
        passes = discoveries(p[selected], 0.05 * selected.mean())
        wrong = (passes & ~true[selected]).sum(axis=1) / np.maximum(passes.sum(axis=1), 1)
        rates.append(wrong.mean())
    assert np.mean(rates) < 0.05
    assert np.mean(rates) > 0


@pytest.mark.parametrize("ending", ["parquet", "tsv", "tsv.gz"])
def test_the_command_writes_the_table(single, tmp_path, ending):
    out = tmp_path / f"all.{ending}"
    done = command_line(
        "omnibus", single.folder, "--out", out, "--test", "combined,acat", folder=tmp_path
    )
    assert done.code == 0, done.text
    table = pd.read_parquet(out) if ending == "parquet" else pd.read_csv(out, sep="\t")
    expected = imgwas.omnibus(single, tests=["combined", "acat"])
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-12)
    assert "6 latents, 6 directions" in done.text


def test_text_has_one_plain_header_and_na(tmp_path):
    made = complete()
    made.dosage[4] = 1
    replace(made, genotypes=genotypes_of(made.dosage)).scan(tmp_path / "res", part_size=17)
    done = command_line("omnibus", "res", "--out", "all.tsv", folder=tmp_path)
    assert done.code == 0, done.text
    lines = (tmp_path / "all.tsv").read_text().splitlines()
    assert len(lines) == 1 + M
    assert lines[0].startswith("chromosome\tbase_pair_location\tvariant_id\t")
    assert lines[5].split("\t")[5:] == ["NA"] * 5


def test_the_command_writes_latents_of_variants(single, tmp_path):
    done = command_line(
        "omnibus", single.folder, "--out", "all.tsv", "--fdr", "latents.tsv", "--threshold", "0.05",
        folder=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.text
    table = pd.read_csv(tmp_path / "latents.tsv", sep="\t")
    assert set(table["variant_id"]) >= {"rs3"}
    assert (table["neg_log_10_p_omnibus"] >= -np.log10(0.05)).all()


def test_the_command_calibrates(single, tmp_path):
    for out, more in (("a.parquet", ()), ("b.parquet", ("--calibrate", "20000"))):
        done = command_line(
            "omnibus", single.folder, "--out", out, "--test", "combined", *more, folder=tmp_path
        )
        assert done.code == 0, done.text
    plain, judged = (pd.read_parquet(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    assert (plain["omnibus.combined"] == judged["omnibus.combined"]).all()
    assert (plain["neg_log_10_p_value"] == plain["omnibus.combined"]).all()
    moderate = plain["neg_log_10_p_value"].between(0.3, 2)
    assert (judged["neg_log_10_p_value"] > plain["neg_log_10_p_value"])[moderate].all()


def test_the_command_refuses_other_endings(single, tmp_path):
    done = command_line("omnibus", single.folder, "--out", "x.csv", folder=tmp_path)
    assert done.code == 8
    assert ".parquet, .tsv or .tsv.gz" in done.text

"""Replication: other people, the same alleles, what was to be expected; and G x E."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, stats

from imgwas import (
    Covariates,
    Latents,
    associate,
    open_genotypes,
    open_sumstats,
    read_covariates,
    read_latents,
    simulate_cohort,
)
from imgwas.errors import InconsistentError, RefusedError, UsageError
from imgwas.genetics.interaction import find_interactions, interaction_block
from imgwas.genetics.replication import directional_score, one_sided, replicate
from imgwas.genetics.winners_curse import conditional_mean, prior_variance, replication_power
from imgwas.latents.ledger import mark_people

N, K = 900, 4


def some(latents: Latents, rows: slice) -> Latents:
    """Latents of some of the people."""
    return Latents(latents.values[rows], latents.sample_ids[rows], latents.names)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One cohort scanned in two halves; the second counts the other allele."""
    folder = tmp_path_factory.mktemp("replication")
    cohort = simulate_cohort(folder, n_samples=N, n_variants=300, n_latents=K, n_causal=8,
                             variance_explained=0.05, seed=4)  # fmt: skip
    latents, covariates = read_latents(cohort.latents), read_covariates(cohort.covariates)
    halves = [some(latents, slice(0, N // 2)), some(latents, slice(N // 2, N))]
    scans = []
    for half, allele in zip(halves, ("a1", "a2"), strict=True):
        genotypes = open_genotypes(cohort.bfile, effect_allele=allele)
        associate(genotypes, half, covariates, out=folder / allele, min_overlap=0.1)
        scans.append(open_sumstats(folder / allele))
    return cohort, scans, halves, covariates


def leads_of(cohort) -> pd.DataFrame:
    return cohort.truth[["chromosome", "base_pair_location", "variant_id", "latent"]]


@pytest.fixture(scope="module")
def found(study):
    cohort, (first, second), (ours, theirs), _ = study
    return replicate(first, second, leads_of(cohort), discovery_people=ours,
                     replication_people=theirs, selected_at=0.05)  # fmt: skip


def test_leads_are_looked_up_on_the_alleles_of_discovery(study, found):
    cohort, (first, second), _, _ = study
    table = found.table
    plain = table["effect_allele"] + table["other_allele"]
    assert not plain.isin(["AT", "TA", "CG", "GC"]).any()
    assert len(table) == len(cohort.truth)
    for _, row in table.iterrows():
        position = int(row["base_pair_location"])
        alone = [
            scan.region(str(row["chromosome"]), position, position, [row["latent"]]).iloc[0]
            for scan in (first, second)
        ]
        assert alone[0]["effect_allele"] == alone[1]["other_allele"] == row["effect_allele"]
        assert row["beta_discovery"] == pytest.approx(alone[0]["beta"])
        assert row["beta_replication"] == pytest.approx(-alone[1]["beta"])
        assert row["same_sign"] == (alone[0]["beta"] * alone[1]["beta"] < 0)
        t = -alone[1]["beta"] / alone[1]["standard_error"] * np.sign(alone[0]["beta"])
        p = stats.t.sf(t, row["dof_replication"])
        assert row["neg_log_10_p_one_sided"] == pytest.approx(-np.log10(p), rel=1e-6)
    dof = second.metadata["groups"][0]["dof"]
    assert set(table["dof_replication"]) == {dof}
    truth = cohort.truth.set_index("variant_id")["beta"]
    sign = np.sign(truth[table["variant_id"]].to_numpy())
    assert (np.sign(table["beta_meta"]) == sign).mean() >= 0.9
    assert found.summary["same_sign"] == table["same_sign"].sum()
    assert found.summary["alleles"]["swapped"] == len(table)


def test_meta_analysis_is_inverse_variance_weighted(found):
    table = found.table
    b = table[["beta_discovery", "beta_replication"]].to_numpy()
    w = table[["standard_error_discovery", "standard_error_replication"]].to_numpy() ** -2.0
    mean = (b * w).sum(axis=1) / w.sum(axis=1)
    np.testing.assert_allclose(table["beta_meta"], mean)
    p = 2 * stats.norm.sf(np.abs(mean) * np.sqrt(w.sum(axis=1)))
    np.testing.assert_allclose(table["neg_log_10_p_meta"], -np.log10(p), rtol=1e-8)
    q = (w * (b - mean[:, None]) ** 2).sum(axis=1)
    np.testing.assert_allclose(
        table["neg_log_10_p_heterogeneity"], -np.log10(stats.chi2.sf(q, 1)), rtol=1e-6
    )


def test_a_latent_need_not_be_named(study):
    cohort, (first, second), (ours, theirs), _ = study
    leads = leads_of(cohort).drop(columns=["latent"])
    table = replicate(first, second, leads, discovery_people=ours, replication_people=theirs).table
    for _, row in table.iterrows():
        position = int(row["base_pair_location"])
        every = first.region(str(row["chromosome"]), position, position)
        best = every.loc[every["neg_log_10_p_value"].idxmax(), "latent"]
        assert row["latent"] == best


def test_people_of_both_scans_are_refused(study):
    cohort, (first, second), (ours, theirs), _ = study
    leads = leads_of(cohort)
    with pytest.raises(RefusedError, match="both scans are of the same people"):
        replicate(first, first, leads, assume_disjoint=True)
    with pytest.raises(RefusedError, match="it is not known who was scanned"):
        replicate(first, second, leads)
    mixed = [*theirs.sample_ids, ours.sample_ids[3]]
    with pytest.raises(RefusedError, match="1 of 451 people of the replication are in the disc"):
        replicate(first, second, leads, discovery_people=ours, replication_people=mixed)
    marked = Latents(theirs.values, theirs.sample_ids, theirs.names,
                     source={"people_seen": mark_people(theirs.sample_ids[:5])})  # fmt: skip
    with pytest.raises(RefusedError, match="5 of 450 people of the replication trained"):
        replicate(first, second, leads, discovery_people=ours, replication_people=marked)
    assert replicate(first, second, leads, assume_disjoint=True).summary["leads"] == len(leads)


def test_leads_that_are_nowhere_are_named(study):
    cohort, (first, second), _, _ = study
    leads = leads_of(cohort).assign(base_pair_location=1)
    with pytest.raises(InconsistentError, match="none of 8 leads"):
        replicate(first, second, leads, assume_disjoint=True)


@pytest.mark.parametrize("z", [5.46, 5.6, -6.0, 7.0, 12.0])
def test_winners_curse_maximises_the_conditional_likelihood(z):
    c = 5.45

    def loss(m):
        return 0.5 * (z - m) ** 2 + np.log(stats.norm.sf(c - m) + stats.norm.cdf(-c - m))

    best = optimize.minimize_scalar(loss, bounds=(-abs(z) - 1, abs(z) + 1), method="bounded",
                                    options={"xatol": 1e-10})  # fmt: skip
    own = conditional_mean(np.array([z]), c)[0]
    assert own == pytest.approx(best.x, abs=1e-5)
    assert abs(own) < abs(z)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("prior", ["normal", "mixture"])
def test_expected_replications_are_what_happens(prior, ratio):
    """Thousands of selected effects; taken at face value they would all come back."""
    rng = np.random.default_rng(1)
    n = 1_500_000
    sd = 2.0 if prior == "normal" else rng.choice([0.2, 2.5], n, p=[0.7, 0.3])
    mean = rng.standard_normal(n) * sd
    z = mean + rng.standard_normal(n)
    chosen = np.abs(z) > 5.45
    mean, z = mean[chosen], z[chosen]
    again = (ratio * mean + rng.standard_normal(len(z))) * np.sign(z)
    observed = (again > stats.norm.isf(0.05)).mean()
    variance = prior_variance(z, 5.45)
    expected = replication_power(z, np.full(len(z), ratio), variance, 0.05).mean()
    naive = stats.norm.cdf(ratio * np.abs(z) - stats.norm.isf(0.05)).mean()
    assert len(z) > 3000
    assert expected == pytest.approx(observed, abs=0.015)
    assert naive - observed > (0.003 if ratio == 1 else 0.08)


def test_one_sided_p_on_both_sides():
    t = np.array([-3.0, -0.2, 0.0, 0.5, 4.0, 60.0])
    p = one_sided(t, np.full(6, 100.0))
    np.testing.assert_allclose(p[:5], -np.log10(stats.t.sf(t[:5], 100)), rtol=1e-8, atol=1e-12)
    assert p[5] > 75


def test_directional_score_is_standard_normal_without_an_effect_and_strong_with_one():
    rng = np.random.default_rng(2)
    a = rng.standard_normal((8, 5))
    cov = a @ a.T + np.eye(8)
    r = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    root = np.linalg.cholesky(r)
    first = rng.standard_normal((20_000, 8)) @ root.T
    null = directional_score(first, rng.standard_normal((20_000, 8)) @ root.T, r, r)
    assert stats.kstest(null, "norm").pvalue > 0.01
    effect = 2.0 * root @ rng.standard_normal(8)
    score = directional_score(
        effect + first, effect + rng.standard_normal((20_000, 8)) @ root.T, r, r
    )
    omnibus = np.einsum("vk,kl,vl->v", effect + first, np.linalg.inv(r), effect + first)
    power = (score > stats.norm.isf(1e-4)).mean(), (omnibus > stats.chi2.isf(1e-4, 8)).mean()
    assert power[0] > power[1]
    assert np.isnan(directional_score(np.full((1, 8), np.nan), first[:1], r, r)[0])


def test_directional_score_of_one_latent_is_its_statistic_with_the_sign_of_discovery():
    one = np.eye(1)
    score = directional_score(np.array([[-4.0], [4.0]]), np.array([[-2.0], [-2.0]]), one, one)
    np.testing.assert_allclose(score, [2, -2])


def test_directional_score_uses_both_scans(found):
    assert (found.directional["z_directional"] > 0).mean() >= 0.8
    assert found.directional["neg_log_10_p_directional"].median() > 1.3


# --- interaction


@pytest.mark.parametrize("robust", [False, True])
def test_interactions_equal_statsmodels(robust):
    rng = np.random.default_rng(3)
    c = rng.standard_normal((250, 2)) * [1, 50]
    sex = rng.integers(0, 2, 250).astype(float)
    g = rng.binomial(2, 0.3, (4, 250)) + 0.0
    y = rng.standard_normal((250, 3)) * (1 + sex[:, None]) + c[:, :1]
    block = interaction_block(g, y, sex, c, robust=robust)
    for v in range(4):
        e = sex - sex.mean()
        design = np.column_stack([np.ones(250), c, e, g[v], g[v] * e])
        for k in range(3):
            slow = sm.OLS(y[:, k], design).fit(cov_type="HC1" if robust else "nonrobust")
            assert block.beta[v, k] == pytest.approx(slow.params[-2], rel=1e-8)
            assert block.beta_interaction[v, k] == pytest.approx(slow.params[-1], rel=1e-8)
            assert block.standard_error[v, k] == pytest.approx(slow.bse[-2], rel=1e-7)
            assert block.standard_error_interaction[v, k] == pytest.approx(slow.bse[-1], rel=1e-7)
            assert block.dof == slow.df_resid


def test_a_product_that_is_no_new_column_is_not_tested():
    rng = np.random.default_rng(4)
    sex = np.repeat([0.0, 1.0], 50)
    g = np.stack([np.where(sex == 1, rng.binomial(2, 0.4, 100), 0.0), np.ones(100)])
    block = interaction_block(g, rng.standard_normal((100, 1)), sex, np.zeros((100, 0)))
    assert np.isnan(block.beta_interaction).all()


def test_robust_errors_hold_where_variance_differs_by_sex():
    """Rare alleles, few men, men vary more: least squares rejects too often, HC1 does not."""
    rng = np.random.default_rng(5)
    n = 2000
    sex = (rng.random(n) < 0.2).astype(float)
    g = rng.binomial(2, 0.3, (60, n)) + 0.0
    y = rng.standard_normal((n, 20)) * (1 + 2 * sex[:, None])
    rates = []
    for robust in (False, True):
        block = interaction_block(g, y, sex, np.zeros((n, 0)), robust=robust)
        t = block.beta_interaction / block.standard_error_interaction
        rates.append((np.abs(t) > 1.96).mean())
    assert rates[0] > 0.12
    assert 0.03 < rates[1] < 0.075


def test_a_planted_interaction_is_found(study):
    cohort, _, _, covariates = study
    genotypes = open_genotypes(cohort.bfile)
    dosage = np.nan_to_num(genotypes.read_dosages(np.arange(300)))
    ids = genotypes.samples.sample_ids
    order = [covariates.sample_ids.index(one) for one in ids]
    sex = covariates.values[order, covariates.names.index("sex")]
    rng = np.random.default_rng(6)
    common = int(np.argmin(np.abs(dosage.mean(axis=1) - 0.8)))
    y = rng.standard_normal((N, 2))
    y[:, 0] += 0.7 * dosage[common] * (sex - sex.mean()) / sex.std()
    y[::9, 1] = np.nan
    frame = find_interactions(genotypes, Latents(y, ids, ("a", "b")), covariates, "sex")
    assert len(frame) == 600
    best = frame.loc[frame["neg_log_10_p_interaction"].idxmax()]
    assert best["latent"] == "a"
    assert best["variant_id"] == genotypes.variants["variant_id"][common].as_py()
    null = frame.loc[frame["latent"] == "b", "neg_log_10_p_interaction"].dropna()
    assert stats.kstest(10.0**-null, "uniform").pvalue > 1e-4
    assert set(frame.groupby("latent")["n"].first()) == {N, int(np.isfinite(y[:, 1]).sum())}
    with pytest.raises(UsageError, match="Did you mean sex"):
        find_interactions(genotypes, Latents(y, ids, ("a", "b")), covariates, "sx")
    few = Covariates(covariates.values[:2], covariates.sample_ids[:2], covariates.names)
    with pytest.raises(InconsistentError, match="2 people have genotypes"):
        find_interactions(genotypes, Latents(y, ids, ("a", "b")), few, "sex")

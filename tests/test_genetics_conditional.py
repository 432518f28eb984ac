"""Signals and credible sets: against statsmodels, against the scan, against what was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import imgwas
from imgwas.errors import InconsistentError, UsageError
from imgwas.genetics.cohort import join, orthonormal, project
from imgwas.genetics.moments import Locus
from imgwas.genetics.stepwise import given, one_by_one, select, together
from imgwas.genetics.susie import fit_susie
from imgwas.sumstats import neg_log10_p_value
from imgwas.types import Covariates, Latents
from tests.cli_cohort import imgwas as command

FIRST, SECOND, PROXY = 40, 70, 41


class Case:
    """One locus of 100 variants with LD; two signals, a proxy of the first, covariates."""

    def __init__(self, folder, chromosome="2"):
        rng = np.random.default_rng(8)
        n, m = 900, 100
        haplotypes = np.zeros((2, m, n))
        for side in haplotypes:
            latent = rng.standard_normal((m, n))
            for j in range(1, m):
                latent[j] = 0.9 * latent[j - 1] + np.sqrt(1 - 0.81) * latent[j]
            side[:] = latent > np.linspace(0.2, 0.8, m)[:, None]
        dosage = haplotypes.sum(axis=0)
        dosage[PROXY] = dosage[FIRST]
        flip = rng.random(n) < 0.03
        dosage[PROXY, flip] = rng.integers(0, 3, flip.sum())
        sex = rng.integers(1, 3, n)
        if chromosome == "X":
            dosage[:, sex == 1] = np.where(dosage[:, sex == 1] == 1, 2, dosage[:, sex == 1])
        dosage[rng.random(dosage.shape) < 0.01] = np.nan
        self.dosage, self.sex = dosage, sex
        from tests.oracles import codes_of

        bed = b"\x6c\x1b\x01" + codes_of(dosage).tobytes()
        (folder / "c.bed").write_bytes(bed)
        bim = [f"{chromosome}\trs{j}\t0\t{10_000 + 1000 * j}\tA\tG\n" for j in range(m)]
        (folder / "c.bim").write_text("".join(bim))
        fam = [f"0\tp{i:04d}\t0\t0\t{sex[i]}\t-9\n" for i in range(n)]
        (folder / "c.fam").write_text("".join(fam))
        filled = np.where(np.isnan(dosage), np.nanmean(dosage, axis=1, keepdims=True), dosage)
        covariates = rng.standard_normal((n, 3))
        covariates[:, 0] += 0.5 * filled[FIRST]  # correlated with genotype
        covariates[:, 2] = rng.integers(0, 2, n)
        values = rng.standard_normal((n, 3))
        values[:, 0] += 0.5 * filled[FIRST] - 0.45 * filled[SECOND] + covariates[:, 0]
        values[:, 1] += 0.5 * filled[FIRST]
        values[rng.random(n) < 0.1, 1] = np.nan
        ids = tuple(f"p{i:04d}" for i in range(n))
        order = rng.permutation(n)[:-20]
        pick = tuple(ids[i] for i in order)
        self.folder = folder
        self.latents = Latents(values[order], pick, ("two", "one", "none"))
        self.covariates = Covariates(covariates, ids, ("c0", "c1", "c2"))
        self.genotypes = imgwas.open_genotypes(folder / "c")
        self.sumstats = imgwas.associate(
            self.genotypes, self.latents, self.covariates, out=folder / "results",
            precision="double",
        )  # fmt: skip
        self.people = np.sort(order)
        self.traits, self.nuisance = values, covariates
        self.cohort = join(self.genotypes.samples, self.latents, self.covariates)
        self.loci = imgwas.find_loci(self.sumstats, self.genotypes)
        self.on_x = chromosome == "X"

    def moments(self, name):
        projection = project(self.cohort, name, rank_normal=False, on_x=self.on_x)
        return Locus(self.genotypes, self.cohort, np.arange(100)).moments(projection)

    def ols(self, name, variants):
        """Statsmodels on the people who have the latent; missing calls take their mean."""
        trait = self.traits[:, self.latents.names.index(name)]
        used = self.people[np.isfinite(trait[self.people])]
        dosage = self.dosage[variants][:, used]
        dosage = np.where(np.isnan(dosage), np.nanmean(dosage, axis=1, keepdims=True), dosage)
        extra = [self.sex[used] == 1] if self.on_x else []
        model = np.column_stack([np.ones(len(used)), self.nuisance[used], *extra, dosage.T])
        fit = sm.OLS(trait[used], model).fit()
        k = len(variants)
        return fit.params[-k:], fit.bse[-k:], neg_log10_p_value(fit.tvalues[-k:], fit.df_resid)


@pytest.fixture(scope="module", params=["2", "X"])
def case(request, tmp_path_factory):
    return Case(tmp_path_factory.mktemp(f"locus_{request.param}"), request.param)


@pytest.mark.parametrize("name", ["two", "one"])
def test_variants_by_themselves_are_the_scan_s(case, name):
    moments = case.moments(name)
    got, table = one_by_one(moments), case.sumstats.latent(name)
    assert moments.n == table["n"].iloc[0]
    assert got.beta == pytest.approx(table["beta"].to_numpy(), rel=1e-8)
    assert got.standard_error == pytest.approx(table["standard_error"].to_numpy(), rel=1e-8)
    assert got.neg_log10_p == pytest.approx(table["neg_log_10_p_value"].to_numpy(), rel=1e-8)


@pytest.mark.parametrize("name", ["two", "one"])
def test_conditional_and_joint_effects_are_those_of_statsmodels(case, name):
    moments = case.moments(name)
    chosen = [FIRST, SECOND, 5]
    joint, expected = together(moments, chosen), case.ols(name, chosen)
    assert joint.beta == pytest.approx(expected[0], rel=1e-8)
    assert joint.standard_error == pytest.approx(expected[1], rel=1e-8)
    assert joint.neg_log10_p == pytest.approx(expected[2], rel=1e-8)
    after = given(moments, chosen)
    assert np.isnan(after.beta[chosen]).all()
    for other in (0, PROXY, 72, 99):
        beta, error, value = case.ols(name, [*chosen, other])
        assert after.beta[other] == pytest.approx(beta[-1], rel=1e-7)
        assert after.standard_error[other] == pytest.approx(error[-1], rel=1e-7)
        assert after.neg_log10_p[other] == pytest.approx(value[-1], rel=1e-7)


def test_two_signals_are_found_and_the_proxy_is_dropped(case):
    table = imgwas.condition_loci(
        case.sumstats, case.genotypes, case.latents, case.covariates, case.loci
    )
    two = table[table["latent"] == "two"]
    places = sorted(int(name[2:]) for name in two["variant_id"])
    assert len(places) == 2
    assert abs(places[0] - FIRST) <= 2
    assert abs(places[1] - SECOND) <= 2
    assert (table["latent"] == "one").sum() == 1
    assert "none" not in set(table["latent"])
    expected = case.ols("two", [int(name[2:]) for name in two["variant_id"]])
    assert two["joint_beta"].to_numpy() == pytest.approx(expected[0], rel=1e-8)
    assert two["joint_neg_log_10_p_value"].to_numpy() == pytest.approx(expected[2], rel=1e-8)
    # the proxy passes by itself, and says nothing given the first
    alone = one_by_one(case.moments("two")).neg_log10_p[PROXY]
    assert alone > 7.3
    assert given(case.moments("two"), [FIRST]).neg_log10_p[PROXY] < 3


def naive_selection(case, name, p1, max_r2):
    """Forward steps by refitting every model from the people."""
    limit, chosen = -np.log10(p1), []
    dosage = case.dosage[:, case.people]
    while True:
        best, value = None, limit
        for j in range(len(dosage)):
            if j in chosen or (chosen and explained(case, name, j, chosen) > max_r2):
                continue
            p = case.ols(name, [*chosen, j])[2][-1]
            if p >= value:
                best, value = j, p
        if best is None:
            return chosen
        chosen.append(best)


def explained(case, name, j, chosen):
    """Share of a variant that others explain, after covariates, by least squares."""
    trait = case.traits[:, case.latents.names.index(name)]
    used = case.people[np.isfinite(trait[case.people])]
    dosage = case.dosage[:, used]
    dosage = np.where(np.isnan(dosage), np.nanmean(dosage, axis=1, keepdims=True), dosage)
    extra = (case.sex[used] == 1).astype(float)[:, None] if case.on_x else np.empty((len(used), 0))
    base = np.column_stack([np.ones(len(used)), case.nuisance[used], extra])
    more = np.column_stack([base, dosage[chosen].T])
    one, two = sm.OLS(dosage[j], base).fit(), sm.OLS(dosage[j], more).fit()
    return 1 - two.ssr / one.ssr


def test_steps_are_those_of_refitting_everything(case):
    got = [one.index for one in select(case.moments("two"), p1=1e-3, max_r2=0.9)]
    assert got == naive_selection(case, "two", 1e-3, 0.9)
    assert len(got) >= 2


def test_a_signal_whose_joint_p_fails_leaves():
    """Two variants that together explain the first one chosen: it goes."""
    from imgwas.genetics.moments import Moments

    rng = np.random.default_rng(2)
    n = 4000
    a, b = rng.standard_normal((2, n))
    x = np.stack([a + b + 0.7 * rng.standard_normal(n), a, b])
    x -= x.mean(axis=1, keepdims=True)
    y = a + b + rng.standard_normal(n)
    y -= y.mean()
    moments = Moments(np.arange(3), np.full(3, 0.5), x @ x.T, x @ y, float(y @ y), n - 2, n)
    assert one_by_one(moments).neg_log10_p.argmax() == 0
    assert [one.index for one in select(moments, p1=1e-8)] == [1, 2]


def test_basis_copes_with_units_and_copies():
    rng = np.random.default_rng(1)
    column = rng.standard_normal(50)
    values = np.column_stack([column * 1e-20, 1e12 + column, np.ones(50), rng.standard_normal(50)])
    basis = orthonormal(values)
    assert basis.shape == (50, 3)
    assert basis.T @ basis == pytest.approx(np.eye(3), abs=1e-12)


def test_inputs_of_another_scan(case, caplog):
    other = Latents(case.latents.values[:, :1], case.latents.sample_ids, ("else",))
    run = [case.sumstats, case.genotypes]
    with pytest.raises(InconsistentError, match="3 latents of the scan are not in the table"):
        imgwas.condition_loci(*run, other, case.covariates, case.loci)
    strangers = Latents(case.latents.values, tuple(f"q{i}" for i in range(880)),
                        case.latents.names)  # fmt: skip
    with pytest.raises(InconsistentError, match="nobody is in the genotypes"):
        imgwas.condition_loci(*run, strangers, case.covariates, case.loci)
    fewer = Latents(case.latents.values[:500], case.latents.sample_ids[:500], case.latents.names)
    imgwas.condition_loci(*run, fewer, case.covariates, case.loci)
    assert "500 people are analysed, who are not exactly the 880 of the scan" in caplog.text


def test_covariates_of_another_scan_are_noticed(case):
    """The people are the same, the strongest P of the scan does not come out."""
    others = Covariates(
        np.roll(case.covariates.values, 7, axis=0), case.covariates.sample_ids, ("a", "b", "c")
    )
    with pytest.raises(InconsistentError, match=r"in the same regression now.*covariates"):
        imgwas.condition_loci(case.sumstats, case.genotypes, case.latents, others, case.loci)


def test_scans_that_cannot_be_repeated_are_refused(case):
    settings = case.sumstats.metadata["settings"]
    settings["missing_genotype"] = "drop"
    try:
        with pytest.raises(UsageError, match="missing_genotype = drop"):
            imgwas.condition_loci(
                case.sumstats, case.genotypes, case.latents, case.covariates, case.loci
            )
    finally:
        settings["missing_genotype"] = "mean"


def test_a_locus_that_is_too_large_is_refused(case, monkeypatch):
    monkeypatch.setattr("imgwas.genetics.moments.MOST_BYTES", 1000)
    with pytest.raises(UsageError, match="--flank-kb"):
        imgwas.condition_loci(
            case.sumstats, case.genotypes, case.latents, case.covariates, case.loci
        )


def test_credible_sets_hold_the_planted_variants(case):
    found = imgwas.fine_map_loci(
        case.sumstats, case.genotypes, case.latents, case.covariates, case.loci
    )
    for latent, planted in (("two", (FIRST, SECOND)), ("one", (FIRST,))):
        mine = found.variants[found.variants["latent"] == latent]
        sets = [
            {int(name[2:]) for name in rows["variant_id"]}
            for number, rows in mine.groupby("credible_set")
            if number > 0
        ]
        assert len(sets) == len(planted)
        for variant in planted:
            assert sum(variant in one for one in sets) == 1
    assert (found.sets["coverage"] >= 0.95).all()
    assert found.sets["has_converged"].all()
    assert found.variants["posterior_probability"].between(0, 1 + 1e-12).all()


def test_one_effect_is_a_bayes_factor_regression(case):
    """With one effect, known by hand: probabilities follow the single-effect Bayes factors."""
    moments = case.moments("one")
    fit = fit_susie(moments, n_effects=1)
    n, prior, noise = moments.dof + 1, fit.prior_variance[0], fit.residual_variance
    size = np.sqrt(np.diagonal(moments.gram) * moments.total)
    estimate, error = moments.cross / size, noise / n
    log_bf = 0.5 * np.log(error / (error + prior))
    log_bf = log_bf + 0.5 * estimate**2 / error * prior / (prior + error)
    weight = np.exp(log_bf - log_bf.max())
    assert fit.alpha[0] == pytest.approx(weight / weight.sum(), rel=1e-2, abs=1e-6)


def test_noise_has_no_credible_set(case):
    fit = fit_susie(case.moments("none"))
    assert fit.sets == ()
    assert fit.pip.max() < 0.5


def test_command_line(tmp_path, monkeypatch):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=300, n_variants=200, n_latents=2, n_causal=2, seed=2,
        variance_explained=0.3, chromosomes=("2", "9"), ld_length_kb=3000,
    )  # fmt: skip
    inputs = ["--bfile", "cohort", "--latents", "latents.parquet", "--covar", "covariates.tsv",
              "--categorical", "sex,centre"]  # fmt: skip
    people = imgwas.open_genotypes(cohort.bfile).samples.sample_ids
    (tmp_path / "withdrawn.txt").write_text("\n".join(people[::7]) + "\n")
    steps = [
        ["associate", *inputs, "--rank-normal", "--remove", "withdrawn.txt", "--out", "results"],
        ["loci", "results", "--out", "loci.tsv"],
        ["condition", "results", "--loci", "loci.tsv", "--out", "signals.tsv"],
        ["finemap", "results", *inputs, "--loci", "loci.tsv", "--out", "sets.tsv"],
    ]
    for words in steps:
        monkeypatch.setattr("sys.argv", ["imgwas", *words])  # what a scan records
        done = command(*words, folder=tmp_path)
        assert done.code == 0, done.text
        assert "not exactly" not in done.text
    signals = pd.read_csv(tmp_path / "signals.tsv", sep="\t", comment="#")
    assert set(cohort.truth["variant_id"]) <= set(signals["variant_id"])
    scanned = imgwas.open_sumstats(tmp_path / "results")
    for row in signals.itertuples():
        one = scanned.latent(row.latent).set_index("variant_id").loc[row.variant_id]
        assert row.neg_log_10_p_value == pytest.approx(one["neg_log_10_p_value"], rel=1e-5)
    sets = pd.read_csv(tmp_path / "sets.tsv", sep="\t", comment="#")
    assert set(cohort.truth["variant_id"]) <= set(sets["variant_id"])
    assert "# p1=5e-08\n" in (tmp_path / "signals.tsv").read_text()
    ld = imgwas.read_loci(tmp_path / "loci.tsv").definition["ld"]
    assert ld["people_are_those_of_the_scan"] is True
    assert ld["people"] == len(people) - len(people[::7])
    done = command("loci", "results", "--bfile", "cohort", "--out", "all.tsv", folder=tmp_path)
    assert f"LD is measured among {len(people)} people, who are not exactly the" in done.text


@pytest.mark.slow
def test_credible_sets_have_their_coverage():
    """Loci of strong LD, where sets have several members."""
    from imgwas.genetics.moments import Moments

    n_sets = n_good = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        n, m = 1200, 150
        dosage = np.zeros((m, n))
        for _ in range(2):
            z = rng.standard_normal((m, n))
            for j in range(1, m):
                z[j] = 0.995 * z[j - 1] + np.sqrt(1 - 0.995**2) * z[j]
            dosage += z > np.linspace(-0.8, 0.8, m)[rng.permutation(m)][:, None]
        x = dosage - dosage.mean(axis=1, keepdims=True)
        causal = rng.choice(m, int(rng.integers(1, 4)), replace=False)
        y = (0.15 * x[causal] / x[causal].std(axis=1, keepdims=True)).sum(axis=0)
        y += rng.standard_normal(n)
        y -= y.mean()
        moments = Moments(np.arange(m), np.full(m, 0.5), x @ x.T, x @ y, float(y @ y), n - 2, n)
        for one in fit_susie(moments).sets:
            n_sets += 1
            n_good += bool(set(one.variants.tolist()) & set(causal.tolist()))
    assert n_sets > 60
    assert n_good / n_sets > 0.95 - 3 * np.sqrt(0.95 * 0.05 / n_sets)

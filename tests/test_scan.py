"""What a scan promises beyond single fits: companions, order, alleles, units, degenerate input."""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import imgwas
from imgwas.errors import DegenerateError, InconsistentError, TooFewSamplesError
from imgwas.genotypes.memory import ArrayGenotypes
from imgwas.types import VARIANT_SCHEMA, Covariates, Latents, Samples
from tests.data import data_file
from tests.oracles import ols
from tests.studies import BED_SETS, Study, study_of, table_of

N, M = 150, 40


def genotypes_of(dosage, chromosomes=None, sex=None):
    """Genotypes in memory, with plain names."""
    m, n = dosage.shape
    rows = {
        "chromosome": list(chromosomes) if chromosomes is not None else ["1"] * m,
        "base_pair_location": list(range(100, 100 + m)),
        "variant_id": [f"rs{i}" for i in range(m)],
        "effect_allele": ["A"] * m,
        "other_allele": ["G"] * m,
    }
    sex = np.zeros(n, np.int8) if sex is None else np.asarray(sex, np.int8)
    ids = tuple(f"p{i:03d}" for i in range(n))
    samples = Samples(ids, ("0",) * n, sex, np.ones(n, bool))
    return ArrayGenotypes(dosage, pa.table(rows, VARIANT_SCHEMA), samples)


def study(*, seed=0, missing_calls=0.05, chromosomes=None, sex=None, n=N, m=M, n_latents=4):
    """A small cohort in which latent 1 moves with variant 3, and covariate 0 with variant 5."""
    rng = np.random.default_rng(seed)
    dosage = rng.binomial(2, rng.uniform(0.1, 0.9, (m, 1)), (m, n)).astype(float)
    covariates = rng.standard_normal((n, 3))
    covariates[:, 0] += dosage[5]
    latents = rng.standard_normal((n, n_latents)) + covariates[:, :1]
    latents[:, 1 % n_latents] += 0.5 * dosage[3]
    latents[rng.random(n) < 0.1, n_latents - 1] = np.nan
    dosage[rng.random(dosage.shape) < missing_calls] = np.nan
    genotypes = genotypes_of(dosage, chromosomes, sex)
    ids = genotypes.samples.sample_ids
    return Study(
        genotypes,
        dosage,
        Latents(latents, ids, tuple(f"z{i}" for i in range(n_latents))),
        Covariates(covariates, ids, ("age", "site", "motion")),
        np.array([5]),
    )


def assert_same(one: imgwas.SumStats, other: imgwas.SumStats, name: str, *, rounding=2e-6) -> None:
    """Equal n, reasons and, to rounding, statistics."""
    a, b = table_of(one, name), table_of(other, name)
    assert list(a["n"]) == list(b["n"])
    assert list(a["reason"]) == list(b["reason"])
    limit = rounding * np.maximum(1, np.abs(a["t"]))
    assert not (np.abs(a["t"] - b["t"]) > limit).any()
    assert (a["t"].isna() == b["t"].isna()).all()


@pytest.mark.parametrize("missing", ["mean", "drop"])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_latent_does_not_depend_on_its_companions(tmp_path, precision, missing):
    whole = study(n_latents=9)
    options = {"precision": precision, "missing_genotype": missing}
    together = whole.scan(tmp_path / "together", **options)
    for name in whole.latents.names:
        alone = whole.only(name).scan(tmp_path / name, **options)
        rounding = 2e-6 if precision == "single" else 1e-12
        assert_same(together, alone, name, rounding=rounding)


def test_missing_rows_and_removed_rows_are_the_same(tmp_path):
    whole = study(missing_calls=0)
    gone = np.arange(N) % 7 == 0
    blanked = whole.latents.values.copy()
    blanked[gone] = np.nan
    with_blanks = replace(whole, latents=replace(whole.latents, values=blanked))
    kept = replace(
        whole.latents,
        values=whole.latents.values[~gone],
        sample_ids=tuple(np.array(whole.latents.sample_ids)[~gone]),
    )
    a = with_blanks.scan(tmp_path / "a")
    b = replace(whole, latents=kept).scan(tmp_path / "b")
    for name in whole.latents.names:
        assert_same(a, b, name)


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_order_of_people_in_each_table_is_irrelevant(tmp_path, missing):
    whole = study()
    rng = np.random.default_rng(3)

    def shuffled(table):
        order = rng.permutation(N)
        ids = tuple(table.sample_ids[i] for i in order)
        return replace(table, values=table.values[order], sample_ids=ids)

    other = replace(whole, latents=shuffled(whole.latents), covariates=shuffled(whole.covariates))
    a = whole.scan(tmp_path / "a", missing_genotype=missing)
    b = other.scan(tmp_path / "b", missing_genotype=missing)
    assert a.digest() == b.digest()


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_counting_the_other_allele_turns_the_sign(tmp_path, missing):
    whole = study()
    flipped = replace(whole, genotypes=genotypes_of(2 - whole.dosage))
    a = whole.scan(tmp_path / "a", missing_genotype=missing)
    b = flipped.scan(tmp_path / "b", missing_genotype=missing)
    for name in whole.latents.names:
        one, two = a.latent(name), b.latent(name)
        np.testing.assert_allclose(one["beta"], -two["beta"], rtol=1e-5, atol=1e-7)
        frequency = one["effect_allele_frequency"] + two["effect_allele_frequency"]
        np.testing.assert_allclose(frequency, 1, rtol=1e-12)


def test_covariates_added_to_a_trait_change_nothing(tmp_path):
    whole = study()
    moved = whole.latents.values + 100 + whole.covariates.values @ [[3.0], [-20.0], [7.0]]
    a = whole.scan(tmp_path / "a", precision="double")
    other = replace(whole, latents=replace(whole.latents, values=moved))
    b = other.scan(tmp_path / "b", precision="double")
    for name in whole.latents.names:
        assert_same(a, b, name, rounding=1e-9)


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e12, 1e30])
def test_units_of_the_trait_scale_beta_and_leave_t(tmp_path, unit):
    whole = study()
    other = replace(whole, latents=replace(whole.latents, values=whole.latents.values * unit))
    a = whole.scan(tmp_path / "a", precision="double")
    b = other.scan(tmp_path / "b", precision="double")
    for name in whole.latents.names:
        assert_same(a, b, name, rounding=1e-9)
        np.testing.assert_allclose(b.latent(name)["beta"], a.latent(name)["beta"] * unit, rtol=1e-7)


def test_parts_and_blocks_change_nothing_but_rounding(tmp_path):
    whole = study(m=300)
    a = whole.scan(tmp_path / "a")
    b = whole.scan(tmp_path / "b", part_size=37)
    assert len(b.parts) == 9
    for name in whole.latents.names:
        assert_same(a, b, name)


def test_published_toy_top_hit_is_the_exact_one(tmp_path):
    """12.41 was published, with covariates left in the genotype; least squares gives 14.97."""
    folder = data_file("torchgwas_toy/genotype.npy").parent
    dosage = np.load(folder / "genotype.npy").T
    ids = tuple(f"p{i:03d}" for i in range(dosage.shape[1]))
    latents = Latents(np.load(folder / "pheno.npy"), ids, ("a", "b", "c"))
    covariates = Covariates(np.load(folder / "covar.npy"), ids, ("c0", "c1", "c2", "c3"))
    toy = Study(genotypes_of(dosage), dosage, latents, covariates, np.array([]))
    results = toy.scan(tmp_path / "out")
    t = pd.concat([table_of(results, name)["t"] for name in latents.names], axis=1).abs()
    assert t.to_numpy().max() == pytest.approx(14.97, abs=0.005)
    variant, latent = np.unravel_index(t.to_numpy().argmax(), t.shape)
    assert t.to_numpy().max() == pytest.approx(abs(toy.fit(int(variant), int(latent)).t), rel=1e-5)


def test_sex_chromosomes_use_the_people_and_covariates_documented(tmp_path):
    rng = np.random.default_rng(11)
    sex = rng.choice([0, 1, 2], N, p=[0.1, 0.45, 0.45])
    chromosomes = ["1"] * 20 + ["X"] * 10 + ["Y"] * 5 + ["MT"] * 5
    whole = study(chromosomes=chromosomes, sex=sex)
    males = np.flatnonzero(sex == 1)
    whole.dosage[20:35, males] = np.round(whole.dosage[20:35, males] / 2) * 2
    for missing in ("mean", "drop"):
        results = whole.scan(tmp_path / missing, precision="double", missing_genotype=missing)
        for latent, name in enumerate(whole.latents.names):
            table = table_of(results, name)
            for variant in range(M):
                fit = whole.fit(variant, latent, missing=missing)
                assert table["n"][variant] == fit.n
                assert table["t"][variant] == pytest.approx(fit.t, rel=1e-8, abs=1e-9)
                assert table["beta"][variant] == pytest.approx(fit.beta, rel=1e-8, abs=1e-9)


def test_x_allele_frequency_counts_a_male_once(tmp_path):
    sex = np.tile([1, 2], N // 2)
    whole = study(chromosomes=["X"] * M, sex=sex, missing_calls=0, n_latents=1)
    whole.dosage[:, sex == 1] = np.round(whole.dosage[:, sex == 1] / 2) * 2
    complete = replace(whole, latents=replace(whole.latents, values=np.arange(N)[:, None] * 1.0))
    frequency = complete.scan(tmp_path / "out").latent("z0")["effect_allele_frequency"]
    men, women = whole.dosage[:, sex == 1] / 2, whole.dosage[:, sex == 2]
    expected = (men.sum(1) + women.sum(1)) / (men.shape[1] + 2 * women.shape[1])
    np.testing.assert_allclose(frequency, expected, rtol=1e-12)


def test_degenerate_variants_get_a_reason_and_no_number(tmp_path):
    whole = study(missing_calls=0)
    dosage = whole.dosage
    dosage[0] = 1
    dosage[1] = np.nan
    dosage[2] = 0
    dosage[4] = np.where(whole.covariates.values[:, 1] > 0, 2, 0)
    covariates = whole.covariates.values.copy()
    covariates[:, 2] = dosage[4]
    whole = replace(whole, covariates=replace(whole.covariates, values=covariates))
    for missing in ("mean", "drop"):
        for precision in ("single", "double"):
            results = whole.scan(
                tmp_path / f"{missing}-{precision}", missing_genotype=missing, precision=precision
            )
            table = results.latent("z0")
            assert list(table["reason"][[0, 1, 2, 4]]) == [
                "MONOMORPHIC",
                "ALL_MISSING",
                "MONOMORPHIC",
                "EXPLAINED_BY_COVARIATES",
            ]
            numbers = table[["beta", "standard_error", "neg_log_10_p_value"]].to_numpy()
            assert np.isnan(numbers[[0, 1, 2, 4]]).all()
            assert np.isfinite(numbers[5:]).all()


@pytest.mark.parametrize("missing", ["mean", "drop"])
@pytest.mark.parametrize("precision", ["single", "double"])
def test_p_values_far_below_the_smallest_double(tmp_path, precision, missing):
    """A trait that is a variant and a little noise: -log10 P in the hundreds and thousands."""
    rng = np.random.default_rng(5)
    whole = study(n=1200, m=12, n_latents=1)
    dosage = np.nan_to_num(whole.dosage, nan=1.0)
    noise = rng.standard_normal((1200, 3)) * [1e-3, 0.2, 0.7]
    latents = Latents(dosage[:3].T + noise, whole.latents.sample_ids, ("a", "b", "c"))
    strong = replace(whole, genotypes=genotypes_of(dosage), dosage=dosage, latents=latents)
    results = strong.scan(tmp_path / "out", precision=precision, missing_genotype=missing)
    seen = []
    for variant, name in enumerate(latents.names):
        row = table_of(results, name).iloc[variant]
        fit = strong.fit(variant, variant)
        with mpmath.workdps(80):
            x = mpmath.mpf(fit.dof) / (mpmath.mpf(fit.dof) + mpmath.mpf(fit.t) ** 2)
            p = mpmath.betainc(fit.dof / 2, 0.5, 0, x, regularized=True)
            expected = float(-mpmath.log10(p))
        seen.append(expected)
        assert row["neg_log_10_p_value"] == pytest.approx(expected, rel=1e-5, abs=1e-3)
    assert seen[0] > 1000
    assert 300 < seen[1] < 1000


def test_no_covariates_at_all(tmp_path):
    whole = study()
    results = imgwas.associate(
        whole.genotypes, whole.latents, out=tmp_path / "out", missing_genotype="drop"
    )
    table = table_of(results, "z1")
    for variant in range(M):
        fit = ols(whole.latents.values[:, 1], whole.dosage[variant], np.empty((N, 0)))
        assert table["t"][variant] == pytest.approx(fit.t, rel=1e-4, abs=1e-4)


def test_residualize_first_is_the_published_two_step(tmp_path):
    """Covariates out of the trait alone, then a regression on the genotype with n - 2."""
    whole = study(missing_calls=0)
    results = whole.scan(tmp_path / "out", residualize_first=True, precision="double")
    trait = whole.latents.values[:, 0]
    model = np.column_stack([np.ones(N), whole.covariates.values])
    residual = trait - model @ np.linalg.lstsq(model, trait, rcond=None)[0]
    table = table_of(results, "z0")
    for variant in range(M):
        fit = ols(residual, whole.dosage[variant], np.empty((N, 0)))
        assert table["t"][variant] == pytest.approx(fit.t, rel=1e-8)
    # where covariate 0 follows the variant, the two steps lose part of the effect
    assert abs(table["t"][5]) < abs(whole.fit(5, 0).t)


def test_rank_normal_transforms_among_the_people_used(tmp_path):
    whole = study()
    values = np.exp(whole.latents.values)
    results = replace(whole, latents=replace(whole.latents, values=values)).scan(
        tmp_path / "out", rank_normal=True, precision="double"
    )
    from scipy.stats import norm, rankdata

    for latent, name in enumerate(whole.latents.names):
        used = np.isfinite(values[:, latent])
        ranks = rankdata(values[used, latent])
        normal = np.full(N, np.nan)
        normal[used] = norm.ppf((ranks - 0.375) / (used.sum() + 0.25))
        table = table_of(results, name)
        for variant in range(0, M, 5):
            dosage = whole.dosage[variant]
            dosage = np.where(np.isnan(dosage), np.nanmean(dosage[used]), dosage)
            fit = ols(normal, dosage, whole.covariates.values)
            assert table["t"][variant] == pytest.approx(fit.t, rel=1e-6)


def test_genotypes_that_pandas_plink_read_give_the_same_scan(tmp_path):
    pandas_plink = pytest.importorskip("pandas_plink")
    whole = study_of(data_file(BED_SETS["plinkqc"]))
    bim, fam, array = pandas_plink.read_plink(
        str(data_file(BED_SETS["plinkqc"]).with_suffix("")), verbose=False
    )
    theirs = imgwas.Genotypes.from_pandas_plink(bim, fam, array)
    a = whole.scan(tmp_path / "a", precision="double")
    b = replace(whole, genotypes=theirs).scan(tmp_path / "b", precision="double")
    for name in whole.latents.names:
        one, two = table_of(a, name), table_of(b, name)
        same = (one["effect_allele"] == two["effect_allele"]).to_numpy()
        assert list(one["variant_id"]) == list(two["variant_id"])
        sign = np.where(same, 1, -1)
        np.testing.assert_allclose(two["t"] * sign, one["t"], rtol=1e-7, atol=1e-9)


def test_collinear_covariates_are_left_out_and_change_nothing(tmp_path, caplog):
    whole = study()
    values = whole.covariates.values
    more = np.column_stack([values, 2 * values[:, 0] - values[:, 1] + 4, np.full(N, 7.0)])
    wider = Covariates(more, whole.covariates.sample_ids, ("age", "site", "motion", "twice", "one"))
    a = whole.scan(tmp_path / "a")
    b = replace(whole, covariates=wider).scan(tmp_path / "b")
    assert "covariate twice left out: equals" in caplog.text
    assert "2·age" in caplog.text
    assert "covariate one left out: constant" in caplog.text
    assert_same(a, b, "z0")


def test_more_covariates_than_people_is_refused(tmp_path):
    whole = study()
    wide = np.random.default_rng(0).standard_normal((N, N + 3))
    names = tuple(f"c{i}" for i in range(N + 3))
    with pytest.raises(TooFewSamplesError, match="samples are left for a model of"):
        imgwas.associate(
            whole.genotypes,
            whole.latents,
            Covariates(wide, whole.covariates.sample_ids, names),
            out=tmp_path / "out",
        )


def test_constant_latents_are_set_aside_and_others_go_on(tmp_path):
    whole = study()
    values = whole.latents.values.copy()
    values[:, 0] = 3
    values[:, 2] = 1 + 2 * whole.covariates.values[:, 1]
    results = replace(whole, latents=replace(whole.latents, values=values)).scan(tmp_path / "out")
    assert list(results.latents) == ["z1", "z3"]
    assert results.quarantined == {
        "z0": "constant among the analysed samples",
        "z2": "explained by the covariates",
    }


def test_nothing_left_to_test_is_an_error(tmp_path):
    whole = study(n_latents=1)
    values = np.full((N, 1), 2.0)
    with pytest.raises(DegenerateError, match="none of the 1 latents can be tested"):
        replace(whole, latents=replace(whole.latents, values=values)).scan(tmp_path / "out")


def test_strangers_are_refused(tmp_path):
    whole = study()
    strangers = replace(whole.latents, sample_ids=tuple(f"q{i:04d}" for i in range(N)))
    with pytest.raises(InconsistentError, match="0 of 150 samples of the latents are among"):
        replace(whole, latents=strangers).scan(tmp_path / "out")

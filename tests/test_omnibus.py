"""Tests of all latents at once, in the scan's own pass, against plain regressions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm
from scipy import stats

from imgwas.association import launching
from imgwas.association.engines import run_part
from imgwas.association.task import save_task
from imgwas.errors import InconsistentError
from imgwas.sumstats.joint import IN_SCAN
from tests.test_scan import M, N, genotypes_of, study

K = 6


def complete(**options):
    """A cohort whose latents are correlated and complete, covariates that follow a variant."""
    made = study(n_latents=K, **options)
    rng = np.random.default_rng(8)
    shared = rng.standard_normal((made.dosage.shape[1], 2))
    values = rng.standard_normal((made.dosage.shape[1], K)) + shared @ rng.standard_normal((2, K))
    values += made.covariates.values[:, :1]
    values[:, 1] += 2 * np.nan_to_num(made.dosage[3])
    return replace(made, latents=replace(made.latents, values=values))


def columns(results, names=IN_SCAN):
    """Stored -log10 P over all latents, by test."""
    wanted = [f"omnibus.{name}" for name in names]
    table = results.variants(wanted)
    return {name: table[f"omnibus.{name}"].to_numpy() for name in names}


def f_test(made, variant, *, missing="mean"):
    """-log10 P of the regression of a variant on all latents, by statsmodels, nothing shared."""
    dosage, nuisance = made.dosage[variant], made.covariates.values
    people = np.ones(len(dosage), bool)
    chromosome, sex = made.chromosome[variant], made.genotypes.samples.sex
    if chromosome == "X":
        people, nuisance = sex > 0, np.column_stack([nuisance, sex == 1])
    elif chromosome == "Y":
        people = sex == 1
    if missing == "drop":
        people = people & np.isfinite(dosage)
    dosage = np.where(np.isnan(dosage), np.nanmean(dosage[people]), dosage)[people]
    small = sm.add_constant(nuisance[people], has_constant="add")
    whole = np.column_stack([small, made.latents.values[people]])
    _, p, _ = sm.OLS(dosage, whole).fit().compare_f_test(sm.OLS(dosage, small).fit())
    return -np.log10(p)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_joint_is_the_f_test_of_the_variant_on_all_latents(tmp_path, precision):
    made = complete()
    results = made.scan(tmp_path / "out", precision=precision, omnibus=True)
    found = columns(results)
    for variant in range(M):
        expected = f_test(made, variant)
        assert found["joint"][variant] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        if precision == "double":
            assert found["joint"][variant] == pytest.approx(expected, rel=1e-8)
    assert found["joint"][3] == max(found["joint"])
    assert found["joint"][3] > 3
    described = results.metadata["omnibus"]
    assert (described["joint"], described["rank"], described["n_collinear"]) == ("f", K, 0)


def test_minp_and_combined_follow_from_the_latents(tmp_path):
    results = complete().scan(tmp_path / "out", precision="double", omnibus=True)
    found = columns(results)
    p = 10.0 ** -np.column_stack([results.neg_log10_p(name) for name in results.latents])
    sidak = -np.expm1(K * np.log1p(-p.min(axis=1)))
    np.testing.assert_allclose(found["minp"], -np.log10(sidak), rtol=1e-9)
    smaller = np.minimum(10.0 ** -found["joint"], sidak)
    np.testing.assert_allclose(10.0 ** -found["combined"], np.minimum(1, 2 * smaller), rtol=1e-9)


def test_sex_chromosomes_use_their_own_people_and_covariates(tmp_path):
    rng = np.random.default_rng(11)
    sex = rng.choice([0, 1, 2], N, p=[0.1, 0.45, 0.45])
    made = complete(chromosomes=["1"] * 20 + ["X"] * 12 + ["Y"] * 8, sex=sex)
    males = np.flatnonzero(sex == 1)
    made.dosage[20:, males] = np.round(made.dosage[20:, males] / 2) * 2
    made = replace(made, genotypes=genotypes_of(made.dosage, made.chromosome, sex))
    results = made.scan(tmp_path / "out", precision="double", omnibus=True)
    found = columns(results)["joint"]
    for variant in range(M):
        assert found[variant] == pytest.approx(f_test(made, variant), rel=1e-7)


def test_dropped_calls_are_exact_where_none_is_missing_and_close_elsewhere(tmp_path):
    made = complete(missing_calls=0.02)
    made.dosage[:10] = np.nan_to_num(made.dosage[:10], nan=1.0)
    made = replace(made, genotypes=genotypes_of(made.dosage))
    results = made.scan(tmp_path / "out", precision="double", missing_genotype="drop", omnibus=True)
    found = columns(results)["joint"]
    expected = np.array([f_test(made, variant, missing="drop") for variant in range(M)])
    np.testing.assert_allclose(found[:10], expected[:10], rtol=1e-8)
    assert np.abs(found[10:] - expected[10:]).max() > 1e-6
    assert np.abs(found[10:] - expected[10:]).max() < 0.2  # 150 people, three of them dropped


def test_latents_with_other_people_take_chi_square(tmp_path, caplog):
    made = study(n_latents=K, missing_calls=0)
    results = made.scan(tmp_path / "out", precision="double", omnibus=True)
    found = columns(results)["joint"]
    assert results.metadata["omnibus"]["joint"] == "chi2"
    assert "latents have different people" in caplog.text
    correlation = results.latent_correlation().to_numpy()
    table = next(results.iter_blocks([f"t.{name}" for name in results.latents])).to_pandas()
    for variant in range(M):
        t = table.to_numpy()[variant]
        expected = stats.chi2.sf(t @ np.linalg.solve(correlation, t), K)
        assert found[variant] == pytest.approx(-np.log10(expected), rel=1e-8)


def test_a_variant_that_is_untested_in_one_group_is_tested_on_the_other_latents(tmp_path):
    made = study(n_latents=4, missing_calls=0)
    lacks = np.isnan(made.latents.values[:, 3])
    made.dosage[0] = np.where(lacks, 1, 0)  # constant among those who have latent 3
    made.dosage[1] = 1
    made = replace(made, genotypes=genotypes_of(made.dosage))
    results = made.scan(tmp_path / "out", precision="double", omnibus=True)
    found = columns(results)
    three = made.only("z0", "z1", "z2")
    alone = columns(three.scan(tmp_path / "three", precision="double", omnibus=True))
    for name in IN_SCAN:
        assert found[name][0] == pytest.approx(alone[name][0], rel=1e-9)
        assert np.isnan(found[name][1])
        assert np.isfinite(found[name][2:]).all()


def test_collinear_latents_are_reduced_to_what_they_span(tmp_path, caplog):
    made = complete()
    values = made.latents.values
    twice = np.column_stack([values, values[:, 0] - 2 * values[:, 4]])
    wider = replace(made.latents, values=twice, names=(*made.latents.names, "twice"))
    a = columns(made.scan(tmp_path / "a", omnibus=True))
    results = replace(made, latents=wider).scan(tmp_path / "b", omnibus=True)
    assert (results.metadata["omnibus"]["rank"], results.metadata["omnibus"]["n_latents"]) == (6, 7)
    assert "7 latents span 6 directions" in caplog.text
    np.testing.assert_allclose(columns(results)["joint"], a["joint"], rtol=1e-4, atol=1e-5)


def test_more_latents_than_people_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    made = study(n=40)
    names = tuple(f"w{i}" for i in range(60))
    wide = replace(made.latents, values=rng.standard_normal((40, 60)), names=names)
    with pytest.raises(InconsistentError, match="60 latents span 36 directions"):
        replace(made, latents=wide).scan(tmp_path / "out", omnibus=True)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_everything_else_is_as_without_it(tmp_path, missing):
    made = complete()
    with_it = made.scan(tmp_path / "a", omnibus=True, missing_genotype=missing)
    without = made.scan(tmp_path / "b", missing_genotype=missing)
    a = next(with_it.iter_blocks(names_of(without)))
    assert a.equals(next(without.iter_blocks(names_of(without))))
    assert set(names_of(with_it)) - set(names_of(without)) == {f"omnibus.{n}" for n in IN_SCAN}
    assert "omnibus" not in without.metadata["settings"]
    assert "omnibus" not in without.metadata


def names_of(results):
    """Columns of the first part."""
    return pq.read_schema(results.parts[0]).names


def test_parts_and_workers_change_nothing(tmp_path):
    made = complete(m=200)
    a = made.scan(tmp_path / "a", omnibus=True)
    b = made.scan(tmp_path / "b", omnibus=True, part_size=37)
    for name in IN_SCAN:
        np.testing.assert_allclose(columns(a)[name], columns(b)[name], rtol=1e-5, atol=1e-6)


def test_a_worker_that_maps_the_task_writes_the_same_bytes(tmp_path, monkeypatch):
    made, seen, totals = complete(), [], launching.totals

    def keep(task, files):
        seen.append(task)
        return totals(task, files)

    monkeypatch.setattr(launching, "totals", keep)
    results = made.scan(tmp_path / "a", omnibus=True)
    save_task(seen[0], tmp_path / "task")
    (tmp_path / "b" / "parts").mkdir(parents=True)
    receipt = run_part(
        0, folder=tmp_path / "task", out=tmp_path / "b", genotypes=made.genotypes, digest="d"
    )
    assert receipt["sha256"] == results.receipts[0].sha256

"""Haseman-Elston regression and GREML against plain matrices, and what they refuse."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.association import build_design
from imgwas.errors import DegenerateError, InconsistentError, UsageError
from imgwas.genetics.greml import estimate_greml
from imgwas.genetics.haseman_elston import probe_sums, to_correlation
from imgwas.genetics.heritability import estimate_heritability
from imgwas.genetics.heritability_files import write_heritability
from imgwas.genetics.jackknife import block_edges, jackknife_error, streamed_error
from imgwas.genetics.standard import StandardGenotypes
from imgwas.types import Latents
from tests.genetic_models import (
    genotypes_of,
    linked_dosages,
    moments_oracle,
    polygenic_study,
    relationship_oracle,
    restricted_likelihood,
)

#: a Python whose environment has fastlmm
FASTLMM = os.environ.get("IMGWAS_TEST_FASTLMM", "")


@pytest.fixture(scope="module")
def study():
    return polygenic_study(500, 1200, 4, seed=1, missing=0.02)


@pytest.fixture(scope="module")
def scan(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("scan") / "results"
    return imgwas.associate(study.genotypes, study.latents, study.covariates, out=out)


def test_equals_plain_matrices(study, scan):
    """With many probes the random trace is the exact one."""
    found = estimate_heritability(study.genotypes, study.design, sumstats=scan, n_probes=200)
    assert found.kappa_error < 0.015
    np.testing.assert_allclose(found.covariance, moments_oracle(study), rtol=0.05, atol=1e-4)
    matrix, projection, free = relationship_oracle(study.dosage, study.covariates.values)
    exact = np.square(matrix - projection).sum() / free**2
    assert abs(found.kappa / exact - 1) < 3 * found.kappa_error
    # what does not depend on probes agrees to rounding
    np.testing.assert_allclose(found.covariance * found.kappa,
                               moments_oracle(study) * exact, atol=1e-7)  # fmt: skip


def test_every_deleted_block_equals_leaving_it_out(study):
    people = StandardGenotypes(study.genotypes, np.arange(500), np.empty((500, 0)))
    edges = block_edges(1200, 10)
    counts = np.diff(edges)
    whole = probe_sums(people, np.arange(1200), edges, seed=3)
    rest = np.delete(np.arange(1200), np.arange(edges[4], edges[5]))
    fewer = probe_sums(people, rest, block_edges(len(rest), 10), seed=3)
    alone = fewer.kappa(np.diff(block_edges(len(rest), 10)))
    np.testing.assert_allclose(whole.kappa(counts, left_out=4), alone, rtol=1e-4)


def test_results_and_genotypes_give_the_same(study, scan):
    stored = estimate_heritability(study.genotypes, study.design, sumstats=scan)
    fresh = estimate_heritability(study.genotypes, study.design)
    np.testing.assert_allclose(stored.covariance, fresh.covariance, atol=1e-5)
    np.testing.assert_allclose(stored.covariance_error, fresh.covariance_error, atol=1e-5)
    assert stored.n_variants == fresh.n_variants == 1200


def test_threads_and_parts_change_nothing(study, scan, tmp_path):
    parts = imgwas.associate(
        study.genotypes, study.latents, study.covariates, out=tmp_path / "r", part_size=97
    )
    one = estimate_heritability(study.genotypes, study.design, sumstats=scan, threads=1)
    two = estimate_heritability(study.genotypes, study.design, sumstats=parts, threads=2)
    np.testing.assert_allclose(one.covariance, two.covariance, rtol=1e-6, atol=1e-9)


def test_people_who_are_no_part_of_it_change_nothing(study):
    """A file with strangers between the analysed people, few and many."""
    rng = np.random.default_rng(0)
    whole = estimate_heritability(study.genotypes, study.design)
    for extra in (50, 1500):
        dosage = np.concatenate([study.dosage, rng.integers(0, 3, (1200, extra))], axis=1)
        order = rng.permutation(dosage.shape[1])
        genotypes = genotypes_of(dosage[:, order].astype(np.float32))
        place = np.argsort(order)
        ids = tuple(genotypes.samples.sample_ids[place[i]] for i in range(500))
        latents = replace(study.latents, sample_ids=ids)
        covariates = replace(study.covariates, sample_ids=ids)
        found = estimate_heritability(
            genotypes, build_design(genotypes.samples, latents, covariates), n_probes=8
        )
        same = found.covariance * found.kappa
        np.testing.assert_allclose(same, whole.covariance * whole.kappa, atol=1e-7)


def test_latents_missing_for_some_people(study):
    """Each latent keeps its own people; the scale of the relationships is shared."""
    values = study.latents.values.copy()
    values[:60, 1] = np.nan
    latents = replace(study.latents, values=values)
    design = build_design(study.genotypes.samples, latents, study.covariates)
    found = estimate_heritability(study.genotypes, design, n_probes=100)
    at = found.latents.index("L01")
    assert found.n[at] == 440
    fewer = replace(study, latents=Latents(values[60:], latents.sample_ids[60:], latents.names),
                    dosage=study.dosage[:, 60:],
                    covariates=replace(study.covariates,
                                       values=study.covariates.values[60:],
                                       sample_ids=latents.sample_ids[60:]))  # fmt: skip
    assert found.heritability[at] == pytest.approx(moments_oracle(fewer)[1, 1], abs=0.03)


def test_the_largest_group_need_not_be_the_first(study, tmp_path):
    """A scan whose first latent has fewer people than the others."""
    values = study.latents.values.copy()
    values[:60, 0] = np.nan
    latents = replace(study.latents, values=values)
    design = build_design(study.genotypes.samples, latents, study.covariates)
    assert [group.names[0] for group in design.groups] == ["L00", "L01"]
    kept = imgwas.associate(study.genotypes, latents, study.covariates, out=tmp_path / "results")
    found = estimate_heritability(study.genotypes, design, sumstats=kept, n_probes=20)
    alone = estimate_heritability(study.genotypes, design, n_probes=20)
    np.testing.assert_allclose(found.heritability, alone.heritability, atol=1e-4)


def test_sign_of_a_latent_turns_its_correlations(study):
    turned = replace(study.latents, values=study.latents.values * [1, -1, 1, 1])
    design = build_design(study.genotypes.samples, turned, study.covariates)
    one, other = (estimate_heritability(study.genotypes, d).covariance
                  for d in (study.design, design))  # fmt: skip
    signs = np.outer([1, -1, 1, 1], [1, -1, 1, 1])
    np.testing.assert_allclose(one, other * signs, atol=1e-7)


def test_unclear_heritabilities_have_no_correlation(study, caplog):
    found = estimate_heritability(study.genotypes, study.design)
    unclear = found.heritability <= 2 * found.heritability_error
    assert unclear[0]
    assert not unclear.all()
    assert np.isnan(found.correlation[unclear]).all()
    assert np.isfinite(found.correlation[np.ix_(~unclear, ~unclear)]).all()
    assert "not defined (NaN)" in caplog.text
    # nothing is cut off: the raw estimate of the latent without heritability may be negative
    assert found.heritability[0] == found.covariance[0, 0]


def test_greml_equals_brute_force(study):
    table = estimate_greml(study.genotypes, study.design)
    matrix, _, _ = relationship_oracle(study.dosage, study.covariates.values)
    model = np.column_stack([np.ones(500), study.covariates.values])
    for k in (1, 3):
        h2, _ = restricted_likelihood(study.latents.values[:, k], matrix, model)
        assert table["heritability"][k] == pytest.approx(h2, abs=1e-5)
    assert not table["is_at_bound"][1:].any()


def test_greml_and_moments_agree():
    errors = []
    for seed in range(2):
        study = polygenic_study(500, 1000, 6, seed=20 + seed)
        he = estimate_heritability(study.genotypes, study.design)
        greml = estimate_greml(study.genotypes, study.design)
        errors.append((he.heritability - greml["heritability"]) / he.heritability_error)
    assert np.abs(errors).max() < 2.5


def test_greml_says_where_it_meets_a_bound():
    rng = np.random.default_rng(5)
    genotypes = genotypes_of(linked_dosages(200, 300, rng))
    ids = genotypes.samples.sample_ids
    latents = Latents(rng.standard_normal((200, 8)), ids, tuple("abcdefgh"))
    table = estimate_greml(genotypes, build_design(genotypes.samples, latents))
    assert table["is_at_bound"].any()
    assert (table["heritability"][table["is_at_bound"]] == 0).all()
    assert np.isfinite(table["standard_error"]).all()


def test_streamed_jackknife_is_the_jackknife():
    values = np.random.default_rng(0).standard_normal((30, 5)) + 100
    expected = jackknife_error(values)
    np.testing.assert_allclose(streamed_error(values.mean(axis=0), iter(values)), expected)
    # of a mean it is the standard error that everyone knows
    data = np.random.default_rng(1).standard_normal(40)
    deleted = (data.sum() - data) / 39
    assert jackknife_error(deleted[:, None])[0] == pytest.approx(data.std(ddof=1) / np.sqrt(40))


def test_correlation_of_no_variance_is_nan():
    found = to_correlation(np.array([[-0.1, 0.0], [0.0, 0.4]]))
    assert np.isnan(found[0]).all()
    assert found[1, 1] == 1


def test_files(study, scan, tmp_path):
    found = estimate_heritability(study.genotypes, study.design, sumstats=scan)
    write_heritability(tmp_path / "a", found, settings={"seed": 0})
    write_heritability(tmp_path / "b", found, matrices="tsv")
    table = pd.read_csv(tmp_path / "a" / "heritability.tsv", sep="\t")
    np.testing.assert_allclose(table["heritability"], found.heritability, rtol=1e-5)
    matrix = pd.read_parquet(tmp_path / "a" / "genetic_correlation.parquet").set_index("latent")
    text = pd.read_csv(tmp_path / "b" / "genetic_correlation.tsv", sep="\t", index_col=0)
    np.testing.assert_allclose(matrix, found.correlation)
    np.testing.assert_allclose(text, found.correlation, rtol=1e-5)
    assert list(matrix.columns) == list(matrix.index) == list(found.latents)
    described = json.loads((tmp_path / "a" / "heritability.json").read_text())
    assert described["n_variants"] == 1200
    with pytest.raises(UsageError, match="matrices is 'csv'"):
        write_heritability(tmp_path, found, matrices="csv")


def test_too_few_variants(study):
    with pytest.raises(DegenerateError, match=r"1,200 variants.*At least 2,500.*--blocks"):
        estimate_heritability(study.genotypes, study.design, n_blocks=500)


def test_nothing_varies(study):
    genotypes = genotypes_of(np.full((600, 500), 2, np.float32))
    for estimate in (estimate_heritability, estimate_greml):
        with pytest.raises(DegenerateError, match="no autosomal variant varies"):
            estimate(genotypes, study.design)


def test_latents_that_were_not_scanned(study, scan):
    other = replace(study.latents, names=("L00", "L01", "L02", "volume"))
    design = build_design(study.genotypes.samples, other, study.covariates)
    with pytest.raises(InconsistentError, match=r"1 latents are not in .*\(first: volume\)"):
        estimate_heritability(study.genotypes, design, sumstats=scan)


def test_people_who_were_not_scanned(study, scan):
    ids = study.latents.sample_ids[:480]
    latents = Latents(study.latents.values[:480], ids, study.latents.names)
    design = build_design(study.genotypes.samples, latents, study.covariates)
    with pytest.raises(InconsistentError, match=r"the samples are not those.*500 .*480"):
        estimate_heritability(study.genotypes, design, sumstats=scan)


def test_values_that_were_not_scanned(study, scan):
    """The same people and covariates, but another transform of the latents."""
    design = build_design(
        study.genotypes.samples, study.latents, study.covariates, rank_normal=True
    )
    with pytest.raises(InconsistentError, match=r"t statistics up to .* away.*--rank-normal"):
        estimate_heritability(study.genotypes, design, sumstats=scan)


def test_genotypes_that_were_not_scanned(study, scan):
    shuffled = genotypes_of(study.dosage[::-1].copy())
    names = pd.Series([f"rs{1199 - j}" for j in range(1200)])
    table = shuffled.variants.set_column(2, "variant_id", [names.tolist()])
    shuffled.variants = table
    with pytest.raises(InconsistentError, match=r"variants of .* are not at their place"):
        estimate_heritability(shuffled, study.design, sumstats=scan)


def test_families_are_mentioned(caplog):
    rng = np.random.default_rng(0)
    people = {"family_ids": tuple(f"f{i // 2}" for i in range(300))}
    genotypes = genotypes_of(linked_dosages(300, 600, rng), **people)
    latents = Latents(rng.standard_normal((300, 2)), genotypes.samples.sample_ids, ("a", "b"))
    design = build_design(genotypes.samples, latents)
    with caplog.at_level(logging.WARNING):
        estimate_heritability(genotypes, design)
    assert "300 of 300 people share a family id" in caplog.text


def test_relatives_are_counted(caplog):
    """Pairs of full siblings in the genotypes, nothing said about them in the table of people."""
    rng = np.random.default_rng(0)
    parents = linked_dosages(200, 2000, rng, runs=(1,))
    children = [rng.binomial(1, parents[:, ::2] / 2) + rng.binomial(1, parents[:, 1::2] / 2)
                for _ in range(2)]  # fmt: skip
    genotypes = genotypes_of(np.concatenate(children, axis=1).astype(np.float32))
    latents = Latents(rng.standard_normal((200, 1)), genotypes.samples.sample_ids, ("a",))
    estimate_greml(genotypes, build_design(genotypes.samples, latents))
    assert "100 pairs of people have a relationship above" in caplog.text


FASTLMM_SCRIPT = """
import sys
import numpy as np
from fastlmm.inference import LMM
given = np.load(sys.argv[1])
found = []
for trait in given["traits"].T:
    model = LMM()
    model.setK(given["matrix"])
    model.setX(given["model"])
    model.sety(trait)
    found.append(float(np.ravel(model.findH2(nGridH2=400)["h2"])[0]))
np.save(sys.argv[2], found)
"""


@pytest.mark.skipif(not FASTLMM, reason="IMGWAS_TEST_FASTLMM names no Python that has fastlmm")
def test_greml_equals_fastlmm(tmp_path):
    """FaST-LMM 0.6.13 on the relationship matrix of plain matrices."""
    study = polygenic_study(1500, 4000, 8, seed=77)
    matrix, _, _ = relationship_oracle(study.dosage, study.covariates.values)
    model = np.column_stack([np.ones(1500), study.covariates.values])
    np.savez(tmp_path / "in.npz", matrix=matrix, model=model, traits=study.latents.values)
    (tmp_path / "script.py").write_text(FASTLMM_SCRIPT)
    command = [FASTLMM, "script.py", "in.npz", "out.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = np.load(tmp_path / "out.npy", allow_pickle=False)
    ours = estimate_greml(study.genotypes, study.design)
    np.testing.assert_allclose(ours["heritability"], theirs, atol=2e-5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_calibration():
    """Bias and standard errors over twelve studies of sixteen latents (docs/heritability.md)."""
    he, greml, covariance, correlation = [], [], [], []
    pairs = np.triu_indices(16, 1)
    for seed in range(12):
        study = polygenic_study(3000, 8000, 16, seed=seed)
        found = estimate_heritability(study.genotypes, study.design)
        he.append((found.heritability - study.heritability, found.heritability_error))
        table = estimate_greml(study.genotypes, study.design)
        greml.append((table["heritability"] - study.heritability, table["standard_error"]))
        planted = np.sqrt(np.outer(study.heritability, study.heritability))
        away = found.covariance - planted * study.genetic_correlation
        covariance.append((away[pairs], found.covariance_error[pairs]))
        away = found.correlation - study.genetic_correlation
        correlation.append((away[pairs], found.correlation_error[pairs]))
    for what, rows, bias in (("he", he, 0.01), ("greml", greml, 0.01),
                             ("covariance", covariance, 0.01),
                             ("correlation", correlation, 0.02)):  # fmt: skip
        away, error = (np.concatenate([np.asarray(row[i]) for row in rows]) for i in (0, 1))
        away, error = away[np.isfinite(error)], error[np.isfinite(error)]
        z = away / error
        covered = np.mean(np.abs(z) < 1.96)
        logging.getLogger("imgwas").warning(
            "%s: n %d bias %.4f sd %.4f error %.4f z-sd %.2f covered %.3f",
            what, len(z), away.mean(), away.std(), np.sqrt(np.mean(error**2)), z.std(), covered,
        )  # fmt: skip
        assert abs(away.mean()) < bias
        assert 0.8 < z.std() < 1.2
        assert 0.90 < covered < 0.99

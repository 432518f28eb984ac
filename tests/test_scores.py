"""Polygenic scores: right sums, right alleles, and never people they were fitted on."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

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
from imgwas.association import build_design
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    RefusedError,
    UsageError,
)
from imgwas.genetics.polygenic import PolygenicScores, combine_scores
from imgwas.genetics.polygenic_apply import apply_scores
from imgwas.genetics.polygenic_files import (
    read_pgs_catalog,
    read_scores,
    write_pgs_catalog,
    write_scores,
)
from imgwas.genetics.polygenic_fit import clump_scores, ridge_scores
from imgwas.traits import Trait, evaluate_scores

N, M, K = 700, 400, 3
TRAIN = 450


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A cohort whose first people were scanned; many variants act on each latent."""
    folder = tmp_path_factory.mktemp("scores")
    cohort = simulate_cohort(folder, n_samples=N, n_variants=M, n_latents=K, n_causal=30,
                             variance_explained=0.03, missing_rate=0.01, seed=9)  # fmt: skip
    genotypes = open_genotypes(cohort.bfile)
    latents, covariates = read_latents(cohort.latents), read_covariates(cohort.covariates)
    train = Latents(latents.values[:TRAIN], latents.sample_ids[:TRAIN], latents.names)
    associate(genotypes, train, covariates, out=folder / "scan", min_overlap=0.1)
    return cohort, genotypes, open_sumstats(folder / "scan"), train, latents, covariates


@pytest.fixture(scope="module")
def scores(study):
    cohort, _, sumstats, train, _, _ = study
    return clump_scores(sumstats, cohort.truth.drop(columns=["latent"]), train.sample_ids,
                        thresholds=[1e-2])  # fmt: skip


def dosage_of(genotypes, effect_alleles):
    """Copies of given alleles, missing calls as they are."""
    dosage = genotypes.read_dosages(np.arange(genotypes.n_variants)).astype(float)
    effect = np.array(genotypes.variants["effect_allele"].to_pylist())
    return np.where((effect == effect_alleles)[:, None], dosage, 2 - dosage)


def test_weights_are_the_scans_beta_below_the_threshold(study, scores):
    _, _, sumstats, _, _, _ = study
    for k, name in enumerate(sumstats.latents):
        frame = sumstats.latent(name).set_index("variant_id").loc[scores.variants["variant_id"]]
        expected = np.where(frame["neg_log_10_p_value"] >= 2, frame["beta"], 0)
        np.testing.assert_allclose(scores.weights[:, k], expected)
        assert (scores.variants["effect_allele"].to_numpy() == frame["effect_allele"]).all()
    assert (scores.weights != 0).any(axis=1).all()


def test_several_thresholds_and_named_latents(study):
    cohort, _, sumstats, train, _, _ = study
    some = clump_scores(sumstats, cohort.truth, train.sample_ids, thresholds=[1e-3, 0.5])
    assert some.names[:2] == ("L000_p0.001", "L001_p0.001")
    pairs = set(zip(cohort.truth["variant_id"], cohort.truth["latent"], strict=True))
    for v, k in zip(*np.nonzero(some.weights), strict=True):
        assert (some.variants["variant_id"][v], some.names[k].split("_")[0]) in pairs
    with pytest.raises(DegenerateError, match="has P below 1e-300"):
        clump_scores(sumstats, cohort.truth, train.sample_ids, thresholds=[1e-300])
    with pytest.raises(RefusedError, match="10 people are named and 450 were scanned"):
        clump_scores(sumstats, cohort.truth, train.sample_ids[:10])


def test_scores_are_sums_of_weighted_copies(study, scores):
    _, genotypes, _, _, _, _ = study
    ids = genotypes.variants["variant_id"].to_pylist()
    rows = [ids.index(one) for one in scores.variants["variant_id"]]
    table = apply_scores(scores, genotypes, same_strand=True)
    dosage = genotypes.read_dosages(np.arange(M)).astype(float)[rows]
    mean = 2 * scores.variants["effect_allele_frequency"].to_numpy()[:, None]
    slow = np.where(np.isnan(dosage), mean, dosage).T @ scores.weights
    np.testing.assert_allclose(table.values, slow, atol=1e-10)
    assert table.sample_ids == genotypes.samples.sample_ids


def test_a_file_that_counts_the_other_allele_gives_the_same_scores(study, scores):
    cohort, genotypes, _, _, _, _ = study
    same = apply_scores(scores, genotypes)
    other = apply_scores(scores, open_genotypes(cohort.bfile, effect_allele="a2"))
    np.testing.assert_allclose(other.values, same.values, atol=1e-10)
    assert same.source["matched"]["same"] == len(scores.variants)
    assert other.source["matched"]["swapped"] == len(scores.variants)


def with_palindromes(scores: PolygenicScores, alleles=("A", "T")) -> PolygenicScores:
    variants = scores.variants.assign(effect_allele=alleles[0], other_allele=alleles[1])
    return PolygenicScores(variants, scores.weights, scores.names, scores.intercepts,
                           scores.fitted_on)  # fmt: skip


def test_palindromic_variants_follow_frequency_or_the_strand(study, scores, tmp_path):
    cohort, _, _, _, _, _ = study
    for suffix in (".bed", ".fam"):
        shutil.copy(cohort.bfile.with_suffix(suffix), tmp_path / f"at{suffix}")
    bim = pd.read_csv(cohort.bfile.with_suffix(".bim"), sep="\t", header=None, dtype=str)
    bim[4], bim[5] = "A", "T"
    bim.to_csv(tmp_path / "at.bim", sep="\t", header=False, index=False)
    genotypes = open_genotypes(tmp_path / "at")
    written = with_palindromes(scores)
    turned = with_palindromes(scores, ("T", "A"))
    by_strand = apply_scores(written, genotypes, same_strand=True)
    assert by_strand.source["matched"]["palindromic_same"] == len(scores.variants)
    reverse = apply_scores(turned, genotypes, same_strand=True)
    assert reverse.source["matched"]["palindromic_swapped"] == len(scores.variants)
    frequency = scores.variants["effect_allele_frequency"]
    clear = int((np.minimum(frequency, 1 - frequency) <= 0.40).sum())
    for named in (written, turned):  # frequency tells the strand, whatever the letters
        found = apply_scores(named, genotypes).source["matched"]
        assert found["palindromic_same"] >= clear
        assert found["palindromic_swapped"] == 0
        assert found["palindromic_same"] + found["palindromic_dropped"] == len(frequency)


def test_combined_scores_are_the_sum_of_scores_also_with_flipped_alleles(study, scores):
    cohort, genotypes, _, _, _, _ = study
    rng = np.random.default_rng(1)
    alpha = dict(zip(scores.names, rng.standard_normal(K), strict=True))
    own = PolygenicScores(scores.variants, scores.weights, scores.names, rng.standard_normal(K),
                          scores.fitted_on)  # fmt: skip
    one = combine_scores(own, alpha, intercept=0.7, fitted_on=["somebody"])
    assert len(one.fitted_on) == 2
    for file in (genotypes, open_genotypes(cohort.bfile, effect_allele="a2")):
        parts, whole = apply_scores(own, file), apply_scores(one, file)
        expected = 0.7 + parts.values @ np.array(list(alpha.values()))
        assert np.abs(whole.values[:, 0] - expected).max() < 1e-10
    with pytest.raises(UsageError, match="no score 'L9'"):
        combine_scores(scores, {"L9": 1.0})


# --- ridge


def ridge_by_definition(study, h2: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights per copy by the normal equations of the mixed model, with a matrix inverse."""
    _, genotypes, _, train, latents, covariates = study
    ids = genotypes.samples.sample_ids
    columns = [i for i, one in enumerate(ids) if one in set(train.sample_ids)]
    order = {one: row for row, one in enumerate(covariates.sample_ids)}
    c = np.column_stack([np.ones(TRAIN), covariates.values[[order[ids[i]] for i in columns]]])
    y = latents.values[[latents.sample_ids.index(ids[i]) for i in columns]]
    x = genotypes.read_dosages(np.arange(M)).astype(float)[:, columns]
    x = np.where(np.isnan(x), np.nanmean(x, axis=1, keepdims=True), x).T
    maf = np.minimum(x.mean(axis=0) / 2, 1 - x.mean(axis=0) / 2)
    q, _ = np.linalg.qr(c)
    p = np.eye(TRAIN) - q @ q.T
    length = np.linalg.norm(p @ x, axis=0)
    use = (maf > 0.01) & (length > 1e-6)
    g = p @ x[:, use] / length[use]
    free, m = TRAIN - c.shape[1], use.sum()
    a = g @ g.T * free / m
    v = h2 * a + (1 - h2) * np.eye(TRAIN)
    dual = np.linalg.solve(v, p @ y)
    weights = np.zeros((M, K))
    weights[use] = h2 * free / m * (g.T @ dual) / length[use][:, None]
    return weights, p


def test_ridge_weights_solve_the_mixed_model(study):
    _, genotypes, _, train, _, covariates = study
    design = build_design(genotypes.samples, train, covariates, min_overlap=0.1)
    fitted = ridge_scores(genotypes, design, heritability=0.4)
    slow, _ = ridge_by_definition(study, 0.4)
    rows = [genotypes.variants["variant_id"].to_pylist().index(one)
            for one in fitted.variants["variant_id"]]  # fmt: skip
    assert (slow[np.setdiff1d(np.arange(M), rows)] == 0).all()
    np.testing.assert_allclose(fitted.weights, slow[rows], atol=2e-4 * np.abs(slow).max())
    assert np.corrcoef(fitted.weights.ravel(), slow[rows].ravel())[0, 1] > 0.99999


def test_ridge_scores_predict_people_they_have_not_seen(study):
    _, genotypes, _, train, latents, covariates = study
    design = build_design(genotypes.samples, train, covariates, min_overlap=0.1)
    fitted = ridge_scores(genotypes, design)
    ids = latents.sample_ids
    table = apply_scores(fitted, genotypes, people=ids[TRAIN:], same_strand=True)
    traits = [Trait(name, "number", latents.values[:, latents.names.index(name)], ids)
              for name in fitted.names]  # fmt: skip
    frame = evaluate_scores(table, traits, covariates, n_bootstrap=200)
    own = frame[frame["trait"] == frame["score"]]
    crossed = frame[frame["trait"] != frame["score"]]
    assert own["increment"].mean() > crossed["increment"].mean()
    assert (own["increment"] > 0.02).all()
    assert ((own["ci_low"] < own["increment"]) & (own["increment"] < own["ci_high"])).all()


# --- held out


def test_no_score_is_evaluated_on_people_it_was_fitted_on(study, scores):
    """Tried in every way there is."""
    _, genotypes, _, train, latents, covariates = study
    design = build_design(genotypes.samples, train, covariates, min_overlap=0.1)
    trait = Trait("t", "number", latents.values[:, 0], latents.sample_ids)
    one = combine_scores(scores, {"L000": 1.0}, fitted_on=latents.sample_ids[-3:])
    ways = [
        apply_scores(scores, genotypes),
        apply_scores(scores, genotypes, people=train.sample_ids),
        apply_scores(ridge_scores(genotypes, design, heritability=0.3), genotypes),
        apply_scores(one, genotypes, people=latents.sample_ids[TRAIN:]),
        apply_scores(scores.select(["L001"]), genotypes),
    ]
    for table in ways:
        for assume in (False, True):
            with pytest.raises(RefusedError, match="people are among those the scores were"):
                evaluate_scores(table, trait, covariates, assume_held_out=assume)
    held = apply_scores(scores, genotypes, people=latents.sample_ids[TRAIN:])
    assert len(evaluate_scores(held, trait, covariates, n_bootstrap=5)) == K


def test_the_refusal_survives_files(study, scores, tmp_path):
    _, genotypes, _, train, latents, _ = study
    trait = Trait("t", "number", latents.values[:, 0], latents.sample_ids)
    write_scores(scores, tmp_path / "s.parquet")
    again = read_scores(tmp_path / "s.parquet")
    pd.testing.assert_frame_equal(again.variants, scores.variants)
    np.testing.assert_array_equal(again.weights, scores.weights)
    with pytest.raises(RefusedError, match="450 of 700"):
        evaluate_scores(apply_scores(again, genotypes), trait)
    content = (tmp_path / "s.parquet").read_bytes()
    # as a word of its own: a salted digest may hold any digits
    words = (rb"(?<![0-9A-Za-z])" + one.encode() + rb"(?![0-9A-Za-z])" for one in train.sample_ids)
    assert not any(re.search(word, content) for word in words)
    assert (tmp_path / "s.parquet").stat().st_mode & 0o077 == 0


# --- PGS Catalog


def built(scores: PolygenicScores) -> PolygenicScores:
    return PolygenicScores(scores.variants, scores.weights, scores.names, np.array([0.1, -2, 3.0]),
                           scores.fitted_on, genome_build="GRCh37")  # fmt: skip


def test_pgs_catalog_files_have_the_published_layout(scores, study, tmp_path):
    _, genotypes, _, _, latents, covariates = study
    with pytest.raises(UsageError, match="genome build"):
        write_pgs_catalog(scores, tmp_path)
    files = write_pgs_catalog(built(scores), tmp_path, citation="Nobody (2026)")
    lines = gzip.decompress(files["L001"].read_bytes()).decode().split("\n")
    assert lines[0].startswith("###PGS CATALOG SCORING FILE")
    assert lines[1] == "#format_version=2.0"
    header = dict(line[1:].split("=", 1) for line in lines if line[:1] == "#" and "=" in line)
    assert header["genome_build"] == "GRCh37"
    assert int(header["variants_number"]) == (scores.weights[:, 1] != 0).sum()
    columns = next(line for line in lines if not line.startswith("#")).split("\t")
    assert columns[:6] == ["rsID", "chr_name", "chr_position", "effect_allele", "other_allele",
                           "effect_weight"]  # fmt: skip
    again = read_scores(files["L001"])
    assert again.intercepts.tolist() == [-2.0]
    first = apply_scores(again, genotypes, people=latents.sample_ids[TRAIN:])
    whole = apply_scores(built(scores), genotypes, people=latents.sample_ids[TRAIN:])
    np.testing.assert_allclose(first.values[:, 0], whole.values[:, 1], rtol=1e-13)
    trait = Trait("t", "number", latents.values[:, 1], latents.sample_ids)
    with pytest.raises(RefusedError, match="not known whom these scores were fitted on"):
        evaluate_scores(first, trait, covariates)
    assert len(evaluate_scores(first, trait, covariates, assume_held_out=True, n_bootstrap=5)) == 1


def test_downloaded_scores_are_read_and_bad_ones_named(tmp_path):
    head = ("###PGS CATALOG SCORING FILE - see https://www.pgscatalog.org\n#format_version=2.0\n"
            "#pgs_id=PGS000001\n#genome_build=GRCh37\n")  # fmt: skip
    path = tmp_path / "PGS000001.txt"
    path.write_text(head + "rsID\tchr_name\tchr_position\teffect_allele\tother_allele\t"
                    "effect_weight\nrs1\t1\t100\tA\tG\t0.5\nrs2\tX\t\tC\tT\t-1e-3\n")  # fmt: skip
    one = read_pgs_catalog(path)
    assert one.names == ("PGS000001",)
    assert one.weights[:, 0].tolist() == [0.5, -0.001]
    assert one.variants["base_pair_location"].tolist() == [100, 0]
    path.write_text(head + "rsID\teffect_allele\tother_allele\teffect_weight\nrs1\tA\tG\tabc\n")
    with pytest.raises(MalformedError, match="'abc' as a weight in row 1"):
        read_pgs_catalog(path)
    path.write_text(head + "rsID\teffect_allele\teffect_weight\tis_dominant\nrs1\tA\t1\tTrue\n")
    with pytest.raises(MalformedError, match="not additive"):
        read_pgs_catalog(path)
    path.write_text("nothing\n")
    with pytest.raises(MalformedError, match="holds no polygenic score"):
        read_scores(path)


def test_scores_that_fit_no_genotypes_say_so(study, scores):
    _, genotypes, _, _, _, _ = study
    elsewhere = scores.variants.assign(variant_id="none", base_pair_location=1)
    wrong = PolygenicScores(elsewhere, scores.weights, scores.names, scores.intercepts, None)
    with pytest.raises(InconsistentError, match="none of the"):
        apply_scores(wrong, genotypes)
    with pytest.raises(InconsistentError, match="none of 1 people"):
        apply_scores(scores, genotypes, people=["nobody"])


@pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed here")
def test_scores_equal_plink2(study, scores, tmp_path):
    cohort, genotypes, _, _, _, _ = study
    complete = scores.variants.assign(w=scores.weights[:, 0])[["variant_id", "effect_allele", "w"]]
    complete.to_csv(tmp_path / "w.txt", sep="\t", index=False)
    scores.variants[["variant_id", "effect_allele", "effect_allele_frequency"]].to_csv(
        tmp_path / "f.txt", sep="\t", index=False, header=False
    )
    command = ["plink2", "--bfile", cohort.bfile, "--score", tmp_path / "w.txt", "1", "2", "3",
               "header", "no-mean-imputation", "cols=scoresums", "--out",
               tmp_path / "s"]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    theirs = pd.read_csv(tmp_path / "s.sscore", sep="\t")
    ids = genotypes.variants["variant_id"].to_pylist()
    rows = [ids.index(one) for one in scores.variants["variant_id"]]
    whole = ~np.isnan(genotypes.read_dosages(np.arange(M))[rows]).any(axis=0)
    table = apply_scores(scores, genotypes, same_strand=True)
    np.testing.assert_allclose(table.values[whole, 0], theirs.iloc[:, -1][whole], atol=1e-4)
    assert whole.sum() > 300


# --- evaluation


def test_areas_and_concordance_rise_with_a_score_that_knows_something():
    rng = np.random.default_rng(2)
    n = 800
    ids = tuple(f"q{i}" for i in range(n))
    c = rng.standard_normal((n, 2))
    s = rng.standard_normal((n, 2))
    eta = 0.5 * c[:, 0] + 0.8 * s[:, 0] - 1
    case = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    time = rng.exponential(np.exp(-eta))
    stop = rng.exponential(3, n)
    traits = [
        Trait("case", "binary", case, ids),
        Trait("event", "survival", (time <= stop) * 1.0, ids, np.minimum(time, stop)),
    ]
    table = Latents(s, ids, ("good", "noise"))
    frame = evaluate_scores(
        table, traits, Covariates(c, ids, ("a", "b")), n_bootstrap=20
    ).set_index(["trait", "score"])
    for trait in ("case", "event"):
        assert frame.loc[(trait, "good"), "ci_low"] > 0.02
        assert abs(frame.loc[(trait, "noise"), "increment"]) < 0.02
    assert frame.loc[("case", "good"), "neg_log_10_p_value"] > 3
    assert frame.loc[("case", "noise"), "neg_log_10_p_value"] < 2


def test_incremental_r2_equals_two_regressions():
    import statsmodels.api as sm

    rng = np.random.default_rng(3)
    n = 300
    ids = tuple(f"q{i}" for i in range(n))
    c, s = rng.standard_normal((n, 2)) * [1, 30], rng.standard_normal((n, 1))
    y = c[:, 0] + 0.3 * s[:, 0] + rng.standard_normal(n)
    frame = evaluate_scores(
        Latents(s, ids, ("s",)), Trait("y", "number", y, ids), Covariates(c, ids, ("a", "b"))
    )
    r2 = [sm.OLS(y, sm.add_constant(x)).fit().rsquared for x in (c, np.column_stack([c, s]))]
    assert frame["covariates"].item() == pytest.approx(r2[0])
    assert frame["with_score"].item() == pytest.approx(r2[1])

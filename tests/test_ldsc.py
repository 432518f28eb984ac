"""LD score regression: against loops, against what was planted, against LDSC where it is."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import InconsistentError, MalformedError, OpenError
from imgwas.genetics.external import ExternalStatistics
from imgwas.genetics.harmonise import VariantTable
from imgwas.genetics.jackknife import block_edges, jackknife_error
from imgwas.genetics.ld_scores import (
    LdScores,
    compute_ld_scores,
    read_ld_scores,
    write_ld_scores,
)
from imgwas.genetics.ldsc import correlate_with, estimate_ldsc
from imgwas.genetics.ldsc_regression import fit_line, regress_chi2, regress_products
from imgwas.types import Latents
from tests.genetic_models import UNEVEN, genotypes_of, linked_dosages, polygenic_study

M, EFFECTS = 8000, 200_000.0
N1, N2 = 30_000.0, 20_000.0
H1, H2, RG = 0.4, 0.3, -0.5
#: the command that runs LDSC 2.0.1 in an environment of its own, e.g. "venv/bin/python ldsc.py"
LDSC = os.environ.get("IMGWAS_TEST_LDSC", "")


def planted_scores(m: int = M) -> np.ndarray:
    rng = np.random.default_rng(0)
    return 1 + np.exp(rng.normal(0, 0.8, m)) * np.repeat(np.exp(rng.normal(2.2, 0.5, m // 50)), 50)


def planted_z(score: np.ndarray, seed: int, k: int = 1, m_effects: float = EFFECTS):
    """Two traits per column with the planted heritabilities, correlation and overlap."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, len(score), k))
    s11 = (N1 * H1 * score / m_effects + 1.03)[:, None]
    s22 = (N2 * H2 * score / m_effects + 1.01)[:, None]
    s12 = np.sqrt(N1 * N2) * RG * np.sqrt(H1 * H2) * score[:, None] / m_effects + 0.1
    return np.sqrt(s11) * a, s12 / np.sqrt(s11) * a + np.sqrt(s22 - s12**2 / s11) * b


def test_line_equals_least_squares_by_loops():
    rng = np.random.default_rng(0)
    x, y, w = rng.random((120, 3)), rng.standard_normal((120, 3)), rng.random((120, 3))
    edges = block_edges(120, 10)
    line = fit_line(x, y, w, edges)
    first = fit_line(x, y, w * (y < 1), edges)
    chained = fit_line(x, y, w, edges, first)
    for block in range(-1, 10):
        keep = np.ones(120, bool)
        if block >= 0:
            keep[edges[block] : edges[block + 1]] = False
        for k in range(3):

            def fit(weight, k=k, keep=keep):
                return np.polyfit(x[keep, k], y[keep, k], 1, w=np.sqrt(weight[keep, k]))

            slope, intercept = fit(w)
            _, fixed = fit(w * (y < 1) + 1e-300)
            rest, at, wt = y[keep, k] - fixed, x[keep, k], w[keep, k]
            through = (wt * at * rest).sum() / (wt * at * at).sum()
            if block < 0:
                np.testing.assert_allclose([line.slope[k], line.intercept[k]], [slope, intercept])
                np.testing.assert_allclose(chained.slope[k], through)
            else:
                np.testing.assert_allclose(line.deleted_slope[block, k], slope)
                np.testing.assert_allclose(line.deleted_intercept[block, k], intercept)
                np.testing.assert_allclose(chained.deleted_slope[block, k], through)


def test_finds_what_was_planted_with_honest_errors():
    """Forty traits: unbiased within Monte Carlo error, errors as large as the scatter."""
    score = planted_scores()
    z, _ = planted_z(score, 1, 40)
    edges = block_edges(M, 100)
    n = np.full(z.shape, N1)
    found = regress_chi2(z**2, score, n, EFFECTS, edges)
    away = found.heritability - H1
    assert abs(away.mean()) < 3 * away.std() / np.sqrt(40)
    assert 0.7 < away.std() / found.heritability_error.mean() < 1.3
    off = found.line.intercept - 1.03
    assert abs(off.mean()) < 3 * off.std() / np.sqrt(40)
    assert 0.7 < off.std() / found.intercept_error.mean() < 1.3
    mean = np.nanmean(np.where(z**2 < 80, z**2, np.nan), axis=0)  # LDSC's limit
    expected = (found.line.intercept - 1) / (mean - 1)
    np.testing.assert_allclose(found.ratio, expected)


def test_correlation_is_found_and_turns_with_the_sign():
    score = planted_scores()
    z1, z2 = planted_z(score, 2, 20)
    n1, n2 = np.full(z1.shape, N1), np.full(z1.shape, N2)
    edges = block_edges(M, 100)
    found = regress_products(z1, z2, score, n1, n2, EFFECTS, edges)
    away = found.correlation - RG
    assert abs(away.mean()) < 3 * away.std() / np.sqrt(20)
    assert 0.6 < away.std() / found.correlation_error.mean() < 1.4
    turned = regress_products(z1, -z2, score, n1, n2, EFFECTS, edges)
    np.testing.assert_allclose(turned.correlation, -found.correlation)
    np.testing.assert_allclose(turned.correlation_error, found.correlation_error)


def test_traits_do_not_touch_one_another():
    """A trait with holes and one that is huge change nothing of the third."""
    score = planted_scores()
    z, _ = planted_z(score, 3, 3)
    alone = regress_chi2(z[:, :1] ** 2, score, np.full((M, 1), N1), EFFECTS, block_edges(M, 50))
    z[::7, 1] = np.nan
    z[:, 2] *= 10
    both = regress_chi2(z**2, score, np.full(z.shape, N1), EFFECTS, block_edges(M, 50))
    np.testing.assert_allclose(both.heritability[0], alone.heritability[0])
    np.testing.assert_allclose(both.heritability_error[0], alone.heritability_error[0])
    assert both.n_variants.tolist()[:2] == [M, M - len(range(0, M, 7))]


def test_fixed_intercept():
    score = planted_scores()
    z, _ = planted_z(score, 4)
    n = np.full(z.shape, N1)
    found = regress_chi2(z**2, score, n, EFFECTS, block_edges(M, 50), intercept=1.03)
    assert found.intercept_error[0] < 1e-12
    assert found.line.intercept[0] == 1.03
    free = regress_chi2(z**2, score, n, EFFECTS, block_edges(M, 50))
    assert found.heritability_error[0] < free.heritability_error[0]


@pytest.fixture(scope="module")
def study():
    return polygenic_study(800, 1500, 3, seed=9, highest=0.9, runs=UNEVEN)


@pytest.fixture(scope="module")
def scan(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("scan") / "results"
    return imgwas.associate(
        study.genotypes, study.latents, study.covariates, out=out, genome_build="GRCh37"
    )


@pytest.fixture(scope="module")
def scores(study):
    return compute_ld_scores(study.genotypes, window_kb=60)


def test_scores_equal_a_double_loop():
    rng = np.random.default_rng(1)
    dosage = linked_dosages(150, 90, rng)
    dosage[3] = 1  # monomorphic
    dosage[rng.random(dosage.shape) < 0.03] = np.nan
    found = compute_ld_scores(genotypes_of(dosage), window_kb=7, threads=2)
    filled = np.where(np.isnan(dosage), np.nanmean(dosage, axis=1, keepdims=True), dosage)
    kept = [j for j in range(90) if j != 3]
    for row, j in enumerate(kept):
        total = 0.0
        for k in kept:
            if abs(j - k) * 1000 <= 7000:
                r2 = np.corrcoef(filled[j], filled[k])[0, 1] ** 2
                total += r2 - (1 - r2) / (150 - 2)
        assert found.score[row] == pytest.approx(total, abs=1e-4)
    assert found.n_variants == len(found) == 89
    assert "rs3" not in found.variant_id


def test_scores_do_not_depend_on_the_order_of_a_file():
    rng = np.random.default_rng(2)
    dosage = linked_dosages(100, 80, rng)
    genotypes = genotypes_of(dosage)
    order = rng.permutation(80)
    shuffled = genotypes_of(dosage[order])
    shuffled.variants = genotypes.variants.take(order)
    one = compute_ld_scores(genotypes, window_kb=20)
    other = compute_ld_scores(shuffled, window_kb=20)
    again = dict(zip(other.variant_id, other.score, strict=True))
    np.testing.assert_allclose([again[v] for v in one.variant_id], one.score, atol=1e-5)


def test_unlinked_variants_have_a_score_of_one():
    """Squared correlations are corrected for chance, however few the people."""
    rng = np.random.default_rng(3)
    found = compute_ld_scores(genotypes_of(linked_dosages(60, 400, rng, runs=(1,))), window_kb=100)
    assert found.score.mean() == pytest.approx(1, abs=0.15)


def test_covariates_take_structure_out_of_scores():
    rng = np.random.default_rng(4)
    population = np.repeat([0, 1], 100)
    frequency = rng.uniform(0.2, 0.8, (300, 2))
    dosage = rng.binomial(2, frequency[:, population]).astype(np.float32)
    genotypes = genotypes_of(dosage)
    axis = (population - 0.5)[:, None] / np.sqrt(50)
    plain = compute_ld_scores(genotypes, window_kb=400)
    without = compute_ld_scores(genotypes, window_kb=400, columns=np.arange(200), basis=axis)
    assert plain.score.mean() > 4
    assert without.score.mean() == pytest.approx(1, abs=0.5)


def test_a_sample_of_the_people(study):
    whole = compute_ld_scores(study.genotypes, window_kb=30)
    some = compute_ld_scores(study.genotypes, window_kb=30, max_people=300, seed=1)
    assert "300 people" in some.source
    assert np.corrcoef(whole.score, some.score)[0, 1] > 0.95


def write_folder(folder, scores, m_effects, chromosomes=22):
    """LD scores of several chromosomes in LDSC's layout."""
    folder.mkdir(exist_ok=True)
    pieces = np.array_split(np.arange(len(scores)), chromosomes)
    whole = [int(m_effects) // chromosomes] * chromosomes
    whole[0] += int(m_effects) - sum(whole)
    for c, rows in enumerate(pieces, 1):
        lines = [f"{c}\trs{j}\t{1000 * i + 1}\t{scores[j]:.3f}\n" for i, j in enumerate(rows)]
        text = "CHR\tSNP\tBP\tL2\n" + "".join(lines)
        (folder / f"{c}.l2.ldscore.gz").write_bytes(gzip.compress(text.encode()))
        (folder / f"{c}.l2.M_5_50").write_text(f"{whole[c - 1]}\n")


def test_reading_a_folder_a_prefix_a_file(tmp_path):
    score = planted_scores(500)
    write_folder(tmp_path / "ld", score, 10_001)
    for path in (tmp_path / "ld", tmp_path / "ld" / "{chr}", f"{tmp_path}/ld/"):
        found = read_ld_scores(path)
        assert found.n_variants == 10_001
        np.testing.assert_allclose(found.score, score, atol=5e-4)
    one = read_ld_scores(tmp_path / "ld" / "3.l2.ldscore.gz")
    assert set(one.chromosome) == {"3"}
    write_ld_scores(one, tmp_path / "again")
    again = read_ld_scores(tmp_path / "again")
    assert again.variant_id == one.variant_id
    assert again.n_variants == one.n_variants
    np.testing.assert_allclose(again.score, one.score, rtol=1e-5)


def test_faults_of_score_files(tmp_path):
    with pytest.raises(OpenError, match=r"no LD scores at .*1\.l2\.ldscore\.gz"):
        read_ld_scores(tmp_path)
    write_folder(tmp_path, planted_scores(50), 100, chromosomes=1)
    (tmp_path / "1.l2.M_5_50").unlink()
    with pytest.raises(OpenError, match="M_5_50 cannot be opened"):
        read_ld_scores(tmp_path)
    (tmp_path / "1.l2.M_5_50").write_text("many\n")
    with pytest.raises(MalformedError, match="holds no number"):
        read_ld_scores(tmp_path)
    text = "CHR\tSNP\tBP\tbaseL2\n1\trs1\t5\t3\n"
    (tmp_path / "1.l2.ldscore.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(MalformedError, match=r"no column L2.*CHR, SNP, BP, baseL2"):
        read_ld_scores(tmp_path)


def test_table_of_a_scan(scan, scores):
    table = estimate_ldsc(scan, scores, n_blocks=50)
    assert table["latent"].tolist() == list(scan.latents)
    assert (table["n_variants"] == 1500).all()
    t = scan.variants(["t.L02"])["t.L02"].to_numpy(np.float64)
    assert table["mean_chi2"][2] == pytest.approx((t**2).mean(), rel=1e-3)
    expected = regress_chi2((t**2)[:, None], scores.score, np.full((1500, 1), 800.0), 1500.0,
                            block_edges(1500, 50))  # fmt: skip
    assert table["heritability"][2] == pytest.approx(expected.heritability[0], rel=1e-5)
    assert table["standard_error"][2] == pytest.approx(expected.heritability_error[0], rel=1e-5)


def test_scores_with_other_names_meet_by_position(scan, scores):
    renamed = replace(scores, variant_id=tuple(f"x{i}" for i in range(len(scores))))
    one, other = (estimate_ldsc(scan, s, n_blocks=50) for s in (scores, renamed))
    pd.testing.assert_frame_equal(one, other)


def test_no_variant_has_a_score(scan):
    away = LdScores(("a", "b", "c"), ("9",) * 3, np.array([1, 2, 3]), np.ones(3), 3.0, "test")
    expected = r"none of the 1,500 .*begins with rs0 at 1:1000, rs1 at 1:2000.*with a at 9:1"
    with pytest.raises(InconsistentError, match=expected):
        estimate_ldsc(scan, away)


def external_of(study, scan, latent, *, swapped, sign=1.0, build=None, ids=None):
    """Another study that found what the scan found for one latent, alleles partly swapped."""
    frame = scan.variants(["variant_id", "base_pair_location", f"t.{latent}"])
    z = sign * frame[f"t.{latent}"].to_numpy(float)
    effect = np.where(swapped, "G", "A")
    return ExternalStatistics(
        "other",
        VariantTable(
            ids or frame["variant_id"].tolist(), effect.tolist(),
            np.where(swapped, "A", "G").tolist(),
            chromosome=["1"] * len(z), position=frame["base_pair_location"].to_numpy(np.int64),
            genome_build=build,
        ),
        np.where(swapped, -z, z),
        np.full(len(z), 800.0),
    )  # fmt: skip


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_swapped_alleles_keep_the_sign_of_a_correlation(study, scan, scores, sign):
    """The other study wrote half of its variants the other way round."""
    swapped = np.random.default_rng(0).random(1500) < 0.5
    other = external_of(study, scan, "L02", swapped=swapped, sign=sign)
    table = correlate_with(scan, other, scores, n_blocks=50).set_index("latent")
    counts = table.attrs["alleles"]
    assert (counts["swapped"], counts["same"]) == (swapped.sum(), (~swapped).sum())
    assert table.loc["L02", "correlation"] == pytest.approx(sign, abs=1e-5)
    # L01 was planted with the opposite genetic correlation; its covariance shows the sign
    own = correlate_with(scan, other, scores, n_blocks=50, latents=["L02"])
    assert own["covariance"][0] == pytest.approx(table.loc["L02", "covariance"])
    ignored = replace(other, variants=replace(other.variants, effect_allele=["A"] * 1500,
                                              other_allele=["G"] * 1500))  # fmt: skip
    wrong = correlate_with(scan, ignored, scores, n_blocks=50).set_index("latent")
    assert abs(wrong.loc["L02", "covariance"]) < 0.5 * abs(table.loc["L02", "covariance"])


def test_correlation_against_the_planted_truth(tmp_path):
    """Two halves of one population, the second scanned by somebody who counts the other allele."""
    study = polygenic_study(3000, 1200, 2, seed=31, highest=0.95, runs=UNEVEN)
    halves = []
    for some in (slice(0, 1500), slice(1500, 3000)):
        ids = study.latents.sample_ids[some]
        latents = Latents(study.latents.values[some], ids, ("a", "b"))
        covariates = replace(study.covariates, values=study.covariates.values[some], sample_ids=ids)
        out = tmp_path / str(some.start)
        halves.append(imgwas.associate(study.genotypes, latents, covariates, out=out))
    ours, theirs = halves
    scores = compute_ld_scores(study.genotypes, window_kb=60)
    for sign in (1, -1):
        other = external_of(study, theirs, "b", swapped=np.ones(1200, bool), sign=sign)
        table = correlate_with(ours, other, scores, n_blocks=50, latents=["b"])
        assert abs(table["correlation"][0] - sign) < 3 * table["standard_error"][0]
        assert sign * table["z"][0] > 3


def test_builds_that_differ_by_position(study, scan, scores):
    none = np.zeros(1500, bool)
    ids = [f"x{i}" for i in range(1500)]
    other = external_of(study, scan, "L02", swapped=none, build="GRCh38", ids=ids)
    with pytest.raises(InconsistentError, match="GRCh37 and other of GRCh38"):
        correlate_with(scan, other, scores)


def test_unclear_heritability_gives_no_correlation(study, scan, scores, caplog):
    other = external_of(study, scan, "L02", swapped=np.zeros(1500, bool))
    table = correlate_with(scan, other, scores, n_blocks=50).set_index("latent")
    h2 = table["heritability"] > 2 * table["heritability_error"]
    assert not h2["L00"]
    assert np.isnan(table.loc["L00", "correlation"])
    assert np.isfinite(table.loc["L00", "covariance"])
    assert "not defined (NaN)" in caplog.text


@pytest.mark.skipif(not LDSC, reason="IMGWAS_TEST_LDSC does not name the command of LDSC 2.0.1")
def test_equals_ldsc(tmp_path):
    """The published program on one set: two steps, one step, and a correlation."""
    m, m_effects = 60_000, 1e6
    score = planted_scores(m)
    z1, z2 = (z[:, 0] for z in planted_z(score, 7, m_effects=m_effects))
    write_folder(tmp_path / "ld", score, m_effects)
    scores = read_ld_scores(tmp_path / "ld")
    swap = np.random.default_rng(0).random(m) < 0.5
    write_sumstats(tmp_path / "one.sumstats", z1, N1, np.zeros(m, bool))
    write_sumstats(tmp_path / "two.sumstats", z2, N2, swap)
    edges = block_edges(m, 200)
    n1, n2 = np.full((m, 1), N1), np.full((m, 1), N2)
    ours = regress_chi2(z1[:, None] ** 2, scores.score, n1, m_effects, edges)
    said = ldsc(tmp_path, "--h2", "one.sumstats")
    # two steps: the same estimates; LDSC carries the first step's error along with the weights
    # of before it, ours leaves blocks out of both steps
    assert f"Total Observed scale h2: {ours.heritability[0]:.4f}"[:-1] in said
    assert error_of("Total Observed scale h2", said) == pytest.approx(
        ours.heritability_error[0], rel=0.1
    )
    assert estimate_of("Intercept", said) == pytest.approx(ours.line.intercept[0], abs=2e-4)
    assert error_of("Intercept", said) == pytest.approx(ours.intercept_error[0], abs=4e-4)
    both = regress_products(z1[:, None], z2[:, None], scores.score, n1, n2, m_effects, edges)
    said = ldsc(tmp_path, "--rg", "one.sumstats,two.sumstats")
    assert estimate_of("Genetic Correlation", said) == pytest.approx(both.correlation[0], abs=2e-4)
    assert error_of("Genetic Correlation", said) == pytest.approx(
        both.correlation_error[0], abs=2e-4
    )
    assert estimate_of("Total Observed scale gencov", said) == pytest.approx(
        both.line.slope[0], abs=2e-4
    )
    assert error_of("Total Observed scale gencov", said) == pytest.approx(
        jackknife_error(both.line.deleted_slope)[0], abs=2e-4
    )
    assert estimate_of("Total Observed scale h2", said) == pytest.approx(
        both.first.heritability[0], abs=2e-4
    )
    assert error_of("Total Observed scale h2", said) == pytest.approx(
        both.first.heritability_error[0], abs=2e-4
    )


def write_sumstats(path, z, n, swapped):
    one, other = np.where(swapped, "G", "A"), np.where(swapped, "A", "G")
    values = np.where(swapped, -z, z)
    rows = zip(range(len(z)), one, other, values, strict=True)
    lines = [f"rs{j}\t{a}\t{b}\t{v:.6f}\t{n:.1f}\n" for j, a, b, v in rows]
    path.write_text("SNP\tA1\tA2\tZ\tN\n" + "".join(lines))


def ldsc(folder, *words):
    command = [*shlex.split(LDSC), *words, "--ref-ld-chr", "ld/", "--w-ld-chr", "ld/",
               "--out", "found"]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "found.log").read_text()


def estimate_of(what, said):
    """First number after a name."""
    return float(re.search(rf"^{re.escape(what)}: (-?[0-9.]+)", said, re.MULTILINE)[1])


def error_of(what, said):
    """The number in brackets after it."""
    return float(re.search(rf"^{re.escape(what)}: \S+ \(([0-9.]+)\)", said, re.MULTILINE)[1])

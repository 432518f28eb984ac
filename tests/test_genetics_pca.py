"""Principal components and pruning: against dense algebra, plain loops and PLINK itself."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from imgwas_cli.main import run

import imgwas
from imgwas.errors import DegenerateError, MalformedError, UsageError
from imgwas.genetics.component_files import read_loadings, write_components
from imgwas.genetics.definition import MHC
from imgwas.genetics.genes import genes_for
from imgwas.genetics.pruning import LONG_RANGE_LD, outside_long_range_ld
from imgwas.genotypes import ArrayGenotypes
from tests.data import data_file
from tests.filesets import random_dosage, write_fileset

plink = shutil.which("plink1.9") or shutil.which("plink")
plink2 = shutil.which("plink2")
SETS = {
    "hapmap3": "hapmap3/hapmap3.bed", "plinkqc": "plinkqc/data.bed",
    "maize": "maize/maize.bed", "wheat": "wheat/wheat.bed",
}  # fmt: skip
LOOSE = {"min_maf": 0.05, "max_missing": 0.1, "pruning": None}


def structured(m=400, n=90, groups=4, seed=3, missing=0.03):
    """Hard calls of people from several populations."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.15, 0.85, (m, 1))
    apart = np.array([0.32, 0.25, 0.19, 0.14])[:groups]
    frequency = np.clip(base + apart * rng.standard_normal((m, groups)), 0.02, 0.98)
    dosage = rng.binomial(2, frequency[:, np.arange(n) % groups]).astype(float)
    dosage[rng.random(dosage.shape) < missing] = np.nan
    return dosage


def dense_components(dosage, n):
    """Eigenvectors of the whole matrix; missing calls at the mean."""
    p = np.nanmean(dosage, axis=1, keepdims=True) / 2
    x = np.where(np.isnan(dosage), 0, (dosage - 2 * p) / np.sqrt(2 * p * (1 - p)))
    _, size, right = np.linalg.svd(x, full_matrices=False)
    values = size**2 / len(x)
    return values[:n], right[:n].T, values[:n] / values.sum(), x


def common(dosage):
    p = np.nanmean(dosage, axis=1) / 2
    return (np.minimum(p, 1 - p) >= 0.05) & (np.isnan(dosage).mean(axis=1) <= 0.1)


def same_up_to_sign(one, two, atol):
    sign = np.sign((one * two).sum(axis=0))
    np.testing.assert_allclose(one, two * sign, atol=atol)


def test_components_are_those_of_dense_algebra(tmp_path):
    dosage = structured()
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage))
    found = imgwas.genotype_components(genotypes, 3, tolerance=1e-5, **LOOSE)
    values, vectors, share, _ = dense_components(dosage[common(dosage)], 3)
    assert 50 < common(dosage).sum() < 400
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-5)
    np.testing.assert_allclose(found.share, share, rtol=1e-5)
    same_up_to_sign(found.values, vectors, atol=2e-5)
    assert found.residuals.max() <= 1e-5
    assert found.names == ("PC1", "PC2", "PC3")


def test_residuals_are_what_they_say(tmp_path):
    """At a loose tolerance the vectors are off, and by as much as is reported."""
    dosage = structured(m=1500, n=150, missing=0)
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage))
    found = imgwas.genotype_components(genotypes, 12, tolerance=0.1, **LOOSE)
    x = dense_components(dosage[common(dosage)], 1)[3]
    rest = x.T @ (x @ found.values) / len(x) - found.values * found.eigenvalues
    np.testing.assert_allclose(
        np.linalg.norm(rest, axis=0) / found.eigenvalues, found.residuals, atol=1e-5
    )
    assert found.residuals.max() > 1e-3


def test_too_few_passes_are_a_warning(tmp_path, caplog):
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, structured(m=500, n=200)))
    imgwas.genotype_components(genotypes, 5, max_passes=1, tolerance=1e-9, **LOOSE)
    assert "after 1 passes the residual of PC1, PC2" in caplog.text


def test_people_and_threads_and_seeds(tmp_path):
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, structured()))
    first = imgwas.genotype_components(genotypes, 3, threads=1, **LOOSE)
    again = imgwas.genotype_components(genotypes, 3, threads=3, **LOOSE)
    other = imgwas.genotype_components(genotypes, 3, seed=9, **LOOSE)
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)
    np.testing.assert_allclose(first.values, other.values, atol=2e-3)
    few = imgwas.genotype_components(genotypes, 2, columns=np.arange(7, 60), **LOOSE)
    assert few.sample_ids == genotypes.samples.sample_ids[7:60]
    expected = structured()[:, 7:60]
    vectors = dense_components(expected[common(expected)], 2)[1]
    same_up_to_sign(few.values, vectors, atol=1e-3)


def test_people_left_out_of_the_fit_are_projected(tmp_path):
    """By the fitted people's frequencies and loadings, missing calls at their mean."""
    dosage = structured(n=120)
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage))
    fit = np.arange(0, 120, 2)
    found = imgwas.genotype_components(genotypes, 3, fit=fit, tolerance=1e-5, **LOOSE)
    assert found.is_fitted.tolist() == [i % 2 == 0 for i in range(120)]
    good = common(dosage[:, fit])
    p = np.nanmean(dosage[good][:, fit], axis=1, keepdims=True) / 2
    x = np.where(np.isnan(dosage[good]), 0, (dosage[good] - 2 * p) / np.sqrt(2 * p * (1 - p)))
    values, vectors, _, _ = dense_components(dosage[good][:, fit], 3)
    w = x[:, fit] @ vectors / (len(x) * values)
    same_up_to_sign(found.values, x.T @ w, atol=1e-4)
    np.testing.assert_allclose((found.values[fit] ** 2).sum(axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("effect_allele", ["a1", "a2"])
def test_loadings_place_other_people(tmp_path, effect_allele):
    """Also where the other file counts the other allele and lacks some variants."""
    dosage = structured(n=100)
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage, name="one"))
    found = imgwas.genotype_components(genotypes, 3, tolerance=1e-5, **LOOSE)
    write_components(found, tmp_path / "pcs.tsv")
    other = imgwas.open_genotypes(tmp_path / "one", effect_allele=effect_allele)
    loadings = read_loadings(tmp_path / "pcs.loadings.tsv.gz")
    same = imgwas.project_components(loadings, other)
    np.testing.assert_allclose(same.values, found.values, atol=1e-5)
    fewer = imgwas.project_components(
        loadings, imgwas.open_genotypes(write_fileset(tmp_path, dosage[:200], name="two"))
    )
    for k in range(3):
        assert np.corrcoef(fewer.values[:, k], found.values[:, k])[0, 1] > 0.8
    assert abs(fewer.values.mean(axis=0)).max() < 0.01  # centred on the variants that are there


def test_loadings_of_another_kind_are_refused(tmp_path):
    (tmp_path / "x.tsv").write_text("variant_id\tweight\nrs1\t1\n")
    with pytest.raises(MalformedError, match=r"no column chromosome.*imgwas pca"):
        read_loadings(tmp_path / "x.tsv")


def test_only_autosomes_are_used(tmp_path):
    dosage = structured()
    names = ["1"] * 300 + ["X"] * 50 + ["Y"] * 20 + ["MT"] * 10 + ["XY"] * 20
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage, chromosome=names))
    found = imgwas.genotype_components(genotypes, 2, **LOOSE)
    assert set(found.loadings.variants["chromosome"]) == {"1"}
    assert len(found.loadings.variants) == common(dosage[:300]).sum()


def test_what_cannot_be_done_is_refused(tmp_path):
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, structured(n=30)))
    with pytest.raises(UsageError, match="30 components of 30 people"):
        imgwas.genotype_components(genotypes, 30, **LOOSE)
    with pytest.raises(UsageError, match="min_maf is"):
        imgwas.genotype_components(genotypes, 2, min_maf=0.7)
    twins = np.repeat(structured(n=3, groups=3, missing=0), 20, axis=1)
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, twins, name="twins"))
    assert imgwas.genotype_components(genotypes, 2, **LOOSE).share.sum() == pytest.approx(1)
    with pytest.raises(DegenerateError, match="fewer than 3 dimensions"):
        imgwas.genotype_components(genotypes, 3, **LOOSE)


@pytest.mark.skipif(plink2 is None or plink is None, reason="plink1.9 and plink2 are not here")
@pytest.mark.parametrize("program", [plink, pytest.param(plink2, marks=pytest.mark.slow)])
def test_components_are_those_of_plink(tmp_path, program):
    """PLINK divides by the variants two people share, which moves eigenvalues by 0.3 %."""
    bed = data_file(SETS["hapmap3"])
    subprocess.run(
        [program, "--bfile", str(bed.with_suffix("")), "--autosome", "--allow-no-sex", "--maf",
         "0.01", "--geno", "0.02", "--pca", "8", "--threads", "1", "--out", str(tmp_path / "p")],
        check=True, capture_output=True,
    )  # fmt: skip
    found = imgwas.genotype_components(imgwas.open_genotypes(bed), 8, pruning=None, tolerance=1e-4)
    lines = (tmp_path / "p.eigenvec").read_text().splitlines()
    rows = [line.split()[2:] for line in lines if not line.startswith("#")]
    theirs = np.array(rows, float)
    assert theirs.shape == found.values.shape
    for k in range(8):
        assert abs(np.corrcoef(theirs[:, k], found.values[:, k])[0, 1]) > 0.9998
    values = np.loadtxt(tmp_path / "p.eigenval")
    np.testing.assert_allclose(found.eigenvalues, values, rtol=5e-3)


# --- pruning ------------------------------------------------------------------------------------


def prune_by_hand(dosage, position, pruning):
    """PLINK's rounds, every r² by a loop over people with both calls."""

    def r2(i, j):
        both = np.isfinite(dosage[i]) & np.isfinite(dosage[j])
        return np.corrcoef(dosage[i, both], dosage[j, both])[0, 1] ** 2

    p = np.nanmean(dosage, axis=1) / 2
    maf = np.minimum(p, 1 - p)
    alive = {i for i in range(len(dosage)) if len(set(dosage[i, np.isfinite(dosage[i])])) > 1}
    for start in range(0, len(dosage), pruning.step):
        if pruning.unit == "kb":
            window = [i for i in range(start, len(dosage))
                      if position[i] <= position[start] + 1000 * pruning.window]  # fmt: skip
        else:
            window = list(range(start, min(len(dosage), start + int(pruning.window))))
        again = True
        while again:
            again = False
            for i in window:
                later = [j for j in window if j > i and j in alive]
                pair = next((j for j in later if i in alive and r2(i, j) > pruning.r2), None)
                if pair is not None:
                    alive.discard(i if maf[i] < maf[pair] else pair)
                    again = True
    return sorted(alive)


@pytest.mark.parametrize(
    "pruning",
    [imgwas.LdPruning(10, 3, 0.1, "variants"), imgwas.LdPruning(25, 25, 0.3, "variants"),
     imgwas.LdPruning(1, 1, 0.05, "kb")],
    ids=str,
)  # fmt: skip
def test_pruning_follows_the_rule(tmp_path, monkeypatch, pruning):
    monkeypatch.setattr("imgwas.genetics.pruning._TOGETHER", 16)
    rng = np.random.default_rng(7)
    dosage = random_dosage(60, 50, missing=0.05)
    for i in range(1, 60):  # copies of the variant before, some calls changed
        changed = rng.random(50) < rng.choice([0.2, 0.5, 1])
        dosage[i] = np.where(changed, dosage[i], dosage[i - 1])
    dosage[11] = 2
    prefix = write_fileset(tmp_path, dosage)
    position = np.arange(60) * 90 + 1
    lines = [f"1\trs{i}\t0\t{at}\tA\tG\n" for i, at in enumerate(position)]
    prefix.with_suffix(".bim").write_text("".join(lines))
    kept = imgwas.prune_variants(imgwas.open_genotypes(prefix), pruning)
    expected = prune_by_hand(dosage, position, pruning)
    assert 3 < len(expected) < 50
    assert kept.tolist() == expected


@pytest.mark.skipif(plink is None, reason="plink1.9 is not installed here")
@pytest.mark.parametrize(
    ("name", "words"),
    [("hapmap3", "200 50 0.05"), ("plinkqc", "50 5 0.2"), ("plinkqc", "1000kb 1 0.1"),
     ("maize", "200 50 0.05"), ("maize", "1000kb 1 0.1"), ("wheat", "50 5 0.2")],
)  # fmt: skip
def test_pruning_is_that_of_plink(name, words, tmp_path):
    bed = data_file(SETS[name])
    window, step, r2 = words.split()
    kb = ["kb"] if window.endswith("kb") else []
    subprocess.run(
        [plink, "--bfile", str(bed.with_suffix("")), "--autosome", "--allow-no-sex",
         "--indep-pairwise", window.removesuffix("kb"), *kb, step, r2, "--out",
         str(tmp_path / "p")],
        check=True, capture_output=True,
    )  # fmt: skip
    genotypes = imgwas.open_genotypes(bed)
    ids = genotypes.variants["variant_id"].to_pylist()
    unit = "kb" if kb else "variants"
    pruning = imgwas.LdPruning(float(window.removesuffix("kb")), int(step), float(r2), unit)
    kept = [ids[i] for i in imgwas.prune_variants(genotypes, pruning)]
    expected = (tmp_path / "p.prune.in").read_text().split()
    assert len(expected) > 100
    assert kept == expected


def test_pruning_refusals(tmp_path):
    with pytest.raises(UsageError, match="the step is 5"):
        imgwas.LdPruning(100, 5, 0.1, "kb")
    constant = imgwas.open_genotypes(
        write_fileset(tmp_path, np.ones((5, 9))), allow_constant_sample=True
    )
    with pytest.raises(DegenerateError, match="none of 5 variants varies"):
        imgwas.prune_variants(constant)
    with pytest.raises(DegenerateError, match="1 people are left"):
        imgwas.prune_variants(constant, columns=np.array([3]))


@pytest.mark.parametrize("build", LONG_RANGE_LD)
def test_long_range_regions(tmp_path, build):
    regions = LONG_RANGE_LD[build]
    assert len(regions) == 19
    assert all(0 < last - first < 20_000_000 for _, first, last in regions)
    rows = [
        (chromosome, at, inside)
        for chromosome, first, last in regions
        for at, inside in ((first - 1, False), (first, True), (last, True), (last + 1, False))
    ]
    prefix = write_fileset(tmp_path, random_dosage(len(rows), 8))
    lines = [f"{c}\trs{i}\t0\t{at}\tA\tG\n" for i, (c, at, _) in enumerate(rows)]
    prefix.with_suffix(".bim").write_text("".join(lines))
    outside = outside_long_range_ld(imgwas.open_genotypes(prefix), build)
    assert outside.tolist() == [not inside for _, _, inside in rows]
    mhc = {"GRCh37": 31_000_000, "GRCh38": 31_000_000}[build]
    assert any(c == "6" and first < mhc < last for c, first, last in regions)


# --- the command --------------------------------------------------------------------------------


def test_command_writes_covariates_that_a_scan_reads(tmp_path, capsys):
    prefix = write_fileset(tmp_path, structured(m=600, missing=0))
    out = tmp_path / "pcs.tsv"
    base = ["pca", "--bfile", str(prefix), "--n", "4", "--out", str(out)]
    assert run([*base, "--indep-pairwise", "20", "5", "0.5"]) == 0
    said = capsys.readouterr().err
    assert "without --genome-build" in said
    assert "variance explained" in said
    table = pd.read_csv(out, sep="\t")
    assert list(table.columns) == ["IID", "PC1", "PC2", "PC3", "PC4"]
    covariates = imgwas.read_covariates(out)
    assert covariates.names == ("PC1", "PC2", "PC3", "PC4")
    np.testing.assert_allclose(covariates.values, table.iloc[:, 1:])
    shares = pd.read_csv(tmp_path / "pcs.eigenvalues.tsv", sep="\t")
    assert shares["variance_explained"].is_monotonic_decreasing
    settings = json.loads((tmp_path / "pcs.json").read_text())
    assert settings["pruning"] == "20 5 0.5"
    again = tmp_path / "again.tsv"
    assert run(["pca", "--bfile", str(prefix), "--project", str(tmp_path /
                "pcs.loadings.tsv.gz"), "--out", str(again)]) == 0  # fmt: skip
    np.testing.assert_allclose(
        pd.read_csv(again, sep="\t").iloc[:, 1:], table.iloc[:, 1:], atol=1e-5
    )
    assert run([*base, "--indep-pairwise", "fifty", "5", "0.5"]) == 8
    assert "Three numbers, such as 1000kb 1 0.1" in capsys.readouterr().err
    assert run(["pca", "--out", str(out)]) == 8


def test_command_with_fitted_people_and_long_range(tmp_path, capsys):
    prefix = write_fileset(tmp_path, structured(m=300))
    lines = [f"6\trs{i}\t0\t{26_000_000 + 100_000 * i}\tA\tG\n" for i in range(300)]
    prefix.with_suffix(".bim").write_text("".join(lines))
    (tmp_path / "fit.txt").write_text("".join(f"p{i}\n" for i in range(60)))
    out = tmp_path / "pcs.tsv"
    command = ["pca", "--bfile", str(prefix), "--n", "2", "--geno", "0.2", "--no-prune", "--fit",
               str(tmp_path / "fit.txt"), "--genome-build", "GRCh37",
               "--out", str(out)]  # fmt: skip
    assert run(command) == 0
    settings = json.loads((tmp_path / "pcs.json").read_text())
    assert (settings["n_fitted"], settings["n_projected"]) == (60, 30)
    assert "74 variants in regions of long-range LD" in capsys.readouterr().err
    assert run([*command, "--keep-long-range"]) == 0
    assert json.loads((tmp_path / "pcs.json").read_text())["n_variants"] > settings["n_variants"]


def test_one_file_a_chromosome_and_arrays(tmp_path):
    """The same components and variants from one file, from two, and from memory."""
    dosage = structured(m=120, n=61)
    names = ["1"] * 70 + ["2"] * 50
    whole = imgwas.open_genotypes(write_fileset(tmp_path, dosage, name="all", chromosome=names))
    for name, rows in (("c1", slice(0, 70)), ("c2", slice(70, 120))):
        write_fileset(tmp_path, dosage[rows], name=name, chromosome=names[rows])
    parts = imgwas.open_genotypes(str(tmp_path / "c{chr}"))
    expected = imgwas.genotype_components(whole, 3, **LOOSE).values
    assert np.array_equal(imgwas.genotype_components(parts, 3, **LOOSE).values, expected)
    arrays = ArrayGenotypes(dosage, whole.variants, whole.samples)
    assert np.array_equal(imgwas.genotype_components(arrays, 3, **LOOSE).values, expected)
    pruning = imgwas.LdPruning(20, 1, 0.1, "variants")
    kept = imgwas.prune_variants(whole, pruning)
    assert 20 < len(kept) < 120
    for other in (parts, arrays):
        assert np.array_equal(imgwas.prune_variants(other, pruning), kept)
    first, second = (imgwas.genotype_quality(g).people for g in (whole, parts))
    pd.testing.assert_frame_equal(first, second)


def test_long_range_regions_and_the_mhc_hold_the_same_genes_in_both_builds():
    """Genes are placed on each build by itself, so an interval that was moved wrongly shows."""
    places = [genes_for(None, build) for build in ("GRCh37", "GRCh38")]
    common = set(places[0].name) & set(places[1].name)

    def inside(genes, chromosome, first, last):
        here = (genes.start <= last) & (genes.end >= first)
        here &= np.array(genes.chromosome) == chromosome
        return {genes.name[i] for i in np.flatnonzero(here)} & common

    pairs = list(zip(*(LONG_RANGE_LD[genes.build] for genes in places), strict=True))
    pairs.append(tuple(("6", *MHC[genes.build]) for genes in places))
    for before, after in pairs:
        assert inside(places[0], *before) == inside(places[1], *after), (before, after)
        assert inside(places[0], *before)

"""Public files that lie in ``tests/public``: dosages, frequencies and a scan against PLINK 2."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import MalformedError
from imgwas.genotypes import VariantFilters
from imgwas.types import Latents
from tests.formats_cohort import needs_plink2, plink2

HERE = Path(__file__).parent / "public"

pytestmark = needs_plink2


def copied(folder, *names):
    """Copy public files, so that what is unpacked does not lie among them."""
    for name in names:
        shutil.copy(HERE / name, folder / name)
    return folder / names[0]


def pfile(folder, name):
    return copied(folder, *(f"{name}.{end}" for end in ("pgen", "pvar", "psam")))


def frequencies(folder):
    """ALT frequencies that PLINK 2 wrote, one for each alternate allele."""
    table = pd.read_csv(folder / "f.afreq", sep="\t", dtype=str)
    return np.array([float(v) for cell in table["ALT_FREQS"] for v in cell.split(",")])


def test_a_public_pgen_of_dosages_equals_plink2(tmp_path):
    """Dosages and missing ones as PLINK 2 exports them and as in the VCF it was made from."""
    ours = imgwas.open_genotypes(pfile(tmp_path, "genoray_biallelic"))
    plink2(tmp_path, "--pfile", "genoray_biallelic", "--freq", "--out", "f")
    plink2(tmp_path, "--pfile", "genoray_biallelic", "--export", "A-transpose", "--out", "e")
    found = ours.read_dosages(np.arange(3))
    table = pd.read_csv(tmp_path / "e.traw", sep="\t")
    sign = np.where(table["COUNTED"] == np.array(ours.variants["effect_allele"]), 1.0, -1.0)
    theirs = table.iloc[:, 6:].to_numpy(float)
    theirs = np.where(sign[:, None] > 0, theirs, 2 - theirs)
    np.testing.assert_allclose(found, theirs, atol=1e-4)
    np.testing.assert_allclose(found, [[1, 2], [np.nan, 1], [0.9, np.nan]], atol=1e-4)
    np.testing.assert_allclose(np.nanmean(found, axis=1) / 2, frequencies(tmp_path), atol=1e-4)
    assert ours.samples.sample_ids == ("sample1", "sample2")


def test_a_public_pgen_of_three_alleles_equals_plink2(tmp_path):
    """Each alternate allele has a row, with the frequency that PLINK 2 gives it."""
    path = pfile(tmp_path, "genoray_multiallelic")
    plink2(tmp_path, "--pfile", "genoray_multiallelic", "--freq", "--out", "f")
    ours = imgwas.open_genotypes(path, multiallelic="split")
    found = ours.read_dosages(np.arange(3))
    np.testing.assert_allclose(found, [[1, 2], [np.nan, 0], [np.nan, 1]])
    np.testing.assert_allclose(np.nanmean(found, axis=1) / 2, frequencies(tmp_path), atol=1e-6)
    assert ours.variants["effect_allele"].to_pylist() == ["A", "A", "C"]
    copied(tmp_path, "genoray_multiallelic.vcf")
    vcf = tmp_path / "genoray_multiallelic.vcf"
    with pytest.raises(MalformedError, match="ends within a line"):  # no last line break
        imgwas.open_genotypes(vcf)
    vcf.write_text(vcf.read_text() + "\n")
    text = imgwas.open_genotypes(vcf, multiallelic="split")
    np.testing.assert_array_equal(text.read_dosages(np.arange(3)), found)


@pytest.fixture(scope="module")
def chr22(tmp_path_factory):
    """The VCF as PLINK 2 reads it, a trait, and what its regression and counts say."""
    folder = tmp_path_factory.mktemp("chr22")
    path = copied(folder, "vcztools_chr22.vcf.gz")
    plink2(folder, "--vcf", path.name, "--max-alleles", "2", "--make-pgen", "--out", "p")
    plink2(folder, "--pfile", "p", "--make-bed", "--out", "p")
    ids = imgwas.open_genotypes(folder / "p.bed").samples.sample_ids
    trait = np.random.default_rng(3).standard_normal(len(ids))
    rows = "".join(f"{one}\t{value:.17g}\n" for one, value in zip(ids, trait, strict=True))
    (folder / "trait.txt").write_text("#IID\tt0\n" + rows)
    glm = ["--glm", "allow-no-covars", "omit-ref", "--pheno", "trait.txt", "--mac", "1"]
    plink2(folder, "--pfile", "p", *glm, "--out", "glm")
    plink2(folder, "--pfile", "p", "--freq", "--geno-counts", "--out", "f")
    return folder, Latents(trait[:, None], ids, ("t0",))


@pytest.mark.slow
def test_a_public_vcf_is_read_and_scanned_as_by_plink2(chr22, tmp_path):
    """Every call, frequency and t of a trait; 4 variants have more than two alleles."""
    folder, latents = chr22
    ours = imgwas.open_genotypes(folder / "vcztools_chr22.vcf.gz", multiallelic="skip")
    bed = imgwas.open_genotypes(folder / "p.bed")
    rows = np.arange(bed.n_variants)
    found = ours.read_dosages(rows)
    np.testing.assert_array_equal(found, bed.read_dosages(rows))
    freq = pd.read_csv(folder / "f.afreq", sep="\t")
    assert freq["OBS_CT"].tolist() == (2 * np.isfinite(found).sum(axis=1)).tolist()
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(np.nanmean(found, axis=1) / 2, freq["ALT_FREQS"], atol=1e-6)
    results = imgwas.associate(
        ours,
        latents,
        out=tmp_path / "out",
        threads=1,
        filters=VariantFilters(mac=1),
        missing_genotype="drop",
    )
    table = results.latent("t0")
    glm = pd.read_csv(folder / "glm.t0.glm.linear", sep="\t").dropna(subset=["T_STAT"])
    keys = ["base_pair_location", "effect_allele"]
    merged = glm.merge(table, left_on=["POS", "A1"], right_on=keys)
    assert len(merged) == len(glm) > 10
    t = merged["beta"] / merged["standard_error"]
    np.testing.assert_allclose(t, merged["T_STAT"], rtol=1e-4, atol=1e-4)

"""Men who are heterozygous on X or Y: counted, and set missing as PLINK 1.9 does it."""

from __future__ import annotations

import logging
import shutil
import subprocess

import numpy as np
import pytest

import imgwas
from imgwas.association.selfcheck import check_scan
from imgwas.types import Latents
from tests.filesets import random_dosage, write_fileset

plink = shutil.which("plink1.9") or shutil.which("plink")

N = 61
CHROMOSOMES = ["1"] * 10 + ["23"] * 12 + ["24"] * 8 + ["25"] * 6 + ["26"] * 4


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Autosome, X, its ends, Y and mitochondria; men with calls of all three kinds everywhere."""
    folder = tmp_path_factory.mktemp("men")
    sex = np.random.default_rng(2).choice([0, 1, 2], N, p=[0.1, 0.5, 0.4])
    dosage = random_dosage(len(CHROMOSOMES), N, seed=3)
    prefix = write_fileset(
        folder, dosage, name="men", chromosome=CHROMOSOMES, sex=[str(one) for one in sex]
    )
    latents = Latents(
        np.random.default_rng(4).standard_normal((N, 2)), tuple(f"p{i}" for i in range(N)),
        ("z0", "z1"),
    )  # fmt: skip
    return prefix, latents, dosage, sex


def scan(prefix, latents, out, **options):
    return imgwas.associate(
        imgwas.open_genotypes(prefix), latents, out=out, threads=1, part_size=25, **options
    )


def expected(dosage, sex, people=None) -> int:
    men = (sex == 1) if people is None else (sex == 1) & people
    rows = [i for i, name in enumerate(CHROMOSOMES) if name in ("23", "24")]
    return int((dosage[rows][:, men] == 1).sum())


def test_they_are_counted_and_said(cohort, tmp_path, caplog):
    prefix, latents, dosage, sex = cohort
    with caplog.at_level(logging.WARNING, "imgwas"):
        scan(prefix, latents, tmp_path / "out")
    n = expected(dosage, sex)
    assert n > 100
    assert f"{n} calls of men on X and Y are heterozygous: counted as one copy" in caplog.text
    some = Latents(latents.values[:40], latents.sample_ids[:40], latents.names)
    first = np.arange(N) < 40
    scan(prefix, some, tmp_path / "some", set_hh_missing=True)
    assert '"male_heterozygotes":' in (tmp_path / "some/RUN_COMPLETE.json").read_text()
    assert f"{expected(dosage, sex, first)} calls of men" in caplog.text
    assert "taken for missing" in caplog.text


@pytest.mark.skipif(plink is None, reason="plink1.9 is not installed here")
@pytest.mark.parametrize("missing", ["mean", pytest.param("drop", marks=pytest.mark.slow)])
def test_set_missing_as_plink_does(cohort, tmp_path, missing, caplog):
    """The same statistics as of the file from which PLINK 1.9 took these calls."""
    prefix, latents, *_ = cohort
    without = np.array([i for i, name in enumerate(CHROMOSOMES) if name != "26"])
    keep = "".join(f"rs{i}\n" for i in without)
    (tmp_path / "keep.txt").write_text(keep)  # PLINK takes those of mitochondria too
    subprocess.run(
        [plink, "--bfile", prefix, "--extract", "keep.txt", "--set-hh-missing", "--make-bed",
         "--keep-allele-order", "--out", "plink"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    theirs = scan(tmp_path / "plink", latents, tmp_path / "a", missing_genotype=missing)
    ours = scan(prefix, latents, tmp_path / "b", missing_genotype=missing, set_hh_missing=True)
    assert "heterozygous" in caplog.text
    for name in latents.names:
        one, other = ours.latent(name), theirs.latent(name)
        one = one.iloc[without].reset_index(drop=True)
        assert one["reason"].tolist() == other["reason"].tolist()
        for column in ("n", "beta", "standard_error", "effect_allele_frequency"):
            found, correct = one[column].to_numpy(float), other[column].to_numpy(float)
            np.testing.assert_allclose(found, correct, rtol=1e-6)
    plain = scan(prefix, latents, tmp_path / "c", missing_genotype=missing)
    changed = plain.latent("z0")["beta"] != ours.latent("z0")["beta"]
    assert changed.to_numpy()[10:30].mean() > 0.8


def test_nothing_is_said_and_nothing_changes_where_there_are_none(cohort, tmp_path, caplog):
    """The flag is part of the settings only where it is given."""
    _, latents, *_ = cohort
    rows = write_fileset(tmp_path, random_dosage(12, N, seed=1), name="plain")
    with caplog.at_level(logging.WARNING, "imgwas"):
        scan(rows, latents, tmp_path / "a")
        scan(rows, latents, tmp_path / "b", set_hh_missing=True)
    assert "heterozygous" not in caplog.text
    assert "male_heterozygotes" not in (tmp_path / "a/RUN_COMPLETE.json").read_text()
    assert "set_hh_missing" not in (tmp_path / "a/run.json").read_text()
    assert "set_hh_missing" in (tmp_path / "b/run.json").read_text()
    with pytest.raises(imgwas.errors.InconsistentError, match="set_hh_missing"):
        scan(rows, latents, tmp_path / "a", set_hh_missing=True)


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_the_check_of_a_scan_leaves_out_the_same_calls(cohort, tmp_path, missing):
    prefix, latents, *_ = cohort
    options = {"missing_genotype": missing, "set_hh_missing": True}
    found = scan(prefix, latents, tmp_path / "out", **options)
    table = check_scan(found, imgwas.open_genotypes(prefix), latents, pairs=60)
    assert table["difference"].max() < 1e-4

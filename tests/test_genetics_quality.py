"""Missing calls, heterozygosity and sex: published PLINK tables, and plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from imgwas_cli.main import run

import imgwas
from imgwas.errors import UsageError
from tests.data import data_file
from tests.filesets import random_dosage, write_fileset


def published(suffix):
    """Rows of one of PLINK's tables."""
    lines = [line.split() for line in data_file(f"plinkqc/data{suffix}").read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def digits(value):
    """Four significant digits, as PLINK prints."""
    return f"{value:.4g}"


@pytest.fixture(scope="module")
def example():
    """The 180 of 200 people whose tables were published."""
    genotypes = imgwas.open_genotypes(data_file("plinkqc/data.bed"))
    wanted = {row["IID"] for row in published(".imiss")}
    ids = genotypes.samples.sample_ids
    columns = np.array([i for i, one in enumerate(ids) if one in wanted])
    return imgwas.genotype_quality(genotypes, columns=columns)


def test_missing_calls_of_people_are_those_published(example):
    expected = published(".imiss")
    assert len(expected) == 180
    for row, found in zip(expected, example.people.to_dict("records"), strict=True):
        assert row["IID"] == found["IID"]
        assert row["N_MISS"] == str(found["n_missing"])
        assert row["N_GENO"] == str(found["n_genotyped"])
        assert row["F_MISS"] == digits(found["missing_rate"])


def test_missing_calls_of_variants_are_those_published(example):
    expected = published(".lmiss")
    assert len(expected) == 10_000
    found = example.variants
    assert [row["SNP"] for row in expected] == found["variant_id"].tolist()
    assert [row["N_MISS"] for row in expected] == found["n_missing"].astype(str).tolist()
    assert [row["N_GENO"] for row in expected] == found["n_genotyped"].astype(str).tolist()
    assert [row["F_MISS"] for row in expected] == found["missing_rate"].map(digits).tolist()


def test_heterozygosity_is_that_published(example):
    for row, found in zip(published(".het"), example.people.to_dict("records"), strict=True):
        assert row["IID"] == found["IID"]
        assert row["O(HOM)"] == str(found["n_homozygous"])
        assert row["E(HOM)"] == digits(found["expected_homozygous"])
        assert row["N(NM)"] == str(found["n_called"])
        assert row["F"] == digits(found["f"])


def test_sex_is_that_published(example):
    expected = published(".sexcheck")
    assert sum(row["STATUS"] == "PROBLEM" for row in expected) == 7
    for row, found in zip(expected, example.people.to_dict("records"), strict=True):
        assert row["PEDSEX"] == str(found["sex"])
        assert row["SNPSEX"] == str(found["sex_by_x"])
        assert row["STATUS"] == found["sex_status"]
        assert row["F"] == digits(found["x_f"])


def by_hand(dosage, on_x, male, founder):
    """F of each person by loops over calls."""
    observed, expected, called = (np.zeros(dosage.shape[1]) for _ in range(3))
    for row in dosage:
        copies = total = 0.0
        for person in np.flatnonzero(founder & np.isfinite(row)):
            if on_x and male[person]:
                copies += {0: 0, 2: 1}.get(row[person], 0)
                total += row[person] != 1
            else:
                copies, total = copies + row[person], total + 2
        p = copies / total
        if not 0 < p < 1:
            continue
        for person in np.flatnonzero(np.isfinite(row)):
            called[person] += 1
            observed[person] += row[person] != 1
            expected[person] += 1 - 2 * p * (1 - p)
    return observed, expected, (observed - expected) / (called - expected)


def test_against_loops(tmp_path, monkeypatch):
    """Nonfounders, men with heterozygous calls on X, a constant variant, several blocks."""
    monkeypatch.setattr("imgwas.genetics.quality._BLOCK_VALUES", 41 * 7)
    names = ["1"] * 40 + ["X"] * 30 + ["Y"] * 6 + ["MT"] * 3 + ["XY"] * 5
    dosage = random_dosage(84, 41, missing=0.1)
    dosage[3] = 0
    sex = (["1", "2", "0"] * 14)[:41]
    father = ["0"] * 33 + ["p1"] * 8
    prefix = write_fileset(tmp_path, dosage, chromosome=names, sex=sex, father=father)
    found = imgwas.genotype_quality(imgwas.open_genotypes(prefix))
    male, founder = np.array(sex) == "1", np.array(father) == "0"
    observed, expected, f = by_hand(dosage[:40], False, male, founder)
    np.testing.assert_array_equal(found.people["n_homozygous"], observed)
    np.testing.assert_allclose(found.people["expected_homozygous"], expected, rtol=1e-12)
    np.testing.assert_allclose(found.people["f"], f, rtol=1e-10)
    np.testing.assert_allclose(
        found.people["x_f"], by_hand(dosage[40:70], True, male, founder)[2], rtol=1e-10
    )
    on_y = np.array(names) == "Y"
    missing = np.isnan(dosage)
    people = missing[~on_y].sum(axis=0) + np.where(male, missing[on_y].sum(axis=0), 0)
    np.testing.assert_array_equal(found.people["n_missing"], people)
    np.testing.assert_array_equal(found.people["n_genotyped"], np.where(male, 84, 78))
    variants = np.where(on_y, missing[:, male].sum(axis=1), missing.sum(axis=1))
    np.testing.assert_array_equal(found.variants["n_missing"], variants)
    np.testing.assert_allclose(
        found.variants["effect_allele_frequency"][:40],
        np.nanmean(dosage[:40][:, founder], axis=1) / 2,
    )
    everyone = imgwas.genotype_quality(imgwas.open_genotypes(prefix), nonfounders=True)
    assert not np.allclose(everyone.people["f"], found.people["f"])


def test_hardy_weinberg_is_that_of_the_filter(tmp_path):
    dosage = random_dosage(30, 80)
    dosage[5] = np.where(np.arange(80) % 2 == 0, 0, 2)  # no heterozygote
    names = ["1"] * 20 + ["X"] * 5 + ["MT"] * 5
    sex = ["1", "2"] * 40
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage, chromosome=names, sex=sex))
    p = imgwas.genotype_quality(genotypes).variants["hardy_weinberg_p"].to_numpy()
    assert p[5] < 1e-15
    assert np.isnan(p[25:]).all()
    from imgwas.genotypes import hardy_weinberg_p_value

    women = dosage[20:25, 1::2]
    for row, value in zip(women, p[20:25], strict=True):
        counts = [np.array([(row == k).sum()]) for k in (2, 1, 0)]
        assert value == hardy_weinberg_p_value(*counts)[0]


def test_without_x_nothing_is_said_of_sex(tmp_path, capsys):
    prefix = write_fileset(tmp_path, random_dosage(20, 12))
    out = tmp_path / "qc"
    assert run(["quality", "--bfile", str(prefix), "--out", str(out)]) == 0
    assert "no chromosome X" in capsys.readouterr().err
    people = pd.read_csv(out / "people.tsv", sep="\t", keep_default_na=False)
    assert set(people["sex_status"]) == {""}
    assert len(pd.read_csv(out / "variants.tsv", sep="\t")) == 20


def test_command_on_the_example(tmp_path, capsys):
    bed = data_file("plinkqc/data.bed")
    (tmp_path / "keep.txt").write_text(
        "".join(f"{row['FID']} {row['IID']}\n" for row in published(".imiss"))
    )
    out = tmp_path / "qc"
    assert run(["quality", "--bfile", str(bed.with_suffix("")), "--keep",
                str(tmp_path / "keep.txt"), "--out", str(out)]) == 0  # fmt: skip
    assert "cannot tell, for 7 people" in capsys.readouterr().err
    assert len(pd.read_csv(out / "people.tsv", sep="\t")) == 180
    assert run(["quality", "--out", str(out)]) == 8


def test_limits_that_cross_are_refused(tmp_path):
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, random_dosage(5, 8)))
    with pytest.raises(UsageError, match="limit of women is the lower one"):
        imgwas.genotype_quality(genotypes, max_female_f=0.9)

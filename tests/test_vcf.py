"""VCF files: unpacked once, refused in words, and read as a loop over the text reads them."""

from __future__ import annotations

import gzip
import json
import shutil

import numpy as np
import pytest

import imgwas
from imgwas.errors import (
    DecompressError,
    InconsistentError,
    MalformedError,
    OpenError,
    UsageError,
)
from imgwas.genotypes.vcf import check_whole
from imgwas.genotypes.vcf_unpack import unpack_vcf

HEAD = """##fileformat=VCFv4.2
##contig=<ID=1>
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=DS,Number=A,Type=Float,Description="x">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tp0\tp1\tp2\tp3
"""
CALLS = (
    "1\t7\trs7\tG\tA\t.\t.\t.\tGT\t0/1\t1|1\t1\t./1\n"
    "1\t9\t.\tT\tTC\t.\t.\t.\tGT\t./.\t0/0\t0\t1/1\n"
)
DOSES = "1\t7\trs7\tG\tA\t.\t.\t.\tGT:DS\t0/1:0.9\t1|1:2\t1:0.75\t./.:.\n"
MANY = "1\t8\trs8\tG\tA,T\t.\t.\t.\tGT\t0/1\t1/2\t2/2\t0/2\n"


def here(*arguments):
    """Unpack in this process."""
    return unpack_vcf(*arguments[:4])


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """Spare most tests the process of its own."""
    if "child" not in request.node.name:
        monkeypatch.setattr("imgwas.genotypes.vcf._in_a_child", here)


def vcf(folder, text, name="a.vcf"):
    path = folder / name
    path.write_text(HEAD + text)
    return path


def read(path, **options):
    genotypes = imgwas.open_genotypes(path, **options)
    return genotypes.read_dosages(np.arange(genotypes.n_variants))


def test_calls_haploid_and_half_missing(tmp_path, caplog):
    """A haploid person's allele counts twice; a half-missing call is missing."""
    caplog.set_level("INFO")
    path = vcf(tmp_path, CALLS)
    expected = [[1, 2, 2, np.nan], [np.nan, 0, 0, 2]]
    np.testing.assert_array_equal(read(path), expected)
    assert "half-missing calls: 1" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(read(path, effect_allele="a2"), 2 - np.array(expected))
    assert "unpacking" not in caplog.text  # the folder beside the file is used
    assert imgwas.open_genotypes(path).variants["variant_id"].to_pylist() == ["rs7", "."]


def test_dosages_and_a_variant_without(tmp_path):
    """Dosages of haploid people count twice; a variant without DS gives its calls."""
    found = read(vcf(tmp_path, DOSES + CALLS))
    expected = [[0.9, 2, 1.5, np.nan], [1, 2, 2, np.nan], [np.nan, 0, 0, 2]]
    np.testing.assert_allclose(found, expected, atol=0.51 / 16384)


def test_more_alleles(tmp_path):
    path = vcf(tmp_path, MANY + CALLS)
    with pytest.raises(UsageError, match=r"variant 1 .*1:8, has 3 alleles.*--multiallelic skip"):
        read(path)
    assert read(path, multiallelic="skip").shape == (2, 4)
    found = read(path, multiallelic="split")
    np.testing.assert_array_equal(found[:2], [[1, 1, 0, 0], [0, 1, 2, 1]])
    done = json.loads((tmp_path / "a.vcf.imgwas" / "unpacked.json").read_text())
    assert done["found"]["multiallelic"] == 1


def test_a_changed_file_is_unpacked_again(tmp_path):
    path = vcf(tmp_path, CALLS)
    assert read(path).shape == (2, 4)
    vcf(tmp_path, CALLS + CALLS)
    assert read(path).shape == (4, 4)


def test_sexes_come_from_a_psam(tmp_path):
    path = vcf(tmp_path, CALLS)
    people = tmp_path / "people.psam"
    people.write_text("#IID\tSEX\n" + "".join(f"p{i}\t{1 + i % 2}\n" for i in range(4)))
    assert imgwas.open_genotypes(path, psam=people).samples.sex.tolist() == [1, 2, 1, 2]
    people.write_text("#IID\tSEX\n" + "".join(f"p{i}\t1\n" for i in (1, 0, 2, 3)))
    with pytest.raises(InconsistentError, match="does not hold the 4 people"):
        imgwas.open_genotypes(path, psam=people)


def test_a_cache_elsewhere(tmp_path):
    (tmp_path / "cache").mkdir()
    read(vcf(tmp_path, CALLS), cache=tmp_path / "cache" / "a")
    assert (tmp_path / "cache" / "a" / "genotypes.bed").exists()
    assert not (tmp_path / "a.vcf.imgwas").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DOSES.replace("0.9", "2.9"), "the dosage 2.9"),
        (CALLS.replace("0/1", "0/1/1"), "3 chromosomes"),
        (CALLS + "1\t9\t.\tT\tTC\t.\t.\t.\tGT\t./.\t0/0\t0\n", r"a.vcf:8 has 12 columns.*has 13"),
        (CALLS[:-3], "ends within a line"),
        (DOSES.replace("0.9", "0.\0009"), r"a.vcf:\d+ has a zero byte"),
        ("", "no variant"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    with pytest.raises((MalformedError, imgwas.errors.DegenerateError), match=words):
        read(vcf(tmp_path, text))
    assert not list(tmp_path.glob(".a.vcf*"))


def test_files_that_are_cut_short_or_something_else(tmp_path):
    path = tmp_path / "a.vcf.gz"
    whole = gzip.compress((HEAD + CALLS).encode())
    path.write_bytes(whole)
    assert read(path).shape == (2, 4)
    path.write_bytes(whole[:-20])
    with pytest.raises(DecompressError, match="does not unpack to its end"):
        check_whole(path)
    path.write_bytes(whole[:12] + b"BC" + whole[14:])
    with pytest.raises(MalformedError, match="no BGZF end marker"):
        check_whole(path)
    path.write_bytes(b"<html>")
    with pytest.raises(MalformedError, match="HTML"):
        read(path)
    with pytest.raises(OpenError, match="not found"):
        read(tmp_path / "b.vcf.gz")


def test_a_folder_that_was_unpacked_and_damaged(tmp_path):
    path = vcf(tmp_path, DOSES)
    genotypes = imgwas.open_genotypes(path)
    stored = tmp_path / "a.vcf.imgwas" / "genotypes.dosage"
    content = bytearray(stored.read_bytes())
    content[4] ^= 0xFF
    stored.write_bytes(content)
    with pytest.raises(DecompressError, match=r"variant 1 of .*genotypes.dosage, at byte 0"):
        genotypes.read_dosages(np.arange(1))
    stored.write_bytes(content[:-1])
    with pytest.raises(MalformedError, match="is not whole"):
        imgwas.open_genotypes(path)
    with pytest.raises(InconsistentError, match="changed"):
        genotypes.check_unchanged()


def test_a_child_that_refuses_or_dies_is_an_error_here(tmp_path, monkeypatch):
    assert read(vcf(tmp_path, CALLS)).shape == (2, 4)
    with pytest.raises(UsageError, match="has 3 alleles"):
        read(vcf(tmp_path, MANY))
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with pytest.raises(MalformedError, match=r"its reader ended with code 1.*bcftools"):
        read(vcf(tmp_path, CALLS))


def test_two_tasks_unpack_at_once(tmp_path, monkeypatch):
    """The slower one uses what is there, which the quicker may be reading."""
    path = vcf(tmp_path, CALLS)

    def slowly(source, prefix, *rest):
        if not (tmp_path / "a.vcf.imgwas").exists():
            monkeypatch.setattr("imgwas.genotypes.vcf._in_a_child", here)
            read(source)
            first.append((tmp_path / "a.vcf.imgwas").stat().st_ino)
        return here(source, prefix, *rest)

    first = []
    monkeypatch.setattr("imgwas.genotypes.vcf._in_a_child", slowly)
    np.testing.assert_array_equal(read(path)[1], [np.nan, 0, 0, 2])
    assert first == [(tmp_path / "a.vcf.imgwas").stat().st_ino]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.vcf", "a.vcf.imgwas"]

"""The reader of PLINK filesets: every geometry, every spelling, every damaged byte."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import imgwas
from imgwas.errors import ImgwasError, InconsistentError, OpenError, ReadError
from tests.filesets import write_fileset
from tests.oracles import codes_of

CALLS = st.sampled_from([0.0, 1.0, 2.0, np.nan])


@given(
    dosage=st.tuples(st.integers(1, 9), st.integers(1, 13)).flatmap(
        lambda shape: arrays(np.float64, shape, elements=CALLS)
    ),
    data=st.data(),
)
def test_any_geometry_reads_back(tmp_path_factory, dosage, data):
    folder = tmp_path_factory.mktemp("geometry")
    genotypes = imgwas.open_genotypes(write_fileset(folder, dosage))
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(dosage) - 1)))), np.int64)
    np.testing.assert_array_equal(genotypes.read_dosages(rows), dosage[rows])
    np.testing.assert_array_equal(genotypes.read_packed(rows), codes_of(dosage[rows]))
    other = imgwas.open_genotypes(folder / "set", effect_allele="a2")
    np.testing.assert_array_equal(other.read_dosages(rows), 2 - dosage[rows])
    assert other.variants["effect_allele"].to_pylist() == ["G"] * len(dosage)


DOSAGE = np.array([[0, 1, 2, np.nan, 2], [2, 2, 1, 0, 0], [1, 0, np.nan, 2, 1]], float)


def test_bed_path_prefix_and_names_apart(tmp_path):
    prefix = write_fileset(tmp_path, DOSAGE)
    (tmp_path / "set.bim").rename(tmp_path / "other.bim")
    (tmp_path / "set.fam").rename(tmp_path / "other.fam")
    names = {"bim": tmp_path / "other.bim", "fam": tmp_path / "other.fam"}
    for path in (prefix, str(prefix), tmp_path / "set.bed"):
        genotypes = imgwas.open_genotypes(path, **names)
        np.testing.assert_array_equal(genotypes.read_dosages(np.arange(3)), DOSAGE)
    assert genotypes.shape == (3, 5)
    assert "3 variants x 5 samples" in repr(genotypes)


def test_an_object_sent_to_another_process_opens_its_files_there(tmp_path):
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, DOSAGE), effect_allele="a2")
    sent = pickle.dumps(genotypes)
    assert len(sent) < 1000
    there = pickle.loads(sent)
    assert there == genotypes
    np.testing.assert_array_equal(there.read_dosages(np.arange(3)), 2 - DOSAGE)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda text: text.replace("\t", " "), "spaces"),
        (lambda text: text.replace("\t", "  \t "), "mixed separators"),
        (lambda text: text.replace("\n", "\r\n"), "CRLF"),
        (lambda text: text.replace("\n", "\r"), "carriage returns alone"),
        (lambda text: "\ufeff" + text, "byte-order mark"),
        (lambda text: "\ufeff" + text.replace("\t", " "), "byte-order mark and spaces"),
        (lambda text: text + "\n\n", "trailing blank lines"),
        (lambda text: text + " \t\n\r\n", "trailing white space"),
        (lambda text: text.replace("\n", "\t\n"), "a tab at the end of each line"),
        (lambda text: text.rstrip("\n"), "no last newline"),
        (lambda text: "".join(f"  {line}\n" for line in text.splitlines()), "indented lines"),
    ],
)
def test_spellings_of_tables_that_mean_the_same(tmp_path, change, what):
    prefix = write_fileset(tmp_path, DOSAGE)
    plain = imgwas.open_genotypes(prefix)
    for suffix in (".bim", ".fam"):
        path = prefix.with_suffix(suffix)
        path.write_bytes(change(path.read_text()).encode())
    same = imgwas.open_genotypes(prefix)
    assert same.variants.equals(plain.variants), what
    assert same.samples.sample_ids == plain.samples.sample_ids


def test_ids_stay_what_they_are(tmp_path):
    prefix = write_fileset(tmp_path, np.ones((1, 12)))
    ids = [
        "007",
        "1e5",
        "NA",
        "nan",
        "None",
        "True",
        "inf",
        "12345678901234567",
        "ä",
        "-9",
        "0",
        ".",
    ]
    prefix.with_suffix(".fam").write_text("".join(f"{i}\t{i}\t0\t0\t2\t1\n" for i in ids))
    samples = imgwas.open_genotypes(prefix).samples
    assert list(samples.sample_ids) == ids
    assert list(samples.family_ids) == ids


def test_sex_and_founders_of_a_fam(tmp_path):
    sexes = ["1", "2", "0", "M", "F", "m", "f", "male", "-9", "3"]
    fathers = ["0", "p0", "0", "p0", "x", *["0"] * 5]
    mothers = ["0", "p1", "p1", "0", "y", *["0"] * 5]
    prefix = write_fileset(tmp_path, np.ones((1, 10)), sex=sexes, father=fathers, mother=mothers)
    samples = imgwas.open_genotypes(prefix).samples
    assert samples.sex.tolist() == [1, 2, 0, 1, 2, 1, 2, 0, 0, 0]
    # a parent who is named makes a nonfounder, genotyped or not, as in PLINK
    assert samples.is_founder.tolist() == [True, *[False] * 4, *[True] * 5]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        *((s, "X") for s in ("X", "chrX", "23", "chr23", "x")),
        *((s, "XY") for s in ("XY", "25", "PAR1", "par2")),
        *((s, "MT") for s in ("MT", "M", "chrM", "26")),
        *((s, "Y") for s in ("Y", "24", "chrY")),
        *((s, "7") for s in ("7", "07", "chr7", "CHR07")),
        ("GL000192.1", "GL000192.1"),
        ("0", "0"),
    ],
)
def test_chromosomes_have_one_name(tmp_path, written, name):
    prefix = write_fileset(tmp_path, DOSAGE[:1])
    prefix.with_suffix(".bim").write_text(f"{written} rs0 0 1 A G\n")
    assert imgwas.open_genotypes(prefix).variants["chromosome"].to_pylist() == [name]


@pytest.mark.parametrize("kind", [str, Path])
def test_effect_alleles_from_a_file(tmp_path, kind):
    """Variants that the file does not name keep column 5; strangers in it change nothing."""
    prefix = write_fileset(tmp_path, DOSAGE)
    (tmp_path / "alleles.txt").write_text("rs0 G\nrs2 A\nrs0 G\nstranger T\n")
    genotypes = imgwas.open_genotypes(prefix, effect_allele=kind(tmp_path / "alleles.txt"))
    assert genotypes.variants["effect_allele"].to_pylist() == ["G", "A", "A"]
    expected = DOSAGE.copy()
    expected[0] = 2 - expected[0]
    np.testing.assert_array_equal(genotypes.read_dosages(np.arange(3)), expected)


@pytest.mark.parametrize("pattern", ["chr{chr}", "chr{chr}.bed"])
def test_one_fileset_per_chromosome(tmp_path, pattern):
    pieces = []
    for chromosome in (1, 2, 10, "X"):
        dosage = np.full((2, 5), float(len(pieces) % 3))
        write_fileset(tmp_path, dosage)
        for suffix in ("bed", "fam", "bim"):
            (tmp_path / f"set.{suffix}").rename(tmp_path / f"chr{chromosome}.{suffix}")
        bim = tmp_path / f"chr{chromosome}.bim"
        bim.write_text(bim.read_text().replace("1\trs", f"{chromosome}\tc{chromosome}rs"))
        pieces.append(dosage)
    genotypes = imgwas.open_genotypes(str(tmp_path / pattern))
    assert genotypes.variants["chromosome"].to_pylist() == [
        "1",
        "1",
        "2",
        "2",
        "10",
        "10",
        "X",
        "X",
    ]
    rows = np.array([1, 2, 5, 6, 7])
    np.testing.assert_array_equal(genotypes.read_dosages(rows), np.concatenate(pieces)[rows])
    assert pickle.loads(pickle.dumps(genotypes)) == genotypes


def test_no_file_of_a_pattern(tmp_path):
    with pytest.raises(OpenError, match=r"chr\{chr\}"):
        imgwas.open_genotypes(str(tmp_path / "chr{chr}"))


def test_set_bits_after_the_last_person(tmp_path):
    prefix = write_fileset(tmp_path, DOSAGE, padding=0b11)
    genotypes = imgwas.open_genotypes(prefix)
    with pytest.raises(InconsistentError, match="hold data after the last of them"):
        genotypes.read_dosages(np.arange(3))
    lenient = imgwas.open_genotypes(prefix, allow_nonzero_padding=True)
    np.testing.assert_array_equal(lenient.read_dosages(np.arange(3)), DOSAGE)


def test_a_file_that_changes_or_shrinks_under_the_reader(tmp_path):
    prefix = write_fileset(tmp_path, DOSAGE)
    genotypes = imgwas.open_genotypes(prefix)
    genotypes.check_unchanged()
    bed = prefix.with_suffix(".bed")
    bed.write_bytes(bed.read_bytes()[:-1])
    with pytest.raises(InconsistentError, match=r"changed while it was being read \(size 9 -> 8\)"):
        genotypes.check_unchanged()
    with pytest.raises(ReadError, match="cut short while in use"):
        genotypes.read_dosages(np.arange(3))


@given(data=st.data())
def test_damaged_bytes_are_refused_or_read(tmp_path_factory, data):
    """Flip, insert, delete or cut anywhere: a typed error or a table of the promised shape."""
    folder = tmp_path_factory.mktemp("fuzz")
    prefix = write_fileset(folder, DOSAGE)
    path = prefix.with_suffix(data.draw(st.sampled_from([".bed", ".bim", ".fam"])))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["flip", "insert", "delete", "cut"])):
        case "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        case "insert":
            content.insert(at, data.draw(st.integers(0, 255)))
        case "delete":
            del content[at]
        case "cut":
            del content[at:]
    path.write_bytes(content)
    try:
        genotypes = imgwas.open_genotypes(prefix)
        dosage = genotypes.read_dosages(np.arange(genotypes.n_variants))
    except ImgwasError:
        return
    assert dosage.shape == genotypes.shape
    assert set(np.unique(dosage[~np.isnan(dosage)])) <= {0.0, 1.0, 2.0}


def test_filesets_that_are_the_same_are_equal_and_hash_alike(tmp_path):
    import os
    import shutil

    prefix = write_fileset(tmp_path, DOSAGE)
    (tmp_path / "copy").mkdir()
    for suffix in ("bed", "bim", "fam"):
        shutil.copy2(tmp_path / f"set.{suffix}", tmp_path / "copy")
    one, two = imgwas.open_genotypes(prefix), imgwas.open_genotypes(tmp_path / "copy" / "set")
    assert one == two
    assert hash(one) == hash(two)
    assert one != imgwas.open_genotypes(prefix, effect_allele="a2")
    os.utime(tmp_path / "copy" / "set.bed", ns=(1, 1))
    assert one != imgwas.open_genotypes(tmp_path / "copy" / "set")
    assert one != "something else"


def test_blocks_of_any_rows_across_files(tmp_path):
    """Gaps, single rows, nothing at all, and the seams between files."""
    whole = np.concatenate([DOSAGE, 2 - DOSAGE])
    write_fileset(tmp_path, whole[:3], name="chr1")
    write_fileset(tmp_path, whole[3:], name="chr2", chromosome=["2"] * 3)
    genotypes = imgwas.open_genotypes([tmp_path / "chr1", tmp_path / "chr2"])
    for rows in ([], [0], [5], [2, 3], [0, 2, 4], range(6)):
        wanted = np.array(rows, np.int64)
        np.testing.assert_array_equal(genotypes.read_dosages(wanted), whole[wanted])
        np.testing.assert_array_equal(genotypes.read_packed(wanted), codes_of(whole[wanted]))
    assert list(genotypes.fingerprint()) == ["file_00", "file_01"]
    assert "2 files, 6 variants x 5 samples" in repr(genotypes)
    genotypes.check_unchanged()
    (tmp_path / "chr2.bed").write_bytes(b"")
    with pytest.raises(InconsistentError, match=r"chr2.bed changed"):
        genotypes.check_unchanged()

"""PLINK 2 filesets that are wrong or unusual: what is read, and what is refused in which words."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest

import imgwas
from imgwas.errors import (
    DecompressError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    OpenError,
    UsageError,
)
from tests.fuzz_formats import M, N, make_pgen, make_written_pgen


@pytest.fixture
def fileset(tmp_path):
    make_pgen(tmp_path)
    return tmp_path


def read(folder, **options):
    genotypes = imgwas.open_genotypes(folder / "a.pgen", **options)
    return genotypes.read_dosages(np.arange(genotypes.n_variants))


def change(folder, name, old, new):
    path = folder / name
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def test_records_are_read_as_a_loop_reads_them(fileset):
    content = (fileset / "a.pgen").read_bytes()[20 + M // 2 + M :]
    width = -(-N // 4)
    table = [0, 1, 2, np.nan]
    expected = [
        [table[content[row * width + i // 4] >> 2 * (i % 4) & 3] for i in range(N)]
        for row in range(M)
    ]
    np.testing.assert_array_equal(read(fileset), expected)


def test_a_prefix_is_enough_where_there_is_no_bed(fileset):
    assert imgwas.open_genotypes(fileset / "a").shape == (M, N)


def test_packed_tables_without_header(fileset):
    expected = read(fileset)
    text = (fileset / "a.pvar").read_bytes()
    with pa.output_stream(str(fileset / "a.pvar.zst"), compression="zstd") as stream:
        stream.write(text)
    (fileset / "a.pvar").unlink()
    rows = "".join(f"f{i} p{i} 0 0 1 -9\n" for i in range(N))
    (fileset / "a.psam").write_text(rows)
    np.testing.assert_array_equal(read(fileset), expected)
    content = (fileset / "a.pvar.zst").read_bytes()
    (fileset / "a.pvar.zst").write_bytes(content[:-9])
    with pytest.raises((DecompressError, MalformedError, InconsistentError), match=r"pvar\.zst"):
        read(fileset)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("a.pvar", b"1\t8\trs7\tG\tA\n", b"", r"a.pvar has 7 variants, a.pgen holds 8"),
        ("a.psam", b"f9\tp9\t2\n", b"", r"a.psam has 9 people, a.pgen holds 10"),
    ],
)
def test_b8_tables_of_another_fileset(fileset, name, old, new, words):
    change(fileset, name, old, new)
    with pytest.raises(InconsistentError, match=words):
        read(fileset)


def test_b8_third_alleles_that_the_pvar_does_not_have(fileset):
    content = bytearray((fileset / "a.pgen").read_bytes())
    content[20] = 0x88  # two types of four bits
    (fileset / "a.pgen").write_bytes(content)
    with pytest.raises(InconsistentError, match=r"third allele for 2 variants.*first: variant 1"):
        read(fileset)


@pytest.mark.parametrize(
    ("mode", "words"),
    [(1, "use --bed"), (2, "fixed width"), (0x11, r"\.pgi"), (0x77, "does not know")],
)
def test_b8_other_storage_modes(fileset, mode, words):
    change(fileset, "a.pgen", b"\x6c\x1b\x10", bytes([0x6C, 0x1B, mode]))
    with pytest.raises(MalformedError, match=rf"storage mode {mode:02x}.*{words}.*plink2"):
        read(fileset)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (3, 4_000_000_000, "claims 4,000,000,000 variants"),
        (3, 0, "claims 0 variants of 10 people"),
        (7, 4_000_000_000, "too short for 4,000,000,000 people"),
        (12, 9, "begin within its header"),
        (12, 99, "should end at byte"),
    ],
)
def test_b9_numbers_that_cannot_be_true(fileset, at, value, words):
    path = fileset / "a.pgen"
    content = bytearray(path.read_bytes())
    content[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(content)
    with pytest.raises(MalformedError, match=words):
        read(fileset)


@pytest.mark.parametrize("n_bytes", [0, 5, 14, 25, 40])
def test_a_file_that_is_cut_short(fileset, n_bytes):
    path = fileset / "a.pgen"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(MalformedError, match=r"cut short|empty|begins with|damaged"):
        read(fileset)


def test_a_damaged_record_is_refused_by_the_decoder(tmp_path):
    make_written_pgen(tmp_path)
    path = tmp_path / "calls.pgen"
    content = bytearray(path.read_bytes())
    content[-20:] = b"\xff" * 20
    path.write_bytes(content)
    genotypes = imgwas.open_genotypes(path)
    with pytest.raises(MalformedError, match=r"is damaged: .*variants 1 to 8"):
        genotypes.read_dosages(np.arange(M))


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("a.pvar", b"ALT", b"OLD", "has no column ALT"),
        ("a.pvar", b"1\t3\trs2\tG\tA\n", b"1\t3\trs2\n", "a.pvar cannot be read as a table"),
        ("a.pvar", b"1\t3\trs2", b"\t3\trs2", r"variant 3 of .*a.pvar has '' in column #CHROM"),
        ("a.pvar", b"1\t3\trs2", b"1\tx\trs2", r"a.pvar:3 has the position 'x'"),
        ("a.psam", b"f3\tp3\t2", b"f3\tp3", r"a.psam:5 has 2 fields"),
        ("a.psam", b"p3", b"\xe9", r"not UTF-8 \(0xe9"),
    ],
)
def test_tables_that_are_wrong(fileset, name, old, new, words):
    change(fileset, name, old, new)
    with pytest.raises(MalformedError, match=words):
        read(fileset)


def test_many_blank_lines_and_long_ones_are_no_variants(fileset):
    """Pieces of the table without a row, and a line that no piece holds."""
    plain = imgwas.open_genotypes(fileset / "a.pgen").variants
    path = fileset / "a.pvar"
    content = path.read_bytes()
    path.write_bytes(content + b"\n" * 3_000_000)
    assert imgwas.open_genotypes(fileset / "a.pgen").variants.equals(plain)
    allele = b"A" * 1_500_000
    first = next(line for line in content.split(b"\n") if not line.startswith(b"#"))
    path.write_bytes(content.replace(first, b"\t".join([*first.split(b"\t")[:-1], allele]), 1))
    found = imgwas.open_genotypes(fileset / "a.pgen").variants
    assert found["effect_allele"][0].as_py() == allele.decode()
    assert found.slice(1).equals(plain.slice(1))


def test_more_alleles_are_refused_skipped_or_split(tmp_path):
    """A record with a third allele, written by PLINK 2's library, and read for each allele."""
    from pgenlib import PgenWriter

    make_pgen(tmp_path)
    codes = np.array([[0, 1, 0, 2, 2, 2, 1, 1, 0, 0, -9, -9] + [0, 2] * 4, [0, 1] * 10], np.int32)
    with PgenWriter(bytes(tmp_path / "a.pgen"), N, variant_ct=2, nonref_flags=False,
                    allele_ct_limit=3) as writer:  # fmt: skip
        writer.append_alleles(codes[0], allele_ct=3)
        writer.append_alleles(codes[1])
    rows = "1\t5\trs5\tG\tA,T\n1\t6\trs6\tG\tA\n"
    (tmp_path / "a.pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n" + rows)
    with pytest.raises(UsageError, match=r"1 of 2 variants .*--multiallelic split"):
        read(tmp_path)
    assert read(tmp_path, multiallelic="skip").shape == (1, N)
    found = read(tmp_path, multiallelic="split")
    pairs = codes[0].reshape(N, 2)
    for row, allele in enumerate((1, 2)):
        copies = np.where((pairs < 0).any(axis=1), np.nan, (pairs == allele).sum(axis=1))
        np.testing.assert_array_equal(found[row], copies)
    np.testing.assert_array_equal(found[2], np.ones(N))
    split = imgwas.open_genotypes(tmp_path / "a.pgen", multiallelic="split")
    assert split.variants["effect_allele"].to_pylist() == ["A", "T", "A"]
    assert split.variants["variant_id"].to_pylist() == ["rs5", "rs5", "rs6"]


def test_absent_files_and_libraries_are_named(fileset, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pgenlib", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'imgwas\[pgen\]'"):
        read(fileset)
    (fileset / "a.psam").unlink()
    with pytest.raises(OpenError, match=r"a.psam not found.*\.pvar\.zst"):
        read(fileset)


def test_a_file_that_changes_is_refused(fileset):
    genotypes = imgwas.open_genotypes(fileset / "a.pgen")
    with (fileset / "a.pgen").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(InconsistentError, match="changed while it was being read"):
        genotypes.check_unchanged()

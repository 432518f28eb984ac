"""BGEN files that are wrong, unusual or stale: what is read, and what is refused in which words."""

from __future__ import annotations

import sqlite3
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest

import imgwas
from imgwas.errors import (
    DecompressError,
    InconsistentError,
    MalformedError,
    OpenError,
    UsageError,
)
from imgwas.genotypes import inflate
from imgwas.genotypes.bgen import _digest
from tests.bgen_files import bgen_block, bgen_file

N = 6
IDS = [f"p{i}" for i in range(N)]
PROBABILITIES = np.array([[255, 0], [0, 255], [0, 0], [100, 100], [5, 17], [0, 0]])
#: copies of the second allele: two, and one minus twice the first
COPIES = 2 - (2 * PROBABILITIES[:, 0] + PROBABILITIES[:, 1]) / 255


def written(folder, blocks=None, **options):
    options.setdefault("ids", IDS)
    path = folder / "a.bgen"
    bgen_file(path, blocks or [bgen_block(PROBABILITIES)] * 3, n=N, **options)
    return path


def read(path, **options):
    genotypes = imgwas.open_genotypes(path, **options)
    return genotypes.read_dosages(np.arange(genotypes.n_variants))


def sample_file(folder, lines):
    path = folder / "people.sample"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_probabilities_become_exact_dosages(tmp_path):
    path = written(tmp_path, [bgen_block(PROBABILITIES), bgen_block(PROBABILITIES, missing=[5])])
    genotypes = imgwas.open_genotypes(path)
    codes = genotypes.read_codes(np.arange(2))
    assert genotypes.per_copy == 255
    np.testing.assert_array_equal(codes.dosage[0], np.rint(COPIES * 255))
    np.testing.assert_array_equal(codes.twice[0], 255 - PROBABILITIES.sum(axis=1))
    assert codes.dosage[1, 5] == 65535
    assert codes.twice[1, 5] == 0
    assert genotypes.variants["effect_allele"].to_pylist() == ["G", "G"]
    assert genotypes.samples.sample_ids == tuple(IDS)


def test_haploid_phased_and_wide_blocks(tmp_path):
    ploidy = np.array([2, 1, 2, 1, 2, 2])
    haploid = bgen_block(PROBABILITIES, ploidy=ploidy)
    phased = bgen_block(PROBABILITIES, phased=1)
    found = read(written(tmp_path, [haploid, phased]))
    one = 2 * (255 - PROBABILITIES[:, 0]) / 255
    np.testing.assert_allclose(found[0], np.where(ploidy == 1, one, COPIES), atol=1e-6)
    np.testing.assert_allclose(found[1], 2 - PROBABILITIES.sum(axis=1) / 255, atol=1e-6)
    unit = 2**32 - 1
    widest = bgen_block(PROBABILITIES * (unit // 255), phased=1, bits=32)
    codes = imgwas.open_genotypes(written(tmp_path, [widest])).read_codes(np.arange(1))
    both = (1 - PROBABILITIES / 255).prod(axis=1)
    np.testing.assert_allclose(codes.twice[0] / 16384, both, atol=1 / 16384)
    wide = bgen_block(PROBABILITIES * 257, bits=16)
    np.testing.assert_allclose(read(written(tmp_path, [wide])), COPIES[None], atol=1 / 16384)


def test_b1_no_ids(tmp_path):
    with pytest.raises(InconsistentError, match=r"has no ids of its 6 people.*--sample FILE"):
        read(written(tmp_path, ids=None))
    with pytest.raises(InconsistentError, match="has no ids"):
        read(written(tmp_path, ids=[f"(anonymous_sample_{i})" for i in range(N)]))


def test_b2_sample_of_other_people(tmp_path):
    path = written(tmp_path)
    few = sample_file(tmp_path, ["ID_1 ID_2 missing", "0 0 0", "p0 p0 0", "p1 p1 0"])
    with pytest.raises(InconsistentError, match=r"has 2 people, a.bgen has 6"):
        read(path, sample=few)
    order = ["p1", "p0", *IDS[2:]]
    moved = sample_file(tmp_path, ["ID_1 ID_2 missing", "0 0 0", *(f"{i} {i} 0" for i in order)])
    with pytest.raises(InconsistentError, match=r"in another order than a.bgen.*2 ids.*row 1"):
        read(path, sample=moved)


def test_b2_other_spellings_are_told(tmp_path, caplog):
    path = written(tmp_path)
    rows = [f"x{i} x{i} 0" for i in range(N)]
    found = imgwas.open_genotypes(path, sample=sample_file(tmp_path, ["ID_1 ID_2 missing", *rows]))
    assert found.samples.sample_ids[0] == "x0"
    assert "order cannot be checked" in caplog.text


def test_the_digest_of_a_table_does_not_depend_on_how_it_is_cut():
    """Or a run begun by a version that cuts otherwise could not be resumed."""
    n = 140_000
    names = [f"rs{i}" for i in range(n)]
    table = pa.table({"chromosome": ["1"] * n, "variant_id": names})
    pieces = [table.slice(start, 9999) for start in range(0, n, 9999)]
    assert _digest(pa.concat_tables(pieces)) == _digest(table)
    assert _digest(table.slice(0, n - 1)) != _digest(table)


@pytest.mark.parametrize("types", [["0 0 0 D"], []])
def test_b3_second_line_of_types_is_optional(tmp_path, types):
    rows = [f"f{i} {name} 0 {1 + i % 2}" for i, name in enumerate(IDS)]
    sample = sample_file(tmp_path, ["ID_1 ID_2 missing sex", *types, *rows])
    people = imgwas.open_genotypes(written(tmp_path), sample=sample).samples
    assert people.sample_ids == tuple(IDS)
    assert people.sex.tolist() == [1, 2, 1, 2, 1, 2]


def test_b3_a_person_who_looks_like_types_is_not_eaten(tmp_path):
    ids = ["0", *IDS[1:]]
    sample = sample_file(tmp_path, ["ID_1 ID_2 missing", *(f"{i} {i} 0" for i in ids)])
    people = imgwas.open_genotypes(written(tmp_path, ids=ids), sample=sample).samples
    assert people.sample_ids == tuple(ids)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["p0 p0 0", "p1 p1 0"], "begins with a line of names"),
        (["ID_1 ID_2 missing", "p0 p0"], r"people.sample:2 has 2 fields"),
        (["ID_1 ID_2 missing"], "no person"),
    ],
)
def test_b3_sample_files_that_are_wrong(tmp_path, lines, words):
    with pytest.raises(MalformedError, match=words):
        read(written(tmp_path), sample=sample_file(tmp_path, lines))


def index_of(path, folder, **changes):
    """Write a .bgi as bgenix does."""
    genotypes = imgwas.open_genotypes(path)
    database = sqlite3.connect(folder / "a.bgen.bgi")
    database.execute(
        "CREATE TABLE Variant (chromosome TEXT, position INT, rsid TEXT, number_of_alleles INT, "
        "allele1 TEXT, allele2 TEXT, file_start_position INT, size_in_bytes INT)"
    )
    database.execute("CREATE TABLE Metadata (file_size INT, first_1000_bytes BLOB)")
    for row in range(genotypes.n_variants):
        start, stop = map(int, genotypes._edges[row : row + 2])
        values = ("1", row + 1 + changes.get("shift", 0), f"rs{row}", 2, "A", "G", start)
        database.execute("INSERT INTO Variant VALUES (?,?,?,?,?,?,?,?)", (*values, stop - start))
    size = path.stat().st_size + changes.get("size", 0)
    database.execute("INSERT INTO Metadata VALUES (?,?)", (size, path.read_bytes()[:1000]))
    if changes.get("lose"):
        database.execute("DELETE FROM Variant WHERE position = 2")
    database.commit()
    database.close()


def test_b4_a_fresh_index_is_used(tmp_path):
    path = written(tmp_path)
    expected = read(path)
    index_of(path, tmp_path)
    np.testing.assert_array_equal(read(path), expected)


def test_b4_a_stale_index_is_told_and_not_used(tmp_path, caplog):
    path = written(tmp_path)
    expected = read(path)
    index_of(path, tmp_path, size=7)
    np.testing.assert_array_equal(read(path), expected)
    assert "is of another a.bgen" in caplog.text


def test_b4_an_index_of_other_variants_is_refused(tmp_path):
    path = written(tmp_path)
    index_of(path, tmp_path, lose=True)
    with pytest.raises(InconsistentError, match=r"lists 2 variants that do not fill.*bgenix"):
        read(path)


def test_b4_an_index_with_other_positions_is_refused(tmp_path):
    path = written(tmp_path)
    index_of(path, tmp_path, shift=5)
    with pytest.raises(InconsistentError, match=r"has position 1 at byte .*index says 6"):
        read(path)


@pytest.mark.parametrize("has_libdeflate", [True, False])
def test_both_unpackers_read_the_same_and_refuse_the_same(monkeypatch, has_libdeflate):
    """Where the system has no libdeflate the first is zlib too."""
    if not has_libdeflate:
        monkeypatch.setattr(inflate, "library", lambda: None)
    plain = np.random.default_rng(0).integers(0, 9, 5000, np.uint8).tobytes()
    packed = zlib.compress(plain)
    assert bytes(inflate.inflate(memoryview(packed), 5000)) == plain
    flipped = bytearray(packed)
    flipped[-1] ^= 1  # the checksum
    for content, length in ((packed, 4999), (packed, 5001), (packed[:-9], 5000), (flipped, 5000)):
        with pytest.raises(ValueError, match="does not unpack"):
            inflate.inflate(memoryview(bytes(content)), length)


def test_b5_a_damaged_block_is_named_with_its_byte(tmp_path):
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    genotypes = imgwas.open_genotypes(path)
    with pytest.raises(DecompressError, match=r"variant 3 of .*a.bgen, at byte \d+, is damaged"):
        genotypes.read_dosages(np.array([2]))
    assert genotypes.read_dosages(np.array([0])).shape == (1, N)


def test_b5_a_bomb_is_not_unpacked(tmp_path):
    """Ten megabytes of zeros under a length that six people cannot need, or one that lies."""
    bomb = zlib.compress(bytes(10_000_000))
    for claimed in (10_000_000, 28):
        path = written(tmp_path)
        content = path.read_bytes()
        packed = zlib.compress(bgen_block(PROBABILITIES))
        at = content.index(packed)
        head = struct.pack("<II", len(bomb) + 4, claimed)
        path.write_bytes(content[: at - 8] + head + bomb + content[at + len(packed) :])
        with pytest.raises(DecompressError, match=r"claims 10,000,000 bytes|does not unpack to 28"):
            read(path)


@pytest.mark.parametrize(
    ("block", "error", "words"),
    [
        (bgen_block(PROBABILITIES, ploidy=np.full(N, 3)), MalformedError, "with 3 chromosomes"),
        (bgen_block(PROBABILITIES, n=7), DecompressError, "is of 7 people"),
        (bgen_block(PROBABILITIES, alleles=4), MalformedError, "has 4 alleles"),
        (bgen_block(PROBABILITIES)[:-1], DecompressError, "bytes of probabilities"),
        (bgen_block(PROBABILITIES * 257, bits=16), MalformedError, "16 bits a probability"),
    ],
)
def test_b6_blocks_that_are_not_read(tmp_path, block, error, words):
    path = written(tmp_path, [bgen_block(PROBABILITIES), block])
    with pytest.raises(error, match=words):
        read(path)


def test_b6_alleles_and_layout(tmp_path):
    path = written(tmp_path, alleles=[["A", "G"], ["A", "C", "G"], ["A", "T"]])
    with pytest.raises(UsageError, match=r"1 of 3 variants .*--multiallelic skip"):
        read(path)
    assert read(path, multiallelic="skip").shape == (2, N)
    with pytest.raises(UsageError, match="is not possible"):
        read(path, multiallelic="split")
    with pytest.raises(MalformedError, match=r"layout 1.*plink2"):
        read(written(tmp_path, layout=1))


def test_b7_probabilities_above_one(tmp_path, caplog):
    wrong = PROBABILITIES.copy()
    wrong[2] = 200, 100
    found = read(written(tmp_path, [bgen_block(wrong)]))
    assert np.isnan(found[0, 2])
    assert np.isnan(found).sum() == 1
    assert "above one: taken as missing" in caplog.text
    wrong[3] = 200, 100
    with pytest.raises(MalformedError, match=r"sum to more than one for 2 people"):
        read(written(tmp_path, [bgen_block(wrong)]))


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (8, 4_000_000_000, "claims 4,000,000,000 variants"),
        (0, 0xFFFFFFF0, "claims 3 variants"),
        (4, 0x7FFFFFFF, "does not begin as a BGEN"),
        (12, 4_000_000_000, "sample ids .* damaged"),
    ],
)
def test_b9_numbers_that_cannot_be_true(tmp_path, at, value, words):
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(content)
    with pytest.raises(MalformedError, match=words):
        read(path)


def test_b9_an_allele_that_is_too_long(tmp_path):
    path = written(tmp_path, alleles=[["A", "G"], ["A" * 2_000_000, "G"], ["A", "T"]])
    with pytest.raises(MalformedError, match=r"variant 2 of .* an allele of 2,000,000 letters"):
        read(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"\x1f\x8b" * 30, "gzip"), (b"<html>" * 9, "HTML"), (b"x" * 99, "not begin")],
)
def test_other_files_are_recognised(tmp_path, content, words):
    path = tmp_path / "a.bgen"
    path.write_bytes(content)
    with pytest.raises(MalformedError, match=words):
        read(path, sample=None)


def test_cut_short_and_too_long(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(MalformedError, match=r"cut short or damaged: variant 3 of 3"):
        read(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(MalformedError, match=r"goes on for 4 bytes after its 3 variants"):
        read(path)
    with pytest.raises(OpenError, match="not found"):
        read(tmp_path / "absent.bgen")


def test_a_file_that_changes_is_refused(tmp_path):
    path = written(tmp_path)
    genotypes = imgwas.open_genotypes(path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InconsistentError, match="changed while it was being read"):
        genotypes.check_unchanged()


def test_options_of_other_formats_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--bim cannot go with .*a.bgen.*--sample"):
        read(written(tmp_path), bim="x.bim")

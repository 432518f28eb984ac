"""Damaged filesets: each with its class of error, its exit code, and the words that help.

The names in front are those of the fault table that the project is built against.
"""

from __future__ import annotations

import gzip
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import (
    ImgwasError,
    InconsistentError,
    MalformedError,
    OpenError,
    ReadError,
    UsageError,
)
from imgwas.genotypes import from_pandas_plink
from tests.filesets import random_dosage, write_fileset

M, N = 120, 42
BED, BIM, FAM = "set.bed", "set.bim", "set.fam"
ROW = 11  # bytes of 42 people
SIZE = 3 + M * ROW

Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Fault:
    """A damage, and how opening and reading must end."""

    name: str
    error: type[ImgwasError]
    message: str
    damage: Damage
    options: dict[str, Any] = field(default_factory=dict)
    path: str = "set"


def to_bytes(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, n: int) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:n])


def grow(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + content)


def line(name: str, number: int, change: Callable[[str], str]) -> Damage:
    """Change one line, counted from one."""

    def damage(folder: Path) -> None:
        lines = (folder / name).read_text().split("\n")
        lines[number - 1] = change(lines[number - 1])
        (folder / name).write_text("\n".join(lines))

    return damage


def position(text: str) -> Damage:
    return line(BIM, 5, lambda old: old.replace("\t5\t", f"\t{text}\t"))


def drop_people(k: int) -> Damage:
    """The last people are missing in the .fam; a variant takes as many bytes as before."""

    def damage(folder: Path) -> None:
        lines = (folder / FAM).read_text().splitlines(keepends=True)
        (folder / FAM).write_text("".join(lines[: len(lines) - k]))

    return damage


def too_many_people(n: int, k: int) -> Damage:
    """A fileset of n people whose .fam has k people more, in the padding of the last byte."""

    def damage(folder: Path) -> None:
        write_fileset(folder, random_dosage(M, n))
        with (folder / FAM).open("a") as stream:
            stream.writelines(f"0\textra{i}\t0\t0\t1\t-9\n" for i in range(k))

    return damage


def differing_people(folder: Path) -> None:
    for chromosome in (1, 2):
        dosage = random_dosage(3, N)
        write_fileset(folder, dosage, name=f"chr{chromosome}", chromosome=[str(chromosome)] * 3)
    line("chr2.fam", 5, lambda old: old.replace("p4", "someone123"))(folder)


def differing_families(folder: Path) -> None:
    differing_people(folder)
    (folder / "chr2.fam").write_text(
        (folder / "chr1.fam").read_text().replace("0\tp7\t", "F\tp7\t")
    )


def fewer_people(folder: Path) -> None:
    write_fileset(folder, random_dosage(3, N), name="chr1")
    write_fileset(folder, random_dosage(3, N - 1), name="chr2")


def absent(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def directory(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def nothing(folder: Path) -> None:
    """Leave the files as they are."""


FAULTS = [
    Fault("A1 bed cut short", MalformedError,
          rf"set.bed is cut short: it has 225 bytes. 120 variants of 42 people take {SIZE:,}. "
          r"the last complete variant is number 20. .*checksums", cut(BED, 225)),
    Fault("A1 last byte lost", MalformedError, r"last complete variant is number 119",
          cut(BED, SIZE - 1)),
    Fault("A2 bed too long", MalformedError, r"is 5 bytes too long.*set.fam may belong to another",
          grow(BED, b"\0" * 5)),
    Fault("A3 fam lost a person", InconsistentError,
          r"set.fam has 41 people, but \d+ of 120 variants of set.bed hold data after the last.*"
          r"encodes up to 3 people more.*--allow-nonzero-padding", drop_people(1)),
    Fault("A4 fam has a person too many", InconsistentError,
          r"set.fam has 43 people, but the last 1 of them have the same zero bits in all of 120 "
          r"variants.*--allow-constant-sample", too_many_people(42, 1)),
    Fault("A4 fam has two people too many", InconsistentError, r"the last 2 of them",
          too_many_people(42, 2)),
    Fault("A4 fam has three people too many", InconsistentError, r"the last 3 of them",
          too_many_people(41, 3)),
    Fault("A3 fam of another cohort", InconsistentError,
          r"set.fam has 33 people, but .*set.bed holds 41 to 44 for each of the 120 variants",
          drop_people(9)),
    Fault("A5 bim lost a variant", InconsistentError,
          r"set.bim has 119 variants, but .*set.bed holds 120 for the 42 people of set.fam",
          lambda f: (f / BIM).write_text((f / BIM).read_text().partition("\n")[2])),
    Fault("A6 empty", MalformedError, r"set.bed is empty", to_bytes(BED, b"")),
    Fault("A6 header only", MalformedError, r"a header and no variant", cut(BED, 3)),
    Fault("A6 two bytes", MalformedError, r"begins with the bytes 6c 1b. A PLINK 1", cut(BED, 2)),
    Fault("A6 other magic", MalformedError, r"begins with the bytes 41 42 43.*6c 1b 01",
          to_bytes(BED, b"ABC" + bytes(SIZE - 3))),
    Fault("A6 sample-major", MalformedError, r"sample-major.*plink --bfile set --make-bed",
          to_bytes(BED, b"\x6c\x1b\x00" + bytes(SIZE - 3))),
    Fault("A6 PLINK 2 storage mode", MalformedError,
          r"storage mode 02, as PLINK 2 writes in a .pgen.*plink2 --pfile set --make-bed",
          to_bytes(BED, b"\x6c\x1b\x02" + bytes(SIZE - 3))),
    Fault("A7 bed is gzip", MalformedError, r"set.bed is a gzip file: unpack it first \(gunzip\)",
          to_bytes(BED, gzip.compress(b"x" * 99))),
    Fault("A7 bed is zstd", MalformedError, r"is a zstd file",
          to_bytes(BED, b"\x28\xb5\x2f\xfd" + bytes(99))),
    Fault("A7 bed is an LFS pointer", MalformedError, r"Git LFS pointer.*git lfs pull",
          to_bytes(BED, b"version https://git-lfs.github.com/spec/v1\n")),
    Fault("A7 bed is a web page", MalformedError, r"HTML page.*failed download",
          to_bytes(BED, b"<!doctype html><html></html>")),
    Fault("A7 bim is gzip", MalformedError, r"set.bim is a gzip file",
          to_bytes(BIM, gzip.compress(b"1 rs0 0 1 A G\n"))),
    Fault("A7 fam is xz", MalformedError, r"set.fam is an xz file",
          to_bytes(FAM, b"\xfd7zXZ\x00" + bytes(30))),
    Fault("A7 bim is UTF-16", MalformedError, r"set.bim is UTF-16 text.*iconv -f utf-16",
          to_bytes(BIM, "1 rs0 0 1 A G\n".encode("utf-16"))),
    Fault("A7 fam is empty", MalformedError, r"set.fam is empty. Lines of 6 fields",
          to_bytes(FAM, b"")),
    Fault("A7 fam is blank", MalformedError, r"set.fam is empty", to_bytes(FAM, b"\n \n\t\n")),
    Fault("A8 fam has five columns", MalformedError, r"set.fam:1 has 5 fields. 6 are needed",
          to_bytes(FAM, b"0 p 0 0 1\n" * N)),
    Fault("A8 last line of fam short", MalformedError, r"set.fam:42 has 3 fields",
          line(FAM, 42, lambda old: "0\tp41\t0")),
    Fault("A8 last line of fam ends in a tab", MalformedError, r"set.fam:42 has 5 fields",
          lambda f: (f / FAM).write_text((f / FAM).read_text().removesuffix("-9\n"))),
    Fault("A8 a field too many", MalformedError, r"set.bim:7 has 7 fields",
          line(BIM, 7, lambda old: old + "\tT")),
    Fault("A8 blank line inside", MalformedError, r"set.bim:3 has 0 fields",
          line(BIM, 3, lambda old: "\n" + old)),
    Fault("A8 blank first line", MalformedError, r"set.fam:1 has 0 fields",
          line(FAM, 1, lambda old: "\n" + old)),
    Fault("A13 latin-1 in an id", MalformedError,
          r"set.fam:3 holds a byte that is not UTF-8 \(0xe9 at position 5\).*iconv -f latin1",
          lambda f: (f / FAM).write_bytes(
              (f / FAM).read_bytes().replace(b"\tp2\t", b"\tp2\xe9\t"))),
    Fault("A14 negative", MalformedError, r"set.bim:5 has the position '-7'", position("-7")),
    Fault("A14 fraction", MalformedError, r"set.bim:5 has the position '1.5'", position("1.5")),
    Fault("A14 power", MalformedError, r"has the position '1e6'", position("1e6")),
    Fault("A14 hexadecimal", MalformedError, r"has the position '0x1F'", position("0x1F")),
    Fault("A14 superscript", MalformedError, r"has the position '\\xb2'", position("²")),
    Fault("A14 other digits", MalformedError, r"has the position '\\u0663'", position("٣")),
    Fault("A14 too large", MalformedError, r"'2147483648'. .* from 0 to 2147483647",
          position("2147483648")),
    Fault("A14 five thousand digits", MalformedError, r"position '9{40}\.\.\.'",
          position("9" * 5000)),
    Fault("A14 terminal codes", MalformedError, r"position '\\x1b\[31m'", position("\x1b[31m")),
    Fault("A20 a person differs", InconsistentError,
          r"same people in the same order.*differ first in row 5 of the .fam", differing_people,
          path="chr{chr}"),
    Fault("A20 a family differs", InconsistentError, r"differ first in row 8 of the .fam",
          differing_families, path="chr{chr}"),
    Fault("A20 one set is shorter", InconsistentError, r"differ first in row 42 of the .fam",
          fewer_people, path="chr{chr}"),
    Fault("A23 no such prefix", OpenError,
          r"nowhere.bed, .*nowhere.bim, .*nowhere.fam not found.*tried ", nothing, path="nowhere"),
    Fault("A23 no such bed", OpenError, r"other.bed, .*not found", nothing, path="other.bed"),
    Fault("A23 no bim", OpenError, r"^/[^:;]*set.bim not found", absent(BIM)),
    Fault("A23 no chromosome", OpenError, r"no file matches .*c\{chr\}.*sex chromosomes", nothing,
          path="c{chr}"),
    Fault("A23 bed is a folder", OpenError, r"set.bed cannot be opened \(Is a directory\)",
          directory(BED)),
    Fault("A23 fam is a folder", ReadError, r"reading .*set.fam failed \(Is a directory\)",
          directory(FAM)),
    Fault("A23 a name too long", OpenError, r"cannot be opened \(File name too long\)", nothing,
          path="x" * 300),
    Fault("one bim for many sets", UsageError, r"--bim names one file", differing_people,
          {"bim": "set.bim"}, "chr{chr}"),
    Fault("effect allele of no name", UsageError, r"effect_allele is 'ref'. a1, a2 or a file",
          nothing, {"effect_allele": "ref"}),
]  # fmt: skip


def read_everything(path: str, **options: Any) -> None:
    genotypes = imgwas.open_genotypes(path, **options)
    genotypes.read_packed(np.arange(genotypes.n_variants))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_damaged_fileset_is_refused_in_words_that_help(tmp_path, fault):
    write_fileset(tmp_path, random_dosage(M, N))
    fault.damage(tmp_path)
    with pytest.raises(ImgwasError) as caught:
        read_everything(str(tmp_path / fault.path), **fault.options)
    assert type(caught.value) is fault.error, caught.value
    message = str(caught.value)
    assert re.search(fault.message, message), message
    # neither masked ids nor control characters slip through
    assert "someone123" not in message
    assert message.isprintable(), message


def test_every_reading_fault_has_the_exit_code_of_the_table():
    codes = {"A1": 6, "A2": 6, "A3": 7, "A4": 7, "A5": 7, "A6": 6, "A8": 6, "A13": 6, "A14": 6}
    codes |= {"A20": 7}
    for fault in FAULTS:
        code = codes.get(fault.name.split()[0])
        assert code in (None, fault.error.exit_code), fault.name
    assert set(codes) <= {fault.name.split()[0] for fault in FAULTS}


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        ("rs3 T\n", InconsistentError, r"an allele that 1 variants do not have.*rs3, row 4 "),
        ("rs3 A\nrs4 G\nrs3 G\n", MalformedError, r":3 names the allele G for rs3, which had A "),
        ("rs3 A extra\n", MalformedError, r":1 has 3 fields. 2 are needed"),
        ("", MalformedError, r"alleles.txt is empty"),
    ],
)
def test_wrong_lists_of_effect_alleles(tmp_path, lines, error, message):
    prefix = write_fileset(tmp_path, random_dosage(M, N))
    (tmp_path / "alleles.txt").write_text(lines)
    with pytest.raises(error, match=message):
        imgwas.open_genotypes(prefix, effect_allele=tmp_path / "alleles.txt")


def test_people_are_not_taken_for_padding_without_evidence(tmp_path):
    """All zero bits are normal in few variants, in rare ones, or where others have them too."""
    rng = np.random.default_rng(0)
    cases = {
        "few variants": np.full((50, 43), 1.0),
        "everyone carries two": np.full((M, 43), 2.0),
        "all but a few carry two": np.where(rng.random((M, 43)) < 1e-3, 1.0, 2.0),
        "one more like the last": random_dosage(M, 43),
        "a last person alone in a byte": random_dosage(M, 41),
    }
    for name, dosage in cases.items():
        dosage[:, -1] = 2
        if name == "one more like the last":
            dosage[:, 7] = 2
        prefix = write_fileset(tmp_path, dosage)
        genotypes = imgwas.open_genotypes(prefix)
        assert (genotypes.read_dosages(np.arange(3))[:, -1] == 2).all(), name


def test_a_constant_person_may_be_allowed(tmp_path):
    dosage = random_dosage(M, 43)
    dosage[:, -1] = 2
    prefix = write_fileset(tmp_path, dosage)
    with pytest.raises(InconsistentError, match="allow_constant_sample=True"):
        imgwas.open_genotypes(prefix)
    genotypes = imgwas.open_genotypes(prefix, allow_constant_sample=True)
    np.testing.assert_array_equal(genotypes.read_dosages(np.arange(M)), dosage)


def test_a_disk_that_fails_is_a_read_error(tmp_path, monkeypatch):
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, random_dosage(M, N)))

    def fail(*arguments: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.preadv", fail)
    with pytest.raises(ReadError, match=r"set.bed at byte 25 failed \(Input/output error\)"):
        genotypes.read_packed(np.array([2]))


def test_a_disk_that_gives_little_at_a_time_is_read_to_the_end(tmp_path, monkeypatch):
    dosage = random_dosage(M, N)
    genotypes = imgwas.open_genotypes(write_fileset(tmp_path, dosage))
    whole = os.preadv
    monkeypatch.setattr("os.preadv", lambda fd, views, at: whole(fd, [views[0][:7]], at))
    np.testing.assert_array_equal(genotypes.read_dosages(np.arange(M)), dosage)


@pytest.mark.parametrize("name", [BIM, FAM, BED])
def test_another_process_refuses_files_that_changed(tmp_path, name):
    prefix = write_fileset(tmp_path, random_dosage(M, N))
    sent = pickle.dumps(imgwas.open_genotypes(prefix))
    if name == BED:
        write_fileset(tmp_path, random_dosage(M, N - 4))
    else:
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("rs7\t", "rs7b\t").replace("\tp7\t", "\tp7b\t"))
    with pytest.raises(InconsistentError, match=rf"{name}.* changed between two processes"):
        pickle.loads(sent)


@pytest.mark.parametrize(
    ("table", "column", "message"),
    [
        ("fam", "iid", r"column iid of pandas-plink holds 1 missing values"),
        ("fam", "fid", r"column fid"),
        ("bim", "snp", r"column snp"),
        ("bim", "a1", r"column a1"),
    ],
)
def test_ids_that_a_reader_lost_are_missed(table, column, message):
    tables = {
        "bim": pd.DataFrame({"chrom": ["1"], "snp": ["rs"], "pos": [1], "a0": ["A"], "a1": ["G"]}),
        "fam": pd.DataFrame({"fid": ["nan"], "iid": ["NA"], "father": "0", "mother": "0"}),
    }
    tables["fam"]["gender"] = "1"
    good = from_pandas_plink(tables["bim"], tables["fam"], np.ones((1, 1)))
    assert (good.samples.sample_ids, good.samples.family_ids) == (("NA",), ("nan",))
    for lost in (None, float("nan"), pd.NA):
        tables[table][column] = pd.Series([lost], dtype=object)
        with pytest.raises(MalformedError, match=message):
            from_pandas_plink(tables["bim"], tables["fam"], np.ones((1, 1)))


def test_an_array_of_other_values_or_another_shape():
    bim = pd.DataFrame({"chrom": ["1"], "snp": ["rs"], "pos": [1], "a0": ["A"], "a1": ["G"]})
    people = {"fid": "0", "iid": ["a", "b"], "father": "0", "mother": "0", "gender": "2"}
    fam = pd.DataFrame(people)
    with pytest.raises(InconsistentError, match=r"shape \(2, 1\). 1 variants x 2 samples"):
        from_pandas_plink(bim, fam, np.ones((2, 1)))
    for wrong in (0.5, 3.0, np.inf, -1.0):
        genotypes = from_pandas_plink(bim, fam, np.array([[1.0, wrong]]))
        with pytest.raises(MalformedError, match=r"values other than 0, 1, 2 and NaN"):
            genotypes.read_packed(np.array([0]))

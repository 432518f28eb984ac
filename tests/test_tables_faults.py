"""What is wrong with a table is told with its class, its place and what to do about it.

The names begin with the fault's letter in the reliability matrix: C tables, D latents. Every case
runs through the public readers; the exit code of the command line is that of the class.
"""

from __future__ import annotations

import gzip
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import imgwas
from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MalformedError,
    OpenError,
    ReadError,
    RefusedError,
    UsageError,
)
from imgwas.tables.recognise import check_hidden


@dataclass(frozen=True)
class Fault:
    """A file, and how reading it must end."""

    name: str
    content: bytes | str | pa.Table
    error: type[ImgwasError]
    message: str
    reader: Callable[..., Any] = imgwas.read_latents
    options: dict[str, Any] = field(default_factory=dict)
    file: str = "table.tsv"

    def write(self, folder: Path) -> Path:
        path = folder / self.file
        if isinstance(self.content, pa.Table):
            pq.write_table(self.content, path)
        elif isinstance(self.content, str):
            path.write_bytes(self.content.encode())
        else:
            path.write_bytes(self.content)
        return path


TSV = "IID\tz0\tz1\nperson1000\t1\t2\nperson1001\t3\t4\n"
CSV = TSV.replace("\t", ",")


def text(before: str, after: str, table: str = TSV) -> str:
    assert before in table
    return table.replace(before, after, 1)


def parquet_bytes(**columns: Any) -> bytes:
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), stream, use_dictionary=False, compression="NONE",
                   write_page_checksum=True)  # fmt: skip
    return stream.getvalue().to_pybytes()


def flipped() -> bytes:
    content = bytearray(parquet_bytes(IID=["a", "b", "c"], z=[1.0, 20 / 7, 5.0]))
    content[content.index(np.float64(20 / 7).tobytes()) + 3] ^= 0x10
    return bytes(content)


WHOLE = parquet_bytes(IID=["a", "b"], z=[1.0, 2.0])
OF_LATENTS, OF_COVARIATES, OF_PHENOTYPES = (
    imgwas.read_latents, imgwas.read_covariates, imgwas.read_phenotypes,
)  # fmt: skip
PARQUET = {"file": "table.parquet"}
CSV_FILE = {"file": "table.csv"}

FAULTS = [
    # --- lines and fields
    Fault("C2 a field more in every row", re.sub(r"(?m)^p", "1\tp", TSV), MalformedError,
          r"table.tsv:2 has 4 fields. The header has 3.*row.names=FALSE"),
    Fault("C2 a field more in one row", text("3\t4", "3\t4\t5"), MalformedError,
          r"table.tsv:3 has 4 fields. The header has 3. Complete or remove that line"),
    Fault("C2 a field more, quoted CSV", text("3,4", '3,4,"5"', CSV), MalformedError,
          r"table.tsv:3 has 4 fields"),
    Fault("C3 a short row", text("1\t2", "1"), MalformedError, r"table.tsv:2 has 2 fields"),
    Fault("C3 a short row of CSV", text("3,4", "3", CSV), MalformedError,
          r"table.tsv:3 has 2 fields"),
    Fault("C3 a blank line", text("\nperson1001", "\n\nperson1001"), MalformedError,
          r"table.tsv:3 is blank"),
    Fault("C3 a blank line of CSV", text("\nperson1001", "\n\nperson1001", CSV), MalformedError,
          r"table.tsv:3 is blank"),
    Fault("C3 a blank line of quoted CSV", 'IID,z\n"a",1\n\n"b",2\n', MalformedError,
          r"table.tsv:3 is blank"),
    Fault("C3 a blank first row", text("\nperson1000", "\n\nperson1000"), MalformedError,
          r"table.tsv:2 is blank"),
    Fault("C3 ragged, separated by spaces", "IID z0\na 1\nb 2 3\nc 4\n", MalformedError,
          r"table.tsv:3 has 3 fields"),
    Fault("C3 a missing cell between spaces", "FID IID z0 z1\n0 a  1\n0 b 2 3\n", MalformedError,
          r"table.tsv:2 has 3 fields. The header has 4"),
    Fault("C4 a quote left open", text("3,4", '"3,4', CSV), MalformedError,
          r"table.tsv:3 has a quotation mark that is not closed"),
    Fault("C4 a quote that swallows lines", 'IID,g\na,"york\nb,leeds\nc,hull"\nd,york\n',
          MalformedError, r"table.tsv:2 has a quotation mark that is not closed", OF_COVARIATES),
    Fault("C4 a quote left open in the header", 'IID,"z0\na,1\n', MalformedError,
          r"table.tsv:1 has a quotation mark that is not closed"),
    Fault("C5 cut in its last line", TSV[:-3], MalformedError,
          r"table.tsv:3, the last line, has 2 fields. 3 like the header. The file may have been"),
    Fault("C5 gzip cut short", gzip.compress(TSV.encode() * 50)[:-9], MalformedError,
          r"table.tsv is a damaged or truncated gzip file. Copy it again"),
    Fault("C5 gzip with a wrong checksum", gzip.compress(TSV.encode())[:-8] + bytes(8),
          MalformedError, r"damaged or truncated gzip"),
    # --- characters
    Fault("C7 NUL byte", text("person1001", "person1001\0"), MalformedError,
          r"table.tsv:3 holds a NUL byte \(U\+0000\)"),
    Fault("C7 zero-width space", text("person1001", "person1001\u200b"), MalformedError,
          r"table.tsv:3 holds a zero-width space \(U\+200B\). Remove it"),
    Fault("C7 no-break space", text("z1", "z1\u00a0"), MalformedError,
          r"table.tsv:1 holds a no-break space"),
    Fault("C7 typographic minus", text("\t1", "\t\u22121"), MalformedError,
          r"typographic minus sign \(U\+2212\)"),
    Fault("C7 BOM inside", text("person1001", "\ufeffperson1001"), MalformedError,
          r"table.tsv:3 holds a byte-order mark inside the file"),
    Fault("C7 ideographic space", text("person1001", "person\u30001001"), MalformedError,
          r"table.tsv:3 holds a hidden character \(U\+3000\)"),
    Fault("C7 right-to-left override", text("z1", "\u202ez1"), MalformedError, r"U\+202E"),
    Fault("J3 escape sequence", text("z1", "\x1b[31mz1"), MalformedError,
          r"table.tsv:1 holds an escape character \(U\+001B\)"),
    Fault("C7 vertical tab", text("person1001", "person\x0b1001"), MalformedError, r"U\+000B"),
    Fault("A13 not UTF-8", text("person1001", "pérson").encode("latin1"), MalformedError,
          r"table.tsv:3 holds a byte that is not UTF-8 \(0xe9\).*iconv -f latin1 -t utf-8"),
    # --- the header
    Fault("C9 a column twice", text("z1", "z0"), MalformedError,
          r"the header names z0 more than once. Rename"),
    Fault("C9 a column twice, quoted", '"IID","z","z"\na,1,2\n', MalformedError,
          r"the header names z more than once"),
    Fault("C10 no header", TSV.partition("\n")[2], MalformedError,
          r"no id column \(its first line holds numbers.*--id-column"),
    Fault("C10 an index without a name", text("IID", "", CSV), MalformedError,
          r"column 1 has no name. Name it in the first line: IID"),
    Fault("C10 a tab at the end of the header", text("z1\n", "z1\t\n"), MalformedError,
          r"column 4 has no name"),
    Fault("C10 no id column", text("IID", "who"), MalformedError,
          r"no id column \(it has who, z0, z1\). A header with one of IID"),
    Fault("C10 a family id is no id", text("IID", "FID"), MalformedError, r"no id column"),
    Fault("C8 separated by semicolons", TSV.replace("\t", ";"), MalformedError,
          r"separates its columns by semicolons.*Save it as tab-separated text"),
    Fault("C14 id column misspelt", TSV, UsageError,
          r"no column 'ID' \(--id-column\). Did you mean IID", options={"id_column": "ID"}),
    Fault("C14 column misspelt", TSV, UsageError, r"no column 'Z0'. Did you mean z0",
          options={"names": ["Z0"]}),
    Fault("C14 covariate misspelt", TSV, UsageError, r"no column 'z3'. Did you mean",
          OF_COVARIATES, {"names": ["z3"]}),
    Fault("C14 categorical misspelt", TSV, UsageError, r"no column 'sex'. It has z0, z1",
          OF_COVARIATES, {"categorical": ["sex"]}),
    Fault("empty", "", MalformedError, r"table.tsv is empty"),
    Fault("blank lines only", "\n \r\n\t\n", MalformedError, r"table.tsv is empty"),
    Fault("BOM only", b"\xef\xbb\xbf", MalformedError, r"table.tsv is empty"),
    Fault("gzip of nothing", gzip.compress(b""), MalformedError, r"table.tsv is empty"),
    Fault("header only", "IID\tz0\n", MalformedError, r"table.tsv has a header and no rows"),
    Fault("ids only", "IID\na\nb\n", MalformedError, r"has ids and no other column"),
    Fault("ids only, covariates", "FID IID\na b\n", UsageError, r"has ids and no covariate",
          OF_COVARIATES),
    # --- ids
    Fault("C11 a person twice", text("person1001", "person1000"), InconsistentError,
          r"the latents hold 1 rows whose sample id came before.*one imaging visit"),
    Fault("C11 a person twice, covariates", text("person1001", "person1000"), InconsistentError,
          r"the covariates hold 1 rows whose sample id", OF_COVARIATES),
    Fault("C11 an id twice but for blanks", text("person1001", " person1000 ", CSV),
          InconsistentError, r"1 rows whose sample id came before"),
    Fault("an id is empty", text("person1001", "", CSV), MalformedError,
          r"the id column IID is empty in row 2"),
    Fault("an id is blank", text("person1001", "  ", CSV), MalformedError,
          r"the id column IID is empty in row 2"),
    Fault("C1 ids became floating-point", pa.table({"IID": [1000017.0], "z": [1.0]}),
          MalformedError, r"id column IID holds floating-point numbers.*ids as text", **PARQUET),
    Fault("C1 ids became truth values", pa.table({"IID": [True], "z": [1.0]}), MalformedError,
          r"id column IID holds values of type bool", **PARQUET),
    Fault("ids are dates", pa.table({"IID": pa.array([1], pa.date32()), "z": [1.0]}),
          MalformedError, r"values of type date32", **PARQUET),
    Fault("ids are lists", pa.table({"IID": [["a"]], "z": [1.0]}), MalformedError,
          r"values of type list", **PARQUET),
    Fault("ids are missing", pa.table({"IID": ["a", None], "z": [1.0, 2.0]}), MalformedError,
          r"the id column IID has 1 empty rows", **PARQUET),
    Fault("ids are not UTF-8", pa.table({"IID": [b"\xe9"], "z": [1.0]}), MalformedError,
          r"ids in IID are not UTF-8 text", **PARQUET),
    Fault("C7 NUL byte in Parquet", pa.table({"IID": ["a", "b\0"], "z": [1.0, 2.0]}),
          MalformedError, r"id column IID holds a NUL byte \(U\+0000\) in row 2", **PARQUET),
    Fault("C7 line end in Parquet", pa.table({"IID": ["a\nb"], "z": [1.0]}), MalformedError,
          r"id column IID holds a hidden character \(U\+000A\) in row 1", **PARQUET),
    Fault("C7 no-break space in Parquet", pa.table({"IID": ["a\u00a0"], "z": [1.0]}),
          MalformedError, r"a no-break space", **PARQUET),
    # --- numbers
    Fault("C8 decimal comma", text("\t1", "\t2,5"), MalformedError,
          r"table.tsv:2 has '2,5' in column z0, which is no number. A decimal comma"),
    Fault("C8 thousands separator", text("1,", '"1,234,567",', CSV), MalformedError,
          r"'1,234,567'.*without thousands separators"),
    Fault("C8 underscores", text("\t1", "\t1_000"), MalformedError, r"'1_000'.*without thousands"),
    Fault("C13 text among numbers", text("\t3", "\tNot known"), MalformedError,
          r"table.tsv:3 has 'Not known' in column z0.*Write NA.*--categorical"),
    Fault("C13 two points", text("\t3", "\t1.2.3"), MalformedError, r"'1.2.3' in column z0"),
    Fault("C13 hexadecimal", text("\t3", "\t0x10"), MalformedError, r"'0x10' in column z0"),
    Fault("C13 foreign digits", text("\t3", "\t٣"), MalformedError, r"'٣' in column z0"),
    Fault("C13 a date of a spreadsheet", text("\t3", "\t2-Mar"), MalformedError, r"'2-Mar'"),
    Fault("C13 an ISO date", text("\t3", "\t2021-03-02"), MalformedError, r"'2021-03-02'"),
    Fault("C13 an error of a spreadsheet", text("\t3", "\t#DIV/0!"), MalformedError, r"'#DIV/0!'"),
    Fault("C13 empty quotes between tabs", text("\t3", '\t""'), MalformedError, r"'\"\"'"),
    Fault("C13 infinite", text("\t3", "\tinf"), MalformedError,
          r"column z0 is infinite in 1 rows \(first: data row 2\). Write NA"),
    Fault("C13 minus infinite", text("\t3", "\t-Infinity"), MalformedError, r"is infinite"),
    Fault("C13 larger than double", text("\t3", "\t1e400"), MalformedError, r"is infinite"),
    Fault("C13 infinite, covariates", "IID g\na inf\nb -inf\n", MalformedError,
          r"column g is infinite in 2 rows", OF_COVARIATES),
    Fault("D9 infinite in Parquet", pa.table({"IID": ["a", "b"], "z": [1.0, np.inf]}),
          MalformedError, r"column z is infinite in 1 rows", **PARQUET),
    Fault("D9 infinite, half precision", pa.table({"IID": ["a"], "z": [np.float16(np.inf)]}),
          MalformedError, r"column z is infinite in 1 rows", **PARQUET),
    Fault("lists instead of numbers", pa.table({"IID": ["a"], "z": [[1.0]]}), MalformedError,
          r"column z has type list.*Numbers are needed", **PARQUET),
    Fault("dates instead of numbers", pa.table({"IID": ["a"], "z": pa.array([1], pa.date32())}),
          MalformedError, r"column z has type date32", **PARQUET),
    Fault("C12 -9 among its neighbours", "IID y\na -9\nb -9.4\n", MalformedError,
          r"column y holds -9 and other values between -10 and -8.*--neg9 missing", OF_PHENOTYPES),
    Fault("C12 -9 among its neighbours, covariates", "IID y\na -9\nb -8.1\n", MalformedError,
          r"column y holds -9 and other values", OF_COVARIATES),
    Fault("neg9 misspelt", "IID y\na -9\n", UsageError, r"neg9 is 'drop'", OF_PHENOTYPES,
          {"neg9": "drop"}),
    # --- covariates
    Fault("C15 too many levels", "IID c\n" + "".join(f"p{i} {i}\n" for i in range(60)),
          DegenerateError, r"column c has 60 levels. At most 50 \(--max-levels\)", OF_COVARIATES,
          {"categorical": ["c"]}),
    Fault("labels with digits are not guessed", "IID c\na site1\nb site2\n", MalformedError,
          r"'site1' in column c.*declared with --categorical", OF_COVARIATES),
    Fault("a name of an indicator is taken", "IID,s,s[2]\na,1,5\nb,2,6\n", UsageError,
          r"two different covariates would be called s\[2\]", OF_COVARIATES,
          {"categorical": ["s"]}),
    # --- other files
    Fault("C21 gzip bomb", gzip.compress(bytes(11_000_000)), MalformedError,
          r"unpacks to more than 10,000,000 bytes"),
    Fault("C22 Excel", b"PK\x03\x04" + bytes(99), MalformedError, r"an Excel or zip file: save"),
    Fault("C22 old Excel", b"\xd0\xcf\x11\xe0" + bytes(99), MalformedError, r"an old Excel file"),
    Fault("C22 SPSS", b"$FL2@(#) SPSS", MalformedError, r"an SPSS file"),
    Fault("C22 Stata", b"<stata_dta><header>", MalformedError, r"a Stata file"),
    Fault("C22 .RData", gzip.compress(b"RDX3\nX\n"), MalformedError,
          r"an R data file.*row.names=FALSE"),
    Fault("C22 .rds", gzip.compress(b"X\n\x00\x00\x00\x03"), MalformedError, r"an R data file"),
    Fault("C22 Feather", b"ARROW1\0\0", MalformedError, r"a Feather file: write it as Parquet"),
    Fault("C22 HDF5", b"\x89HDF\r\n\x1a\n", MalformedError, r"an HDF5 file"),
    Fault("C22 zstd", b"\x28\xb5\x2f\xfd" + bytes(9), MalformedError, r"a zstd file.*unzstd"),
    Fault("C22 bzip2", b"BZh91AY&SY", MalformedError, r"a bzip2 file"),
    Fault("C22 xz", b"\xfd7zXZ\x00\x00", MalformedError, r"an xz file"),
    Fault("C22 UTF-16", TSV.encode("utf-16"), MalformedError, r"UTF-16 text. Save it as UTF-8"),
    Fault("D5 NumPy", b"\x93NUMPY\x01\x00" + bytes(99), MalformedError,
          r"a NumPy array, which carries no sample ids"),
    Fault("D3 pickle", b"\x80\x04\x95" + bytes(50), RefusedError,
          r"a Python pickle, which can run code"),
    Fault("D3 gzipped pickle", gzip.compress(b"\x80\x05\x95" + bytes(50)), RefusedError,
          r"a Python pickle"),
    Fault("LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
          MalformedError, r"a Git LFS pointer.*git lfs pull"),
    Fault("LFS pointer for Parquet", "version https://git-lfs.github.com/spec/v1\n",
          MalformedError, r"a Git LFS pointer", **PARQUET),
    Fault("HTML page", "\n <!doctype HTML>\n<html>", MalformedError,
          r"an HTML page, probably a failed download"),
    Fault("HTML page for Parquet", "<HTML><body>404", MalformedError, r"an HTML page", **PARQUET),
    Fault("XML error", '<?xml version="1.0"?><Error>AccessDenied</Error>', MalformedError,
          r"an XML document, probably the error message"),
    Fault("pickle named Parquet", b"\x80\x04\x95" + bytes(50), RefusedError, r"pickle", **PARQUET),
    # --- Parquet
    Fault("D7 Parquet cut short", WHOLE[:-20], MalformedError,
          r"is not a whole Parquet file.*Write or copy it again", **PARQUET),
    Fault("D7 Parquet without its head", WHOLE[4:], MalformedError,
          r"does not begin as a Parquet file does", **PARQUET),
    Fault("D7 Parquet with a flipped bit", flipped(), MalformedError,
          r"table.parquet is (damaged|not a whole)", **PARQUET),
    Fault("Parquet is empty", b"", MalformedError, r"table.parquet is empty", **PARQUET),
    Fault("Parquet is text", TSV, MalformedError, r"does not begin as a Parquet", **PARQUET),
    Fault("Parquet without rows", pa.table({"IID": pa.array([], pa.string()),
                                            "z": pa.array([], pa.float64())}),
          MalformedError, r"has columns and no rows", **PARQUET),
    Fault("Parquet with a column twice", pa.Table.from_arrays(
        [pa.array(["a"]), pa.array([1.0]), pa.array([2.0])], names=["IID", "z", "z"]),
          MalformedError, r"the columns holds 1 repeated names \(first: z\)", **PARQUET),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(tmp_path, fault):
    path = fault.write(tmp_path)
    with pytest.raises(fault.error) as refusal:
        fault.reader(path, **fault.options)
    assert type(refusal.value) is fault.error
    assert re.search(fault.message, str(refusal.value), re.DOTALL), str(refusal.value)
    assert not re.search(r"person100[01]", str(refusal.value)), "an id in an error"


def test_faults_have_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("name", ["nowhere.tsv", "nowhere.parquet"])
def test_an_absent_file(tmp_path, name):
    with pytest.raises(OpenError, match=f"{name} does not exist. Check the path"):
        imgwas.read_latents(tmp_path / name)


@pytest.mark.parametrize("name", ["folder", "folder.parquet"])
def test_a_folder_is_no_table(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OpenError, match=f"{name} is a folder. One file"):
        imgwas.read_latents(tmp_path / name)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (13, OpenError, r"cannot be opened \(Permission denied\)"),
        (5, ReadError, r"reading .* failed \(Input/output error\)"),
        (116, ReadError, r"reading .* failed \(Stale file handle\)"),
    ],
)
def test_refusals_of_the_system(tmp_path, monkeypatch, number, error, message):
    path = tmp_path / "t.tsv"
    path.write_text(TSV)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(error, match=message):
        imgwas.read_latents(path)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"z": [1, "x", 2.5]}, index=list("abc")), "column z holds values of several"),
        (pd.DataFrame({"z": [1.0]}), "no id column"),
        (pd.DataFrame({"z": [1.0]}, index=[1000017.5]), "floating-point"),
        (pd.DataFrame([[1.0, 2.0]], columns=["z", "z"], index=["a"]), "repeated names"),
        (
            pd.DataFrame({"IID": ["a", "b"], "z": [1.0, 2.0]}).set_index("IID", drop=False)[::-1]
            .assign(IID=["a", "b"]),
            "the index IID and the column of that name differ",
        ),
        (
            pd.DataFrame({"z": [1.0]}, index=pd.MultiIndex.from_tuples([("f", "a")])),
            "an index of 2 levels. Levels named FID and IID",
        ),
        (pd.DataFrame({"z": [pd.Timestamp("2020-01-01")]}, index=["a"]), "type timestamp"),
        (pd.DataFrame({"z": [1j]}, index=["a"]), "several types|type"),
    ],
)  # fmt: skip
def test_frames_that_are_refused(frame, message):
    with pytest.raises(MalformedError, match=message):
        imgwas.latents_from_frame(frame)


#: Format characters that are drawn: number signs and marks of Arabic, Kaithi and Syriac.
DRAWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2}


def test_every_invisible_character_is_seen():
    """All of Unicode's spaces, controls and format characters, but for those of plain text."""
    for code in set(range(0x3100)) - DRAWN - set(map(ord, " \t\n\r")):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zs", "Zl", "Zp"):
            with pytest.raises(MalformedError, match=rf"U\+{code:04X}"):
                check_hidden(f"a{chr(code)}b".encode(), Path("t"))


def test_writing_of_the_world_is_text():
    check_hidden(
        "Zürich Łódź 東京 القاهرة मुंबई Ελλάδα e\u0301 €£¥ “quoted” – dash\t".encode(), Path("t")
    )

"""Tables as people write them: every spelling that is accepted means what it says."""

from __future__ import annotations

import csv
import gzip
import io
import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import imgwas
from imgwas.errors import ImgwasError, MalformedError, UsageError
from imgwas.tables import read_id_list
from imgwas.tables.delimited import read_text_table
from tests.data import data_file

IDS = ["007", "1e5", "NA", "None", "True", "inf", "12345678901234567", "ä-1", "Zürich_日本"]
NUMBERS = ["1", "-2.5", "1e-3", "NA", "nan", "+4", ".5", "-9", "1E2"]
EXPECTED = np.array([1, -2.5, 1e-3, np.nan, np.nan, 4, 0.5, -9, 100])


def text_of(delimiter: str, header: str = "IID") -> str:
    rows = [[header, "z0"], *([i, n] for i, n in zip(IDS, NUMBERS, strict=True))]
    return "\n".join(delimiter.join(row) for row in rows) + "\n"


@pytest.fixture
def write(tmp_path):
    """Write a file and give its path."""

    def _write(content: str | bytes, name: str = "table.tsv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


# --- spellings of delimited text


@pytest.mark.parametrize("delimiter", [",", "\t", " ", "   ", " , "])
@pytest.mark.parametrize(
    "change",
    [
        lambda b: b,
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: b.replace(b"\n", b"\r"),
        lambda b: b.replace(b"\n", b"\r\n", 3),
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b[:-1],
        lambda b: b + b"\n\n",
        lambda b: b"\n" + b,
        gzip.compress,
        lambda b: gzip.compress(b[:40]) + gzip.compress(b[40:]),
    ],
    ids=["LF", "CRLF", "CR", "mixed", "BOM", "no last LF", "blank end", "blank start", "gz", "bgz"],
)
def test_spellings_of_a_table(write, delimiter, change):
    latents = imgwas.read_latents(write(change(text_of(delimiter).encode())))
    assert list(latents.sample_ids) == IDS
    np.testing.assert_array_equal(latents.values[:, 0], EXPECTED)


def test_header_and_rows_may_be_spaced_differently(write):
    for text in ("IID\tz0  \n  a   1\n b   2  \n", "IID z0\na\t1\nb \t 2 \n"):
        latents = imgwas.read_latents(write(text))
        assert latents.sample_ids == ("a", "b")
        assert latents.values.tolist() == [[1], [2]]


def test_quotes_belong_to_csv(write):
    path = write('"IID","z,1","say ""z"""\n"a,b","1",2\nc,"3","4"\n', "t.csv")
    latents = imgwas.read_latents(path)
    assert latents.names == ("z,1", 'say "z"')
    assert latents.sample_ids == ("a,b", "c")
    assert latents.values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("missing", ["NA", "nan", "NaN", "Nan", "", "N/A", ".", " ", "-nan"])
def test_codes_of_missing_values(write, missing):
    latents = imgwas.read_latents(write(f"IID,z,y\na,{missing},1\nb,2,{missing}\n", "t.csv"))
    np.testing.assert_array_equal(latents.values, [[np.nan, 1], [2, np.nan]])


def test_an_empty_cell_between_tabs_is_missing(write):
    latents = imgwas.read_latents(write("IID\tz\ty\na\t\t1\nb\t2\t\n"))
    np.testing.assert_array_equal(latents.values, [[np.nan, 1], [2, np.nan]])


@pytest.mark.parametrize(
    ("header", "families"),
    [
        ("IID", None),
        ("#IID", None),
        ("eid", None),
        ("FID\tIID", ("f", "g")),
        ("#FID\tIID", ("f", "g")),
        ('"FID"\t"IID"', ("f", "g")),
        ("iid", None),
        ("participant_id", None),
    ],
)
def test_usual_names_of_id_columns(write, header, families):
    family = ["f\t", "g\t"] if families else ["", ""]
    path = write(f"{header}\tz\n{family[0]}a\t1\n{family[1]}b\t2\n")
    latents = imgwas.read_latents(path)
    assert latents.sample_ids == ("a", "b")
    assert latents.family_ids == families
    assert latents.names == ("z",)


def test_an_id_column_by_name_leaves_the_others(write):
    path = write("subject,visit,z\n1000017,2,0.5\n1000018,2,0.7\n", "t.csv")
    latents = imgwas.read_latents(path, id_column="subject", names=["z"])
    assert latents.sample_ids == ("1000017", "1000018")
    assert latents.names == ("z",)


def test_ids_are_never_taken_for_values(write):
    """Ids beside the id column are numbers, and would be a covariate that nobody asked for."""
    path = write("FID IID eid z\n7 a 1000017 1\n8 b 1000018 2\n")
    for id_column, ids in [("IID", ("a", "b")), ("eid", ("1000017", "1000018")), (None, None)]:
        latents = imgwas.read_latents(path, id_column=id_column)
        assert latents.names == ("z",)
        assert latents.family_ids == ("7", "8")
        assert latents.sample_ids == (ids or ("a", "b"))


def test_ranges_of_names(write):
    path = write("IID," + ",".join(f"PC{i}" for i in range(1, 13)) + "\na" + ",1" * 12 + "\n")
    assert imgwas.read_latents(path, names=["PC{2:4}"]).names == ("PC2", "PC3", "PC4")
    assert imgwas.read_latents(path, names=["PC9-PC11"]).names == ("PC9", "PC10", "PC11")
    assert imgwas.read_latents(path, names=["PC3", "PC1", "PC3"]).names == ("PC3", "PC1")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["PC{2:3}"], "no column 'PC3'. Did you mean PC2 or PC1"),
        (["PC{1:999999999}"], "no column 'PC3'"),
        (["PC{2:1}"], "the range 'PC{2:1}' is empty"),
        (["PC2-PC1"], "no column 'PC2-PC1'"),
        (["pc1"], "no column 'pc1'. Did you mean PC1"),
        (["IID"], "no column 'IID'"),
        (["zzz"], "It has PC1, PC2"),
    ],
)
def test_names_that_do_not_exist(write, names, message):
    with pytest.raises(UsageError, match=message):
        imgwas.read_latents(write("IID,PC1,PC2\na,1,2\n"), names=names)


@pytest.mark.parametrize(
    ("neg9", "column", "expected"),
    [
        ("plink", ["-9", "1", "2"], [np.nan, 1, 2]),
        ("plink", ["-9.0", "-7", "-11"], [np.nan, -7, -11]),
        ("plink", ["-9.4", "-8.6", "2"], [-9.4, -8.6, 2]),
        ("missing", ["-9", "-9.4", "2"], [np.nan, -9.4, 2]),
        ("value", ["-9", "-9.4", "2"], [-9, -9.4, 2]),
    ],
)
def test_minus_nine_where_plink_reads_it_so(write, neg9, column, expected):
    path = write("FID IID y\n" + "".join(f"0 p{i} {v}\n" for i, v in enumerate(column)))
    np.testing.assert_array_equal(imgwas.read_phenotypes(path, neg9=neg9).values[:, 0], expected)


def test_minus_nine_is_judged_column_by_column(write):
    path = write("IID y w\na -9 -9\nb -8.5 1\n")
    with pytest.raises(MalformedError, match="column y holds -9 and other values between"):
        imgwas.read_phenotypes(path)
    assert np.isnan(imgwas.read_phenotypes(path, names=["w"]).values[0, 0])
    apart = imgwas.read_phenotypes(write("IID y w\na -9 -8.5\nb 1 -9.5\n"))
    np.testing.assert_array_equal(apart.values, [[np.nan, -8.5], [1, -9.5]])


def test_minus_nine_in_a_table_of_latents_is_a_number(write):
    latents = imgwas.read_latents(write("IID,z\na,-9\nb,1\n"))
    np.testing.assert_array_equal(latents.values[:, 0], [-9, 1])


def test_a_file_that_may_have_been_cut_is_mentioned(write, caplog):
    imgwas.read_latents(write("IID\tz\na\t99999\nb\t999"))
    assert "the last line has no line end; if the file was cut short" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        imgwas.read_latents(write("IID\tz\r\na\t99999\r\n"))
    assert "cut short" not in caplog.text
    assert "line ends of Windows" in caplog.text


def test_lines_longer_than_a_block_are_read(write, monkeypatch):
    monkeypatch.setattr("imgwas.tables.delimited.BLOCK", 300)
    names = [f"z{i}" for i in range(200)]
    text = "\t".join(["IID", *names]) + "\n" + ("p{}" + "\t0.25" * 200 + "\n") * 3
    latents = imgwas.read_latents(write(text.format(1, 2, 3)))
    assert latents.values.tolist() == [[0.25] * 200] * 3
    quoted = '"IID","z"\n' + "".join(f'"p{i}","{i}"\n' for i in range(500))
    assert imgwas.read_latents(write(quoted)).values[:, 0].tolist() == list(range(500))


def test_home_is_where_the_tilde_points(write, tmp_path, monkeypatch):
    write("IID,z\na,1\n", "t.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    latents = imgwas.read_latents("~/t.csv")
    assert latents.source["file"] == "t.csv"
    assert latents.source["bytes"] == 10


# --- Parquet and DataFrames

PARQUET = {
    "named index": lambda f: f.rename_axis("IID"),
    "unnamed index": lambda f: f,
    "column": lambda f: f.rename_axis("IID").reset_index(),
    "categories": lambda f: f.rename_axis("IID").reset_index().astype({"IID": "category"}),
    "levels FID and IID": lambda f: f.set_index(
        pd.MultiIndex.from_arrays([["f"] * len(f), f.index], names=["FID", "IID"])
    ),
    "column, some rows gone": lambda f: (
        f.rename_axis("IID").reset_index().set_axis(pd.Index(np.arange(9) ** 2), axis=0)
    ),
}


@pytest.mark.parametrize("form", PARQUET)
def test_parquet_keeps_ids_and_numbers(tmp_path, form):
    frame = pd.DataFrame({"z0": EXPECTED, "z1": np.arange(9, dtype=np.int16)}, index=IDS)
    PARQUET[form](frame).to_parquet(tmp_path / "t.parquet")
    for latents in (
        imgwas.read_latents(tmp_path / "t.parquet"),
        imgwas.latents_from_frame(PARQUET[form](frame)),
    ):
        assert list(latents.sample_ids) == IDS
        assert latents.names == ("z0", "z1")
        np.testing.assert_array_equal(latents.values[:, 0], EXPECTED)
        np.testing.assert_array_equal(latents.values[:, 1], np.arange(9))


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["1000017", "1000018"]),
        pa.array(["1000017", " 1000018 "]),
        pa.array([1000017, 1000018]),
        pa.array([1000017, 1000018], pa.uint64()),
        pa.array(["1000017", "1000018"], pa.large_string()),
        pa.array([b"1000017", b"1000018"]),
        pa.array(["1000017", "1000018"]).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5, None]),
        pa.array([1.5, None], pa.float32()),
        pa.array([np.float16(1.5), None], pa.float16()),
        pa.array(["1.5", "NA"]),
        pa.array(["1.5", None], pa.large_string()),
        pa.array(["1.5", None]).dictionary_encode(),
        pa.array([1.5, None], pa.float64()).cast(pa.decimal128(5, 2)),
    ],
    ids=lambda array: str(array.type),
)
def test_types_of_arrow(tmp_path, ids, values):
    pq.write_table(pa.table({"eid": ids, "z": values}), tmp_path / "t.parquet")
    latents = imgwas.read_latents(tmp_path / "t.parquet")
    assert latents.sample_ids == ("1000017", "1000018")
    np.testing.assert_array_equal(latents.values[:, 0], [1.5, np.nan])


def test_other_types_of_arrow(tmp_path):
    columns = {
        "whole": pa.array([3, None]),
        "truth": pa.array([True, False]),
        "nothing": pa.nulls(2),
        "view": pa.array(["1", "2"], pa.string_view()),
    }
    pq.write_table(pa.table({"IID": ["a", "b"], **columns}), tmp_path / "t.parquet")
    latents = imgwas.read_latents(tmp_path / "t.parquet")
    nan = np.nan
    np.testing.assert_array_equal(latents.values, [[3, 1, nan, 1], [nan, 0, nan, 2]])


def test_parquet_is_told_from_its_first_bytes(tmp_path):
    pd.DataFrame({"IID": ["a"], "z": [1.0]}).to_parquet(tmp_path / "latents.dat")
    assert imgwas.read_latents(tmp_path / "latents.dat").sample_ids == ("a",)


def test_metadata_of_pandas_are_a_courtesy(tmp_path):
    for metadata in (b"{", b"[]", b'{"index_columns": 3}'):
        table = pa.table({"IID": ["a"], "z": [1.0]}).replace_schema_metadata({b"pandas": metadata})
        pq.write_table(table, tmp_path / "t.parquet")
        assert imgwas.read_latents(tmp_path / "t.parquet").sample_ids == ("a",)


FRAME = pd.DataFrame({"eid": ["a", "b", "c"], "z": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize(
    ("frame", "id_column", "ids"),
    [
        (FRAME, None, ("a", "b", "c")),
        (FRAME[FRAME.z != 2], None, ("a", "c")),
        (FRAME.set_index("eid"), None, ("a", "b", "c")),
        (FRAME.set_index("eid", drop=False), None, ("a", "b", "c")),
        (FRAME.set_index("eid").rename_axis(None), None, ("a", "b", "c")),
        (FRAME.set_index("eid").rename_axis("person"), None, ("a", "b", "c")),
        (FRAME.set_index("eid").rename_axis("person"), "person", ("a", "b", "c")),
        (FRAME.rename_axis("row"), None, ("a", "b", "c")),
        (FRAME.rename(columns={"eid": "who"}), "who", ("a", "b", "c")),
        (pd.DataFrame({"z": [1.0]}, index=[1000017]), None, ("1000017",)),
        (pd.DataFrame({0: [1.0], "IID": ["a"]}), None, ("a",)),
    ],
)
def test_frames_by_index_or_column(frame, id_column, ids):
    latents = imgwas.latents_from_frame(frame, id_column=id_column)
    assert latents.sample_ids == ids
    assert latents.names in (("z",), ("0",))
    expected = frame.select_dtypes("number").to_numpy()
    np.testing.assert_array_equal(latents.values, expected)


# --- public files


@pytest.mark.parametrize(
    ("name", "is_text"),
    [
        ("regenie_example/phenotype.txt", []),
        ("regenie_example/phenotype_bin_wNA.txt", []),
        ("regenie_example/covariates.txt.gz", []),
        ("regenie_example/covariates_wBin.txt", ["V5"]),
        ("maize/maize.pheno", []),
        ("wheat/wheat.pheno", []),
        ("torchgwas_toy/pheno.tsv", []),
        ("formats/chr21_phase3_start.psam", ["SuperPop", "Population"]),
    ],
)
def test_public_tables_read_as_pandas_reads_them(name, is_text):
    path = data_file(name)
    expected = pd.read_csv(
        path, sep=r"\s+", dtype={"FID": str, "IID": str, "#IID": str}, float_precision="round_trip"
    )
    expected = expected.rename(columns={"#IID": "IID"}).drop(
        columns=["PAT", "MAT", "FID"], errors="ignore"
    )
    expected = expected.set_index("IID")
    covariates = imgwas.read_covariates(path)
    assert list(covariates.sample_ids) == list(expected.index)
    dummies = pd.get_dummies(expected, columns=is_text, dtype=float, prefix_sep="[")
    for column, values in zip(covariates.names, covariates.values.T, strict=True):
        np.testing.assert_array_equal(values, dummies[column.removesuffix("]")])
    assert set(covariates.terms) == set(expected.columns)
    if not is_text:
        latents = imgwas.read_phenotypes(path)
        np.testing.assert_array_equal(latents.values, expected.to_numpy(float))
        assert list(latents.names) == list(expected.columns)


# --- parsers against other parsers

CHARACTERS = st.characters(codec="utf-8", categories=["L", "N", "P", "S"])
FIELD = st.text(CHARACTERS, min_size=1, max_size=8)
ID = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=12)


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


@given(
    header=st.lists(FIELD.filter(lambda f: f != "IID"), min_size=2, max_size=2, unique=True),
    rows=st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=6),
)
@example(header=['"', ","], rows=[('a"b', '""', "x,y")])
def test_csv_reads_as_the_csv_module_reads_it(tmp_path_factory, header, rows):
    """Whatever the characters, quoted fields included: the same strings."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    write_csv(path, [("IID", *header), *rows])
    if "\u2212" in path.read_text(encoding="utf-8"):
        return
    table = read_text_table(path).table
    assert table.column_names == ["IID", *header]
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == rows


@given(text=st.text(st.sampled_from('ab1,"\n '), max_size=40))
@example(text='x,"y\nb,2"\n')
@example(text='a,"b"c\n')
@example(text='a,b"c"\n')
@example(text='a, "b"\n')
def test_any_csv_reads_as_the_csv_module_reads_it_or_is_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(f"IID,z\n{text}", encoding="utf-8")
    try:
        table = read_text_table(path).table
    except MalformedError:
        return
    expected = list(csv.reader(io.StringIO(text.strip("\n"))))
    assert [list(row) for row in zip(*(c.to_pylist() for c in table.columns), strict=True)] == (
        expected
    )


@given(ids=st.lists(ID, min_size=1, max_size=5, unique=True), form=st.sampled_from("ctsp"))
@example(ids=["007", "7", "1e5", "100000.0", "NA", "nan", "0x1F", "1_000", "٣"], form="s")
def test_ids_survive_every_form(tmp_path_factory, ids, form):
    if "\u2212" in "".join(ids) or (form != "c" and any(i.startswith('"') for i in ids)):
        return
    path = tmp_path_factory.mktemp("ids") / ("t.parquet" if form == "p" else "t.txt")
    if form == "p":
        pd.DataFrame({"z": 1.0}, index=pd.Index(ids, name="IID")).to_parquet(path)
    elif form == "c":
        write_csv(path, [("IID", "z"), *((i, "1") for i in ids)])
    else:
        delimiter = {"t": "\t", "s": " "}[form]
        path.write_text(
            "\n".join(delimiter.join(row) for row in [("IID", "z"), *((i, "1") for i in ids)]),
            encoding="utf-8",
        )
    assert list(imgwas.read_latents(path).sample_ids) == ids


@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=9))
def test_numbers_survive_text(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("numbers") / "t.csv"
    write_csv(path, [("IID", "z"), *((f"p{i}", repr(v)) for i, v in enumerate(values))])
    np.testing.assert_array_equal(imgwas.read_latents(path).values[:, 0], values)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "t.tsv"
    for header in (b"IID\tz\n", b"IID,z\n", b"", b"PAR1", b"\x1f\x8b"):
        path.write_bytes(header + content)
        try:
            latents = imgwas.read_latents(path)
        except ImgwasError:
            continue
        assert latents.values.shape == (len(latents.sample_ids), len(latents.names))


# --- lists of people


@pytest.mark.parametrize(
    ("text", "ids", "families"),
    [
        ("a\nb\n", ("a", "b"), None),
        ("f a\ng b\n", ("a", "b"), ("f", "g")),
        ("f\ta\textra\n\ng b\r\n", ("a", "b"), ("f", "g")),
        ("#IID\na\nb\n", ("a", "b"), None),
        ("#IID SEX\na 1\n", ("a",), None),
        ("#FID\tIID\nf\ta\n", ("a",), ("f",)),
        ("FID IID SEX\nf a 1\n", ("a",), ("f",)),
        ("IID\nFID\n", ("FID",), None),
        ("sample_id\tpath\na\tx.nii\n", ("a",), None),
        ("007\n1e5\nNA", ("007", "1e5", "NA"), None),
    ],
)
def test_lists_of_people(write, text, ids, families):
    listed = read_id_list(write(text))
    assert (listed.sample_ids, listed.family_ids) == (ids, families)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("#FID IID\n", "has the header '#FID IID' and no ids"),
        ("f a\n\nb\n", r"table.tsv:3 has one field. FID and IID, like the other lines"),
        ("#FID IID\nf a\nb\n", "table.tsv:3 has one field"),
        ("a\x00\n", "a NUL byte"),
        ("PAR1....PAR1", "is a Parquet file. Write the list as text"),
    ],
)
def test_lists_that_are_refused(write, text, message):
    with pytest.raises(MalformedError, match=message):
        read_id_list(write(text))

"""Tables: every spelling that is accepted means what it says, and nothing is guessed."""

from __future__ import annotations

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imgwas
from imgwas.errors import ImgwasError, MalformedError, UsageError
from imgwas.tables import read_id_list
from imgwas.tables.delimited import read_text_table
from imgwas.tables.formula import design_of, parse

IDS = ["007", "1e5", "NA", "None", "True", "inf", "12345678901234567", "ä-1"]
NUMBERS = ["1", "-2.5", "1e-3", "NA", "nan", "+4", ".5", "-9"]


def text_of(delimiter: str, header: str = "IID") -> str:
    rows = [[header, "z0"], *([i, n] for i, n in zip(IDS, NUMBERS, strict=True))]
    return "\n".join(delimiter.join(row) for row in rows) + "\n"


EXPECTED = np.array([1, -2.5, 1e-3, np.nan, np.nan, 4, 0.5, -9])


@pytest.mark.parametrize("delimiter", [",", "\t", " ", "   "])
@pytest.mark.parametrize(
    "change",
    [
        lambda b: b,
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: b.replace(b"\n", b"\r"),
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b[:-1],
        lambda b: b + b"\n\n",
        gzip.compress,
    ],
    ids=["plain", "CRLF", "CR", "BOM", "no newline", "blank lines", "gzip"],
)
def test_spellings_of_a_table(tmp_path, delimiter, change):
    path = tmp_path / "latents.txt"
    path.write_bytes(change(text_of(delimiter).encode()))
    latents = imgwas.read_latents(path)
    assert list(latents.sample_ids) == IDS
    np.testing.assert_array_equal(latents.values[:, 0], EXPECTED)


def test_parquet_keeps_ids_and_numbers(tmp_path):
    frame = pd.DataFrame({"z0": EXPECTED, "z1": np.arange(8, dtype=np.int16)}, index=IDS)
    for name, table in {
        "index": frame.rename_axis("IID"),
        "unnamed index": frame,
        "column": frame.rename_axis("IID").reset_index(),
        "categories": frame.rename_axis("IID").reset_index().astype({"IID": "category"}),
    }.items():
        path = tmp_path / f"{name}.parquet"
        table.to_parquet(path)
        latents = imgwas.read_latents(path)
        assert list(latents.sample_ids) == IDS, name
        np.testing.assert_array_equal(latents.values[:, 0], EXPECTED)
        np.testing.assert_array_equal(latents.values[:, 1], np.arange(8))
        assert latents.names == ("z0", "z1")


@pytest.mark.parametrize(
    ("header", "families"),
    [
        ("IID", None),
        ("#IID", None),
        ("eid", None),
        ("FID\tIID", ("f", "g")),
        ("#FID\tIID", ("f", "g")),
        ("iid", None),
        ("participant_id", None),
    ],
)
def test_usual_names_of_id_columns(tmp_path, header, families):
    family = ["f\t", "g\t"] if families else ["", ""]
    path = tmp_path / "t.tsv"
    path.write_text(f"{header}\tz\n{family[0]}a\t1\n{family[1]}b\t2\n")
    latents = imgwas.read_latents(path)
    assert latents.sample_ids == ("a", "b")
    assert latents.family_ids == families
    assert latents.names == ("z",)


def test_an_id_column_by_name_leaves_the_others(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("subject,visit,z\n1000017,2,0.5\n1000018,2,0.7\n")
    latents = imgwas.read_latents(path, id_column="subject", names=["z"])
    assert latents.sample_ids == ("1000017", "1000018")
    assert latents.names == ("z",)


def test_ranges_of_names(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("IID," + ",".join(f"PC{i}" for i in range(1, 13)) + "\na" + ",1" * 12 + "\n")
    assert imgwas.read_latents(path, names=["PC{2:4}"]).names == ("PC2", "PC3", "PC4")
    assert imgwas.read_latents(path, names=["PC9-PC11"]).names == ("PC9", "PC10", "PC11")
    with pytest.raises(UsageError, match="no column 'PC13'"):
        imgwas.read_latents(path, names=["PC{12:13}"])


@pytest.mark.parametrize(
    ("neg9", "column", "expected"),
    [
        ("plink", ["-9", "1", "2"], [np.nan, 1, 2]),
        ("plink", ["-9", "-7", "-11"], [np.nan, -7, -11]),
        ("missing", ["-9", "-9.4", "2"], [np.nan, -9.4, 2]),
        ("value", ["-9", "-9.4", "2"], [-9, -9.4, 2]),
    ],
)
def test_minus_nine_where_plink_reads_it_so(tmp_path, neg9, column, expected):
    path = tmp_path / "p.txt"
    path.write_text("FID IID y\n" + "".join(f"0 p{i} {v}\n" for i, v in enumerate(column)))
    np.testing.assert_array_equal(imgwas.read_phenotypes(path, neg9=neg9).values[:, 0], expected)


def test_minus_nine_in_a_table_of_latents_is_a_number(tmp_path):
    path = tmp_path / "latents.csv"
    path.write_text("IID,z\na,-9\nb,1\n")
    np.testing.assert_array_equal(imgwas.read_latents(path).values[:, 0], [-9, 1])


CHARACTERS = st.characters(codec="utf-8", categories=["L", "N", "P", "S"])
FIELD = st.text(CHARACTERS, min_size=1, max_size=8)


@given(rows=st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=6))
def test_csv_reads_as_the_csv_module_reads_it(tmp_path_factory, rows):
    """Whatever the characters, quoted fields included: the same strings, or a refusal."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([("IID", "a", "b"), *rows])
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    try:
        table = read_text_table(path).table
    except MalformedError as refusal:
        hidden = "\u2212" in stream.getvalue() or "\ufeff" in stream.getvalue()
        if not hidden:
            raise AssertionError(f"{rows} was refused: {refusal}") from refusal
        return
    read = list(zip(*(table[name].to_pylist() for name in ("IID", "a", "b")), strict=True))
    assert read == rows


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "t.tsv"
    path.write_bytes(b"IID\tz\n" + content)
    try:
        latents = imgwas.read_latents(path)
    except ImgwasError:
        return
    assert latents.values.shape == (len(latents.sample_ids), 1)


# --- covariates

FRAME = pd.DataFrame(
    {
        "age": [50.0, 60, 55, 70, 65, 58],
        "sex": [1, 2, 1, 2, 1, 2],
        "centre": ["york", "leeds", "hull", "york", "leeds", "york"],
        "batch": [3, 1, 2, 3, 10, 1],
    },
    index=pd.Index([f"p{i}" for i in range(6)], name="IID"),
)


def test_labels_become_indicators_of_all_levels_but_the_first():
    covariates = imgwas.covariates_from_frame(FRAME, categorical=["batch"])
    named = dict(zip(covariates.names, covariates.values.T, strict=True))
    assert list(named) == [
        *("age", "sex", "centre[leeds]", "centre[york]"),
        *("batch[2]", "batch[3]", "batch[10]"),
    ]
    expected = pd.get_dummies(FRAME["centre"], dtype=float)
    np.testing.assert_array_equal(named["centre[leeds]"], expected["leeds"])
    np.testing.assert_array_equal(named["batch[10]"], FRAME["batch"] == 10)


def test_a_missing_label_is_missing_in_every_indicator():
    frame = FRAME.assign(centre=["york", None, "hull", "NA", "leeds", ""])
    covariates = imgwas.covariates_from_frame(frame[["centre"]])
    missing = np.isnan(covariates.values)
    assert (missing.all(axis=1) == [False, True, False, True, False, True]).all()
    assert (missing.any(axis=1) == missing.all(axis=1)).all()


@pytest.mark.parametrize(
    ("formula", "columns"),
    [
        ("age", {"age": FRAME.age}),
        ("age + age^2", {"age": FRAME.age, "age^2": FRAME.age**2}),
        ("age + I(age**2)", {"age": FRAME.age, "age^2": FRAME.age**2}),
        ("age:sex", {"age:sex": FRAME.age * FRAME.sex}),
        ("age*sex", {"age": FRAME.age, "sex": FRAME.sex, "age:sex": FRAME.age * FRAME.sex}),
        ("y ~ 1 + age - sex", {"age": FRAME.age}),
        ("(age + sex):sex", {"age:sex": FRAME.age * FRAME.sex, "sex": FRAME.sex}),
        ("C(sex)", {"sex[2]": FRAME.sex == 2}),
        (
            "age:C(sex) + centre",
            {
                "age:sex[2]": FRAME.age * (FRAME.sex == 2),
                "centre[leeds]": FRAME.centre == "leeds",
                "centre[york]": FRAME.centre == "york",
            },
        ),
    ],
)
def test_formulae_equal_the_columns_by_hand(formula, columns):
    covariates = imgwas.covariates_from_frame(FRAME, formula=formula)
    assert list(covariates.names) == list(columns)
    expected = np.column_stack([np.asarray(v, float) for v in columns.values()])
    np.testing.assert_allclose(covariates.values, expected)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')",
        "age.real",
        "open('x')",
        "exec(age)",
        "lambda: age",
        "age; sex",
        "np.log(age)",
        "age[0]",
        "age ** age",
        "age^0",
        "age^7",
        "2*age",
        "age +",
        "(age",
        "",
        "age ~ sex ~ age",
        "C(age + sex)",
        "(age + sex)^2",
    ],
)
def test_what_is_no_formula_is_refused(formula):
    with pytest.raises(UsageError):
        imgwas.covariates_from_frame(FRAME, formula=formula)


@given(text=st.text(max_size=40))
def test_any_text_is_a_formula_or_refused(text):
    try:
        terms = parse(text)
    except UsageError:
        return
    names = {factor.name for term in terms for factor in term}
    blocks = {name: {name: np.arange(3.0)} for name in names}
    columns, labels = design_of(text, blocks)
    assert len(columns) == len(labels)


# --- lists of people


@pytest.mark.parametrize(
    ("text", "ids", "families"),
    [
        ("a\nb\n", ("a", "b"), None),
        ("f a\ng b\n", ("a", "b"), ("f", "g")),
        ("#IID\na\nb\n", ("a", "b"), None),
        ("#FID\tIID\nf\ta\n", ("a",), ("f",)),
        ("FID IID SEX\nf a 1\n", ("a",), ("f",)),
        ("IID\nFID\n", ("FID",), None),
    ],
)
def test_lists_of_people(tmp_path, text, ids, families):
    (tmp_path / "list.txt").write_text(text)
    listed = read_id_list(tmp_path / "list.txt")
    assert (listed.sample_ids, listed.family_ids) == (ids, families)

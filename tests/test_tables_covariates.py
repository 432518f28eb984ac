"""Covariate tables: what becomes a number, what becomes indicators, what is said about it."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imgwas
from imgwas.errors import DegenerateError, MalformedError, UsageError

N = 60
RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {
        "age": RNG.uniform(45, 80, N),
        "sex": RNG.integers(1, 3, N),
        "centre": RNG.choice(["york", "leeds", "hull"], N),
        "batch": RNG.choice([3, 1, 10, 2], N),
    },
    index=pd.Index([f"p{i}" for i in range(N)], name="IID"),
)


def read(tmp_path, table: pd.DataFrame, **options):
    """Read a frame by way of a text file, Parquet, and directly; all must agree."""
    table.to_csv(tmp_path / "c.tsv", sep="\t", na_rep="NA")
    table.to_parquet(tmp_path / "c.parquet")
    text = imgwas.read_covariates(tmp_path / "c.tsv", **options)
    parquet = imgwas.read_covariates(tmp_path / "c.parquet", **options)
    direct = imgwas.covariates_from_frame(
        table, **{k: v for k, v in options.items() if k not in ("names", "neg9")}
    )
    others = [parquet] if {"names", "neg9"} & set(options) else [parquet, direct]
    for other in others:
        assert text.names == other.names
        assert text.terms == other.terms
        np.testing.assert_allclose(text.values, other.values, rtol=1e-15)
    return text


@pytest.mark.parametrize("categorical", [[], ["batch"], ["sex", "batch"], ["batch", "centre"]])
def test_indicators_are_those_of_pandas(tmp_path, categorical):
    covariates = read(tmp_path, FRAME, categorical=categorical)
    labels = [name for name in FRAME if name in categorical or name == "centre"]
    expected = pd.get_dummies(
        FRAME, columns=labels, drop_first=True, dtype=float, prefix_sep="["
    ).rename(columns=lambda name: f"{name}]" if "[" in name else name)
    assert set(covariates.names) == set(expected)
    np.testing.assert_allclose(covariates.values, expected[list(covariates.names)], rtol=1e-15)


def test_columns_keep_the_order_of_the_file_and_levels_that_of_numbers(tmp_path):
    covariates = read(tmp_path, FRAME, categorical=["batch"])
    assert covariates.names == (
        *("age", "sex", "centre[leeds]", "centre[york]"),
        *("batch[2]", "batch[3]", "batch[10]"),
    )
    assert covariates.terms == ("age", "sex", "centre", "centre", "batch", "batch", "batch")


def test_some_columns(tmp_path):
    assert read(tmp_path, FRAME, names=["batch", "age"]).names == ("batch", "age")


@pytest.mark.parametrize("missing", ["NA", "nan", "", ".", "N/A"])
def test_a_missing_label_is_missing_in_every_indicator(tmp_path, missing):
    (tmp_path / "c.csv").write_text(f"IID,c\na,york\nb,{missing}\nc,hull\nd,leeds\n")
    covariates = imgwas.read_covariates(tmp_path / "c.csv")
    nan = np.nan
    np.testing.assert_array_equal(covariates.values, [[0, 1], [nan, nan], [0, 0], [1, 0]])


@pytest.mark.parametrize("values", [["a", None, "b"], pd.Categorical(["a", None, "b"])])
def test_a_missing_label_of_a_frame(values):
    frame = pd.DataFrame({"c": values}, index=list("xyz"))
    np.testing.assert_array_equal(imgwas.covariates_from_frame(frame).values[:, 0], [0, np.nan, 1])


@pytest.mark.parametrize(
    "values",
    [
        pd.Categorical([3, 1, 2, 1]),
        pd.Categorical(["3", "1", "2", "1"], categories=["2", "3", "1", "never"]),
        np.array([3, 1, 2, 1], np.int8),
        np.array([3.0, 1, 2, 1]),
        ["3", "1", "2", "1"],
    ],
    ids=["numbers", "strings", "int8", "float", "text"],
)
def test_labels_of_any_type_are_the_same(values):
    frame = pd.DataFrame({"c": values}, index=list("wxyz"))
    covariates = imgwas.covariates_from_frame(frame, categorical=["c"])
    assert covariates.names == ("c[2]", "c[3]")
    np.testing.assert_array_equal(covariates.values, [[0, 1], [0, 0], [1, 0], [0, 0]])


def test_truth_values_are_numbers_or_labels():
    frame = pd.DataFrame({"c": [True, False]}, index=list("xy"))
    assert imgwas.covariates_from_frame(frame).values.tolist() == [[1], [0]]
    assert imgwas.covariates_from_frame(frame, categorical=["c"]).names == ("c[true]",)


@pytest.mark.parametrize(
    ("neg9", "rows"),
    [
        ("plink", [[np.nan, np.nan], [1, 0], [2, 1]]),
        ("missing", [[np.nan, np.nan], [1, 0], [2, 1]]),
        ("value", [[-9, 0, 0], [1, 1, 0], [2, 0, 1]]),
    ],
)
def test_minus_nine_as_number_and_as_label(tmp_path, neg9, rows):
    (tmp_path / "c.txt").write_text("FID IID x c\n0 a -9 -9\n0 b 1 1\n0 d 2 2\n")
    path = tmp_path / "c.txt"
    covariates = imgwas.read_covariates(path, categorical=["c"], neg9=neg9)
    np.testing.assert_array_equal(covariates.values, rows)
    assert covariates.family_ids == ("0", "0", "0")


@pytest.mark.parametrize(
    ("levels", "max_levels", "error"), [(50, 50, None), (51, 50, "51 levels"), (3, 2, "3 levels")]
)
def test_the_number_of_levels_has_a_limit(levels, max_levels, error):
    frame = pd.DataFrame({"c": range(levels)}, index=[f"p{i}" for i in range(levels)])
    options = {"categorical": ["c"], "max_levels": max_levels}
    if error is None:
        assert len(imgwas.covariates_from_frame(frame, **options).names) == levels - 1
    else:
        with pytest.raises(DegenerateError, match=f"column c has {error}.*number rather than"):
            imgwas.covariates_from_frame(frame, **options)


@pytest.mark.parametrize("missing", [None, "NA"])
def test_one_level_is_a_constant_and_missing_stays_missing(missing):
    frame = pd.DataFrame({"c": ["york", missing, "york"]}, index=list("xyz"))
    covariates = imgwas.covariates_from_frame(frame)
    assert covariates.names == ("c",)
    np.testing.assert_array_equal(covariates.values[:, 0], [1, np.nan, 1])


def test_what_is_taken_for_labels_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        imgwas.covariates_from_frame(FRAME)
    assert "covariate centre: 3 labels, hull the reference" in caplog.text
    assert "covariate batch has 4 distinct whole numbers" in caplog.text
    assert "--categorical batch" in caplog.text
    assert "covariate sex" not in caplog.text
    assert "covariate age" not in caplog.text


def test_whole_numbers_declared_as_labels_are_not_mentioned(caplog):
    imgwas.covariates_from_frame(FRAME, categorical=["batch"])
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_text_that_nobody_declared_is_not_guessed_from_a_few_rows():
    frame = pd.DataFrame({"c": ["york"] * 5 + ["12"]}, index=list("abcdef"))
    with pytest.raises(MalformedError, match=r"<DataFrame>:2 has 'york' in column c"):
        imgwas.covariates_from_frame(frame)
    many = pd.DataFrame({"note": ["".join(c) for c in RNG.choice(list("abcd"), (1500, 12))]})
    many.index = [f"p{i}" for i in range(1500)]
    with pytest.raises(MalformedError, match="in column note, which is no number"):
        imgwas.covariates_from_frame(many)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categorical": ["Sex"]}, "no column 'Sex'. Did you mean sex"),
        ({"categorical": ["IID"]}, "no column 'IID'"),
        ({"formula": "aeg"}, "the formula names 'aeg'.*Did you mean age"),
        ({"id_column": "eid"}, r"no column 'eid' \(--id-column\)"),
    ],
)
def test_names_that_do_not_exist(options, message):
    with pytest.raises(UsageError, match=message):
        imgwas.covariates_from_frame(FRAME, **options)


LABEL = st.text(st.characters(codec="utf-8", categories=["L", "N", "Pd", "Sc"]), min_size=1)


@given(labels=st.lists(st.one_of(st.none(), LABEL), min_size=2, max_size=12))
def test_any_labels_are_the_dummies_of_pandas(labels):
    known = {"NA", "nan", "NaN", "Nan", "NAN"}
    labels = [None if label in known else label for label in labels]
    if "\u2212" in "".join(filter(None, labels)):
        return
    frame = pd.DataFrame({"c": pd.Series(labels, dtype=object)})
    frame.index = [f"p{i}" for i in range(len(frame))]
    covariates = imgwas.covariates_from_frame(frame, categorical=["c"])
    named = dict(zip(covariates.names, covariates.values.T, strict=True))
    dummies = pd.get_dummies(frame["c"], dtype=float)
    dummies[frame["c"].isna()] = np.nan
    if len(dummies.columns) < 2:
        assert list(named) == ["c"]
        return
    (reference,) = set(dummies) - {name[2:-1] for name in named}
    assert len(named) == len(dummies.columns) - 1
    for label in set(dummies) - {reference}:
        np.testing.assert_array_equal(named[f"c[{label}]"], dummies[label])

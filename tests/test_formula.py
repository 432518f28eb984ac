"""Formulae equal columns made by hand, span what patsy spans, and never run code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import patsy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import imgwas
from imgwas.errors import DegenerateError, UsageError
from imgwas.tables.formula import Block, Factor, design_of, parse

RNG = np.random.default_rng(7)
N = 60
FRAME = pd.DataFrame(
    {
        "age": RNG.uniform(45, 80, N),
        "sex": RNG.integers(1, 3, N),
        "bmi": RNG.normal(27, 4, N),
        "centre": RNG.choice(["york", "leeds", "hull"], N),
        "batch": RNG.choice([3, 1, 10, 2], N),
        "head size": RNG.normal(1.3, 0.1, N),
        "âge": RNG.normal(size=N),
        "f.31.0.0": RNG.normal(size=N),
    },
    index=pd.Index([f"p{i}" for i in range(N)], name="IID"),
)
AGE, SEX, BMI = FRAME.age, FRAME.sex, FRAME.bmi


def is_in(column: str, value: object) -> pd.Series:
    return (FRAME[column] == value).astype(float)


@pytest.mark.parametrize(
    ("formula", "columns"),
    [
        ("age", {"age": AGE}),
        ("age + age^2", {"age": AGE, "age^2": AGE**2}),
        ("age + age**3", {"age": AGE, "age^3": AGE**3}),
        ("age + I(age**2)", {"age": AGE, "age^2": AGE**2}),
        ("(age^2)^3", {"age^6": AGE**6}),
        ("age:sex", {"age:sex": AGE * SEX}),
        ("age^2:sex", {"age^2:sex": AGE**2 * SEX}),
        ("age:age^2", {"age:age^2": AGE**3}),
        ("age:bmi:sex", {"age:bmi:sex": AGE * BMI * SEX}),
        ("age*sex", {"age": AGE, "sex": SEX, "age:sex": AGE * SEX}),
        (
            "age + age^2 + age:sex + C(centre)",
            {
                "age": AGE,
                "age^2": AGE**2,
                "age:sex": AGE * SEX,
                "centre[leeds]": is_in("centre", "leeds"),
                "centre[york]": is_in("centre", "york"),
            },
        ),
        ("y ~ 1 + age", {"age": AGE}),
        ("~ age", {"age": AGE}),
        ("`my trait` ~ age", {"age": AGE}),
        ("age + sex - age", {"sex": SEX}),
        ("age*sex - sex:age", {"age": AGE, "sex": SEX}),
        ("age:sex + sex:age", {"age:sex": AGE * SEX}),
        ("age + age", {"age": AGE}),
        ("(age + bmi):sex", {"age:sex": AGE * SEX, "bmi:sex": BMI * SEX}),
        ("C(sex)", {"sex[2]": SEX == 2}),
        ("C(sex) + C(sex)", {"sex[2]": SEX == 2}),
        ("sex + C(sex)", {"sex": SEX, "sex[2]": SEX == 2}),
        ("centre + C(centre)", {"centre[leeds]": is_in("centre", "leeds"),
                                "centre[york]": is_in("centre", "york")}),
        ("centre:C(centre)", {"centre[leeds]": is_in("centre", "leeds"),
                              "centre[york]": is_in("centre", "york")}),
        ("C(batch)", {f"batch[{b}]": is_in("batch", b) for b in (2, 3, 10)}),
        ("age + age:C(sex)", {"age": AGE, "age:sex[2]": AGE * (SEX == 2)}),
        ("age:C(sex)", {"age:sex[1]": AGE * (SEX == 1), "age:sex[2]": AGE * (SEX == 2)}),
        ("`head size` + âge + f.31.0.0", {"head size": FRAME["head size"], "âge": FRAME["âge"],
                                          "f.31.0.0": FRAME["f.31.0.0"]}),
    ],
)  # fmt: skip
def test_formulae_equal_the_columns_by_hand(formula, columns):
    covariates = imgwas.covariates_from_frame(FRAME, formula=formula)
    assert list(covariates.names) == list(columns)
    expected = np.column_stack([np.asarray(v, float) for v in columns.values()])
    np.testing.assert_allclose(covariates.values, expected, rtol=1e-14)


def test_every_column_knows_its_term():
    covariates = imgwas.covariates_from_frame(FRAME, formula="age*C(batch) + age^2")
    pairs = dict(zip(covariates.names, covariates.terms, strict=True))
    assert pairs["age"] == "age"
    assert pairs["batch[3]"] == "batch"
    assert pairs["age:batch[10]"] == "age:batch"
    assert pairs["age^2"] == "age^2"


def span(columns: np.ndarray) -> np.ndarray:
    """Projection onto columns and an intercept, whatever their units."""
    model = np.column_stack([np.ones(len(columns)), columns[:, columns.any(axis=0)]])
    model = model / np.linalg.norm(model, axis=0)
    left, sizes, _ = np.linalg.svd(model, full_matrices=False)
    basis = left[:, sizes > 1e-9 * sizes[0]]
    return basis @ basis.T


@pytest.mark.parametrize(
    "formula",
    [
        "age + age:sex",
        "age*bmi",
        "C(sex)",
        "age:C(sex)",
        "age + age:C(sex)",
        "C(sex) + age:C(sex)",
        "age*C(sex)",
        "C(sex)*centre",
        "C(sex):centre",
        "centre + C(sex):centre",
        "age:C(sex):centre",
        "age:C(sex) + age:C(sex):centre",
        "age*C(sex)*centre",
        "age*bmi*C(batch) - age:bmi:C(batch)",
        "(age + bmi):centre",
        "(age + bmi)*C(sex) + C(batch)",
    ],
)
def test_the_span_is_that_of_patsy(formula):
    """Patsy decides which labels need all their levels; so does the rule here."""
    covariates = imgwas.covariates_from_frame(FRAME, formula=formula)
    expected = np.asarray(patsy.dmatrix(formula, FRAME))
    np.testing.assert_allclose(span(covariates.values), span(expected), atol=1e-9)


def test_labels_by_option_and_by_formula_are_the_same():
    by_option = imgwas.covariates_from_frame(
        FRAME, formula="age + age:batch", categorical=["batch"]
    )
    by_formula = imgwas.covariates_from_frame(FRAME, formula="age + age:C(batch)")
    assert by_option.names == by_formula.names
    np.testing.assert_array_equal(by_option.values, by_formula.values)


def test_a_missing_factor_makes_the_term_missing():
    frame = FRAME.head(4).assign(age=[50, np.nan, 60, 70], centre=["a", "b", None, "b"])
    covariates = imgwas.covariates_from_frame(frame, formula="age^2 + age:centre")
    missing = np.isnan(covariates.values)
    assert missing.tolist() == [[False] * 3, [True] * 3, [False, True, True], [False] * 3]


def test_formula_of_a_file_leaves_other_columns_unread(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("IID\tage\tnote\na\t50\t12 Mar\nb\t60\tsee 3\n")
    assert imgwas.read_covariates(path, formula="age + age^2").names == ("age", "age^2")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        # code
        ("__import__('os').system('true')", "is not part of a formula"),
        ("__import__(os)", r"__import__(...) is not a known function"),
        ("open(age)", r"open(...) is not a known function"),
        ("exec(age)", r"exec(...) is not a known function"),
        ("np.log(age)", r"np.log(...) is not a known function"),
        ("center(age)", r"center(...) is not a known function"),
        ("age.real", "the formula names 'age.real'"),
        ("age.__class__", "the formula names 'age.__class__'"),
        ("lambda: age", "the formula names 'lambda'"),
        ("age; sex", "'; sex' is not part"),
        ("age[0]", "'[0]' is not part"),
        ("{age}", "'{age}' is not part"),
        ("age if sex else bmi", "'if' is out of place"),
        ("age, sex", "', sex' is not part"),
        ("age\\n", "is not part"),
        ("age = 3", "'= 3' is not part"),
        ("age | sex", "'| sex' is not part"),
        ("age / sex", "'/ sex' is not part"),
        ("age %in% sex", "'%in% sex' is not part"),
        ("`age", "'`age' is not part"),
        ("``", "'``' is not part"),
        # powers
        ("age ** sex", "a power is a whole number from 1 to 6"),
        ("age^0", "a power is a whole number from 1 to 6"),
        ("age^7", "a power is a whole number from 1 to 6"),
        ("age^-1", "a power is a whole number from 1 to 6"),
        ("age^2^4", "a power is a whole number from 1 to 6"),
        ("age^" + "9" * 5000, "a power is a whole number from 1 to 6"),
        ("age**99999999", "a power is a whole number from 1 to 6"),
        ("age^²", "a power is a whole number from 1 to 6"),
        ("age^1.5", "'.5' is not part"),
        ("(age + sex)^2", "only a single column can be raised"),
        ("(age:sex)^2", "only a single column can be raised"),
        ("C(sex)^2", "labels have no powers"),
        ("C(age^2)", "labels have no powers"),
        ("centre^2", "the formula has centre^2, and centre holds labels"),
        # what is left open
        ("age +", "a name is missing after 2 parts"),
        ("", "a name is missing after 0 parts"),
        ("   ", "a name is missing after 0 parts"),
        ("(age", ") is missing after 2 parts"),
        ("age)", "')' is out of place"),
        ("()", "')' is out of place"),
        ("+ age", "'+' is out of place"),
        ("age + + sex", "'+' is out of place"),
        ("age sex", "'sex' is out of place"),
        ("C()", "')' is out of place"),
        ("C(age + sex)", "C(...) takes one column"),
        ("I(age:sex)", "I(...) takes one column"),
        ("2*age", "the number 2 stands alone"),
        ("age + 3", "the number 3 stands alone"),
        ("y ~ age ~ sex", "'~' may follow one name only"),
        ("y + z ~ age", "'~' may follow one name only"),
        # the intercept
        ("0 + age", "the intercept is always in the model"),
        ("age - 1", "the intercept is always in the model"),
        ("-1 + age", "the intercept is always in the model"),
        ("1", "names no column"),
        ("age - age", "names no column"),
        # size
        ("(" * 50 + "age" + ")" * 50, "parentheses are more than 20 deep"),
        ("(" * 9_999 + "age", "parentheses are more than 20 deep"),
        ("+".join(["age"] * 9_999), "more than 20,000 characters"),
        ("*".join(f"x{i}" for i in range(40)), "more than 1,000 terms"),
        # names
        ("agee + sex", "the formula names 'agee' ... Did you mean age"),
        ("Age", "Did you mean age"),
        ("IID", "the formula names 'IID'"),
        ("zzzzzz", "It has age, sex, bmi"),
    ],
)
def test_what_is_no_formula_is_refused(formula, message):
    with pytest.raises(UsageError) as refusal:
        imgwas.covariates_from_frame(FRAME, formula=formula)
    for part in message.split(" ... "):
        assert part in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_power_beyond_double_precision_is_refused():
    with pytest.raises(DegenerateError, match="covariates holds 60 infinite values"):
        imgwas.covariates_from_frame(FRAME.assign(age=1e300), formula="age^6")


def test_two_columns_of_one_name_are_refused():
    frame = FRAME.assign(**{"age^2": 1.0})
    with pytest.raises(UsageError, match=r"two different covariates would be called age\^2"):
        imgwas.covariates_from_frame(frame, formula="age^2 + `age^2`")


NAMES = st.sampled_from(["age", "sex", "bmi", "`head size`", "C(centre)", "C(batch)", "centre"])


@given(
    terms=st.lists(st.lists(NAMES, min_size=1, max_size=3, unique=True), min_size=1, max_size=4),
    joint=st.sampled_from([":", "*"]),
)
def test_any_sum_of_products_spans_what_patsy_spans(terms, joint):
    formula = " + ".join(joint.join(term) for term in terms)
    covariates = imgwas.covariates_from_frame(FRAME, formula=formula)
    of_patsy = patsy.dmatrix(formula.replace("`head size`", "Q('head size')"), FRAME)
    np.testing.assert_allclose(span(covariates.values), span(np.asarray(of_patsy)), atol=1e-8)


@given(text=st.one_of(st.text(max_size=40), st.text("ab12+-:*^()~`CI ", max_size=30)))
def test_any_text_is_a_formula_or_refused(text):
    try:
        terms = parse(text)
        factors = {factor.source for term in terms for factor in term}
        blocks = {f: Block({f"{f.name}{f.is_label}": np.arange(3.0)}) for f in factors}
        columns, labels = design_of(text, blocks)
    except UsageError:
        return
    assert len(columns) == len(labels)
    assert all(1 <= factor.power <= 6 for term in terms for factor in term)


def test_terms_read_as_they_were_written():
    assert [":".join(map(str, term)) for term in parse("a*b^2 + C(c)")] == [
        *("a", "b^2", "a:b^2", "c")
    ]
    assert parse("C(c)") == [(Factor("c", is_label=True),)]

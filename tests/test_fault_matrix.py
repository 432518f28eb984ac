"""The table of faults names tests that exist, every row once, and the page is not stale."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.fault_matrix import CONTRACT, PAGE, ROWS, filled, first_release, matrix
from tests.source_tree import ROOT, tree


@cache
def names_in(file: str) -> set[str]:
    """Names of the test functions of a file."""
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    return set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))


@cache
def texts_of(file: str) -> tuple[str, ...]:
    """Every text in a file, for the names of cases."""
    nodes = ast.walk(tree(Path("tests") / file))
    return tuple(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))


def problem_of(test: str) -> str:
    file, _, rest = test.partition("::")
    function, bracket, case = rest.partition("[")
    if not (ROOT / "tests" / file).exists():
        return f"{file} does not exist"
    if function not in names_in(file):
        return f"{file} has no {function}"
    if bracket and not any(text.startswith(case) for text in texts_of(file)):
        return f"{file} has no case that begins with {case!r}"
    return ""


def test_every_test_named_exists():
    named = [test for row in matrix() for test in row.tests]
    named += [test for _, _, tests in CONTRACT for test in tests]
    assert [problem for test in named if (problem := problem_of(test))] == []


@pytest.mark.parametrize(
    "test",
    ["test_x.py::test_y", "test_house.py::test_nothing", "test_tables_faults.py::test_fault[Z9 "],
)
def test_a_test_that_does_not_exist_is_noticed(test):
    assert problem_of(test)


def test_every_row_is_there_once():
    names = [row.name for row in matrix()]
    assert names == [f"{group}{k}" for group, n in ROWS.items() for k in range(1, n + 1)]
    assert len(names) == 151
    assert [name for name, _, _ in CONTRACT] == [f"R{k}" for k in range(1, 13)]
    assert len(first_release()) == 100


def test_a_row_without_a_test_says_why():
    assert [row.name for row in matrix() if not row.tests and not row.missing] == []


def test_the_first_release_has_its_rows():
    assert {row.name for row in matrix() if not row.tests} & first_release() == set()


def test_the_page_is_not_stale():
    text = PAGE.read_text(encoding="utf-8")
    assert text == filled(text), "run: python -m tests.fault_matrix"

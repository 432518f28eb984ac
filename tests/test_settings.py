"""Typed settings: text becomes the type a field declares, and nothing else becomes anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from imgwas import settings
from imgwas.errors import OpenError, UsageError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Example:
    grid: tuple[int, ...] = ()
    pair: tuple[int, int] = (1, 2)
    rate: float = 1.0
    limit: float | None = None
    flag: bool = False
    n: int = 3
    name: str = "a"
    kind: Literal["zero", "shift"] = "zero"
    file: Path | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"grid": "182,218,182"}, "grid", (182, 218, 182)),
        ({"grid": "(4, 5)"}, "grid", (4, 5)),
        ({"grid": [1, 2]}, "grid", (1, 2)),
        ({"rate": "5.248e-4"}, "rate", 5.248e-4),
        ({"limit": "none"}, "limit", None),
        ({"limit": "2"}, "limit", 2.0),
        ({"flag": "no"}, "flag", False),
        ({"flag": "True"}, "flag", True),
        ({"n": "7"}, "n", 7),
        ({"name": "no"}, "name", "no"),
        ({"name": "007"}, "name", "007"),
        ({"kind": "shift"}, "kind", "shift"),
        ({"file": "~/x"}, "file", Path("~/x").expanduser()),
        ({"inner.rate": "0.5"}, "inner", Inner(0.5)),
        ({"inner": {"rate": "0.25"}}, "inner", Inner(0.25)),
    ],
)
def test_values_become_what_the_field_declares(given, name, value):
    assert getattr(settings.build(Example, given), name) == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"grd": "1"}, "there is no setting 'grd'. Settings: grid, pair"),
        ({"grd": "1"}, "Did you mean grid"),
        ({"n": "3.5"}, "n is '3.5'. It must be a whole number"),
        ({"n": "1_000"}, "It must be a whole number"),
        ({"rate": "2,5"}, "rate is '2,5'. It must be a number"),
        ({"flag": "maybe"}, "It must be true or false"),
        ({"kind": "shfit"}, "It must be one of zero, shift. Did you mean shift?"),
        ({"pair": "1,2,3"}, "pair has 3 values. 2 are needed"),
        ({"pair": 5}, "Values separated by commas"),
        ({"inner.rte": "1"}, "inner: there is no setting 'rte'"),
        ({"n.deep": "1"}, "n has no setting 'deep'"),
    ],
)
def test_what_does_not_fit_is_refused(given, words):
    with pytest.raises(UsageError) as error:
        settings.build(Example, given, where="example")
    assert words in str(error.value)


def test_words_of_a_command_line():
    assert settings.parse_assignments(["a=1", "b.c=x=y"]) == {"a": "1", "b.c": "x=y"}
    with pytest.raises(UsageError, match=r"'a' is no setting. key=value is needed"):
        settings.parse_assignments(["a"])
    with pytest.raises(UsageError, match=r"the setting a is given twice"):
        settings.parse_assignments(["a=1", "a=2"])


def test_yaml_is_text_until_a_field_says_otherwise(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("name: no\ngrid: [007, 1]\nrate: 1e5\ninner:\n  rate: 12\n")
    read = settings.read_yaml(path)
    assert read == {"name": "no", "grid": ["007", "1"], "rate": "1e5", "inner": {"rate": "12"}}
    assert settings.build(Example, read).name == "no"
    path.write_text("")
    assert settings.read_yaml(path) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "line 2 gives a a second time"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1 has a tag"),
        ("a: &x [1]\nb: *x\n", "line 2 has a reference"),
        ("a: [1\n", "is no YAML"),
        ("- {a: 1, a: 2}\n", "gives a a second time"),
    ],
)
def test_yaml_that_is_more_than_settings(tmp_path, text, words):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        settings.read_yaml(path)
    assert words in str(error.value)


def test_yaml_that_is_absent_or_no_text(tmp_path):
    with pytest.raises(OpenError, match=r"cannot be opened"):
        settings.read_yaml(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(UsageError, match=r"is no YAML"):
        settings.read_yaml(tmp_path / "b.yaml")
    (tmp_path / "big.yaml").write_bytes(b"a" * 1_000_001)
    with pytest.raises(UsageError, match=r"is larger than 1,000,000 bytes"):
        settings.read_yaml(tmp_path / "big.yaml")


def test_as_json_round_trip():
    made = settings.build(Example, {"grid": "1,2", "file": "x", "inner.rate": "3"})
    plain = settings.as_json(made)
    assert plain["grid"] == [1, 2]
    assert plain["file"] == "x"
    assert settings.build(Example, plain) == made

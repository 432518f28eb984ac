"""Typed settings: frozen dataclasses filled from YAML or ``key=value``, unknown keys refused.

YAML is read as text and turned into the type that the field declares, so that ``no``, ``007``,
``1e5`` and ``12:30`` stay what was written until a field says what they are. There are no
expressions, no references and no names of classes in a file of settings.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from imgwas.checks import did_you_mean
from imgwas.errors import OpenError, UsageError, explain

Settings = TypeVar("Settings")

#: A file of settings is a page, not a data set.
MAX_BYTES = 1_000_000
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def build(cls: type[Settings], given: Mapping[str, Any], *, where: str = "settings") -> Settings:
    """Make a settings object from a mapping of texts or values.

    Raises
    ------
    UsageError
        If a key is unknown or a value does not fit its field; the message names the nearest key.
    """
    return override(cls(), given, where=where)


def override(settings: Settings, given: Mapping[str, Any], *, where: str = "settings") -> Settings:
    """Return ``settings`` with some fields replaced; a dotted key reaches a nested field."""
    for key, value in mapping(given, where).items():
        settings = _replace(settings, key.split("."), value, where)
    return settings


def mapping(content: Any, where: str) -> Mapping[str, Any]:
    """Return a mapping of names to values, empty for nothing; refuse anything else."""
    if content is None or content == "":
        return {}
    if not isinstance(content, Mapping):
        what = f"{where} is {str(content)[:40]!r}"
        raise UsageError(explain(what, expected="Names and values are needed, such as a: 1"))
    return content


def _replace(settings: Any, keys: Sequence[str], value: Any, where: str) -> Any:
    every = typing.get_type_hints(type(settings))
    hints = {field.name: every[field.name] for field in dataclasses.fields(settings)}
    name = keys[0].replace("-", "_")
    if name not in hints:
        raise UsageError(
            explain(
                f"{where}: there is no setting {keys[0]!r}",
                expected=f"Settings: {', '.join(hints)}",
                do=did_you_mean(name, hints),
            )
        )
    old = getattr(settings, name)
    if len(keys) > 1 and not dataclasses.is_dataclass(old):
        raise UsageError(explain(f"{where}: {name} has no setting {'.'.join(keys[1:])!r}"))
    if len(keys) > 1:
        new = _replace(old, keys[1:], value, f"{where}: {name}")
    elif dataclasses.is_dataclass(old) and isinstance(value, Mapping):
        new = override(old, value, where=f"{where}: {name}")
    else:
        new = convert(value, hints[name], f"{where}: {name}")
    try:
        return dataclasses.replace(settings, **{name: new})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def convert(value: Any, kind: Any, where: str) -> Any:
    """Turn a text or a JSON value into the type that a field declares."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _convert_optional(value, inside, where)
    if origin is Literal:
        if str(value) in map(str, inside):
            return next(choice for choice in inside if str(choice) == str(value))
        expected = f"It must be one of {', '.join(map(str, inside))}"
        raise UsageError(
            explain(f"{where} is {str(value)!r}", expected=expected,
                    do=did_you_mean(str(value), [str(c) for c in inside]))
        )  # fmt: skip
    if origin is tuple:
        return _convert_tuple(value, inside, where)
    return _convert_plain(value, kind, where)


def _convert_optional(value: Any, inside: tuple[Any, ...], where: str) -> Any:
    if value is None or str(value).lower() in ("none", "null", "~", ""):
        return None
    (kind,) = [k for k in inside if k is not type(None)]
    return convert(value, kind, where)


def _convert_tuple(value: Any, inside: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part for part in value.strip("()[] ").split(",") if part.strip()]
    if not isinstance(value, Sequence):
        raise UsageError(explain(f"{where} is {value!r}", expected="Values separated by commas"))
    if inside and inside[-1] is not Ellipsis and len(value) != len(inside):
        raise UsageError(
            explain(f"{where} has {len(value)} values", expected=f"{len(inside)} are needed")
        )
    return tuple(convert(item, inside[0], where) for item in value)


def _convert_plain(value: Any, kind: Any, where: str) -> Any:
    text = str(value).strip() if not isinstance(value, str) else value.strip()
    try:
        if kind is bool:
            if text.lower() in _TRUE + _FALSE:
                return text.lower() in _TRUE
            raise ValueError
        if kind is int:
            return int(text) if "_" not in text else int("x")
        if kind is float:
            return float(text)
        if kind is str:
            return text
        if kind is Path:
            return Path(text).expanduser()
    except ValueError:
        names = {bool: "true or false", int: "a whole number", float: "a number"}
        raise UsageError(
            explain(f"{where} is {text!r}", expected=f"It must be {names[kind]}")
        ) from None
    raise TypeError(f"{where}: fields of type {kind} cannot be set")


def parse_assignments(words: Sequence[str]) -> dict[str, str]:
    """Split ``key=value`` words of a command line.

    Raises
    ------
    UsageError
        If a word has no ``=`` or a key comes twice.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise UsageError(explain(f"{word!r} is no setting", expected="key=value is needed"))
        if key.strip() in given:
            raise UsageError(explain(f"the setting {key.strip()} is given twice"))
        given[key.strip()] = value
    return given


def read_yaml(path: Path) -> Any:
    """Read a YAML file as nested mappings, lists and texts; nothing else exists here.

    Raises
    ------
    OpenError
        If the file cannot be opened.
    UsageError
        If it is no YAML, repeats a key, or uses tags or references.
    """
    import yaml

    try:
        text = path.read_bytes()[: MAX_BYTES + 1]
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    if len(text) > MAX_BYTES:
        raise UsageError(explain(f"{path} is larger than {MAX_BYTES:,} bytes",
                                 expected="A file of settings is needed"))  # fmt: skip
    try:
        node = yaml.compose(text.decode("utf-8-sig"), Loader=yaml.BaseLoader)
        for event in yaml.parse(text.decode("utf-8-sig"), Loader=yaml.BaseLoader):
            _refuse_more_than_text(event, path)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(explain(f"{path} is no YAML ({reason})")) from error
    return {} if node is None else _plain(node, path)


def _refuse_more_than_text(event: Any, path: Path) -> None:
    import yaml

    tag = getattr(event, "tag", None)
    if isinstance(event, yaml.AliasEvent) or (tag and tag != "!"):
        raise UsageError(
            explain(
                f"{path} line {event.start_mark.line + 1} has a {'tag' if tag else 'reference'}",
                expected="Settings are names and values; write the value itself",
            )
        )


def _plain(node: Any, path: Path) -> Any:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path) for item in node.value]
    mapping: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value)
        if name in mapping:
            line = key.start_mark.line + 1
            raise UsageError(explain(f"{path} line {line} gives {name} a second time"))
        mapping[name] = _plain(value, path)
    return mapping


def as_json(settings: Any) -> dict[str, Any]:
    """Return the fields of a settings object as plain JSON values."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = as_json(value)
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        plain[field.name] = value
    return plain

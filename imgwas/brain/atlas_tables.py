"""Names of an atlas' numbers, from every kind of file that atlases come with.

Read are FSL's XML, tables (CSV, TSV, with or without a header, BIDS ``dseg.tsv``, look-up tables
with spaces), JSON (neuroparc's ``rois``, or numbers to names), mappings, lists and the bunches that
nilearn's fetchers return. A name that is empty stays empty: the caller says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from imgwas.checks import duplicates
from imgwas.errors import MalformedError, OpenError, UsageError, explain

#: Largest table of names that is read; the largest known ones have under 1 MB.
MAX_BYTES = 16_000_000
#: Columns that may hold the number, the name and the hemisphere; the first that fits is taken.
NUMBERS = ("index", "id", "number", "value", "label", "roi", "labelid", "label_id", "no", "code")
NAMES = ("name", "label", "region", "roi_name", "labelname", "label_name", "structure", "full_name")
HEMISPHERES = ("hemisphere", "hemi", "side")
#: How files write the sides.
LEFT, RIGHT = {"l", "left", "lh"}, {"r", "right", "rh"}
#: What the entry of number 0 is called.
BACKGROUND = {"", "background", "empty", "none", "null", "unknown", "unclassified", "*", "null+csf"}


@dataclass(frozen=True)
class NameTable:
    """Names as a file gives them.

    Parameters
    ----------
    names : mapping of int to str
        Name of each number, ``""`` where the file has the number without a name; no 0.
    source : str
        File or kind of object, for messages.
    """

    names: Mapping[int, str]
    source: str


def read_names(names: Any, largest: int) -> NameTable:
    """Read names from a path, a mapping, a list of names or a table.

    Parameters
    ----------
    names : path, mapping, sequence of str, or DataFrame
        See the module.
    largest : int
        Largest number of the image: tells a list that starts at the background from one that
        starts at number 1.

    Raises
    ------
    OpenError
        If the file is absent.
    MalformedError
        If it holds no table of names, or one number twice.
    UsageError
        If a list is as long as neither the numbers nor the numbers and the background.
    """
    if isinstance(names, str | Path):
        return _from_file(Path(names))
    if isinstance(names, Mapping):
        return NameTable(_kept((k, v) for k, v in names.items()), "the mapping of names")
    if hasattr(names, "columns") and hasattr(names, "to_dict"):
        header = [str(c) for c in names.columns]
        rows = [[_text(v) for v in row] for row in names.itertuples(index=False)]
        return NameTable(_from_rows(header, rows, "the table of names"), "the table of names")
    if isinstance(names, Sequence) or hasattr(names, "tolist"):
        return NameTable(_from_list([_text(n) for n in names], largest), "the list of names")
    raise UsageError(
        explain(
            f"names is a {type(names).__name__}",
            expected="A path (.xml, .csv, .tsv, .txt, .json), a mapping or a list is needed",
        )
    )


def _from_file(path: Path) -> NameTable:
    try:
        content = path.read_bytes()[: MAX_BYTES + 1]
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror or error})")) from error
    if len(content) > MAX_BYTES:
        raise MalformedError(explain(f"{path.name} is larger than {MAX_BYTES // 10**6} MB"))
    if content[:4] in (b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08") or b"\x00" in content:
        what = f"{path.name} is no text file"
        do = "Give the image first and its table of names second"
        raise MalformedError(explain(what, expected="Names come as text", do=do))
    suffix = path.suffix.lower()
    if suffix == ".xml" or content.lstrip()[:5] == b"<?xml":
        return NameTable(_from_xml(content, path.name), path.name)
    text = content.decode("utf-8-sig", errors="replace")
    if suffix == ".json":
        return NameTable(_from_json(text, path.name), path.name)
    header, rows = _split(text, path.name)
    return NameTable(_from_rows(header, rows, path.name), path.name)


def _from_xml(content: bytes, name: str) -> dict[int, str]:
    """FSL: in a probabilistic atlas number = index + 1, in a label atlas number = index."""
    labels: list[tuple[dict[str, str], str]] = []
    kind: list[str] = []
    inside: list[str] = []
    words: list[str] = []

    def refuse(*_: object) -> None:
        what = f"{name} declares a document type or entities"
        raise MalformedError(explain(what, expected="FSL's atlas files have none"))

    def start(tag: str, attributes: dict[str, str]) -> None:
        inside.append(tag)
        words.clear()
        if tag == "label":
            labels.append((attributes, ""))

    def end(tag: str) -> None:
        if tag == "label" and labels:
            labels[-1] = (labels[-1][0], "".join(words).strip())
        if tag == "type":
            kind.append("".join(words).strip().lower())
        inside.pop()

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = words.append
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise MalformedError(explain(f"{name} is no XML ({error})")) from error
    if not labels:
        what = f"{name} has no <label index=...> entries"
        raise MalformedError(explain(what, expected="FSL's atlas XML is needed"))
    shift = 0 if kind and kind[0] == "label" else 1
    pairs = []
    for attributes, text in labels:
        number = attributes.get("value")
        if number is None:
            number = str(_integer(attributes.get("index", ""), name) + shift)
        pairs.append((number, text))
    return _kept(pairs, name)


def _from_json(text: str, name: str) -> dict[int, str]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise MalformedError(explain(f"{name} is no JSON ({error})")) from error
    if isinstance(content, dict):
        content = content.get("rois", content.get("labels", content))
    if isinstance(content, list):
        content = dict(enumerate(content))
    entries = content.items() if isinstance(content, dict) else ()
    pairs = []
    for key, value in entries:
        if isinstance(value, dict):
            value = value.get("label", value.get("name"))
        if str(key).lstrip("-").isdigit() and (value is None or isinstance(value, str)):
            pairs.append((key, value or ""))
    if not pairs:
        what = f"{name} has no numbers with names"
        expected = 'Either {"rois": {"1": {"label": "..."}}} or {"1": "..."} is needed'
        raise MalformedError(explain(what, expected=expected))
    return _kept(pairs, name)


def _split(text: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Header (empty if there is none) and rows of a table of any delimiter."""
    import csv

    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise MalformedError(explain(f"{name} is empty"))
    delimiter = next((d for d in ("\t", ",", ";") if d in lines[0]), "")
    if delimiter:
        rows = [[v.strip() for v in row] for row in csv.reader(lines, delimiter=delimiter)]
    else:
        rows = [line.split() for line in lines]
    if _is_number(rows[0][0]) or (len(rows[0]) > 1 and _is_number(rows[0][1])):
        return [], rows
    return rows[0], rows[1:]


def _from_rows(header: list[str], rows: list[list[str]], name: str) -> dict[int, str]:
    """Number, name and side of each row; the columns are told by their heads and what they hold."""
    if not header:
        return _headless(rows, name)
    heads = [h.strip().lower() for h in header]
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(heads)), None)
    if ragged is not None:
        what = f"line {ragged + 2} of {name} has {len(rows[ragged])} fields"
        raise MalformedError(explain(what, expected=f"The header has {len(heads)}"))
    columns = {head: [row[i] for row in rows] for i, head in reversed(list(enumerate(heads)))}
    number = _pick(columns, NUMBERS, lambda v: all(map(_is_number, v)))
    text = _pick({k: v for k, v in columns.items() if k != number}, NAMES, _has_words)
    if number is None or text is None or not rows:
        raise MalformedError(
            explain(
                f"{name} has the columns {', '.join(header)}",
                expected=f"A column of numbers ({', '.join(NUMBERS[:5])}) and one of names "
                f"({', '.join(NAMES[:4])}) are needed",
            )
        )
    names = columns[text]
    side = next((columns[h] for h in HEMISPHERES if h in columns), None)
    if side is not None:
        names = [_with_side(n, s) for n, s in zip(names, side, strict=True)]
    return _kept(zip(columns[number], names, strict=True), name)


def _headless(rows: list[list[str]], name: str) -> dict[int, str]:
    """``1,left cuneus`` or ``left cuneus,1``; further fields (colours) are left out."""
    if any(len(row) < 2 for row in rows):
        first = next(i for i, row in enumerate(rows) if len(row) < 2)
        what = f"entry {first + 1} of {name} has one field"
        raise MalformedError(explain(what, expected="A number and a name are needed"))
    at = 0 if _is_number(rows[0][0]) else 1
    return _kept(((row[at], row[1 - at]) for row in rows), name)


def _from_list(names: list[str], largest: int) -> dict[int, str]:
    """A list of names in the order of the numbers, with or without the background first."""
    if len(names) == largest + 1 and names[0].strip().lower() in BACKGROUND:
        return dict(enumerate(names[1:], start=1))
    if len(names) == largest:
        return dict(enumerate(names, start=1))
    raise UsageError(
        explain(
            f"the list holds {len(names):,} names and the image's largest number is {largest:,}",
            expected=f"{largest:,} names are needed, or {largest + 1:,} of which the first is "
            "'Background'",
            do="Give a mapping of numbers to names",
        )
    )


def _kept(pairs: Any, name: str = "the mapping of names") -> dict[int, str]:
    """Numbers above 0 with their names; a number that comes twice is refused."""
    found = [(_integer(number, name), _text(text)) for number, text in pairs]
    twice = duplicates([str(number) for number, _ in found])
    if twice:
        what = f"{name} has {len(twice):,} numbers twice (first: {', '.join(twice[:3])})"
        raise MalformedError(explain(what, expected="One name per number is needed"))
    return {number: text for number, text in found if number > 0}


def _pick(columns: Mapping[str, list[str]], heads: Sequence[str], fits: Any) -> str | None:
    return next((h for h in heads if h in columns and columns[h] and fits(columns[h])), None)


def _has_words(values: list[str]) -> bool:
    return any(re.search(r"[^\W\d_]", v) for v in values) or not any(values)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+(\.0*)?", text.strip()))


def _integer(value: Any, name: str) -> int:
    if not _is_number(str(value)):
        what = f"{name} has {str(value)[:40]!r} where a region's number should be"
        raise MalformedError(explain(what, expected="Whole numbers are needed"))
    return int(float(str(value)))


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return (
        value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value).strip()
    )


def _with_side(name: str, side: str) -> str:
    """Name with the side its own column gives, ``cuneus`` and ``L`` to ``cuneus_L``."""
    said = side.strip().lower()
    letter = "L" if said in LEFT else "R" if said in RIGHT else ""
    return f"{name}_{letter}" if letter and name and not split_side(name)[1] else name


_SIDES = "left|right|lh|rh|l|r"
_PATTERNS = [
    re.compile(rf"^(?P<side>{_SIDES})[ _.\-]+(?P<rest>.+)$", re.IGNORECASE),
    re.compile(rf"^(?P<rest>.+?)[ _.\-]+\(?(?P<side>{_SIDES})\)?$", re.IGNORECASE),
    re.compile(r"^(?P<side>left|right)(?=[A-Z])(?P<rest>.+)$"),
    re.compile(r"^(?P<head>.+?[_\-])(?P<side>lh|rh)[_\-](?P<rest>.+)$", re.IGNORECASE),
]


def split_side(name: str) -> tuple[str, str]:
    """Split a name into what it names and its side.

    Parameters
    ----------
    name : str
        E.g. ``L_cuneus``, ``Cuneus_R``, ``Left-Putamen``, ``ctx-lh-cuneus``, ``Putamen (left)``.

    Returns
    -------
    tuple of str
        Name without the side, and ``"L"``, ``"R"`` or ``""``.
    """
    for pattern in _PATTERNS:
        found = pattern.match(name.strip())
        if found:
            parts = found.groupdict()
            side = parts["side"].lower()
            return (parts.get("head") or "") + parts["rest"], "L" if side in LEFT else "R"
    return name.strip(), ""

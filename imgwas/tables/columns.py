"""Columns of a table: which holds the ids, which were asked for, and their numbers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, from_strings, to_numpy
from imgwas.checks import check_option, did_you_mean
from imgwas.errors import MalformedError, UsageError, explain
from imgwas.tables.recognise import hidden_in

logger = logging.getLogger(__name__)

#: Spellings of a missing value; -9 is decided apart, see :func:`to_numbers`.
MISSING = from_strings(["NA", "nan", "NaN", "Nan", "NAN", "", "N/A", "."])
_NO_TEXT = pa.nulls(1, pa.string())[0]
_NAN = from_numpy(np.array([np.nan]))[0]
_SAMPLE_ID = ("IID", "#IID", "sample_id", "eid", "n_eid", "subject_id", "participant_id", "id")
_FAMILY_ID = ("FID", "#FID", "family_id")
_ID_NAMES = {name.lower() for name in (*_SAMPLE_ID, *_FAMILY_ID)}
#: Ids of parents and of repeated samples in PLINK's tables of people.
_OTHER_IDS = {"PAT", "MAT", "SID"}


@dataclass(frozen=True)
class Ids:
    """Sample ids of a table and which columns they took."""

    sample_ids: tuple[str, ...]
    family_ids: tuple[str, ...] | None
    columns: tuple[str, ...]


def is_id_name(name: str) -> bool:
    """Whether a column of this name holds ids of people, never a value."""
    return name.lower() in _ID_NAMES or name in _OTHER_IDS


def find_ids(table: pa.Table, path: Path, id_column: str | None) -> Ids:
    """Find the id column: the one named, or the first of the usual names.

    Raises
    ------
    MalformedError
        If there is none: rows cannot be matched by position.
    UsageError
        If the column that was named does not exist.
    """
    names = table.column_names
    if id_column is not None and id_column not in names:
        raise UsageError(
            explain(
                f"{path} has no column {id_column!r} (--id-column)",
                do=did_you_mean(id_column, names) or f"It has {', '.join(names[:8])}",
            )
        )
    lower = {name.lower(): name for name in reversed(names)}
    usual = (lower[n.lower()] for n in _SAMPLE_ID if n.lower() in lower)
    sample = next(usual, None) if id_column is None else id_column
    if sample is None:
        raise MalformedError(
            explain(
                f"{path} has no id column ({_what_instead(names)})",
                expected=f"A header with one of {', '.join(_SAMPLE_ID)}",
                do="Name the column with --id-column, or add a header line",
            )
        )
    family = next((lower[n.lower()] for n in _FAMILY_ID if n.lower() in lower), None)
    if family == sample:
        family = None
    families = _strings(table, family, path) if family else None
    ids = Ids(_strings(table, sample, path), families, tuple(n for n in (family, sample) if n))
    spare = [name for name in names if is_id_name(name) and name not in ids.columns]
    if spare:
        logger.info("%s: ids in %s are not used", path.name, ", ".join(spare))
    return ids


def _what_instead(names: Sequence[str]) -> str:
    """Name the columns there are, unless they are a person's row in the place of a header."""
    if any(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", name, re.IGNORECASE) for name in names):
        return "its first line holds numbers, so the header may be missing"
    return f"it has {', '.join(names[:6])}"


def _strings(table: pa.Table, name: str, path: Path) -> tuple[str, ...]:
    """Ids as text, without the blanks around them: no id in a .fam can have any."""
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    _check_id_type(column.type, name, path)
    if column.null_count:
        where = f"{column.null_count:,} empty rows"
        raise MalformedError(explain(f"{path}: the id column {name} has {where}"))
    try:
        ids = pc.ascii_trim_whitespace(column.cast(pa.string())).to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise MalformedError(explain(f"{path}: ids in {name} are not UTF-8 text")) from error
    if "" in ids:
        row = ids.index("") + 1
        raise MalformedError(explain(f"{path}: the id column {name} is empty in row {row}"))
    if hidden_in("".join(ids)):
        row = next(row for row, value in enumerate(ids) if hidden_in(value))
        raise MalformedError(
            explain(
                f"{path}: the id column {name} holds {hidden_in(ids[row])} in row {row + 1}",
                do="Remove it from the file",
            )
        )
    return tuple(ids)


def _check_id_type(kind: pa.DataType, name: str, path: Path) -> None:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if is_text or pa.types.is_integer(kind) or pa.types.is_binary(kind):
        return
    what = "floating-point numbers" if pa.types.is_floating(kind) else f"values of type {kind}"
    raise MalformedError(
        explain(
            f"{path}: the id column {name} holds {what}",
            expected="Ids must be strings or whole numbers",
            do="Write the table again with the ids as text",
        )
    )


def choose_names(available: Sequence[str], wanted: Sequence[str] | None, path: Path) -> list[str]:
    """Resolve names and ranges (``L0-L63``, ``PC{1:20}``) against the columns of a table."""
    if not wanted:
        return list(available)
    chosen: dict[str, None] = {}
    for entry in wanted:
        for name in _expand(entry, available):
            if name not in available:
                raise UsageError(
                    explain(
                        f"{path} has no column {name!r}",
                        do=did_you_mean(name, available)
                        or f"It has {', '.join(list(available)[:8])}",
                    )
                )
            chosen[name] = None
    return list(chosen)


def _expand(entry: str, available: Sequence[str]) -> Iterable[str]:
    if entry in available:
        return [entry]
    braces = re.fullmatch(r"(.*)\{(\d{1,9}):(\d{1,9})\}(.*)", entry)
    if braces:
        before, low, high, after = braces.groups()
        if int(low) > int(high):
            raise UsageError(
                explain(f"the range {entry!r} is empty", expected="The smaller number comes first")
            )
        return (f"{before}{i}{after}" for i in range(int(low), int(high) + 1))
    first, dash, last = entry.partition("-")
    if dash and first in available and last in available:
        start, stop = available.index(first), available.index(last)
        if start <= stop:
            return list(available[start : stop + 1])
    return [entry]


def to_numbers(
    table: pa.Table, names: Sequence[str], path: Path, *, neg9: str = "value"
) -> np.ndarray:
    """Turn columns into float64, missing values into NaN.

    Parameters
    ----------
    neg9 : {"value", "missing", "plink"}
        How ``-9`` is read. ``"plink"`` follows PLINK 2: missing, unless other values between -10
        and -8 show that the column passes through -9 legitimately; then it is an error.

    Raises
    ------
    MalformedError
        With the column, the line and the text that is no number.
    """
    check_option("neg9", neg9, ["value", "missing", "plink"])
    values = np.empty((table.num_rows, len(names)))
    for index, name in enumerate(names):
        values[:, index] = _numbers(table[name], name, path)
    if neg9 != "value":
        _apply_neg9(values, names, path, neg9)
    return values


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parse(column, name, path)
    elif pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    elif pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise MalformedError(
            explain(f"{path}: column {name} has type {column.type}", expected="Numbers are needed")
        )
    numbers = to_numpy(pc.fill_null(column.cast(pa.float64(), safe=False), _NAN))
    infinite = np.isinf(numbers)
    if infinite.any():
        raise MalformedError(
            explain(
                f"{path}: column {name} is infinite in {int(infinite.sum()):,} rows "
                f"(first: data row {int(np.flatnonzero(infinite)[0]) + 1})",
                do="Write NA there, or correct the value",
            )
        )
    return numbers


def _parse(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(text, value_set=MISSING.cast(text.type))
    text = pc.if_else(missing, _NO_TEXT, text)
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        return _parse_slowly(text, name, path)


def _parse_slowly(text: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Parse what Arrow does not (``+1``), and point at what nobody can."""
    values: list[float | None] = []
    for line, value in enumerate(text.to_pylist(), start=2):
        try:
            values.append(None if value is None else one_number(value))
        except ValueError:
            raise MalformedError(_not_a_number(value, name, path, line)) from None
    return pa.chunked_array([pa.array(values, pa.float64())])


def one_number(text: str) -> float:
    """Read one number as people write it; ``1_000`` and foreign digits are none."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return float(text)


def _not_a_number(value: str, name: str, path: Path, line: int) -> str:
    hint = "Write NA where the value is missing, or leave the column out"
    if re.fullmatch(r"[+-]?\d+,\d+", value):
        hint = "A decimal comma? Write the table with decimal points"
    elif re.fullmatch(r"[+-]?\d{1,3}([ ,_']\d{3})+(\.\d+)?", value):
        hint = "Write numbers without thousands separators"
    else:
        hint += ". A column of labels is declared with --categorical where it "
        hint += "is a covariate, and coded as 0 and 1 where it is a trait"
    return explain(
        f"{path}:{line} has {value[:40]!r} in column {name}, which is no number", do=hint
    )


def _apply_neg9(values: np.ndarray, names: Sequence[str], path: Path, neg9: str) -> None:
    is_neg9 = values == -9
    if not is_neg9.any():
        return
    near = (values > -10) & (values < -8) & ~is_neg9
    both = is_neg9.any(axis=0) & near.any(axis=0)
    if neg9 == "plink" and both.any():
        name = names[int(np.flatnonzero(both)[0])]
        raise MalformedError(
            explain(
                f"{path}: column {name} holds -9 and other values between -10 and -8",
                expected="-9 is either a missing code or a value",
                do="Say which: --neg9 missing, or --neg9 value",
            )
        )
    logger.info("%s: -9 is read as missing in %s cells", path.name, f"{int(is_neg9.sum()):,}")
    values[is_neg9] = np.nan


def remaining(table: pa.Table, ids: Ids) -> list[str]:
    """Names of the columns that hold values: neither the ids that were used nor any others."""
    return [n for n in table.column_names if not is_id_name(n) and n not in ids.columns]

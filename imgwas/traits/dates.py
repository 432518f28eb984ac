"""Tables with dates: diagnoses of people, and when they were imaged, died or left."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_strings
from imgwas.checks import did_you_mean
from imgwas.errors import MalformedError, UsageError, explain
from imgwas.shapes import Float64, Int64
from imgwas.tables.columns import MISSING, find_ids
from imgwas.tables.source import read_table

logger = logging.getLogger(__name__)

DAYS_A_YEAR = 365.25
#: Day of a record without a usable date.
UNKNOWN = np.iinfo(np.int64).min
#: Dates that UK Biobank writes for "before birth", "at birth", "in the future", "unknown".
PLACEHOLDERS = (
    "1900-01-01", "1901-01-01", "1902-02-02", "1903-03-03", "1909-09-09", "2037-07-07",
)  # fmt: skip


@dataclass(frozen=True)
class Diagnoses:
    """Records of codes, each of a person on a day.

    Parameters
    ----------
    sample_ids : tuple of str
        The people, each once.
    codes : tuple of str
        The codes, each once.
    person, code : (records,) int array
        Whose record it is, and of which code.
    days : (records,) int array
        Days since 1970-01-01; ``imgwas.traits.dates.UNKNOWN`` where there is no usable date.
    """

    sample_ids: tuple[str, ...]
    codes: tuple[str, ...]
    person: Int64[np.ndarray, " records"]
    code: Int64[np.ndarray, " records"]
    days: Int64[np.ndarray, " records"]

    def __repr__(self) -> str:
        return (
            f"Diagnoses({len(self.days):,} records, {len(self.codes):,} codes, "
            f"{len(self.sample_ids):,} people)"
        )


@dataclass(frozen=True)
class Dates:
    """One date of each person.

    Parameters
    ----------
    sample_ids : tuple of str
        IID of each person, unique.
    days : (samples,) float array
        Days since 1970-01-01; NaN where there is no date.
    """

    sample_ids: tuple[str, ...]
    days: Float64[np.ndarray, " samples"]

    def __repr__(self) -> str:
        dated = int(np.isfinite(self.days).sum())
        return f"Dates({len(self.sample_ids):,} people, {dated:,} dated)"

    def of(self, sample_ids: Sequence[str]) -> Float64[np.ndarray, " samples"]:
        """Days of some people, NaN for those without a row."""
        known = dict(zip(self.sample_ids, self.days.tolist(), strict=True))
        return np.array([known.get(one, np.nan) for one in sample_ids], np.float64)


def read_diagnoses(
    path: str | Path,
    *,
    id_column: str | None = None,
    code_column: str = "code",
    date_column: str = "date",
) -> Diagnoses:
    """Read diagnoses: one row per person, code and date; people come as often as they need.

    Dates are ``YYYY-MM-DD``, or dates in Parquet. A missing date, and the placeholders of UK
    Biobank (1900-01-01 and the like), mean that the date is not known.

    Raises
    ------
    UsageError
        If a column is missing.
    MalformedError
        If a date is none.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    _check_columns(table, path, [code_column, date_column])
    people, person = _numbered(from_strings(list(ids.sample_ids)))
    text = pc.utf8_trim_whitespace(table[code_column].cast(pa.string())).combine_chunks()
    codes, code = _numbered(text.fill_null(""))
    days = to_days(table[date_column], path, date_column)
    lost = int(np.isnan(days).sum())
    if lost:
        logger.info("%s: %s records have no usable date", path.name, f"{lost:,}")
    whole = np.where(np.isnan(days), 0, days).astype(np.int64)
    whole[np.isnan(days)] = UNKNOWN
    return Diagnoses(people, codes, person, code, whole)


def read_dates(
    path: str | Path, columns: Sequence[str], *, id_column: str | None = None
) -> dict[str, Dates]:
    """Read columns of dates, one row a person; see :func:`read_diagnoses` for how."""
    path = Path(path).expanduser()
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    _check_columns(table, path, columns)
    if len(set(ids.sample_ids)) != len(ids.sample_ids):
        raise MalformedError(
            explain(f"{path} has people who come twice", expected="One row per person here")
        )
    return {name: Dates(ids.sample_ids, to_days(table[name], path, name)) for name in columns}


def read_definitions(path: str | Path) -> dict[str, list[str]]:
    """Read what diseases are: a table with the columns ``trait`` and ``code``, one code a row."""
    path = Path(path).expanduser()
    table = read_table(path)
    _check_columns(table, path, ["trait", "code"])
    found: dict[str, list[str]] = {}
    names, codes = (table[name].cast(pa.string()).to_pylist() for name in ("trait", "code"))
    for row, (name, code) in enumerate(zip(names, codes, strict=True), start=2):
        if not (name or "").strip() or not (code or "").strip(" *."):
            raise MalformedError(explain(f"{path}:{row} lacks the trait or the code"))
        found.setdefault(name.strip(), []).append(code.strip())
    return found


def _check_columns(table: pa.Table, path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.column_names:
            known = ", ".join(table.column_names[:8])
            raise UsageError(
                explain(f"{path} has no column {name!r}",
                        do=did_you_mean(name, table.column_names) or f"It has {known}")
            )  # fmt: skip


def _numbered(column: pa.Array) -> tuple[tuple[str, ...], np.ndarray]:
    encoded = column.dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), np.asarray(encoded.indices).astype(np.int64)


def to_days(column: pa.ChunkedArray, path: Path, name: str) -> Float64[np.ndarray, " rows"]:
    """Days since 1970-01-01 of a column of dates; NaN where there is none."""
    if pa.types.is_string(column.type):
        column = _parse(column, path, name)
    elif not (pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)):
        raise MalformedError(
            explain(f"{path}: column {name} has type {column.type}", expected="Dates, YYYY-MM-DD")
        )
    days = column.cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.float64())
    values = np.array(days.to_numpy(), np.float64)
    unknown = [float(np.datetime64(day, "D").astype(np.int64)) for day in PLACEHOLDERS]
    values[np.isin(values, unknown)] = np.nan
    return values


def _parse(column: pa.ChunkedArray, path: Path, name: str) -> pa.ChunkedArray:
    text = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(text, value_set=MISSING.cast(text.type))
    text = pc.if_else(missing, pa.nulls(1, pa.string())[0], text)
    try:
        return text.cast(pa.date32())
    except pa.ArrowInvalid:
        good = pc.match_substring_regex(text, r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")
        row = next((i for i, ok in enumerate(good.to_pylist()) if ok is False), None)
        where = f"{path}:{row + 2} has {text[row].as_py()[:20]!r}" if row is not None else str(path)
        raise MalformedError(
            explain(f"{where} in column {name}, which is no date", expected="YYYY-MM-DD, or NA")
        ) from None

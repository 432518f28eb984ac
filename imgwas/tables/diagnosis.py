"""Everything that is wrong with a table, not only what is met first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from imgwas.errors import ImgwasError, MalformedError, OpenError, explain
from imgwas.tables.columns import choose_names, find_ids, is_id_name, remaining
from imgwas.tables.covariates import _covariates
from imgwas.tables.delimited import _delimiter, _header_names, fields_of, read_text
from imgwas.tables.formula import sources_of
from imgwas.tables.latents import _latents
from imgwas.tables.recognise import PARQUET, head_of
from imgwas.tables.source import read_table

#: Begins the id of a line that could not be read.
_UNREAD = "?line "


@dataclass
class TableDiagnosis:
    """What is wrong with a table, and whose rows it has.

    Parameters
    ----------
    errors : list of ImgwasError
        Lines of the wrong length first, then ids, then columns; the same words only once.
    sample_ids, family_ids : tuple of str or None
        Ids of the rows that could be read; None where no ids were found.
    """

    errors: list[ImgwasError] = field(default_factory=list)
    sample_ids: tuple[str, ...] | None = None
    family_ids: tuple[str, ...] | None = None

    def attempt(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, keep its refusal, and return None then."""
        try:
            return function(*args)
        except ImgwasError as error:
            if str(error) not in map(str, self.errors):
                self.errors.append(error)
            return None


def diagnose_table(
    path: Path,
    *,
    covariates: bool = False,
    id_column: str | None = None,
    names: Sequence[str] | None = None,
    neg9: str = "value",
    categorical: Sequence[str] = (),
    formula: str | None = None,
    max_levels: int = 50,
) -> TableDiagnosis:
    """Read a table column by column and collect what is wrong.

    Parameters
    ----------
    path : Path
        Parquet or delimited text.
    covariates : bool
        Whether text columns and formulae mean something.
    id_column, names, neg9, categorical, formula, max_levels
        As in :func:`imgwas.read_latents` and :func:`imgwas.read_covariates`.
    """
    found = TableDiagnosis()
    table = _read(path, found, id_column)
    ids = found.attempt(find_ids, table, path, id_column) if table is not None else None
    if table is None or ids is None:
        return found
    readable = [not one.startswith(_UNREAD) for one in ids.sample_ids]
    found.sample_ids = _chosen(ids.sample_ids, readable)
    found.family_ids = _chosen(ids.family_ids, readable) if ids.family_ids else None
    available = remaining(table, ids)
    labels = [one for one in categorical if _known(found, available, one, path)]
    for name in _wanted(found, available, names, formula, path):
        if covariates:
            some = [one for one in labels if one == name]
            found.attempt(
                _covariates, table, path, id_column, [name], some, None, max_levels, neg9, {}
            )
        else:
            found.attempt(_latents, table, path, id_column, [name], neg9, {})
    if not found.errors and covariates:
        found.attempt(
            _covariates, table, path, id_column, names, labels, formula, max_levels, neg9, {}
        )
    return found


def _chosen(ids: Sequence[str], readable: Sequence[bool]) -> tuple[str, ...]:
    return tuple(one for one, is_read in zip(ids, readable, strict=True) if is_read)


def _known(found: TableDiagnosis, available: list[str], name: str, path: Path) -> bool:
    return found.attempt(choose_names, available, [name], path) is not None


def _wanted(
    found: TableDiagnosis,
    available: list[str],
    names: Sequence[str] | None,
    formula: str | None,
    path: Path,
) -> list[str]:
    """Columns to look at: those asked for, every misspelt name told apart."""
    if formula is not None:
        sources = found.attempt(sources_of, formula, available, path) or []
        return [source.name for source in sources]
    if not names:
        return available
    chosen = [found.attempt(choose_names, available, [name], path) or [] for name in names]
    return list(dict.fromkeys(name for some in chosen for name in some))


def _read(path: Path, found: TableDiagnosis, id_column: str | None) -> pa.Table | None:
    """Read the table; where lines are of the wrong length, the others."""
    table = found.attempt(read_table, path)
    if table is None and isinstance(found.errors[0], MalformedError):
        try:
            if not head_of(path).startswith(PARQUET):
                return _regular_lines(path, found, id_column)
        except (MalformedError, OpenError):
            return None
    return table


def _regular_lines(path: Path, found: TableDiagnosis, id_column: str | None) -> pa.Table | None:
    """Table in which lines of the wrong length hold nothing, so that all keep their numbers."""
    header, _, body = read_text(path).partition(b"\n")
    delimiter = _delimiter(header)
    names = _header_names(header, delimiter, path)
    rows = [fields_of(line, delimiter) or [] for line in body.decode("utf-8").split("\n")]
    wrong = [number for number, row in enumerate(rows) if len(row) != len(names)]
    if not wrong or 2 * len(wrong) > len(rows):
        return None
    if len(wrong) > 1:
        some = ", ".join(str(number + 2) for number in wrong[1:6])
        what = (
            f"{path}: {len(wrong) - 1:,} more lines have another number of fields than the header"
        )
        found.errors.append(MalformedError(explain(f"{what} (first: {some})")))
    for number in wrong:
        unread = _UNREAD + str(number + 2)
        rows[number] = [unread if is_id_name(n) or n == id_column else "NA" for n in names]
    return pa.table([list(column) for column in zip(*rows, strict=True)], names=names)

"""One door for every kind of table: Parquet, delimited text, or a DataFrame."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.checks import check_unique
from imgwas.errors import MalformedError, explain
from imgwas.tables.columns import is_id_name
from imgwas.tables.delimited import read_text_table
from imgwas.tables.recognise import PARQUET, check_format, explained, head_of

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def read_table(path: Path) -> pa.Table:
    """Read a table: Parquet, told from its first bytes, or delimited text.

    Raises
    ------
    OpenError, ReadError
        If the file is absent or cannot be read.
    MalformedError
        If it is neither, or damaged.
    """
    head = head_of(path)
    if head.startswith(PARQUET):
        return _read_parquet(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        check_format(head, path)
        what = "is empty" if not head else "does not begin as a Parquet file does"
        raise MalformedError(explain(f"{path} {what}", do="Write or copy it again"))
    return read_text_table(path).table


def _read_parquet(path: Path) -> pa.Table:
    with explained(path):
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
        except pa.ArrowException as error:
            what = f"is not a whole Parquet file ({str(error).splitlines()[0][:120]})"
            raise MalformedError(explain(f"{path} {what}", do="Write or copy it again")) from error
        except OSError as error:
            if error.errno is not None:
                raise
            what = f"is damaged ({str(error).splitlines()[0][:120]})"
            raise MalformedError(explain(f"{path} {what}", do="Write or copy it again")) from error
    check_unique(f"{path}: the columns", table.column_names, error=MalformedError)
    if not table.num_rows:
        raise MalformedError(explain(f"{path} has columns and no rows"))
    logger.info(
        "read %s: %s rows, %s columns", path.name, f"{table.num_rows:,}", f"{table.num_columns:,}"
    )
    return _plain_strings(_name_index(table))


def stored_footer(path: Path) -> dict[str, Any]:
    """Return what imgwas wrote into the footer of a Parquet file; empty for any other table."""
    if not head_of(path).startswith(PARQUET):
        return {}
    with explained(path):
        metadata = pq.ParquetFile(path).schema_arrow.metadata or {}
    try:
        footer = json.loads(metadata.get(b"imgwas", b"{}"))
    except ValueError:  # somebody else's key of the same name
        return {}
    return footer if isinstance(footer, dict) else {}


def _plain_strings(table: pa.Table) -> pa.Table:
    """Give every spelling of text that Arrow knows the same type."""
    other = (pa.large_string(), getattr(pa, "string_view", pa.large_string)())
    types = [pa.string() if kind in other else kind for kind in table.schema.types]
    return table.cast(pa.schema(zip(table.column_names, types, strict=True)))


def _name_index(table: pa.Table) -> pa.Table:
    """Take the index that pandas stored without a name for ``IID``, unless an id column is there.

    A DataFrame that lost rows carries the numbers of the others as such an index: they are no ids.
    """
    unnamed = [name for name in _pandas_index(table) if name.startswith("__index_level_")]
    rest = [name for name in table.column_names if name not in unnamed]
    if len(unnamed) == 1 and not any(is_id_name(name) for name in rest):
        return table.rename_columns(
            ["IID" if name in unnamed else name for name in table.column_names]
        )
    return table.select(rest)


def _pandas_index(table: pa.Table) -> list[str]:
    stored = (table.schema.metadata or {}).get(b"pandas", b"{}")
    try:
        index = json.loads(stored).get("index_columns", [])
    except (ValueError, AttributeError):  # metadata is a courtesy, the columns are what counts
        return []
    if not isinstance(index, list):
        return []
    return [name for name in index if isinstance(name, str) and name in table.column_names]


def frame_to_table(frame: pd.DataFrame, *, id_column: str | None = None) -> pa.Table:
    """Take a DataFrame whose index holds the sample ids, or one with an id column.

    Raises
    ------
    MalformedError
        If names repeat, a column mixes numbers and text, or index and column disagree.
    """
    frame = _index_as_column(frame.rename(columns=str), id_column)
    check_unique("the columns", list(frame.columns), error=MalformedError)
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        column = re.search(r"for column (.*) with type", str(error))
        raise MalformedError(
            explain(
                f"column {column.group(1) if column else 'of the DataFrame'} holds values of "
                "several types, or of a type without numbers",
                do="Convert it: frame[name].astype(str), or pandas.to_numeric",
            )
        ) from error
    return _plain_strings(table)


def _index_as_column(frame: pd.DataFrame, id_column: str | None) -> pd.DataFrame:
    """Move an index of ids into a column; leave an index that only counts rows."""
    names = [str(name) for name in frame.index.names if name is not None]
    if frame.index.nlevels > 1:
        return _levels_as_columns(frame, names)
    if names and names[0] in frame.columns:
        if not (frame.index == frame[names[0]]).all():
            raise MalformedError(
                explain(f"the index {names[0]} and the column of that name differ", do="Drop one")
            )
        return frame.reset_index(drop=True)
    has_ids = id_column is not None or any(is_id_name(name) for name in frame.columns)
    if names and (is_id_name(names[0]) or names[0] == id_column):
        return frame.rename_axis(index=names[0]).reset_index()
    if has_ids or (not names and type(frame.index).__name__ == "RangeIndex"):
        return frame.reset_index(drop=True)
    return frame.rename_axis(index="IID").reset_index()


def _levels_as_columns(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    if len(names) == frame.index.nlevels and not set(names) & set(frame.columns):
        return frame.reset_index()
    raise MalformedError(
        explain(
            f"the DataFrame has an index of {frame.index.nlevels} levels",
            expected="Levels named FID and IID, and no column of the same name",
            do="frame.rename_axis(['FID', 'IID'])",
        )
    )


def provenance(path: Path, **more: Any) -> dict[str, Any]:
    """Say where a table came from: name, size, digest."""
    with explained(path), path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest, **more}

"""One door for every kind of table: Parquet or delimited text."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.checks import check_unique
from imgwas.errors import MalformedError, OpenError, ReadError, explain
from imgwas.tables.delimited import read_text_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def read_table(path: Path) -> pa.Table:
    """Read a table: Parquet by its suffix, anything else as delimited text."""
    path = path.expanduser()
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    return read_text_table(path).table


def _read_parquet(path: Path) -> pa.Table:
    if not path.exists():
        raise OpenError(explain(f"{path} does not exist", do="Check the path"))
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise MalformedError(
            explain(
                f"{path} is not a whole Parquet file ({str(error).splitlines()[0][:120]})",
                do="Write or copy it again",
            )
        ) from error
    except OSError as error:
        raise _damaged(path, error) from error
    check_unique(f"{path}: the columns", table.column_names, error=MalformedError)
    logger.info(
        "read %s: %s rows, %s columns", path.name, f"{table.num_rows:,}", f"{table.num_columns:,}"
    )
    return _name_index(table)


def _damaged(path: Path, error: OSError) -> Exception:
    if error.errno is None:
        return MalformedError(
            explain(
                f"{path} is damaged ({str(error).splitlines()[0][:120]})",
                do="Write or copy it again",
            )
        )
    return ReadError(explain(f"reading {path} failed ({error.strerror})"))


def _name_index(table: pa.Table) -> pa.Table:
    """Give the index that pandas stored under a made-up name the name ``IID``."""
    metadata = table.schema.metadata or {}
    stored = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    unnamed = [name for name in stored if isinstance(name, str) and name.startswith("__index")]
    names = ["IID" if name in unnamed else name for name in table.column_names]
    return table.rename_columns(names)


def frame_to_table(frame: pd.DataFrame) -> pa.Table:
    """Take a DataFrame whose index holds the sample ids, or one with an id column."""
    if frame.index.name or frame.index.dtype == object or frame.index.dtype.name == "string":
        frame = frame.rename_axis(index=str(frame.index.name or "IID")).reset_index()
    frame = frame.rename(columns=str)
    check_unique("the columns", list(frame.columns), error=MalformedError)
    return pa.Table.from_pandas(frame, preserve_index=False)


def provenance(path: Path, **more: Any) -> dict[str, Any]:
    """Say where a table came from: name, size, digest."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest, **more}

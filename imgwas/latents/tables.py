"""Latents written as Parquet or TSV, with what was done to them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.arrow import from_numpy, from_strings
from imgwas.errors import MalformedError, UsageError, explain
from imgwas.files import publish, publish_bytes, sha256_of
from imgwas.tables.columns import choose_names, find_ids, is_id_name, remaining, to_numbers
from imgwas.tables.latents import FROM_FOOTER
from imgwas.tables.source import provenance, read_table, stored_footer
from imgwas.types import Latents

logger = logging.getLogger(__name__)

#: Key of the Parquet footer under which the history stands as JSON.
FOOTER = b"imgwas"
_SUFFIXES = (".parquet", ".tsv")


def write_latents(
    latents: Latents,
    path: str | Path,
    *,
    history: Mapping[str, Any] | None = None,
    id_columns: tuple[str, str] = ("FID", "IID"),
) -> str:
    """Write latents as a table that ``read_latents`` and ``imgwas associate`` take unchanged.

    Ids stay text. A Parquet file carries ``history`` in its footer and checksums in its pages;
    either kind appears under its name only when it is whole.

    Parameters
    ----------
    latents : Latents
        Missing values are null in Parquet and NA in TSV.
    path : path
        Ends in .parquet or .tsv.
    history : mapping, optional
        What was done, as JSON values.
    id_columns : pair of str
        Names of the columns of family ids (where there are any) and sample ids.

    Returns
    -------
    str
        SHA-256 of the file.

    Raises
    ------
    UsageError
        If the suffix is another.
    WriteError
        If the file cannot be written.
    """
    path = Path(path)
    kind = check_table_name(path)
    columns: dict[str, pa.Array] = {}
    if latents.family_ids is not None:
        columns[id_columns[0]] = from_strings(latents.family_ids)
    columns[id_columns[1]] = from_strings(latents.sample_ids)
    if kind == ".tsv":
        if latents.source.get("people_seen"):
            logger.warning("%s cannot carry the ledger of training people: use .parquet", path.name)
        return _write_tsv(latents, columns, path)
    for name, column in zip(latents.names, latents.values.T, strict=True):
        columns[name] = _with_nulls(column)
    kept = {key: latents.source[key] for key in FROM_FOOTER if key in latents.source}
    footer = json.dumps(kept | dict(history or {}), sort_keys=True, allow_nan=False)
    table = pa.table(columns).replace_schema_metadata({FOOTER: footer.encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return publish_bytes(path, sink.getvalue())


def open_latents(
    path: str | Path, *, id_column: str | None = None, names: Sequence[str] | None = None
) -> tuple[Latents, tuple[str, str]]:
    """Read a table of latents together with the names of its id columns.

    Parameters
    ----------
    path, id_column, names
        As in :func:`imgwas.read_latents`.

    Returns
    -------
    latents : Latents
        Its ``source`` holds name, size and digest of the file and the history in its footer.
    id_columns : pair of str
        Names to give the columns of family and sample ids when they are written again; a name
        that no reader would recognise becomes ``IID``.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    history = read_history(path)
    chosen = choose_names(remaining(table, ids), names or history.get("latent_columns"), path)
    if not chosen:
        raise MalformedError(explain(f"{path} has ids and no other column"))
    made = {key: history.pop(key) for key in FROM_FOOTER if key in history}
    source = provenance(path, **made)
    latents = Latents(
        values=to_numbers(table, chosen, path),
        sample_ids=ids.sample_ids,
        names=tuple(chosen),
        family_ids=ids.family_ids,
        source=source | ({"history": history} if history else {}),
    )
    family, sample = ("FID", *ids.columns) if len(ids.columns) == 1 else ids.columns
    return latents, (family, sample if is_id_name(sample) else "IID")


def check_table_name(path: Path) -> str:
    """Suffix of a table to write; refuse one that names no format."""
    kind = path.suffix.lower()
    if kind not in _SUFFIXES:
        raise UsageError(
            explain(f"the table {path.name!r} has the suffix {path.suffix!r}",
                    expected=f"One of {', '.join(_SUFFIXES)}")
        )  # fmt: skip
    return kind


def read_history(path: str | Path) -> dict[str, Any]:
    """Read what the footer of a Parquet file says was done; empty for other files."""
    path = Path(path)
    return stored_footer(path) if path.is_file() else {}


def _with_nulls(column: np.ndarray) -> pa.Array:
    missing = np.isnan(column)
    values = from_numpy(column)
    if not missing.any():
        return values
    bits = np.packbits(~missing, bitorder="little")
    return pa.Array.from_buffers(
        values.type, len(column), [pa.py_buffer(bits.tobytes()), values.buffers()[1]]
    )


def _write_tsv(latents: Latents, ids: Mapping[str, pa.Array], path: Path) -> str:
    """Seventeen digits: reading gives the same numbers back."""
    with publish(path, "w") as stream:
        stream.write("\t".join([*ids, *latents.names]) + "\n")
        keys = [column.to_pylist() for column in ids.values()]
        for row, values in enumerate(latents.values.tolist()):
            cells = ["NA" if math.isnan(value) else repr(value) for value in values]
            stream.write("\t".join([*(key[row] for key in keys), *cells]) + "\n")
    return sha256_of(path)

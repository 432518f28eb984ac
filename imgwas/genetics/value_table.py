"""-log10 P of another test, read from a table by variant id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import to_numpy
from imgwas.checks import did_you_mean
from imgwas.errors import InconsistentError, MalformedError, UsageError, explain
from imgwas.shapes import Float64
from imgwas.sumstats import SumStats
from imgwas.tables.source import read_table

_IDS = ("variant_id", "SNP", "ID", "rsid")


def read_values(path: Path, column: str, sumstats: SumStats) -> Float64[np.ndarray, " variants"]:
    """Read one column for every variant of a scan, NaN for those the table lacks.

    Parameters
    ----------
    path : Path
        Parquet or text with a heading; a column ``variant_id`` names the variants.
    column : str
        Column of -log10 P.
    sumstats : SumStats
        The scan whose order is wanted.

    Raises
    ------
    UsageError, MalformedError
        If there is no such column, ids repeat, or values are no -log10 P.
    InconsistentError
        If no variant of the scan is in the table.
    """
    table = read_table(Path(path))
    ids = next((name for name in _IDS if name in table.column_names), None)
    if ids is None or column not in table.column_names:
        absent = column if ids is not None else "variant_id"
        raise UsageError(
            explain(
                f"{path} has no column {absent!r}",
                do=did_you_mean(absent, table.column_names)
                or f"It has {', '.join(table.column_names[:8])}",
            )
        )
    keys = pc.cast(table[ids], pa.string()).combine_chunks()
    if len(pc.unique(keys)) != len(keys):
        raise MalformedError(
            explain(f"{path} names a variant more than once", do="Keep one row a variant")
        )
    values = _numbers(table[column], path, column)
    wanted = pa.concat_tables(list(sumstats.iter_blocks(["variant_id"])))["variant_id"]
    place = to_numpy(pc.fill_null(pc.index_in(wanted, value_set=keys), -1))
    if not (place >= 0).any():
        raise InconsistentError(
            explain(
                f"none of the {len(place):,} variants of {sumstats.folder} is in {path}",
                expected="The same variant ids",
            )
        )
    return np.where(place >= 0, np.append(values, np.nan)[place], np.nan)


def _numbers(column: pa.ChunkedArray, path: Path, name: str) -> np.ndarray:
    try:
        if pa.types.is_string(column.type):
            missing = pc.is_in(column, value_set=pa.array(["NA", "nan", "NaN", ""]))
            column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
        numbers = pc.fill_null(pc.cast(column, pa.float64()), float("nan"))
    except pa.ArrowInvalid as error:
        raise MalformedError(explain(f"column {name} of {path} holds text")) from error
    values = to_numpy(numbers)
    if (values < 0).any() or np.isinf(values).any():
        raise MalformedError(
            explain(
                f"column {name} of {path} holds values below zero or infinite",
                expected="-log10 P, from 0 upwards",
            )
        )
    return values

"""Maps of recombination: chromosome, position and rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from imgwas.arrow import to_numpy
from imgwas.errors import MalformedError, explain
from imgwas.plots.chromosomes import chromosome_name
from imgwas.tables.source import read_table

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {
    "chromosome": ("chromosome", "chr", "chrom", "#chrom", "#chr"),
    "position": ("position", "pos", "position(bp)", "base_pair_location", "bp", "start"),
    "rate": ("rate", "rate(cm/mb)", "combined_rate(cm/mb)", "cm/mb", "recomb_rate", "recrate"),
}


def read_recombination_map(path: str | Path) -> pd.DataFrame:
    """Read a map of recombination.

    Parameters
    ----------
    path : path
        Text or Parquet with chromosome, position (1-based) and rate (cM/Mb): HapMap's names
        ``Chromosome, Position(bp), Rate(cM/Mb)``, or others like them. A rate holds from its
        position to the next.

    Returns
    -------
    DataFrame
        ``chromosome`` (a name), ``position``, ``rate``.

    Raises
    ------
    MalformedError
        If a column is missing, or a position or rate is no number.
    """
    import pandas as pd

    table = read_table(Path(path))
    known = {name.lower(): name for name in table.column_names}
    named = {what: next((known[n] for n in names if n in known), "")
             for what, names in _NAMES.items()}  # fmt: skip
    lacking = [what for what, name in named.items() if not name]
    if lacking:
        raise MalformedError(
            explain(
                f"{path} has no column of the {lacking[0]}",
                expected="A heading with chromosome, position and rate (cM/Mb)",
                where=f"it has {', '.join(table.column_names[:6])}",
                do="Name them in the first line, and put files of single chromosomes together",
            )
        )
    chromosome = table[named["chromosome"]].cast(pa.string()).to_pylist()
    names = {name: chromosome_name(name) for name in set(chromosome)}
    frame = pd.DataFrame(
        {
            "chromosome": [names[name] for name in chromosome],
            "position": _numbers(table, named["position"], path),
            "rate": _numbers(table, named["rate"], path),
        }
    )
    return frame.sort_values(["chromosome", "position"], kind="stable", ignore_index=True)


def _numbers(table: pa.Table, name: str, path: str | Path) -> np.ndarray:
    try:
        values = to_numpy(table[name].cast(pa.float64()))
    except pa.ArrowInvalid as error:
        raise MalformedError(explain(f"column {name} of {path} holds text")) from error
    if not np.isfinite(values).all() or (values < 0).any():
        raise MalformedError(
            explain(f"column {name} of {path} has missing or negative values",
                    where=f"{int((~(values >= 0)).sum()):,} rows")
        )  # fmt: skip
    return values

"""Latent and phenotype tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from imgwas.errors import MalformedError, explain
from imgwas.tables.columns import choose_names, find_ids, remaining, to_numbers
from imgwas.tables.source import frame_to_table, provenance, read_table, stored_footer
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

#: What a scan needs to know of how latents were made.
FROM_FOOTER = (
    "encoder", "weights_sha256", "people_seen", "in_sample", "out_of_fold", "polygenic",
    "fitted_on",
)  # fmt: skip


def read_latents(
    path: str | Path, *, id_column: str | None = None, names: Sequence[str] | None = None
) -> Latents:
    """Read a table of latents: one row a person, one column a latent.

    Parameters
    ----------
    path : path
        Parquet, CSV, TSV or whitespace-separated text, gzip allowed.
    id_column : str, optional
        Column of the sample ids; by default IID, sample_id, eid and the like are recognised.
    names : sequence of str, optional
        Only these columns; ``L0-L63`` and ``PC{1:20}`` are ranges. By default all, or those that
        ``imgwas encode`` marked as latents.

    Returns
    -------
    Latents
        NA, nan and empty cells are missing; -9 is a value.

    Raises
    ------
    OpenError, MalformedError, UsageError
        With file, line and column.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    made = stored_footer(path)
    chosen = names or made.get("latent_columns")
    told = {key: made[key] for key in (*FROM_FOOTER, "steps") if key in made}
    source = provenance(path, **told)
    return _latents(table, path, id_column, chosen, "value", source)


def read_phenotypes(
    path: str | Path,
    *,
    id_column: str | None = None,
    names: Sequence[str] | None = None,
    neg9: str = "plink",
) -> Latents:
    """Read phenotypes as PLINK and REGENIE write them: ``FID IID Y1 Y2 ...``.

    Parameters
    ----------
    path, id_column, names
        As in :func:`read_latents`.
    neg9 : {"plink", "missing", "value"}
        PLINK 2's rule: -9 is missing, and an error beside other values between -10 and -8.
    """
    path = Path(path).expanduser()
    return _latents(read_table(path), path, id_column, names, neg9, provenance(path))


def latents_from_frame(frame: pd.DataFrame, *, id_column: str | None = None) -> Latents:
    """Take latents from a DataFrame indexed by sample id."""
    table = frame_to_table(frame, id_column=id_column)
    return _latents(table, Path("<DataFrame>"), id_column, None, "value", {})


def _latents(
    table: pa.Table,
    path: Path,
    id_column: str | None,
    names: Sequence[str] | None,
    neg9: str,
    source: Mapping[str, Any],
) -> Latents:
    ids = find_ids(table, path, id_column)
    chosen = choose_names(remaining(table, ids), names, path)
    if not chosen:
        raise MalformedError(explain(f"{path} has ids and no other column"))
    return Latents(
        values=to_numbers(table, chosen, path, neg9=neg9),
        sample_ids=ids.sample_ids,
        names=tuple(chosen),
        family_ids=ids.family_ids,
        source=source,
    )

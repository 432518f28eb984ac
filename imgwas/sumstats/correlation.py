"""The file ``latent_correlation.parquet`` of a scan's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.arrow import from_numpy, to_numpy
from imgwas.errors import IncompleteError, MalformedError, explain
from imgwas.shapes import Float64

CORRELATION = "latent_correlation.parquet"


def encode_correlation(
    correlation: Float64[np.ndarray, "latents latents"], names: Sequence[str], samples: str
) -> pa.Buffer:
    """One column a latent, one row a latent in the same order; a digest of the ids in the footer.

    Parameters
    ----------
    correlation : (latents, latents) array
        Symmetric, ones on the diagonal.
    names : sequence of str
        Latents in order.
    samples : str
        SHA-256 of the ids of the analysed people.
    """
    columns = {name: from_numpy(correlation[:, i]) for i, name in enumerate(names)}
    footer = {"imgwas": json.dumps({"samples_sha256": samples})}
    table = pa.table(columns).replace_schema_metadata(footer)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="NONE", use_dictionary=False, write_statistics=False,
        write_page_checksum=True,
    )  # fmt: skip
    return sink.getvalue()


def read_correlation(folder: Path, names: Sequence[str]) -> Float64[np.ndarray, "latents latents"]:
    """Read the correlation of the latents of a scan, in the order of ``names``.

    Raises
    ------
    IncompleteError
        If the folder has none, because an older imgwas made it.
    MalformedError
        If the file is damaged or belongs to other latents.
    """
    path = folder / CORRELATION
    if not path.exists():
        raise IncompleteError(
            explain(
                f"{folder} has no {CORRELATION}: an older imgwas made the scan, or it is not "
                "finished",
                do="Run the same imgwas associate command again: it keeps the parts that are done "
                "and adds the file",
            )
        )
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        correlation = np.column_stack([to_numpy(column) for column in table.columns])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, str(error).splitlines()[0][:120]) from error
    if table.column_names != list(names) or correlation.shape != (len(names), len(names)):
        raise _damaged(path, f"{table.num_columns:,} columns for {len(names):,} latents")
    return correlation


def _damaged(path: Path, why: str) -> MalformedError:
    return MalformedError(
        explain(
            f"{path} cannot be used ({why})",
            do="Delete it and run the same imgwas associate command again: it writes it anew",
        )
    )

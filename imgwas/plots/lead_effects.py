"""What lead variants do to every latent: the table behind heatmaps and PheWAS of loci."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, to_numpy
from imgwas.errors import InconsistentError, MalformedError, explain
from imgwas.sumstats import SumStats
from imgwas.sumstats.effects import VARIANT_COLUMNS
from imgwas.sumstats.reading import read_part

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NEEDED = ("lead_variant", "chromosome", "base_pair_location")


def lead_effects(
    results: SumStats, loci: pd.DataFrame, *, latents: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read the effects of lead variants on all latents.

    Parameters
    ----------
    results : SumStats
        From :func:`imgwas.open_sumstats`; the scan that made the loci, or a replication.
    loci : DataFrame
        ``Loci.table``, or any with ``lead_variant``, ``chromosome`` and ``base_pair_location``.
    latents : sequence of str, optional
        All by default.

    Returns
    -------
    DataFrame
        One row for each pair of locus and latent: ``locus`` (its number, or 1, 2, ...), ``name``
        (the lead variant, with the nearest gene where the table has one), ``variant_id``,
        ``latent``, ``beta``, ``standard_error``, ``z``, ``neg_log_10_p_value``. Signs are those of
        the effect allele of the scan. NaN where nothing was tested.

    Raises
    ------
    MalformedError
        If the table lacks a column or has no row.
    InconsistentError
        If a lead variant is not in the results.
    """
    import pandas as pd

    lacking = [name for name in _NEEDED if name not in loci]
    if lacking or loci.empty:
        what = f"has no column {lacking[0]!r}" if lacking else "has no row"
        raise MalformedError(
            explain(f"the table of loci {what}", expected=f"Columns {', '.join(_NEEDED)}",
                    do="Give Loci.table, of imgwas.find_loci or imgwas.read_loci")
        )  # fmt: skip
    names = list(latents) if latents is not None else list(results.latents)
    columns = [c for name in names for c in results.columns_of(name)]
    wanted = [*VARIANT_COLUMNS, *dict.fromkeys(columns)]
    keys = [(str(name), int(place)) for name, place in
            zip(loci["lead_variant"], loci["base_pair_location"], strict=True)]  # fmt: skip
    places = dict.fromkeys(keys)
    found: dict[tuple[str, int], pd.DataFrame] = {}
    for part in results.receipts:
        hits = _hits(part.path, places)
        if hits:
            for block in _rows(part.path, wanted, [row for _, row in hits]):
                _collect(results, block, names, found)
    lost = [key[0] for key in places if key not in found]
    if lost:
        raise InconsistentError(
            explain(
                f"{len(lost):,} of {len(places):,} lead variants are not in {results.folder} "
                f"(first: {', '.join(lost[:3])})",
                expected="Loci of this scan, by variant id and position",
            )
        )
    pieces = []
    labels = loci_names(loci)
    numbers = loci["locus"].tolist() if "locus" in loci else list(range(1, len(loci) + 1))
    for number, label, key in zip(numbers, labels, keys, strict=True):
        piece = found[key].copy()
        piece.insert(0, "locus", number)
        piece.insert(1, "name", label)
        pieces.append(piece)
    return pd.concat(pieces, ignore_index=True)


def loci_names(loci: pd.DataFrame) -> list[str]:
    """Lead variant and nearest gene of each locus; numbered where two would be the same."""
    genes = loci["nearest_gene"] if "nearest_gene" in loci else [""] * len(loci)
    names: list[str] = []
    for lead, gene in zip(map(str, loci["lead_variant"]), genes, strict=True):
        is_named = isinstance(gene, str) and gene
        names.append(f"{lead} ({gene})" if is_named else lead)
    seen: dict[str, int] = {}
    unique: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return unique


def _hits(path: Path, places: dict[tuple[str, int], None]) -> list[tuple[tuple[str, int], int]]:
    """Lead variants that a part holds, with their rows."""
    hits, start = [], 0
    positions = from_numpy(np.unique([position for _, position in places]).astype(np.int64))
    for block in read_part(path, ["variant_id", "base_pair_location"]):
        near = pc.is_in(block["base_pair_location"].cast("int64"), value_set=positions)
        for row in np.flatnonzero(to_numpy(near)).tolist():
            key = (block["variant_id"][row].as_py(), block["base_pair_location"][row].as_py())
            if key in places:
                hits.append((key, row + start))
        start += block.num_rows
    return hits


def _rows(path: Path, columns: list[str], rows: list[int]) -> list[pa.Table]:
    """Some rows of a part, block by block."""
    blocks, start = [], 0
    for block in read_part(path, columns):
        own = [row - start for row in rows if start <= row < start + block.num_rows]
        if own:
            blocks.append(block.take(own))
        start += block.num_rows
    return blocks


def _collect(
    results: SumStats, block: pa.Table, names: list[str],
    found: dict[tuple[str, int], pd.DataFrame],
) -> None:  # fmt: skip
    import pandas as pd

    frames = [
        results.statistics(block.select([*VARIANT_COLUMNS, *results.columns_of(name)]), name)
        .assign(latent=name, z=lambda one: one["beta"] / one["standard_error"])
        for name in names
    ]  # fmt: skip
    every = pd.concat(frames, ignore_index=True)
    kept = ["variant_id", "latent", "beta", "standard_error", "z", "neg_log_10_p_value"]
    for _, one in every.groupby(["variant_id", "base_pair_location"], sort=False):
        key = (str(one["variant_id"].iloc[0]), int(one["base_pair_location"].iloc[0]))
        found[key] = one[kept]

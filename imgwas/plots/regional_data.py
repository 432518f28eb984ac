"""The variants of one region with their -log10 P and r² with the lead variant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from imgwas.arrow import from_numpy, to_numpy
from imgwas.checks import check_range, did_you_mean
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.genetics.ld import LdPanel, LdSettings
from imgwas.genetics.matching import genotype_rows
from imgwas.plots.chromosomes import chromosome_name
from imgwas.plots.genome_points import PLACE, ValueReader
from imgwas.sumstats import SumStats
from imgwas.sumstats.reading import inside, read_part
from imgwas.types import Genotypes

if TYPE_CHECKING:
    import pandas as pd


def regional_data(
    results: SumStats,
    chromosome: str | int,
    start: int,
    end: int,
    *,
    genotypes: Genotypes | None = None,
    what: str | None = None,
    lead: str | None = None,
    columns: np.ndarray | None = None,
    ld: LdSettings | None = None,
) -> pd.DataFrame:
    """Read one region of a scan, and measure LD with its lead variant.

    Parameters
    ----------
    results : SumStats
        From :func:`imgwas.open_sumstats`.
    chromosome : str or int
        ``7``, ``"chr7"``, ``"X"``; a contig by its own name.
    start, end : int
        1-based, both included.
    genotypes : Genotypes, optional
        For r²; those of the scan, or of other people.
    what : str, optional
        A latent, or a column such as ``omnibus.combined``; the smallest P by default.
    lead : str, optional
        Id of the variant that LD is measured with; the strongest by default.
    columns : (people,) int array, optional
        Columns of the genotype file whose people LD is measured among.
    ld : LdSettings, optional
        Kind of r², and how many people at most.

    Returns
    -------
    DataFrame
        Tested variants: ``chromosome``, ``base_pair_location``, ``variant_id``,
        ``neg_log_10_p_value``, ``is_lead`` and, with genotypes, ``r2`` (NaN where the genotypes
        lack the variant).

    Raises
    ------
    DegenerateError
        If no variant was tested here.
    UsageError
        If the lead variant is not in the region.
    """
    check_range("start", start, low=0, high=end)
    table, numbers = _read(results, str(chromosome), start, end, what)
    if table.empty:
        raise DegenerateError(
            explain(
                f"no variant was tested on chromosome {chromosome} from {start:,} to {end:,}",
                do="Look at results.variants(['chromosome', 'base_pair_location'])",
            )
        )
    place = _lead(table, lead)
    table["is_lead"] = np.arange(len(table)) == place
    if genotypes is not None:
        every = [to_numpy(block["row"]) for block in results.iter_blocks(["row"])]
        scanned = np.concatenate(every).astype(np.int64)
        rows = genotype_rows(results, genotypes, scanned)[numbers]
        table["r2"] = _r2(LdPanel(genotypes, columns, ld), rows, place)
    return table


def _read(
    results: SumStats, chromosome: str, start: int, end: int, what: str | None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Tested variants of the region, and their numbers in the scan."""
    reader = ValueReader(results, what)
    pieces, numbers, before = [], [np.empty(0, np.int64)], 0
    for part in results.receipts:
        blocks = read_part(part.path, PLACE[:2])
        if any(inside(block, chromosome, start, end).any() for block in blocks):
            at = before
            for block in read_part(part.path, [*PLACE, *reader.columns]):
                rows = np.flatnonzero(inside(block, chromosome, start, end))
                here = block.take(from_numpy(rows))
                values, _ = reader.values(here)
                tested = np.flatnonzero(~np.isnan(values))
                shown = here.select(list(PLACE)).take(from_numpy(tested))
                pieces.append(shown.append_column("neg_log_10_p_value", from_numpy(values[tested])))
                numbers.append(rows[tested] + at)
                at += block.num_rows
        before += part.rows
    if not pieces:
        import pandas as pd

        return pd.DataFrame(), numbers[0]
    frame: pd.DataFrame = pa.concat_tables(pieces).to_pandas()
    frame["chromosome"] = [chromosome_name(name) for name in frame["chromosome"]]
    return frame, np.concatenate(numbers)


def _lead(table: pd.DataFrame, lead: str | None) -> int:
    if lead is None:
        return int(table["neg_log_10_p_value"].to_numpy().argmax())
    found = np.flatnonzero(table["variant_id"].to_numpy() == lead)
    if not len(found):
        raise UsageError(
            explain(
                f"the lead variant {lead!r} is not among the {len(table):,} tested variants of the "
                "region",
                do=did_you_mean(lead, table["variant_id"].tolist()) or "Widen the region",
            )
        )
    return int(found[0])


def _r2(panel: LdPanel, rows: np.ndarray, lead: int) -> np.ndarray:
    r2 = np.full(len(rows), np.nan)
    there = rows >= 0
    if there[lead]:
        r2[there] = panel.r2(int(rows[lead]), rows[there])
    return r2

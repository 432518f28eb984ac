"""Variants in the order of the genome, whatever the order of the genotype file.

A file that is in order already is streamed. Another one is gathered piece by piece: two integers
per variant are held in memory, and the parts that a piece touches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, to_numpy
from imgwas.sumstats.effects import chromosome_code, dictionary_of
from imgwas.sumstats.reading import read_part

if TYPE_CHECKING:
    from imgwas.sumstats.store import SumStats

#: Rows of a piece that is turned into text at once.
PIECE = 131_072
_PLINK = {"X": 23, "Y": 24, "XY": 25, "MT": 26}
_CONTIGS = 1000
_PARTS_HELD = 4


@dataclass(frozen=True)
class Survey:
    """What has to be known of all variants before the first line is written."""

    is_sorted: bool
    n_rsids: int
    has_quality: bool


class ChromosomeRanks:
    """Ranks of chromosomes: numbers first, contigs after them as they come.

    ``by_name`` ranks X, Y, XY, MT as PLINK does; otherwise XY counts as X, as in GWAS-SSF.
    """

    def __init__(self, *, by_name: bool) -> None:
        self.by_name = by_name
        self._ranks: dict[str, int] = {}

    def keys(self, block: pa.Table) -> np.ndarray:
        """One integer per row that sorts by chromosome and position."""
        names, indices = dictionary_of(block["chromosome"])
        ranks = np.array([self._rank(name) for name in names], np.int64)
        return np.asarray((ranks[indices] << 40) + to_numpy(block["base_pair_location"]))

    def _rank(self, name: str) -> int:
        if name not in self._ranks:
            code = _PLINK.get(name, 0) if self.by_name else 0
            code = code or chromosome_code(name)
            self._ranks[name] = code or _CONTIGS + len(self._ranks)
        return self._ranks[name]


def survey(sumstats: SumStats, ranks: ChromosomeRanks) -> Survey:
    """Read the places and names of all variants once."""
    before, in_order, n_rsids, has_quality = -(1 << 62), True, 0, False
    columns = ["chromosome", "base_pair_location", "variant_id", "imputation_r2"]
    for block in sumstats.iter_blocks(columns):
        if not block.num_rows:
            continue
        keys = ranks.keys(block)
        in_order = in_order and keys[0] >= before and bool((keys[1:] >= keys[:-1]).all())
        before = keys[-1]
        named = pc.match_substring_regex(block["variant_id"], "^rs[0-9]+$")
        n_rsids += pc.sum(named).as_py() or 0
        has_quality = has_quality or block["imputation_r2"].null_count < block.num_rows
    return Survey(in_order, n_rsids, has_quality)


def in_order(
    sumstats: SumStats, columns: Sequence[str], ranks: ChromosomeRanks, *, is_sorted: bool
) -> Iterator[pa.Table]:
    """Yield columns in the order of the genome, some ten thousand rows at a time."""
    if is_sorted:
        for block in sumstats.iter_blocks(columns):
            for start in range(0, block.num_rows, PIECE):
                yield block.slice(start, PIECE)
    else:
        yield from _gathered(sumstats, columns, ranks)


def _gathered(
    sumstats: SumStats, columns: Sequence[str], ranks: ChromosomeRanks
) -> Iterator[pa.Table]:
    places = sumstats.iter_blocks(["chromosome", "base_pair_location"])
    order = np.argsort(np.concatenate([ranks.keys(block) for block in places]), kind="stable")
    starts = np.cumsum([0, *(part.rows for part in sumstats.receipts)])
    held = _HeldParts(sumstats, columns)
    for first in range(0, len(order), PIECE):
        rows = order[first : first + PIECE]
        number = np.searchsorted(starts, rows, side="right") - 1
        tables, offset, within = [], 0, np.empty(len(rows), np.int64)
        for part in np.unique(number).tolist():
            mine = number == part
            local = rows[mine] - starts[part]
            tables.append(held.table(part).take(from_numpy(local)))
            within[mine] = offset + np.arange(len(local))
            offset += len(local)
        yield pa.concat_tables(tables).take(from_numpy(within)).combine_chunks()


class _HeldParts:
    """The parts used last, decoded."""

    def __init__(self, sumstats: SumStats, columns: Sequence[str]) -> None:
        self.sumstats, self.columns = sumstats, columns
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()

    def table(self, part: int) -> pa.Table:
        if part not in self._tables:
            blocks = list(read_part(self.sumstats.receipts[part].path, self.columns))
            self._tables[part] = pa.concat_tables(blocks).combine_chunks()
        self._tables.move_to_end(part)
        while len(self._tables) > _PARTS_HELD:
            self._tables.popitem(last=False)
        return self._tables[part]

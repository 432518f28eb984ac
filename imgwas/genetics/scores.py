"""What a scan says of every variant: best -log10 P, whose it is, and which latents pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from imgwas.arrow import to_numpy
from imgwas.errors import InconsistentError, explain
from imgwas.genetics.clumping import Variants
from imgwas.shapes import Int64
from imgwas.sumstats import SumStats, neg_log10_p_value
from imgwas.sumstats.effects import VARIANT_COLUMNS, dictionary_of
from imgwas.sumstats.reading import check_known, read_part
from imgwas.sumstats.reduce import Thresholds, best_of_block

if TYPE_CHECKING:
    import pandas as pd

_PLACE = ("chromosome", "base_pair_location", "row")


@dataclass(frozen=True)
class Scores:
    """One value a variant, and every pair of variant and latent at or above a threshold.

    Parameters
    ----------
    variants : Variants
        Places and values of all variants of the scan, in its order.
    chromosomes : tuple of str
        Name of each chromosome number.
    row : (variants,) int array
        Row of the genotype file that was scanned.
    best : (variants,) int array
        Number of the latent with the smallest P, -1 where nothing was tested.
    latents : tuple of str
        Names of the latents that were looked at.
    pair_variant, pair_latent : (pairs,) int array
        Pairs that pass.
    pair_neg_log10_p : (pairs,) float array
        Their values.
    """

    variants: Variants
    chromosomes: tuple[str, ...]
    row: Int64[np.ndarray, " variants"]
    best: Int64[np.ndarray, " variants"]
    latents: tuple[str, ...]
    pair_variant: Int64[np.ndarray, " pairs"]
    pair_latent: Int64[np.ndarray, " pairs"]
    pair_neg_log10_p: np.ndarray

    def with_values(self, values: np.ndarray) -> Scores:
        """The same with another value for every variant."""
        if len(values) != len(self.variants):
            raise InconsistentError(
                explain(
                    f"{len(values):,} values were given for {len(self.variants):,} variants",
                    expected="One -log10 P for every variant of the scan, in its order",
                )
            )
        variants = replace(self.variants, neg_log10_p=np.asarray(values, np.float64))
        return replace(self, variants=variants)

    def of_latent(self, number: int, values: np.ndarray) -> Scores:
        """The same of one latent alone."""
        mine = self.pair_latent == number
        best = np.where(np.isnan(values), -1, number)
        return replace(
            self.with_values(values),
            best=best,
            pair_variant=self.pair_variant[mine],
            pair_latent=self.pair_latent[mine],
            pair_neg_log10_p=self.pair_neg_log10_p[mine],
        )

    def without(self, left_out: np.ndarray) -> Scores:
        """The same without the pairs of some variants, marked by True."""
        kept = ~left_out[self.pair_variant]
        return replace(
            self,
            pair_variant=self.pair_variant[kept],
            pair_latent=self.pair_latent[kept],
            pair_neg_log10_p=self.pair_neg_log10_p[kept],
        )


def read_scores(sumstats: SumStats, latents: Sequence[str] | None, p1: float) -> Scores:
    """Read a scan once: the best latent of every variant, and the pairs with P at most p1."""
    names = tuple(latents) if latents is not None else sumstats.latents
    entries = [sumstats.entry(name) for name in names]
    tested = [f"t.{e.name}" for e in entries] + [f"dof.{g}" for g in {e.group for e in entries}]
    limits = Thresholds(float(-np.log10(p1)))
    numbers: dict[str, int] = {}
    pieces: list[tuple[np.ndarray, ...]] = []
    pairs: list[tuple[np.ndarray, ...]] = []
    start = 0
    for block in sumstats.iter_blocks([*_PLACE, *tested]):
        local, indices = dictionary_of(block["chromosome"])
        codes = np.array([numbers.setdefault(name, len(numbers)) for name in local], np.int64)
        best, which = best_of_block(block, entries)
        place = (to_numpy(block[name]).astype(np.int64) for name in _PLACE[1:])
        pieces.append((codes[indices] if len(codes) else indices, *place, best, which))
        for k, entry in enumerate(entries):
            hit = np.flatnonzero(limits.passing(block, [entry])[entry.name])
            if len(hit):
                t = to_numpy(block[f"t.{entry.name}"])[hit].astype(np.float64)
                value = neg_log10_p_value(t, to_numpy(block[f"dof.{entry.group}"])[hit])
                pairs.append((hit + start, np.full(len(hit), k), value))
        start += block.num_rows
    chromosome, position, row, best, which = (
        np.concatenate(column) for column in zip(*pieces, strict=True)
    )
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    variant, latent, value = (np.concatenate(column) for column in zip(empty, *pairs, strict=True))
    return Scores(
        variants=Variants(chromosome.astype(np.int64), position, best),
        chromosomes=tuple(numbers),
        row=row,
        best=which.astype(np.int64),
        latents=names,
        pair_variant=variant,
        pair_latent=latent,
        pair_neg_log10_p=value,
    )


def read_column(sumstats: SumStats, name: str) -> np.ndarray:
    """Read one column of -log10 P of the results, such as ``omnibus.combined``."""
    check_known(sumstats.parts[0], [name])
    return np.concatenate(
        [to_numpy(block[name]).astype(np.float64) for block in sumstats.iter_blocks([name])]
    )


def describe_variants(
    sumstats: SumStats, chosen: np.ndarray, latents: Sequence[str]
) -> pd.DataFrame:
    """Names, alleles and effects of some variants, each for a latent of its own.

    Parameters
    ----------
    sumstats : SumStats
        The scan.
    chosen : (chosen,) int array
        Numbers of variants in the order of the scan.
    latents : sequence of str
        For each of them the latent whose effect is wanted.

    Returns
    -------
    DataFrame
        Columns of :meth:`SumStats.latent` with ``latent``, in the order of ``chosen``;
        ``chromosome`` is the name.
    """
    import pandas as pd

    frames, start = [], 0
    for receipt in sumstats.receipts:
        inside = np.flatnonzero((chosen >= start) & (chosen < start + receipt.rows))
        if len(inside):
            frames.append(_describe_part(sumstats, receipt.path, chosen, inside, start, latents))
        start += receipt.rows
    return pd.concat(frames).sort_index()


def _describe_part(
    sumstats: SumStats,
    path: Path,
    chosen: np.ndarray,
    inside: np.ndarray,
    start: int,
    latents: Sequence[str],
) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    from imgwas.arrow import from_numpy

    names = list(dict.fromkeys(latents[i] for i in inside))
    columns = [*VARIANT_COLUMNS, *(c for name in names for c in sumstats.columns_of(name))]
    table = pa.concat_tables(read_part(path, list(dict.fromkeys(columns))))
    frames = []
    for name in names:
        rows = np.array([i for i in inside if latents[i] == name])
        block = table.take(from_numpy(chosen[rows] - start))
        frame = sumstats.statistics(block, name)
        frame["chromosome"] = block["chromosome"].to_pylist()
        frame["latent"] = name
        frame.index = pd.Index(rows)
        frames.append(frame)
    return pd.concat(frames)


def variant_ids(sumstats: SumStats, chosen: np.ndarray) -> list[str]:
    """Ids of some variants, by their number in the order of the scan."""
    ids: dict[int, str] = {}
    start = 0
    wanted = np.unique(chosen)
    for receipt in sumstats.receipts:
        inside = wanted[(wanted >= start) & (wanted < start + receipt.rows)]
        if len(inside):
            here = start
            for block in read_part(receipt.path, ["variant_id"]):
                rows = inside[(inside >= here) & (inside < here + block.num_rows)]
                names = pc.take(block["variant_id"], (rows - here).tolist()).to_pylist()
                ids.update(zip(rows.tolist(), names, strict=True))
                here += block.num_rows
        start += receipt.rows
    return [ids[number] for number in chosen.tolist()]

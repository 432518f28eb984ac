"""What a whole scan says in few numbers: thresholds on t, genomic control, the best latent.

Everything streams: memory is a block of variants, or a few latents, never the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from imgwas.arrow import to_numpy
from imgwas.sumstats.effects import LatentEntry, chromosome_codes
from imgwas.sumstats.pvalues import (
    chi2_from_neg_log10_p,
    neg_log10_p_value,
    t_from_neg_log10_p,
)

if TYPE_CHECKING:
    import pandas as pd

    from imgwas.sumstats.store import SumStats

#: median of chi-square with one degree of freedom
MEDIAN_CHI2 = 0.454936423119572
#: bytes of t statistics that genomic control holds at a time
_BUDGET = 400_000_000


class Thresholds:
    """The abs(t) at which -log10 P reaches a value, per degrees of freedom."""

    def __init__(self, neg_log10_p: float) -> None:
        self.neg_log10_p = neg_log10_p
        self._known: dict[int, float] = {}

    def passing(self, block: pa.Table, entries: Sequence[LatentEntry]) -> dict[str, np.ndarray]:
        """Rows of a block that reach the threshold, by latent."""
        groups = {entry.group for entry in entries}
        limits = {group: self.of(to_numpy(block[f"dof.{group}"])) for group in groups}
        with np.errstate(invalid="ignore"):
            return {
                entry.name: np.abs(to_numpy(block[f"t.{entry.name}"])) >= limits[entry.group]
                for entry in entries
            }

    def of(self, dof: np.ndarray) -> np.ndarray:
        """Smallest abs(t) of each row that passes, less a rounding of the stored t."""
        values, where = np.unique(dof, return_inverse=True)
        limits = [self._limit(value) for value in values.tolist()]
        return np.array(limits, np.float64)[where] * (1 - 1e-9)

    def _limit(self, dof: int) -> float:
        if dof not in self._known:
            limit = t_from_neg_log10_p(self.neg_log10_p, dof)
            self._known[dof] = np.inf if np.isnan(limit) else limit
        return self._known[dof]


def lambda_gc(sumstats: SumStats, names: Sequence[str]) -> dict[str, float]:
    """Genomic control of some latents; see :meth:`SumStats.lambda_gc`."""
    per_pass = max(1, min(32, _BUDGET // (12 * max(sumstats.n_variants, 1))))
    values: dict[str, float] = {}
    for start in range(0, len(names), per_pass):
        entries = [sumstats.entry(name) for name in names[start : start + per_pass]]
        t, dof = _gather(sumstats, entries)
        for entry in entries:
            values[entry.name] = _genomic_control(t.pop(entry.name), dof[entry.group])
    return values


def _gather(
    sumstats: SumStats, entries: Sequence[LatentEntry]
) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray]]:
    """Read whole columns of abs(t) and of the degrees of freedom."""
    groups = sorted({entry.group for entry in entries})
    columns = [f"t.{entry.name}" for entry in entries] + [f"dof.{group}" for group in groups]
    pieces: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    for block in sumstats.iter_blocks(columns):
        for column in columns:
            pieces[column].append(to_numpy(block[column]))
    t = {e.name: np.abs(np.concatenate(pieces.pop(f"t.{e.name}"))) for e in entries}
    return t, {group: np.concatenate(pieces.pop(f"dof.{group}")) for group in groups}


def _genomic_control(t: np.ndarray, dof: np.ndarray) -> float:
    tested = np.isfinite(t) & (dof >= 1)
    if not tested.any():
        return float("nan")
    if not tested.all():
        t, dof = t[tested], dof[tested]
    return median_chi2(t, dof) / MEDIAN_CHI2


def median_chi2(t: np.ndarray, dof: np.ndarray) -> float:
    """Exact median, over tests, of the chi-square (one dof) that has the P value of each t.

    Where the degrees of freedom differ, only the statistics that could be the median are
    converted: those between the t that the smallest and the largest dof give its P value.
    """
    ranks = [(len(t) - 1) // 2, len(t) // 2]
    low_t, high_t = (float(value) for value in np.partition(t, ranks)[ranks])
    low_dof, high_dof = int(dof.min()), int(dof.max())
    if low_dof == high_dof:
        return float(chi2_of(np.array([low_t, high_t]), np.array(low_dof)).mean())
    least = _same_p(low_t, low_dof, high_dof) * (1 - 1e-9)
    most = _same_p(high_t, high_dof, low_dof) * (1 + 1e-9)
    near = (t >= least) & (t <= most)
    below = int((t < least).sum())
    values = np.sort(chi2_of(t[near].astype(np.float64), dof[near]))
    return float(values[np.array(ranks) - below].mean())


def _same_p(t: float, dof: int, other_dof: int) -> float:
    """The t with the same P value under other degrees of freedom."""
    return t_from_neg_log10_p(float(neg_log10_p_value(t, dof)), other_dof)


def chi2_of(t: np.ndarray, dof: np.ndarray) -> np.ndarray:
    """Chi-square with one degree of freedom that has the two-sided P value of t."""
    return chi2_from_neg_log10_p(neg_log10_p_value(t, dof))


def best_of_block(block: pa.Table, entries: Sequence[LatentEntry]) -> tuple[np.ndarray, np.ndarray]:
    """Largest -log10 P of each variant over latents, and the index of that latent (-1: none)."""
    best = np.full(block.num_rows, -np.inf)
    which = np.full(block.num_rows, -1)
    for group, members in _by_group(entries):
        strongest, index = _strongest(block, entries, members)
        tested = strongest >= 0
        p = np.full(block.num_rows, -np.inf)
        dof = to_numpy(block[f"dof.{group}"])
        p[tested] = neg_log10_p_value(strongest[tested], dof[tested])
        better = p > best
        best[better], which[better] = p[better], index[better]
    return np.where(which < 0, np.nan, best), which


def best_table(block: pa.Table, entries: Sequence[LatentEntry]) -> pd.DataFrame:
    """Where each variant of a block is, its smallest P over latents, and whose it is."""
    import pandas as pd

    best, which = best_of_block(block, entries)
    names = [entry.name for entry in entries]
    return pd.DataFrame(
        {
            "chromosome": chromosome_codes(block["chromosome"]),
            "base_pair_location": to_numpy(block["base_pair_location"]),
            "variant_id": block["variant_id"].to_pandas(),
            "neg_log_10_p_value": best,
            "latent": np.array([*names, ""], object)[which],
        }
    )


def _by_group(entries: Sequence[LatentEntry]) -> Iterator[tuple[int, list[int]]]:
    for group in sorted({entry.group for entry in entries}):
        yield group, [i for i, entry in enumerate(entries) if entry.group == group]


def _strongest(
    block: pa.Table, entries: Sequence[LatentEntry], members: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Largest abs(t) within a group, whose latents share their degrees of freedom."""
    strongest = np.full(block.num_rows, -1.0)
    which = np.full(block.num_rows, -1)
    for member in members:
        t = np.abs(to_numpy(block[f"t.{entries[member].name}"]))
        better = t > strongest
        strongest[better], which[better] = t[better], member
    return strongest, which

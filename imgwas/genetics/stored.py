"""Statistics of a finished scan, as heritability needs them: r of chosen variants, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, from_strings, to_numpy
from imgwas.errors import InconsistentError, explain
from imgwas.genetics.standard import (
    AlignedDesign,
    Moments,
    largest_group,
    people_of,
)
from imgwas.shapes import Bool, Int64
from imgwas.sumstats import SumStats
from imgwas.sumstats.probes import NOT_AUTOSOMES
from imgwas.types import PackedGenotypes

#: Rows held in double precision at once.
AT_ONCE = 16_384
#: Pairs that are computed again, and how far from the stored t they may be.
CHECKED, FAR = 5, 1e-2


@dataclass(frozen=True)
class StoredScan:
    """Which variants of a scan are used.

    Parameters
    ----------
    sumstats : SumStats
        The results.
    names : tuple of str
        Latents, in the order wanted.
    keep : (variants,) bool array
        Variants of the results that are used.
    rows : (used variants,) int array
        Their rows in the genotype file.
    known : Moments or None
        Means and residual lengths of their genotypes among the people of the largest group.
    """

    sumstats: SumStats
    names: tuple[str, ...]
    keep: Bool[np.ndarray, " variants"]
    rows: Int64[np.ndarray, " used"]
    known: Moments | None

    @classmethod
    def open(
        cls, sumstats: SumStats, genotypes: PackedGenotypes, design: AlignedDesign, min_maf: float
    ) -> StoredScan:
        """Choose autosomal variants that every latent was tested on, and check who is who."""
        n_groups = len(design.groups)
        largest = largest_group(design)
        # by identity: groups hold arrays, which have no single answer to ==
        reference = next(i for i, group in enumerate(design.groups) if group is largest)
        columns = ["chromosome", "variant_id", "row", f"scale.{reference}"]
        columns += [f"{what}.{g}" for g in range(n_groups)
                    for what in ("reason", "effect_allele_frequency")]  # fmt: skip
        kept, rows, lengths, frequency, ids = [], [], [], [], []
        for block in sumstats.iter_blocks(columns):
            keep = usable(block, n_groups, min_maf)
            kept.append(keep)
            rows.append(to_numpy(block["row"])[keep])
            lengths.append(to_numpy(block[f"scale.{reference}"])[keep].astype(np.float64))
            frequency.append(to_numpy(block[f"effect_allele_frequency.{reference}"])[keep])
            ids.append(block["variant_id"].filter(pa.array(keep)).combine_chunks())
        stored = cls(
            sumstats,
            tuple(name for group in design.groups for name in group.names),
            np.concatenate(kept),
            np.concatenate(rows).astype(np.int64),
            None if sumstats.stores_beta else _moments(frequency, lengths),
        )
        _check_ids(genotypes, stored.rows, pa.chunked_array(ids), sumstats)
        stored._check_statistics(genotypes, design)
        return stored

    def correlations(self) -> Iterator[np.ndarray]:
        """Yield r = t / sqrt(t^2 + dof) of the used variants, (latents, variants), in order."""
        entries = [self.sumstats.entry(name) for name in self.names]
        columns = [f"t.{name}" for name in self.names]
        columns += sorted({f"dof.{entry.group}" for entry in entries})
        start = 0
        for whole in self.sumstats.iter_blocks(columns):
            for at in range(0, whole.num_rows, AT_ONCE):
                block = whole.slice(at, AT_ONCE)
                keep = np.flatnonzero(self.keep[start : start + block.num_rows])
                start += block.num_rows
                r = np.empty((len(entries), len(keep)), np.float32)
                for k, entry in enumerate(entries):
                    r[k] = to_numpy(block[f"t.{entry.name}"])[keep]
                    r[k] /= np.sqrt(r[k] * r[k] + to_numpy(block[f"dof.{entry.group}"])[keep])
                yield r

    def products(self, edges: Int64[np.ndarray, " edges"]) -> np.ndarray:
        """Sum of ``r r'`` over each block of used variants."""
        k = len(self.names)
        sums = np.zeros((len(edges) - 1, k, k))
        start = 0
        for r in self.correlations():
            stop = start + r.shape[1]
            first = int(np.searchsorted(edges, start, side="right")) - 1
            last = int(np.searchsorted(edges, stop, side="left"))
            for block in range(first, last):
                piece = r[:, max(edges[block] - start, 0) : edges[block + 1] - start]
                sums[block] += piece @ piece.T
            start = stop
        return sums

    def _check_statistics(self, genotypes: PackedGenotypes, design: AlignedDesign) -> None:
        """Compute a few correlations from the genotypes; they must be those of the scan."""
        if not len(self.rows):
            return
        stored = next(self.correlations())
        some = np.unique(np.linspace(0, stored.shape[1] - 1, CHECKED).astype(np.int64))
        column = 0
        for group in design.groups:
            people = people_of(genotypes, design, group)
            standard, _ = people.standardised(self.rows[some])
            again = standard @ group.traits[group.used]
            was = stored[column : column + len(group.names), some].T
            column += len(group.names)
            # a .bed read with the other allele counted turns the sign of a whole row
            apart = np.abs(np.abs(again) - np.abs(was)).max() * np.sqrt(people.n_free)
            if apart > FAR and not self.sumstats.stores_beta:
                raise InconsistentError(
                    explain(
                        f"the genotypes, latents and covariates give t statistics up to "
                        f"{apart:.2g} away from those in {self.sumstats.folder}",
                        expected="They must be those of the scan, transformed in the same way",
                        do="Give the same tables, --rank-normal and --formula as for the scan",
                    )
                )


def _moments(frequency: list[np.ndarray], lengths: list[np.ndarray]) -> Moments:
    effect = np.concatenate(frequency)
    return Moments(2 * effect, np.concatenate(lengths), np.minimum(effect, 1 - effect))


def usable(block: pa.Table, n_groups: int, min_maf: float) -> np.ndarray:
    """Tell which variants are autosomal, common and tested in every group."""
    elsewhere = pc.is_in(block["chromosome"], value_set=from_strings(NOT_AUTOSOMES))
    keep = ~to_numpy(elsewhere)
    for group in range(n_groups):
        frequency = to_numpy(block[f"effect_allele_frequency.{group}"])
        with np.errstate(invalid="ignore"):
            keep &= np.minimum(frequency, 1 - frequency) > min_maf
        keep &= to_numpy(block[f"reason.{group}"]) == 0
    return np.asarray(keep)


def _check_ids(genotypes: PackedGenotypes, rows: np.ndarray, ids: Any, sumstats: SumStats) -> None:
    here = genotypes.variants.column("variant_id")
    outside = len(rows) and rows[-1] >= len(here)
    if not outside:
        same = to_numpy(pc.equal(here.take(from_numpy(rows)), ids))
        if same.all():
            return
    n = "some" if outside else f"{int((~same).sum()):,} of {len(rows):,}"
    raise InconsistentError(
        explain(
            f"{n} variants of {sumstats.folder} are not at their place in the genotype file",
            do="Give the --bfile that was scanned",
        )
    )

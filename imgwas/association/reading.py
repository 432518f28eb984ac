"""A block of variants as it was read, before it is tested: filtered, cut, counted.

Two-bit calls and whole-number dosages each have their own subclass; a part only knows this one.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod

import numpy as np

from imgwas.association.blocks import GroupResult, Workspace
from imgwas.association.kernel import scan_block
from imgwas.association.task import AUTOSOME, ScanTask, X, Y, compact
from imgwas.genotypes.counts import GenotypeCounts, count_packed

#: Design of each kind of variant, see :func:`imgwas.association.task.variant_kinds`.
DESIGNS = (AUTOSOME, X, Y, AUTOSOME)


class VariantBlock(ABC):
    """Some variants among the analysed people.

    Parameters
    ----------
    task : ScanTask
        The scan.
    kinds : (variants,) int array
        0 autosome, 1 X, 2 Y, 3 mitochondria.
    digest : bytes
        SHA-256 of what was read, of each block as the settings have it.
    """

    def __init__(self, task: ScanTask, kinds: np.ndarray, digest: bytes) -> None:
        self.task, self.kinds, self.digest = task, kinds, digest

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    @abstractmethod
    def n_missing(self) -> np.ndarray:
        """Analysed people without a call, of each variant."""

    @abstractmethod
    def take(self, rows: np.ndarray | slice) -> VariantBlock:
        """Only some of the variants."""

    @abstractmethod
    def filtered(self) -> tuple[np.ndarray, dict[str, int]]:
        """Which variants the filters of the scan keep, and how many each of them removes."""

    @abstractmethod
    def test(self, kind: int, workspace: Workspace) -> list[GroupResult]:
        """Statistics of every group; all the variants are of one kind."""

    @abstractmethod
    def diploid_counts(self) -> GenotypeCounts:
        """Counts for Hardy-Weinberg: females only on X, nobody where everyone is haploid."""

    def imputation_quality(self) -> np.ndarray:
        """Imputation quality of each variant, NaN where calls are hard."""
        return np.full(len(self), np.nan)


class PackedBlock(VariantBlock):
    """Variants as two-bit codes."""

    def __init__(
        self,
        task: ScanTask,
        kinds: np.ndarray,
        digest: bytes,
        packed: np.ndarray,
        counts: GenotypeCounts,
    ) -> None:
        super().__init__(task, kinds, digest)
        self.packed, self.counts = packed, counts

    @classmethod
    def read(cls, task: ScanTask, rows: np.ndarray, kinds: np.ndarray) -> PackedBlock:
        """Read some rows of the genotype file."""
        packed = task.packed_genotypes.read_packed(rows)
        step = task.settings.block_size  # so that it does not depend on how much is read at once
        starts = range(0, len(packed), step)
        digest = b"".join(hashlib.sha256(packed[at : at + step].data).digest() for at in starts)
        if task.columns is not None:
            packed = compact(packed, task.columns)
        return cls(task, kinds, digest, packed, count_packed(packed, task.masks["analysed"]))

    @property
    def n_missing(self) -> np.ndarray:
        """Analysed people without a call, of each variant."""
        return self.counts.n_missing

    def take(self, rows: np.ndarray | slice) -> PackedBlock:
        """Only some of the variants."""
        some = self.kinds[rows], self.digest, self.packed[rows], self.counts.take(rows)
        return PackedBlock(self.task, *some)

    def filtered(self) -> tuple[np.ndarray, dict[str, int]]:
        """Which variants the filters of the scan keep, and how many each of them removes."""
        filters, masks = self.task.settings.filters, self.task.masks
        if not filters.any_active:
            return np.ones(len(self), bool), {}
        names = ("analysed", "founders", "females", "males")
        people = {name: masks[name] for name in names}
        return filters.passes(self.packed, self.counts, kinds=self.kinds, **people)

    def test(self, kind: int, workspace: Workspace) -> list[GroupResult]:
        """Statistics of every group; all the variants are of one kind."""
        name = DESIGNS[kind]
        results = scan_block(
            self.packed,
            self.task.groups[name],
            matrices=self.task.matrices[name],
            workspace=workspace,
            counts=self.counts,
            missing=self.task.settings.missing_genotype,
        )
        if name == AUTOSOME:
            return results
        return [
            self._haploid_frequency(result, group.mask)
            for result, group in zip(results, self.task.groups[name], strict=True)
        ]

    def _haploid_frequency(self, result: GroupResult, used: np.ndarray | None) -> GroupResult:
        """Count each male once in the allele frequency, whatever his coding in the product."""
        males = self.task.masks["males"]
        mask = males if used is None else used & males
        everyone, male = count_packed(self.packed, used), count_packed(self.packed, mask)
        copies = everyone.copies - male.copies / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            frequency = copies / (2 * everyone.n_called - male.n_called)
        return GroupResult(**(vars(result) | {"effect_allele_frequency": frequency}))

    def diploid_counts(self) -> GenotypeCounts:
        """Counts for Hardy-Weinberg: females only on X, nobody where everyone is haploid."""
        if not self.kinds.any():
            return self.counts
        females = count_packed(self.packed, self.task.masks["females"])
        nobody = count_packed(self.packed, np.zeros_like(self.task.masks["females"]))
        return GenotypeCounts.choose(self.kinds, [self.counts, females, nobody, nobody])

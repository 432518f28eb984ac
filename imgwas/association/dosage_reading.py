"""A block of dosages on its way into a part."""

from __future__ import annotations

import numpy as np

from imgwas.association.blocks import GroupArrays, GroupResult, Workspace, people_used
from imgwas.association.dosage_kernel import scan_dosages
from imgwas.association.reading import DESIGNS, VariantBlock
from imgwas.association.task import AUTOSOME, ScanTask
from imgwas.genotypes.counts import GenotypeCounts
from imgwas.genotypes.dosage_counts import DosageSums, sum_codes
from imgwas.genotypes.dosage_filters import DosageMeasures
from imgwas.types import DosageCodes, DosageGenotypes


class DosageBlock(VariantBlock):
    """Variants as whole-number dosages."""

    def __init__(
        self, task: ScanTask, kinds: np.ndarray, codes: DosageCodes, per_copy: int
    ) -> None:
        super().__init__(task, kinds, codes.digest)
        self.codes, self.per_copy = codes, per_copy
        n = codes.dosage.shape[1]
        people = {name: mask[:n] for name, mask in task.people.items()}
        nonfounders = task.settings.filters.nonfounders
        self.measures = DosageMeasures(codes, per_copy, people, kinds, nonfounders)

    @classmethod
    def read(cls, task: ScanTask, rows: np.ndarray, kinds: np.ndarray) -> DosageBlock:
        """Read some rows of the genotype file."""
        genotypes = task.genotypes
        assert isinstance(genotypes, DosageGenotypes)
        codes = genotypes.read_codes(rows)
        if task.columns is not None:
            twice = None if codes.twice is None else codes.twice[:, task.columns]
            codes = DosageCodes(codes.dosage[:, task.columns], codes.digest, twice)
        return cls(task, kinds, codes, genotypes.per_copy)

    @property
    def n_missing(self) -> np.ndarray:
        """Analysed people without a dosage, of each variant."""
        return self.measures.analysed.n_missing

    def take(self, rows: np.ndarray | slice) -> DosageBlock:
        """Only some of the variants, with what is known of them already."""
        block = DosageBlock(self.task, self.kinds[rows], self.codes.take(rows), self.per_copy)
        for name in ("analysed", "sums"):
            known = vars(self.measures).get(name)
            if known is not None:
                vars(block.measures)[name] = known.take(rows)
        return block

    def filtered(self) -> tuple[np.ndarray, dict[str, int]]:
        """Which variants the filters of the scan keep, and how many each of them removes."""
        filters = self.task.settings.filters
        if not filters.any_active:
            return np.ones(len(self), bool), {}
        return self.measures.filtered(filters)

    def test(self, kind: int, workspace: Workspace) -> list[GroupResult]:
        """Statistics of every group; all the variants are of one kind."""
        name = DESIGNS[kind]
        groups = self.task.groups[name]
        results = scan_dosages(
            self.codes.dosage,
            groups,
            matrices=self.task.matrices[name],
            sums=self._sums(groups),
            everyone=self.measures.analysed,
            per_copy=self.per_copy,
            workspace=workspace,
            missing=self.task.settings.missing_genotype,
        )
        if name == AUTOSOME:
            return results
        males = self.measures.people["males"]
        used = np.stack([self._people(group) for group in groups])
        pairs = zip(sum_codes(self.codes, used), sum_codes(self.codes, used & males), strict=True)
        return [
            self._haploid_frequency(result, everyone, male)
            for result, (everyone, male) in zip(results, pairs, strict=True)
        ]

    def _people(self, group: GroupArrays) -> np.ndarray:
        return people_used(group, len(group.traits))[: self.codes.dosage.shape[1]]

    def _sums(self, groups: list[GroupArrays]) -> list[DosageSums]:
        """Sums within each group; those of everyone where the group is everyone."""
        n = int(self.measures.people["analysed"].sum())
        apart = [i for i, group in enumerate(groups) if group.n != n]
        sums = [self.measures.analysed] * len(groups)
        if apart:
            masks = np.stack([self._people(groups[i]) for i in apart])
            for i, own in zip(apart, sum_codes(self.codes, masks), strict=True):
                sums[i] = own
        return sums

    def _haploid_frequency(
        self, result: GroupResult, everyone: DosageSums, male: DosageSums
    ) -> GroupResult:
        """Count each male once in the allele frequency, whatever his coding in the product."""
        copies = (everyone.total - male.total / 2) / self.per_copy
        with np.errstate(invalid="ignore", divide="ignore"):
            frequency = copies / (2 * everyone.n_called - male.n_called)
        return GroupResult(**(vars(result) | {"effect_allele_frequency": frequency}))

    def diploid_counts(self) -> GenotypeCounts:
        """Hard calls for Hardy-Weinberg: females only on X, nobody where everyone is haploid."""
        return self.measures.diploid_counts(self.measures.people["analysed"])

    def imputation_quality(self) -> np.ndarray:
        """INFO or MaCH's r2 of each variant."""
        return self.measures.quality()

"""The filters of a scan on dosages, with PLINK 2's meaning.

Frequencies come from dosages; Hardy-Weinberg from hard calls, within 0.1 of a whole number; missing
is who has no dosage (PLINK 2's ``--geno dosage``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imgwas.errors import UsageError, explain
from imgwas.genotypes.counts import GenotypeCounts
from imgwas.genotypes.dosage_counts import (
    DosageSums,
    count_hard_calls,
    imputation_quality,
    sum_codes,
)
from imgwas.genotypes.filters import VariantFilters
from imgwas.genotypes.hardy_weinberg import hardy_weinberg_p_value
from imgwas.types import DosageCodes, DosageGenotypes, Genotypes


@dataclass(frozen=True)
class DosageMeasures:
    """What filters and results want to know of a block of dosages, computed when asked for.

    Parameters
    ----------
    codes : DosageCodes
        The block.
    per_copy : int
        Code of one copy.
    people : mapping of str to (samples,) bool array
        ``analysed``, ``founders``, ``females`` and ``males``, all among the analysed.
    kinds : (variants,) int array
        0 autosome, 1 X, 2 Y, 3 mitochondria.
    nonfounders : bool
        Frequencies and quality over everyone instead of founders.
    """

    codes: DosageCodes
    per_copy: int
    people: Mapping[str, np.ndarray]
    kinds: np.ndarray
    nonfounders: bool = False

    def filtered(self, filters: VariantFilters) -> tuple[np.ndarray, dict[str, int]]:
        """Which variants stay, and how many each limit removes."""
        return filters.decide(
            len(self.kinds),
            missing_rate=self.missing_rate,
            hardy_weinberg=self.hardy_weinberg,
            minor_allele=self.minor_allele,
            quality=self.quality,
        )

    @cached_property
    def analysed(self) -> DosageSums:
        """Sums over all analysed people."""
        return sum_codes(self.codes, self.people["analysed"][None])[0]

    @property
    def counted(self) -> np.ndarray:
        """People whom frequencies are taken over."""
        return self.people["analysed" if self.nonfounders else "founders"]

    @cached_property
    def sums(self) -> DosageSums:
        """Sums over the people whom frequencies are taken over."""
        if np.array_equal(self.counted, self.people["analysed"]):
            return self.analysed
        return sum_codes(self.codes, self.counted[None])[0]

    def missing_rate(self) -> np.ndarray:
        """Share of people without a dosage; on Y among males only."""
        sums = self.analysed
        missing, total = sums.n_missing, sums.n_missing + sums.n_called
        if (self.kinds == 2).any():
            male = sum_codes(self.codes, self.people["males"][None])[0]
            missing = np.where(self.kinds == 2, male.n_missing, missing)
            total = np.where(self.kinds == 2, male.n_missing + male.n_called, total)
        return np.asarray(missing / np.maximum(total, 1))

    def minor_allele(self) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the rarer allele and of both; one each on MT, of males on X and Y."""
        copies, total = self.sums.total / self.per_copy, 2.0 * self.sums.n_called
        if self.kinds.any():
            male = sum_codes(self.codes, (self.counted & self.people["males"])[None])[0]
            of_males = male.total / self.per_copy
            on = [self.kinds == 1, self.kinds == 2, self.kinds == 3]
            copies = np.select(on, [copies - of_males / 2, of_males / 2, copies / 2], copies)
            total = np.select(on, [total - male.n_called, male.n_called, total / 2], total)
        return np.minimum(copies, total - copies), total

    def hardy_weinberg(self) -> np.ndarray:
        """Exact P value of the hard calls; females on X, always 1 on Y and MT."""
        counts = self.diploid_counts(self.counted)
        return hardy_weinberg_p_value(
            counts.n_effect_homozygote, counts.n_heterozygote, counts.n_other_homozygote
        )

    def diploid_counts(self, people: np.ndarray) -> GenotypeCounts:
        """Hard calls; females only on X, nobody where everyone is haploid."""
        dosage = self.codes.dosage
        counts = count_hard_calls(dosage, people, self.per_copy)
        if not self.kinds.any():
            return counts
        female = count_hard_calls(dosage, people & self.people["females"], self.per_copy)
        nobody = count_hard_calls(dosage, np.zeros_like(people), self.per_copy)
        return GenotypeCounts.choose(self.kinds, [counts, female, nobody, nobody])

    def quality(self) -> np.ndarray:
        """Imputation quality; females on X, NaN on Y and MT."""
        found = imputation_quality(self.sums, self.per_copy)
        if self.kinds.any():
            female = sum_codes(self.codes, (self.counted & self.people["females"])[None])[0]
            on_x = imputation_quality(female, self.per_copy)
            found = np.select([self.kinds == 1, self.kinds > 1], [on_x, np.nan], found)
        return found


def check_quality(genotypes: Genotypes, filters: VariantFilters) -> None:
    """Refuse a limit on imputation quality where calls are hard."""
    if filters.info is not None and not isinstance(genotypes, DosageGenotypes):
        raise UsageError(
            explain(
                "--info asks for imputation quality, and these genotypes are hard calls",
                expected="Probabilities (.bgen) or dosages (.pgen, VCF with DS) have a quality",
                do="Leave out --info, or name the imputed file",
            )
        )

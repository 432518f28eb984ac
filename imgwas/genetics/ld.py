"""Linkage disequilibrium among the people of the scan, one variant against a window at a time."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imgwas.arrow import to_numpy
from imgwas.checks import check_option
from imgwas.errors import DegenerateError, explain
from imgwas.genetics.haplotypes import dosage_r2, haplotype_r2
from imgwas.shapes import Float64, Int8, Int64
from imgwas.types import Genotypes, PackedGenotypes

logger = logging.getLogger(__name__)

#: How r² is defined; both are PLINK's.
KINDS = ("haplotype", "dosage")
#: Bytes of genotypes kept decoded, and decoded at once.
_CACHE, _CHUNK = 256_000_000, 64_000_000
MISSING = -1
#: Copies of the effect allele of the four people in a byte.
_UNPACKED = np.array([2, MISSING, 1, 0], np.int8)[
    np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3
]


@dataclass(frozen=True)
class LdSettings:
    """How linkage disequilibrium is measured.

    Parameters
    ----------
    kind : {"haplotype", "dosage"}
        r² of alleles on a haplotype by maximum likelihood, as PLINK's ``--clump`` has it, or of
        allele counts, as ``--clump-unphased`` has it.
    max_people : int
        More people than this are not used; so many are drawn at random.
    nonfounders : bool
        Use everyone, not only people without a recorded parent.
    seed : int
        Of the draw.
    """

    kind: str = "haplotype"
    max_people: int = 30_000
    nonfounders: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_option("the kind of r²", self.kind, KINDS)


class LdPanel:
    """r² between variants of a genotype file, among some of its people.

    Parameters
    ----------
    genotypes : Genotypes
        Read as needed; what was decoded is kept up to 256 MB.
    columns : (people,) int array, optional
        Columns of the genotype file to choose from; everyone by default.
    settings : LdSettings
        Kind of r², and how many people.

    Raises
    ------
    DegenerateError
        If fewer than two people are left.
    """

    def __init__(
        self,
        genotypes: Genotypes,
        columns: np.ndarray | None = None,
        settings: LdSettings | None = None,
    ) -> None:
        self.genotypes, self.settings = genotypes, settings or LdSettings()
        self.columns = _choose_people(genotypes, columns, self.settings)
        self._rows: OrderedDict[int, np.ndarray] = OrderedDict()
        self._room = max(16, _CACHE // len(self.columns))

    def __repr__(self) -> str:
        return f"LdPanel({len(self.columns):,} people, {self.settings.kind} r²)"

    @property
    def n_people(self) -> int:
        """People whose genotypes are compared."""
        return len(self.columns)

    def describe(self) -> dict[str, Any]:
        """What was used, for the definition printed in tables."""
        return {
            "r2": self.settings.kind,
            "people": self.n_people,
            "founders_only": not self.settings.nonfounders,
            "seed": self.settings.seed,
        }

    def r2(self, row: int, others: Int64[np.ndarray, " others"]) -> Float64[np.ndarray, " others"]:
        """r² of one row of the genotype file with others; NaN where a variant does not vary.

        People without both calls are left out, pair by pair.
        """
        if not len(others):
            return np.empty(0)
        one = self._calls(np.array([row]))[0]
        names, numbers = self._chromosomes
        chromosome = names[numbers[row]]
        if chromosome == "X" and self.settings.kind == "haplotype":
            male = self._male
            diploid = self._tables(one, others, ~male)
            return haplotype_r2(diploid, self._tables(one, others, male))
        tables = self._tables(one, others, None)
        if chromosome in ("Y", "MT"):
            tables[:, 1] = tables[:, :, 1] = 0
        return haplotype_r2(tables) if self.settings.kind == "haplotype" else dosage_r2(tables)

    def matrix(self, rows: Int64[np.ndarray, " rows"]) -> Float64[np.ndarray, "rows rows"]:
        """r² among some rows, for one locus; NaN where a variant does not vary."""
        return np.stack([self.r2(int(row), rows) for row in rows])

    @cached_property
    def _chromosomes(self) -> tuple[list[str], np.ndarray]:
        return chromosome_numbers(self.genotypes)

    @cached_property
    def _male(self) -> np.ndarray:
        return np.asarray(self.genotypes.samples.sex[self.columns] == 1)

    def _tables(self, one: np.ndarray, others: np.ndarray, people: np.ndarray | None) -> np.ndarray:
        """Tables of one variant's genotypes (rows) by the others' (columns)."""
        if people is not None:
            one = one[people]
        copies = np.stack([one == k for k in range(3)]).astype(np.float32)
        tables = np.empty((len(others), 3, 3))
        step = max(1, _CHUNK // (4 * self.n_people))
        for start in range(0, len(others), step):
            calls = self._calls(others[start : start + step])
            calls = calls if people is None else calls[:, people]
            for k in range(3):
                here = (calls == k).astype(np.float32)
                tables[start : start + step, :, k] = here @ copies.T
        return tables

    def _calls(self, rows: np.ndarray) -> Int8[np.ndarray, "rows people"]:
        """Copies of the effect allele, -1 for a missing call."""
        wanted = [int(row) for row in rows]
        absent = sorted({row for row in wanted if row not in self._rows})
        step = max(1, _CHUNK // (4 * self.genotypes.n_samples))
        for start in range(0, len(absent), step):
            self._decode(absent[start : start + step])
        out: np.ndarray = np.stack([self._rows[row] for row in wanted])
        for row in wanted:
            self._rows.move_to_end(row)
        while len(self._rows) > self._room:
            self._rows.popitem(last=False)
        return out

    def _decode(self, rows: list[int]) -> None:
        if isinstance(self.genotypes, PackedGenotypes):
            packed = self.genotypes.read_packed(np.array(rows))
            calls = np.take(_UNPACKED, packed, axis=0).reshape(len(rows), -1)
        else:
            dosage = self.genotypes.read_dosages(np.array(rows))
            calls = np.where(np.isnan(dosage), MISSING, np.rint(dosage)).astype(np.int8)
        n = self.n_people
        is_start = n == int(self.columns[-1]) + 1
        calls = calls[:, :n] if is_start else calls[:, self.columns]
        self._rows.update(zip(rows, np.ascontiguousarray(calls), strict=True))


def _choose_people(
    genotypes: Genotypes, columns: np.ndarray | None, settings: LdSettings
) -> np.ndarray:
    chosen = np.arange(genotypes.n_samples) if columns is None else np.unique(columns)
    if not settings.nonfounders:
        chosen = chosen[genotypes.samples.is_founder[chosen]]
    if len(chosen) < 2:
        raise DegenerateError(
            explain(
                f"{len(chosen)} people are left for linkage disequilibrium",
                expected="At least two founders",
                do="Pass --nonfounders, or name more people with --keep",
            )
        )
    if len(chosen) > settings.max_people:
        rng = np.random.default_rng(settings.seed)
        logger.info("LD among %d of %d people, drawn at random", settings.max_people, len(chosen))
        chosen = np.sort(rng.choice(chosen, settings.max_people, replace=False))
    return chosen


def chromosome_numbers(genotypes: Genotypes) -> tuple[list[str], np.ndarray]:
    """Names of the chromosomes in the file, and the number of each variant's name."""
    encoded = genotypes.variants.column("chromosome").combine_chunks().dictionary_encode()
    if hasattr(encoded, "combine_chunks"):
        encoded = encoded.combine_chunks()
    return encoded.dictionary.to_pylist(), to_numpy(encoded.indices)

"""Exact sums of whole-number dosages, hard calls made of them, and imputation quality.

Sums run in double precision: sums of integers below 2^53 are exact in any order, which holds for
squares of 16-bit codes of up to eight million people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.genotypes.counts import GenotypeCounts
from imgwas.shapes import Bool, Float64, Int64, UInt16
from imgwas.types import MISSING_DOSAGE, DosageCodes

#: A dosage this close to a whole number is a hard call, as in PLINK 2.
HARD_CALL_THRESHOLD = 0.1
#: Doubles that are summed at once, so that they stay in the cache.
_CACHED = 65_536


@dataclass(frozen=True)
class DosageSums:
    """Sums over the people who have a dosage, per variant.

    Parameters
    ----------
    n_called, n_missing : (variants,) int64 array
        People with and without a dosage.
    total, squares : (variants,) int64 array
        Sums of codes and of their squares.
    twice : (variants,) int64 array or None
        Sum of the codes of having two copies.
    """

    n_called: Int64[np.ndarray, " variants"]
    n_missing: Int64[np.ndarray, " variants"]
    total: Int64[np.ndarray, " variants"]
    squares: Int64[np.ndarray, " variants"]
    twice: Int64[np.ndarray, " variants"] | None = None

    def take(self, rows: np.ndarray | slice) -> DosageSums:
        """Sums of some variants."""
        twice = None if self.twice is None else self.twice[rows]
        some = self.n_called[rows], self.n_missing[rows], self.total[rows], self.squares[rows]
        return DosageSums(*some, twice)

    @property
    def sum_of_squares(self) -> Float64[np.ndarray, " variants"]:
        """Sum of squares about the mean, exact up to one division; NaN without people."""
        centre = self.total // np.maximum(self.n_called, 1)
        about = self.squares - 2 * centre * self.total + self.n_called * centre * centre
        rest = (self.total - self.n_called * centre).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(about - rest * rest / self.n_called)


def sum_codes(codes: DosageCodes, people: Bool[np.ndarray, "masks samples"]) -> list[DosageSums]:
    """Sum the dosages of each mask of people, in one pass."""
    n_variants, n_people = codes.dosage.shape
    weights = np.ascontiguousarray(people.T, np.float64)
    sums = np.zeros((4, n_variants, len(people)))
    step = max(1, _CACHED // max(n_people, 1))
    for start in range(0, n_variants, step):
        some = slice(start, start + step)
        dosage = codes.dosage[some]
        values = dosage.astype(np.float64)
        missing = dosage == MISSING_DOSAGE
        if missing.any():
            values[missing] = 0
            sums[0, some] = missing @ weights
        sums[1, some] = values @ weights
        np.multiply(values, values, out=values)
        sums[2, some] = values @ weights
        if codes.twice is not None:
            values[:] = codes.twice[some]
            sums[3, some] = values @ weights
    n_missing, total, squares, twice = sums.astype(np.int64)
    n = people.sum(axis=1)
    return [
        DosageSums(
            n_called=n[i] - n_missing[:, i],
            n_missing=n_missing[:, i],
            total=total[:, i],
            squares=squares[:, i],
            twice=None if codes.twice is None else twice[:, i],
        )
        for i in range(len(people))
    ]


def count_hard_calls(
    dosage: UInt16[np.ndarray, "variants samples"],
    people: Bool[np.ndarray, " samples"],
    per_copy: int,
) -> GenotypeCounts:
    """Count hard calls: dosages within 0.1 of a whole number; the others count as missing."""
    among = dosage if people.all() else np.where(people, dosage, np.uint16(MISSING_DOSAGE))
    margin = int(HARD_CALL_THRESHOLD * per_copy)
    none, one, two = (
        _count_within(among, copies * per_copy - margin, copies * per_copy + margin)
        for copies in range(3)
    )
    n_missing = int(people.sum()) - none - one - two
    return GenotypeCounts(two, one, none, n_missing)


def _count_within(dosage: np.ndarray, low: int, high: int) -> np.ndarray:
    """How many codes of each row are from ``low`` to ``high``; one comparison, by wrapping."""
    start = max(low, 0)
    inside = (dosage - np.uint16(start)) <= np.uint16(high - start)
    return np.array([np.count_nonzero(row) for row in inside], np.int64)


def mach_r2(sums: DosageSums, per_copy: int) -> Float64[np.ndarray, " variants"]:
    """MaCH's r2: variance of the dosage over what Hardy-Weinberg expects; NaN if monomorphic.

    References
    ----------
    .. [1] Li et al. (2010), Genetic Epidemiology 34:816.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums.total / (sums.n_called * float(per_copy))
        variance = sums.sum_of_squares / (sums.n_called * float(per_copy) ** 2)
        return np.asarray(variance / (mean * (1 - mean / 2)))


def impute_info(sums: DosageSums, per_copy: int) -> Float64[np.ndarray, " variants"]:
    """IMPUTE's INFO, from genotype probabilities; NaN if monomorphic.

    One minus the mean variance that the probabilities leave to a person's genotype, over its
    variance under Hardy-Weinberg.

    References
    ----------
    .. [1] Marchini & Howie (2010), Nature Reviews Genetics 11:499, supplement S3.
    """
    assert sums.twice is not None
    unit = float(per_copy)
    with np.errstate(divide="ignore", invalid="ignore"):
        theta = sums.total / (2 * unit * sums.n_called)
        uncertain = (sums.total + 2 * sums.twice) / unit - sums.squares / unit**2
        return np.asarray(1 - uncertain / (2 * sums.n_called * theta * (1 - theta)))


def imputation_quality(sums: DosageSums, per_copy: int) -> Float64[np.ndarray, " variants"]:
    """INFO where the format has probabilities, MaCH's r2 where it has dosages."""
    return impute_info(sums, per_copy) if sums.twice is not None else mach_r2(sums, per_copy)

"""Clumps of variants around the strongest, as PLINK forms them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgwas.shapes import Float64, Int64

#: r² of one variant with others, all by their number in :class:`Variants`; NaN counts as none.
R2 = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Variants:
    """Where variants are and how strongly they are associated.

    Parameters
    ----------
    chromosome : (variants,) int array
        Number of the chromosome's name.
    position : (variants,) int array
        1-based.
    neg_log10_p : (variants,) float array
        NaN where there is no test.
    """

    chromosome: Int64[np.ndarray, " variants"]
    position: Int64[np.ndarray, " variants"]
    neg_log10_p: Float64[np.ndarray, " variants"]

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class Clump:
    """An index variant and those that were assigned to it, in order of position."""

    index: int
    members: Int64[np.ndarray, " members"]


class Neighbours:
    """Finds what lies within a distance of a variant, among some of the variants."""

    def __init__(self, variants: Variants, among: np.ndarray | None = None) -> None:
        among = np.arange(len(variants)) if among is None else among
        order = np.lexsort((among, variants.position[among], variants.chromosome[among]))
        self._sorted = among[order]
        self._variants = variants
        self._position = variants.position[self._sorted]
        chromosome = variants.chromosome[self._sorted]
        names, starts = np.unique(chromosome, return_index=True)
        stops = [*starts[1:], len(chromosome)][: len(starts)]
        self._extent = dict(zip(names.tolist(), zip(starts, stops, strict=True), strict=True))

    def within(self, index: int, distance: int) -> np.ndarray:
        """Numbers of the variants at most so many bases away, the variant itself left out."""
        chromosome = int(self._variants.chromosome[index])
        if chromosome not in self._extent:
            return np.empty(0, np.int64)
        start, stop = self._extent[chromosome]
        at = self._variants.position[index]
        here = self._position[start:stop]
        first = start + np.searchsorted(here, at - distance, "left")
        last = start + np.searchsorted(here, at + distance, "right")
        found = self._sorted[first:last]
        return np.asarray(found[found != index])


def clump(
    variants: Variants,
    r2_of: R2,
    *,
    p1: float,
    r2: float,
    kb: float,
    among: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
) -> list[Clump]:
    """Take the strongest variant left, give it what is near and correlated, and go on.

    Parameters
    ----------
    variants : Variants
        Positions and -log10 P.
    r2_of : callable
        r² of one variant with others.
    p1 : float
        Largest P of an index variant.
    r2 : float
        Smallest r² of a member with its index variant.
    kb : float
        A member is nearer to its index variant than this.
    among : (members,) int array, optional
        Variants that may be members; everything tested by default.
    candidates : (candidates,) int array, optional
        Variants that may be index variants; everything by default.

    Returns
    -------
    list of Clump
        In the order in which they were formed: the strongest index variant first. Nothing is a
        member twice. Equal P are taken in the order of the file.
    """
    tested = np.flatnonzero(~np.isnan(variants.neg_log10_p))
    among = tested if among is None else among
    queue = strongest_first(variants, p1, tested if candidates is None else candidates)
    near = Neighbours(variants, among)
    is_free = np.ones(len(variants), bool)
    clumps = []
    for index in queue.tolist():
        if not is_free[index]:
            continue
        is_free[index] = False
        window = near.within(index, bases_below(kb))
        window = window[is_free[window]]
        with np.errstate(invalid="ignore"):
            members = window[r2_of(index, window) >= r2]
        is_free[members] = False
        clumps.append(Clump(index, members))
    return clumps


def bases_below(kb: float) -> int:
    """Largest distance in bases that is within some kb; PLINK leaves out the distance itself."""
    return int(np.floor(kb * 1000 + 1e-6)) - 1


def strongest_first(variants: Variants, p1: float, among: np.ndarray) -> np.ndarray:
    """Variants with P at most p1, the smallest P first."""
    with np.errstate(invalid="ignore"):
        passing = among[variants.neg_log10_p[among] >= -np.log10(p1)]
    order = np.lexsort((passing, -variants.neg_log10_p[passing]))
    return np.asarray(passing[order])

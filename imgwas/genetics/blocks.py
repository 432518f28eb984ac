"""From significant variants to blocks, and from blocks to loci: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.genetics.clumping import (
    R2,
    Neighbours,
    Variants,
    bases_below,
    clump,
    strongest_first,
)
from imgwas.genetics.definition import LocusDefinition
from imgwas.shapes import Int64


@dataclass(frozen=True)
class Block:
    """An independent significant variant and the stretch that it tags.

    Parameters
    ----------
    index : int
        Number of the variant.
    partners : (partners,) int array
        What it tags, itself left out.
    start, end : int
        First and last position of these.
    lead : int
        The lead variant it belongs to; itself if it is one.
    """

    index: int
    partners: Int64[np.ndarray, " partners"]
    start: int
    end: int
    lead: int


@dataclass(frozen=True)
class Interval:
    """Blocks of one locus, in the order of their position."""

    chromosome: int
    start: int
    end: int
    blocks: tuple[Block, ...]


def find_blocks(variants: Variants, r2_of: R2, definition: LocusDefinition) -> list[Block]:
    """Independent significant variants with what they tag, the strongest first."""
    if definition.preset == "fuma":
        return _fuma(variants, r2_of, definition)
    if definition.preset == "plink":
        clumps = clump(variants, r2_of, p1=definition.p1, r2=definition.r2, kb=definition.kb)
    else:
        significant = strongest_first(variants, definition.p1, np.arange(len(variants)))
        clumps = clump(
            variants, _all_alike, p1=definition.p1, r2=0, kb=definition.kb, among=significant
        )
    return [_block(variants, c.index, c.members, c.index) for c in clumps]


def _all_alike(index: int, others: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.ones(len(others))


def _block(variants: Variants, index: int, partners: np.ndarray, lead: int) -> Block:
    position = variants.position[np.append(partners, index)]
    return Block(index, partners, int(position.min()), int(position.max()), lead)


def _fuma(variants: Variants, r2_of: R2, definition: LocusDefinition) -> list[Block]:
    with np.errstate(invalid="ignore"):
        low = np.flatnonzero(variants.neg_log10_p >= -np.log10(definition.p2))
    near = Neighbours(variants, low)
    is_free = np.ones(len(variants), bool)
    partners: dict[int, np.ndarray] = {}
    for index in strongest_first(variants, definition.p1, np.arange(len(variants))).tolist():
        if not is_free[index]:
            continue
        window = near.within(index, bases_below(definition.kb))
        with np.errstate(invalid="ignore"):
            partners[index] = window[r2_of(index, window) >= definition.r2]
        is_free[partners[index]] = False
    if not partners:
        return []
    independent = np.array(list(partners), np.int64)
    leads = clump(
        variants,
        r2_of,
        p1=definition.p1,
        r2=definition.lead_r2,
        kb=definition.kb,
        among=independent,
        candidates=independent,
    )
    lead_of = {c.index: c.index for c in leads}
    lead_of |= {member: c.index for c in leads for member in c.members.tolist()}
    return [_block(variants, index, found, lead_of[index]) for index, found in partners.items()]


def merge_blocks(
    variants: Variants,
    blocks: Sequence[Block],
    merge_kb: float | None,
    mhc: tuple[int, int, int] | None = None,
) -> list[Interval]:
    """Join blocks of one lead variant, those that are close, and those that touch the MHC.

    Parameters
    ----------
    variants : Variants
        Where the blocks are.
    blocks : sequence of Block
        In any order.
    merge_kb : float, optional
        Largest gap; None joins nothing but the MHC.
    mhc : tuple of int, optional
        Number of the chromosome, first and last position.

    Returns
    -------
    list of Interval
        In the order of the chromosomes' numbers and of their start.
    """
    loci: list[Interval] = []
    for new in _by_lead(variants, blocks):
        if loci and _belong_together(loci[-1], new, merge_kb, mhc):
            last = loci[-1]
            end = max(last.end, new.end)
            loci[-1] = Interval(new.chromosome, last.start, end, (*last.blocks, *new.blocks))
        else:
            loci.append(new)
    return loci


def _by_lead(variants: Variants, blocks: Sequence[Block]) -> list[Interval]:
    """The stretch of every lead variant: all blocks that belong to it, in the order of starts."""
    of_lead: dict[int, list[Block]] = {}
    for block in blocks:
        of_lead.setdefault(block.lead, []).append(block)
    stretches = [
        Interval(
            int(variants.chromosome[lead]),
            min(block.start for block in mine),
            max(block.end for block in mine),
            tuple(sorted(mine, key=lambda block: (block.start, block.end, block.index))),
        )
        for lead, mine in of_lead.items()
    ]
    return sorted(stretches, key=lambda s: (s.chromosome, s.start, s.end, s.blocks[0].index))


def _belong_together(
    one: Interval, two: Interval, merge_kb: float | None, mhc: tuple[int, int, int] | None
) -> bool:
    if one.chromosome != two.chromosome:
        return False
    if mhc is not None and _touches(one, mhc) and _touches(two, mhc):
        return True
    return merge_kb is not None and two.start - one.end <= merge_kb * 1000


def _touches(locus: Interval, mhc: tuple[int, int, int]) -> bool:
    chromosome, start, end = mhc
    return locus.chromosome == chromosome and locus.start <= end and locus.end >= start

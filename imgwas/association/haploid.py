"""Calls that cannot be: men who are heterozygous on X or Y, counted, and missing if asked for."""

from __future__ import annotations

import numpy as np

from imgwas.association.reading import DESIGNS, PackedBlock, VariantBlock
from imgwas.association.task import AUTOSOME
from imgwas.genotypes.counts import count_packed

#: Low bit of each person in a byte.
LOW = np.uint8(0x55)
#: Chromosomes of which a man has one: X outside the pseudo-autosomal regions, and Y.
OF_MEN = np.array([DESIGNS[kind] != AUTOSOME for kind in range(len(DESIGNS))])


def look_at_men(block: VariantBlock) -> tuple[VariantBlock, int]:
    """Count the heterozygous calls of analysed men on X and Y.

    Returns
    -------
    block : VariantBlock
        The same, or without these calls where the scan is to take them for missing.
    n : int
        Calls. Dosages are not looked at: imputation has no such calls.
    """
    haploid = OF_MEN[block.kinds]
    if not isinstance(block, PackedBlock) or not haploid.any():
        return block, 0
    task = block.task
    men = task.masks["males"] & task.masks["analysed"] & LOW
    packed = block.packed
    # the two bits of a person are 10 for one copy
    found = np.where(haploid[:, None], packed >> 1 & ~packed & men, np.uint8(0))
    n = int(np.unpackbits(found).sum())
    if not n or not task.settings.set_hh_missing:
        return block, n
    missing = packed ^ (found | found << 1)  # 10 becomes 01
    counts = count_packed(missing, task.masks["analysed"])
    return PackedBlock(task, block.kinds, block.digest, missing, counts), n

"""Dosages as two-bit calls, for what works on calls: LD, pruning, components, heritability."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from imgwas.genotypes.dosage_counts import HARD_CALL_THRESHOLD
from imgwas.genotypes.pgen import pack_codes
from imgwas.shapes import Float32, UInt8
from imgwas.types import MISSING_DOSAGE, DosageGenotypes, Genotypes, PackedGenotypes

logger = logging.getLogger(__name__)


class HardCalls(PackedGenotypes):
    """Dosages within 0.1 of a whole number as calls, all others missing: PLINK 2's ``--make-bed``.

    Parameters
    ----------
    dosages : DosageGenotypes
        What is rounded, block by block.
    """

    def __init__(self, dosages: DosageGenotypes) -> None:
        self.dosages = dosages
        self.samples, self.variants = dosages.samples, dosages.variants
        unit = dosages.per_copy
        copies = np.arange(MISSING_DOSAGE + 1) / unit
        nearest = np.rint(copies).astype(np.int64)
        margin = int(HARD_CALL_THRESHOLD * unit)
        close = np.abs(np.arange(MISSING_DOSAGE + 1) - nearest * unit) <= margin
        codes = np.array([3, 2, 0], np.uint8)[np.minimum(nearest, 2)]
        self._table = np.where(close & (nearest <= 2), codes, np.uint8(1))
        self._table[MISSING_DOSAGE] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return HardCalls, (self.dosages,)

    def __repr__(self) -> str:
        return f"HardCalls({self.n_variants:,} variants x {self.n_samples:,} samples)"

    def read_packed(self, rows: np.ndarray) -> UInt8[np.ndarray, "variants bytes"]:
        """Two-bit codes of some variants, in increasing order of rows."""
        return pack_codes(self._table[self.dosages.read_codes(rows).dosage])

    def read_dosages(self, rows: np.ndarray) -> Float32[np.ndarray, "variants samples"]:
        """Copies of the effect allele; NaN is a missing call."""
        codes = self._table[self.dosages.read_codes(rows).dosage]
        return np.asarray(np.array([2, np.nan, 1, 0], np.float32)[codes])

    def fingerprint(self) -> dict[str, Any]:
        """Identity of the files, and that calls were made of them."""
        return {**self.dosages.fingerprint(), "hard_calls": HARD_CALL_THRESHOLD}

    def check_unchanged(self) -> None:
        """Refuse to go on when a file is no longer the one that was opened."""
        self.dosages.check_unchanged()


def hard_calls(genotypes: Genotypes) -> PackedGenotypes:
    """Genotypes as two-bit calls; dosages are rounded, and the log says so.

    Raises
    ------
    TypeError
        If there are neither calls nor dosages.
    """
    if isinstance(genotypes, PackedGenotypes):
        return genotypes
    if isinstance(genotypes, DosageGenotypes):
        logger.info(
            "genotypes dosages are taken as hard calls: within %g of a whole number, else missing",
            HARD_CALL_THRESHOLD,
        )
        return HardCalls(genotypes)
    raise TypeError(f"genotypes have calls or dosages; {type(genotypes).__name__} has neither")

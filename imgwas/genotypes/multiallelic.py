"""What to do about variants of more than two alleles: refuse, skip, or split them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.genotypes.variant_table import AT_ONCE
from imgwas.scratch import array_aside

logger = logging.getLogger(__name__)

CHOICES = ("refuse", "skip", "split")


def chosen_rows(
    path: Path, n_alleles: np.ndarray, choice: str, *, can_split: bool = False
) -> np.ndarray:
    """Rows of a file that are read; with ``split`` a row comes once for each alternate allele.

    Raises
    ------
    UsageError
        If there are such variants and nobody said what to do.
    DegenerateError
        If nothing is left.
    """
    many = n_alleles != 2
    n_many = int((n_alleles > 2).sum())
    kinds = CHOICES if can_split else CHOICES[:2]
    if choice not in kinds:
        raise UsageError(
            explain(
                f"--multiallelic {choice} is not possible for {path.name}",
                expected=f"Choices are {', '.join(kinds)}",
                do="plink2 --make-pgen makes a file that can be split" if not can_split else "",
            )
        )
    if not many.any():
        return everything(len(n_alleles))
    if n_many and choice == "refuse":
        first = int(np.flatnonzero(n_alleles > 2)[0])
        raise UsageError(
            explain(
                f"{n_many:,} of {len(many):,} variants of {path} have more than two alleles",
                where=f"first: variant {first + 1:,}, {n_alleles[first]} alleles",
                do="--multiallelic skip leaves them out"
                + ("; --multiallelic split tests each alternate allele" if can_split else ""),
            )
        )
    if choice == "split":
        times = np.maximum(n_alleles, 1) - 1
        rows = np.repeat(np.arange(len(n_alleles)), times)
        logger.info("variants  %s of more than two alleles are split", f"{n_many:,}")
    else:
        rows = np.flatnonzero(~many)
        logger.info("variants  %s without exactly two alleles are skipped", f"{int(many.sum()):,}")
    if not len(rows):
        raise DegenerateError(explain(f"{path} has no variant of two alleles"))
    return array_aside([rows], np.int64)


def everything(n: int) -> np.ndarray:
    """Rows of a file of which nothing is left out."""
    starts = range(0, n, AT_ONCE)
    return array_aside((np.arange(start, min(start + AT_ONCE, n)) for start in starts), np.int64)

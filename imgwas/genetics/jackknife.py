"""The delete-one-block jackknife: standard errors that respect linkage disequilibrium.

Neighbouring variants are correlated, so variants are cut into contiguous blocks and one block is
left out at a time. With J blocks and estimates ``e_(-j)``,
``var = (J - 1)/J sum_j (e_(-j) - mean)^2`` (Quenouille 1956; Kuensch 1989, Ann. Stat. 17:1217).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Float64, Int64

#: A block holds at least this many variants.
FEWEST_IN_BLOCK = 5


def block_edges(n_variants: int, n_blocks: int) -> Int64[np.ndarray, " edges"]:
    """Cut variants into contiguous blocks of equal size, up to one.

    Returns
    -------
    (n_blocks + 1,) int array
        First variant of each block, and the number of variants.

    Raises
    ------
    DegenerateError
        If there are too few variants for that many blocks.
    """
    check_range("n_blocks", n_blocks, low=10, high=10_000)
    if n_variants < FEWEST_IN_BLOCK * n_blocks:
        raise DegenerateError(
            explain(
                f"{n_variants:,} variants are left",
                expected=f"At least {FEWEST_IN_BLOCK * n_blocks:,} are needed for {n_blocks:,} "
                "jackknife blocks",
                do="Scan more variants, lower --min-maf, or use fewer --blocks (10 at least)",
            )
        )
    return np.linspace(0, n_variants, n_blocks + 1).astype(np.int64)


def jackknife_error(deleted: Float64[np.ndarray, "blocks ..."]) -> np.ndarray:
    """Standard error from estimates with one block left out each."""
    n = len(deleted)
    return np.asarray(np.sqrt((n - 1) * np.mean(np.square(deleted - deleted.mean(axis=0)), axis=0)))


def streamed_error(full: np.ndarray, deleted: Iterable[np.ndarray]) -> np.ndarray:
    """Compute the same as :func:`jackknife_error` without holding all estimates.

    Parameters
    ----------
    full : array
        Estimate of all blocks; sums are taken about it.
    deleted : iterable of array
        Estimates with one block left out each.
    """
    n, total, squares = 0, np.zeros_like(full), np.zeros_like(full)
    for estimate in deleted:
        away = estimate - full
        n, total, squares = n + 1, total + away, squares + away * away
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt((n - 1) / n * np.maximum(squares - total * total / n, 0.0)))

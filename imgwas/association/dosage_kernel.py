"""The block kernel for dosages: whole numbers in, the same formulas and the same rechecks.

Codes go into the product as they are, 0 to 510 or 0 to 32768, which single precision holds
exactly; sums of codes and of their squares are exact integers. Only a result is divided by what one
copy counts.
"""

from __future__ import annotations

import numpy as np

from imgwas.association.blocks import Gaps, GroupArrays, GroupBlock, GroupResult, Moments, Workspace
from imgwas.association.dropping import solve_dropping
from imgwas.association.kernel import MissingPolicy, solve_filling
from imgwas.genotypes.dosage_counts import DosageSums
from imgwas.shapes import Float64, UInt16
from imgwas.types import MISSING_DOSAGE


def scan_dosages(
    dosage: UInt16[np.ndarray, "variants samples"],
    groups: list[GroupArrays],
    *,
    matrices: list[np.ndarray],
    sums: list[DosageSums],
    everyone: DosageSums,
    per_copy: int,
    workspace: Workspace,
    missing: MissingPolicy = "mean",
) -> list[GroupResult]:
    """Test every variant of a block against every trait of every group.

    Parameters
    ----------
    dosage : (variants, samples) uint16 array
        Codes as in :class:`imgwas.types.DosageCodes`.
    groups, matrices, workspace, missing
        As in :func:`imgwas.association.kernel.scan_block`.
    sums : list of DosageSums
        Over the people of each group.
    everyone : DosageSums
        Over all analysed people; they decide which allele the product counts.
    per_copy : int
        Code of one copy.

    Returns
    -------
    list of GroupResult
        In the order of ``groups``.
    """
    flip = everyone.total > per_copy * everyone.n_called
    gaps = decode(dosage, flip, per_copy, workspace)
    solve = solve_dropping if missing == "drop" else solve_filling
    results: dict[int, GroupResult] = {}
    # a group with random vectors comes last: its means of missing calls stay in the buffer
    for number in sorted(range(len(groups)), key=lambda i: groups[i].probes is not None):
        moments = moments_of(sums[number], per_copy)
        block = DosageGroupBlock(dosage, flip, gaps, groups[number], moments, workspace)
        results[number] = solve(block, matrices[number])
    return [results[number] for number in range(len(groups))]


def moments_of(sums: DosageSums, per_copy: int) -> Moments:
    """Sums of codes as the kernel takes them."""
    spread = sums.sum_of_squares
    return Moments(sums.n_called, sums.total, sums.squares, spread, per_copy)


def decode(dosage: np.ndarray, flip: np.ndarray, per_copy: int, workspace: Workspace) -> Gaps:
    """Fill the buffer with the codes of the rarer allele; missing ones are zero, and returned."""
    flat = workspace.dosage.reshape(len(workspace.dosage), -1)
    n_variants, n_people = dosage.shape
    flat[n_variants:] = 0
    flat[:n_variants, n_people:] = 0
    inside = flat[:n_variants, :n_people]
    inside[...] = dosage
    for row in np.flatnonzero(flip):
        np.subtract(2 * per_copy, inside[row], out=inside[row])
    gone = [np.flatnonzero(row == MISSING_DOSAGE) for row in dosage]
    rows = np.repeat(np.arange(n_variants), [len(columns) for columns in gone])
    columns = np.concatenate([np.empty(0, np.int64), *gone])
    inside[rows, columns] = 0
    return Gaps(len(rows) > 0, lambda: (rows, columns))


class DosageGroupBlock(GroupBlock):
    """A block of dosages seen by one group; ``coded`` holds the codes as they were read."""

    def called_in_double(self, rows: np.ndarray) -> Float64[np.ndarray, "variants people"]:
        """Codes of the rarer allele in double precision; missing ones are NaN, padding is zero."""
        n_people = len(self.group.traits)
        called = np.zeros((len(rows), n_people))
        read = self.coded[rows]
        values = read.astype(np.float64)
        values[read == MISSING_DOSAGE] = np.nan
        turned = self.sign[rows] < 0
        values[turned] = 2 * self.unit - values[turned]
        called[:, : read.shape[1]] = values
        return called

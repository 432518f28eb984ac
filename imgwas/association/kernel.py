"""The block kernel: packed genotypes in, t statistics out, one matrix product per block.

For the people of a group let ``Q`` be an orthonormal basis of the covariates and the intercept, and
``y`` a trait with its projection on ``Q`` removed and scaled to length one. For a variant with
dosages ``g`` the Frisch-Waugh-Lovell theorem gives ordinary least squares of the trait on
``[Q, g]`` from three numbers, without projecting the genotype itself::

    s_g^2 = g'g - |Q'g|^2    r = g'y / s_g    t = r sqrt(dof / (1 - r^2))    dof = n - rank(Q) - 1

``g'y`` and ``Q'g`` for all variants and traits of a block are the columns of one product
``G [Y | Q]``. The intercept never enters floating point: ``g'g - n mean(g)^2`` comes from integer
genotype counts. Variants are counted by their rarer allele inside the product, which keeps rounding
errors small, and the sign is turned back afterwards.

Single precision carries a rounding error near ``1e-7 sqrt(n)`` into t; entries where it could be
amplified (large t, a variant almost explained by the covariates, dosages that hardly vary about
their mean) are computed again in double.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from imgwas import native
from imgwas.association.blocks import (
    DOUBTFUL_SHARE,
    EXPLAINED,
    LARGE_R2,
    LARGE_T,
    GroupArrays,
    GroupBlock,
    GroupResult,
    Moments,
    Workspace,
    missing_positions,
    people_used,
    swap_alleles,
)
from imgwas.association.dropping import solve_dropping
from imgwas.genotypes.counts import GenotypeCounts, count_packed, unpack_mask
from imgwas.shapes import UInt8
from imgwas.sumstats.reasons import EXPLAINED_BY_COVARIATES, TESTED

MissingPolicy = Literal["mean", "drop"]
#: A group that lacks a smaller share of the others is counted by whom it lacks.
FEW = 0.05


def scan_block(
    packed: UInt8[np.ndarray, "variants bytes"],
    groups: list[GroupArrays],
    *,
    matrices: list[np.ndarray],
    workspace: Workspace,
    counts: GenotypeCounts | None = None,
    missing: MissingPolicy = "mean",
) -> list[GroupResult]:
    """Test every variant of a block against every trait of every group.

    Parameters
    ----------
    packed : (variants, bytes) uint8 array
        Two-bit codes as in :class:`imgwas.types.PackedGenotypes`.
    groups : list of GroupArrays
        Missingness groups; each is solved on its own people.
    matrices : list of array
        ``group.product_matrix(dtype)`` of each group.
    workspace : Workspace
        Buffers of the calling thread; its dtype decides single or double precision.
    counts : GenotypeCounts, optional
        Genotype counts of all analysed people, of whom every group is a part, if known already.
        Which allele the product counts is decided on them, so that it cannot depend on a group.
    missing : {"mean", "drop"}
        Missing calls take the group's mean dosage, or the person is dropped for that variant.

    Returns
    -------
    list of GroupResult
        In the order of ``groups``. A group's numbers do not depend on the other groups.

    Notes
    -----
    Multiply-adds: variants x people x (traits + covariates) per group. No array of shape
    (people, variants, traits) exists.
    """
    everyone = counts if counts is not None else count_packed(packed, None)
    flip = everyone.n_effect_homozygote > everyone.n_other_homozygote
    coded = swap_alleles(packed, flip)
    workspace.load(coded)
    gaps = missing_positions(coded, everyone)
    if len(groups) > 1 and not gaps.any_missing:
        workspace.share(matrices)
    without = _left_out(groups, everyone)
    results: dict[int, GroupResult] = {}
    # a group with random vectors comes last: its means of missing calls stay in the buffer
    for number in sorted(range(len(groups)), key=lambda i: groups[i].probes is not None):
        group, matrix = groups[number], matrices[number]
        own = _counts_of(packed, group, everyone, without[number])
        moments = Moments.of_counts(own, group.n)
        block = GroupBlock(coded, flip, gaps, group, moments, workspace)
        solve = solve_dropping if missing == "drop" else solve_filling
        results[number] = solve(block, matrix)
    return [results[number] for number in range(len(groups))]


def _left_out(groups: list[GroupArrays], everyone: GenotypeCounts) -> list[np.ndarray | None]:
    """Columns of the few people whom each group lacks; None where they are many or unknown."""
    n_everyone = int((everyone.n_called + everyone.n_missing)[:1].sum())
    masks = [group.mask for group in groups if group.mask is not None]
    if len(masks) < len(groups) or len(groups) < 2:
        return [None] * len(groups)
    union = np.bitwise_or.reduce(masks)
    if int(np.unpackbits(union).sum()) != 2 * n_everyone:
        return [None] * len(groups)
    return [
        np.flatnonzero(unpack_mask(union ^ mask)) if n_everyone - group.n <= FEW * group.n else None
        for mask, group in zip(masks, groups, strict=True)
    ]


def _counts_of(
    packed: np.ndarray, group: GroupArrays, everyone: GenotypeCounts, without: np.ndarray | None
) -> GenotypeCounts:
    """Counts within a group: everyone's, less those of the people whom it lacks."""
    n_everyone = everyone.n_called + everyone.n_missing
    if len(n_everyone) and group.n == n_everyone[0]:
        return everyone
    if without is None:
        return count_packed(packed, group.mask)
    codes = packed[:, without >> 2] >> (2 * (without & 3)).astype(np.uint8) & 3
    return GenotypeCounts(
        n_effect_homozygote=everyone.n_effect_homozygote - (codes == 0).sum(axis=1),
        n_heterozygote=everyone.n_heterozygote - (codes == 2).sum(axis=1),
        n_other_homozygote=everyone.n_other_homozygote - (codes == 3).sum(axis=1),
        n_missing=everyone.n_missing - (codes == 1).sum(axis=1),
    )


def solve_filling(block: GroupBlock, matrix: np.ndarray) -> GroupResult:
    """Mean-imputed least squares of a block for one group."""
    group, k, dtype = block.group, block.group.n_traits, matrix.dtype.type
    block.fill_missing(block.mean)
    product = block.workspace.product(matrix)[: len(block.coded)]
    probed = k + group.basis.shape[1]
    projected = product[:, k:probed].astype(np.float64)
    residual = block.sum_of_squares - np.einsum("vc,vc->v", projected, projected)
    residual = _recheck_residual(block, residual)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(residual)
        weight = (block.sign / scale).astype(matrix.dtype)
    t, largest = _t_from_products(product, k, weight, group.dof)
    if matrix.dtype != np.float64:
        _recheck_large(block, t, largest)
    untested = block.reason != TESTED
    t[untested] = np.nan
    n = np.full(len(t), group.n, np.int64)
    return GroupResult(
        t=t,
        beta=None,
        n=n,
        dof=n - group.rank - 1,
        effect_allele_frequency=block.effect_allele_frequency,
        scale=np.where(untested, np.nan, scale / block.unit),
        reason=block.reason,
        probed=None
        if group.probes is None
        else product[:, probed : probed + group.probes.shape[1]] / dtype(block.unit**2),
    )


def _t_from_products(
    product: np.ndarray, n_traits: int, weight: np.ndarray, dof: int
) -> tuple[np.ndarray, np.ndarray]:
    """``t = r sqrt(dof / (1 - r^2))``, r clamped below one, and the largest |t| of each variant."""
    if product.dtype == np.float32 and native.library() is not None:
        return native.t_statistics(product, n_traits, weight, dof)
    limit = 1 - np.finfo(product.dtype).eps
    with np.errstate(invalid="ignore", divide="ignore"):
        r = product[:, :n_traits] * weight[:, None]
        np.clip(r, -limit, limit, out=r)
        rest = np.multiply(r, r)
        np.subtract(1, rest, out=rest)
        np.sqrt(rest, out=rest)
        np.divide(r, rest, out=r)
        r *= r.dtype.type(np.sqrt(max(dof, 0)))
        largest = np.fmax.reduce(np.abs(r), axis=1, initial=0)
    return np.asarray(r), largest


def _recheck_residual(block: GroupBlock, residual: np.ndarray) -> np.ndarray:
    """Compute doubtful projections in double, and mark variants that covariates explain.

    One by one, so that the last bit does not depend on which of them are in the block.
    """
    with np.errstate(invalid="ignore"):
        doubtful = (residual < DOUBTFUL_SHARE * block.sum_of_squares) | block.faint
    rows = np.flatnonzero(doubtful & (block.reason == TESTED))
    for row in rows[:, None]:
        residual[row] = _residual_in_double(block, row, block.rows_in_double(row))
    gone = residual[rows] < EXPLAINED * block.sum_of_squares[rows]
    block.reason[rows[gone]] = EXPLAINED_BY_COVARIATES
    return residual


def _residual_in_double(block: GroupBlock, rows: np.ndarray, dosage: np.ndarray) -> np.ndarray:
    """Sum of squares left after the covariates, from the residual itself: no cancellation."""
    used = people_used(block.group, dosage.shape[1])
    centred = np.where(used, dosage - block.mean[rows, None], 0.0)
    basis = block.group.basis
    rest = centred - (centred @ basis) @ basis.T
    rest -= (rest @ basis) @ basis.T
    return np.asarray(np.einsum("vp,vp->v", rest, rest))


def _recheck_large(block: GroupBlock, t: np.ndarray, largest: np.ndarray) -> None:
    """Compute large t statistics again, entry by entry, so that companions cannot change them."""
    dof = block.group.dof
    if dof < 1:
        return
    bound = min(LARGE_T, float(np.sqrt(dof * LARGE_R2 / (1 - LARGE_R2))))
    faint = block.faint
    for row in np.flatnonzero(((largest > bound) | faint) & (block.reason == TESTED)):
        dosage = block.rows_in_double(np.array([row]))
        residual = _residual_in_double(block, np.array([row]), dosage)[0]
        centred = dosage[0] - block.mean[row]
        for column in np.flatnonzero((np.abs(t[row]) > bound) | faint[row]):
            r = block.sign[row] * np.dot(centred, block.group.traits[:, column]) / np.sqrt(residual)
            t[row, column] = r * np.sqrt(dof / max(1 - r * r, np.finfo(np.float64).eps))

"""Complete-case least squares: each variant on the people who have a call for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.association.blocks import (
    DOUBTFUL_SHARE,
    EXPLAINED,
    LARGE_R2,
    LARGE_T,
    GroupBlock,
    GroupResult,
    people_used,
)
from imgwas.sumstats.reasons import EXPLAINED_BY_COVARIATES, TESTED, TOO_FEW_SAMPLES

#: A direction of the basis is gone when less than this share of its length is left.
LOST = 1e-9


def solve_dropping(block: GroupBlock, matrix: np.ndarray) -> GroupResult:
    """Complete-case least squares: each variant on the people who have a call.

    The full-sample products are corrected by the rows of the missing people. With ``M`` those
    people, ``A = I - Q_M'Q_M`` is the Gram matrix of the basis on the others, and every projection
    becomes ``x'y - (Q'x)' A^-1 (Q'y)`` over the people who are left.
    """
    group, k = block.group, block.group.n_traits
    block.fill_missing(np.zeros(len(block.mean)))
    product = block.workspace.product(matrix)[: len(block.coded)].astype(np.float64)
    lost = _LostPeople(block)
    q_g = np.column_stack(
        [block.coded_copies / np.sqrt(group.n), product[:, k : k + group.basis.shape[1]]]
    )
    q_y = -lost.basis_traits
    solved, rank = _solve_gram(lost.gram, np.concatenate([q_g[:, :, None], q_y], axis=2))
    found = _Moments(
        residual=block.coded_squares - np.einsum("vc,vc->v", q_g, solved[:, :, 0]),
        numerator=product[:, :k] - np.einsum("vc,vck->vk", q_g, solved[:, :, 1:]),
        trait_squares=1 - lost.trait_squares - np.einsum("vck,vck->vk", q_y, solved[:, :, 1:]),
        rank=rank,
    )
    if block.workspace.dtype != np.float64:
        _recheck(block, found)
    return _drop_result(block, found)


@dataclass
class _Moments:
    """Sums over the people left, per variant, after the covariates."""

    residual: np.ndarray
    numerator: np.ndarray
    trait_squares: np.ndarray
    rank: np.ndarray


def _recheck(block: GroupBlock, found: _Moments) -> None:
    """Compute again in double what single precision may not carry."""
    with np.errstate(invalid="ignore", divide="ignore"):
        doubtful = (found.residual < DOUBTFUL_SHARE * block.sum_of_squares) | block.faint
        r2 = found.numerator**2 / (found.residual[:, None] * found.trait_squares)
        dof = (block.n_called - found.rank - 1)[:, None]
        large = (r2 > LARGE_R2) | (r2 * dof > LARGE_T**2 * (1 - r2))
        large |= found.trait_squares < DOUBTFUL_SHARE  # what is left beside a lost outlier
    tested = block.reason == TESTED
    for row in np.flatnonzero(tested & (doubtful | large.any(axis=1))):
        residual, numerator, squares = _in_double(block, row)
        columns = slice(None) if doubtful[row] else np.flatnonzero(large[row])
        scale = residual / found.residual[row] if not doubtful[row] else 1.0
        found.numerator[row, columns] = numerator[columns] / np.sqrt(scale)
        found.trait_squares[row, columns] = squares[columns]
        if doubtful[row]:
            found.residual[row] = residual


def _in_double(block: GroupBlock, row: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Project the people left on their own basis, without products of the whole block."""
    group = block.group
    dosage = block.called_in_double(np.array([row]))[0]
    left = people_used(group, len(dosage)) & ~np.isnan(dosage)
    vectors, values, _ = np.linalg.svd(
        np.column_stack([np.full(left.sum(), 1 / np.sqrt(group.n)), group.basis[left]]),
        full_matrices=False,
    )
    vectors = vectors[:, values > np.sqrt(LOST)]
    both = np.column_stack([dosage[left], group.traits[left]])
    for _ in range(2):
        both = both - vectors @ (vectors.T @ both)
    g, y = both[:, 0], both[:, 1:]
    return float(g @ g), g @ y, np.einsum("pk,pk->k", y, y)


class _LostPeople:
    """Sums over the people of the group that each variant loses."""

    def __init__(self, block: GroupBlock) -> None:
        group = block.group
        n_variants, k, c = len(block.coded), group.n_traits, group.basis.shape[1] + 1
        used = people_used(group, len(group.traits))
        self.gram = np.zeros((n_variants, c, c))
        self.basis_traits = np.zeros((n_variants, c, k))
        self.trait_squares = np.zeros((n_variants, k))
        order = np.argsort(block.gaps.rows, kind="stable")
        rows, columns = block.gaps.rows[order], block.gaps.columns[order]
        inside = used[columns]
        rows, columns = rows[inside], columns[inside]
        starts = np.searchsorted(rows, np.arange(n_variants + 1))
        for variant in np.unique(rows):
            people = columns[starts[variant] : starts[variant + 1]]
            basis = np.column_stack(
                [np.full(len(people), 1 / np.sqrt(group.n)), group.basis[people]]
            )
            traits = group.traits[people]
            self.gram[variant] = basis.T @ basis
            self.basis_traits[variant] = basis.T @ traits
            self.trait_squares[variant] = np.einsum("pk,pk->k", traits, traits)


def _solve_gram(gram: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve ``(I - gram) x = right`` per variant; also return the rank that is left."""
    size = gram.shape[1]
    left = np.eye(size) - gram
    values, vectors = np.linalg.eigh(left)
    kept = values > LOST
    inverse = np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)
    turned = np.matmul(vectors.transpose(0, 2, 1), right) * inverse[:, :, None]
    return np.matmul(vectors, turned), kept.sum(axis=1)


def _drop_result(block: GroupBlock, found: _Moments) -> GroupResult:
    residual, numerator, trait_squares = found.residual, found.numerator, found.trait_squares
    dof = block.n_called - found.rank - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        gone = residual < EXPLAINED * block.sum_of_squares
        block.reason[gone & (block.reason == TESTED)] = EXPLAINED_BY_COVARIATES
        block.reason[(dof < 1) & (block.reason == TESTED)] = TOO_FEW_SAMPLES
        per_copy = block.sign[:, None] * numerator / residual[:, None] * block.unit
        beta = per_copy * block.group.trait_scale
        r2 = numerator**2 / (residual[:, None] * trait_squares)
        r2 = np.minimum(r2, 1 - np.finfo(np.float64).eps)
        t = np.sign(beta) * np.sqrt(r2 * dof[:, None] / (1 - r2))
    untested = block.reason != TESTED
    t[untested] = np.nan
    beta[untested] = np.nan
    return GroupResult(
        t=t.astype(block.workspace.dtype),
        beta=beta,
        n=block.n_called,
        dof=dof,
        effect_allele_frequency=block.effect_allele_frequency,
        scale=np.where(untested, np.nan, np.sqrt(np.maximum(residual, 0)) / block.unit),
        reason=block.reason,
    )

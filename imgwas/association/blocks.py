"""A block of variants as the kernel sees it: decoded once, exact moments per group.

Genotypes stay integers: missing calls are decoded as zero and filled afterwards, the rarer allele
is the one counted, and sums of squares come from genotype counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from imgwas.genotypes.counts import GenotypeCounts, unpack_mask
from imgwas.shapes import Bool, Float, Float64, Int8, Int64, UInt8
from imgwas.sumstats.reasons import (
    ALL_MISSING,
    MONOMORPHIC,
    NO_SAMPLES,
    TESTED,
    TOO_FEW_SAMPLES,
)

#: The product's columns are padded to a multiple of this, so that every call has a full tile.
COLUMN_TILE = 4
#: A variant whose covariates leave less than this share of its variance is not tested.
EXPLAINED = 1e-8
#: Below this share of variance left by the covariates, the projection is computed in double.
DOUBTFUL_SHARE = 0.05
#: Below this ratio of variance to squared mean, as of dosages that hardly vary, a product in single
#: precision has lost digits, and the variant is computed in double.
FAINT = 0.002
#: Above these, single-precision t statistics are computed again in double precision.
LARGE_T, LARGE_R2 = 25.0, 0.25
#: Multiply-adds of a thin product at once: fewer than a million, and OpenBLAS copies nothing first.
THIN_PRODUCT = 800_000
#: Every product of more multiply-adds takes the same path through OpenBLAS.
LARGE_PRODUCT = 2_000_000


@dataclass(frozen=True)
class GroupArrays:
    """What the kernel needs of the people and traits of one missingness group.

    Rows are the people of the packed genotypes, four to a byte, padding included; people outside
    the group have zero rows.

    Parameters
    ----------
    traits : (people, traits) float64 array
        Residual traits, each of length one and orthogonal to ``basis`` and to the intercept.
    basis : (people, rank - 1) float64 array
        Centred orthonormal covariates, without the intercept.
    mask : (bytes,) uint8 array or None
        ``0b11`` for each person in the group; None if all are.
    n : int
        People in the group.
    rank : int
        Rank of the covariates with the intercept.
    trait_scale : (traits,) float64 array
        Length of each residual trait before scaling, in units of the latent.
    probes : (people, probes) float64 array or None
        Random vectors for heritability, orthogonal to ``basis`` and to the intercept.
    """

    traits: Float64[np.ndarray, "people traits"]
    basis: Float64[np.ndarray, "people covariates"]
    trait_scale: Float64[np.ndarray, " traits"]
    mask: UInt8[np.ndarray, " bytes"] | None
    n: int
    rank: int
    probes: Float64[np.ndarray, "people probes"] | None = None

    @property
    def n_traits(self) -> int:
        """Number of traits in the group."""
        return int(self.traits.shape[1])

    @property
    def dof(self) -> int:
        """Degrees of freedom where no genotype is dropped."""
        return self.n - self.rank - 1

    def product_matrix(self, dtype: type[np.floating]) -> Float[np.ndarray, "people columns"]:
        """``[traits | basis | probes]``, zero-padded to a whole number of tiles.

        Column by column in memory, which OpenBLAS multiplies 3 to 5 % faster.
        """
        n_columns = self.traits.shape[1] + self.basis.shape[1]
        n_probes = 0 if self.probes is None else self.probes.shape[1]
        padded = max(4 * COLUMN_TILE, -(-(n_columns + n_probes) // COLUMN_TILE) * COLUMN_TILE)
        matrix = np.zeros((len(self.traits), padded), dtype, order="F")
        matrix[:, : self.n_traits] = self.traits
        matrix[:, self.n_traits : n_columns] = self.basis
        if self.probes is not None:
            matrix[:, n_columns : n_columns + n_probes] = self.probes
        return matrix


@dataclass(frozen=True)
class GroupResult:
    """One group's statistics of one block.

    ``t`` is NaN wherever ``reason`` is not zero. ``scale`` is ``s_g``. ``beta`` is in units of
    the latent and present only where people were dropped per variant. ``probed`` are products with
    the group's random vectors, in the allele that the block counts.
    """

    t: Float[np.ndarray, "variants traits"]
    beta: Float[np.ndarray, "variants traits"] | None
    n: Int64[np.ndarray, " variants"]
    dof: Int64[np.ndarray, " variants"]
    effect_allele_frequency: Float64[np.ndarray, " variants"]
    scale: Float64[np.ndarray, " variants"]
    reason: Int8[np.ndarray, " variants"]
    probed: Float[np.ndarray, "variants probes"] | None = None


class Workspace:
    """Decode buffer and product buffer of one thread, made once and used for every block.

    :class:`imgwas.association.device.DeviceWorkspace` does the same on a GPU.
    """

    def __init__(self, block_size: int, n_bytes: int, dtype: type[np.floating]) -> None:
        self.dtype, self.block_size = np.dtype(dtype), block_size
        self.lookup = decode_table(self.dtype)
        self.dosage = np.zeros((block_size, n_bytes, 4), self.dtype)
        self._products: dict[int, np.ndarray] = {}
        self._shared: dict[int, np.ndarray] = {}
        self._stacked: tuple[list[np.ndarray], np.ndarray] | None = None

    def load(self, coded: UInt8[np.ndarray, "variants bytes"]) -> None:
        """Decode two-bit codes into the buffer, missing calls as zero."""
        self._shared = {}
        decode(coded, self)

    def fill(self, gaps: Gaps, values: np.ndarray) -> None:
        """Write one value per variant into its missing calls."""
        self._shared = {}
        flat = self.dosage.reshape(len(self.dosage), -1)
        flat[gaps.rows, gaps.columns] = values[gaps.rows]

    def share(self, matrices: list[np.ndarray]) -> None:
        """Multiply with all of some matrices at once, and keep the products for :meth:`product`.

        A column's product does not depend on the columns beside it, to the last bit: matrices are
        padded to whole tiles. Small products are left alone, since BLAS computes them in another
        way than large ones.
        """
        narrowest = min(matrix.shape[1] for matrix in matrices)
        if self.block_size * len(matrices[0]) * narrowest < LARGE_PRODUCT:
            return
        if self._stacked is None or self._stacked[0] is not matrices:
            self._stacked = (matrices, np.hstack(matrices))
        products = self._multiply_all(self._stacked[1])
        edges = np.cumsum([0, *(matrix.shape[1] for matrix in matrices)])
        for matrix, start in zip(matrices, edges, strict=False):
            self._shared[id(matrix)] = products[:, start : start + matrix.shape[1]]

    def product(self, matrix: np.ndarray) -> np.ndarray:
        """Return ``dosage @ matrix`` for the whole buffer."""
        held = self._shared.get(id(matrix))
        return self._multiply_all(matrix) if held is None else held

    def _multiply_all(self, matrix: np.ndarray) -> np.ndarray:
        """``dosage @ matrix`` for all rows of the buffer, so that its shape never changes."""
        n_columns = matrix.shape[1]
        flat = self.dosage.reshape(len(self.dosage), -1)
        out = self._products.get(n_columns)
        if out is None:
            out = self._products[n_columns] = np.empty((len(flat), n_columns), self.dtype)
        return np.matmul(flat, matrix, out=out)

    def weighted(self, weights: np.ndarray, rows: slice) -> np.ndarray:
        """``weights @ dosage[rows]``, in pieces so small that BLAS copies nothing first."""
        dosage = self.dosage.reshape(len(self.dosage), -1)[rows]
        product = np.empty((len(weights), dosage.shape[1]), self.dtype)
        step = max(THIN_PRODUCT // max(weights.size, 1) // 64, 1) * 64
        for start in range(0, dosage.shape[1], step):
            people = slice(start, start + step)
            np.matmul(weights, dosage[:, people], out=product[:, people])
        return product


class Gaps:
    """Missing calls of a block, found when somebody asks where they are.

    Parameters
    ----------
    any_missing : bool
        Whether there is any.
    find : callable
        Returns the row of each, and its column in the decoded matrix.
    """

    def __init__(
        self, any_missing: bool, find: Callable[[], tuple[np.ndarray, np.ndarray]]
    ) -> None:
        self.any_missing, self._find = any_missing, find

    @cached_property
    def _found(self) -> tuple[np.ndarray, np.ndarray]:
        return self._find()

    @property
    def rows(self) -> np.ndarray:
        """Row of each."""
        return self._found[0]

    @property
    def columns(self) -> np.ndarray:
        """Column of each in the decoded matrix."""
        return self._found[1]


@dataclass(frozen=True)
class Moments:
    """Exact sums over the people of a group who have a call.

    Parameters
    ----------
    n_called : (variants,) int64 array
        People with a call.
    total, squares : (variants,) int64 array
        Sums of the effect allele's dosage and of its square, in units of ``1 / per_copy``.
    sum_of_squares : (variants,) float64 array
        Sum of squares about the mean, in the same units: exact up to one division.
    per_copy : int
        What one copy of the allele is counted as: 1 for hard calls.
    """

    n_called: Int64[np.ndarray, " variants"]
    total: Int64[np.ndarray, " variants"]
    squares: Int64[np.ndarray, " variants"]
    sum_of_squares: Float64[np.ndarray, " variants"]
    per_copy: int = 1

    @classmethod
    def of_counts(cls, counts: GenotypeCounts, n: int) -> Moments:
        """Sums over hard calls of ``n`` people."""
        n_called = n - counts.n_missing
        copies = 2 * counts.n_effect_homozygote + counts.n_heterozygote
        squares = 4 * counts.n_effect_homozygote + counts.n_heterozygote
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = (n_called * squares - copies * copies) / n_called
        return cls(n_called, copies, squares, spread)


class GroupBlock:
    """A block seen by one group: exact moments of integers, in the coded allele.

    The decode buffer, ``mean``, ``sum_of_squares`` and ``coded_squares`` count one copy of the
    allele as ``unit``.
    """

    def __init__(
        self,
        coded: np.ndarray,
        flip: np.ndarray,
        gaps: Gaps,
        group: GroupArrays,
        moments: Moments,
        workspace: Workspace,
    ) -> None:
        self.coded, self.gaps, self.group, self.workspace = coded, gaps, group, workspace
        self.sign = np.where(flip, -1.0, 1.0)
        self.unit = moments.per_copy
        self.n_called, two = moments.n_called, 2 * moments.per_copy
        total, squares = moments.total, moments.squares
        #: sum of squares about the mean, exact up to the one division
        self.sum_of_squares = moments.sum_of_squares
        with np.errstate(divide="ignore", invalid="ignore"):
            self.effect_allele_frequency = total / (float(two) * self.n_called)
            coded_copies = np.where(flip, two * self.n_called - total, total)
            self.mean = np.nan_to_num(coded_copies / self.n_called)
        self.coded_copies = coded_copies
        flipped = two * two * self.n_called - 2 * two * total + squares
        self.coded_squares = np.where(flip, flipped, squares)
        self.reason = self._reasons()

    @property
    def faint(self) -> Bool[np.ndarray, " variants"]:
        """Variants that hardly vary about their mean."""
        return np.asarray(self.sum_of_squares < FAINT * self.n_called * self.mean**2)

    def _reasons(self) -> np.ndarray:
        reason = np.full(len(self.n_called), TESTED, np.int8)
        reason[self.sum_of_squares == 0] = MONOMORPHIC
        reason[self.n_called == 0] = ALL_MISSING
        if self.group.n == 0:
            reason[:] = NO_SAMPLES
        elif self.group.dof < 1:
            reason[:] = TOO_FEW_SAMPLES
        return reason

    def fill_missing(self, value: np.ndarray) -> None:
        """Write one value per variant into the missing calls of the decode buffer."""
        if self.gaps.any_missing:
            self.workspace.fill(self.gaps, value)

    def rows_in_double(self, rows: np.ndarray) -> Float64[np.ndarray, "variants people"]:
        """Decode some variants again in double precision, missing calls at the group's mean."""
        dosage = self.called_in_double(rows)
        return np.where(np.isnan(dosage), self.mean[rows, None], dosage)

    def called_in_double(self, rows: np.ndarray) -> Float64[np.ndarray, "variants people"]:
        """Decode some variants again in double precision; missing calls are NaN."""
        table = decode_table(np.dtype(np.float64), missing=np.nan)
        return np.asarray(table[self.coded[rows]].reshape(len(rows), -1))


def people_used(group: GroupArrays, n_people: int) -> np.ndarray:
    """Who of the block's people is in the group, one by one."""
    if group.mask is None:
        used = np.zeros(n_people, bool)
        used[: group.n] = True
        return used
    return unpack_mask(group.mask)


def swap_alleles(packed: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Turn 00 into 11 and back in the rows to flip; 10 and 01 stay."""
    if not flip.any():
        return packed
    coded = packed.copy()
    rows = coded[flip]
    same = ~(rows ^ (rows >> 1)) & 0x55
    coded[flip] = rows ^ (same | (same << 1))
    return coded


def decode_table(dtype: np.dtype, missing: float = 0.0) -> np.ndarray:
    """Copies of the effect allele for each of the four people of each byte value."""
    of_code = np.array([2.0, missing, 1.0, 0.0], dtype)
    codes = np.arange(256, dtype=np.uint8)[:, None] >> np.array([0, 2, 4, 6], np.uint8)
    return np.asarray(of_code[codes & 3])


def decode(coded: np.ndarray, workspace: Workspace) -> None:
    """Decode into the buffer; rows past the block keep zeros."""
    out = workspace.dosage[: len(coded)]
    np.take(workspace.lookup, coded, axis=0, out=out, mode="clip")
    workspace.dosage[len(coded) :] = 0


def missing_positions(coded: np.ndarray, counts: GenotypeCounts) -> Gaps:
    """Row and column of each missing call (code 01)."""
    if not counts.n_missing.any():
        return Gaps(False, lambda: (np.empty(0, np.int64), np.empty(0, np.int64)))
    return Gaps(True, partial(_find_missing, coded))


def _find_missing(coded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n_bytes = coded.shape[1]
    low = (coded & ~(coded >> 1) & 0x55).reshape(-1)
    at = np.flatnonzero(low != 0)
    values = low[at]
    rows, bytes_ = np.divmod(at, n_bytes)
    found = [np.flatnonzero(values & (1 << (2 * s))) for s in range(4)]
    return (
        np.concatenate([rows[f] for f in found]),
        np.concatenate([bytes_[f] * 4 + s for s, f in enumerate(found)]),
    )

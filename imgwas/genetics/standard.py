"""Standardised genotypes of the analysed people, a block of variants at a time.

For a variant with dosages ``x`` and an orthonormal basis ``Q`` of the covariates, the standardised
genotype is ``g = P x / |P x|`` with ``P = I - 11'/n - QQ'``: mean and covariates removed, length
one. Then ``g'y`` is the scan's correlation ``r`` when ``y`` is the residual latent of length one.
Missing calls take the mean of the analysed people, as in the scan.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from imgwas.arrow import from_strings, to_numpy
from imgwas.errors import InconsistentError, explain
from imgwas.genotypes import count_packed, pack_mask
from imgwas.genotypes.hard_calls import hard_calls
from imgwas.shapes import Float, Float64, Int64
from imgwas.sumstats.probes import NOT_AUTOSOMES
from imgwas.types import Genotypes, PackedGenotypes

T = TypeVar("T")

#: A variant of which the covariates leave less than this share of the variance is left out.
EXPLAINED = 1e-5
#: Decoded values of a block: small enough to stay in the cache between two products.
BLOCK_VALUES = 600_000
#: Below this share of a file's people, only theirs are decoded.
FEW = 0.7

_CODES = np.arange(256, dtype=np.uint8)[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
_MISSING = 1
_OF_CODE = np.array([2, 0, 1, 0], np.float32)
_DOSAGE, _IS_MISSING = _OF_CODE[_CODES], _CODES == _MISSING


@runtime_checkable
class Group(Protocol):
    """Latents that are missing for the same people, as the scan's design holds them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Latents."""

    @property
    def used(self) -> np.ndarray:
        """Which of the design's people have them."""

    @property
    def basis(self) -> np.ndarray:
        """Centred orthonormal covariates."""

    @property
    def traits(self) -> np.ndarray:
        """Residual latents of length one."""

    @property
    def rank(self) -> int:
        """Rank of the covariates with the intercept."""


@runtime_checkable
class AlignedDesign(Protocol):
    """Aligned people, covariates and latents: what ``imgwas.association.build_design`` returns."""

    @property
    def sample_columns(self) -> np.ndarray:
        """Columns of the genotype file."""

    @property
    def groups(self) -> tuple:
        """One :class:`Group` per pattern of missing latents."""


@dataclass(frozen=True)
class Moments:
    """Mean dosage, residual length and minor allele frequency of variants."""

    mean: Float64[np.ndarray, " variants"]
    #: root of the sum of squares left by mean and covariates; 0 where nothing is left
    length: Float64[np.ndarray, " variants"]
    maf: Float64[np.ndarray, " variants"]

    def take(self, at: np.ndarray) -> Moments:
        """Moments of some variants."""
        return Moments(self.mean[at], self.length[at], self.maf[at])


class StandardGenotypes:
    """Genotypes of some people with covariates to project out.

    Parameters
    ----------
    genotypes : PackedGenotypes
        Opened genotypes.
    columns : (samples,) int array
        Columns of the genotype file, the analysed people.
    basis : (samples, covariates) float array
        Centred orthonormal covariates of those people.
    """

    def __init__(
        self,
        genotypes: PackedGenotypes,
        columns: Int64[np.ndarray, " samples"],
        basis: Float64[np.ndarray, "samples covariates"],
    ) -> None:
        self.genotypes, self.columns, self.basis = genotypes, columns, basis
        self._is_everyone = np.array_equal(columns, np.arange(genotypes.n_samples))
        self._is_few = len(columns) < FEW * genotypes.n_samples
        self._own = threading.local()
        people = np.zeros(-(-genotypes.n_samples // 4) * 4, bool)
        people[columns] = True
        self._mask = pack_mask(people)
        self._basis32 = basis.astype(np.float32)

    @property
    def n(self) -> int:
        """Number of people."""
        return len(self.columns)

    @property
    def n_free(self) -> int:
        """Dimensions left by mean and covariates, ``n - rank``: the trace of ``P``."""
        return self.n - 1 - self.basis.shape[1]

    def project(self, values: Float[np.ndarray, "samples things"]) -> np.ndarray:
        """Remove mean and covariates from columns, in double precision."""
        rest = values - values.mean(axis=0)
        rest -= self.basis @ (self.basis.T @ rest)
        return np.asarray(rest)

    def dosages(self, rows: np.ndarray, known: Moments | None = None) -> tuple[np.ndarray, Moments]:
        """Dosages with missing calls at the mean, and their moments; not centred.

        Parameters
        ----------
        rows : (variants,) int array
            Rows of the genotype file, increasing.
        known : Moments, optional
            Of these variants, where a scan has computed them.

        Returns
        -------
        (variants, samples) float32 array, Moments
            The array belongs to the calling thread and is overwritten by its next call.
        """
        packed = self.genotypes.read_packed(rows)
        if known is not None:
            return self._decode(packed, known.mean), known
        counts = count_packed(packed, self._mask)
        called = np.maximum(counts.n_called, 1)
        copies = counts.copies
        squares = 4 * counts.n_effect_homozygote + counts.n_heterozygote
        mean = copies / called
        about_mean = (called * squares - copies * copies) / called
        dosage = self._decode(packed, mean)
        length = self._length(dosage, about_mean)
        return dosage, Moments(mean, length, np.minimum(mean / 2, 1 - mean / 2))

    def _length(self, dosage: np.ndarray, about_mean: np.ndarray) -> np.ndarray:
        projected = (dosage @ self._basis32).astype(np.float64)
        left = about_mean - np.einsum("vc,vc->v", projected, projected)
        has_any = (about_mean > 0) & (left > EXPLAINED * about_mean)
        return np.asarray(np.sqrt(np.where(has_any, left, 0.0)))

    def _decode(self, packed: np.ndarray, mean: np.ndarray) -> np.ndarray:
        if self._is_few:
            shift = ((self.columns & 3) * 2).astype(np.uint8)
            codes = (packed[:, self.columns >> 2] >> shift) & 3
            dosage, missing = _OF_CODE[codes], codes == _MISSING
            return np.where(missing, mean[:, None].astype(np.float32), dosage)
        buffer = self._buffer(packed.shape)
        np.take(_DOSAGE, packed, axis=0, out=buffer, mode="clip")
        dosage = buffer.reshape(len(packed), -1)
        if (packed & ~(packed >> 1) & 0x55).any():
            missing = np.take(_IS_MISSING, packed, axis=0).reshape(len(packed), -1)
            np.copyto(dosage, mean[:, None].astype(np.float32), where=missing)
        if self._is_everyone:
            return np.asarray(dosage[:, : self.n])
        return np.take(dosage, self.columns, axis=1)

    def _buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """Memory for decoding that a thread uses for all its blocks."""
        held = getattr(self._own, "buffer", None)
        if held is None or len(held) < shape[0]:
            held = self._own.buffer = np.empty((*shape, 4), np.float32)
        return np.asarray(held[: shape[0]])

    def standardised(self, rows: np.ndarray) -> tuple[np.ndarray, Moments]:
        """Standardised genotypes, mean and covariates removed; a zero row where nothing is left.

        Returns
        -------
        (variants, samples) float32 array, Moments
        """
        dosage, moments = self.dosages(rows)
        dosage = dosage - moments.mean[:, None].astype(np.float32)
        dosage -= (dosage @ self._basis32) @ self._basis32.T
        dosage *= inverse(moments.length)[:, None].astype(np.float32)
        return np.asarray(dosage), moments

    def blocks(self, rows: np.ndarray, edges: Sequence[int] = ()) -> list[np.ndarray]:
        """Cut rows into blocks that stay in the cache and cross none of the edges."""
        size = int(np.clip(BLOCK_VALUES // max(self.genotypes.n_samples, 1), 16, 1024))
        cuts = sorted({0, len(rows), *edges})
        return [
            rows[at : min(at + size, stop)]
            for start, stop in itertools.pairwise(cuts)
            for at in range(start, stop, size)
        ]


def inverse(length: np.ndarray) -> np.ndarray:
    """One over each length, zero where the length is zero."""
    return np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)


def in_order(
    work: Callable[[np.ndarray], T], blocks: Sequence[np.ndarray], threads: int
) -> Iterator[T]:
    """Apply a function to blocks on threads; results come in the order of the blocks.

    Each product runs on one thread, so that sums do not depend on how many there are.
    """
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[T]] = []
        for block in blocks:
            waiting.append(pool.submit(work, block))
            if len(waiting) > 2 * threads:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


def packed(genotypes: Genotypes) -> PackedGenotypes:
    """Genotypes as two-bit codes; dosages are rounded to calls, and the log says so."""
    return hard_calls(genotypes)


def autosomal_rows(genotypes: Genotypes) -> Int64[np.ndarray, " variants"]:
    """Rows of the genotype file that are not on X, Y, XY or MT."""
    elsewhere = pc.is_in(
        genotypes.variants.column("chromosome"), value_set=from_strings(NOT_AUTOSOMES)
    )
    return np.flatnonzero(~to_numpy(elsewhere))


def people_of(genotypes: PackedGenotypes, design: AlignedDesign, group: Group) -> StandardGenotypes:
    """Genotypes of the people one group of latents is solved on."""
    columns = np.asarray(design.sample_columns)
    if len(columns) and columns[-1] >= genotypes.n_samples:
        raise InconsistentError(
            explain(
                f"the design counts on {columns[-1] + 1:,} or more samples",
                expected=f"The genotype file has {genotypes.n_samples:,}",
                do="Build the design from the samples of these genotypes",
            )
        )
    return StandardGenotypes(genotypes, columns[group.used], group.basis[group.used])


def largest_group(design: AlignedDesign) -> Group:
    """The group of latents that most people have."""
    group: Group = max(design.groups, key=lambda one: int(one.used.sum()))
    return group

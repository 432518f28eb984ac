"""Exact genotype counts from packed two-bit codes, without decoding them.

Code 00 is two copies of the effect allele, 10 (binary) one, 11 none, 01 missing. With ``low``
and ``high`` the two bits of every person, ``low & high`` counts 11, ``high`` alone 10, and ``low``
alone 01.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.shapes import Bool, Int64, UInt8

_LOW_BITS = np.uint64(0x5555555555555555)
_PAIRS = np.uint64(0x3333333333333333)
_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
#: Words that are counted at once, so that intermediate arrays stay in the cache.
_CACHED_WORDS = 16_384
_BYTE_SUM = np.uint64(0x0101010101010101)


@dataclass(frozen=True)
class GenotypeCounts:
    """How many people have each genotype, per variant."""

    n_effect_homozygote: Int64[np.ndarray, " variants"]
    n_heterozygote: Int64[np.ndarray, " variants"]
    n_other_homozygote: Int64[np.ndarray, " variants"]
    n_missing: Int64[np.ndarray, " variants"]

    @property
    def n_called(self) -> np.ndarray:
        """People with a call."""
        return self.n_effect_homozygote + self.n_heterozygote + self.n_other_homozygote

    @property
    def copies(self) -> np.ndarray:
        """Copies of the effect allele."""
        return 2 * self.n_effect_homozygote + self.n_heterozygote

    def take(self, rows: np.ndarray | slice) -> GenotypeCounts:
        """Counts of some variants."""
        return GenotypeCounts(**{name: values[rows] for name, values in vars(self).items()})

    @staticmethod
    def choose(which: np.ndarray, among: Sequence[GenotypeCounts]) -> GenotypeCounts:
        """For each variant the counts of ``among[which]``."""
        return GenotypeCounts(
            **{
                name: np.choose(which, [getattr(counts, name) for counts in among])
                for name in vars(among[0])
            }
        )


def pack_mask(people: Bool[np.ndarray, " people"]) -> UInt8[np.ndarray, " bytes"]:
    """Two set bits for every person who counts, four people to a byte."""
    bits = np.zeros(-(-len(people) // 4) * 4, np.uint8)
    bits[: len(people)] = people
    quads = bits.reshape(-1, 4) * 3
    return np.asarray(
        quads[:, 0] | quads[:, 1] << 2 | quads[:, 2] << 4 | quads[:, 3] << 6, np.uint8
    )


def count_packed(
    packed: UInt8[np.ndarray, "variants bytes"], mask: UInt8[np.ndarray, " bytes"] | None = None
) -> GenotypeCounts:
    """Count genotypes among the people of a mask.

    Parameters
    ----------
    packed : (variants, bytes) uint8 array
        Two-bit codes, four people to a byte.
    mask : (bytes,) uint8 array, optional
        From :func:`pack_mask`. Without it every two-bit slot counts, padding included.
    """
    n_variants, n_bytes = packed.shape
    slots = None if mask is None else _as_words(mask[None])[0] & _LOW_BITS
    n_slots = 4 * n_bytes if mask is None else int(np.unpackbits(mask).sum()) // 2
    bits = np.empty((3, n_variants), np.int64)
    rows = max(1, _CACHED_WORDS * 8 // max(n_bytes, 1))
    for start in range(0, n_variants, rows):
        bits[:, start : start + rows] = _count_bits(packed[start : start + rows], slots)
    n_low, n_high, n_both = bits
    return GenotypeCounts(
        n_effect_homozygote=np.full(n_variants, n_slots) - n_low - n_high + n_both,
        n_heterozygote=n_high - n_both,
        n_other_homozygote=n_both,
        n_missing=n_low - n_both,
    )


def _count_bits(packed: np.ndarray, slots: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """People with the low bit, the high bit, and both bits set."""
    words = _as_words(packed)
    low, high = words & _LOW_BITS, (words >> np.uint64(1)) & _LOW_BITS
    if slots is not None:
        low &= slots
        high &= slots
    return _popcount(low), _popcount(high), _popcount(low & high)


def _as_words(packed: np.ndarray) -> np.ndarray:
    """View bytes as 64-bit words, padded with zero bytes where needed."""
    n_variants, n_bytes = packed.shape
    if n_bytes % 8 == 0:
        return np.ascontiguousarray(packed).view(np.uint64)
    padded = np.zeros((n_variants, -(-n_bytes // 8) * 8), np.uint8)
    padded[:, :n_bytes] = packed
    return padded.view(np.uint64)


def _popcount(words: np.ndarray) -> np.ndarray:
    """Set bits per row, where only every second bit can be set."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words).sum(axis=1, dtype=np.int64))
    pairs = (words & _PAIRS) + ((words >> np.uint64(2)) & _PAIRS)
    nibbles = (pairs + (pairs >> np.uint64(4))) & _NIBBLES
    return ((nibbles * _BYTE_SUM) >> np.uint64(56)).sum(axis=1, dtype=np.int64)

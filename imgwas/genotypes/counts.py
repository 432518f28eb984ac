"""Exact genotype counts from packed two-bit codes, without decoding them.

Code 00 is two copies of the effect allele, 10 (binary) one, 11 none, 01 missing. With ``low``
and ``high`` the two bits of every person, ``low & high`` counts 11, ``high`` alone 10, and ``low``
alone 01.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas import native
from imgwas.shapes import Bool, Int64, UInt8

_PAIRS = np.uint64(0x3333333333333333)
_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
#: Words that are counted at once, so that intermediate arrays stay in the cache.
_CACHED_WORDS = 20_480
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
        called = self.n_effect_homozygote + self.n_heterozygote + self.n_other_homozygote
        return np.asarray(called)

    @property
    def copies(self) -> np.ndarray:
        """Copies of the effect allele."""
        return np.asarray(2 * self.n_effect_homozygote + self.n_heterozygote)

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


def unpack_mask(mask: UInt8[np.ndarray, " bytes"]) -> Bool[np.ndarray, " people"]:
    """Who counts, one by one; the inverse of :func:`pack_mask`, padding included."""
    quads = (mask[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 1
    return np.asarray(quads.astype(bool).ravel())


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
    n_slots = 4 * n_bytes if mask is None else int(np.unpackbits(mask).sum()) // 2
    slots = np.full(n_bytes, 0x55, np.uint8) if mask is None else mask & np.uint8(0x55)
    count = _count_plain if native.library() is None else _count_compiled
    n_low, n_high, n_both = count(packed, slots)
    return GenotypeCounts(
        n_effect_homozygote=np.full(n_variants, n_slots) - n_low - n_high + n_both,
        n_heterozygote=n_high - n_both,
        n_other_homozygote=n_both,
        n_missing=n_low - n_both,
    )


def _count_compiled(packed: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """People with the low bit, the high bit, and both bits set, by variant."""
    packed = np.ascontiguousarray(packed)
    bits = np.empty((3, len(packed)), np.int64)
    native.count(packed, _as_words(slots[None])[0], bits)
    return bits


def _count_plain(packed: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The same without the compiled library."""
    words, counted = _as_words(packed), _as_words(slots[None])[0]
    bits = np.empty((3, len(packed)), np.int64)
    rows = max(1, _CACHED_WORDS // max(words.shape[1], 1))
    buffer = np.empty((3, min(rows, len(packed)), words.shape[1]), np.uint64)
    for start in range(0, len(packed), rows):
        some = words[start : start + rows]
        bits[:, start : start + rows] = _count_bits(some, counted, buffer[:, : len(some)])
    return bits


def _count_bits(words: np.ndarray, slots: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    low, high, both = buffer
    np.bitwise_and(words, slots, out=low)
    np.right_shift(words, np.uint64(1), out=high)
    high &= slots
    np.bitwise_and(low, high, out=both)
    return _popcount(buffer)


def _as_words(packed: np.ndarray) -> np.ndarray:
    """View bytes as 64-bit words, padded with zero bytes where needed."""
    n_variants, n_bytes = packed.shape
    if n_bytes % 8 == 0:
        return np.ascontiguousarray(packed).view(np.uint64)
    padded = np.zeros((n_variants, -(-n_bytes // 8) * 8), np.uint8)
    padded[:, :n_bytes] = packed
    return padded.view(np.uint64)


def _popcount(fields: np.ndarray) -> np.ndarray:
    """Set bits along the last axis, where only every second bit can be set.

    Without a popcount in NumPy, fields are added while they have room: three words of two-bit
    fields, then two of four-bit fields, then the eight bytes of a word by one multiplication.
    """
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(fields).sum(axis=-1, dtype=np.int64))
    pairs = _fold(fields, 3)
    nibbles = _fold(_add_neighbours(pairs, 2, _PAIRS), 2)
    total = _add_neighbours(nibbles, 4, _NIBBLES)
    total *= _BYTE_SUM
    total >>= np.uint64(56)
    return np.asarray(total.sum(axis=-1, dtype=np.int64))


def _fold(fields: np.ndarray, parts: int) -> np.ndarray:
    """Add the parts of the last axis word by word; the last part may be shorter."""
    width = -(-fields.shape[-1] // parts)
    folded = fields[..., :width].copy()
    for start in range(width, fields.shape[-1], width):
        piece = fields[..., start : start + width]
        folded[..., : piece.shape[-1]] += piece
    return folded


def _add_neighbours(fields: np.ndarray, bits: int, mask: np.uint64) -> np.ndarray:
    """Add every second field to the one below it, in place."""
    above = fields >> np.uint64(bits)
    above &= mask
    fields &= mask
    fields += above
    return fields

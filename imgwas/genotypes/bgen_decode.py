"""Probabilities of one BGEN variant to whole-number dosages: layout 2, two alleles.

Eight bits, unphased, everyone diploid is what cohorts have: a block of such variants is decoded
together. Every other number of bits, phased data and haploid people take a slower path; other
numbers of alleles or chromosomes are refused by name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from imgwas.genotypes.inflate import inflate
from imgwas.types import MISSING_DOSAGE

#: What one copy counts: exactly the file's own unit for eight bits, PLINK 2's unit otherwise.
EIGHT_BITS, OTHER_BITS = 255, 16384
_MISSING, _PLOIDY = 0x80, 0x3F


class Damaged(ValueError):
    """A block does not unpack."""


class Unsupported(ValueError):
    """A block is of a kind that is not read; the text says which."""


@lru_cache(maxsize=2)
def _diploid(n: int) -> bytes:
    """Ploidies of ``n`` people of whom nobody is missing."""
    return b"\x02" * n


@dataclass(frozen=True)
class Block:
    """The uncompressed genotypes of one variant.

    Parameters
    ----------
    ploidy : bytes
        Of each person; the top bit is set where the genotype is missing.
    phased : bool
        Whether probabilities are of haplotypes.
    bits : int
        Of each probability.
    values : memoryview
        The probabilities.
    """

    ploidy: bytes
    phased: bool
    bits: int
    values: memoryview

    def missing_if_simple(self) -> np.ndarray | None:
        """Who is missing, if it is unphased, of eight bits and everyone is diploid; else None."""
        n = len(self.ploidy)
        if self.bits != 8 or self.phased or len(self.values) != 2 * n:
            return None
        if self.ploidy == _diploid(n):
            return np.empty(0, np.int64)
        flags = np.frombuffer(self.ploidy, np.uint8)
        if ((flags & _PLOIDY) != 2).any():
            return None
        return np.flatnonzero(flags & _MISSING)


def uncompress(content: memoryview, compression: str, n_samples: int) -> memoryview:
    """Unpack the genotypes of a variant, never into more than its people can need.

    Raises
    ------
    Damaged
        If it does not unpack to the length it claims.
    """
    if compression == "none":
        return content
    if len(content) < 4:
        raise Damaged("it holds no data")
    (length,) = struct.unpack_from("<I", content)
    if length > 10 + n_samples * 9:
        raise Damaged(f"it claims {length:,} bytes for {n_samples:,} people")
    if compression == "zlib":
        try:
            return inflate(content[4:], length)
        except ValueError as error:
            raise Damaged(str(error)) from error
    try:
        packed = pa.py_buffer(content[4:])
        plain = pa.decompress(packed, decompressed_size=length, codec="zstd", asbytes=True)
    except (OSError, pa.ArrowException) as error:
        raise Damaged(f"it does not unpack ({error})") from error
    if len(plain) != length:
        raise Damaged(f"it unpacks to {len(plain):,} bytes, not {length:,}")
    return memoryview(plain)


def open_block(plain: memoryview, n_samples: int) -> Block:
    """Read the head of a variant's genotypes.

    Raises
    ------
    Damaged, Unsupported
    """
    if len(plain) < 10 + n_samples:
        raise Damaged(f"it has {len(plain):,} bytes, too few for {n_samples:,} people")
    people, n_alleles = struct.unpack_from("<IH", plain)
    if people != n_samples:
        raise Damaged(f"it is of {people:,} people, the file of {n_samples:,}")
    if n_alleles != 2:
        raise Unsupported(f"{n_alleles} alleles")
    phased, bits = plain[8 + n_samples], plain[9 + n_samples]
    if phased > 1 or not 1 <= bits <= 32:
        raise Damaged(f"its flag of phase is {phased} and its number of bits {bits}")
    ploidy = bytes(plain[8 : 8 + n_samples])
    return Block(ploidy, bool(phased), bits, plain[10 + n_samples :])


def decode_simple(
    raw: np.ndarray, dosage: np.ndarray, twice: np.ndarray, scratch: np.ndarray, *, first: bool
) -> np.ndarray:
    """Decode variants of eight bits, unphased and diploid.

    Parameters
    ----------
    raw : (variants, 2 x samples) uint8 array
        Probabilities of two first alleles and of one, person by person.
    dosage, twice : (variants, samples) uint16 and uint8 arrays
        Are filled.
    scratch : (2, variants, samples) uint16 array
        Is used.
    first : bool
        Count the first allele instead of the second.

    Returns
    -------
    (variants,) int array
        How many people of each variant have probabilities that sum to more than one; they are
        missing.
    """
    pairs = raw.view("<u2")
    both, of_one = scratch
    np.right_shift(pairs, 8, out=of_one)
    np.bitwise_and(pairs, 255, out=dosage)  # of two first alleles
    np.add(dosage, of_one, out=both)
    wrong = both > 255 if int(both.max(initial=0)) > 255 else None
    two = dosage if first else np.subtract(255, both, out=both)
    np.copyto(twice, two, casting="unsafe")
    np.left_shift(two, 1, out=dosage)
    np.add(dosage, of_one, out=dosage)
    if wrong is None:
        return np.zeros(len(raw), np.int64)
    dosage[wrong] = MISSING_DOSAGE
    twice[wrong] = 0
    return np.asarray(wrong.sum(axis=1))


def decode_general(
    block: Block, dosage: np.ndarray, twice: np.ndarray, *, first: bool, per_copy: int
) -> int:
    """Decode one variant of any bits, phase, and one or two chromosomes a person.

    A haploid person's allele counts twice. Other than eight bits are rounded to ``per_copy``.

    Returns
    -------
    int
        People whose probabilities sum to more than one; they are missing.

    Raises
    ------
    Damaged, Unsupported
    """
    flags = np.frombuffer(block.ploidy, np.uint8)
    missing, ploidy = flags & _MISSING > 0, (flags & _PLOIDY).astype(np.int64)
    if ((ploidy != 2) & (ploidy != 1)).any():
        strange = ploidy[(ploidy != 2) & (ploidy != 1)]
        raise Unsupported(f"people with {strange[0]} chromosomes")
    values = _unpack(block.values, block.bits, int(ploidy.sum()))
    start = np.cumsum(ploidy) - ploidy
    one = values[start]
    other = np.where(ploidy == 2, values[np.minimum(start + 1, len(values) - 1)], 0)
    top = 2**block.bits - 1
    total = one + other
    wrong = np.zeros(len(one), bool)
    if block.phased:
        none, two = one * (other / top), (top - one) * ((top - other) / top)
    else:
        none, two, wrong = one, top - total, (total > top) & (ploidy == 2)
    haploid = ploidy == 1
    none, two = np.where(haploid, one, none), np.where(haploid, top - one, two)
    if block.phased:
        copies = np.where(haploid, 2 * two, 2 * top - total)
    else:
        copies = 2 * two + np.where(haploid, 0, other)
    if first:
        copies, two = 2 * top - copies, none
    scale = per_copy / top
    dosage[:] = np.rint(np.where(wrong, 0, copies) * scale)
    twice[:] = np.rint(np.where(wrong, 0, two) * scale)
    gone = missing | wrong
    dosage[gone], twice[gone] = MISSING_DOSAGE, 0
    return int((wrong & ~missing).sum())


def _unpack(content: memoryview, bits: int, n: int) -> np.ndarray:
    """``n`` whole numbers of some bits each, low bit first."""
    if len(content) != -(-n * bits // 8):
        raise Damaged(f"it has {len(content):,} bytes of probabilities, not {-(-n * bits // 8):,}")
    raw = np.frombuffer(content, np.uint8)
    if bits == 8:
        return raw.astype(np.int64)
    if bits in (16, 32):
        return raw.view(f"<u{bits // 8}").astype(np.int64)
    digits = np.unpackbits(raw, bitorder="little", count=n * bits).reshape(n, bits)
    return np.asarray(digits @ (1 << np.arange(bits, dtype=np.int64)))

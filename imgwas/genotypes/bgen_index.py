"""Where the variants of a BGEN file are: its header, its own ids, its ``.bgi`` or a scan of it.

Everything is read in bounded pieces, and every length is compared with the size of the file before
anything is allocated for it.
"""

from __future__ import annotations

import itertools
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from imgwas.arrow import from_strings
from imgwas.errors import MalformedError, ReadError, explain
from imgwas.genotypes.text import what_it_is
from imgwas.genotypes.variant_table import AS_BIM, variant_batch, wrong_position
from imgwas.scratch import ArrayAside, table_aside
from imgwas.types import VARIANT_SCHEMA

logger = logging.getLogger(__name__)

#: Longest allele that is read; longer ones are structural variants written out.
LONGEST = 1 << 20
#: Bytes of a variant's names that are read at once, before they are found to be longer.
_HEAD = 512
#: Bytes that a variant takes at least: its names without a letter, and lengths.
_SMALLEST = 24
_CHUNK = 1 << 16


@dataclass(frozen=True)
class BgenHeader:
    """What the first bytes of a BGEN file say.

    Parameters
    ----------
    path : Path
        The file.
    size : int
        Its bytes.
    first : int
        Where the first variant begins.
    n_variants, n_samples : int
        As the file claims.
    compression : str
        ``none``, ``zlib`` or ``zstd``.
    sample_ids : tuple of str or None
        Ids that the file itself holds.
    """

    path: Path
    size: int
    first: int
    n_variants: int
    n_samples: int
    compression: str
    sample_ids: tuple[str, ...] | None


@dataclass(frozen=True)
class BgenIndex:
    """Names and places of the variants of a BGEN file.

    Parameters
    ----------
    edges : (variants + 1,) int64 array
        First byte of each variant, and one past the last of the last.
    n_alleles : (variants,) uint16 array
        Alleles of each variant.
    table : pyarrow.Table
        Variants, the second allele as the effect allele.
    is_gapless : bool
        Whether each begins where the one before ends.
    """

    edges: np.ndarray
    n_alleles: np.ndarray
    table: pa.Table
    is_gapless: bool = True


def read_at(descriptor: int, path: Path, offset: int, n_bytes: int) -> bytes:
    """Read some bytes, fewer only at the end of the file."""
    pieces = []
    while n_bytes > 0:
        try:
            piece = os.pread(descriptor, n_bytes, offset)
        except OSError as error:
            raise ReadError(
                explain(f"reading {path} at byte {offset:,} failed ({error.strerror})")
            ) from error
        if not piece:
            break
        pieces.append(piece)
        offset, n_bytes = offset + len(piece), n_bytes - len(piece)
    return b"".join(pieces)


def read_header(descriptor: int, path: Path, size: int) -> BgenHeader:
    """Read the header and the ids of a BGEN file.

    Raises
    ------
    MalformedError
        If it is no BGEN file of layout 2, or its numbers cannot be true for its size.
    """
    head = read_at(descriptor, path, 0, 24)
    meaning = what_it_is(head) if head else "empty"
    if len(head) < 24 or meaning:
        raise MalformedError(explain(f"{path} is {meaning or 'too short for a BGEN file'}"))
    offset, length, n_variants, n_samples, magic = struct.unpack_from("<IIII4s", head)
    if magic not in (b"bgen", b"\0\0\0\0") or length < 20 or length > offset:
        raise MalformedError(
            explain(
                f"{path} does not begin as a BGEN file",
                expected="Bytes 17 to 20 spell bgen, and the header ends before the first variant",
                do="Check that it is a .bgen file, and copy it again",
            )
        )
    if offset + 4 + _SMALLEST * n_variants > size or not n_variants or not n_samples:
        raise MalformedError(
            explain(
                f"{path} claims {n_variants:,} variants of {n_samples:,} people from byte "
                f"{offset + 4:,}, and has {size:,} bytes",
                expected=f"A variant takes at least {_SMALLEST} bytes",
                do="Copy or download it again and compare checksums",
            )
        )
    (flags,) = struct.unpack("<I", read_at(descriptor, path, length, 4))
    compression = _compression(path, flags)
    ids = None
    if flags >> 31:
        ids = _embedded_ids(descriptor, path, length + 4, offset + 4, n_samples)
    return BgenHeader(path, size, offset + 4, n_variants, n_samples, compression, ids)


def _compression(path: Path, flags: int) -> str:
    layout, kind = flags >> 2 & 15, flags & 3
    if layout != 2 or kind == 3:
        what = f"layout {layout}" if layout != 2 else "an unknown compression"
        raise MalformedError(
            explain(
                f"{path} has {what}",
                expected="BGEN 1.2 and 1.3, layout 2, with zlib, zstd or no compression, are read",
                do=f"Convert it: plink2 --bgen {path.name} ref-first --sample FILE "
                "--export bgen-1.2 bits=8 --out converted",
            )
        )
    return ("none", "zlib", "zstd")[kind]


def _embedded_ids(
    descriptor: int, path: Path, start: int, stop: int, n_samples: int
) -> tuple[str, ...]:
    """Ids between the header and the first variant."""
    content = read_at(descriptor, path, start, min(stop - start, 70_000 * n_samples))
    wrong = MalformedError(
        explain(f"the block of sample ids in {path} is damaged", do="Copy or download it again")
    )
    if len(content) < 8 or struct.unpack_from("<I", content, 4)[0] != n_samples:
        raise wrong
    ids, at = [], 8
    for _ in range(n_samples):
        if at + 2 > len(content):
            raise wrong
        (length,) = struct.unpack_from("<H", content, at)
        try:
            ids.append(content[at + 2 : at + 2 + length].decode("utf-8"))
        except UnicodeDecodeError:
            raise wrong from None
        at += 2 + length
    if at > len(content):
        raise wrong
    return tuple(ids)


@dataclass(frozen=True)
class VariantHead:
    """Names of one variant, and where its genotypes begin within what was read."""

    chromosome: str
    position: int
    variant_id: str
    alleles: tuple[str, ...]
    data: int


def parse_head(content: bytes | memoryview, at: int) -> VariantHead | None:
    """Parse the names of the variant that begins at a byte; None if more bytes are needed."""
    texts = []
    end = len(content)
    for _ in range(3):  # an id of the writer, the rs id, the chromosome
        if at + 2 > end:
            return None
        (length,) = struct.unpack_from("<H", content, at)
        texts.append((at + 2, length))
        at += 2 + length
    if at + 6 > end:
        return None
    position, n_alleles = struct.unpack_from("<IH", content, at)
    at += 6
    for _ in range(n_alleles):
        if at + 4 > end:
            return None
        (length,) = struct.unpack_from("<I", content, at)
        if length > LONGEST:
            raise ValueError(f"an allele of {length:,} letters")
        texts.append((at + 4, length))
        at += 4 + length
    if at > end:
        return None
    words = [bytes(content[start : start + length]).decode("utf-8") for start, length in texts]
    return VariantHead(words[2], position, words[1] or words[0] or ".", tuple(words[3:]), at)


def skip_head(content: memoryview) -> tuple[int, int] | None:
    """Position of the variant, and where its genotypes begin; None if its names are cut short."""
    at, end = 0, len(content)
    for _ in range(3):
        if at + 2 > end:
            return None
        at += 2 + content[at] + (content[at + 1] << 8)
    if at + 6 > end:
        return None
    position, n_alleles = struct.unpack_from("<IH", content, at)
    at += 6
    for _ in range(n_alleles):
        if at + 4 > end:
            return None
        at += 4 + struct.unpack_from("<I", content, at)[0]
    return (position, at) if at + 4 <= end else None


#: First byte of a variant, one past its last, and its names.
Placed = tuple[int, int, VariantHead]


def scan_index(descriptor: int, header: BgenHeader) -> BgenIndex:
    """Find every variant by going from one to the next; only their names are read."""
    return gathered(_scan(descriptor, header), header.path)


def _scan(descriptor: int, header: BgenHeader) -> Iterator[Placed]:
    at = header.first
    for number in range(header.n_variants):
        head = _head_at(descriptor, header, at, number)
        (length,) = struct.unpack(
            "<I", read_at(descriptor, header.path, at + head.data, 4).ljust(4, b"\xff")
        )
        stop = at + head.data + 4 + length
        if stop > header.size:
            raise _cut_short(header, number, at)
        yield at, stop, head
        at = stop
    if at != header.size:
        raise MalformedError(
            explain(
                f"{header.path} goes on for {header.size - at:,} bytes after its "
                f"{header.n_variants:,} variants",
                do="Copy or download it again and compare checksums",
            )
        )


def _head_at(descriptor: int, header: BgenHeader, at: int, number: int) -> VariantHead:
    n_bytes = _HEAD
    while True:
        content = read_at(descriptor, header.path, at, n_bytes)
        try:
            head = parse_head(content, 0)
        except ValueError as error:
            what = "names" if isinstance(error, UnicodeDecodeError) else str(error)
            raise MalformedError(
                explain(
                    f"variant {number + 1:,} of {header.path}, at byte {at:,}, has {what}"
                    f"{' that are not UTF-8' if what == 'names' else ''}",
                    do="Copy or download the file again",
                )
            ) from error
        if head is not None:
            return head
        if len(content) < n_bytes or n_bytes > 64 * LONGEST:
            raise _cut_short(header, number, at)
        n_bytes *= 8


def _cut_short(header: BgenHeader, number: int, at: int) -> MalformedError:
    return MalformedError(
        explain(
            f"{header.path} is cut short or damaged: variant {number + 1:,} of "
            f"{header.n_variants:,}, at byte {at:,}, does not end within its {header.size:,} bytes",
            do="Copy or download it again and compare checksums",
        )
    )


def gathered(placed: Iterator[Placed], path: Path) -> BgenIndex:
    """Make an index of variants one after another, which are never held all at once.

    Raises
    ------
    MalformedError
        If a position is beyond what is read.
    """
    edges, n_alleles = ArrayAside(np.int64), ArrayAside(np.uint16)
    with edges, n_alleles:
        numbers = _Numbers(edges, n_alleles)
        table = table_aside(_batches(placed, numbers, path), VARIANT_SCHEMA)
        edges.add(np.array([numbers.end]))
        return BgenIndex(edges.array(), n_alleles.array(), table, numbers.is_gapless)


@dataclass
class _Numbers:
    """Places and numbers of alleles, gathered while names are."""

    edges: ArrayAside
    n_alleles: ArrayAside
    end: int = -1
    is_gapless: bool = True

    def add(self, some: Sequence[Placed]) -> None:
        """Take some variants."""
        starts, stops = np.array([one[:2] for one in some], np.int64).T
        before = np.concatenate([starts[:1] if self.end < 0 else [self.end], stops[:-1]])
        self.is_gapless &= bool((starts == before).all())
        self.end = int(stops[-1])
        self.edges.add(starts)
        self.n_alleles.add(np.array([min(len(h.alleles), 65_535) for *_, h in some], np.uint16))


def _batches(placed: Iterator[Placed], numbers: _Numbers, path: Path) -> Iterator[pa.RecordBatch]:
    before = 0
    while some := list(itertools.islice(placed, _CHUNK)):
        numbers.add(some)
        heads = [head for *_, head in some]
        alleles = [(*head.alleles, "", "")[:2] for head in heads]
        positions = from_strings([str(head.position) for head in heads])
        columns = [
            from_strings([head.chromosome for head in heads]),
            positions,
            from_strings([head.variant_id for head in heads]),
            from_strings([second for _, second in alleles]),
            from_strings([first for first, _ in alleles]),
        ]
        try:
            yield variant_batch(pa.RecordBatch.from_arrays(columns, AS_BIM))
        except pa.ArrowInvalid:
            raise wrong_position(positions, path, before) from None
        before += len(some)

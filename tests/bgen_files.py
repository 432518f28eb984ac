"""BGEN files written byte by byte, so that readers do not test themselves."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np


def bgen_block(probabilities: np.ndarray, *, missing=(), bits=8, phased=0, ploidy=None, n=None,
               alleles=2) -> bytes:  # fmt: skip
    """Uncompressed genotypes of one variant from whole-number probabilities, two a person."""
    n_people = len(probabilities) if n is None else n
    flags = np.full(len(probabilities), 2, np.uint8) if ploidy is None else ploidy.astype(np.uint8)
    flags[list(missing)] |= 0x80
    head = struct.pack("<IHBB", n_people, alleles, int(flags.min() & 63), int(flags.max() & 63))
    values = b"".join(
        struct.pack({8: "<B", 16: "<H", 32: "<I"}[bits], int(p))
        for row, flag in zip(probabilities, flags, strict=True)
        for p in row[: flag & 63]
    )
    return head + flags.tobytes() + bytes([phased, bits]) + values


def bgen_file(path: Path, blocks: list[bytes], *, n: int, ids: list[str] | None = None,
              alleles: list[list[str]] | None = None, layout: int = 2) -> None:  # fmt: skip
    """Write a zlib-compressed BGEN of the given blocks."""
    names = alleles or [["A", "G"]] * len(blocks)
    body = b""
    for i, (block, letters) in enumerate(zip(blocks, names, strict=True)):
        texts = [b"", b"rs%d" % i, b"1"]
        body += b"".join(struct.pack("<H", len(t)) + t for t in texts)
        body += struct.pack("<IH", i + 1, len(letters))
        body += b"".join(struct.pack("<I", len(a)) + a.encode() for a in letters)
        packed = zlib.compress(block)
        body += struct.pack("<II", len(packed) + 4, len(block)) + packed
    own = b""
    if ids is not None:
        own = b"".join(struct.pack("<H", len(i)) + i.encode() for i in ids)
        own = struct.pack("<II", len(own) + 8, n) + own
    flags = 1 | layout << 2 | (ids is not None) << 31
    head = struct.pack("<III4sI", 20, len(blocks), n, b"bgen", flags)
    path.write_bytes(struct.pack("<I", 20 + len(own)) + head + own + body)

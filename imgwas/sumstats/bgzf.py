"""Blocked gzip: any gzip reader reads it, and tabix can index it.

Every block is a gzip member of its own, so blocks can be compressed in parallel and simply be
written one after the other. Times and file names stay out of the headers: equal text gives equal
bytes.

References
----------
.. [1] SAM/BAM format specification, section 4.1, the BGZF compression format.
"""

from __future__ import annotations

import struct
import zlib

#: The empty block that ends a file.
END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_TEXT = 65_280
_HEADER = struct.Struct("<4BI2BH2BHH")


def compress(text: bytes | memoryview, level: int = 2) -> bytes:
    """Compress text to a run of blocks, without the end-of-file block.

    Parameters
    ----------
    text : bytes
        Any length.
    level : int
        zlib's; tables of numbers gain little above 2.
    """
    view = memoryview(text)
    return b"".join(
        _block(view[start : start + _TEXT], level) for start in range(0, len(view), _TEXT)
    )


def _block(text: memoryview, level: int) -> bytes:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    body = deflate.compress(text) + deflate.flush()
    size = _HEADER.size + len(body) + 8
    header = _HEADER.pack(31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1)
    return header + body + struct.pack("<II", zlib.crc32(text), len(text))

"""The header of a ``.pgen``: what its records are and where, checked before a library reads them.

A file of PLINK 2's standard mode has, for each 65,536 variants, the place of their first record,
and for each variant a type and a length. Here every length is added up and compared with the size
of the file, so that a truncated or damaged file is refused with words and not by a crash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from imgwas.errors import MalformedError, OpenError, explain
from imgwas.genotypes.text import what_it_is
from imgwas.scratch import array_aside

_MAGIC = b"\x6c\x1b"
_STANDARD = 0x10
_MODES = {
    0x00: "a sample-major PLINK 1 .bed",
    0x01: "a PLINK 1 .bed: use --bed",
    0x02: "records of fixed width",
    0x03: "dosages of fixed width",
    0x04: "phased dosages of fixed width",
    0x11: "an index in a file of its own (.pgi)",
}
#: Variants of one block of the header.
BLOCK = 65_536
_MULTIALLELIC, _DOSAGE = 0x08, 0x60
#: No file is as long as that.
_FARTHEST = 1 << 62


@dataclass(frozen=True)
class PgenHeader:
    """What a ``.pgen`` says of itself.

    Parameters
    ----------
    n_variants, n_samples : int
        Records, and people of each.
    has_dosages : bool
        Whether any record holds dosages.
    multiallelic : (variants,) bool array
        Records that hold calls of a third allele.
    places : (variants + 1,) int64 array
        Where each record begins, and where the last one ends.
    """

    n_variants: int
    n_samples: int
    has_dosages: bool
    multiallelic: np.ndarray
    places: np.ndarray


def read_pgen_header(path: Path) -> PgenHeader:
    """Read the header and check every length in it against the size of the file.

    Raises
    ------
    MalformedError
        If it is another kind of file, cut short, or its lengths do not fill it.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            head = stream.read(12)
            _check_kind(path, head)
            records = _Records(path, stream, size, head)
            places = array_aside(records.places(), np.int64)
            header_end = stream.tell()
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    records.check(header_end)
    multiallelic = np.concatenate(records.multiallelic)
    counts = records.n_variants, records.n_samples
    return PgenHeader(*counts, records.has_dosages, multiallelic, places)


def _check_kind(path: Path, head: bytes) -> None:
    if len(head) == 12 and head[:2] == _MAGIC and head[2] == _STANDARD:
        return
    if not head:
        raise MalformedError(explain(f"{path} is empty", do="Copy or download it again"))
    if head[:3] == _MAGIC + bytes([_STANDARD]):
        raise _damaged(path, f"it has {len(head)} bytes")
    if head[:2] == _MAGIC and len(head) > 2:
        kind = _MODES.get(head[2], "of a kind that this version does not know")
        raise MalformedError(
            explain(
                f"{path} has storage mode {head[2]:02x}: {kind}",
                expected="Files as plink2 --make-pgen writes them (mode 10) are read",
                do=f"Convert it: plink2 --pfile {path.with_suffix('').name} --make-pgen "
                "--out converted",
            )
        )
    meaning = what_it_is(head)
    raise MalformedError(
        explain(
            f"{path} is {meaning}" if meaning else f"{path} begins with {head[:3].hex(' ')}",
            expected="A .pgen begins with 6c 1b 10",
        )
    )


class _Records:
    """Types and lengths of all records, read block by block.

    Parameters
    ----------
    path, stream : Path, file
        After the fixed part of the header.
    size : int
        Bytes of the file.
    fixed : bytes
        The fixed part.
    """

    def __init__(self, path: Path, stream: IO[bytes], size: int, fixed: bytes) -> None:
        n_variants, n_samples, control = struct.unpack("<IIB", fixed[3:12])
        if not n_variants or not n_samples:
            raise _damaged(path, f"it claims {n_variants:,} variants of {n_samples:,} people")
        width = control & 15
        if width > 7:
            raise MalformedError(
                explain(
                    f"{path} has records of a width ({width}) that is not read",
                    do=f"Convert it: plink2 --pfile {path.with_suffix('').name} --make-pgen "
                    "--out converted",
                )
            )
        self.path, self._stream, self.size = path, stream, size
        self.n_variants, self.n_samples, self._control = n_variants, n_samples, control
        n_blocks = -(-n_variants // BLOCK)
        self._is_wide, self._length_bytes = width >= 4, 1 + width % 4
        sizes = 2 * self._length_bytes + 1 + self._is_wide
        if 12 + 8 * n_blocks + n_variants * sizes // 2 + n_variants > size:
            raise _damaged(path, f"it claims {n_variants:,} variants and has {size:,} bytes")
        self.starts = np.frombuffer(self._read(8 * n_blocks), "<u8")
        if int(self.starts.max()) > _FARTHEST:
            raise _damaged(path, f"records begin at byte {int(self.starts.max()):,}")
        self.filled = np.zeros(n_blocks, np.int64)
        self.multiallelic: list[np.ndarray] = []
        self.has_dosages = False
        self._short = self._strange = -1

    def places(self) -> Iterator[np.ndarray]:
        """Where each record begins, and where the last one ends."""
        end = int(self.starts[0])
        yield np.array([end])
        for block in range(len(self.starts)):
            types, lengths = self._block(min(BLOCK, self.n_variants - block * BLOCK))
            self.filled[block] = lengths.sum()
            self._look_at(types, lengths, block * BLOCK)
            yield end + np.cumsum(lengths)
            end += int(self.filled[block])

    def _block(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        raw = np.frombuffer(self._read(n if self._is_wide else -(-n // 2)), np.uint8)
        types = raw if self._is_wide else np.stack([raw & 15, raw >> 4], axis=1).ravel()[:n]
        content = np.frombuffer(self._read(n * self._length_bytes), np.uint8)
        digits = content.reshape(n, self._length_bytes).astype(np.int64)
        skipped = n * (self._control >> 4 & 3) + (-(-n // 8) if self._control >> 6 == 3 else 0)
        self._read(skipped)
        return types, digits @ (256 ** np.arange(self._length_bytes, dtype=np.int64))

    def _look_at(self, types: np.ndarray, lengths: np.ndarray, before: int) -> None:
        self.multiallelic.append((types & _MULTIALLELIC) > 0)
        self.has_dosages |= bool((types & _DOSAGE).any())
        kinds = types & 7
        short = np.flatnonzero((kinds == 0) & (lengths < -(-self.n_samples // 4)))
        if len(short) and self._short < 0:
            self._short = before + int(short[0])
        strange = np.flatnonzero(kinds == 5)
        if len(strange) and self._strange < 0:
            self._strange = before + int(strange[0])

    def _read(self, n_bytes: int) -> bytes:
        content = self._stream.read(n_bytes)
        if len(content) < n_bytes:
            raise _damaged(self.path, "its header is cut short")
        return content

    def check(self, header_end: int) -> None:
        """Records must follow one another from the header to the end of the file, and be whole."""
        _check_places(self.path, self.size, self.filled, self.starts, header_end)
        if self._short >= 0:
            what = f"record {self._short + 1:,} is too short for {self.n_samples:,} people"
            raise _damaged(self.path, what)
        if self._strange >= 0:
            raise _damaged(
                self.path, f"record {self._strange + 1:,} is of type 5, which is not in use"
            )


def _check_places(
    path: Path, size: int, filled: np.ndarray, starts: np.ndarray, header_end: int
) -> None:
    ends = np.append(starts[1:], np.uint64(size)).astype(np.float64)
    if int(starts[0]) < header_end or not filled.any():
        raise _damaged(path, "its records begin within its header")
    wrong = np.flatnonzero(starts.astype(np.float64) + filled != ends)
    if len(wrong):
        first = int(wrong[0]) * BLOCK
        expected = int(starts[wrong[0]]) + int(filled[wrong[0]])
        raise _damaged(
            path,
            f"records from {first + 1:,} on should end at byte {expected:,}, and "
            f"{'the file has' if wrong[0] == len(starts) - 1 else 'the next block begins at'} "
            f"{int(ends[wrong[0]]):,}",
        )


def _damaged(path: Path, what: str) -> MalformedError:
    return MalformedError(
        explain(
            f"{path} is cut short or damaged: {what}",
            do="Copy or download it again and compare checksums",
        )
    )

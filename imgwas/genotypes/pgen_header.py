"""The header of a ``.pgen``: what its records are and where, checked before a library reads them.

A file of PLINK 2's standard mode has, for each 65,536 variants, the place of their first record,
and for each variant a type and a length. Here every length is added up and compared with the size
of the file, so that a truncated or damaged file is refused with words and not by a crash.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgwas.errors import MalformedError, OpenError, explain
from imgwas.genotypes.text import what_it_is

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
            n_variants, n_samples, control = struct.unpack("<IIB", head[3:12])
            if not n_variants or not n_samples:
                raise _damaged(path, f"it claims {n_variants:,} variants of {n_samples:,} people")
            types, lengths, starts, flagged = _records(path, stream, size, n_variants, control)
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    _check_places(path, size, lengths, starts, flagged)
    plain = (types & 7) == 0
    if plain.any() and int(lengths[plain].min()) < -(-n_samples // 4):
        bad = int(np.flatnonzero(plain & (lengths < -(-n_samples // 4)))[0])
        raise _damaged(path, f"record {bad + 1:,} is too short for {n_samples:,} people")
    if ((types & 7) == 5).any():
        bad = int(np.flatnonzero((types & 7) == 5)[0])
        raise _damaged(path, f"record {bad + 1:,} is of type 5, which is not in use")
    dosages = bool((types & _DOSAGE).any())
    places = int(starts[0]) + np.concatenate([[0], np.cumsum(lengths)])
    return PgenHeader(n_variants, n_samples, dosages, (types & _MULTIALLELIC) > 0, places)


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


def _records(
    path: Path, stream: object, size: int, n_variants: int, control: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Types and lengths of all records, places of the blocks, and where the header ends."""
    width = control & 15
    if width > 7:
        raise MalformedError(
            explain(
                f"{path} has records of a width ({width}) that is not read",
                do=f"Convert it: plink2 --pfile {path.with_suffix('').name} --make-pgen "
                "--out converted",
            )
        )
    n_blocks = -(-n_variants // BLOCK)
    wide, length_bytes, count_bytes = width >= 4, 1 + width % 4, control >> 4 & 3
    least = 12 + 8 * n_blocks + n_variants * (2 * length_bytes + 1 + wide) // 2
    if least + n_variants > size:
        raise _damaged(path, f"it claims {n_variants:,} variants and has {size:,} bytes")
    read = stream.read  # type: ignore[attr-defined]
    starts = np.frombuffer(_exactly(path, read(8 * n_blocks), 8 * n_blocks), "<u8")
    types, lengths = [], []
    for block in range(n_blocks):
        n = min(BLOCK, n_variants - block * BLOCK)
        n_bytes = n if wide else -(-n // 2)
        raw = np.frombuffer(_exactly(path, read(n_bytes), n_bytes), np.uint8)
        both = raw if wide else np.stack([raw & 15, raw >> 4], axis=1).ravel()
        types.append(both[:n])
        content = _exactly(path, read(n * length_bytes), n * length_bytes)
        digits = np.frombuffer(content, np.uint8).reshape(n, length_bytes).astype(np.int64)
        lengths.append(digits @ (256 ** np.arange(length_bytes, dtype=np.int64)))
        skipped = n * count_bytes + (-(-n // 8) if control >> 6 == 3 else 0)
        _exactly(path, read(skipped), skipped)
    end = stream.tell()  # type: ignore[attr-defined]
    return np.concatenate(types), np.concatenate(lengths), starts, end


def _exactly(path: Path, content: bytes, n_bytes: int) -> bytes:
    if len(content) < n_bytes:
        raise _damaged(path, "its header is cut short")
    return content


def _check_places(
    path: Path, size: int, lengths: np.ndarray, starts: np.ndarray, header_end: int
) -> None:
    """Records must follow one another from the header to the end of the file."""
    ends = np.append(starts[1:], np.uint64(size)).astype(np.float64)
    filled = np.add.reduceat(lengths, np.arange(0, len(lengths), BLOCK))
    if int(starts[0]) < header_end or (lengths == 0).all():
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

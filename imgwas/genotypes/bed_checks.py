"""Whether a ``.bed`` is what it says: its first bytes, its size, the people after the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgwas.errors import InconsistentError, MalformedError, OpenError, explain
from imgwas.genotypes.text import what_it_is

_MAGIC, _SAMPLE_MAJOR, _PGEN = b"\x6c\x1b\x01", b"\x6c\x1b\x00", b"\x6c\x1b"

#: Variants looked at, and people of each, when the last people are suspected to be padding.
_N_LOOKED_AT, _N_OTHERS = 256, 256
#: With fewer variants nobody can tell.
_FEWEST = 100
#: Likelier than one in 10^12, and it is taken for a person.
_EVIDENCE = 12.0


@dataclass(frozen=True)
class BedShape:
    """What the three files of a fileset say about one another.

    Parameters
    ----------
    bed, bim, fam : Path
        The files.
    n_variants, n_samples : int
        Lines of the ``.bim`` and of the ``.fam``.
    """

    bed: Path
    bim: Path
    fam: Path
    n_variants: int
    n_samples: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one variant."""
        return -(-self.n_samples // 4)


def file_stat(path: Path) -> dict[str, int]:
    """Size and time of modification; what a changed file is recognised by."""
    try:
        stat = path.stat()
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def check_size(shape: BedShape, size: int) -> None:
    """Refuse a ``.bed`` that is something else, or of another size than its tables ask for."""
    check_magic(shape.bed)
    expected = len(_MAGIC) + shape.n_variants * shape.row_bytes
    if size == len(_MAGIC):
        what = f"{shape.bed} holds a header and no variant"
        raise MalformedError(explain(what, do="Copy or download it again"))
    if size != expected:
        _check_tables(shape, size - len(_MAGIC))
        raise MalformedError(_wrong_size(shape, size, expected))


def check_magic(bed: Path) -> bool:
    """Refuse a file that does not begin as a ``.bed``; True if it does."""
    try:
        with bed.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise OpenError(explain(f"{bed} cannot be opened ({error.strerror})")) from error
    _check_magic(bed, head)
    return True


def _check_tables(shape: BedShape, n_bytes: int) -> None:
    """Name the table that does not fit, if the other one does."""
    whole, extra = divmod(n_bytes, shape.row_bytes)
    if extra == 0:
        raise InconsistentError(
            explain(
                f"{shape.bim} has {shape.n_variants:,} variants, but {shape.bed} holds {whole:,} "
                f"for the {shape.n_samples:,} people of {shape.fam.name}",
                do="Use the .bim and .fam that were made with this .bed",
            )
        )
    row_bytes, extra = divmod(n_bytes, shape.n_variants)
    if extra == 0 and shape.n_variants > 1:
        raise InconsistentError(
            explain(
                f"{shape.fam} has {shape.n_samples:,} people, but {shape.bed} holds "
                f"{4 * row_bytes - 3:,} to {4 * row_bytes:,} for each of the "
                f"{shape.n_variants:,} variants of {shape.bim.name}",
                do="Use the .fam that was made with this .bed, or copy the .bed again if it was "
                "cut short",
            )
        )


def _wrong_size(shape: BedShape, size: int, expected: int) -> str:
    short = size < expected
    whole = (size - len(_MAGIC)) // shape.row_bytes
    what = "is cut short" if short else f"is {size - expected:,} bytes too long"
    return explain(
        f"{shape.bed} {what}: it has {size:,} bytes",
        expected=f"{shape.n_variants:,} variants of {shape.n_samples:,} people take {expected:,}",
        where=f"the last complete variant is number {whole:,}"
        if short
        else f"{shape.fam.name} may belong to another .bed",
        do="Copy or download it again and compare checksums",
    )


def _check_magic(bed: Path, head: bytes) -> None:
    if head[:3] == _MAGIC:
        return
    if not head:
        raise MalformedError(explain(f"{bed} is empty", do="Copy or download it again"))
    name = bed.with_suffix("").name
    if head[:3] == _SAMPLE_MAJOR:
        raise MalformedError(
            explain(
                f"{bed} is stored person by person (sample-major)",
                expected="Variants must follow one another",
                do=f"Convert it: plink --bfile {name} --make-bed --out fixed",
            )
        )
    if head[:2] == _PGEN and len(head) > 2:
        raise MalformedError(
            explain(
                f"{bed} has storage mode {head[2]:02x}, as PLINK 2 writes in a .pgen",
                expected="A PLINK 1 .bed has mode 01",
                do=f"Convert it: plink2 --pfile {name} --make-bed --out fixed",
            )
        )
    meaning = what_it_is(head)
    if meaning:
        raise MalformedError(explain(f"{bed} is {meaning}"))
    raise MalformedError(
        explain(
            f"{bed} begins with the bytes {head[:3].hex(' ')}",
            expected="A PLINK 1 .bed begins with 6c 1b 01",
            do="Check that this is a .bed file made by PLINK 1.9 or later",
        )
    )


def check_padding(shape: BedShape, packed: np.ndarray) -> np.ndarray:
    """Which variants of a block have bits set after the last person; those bits are cleared."""
    spare = -shape.n_samples % 4
    if not spare:
        return np.zeros(len(packed), bool)
    outside = np.uint8((0xFF << (2 * (4 - spare))) & 0xFF)
    dirty = (packed[:, -1] & outside) != 0
    packed[:, -1] &= ~outside
    return np.asarray(dirty)


def padding_error(shape: BedShape, n_dirty: int, n_read: int) -> InconsistentError:
    """People seem to be missing at the end of the ``.fam``."""
    spare = -shape.n_samples % 4
    return InconsistentError(
        explain(
            f"{shape.fam.name} has {shape.n_samples:,} people, but {n_dirty:,} of "
            f"{n_read:,} variants of {shape.bed.name} hold data after the last of them",
            expected=f"Those bits are zero unless the file encodes up to {spare} people more",
            do="Find the .fam that was made with this .bed, or pass --allow-nonzero-padding "
            "(allow_nonzero_padding=True) if its writer left junk there",
        )
    )


def check_last_people(shape: BedShape, read: Callable[[int, int, int], bytes]) -> None:
    """Refuse a ``.fam`` whose last one to three people look like the padding of the last byte.

    Zero bits are two copies of the first allele. Whoever has them in all of up to 256 variants
    spread over the file, where nobody else looked at does and frequencies make that likelihood less
    than 1e-12, is not a person.

    Parameters
    ----------
    read : function of (row, first byte, number of bytes)
        Raw bytes of a variant.
    """
    n_inside = (shape.n_samples - 1) % 4 + 1
    if n_inside == 1 or shape.n_variants < _FEWEST:
        return
    rows = np.unique(np.linspace(0, shape.n_variants - 1, _N_LOOKED_AT).astype(int)).tolist()
    last = b"".join(read(row, shape.row_bytes - 1, 1) for row in rows)
    suspects = _zero_at_the_end(np.frombuffer(last, np.uint8), n_inside)
    if not suspects:
        return
    width = min(shape.row_bytes, _N_OTHERS // 4)
    others = np.frombuffer(b"".join(read(row, 0, width) for row in rows), np.uint8)
    zero = _is_zero(others.reshape(len(rows), width)).reshape(len(rows), -1)
    zero = zero[:, : min(4 * width, shape.n_samples - suspects)]
    share = (zero.sum(axis=1) + 0.5) / (zero.shape[1] + 1)
    if zero.all(axis=0).any() or -np.log10(share).sum() < _EVIDENCE:
        return
    raise InconsistentError(
        explain(
            f"{shape.fam.name} has {shape.n_samples:,} people, but the last {suspects} of them "
            f"have the same zero bits in all of {len(rows):,} variants of {shape.bed.name}, and "
            "nobody else has",
            expected="The end of a variant's last byte is zero where no person is stored",
            do="Find the .fam that was made with this .bed, or pass --allow-constant-sample "
            "(allow_constant_sample=True)",
        )
    )


def _is_zero(packed: np.ndarray) -> np.ndarray:
    """Whether each of the four people of each byte has the code 00."""
    codes = packed[..., None] >> np.array([0, 2, 4, 6], np.uint8) & 3
    return np.asarray(codes == 0)


def _zero_at_the_end(last_bytes: np.ndarray, n_inside: int) -> int:
    """How many of the last people have code 00 throughout; the first of a byte is a person."""
    always = _is_zero(last_bytes).all(axis=0)[:n_inside]
    n = 0
    while n < n_inside - 1 and always[n_inside - 1 - n]:
        n += 1
    return n

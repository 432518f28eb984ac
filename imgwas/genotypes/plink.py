"""PLINK 1 genotypes: ``.bed`` (variants one after another), ``.bim`` and ``.fam``."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import (
    InconsistentError,
    MalformedError,
    OpenError,
    ReadError,
    explain,
)
from imgwas.genotypes.alleles import alleles_to_swap, name_alleles, swap_homozygotes
from imgwas.genotypes.text import read_columns, what_it_is
from imgwas.genotypes.variant_table import samples_of, variants_of
from imgwas.shapes import Float32, UInt8
from imgwas.types import PackedGenotypes

logger = logging.getLogger(__name__)

_BIM = ("chromosome", "variant_id", "centimorgan", "base_pair_location", "allele_1", "allele_2")
_FAM = ("family_id", "sample_id", "father", "mother", "sex", "phenotype")
_MAGIC, _SAMPLE_MAJOR = b"\x6c\x1b\x01", b"\x6c\x1b\x00"


class PlinkGenotypes(PackedGenotypes):
    """A PLINK 1 fileset, read block by block.

    The effect allele is column 5 of the ``.bim`` (``effect_allele="a1"``), column 6 (``"a2"``), or
    the one a file names for each variant. Sent to another process, the object carries only its
    paths and opens them there.

    Parameters
    ----------
    bed, bim, fam : Path
        The three files.
    effect_allele : "a1", "a2" or Path
        Which allele is counted. A file holds a variant id and an allele on every line.
    allow_nonzero_padding : bool
        Accept set bits after the last person of a variant, which some writers leave there. They
        may also mean that the ``.fam`` has lost people.

    Raises
    ------
    MalformedError
        If a file violates its format.
    InconsistentError
        If the three files do not belong together.
    """

    def __init__(
        self,
        bed: Path,
        bim: Path,
        fam: Path,
        *,
        effect_allele: str | Path = "a1",
        allow_nonzero_padding: bool = False,
    ) -> None:
        self.bed, self.bim, self.fam = bed, bim, fam
        self._arguments = {
            "effect_allele": effect_allele,
            "allow_nonzero_padding": allow_nonzero_padding,
        }
        self._allow_padding = allow_nonzero_padding
        self._descriptor: int | None = None
        self._lock = threading.Lock()
        bim_table, bim_digest = read_columns(bim, _BIM)
        fam_table, fam_digest = read_columns(fam, _FAM)
        self.samples = samples_of(fam_table)
        variants = variants_of(bim_table, bim)
        self._swap = alleles_to_swap(variants, effect_allele)
        self.variants = name_alleles(variants, self._swap)
        self._row_bytes = -(-len(self.samples) // 4)
        self._digests = {"bim": bim_digest, "fam": fam_digest}
        self._stat = _stat(bed)
        _check_bed(bed, self._stat["size"], bim_table.num_rows, len(self.samples), bim, fam)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.bed, self.bim, self.fam, self._arguments)

    def __repr__(self) -> str:
        return f"PlinkGenotypes({self.n_variants:,} variants x {self.n_samples:,} samples)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlinkGenotypes) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash((self.bed, self._stat["size"], self._stat["mtime_ns"]))

    def read_packed(self, rows: np.ndarray) -> UInt8[np.ndarray, "variants bytes"]:
        """Read the two-bit codes of some variants, in increasing order of rows.

        Raises
        ------
        ReadError
            If the file gives fewer bytes than it had when it was opened.
        InconsistentError
            If bits are set after the last person of a variant.
        """
        packed = np.empty((len(rows), self._row_bytes), np.uint8)
        if len(rows):
            for start, stop in _runs(rows):
                self._read_run(int(rows[start]), packed[start:stop])
        self._check_padding(packed, rows)
        swap = self._swap[rows] if self._swap is not None else None
        if swap is not None and swap.any():
            packed[swap] = swap_homozygotes(packed[swap], self.n_samples)
        return packed

    def _read_run(self, first: int, into: np.ndarray) -> None:
        view = into.reshape(-1).data
        offset, done = 3 + first * self._row_bytes, 0
        while done < len(view):
            try:
                n = os.preadv(self._open(), [view[done:]], offset + done)
            except OSError as error:
                raise ReadError(
                    explain(f"reading {self.bed} at byte {offset + done:,} failed ({error})")
                ) from error
            if n == 0:
                raise ReadError(
                    explain(
                        f"{self.bed} ends at byte {offset + done:,}; it was cut short while in use"
                    )
                )
            done += n

    def _open(self) -> int:
        with self._lock:
            if self._descriptor is None:
                try:
                    self._descriptor = os.open(self.bed, os.O_RDONLY)
                except OSError as error:
                    raise OpenError(explain(f"{self.bed} cannot be opened ({error})")) from error
            return self._descriptor

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def _check_padding(self, packed: np.ndarray, rows: np.ndarray) -> None:
        spare = -self.n_samples % 4
        if not spare or not len(packed):
            return
        outside = np.uint8((0xFF << (2 * (4 - spare))) & 0xFF)
        dirty = (packed[:, -1] & outside) != 0
        packed[:, -1] &= ~outside
        if not dirty.any() or self._allow_padding:
            return
        raise InconsistentError(
            explain(
                f"{self.fam.name} has {self.n_samples:,} people, but {int(dirty.sum()):,} of "
                f"{len(rows):,} variants of {self.bed.name} hold data after the last of them",
                expected=f"Those bits are zero unless the file encodes up to {spare} people more",
                do="Find the .fam that was made with this .bed, or allow non-zero padding",
            )
        )

    def read_dosages(self, rows: np.ndarray) -> Float32[np.ndarray, "variants samples"]:
        """Copies of the effect allele; NaN is a missing call."""
        table = np.array([2, np.nan, 1, 0], np.float32)
        codes = np.arange(256, dtype=np.uint8)[:, None] >> np.array([0, 2, 4, 6], np.uint8)
        decoded = np.take(table[codes & 3], self.read_packed(rows), axis=0)
        return np.ascontiguousarray(
            decoded.reshape(len(rows), 4 * self._row_bytes)[:, : self.n_samples]
        )

    def fingerprint(self) -> dict[str, Any]:
        """Identity of the three files, and of the allele that is counted."""
        swapped = b"" if self._swap is None else np.packbits(self._swap).tobytes()
        return {
            "format": "bed",
            "bed": self.bed.name,
            "bed_size": self._stat["size"],
            "bed_mtime_ns": self._stat["mtime_ns"],
            "bim_sha256": self._digests["bim"],
            "fam_sha256": self._digests["fam"],
            "swapped_alleles": hashlib.sha256(swapped).hexdigest()[:16],
        }

    def check_unchanged(self) -> None:
        """Refuse to go on when the ``.bed`` is no longer the file that was opened."""
        now = _stat(self.bed)
        if now != self._stat:
            raise InconsistentError(
                explain(
                    f"{self.bed} changed while it was being read "
                    f"(size {self._stat['size']:,} -> {now['size']:,})",
                    do="Restore the file, then start anew with --overwrite",
                )
            )


def _reopen(bed: Path, bim: Path, fam: Path, arguments: dict[str, Any]) -> PlinkGenotypes:
    return PlinkGenotypes(bed, bim, fam, **arguments)


def open_plink(path: Path, **options: Any) -> PlinkGenotypes:
    """Open ``path``.bed, or a ``.bed`` file, with the ``.bim`` and ``.fam`` beside it."""
    prefix = path.with_suffix("") if path.suffix == ".bed" else path
    bim, fam = options.pop("bim", None), options.pop("fam", None)
    files = [
        Path(f"{prefix}.bed"),
        Path(bim) if bim else Path(f"{prefix}.bim"),
        Path(fam) if fam else Path(f"{prefix}.fam"),
    ]
    absent = [file for file in files if not file.exists()]
    if absent:
        raise OpenError(
            explain(
                f"{', '.join(map(str, absent))} not found",
                expected="A PLINK fileset is a .bed, a .bim and a .fam",
                where=f"tried {', '.join(map(str, files))}",
                do="Give the prefix of the three files",
            )
        )
    return PlinkGenotypes(*files, **options)


def _stat(path: Path) -> dict[str, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of consecutive rows, as positions (start, stop)."""
    edges = (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(rows)], strict=True))


def _check_bed(bed: Path, size: int, n_variants: int, n_samples: int, bim: Path, fam: Path) -> None:
    with bed.open("rb") as stream:
        head = stream.read(64)
    _check_magic(bed, head)
    row_bytes = -(-n_samples // 4)
    expected = 3 + n_variants * row_bytes
    if size == expected:
        return
    whole, extra = divmod(size - 3, row_bytes)
    if size == len(_MAGIC):
        raise MalformedError(
            explain(f"{bed} holds a header and no variant", do="Copy or download it again")
        )
    if extra == 0:
        raise InconsistentError(
            explain(
                f"{bim} has {n_variants:,} variants, but {bed} holds {whole:,} for the "
                f"{n_samples:,} people of {fam.name}",
                do="Use the .bim and .fam that were made with this .bed",
            )
        )
    what = "is cut short" if size < expected else f"is {size - expected:,} bytes too long"
    raise MalformedError(
        explain(
            f"{bed} {what}: it has {size:,} bytes",
            expected=f"{n_variants:,} variants of {n_samples:,} people take {expected:,}",
            where=f"the last complete variant is number {min(whole, n_variants):,}"
            if size < expected
            else f"{fam.name} may belong to another .bed",
            do="Copy or download it again and compare checksums",
        )
    )


def _check_magic(bed: Path, head: bytes) -> None:
    if head[:3] == _MAGIC:
        return
    if not head:
        raise MalformedError(explain(f"{bed} is empty", do="Copy or download it again"))
    if head[:3] == _SAMPLE_MAJOR:
        raise MalformedError(
            explain(
                f"{bed} is stored person by person (sample-major)",
                expected="Variants must follow one another",
                do=f"Convert it: plink --bfile {bed.with_suffix('').name} --make-bed --out fixed",
            )
        )
    meaning = what_it_is(head)
    if meaning:
        raise MalformedError(explain(f"{bed} is {meaning}"))
    shown = head[:3].hex(" ")
    raise MalformedError(
        explain(
            f"{bed} begins with the bytes {shown}",
            expected="A PLINK 1 .bed begins with 6c 1b 01",
            do="Check that this is a .bed file made by PLINK 1.9 or later",
        )
    )

"""PLINK 1 genotypes: ``.bed`` (variants one after another), ``.bim`` and ``.fam``."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imgwas.errors import InconsistentError, OpenError, ReadError, explain
from imgwas.files import absolute
from imgwas.genotypes.alleles import alleles_to_swap, name_alleles, swap_homozygotes
from imgwas.genotypes.bed_checks import (
    BedShape,
    check_last_people,
    check_padding,
    check_size,
    file_stat,
    padding_error,
)
from imgwas.genotypes.opened import OpenedFile
from imgwas.genotypes.text import read_columns
from imgwas.genotypes.variant_table import samples_of, variant_batch, variants_of
from imgwas.shapes import Float32, UInt8
from imgwas.types import PackedGenotypes

logger = logging.getLogger(__name__)

#: Columns of the two tables.
BIM_COLUMNS = (
    "chromosome", "variant_id", "centimorgan", "base_pair_location", "allele_1", "allele_2",
)  # fmt: skip
FAM_COLUMNS = ("family_id", "sample_id", "father", "mother", "sex", "phenotype")
_HEADER = 3


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
    allow_constant_sample : bool
        Accept last people who have two copies of the first allele in every variant looked at. They
        may be padding, counted by a ``.fam`` with too many lines.

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
        allow_constant_sample: bool = False,
    ) -> None:
        self.bed, self.bim, self.fam = bed, bim, fam
        self._arguments = {
            "effect_allele": effect_allele,
            "allow_nonzero_padding": allow_nonzero_padding,
        }
        self._allow_padding = allow_nonzero_padding
        self._opened = OpenedFile(bed)
        bim_table, bim_digest = read_columns(bim, BIM_COLUMNS, variant_batch)
        fam_table, fam_digest = read_columns(fam, FAM_COLUMNS)
        self.samples = samples_of(fam_table)
        variants = variants_of(bim_table, bim)
        self._swap = alleles_to_swap(variants, effect_allele)
        self.variants = name_alleles(variants, self._swap)
        del bim_table, fam_table, variants
        pa.default_memory_pool().release_unused()  # a long table leaves as much again behind
        self._digests = {"bim": bim_digest, "fam": fam_digest}
        self._shape = BedShape(bed, bim, fam, self.variants.num_rows, len(self.samples))
        self._row_bytes = self._shape.row_bytes
        self._stat = file_stat(bed)
        check_size(self._shape, self._stat["size"])
        if not allow_constant_sample:
            check_last_people(self._shape, self._read_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        same = {**self._digests, "size": self._stat["size"]}
        return _reopen, absolute((self.bed, self.bim, self.fam, self._arguments, same))

    def __repr__(self) -> str:
        return f"PlinkGenotypes({self.n_variants:,} variants x {self.n_samples:,} samples)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlinkGenotypes) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash((self.bed.name, self._stat["size"], self._stat["mtime_ns"]))

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
        dirty = check_padding(self._shape, packed)
        if dirty.any() and not self._allow_padding:
            raise padding_error(self._shape, int(dirty.sum()), len(rows))
        swap = self._swap[rows] if self._swap is not None else None
        if swap is not None and swap.any():
            packed[swap] = swap_homozygotes(packed[swap], self.n_samples)
        return packed

    def _read_run(self, first: int, into: np.ndarray) -> None:
        self._read_into(into.reshape(-1).data, _HEADER + first * self._row_bytes)

    def _read_bytes(self, row: int, first: int, n_bytes: int) -> bytes:
        """Raw bytes of one variant."""
        content = bytearray(n_bytes)
        self._read_into(memoryview(content), _HEADER + row * self._row_bytes + first)
        return bytes(content)

    def _read_into(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            at = offset + done
            try:
                n = os.preadv(self._opened.descriptor(), [view[done:]], at)
            except OSError as error:
                raise ReadError(
                    explain(f"reading {self.bed} at byte {at:,} failed ({error.strerror})")
                ) from error
            if n == 0:
                raise ReadError(
                    explain(f"{self.bed} ends at byte {at:,}; it was cut short while in use")
                )
            done += n

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
        now = file_stat(self.bed)
        if now != self._stat:
            raise InconsistentError(
                explain(
                    f"{self.bed} changed while it was being read "
                    f"(size {self._stat['size']:,} -> {now['size']:,})",
                    do="Restore the file, then start anew with --overwrite",
                )
            )


def _reopen(
    bed: Path, bim: Path, fam: Path, arguments: dict[str, Any], same: dict[str, Any]
) -> PlinkGenotypes:
    """Open the files in another process; they must be those that were opened in the first."""
    opened = PlinkGenotypes(bed, bim, fam, allow_constant_sample=True, **arguments)
    now = {**opened._digests, "size": opened._stat["size"]}
    changed = [name for name in now if now[name] != same[name]]
    if changed:
        names = {"bim": bim, "fam": fam, "size": bed}
        raise InconsistentError(
            explain(
                f"{', '.join(str(names[name]) for name in changed)} changed between two processes "
                "of one run",
                do="Restore the files, or start anew with --overwrite",
            )
        )
    return opened


def open_plink(path: Path, **options: Any) -> PlinkGenotypes:
    """Open ``path``.bed, or a ``.bed`` file, with the ``.bim`` and ``.fam`` beside it."""
    prefix = path.with_suffix("") if path.suffix == ".bed" else path
    bim, fam = options.pop("bim", None), options.pop("fam", None)
    files = [
        Path(f"{prefix}.bed"),
        Path(bim) if bim else Path(f"{prefix}.bim"),
        Path(fam) if fam else Path(f"{prefix}.fam"),
    ]
    absent = [file for file in files if not _exists(file)]
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


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of consecutive rows, as positions (start, stop)."""
    edges = (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(rows)], strict=True))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error

"""PLINK 2 filesets: ``.pgen`` decoded by PLINK 2's own library, ``.pvar`` and ``.psam``."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_strings
from imgwas.errors import (
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    OpenError,
    ReadError,
    UsageError,
    explain,
)
from imgwas.files import absolute
from imgwas.genotypes.alleles import alleles_to_swap, name_alleles, swap_homozygotes
from imgwas.genotypes.bed_checks import file_stat
from imgwas.genotypes.multiallelic import chosen_rows
from imgwas.genotypes.pgen_header import read_pgen_header
from imgwas.genotypes.pgen_tables import read_psam, read_pvar
from imgwas.genotypes.text import is_there
from imgwas.genotypes.variant_table import some_variants
from imgwas.scratch import table_aside
from imgwas.shapes import Float32, UInt8
from imgwas.types import (
    MISSING_DOSAGE,
    VARIANT_SCHEMA,
    DosageCodes,
    DosageGenotypes,
    Genotypes,
    PackedGenotypes,
)

#: PLINK 2's dosages are whole numbers of this for one copy.
PER_COPY = 16384
#: Dosages that are turned into codes at once, so that they stay in the cache.
_CACHED = 1 << 16
#: Two-bit code of 0, 1 and 2 copies and, as a byte, of PLINK 2's missing value -9.
_CODES = np.full(256, 255, np.uint8)
_CODES[[0, 1, 2, 247]] = 3, 2, 0, 1


class PgenFiles:
    """The three files of a PLINK 2 fileset, and readers of the first for any number of threads.

    Parameters
    ----------
    pgen, pvar, psam : Path
        The files.
    effect_allele : "a1", "a2" or Path
        ``"a1"`` is ALT, as in a ``.bed`` that PLINK 2 makes of the file; ``"a2"`` is REF.
    multiallelic : {"refuse", "skip", "split"}
        What to do about variants of three or more alleles. ``split`` gives a row to each ALT
        allele, tested against all others.

    Raises
    ------
    MalformedError
        If a file violates its format.
    InconsistentError
        If the three do not belong together.
    """

    def __init__(
        self, pgen: Path, pvar: Path, psam: Path, effect_allele: str | Path, multiallelic: str
    ) -> None:
        self.paths = pgen, pvar, psam
        self.arguments = effect_allele, multiallelic
        self.stat = file_stat(pgen)
        self.header = read_pgen_header(pgen)
        table, n_alleles, pvar_digest = read_pvar(pvar)
        self.samples, psam_digest = read_psam(psam)
        self.digests = {"pvar": pvar_digest, "psam": psam_digest}
        self._check_counts(len(n_alleles))
        self._check_alleles(n_alleles)
        # a variant without an ALT allele is read as one whose ALT nobody has
        wanted = np.maximum(n_alleles, 2)
        self.rows = chosen_rows(pgen, wanted, multiallelic, can_split=True)
        self.allele, self._offsets = np.ones(len(self.rows), np.uint8), None
        if (wanted > 2).any():
            self.allele = _allele_numbers(self.rows)
            self._offsets = np.concatenate([[0], np.cumsum(wanted)]).astype(np.uintp)
        if self._offsets is not None or len(self.rows) < len(n_alleles):
            table = table_aside(_chosen(table, self.rows, self.allele), VARIANT_SCHEMA)
        self.swap = alleles_to_swap(table, effect_allele)
        self.variants = name_alleles(table, self.swap)
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        with self.reader():
            pass

    def _check_counts(self, n_variants: int) -> None:
        pgen, pvar, psam = self.paths
        for what, table, listed, held in (
            ("variants", pvar, n_variants, self.header.n_variants),
            ("people", psam, len(self.samples), self.header.n_samples),
        ):
            if listed != held:
                raise InconsistentError(
                    explain(
                        f"{table} has {listed:,} {what}, {pgen.name} holds {held:,}",
                        do=f"Use the {table.name} that was made with this .pgen",
                    )
                )

    def _check_alleles(self, n_alleles: np.ndarray) -> None:
        wrong = self.header.multiallelic & (n_alleles < 3)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InconsistentError(
                explain(
                    f"{self.paths[0]} holds calls of a third allele for {int(wrong.sum()):,} "
                    f"variants that have two in {self.paths[1].name}",
                    where=f"first: variant {row + 1:,}",
                    do="Use the .pvar that was made with this .pgen",
                )
            )

    @contextmanager
    def reader(self) -> Iterator[Any]:
        """Lend a reader that no other thread has."""
        with self._lock:
            reader = self._idle.pop() if self._idle else None
        reader = reader or self._new_reader()
        try:
            yield reader
        finally:
            with self._lock:
                self._idle.append(reader)

    def _new_reader(self) -> Any:
        try:
            from pgenlib import PgenReader
        except ImportError as error:
            raise MissingLibraryError(
                explain(
                    "reading a .pgen needs the library Pgenlib, which is not installed",
                    do="pip install 'imgwas[pgen]'; or plink2 --pfile P --make-bed for hard calls",
                )
            ) from error
        try:
            return PgenReader(
                bytes(self.paths[0]),
                raw_sample_ct=self.header.n_samples,
                variant_ct=self.header.n_variants,
                allele_idx_offsets=self._offsets,
            )
        except (RuntimeError, MemoryError, AssertionError) as error:
            raise self.damaged(str(error)) from error

    def read(self, rows: np.ndarray, method: str, out: np.ndarray) -> None:
        """Fill rows of ``out`` by ``read_list`` or ``read_dosages_list`` of the library."""
        records, alleles = self.rows[rows].astype(np.uint32), self.allele[rows]
        with self.reader() as reader:
            try:
                for allele in np.unique(alleles).tolist():
                    which = np.flatnonzero(alleles == allele)
                    some = out if len(which) == len(rows) else np.empty_like(out[: len(which)])
                    getattr(reader, method)(records[which], some, allele_idx=allele)
                    if some is not out:
                        out[which] = some
            except RuntimeError as error:
                first, last = int(records[0]) + 1, int(records[-1]) + 1
                raise self.damaged(f"{error}, in variants {first:,} to {last:,}") from error

    def digest(self, rows: np.ndarray) -> bytes:
        """SHA-256 of the records of some rows, as they are in the file."""
        records, sha = np.unique(self.rows[rows]), hashlib.sha256()
        edges = [0, *(np.flatnonzero(np.diff(records) != 1) + 1).tolist(), len(records)]
        try:
            with self.paths[0].open("rb", buffering=0) as stream:
                for first, stop in pairwise(edges if len(records) else []):
                    start, end = self.header.places[[records[first], records[stop - 1] + 1]]
                    stream.seek(int(start))
                    sha.update(stream.read(int(end - start)) or b"")
        except OSError as error:
            raise ReadError(
                explain(f"reading {self.paths[0]} failed ({error.strerror})")
            ) from error
        return sha.digest()

    def damaged(self, what: str) -> MalformedError:
        """Say that the library refused the file."""
        return MalformedError(
            explain(
                f"{self.paths[0]} is damaged: {what.strip()}",
                do="Copy or download it again and compare checksums (plink2 --validate)",
            )
        )

    def fingerprint(self) -> dict[str, Any]:
        """Identity of the three files, and of the alleles that are counted."""
        swapped = b"" if self.swap is None else np.packbits(self.swap).tobytes()
        return {
            "format": "pgen",
            "pgen": self.paths[0].name,
            "pgen_size": self.stat["size"],
            "pgen_mtime_ns": self.stat["mtime_ns"],
            "pvar_sha256": self.digests["pvar"],
            "psam_sha256": self.digests["psam"],
            "multiallelic": str(self.arguments[1]),
            "swapped_alleles": hashlib.sha256(swapped).hexdigest()[:16],
        }

    def check_unchanged(self) -> None:
        """Refuse to go on when the ``.pgen`` is no longer the file that was opened."""
        now = file_stat(self.paths[0])
        if now != self.stat:
            raise InconsistentError(
                explain(
                    f"{self.paths[0]} changed while it was being read "
                    f"(size {self.stat['size']:,} -> {now['size']:,})",
                    do="Restore the file, then start anew with --overwrite",
                )
            )


def _allele_numbers(rows: np.ndarray) -> np.ndarray:
    """1 for the first ALT allele of a variant, 2 for the second, where rows repeat."""
    first = np.concatenate([[True], np.diff(rows) != 0])
    starts = np.flatnonzero(first)
    before = np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return (np.arange(len(rows)) - before + 1).astype(np.uint8)


def _chosen(table: pa.Table, rows: np.ndarray, allele: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Rows of a variant table, each with one of its ALT alleles."""
    for which, batch in some_variants(table, rows):
        *others, alt, ref = batch.columns
        if pc.any(pc.match_substring(alt, ",")).as_py():
            numbers = zip(alt.to_pylist(), allele[which].tolist(), strict=True)
            alt = from_strings([text.split(",")[number - 1] for text, number in numbers])
        yield pa.RecordBatch.from_arrays([*others, alt, ref], schema=VARIANT_SCHEMA)


class _Fileset(Genotypes):
    """What both kinds of ``.pgen`` share."""

    def __init__(self, files: PgenFiles) -> None:
        self.files = files
        self.samples, self.variants = files.samples, files.variants

    def __reduce__(self) -> tuple[Any, ...]:
        same = {**self.files.digests, "size": self.files.stat["size"]}
        return _reopen, absolute((type(self), *self.files.paths, *self.files.arguments, same))

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.n_variants:,} variants x {self.n_samples:,} samples)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fileset) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        stat = self.files.stat
        return hash((self.files.paths[0].name, stat["size"], stat["mtime_ns"]))

    def fingerprint(self) -> dict[str, Any]:
        """Identity of the three files, and of the alleles that are counted."""
        return self.files.fingerprint()

    def check_unchanged(self) -> None:
        """Refuse to go on when the ``.pgen`` is no longer the file that was opened."""
        self.files.check_unchanged()

    def _swapped(self, rows: np.ndarray) -> np.ndarray | None:
        swap = self.files.swap
        return None if swap is None or not swap[rows].any() else swap[rows]


class PgenCalls(_Fileset, PackedGenotypes):
    """A PLINK 2 fileset of hard calls, as two-bit codes."""

    def read_packed(self, rows: np.ndarray) -> UInt8[np.ndarray, "variants bytes"]:
        """Two-bit codes of some variants, in increasing order of rows."""
        calls = np.empty((len(rows), self.n_samples), np.int8)
        if len(rows):
            self.files.read(rows, "read_list", calls)
        packed = pack_codes(_CODES[calls.view(np.uint8)])
        swap = self._swapped(rows)
        if swap is not None:
            packed[swap] = swap_homozygotes(packed[swap], self.n_samples)
        return packed

    def read_dosages(self, rows: np.ndarray) -> Float32[np.ndarray, "variants samples"]:
        """Copies of the effect allele; NaN is a missing call."""
        table = np.array([2, np.nan, 1, 0], np.float32)
        shifts = np.array([0, 2, 4, 6], np.uint8)
        codes = (self.read_packed(rows)[:, :, None] >> shifts) & 3
        flat = codes.reshape(len(rows), codes.shape[1] * 4)
        return np.asarray(table[flat[:, : self.n_samples]])


class PgenDosages(_Fileset, DosageGenotypes):
    """A PLINK 2 fileset with dosages: whole numbers of 1/16384; calls without one are exact."""

    per_copy = PER_COPY

    def read_codes(self, rows: np.ndarray) -> DosageCodes:
        """Dosages of some variants, in increasing order of rows."""
        codes = np.empty((len(rows), self.n_samples), np.uint16)
        step = max(1, _CACHED // self.n_samples)
        values = np.empty((min(step, len(rows)), self.n_samples), np.float32)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            self._fill(some, values[: len(some)], codes[start : start + step])
        return DosageCodes(codes, self.files.digest(rows))

    def _fill(self, rows: np.ndarray, values: np.ndarray, codes: np.ndarray) -> None:
        """Read a few variants while they stay in the cache; the products are whole numbers."""
        self.files.read(rows, "read_dosages_list", values)
        missing = values < 0 if float(values.min(initial=0)) < 0 else None
        if missing is not None:
            values[missing] = 0
        np.multiply(values, np.float32(PER_COPY), out=values)
        np.copyto(codes, values, casting="unsafe")
        swap = self._swapped(rows)
        if swap is not None:
            codes[swap] = 2 * PER_COPY - codes[swap]
        if missing is not None:
            codes[missing] = MISSING_DOSAGE


def pack_codes(codes: UInt8[np.ndarray, "variants samples"]) -> UInt8[np.ndarray, "variants bytes"]:
    """Two-bit codes, one a byte, to four a byte; padding is zero."""
    spare = -codes.shape[1] % 4
    if spare:
        codes = np.pad(codes, ((0, 0), (0, spare)))
    quads = np.ascontiguousarray(codes).view("<u4")
    together = quads | quads >> np.uint32(6) | quads >> np.uint32(12) | quads >> np.uint32(18)
    return np.asarray(together.astype(np.uint8))


def _reopen(
    kind: type[_Fileset],
    pgen: Path,
    pvar: Path,
    psam: Path,
    effect_allele: str | Path,
    multiallelic: str,
    same: dict[str, Any],
) -> _Fileset:
    """Open the files in another process; they must be those that were opened in the first."""
    files = PgenFiles(pgen, pvar, psam, effect_allele, multiallelic)
    if {**files.digests, "size": files.stat["size"]} != same:
        raise InconsistentError(
            explain(
                f"{pgen} or its tables changed between two processes of one run",
                do="Restore the files, or start anew with --overwrite",
            )
        )
    return kind(files)


def open_pgen(path: Path, **options: Any) -> PgenCalls | PgenDosages:
    """Open ``path``.pgen, or a ``.pgen`` file, its ``.pvar`` (or ``.pvar.zst``) and ``.psam``."""
    prefix = path.with_suffix("") if path.suffix == ".pgen" else path
    pgen, psam = Path(f"{prefix}.pgen"), Path(options.pop("psam", None) or f"{prefix}.psam")
    plain, packed = Path(f"{prefix}.pvar"), Path(f"{prefix}.pvar.zst")
    pvar = Path(options.pop("pvar", None) or (plain if is_there(plain) else packed))
    absent = [str(file) for file in (pgen, pvar, psam) if not is_there(file)]
    if absent:
        raise OpenError(
            explain(
                f"{', '.join(absent)} not found",
                expected="A PLINK 2 fileset is a .pgen, a .pvar (or .pvar.zst) and a .psam",
                where=f"tried {pgen}, {plain}, {packed}, {psam}",
                do="Give the prefix of the three files",
            )
        )
    effect_allele = options.pop("effect_allele", "a1")
    multiallelic = options.pop("multiallelic", "refuse")
    if options:
        raise UsageError(f"a .pgen takes no {', '.join(options)}.")
    files = PgenFiles(pgen, pvar, psam, effect_allele, multiallelic)
    return PgenDosages(files) if files.header.has_dosages else PgenCalls(files)

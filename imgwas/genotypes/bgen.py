"""BGEN 1.2 and 1.3: genotype probabilities, read as exact whole-number dosages."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imgwas.arrow import to_numpy
from imgwas.errors import (
    DecompressError,
    InconsistentError,
    MalformedError,
    OpenError,
    ReadError,
    explain,
)
from imgwas.files import absolute
from imgwas.genotypes.alleles import alleles_to_swap, name_alleles
from imgwas.genotypes.bed_checks import file_stat
from imgwas.genotypes.bgen_bgi import read_bgi
from imgwas.genotypes.bgen_decode import (
    EIGHT_BITS,
    OTHER_BITS,
    Block,
    Damaged,
    Unsupported,
    decode_general,
    decode_simple,
    open_block,
    uncompress,
)
from imgwas.genotypes.bgen_index import (
    read_at,
    read_header,
    scan_index,
    skip_head,
)
from imgwas.genotypes.bgen_samples import bgen_samples
from imgwas.genotypes.multiallelic import chosen_rows
from imgwas.genotypes.opened import OpenedFile
from imgwas.genotypes.text import is_there
from imgwas.genotypes.variant_table import some_variants, stretches
from imgwas.scratch import array_aside, release, table_aside
from imgwas.types import MISSING_DOSAGE, DosageCodes, DosageGenotypes

logger = logging.getLogger(__name__)

#: Bytes of probabilities that are decoded at once, so that they stay in the cache.
_CACHED = 1 << 17
#: Bytes that are read at once.
_READ = 1 << 24
#: More people than this share with probabilities above one, and the file is refused.
_TOO_MANY_WRONG = 1e-3


class BgenGenotypes(DosageGenotypes):
    """A BGEN file, read block by block by any number of threads.

    The effect allele is the second of a variant (``effect_allele="a1"``: the alternate allele where
    the file is reference-first, as almost all are, and what ``plink2 --bgen F ref-first
    --make-bed`` writes to column 5), the first (``"a2"``), or the one a file names.

    Parameters
    ----------
    bgen : Path
        The file. A fresh ``.bgi`` beside it is used; without one its variants are scanned once.
    sample : Path, optional
        The ``.sample`` file; without it the ids inside the ``.bgen`` are used.
    effect_allele : "a1", "a2" or Path
        Which allele is counted.
    multiallelic : {"refuse", "skip"}
        What to do about variants of three or more alleles.

    Raises
    ------
    MalformedError, InconsistentError, DecompressError
        If a file violates its format, does not belong to the other, or does not unpack.
    """

    def __init__(
        self,
        bgen: Path,
        sample: Path | None = None,
        *,
        effect_allele: str | Path = "a1",
        multiallelic: str = "refuse",
    ) -> None:
        self.bgen, self.sample = bgen, sample
        self._arguments = {"effect_allele": effect_allele, "multiallelic": multiallelic}
        self._opened = OpenedFile(bgen)
        self._stat = file_stat(bgen)
        descriptor = self._opened.descriptor()
        self._header = read_header(descriptor, bgen, self._stat["size"])
        self.samples, self._sample_digest = bgen_samples(self._header, sample)
        index = read_bgi(descriptor, self._header) or scan_index(descriptor, self._header)
        chosen = chosen_rows(bgen, index.n_alleles, multiallelic)
        self._edges, self._records = index.edges, chosen
        variants = index.table
        if len(chosen) < variants.num_rows:
            variants = table_aside(batch for _, batch in some_variants(variants, chosen))
        positions = (to_numpy(some) for _, some in stretches(variants, "base_pair_location"))
        self._position = array_aside(positions, np.int64)
        self._swap = alleles_to_swap(variants, effect_allele)
        self.variants = name_alleles(variants, self._swap)
        self._tables_digest = _digest(self.variants)
        block = self._block(0, self._contents(np.array([0]))[0])
        self.per_copy = EIGHT_BITS if block.bits == 8 else OTHER_BITS

    def __reduce__(self) -> tuple[Any, ...]:
        same = {"size": self._stat["size"], "tables": self._tables_digest}
        return _reopen, absolute((self.bgen, self.sample, self._arguments, same))

    def __repr__(self) -> str:
        return f"BgenGenotypes({self.n_variants:,} variants x {self.n_samples:,} samples)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BgenGenotypes) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash((self.bgen.name, self._stat["size"], self._stat["mtime_ns"]))

    def read_codes(self, rows: np.ndarray) -> DosageCodes:
        """Dosages and probabilities of two copies, in increasing order of rows.

        Raises
        ------
        DecompressError
            If a variant does not unpack; it is named with its byte.
        MalformedError
            If a variant is of a kind that is not read, or too many probabilities are above one.
        InconsistentError
            If another variant than the index says is at its place.
        """
        n = self.n_samples
        dosage = np.empty((len(rows), n), np.uint16)
        twice = np.empty((len(rows), n), np.uint8 if self.per_copy == EIGHT_BITS else np.uint16)
        sha = hashlib.sha256()
        step = max(1, min(_CACHED // (2 * n), len(rows)))
        raw, scratch = np.zeros((step, 2 * n), np.uint8), np.empty((2, step, n), np.uint16)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            contents = self._contents(some)
            for content in contents:
                sha.update(content)
            stop = start + len(some)
            buffers = raw[: len(some)], scratch[:, : len(some)]
            self._decode(some, contents, dosage[start:stop], twice[start:stop], *buffers)
        return DosageCodes(dosage, sha.digest(), twice)

    def _contents(self, rows: np.ndarray) -> list[memoryview]:
        """Bytes of some variants; neighbours are read together."""
        records = self._records[rows]
        starts, stops = self._edges[records], self._edges[records + 1]
        found: list[memoryview] = []
        at = 0
        while at < len(rows):
            end = at + 1
            while end < len(rows) and starts[end] == stops[end - 1]:
                if stops[end] - starts[at] > _READ:
                    break
                end += 1
            first, last = int(starts[at]), int(stops[end - 1])
            content = read_at(self._opened.descriptor(), self.bgen, first, last - first)
            if len(content) < last - first:
                raise ReadError(explain(f"{self.bgen} was cut short while in use"))
            view = memoryview(content)
            found += [view[int(starts[i]) - first : int(stops[i]) - first] for i in range(at, end)]
            at = end
        return found

    def _place(self, row: int) -> int:
        return int(self._edges[self._records[row]])

    def _block(self, row: int, content: memoryview) -> Block:
        """Unpack the genotypes of a variant, and check that it is the one of the index."""
        head = skip_head(content)
        if head is None:
            raise self._damaged(row, Damaged("its names are cut short"))
        position, data = head
        if position != self._position[row]:
            raise InconsistentError(
                explain(
                    f"{self.bgen} has position {position:,} at byte {self._place(row):,}, "
                    f"and the index says {self._position[row]:,}",
                    do="Remove the .bgi, and the file is scanned",
                )
            )
        try:
            length = int.from_bytes(content[data : data + 4], "little")
            if data + 4 + length != len(content):
                raise Damaged("its length is not that of the index")
            plain = uncompress(content[data + 4 :], self._header.compression, self.n_samples)
            return open_block(plain, self.n_samples)
        except Damaged as error:
            raise self._damaged(row, error) from error
        except Unsupported as error:
            raise self._unsupported(row, error) from error

    def _decode(
        self,
        rows: np.ndarray,
        contents: list[memoryview],
        dosage: np.ndarray,
        twice: np.ndarray,
        raw: np.ndarray,
        scratch: np.ndarray,
    ) -> None:
        n = self.n_samples
        special: list[tuple[int, Block]] = []
        gaps: list[tuple[int, np.ndarray]] = []
        for i, content in enumerate(contents):
            block = self._block(int(rows[i]), content)
            missing = block.missing_if_simple() if self.per_copy == EIGHT_BITS else None
            if missing is None:
                special.append((i, block))
                raw[i] = 0
                continue
            raw[i] = np.frombuffer(block.values, np.uint8)
            if len(missing):
                gaps.append((i, missing))
                raw[i].reshape(n, 2)[missing] = 0
        first = self._swap[rows] if self._swap is not None else np.zeros(len(rows), bool)
        n_wrong = np.zeros(len(rows), np.int64)
        for wanted in np.unique(first).tolist():
            some = np.flatnonzero(first == wanted)
            which = slice(None) if len(some) == len(rows) else some
            codes, two = dosage[which], twice[which]
            some_scratch = scratch[:, : len(some)]
            n_wrong[which] = decode_simple(raw[which], codes, two, some_scratch, first=wanted)
            dosage[which], twice[which] = codes, two
        for i, missing in gaps:
            dosage[i, missing], twice[i, missing] = MISSING_DOSAGE, 0
        for i, block in special:
            n_wrong[i] = self._decode_special(
                int(rows[i]), block, dosage[i], twice[i], bool(first[i])
            )
        self._check_wrong(rows, n_wrong)

    def _decode_special(
        self, row: int, block: Block, dosage: np.ndarray, twice: np.ndarray, first: bool
    ) -> int:
        if block.bits != 8 and self.per_copy == EIGHT_BITS:
            kind = f"{block.bits} bits a probability, where the first variant has 8"
            raise self._unsupported(row, Unsupported(kind))
        try:
            return decode_general(block, dosage, twice, first=first, per_copy=self.per_copy)
        except Damaged as error:
            raise self._damaged(row, error) from error
        except Unsupported as error:
            raise self._unsupported(row, error) from error

    def _check_wrong(self, rows: np.ndarray, n_wrong: np.ndarray) -> None:
        """Refuse many probabilities that sum to more than one; tell of a few."""
        if not n_wrong.any():
            return
        worst = int(n_wrong.argmax())
        if n_wrong.max() > max(1, _TOO_MANY_WRONG * self.n_samples):
            row = int(rows[worst])
            raise MalformedError(
                explain(
                    f"variant {row + 1:,} of {self.bgen}, at byte {self._place(row):,}, has "
                    f"probabilities that sum to more than one for {n_wrong[worst]:,} people",
                    expected=f"More than {_TOO_MANY_WRONG:.1%} of people is no rounding",
                    do="Copy or make the file again",
                )
            )
        logger.warning(
            "%d people of %d variants have probabilities above one: taken as missing",
            int(n_wrong.sum()),
            int((n_wrong > 0).sum()),
        )

    def _damaged(self, row: int, error: Damaged) -> DecompressError:
        return DecompressError(
            explain(
                f"variant {row + 1:,} of {self.bgen}, at byte {self._place(row):,}, is damaged: "
                f"{error}",
                do="Copy or download the file again and compare checksums",
            )
        )

    def _unsupported(self, row: int, error: Unsupported) -> MalformedError:
        return MalformedError(
            explain(
                f"variant {row + 1:,} of {self.bgen} has {error}, which is not read",
                expected="Two alleles, one or two chromosomes a person",
                do=f"Convert it: plink2 --bgen {self.bgen.name} ref-first --sample FILE "
                "--make-pgen --out converted, and use --pfile converted",
            )
        )

    def fingerprint(self) -> dict[str, Any]:
        """Identity of the files, and of the alleles that are counted."""
        return {
            "format": "bgen",
            "bgen": self.bgen.name,
            "bgen_size": self._stat["size"],
            "bgen_mtime_ns": self._stat["mtime_ns"],
            "variants_sha256": self._tables_digest,
            "sample_sha256": self._sample_digest,
        }

    def check_unchanged(self) -> None:
        """Refuse to go on when the file is no longer the one that was opened."""
        now = file_stat(self.bgen)
        if now != self._stat:
            raise InconsistentError(
                explain(
                    f"{self.bgen} changed while it was being read "
                    f"(size {self._stat['size']:,} -> {now['size']:,})",
                    do="Restore the file, then start anew with --overwrite",
                )
            )


def _digest(variants: pa.Table) -> str:
    """SHA-256 of every name of every variant."""
    sha = hashlib.sha256()
    for start in range(0, variants.num_rows, 65_536):  # however the table is cut
        for column in variants.slice(start, 65_536).columns:
            sha.update("\0".join(map(str, column.to_pylist())).encode("utf-8", "surrogateescape"))
        release()
    return sha.hexdigest()


def _reopen(
    bgen: Path, sample: Path | None, arguments: dict[str, Any], same: dict[str, Any]
) -> BgenGenotypes:
    """Open the files in another process; they must be those that were opened in the first."""
    opened = BgenGenotypes(bgen, sample, **arguments)
    if {"size": opened._stat["size"], "tables": opened._tables_digest} != same:
        raise InconsistentError(
            explain(
                f"{bgen} changed between two processes of one run",
                do="Restore the file, or start anew with --overwrite",
            )
        )
    return opened


def open_bgen(path: Path, **options: Any) -> BgenGenotypes:
    """Open a ``.bgen`` file with the ``.sample`` named, or the one beside it."""
    sample = options.pop("sample", None)
    if not is_there(path):
        raise OpenError(explain(f"{path} not found", do="Check the path"))
    beside = path.with_suffix(".sample")
    if sample is None and beside.exists():
        sample = beside
        logger.info("samples   from %s, beside the .bgen", beside.name)
    return BgenGenotypes(path, None if sample is None else Path(sample), **options)

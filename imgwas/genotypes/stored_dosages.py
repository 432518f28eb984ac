"""Dosages that imgwas has unpacked once from a format that can only be read from end to end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from imgwas.errors import DecompressError, InconsistentError, MalformedError, explain
from imgwas.files import absolute
from imgwas.genotypes.alleles import alleles_to_swap, name_alleles
from imgwas.genotypes.bed_checks import file_stat
from imgwas.genotypes.bgen_index import read_at
from imgwas.genotypes.opened import OpenedFile
from imgwas.genotypes.pgen import PER_COPY
from imgwas.genotypes.text import read_columns
from imgwas.genotypes.variant_table import samples_of, variant_batch, variants_of
from imgwas.types import MISSING_DOSAGE, DosageCodes, DosageGenotypes

_BIM = ("chromosome", "variant_id", "centimorgan", "base_pair_location", "allele_1", "allele_2")
_FAM = ("family_id", "sample_id", "father", "mother", "sex", "phenotype")


class DosageWriter:
    """Writes ``PREFIX.dosage`` and the places of its variants, ``PREFIX.places.npy``."""

    def __init__(self, prefix: Path) -> None:
        self._prefix, self._places = prefix, [0]
        self._stream = Path(f"{prefix}.dosage").open("wb")  # noqa: SIM115 - closed on exit
        self._codec = pa.Codec("zstd", compression_level=1)

    def add(self, codes: np.ndarray) -> None:
        """Write the codes of one variant, packed."""
        content = self._codec.compress(np.ascontiguousarray(codes, "<u2").tobytes(), asbytes=True)
        self._stream.write(content)
        self._places.append(self._places[-1] + len(content))

    def __enter__(self) -> DosageWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        if error is None:
            places = np.array(self._places, np.int64)
            np.save(Path(f"{self._prefix}.places.npy"), places, allow_pickle=False)


class StoredDosages(DosageGenotypes):
    """Dosages of 1/16384 as :class:`DosageWriter` wrote them, with a ``.bim`` and a ``.fam``.

    Parameters
    ----------
    prefix : Path
        Of the files.
    effect_allele : "a1", "a2" or Path
        As for a ``.bed``; column 5 of the ``.bim`` is the alternate allele.
    """

    per_copy = PER_COPY

    def __init__(self, prefix: Path, effect_allele: str | Path = "a1") -> None:
        self.prefix, self._effect_allele = prefix, effect_allele
        self.path = Path(f"{prefix}.dosage")
        bim, bim_digest = read_columns(Path(f"{prefix}.bim"), _BIM, variant_batch)
        fam, fam_digest = read_columns(Path(f"{prefix}.fam"), _FAM)
        self.samples = samples_of(fam)
        variants = variants_of(bim, Path(f"{prefix}.bim"))
        self._swap = alleles_to_swap(variants, effect_allele)
        self.variants = name_alleles(variants, self._swap)
        self._places = np.load(Path(f"{prefix}.places.npy"), allow_pickle=False)
        self._stat = file_stat(self.path)
        self._digests = {"bim": bim_digest, "fam": fam_digest}
        if len(self._places) != len(variants) + 1 or self._places[-1] != self._stat["size"]:
            raise MalformedError(
                explain(f"{self.path} is not whole", do=f"Remove {self.path.parent} and go on")
            )
        self._opened = OpenedFile(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredDosages, absolute((self.prefix, self._effect_allele))

    def __repr__(self) -> str:
        return f"StoredDosages({self.n_variants:,} variants x {self.n_samples:,} samples)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredDosages) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash((self.path.name, self._stat["size"]))

    def read_codes(self, rows: np.ndarray) -> DosageCodes:
        """Dosages of some variants, in increasing order of rows."""
        sha = hashlib.sha256()
        dosage = np.empty((len(rows), self.n_samples), np.uint16)
        for i, row in enumerate(rows.tolist()):
            start, stop = int(self._places[row]), int(self._places[row + 1])
            content = read_at(self._opened.descriptor(), self.path, start, stop - start)
            sha.update(content)
            try:
                size = 2 * self.n_samples
                plain = pa.decompress(content, decompressed_size=size, codec="zstd", asbytes=True)
                dosage[i] = np.frombuffer(plain, "<u2")
            except (OSError, ValueError, pa.ArrowException) as error:
                raise DecompressError(
                    explain(
                        f"variant {row + 1:,} of {self.path}, at byte {start:,}, is damaged",
                        do=f"Remove {self.path.parent} and go on",
                    )
                ) from error
        swap = None if self._swap is None else self._swap[rows]
        if swap is not None and swap.any():
            missing = dosage == MISSING_DOSAGE
            dosage[swap] = 2 * self.per_copy - dosage[swap]
            dosage[missing] = MISSING_DOSAGE
        return DosageCodes(dosage, sha.digest())

    def fingerprint(self) -> dict[str, Any]:
        """Identity of the files, and of the alleles that are counted."""
        swapped = b"" if self._swap is None else np.packbits(self._swap).tobytes()
        return {
            "format": "dosage",
            "dosage": self.path.name,
            "dosage_size": self._stat["size"],
            "dosage_mtime_ns": self._stat["mtime_ns"],
            "bim_sha256": self._digests["bim"],
            "fam_sha256": self._digests["fam"],
            "swapped_alleles": hashlib.sha256(swapped).hexdigest()[:16],
        }

    def check_unchanged(self) -> None:
        """Refuse to go on when the file is no longer the one that was opened."""
        if file_stat(self.path) != self._stat:
            raise InconsistentError(
                explain(
                    f"{self.path} changed while it was being read",
                    do="Start anew with --overwrite",
                )
            )

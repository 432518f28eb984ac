"""Several files of dosages of the same people, one after another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from imgwas.errors import InconsistentError, explain
from imgwas.genotypes.multi import pieces_of, same_people
from imgwas.types import (
    MISSING_DOSAGE,
    DosageCodes,
    DosageGenotypes,
    Genotypes,
    PackedGenotypes,
)


class MultiDosages(DosageGenotypes):
    """Per-chromosome files of dosages read as one matrix; files of hard calls may be among them.

    Parameters
    ----------
    files : sequence of Genotypes
        In the order of the result. All must hold the same people in the same order.

    Raises
    ------
    InconsistentError
        If the people or their sexes differ, or what one copy is counted as.
    """

    def __init__(self, files: Sequence[Genotypes]) -> None:
        self.files = tuple(files)
        units = {file.per_copy for file in self.files if isinstance(file, DosageGenotypes)}
        if len(units) != 1:
            raise InconsistentError(
                explain(
                    f"the files count one copy as {' and '.join(map(str, sorted(units)))}",
                    expected="Files of one scan need one format and one number of bits",
                    do="Convert them alike: plink2 --make-pgen",
                )
            )
        (self.per_copy,) = units
        dosages = [file for file in self.files if isinstance(file, DosageGenotypes)]
        #: whether every file has probabilities: or a block's quality would hang on its neighbours
        self._has_twice = all(
            file.read_codes(np.arange(1)).twice is not None for file in dosages if file.n_variants
        )
        self.samples = same_people(self.files)
        self.variants = pa.concat_tables([file.variants for file in self.files])
        self.file_starts = np.cumsum([0, *(file.n_variants for file in self.files)])

    def __reduce__(self) -> tuple[Any, ...]:
        return MultiDosages, (self.files,)

    def __repr__(self) -> str:
        return (
            f"MultiDosages({len(self.files)} files, {self.n_variants:,} variants x "
            f"{self.n_samples:,} samples)"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultiDosages) and self.files == other.files

    def __hash__(self) -> int:
        return hash(self.files)

    def read_codes(self, rows: np.ndarray) -> DosageCodes:
        """Dosages of some variants, in increasing order of rows."""
        pieces = [
            self._codes(self.files[number], part)
            for number, part in pieces_of(self.file_starts, rows)
        ]
        if len(pieces) == 1 and (self._has_twice or pieces[0].twice is None):
            return pieces[0]
        empty = np.empty((0, self.n_samples), np.uint16)
        digest = hashlib.sha256(b"".join(piece.digest for piece in pieces)).digest()
        found = [piece.twice for piece in pieces if piece.twice is not None]
        twice = np.concatenate(found) if self._has_twice and found else None
        return DosageCodes(np.concatenate([empty, *(p.dosage for p in pieces)]), digest, twice)

    def _codes(self, file: Genotypes, rows: np.ndarray) -> DosageCodes:
        if isinstance(file, DosageGenotypes):
            return file.read_codes(rows)
        assert isinstance(file, PackedGenotypes)
        packed = file.read_packed(rows)
        table = np.array([2 * self.per_copy, MISSING_DOSAGE, self.per_copy, 0], np.uint16)
        codes = (packed[:, :, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
        dosage = table[codes.reshape(len(rows), 4 * packed.shape[1])[:, : self.n_samples]]
        two = dosage == 2 * self.per_copy
        twice = two * np.uint16(self.per_copy) if self._has_twice else None
        return DosageCodes(dosage, hashlib.sha256(packed.data).digest(), twice)

    def fingerprint(self) -> dict[str, Any]:
        """Identity of every file."""
        return {f"file_{i:02d}": file.fingerprint() for i, file in enumerate(self.files)}

    def check_unchanged(self) -> None:
        """Refuse to go on when a file is no longer the one that was opened."""
        for file in self.files:
            file.check_unchanged()

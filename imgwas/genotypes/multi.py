"""Several genotype files of the same people, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from imgwas.errors import InconsistentError, explain, first_ids
from imgwas.shapes import Float32, UInt8
from imgwas.types import Genotypes, PackedGenotypes, Samples


class MultiGenotypes(PackedGenotypes):
    """Per-chromosome files read as one matrix.

    Parameters
    ----------
    files : sequence of PackedGenotypes
        In the order of the result. All must hold the same people in the same order.

    Raises
    ------
    InconsistentError
        If the people or their sexes differ; the first differing row is named.
    """

    def __init__(self, files: Sequence[PackedGenotypes]) -> None:
        self.files = tuple(files)
        self.samples = same_people(self.files, _name_of)
        self.variants = pa.concat_tables([file.variants for file in self.files])
        self.file_starts = np.cumsum([0, *(file.n_variants for file in self.files)])

    def __reduce__(self) -> tuple[Any, ...]:
        return MultiGenotypes, (self.files,)

    def __repr__(self) -> str:
        return (
            f"MultiGenotypes({len(self.files)} files, {self.n_variants:,} variants x "
            f"{self.n_samples:,} samples)"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultiGenotypes) and self.files == other.files

    def __hash__(self) -> int:
        return hash(self.files)

    def _pieces(self, rows: np.ndarray) -> list[tuple[PackedGenotypes, np.ndarray]]:
        return [(self.files[i], part) for i, part in pieces_of(self.file_starts, rows)]

    def read_packed(self, rows: np.ndarray) -> UInt8[np.ndarray, "variants bytes"]:
        """Read the two-bit codes of some variants, in increasing order of rows."""
        pieces = [file.read_packed(part) for file, part in self._pieces(rows)]
        if len(pieces) == 1:
            return pieces[0]
        empty = np.empty((0, -(-self.n_samples // 4)), np.uint8)
        return np.concatenate([empty, *pieces])

    def read_dosages(self, rows: np.ndarray) -> Float32[np.ndarray, "variants samples"]:
        """Copies of the effect allele; NaN is a missing call."""
        pieces = [file.read_dosages(part) for file, part in self._pieces(rows)]
        return np.concatenate([np.empty((0, self.n_samples), np.float32), *pieces])

    def fingerprint(self) -> dict[str, Any]:
        """Identity of every file."""
        return {f"file_{i:02d}": file.fingerprint() for i, file in enumerate(self.files)}

    def check_unchanged(self) -> None:
        """Refuse to go on when a file is no longer the one that was opened."""
        for file in self.files:
            file.check_unchanged()


def same_people(files: Sequence[Genotypes], name_of: Callable[[Any], str] = repr) -> Samples:
    """People of files that must hold the same; a sex or parents need be known to one of them.

    Raises
    ------
    InconsistentError
        If they are not the same, or two files give somebody different sexes.
    """
    people = files[0].samples
    for file in files[1:]:
        theirs = file.samples
        check_same_people(people, theirs, name_of(files[0]), name_of(file))
        sex = np.where(people.sex > 0, people.sex, theirs.sex)
        people = replace(people, sex=sex, is_founder=people.is_founder & theirs.is_founder)
    return people


def _name_of(file: PackedGenotypes) -> str:
    return str(getattr(file, "bed", file)).removesuffix(".bed")


def pieces_of(file_starts: np.ndarray, rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Number of each file that rows of the whole fall into, and its own rows."""
    edges = np.searchsorted(rows, file_starts)
    return [
        (i, rows[edges[i] : edges[i + 1]] - file_starts[i])
        for i in range(len(file_starts) - 1)
        if edges[i] < edges[i + 1]
    ]


def check_same_people(ours: Samples, theirs: Samples, first: str, other: str) -> None:
    """Refuse people of another file who are not the same in the same order, or of another sex."""
    a = list(zip(ours.family_ids, ours.sample_ids, strict=True))
    b = list(zip(theirs.family_ids, theirs.sample_ids, strict=True))
    if a == b:
        _check_same_sex(ours, theirs, first, other)
        return
    pairs = enumerate(zip(a, b, strict=False))
    row = next((i for i, (one, two) in pairs if one != two), min(len(a), len(b)))
    shown = first_ids([" ".join(people[row]) for people in (a, b) if row < len(people)])
    raise InconsistentError(
        explain(
            f"{other} does not hold the same people in the same order as {first}",
            where=f"they differ first in row {row + 1:,} of the .fam ({shown})",
            expected="Files of one scan need the same .fam",
            do="Make the filesets again from one list of people (plink --keep --indiv-sort)",
        )
    )


def _check_same_sex(ours: Samples, theirs: Samples, first: str, other: str) -> None:
    differ = np.flatnonzero((ours.sex > 0) & (theirs.sex > 0) & (ours.sex != theirs.sex))
    if len(differ):
        raise InconsistentError(
            explain(
                f"{other} gives {len(differ):,} people another sex than {first} and files after it",
                where=f"first: row {differ[0] + 1:,} ({first_ids([ours.sample_ids[differ[0]]])})",
                do="Correct the sexes in the .fam, .psam or .sample files",
            )
        )

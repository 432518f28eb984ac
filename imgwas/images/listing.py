"""Lists of images: whose image is where, as one table that every finder writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgwas.checks import duplicates
from imgwas.errors import InconsistentError, explain, first_ids, redact


@dataclass(frozen=True)
class ImageFile:
    """Where one image of one person is.

    Parameters
    ----------
    sample_id : str
        IID, as in the genotype file.
    path : Path
        NIfTI file, NumPy array, zip or store.
    member : str
        Name inside a zip or key inside a store; empty for a plain file.
    visit : str
        Imaging visit: instance 2 or 3 of UK Biobank, session label of BIDS; empty for one visit.
    mask : Path, optional
        Mask of the same grid: brain or heart. Where the image is a member of a zip, the name of
        the mask in that zip.
    matrix : Path, optional
        FLIRT matrix from this image to the template; a name in the zip like ``mask``.
    """

    sample_id: str
    path: Path
    member: str = ""
    visit: str = ""
    mask: Path | None = None
    matrix: Path | None = None

    @property
    def name(self) -> str:
        """Name in tables that are private: ``archive.zip:T1/T1_brain.nii.gz``."""
        return f"{self.path.name}:{self.member}" if self.member else self.path.name

    @property
    def shown(self) -> str:
        """Name for messages: of a person's file nothing that could be an id is left to read."""
        if not self.sample_id:
            return self.name
        stem, dot, ending = self.path.name.partition(".")
        masked = f"{redact(stem)}{dot}{ending}"
        in_zip = self.member and self.path.suffix == ".zip"
        return f"{masked}:{self.member}" if in_zip else masked


@dataclass(frozen=True)
class Dropped:
    """Images that a rule left out: why and how many, first ids redacted in ``examples``."""

    reason: str
    n: int
    examples: str = ""


@dataclass(frozen=True)
class ImageList:
    """Images found, in a fixed order, and what was left out on the way.

    Parameters
    ----------
    files : tuple of ImageFile
        One entry per person, or several when repeat visits are kept (``visit`` tells them apart).
    dropped : tuple of Dropped
        Rows that a rule left out, for the log.
    """

    files: tuple[ImageFile, ...]
    dropped: tuple[Dropped, ...] = ()

    def __post_init__(self) -> None:
        repeated = duplicates(f"{f.sample_id}\t{f.visit}" for f in self.files)
        if repeated:
            ids = [key.split("\t")[0] for key in repeated]
            raise InconsistentError(
                explain(
                    f"{len(repeated):,} people have several images of one visit",
                    expected="One image per person and visit is needed",
                    where=first_ids(ids),
                    do="Narrow the pattern, or keep one row per person",
                )
            )

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[ImageFile]:
        return iter(self.files)

    def __repr__(self) -> str:
        return f"ImageList({len(self.files):,} images of {len(set(self.sample_ids)):,} people)"

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """IID of each entry."""
        return tuple(f.sample_id for f in self.files)

    @property
    def row_ids(self) -> tuple[str, ...]:
        """Name of each entry: the IID, or ``IID@visit`` for all where anyone has several images."""
        if len(set(self.sample_ids)) == len(self):
            return self.sample_ids
        return tuple(f"{f.sample_id}@{f.visit}" for f in self.files)

    def without(self, rows: Collection[int], reason: str) -> ImageList:
        """Return the other entries, the ones at ``rows`` noted as dropped for ``reason``."""
        left = set(rows)
        gone = sorted(left)
        if not gone:
            return self
        ids = list(dict.fromkeys(self.files[i].sample_id for i in gone))
        note = Dropped(reason, len(gone), first_ids(ids))
        kept = tuple(f for i, f in enumerate(self.files) if i not in left)
        return ImageList(kept, (*self.dropped, note))

    def take(self, rows: Sequence[int]) -> ImageList:
        """Return the entries at ``rows``, in that order."""
        return ImageList(tuple(self.files[i] for i in rows), self.dropped)

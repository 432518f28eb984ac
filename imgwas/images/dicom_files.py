"""DICOM files of one person, in a folder or a zip: headers first, pixels frame by frame.

Only the tags of :data:`TAGS` are ever read, so that no name, date or private tag can reach a result
or a log.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import MalformedError, MissingLibraryError, explain, redact
from imgwas.images.zips import list_members
from imgwas.tables.recognise import explained

#: Everything that is read of a file besides its pixels.
TAGS = (
    "BitsAllocated", "BitsStored", "Columns", "ImageOrientationPatient", "ImagePositionPatient",
    "InstanceNumber", "NumberOfFrames", "PhotometricInterpretation", "PixelRepresentation",
    "PixelSpacing", "RescaleIntercept", "RescaleSlope", "Rows", "SamplesPerPixel",
    "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SliceThickness", "TriggerTime",
)  # fmt: skip
#: A zip or folder may hold this many files.
MAX_FILES = 20_000
#: What pydicom raises on damaged files.
_BROKEN = (
    MemoryError,  # a length that is none
    AttributeError, EOFError, IndexError, KeyError, NotImplementedError, OSError, OverflowError,
    RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_pydicom() -> Any:
    """Import pydicom, or say how to get it."""
    try:
        import pydicom
    except ImportError as error:
        raise MissingLibraryError(
            explain("DICOM files need pydicom", do="pip install 'imgwas[dicom]'")
        ) from error
    return pydicom


@dataclass(frozen=True)
class Frames:
    """One DICOM file: where it is and what its header says."""

    name: str
    syntax: str
    tags: dict[str, Any] = field(repr=False)

    def number(self, tag: str) -> float | None:
        """Return a numeric tag; None where it is absent or no number."""
        try:
            value = float(self.tags[tag])
        except (KeyError, TypeError, ValueError):
            return None
        return value if np.isfinite(value) else None

    def numbers(self, tag: str) -> tuple[float, ...]:
        """Return a tag of several numbers; empty where it is absent."""
        try:
            return tuple(float(v) for v in self.tags[tag])
        except (KeyError, TypeError, ValueError):
            return ()

    @property
    def n_frames(self) -> int:
        """Frames in this file: one, unless it says otherwise."""
        return int(self.number("NumberOfFrames") or 1)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        return int(self.number("Rows") or 0), int(self.number("Columns") or 0)

    @property
    def n_bytes(self) -> int:
        """Bytes of the pixels once decoded."""
        rows, columns = self.size
        return rows * columns * self.n_frames * int((self.number("BitsAllocated") or 0) // 8)


class DicomFolder:
    """Files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        self.names = [str(p.relative_to(folder)) for p in paths]

    def open(self, name: str) -> Any:
        """Open one file."""
        return (self.folder / name).open("rb")


class DicomZip:
    """Members of a zip; nothing is unpacked to disk."""

    def __init__(self, archive: zipfile.ZipFile, names: list[str]) -> None:
        self.archive, self.names = archive, names

    def open(self, name: str) -> Any:
        """Open one member."""
        return BytesIO(self.archive.read(name))


@contextmanager
def open_dicom(path: Path) -> Iterator[DicomFolder | DicomZip]:
    """Open one person's files, in a folder or a zip.

    Raises
    ------
    OpenError, MalformedError, RefusedError
        If it is absent, damaged, or plays tricks.
    """
    masked = Path(redact(path.name))
    with explained(masked):
        path.stat()
    if path.is_dir():
        files: DicomFolder | DicomZip = DicomFolder(path)
        _check_count(files.names, masked)
        yield files
        return
    names = sorted(member.filename for member in list_members(path))
    _check_count(names, masked)
    with zipfile.ZipFile(path) as archive:
        yield DicomZip(archive, names)


def _check_count(names: Sequence[str], path: Path) -> None:
    if len(names) > MAX_FILES:
        raise MalformedError(
            explain(f"{path} holds {len(names):,} files", expected="One person's DICOM")
        )


def read_header(files: DicomFolder | DicomZip, name: str) -> Frames | None:
    """Read the allowed tags of one file; None if it is no DICOM."""
    pydicom = load_pydicom()
    try:
        with files.open(name) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(TAGS))
            tags = {tag: dataset.get(tag) for tag in TAGS if tag in dataset}
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    except pydicom.errors.InvalidDicomError:
        return None
    except (*_BROKEN, pydicom.errors.BytesLengthException) as error:
        raise MalformedError(
            explain(f"a DICOM file is damaged ({type(error).__name__})", do="Copy it again")
        ) from error
    return Frames(name, syntax, tags) if "Rows" in tags else None


def read_pixels(files: DicomFolder | DicomZip, frame: Frames, name: str) -> np.ndarray:
    """Decode the frames of one file: (frames, rows, columns)."""
    pydicom = load_pydicom()
    try:
        with files.open(frame.name) as stream:
            dataset = pydicom.dcmread(stream, specific_tags=[*TAGS, "PixelData"])
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            _check_length(len(dataset.PixelData), frame, name)
        values = np.asarray(dataset.pixel_array)
    except (*_BROKEN, pydicom.errors.BytesLengthException) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(
            explain(
                f"the pixels of {name} are damaged ({type(error).__name__})", do="Copy it again"
            )
        ) from error
    expected = (frame.n_frames, *frame.size)
    values = values.reshape((1, *values.shape)) if values.ndim == 2 else values
    if values.shape != expected:
        raise MalformedError(
            explain(f"{name} decodes to {values.shape}", expected=f"Its header says {expected}")
        )
    return _rescaled(values, frame, name)


def _check_length(n_bytes: int, frame: Frames, name: str) -> None:
    if n_bytes < frame.n_bytes:
        raise MalformedError(
            explain(
                f"a frame of {name} is cut short: {n_bytes:,} bytes",
                expected=f"Its size asks for {frame.n_bytes:,}",
                do="Copy it again",
            )
        )


def _rescaled(values: np.ndarray, frame: Frames, name: str) -> np.ndarray:
    given = ("RescaleSlope" in frame.tags, "RescaleIntercept" in frame.tags)
    slope = frame.number("RescaleSlope") if given[0] else 1.0
    intercept = frame.number("RescaleIntercept") if given[1] else 0.0
    if not slope or intercept is None:
        raise MalformedError(explain(f"{name} rescales its pixels by a factor that is no number"))
    if (slope, intercept) == (1.0, 0.0):
        return values
    return (values * slope + intercept).astype(np.float32)

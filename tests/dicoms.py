"""Cine series as DICOM files, written by pydicom: a disc that moves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SECRET = "Doe^Jane"


def moving_disc(
    size: tuple[int, int] = (40, 36), centre: tuple[float, float] = (22, 15), n_frames: int = 50
) -> np.ndarray:
    """(x, y, frames) uint16: a disc of pulsating radius on a dim picture."""
    x, y = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(x - centre[0], y - centre[1])
    radius = 5 + 3 * np.sin(2 * np.pi * np.arange(n_frames) / n_frames)
    return np.where(distance[..., None] < radius, 900, 100).astype(np.uint16)


def frame(
    picture: np.ndarray,
    number: int,
    *,
    view: str = "4Ch",
    series: str = "1.2.3",
    syntax: str = ExplicitVRLittleEndian,
    **tags: object,
) -> FileDataset:
    """One (x, y) picture as a DICOM file, with a name and a private tag that must not travel."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
    dataset.PatientName, dataset.PatientBirthDate = SECRET, "19500101"
    dataset.private_block(0x0019, "SCANNER", create=True).add_new(1, "LO", SECRET)
    dataset.SeriesDescription = f"CINE_segmented_LAX_{view}"
    dataset.SeriesInstanceUID, dataset.SeriesNumber = series, 7
    dataset.InstanceNumber, dataset.TriggerTime = number + 1, 20.0 * number
    dataset.Columns, dataset.Rows = picture.shape[:2]
    dataset.PixelSpacing, dataset.SliceThickness = [1.5, 1.25], 6
    dataset.ImagePositionPatient = [1, 2, 3]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * picture.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = picture.T.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def encoded(dataset: pydicom.Dataset) -> bytes:
    """The bytes of the file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def cine_files(
    cine: np.ndarray, change: Callable[[int, FileDataset], object] | None = None, **tags: object
) -> list[bytes]:
    """One file per frame of a (x, y, frames) cine, in the order of time."""
    files = []
    for number in range(cine.shape[2]):
        dataset = frame(cine[..., number], number, **tags)
        if change:
            change(number, dataset)
        files.append(encoded(dataset))
    return files


def write_zip(path: Path, files: Iterable[bytes]) -> Path:
    """A zip as UK Biobank packs it: files in no order, and a table beside them."""
    files = list(files)
    order = np.random.default_rng(1).permutation(len(files))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.cvs", "filename,patientid\n")
        for place in order:
            archive.writestr(f"1.3.12.{place * 7919 % 1009}.{place}.dcm", files[place])
    return path

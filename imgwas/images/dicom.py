"""Cine series in DICOM files, in a folder or a zip: one heart beat, frame by frame.

Only the tags of :data:`TAGS` are ever read, so that no name, date or private tag can reach a result
or a log.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import MalformedError, UsageError, explain, redact
from imgwas.images.dicom_files import (
    Frames,
    load_pydicom,
    open_dicom,
    read_header,
    read_pixels,
)
from imgwas.images.folders import find_by_pattern
from imgwas.images.listing import Dropped, ImageFile, ImageList
from imgwas.images.steadily import read_steadily
from imgwas.images.store import Cine
from imgwas.images.ukb import find_zips

if TYPE_CHECKING:
    from pydicom.uid import UID

#: A series may take this much memory.
MAX_BYTES = 512_000_000


def find_cines(
    source: str | Path, *, pattern: str | None = None, field: str = "20208", array: str = "0"
) -> ImageList:
    """Find people's DICOM: bulk zips, or folders and zips whose names follow a pattern.

    Parameters
    ----------
    source : path
        A folder.
    pattern : str, optional
        Such as ``{id}/{visit}`` for folders or ``{id}.zip``; by default UK Biobank's
        ``{eid}_20208_{instance}_0.zip``.
    field, array : str
        Of UK Biobank's zips.

    Returns
    -------
    ImageList
        One entry per zip or folder; its series are told apart by :func:`read_dicom_cine`.
    """
    source = Path(source).expanduser()
    if pattern is None:
        zips, dropped = find_zips(source, field=field, array=array)
        files = [ImageFile(z.sample_id, z.path, visit=z.instance) for z in zips]
        return ImageList(tuple(files), tuple(dropped))
    found, _ = find_by_pattern(source, pattern, folders=True)
    usable = [f for f in found if f.path.is_dir() or f.path.suffix.lower() == ".zip"]
    if not usable:
        raise UsageError(
            explain(
                f"the pattern {pattern!r} names files, not folders",
                expected="One folder or zip of DICOM per person, such as '{id}' or '{id}.zip'",
            )
        )
    others = len(found) - len(usable)
    notes = (Dropped("neither a folder nor a zip", others),) if others else ()
    return ImageList(tuple(ImageFile(f.sample_id, f.path, visit=f.visit) for f in usable), notes)


def read_dicom_cine(
    file: ImageFile, view: str = "4Ch", *, n_frames: int = 50, series: str = "error"
) -> Cine:
    """Read one view of one person.

    Frames are ordered by trigger time, then by instance number.

    Parameters
    ----------
    file : ImageFile
        Folder or zip of DICOM files, as :func:`find_cines` lists them.
    view : str, default "4Ch"
        ``2Ch``, ``3Ch`` or ``4Ch``, or another word that the series description holds.
    n_frames : int, default 50
        Frames that the series must have.
    series : {"error", "first", "last"}
        Which to take, by series number, where a view was acquired several times.

    Returns
    -------
    Cine
        (x, y, 1, frames); x runs along the rows of the picture. Integers as they are stored, or
        float32 where the file rescales them.

    Raises
    ------
    MalformedError
        If the view is absent or acquired twice, frames are missing, differ in size, spacing or
        plane, cannot be ordered, are cut short, compressed in a way that nothing here decodes, or
        claim more memory than a cine needs.
    MissingLibraryError
        If pydicom is not installed.
    RefusedError
        If the zip plays tricks.
    """
    check_option("series", series, ["error", "first", "last"])
    load_pydicom()
    shown = _masked(file)
    return read_steadily(file.path, shown, lambda: _read_series(file, view, n_frames, series))


def _read_series(file: ImageFile, view: str, n_frames: int, series: str) -> Cine:
    with open_dicom(file.path) as files, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote what the file holds
        headers = [h for name in files.names if (h := read_header(files, name)) is not None]
        if not headers:
            raise MalformedError(explain(f"{_masked(file)} holds no DICOM file"))
        chosen = _choose_series(headers, view, series, file)
        _check_series(chosen, n_frames, file)
        ordered = _in_order(chosen, file)
        values = np.concatenate([read_pixels(files, frames, _masked(file)) for frames in ordered])
    first = ordered[0]
    row_mm, column_mm = first.numbers("PixelSpacing") or (0.0, 0.0)
    times = [frames.number("TriggerTime") for frames in ordered]
    uid = str(first.tags.get("SeriesInstanceUID", ""))
    return Cine(
        np.ascontiguousarray(values.transpose(2, 1, 0)[:, :, np.newaxis]),
        spacing=(column_mm, row_mm, first.number("SliceThickness") or 0.0),
        view=view,
        series=hashlib.sha256(uid.encode()).hexdigest()[:16] if uid else "",
        frame_times=tuple(t for t in times if t is not None) if None not in times else (),
    )


def _masked(file: ImageFile) -> str:
    return redact(file.path.name)


def view_of(description: str) -> str:
    """Name the long-axis view in a series description: ``4Ch`` in ``CINE_segmented_LAX_4Ch``."""
    match = re.search(r"(?<!\d)([234])[ _-]?ch", description, re.IGNORECASE)
    return f"{match[1]}Ch" if match else ""


def _choose_series(
    headers: Sequence[Frames], view: str, series: str, file: ImageFile
) -> list[Frames]:
    """Frames of the one series of a view."""
    of_view: dict[str, list[Frames]] = {}
    there: Counter[str] = Counter()
    for header in headers:
        description = str(header.tags.get("SeriesDescription", ""))
        found = view_of(description)
        there[found or "another view"] += 1
        if found.lower() == view.lower() or (not found and view.lower() in description.lower()):
            of_view.setdefault(str(header.tags.get("SeriesInstanceUID", "")), []).append(header)
    if not of_view:
        named = ", ".join(f"{name} ({n:,} files)" for name, n in there.most_common())
        raise MalformedError(
            explain(f"{_masked(file)} holds no {view} series", where=f"It holds {named}")
        )
    if len(of_view) > 1 and series == "error":
        raise MalformedError(
            explain(
                f"{_masked(file)} holds {len(of_view)} series of the view {view}",
                expected="One; a view is often repeated because the first one failed",
                do="Choose by --series last or --series first",
            )
        )
    ordered = sorted(of_view.values(), key=lambda frames: frames[0].number("SeriesNumber") or 0)
    return ordered[0 if series == "first" else -1]


def _check_series(frames: Sequence[Frames], n_frames: int, file: ImageFile) -> None:
    """Everything that must hold before a pixel is decoded."""
    name = _masked(file)
    for frame in frames:
        _check_pixels(frame, name)
    for what, values in (
        ("sizes (rows, columns)", {f.size for f in frames}),
        ("pixel spacings", {tuple(round(v, 3) for v in f.numbers("PixelSpacing")) for f in frames}),
        ("planes", {_plane(f) for f in frames}),
    ):
        if len(values) > 1:
            shown = ", ".join(str(v) for v in sorted(values)[:3]) if what != "planes" else ""
            raise MalformedError(
                explain(
                    f"the frames of {name} have {len(values)} {what} {shown}".rstrip(),
                    expected="One slice that moves: a long-axis cine",
                )
            )
    total = sum(f.n_frames for f in frames)
    if total != n_frames:
        raise MalformedError(
            explain(
                f"{name} has {total:,} frames",
                expected=f"It must have {n_frames}",
                do="A series of another length has other times; take it with --frames if all do",
            )
        )
    n_bytes = sum(f.n_bytes for f in frames)
    if not 0 < n_bytes <= MAX_BYTES:
        raise MalformedError(
            explain(
                f"{name} claims {n_bytes:,} bytes of pixels",
                expected=f"A cine has up to {MAX_BYTES:,}",
            )
        )


def _check_pixels(frame: Frames, name: str) -> None:
    samples = int(frame.number("SamplesPerPixel") or 1)
    kind = str(frame.tags.get("PhotometricInterpretation", "MONOCHROME2"))
    if samples != 1 or kind != "MONOCHROME2":
        raise MalformedError(
            explain(
                f"{name} holds {ascii(kind[:20])[1:-1]} pixels", expected="Grey ones, MONOCHROME2"
            )
        )
    bits, (rows, columns) = frame.number("BitsAllocated"), frame.size
    if bits not in (8, 16, 32) or rows < 1 or columns < 1 or frame.n_frames < 1:
        raise MalformedError(
            explain(f"{name} has frames of {rows} x {columns} pixels of {bits or 0:g} bits")
        )
    if frame.syntax:
        _check_decoder(frame.syntax, name)


def _check_decoder(syntax: str, name: str) -> None:
    """Refuse a compressed series by the name of its compression unless it can be decoded."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    try:
        decodable = get_decoder(uid).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        raise MalformedError(
            explain(
                f"{name} is compressed as {_known(uid)}, which nothing installed here decodes",
                do="Decompress it (gdcmconv --raw in.dcm out.dcm), or install pylibjpeg's decoders",
            )
        )


def _known(uid: UID) -> str:
    """Name of a transfer syntax, unless the file made it up."""
    return uid.name if uid.name != uid else "something without a name"


def _plane(frame: Frames) -> tuple[float, ...]:
    position = [round(v, 1) for v in frame.numbers("ImagePositionPatient")]
    return (*position, *(round(v, 3) for v in frame.numbers("ImageOrientationPatient")))


def _in_order(frames: Sequence[Frames], file: ImageFile) -> list[Frames]:
    """Order the frames in time; refuse if two could stand in either order."""
    times = [f.number("TriggerTime") for f in frames]
    instances = [f.number("InstanceNumber") for f in frames]
    by_time = None not in times
    if not by_time and None in instances and len(frames) > 1:
        raise MalformedError(
            explain(f"the frames of {_masked(file)} have neither trigger time nor instance number")
        )
    keys = [
        ((time or 0.0) if by_time else 0.0, instance or 0.0)
        for time, instance in zip(times, instances, strict=True)
    ]
    repeated = len(keys) - len(set(keys))
    if repeated:
        raise MalformedError(
            explain(
                f"{repeated:,} frames of {_masked(file)} have the time and number of another",
                expected="Every frame once",
                do="Remove the copies",
            )
        )
    return [frames[i] for i in sorted(range(len(frames)), key=keys.__getitem__)]

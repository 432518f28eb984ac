"""Are the images there: every file of a list looked at at once, and no file for two people."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imgwas.checks import check_option
from imgwas.errors import InconsistentError, MalformedError, OpenError, explain, first_ids, redact
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.zips import check_member_name
from imgwas.tables.recognise import hidden_in

logger = logging.getLogger(__name__)

#: At most so many files or rows are named in one message.
MOST_NAMED = 50
#: Endings that are read, told without opening a file.
READ = (".nii", ".nii.gz", ".npy", ".npz")
#: Files that hold members: the member must be named.
_CONTAINERS = (".zip", ".h5", ".hdf5")
#: Formats that are not read, and how to make a NIfTI file of them.
_OTHER = {
    ".mgz": "a FreeSurfer volume: mri_convert in.mgz out.nii.gz",
    ".mgh": "a FreeSurfer volume: mri_convert in.mgh out.nii.gz",
    ".img": "one half of an Analyze or NIfTI pair: fslchfiletype NIFTI_GZ in",
    ".hdr": "one half of an Analyze or NIfTI pair: fslchfiletype NIFTI_GZ in",
    ".dcm": "DICOM: imgwas images to-store for cine, dcm2niix for volumes",
    ".ima": "DICOM: imgwas images to-store for cine, dcm2niix for volumes",
    ".nrrd": "an NRRD volume: convert it to NIfTI",
    ".mha": "a MetaImage volume: convert it to NIfTI",
    ".mnc": "a MINC volume: mnc2nii in.mnc out.nii",
    ".gii": "a surface, no volume",
    ".png": "a picture, no volume",
    ".jpg": "a picture, no volume",
}


def ending(path: Path) -> str:
    """Suffix in lower case, ``.nii.gz`` as a whole."""
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    return ".nii.gz" if suffixes == [".nii", ".gz"] else path.suffix.lower()


def check_formats(files: Iterable[ImageFile]) -> None:
    """Refuse by name what no reader reads, before anything is opened.

    Raises
    ------
    MalformedError
        With the ending, how many files have it, and how to convert them.
    """
    wrong: dict[str, list[str]] = {}
    for file in files:
        kind = ending(file.path)
        if kind in _CONTAINERS and file.member:
            check_member_name(file.member, "the list of images")
        elif kind not in READ:
            wrong.setdefault(kind, []).append(file.path.name)
    if not wrong:
        return
    kind = max(wrong, key=lambda k: len(wrong[k]))
    n, shown = len(wrong[kind]), first_ids(wrong[kind])
    if kind in _CONTAINERS:
        what = f"{n:,} paths end in {kind} and name no member ({shown})"
        do = "Add a column 'member', or give the folder of zips or the store itself as the source"
        raise MalformedError(explain(what, do=do))
    raise MalformedError(
        explain(
            f"{n:,} images are {_OTHER.get(kind) or f'files ending in {kind!r}'} ({shown})",
            expected=f"Images end in {', '.join(READ)}, or are members of a zip or an HDF5 store",
        )
    )


def check_files(
    images: ImageList, *, missing: str = "error", places: Sequence[str] = ()
) -> ImageList:
    """Look for every image, mask and matrix of a list, all at once.

    Parameters
    ----------
    images : ImageList
        What to look for.
    missing : {"error", "drop"}
        What happens to entries with an absent file.
    places : sequence of str
        Where each entry came from, ``row 12``, for messages.

    Returns
    -------
    ImageList
        All entries, or those whose files are there.

    Raises
    ------
    OpenError
        If files are absent and ``missing`` is "error"; up to fifty are named, ids masked.
    InconsistentError
        If two people have the same file, under whatever name.
    """
    check_option("missing", missing, ["drop", "error"])
    found = _look(_paths(images))
    absent = [i for i, f in enumerate(images) if not all(found[p] for p in _paths([f]))]
    if absent and (missing == "error" or len(absent) == len(images)):
        raise OpenError(_absent(images, absent, found, places))
    for row in absent[:MOST_NAMED]:
        logger.warning("left out: %s", _place(images, row, places))
    gone = set(absent)
    kept = [i for i in range(len(images)) if i not in gone]
    _check_shared(images, kept, found, places)
    return images.without(absent, "the file is missing")


def _paths(files: Iterable[ImageFile]) -> list[Path]:
    """Files of the disk; masks and matrices of members are members themselves."""
    every = (
        path
        for file in files
        for path in ((file.path,) if file.member else (file.path, file.mask, file.matrix))
        if path is not None
    )
    return list(dict.fromkeys(every))


def _look(paths: Sequence[Path]) -> dict[Path, tuple[int, ...] | None]:
    """Device and inode of every path, None where there is no file; many at once for networks."""
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(paths, pool.map(_identity, paths), strict=True))


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, forty thousand times
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(status.st_mode):
        return None
    return status.st_dev, status.st_ino


def _absent(
    images: ImageList, rows: Sequence[int], found: dict[Path, tuple[int, ...] | None],
    places: Sequence[str],
) -> str:  # fmt: skip
    named = [_place(images, row, places) for row in rows[:MOST_NAMED]]
    files = images.files
    which = [
        word
        for word, paths in (
            ("image", [files[i].path for i in rows]),
            ("mask", [files[i].mask for i in rows]),
            ("matrix", [files[i].matrix for i in rows]),
        )
        if any(path is not None and not found.get(path, True) for path in paths)
    ]
    more = f" and {len(rows) - MOST_NAMED:,} more" if len(rows) > MOST_NAMED else ""
    return explain(
        f"{len(rows):,} of {len(images):,} entries have no {' or '.join(which)} file",
        where=", ".join(named) + more,
        do="Paths are relative to the table. Correct them, or leave these people out with "
        "--missing drop",
    )


def _place(images: ImageList, row: int, places: Sequence[str]) -> str:
    name = ascii(redact(images.files[row].path.name))[1:-1]
    return f"{places[row]} ({name})" if places else name


def _check_shared(
    images: ImageList, rows: Sequence[int], found: dict[Path, tuple[int, ...] | None],
    places: Sequence[str],
) -> None:  # fmt: skip
    """Refuse one file for two entries: links and other spellings of its path included."""
    first: dict[tuple[object, str], int] = {}
    shared: list[tuple[int, int]] = []
    for row in rows:
        file = images.files[row]
        identity = found[file.path]
        key = identity if identity and identity[-1] else os.path.realpath(file.path)
        twin = first.setdefault((key, file.member), row)
        if twin != row:
            shared.append((twin, row))
    if not shared:
        return
    pairs = [
        f"{_place(images, a, places)} and {_place(images, b, places)}"
        for a, b in shared[:MOST_NAMED]
    ]
    raise InconsistentError(
        explain(
            f"{len(shared):,} entries have the file of another entry",
            expected="Every image belongs to one person and visit",
            where="; ".join(pairs),
            do="Correct the paths: the wrong brain would get these people's genotypes",
        )
    )


def check_label(value: str, what: str, where: str) -> str:
    """Return an id or a visit label, refused if it holds what nobody sees or ``@``."""
    hidden = hidden_in(value) or ("" if _is_utf8(value) else "bytes that are no UTF-8 text")
    if hidden or (what == "visit" and "@" in value):
        raise MalformedError(
            explain(f"{where} holds {hidden or 'a @'} in the {what}", do="Rename it")
        )
    return value


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

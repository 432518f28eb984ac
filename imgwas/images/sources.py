"""One door to images wherever they are: a table, a folder, BIDS, UK Biobank's zips, a store."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgwas.checks import check_option, did_you_mean
from imgwas.errors import UsageError, explain, redact
from imgwas.images.checking import check_label
from imgwas.images.listing import ImageList
from imgwas.tables.recognise import explained, head_of

logger = logging.getLogger(__name__)

#: kind of source -> module and function that finds its images
FINDERS = {
    "table": ("imgwas.images.tables", "images_from_table"),
    "folder": ("imgwas.images.folders", "images_from_folder"),
    "bids": ("imgwas.images.bids", "images_from_bids"),
    "ukb": ("imgwas.images.ukb", "images_from_ukb"),
    "store": ("imgwas.images.store", "images_from_store"),
}
_HDF5 = b"\x89HDF"
_BULK_ZIP = re.compile(r"\d+_\d+_\d+_\d+\.zip")


def find_images(source: str | Path, *, kind: str | None = None, **choices: Any) -> ImageList:
    """Find images and whose they are.

    Parameters
    ----------
    source : path
        A table (CSV, TSV, Parquet), an HDF5 store, or a folder.
    kind : {"table", "folder", "bids", "ukb", "store"}, optional
        What the source is; recognised by :func:`kind_of` when not given.
    **choices
        What the finder of that kind takes: :func:`~imgwas.images.tables.images_from_table`,
        :func:`~imgwas.images.folders.images_from_folder`,
        :func:`~imgwas.images.bids.images_from_bids`,
        :func:`~imgwas.images.ukb.images_from_ukb`,
        :func:`~imgwas.images.store.images_from_store`. Those that are None count as not given.

    Returns
    -------
    ImageList
        In a fixed order; what was left out is in ``dropped``.

    Raises
    ------
    OpenError
        If the source or files of it are absent.
    UsageError
        If it is not clear what the source is, or its finder does not take a choice.
    MalformedError, InconsistentError, RefusedError
        As the finder says.
    """
    source = Path(source).expanduser()
    given = {name: value for name, value in choices.items() if value is not None}
    if kind is not None:
        check_option("kind", kind, FINDERS)
    kind = kind or kind_of(source, has_pattern="pattern" in given)
    finder = _finder(kind)
    _check_choices(finder, kind, given)
    images = finder(source, **given)
    for file in images:
        check_label(file.name, "name", "a file")
    logger.info("found %s images of %s people (%s)", f"{len(images):,}",
                f"{len(set(images.sample_ids)):,}", kind)  # fmt: skip
    for note in images.dropped:
        logger.info("left out %s: %s%s", f"{note.n:,}", note.reason,
                    f" ({note.examples})" if note.examples else "")  # fmt: skip
    return images


def kind_of(source: Path, *, has_pattern: bool = False) -> str:
    """Recognise a source by what it is: a file by its first bytes, a folder by its names.

    Raises
    ------
    OpenError
        If it does not exist.
    UsageError
        If a folder holds neither ``sub-`` folders nor bulk zips, and no pattern was given.
    """
    with explained(source):
        source.stat()
    if source.is_file():
        head = head_of(source)
        if head.startswith(b"PK\x03\x04"):
            raise UsageError(
                explain(f"{redact(source.name)} is one zip", do="Name the folder that it lies in")
            )
        return "store" if head.startswith(_HDF5) else "table"
    if has_pattern:
        return "folder"
    names = _first_names(source)
    if "dataset_description.json" in names or any(name.startswith("sub-") for name in names):
        return "bids"
    if any(_BULK_ZIP.fullmatch(name) for name in names) or _sharded(source, names):
        return "ukb"
    endings = sorted({Path(name).suffix for name in names})
    dicom = {".dcm", ".ima"} & {ending.lower() for ending in endings}
    raise UsageError(
        explain(
            f"{source} is a folder of neither BIDS nor UK Biobank's zips",
            where=f"Endings of names there: {', '.join(endings[:8]) or 'none'}",
            do="Make a store of DICOM cine first: imgwas images to-store"
            if dicom
            else "Say how ids stand in the names: --pattern '{id}_T1.nii.gz'",
        )
    )


def _first_names(folder: Path, limit: int = 1000) -> list[str]:
    with explained(folder), os.scandir(folder) as entries:
        return [entry.name for entry, _ in zip(entries, range(limit), strict=False)]


def _sharded(folder: Path, names: list[str]) -> bool:
    """Whether bulk zips lie in folders named by two digits."""
    shards = [name for name in names if re.fullmatch(r"\d{2}", name)]
    return any(
        _BULK_ZIP.fullmatch(name)
        for shard in shards[:3] if (folder / shard).is_dir()
        for name in _first_names(folder / shard, 10)
    )  # fmt: skip


def _finder(kind: str) -> Callable[..., ImageList]:
    module, name = FINDERS[kind]
    finder: Callable[..., ImageList] = getattr(importlib.import_module(module), name)
    return finder


def _check_choices(finder: Callable[..., ImageList], kind: str, given: dict[str, Any]) -> None:
    """Refuse a choice that this kind of source does not have, instead of overlooking it."""
    parameters = list(inspect.signature(finder).parameters.values())[1:]
    known = [parameter.name for parameter in parameters]
    needed = [p.name for p in parameters if p.default is p.empty and p.name not in given]
    if needed:
        raise UsageError(explain(f"a source of kind {kind} needs {needed[0]}"))
    for name in given:
        if name not in known:
            raise UsageError(
                explain(
                    f"a source of kind {kind} has no choice {name!r}",
                    expected=f"It takes {', '.join(known)}",
                    do=did_you_mean(name, known),
                )
            )

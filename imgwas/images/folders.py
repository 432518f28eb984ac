"""Images in a folder whose names follow a pattern such as ``sub-{id}/T1_{visit}.nii.gz``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imgwas.errors import OpenError, UsageError, explain, first_ids, redact
from imgwas.images.checking import check_files, check_formats, check_label
from imgwas.images.listing import Dropped, ImageFile, ImageList
from imgwas.tables.recognise import explained

_PLACES = {"id": "[^/]+", "visit": "[^/_]+"}


@dataclass(frozen=True)
class Found:
    """What one file or folder name says."""

    sample_id: str
    visit: str
    path: Path


def images_from_folder(
    folder: str | Path,
    *,
    pattern: str,
    mask: str | None = None,
    matrix: str | None = None,
    missing: str = "error",
) -> ImageList:
    """Find images by a pattern of their names below a folder.

    Parameters
    ----------
    folder : path
        Where the pattern starts.
    pattern : str
        Names level by level, separated by ``/``. ``{id}`` stands for the sample id, ``{visit}``
        for the visit (without an underscore), ``*`` for anything within a name.
    mask, matrix : str, optional
        Pattern of the mask or FLIRT matrix of each image, with ``{id}`` and ``{visit}`` only.
    missing : {"error", "drop"}
        What happens to images whose mask or matrix is absent.

    Returns
    -------
    ImageList
        Sorted by id and visit. Files beside them that the pattern does not describe are counted.

    Raises
    ------
    UsageError
        If the pattern is wrong, or describes nothing here.
    InconsistentError
        If a person has several images of one visit.
    """
    folder = Path(folder).expanduser()
    found, others = find_by_pattern(folder, pattern)
    files = tuple(
        ImageFile(
            hit.sample_id,
            hit.path,
            visit=hit.visit,
            mask=_fill(mask, hit, folder),
            matrix=_fill(matrix, hit, folder),
        )
        for hit in found
    )
    dropped = (Dropped("the name is not the pattern's", len(others), first_ids(others)),)
    images = ImageList(files, dropped if others else ())
    check_formats(images)
    return check_files(images, missing=missing)


def find_by_pattern(
    folder: Path, pattern: str, *, folders: bool = False
) -> tuple[list[Found], list[str]]:
    """Walk the levels of a pattern; also names of the last level that it does not describe.

    Parameters
    ----------
    folder : Path
        Where the pattern starts.
    pattern : str
        As in :func:`images_from_folder`.
    folders : bool
        Whether folders are what is looked for, besides files.
    """
    levels = compile_pattern(pattern)
    others: list[str] = []
    found = sorted(_walk(folder, levels, {}, others, folders), key=lambda f: (f.sample_id, f.visit))
    if not found:
        raise UsageError(
            explain(
                f"nothing below {folder} is called {pattern}",
                where=f"{len(others):,} other names there, {first_ids(sorted(others))}",
                do="Give --pattern as in 'sub-{id}/T1_{visit}.nii.gz'",
            )
        )
    return found, sorted(others)


def compile_pattern(pattern: str) -> list[re.Pattern[str]]:
    """Turn a pattern into one regular expression per level.

    Raises
    ------
    UsageError
        If it holds no ``{id}``, an unknown placeholder, two side by side, or leaves the folder.
    """
    names = re.findall(r"\{(.*?)\}", pattern)
    unknown = [name for name in names if name not in _PLACES]
    levels = pattern.split("/")
    problem = ""
    if unknown:
        problem = f"holds {{{unknown[0]}}}"
    elif "id" not in names:
        problem = "holds no {id}"
    elif re.search(r"[}*][{*]", pattern):
        problem = "has two placeholders side by side, which nobody could part"
    elif ".." in levels or "" in levels or "." in levels:
        problem = "has an empty level, '.' or '..'"
    if problem:
        raise UsageError(
            explain(
                f"the pattern {pattern!r} {problem}",
                expected="Names below the folder with {id}, {visit} and *",
                do="For example --pattern 'sub-{id}/T1_{visit}.nii.gz'",
            )
        )
    return [_level(level) for level in levels]


def _level(level: str) -> re.Pattern[str]:
    """One level: the second ``{id}`` of a level repeats the first."""
    seen: set[str] = set()
    parts = []
    for piece in re.split(r"(\{\w+\}|\*)", level):
        name = piece[1:-1]
        if piece == "*":
            parts.append("[^/]*")
        elif not piece.startswith("{"):
            parts.append(re.escape(piece))
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            parts.append(f"(?P<{name}>{_PLACES[name]})")
            seen.add(name)
    return re.compile("".join(parts))


def _walk(
    folder: Path,
    levels: list[re.Pattern[str]],
    known: dict[str, str],
    others: list[str],
    folders: bool,
) -> Iterator[Found]:
    last = len(levels) == 1
    for entry in list_folder(folder, private=bool(known)):
        match = levels[0].fullmatch(entry.name)
        said = match.groupdict() if match else {}
        fits = match is not None and all(known.get(k, v) == v for k, v in said.items())
        if not fits:
            if last and (folders or entry.is_file()) and not entry.name.startswith("."):
                others.append(entry.name)
        elif last and (folders or entry.is_file()):
            yield _found({**known, **said}, Path(entry.path))
        elif not last and entry.is_dir():
            yield from _walk(Path(entry.path), levels[1:], {**known, **said}, others, folders)


def _found(said: dict[str, str], path: Path) -> Found:
    sample_id = check_label(said["id"], "id", "a file name")
    return Found(sample_id, check_label(said.get("visit", ""), "visit", "a file name"), path)


def _fill(pattern: str | None, hit: Found, folder: Path) -> Path | None:
    if pattern is None:
        return None
    compile_pattern(pattern)
    if "*" in pattern:
        raise UsageError(explain(f"the pattern {pattern!r} holds *", expected="One file per image"))
    return folder / pattern.replace("{id}", hit.sample_id).replace("{visit}", hit.visit)


def list_folder(folder: str | Path, *, private: bool = True) -> list[os.DirEntry[str]]:
    """List a folder; where its name may be a person's, messages mask it."""
    path = Path(folder)
    shown = Path(redact(path.name)) if private else path
    if path.is_file():
        raise OpenError(explain(f"{shown} is a file", expected="A folder"))
    with explained(shown), os.scandir(path) as entries:
        return list(entries)

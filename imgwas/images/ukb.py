"""UK Biobank's bulk zips, ``{eid}_{field}_{instance}_{array}.zip``, read where they lie."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imgwas.checks import check_option
from imgwas.errors import ImgwasError, MalformedError, RefusedError, UsageError, explain, first_ids
from imgwas.images.folders import list_folder
from imgwas.images.listing import Dropped, ImageFile, ImageList
from imgwas.images.zips import find_member, list_members

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<id>\d+)_(?P<field>\d+)_(?P<instance>\d+)_(?P<array>\d+)\.zip")
#: Folders of the research platform: the first two digits of the eids below.
_SHARD = re.compile(r"\d{2}")


@dataclass(frozen=True)
class BulkZip:
    """What the name of one zip says."""

    sample_id: str
    field: str
    instance: str
    array: str
    path: Path


@dataclass(frozen=True)
class Members:
    """Names inside the zips of a field, without their folders, which vary between releases."""

    image: str
    mask: str = ""
    matrix: str = ""


#: field -> the brain-extracted, bias-corrected image and what belongs to it
MEMBERS = {
    "20252": Members("T1_unbiased_brain.nii.gz", "T1_brain_mask.nii.gz", "T1_to_MNI_linear.mat"),
    "20253": Members("T2_FLAIR_unbiased_brain.nii.gz", "", "T2_FLAIR_to_MNI_linear.mat"),
}
Progress = Callable[[int], object]


def images_from_ukb(
    folder: str | Path,
    *,
    field: str | None = None,
    image: str | None = None,
    mask: str | None = None,
    matrix: str | None = None,
    array: str = "0",
    missing: str = "error",
    progress: Progress | None = None,
) -> ImageList:
    """Find NIfTI members of bulk zips; nothing is unpacked.

    Members are found by name in whatever folder of the zip they lie, except folders called
    ``unusable`` or ``incompatible``. The visit of an image is its instance; mask and matrix are
    names in the same zip.

    Parameters
    ----------
    folder : path
        Folder of zips, or of folders named by two digits as on the research platform.
    field : {"20252", "20253", ...}, optional
        Needed when the folder holds several.
    image, mask, matrix : str, optional
        Names of the members. For field 20252 by default ``T1_unbiased_brain.nii.gz``,
        ``T1_brain_mask.nii.gz`` and ``T1_to_MNI_linear.mat``, the last two where they are.
    array : str, default "0"
        Array index to take; others are left out and counted.
    missing : {"error", "drop"}
        What happens to zips that are damaged or lack a member that was asked for.
    progress : callable, optional
        Called with 1 after each zip.

    Returns
    -------
    ImageList
        Sorted by eid and instance.

    Raises
    ------
    RefusedError
        If a zip plays tricks: names that lead out of it, links, bombs.
    MalformedError
        If zips are damaged or lack the image, and ``missing`` is "error".
    """
    check_option("missing", missing, ["drop", "error"])
    zips, dropped = find_zips(folder, field=field, array=array)
    wanted = _wanted(zips[0].field, image, mask, matrix)
    with ThreadPoolExecutor(8) as pool:
        looked = []
        for result in pool.map(lambda item: _look(item, *wanted), zips):
            looked.append(result)
            if progress:
                progress(1)
    _raise_refused([r for r in looked if isinstance(r, RefusedError)], len(zips))
    files = tuple(r for r in looked if isinstance(r, ImageFile))
    bad = [(z, str(r)) for z, r in zip(zips, looked, strict=True) if isinstance(r, ImgwasError)]
    if bad and (missing == "error" or not files):
        raise MalformedError(_bad_zips(bad, len(zips)))
    for reason in dict.fromkeys(reason for _, reason in bad):
        ids = [item.sample_id for item, why in bad if why == reason]
        dropped.append(Dropped(reason.rstrip("."), len(ids), first_ids(ids)))
    _mention_optional(files)
    return ImageList(files, tuple(dropped))


def find_zips(
    folder: str | Path, *, field: str | None, array: str = "0"
) -> tuple[list[BulkZip], list[Dropped]]:
    """List the bulk zips of one field by their names alone, sorted by eid and instance.

    Raises
    ------
    UsageError
        If there are none, or of several fields and none was chosen.
    """
    folder = Path(folder).expanduser()
    zips, others = [], []
    for path in _scan(folder):
        match = _NAME.fullmatch(path.name)
        if match:
            zips.append(
                BulkZip(match["id"], match["field"], match["instance"], match["array"], path)
            )
        elif not path.name.startswith("."):
            others.append(path.name)
    fields = sorted({z.field for z in zips})
    if not zips or (field is not None and field not in fields):
        what = f"{folder} holds no {{eid}}_{field or '{field}'}_{{instance}}_{{array}}.zip"
        raise UsageError(
            explain(what, where=f"Fields there: {', '.join(fields) or 'none'}", do="See --field")
        )
    if field is None and len(fields) > 1:
        raise UsageError(
            explain(f"{folder} holds fields {', '.join(fields)}", do=f"Choose: --field {fields[0]}")
        )
    of_field = [z for z in zips if z.field == (field or fields[0])]
    chosen = [z for z in of_field if z.array == array]
    notes = [("the name is not eid_field_instance_array.zip", others),
             (f"the array index is not {array}",
              [z.sample_id for z in of_field if z.array != array])]  # fmt: skip
    if not chosen:
        raise UsageError(explain(f"{folder} holds no zip of array index {array}", do="See --array"))
    chosen.sort(key=lambda z: (z.sample_id, int(z.instance)))
    return chosen, [Dropped(why, len(names), first_ids(names)) for why, names in notes if names]


def _scan(folder: Path) -> Iterator[Path]:
    for entry in list_folder(folder, private=False):
        if _SHARD.fullmatch(entry.name) and entry.is_dir():
            yield from (Path(e.path) for e in list_folder(entry.path) if e.is_file())
        elif entry.is_file():
            yield Path(entry.path)


def _wanted(
    field: str, image: str | None, mask: str | None, matrix: str | None
) -> tuple[Members, frozenset[str]]:
    """Members to look for, and which of them must be there."""
    usual = MEMBERS.get(field, Members(""))
    chosen = Members(image or usual.image, mask or usual.mask, matrix or usual.matrix)
    if not chosen.image:
        raise UsageError(
            explain(
                f"the image of field {field} has no usual name",
                do="Name the member: --image T1_brain.nii.gz",
            )
        )
    return chosen, frozenset(name for name in (chosen.image, mask, matrix) if name)


def _look(item: BulkZip, wanted: Members, required: frozenset[str]) -> ImageFile | ImgwasError:
    """Find the members of one zip; what is wrong with it is returned, for all to be named."""
    try:
        members = list_members(item.path)
        found = {
            name: find_member(members, name)
            for name in (wanted.image, wanted.mask, wanted.matrix)
            if name
        }
    except ImgwasError as error:
        return error
    lacking = sorted(name for name in required if not found[name])
    if lacking:
        return MalformedError(f"the zip has no {lacking[0]}")
    mask, matrix = found.get(wanted.mask, ""), found.get(wanted.matrix, "")
    return ImageFile(
        item.sample_id,
        item.path,
        member=found[wanted.image],
        visit=item.instance,
        mask=Path(mask) if mask else None,
        matrix=Path(matrix) if matrix else None,
    )


def _raise_refused(refused: Sequence[RefusedError], n_zips: int) -> None:
    if refused:
        raise RefusedError(
            explain(f"{len(refused):,} of {n_zips:,} zips are refused", where=str(refused[0]))
        )


def _bad_zips(bad: Sequence[tuple[BulkZip, str]], n_zips: int) -> str:
    counts: dict[str, list[str]] = {}
    for item, reason in bad:
        counts.setdefault(reason.rstrip("."), []).append(item.sample_id)
    where = "; ".join(f"{len(ids):,}: {why} ({first_ids(ids)})" for why, ids in counts.items())
    return explain(
        f"{len(bad):,} of {n_zips:,} zips cannot be used",
        where=where,
        do="Leave them out with --missing drop, or name another member with --image",
    )


def _mention_optional(files: Sequence[ImageFile]) -> None:
    for what, n in (
        ("mask", sum(f.mask is None for f in files)),
        ("matrix", sum(f.matrix is None for f in files)),
    ):
        if 0 < n < len(files):
            logger.warning("%s of %s zips have no %s", f"{n:,}", f"{len(files):,}", what)

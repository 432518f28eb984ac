"""BIDS folders, raw or derivatives: file names taken apart, nothing indexed, spaces never mixed."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgwas.checks import check_option
from imgwas.errors import InconsistentError, UsageError, explain, first_ids
from imgwas.images.checking import check_files, check_label
from imgwas.images.folders import list_folder
from imgwas.images.listing import Dropped, ImageFile, ImageList
from imgwas.tables.source import read_table

logger = logging.getLogger(__name__)

#: ``sub-01_ses-2_space-MNI152NLin6Asym_T1w.nii.gz``: entities, suffix, ending.
_NAME = re.compile(
    r"(?P<entities>(?:[A-Za-z]+-[A-Za-z0-9.+]+_)+)(?P<suffix>[A-Za-z0-9]+)\.nii(\.gz)?"
)
#: Entities that say what lattice or processing an image has: one choice for everyone.
_ONE_FOR_ALL = ("space", "res", "cohort", "den", "desc", "label")
#: Value of an entity that a file name does not have.
NONE = "none"


@dataclass(frozen=True)
class BidsName:
    """What a BIDS file name says."""

    entities: Mapping[str, str]
    suffix: str

    def get(self, entity: str) -> str:
        """Value of an entity; ``none`` where the name has no such entity."""
        return self.entities.get(entity, NONE)


@dataclass(frozen=True)
class _Hit:
    name: BidsName
    path: Path

    @property
    def person(self) -> str:
        return self.name.entities["sub"]

    @property
    def session(self) -> str:
        return self.name.entities.get("ses", "")


def parse_bids_name(name: str) -> BidsName | None:
    """Take a BIDS file name apart; None if it is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    pairs = [pair.split("-", 1) for pair in match["entities"].rstrip("_").split("_")]
    entities = {pair[0]: pair[1] for pair in pairs}
    return BidsName(entities, match["suffix"]) if len(entities) == len(pairs) else None


def images_from_bids(
    folder: str | Path,
    *,
    suffix: str = "T1w",
    datatype: str = "anat",
    space: str | None = None,
    desc: str | None = None,
    session: str | None = None,
    run: str | None = None,
    entities: Mapping[str, str] | None = None,
    mask: str | None = None,
    missing: str = "error",
) -> ImageList:
    """Find images of one kind in a BIDS folder.

    ``sub-<label>`` is the person ``<label>`` and ``ses-<label>`` the visit. Entities that were not
    chosen must leave no choice: one space, resolution and description for everyone, one file per
    person and session.

    Parameters
    ----------
    folder : path
        Root of the raw data or of one derivative: it holds the ``sub-`` folders.
    suffix : str, default "T1w"
        Last word of the file names.
    datatype : str, default "anat"
        Folder below the person or session.
    space, desc : str, optional
        Value of the entity; ``none`` takes files without it (native space).
    session : str, optional
        Only this session.
    run : str, optional
        Number of the run, or "first" or "last" where a session has several.
    entities : mapping of str to str, optional
        Further choices, such as ``{"acq": "mprage", "res": "1"}``.
    mask : str, optional
        ``desc`` of the masks beside the images, usually ``brain``.
    missing : {"error", "drop"}
        What happens to images without that mask.

    Returns
    -------
    ImageList
        Sorted by label and session. People of ``participants.tsv`` without an image are counted.

    Raises
    ------
    UsageError
        If nothing fits; what there is is named.
    InconsistentError
        If spaces, resolutions or descriptions would be mixed, or a session has several images.

    References
    ----------
    .. [1] Gorgolewski et al. (2016), Scientific Data 3:160044.
    """
    check_option("missing", missing, ["drop", "error"])
    folder = Path(folder).expanduser()
    everything = list(_scan(folder, datatype))
    wanted = dict(entities or {})
    wanted |= {k: v for k, v in (("space", space), ("desc", desc), ("ses", session)) if v}
    if run not in (None, "first", "last"):
        wanted["run"] = run
    hits = [hit for hit in everything if hit.name.suffix == suffix and _fits(hit.name, wanted)]
    if not hits:
        raise UsageError(_nothing(everything, suffix, wanted, folder, datatype))
    _check_one_kind(hits)
    hits = _choose_runs(hits, run)
    _check_one_each(hits)
    masks = _masks(everything, mask)
    files = [
        ImageFile(
            check_label(hit.person, "id", "a folder"),
            hit.path,
            visit=hit.session,
            mask=_mask_of(hit, masks, mask) if mask else None,
        )
        for hit in sorted(hits, key=lambda h: (h.person, h.session))
    ]
    images = ImageList(tuple(files), _not_found(folder, {f.sample_id for f in files}))
    return check_files(images, missing=missing)


def _scan(folder: Path, datatype: str) -> Iterator[_Hit]:
    """Walk ``sub-*/[ses-*/]datatype`` with one listing of each folder."""
    people = [e.path for e in list_folder(folder, private=False) if _is_part(e, "sub-")]
    for person in people:
        for place in _places(person, datatype):
            for entry in list_folder(place):
                name = parse_bids_name(entry.name)
                if name and f"sub-{name.get('sub')}" == os.path.basename(person):  # noqa: PTH119
                    yield _Hit(name, Path(entry.path))


def _is_part(entry: os.DirEntry[str], prefix: str) -> bool:
    return entry.name.startswith(prefix) and entry.is_dir()


def _places(person: str, datatype: str) -> Iterator[str]:
    for entry in list_folder(person):
        if entry.name == datatype and entry.is_dir():
            yield entry.path
        elif _is_part(entry, "ses-"):
            yield from (
                e.path for e in list_folder(entry.path) if e.name == datatype and e.is_dir()
            )


def _fits(name: BidsName, wanted: Mapping[str, str]) -> bool:
    return all(_same(key, name.get(key), value) for key, value in wanted.items())


def _same(key: str, found: str, wanted: str) -> bool:
    """Compare labels as they are; runs are numbers, so that 1 is 01."""
    if key == "run" and found.isdigit() and wanted.isdigit():
        return int(found) == int(wanted)
    return found == wanted.removeprefix(f"{key}-")


def _check_one_kind(hits: list[_Hit]) -> None:
    """Refuse to mix spaces, resolutions or descriptions, over people as well as within one."""
    for entity in _ONE_FOR_ALL:
        values = Counter(hit.name.get(entity) for hit in hits)
        if len(values) > 1:
            counts = ", ".join(f"{v} ({n:,} files)" for v, n in values.most_common(8))
            option = f"--{entity} " if entity in ("space", "desc") else f"--entity {entity}="
            raise InconsistentError(
                explain(
                    f"the images are of several kinds: {entity} is {counts}",
                    expected=f"One {entity} for everyone: images of different spaces or processing "
                    "do not lie on each other",
                    do=f"Choose one: {option}{values.most_common(1)[0][0]}",
                )
            )


def _choose_runs(hits: list[_Hit], run: str | None) -> list[_Hit]:
    """Take the first or last run of every session, other entities being equal."""
    if run not in ("first", "last"):
        return hits
    groups: dict[tuple[object, ...], list[_Hit]] = {}
    for hit in hits:
        rest = sorted((k, v) for k, v in hit.name.entities.items() if k != "run")
        groups.setdefault(tuple(rest), []).append(hit)
    end = 0 if run == "first" else -1
    return [sorted(group, key=_run_number)[end] for group in groups.values()]


def _run_number(hit: _Hit) -> int:
    run = hit.name.entities.get("run", "0")
    return int(run) if run.isdigit() else 0


def _check_one_each(hits: list[_Hit]) -> None:
    groups: dict[tuple[str, str], list[_Hit]] = {}
    for hit in hits:
        groups.setdefault((hit.person, hit.session), []).append(hit)
    several = {key: group for key, group in groups.items() if len(group) > 1}
    if not several:
        return
    differ = Counter(
        entity
        for group in several.values()
        for entity in sorted({k for hit in group for k in hit.name.entities})
        if len({hit.name.get(entity) for hit in group}) > 1
    )
    entity = differ.most_common(1)[0][0] if differ else "the ending"
    group = next(iter(several.values()))
    values = sorted({hit.name.get(entity) for hit in group})
    choice = "--run last" if entity == "run" else f"--entity {entity}={values[-1]}"
    raise InconsistentError(
        explain(
            f"{len(several):,} sessions have several images that differ in {entity} "
            f"({', '.join(values)})",
            expected="One image per person and session",
            where=first_ids([person for person, _ in several]),
            do=f"Choose: {choice}" if differ else "Keep one of .nii and .nii.gz",
        )
    )


_MATCHED = ("sub", "ses", "space", "res", "run", "acq")


def _masks(everything: list[_Hit], desc: str | None) -> dict[tuple[str, ...], Path]:
    return {
        tuple(hit.name.get(key) for key in _MATCHED): hit.path
        for hit in everything
        if desc and hit.name.suffix == "mask" and hit.name.get("desc") == desc
    }


def _mask_of(hit: _Hit, masks: Mapping[tuple[str, ...], Path], desc: str) -> Path:
    """Mask of an image; where there is none, the name that it would have."""
    key = tuple(hit.name.get(k) for k in _MATCHED)
    words = [f"{k}-{v}" for k, v in hit.name.entities.items() if k != "desc"]
    return masks.get(key, hit.path.with_name("_".join([*words, f"desc-{desc}_mask.nii.gz"])))


def _nothing(
    everything: list[_Hit], suffix: str, wanted: Mapping[str, str], folder: Path, datatype: str
) -> str:
    chosen = ", ".join(f"{k}-{v}" for k, v in wanted.items())
    what = f"no {suffix} image{' with ' + chosen if chosen else ''} below {folder}"
    if not everything:
        return explain(
            what,
            where=f"There is no sub-*/{datatype} or sub-*/ses-*/{datatype} with NIfTI files",
            do="Name the folder that holds the sub- folders, and --datatype",
        )
    of_suffix = [hit for hit in everything if hit.name.suffix == suffix]
    if not of_suffix:
        suffixes = Counter(hit.name.suffix for hit in everything)
        return explain(what, where=f"There are {_top(suffixes)}", do="Choose one: --suffix")
    where = "; ".join(
        f"{key} is {_top(Counter(hit.name.get(key) for hit in of_suffix))}" for key in wanted
    )
    return explain(what, where=f"There are {len(of_suffix):,} {suffix} images: {where}")


def _top(counts: Counter[str]) -> str:
    return ", ".join(f"{value} ({n:,})" for value, n in counts.most_common(8))


def _not_found(folder: Path, found: Collection[str]) -> tuple[Dropped, ...]:
    """Count the people of participants.tsv without an image."""
    path = folder / "participants.tsv"
    if not path.exists():
        return ()
    table = read_table(path)
    if "participant_id" not in table.column_names:
        logger.warning("participants.tsv has no column participant_id")
        return ()
    known = [str(v).removeprefix("sub-") for v in table["participant_id"].to_pylist()]
    absent = [label for label in known if label not in found]
    strangers = len(set(found) - set(known))
    if strangers:
        logger.warning("%s people with an image are not in participants.tsv", f"{strangers:,}")
    reason = "in participants.tsv, and no image"
    return (Dropped(reason, len(absent), first_ids(absent)),) if absent else ()

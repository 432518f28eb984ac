"""Ids of images turned into ids of genotypes, and people who withdrew."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from imgwas.errors import InconsistentError, MalformedError, RefusedError, explain, first_ids
from imgwas.images.listing import ImageList
from imgwas.images.matching import repairs_that_help, shapes
from imgwas.tables.columns import find_ids
from imgwas.tables.id_lists import read_id_list
from imgwas.tables.source import read_table

logger = logging.getLogger(__name__)


def read_bridge(
    path: str | Path, *, image_id: str | None = None, genotype_id: str | None = None
) -> dict[str, str]:
    """Read a table that pairs ids of images with ids of genotypes, one to one.

    Parameters
    ----------
    path : path
        A table with a header.
    image_id, genotype_id : str, optional
        Its columns; by default the first and the second of a table of two.

    Returns
    -------
    dict
        Genotype id of each image id, both as they are written.

    Raises
    ------
    InconsistentError
        If an image id has several genotype ids, or several share one; both are counted.
    MalformedError
        If there is no header, or more columns than two and none chosen.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    names = table.column_names
    if image_id is None and genotype_id is None and len(names) != 2:
        raise MalformedError(
            explain(
                f"{path} has {len(names)} columns",
                expected="Two: id of the image, id of the genotypes",
                do="Name them: --bridge-columns eid,IID",
            )
        )
    if all(re.fullmatch(r"[-\d.]+", name) for name in names):
        raise MalformedError(
            explain(
                f"the first line of {path} holds numbers, so the header may be missing",
                do="Write a first line such as: eid IID",
            )
        )
    chosen = (image_id or names[0], genotype_id or names[1])
    left, right = (_column(table, name, path) for name in chosen)
    pairs = list(dict.fromkeys(zip(left, right, strict=True)))
    several = [i for i, n in Counter(a for a, _ in pairs).items() if n > 1]
    shared = [i for i, n in Counter(b for _, b in pairs).items() if n > 1]
    if several or shared:
        raise InconsistentError(
            explain(
                f"{path} is not one to one: {len(several):,} image ids have several genotype ids "
                f"({first_ids(several)}), {len(shared):,} genotype ids belong to several image "
                f"ids ({first_ids(shared)})",
                expected="Each id once on each side",
                do="Remove the rows that are wrong; a brain with another person's genotypes is "
                "worse than none",
            )
        )
    return dict(pairs)


def _column(table: pa.Table, name: str, path: Path) -> tuple[str, ...]:
    column = table.select([name]) if name in table.column_names else table
    return find_ids(column, path, name).sample_ids


def apply_bridge(images: ImageList, bridge: Mapping[str, str]) -> ImageList:
    """Give every image the genotype id of its person.

    Parameters
    ----------
    images : ImageList
        Under the ids of the images.
    bridge : mapping of str to str
        As :func:`read_bridge` returns it.

    Returns
    -------
    ImageList
        Under the ids of the genotypes; people outside the bridge are left out and counted.

    Raises
    ------
    InconsistentError
        If the bridge knows none of them.
    """
    ids = set(images.sample_ids)
    known = ids & set(bridge)
    if not known:
        back = len(ids & set(bridge.values()))
        do = (
            f"{back:,} are in its other column: exchange the columns (--bridge-columns)"
            if back
            else repairs_that_help(ids, set(bridge)) or "Check that the bridge is of this study"
        )
        raise InconsistentError(
            explain(
                f"the bridge knows none of the {len(ids):,} people with images",
                where=f"Ids of images look like {shapes(ids)}; of the bridge like {shapes(bridge)}",
                do=do,
            )
        )
    outside = [i for i, f in enumerate(images) if f.sample_id not in bridge]
    kept = images.without(outside, "not in the bridge table")
    files = tuple(replace(f, sample_id=bridge[f.sample_id]) for f in kept)
    return ImageList(files, kept.dropped)


def read_withdrawn(path: str | Path) -> frozenset[str]:
    """Read ids of people who withdrew, one a line.

    Raises
    ------
    MalformedError
        If a line holds more than an id: commas and quotation marks would hide whom it names.
    """
    ids = read_id_list(path).sample_ids
    odd = [i for i in ids if re.search(r"[,;\"']", i)]
    if odd:
        raise MalformedError(
            explain(
                f"{path}: {len(odd):,} lines hold commas or quotation marks",
                expected="One id a line and nothing else, so that nobody is overlooked",
            )
        )
    return frozenset(ids)


def leave_out_withdrawn(
    images: ImageList, withdrawn: Collection[str], *, drop: bool = False
) -> ImageList:
    """Refuse images of people who withdrew, or leave them out on request.

    Parameters
    ----------
    images : ImageList
        Under the ids that the list of withdrawals uses: those of the images, before any bridge.
    withdrawn : collection of str
        Ids.
    drop : bool, default False
        Leave them out instead of refusing.

    Raises
    ------
    RefusedError
        If there are any and ``drop`` is False, or if ids would only match after a repair, so that
        nobody can tell who withdrew. The message holds counts, no ids.
    """
    gone = set(withdrawn)
    rows = [i for i, f in enumerate(images) if f.sample_id in gone]
    if rows and not drop:
        n = len({images.files[i].sample_id for i in rows})
        raise RefusedError(
            explain(
                f"{n:,} people with images withdrew from the study",
                expected="Their data must not be used",
                do="Delete their images, or leave them out: --drop-withdrawn",
            )
        )
    hint = "" if rows else repairs_that_help(gone, set(images.sample_ids))
    if hint:
        raise RefusedError(
            explain(
                f"none of the {len(gone):,} ids of withdrawn people matches as it is written",
                where=f"Ids of images look like {shapes(images.sample_ids)}; withdrawn ids like "
                f"{shapes(gone)}",
                do=hint,
            )
        )
    if not rows:
        return images
    kept = images.without(rows, "withdrew from the study")
    *others, last = kept.dropped
    logger.warning("%s images of withdrawn people are left out", f"{last.n:,}")
    return ImageList(kept.files, (*others, replace(last, examples="")))

"""Repeat visits: which image of a person counts, or all of them and the mean of their latents."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from imgwas.errors import InconsistentError, UsageError, explain, first_ids
from imgwas.images.listing import ImageList
from imgwas.types import Latents

#: Rules that need no label.
RULES = ("first", "last", "average", "all")


def choose_visits(images: ImageList, visit: str = "first") -> ImageList:
    """Keep one image per person, or all of them.

    Parameters
    ----------
    images : ImageList
        With several images of a person told apart by ``visit``.
    visit : str, default "first"
        ``first`` or ``last`` by the numbers in the labels (instance 2, else 3); ``all`` keeps
        every image as a row of its own, and so does ``average``, whose latents are averaged after
        encoding by :func:`average_visits`; any other word is a label, and ``3,2`` are labels in
        order of preference.

    Returns
    -------
    ImageList
        What was left out is counted in ``dropped``.

    Raises
    ------
    UsageError
        If the labels have no order that can be known, or nobody has the visit.
    """
    if visit in ("all", "average"):
        return images
    rows: dict[str, list[int]] = {}
    for row, file in enumerate(images):
        rows.setdefault(file.sample_id, []).append(row)
    if visit in ("first", "last"):
        kept = _by_order(images, rows, visit)
        return images.without(set(range(len(images))) - kept, f"not the {visit} visit")
    return _by_label(images, rows, visit)


def _by_order(images: ImageList, rows: dict[str, list[int]], visit: str) -> set[int]:
    labels = [images.files[i].visit for several in rows.values() if len(several) > 1
              for i in several]  # fmt: skip
    skeletons = {re.sub(r"\d+", "#", label) for label in labels}
    if len(skeletons) > 1 or (skeletons and "#" not in next(iter(skeletons))):
        names = ", ".join(name or "(none)" for name, _ in Counter(labels).most_common(6))
        raise UsageError(
            explain(
                f"the visits of people with several are called {names}",
                expected="Labels that differ in their numbers only, such as 2 and 3 or M00 and M12",
                do="Name them in order of preference: --visit baseline,followup",
            )
        )
    choose = min if visit == "first" else max
    return {choose(several, key=lambda i: _order(images.files[i].visit)) for several in
            rows.values()}  # fmt: skip


def _order(label: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", label)], label


def _by_label(images: ImageList, rows: dict[str, list[int]], visit: str) -> ImageList:
    wanted = [label.strip() for label in visit.split(",")]
    there = Counter(file.visit for file in images)
    if not any(label in there for label in wanted):
        names = ", ".join(f"{name or '(none)'} ({n:,})" for name, n in there.most_common(8))
        raise UsageError(
            explain(
                f"no image is of visit {' or '.join(wanted)}",
                expected=f"One of {', '.join(RULES)}, or a label",
                where=f"Visits there: {names}",
            )
        )
    rank = {label: number for number, label in enumerate(wanted)}
    best: dict[str, int] = {}
    for person, several in rows.items():
        usable = [i for i in several if images.files[i].visit in rank]
        if usable:
            best[person] = min(usable, key=lambda i: rank[images.files[i].visit])
    others = {i for person in best for i in rows[person]} - set(best.values())
    reduced = images.without(others, f"not the visit {wanted[0]}" if len(wanted) == 1
                             else "a visit that comes first is there")  # fmt: skip
    without = [i for i, file in enumerate(reduced) if file.sample_id not in best]
    return reduced.without(without, f"the person has no visit {' or '.join(wanted)}")


def average_visits(latents: Latents) -> Latents:
    """Average the latents of each person's visits.

    Rows are named ``IID@visit``, as :attr:`ImageList.row_ids` names them. The mean is over the
    visits at which a latent is not missing; it is missing where all are.

    Parameters
    ----------
    latents : Latents
        One row per image.

    Returns
    -------
    Latents
        One row per person, in the order of their first row. ``source["people_by_visits"]`` counts
        people by their number of visits.

    Raises
    ------
    InconsistentError
        If a row is not named by person and visit.
    """
    people = [name.rpartition("@")[0] for name in latents.sample_ids]
    plain = [n for n, person in zip(latents.sample_ids, people, strict=True) if not person]
    if plain:
        raise InconsistentError(
            explain(
                f"{len(plain):,} of {len(people):,} rows are not named IID@visit",
                where=first_ids(plain),
                do="Encode with --visit average, or leave the averaging out",
            )
        )
    names = list(dict.fromkeys(people))
    row_of = {name: row for row, name in enumerate(names)}
    target = np.array([row_of[person] for person in people], np.int64).reshape(len(people))
    present = np.isfinite(latents.values)
    total = np.zeros((len(names), len(latents.names)))
    count = np.zeros_like(total)
    np.add.at(total, target, np.where(present, latents.values, 0.0))
    np.add.at(count, target, present)
    with np.errstate(invalid="ignore"):
        mean = total / count
    visits = Counter(Counter(people).values())
    by_visits = {str(n): visits[n] for n in sorted(visits)}
    return Latents(
        values=mean,
        sample_ids=tuple(names),
        names=latents.names,
        source={**latents.source, "visits": "average", "people_by_visits": by_visits},
    )

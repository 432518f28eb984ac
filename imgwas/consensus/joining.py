"""Tables of several seeds brought to the people who have everything."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    TooFewSamplesError,
    UsageError,
    explain,
)
from imgwas.latents.basis import centred
from imgwas.latents.joining import join_tables
from imgwas.latents.ledger import mark_people, who_was_seen
from imgwas.types import Latents

logger = logging.getLogger(__name__)


def join_latents(
    tables: Mapping[str, Latents] | Sequence[Latents], *, min_overlap: float = 0.5
) -> dict[str, Latents]:
    """Bring tables to the people who are in all of them and lack nothing in any.

    Parameters
    ----------
    tables : mapping from name to Latents, or sequence of Latents
        Two or more. A sequence is named after the files, or ``seed1``, ``seed2``, ...
    min_overlap : float, default 0.5
        Share of the smallest table whose people all tables must have.

    Returns
    -------
    dict
        The tables by name, with the same people in the same order, without constant latents
        (a warning names them).

    Raises
    ------
    InconsistentError
        If too few people are shared.
    TooFewSamplesError
        If fewer than three of them have every latent.
    """
    named = dict(tables) if isinstance(tables, Mapping) else _name_tables(tables)
    join = join_tables(list(named.values()), names=list(named), min_overlap=min_overlap)
    rows = dict(zip(named, join.rows, strict=True))
    complete = np.all(
        [np.isfinite(table.values[rows[name]]).all(axis=1) for name, table in named.items()], axis=0
    )
    n = int(complete.sum())
    if n < 3:
        raise TooFewSamplesError(
            explain(
                f"{n} of {len(complete):,} shared people have every latent",
                expected="At least 3",
                do="Leave out latents that many people lack",
            )
        )
    if n < len(complete):
        logger.warning(
            "%s of %s shared people have every latent; the others are left out",
            f"{n:,}", f"{len(complete):,}",
        )  # fmt: skip
    return {name: _chosen(name, table, rows[name][complete]) for name, table in named.items()}


def joined_source(tables: Mapping[str, Latents]) -> dict[str, Any]:
    """What a table made of several must remember of them: encoders, and whom these have seen.

    A person whom any of the encoders has seen counts as seen. Their ledgers hold salted digests
    that cannot be united, so the ids of the joined people are looked up in each, and a new one is
    written of those who were found.
    """
    first = next(iter(tables.values()))
    sources = [table.source for table in tables.values()]
    found: dict[str, Any] = {}
    encoders = sorted({str(one["encoder"]) for one in sources if "encoder" in one})
    if encoders:
        found["encoder"] = "+".join(encoders)
    if any(one.get("in_sample") for one in sources):
        found["in_sample"] = True
    ledgers = [one["people_seen"] for one in sources if one.get("people_seen")]
    if ledgers:
        seen = np.any([who_was_seen(marks, first.sample_ids) for marks in ledgers], axis=0)
        found["people_seen"] = mark_people([first.sample_ids[i] for i in np.flatnonzero(seen)])
        if len(ledgers) < len(sources):
            n = len(sources) - len(ledgers)
            logger.warning("of %d tables it is not known whom their encoders have seen", n)
    return found


def _name_tables(tables: Sequence[Latents]) -> dict[str, Latents]:
    """Name tables after their files where these tell them apart."""
    stems = [Path(str(table.source.get("file", ""))).stem for table in tables]
    if not all(stems) or len(set(stems)) < len(stems):
        stems = [f"seed{number + 1}" for number in range(len(tables))]
    return dict(zip(stems, tables, strict=True))


def _chosen(name: str, table: Latents, rows: np.ndarray) -> Latents:
    values = np.asarray(table.values[rows], np.float64)
    varies = centred(values).any(axis=0)
    if not varies.any():
        raise DegenerateError(explain(f"no latent of {name} varies among the shared people"))
    names = np.array(table.names, object)
    if not varies.all():
        logger.warning("constant in %s, left out: %s", name, ", ".join(names[~varies][:10]))
    families = table.family_ids
    return replace(
        table,
        values=values[:, varies],
        names=tuple(names[varies]),
        sample_ids=tuple(table.sample_ids[i] for i in rows),
        family_ids=None if families is None else tuple(families[i] for i in rows),
    )


def check_joined(tables: Mapping[str, Latents]) -> None:
    """Refuse tables that are not of the same people in the same order, or have gaps."""
    first, *others = tables.values()
    if not others:
        raise UsageError(explain("one table was given", expected="Two or more"))
    for table in tables.values():
        if table.sample_ids != first.sample_ids or table.family_ids != first.family_ids:
            raise InconsistentError(
                explain("the tables hold other people, or these in another order",
                        do="Join them first: join_latents(tables)")
            )  # fmt: skip
        if np.isnan(table.values).any():
            raise InconsistentError(
                explain("a table has missing values", do="Join them first: join_latents(tables)")
            )

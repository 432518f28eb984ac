"""Tables of the same people brought into one order by id, never by position."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_range, duplicates
from imgwas.errors import InconsistentError, UsageError, explain, first_ids
from imgwas.shapes import Float64, Int64
from imgwas.types import Covariates, Latents

logger = logging.getLogger(__name__)

Table = Latents | Covariates


@dataclass(frozen=True)
class Join:
    """People that all tables have, in the order of the first.

    Parameters
    ----------
    sample_ids, family_ids
        Of the shared people.
    rows : tuple of (people,) int array
        Their rows in each table.
    """

    sample_ids: tuple[str, ...]
    family_ids: tuple[str, ...] | None
    rows: tuple[Int64[np.ndarray, " people"], ...]

    def __repr__(self) -> str:
        return f"Join({len(self.sample_ids):,} people of {len(self.rows)} tables)"


def join_tables(
    tables: Sequence[Table], *, names: Sequence[str] | None = None, min_overlap: float = 0.5
) -> Join:
    """Find the people that every table has.

    Ids are exact strings: IID alone while it tells people apart in every table, else FID and IID.

    Parameters
    ----------
    tables : sequence of Latents or Covariates
        Two or more.
    names : sequence of str, optional
        What messages call them.
    min_overlap : float, default 0.5
        Share of the smallest table whose people all tables must have.

    Returns
    -------
    Join

    Raises
    ------
    InconsistentError
        If too few people are shared, or ids are ambiguous.
    """
    check_range("min_overlap", min_overlap, low=0, high=1)
    if len(tables) < 2:
        raise UsageError(explain(f"{len(tables)} table was given", expected="Two or more"))
    called = list(names) if names else [f"table {i + 1}" for i in range(len(tables))]
    keys = _keys(tables, called)
    places = [{key: row for row, key in enumerate(own)} for own in keys]
    shared = [key for key in keys[0] if all(key in place for place in places[1:])]
    smallest = min(len(own) for own in keys)
    if len(shared) < max(1, min_overlap * smallest):
        raise InconsistentError(_too_few(len(shared), keys, called, min_overlap))
    if any(len(own) > len(shared) for own in keys):
        logger.info(
            "%s people are in all of %s", f"{len(shared):,}",
            ", ".join(f"{name} ({len(own):,})" for name, own in zip(called, keys, strict=True)),
        )  # fmt: skip
    rows = tuple(np.array([place[key] for key in shared], np.int64) for place in places)
    first = tables[0]
    families = first.family_ids
    return Join(
        tuple(first.sample_ids[i] for i in rows[0]),
        None if families is None else tuple(families[i] for i in rows[0]),
        rows,
    )


def aligned_values(
    latents: Latents, covariates: Covariates, *, min_overlap: float = 0.5
) -> Float64[np.ndarray, "samples covariates"]:
    """Covariates of the people of ``latents``, in their order; NaN for people without a row."""
    join = join_tables(
        [latents, covariates], names=["the latents", "the covariates"], min_overlap=min_overlap
    )
    values = np.full((len(latents.sample_ids), len(covariates.names)), np.nan)
    values[join.rows[0]] = covariates.values[join.rows[1]]
    return values


def _keys(tables: Sequence[Table], called: Sequence[str]) -> list[list[str]]:
    repeated = [name for t, name in zip(tables, called, strict=True) if duplicates(t.sample_ids)]
    if not repeated:
        return [list(table.sample_ids) for table in tables]
    without = [n for t, n in zip(tables, called, strict=True) if t.family_ids is None]
    if without:
        raise InconsistentError(
            explain(
                f"sample ids repeat in {', '.join(repeated)}",
                expected="Then every table needs family ids too",
                where=f"{', '.join(without)} has none",
                do="Add an FID column, or keep one row per person",
            )
        )
    return [
        [f"{f}\t{i}" for f, i in zip(t.family_ids or (), t.sample_ids, strict=True)] for t in tables
    ]


def _too_few(n: int, keys: list[list[str]], called: Sequence[str], min_overlap: float) -> str:
    sizes = [f"{name} {len(own):,}, {first_ids(own)}" for name, own in zip(called, keys,
             strict=True)]  # fmt: skip
    return explain(
        f"{n:,} people are in all {len(keys)} tables",
        expected=f"At least {min_overlap:.0%} of the smallest table",
        where="; ".join(sizes),
        do="Check that the id columns hold the same kind of id (--id-column)",
    )

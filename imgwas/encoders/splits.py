"""Who is trained on and who is held out: whole people, with their relatives and repeat scans."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, UsageError, explain, first_ids


@dataclass(frozen=True)
class Split:
    """Rows of the images that a network learns from, and rows that it is judged on."""

    train: tuple[int, ...]
    validation: tuple[int, ...]

    def digest(self) -> str:
        """Identity of the split."""
        text = f"{self.train}|{self.validation}"
        return hashlib.sha256(text.encode()).hexdigest()


def split_people(
    sample_ids: Sequence[str],
    *,
    validation: float = 0.25,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
) -> Split:
    """Hold out a share of people; those of one group are never parted.

    The choice depends on ids and seed, not on the order of the rows.

    Parameters
    ----------
    sample_ids : sequence of str
        Whose image each row is.
    validation : float
        Share of people to hold out, above 0 and below 1.
    seed : int
        Another seed holds out others.
    groups : sequence of str, optional
        Family or person of each row: rows of one group stay together. By default the sample id.
    held_out : sequence of str, optional
        Exactly these people, with everyone of their groups, instead of a share.

    Raises
    ------
    UsageError
        If nobody would be left on one side.
    InconsistentError
        If a held-out id has no image.
    """
    keys = _keys(sample_ids, groups)
    if held_out is None:
        check_range("validation", validation, low=1e-9, high=1 - 1e-9)
        order = sorted(set(keys), key=lambda key: _shuffled(key, seed))
        chosen = set(order[: max(1, round(validation * len(order)))])
    else:
        here = set(sample_ids)
        unknown = [one for one in held_out if one not in here]
        if unknown:
            raise InconsistentError(
                explain(
                    f"{len(unknown):,} held-out people have no image",
                    where=first_ids(unknown),
                    do="Use ids of the list of images",
                )
            )
        wanted = set(held_out)
        chosen = {key for key, i in zip(keys, sample_ids, strict=True) if i in wanted}
    rows = np.array([key in chosen for key in keys])
    if rows.all() or not rows.any():
        raise UsageError(
            explain(
                f"{int(rows.sum()):,} of {len(rows):,} images would be held out",
                expected="Both training and validation need people",
            )
        )
    return Split(tuple(np.flatnonzero(~rows).tolist()), tuple(np.flatnonzero(rows).tolist()))


def fold_people(
    sample_ids: Sequence[str], n_folds: int, *, seed: int = 0, groups: Sequence[str] | None = None
) -> list[Split]:
    """Divide people into folds; each is the validation part once, groups stay together."""
    keys = _keys(sample_ids, groups)
    order = sorted(set(keys), key=lambda key: _shuffled(key, seed))
    if not 2 <= n_folds <= len(order):
        raise UsageError(
            explain(f"{n_folds} folds", expected=f"2 to {len(order)}, the number of groups")
        )
    fold = {key: i % n_folds for i, key in enumerate(order)}
    numbers = np.array([fold[key] for key in keys])
    return [
        Split(
            tuple(np.flatnonzero(numbers != i).tolist()),
            tuple(np.flatnonzero(numbers == i).tolist()),
        )
        for i in range(n_folds)
    ]


def _keys(sample_ids: Sequence[str], groups: Sequence[str] | None) -> list[str]:
    """Return what must stay together: the group of each row, or the person."""
    keys = list(sample_ids) if groups is None else list(groups)
    if len(keys) != len(sample_ids):
        raise InconsistentError(
            explain(f"{len(keys):,} groups were given for {len(sample_ids):,} images")
        )
    return keys


def _shuffled(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\t{key}".encode("utf-8", "surrogateescape")).digest()

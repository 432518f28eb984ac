"""Who is predicted, and the folds: the same people and folds for every model and feature set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    TooFewSamplesError,
    UsageError,
    explain,
)
from imgwas.latents.basis import centred
from imgwas.latents.joining import join_tables
from imgwas.prediction.models import load_sklearn
from imgwas.prediction.targets import Target
from imgwas.shapes import Float64, Int64
from imgwas.types import Latents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One target, the features of the people who have it, and their folds.

    Parameters
    ----------
    target : str
        Name of the target.
    classes : tuple of str
        Its classes; empty for a number.
    outcome : (people,) float array
        Class or number of each person, never missing.
    features : mapping from name to (people, features) array
        Feature sets of the same people, never missing.
    names : mapping from name to tuple of str
        Names of their columns.
    fold : (people,) int array
        The fold in which each person is predicted.
    """

    target: str
    classes: tuple[str, ...]
    outcome: Float64[np.ndarray, " people"]
    features: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]]
    fold: Int64[np.ndarray, " people"]

    def __repr__(self) -> str:
        return f"Task({self.target}, {len(self.outcome):,} people, {self.n_folds} folds)"

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1


def make_task(
    features: Mapping[str, Latents],
    target: Target,
    *,
    n_folds: int = 5,
    groups: Target | None = None,
    seed: int = 0,
    min_overlap: float = 0.5,
) -> Task:
    """Join features, target and groups by id, keep complete people, and draw folds.

    Classes are spread evenly over folds; people of one group share a fold.

    Raises
    ------
    InconsistentError
        If too few people are shared, or a feature is the target itself.
    DegenerateError
        If a class, or the number of groups, is too small for the folds, or nothing varies.
    """
    check_range("n_folds", n_folds, low=2, high=100)
    load_sklearn()
    tables = {**features, f"the target {target.name}": _as_table(target)}
    if groups is not None:
        tables[f"the groups {groups.name}"] = _as_table(groups)
    join = join_tables(list(tables.values()), names=list(tables), min_overlap=min_overlap)
    rows = dict(zip(tables, join.rows, strict=True))
    values = {name: np.asarray(features[name].values)[rows[name]] for name in features}
    outcome = target.values[rows[f"the target {target.name}"]]
    complete = np.isfinite(outcome)
    for name, own in values.items():
        complete &= np.isfinite(own).all(axis=1)
        _mention_missing(name, own)
    if complete.sum() < 2 * n_folds:
        raise TooFewSamplesError(
            explain(
                f"{int(complete.sum()):,} people have {target.name} and every feature",
                expected=f"At least {2 * n_folds} for {n_folds} folds",
                where=_most_missing(features, values, target.name, outcome),
                do="Leave out features that many people lack",
            )
        )
    if not complete.all():
        logger.info("%s: %s of %s people have it and every feature", target.name,
                    f"{int(complete.sum()):,}", f"{len(complete):,}")  # fmt: skip
    outcome, classes = _used_classes(outcome[complete], target)
    for name, own in values.items():
        _check_no_leak(target.name, outcome, features[name].names, own[complete])
    member = None
    if groups is not None:
        member = _members(groups.values[rows[f"the groups {groups.name}"]][complete])
    return Task(
        target=target.name,
        classes=classes,
        outcome=outcome,
        features={name: own[complete] for name, own in values.items()},
        names={name: features[name].names for name in features},
        fold=_folds(target.name, outcome, classes, member, n_folds, seed),
    )


def _as_table(target: Target) -> Latents:
    column = target.values[:, None]
    return Latents(column, target.sample_ids, (target.name,), target.family_ids)


def _mention_missing(name: str, values: np.ndarray) -> None:
    lost = int(np.isnan(values).any(axis=1).sum())
    if lost:
        logger.warning("%s: %s people lack a feature and are left out", name, f"{lost:,}")


def _most_missing(
    features: Mapping[str, Latents],
    values: Mapping[str, np.ndarray],
    name: str,
    outcome: np.ndarray,
) -> str:
    """Name what most people lack."""
    lost = {name: int(np.isnan(outcome).sum())}
    for own, columns in values.items():
        lost |= dict(zip(features[own].names, np.isnan(columns).sum(axis=0).tolist(), strict=True))
    worst = max(lost, key=lambda column: lost[column])
    return f"{worst} is missing for {lost[worst]:,} of {len(outcome):,}"


def _check_no_leak(
    target: str, outcome: np.ndarray, names: Sequence[str], values: np.ndarray
) -> None:
    """Refuse to predict something from itself."""
    same = np.abs(centred(values).T @ centred(outcome[:, None])[:, 0]) > 1 - 1e-9
    leaks = [n for n, is_same in zip(names, same, strict=True) if is_same or n == target]
    if leaks:
        raise InconsistentError(
            explain(
                f"the feature {leaks[0]} is the target {target} itself",
                expected="Features that do not hold what is predicted",
                do="Leave that column out of the features",
            )
        )


def _used_classes(outcome: np.ndarray, target: Target) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number classes anew where some have nobody; refuse an outcome that does not vary."""
    present = np.unique(outcome)
    if len(present) < 2:
        what = target.classes[int(present[0])] if target.classes else f"{present[0]:g}"
        raise DegenerateError(
            explain(f"{target.name} is {what} for everybody", expected="Something to predict")
        )
    if target.is_number:
        return outcome, ()
    classes = tuple(target.classes[int(code)] for code in present)
    return np.searchsorted(present, outcome).astype(np.float64), classes


def _members(groups: np.ndarray) -> np.ndarray:
    """Group of each person; people without one are alone in theirs."""
    alone = np.isnan(groups)
    member = np.where(alone, 0, groups).astype(np.int64)
    member[alone] = member.max() + 1 + np.arange(int(alone.sum()))
    return member


def _folds(
    name: str,
    outcome: np.ndarray,
    classes: tuple[str, ...],
    member: np.ndarray | None,
    n_folds: int,
    seed: int,
) -> np.ndarray:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    _check_sizes(name, outcome, classes, member, n_folds)
    options = {"shuffle": True, "random_state": seed}
    if member is not None:
        kind = StratifiedGroupKFold(n_folds, **options) if classes else GroupKFold(n_folds)
    else:
        kind = StratifiedKFold(n_folds, **options) if classes else KFold(n_folds, **options)
    fold = np.empty(len(outcome), np.int64)
    columns = np.zeros((len(outcome), 1))
    for number, (_, held) in enumerate(kind.split(columns, outcome, member)):
        fold[held] = number
    _check_folds(name, outcome, classes, fold, n_folds)
    return fold


def _check_sizes(
    name: str,
    outcome: np.ndarray,
    classes: tuple[str, ...],
    member: np.ndarray | None,
    n_folds: int,
) -> None:
    if member is not None and len(np.unique(member)) < n_folds:
        raise UsageError(
            explain(f"there are {len(np.unique(member))} groups for {n_folds} folds",
                    do=f"Use at most {len(np.unique(member))} folds (--folds)")
        )  # fmt: skip
    counts = np.bincount(outcome.astype(np.int64)) if classes else np.array([len(outcome)])
    if counts.min() < n_folds:
        raise DegenerateError(
            explain(
                f"{name}: {int(counts.min())} people are {classes[int(counts.argmin())]!r}",
                expected=f"At least {n_folds}, one for each fold",
                do="Use fewer folds (--folds), or merge or leave out that class",
            )
        )


def _check_folds(
    name: str, outcome: np.ndarray, classes: tuple[str, ...], fold: np.ndarray, n_folds: int
) -> None:
    """Refuse folds that groups have emptied of a class, or of everybody."""
    for number in range(n_folds):
        held, rest = outcome[fold == number], outcome[fold != number]
        if len(held) < 2 or (classes and len(np.unique(rest)) < len(classes)):
            raise DegenerateError(
                explain(
                    f"{name}: groups leave fold {number + 1} of {n_folds} without people or "
                    "without a class to learn",
                    do="Use fewer folds (--folds), or merge small classes",
                )
            )

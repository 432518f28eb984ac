"""Labels for supervised encoders: classes or values, one per image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.checks import duplicates
from imgwas.encoders.splits import Split
from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain, first_ids
from imgwas.tables.columns import MISSING, find_ids, one_number, to_numbers
from imgwas.tables.source import read_table

logger = logging.getLogger(__name__)

_MISSING = set(MISSING.to_pylist())
#: PLINK's family id of somebody without one, and a missing cell.
_NO_GROUP = ("0", "NA", "")

#: More classes than this are values.
MAX_CLASSES = 20


@dataclass(frozen=True)
class Targets:
    """One label per image.

    Parameters
    ----------
    values : (samples,) float array
        Class numbers, or values; NaN is missing and allowed for values only.
    task : {"classes", "values"}
    class_names : tuple of str
        Name of class 0, 1, ...
    column : str
        Where the labels come from.
    """

    values: np.ndarray
    task: str
    class_names: tuple[str, ...] = ()
    column: str = ""


def read_targets(
    path: str | Path, column: str, sample_ids: Sequence[str], *, task: str = "auto",
    id_column: str | None = None,
) -> Targets:  # fmt: skip
    """Read the labels of people from a table.

    Parameters
    ----------
    path : path
        Table with an id column.
    column : str
        Column of the labels.
    sample_ids : sequence of str
        Whose labels are needed, in this order.
    task : {"auto", "classes", "values"}
        ``auto``: text and up to 20 distinct whole numbers are classes.
    id_column : str, optional

    Raises
    ------
    InconsistentError
        If people have no row or several, or a class is missing.
    UsageError
        If the column does not exist, or holds too many texts to be classes.
    DegenerateError
        If everybody has the same label.
    """
    from imgwas.checks import did_you_mean

    path = Path(path).expanduser()
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    if column not in table.column_names:
        raise UsageError(
            explain(f"{path} has no column {column!r}",
                    do=did_you_mean(column, table.column_names))
        )  # fmt: skip
    rows = _rows_of(ids.sample_ids, sample_ids, path)
    texts = [_text(value) for value in table[column].to_pylist()]
    chosen = [texts[row] for row in rows]
    if task == "auto":
        task = _guess(chosen, column, path)
    if task == "classes":
        return _classes(chosen, column, path)
    return _values(to_numbers(table, [column], path)[rows, 0], column, path)


def _rows_of(there: Sequence[str], wanted: Sequence[str], path: Path) -> list[int]:
    """Find the one row of each person."""
    row_of = {one: row for row, one in enumerate(there)}
    absent = [one for one in wanted if one not in row_of]
    if absent:
        raise InconsistentError(
            explain(
                f"{len(absent):,} of {len(wanted):,} people with images have no row in {path}",
                where=first_ids(absent),
                do="Add them, or leave their images out of the list",
            )
        )
    needed = set(wanted)
    repeated = [one for one in duplicates(there) if one in needed]
    if repeated:
        raise InconsistentError(
            explain(
                f"{path} has several rows for {len(repeated):,} people with images",
                expected="One label per person is needed",
                where=first_ids(repeated),
                do="Keep one row per person",
            )
        )
    return [row_of[one] for one in wanted]


def _text(value: object) -> str:
    """Write a label one way: ``1`` and ``1.0`` are one class, and so is a missing one."""
    text = "NA" if value is None else str(value).strip()
    number = _number(text)
    if number is None:
        return "NA" if text in _MISSING else text
    if np.isnan(number):
        return "NA"
    return str(int(number)) if abs(number) < 1e15 and number.is_integer() else text


def _number(text: str) -> float | None:
    try:
        return one_number(text)
    except ValueError:
        return None


def _guess(texts: Sequence[str], column: str, path: Path) -> str:
    """Text and few whole numbers are classes, other numbers are values."""
    distinct = {text for text in texts if text != "NA"}
    numbers = [_number(text) for text in distinct]
    is_text = any(number is None for number in numbers)
    if is_text and len(distinct) > MAX_CLASSES:
        raise UsageError(
            explain(
                f"{path}: {column} holds {len(distinct):,} different texts",
                expected=f"Up to {MAX_CLASSES} classes, or numbers",
                do="Choose another --target, or say --task classes",
            )
        )
    whole = all(number is None or number.is_integer() for number in numbers)
    task = "classes" if is_text or (whole and len(distinct) <= MAX_CLASSES) else "values"
    logger.info("labels   %s is learned as %s (--task says otherwise)", column, task)
    return task


def _classes(texts: Sequence[str], column: str, path: Path) -> Targets:
    for code, meaning in (("NA", "no"), ("-9", "-9, PLINK's code of a missing value, as")):
        n = sum(text == code for text in texts)
        if n:
            raise InconsistentError(
                explain(
                    f"{path}: {n:,} people have {meaning} {column}",
                    do="Leave their images out of the list",
                )
            )
    distinct = set(texts)
    if all(_number(text) is not None for text in distinct):
        names = sorted(distinct, key=lambda text: one_number(text))
    else:
        names = sorted(distinct)
    if len(names) < 2:
        raise DegenerateError(explain(f"{path}: {column} is {names[0]!r} for everybody"))
    number = {name: float(i) for i, name in enumerate(names)}
    values = np.array([number[text] for text in texts], np.float32)
    sizes = ", ".join(f"{name} {texts.count(name):,}" for name in names)
    logger.info("classes  %s: %s", column, sizes)
    return Targets(values, "classes", tuple(names), column)


def _values(numbers: np.ndarray, column: str, path: Path) -> Targets:
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        raise DegenerateError(explain(f"{path}: {column} is missing for everybody"))
    if (known == known[0]).all():
        raise DegenerateError(explain(f"{path}: {column} has one value for everybody"))
    if (known == -9).any() and not ((known < 0) & (known != -9)).any():
        raise InconsistentError(
            explain(
                f"{path}: {int((known == -9).sum()):,} people have {column} -9, the only negative "
                "value",
                expected="It looks like PLINK's code of a missing value",
                do="Write NA where the value is missing",
            )
        )
    n_missing = len(numbers) - len(known)
    if n_missing:
        logger.info("labels   %s is missing for %d of %d people: they do not count in the loss",
                    column, n_missing, len(numbers))  # fmt: skip
    return Targets(numbers.astype(np.float32), "values", column=column)


def settings_for(settings: Any, targets: Targets | None, split: Split, name: str) -> Any:
    """Fill in what follows from the labels: outputs, class weights, mean and spread.

    A class's weight is n / (classes * its size among the training people): rare classes weigh
    more, not less, and the mean weight of a training person is 1. Weights that the user gave stay.
    Nothing is taken from held-out people.

    Raises
    ------
    DegenerateError
        If the training people lack a class, have one value, or no held-out label is known.
    """
    if targets is None:
        raise UsageError(
            explain(f"{name} is trained on labels", do="Give --targets FILE --target COLUMN")
        )
    train = targets.values[list(split.train)].astype(np.float64)
    if targets.task == "values":
        mean, sd = _scale(train, targets.values[list(split.validation)], targets.column)
        return replace(settings, task="values", outputs=1, target_mean=mean, target_sd=sd)
    n = len(targets.class_names)
    counts = np.bincount(train.astype(int), minlength=n)
    if (counts == 0).any():
        absent = targets.class_names[int(np.argmin(counts))]
        raise DegenerateError(
            explain(
                f"nobody of the class {absent!r} is among the {len(train):,} training people",
                do="Use fewer folds, another seed, or leave the class out",
            )
        )
    weights = settings.class_weights if not settings.class_names else ()
    if weights and (len(weights) != n or min(weights) <= 0):
        raise UsageError(
            explain(
                f"class_weights are {', '.join(f'{w:g}' for w in weights)}",
                expected=f"{n} numbers above 0, for {', '.join(targets.class_names)}",
            )
        )
    weights = weights or tuple(float(len(train) / (n * c)) for c in counts)
    return replace(
        settings, task="classes", outputs=n, class_weights=weights,
        class_names=targets.class_names,
    )  # fmt: skip


def _scale(train: np.ndarray, held_out: np.ndarray, column: str) -> tuple[float, float]:
    """Mean and standard deviation of the training people's known values."""
    known = train[np.isfinite(train)]
    for who, n in (("training", len(known)), ("held-out", int(np.isfinite(held_out).sum()))):
        if not n:
            raise DegenerateError(explain(f"{column} is missing for all {who} people"))
    sd = float(known.std())
    if not sd > 1e-7 * abs(float(known.mean())):
        raise DegenerateError(explain(f"{column} has one value for all training people"))
    return float(known.mean()), sd


def scaled_values(targets: Targets, settings: Any) -> np.ndarray:
    """Return labels as the loss wants them: class numbers, or standardised values."""
    if targets.task == "classes":
        return targets.values
    scaled = (targets.values - settings.target_mean) / settings.target_sd
    return np.asarray(scaled, np.float32)


def read_groups(
    path: str | Path, sample_ids: Sequence[str], *, id_column: str | None = None
) -> list[str]:
    """Read the family (or any group) of people: an id column and one more.

    A person without a row, or with 0 or nothing for a family, is a group of their own.

    Raises
    ------
    InconsistentError
        If the table knows the group of none of the people.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    others = [name for name in table.column_names if name not in ids.columns]
    if ids.family_ids is not None:
        groups = list(ids.family_ids)
    elif others:
        groups = [_text(value) for value in table[others[0]].to_pylist()]
    else:
        raise UsageError(explain(f"{path} has ids and no column of groups"))
    group_of = dict(zip(ids.sample_ids, groups, strict=True))
    known = {one: group for one, group in group_of.items() if group not in _NO_GROUP}
    n = sum(one in known for one in sample_ids)
    if not n:
        raise InconsistentError(
            explain(f"{path} names a group of none of the {len(sample_ids):,} people with images",
                    where=f"their ids: {first_ids(sample_ids)}; its ids: "
                    f"{first_ids(ids.sample_ids)}")
        )  # fmt: skip
    logger.info("groups   known for %d of %d people; the others stand alone", n, len(sample_ids))
    return [f"g:{known[one]}" if one in known else f"i:{one}" for one in sample_ids]

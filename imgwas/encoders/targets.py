"""Labels for supervised encoders: classes or values, one per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.encoders.splits import Split
from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain, first_ids
from imgwas.tables.columns import find_ids, to_numbers
from imgwas.tables.source import read_table

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
        If people have no row, or a class is missing.
    UsageError
        If the column does not exist.
    """
    from imgwas.checks import did_you_mean

    path = Path(path)
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    if column not in table.column_names:
        raise UsageError(
            explain(f"{path} has no column {column!r}",
                    do=did_you_mean(column, table.column_names))
        )  # fmt: skip
    row_of = {one: row for row, one in enumerate(ids.sample_ids)}
    absent = [one for one in sample_ids if one not in row_of]
    if absent:
        raise InconsistentError(
            explain(
                f"{len(absent):,} of {len(sample_ids):,} people with images have no row in {path}",
                where=first_ids(absent),
                do="Add them, or leave their images out of the list",
            )
        )
    rows = [row_of[one] for one in sample_ids]
    texts = [str(v) if v is not None else "NA" for v in table[column].to_pylist()]
    chosen = [texts[row] for row in rows]
    if task == "auto":
        task = "classes" if _looks_like_classes(chosen) else "values"
    if task == "classes":
        return _classes(chosen, column, path)
    numbers = to_numbers(table, [column], path)[rows, 0]
    if np.nanstd(numbers) == 0 or not np.isfinite(numbers).any():
        raise DegenerateError(explain(f"{path}: {column} has one value for everybody"))
    return Targets(numbers.astype(np.float32), "values", column=column)


def _looks_like_classes(texts: Sequence[str]) -> bool:
    distinct = set(texts)
    if len(distinct) > MAX_CLASSES:
        return False
    return not all(_is_fraction(text) for text in distinct)


def _is_fraction(text: str) -> bool:
    """Whether a text is a number that cannot be the number of a class."""
    try:
        return not float(text).is_integer()
    except ValueError:
        return False


def _classes(texts: Sequence[str], column: str, path: Path) -> Targets:
    missing = [i for i, text in enumerate(texts) if text in ("NA", "nan", "", "N/A", ".")]
    if missing:
        raise InconsistentError(
            explain(
                f"{path}: {len(missing):,} people have no {column}",
                do="Leave their images out of the list",
            )
        )
    names = sorted(set(texts))
    if len(names) < 2:
        raise DegenerateError(explain(f"{path}: {column} is {names[0]!r} for everybody"))
    number = {name: float(i) for i, name in enumerate(names)}
    values = np.array([number[text] for text in texts], np.float32)
    return Targets(values, "classes", tuple(names), column)


def settings_for(settings: Any, targets: Targets | None, split: Split, name: str) -> Any:
    """Fill in what follows from the labels: outputs, class weights, mean and spread.

    A class's weight is n / (classes * its size among the training people): rare classes weigh
    more, not less.
    """
    if targets is None:
        raise UsageError(
            explain(f"{name} is trained on labels", do="Give --targets FILE --target COLUMN")
        )
    train = targets.values[list(split.train)]
    if targets.task == "values":
        mean, sd = float(np.nanmean(train)), float(np.nanstd(train))
        return replace(settings, task="values", outputs=1, target_mean=mean, target_sd=sd)
    n = len(targets.class_names)
    counts = np.bincount(train.astype(int), minlength=n)
    if (counts == 0).any():
        absent = targets.class_names[int(np.argmin(counts))]
        raise DegenerateError(
            explain(f"nobody of the class {absent!r} is among the training people")
        )
    weights = tuple(float(len(train) / (n * c)) for c in counts)
    return replace(
        settings, task="classes", outputs=n, class_weights=weights,
        class_names=targets.class_names,
    )  # fmt: skip


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

    A person without a row is a group of their own.
    """
    path = Path(path)
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    others = [name for name in table.column_names if name not in ids.columns]
    if ids.family_ids is not None:
        groups = list(ids.family_ids)
    elif others:
        groups = [str(value) for value in table[others[0]].to_pylist()]
    else:
        raise UsageError(explain(f"{path} has ids and no column of groups"))
    group_of = dict(zip(ids.sample_ids, groups, strict=True))
    return [f"g:{group_of[one]}" if one in group_of else f"i:{one}" for one in sample_ids]

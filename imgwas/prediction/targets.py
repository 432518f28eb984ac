"""What is predicted: labels, numbers, or numbers in bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.checks import check_option, did_you_mean
from imgwas.errors import InconsistentError, MalformedError, UsageError, explain
from imgwas.shapes import Float64
from imgwas.tables.columns import MISSING, find_ids, to_numbers
from imgwas.tables.source import read_table

#: More classes than this are a number that was taken for labels.
MOST_CLASSES = 30


@dataclass(frozen=True)
class Target:
    """A trait of people that is predicted.

    Parameters
    ----------
    name : str
        Its column.
    values : (samples,) float array
        The number, or which of ``classes``; NaN is missing.
    sample_ids, family_ids
        As in :class:`imgwas.Latents`.
    classes : tuple of str
        Labels; empty for a number.
    """

    name: str
    values: Float64[np.ndarray, " samples"]
    sample_ids: tuple[str, ...]
    family_ids: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.sample_ids):
            raise InconsistentError(
                explain(f"{self.name} has {len(self.values):,} values",
                        expected=f"{len(self.sample_ids):,}, one per sample id")
            )  # fmt: skip

    def __repr__(self) -> str:
        kind = f"{len(self.classes)} classes" if self.classes else "a number"
        return f"Target({self.name}, {kind}, {len(self.values):,} people)"

    @property
    def is_number(self) -> bool:
        """Whether it is predicted by regression."""
        return not self.classes


def read_target(
    path: str | Path,
    column: str,
    *,
    kind: str = "classes",
    id_column: str | None = None,
    neg9: str = "plink",
    max_classes: int | None = MOST_CLASSES,
) -> Target:
    """Read one column of a table as something to predict, or as groups of people.

    Parameters
    ----------
    path : path
        Parquet, CSV, TSV or whitespace-separated text with an id column.
    column : str
        Column to read.
    kind : {"classes", "number"}
        Labels, whether text or numbers, or a quantity such as age in years.
    id_column : str, optional
        Column of the sample ids.
    neg9 : {"plink", "missing", "value"}
        How -9 is read; as a label it is missing unless ``"value"``.
    max_classes : int, optional
        Refuse more labels than this; None for groups such as families.

    Returns
    -------
    Target

    Raises
    ------
    UsageError
        If the column does not exist.
    MalformedError
        If a number is none, or there are too many labels for classes.
    """
    check_option("kind", kind, ["classes", "number"])
    check_option("neg9", neg9, ["plink", "missing", "value"])
    path = Path(path).expanduser()
    table = read_table(path)
    ids = find_ids(table, path, id_column)
    if column not in table.column_names:
        known = [name for name in table.column_names if name not in ids.columns]
        raise UsageError(
            explain(f"{path} has no column {column!r}",
                    do=did_you_mean(column, known) or f"It has {', '.join(known[:8])}")
        )  # fmt: skip
    if kind == "number":
        values = to_numbers(table, [column], path, neg9=neg9)[:, 0]
        return Target(column, values, ids.sample_ids, ids.family_ids)
    values, classes = _labels(table[column], neg9)
    if max_classes is not None and len(classes) > max_classes:
        raise MalformedError(
            explain(f"{path}: column {column} has {len(classes):,} labels",
                    expected=f"At most {max_classes}",
                    do="Predict it as a number (--number), or in bins (--bins)")
        )  # fmt: skip
    return Target(column, values, ids.sample_ids, ids.family_ids, classes)


def _labels(column: pa.ChunkedArray, neg9: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class of each row, NaN where missing, and the classes in natural order."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.string())).to_pylist()
    missing = {None, *MISSING.to_pylist(), *([] if neg9 == "value" else ["-9", "-9.0"])}
    classes = sorted({text for text in texts if text not in missing}, key=_natural)
    number = {label: index for index, label in enumerate(classes)}
    values = np.array([np.nan if t in missing else number[t] for t in texts], np.float64)
    return values, tuple(classes)


def _natural(label: str) -> tuple[float, str]:
    """Order labels that are numbers as numbers, before all others."""
    try:
        number = float(label)
    except ValueError:
        return np.inf, label
    return (np.inf if np.isnan(number) else number), label


def bin_target(target: Target, edges: Sequence[float]) -> Target:
    """Cut a number into classes at increasing edges, each bin closed on the left.

    ``[22, 26, 31, 36]`` gives ``[22, 26)``, ``[26, 31)``, ``[31, 36)``, ``36+``, and ``<22`` if
    anybody is below.

    Raises
    ------
    UsageError
        If the target is no number, or the edges do not increase.
    """
    if not target.is_number:
        raise UsageError(explain(f"{target.name} has classes already", expected="A number to bin"))
    limits = [float(edge) for edge in edges]
    if not limits or not np.isfinite(limits).all() or any(a >= b for a, b in pairwise(limits)):
        raise UsageError(
            explain(f"the edges {', '.join(f'{e:g}' for e in limits)} do not increase",
                    expected="Increasing numbers, such as 22,26,31,36")
        )  # fmt: skip
    names = [f"<{limits[0]:g}", *(f"[{a:g}, {b:g})" for a, b in pairwise(limits)),
             f"{limits[-1]:g}+"]  # fmt: skip
    present = np.isfinite(target.values)
    bins = np.digitize(target.values[present], limits)
    used = sorted(set(bins.tolist()))
    values = np.full(len(target.values), np.nan)
    values[present] = np.searchsorted(used, bins)
    classes = tuple(names[index] for index in used)
    return Target(f"{target.name} in bins", values, target.sample_ids, target.family_ids, classes)

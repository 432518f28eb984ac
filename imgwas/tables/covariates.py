"""Covariate tables: numbers, labels and formulae turned into columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.tables.columns import MISSING, choose_names, find_ids, remaining, to_numbers
from imgwas.tables.source import frame_to_table, provenance, read_table
from imgwas.types import Covariates

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: A whole-number column with fewer distinct values than this may be labels; it is mentioned.
FEW_VALUES = 20


def read_covariates(
    path: str | Path,
    *,
    id_column: str | None = None,
    names: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    formula: str | None = None,
    max_levels: int = 50,
    neg9: str = "plink",
) -> Covariates:
    """Read covariates; the intercept is always part of the model and never a column.

    Parameters
    ----------
    path : path
        Parquet, CSV, TSV or whitespace-separated text.
    id_column : str, optional
        Column of the sample ids.
    names : sequence of str, optional
        Only these columns; all by default.
    categorical : sequence of str
        Columns whose numbers are labels. Columns of text are labels in any case.
    formula : str, optional
        Terms made of columns, such as ``age + age^2 + age:sex + C(centre)``. Replaces ``names``.
    max_levels : int
        Refuse a categorical column with more levels.
    neg9 : {"plink", "missing", "value"}
        How -9 is read.

    Returns
    -------
    Covariates
        Categorical columns become one indicator per level but the first, named ``centre[11026]``.

    Raises
    ------
    DegenerateError
        If a categorical column has too many levels.
    UsageError
        If a column or a term of the formula is not known.
    """
    path = Path(path)
    table = read_table(path)
    return _covariates(
        table, path, id_column, names, categorical, formula, max_levels, neg9, provenance(path)
    )


def covariates_from_frame(
    frame: pd.DataFrame,
    *,
    id_column: str | None = None,
    categorical: Sequence[str] = (),
    formula: str | None = None,
    max_levels: int = 50,
) -> Covariates:
    """Take covariates from a DataFrame indexed by sample id."""
    path, table = Path("<DataFrame>"), frame_to_table(frame)
    return _covariates(table, path, id_column, None, categorical, formula, max_levels, "value", {})


def _covariates(
    table: pa.Table,
    path: Path,
    id_column: str | None,
    names: Sequence[str] | None,
    categorical: Sequence[str],
    formula: str | None,
    max_levels: int,
    neg9: str,
    source: Mapping[str, Any],
) -> Covariates:
    ids = find_ids(table, path, id_column)
    columns = remaining(table, ids)
    labels = set(choose_names(columns, categorical, path)) if categorical else set()
    if formula is not None:
        from imgwas.tables.formula import columns_of, design_of

        chosen, more_labels = columns_of(formula, columns, path)
        labels |= more_labels
    else:
        chosen = choose_names(columns, names, path)
    if not chosen:
        raise UsageError(explain(f"{path} has ids and no covariate"))
    blocks = {n: _column(table, n, n in labels, path, max_levels, neg9) for n in chosen}
    if formula is not None:
        columns_out, terms = design_of(formula, blocks)
    else:
        columns_out = {name: v for block in blocks.values() for name, v in block.items()}
        terms = [name for name, block in blocks.items() for _ in block]
    values = np.column_stack(list(columns_out.values())) if columns_out else None
    if values is None:
        values = np.empty((table.num_rows, 0))
    return Covariates(
        values=values,
        sample_ids=ids.sample_ids,
        names=tuple(columns_out),
        family_ids=ids.family_ids,
        terms=tuple(terms),
        source=source,
    )


def _column(
    table: pa.Table, name: str, is_label: bool, path: Path, max_levels: int, neg9: str
) -> dict[str, np.ndarray]:
    """Columns that one source column becomes."""
    if is_label or _is_text(table[name]):
        return _indicators(table[name], name, path, max_levels, neg9)
    values = to_numbers(table, [name], path, neg9=neg9)[:, 0]
    _mention_labels(values, name)
    return {name: values}


def _is_text(column: pa.ChunkedArray) -> bool:
    """Whether a column holds labels: any value that is neither missing nor close to a number."""
    if pa.types.is_dictionary(column.type):
        return True
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    distinct = pc.unique(pc.utf8_trim_whitespace(column))
    if len(distinct) > 1000:
        return False
    present = [v for v in distinct.to_pylist() if v is not None and v not in MISSING.to_pylist()]
    return bool(present) and not any(any(c.isdigit() for c in value) for value in present)


def _indicators(
    column: pa.ChunkedArray, name: str, path: Path, max_levels: int, neg9: str
) -> dict[str, np.ndarray]:
    text = column.cast(pa.string()) if not pa.types.is_string(column.type) else column
    text = pc.utf8_trim_whitespace(text)
    missing = np.asarray(pc.fill_null(pc.is_in(text, value_set=MISSING), True))
    missing |= np.asarray(pc.is_null(text))
    if neg9 != "value":
        missing |= np.asarray(pc.fill_null(pc.equal(text, "-9"), False))
    values = np.array(text.fill_null("").to_pylist(), dtype=object)
    levels = sorted(set(values[~missing].tolist()), key=_natural)
    if len(levels) > max_levels:
        raise DegenerateError(
            explain(
                f"{path}: column {name} has {len(levels):,} levels",
                expected=f"At most {max_levels} (--max-levels)",
                do="Is it a number rather than a label?",
            )
        )
    indicators = {}
    for level in levels[1:]:
        indicator = (values == level).astype(float)
        indicator[missing] = np.nan
        indicators[f"{name}[{level}]"] = indicator
    if not indicators:
        indicators[name] = np.where(missing, np.nan, 1.0)
    return indicators


def _natural(level: str) -> tuple[float, str]:
    try:
        return float(level), level
    except ValueError:
        return np.inf, level


def _mention_labels(values: np.ndarray, name: str) -> None:
    present = values[np.isfinite(values)]
    if len(present) < 50 or not np.equal(np.mod(present, 1), 0).all():
        return
    distinct = len(np.unique(present))
    if 2 < distinct <= FEW_VALUES:
        logger.warning(
            "covariate %s has %d distinct whole numbers and is used as a number; if they are "
            "labels, pass --categorical %s",
            name, distinct, name,
        )  # fmt: skip

"""Covariate tables: numbers, labels and formulae turned into columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, from_strings, to_numpy
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.tables.columns import (
    MISSING,
    choose_names,
    find_ids,
    one_number,
    remaining,
    to_numbers,
)
from imgwas.tables.formula import Block, Factor, add_columns, design_of, sources_of
from imgwas.tables.source import frame_to_table, provenance, read_table
from imgwas.types import Covariates

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: A whole-number column with fewer distinct values than this may be labels; it is mentioned.
FEW_VALUES = 30


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
        Categorical columns become one indicator per level but the first, named ``centre[11026]``;
        in a formula whatever the term needs, see :func:`imgwas.tables.formula.design_of`.

    Raises
    ------
    DegenerateError
        If a categorical column has too many levels.
    UsageError
        If a column or a term of the formula is not known.
    """
    path = Path(path).expanduser()
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
    path, table = Path("<DataFrame>"), frame_to_table(frame, id_column=id_column)
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
    source_file: Mapping[str, Any],
) -> Covariates:
    ids = find_ids(table, path, id_column)
    available = remaining(table, ids)
    labels = set(choose_names(available, categorical, path)) if categorical else set()
    if formula is not None:
        sources = sources_of(formula, available, path)
    else:
        sources = [Factor(name) for name in choose_names(available, names, path)]
    if not sources:
        raise UsageError(explain(f"{path} has ids and no covariate"))
    blocks = {}
    for source in sources:
        is_label = source.is_label or source.name in labels
        blocks[source] = _block(table, source.name, is_label, path, max_levels, neg9)
    columns, terms = _plain_design(blocks) if formula is None else design_of(formula, blocks)
    return Covariates(
        values=np.column_stack(list(columns.values())),
        sample_ids=ids.sample_ids,
        names=tuple(columns),
        family_ids=ids.family_ids,
        terms=tuple(terms),
        source=source_file,
    )


def _plain_design(blocks: Mapping[Factor, Block]) -> tuple[dict[str, np.ndarray], list[str]]:
    columns: dict[str, np.ndarray] = {}
    terms = []
    for source, block in blocks.items():
        add_columns(columns, block.contrasts())
        terms += [source.name] * len(block.contrasts())
    return columns, terms


def _block(
    table: pa.Table, name: str, is_label: bool, path: Path, max_levels: int, neg9: str
) -> Block:
    """Numeric columns that one column of the file becomes."""
    if is_label or _is_text(table[name]):
        return _indicators(table[name], name, path, max_levels, neg9)
    values = to_numbers(table, [name], path, neg9=neg9)[:, 0]
    _mention_labels(values, name)
    return Block({name: values})


def _is_text(column: pa.ChunkedArray) -> bool:
    """Whether a column holds labels: values, none of them a number or close to one."""
    if pa.types.is_dictionary(column.type):
        return True
    if not pa.types.is_string(column.type):
        return False
    distinct = pc.unique(pc.utf8_trim_whitespace(column))
    if len(distinct) > 1000:
        return False
    missing = {None, *MISSING.to_pylist()}
    present = [value for value in distinct.to_pylist() if value not in missing]
    return bool(present) and not any(map(_is_close_to_a_number, present))


def _is_close_to_a_number(text: str) -> bool:
    if any(character.isdigit() for character in text):
        return True
    try:
        one_number(text)  # inf and its spellings
    except ValueError:
        return False
    return True


def _indicators(
    column: pa.ChunkedArray, name: str, path: Path, max_levels: int, neg9: str
) -> Block:
    text = pc.utf8_trim_whitespace(column.cast(pa.string())).combine_chunks()
    codes_missing = [*MISSING.to_pylist(), *(["-9", "-9.0"] if neg9 != "value" else [])]
    distinct = [value for value in pc.unique(text).to_pylist() if value is not None]
    levels = sorted(set(distinct).difference(codes_missing), key=_natural)
    if len(levels) > max_levels:
        raise DegenerateError(
            explain(
                f"{path}: column {name} has {len(levels):,} levels",
                expected=f"At most {max_levels} (--max-levels)",
                do="Is it a number rather than a label?",
            )
        )
    if len(levels) > 1:
        logger.info("covariate %s: %d labels, %s the reference", name, len(levels), levels[0])
    none = from_numpy(np.array([-1], np.int32))[0]
    code = to_numpy(pc.fill_null(pc.index_in(text, value_set=from_strings(levels)), none))
    missing = code < 0
    if len(levels) < 2:  # a constant, which the design leaves out and says so
        return Block({name: np.where(missing, np.nan, 1.0)}, is_label=True)
    return Block(
        {
            f"{name}[{level}]": np.where(missing, np.nan, (code == number).astype(float))
            for number, level in enumerate(levels)
        },
        is_label=True,
    )


def _natural(level: str) -> tuple[float, str]:
    """Order labels that are numbers as numbers, before all others."""
    try:
        number = one_number(level)
    except ValueError:
        return np.inf, level
    return (np.inf if np.isnan(number) else number), level


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

"""Tables of measured features as images: one row a person, one number a feature."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imgwas.checks import check_unique
from imgwas.errors import InconsistentError, MalformedError, UsageError, explain
from imgwas.images.volumes import open_images
from imgwas.shapes import Float32
from imgwas.tables.columns import choose_names, find_ids, remaining, to_numbers
from imgwas.tables.source import provenance, read_table
from imgwas.types import Images

logger = logging.getLogger(__name__)

#: How a table is recorded among the steps that prepared the images.
STEP = "features"
_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


class TableImages(Images):
    """A table of features, for ``morphometry`` and ``pca``.

    Parameters
    ----------
    path : path
        CSV, TSV or Parquet with an id column; every other column is a feature.
    names : sequence of str, optional
        These features in this order, e.g. those that an encoder was trained on; all by default.
        Other columns of the table are then left alone.
    id_column : str, optional
        Column of the sample ids; by default IID, sample_id, eid and the like are recognised.
    table : pyarrow.Table, optional
        The content of ``path``, where it was read already.

    Attributes
    ----------
    names : tuple of str
        Features, in the order in which the encoder sees them.

    Raises
    ------
    OpenError, ReadError
        If the file cannot be read.
    MalformedError
        If a cell is no number or is missing: the worst columns are named with counts.
    InconsistentError
        If a person has two rows, or features that ``names`` asks for are absent.
    """

    def __init__(
        self, path: str | Path, *, names: Sequence[str] | None = None,
        id_column: str | None = None, table: pa.Table | None = None,
    ) -> None:  # fmt: skip
        path = Path(path).expanduser()
        table = read_table(path) if table is None else table
        ids = find_ids(table, path, id_column)
        there = remaining(table, ids)
        if names is not None:
            _check_names(names, there, path)
        chosen = choose_names(there, None, path) if names is None else list(names)
        if not chosen:
            raise MalformedError(explain(f"{path} has ids and no feature"))
        values = to_numbers(table, chosen, path)
        _check_missing(values, chosen, path)
        check_unique(f"{path}: the ids", ids.sample_ids, error=InconsistentError)
        _name_constant(values, chosen, path)
        self.sample_ids, self.names = ids.sample_ids, tuple(chosen)
        self.values = _single(values, chosen, path)
        self.grid, self.affine = (len(chosen),), np.eye(4)
        self._source = provenance(path)

    def read(self, index: int) -> Float32[np.ndarray, " *grid"]:
        """Return one person's features, in the units of the table."""
        row: np.ndarray = self.values[index]
        return row

    def fingerprint(self) -> dict[str, Any]:
        """Digest of the file, and the names of the features as the only step."""
        names = list(self.names)
        identity = f"{self._source['sha256']}\t{names}"
        return {
            "n": len(self),
            "files": hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest(),
            "recipe": [{"step": STEP, "names": names}],
        }


def is_table(path: str | Path) -> bool:
    """Whether a path is a table of features rather than images or a list of them."""
    return _features_in(Path(path).expanduser()) is not None


def _features_in(path: Path) -> pa.Table | None:
    """Read a table, if there is one and it is no list of images."""
    if not path.name.lower().removesuffix(".gz").endswith(_SUFFIXES) or not path.is_file():
        return None
    table = read_table(path)
    return None if "path" in table.column_names else table


def open_inputs(
    path: str | Path, *, visit: str | None = None, id_column: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Images:  # fmt: skip
    """Open what an encoder takes: images on one grid, or a table of features.

    Parameters
    ----------
    path : path
        As :func:`imgwas.images.volumes.open_images` takes it, or a table without a column
        ``path``.
    visit : str, optional
        Which visit of the images.
    id_column : str, optional
        Of a table.
    about : mapping, optional
        What stands beside a trained encoder: a table is read in the order of its features.

    Raises
    ------
    UsageError
        If ``visit`` is given for a table.
    """
    path = Path(path).expanduser()
    table = _features_in(path)
    if table is None:
        return open_images(path, visit=visit)
    if visit is not None:
        raise UsageError(explain(f"{path} is a table of features, which has no visits",
                                 do="Leave --visit out and keep one row per person"))  # fmt: skip
    steps = (about or {}).get("recipe") or [{}]
    names = steps[0].get("names") if steps[0].get("step") == STEP else None
    return TableImages(path, names=names, id_column=id_column, table=table)


def _check_names(names: Sequence[str], there: Sequence[str], path: Path) -> None:
    absent = [name for name in names if name not in set(there)]
    if absent:
        raise InconsistentError(
            explain(
                f"{path} lacks {len(absent):,} of {len(names):,} features",
                expected="The encoder was trained on them",
                where=f"first: {', '.join(absent[:3])}",
                do="Give a table with the columns of the training table",
            )
        )
    spare = len(there) - len(names)
    if spare:
        logger.info("%s: %d columns that the encoder does not know are left out", path.name, spare)


def _check_missing(values: np.ndarray, names: Sequence[str], path: Path) -> None:
    missing = np.isnan(values)
    if not missing.any():
        return
    per_column = missing.sum(axis=0)
    worst = np.argsort(-per_column, kind="stable")[:3]
    listed = ", ".join(f"{names[k]} {per_column[k]:,}" for k in worst if per_column[k])
    raise MalformedError(
        explain(
            f"{path}: {int(missing.sum()):,} cells of {int((per_column > 0).sum()):,} features are "
            f"missing, in {int(missing.any(axis=1).sum()):,} of {len(values):,} people",
            expected="Every person needs every feature",
            where=f"most: {listed}",
            do="Leave out those columns or people, or impute before",
        )
    )


def _name_constant(values: np.ndarray, names: Sequence[str], path: Path) -> None:
    constant = [name for name, column in zip(names, values.T, strict=True) if not np.ptp(column)]
    if len(constant) == len(names) and len(values) > 1:
        raise MalformedError(explain(f"{path}: every feature has one value for everybody"))
    if constant and len(values) > 1:
        logger.warning("%s: %d of %d features have one value for everybody: %s", path.name,
                       len(constant), len(names), ", ".join(constant[:5]))  # fmt: skip


def _single(values: np.ndarray, names: Sequence[str], path: Path) -> np.ndarray:
    """Single precision, unless that would lose the differences between people or overflow."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    for name, exact, rounded in zip(names, values.T, single.T, strict=True):
        lost = not np.isfinite(rounded).all() or (np.ptp(exact) > 0 and not np.ptp(rounded))
        if lost:
            raise MalformedError(
                explain(
                    f"{path}: {name} does not fit single precision "
                    f"(from {exact.min():.10g} to {exact.max():.10g})",
                    do="Subtract a constant, or use another unit",
                )
            )
    return single

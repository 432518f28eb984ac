"""Orthonormal covariates on some of the people, and which people those are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from imgwas.shapes import Float64

#: A direction with less than this share of the largest singular value is rounding, not a column.
COLLINEAR = 1e-7
#: A column counts as constant below this standard deviation relative to its largest value.
CONSTANT = 1e-12


def centred(values: np.ndarray) -> Float64[np.ndarray, "samples columns"]:
    """Columns with mean zero and length one; constant columns become zero.

    Values are brought to size one before anything is squared, so that any unit works.
    """
    largest = np.abs(values).max(axis=0, initial=0.0)
    rest = values / np.where(largest > 0, largest, 1.0)
    rest = rest - rest.mean(axis=0)
    rest -= rest.mean(axis=0)
    length = np.sqrt(np.einsum("sc,sc->c", rest, rest))
    is_constant = length <= CONSTANT * np.sqrt(max(len(values), 1))
    return np.asarray(rest / np.where(is_constant, np.inf, length), np.float64)


def orthonormal_basis(values: np.ndarray) -> Float64[np.ndarray, "samples rank"]:
    """Orthonormal basis of the centred columns; constant and redundant columns add nothing."""
    columns = centred(values)
    return span(columns)


def span(columns: np.ndarray) -> Float64[np.ndarray, "rows rank"]:
    """Orthonormal basis of the space that columns of length zero or one span."""
    if not columns.size or not columns.any():
        return np.empty((len(columns), 0))
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(left[:, size > COLLINEAR * size[0]], np.float64)


def remove(values: np.ndarray, basis: np.ndarray) -> Float64[np.ndarray, "samples columns"]:
    """Project the intercept and a centred basis out of every column, twice; a new array."""
    rest = np.asarray(values - values.mean(axis=0), np.float64)
    rest -= basis @ (basis.T @ rest)
    rest -= rest.mean(axis=0)
    rest -= basis @ (basis.T @ rest)
    return rest


def missing_patterns(
    values: np.ndarray, complete: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Columns that are present on the same people, and those people.

    Parameters
    ----------
    values : (samples, columns) float array
        NaN is missing.
    complete : (samples,) bool array
        People who may be used at all.

    Yields
    ------
    columns : int array
        Column numbers.
    used : (samples,) bool array
        Complete people with a value in these columns.
    """
    groups: dict[bytes, list[int]] = {}
    present = np.isfinite(values) & complete[:, None]
    for column in range(values.shape[1]):
        groups.setdefault(np.packbits(present[:, column]).tobytes(), []).append(column)
    for columns in groups.values():
        yield np.array(columns), present[:, columns[0]]

"""Orthonormal covariates and residual traits, on any scale of units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgwas.shapes import Float64

#: A column counts as a combination of the columns before it when less than this share of its
#: centred length is left after projecting on them.
COLLINEAR = 1e-7
#: A trait counts as explained by the covariates below this share of its length (1e-8 of its
#: variance): what is left of a float32 or six-digit copy of a covariate is rounding, not a trait.
CONSTANT = 1e-4


def independent_columns(
    values: Float64[np.ndarray, "samples covariates"], names: Sequence[str]
) -> tuple[list[int], dict[str, str]]:
    """Keep the columns that are not a combination of the intercept and the columns before them.

    Returns
    -------
    kept : list of int
        Column numbers.
    dropped : dict
        For each column left out, the relation that makes it redundant.
    """
    kept: list[int] = []
    dropped: dict[str, str] = {}
    basis = np.empty((len(values), 0))
    for column, name in enumerate(names):
        direction = _new_direction(values[:, column], basis)
        if direction is None:
            dropped[name] = _relation(values, column, kept, names)
        else:
            kept.append(column)
            basis = np.column_stack([basis, direction])
    return kept, dropped


def orthonormal_basis(values: np.ndarray) -> Float64[np.ndarray, "samples rank"]:
    """Orthonormal basis of the centred columns; redundant columns add nothing."""
    directions: list[np.ndarray] = []
    basis = np.empty((len(values), 0))
    for column in values.T:
        direction = _new_direction(column, basis)
        if direction is not None:
            directions.append(direction)
            basis = np.column_stack(directions)
    return basis


def _new_direction(column: np.ndarray, basis: np.ndarray) -> np.ndarray | None:
    """Unit vector of what a column adds to the intercept and the basis; None if nothing."""
    largest = np.abs(column).max(initial=0.0)
    if largest == 0:
        return None
    scaled = column / largest
    centred = scaled - scaled.mean()
    centred -= centred.mean()
    length = np.linalg.norm(centred)
    if length <= 1e-12 * np.sqrt(len(column)):
        return None
    rest = centred / length
    for _ in range(2):  # projecting twice makes it orthogonal to rounding error
        rest = rest - basis @ (basis.T @ rest)
    remaining = np.linalg.norm(rest)
    if remaining <= COLLINEAR:
        return None
    rest = rest / remaining
    rest = rest - basis @ (basis.T @ rest)
    return np.asarray(rest / np.linalg.norm(rest))


def _relation(values: np.ndarray, column: int, kept: list[int], names: Sequence[str]) -> str:
    """Write a redundant column as a sum of the columns before it."""
    model = np.column_stack([np.ones(len(values)), values[:, kept]])
    weights = np.linalg.lstsq(model, values[:, column], rcond=None)[0]
    size = np.abs(weights) * np.maximum(model.std(axis=0), np.abs(model.mean(axis=0)))
    labels = ["", *(names[i] for i in kept)]
    terms = [
        f"{w:+.4g}{'·' if label else ''}{label}"
        for w, s, label in zip(weights, size, labels, strict=True)
        if s > 1e-6 * max(size.max(), 1e-300)
    ]
    shown = " ".join(terms[:6]) + (" …" if len(terms) > 6 else "")
    if not kept or (len(terms) <= 1 and not any(labels[1:])):
        return "constant among the analysed samples"
    if len(terms) == 1 and terms[0] == f"{weights[0]:+.4g}":
        return "constant among the analysed samples"
    return f"equals {shown.lstrip('+')}" if terms else "constant among the analysed samples"


def residual_traits(
    raw: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit residuals, their lengths, and which traits are constant or explained.

    Traits are brought to size one before anything is squared, so that units of 1e-25 or 1e25 work.
    """
    largest = np.abs(raw).max(axis=0)
    size = np.where(largest > 0, largest, 1.0)
    centred = raw / size
    centred -= centred.mean(axis=0)
    total = lengths(centred)
    residual = remove(centred, basis)
    length = lengths(residual)
    constant = total <= 1e-12 * np.sqrt(len(raw))
    explained = length <= CONSTANT * np.maximum(total, 1e-300)
    residual /= np.where(constant | explained, np.inf, length)
    return residual, length * size, constant, explained


def lengths(values: np.ndarray) -> np.ndarray:
    """Euclidean length of each column."""
    return np.asarray(np.sqrt(np.einsum("st,st->t", values, values)))


def remove(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Project the intercept and the basis out of every column, twice; a new array."""
    rest = values - values.mean(axis=0)
    rest -= basis @ (basis.T @ rest)
    rest -= rest.mean(axis=0)
    rest -= basis @ (basis.T @ rest)
    return np.asarray(rest)


def spread(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Put rows back among everyone; people who are not used get zeros."""
    spread = np.zeros((len(used), values.shape[1]))
    spread[used] = values
    return spread

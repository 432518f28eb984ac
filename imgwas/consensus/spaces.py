"""Spaces as a whole, whatever their axes: linear centred kernel alignment."""

from __future__ import annotations

import numpy as np

from imgwas.errors import DegenerateError, TooFewSamplesError, explain
from imgwas.shapes import Float


def linear_cka(
    first: Float[np.ndarray, "people first"],
    second: Float[np.ndarray, "people second"],
    *,
    debiased: bool = False,
) -> float:
    """Compare two spaces whatever their axes: linear centred kernel alignment.

    ``|Y'X|^2 / (|X'X| |Y'Y|)`` (Frobenius norms, centred columns): 1 if one is a rotation and
    rescaling of the other. For unrelated spaces it is not 0 but grows with latents over people;
    ``debiased`` uses the unbiased estimator of HSIC, whose expectation is then 0.

    Parameters
    ----------
    first, second : (people, latents) float array
        The same people in the same order, without missing values.
    debiased : bool
        Estimate without the bias of few people.

    Returns
    -------
    float
        0 to 1; debiased it can be slightly negative.

    Raises
    ------
    TooFewSamplesError
        If there are fewer than four people.
    DegenerateError
        If nothing varies.

    References
    ----------
    .. [1] Kornblith et al. (2019), ICML. [2] Song et al. (2012), JMLR 13:1393.
    """
    if len(first) < 4:
        raise TooFewSamplesError(explain(f"{len(first)} people", expected="At least 4"))
    x, y = _centred_and_scaled(first), _centred_and_scaled(second)
    together = _unbiased_hsic if debiased else _hsic
    own = together(x, x), together(y, y)
    if min(own) <= 0:
        raise DegenerateError(explain("too little varies for a comparison of spaces"))
    return together(x, y) / float(np.sqrt(own[0] * own[1]))


def _centred_and_scaled(values: np.ndarray) -> np.ndarray:
    largest = float(np.abs(values).max(initial=0.0))
    scaled = np.asarray(values, np.float64) / (largest or 1.0)
    scaled = scaled - scaled.mean(axis=0)
    size = float(np.linalg.norm(scaled))
    if size <= 1e-12 * np.sqrt(len(values)):
        raise DegenerateError(explain("no latent varies, so the spaces cannot be compared"))
    return np.asarray(scaled / size)


def _hsic(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(y.T @ x).sum())


def _unbiased_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song's estimator for linear kernels, without a matrix of people by people."""
    n = len(x)
    own_x, own_y = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    row_x, row_y = x @ x.sum(axis=0) - own_x, y @ y.sum(axis=0) - own_y
    trace = float(np.square(x.T @ y).sum() - own_x @ own_y)
    sums = float(row_x.sum() * row_y.sum()) / ((n - 1) * (n - 2))
    return (trace + sums - 2 / (n - 2) * float(row_x @ row_y)) / (n * (n - 3))

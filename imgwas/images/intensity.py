"""Intensities: what a voxel's number means after each of the ways to scale it."""

from __future__ import annotations

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Bool, Float32


def foreground(values: Float32[np.ndarray, " *grid"]) -> Bool[np.ndarray, " *grid"]:
    """Voxels that are not exactly zero: the brain of a skull-stripped image.

    Raises
    ------
    DegenerateError
        If there are none, or all of them hold one value.
    """
    inside = np.asarray(values != 0)
    if not inside.any():
        raise DegenerateError(explain("the image is blank: every voxel is zero"))
    present = values[inside]
    if present.min() == present.max():
        raise DegenerateError(explain("every voxel of the image that is not zero has one value"))
    return inside


def zscore(
    values: Float32[np.ndarray, " *grid"], *, background: str = "shift"
) -> Float32[np.ndarray, " *grid"]:
    """Standardise to mean 0 and standard deviation 1 over the voxels that are not zero.

    Parameters
    ----------
    values : (x, y, z) float array
    background : {"shift", "zero"}
        What zero voxels become: (0 - mean) / sd as in UDIP, which keeps them apart from tissue of
        average intensity, or 0.

    References
    ----------
    .. [1] Patel, Xie et al. (2024), Communications Biology (UDIP).
    """
    inside = foreground(values)
    present = values[inside].astype(np.float64)
    mean, sd = present.mean(), present.std()
    scaled = ((values - np.float32(mean)) / np.float32(sd)).astype(np.float32)
    if background == "zero":
        scaled[~inside] = 0
    return scaled


def to_range(
    values: Float32[np.ndarray, " *grid"], low: float, high: float
) -> Float32[np.ndarray, " *grid"]:
    """Scale linearly so that minimum and maximum become ``low`` and ``high``."""
    least, most = float(values.min()), float(values.max())
    if least == most:
        raise DegenerateError(explain("every voxel of the image has one value"))
    scaled = (values - np.float32(least)) * np.float32((high - low) / (most - least))
    return np.clip(scaled + np.float32(low), low, high).astype(np.float32)


def clip_percentiles(
    values: Float32[np.ndarray, " *grid"], low: float, high: float
) -> Float32[np.ndarray, " *grid"]:
    """Limit values to two percentiles of the voxels that are not zero; zeros stay zero."""
    inside = foreground(values)
    bounds = np.percentile(values[inside], [low, high])
    clipped = np.clip(values, *bounds.astype(np.float32))
    clipped[~inside] = 0
    return np.asarray(clipped, np.float32)


def tissue_probability(
    values: Float32[np.ndarray, " *grid"], tissue: int, *, rounds: int = 60
) -> Float32[np.ndarray, " *grid"]:
    """Posterior probability of one of three intensity classes of a T1 brain.

    A mixture of three Gaussians over the histogram of the voxels that are not zero, fitted by
    expectation-maximisation from its terciles; classes are ordered by their mean: cerebrospinal
    fluid, grey, white in a T1 image. No neighbourhood prior: maps of FAST are smoother.

    Parameters
    ----------
    values : (x, y, z) float array
        Skull-stripped, bias-corrected T1.
    tissue : {0, 1, 2}
        Cerebrospinal fluid, grey matter, white matter: the order of FAST's partial volumes.
    rounds : int
        Of expectation-maximisation.
    """
    inside = foreground(values)
    present = values[inside].astype(np.float64)
    low, high = np.percentile(present, [0.1, 99.9])
    counts, edges = np.histogram(present, bins=256, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    means = np.percentile(present, [15, 50, 85])
    spread, weight = np.full(3, (high - low) / 8), np.full(3, 1 / 3)
    for _ in range(rounds):
        posterior = _posterior(centres, means, spread, weight)
        mass = posterior * counts
        total = np.maximum(mass.sum(axis=1), 1e-9)
        means = (mass @ centres) / total
        variance = (mass * (centres - means[:, None]) ** 2).sum(axis=1) / total
        spread = np.sqrt(np.maximum(variance, ((high - low) / 256) ** 2))
        weight = total / total.sum()
    order = np.argsort(means)
    share = _posterior(centres, means[order], spread[order], weight[order])[tissue]
    result = np.zeros(values.shape, np.float32)
    result[inside] = np.interp(present, centres, share)
    return result


def _posterior(
    x: np.ndarray, means: np.ndarray, spread: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    exponent = -0.5 * ((x - means[:, None]) / spread[:, None]) ** 2
    logs = exponent - np.log(spread[:, None]) + np.log(weight[:, None])
    dense = np.exp(logs - logs.max(axis=0))
    return np.asarray(dense / dense.sum(axis=0))

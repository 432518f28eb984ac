"""What is done to latents between an encoder and a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_finite, check_range
from imgwas.shapes import Float, Float64
from imgwas.types import Latents


def rank_normalize(
    values: Float[np.ndarray, "samples latents"], *, offset: float = 0.375
) -> Float64[np.ndarray, "samples latents"]:
    """Replace each column by its rank-based inverse normal transform.

    ``z_i = Phi^-1((rank_i - c) / (n - 2c + 1))`` with Blom's c = 3/8; ties share their mean rank
    and NaN stays NaN.

    Parameters
    ----------
    values : (samples, latents) float array
        NaN is missing.
    offset : float, default 0.375
        c of the formula, from 0 to below 1.

    Returns
    -------
    (samples, latents) float array
        Standard normal scores; 0 for a single value, NaN for a column without values.

    Raises
    ------
    DegenerateError
        If a value is infinite.
    UsageError
        If the offset would send the first or last rank to infinity.

    References
    ----------
    .. [1] Blom (1958), Statistical Estimates and Transformed Beta-Variables.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    check_range("offset", offset, low=0, high=0.999)
    check_finite("the latents", values)
    if not len(values):
        return np.empty(values.shape)
    ranks = rankdata(values, axis=0, nan_policy="omit")
    n = np.isfinite(values).sum(axis=0)
    return np.asarray(ndtri((ranks - offset) / (n - 2 * offset + 1)), np.float64)


@dataclass(frozen=True)
class Finding:
    """Something odd about one latent."""

    latent: str
    problem: str


#: A latent of at least this many people that takes fewer values than FEW is mentioned.
ENOUGH, FEW = 50, 10


def latent_quality(latents: Latents) -> list[Finding]:
    """List latents that are constant, repeated, saturated, coarse or ruled by one person.

    One person carrying more than half of a latent's variance is an outlier worth a look or a
    rank-normal transform; values at 65504 are the end of half precision; few distinct values are
    classes or a quantised code rather than a measurement.

    Returns
    -------
    list of Finding
        In the order of the latents; empty if nothing is odd.
    """
    return findings_of(latents.values, latents.names)


def findings_of(
    values: Float[np.ndarray, "samples latents"], names: Sequence[str]
) -> list[Finding]:
    """List what is odd about columns, as :func:`latent_quality` does for a table."""
    findings = []
    seen: dict[bytes, str] = {}
    for name, column in zip(names, values.T, strict=True):
        twin = seen.setdefault(np.ascontiguousarray(column).tobytes(), name)
        problems = _problems(column[np.isfinite(column)])
        if twin != name and "constant" not in problems:
            problems.append(f"equal to {twin}")
        findings += [Finding(name, problem) for problem in problems]
    return findings


def _problems(present: np.ndarray) -> list[str]:
    """Oddities of the values that one latent has."""
    if len(present) == 0 or present.min() == present.max():
        return ["constant"]
    problems = []
    scaled = present / np.abs(present).max()
    deviation = scaled - scaled.mean()
    share = float((deviation**2).max() / (deviation**2).sum())
    if share > 0.5 and len(present) > 10:
        problems.append(f"one sample carries {share:.0%} of the variance")
    if (np.abs(present) == 65504).any():
        problems.append("reaches 65504, the end of half precision")
    n_distinct = len(np.unique(present)) if len(present) >= ENOUGH else FEW
    if n_distinct < FEW:
        problems.append(f"takes {n_distinct} distinct values")
    return problems

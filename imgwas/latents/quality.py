"""Latents that are constant, repeated, saturated, coarse or ruled by one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.shapes import Float
from imgwas.types import Latents


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
    for name, column in zip(names, np.ascontiguousarray(values.T), strict=True):
        twin = seen.setdefault(column.tobytes(), name)
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
    if len(present) >= ENOUGH and len(set(present[:ENOUGH].tolist())) < FEW:
        n_distinct = len(np.unique(present))
        if n_distinct < FEW:
            problems.append(f"takes {n_distinct} distinct values")
    return problems

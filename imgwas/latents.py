"""What is done to latents between an encoder and a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        c of the formula.

    References
    ----------
    .. [1] Blom (1958), Statistical Estimates and Transformed Beta-Variables.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0, nan_policy="omit")
    n = np.isfinite(values).sum(axis=0)
    return np.asarray(ndtri((ranks - offset) / (n - 2 * offset + 1)), np.float64)


@dataclass(frozen=True)
class Finding:
    """Something odd about one latent."""

    latent: str
    problem: str


def latent_quality(latents: Latents) -> list[Finding]:
    """List constant, duplicated, saturated and outlier-ridden latents.

    One person carrying more than half of a latent's variance is an outlier worth a look or a
    rank-normal transform; values at 65504 are the end of half precision.
    """
    findings = []
    seen: dict[bytes, str] = {}
    for name, column in zip(latents.names, latents.values.T, strict=True):
        present = column[np.isfinite(column)]
        if len(present) == 0 or np.ptp(present) == 0:
            findings.append(Finding(name, "constant"))
            continue
        centred = (present - present.mean()) / np.abs(present - present.mean()).max()
        share = float((centred**2).max() / (centred**2).sum())
        if share > 0.5 and len(present) > 10:
            findings.append(Finding(name, f"one sample carries {share:.0%} of the variance"))
        if (np.abs(present) == 65504).any():
            findings.append(Finding(name, "reaches 65504, the end of half precision"))
        twin = seen.setdefault(np.ascontiguousarray(column).tobytes(), name)
        if twin != name:
            findings.append(Finding(name, f"equal to {twin}"))
    return findings

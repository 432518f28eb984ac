"""From a vector of effects on latents to effects on voxels and regions, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain
from imgwas.shapes import Float, Float64


@dataclass(frozen=True)
class Spread:
    """Directions of latent space that chance takes: a factor of the latents' covariance.

    Under no association a variant's effects are ``b ~ N(0, c C)`` with the covariance C of the
    latents after covariates and a number c of the variant (the variance of the effect of its
    genotype on a latent of variance one). ``factor`` is L with L L' = C.
    """

    factor: Float64[np.ndarray, "latents rank"]

    @classmethod
    def of(cls, covariance: Float64[np.ndarray, "latents latents"], floor: float = 1e-10) -> Spread:
        """Factor a covariance; directions with less than ``floor`` of the largest are left out.

        Raises
        ------
        DegenerateError
            If it is not a covariance.
        """
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        if not np.isfinite(values).all() or values[-1] <= 0:
            raise DegenerateError(explain("the latents do not vary together in any direction"))
        kept = values > floor * values[-1]
        return cls(vectors[:, kept] * np.sqrt(values[kept]))

    @property
    def rank(self) -> int:
        """Number of directions."""
        return int(self.factor.shape[1])

    def whiten(self, b: Float64[np.ndarray, "*n latents"]) -> Float64[np.ndarray, "*n rank"]:
        """Return u with ``b = L u``: independent and of variance c under no association."""
        return np.asarray(b @ np.linalg.pinv(self.factor).T)

    def draw(self, n: int, seed: int) -> Float64[np.ndarray, "n latents"]:
        """Draw effect vectors from N(0, C)."""
        rng = np.random.default_rng(seed)
        return np.asarray(rng.standard_normal((n, self.rank)) @ self.factor.T)


class Readout:
    """A linear readout of latent space: voxels, means of regions, volumes of regions.

    Parameters
    ----------
    weights : (latents, outputs) float array
        Change of each output per unit of each latent, e.g. the average Jacobian.
    spread : Spread
        What chance does to effect vectors.
    """

    def __init__(self, weights: Float[np.ndarray, "latents outputs"], spread: Spread) -> None:
        if len(weights) != len(spread.factor):
            raise InconsistentError(
                explain(f"the readout has {len(weights)} latents",
                        expected=f"the covariance has {len(spread.factor)}")
            )  # fmt: skip
        self.weights = np.asarray(weights, np.float32)
        self.spread = spread
        self._whitened = np.asarray(spread.factor.T, np.float32) @ self.weights
        squares = np.einsum("ko,ko->o", self._whitened, self._whitened, dtype=np.float64)
        #: standard deviation of each output under an effect vector from N(0, C)
        self.unit_error = np.sqrt(squares)

    def effect(self, b: Float[np.ndarray, " latents"]) -> Float64[np.ndarray, " outputs"]:
        """Return the change of every output for a vector of effects."""
        return np.asarray(np.asarray(b, np.float32) @ self.weights, np.float64)

    def z(
        self, b: Float[np.ndarray, " latents"], variance: float
    ) -> Float64[np.ndarray, " outputs"]:
        """Return effect over standard error; 0 for an output that never changes.

        It is the z of a scan of the decoded output itself, without touching a genotype;
        ``variance`` is the variant's c.
        """
        error = self.unit_error * np.sqrt(variance)
        return np.divide(self.effect(b), error, out=np.zeros(len(error)), where=error > 0)

    def largest_null_z(
        self, n: int, seed: int, *, block: int = 64
    ) -> Float64[np.ndarray, " draws"]:
        """Return the largest size of z over all outputs for ``n`` effect vectors of chance."""
        rng = np.random.default_rng(seed)
        kept = self.unit_error > 0
        columns = self._whitened[:, kept] / self.unit_error[kept].astype(np.float32)
        largest = np.empty(n)
        for start in range(0, n, block):
            stop = min(n, start + block)
            u = rng.standard_normal((stop - start, self.spread.rank)).astype(np.float32)
            largest[start:stop] = np.abs(u @ columns).max(axis=1)
        return largest


def family_wise_threshold(largest: Float64[np.ndarray, " draws"], level: float = 0.05) -> float:
    """Return the size of z that the largest of a chance map exceeds with chance ``level``.

    The order statistic is taken so that the expected share is at most ``level``:
    number ceil((1 - level)(n + 1)) of n.
    """
    if not 0 < level < 1:
        raise UsageError(explain(f"level is {level:g}", expected="Above 0 and below 1"))
    n = len(largest)
    rank = int(np.ceil((1 - level) * (n + 1)))
    if rank > n:
        raise DegenerateError(
            explain(f"{n} draws cannot show a level of {level:g}",
                    expected=f"At least {int(np.ceil(1 / level)) - 1} draws")
        )  # fmt: skip
    return float(np.sort(largest)[rank - 1])


def two_sided_p(z: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Two-sided P of standard normal z."""
    from scipy import special

    return np.asarray(2 * special.ndtr(-np.abs(z)))


def chance_p(
    observed: Float64[np.ndarray, " outputs"], null: Float64[np.ndarray, "draws outputs"]
) -> Float64[np.ndarray, " outputs"]:
    """Return ``(1 + number of draws at least as large) / (draws + 1)``; NaN stays NaN.

    References
    ----------
    .. [1] Phipson & Smyth (2010), Stat Appl Genet Mol Biol 9:39.
    """
    beyond = (null >= observed).sum(axis=0)
    p = (1 + beyond) / (len(null) + 1)
    return np.asarray(np.where(np.isnan(observed), np.nan, p), np.float64)


def shares(
    sizes: Float[np.ndarray, "n regions"], whole: Float[np.ndarray, " n"]
) -> Float64[np.ndarray, "n regions"]:
    """Return mean size in each region over the mean size in all voxels, free of scale."""
    whole = np.asarray(whole)[:, None]
    return np.divide(sizes, whole, out=np.zeros(sizes.shape), where=whole > 0, dtype=np.float64)

"""Perturbation of one latent at a time, as published (PerDI), and what its t hides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.brain.decoding import Decoder
from imgwas.brain.moments import Moments
from imgwas.errors import TooFewSamplesError, explain
from imgwas.shapes import Float, Float32, Float64

#: Numbers that the running moments may hold at once: 2 doubles a voxel and latent.
MAX_NUMBERS = 2**27


@dataclass(frozen=True)
class Perturbation:
    """What a shift of one latent does to the pictures of people.

    Parameters
    ----------
    latent : int
        Number of the latent.
    sd : float
        Its standard deviation over the people (divided by n), in its own units.
    step : float
        The shift, in SD.
    change : (voxels,) float64 array
        Mean change of intensity, signed.
    t : (voxels,) float64 array
        Paired t of the change; NaN where nothing varies.
    n : int
        People.
    """

    latent: int
    sd: float
    step: float
    change: Float64[np.ndarray, " voxels"]
    t: Float64[np.ndarray, " voxels"]
    n: int

    @property
    def per_sd(self) -> Float64[np.ndarray, " voxels"]:
        """Mean change of intensity per SD of the latent."""
        return self.change / self.step


def perturb_latents(
    decoder: Decoder,
    latents: Float[np.ndarray, "people k"],
    which: Sequence[int] | None = None,
    *,
    step: float = 1.0,
    batch: int = 10,
    progress: Callable[[int], object] | None = None,
) -> list[Perturbation]:
    """Shift latents by a constant number of SD and compare everybody's two pictures.

    For latent d, person i and voxel v the difference is
    ``D(z_i + step SD_d e_d)_v - D(z_i)_v``; t is its mean over its standard error, as in a paired
    test [1]_. Only running moments are kept, so that memory does not grow with people, and the
    unshifted pictures are decoded once for many latents.

    Parameters
    ----------
    decoder : Decoder
    latents : (people, latents) float array
        The published recipe takes the first 500 people.
    which : sequence of int, optional
        Latents to shift; all by default.
    step : float
        In standard deviations over these people (divided by n, not n - 1, as published).
    batch : int
        People decoded together.
    progress : callable, optional
        Called with the number of pictures decoded.

    Raises
    ------
    TooFewSamplesError
        If fewer than three people are given.

    References
    ----------
    .. [1] Patel et al. (2024), Communications Biology 7:414 (perturbation-based decoder
       interpretation).
    """
    if len(latents) < 3:
        raise TooFewSamplesError(
            explain(f"{len(latents)} people are given", expected="A paired t needs three or more")
        )
    chosen = list(range(decoder.n_latents)) if which is None else list(which)
    sd = np.asarray(latents, np.float64).std(axis=0)
    at_once = max(1, MAX_NUMBERS // (2 * decoder.n_voxels))
    done: list[Perturbation] = []
    for start in range(0, len(chosen), at_once):
        group = chosen[start : start + at_once]
        moments = _moments(decoder, latents, group, step * sd, batch, progress)
        done += [
            Perturbation(d, float(sd[d]), step, m.mean, m.t(), m.n)
            for d, m in zip(group, moments, strict=True)
        ]
    return done


def _moments(
    decoder: Decoder,
    latents: np.ndarray,
    group: Sequence[int],
    shift: np.ndarray,
    batch: int,
    progress: Callable[[int], object] | None,
) -> list[Moments]:
    moments = [Moments(decoder.n_voxels) for _ in group]
    for start in range(0, len(latents), batch):
        some = np.asarray(latents[start : start + batch], np.float32)
        still = decoder.decode(some)
        for d, running in zip(group, moments, strict=True):
            moved = some.copy()
            moved[:, d] += np.float32(shift[d])
            for difference in decoder.decode(moved).astype(np.float64) - still:
                running.add(difference)
        if progress is not None:
            progress(len(some) * (1 + len(group)))
    return moments


def published_map(
    decoder: Decoder, t: Float64[np.ndarray, " voxels"], sigma: float = 3.0
) -> Float32[np.ndarray, " *grid"]:
    """Return the published map: the size of t inside the mask, then Gaussian smoothing.

    ``sigma`` is in voxels. Smoothing comes after masking, as published, which dilutes the edge of
    the brain; NaN counts as 0.
    """
    from scipy import ndimage

    size = decoder.to_grid(np.nan_to_num(np.abs(t)))
    smooth = ndimage.gaussian_filter(size.astype(np.float64), sigma)
    return np.asarray(smooth, np.float32)

"""The decoder's Jacobian, averaged over people: how each voxel answers to each latent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgwas.brain.decoding import Decoder
from imgwas.errors import TooFewSamplesError, explain
from imgwas.shapes import Float, Float32, Float64


@dataclass(frozen=True)
class AverageJacobian:
    """Derivatives of the voxels by the latents, averaged over people.

    Parameters
    ----------
    mean : (latents, voxels) float32 array
        Change of intensity per unit of a latent.
    picture : (voxels,) float32 array
        Average picture of the same people.
    n_people : int
    agreement : (latents,) float array
        Share of each column's mean square that people have in common: 1 where all have the same
        derivative, 0 where they cancel.
    """

    mean: Float32[np.ndarray, "latents voxels"]
    picture: Float32[np.ndarray, " voxels"]
    n_people: int
    agreement: Float64[np.ndarray, " latents"]


def average_jacobian(
    decoder: Decoder,
    latents: Float[np.ndarray, "people k"],
    *,
    batch: int = 4,
    progress: Callable[[int], object] | None = None,
) -> AverageJacobian:
    """Average the decoder's derivative along each latent over people.

    Parameters
    ----------
    decoder : Decoder
    latents : (people, latents) float array
        Where to look; people whom the encoder has not seen.
    batch : int
        People decoded together.
    progress : callable, optional
        Called with 1 after every latent.

    Returns
    -------
    AverageJacobian
        One pass of the decoder, and its derivative, for every person and latent.

    Raises
    ------
    TooFewSamplesError
        If nobody is given.
    """
    n, k = latents.shape
    if not n:
        raise TooFewSamplesError(explain("nobody is left to average the decoder over"))
    mean = np.empty((k, decoder.n_voxels), np.float32)
    agreement = np.empty(k)
    for latent in range(k):
        total, squares = np.zeros(decoder.n_voxels), 0.0
        move = np.eye(k)[latent]
        for start in range(0, n, batch):
            slopes = decoder.derivative(latents[start : start + batch], move)
            total += slopes.sum(axis=0, dtype=np.float64)
            squares += float(np.einsum("nv,nv->", slopes, slopes, dtype=np.float64))
        mean[latent] = total / n
        size = float(np.einsum("v,v->", mean[latent], mean[latent], dtype=np.float64))
        agreement[latent] = size * n / squares if squares else np.nan
        if progress is not None:
            progress(1)
    return AverageJacobian(mean, _average_picture(decoder, latents, batch), n, agreement)


def _average_picture(decoder: Decoder, latents: np.ndarray, batch: int) -> np.ndarray:
    total = np.zeros(decoder.n_voxels)
    for start in range(0, len(latents), batch):
        total += decoder.decode(latents[start : start + batch]).sum(axis=0, dtype=np.float64)
    return (total / len(latents)).astype(np.float32)

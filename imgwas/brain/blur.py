"""By how much decoded pictures are softer than the images they stand for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.errors import InconsistentError, explain
from imgwas.latents.ledger import who_was_seen
from imgwas.shapes import Bool, Float32, Float64
from imgwas.types import Images, Latents

if TYPE_CHECKING:
    from imgwas.encoders.base import Encoder

logger = logging.getLogger(__name__)

#: People whose images are compared with their reconstructions.
ENOUGH = 20
#: Voxels next to the edge of the mask, where outside is mixed in, are not compared.
EDGE = 2


def blur_of_encoder(
    encoder: Encoder,
    images: Images,
    latents: Latents,
    affine: Float64[np.ndarray, "4 4"],
    mask: Bool[np.ndarray, " x y z"],
    *,
    enough: int = ENOUGH,
    seed: int = 0,
) -> float:
    """Estimate by how much an encoder's reconstructions are softer than the images.

    People whom the encoder has not seen are taken, chosen at random; if it has seen everybody, the
    estimate is of its own people and too small, and the log says so.

    Parameters
    ----------
    encoder : Encoder
        With a decoder.
    images : Images
    latents : Latents
        Of the encoder: they say whom it has seen.
    affine : (4, 4) float array
        Voxel indices to millimetres.
    mask : (x, y, z) bool array
    enough : int
        People.
    seed : int

    Returns
    -------
    float
        Standard deviation in mm, from 0 to 2 voxels; 0 for cines.
    """
    from imgwas.encoders.reconstruction import reconstruct_images

    if len(encoder.grid) != 3:
        return 0.0
    rows = _unseen(images, latents)
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:enough])
    pairs = reconstruct_images(images, encoder, chosen.tolist())
    sharp = np.stack([pair.original for pair in pairs])
    soft = np.stack([pair.reconstruction for pair in pairs])
    blur = estimate_blur(sharp, soft, affine, _core(mask))
    logger.info("blur     pictures are softer than %d images by %.1f mm", len(chosen), blur)
    return blur


def _unseen(images: Images, latents: Latents) -> np.ndarray:
    """Rows of images of people the encoder has not seen; all of them if there are none."""
    marks = latents.source.get("people_seen")
    seen = who_was_seen(marks, images.sample_ids) if marks else np.zeros(len(images), bool)
    if seen.all():
        logger.warning("the encoder has seen everyone here: the blur of others is larger")
        return np.arange(len(images))
    return np.flatnonzero(~seen)


def _core(mask: np.ndarray) -> np.ndarray:
    """The mask without its edge, or all of it where nothing else is left."""
    from scipy import ndimage

    core = np.asarray(ndimage.binary_erosion(mask, iterations=EDGE))
    return core if core.any() else np.asarray(mask, bool)


def estimate_blur(
    sharp: Float32[np.ndarray, "people x y z"],
    soft: Float32[np.ndarray, "others x y z"],
    affine: Float64[np.ndarray, "4 4"],
    mask: Bool[np.ndarray, " x y z"] | None = None,
) -> float:
    """Estimate by how much pictures are softer than others of the same people.

    The standard deviation of the Gaussian that makes the sharp pictures most like the soft ones, up
    to scale and offset. Noise of the sharp pictures that the soft ones lack makes it a little too
    large.

    Parameters
    ----------
    sharp, soft : (people, x, y, z) float array
        E.g. images and their reconstructions.
    affine : (4, 4) float array
        Voxel indices to millimetres.
    mask : (x, y, z) bool array, optional
        Voxels that are compared; all by default.

    Returns
    -------
    float
        In mm, from 0 to 2 voxels.
    """
    from scipy import ndimage, optimize

    if sharp.shape != soft.shape:
        raise InconsistentError(explain(f"the pictures have shapes {sharp.shape} and {soft.shape}"))
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    inside = np.ones(sharp.shape[1:], bool) if mask is None else mask

    def misfit(blur: float) -> float:
        total = 0.0
        for a, b in zip(sharp, soft, strict=True):
            made = ndimage.gaussian_filter(a.astype(np.float64), blur / zooms, mode="nearest")
            alike = np.corrcoef(made[inside], b[inside])[0, 1]
            total += (1 - alike**2) * float(np.var(b[inside]))
        return total

    found: Any = optimize.minimize_scalar(
        misfit, bounds=(0, 2 * float(zooms.mean())), method="bounded", options={"xatol": 0.02}
    )
    return float(found.x)

"""Intensities as a network wants them, computed where the network is."""

from __future__ import annotations

import torch

from imgwas.encoders.base import Batch, ImageSettings
from imgwas.errors import DegenerateError, explain


def image_batch(raw: torch.Tensor, settings: ImageSettings) -> Batch:
    """Scale prepared images.

    Parameters
    ----------
    raw : (batch, x, y, z) tensor
        As prepared; zero outside the brain where the mask is ``nonzero``.
    settings : ImageSettings
        ``intensity``, ``background`` and ``mask``.

    Returns
    -------
    Batch
        ``image`` (batch, 1, x, y, z) and ``mask`` of the same shape.

    Raises
    ------
    DegenerateError
        If an image is blank or constant: nothing can be divided by its spread.
    """
    raw = raw[:, None]
    inside = raw != 0
    mask = inside if settings.mask == "nonzero" else torch.ones_like(inside)
    if settings.intensity == "zscore":
        image = _zscore(raw, inside)
        if settings.background == "zero":
            image = image.masked_fill(~inside, 0)
    elif settings.intensity == "none":
        image = raw
    else:
        image = _to_range(raw)
        if settings.intensity == "symmetric":
            image = image * 2 - 1
    return Batch(image, mask)


def _zscore(raw: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mean 0 and standard deviation 1 over the voxels that are not zero, in two passes."""
    axes = tuple(range(1, raw.ndim))
    n = inside.sum(axes, keepdim=True).clamp(min=1)
    mean = (raw * inside).sum(axes, keepdim=True) / n
    variance = (((raw - mean) * inside) ** 2).sum(axes, keepdim=True) / n
    _refuse_flat(variance.flatten() <= 0)
    return (raw - mean) / variance.sqrt()


def _to_range(raw: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(1, raw.ndim))
    low, high = raw.amin(axes, keepdim=True), raw.amax(axes, keepdim=True)
    _refuse_flat((high <= low).flatten())
    return (raw - low) / (high - low)


def _refuse_flat(flat: torch.Tensor) -> None:
    if bool(flat.any()):
        rows = torch.nonzero(flat).flatten().tolist()
        raise DegenerateError(
            explain(
                f"{len(rows)} of {len(flat)} images are blank or hold one value",
                where=f"position in the batch: {', '.join(str(r + 1) for r in rows[:3])}",
                do="imgwas images qc finds them; leave them out",
            )
        )

"""The table of encoders: one name, one class, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from imgwas import settings as typed
from imgwas.checks import did_you_mean
from imgwas.encoders.autoencoders import AE3D, AE1000, VAE3D, Udip, ViTAE
from imgwas.encoders.base import Encoder, NeuralEncoder
from imgwas.encoders.classifiers import CNN, PatchCNN, ResNetSex, SmallCNNEncoder
from imgwas.encoders.diffae import DiffAE
from imgwas.encoders.gan import GAN3D
from imgwas.encoders.pca import PCA
from imgwas.encoders.semantic import CineEncoder
from imgwas.encoders.stylegan import StyleGAN3D
from imgwas.encoders.tabular import Morphometry
from imgwas.errors import UsageError, explain

#: name -> encoder
ENCODERS: dict[str, type[Encoder]] = {
    encoder.name: encoder
    for encoder in (
        Udip, ViTAE, AE3D, VAE3D, AE1000, CNN, SmallCNNEncoder, PatchCNN, ResNetSex, DiffAE,
        CineEncoder, Morphometry, PCA, GAN3D, StyleGAN3D,
    )
}  # fmt: skip


def create_encoder(
    name: str, given: Mapping[str, Any] | None = None, *, affine: np.ndarray | None = None
) -> Encoder:
    """Make an untrained encoder.

    Parameters
    ----------
    name : str
        Key of ``ENCODERS``.
    given : mapping, optional
        Settings that differ from the encoder's own: ``{"grid": (91, 109, 91), "latents": 64}``.
    affine : (4, 4) float array, optional
        Voxel indices to millimetres of the images it is for.

    Raises
    ------
    UsageError
        If the name or a setting is unknown; the nearest is named.
    """
    if name not in ENCODERS:
        raise UsageError(
            explain(
                f"there is no encoder {name!r}",
                expected=f"Encoders: {', '.join(ENCODERS)}",
                do=did_you_mean(name, ENCODERS),
            )
        )
    cls = ENCODERS[name]
    return cls(typed.build(cls.settings_type, given or {}, where=name), affine=affine)


def describe(encoder: Encoder) -> dict[str, Any]:
    """Count parameters and estimate memory, without training or allocating anything.

    Returns
    -------
    dict
        ``parameters`` (trainable), ``running_statistics``, ``latents``, ``grid``,
        ``memory_mb`` (of the weights), ``training_mb`` (weights, gradients and two moments of
        Adam, without activations), ``paper``, ``settings``.
    """
    has_grid = bool(encoder.grid)
    n = encoder.n_parameters() if has_grid else None  # type: ignore[attr-defined]
    statistics = encoder.n_statistics() if has_grid and isinstance(encoder, NeuralEncoder) else 0
    described: dict[str, Any] = {
        "name": encoder.name,
        "paper": encoder.paper,
        "latents": encoder.n_latents,
        "grid": list(encoder.grid),
        "parameters": n,
        "running_statistics": statistics,
        "decodes": encoder.can_decode,
        "supervised": encoder.is_supervised,
        "settings": typed.as_json(encoder.settings),
        "training": dict(encoder.training),
    }
    if n is not None:
        described["memory_mb"] = round(4 * n / 1e6, 1)
        described["training_mb"] = round(16 * n / 1e6, 1)
    return described

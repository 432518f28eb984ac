"""The autoencoders of images: udip, vit-ae, ae3d, vae3d, ae-1000."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from imgwas.encoders.base import Batch, ImageSettings, NeuralEncoder, Ratio
from imgwas.encoders.networks.convolutional import ConvAutoencoder
from imgwas.encoders.networks.pooled import PooledAutoencoder, PooledVariational
from imgwas.encoders.networks.strided import StridedAutoencoder
from imgwas.encoders.networks.vit import ViTAutoencoder


def masked_mse(image: torch.Tensor, reconstruction: torch.Tensor, mask: torch.Tensor) -> Ratio:
    """Squared error over the voxels of a mask: sum m (x - x')^2 over sum m, over the whole batch.

    What the reconstruction does outside the mask changes nothing.
    """
    error = torch.where(mask, image - reconstruction.float(), 0)
    return Ratio((error * error).sum(), mask.sum().to(error.dtype))


class Autoencoder(NeuralEncoder):
    """An autoencoder trained on the squared error inside the mask."""

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Squared error of the reconstruction."""
        return {"error": masked_mse(batch.image, outputs[0], batch.mask)}


@dataclass(frozen=True)
class UdipSettings(ImageSettings):
    """``width`` channels at the finest of ``levels`` + 1 levels."""

    width: int = 16
    levels: int = 4


class Udip(Autoencoder):
    """The 3-D convolutional autoencoder of UDIP; 138,124,497 parameters at 182 x 218 x 182."""

    name = "udip"
    paper = "Patel, Xie et al. (2024), Communications Biology: UDIP"
    settings_type = UdipSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 5.248e-4, "epochs": 100, "batch": 36}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        return ConvAutoencoder(s.grid, s.latents, s.width, s.levels)


@dataclass(frozen=True)
class ViTSettings(ImageSettings):
    """``patch`` voxels along an edge, ``depth`` layers of ``heads`` heads."""

    patch: int = 16
    depth: int = 6
    heads: int = 8


class ViTAE(Autoencoder):
    """A transformer over patches; the latent is the mean of their embeddings."""

    name = "vit-ae"
    paper = "After ViT-UDIP: mean-pooled embeddings of 128 dimensions"
    settings_type = ViTSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 3e-4, "clip": 1.0}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        return ViTAutoencoder(s.grid, s.latents, s.patch, s.depth, s.heads)


@dataclass(frozen=True)
class PooledSettings(ImageSettings):
    """``channels`` of every convolution."""

    latents: int = 256
    mask: Literal["nonzero", "all"] = "all"
    channels: int = 64


class AE3D(Autoencoder):
    """Pooled autoencoder of seed 002; 1,775,105 parameters with 256 latents."""

    name = "ae3d"
    paper = "brainMRIGenerativeModels, AE3D (58 x 70 x 58)"
    settings_type = PooledSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-3, "epochs": 100, "batch": 16}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        return PooledAutoencoder(s.grid, s.latents, s.channels)


@dataclass(frozen=True)
class VariationalSettings(ImageSettings):
    """``beta`` weighs the Kullback-Leibler term, summed over latents, averaged over images.

    The loss, times the number of voxels, is the summed squared error plus ``beta`` times the
    divergence: at ``beta`` = 1 the evidence lower bound for noise of variance 1/2.
    """

    latents: int = 64
    mask: Literal["nonzero", "all"] = "all"
    channels: int = 256
    hidden: int = 256
    beta: float = 0.8


class VAE3D(Autoencoder):
    """Variational autoencoder of seed 002; 16,422,273 parameters with 64 latents."""

    name = "vae3d"
    paper = "brainMRIGenerativeModels, VAE3D (29 x 35 x 29); Kingma & Welling (2014); beta-VAE"
    settings_type = VariationalSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-3, "epochs": 100, "batch": 3}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        return PooledVariational(s.grid, s.latents, s.channels, s.hidden)

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Squared error, and the divergence of each posterior from the standard normal."""
        reconstruction, mean, log_variance = outputs
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).float()
        n = torch.tensor(float(len(mean)), device=mean.device)
        return {
            "error": masked_mse(batch.image, reconstruction, batch.mask),
            "kl": Ratio(kl.sum(), n),
        }

    def loss_weights(self) -> dict[str, float]:
        """Weigh the divergence per voxel, as the error is."""
        n_voxels = 1
        for n in self.grid:
            n_voxels *= n
        return {"kl": self.settings.beta / n_voxels}


@dataclass(frozen=True)
class StridedSettings(ImageSettings):
    """Only the size of the bottleneck."""

    latents: int = 1000
    mask: Literal["nonzero", "all"] = "all"


class AE1000(Autoencoder):
    """Strided autoencoder of seed 004; 10.6 million parameters at 58 x 70 x 58."""

    name = "ae-1000"
    paper = "Generative models for brain aging: MRI autoencoder with 1,000 latents"
    settings_type = StridedSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3, "epochs": 20, "batch": 45}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        return StridedAutoencoder(self.settings.grid, self.settings.latents)

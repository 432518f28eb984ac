"""The supervised encoders: cnn, small-cnn, patch-cnn, resnet-sex.

Their latents are the features before the last layer. People whose labels a network has seen must
not be scanned with its features: see :mod:`imgwas.encoders.folds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from imgwas.encoders.base import Batch, ImageSettings, NeuralEncoder, Ratio
from imgwas.encoders.networks.classifiers import PatchFusion, ResNet, SmallCNN, WholeBrain
from imgwas.errors import UsageError, explain
from imgwas.images.patches import patch_corners


@dataclass(frozen=True)
class SupervisedSettings(ImageSettings):
    """``outputs`` classes (or values); ``class_weights`` are the inverse of the class sizes.

    ``task`` is ``classes`` (cross-entropy) or ``values`` (squared error of standardised targets).
    """

    latents: int = 100
    intensity: Literal["zscore", "minmax", "symmetric", "none"] = "minmax"
    mask: Literal["nonzero", "all"] = "all"
    task: Literal["classes", "values"] = "classes"
    outputs: int = 2
    class_weights: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()
    target_mean: float = 0.0
    target_sd: float = 1.0
    dropout: float = 0.3


class SupervisedEncoder(NeuralEncoder):
    """A network trained on labels; its features are the latents."""

    is_supervised = True
    can_decode = False

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Mean over people of weight times cross-entropy, or squared error of known values."""
        if batch.target is None:
            raise UsageError(
                explain(f"{self.name} needs labels", do="Give --targets FILE --target COLUMN")
            )
        outputs = outputs.float()
        if self.settings.task == "values":
            known = torch.isfinite(batch.target)
            error = torch.where(known, outputs[:, 0] - batch.target, 0)
            return {"error": Ratio((error**2).sum(), known.sum().float())}
        weights = self._class_weights(outputs)
        target = batch.target.long()
        total = functional.cross_entropy(outputs, target, weight=weights, reduction="sum")
        # not by the sum of weights: in a small batch that would cancel them
        return {"cross_entropy": Ratio(total, outputs.new_tensor(len(target)))}

    def _class_weights(self, outputs: torch.Tensor) -> torch.Tensor | None:
        weights = self.settings.class_weights
        return outputs.new_tensor(weights) if weights else None

    def latents_of(self, network: nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return the features before the last layer."""
        out: torch.Tensor = network.features(image)  # type: ignore[operator]
        return out

    def outputs_of(self, network: nn.Module, features: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (batch, outputs), or values (batch, 1) in their own unit."""
        outputs: torch.Tensor = network.head(features).float()  # type: ignore[operator]
        if self.settings.task == "values":
            outputs = outputs[:, :1] * self.settings.target_sd + self.settings.target_mean
        else:
            outputs = outputs.softmax(dim=1)
        return outputs

    def predict(self, image: torch.Tensor) -> torch.Tensor:
        """Return what :meth:`outputs_of` says of normalised images."""
        self.network.eval()
        return self.outputs_of(self.network, self.latents_of(self.network, image))


class CNN(SupervisedEncoder):
    """Seed 001's whole-image network; 75,942,343 numbers at 155 x 155 x 95 with 3 classes."""

    name = "cnn"
    paper = "Chakraborty et al. (2023), Genes 14:626: whole-brain CNN"
    settings_type = SupervisedSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-4, "batch": 4, "epochs": 100}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        return WholeBrain(s.grid, s.outputs, s.latents, s.dropout)


class SmallCNNEncoder(SupervisedEncoder):
    """Seed 001's 3-D CNN; 1,403,987 numbers with 100 features, 1,353,923 with ``latents=512``."""

    name = "small-cnn"
    paper = "Chakraborty et al. (2023), Genes 14:626: 3D-CNN"
    settings_type = SupervisedSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-4, "batch": 4}

    def build(self) -> nn.Module:
        """Make the network from the settings; 512 latents are the dense layer itself."""
        s = self.settings
        return SmallCNN(s.grid, s.outputs, 0 if s.latents == 512 else s.latents, s.dropout)


@dataclass(frozen=True)
class PatchSettings(SupervisedSettings):
    """``patch`` is the size of a patch, ``steps`` how many along each axis.

    ``keep`` of them, best on validation data, form the final network; ``chosen`` are their numbers
    once ranked, empty for all.
    """

    latents: int = 10
    patch: tuple[int, ...] = (55, 55, 35)
    steps: tuple[int, ...] = (3, 3, 3)
    keep: int = 5
    chosen: tuple[int, ...] = ()


class PatchCNN(SupervisedEncoder):
    """Seed 001's overlapping patches, one branch each, the best fused; 28,275 numbers a patch."""

    name = "patch-cnn"
    paper = "Chakraborty et al. (2023), Genes 14:626: 27-branch CNN"
    settings_type = PatchSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-4, "batch": 4, "epochs": 60}

    def build(self) -> nn.Module:
        """Make the network from the settings: the chosen patches, or all."""
        s = self.settings
        corners = patch_corners(s.grid, s.patch, s.steps)
        chosen = [corners[i] for i in s.chosen] if s.chosen else corners
        return PatchFusion(chosen, s.patch, s.outputs, s.latents, s.dropout)


@dataclass(frozen=True)
class ResNetSettings(SupervisedSettings):
    """``base`` channels of the first level."""

    latents: int = 200
    base: int = 8


class ResNetSex(SupervisedEncoder):
    """Seed 004's residual network: base 8, 200 features."""

    name = "resnet-sex"
    paper = "Generative models for brain aging: residual sex classifier"
    settings_type = ResNetSettings
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 5e-3, "batch": 16, "epochs": 50}

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        return ResNet(s.outputs, s.base, s.latents, s.dropout)

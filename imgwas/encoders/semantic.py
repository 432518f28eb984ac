"""The encoder half of the cardiac diffusion autoencoder, for its published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from imgwas.encoders.base import Batch, ImageSettings, NeuralEncoder, Ratio
from imgwas.encoders.networks.semantic import MULTIPLIERS, SemanticEncoder
from imgwas.errors import UsageError, explain


@dataclass(frozen=True)
class SemanticSettings(ImageSettings):
    """``grid`` is (x, y, frames) or (x, y, 1, frames) of a cine; x and y are multiples of 32."""

    latents: int = 128
    intensity: Literal["zscore", "minmax", "symmetric", "none"] = "symmetric"
    mask: Literal["nonzero", "all"] = "all"
    base: int = 32


class CineEncoder(NeuralEncoder):
    """Semantic encoder of the cardiac diffusion autoencoder; 4,276,032 parameters.

    It is trained together with the diffusion decoder, so it is not trained here: its weights come
    from a published checkpoint (``imgwas weights convert --from imlatent``).
    """

    name = "diffae-encoder"
    paper = "Ometto, Chatterjee et al. (2026), Nature Communications: ImLatent, cardiac DiffAE"
    settings_type = SemanticSettings
    can_decode = False
    is_trainable = False

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        smallest = 2 ** (len(MULTIPLIERS) - 1)
        if s.grid and any(n % smallest for n in s.grid[:2]):
            raise UsageError(
                explain(
                    f"the plane has {s.grid[0]} x {s.grid[1]} pixels",
                    expected=f"Multiples of {smallest} are needed; published: 128 x 128",
                    do="Prepare the cines with the step heart-crop",
                )
            )
        if len(s.grid) not in (0, 3) and (len(s.grid) != 4 or s.grid[2] != 1):
            raise UsageError(
                explain(f"the grid is {s.grid}", expected="(x, y, frames) or (x, y, 1, frames)")
            )
        return SemanticEncoder(s.latents, s.base)

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Refuse: there is nothing to compare a latent with."""
        del outputs, batch
        raise UsageError(explain(f"{self.name} has no loss of its own"))

    def latents_of(self, network: nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return (batch, latents); frames go first, as the network was trained."""
        cine = image.flatten(4).permute(0, 1, 4, 2, 3)
        out: torch.Tensor = network.encode(cine.contiguous())  # type: ignore[operator]
        return out

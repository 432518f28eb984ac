"""The strided autoencoder of seed 004: convolutions of stride 2 around a linear bottleneck."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from imgwas.encoders.networks.convolutional import triple
from imgwas.errors import UsageError, explain

CHANNELS = (16, 32, 64, 128)


class StridedAutoencoder(nn.Module):
    """Four convolutions (kernel 4, stride 2), batch norm, leaky ReLU 0.2; a linear bottleneck.

    At 58 x 70 x 58 the bottom holds 4,608 values; with 1,000 latents the network has 10.6 million
    parameters.
    """

    def __init__(self, grid: Sequence[int], latents: int = 1000) -> None:
        super().__init__()
        rows = [tuple(grid)]
        for _ in CHANNELS:
            rows.append(tuple(n // 2 for n in rows[-1]))
        if min(rows[-1]) < 1:
            text = "x".join(map(str, grid))
            raise UsageError(explain(f"the grid is {text}", expected="At least 16 voxels an axis"))
        self.bottom = (CHANNELS[-1], *rows[-1])
        size = CHANNELS[-1] * rows[-1][0] * rows[-1][1] * rows[-1][2]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for i, n_out in enumerate(CHANNELS):
            n_in = CHANNELS[i - 1] if i else 1
            down += [nn.Conv3d(n_in, n_out, 4, 2, 1), nn.BatchNorm3d(n_out), nn.LeakyReLU(0.2)]
            odd = triple(n % 2 for n in rows[i])
            back = nn.ConvTranspose3d(n_out, n_in, 4, 2, 1, output_padding=odd)
            after = [nn.BatchNorm3d(n_in), nn.LeakyReLU(0.2)] if i else []
            up = [back, *after, *up]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.to_latent = nn.Linear(size, latents)
        self.from_latent = nn.Linear(latents, size)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, latents)."""
        out: torch.Tensor = self.to_latent(self.down(image).flatten(1))
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, x, y, z)."""
        out: torch.Tensor = self.up(self.from_latent(latents).reshape(-1, *self.bottom))
        return out

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (reconstruction, latents)."""
        latents = self.encode(image)
        return self.decode(latents), latents

"""The pooled autoencoders of seed 002: ae3d and its variational sibling vae3d.

Encoder: five times (convolution 3, ReLU, batch norm, max pooling 2), a last convolution, and the
mean over what is left of the grid. Decoder: five times (trilinear upsampling to the grid of that
level, convolution, ReLU, batch norm) and a convolution to one channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from imgwas.errors import UsageError, explain

LEVELS = 5


def grids(grid: Sequence[int], levels: int = LEVELS) -> list[tuple[int, ...]]:
    """Grids of the decoder, coarsest first: one pooling level finer than the encoder's last.

    Pooling drops the last voxel of an odd axis, so each length is half of the next, rounded down.

    >>> grids((58, 70, 58))[:2], grids((29, 35, 29))[:2]
    ([(3, 4, 3), (7, 8, 7)], [(1, 2, 1), (3, 4, 3)])
    """
    rows = [tuple(grid)]
    for _ in range(levels - 1):
        rows.append(tuple(max(1, n // 2) for n in rows[-1]))
    return rows[::-1]


def _step(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Conv3d(n_in, n_out, 3, padding=1), nn.ReLU(), nn.BatchNorm3d(n_out)]


class PooledEncoder(nn.Module):
    """(batch, 1, x, y, z) to (batch, hidden)."""

    def __init__(self, grid: Sequence[int], channels: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        now, n_in = tuple(grid), 1
        for _ in range(LEVELS):
            layers += _step(n_in, channels)
            # an axis of one voxel cannot be halved again
            window = tuple(2 if n > 1 else 1 for n in now)
            layers.append(nn.MaxPool3d(window, window))
            now, n_in = tuple(n // w for n, w in zip(now, window, strict=True)), channels
        self.steps = nn.Sequential(*layers)
        self.last = nn.Conv3d(channels, hidden, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Apply all levels and average over the grid."""
        out: torch.Tensor = self.last(self.steps(image)).mean(dim=(2, 3, 4))
        return out


class PooledDecoder(nn.Module):
    """(batch, latents) to (batch, 1, x, y, z)."""

    def __init__(self, grid: Sequence[int], channels: int, latents: int) -> None:
        super().__init__()
        self.grids = grids(grid)
        steps = [
            nn.Sequential(*_step(latents if i == 0 else channels, channels)) for i in range(LEVELS)
        ]
        self.steps = nn.ModuleList(steps)
        self.last = nn.Conv3d(channels, 1, 3, padding=1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Grow from one voxel."""
        out = latents[:, :, None, None, None]
        for grid, step in zip(self.grids, self.steps, strict=True):
            out = step(functional.interpolate(out, size=grid, mode="trilinear"))
        result: torch.Tensor = self.last(out)
        return result


class PooledAutoencoder(nn.Module):
    """ae3d: the mean over the last feature map is the latent."""

    def __init__(self, grid: Sequence[int], latents: int = 256, channels: int = 64) -> None:
        super().__init__()
        check_grid(grid)
        self.encoder = PooledEncoder(grid, channels, latents)
        self.decoder = PooledDecoder(grid, channels, latents)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, latents)."""
        out: torch.Tensor = self.encoder(image)
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, x, y, z)."""
        out: torch.Tensor = self.decoder(latents)
        return out

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (reconstruction, latents)."""
        latents = self.encode(image)
        return self.decode(latents), latents


class PooledVariational(nn.Module):
    """vae3d: mean and log-variance of each latent.

    The original's second head was a linear standard deviation, whose logarithm does not exist
    below zero; here it is the log-variance, and the count of parameters is the same.
    """

    def __init__(
        self, grid: Sequence[int], latents: int = 64, channels: int = 256, hidden: int = 256
    ) -> None:
        super().__init__()
        check_grid(grid)
        self.encoder = PooledEncoder(grid, channels, hidden)
        self.mean = nn.Linear(hidden, latents)
        self.log_variance = nn.Linear(hidden, latents)
        self.decoder = PooledDecoder(grid, channels, latents)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to the posterior mean (batch, latents)."""
        out: torch.Tensor = self.mean(self.encoder(image))
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, x, y, z)."""
        out: torch.Tensor = self.decoder(latents)
        return out

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (reconstruction, mean, log-variance); draws a latent while training."""
        hidden = self.encoder(image)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden).clamp(-30, 20)
        latents = mean
        if self.training:
            latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decode(latents), mean, log_variance


def check_grid(grid: Sequence[int]) -> None:
    """Refuse a grid that has no room for an image."""
    if min(grid) < 4:
        text = "x".join(map(str, grid))
        raise UsageError(explain(f"the grid is {text}", expected="At least 4 voxels an axis"))

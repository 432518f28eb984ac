"""The semantic encoder of the cardiac diffusion autoencoder: a cine in, 128 numbers out.

Residual blocks of one convolution, halving within the plane only, attention where the plane has 16
pixels and in the middle, group norm, and the mean over what is left. Modules bear the names that
published checkpoints use.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

MULTIPLIERS = (1, 1, 2, 3, 4, 4)
BLOCKS = 2
#: Level at which positions attend to one another: 128 pixels halved three times.
ATTENTION_LEVEL = 3


class OneConvBlock(nn.Module):
    """Group norm, SiLU, convolution, around a shortcut; halves the plane first if asked."""

    def __init__(self, n_in: int, n_out: int, *, halve: bool = False) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(min(32, n_in), n_in), nn.SiLU(), nn.Conv3d(n_in, n_out, 3, padding=1)
        )
        self.skip_connection: nn.Module = (
            nn.Identity() if n_in == n_out else nn.Conv3d(n_in, n_out, 1)
        )
        self.halve = halve

    def forward(self, cine: torch.Tensor) -> torch.Tensor:
        """(batch, n_in, frames, x, y) to (batch, n_out, ...)."""
        inner = self.in_layers[1](self.in_layers[0](cine))
        if self.halve:
            inner, cine = (functional.avg_pool3d(v, (1, 2, 2)) for v in (inner, cine))
        out: torch.Tensor = self.skip_connection(cine) + self.in_layers[2](inner)
        return out


class Attention(nn.Module):
    """Every voxel attends to every other, one head."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(min(32, n), n)
        self.qkv = nn.Conv1d(n, 3 * n, 1)
        self.proj_out = nn.Conv1d(n, n, 1)

    def forward(self, cine: torch.Tensor) -> torch.Tensor:
        """(batch, n, frames, x, y) to the same."""
        flat = cine.flatten(2)
        query, key, value = self.qkv(self.norm(flat)).transpose(1, 2).chunk(3, dim=2)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: torch.Tensor = flat + self.proj_out(mixed.transpose(1, 2))
        return out.reshape(cine.shape)


class SemanticEncoder(nn.Module):
    """(batch, 1, frames, x, y) to (batch, latents); 4,276,032 parameters at base 32.

    References
    ----------
    .. [1] Ometto, Chatterjee et al. (2026), Nature Communications; Preechakul et al. (2022), CVPR
       (diffusion autoencoders); Dhariwal & Nichol (2021), NeurIPS (the blocks).
    """

    def __init__(self, latents: int = 128, base: int = 32) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Sequential(nn.Conv3d(1, base, 3, padding=1))]
        now = base
        for level, multiplier in enumerate(MULTIPLIERS):
            for _ in range(BLOCKS):
                layers: list[nn.Module] = [OneConvBlock(now, multiplier * base)]
                now = multiplier * base
                if level == ATTENTION_LEVEL:
                    layers.append(Attention(now))
                blocks.append(nn.Sequential(*layers))
            if level < len(MULTIPLIERS) - 1:
                blocks.append(nn.Sequential(OneConvBlock(now, now, halve=True)))
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.Sequential(
            OneConvBlock(now, now), Attention(now), OneConvBlock(now, now)
        )
        self.out = nn.Sequential(
            nn.GroupNorm(min(32, now), now), nn.SiLU(), nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(now, latents, 1), nn.Flatten(),
        )  # fmt: skip

    def encode(self, cine: torch.Tensor) -> torch.Tensor:
        """(batch, 1, frames, x, y) to (batch, latents)."""
        for part in self.input_blocks:
            cine = part(cine)
        out: torch.Tensor = self.out(self.middle_block(cine))
        return out

    def forward(self, cine: torch.Tensor) -> torch.Tensor:
        """Return the latents."""
        return self.encode(cine)

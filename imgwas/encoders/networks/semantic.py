"""The semantic encoder of the diffusion autoencoder: a cine or a brain in, 128 numbers out.

Residual blocks of one convolution, halving within the plane only (of a brain, all three axes),
attention where a plane of 128 pixels has 16 and in the middle, group norm, and the mean over what
is left, or a weight for each place of it. Modules bear the names that published checkpoints use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

Layer = TypeVar("Layer", bound=nn.Module)

#: How much is halved: the plane of a cine whose frames are the first axis, or all of a brain.
PLANE, VOLUME = (1, 2, 2), (2, 2, 2)
MULTIPLIERS = (1, 1, 2, 3, 4, 4)
BLOCKS = 2
#: Level at which positions attend to one another: 128 pixels halved three times.
ATTENTION_LEVEL = 3


def group_norm(n: int) -> nn.GroupNorm:
    """Norm over 32 groups as published; channels that 32 does not divide make up to 4 groups."""
    return nn.GroupNorm(32 if n % 32 == 0 else max(1, math.gcd(n, 8) // 2), n)


def zeroed(layer: Layer) -> Layer:
    """Set all numbers of a layer to zero, so that at first it adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def pad_to(volume: torch.Tensor, multiples: Sequence[int]) -> torch.Tensor:
    """Repeat the last voxels of each spatial axis until its length is a multiple."""
    short = [-n % m for n, m in zip(volume.shape[2:], multiples, strict=True)]
    if not any(short):
        return volume
    return functional.pad(volume, (0, short[2], 0, short[1], 0, short[0]), mode="replicate")


class OneConvBlock(nn.Module):
    """Group norm, SiLU, convolution, around a shortcut; halves first if given how much."""

    def __init__(self, n_in: int, n_out: int, *, halve: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            group_norm(n_in), nn.SiLU(), nn.Conv3d(n_in, n_out, 3, padding=1)
        )
        self.skip_connection: nn.Module = (
            nn.Identity() if n_in == n_out else nn.Conv3d(n_in, n_out, 1)
        )
        self.halve = halve

    def forward(self, cine: torch.Tensor) -> torch.Tensor:
        """(batch, n_in, frames, x, y) to (batch, n_out, ...)."""
        inner = self.in_layers[1](self.in_layers[0](cine))
        if self.halve:
            inner, cine = (functional.avg_pool3d(v, self.halve) for v in (inner, cine))
        out: torch.Tensor = self.skip_connection(cine) + self.in_layers[2](inner)
        return out


class Attention(nn.Module):
    """Every voxel attends to every other, one head; the table of weights is never stored."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = group_norm(n)
        self.qkv = nn.Conv1d(n, 3 * n, 1)
        self.proj_out = zeroed(nn.Conv1d(n, n, 1))

    def forward(self, cine: torch.Tensor) -> torch.Tensor:
        """(batch, n, frames, x, y) to the same."""
        flat = cine.flatten(2)
        # (batch, one head, voxels, channels), channels next to each other in memory: the kernels
        # that never store the table of weights take nothing else
        voxels = self.norm(flat).transpose(1, 2)
        heads = functional.linear(voxels, self.qkv.weight[..., 0], self.qkv.bias)
        query, key, value = heads[:, None].chunk(3, dim=3)
        mixed = functional.scaled_dot_product_attention(query, key, value)[:, 0]
        told = functional.linear(mixed, self.proj_out.weight[..., 0], self.proj_out.bias)
        return (flat + told.transpose(1, 2)).reshape(cine.shape)


class SemanticEncoder(nn.Module):
    """(batch, 1, frames, x, y) to (batch, latents); 4,276,032 parameters at base 32.

    Parameters
    ----------
    latents, base : int
        Numbers that come out, and channels of the first level.
    multipliers : sequence of int
        Channels of each level, in units of ``base``.
    halve : tuple of int
        ``PLANE`` or ``VOLUME``.
    attention : int
        Level with attention, from 0; one that is not there leaves that of the middle.
    n_blocks : int
        Of each level.
    places : sequence of int, optional
        Voxels along the axes of every volume that will come. The latents then weigh each place and
        frame of the last feature map by itself; without it they see the mean, as published.

    References
    ----------
    .. [1] Ometto, Chatterjee et al. (2026), Nature Communications; Preechakul et al. (2022), CVPR
       (diffusion autoencoders); Dhariwal & Nichol (2021), NeurIPS (the blocks).
    """

    def __init__(
        self, latents: int = 128, base: int = 32, multipliers: Sequence[int] = MULTIPLIERS,
        halve: tuple[int, ...] = PLANE, attention: int = ATTENTION_LEVEL, n_blocks: int = BLOCKS,
        places: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.multiples = tuple(n ** (len(multipliers) - 1) for n in halve)
        blocks: list[nn.Module] = [nn.Sequential(nn.Conv3d(1, base, 3, padding=1))]
        now = base
        for level, multiplier in enumerate(multipliers):
            for _ in range(n_blocks):
                layers: list[nn.Module] = [OneConvBlock(now, multiplier * base)]
                now = multiplier * base
                if level == attention:
                    layers.append(Attention(now))
                blocks.append(nn.Sequential(*layers))
            if level < len(multipliers) - 1:
                blocks.append(nn.Sequential(OneConvBlock(now, now, halve=halve)))
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.Sequential(
            OneConvBlock(now, now), Attention(now), OneConvBlock(now, now)
        )
        pooled: list[nn.Module] = [
            nn.AdaptiveAvgPool3d(1), nn.Conv3d(now, latents, 1), nn.Flatten()
        ]  # fmt: skip
        if places:
            left = [-(-n // m) for n, m in zip(places, self.multiples, strict=True)]
            pooled = [nn.Flatten(), nn.Linear(now * math.prod(left), latents)]
        self.out = nn.Sequential(group_norm(now), nn.SiLU(), *pooled)

    def encode(self, cine: torch.Tensor) -> torch.Tensor:
        """(batch, 1, frames, x, y) to (batch, latents)."""
        cine = pad_to(cine, self.multiples)
        for part in self.input_blocks:
            cine = part(cine)
        out: torch.Tensor = self.out(self.middle_block(cine))
        return out

    def forward(self, cine: torch.Tensor) -> torch.Tensor:
        """Return the latents."""
        return self.encode(cine)

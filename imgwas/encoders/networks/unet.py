"""The U-Net that guesses the noise in a volume from the volume, the time, and a code.

Modules bear the names that published checkpoints use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from imgwas.encoders.networks.semantic import BLOCKS, PLANE, Attention, group_norm, pad_to, zeroed

MULTIPLIERS = (1, 1, 2, 3, 4)
_LONGEST_PERIOD = 10_000


def sines(times: torch.Tensor, n: int) -> torch.Tensor:
    """Cosines and sines of (batch,) times at n / 2 frequencies: (batch, n)."""
    half = n // 2
    steps = torch.arange(half, dtype=torch.float32, device=times.device)
    angles = times[:, None].float() * torch.exp(-math.log(_LONGEST_PERIOD) * steps / half)
    return functional.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, n % 2))


class ConditionedBlock(nn.Module):
    """Two convolutions around a shortcut; the second listens to time and code.

    ``h = norm(h) * (1 + time_scale) + time_shift``, then ``h * (1 + code_scale)``. With all three
    at zero the block is one without conditions.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    n_time, n_code : int
        Numbers of the embedded time, and of the code.
    dropout : float
    halve, double : tuple of int, optional
        Factors by which the volume shrinks or grows before the first convolution.
    """

    def __init__(
        self, n_in: int, n_out: int, n_time: int, n_code: int, dropout: float,
        *, halve: tuple[int, ...] | None = None, double: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_layers = nn.Sequential(
            group_norm(n_in), nn.SiLU(), nn.Conv3d(n_in, n_out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(n_time, 2 * n_out))
        self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(n_code, n_out))
        self.out_layers = nn.Sequential(
            group_norm(n_out), nn.SiLU(), nn.Dropout(dropout),
            zeroed(nn.Conv3d(n_out, n_out, 3, padding=1)),
        )  # fmt: skip
        self.skip_connection: nn.Module = (
            nn.Identity() if n_in == n_out else nn.Conv3d(n_in, n_out, 1)
        )
        self.shrink, self.grow = halve, double

    def forward(self, x: torch.Tensor, time: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """(batch, n_in, ...) to (batch, n_out, ...)."""
        inner = self.in_layers[1](self.in_layers[0](x))
        inner, x = self._resampled(inner), self._resampled(x)
        inner = self.out_layers[0](self.in_layers[2](inner))
        scale, shift = (v[..., None, None, None] for v in self.emb_layers(time).chunk(2, dim=1))
        inner = inner * (1 + scale) + shift
        inner = inner * (1 + self.cond_emb_layers(code)[..., None, None, None])
        out: torch.Tensor = self.skip_connection(x) + self.out_layers[1:](inner)
        return out

    def _resampled(self, x: torch.Tensor) -> torch.Tensor:
        if self.shrink:
            return functional.avg_pool3d(x, self.shrink)
        if self.grow:
            return functional.interpolate(x, scale_factor=tuple(map(float, self.grow)))
        return x


class UNet(nn.Module):
    """(batch, 1, frames, x, y), times and codes to noise; 16,561,441 parameters at base 32.

    Parameters
    ----------
    latents, base : int
        Numbers of a code, and channels of the first level.
    multipliers : sequence of int
        Channels of each level, in units of ``base``.
    halve : tuple of int
        Factors between two levels.
    attention : int
        Level with attention, from 0; one that is not there leaves that of the middle.
    n_time : int
        Numbers that a time is embedded in.
    dropout : float
    n_blocks : int
        Of each level on the way down; one more on the way up.
    recompute : bool
        Forget what is inside the blocks and compute it again for the gradient: less memory, a
        second pass forward.

    References
    ----------
    .. [1] Ometto, Chatterjee et al. (2026), Nature Communications; Preechakul et al. (2022), CVPR;
       Dhariwal & Nichol (2021), NeurIPS.
    """

    def __init__(
        self, latents: int = 128, base: int = 32, multipliers: Sequence[int] = MULTIPLIERS,
        halve: tuple[int, ...] = PLANE, attention: int = 3, n_time: int = 128,
        dropout: float = 0.1, n_blocks: int = BLOCKS, *, recompute: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.base, self.n_blocks, self.recompute = base, n_blocks, recompute
        self.multiples = tuple(n ** (len(multipliers) - 1) for n in halve)
        self.time_embed = nn.Sequential(
            nn.Linear(base, n_time), nn.SiLU(), nn.Linear(n_time, n_time)
        )
        self._condition = (n_time, latents, dropout)
        now, stacks = self._build_down(multipliers, halve, attention)
        self.middle_block = nn.ModuleList(
            [self._block(now, now), Attention(now), self._block(now, now)]
        )
        now = self._build_up(now, stacks, multipliers, halve, attention)
        self.out = nn.Sequential(
            group_norm(now), nn.SiLU(), zeroed(nn.Conv3d(now, 1, 3, padding=1))
        )

    def _block(self, n_in: int, n_out: int, **resample: Any) -> ConditionedBlock:
        return ConditionedBlock(n_in, n_out, *self._condition, **resample)

    def _build_down(
        self, multipliers: Sequence[int], halve: tuple[int, ...], attention: int
    ) -> tuple[int, list[list[int]]]:
        """Make the way down; return its channels at the end, and those kept at each level."""
        now = self.base * multipliers[0]
        first: list[nn.Module] = [nn.Conv3d(1, now, 3, padding=1)]
        self.input_blocks = nn.ModuleList([nn.ModuleList(first)])
        stacks: list[list[int]] = [[] for _ in multipliers]
        stacks[0].append(now)
        for level, multiplier in enumerate(multipliers):
            for _ in range(self.n_blocks):
                layers: list[nn.Module] = [self._block(now, self.base * multiplier)]
                now = self.base * multiplier
                layers += [Attention(now)] if level == attention else []
                self.input_blocks.append(nn.ModuleList(layers))
                stacks[level].append(now)
            if level < len(multipliers) - 1:
                self.input_blocks.append(nn.ModuleList([self._block(now, now, halve=halve)]))
                stacks[level + 1].append(now)
        return now, stacks

    def _build_up(
        self, now: int, stacks: list[list[int]], multipliers: Sequence[int],
        double: tuple[int, ...], attention: int,
    ) -> int:  # fmt: skip
        """Make the way up; return the channels at its end."""
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(multipliers))):
            for i in range(self.n_blocks + 1):
                layers: list[nn.Module] = [
                    self._block(now + stacks[level].pop(), self.base * multipliers[level])
                ]
                now = self.base * multipliers[level]
                layers += [Attention(now)] if level == attention else []
                if level and i == self.n_blocks:
                    layers.append(self._block(now, now, double=double))
                self.output_blocks.append(nn.ModuleList(layers))
        return now

    def forward(self, x: torch.Tensor, times: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the noise that is guessed; a grid that cannot be halved is padded and cut."""
        grid = x.shape[2:]
        x = pad_to(x, self.multiples)
        time = self.time_embed(sines(times, self.base))
        kept = []
        for block in self.input_blocks:
            x = self._through(block, x, time, code)
            kept.append(x)
        x = self._through(self.middle_block, x, time, code)
        for block in self.output_blocks:
            x = self._through(block, torch.cat([x, kept.pop()], dim=1), time, code)
        out: torch.Tensor = self.out(x)
        return out[..., : grid[0], : grid[1], : grid[2]]

    def _through(self, layers: Any, x: torch.Tensor, *condition: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            given = (x, *condition) if isinstance(layer, ConditionedBlock) else (x,)
            if self.recompute and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, *given, use_reentrant=False)
            else:
                x = layer(*given)
        return x

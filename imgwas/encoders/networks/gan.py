"""Generators, discriminators and the inverter of gan3d.

Two published forms. ``upsample`` (seed 002) is the decoder and the encoder of ae3d: five times up
to the grid of a level, convolution, ReLU, batch norm; against it five times convolution, leaky
ReLU, batch norm, pooling. ``transposed`` (seed 004) is DCGAN in three dimensions: a dense layer to
256 x 4^3 and four transposed convolutions of kernel 4, against four convolutions of stride 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from imgwas.encoders.networks.pooled import LEVELS, PooledDecoder, check_grid
from imgwas.errors import UsageError, explain

Norm = Literal["batch", "instance", "none"]
#: Doublings of the transposed form.
DOUBLINGS = 4
#: Channels of the inverter: of its first convolution, then of its residual blocks.
INVERTER = (16, 32, 64, 128)


def last_layer(intensity: str) -> nn.Module:
    """Return what keeps pictures in the range of the images: -1..1, or 0..1."""
    return nn.Tanh() if intensity == "symmetric" else nn.Sigmoid()


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Return a layer that normalises feature maps, or lets them through."""
    if norm == "batch":
        return nn.BatchNorm3d(channels)
    return nn.InstanceNorm3d(channels, affine=True) if norm == "instance" else nn.Identity()


def with_variety(features: torch.Tensor) -> torch.Tensor:
    """Append to each row how much the rows of the batch differ (Karras et al. 2018)."""
    spread = (features.var(dim=0, correction=0) + 1e-8).sqrt().mean()
    return torch.cat([features, spread.expand(len(features), 1)], dim=1)


class UpsamplingGenerator(nn.Module):
    """(batch, latents) to (batch, 1, x, y, z), on any grid; 555,649 parameters with 64 channels."""

    def __init__(
        self, grid: Sequence[int], latents: int, channels: int, intensity: str = "symmetric"
    ) -> None:
        super().__init__()
        check_grid(grid)
        self.body = PooledDecoder(grid, channels, latents)
        self.last = last_layer(intensity)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Make pictures."""
        out: torch.Tensor = self.last(self.body(codes))
        return out


class PooledDiscriminator(nn.Module):
    """(batch, 1, x, y, z) to a score each; 555,777 parameters with 64 channels."""

    def __init__(
        self, grid: Sequence[int], channels: int, norm: Norm = "batch", *, variety: bool = False
    ) -> None:
        super().__init__()
        self.variety = variety
        check_grid(grid)
        layers: list[nn.Module] = []
        now = tuple(grid)
        for level in range(LEVELS):
            window = tuple(2 if n > 1 else 1 for n in now)
            layers += [
                nn.Conv3d(channels if level else 1, channels, 3, padding=1), nn.LeakyReLU(0.2),
                norm_layer(norm, channels), nn.MaxPool3d(window, window),
            ]  # fmt: skip
            now = tuple(n // w for n, w in zip(now, window, strict=True))
        if norm == "instance" and max(now) == 1:
            layers[-2] = nn.Identity()  # one voxel has no spread
        self.steps = nn.Sequential(*layers, nn.Conv3d(channels, channels, 3, padding=1))
        self.score = nn.Linear(channels + variety, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (batch,) scores, high for real images."""
        maps = self.steps(image).mean(dim=(2, 3, 4))
        out: torch.Tensor = self.score(with_variety(maps) if self.variety else maps)
        return out[:, 0]


class TransposedGenerator(nn.Module):
    """(batch, latents) to (batch, 1, x, y, z); 4,410,304 parameters at 64^3 with 256 channels.

    An axis that is no multiple of 16 is made with the next multiple and cut to its middle.
    """

    def __init__(
        self, grid: Sequence[int], latents: int, channels: int, intensity: str = "minmax"
    ) -> None:
        super().__init__()
        widths = _widths(grid, channels)
        self.bottom = (channels, *(-(-n // 2**DOUBLINGS) for n in grid))
        self.cut = tuple(
            slice((b * 2**DOUBLINGS - n) // 2, (b * 2**DOUBLINGS - n) // 2 + n)
            for n, b in zip(grid, self.bottom[1:], strict=True)
        )
        size = channels * self.bottom[1] * self.bottom[2] * self.bottom[3]
        self.start = nn.Linear(latents, size)
        layers: list[nn.Module] = [nn.BatchNorm3d(channels), nn.ReLU()]
        for n_in, n_out in pairwise(widths):
            layers += [nn.ConvTranspose3d(n_in, n_out, 4, 2, 1, bias=False),
                       nn.BatchNorm3d(n_out), nn.ReLU()]  # fmt: skip
        layers.append(nn.ConvTranspose3d(widths[-1], 1, 4, 2, 1, bias=False))
        self.steps = nn.Sequential(*layers)
        self.last = last_layer(intensity)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Make pictures."""
        picture = self.steps(self.start(codes).reshape(-1, *self.bottom))
        out: torch.Tensor = self.last(picture[(slice(None), slice(None), *self.cut)])
        return out


class StridedDiscriminator(nn.Module):
    """(batch, 1, x, y, z) to a score each; 2,771,841 parameters at 64^3 with 256 channels."""

    def __init__(
        self, grid: Sequence[int], channels: int, norm: Norm = "batch", *, variety: bool = False
    ) -> None:
        super().__init__()
        self.variety = variety
        widths = _widths(grid, channels)[::-1]
        layers: list[nn.Module] = []
        now = tuple(grid)
        for level, n_out in enumerate(widths):
            n_in = widths[level - 1] if level else 1
            now = tuple(n // 2 for n in now)
            layers.append(nn.Conv3d(n_in, n_out, 4, 2, 1, bias=False))
            if level and not (norm == "instance" and max(now) == 1):
                layers.append(norm_layer(norm, n_out))
            layers.append(nn.LeakyReLU(0.2))
        self.steps = nn.Sequential(*layers)
        self.score = nn.Linear(widths[-1] * now[0] * now[1] * now[2] + variety, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (batch,) scores, high for real images."""
        maps = self.steps(image).flatten(1)
        out: torch.Tensor = self.score(with_variety(maps) if self.variety else maps)
        return out[:, 0]


def _widths(grid: Sequence[int], channels: int) -> list[int]:
    """Channels of the transposed form, coarsest first."""
    if min(grid) < 2**DOUBLINGS:
        text = "x".join(map(str, grid))
        raise UsageError(
            explain(f"the grid is {text}", expected="form=transposed needs 16 voxels an axis",
                    do="Use form=upsample")
        )  # fmt: skip
    if channels % 8:
        raise UsageError(
            explain(f"channels is {channels}", expected="A multiple of 8 for form=transposed")
        )
    return [channels // 2**level for level in range(DOUBLINGS)]


class Bottleneck(nn.Module):
    """Two convolutions over a quarter of the channels, half the grid, around a shortcut."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        narrow = n_out // 4
        self.path = nn.Sequential(
            nn.Conv3d(n_in, narrow, 3, 2, 1), nn.BatchNorm3d(narrow), nn.ReLU(),
            nn.Conv3d(narrow, n_out, 3, 1, 1), nn.BatchNorm3d(n_out),
        )  # fmt: skip
        self.shortcut = nn.Conv3d(n_in, n_out, 1, 2, bias=False)
        self.act = nn.ReLU()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, n_in, ...) to (batch, n_out, ...), half as fine."""
        out: torch.Tensor = self.act(self.path(image) + self.shortcut(image))
        return out


class Inverter(nn.Module):
    """(batch, 1, x, y, z) to (batch, latents); 6,783,052 parameters from 64^3 to 100.

    A 1 x 1 x 1 convolution to 16 channels, residual blocks of 32, 64 and 128, a dense layer.
    """

    def __init__(self, grid: Sequence[int], latents: int, widths: Sequence[int] = INVERTER) -> None:
        super().__init__()
        bottom = [-(-n // 2 ** (len(widths) - 1)) for n in grid]
        self.steps = nn.Sequential(
            nn.Conv3d(1, widths[0], 1),
            *(Bottleneck(n_in, n_out) for n_in, n_out in pairwise(widths)),
        )
        self.answer = nn.Linear(widths[-1] * bottom[0] * bottom[1] * bottom[2], latents)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Answer the code that a picture was made from."""
        out: torch.Tensor = self.answer(self.steps(image).flatten(1))
        return out


class Game(nn.Module):
    """The three parts of a generative encoder: latents are the inverter's answers."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, inverter: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator, self.inverter = generator, discriminator, inverter

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, latents)."""
        out: torch.Tensor = self.inverter(image)
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, x, y, z)."""
        out: torch.Tensor = self.generator(latents)
        return out

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (reconstruction, latents)."""
        latents = self.encode(image)
        return self.decode(latents), latents

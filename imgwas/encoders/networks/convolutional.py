"""The 3-D convolutional autoencoder of UDIP, at any grid, depth and width.

A block is twice (convolution 3, batch norm, leaky ReLU). Between levels the grid is halved by max
pooling; where a half would be odd, or the length itself is, one voxel of padding rounds it up, and
the transposed convolution on the way back crops the same voxel off again, so that the output grid
equals the input grid whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from imgwas.errors import UsageError, explain


def halved(length: int) -> tuple[int, int]:
    """Return (length after pooling, padding) so that no voxel is lost and halves stay even.

    >>> [halved(n) for n in (182, 92, 46, 24, 91)]
    [(92, 1), (46, 0), (24, 1), (12, 0), (46, 1)]
    """
    if length == 2:
        return 1, 0
    if length % 2 or (length // 2) % 2:
        return length // 2 + 1, 1
    return length // 2, 0


def plan(grid: Sequence[int], levels: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Grid of every level, finest first, and the padding that leads to the next one.

    Raises
    ------
    UsageError
        If an axis is too short to be halved that often.
    """
    rows, now = [], tuple(grid)
    for _ in range(levels):
        if min(now) < 2:
            raise UsageError(
                explain(
                    f"a grid of {'x'.join(map(str, grid))} cannot be halved {levels} times",
                    do="Use fewer levels (--set levels=2) or a larger grid",
                )
            )
        steps = [halved(n) for n in now]
        rows.append((now, tuple(padding for _, padding in steps)))
        now = tuple(n for n, _ in steps)
    rows.append((now, (0,) * len(now)))
    return rows


def triple(lengths: Iterable[int]) -> tuple[int, int, int]:
    """Three lengths, x, y and z."""
    found = tuple(lengths)
    if len(found) != 3:
        grid = "x".join(map(str, found))
        raise UsageError(explain(f"the grid is {grid or 'empty'}", expected="Three axes: x, y, z"))
    return found[0], found[1], found[2]


def block(n_in: int, n_out: int) -> nn.Sequential:
    """Twice convolution, batch norm, leaky ReLU."""
    layers: list[nn.Module] = []
    for n in (n_in, n_out):
        layers += [nn.Conv3d(n, n_out, 3, padding=1), nn.BatchNorm3d(n_out), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


class ConvAutoencoder(nn.Module):
    """Encoder of ``levels`` poolings, one linear bottleneck, and the mirrored decoder.

    Parameters
    ----------
    grid : sequence of int
        Voxels along x, y, z.
    latents : int
        Size of the bottleneck.
    width : int
        Channels of the finest level; each level doubles them.
    levels : int
        How often the grid is halved.

    References
    ----------
    .. [1] Patel, Xie et al. (2024), Communications Biology: UDIP.
    """

    def __init__(self, grid: Sequence[int], latents: int, width: int = 16, levels: int = 4) -> None:
        super().__init__()
        rows = plan(grid, levels)
        channels = [width * 2**i for i in range(levels + 1)]
        self.bottom = (channels[-1], *rows[-1][0])
        size = channels[-1]
        for n in rows[-1][0]:
            size *= n
        down: list[nn.Module] = [block(1, width)]
        up: list[nn.Module] = []
        for i in range(levels):
            (fine, pads), n_in, n_out = rows[i], channels[i], channels[i + 1]
            padding = triple(pads)
            down += [nn.MaxPool3d(2, 2, padding), block(n_in, n_out)]
            odd = triple(n % 2 for n in fine)
            back = nn.ConvTranspose3d(n_in, n_in, 2, 2, padding, output_padding=odd)
            up = [block(n_out, n_in), back, *up]
        self.down = nn.Sequential(*down)
        self.to_latent = nn.Linear(size, latents)
        self.from_latent = nn.Linear(latents, size)
        self.up = nn.Sequential(*up)
        self.last = nn.Sequential(block(width, width), nn.Conv3d(width, 1, 1))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, latents)."""
        out: torch.Tensor = self.to_latent(self.down(image).flatten(1))
        return out

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, x, y, z)."""
        bottom = self.from_latent(latents).reshape(-1, *self.bottom)
        out: torch.Tensor = self.last(self.up(bottom))
        return out

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (reconstruction, latents)."""
        latents = self.encode(image)
        return self.decode(latents), latents

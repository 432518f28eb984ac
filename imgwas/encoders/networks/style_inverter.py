"""From pictures of a generator back to its styles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import nn

from imgwas.encoders.networks.growing import (
    EqualConv,
    EqualLinear,
    constant_grid,
    conv3,
    fitted,
    halved,
    leaky,
)

#: Channels at the finest grid.
FINEST = 32
#: Smallest spread of pictures.
SMALLEST = 1e-6


class Inverter(nn.Module):
    """Pictures on the grid to ``n_out`` numbers: halving convolutions of growing width.

    The width doubles from 32 channels at the finest grid up to ``hidden``. Pictures are first
    standardised by those of the generator, which differ little from one another.
    """

    mean_image: torch.Tensor
    sd_image: torch.Tensor

    def __init__(
        self, grid: Sequence[int], n_out: int, hidden: int = 256, n_doublings: int = 4
    ) -> None:
        super().__init__()
        base = constant_grid(grid, n_doublings)
        widths = [min(hidden, FINEST * 2**k) for k in range(n_doublings + 1)]
        self.n_doublings = n_doublings
        self.entrance = EqualConv(1, widths[0], (1, 1, 1))
        self.convs = nn.ModuleList([conv3(a, b) for a, b in pairwise(widths)])
        self.whole = EqualConv(widths[-1], hidden, base)
        self.answer = EqualLinear(hidden, n_out)
        self.register_buffer("mean_image", torch.zeros(1, 1, *grid))
        self.register_buffer("sd_image", torch.ones(()))

    @torch.no_grad()
    def measure(self, parts: Iterable[torch.Tensor]) -> None:
        """Set the mean, and the root of the mean variance over voxels, of batches of pictures."""
        n, total, squares = 0, torch.zeros_like(self.mean_image, dtype=torch.float64), 0.0
        for part in parts:
            n += len(part)
            total += part.double().sum(0, keepdim=True)
            squares += float(part.double().square().sum())
        mean = total / n
        variance = squares / (n * mean.numel()) - float(mean.square().mean())
        self.mean_image.copy_(mean)
        self.sd_image.fill_(math.sqrt(max(variance, SMALLEST**2)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, n_out)."""
        standard = (image - self.mean_image) / self.sd_image
        features = leaky(self.entrance(fitted(standard, self.n_doublings)))
        for conv in self.convs:
            features = halved(leaky(conv(features)))
        out: torch.Tensor = self.answer(leaky(self.whole(features)).flatten(1))
        return out

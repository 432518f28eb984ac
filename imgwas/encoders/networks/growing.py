"""Layers of networks that grow: grids that double, fading, and equalised learning rates.

Stage 0 is the grid that a network starts from; it has 4 voxels an axis where the images are cubes
of ``4 * 2**n_doublings`` voxels. Any other grid is padded to the next multiple of
``2**n_doublings`` by repeating its outermost voxels, and stage 0 has as many voxels an axis as that
leaves: nothing is resampled, and the padding is cropped off what a generator makes.

Weights are drawn from N(0, 1) and scaled when they are used, so that every layer learns at the
same rate under Adam, whatever its size [1]_.

References
----------
.. [1] Karras, Aila, Laine & Lehtinen (2018), Progressive growing of GANs, ICLR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from imgwas.encoders.networks.convolutional import triple
from imgwas.errors import UsageError, explain

SLOPE = 0.2
#: Gain that keeps the variance through a leaky ReLU.
GAIN = math.sqrt(2.0 / (1 + SLOPE**2))
#: Voxels an axis that the constant may have.
SMALLEST, LARGEST = 2, 8


def padded(grid: Sequence[int], n_doublings: int) -> tuple[int, ...]:
    """Return the grid rounded up to multiples of ``2**n_doublings``.

    >>> padded((58, 70, 58), 4), padded((64, 64, 64), 4)
    ((64, 80, 64), (64, 64, 64))
    """
    factor = 2**n_doublings
    return tuple(-(-n // factor) * factor for n in grid)


def constant_grid(grid: Sequence[int], n_doublings: int) -> tuple[int, int, int]:
    """Return the grid of stage 0.

    Raises
    ------
    UsageError
        If the grid is not of three axes, or leaves the constant too small or too large.
    """
    named = "x".join(map(str, grid))
    if len(grid) != 3:
        raise UsageError(
            explain(
                f"the grid {named} has {len(grid)} axes", expected="stylegan3d needs x, y and z"
            )
        )
    base = tuple(n // 2**n_doublings for n in padded(grid, n_doublings))
    edge = 4 * 2**n_doublings
    if min(base) < SMALLEST or max(base) > LARGEST:
        best = max(8, 4 * 2 ** round(math.log2(max(grid) / 5)))
        raise UsageError(
            explain(
                f"a grid of {named} with max_resolution {edge} starts from "
                f"{'x'.join(map(str, base))} voxels",
                expected=f"The constant has {SMALLEST} to {LARGEST} voxels an axis",
                do=f"Try --set max_resolution={best}",
            )
        )
    return triple(base)


class EqualLinear(nn.Module):
    """A linear layer with an equalised learning rate.

    ``y = x (s W)^T + r b`` with W drawn from N(0, 1/r^2) and ``s = r gain / sqrt(n_in)``: the
    gradient of W is ``s`` times that of the weight in effect. ``rate`` r is the relative rate.
    """

    def __init__(
        self, n_in: int, n_out: int, *, gain: float = 1.0, rate: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / rate)
        self.bias = nn.Parameter(torch.full((n_out,), bias / rate))
        self.scale, self.rate = rate * gain / math.sqrt(n_in), rate

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(batch, n_in) to (batch, n_out)."""
        return functional.linear(values, self.weight * self.scale, self.bias * self.rate)


class EqualConv(nn.Module):
    """A 3-D convolution with an equalised learning rate; W from N(0, 1), used as W gain/sqrt(n)."""

    def __init__(
        self, n_in: int, n_out: int, kernel: Sequence[int], *, padding: int = 0, gain: float = GAIN
    ) -> None:
        super().__init__()
        size = triple(kernel)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, *size))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.scale, self.padding = gain / math.sqrt(n_in * math.prod(size)), padding

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, n_in, x, y, z) to (batch, n_out, ...)."""
        return functional.conv3d(image, self.weight * self.scale, self.bias, padding=self.padding)


def conv3(n_in: int, n_out: int) -> EqualConv:
    """A convolution over 3 x 3 x 3 voxels that keeps the grid."""
    return EqualConv(n_in, n_out, (3, 3, 3), padding=1)


def leaky(values: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU of slope 0.2."""
    return functional.leaky_relu(values, SLOPE)


def doubled(image: torch.Tensor, times: int = 1) -> torch.Tensor:
    """Double the grid by trilinear interpolation, some times over."""
    for _ in range(times):
        image = functional.interpolate(image, scale_factor=2, mode="trilinear", align_corners=False)
    return image


def halved(image: torch.Tensor, times: int = 1) -> torch.Tensor:
    """Halve the grid by averaging 2 x 2 x 2 voxels, some times over."""
    for _ in range(times):
        image = functional.avg_pool3d(image, 2)
    return image


def faded(image: torch.Tensor, alpha: float) -> torch.Tensor:
    """Show an image as a half-grown generator does: ``1 - alpha`` of its finest detail is gone."""
    return image if alpha >= 1 else torch.lerp(doubled(halved(image)), image, alpha)


def fitted(image: torch.Tensor, n_doublings: int) -> torch.Tensor:
    """Pad (batch, 1, x, y, z) evenly to the network's grid, repeating the outermost voxels."""
    wanted = padded(image.shape[2:], n_doublings)
    pads: list[int] = []
    for n, more in zip(reversed(image.shape[2:]), reversed(wanted), strict=True):
        pads += [(more - n) // 2, (more - n) - (more - n) // 2]
    return functional.pad(image, pads, mode="replicate") if any(pads) else image


def cropped(image: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Cut the padding of :func:`fitted` off again."""
    for axis, n in enumerate(grid, start=2):
        image = image.narrow(axis, (image.shape[axis] - n) // 2, n)
    return image

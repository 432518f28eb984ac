"""The 3-D StyleGAN: a mapping network, a generator that grows, and its discriminator.

Both networks double their edge from stage to stage. Stage 0 is the constant that the generator
starts from; it has 4 voxels an axis where the images are cubes of ``4 * 2**n_doublings`` voxels.
Any other grid is padded to the next multiple of ``2**n_doublings`` by repeating its outermost
voxels, and the constant has as many voxels an axis as that leaves: nothing is resampled, and what
was padded is cropped off what the generator makes.

Weights are drawn from N(0, 1) and scaled when they are used, so that every layer learns at the
same rate under Adam, whatever its size [1]_.

References
----------
.. [1] Karras, Aila, Laine & Lehtinen (2018), Progressive growing of GANs, ICLR.
.. [2] Karras, Laine & Aila (2019), A style-based generator architecture, CVPR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from imgwas.encoders.networks.convolutional import triple
from imgwas.errors import UsageError, explain

Noise = Literal["random", "fixed", "off"]

SLOPE = 0.2
#: Gain that keeps the variance through a leaky ReLU.
GAIN = math.sqrt(2.0 / (1 + SLOPE**2))
#: Voxels an axis that the constant may have.
SMALLEST, LARGEST = 2, 8
#: Smallest variance that AdaIN divides by.
TINY = 1e-12


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


def on_sphere(values: torch.Tensor) -> torch.Tensor:
    """Divide each row by its length and multiply by sqrt(n): a mean square of 1."""
    return functional.normalize(values, dim=-1) * math.sqrt(values.shape[-1])


class Mapping(nn.Module):
    """z to w: L2-normalised, then ``depth`` linear layers with leaky ReLU."""

    def __init__(self, latents: int, depth: int, rate: float) -> None:
        super().__init__()
        layers = [EqualLinear(latents, latents, gain=GAIN, rate=rate) for _ in range(depth)]
        self.layers = nn.ModuleList(layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, latents)."""
        w = on_sphere(z)
        for layer in self.layers:
            w = leaky(layer(w))
        return w


def standardised(features: torch.Tensor) -> torch.Tensor:
    """Give each channel of each sample mean 0 and standard deviation 1 over its voxels, exactly.

    The variance is that of all voxels, divided by their number, in two passes. A channel without
    spread becomes 0.
    """
    axes = (2, 3, 4)
    centred = features - features.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    return centred * variance.clamp_min(TINY).rsqrt()


class AdaIN(nn.Module):
    """Standardise each channel over voxels, then scale and shift it by the style.

    ``y_c = (1 + a_c(w)) (x_c - mean) / sd + b_c(w)``, a and b linear in w.
    """

    def __init__(self, latents: int, channels: int) -> None:
        super().__init__()
        self.style = EqualLinear(latents, 2 * channels)

    def forward(self, features: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """(batch, channels, x, y, z) in the style of w (batch, latents)."""
        scale, shift = self.style(w)[:, :, None, None, None].chunk(2, dim=1)
        out: torch.Tensor = standardised(features) * (1 + scale) + shift
        return out


class NoiseInjection(nn.Module):
    """Add one image of noise to all channels, each by its own learned scale, 0 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))

    def forward(self, features: torch.Tensor, noise: Noise = "off") -> torch.Tensor:
        """Return features with fresh noise, always the same noise, or none."""
        if noise == "off":
            return features
        if noise == "random":
            drawn = torch.randn_like(features[:, :1])
        else:
            source = torch.Generator().manual_seed(0)
            drawn = torch.randn((1, 1, *features.shape[2:]), generator=source).to(features)
        return features + self.scale * drawn


class StyledConv(nn.Module):
    """Convolution, noise, leaky ReLU, AdaIN."""

    def __init__(self, latents: int, channels: int) -> None:
        super().__init__()
        self.conv = conv3(channels, channels)
        self.noise = NoiseInjection(channels)
        self.adain = AdaIN(latents, channels)

    def forward(self, features: torch.Tensor, w: torch.Tensor, noise: Noise) -> torch.Tensor:
        """(batch, channels, x, y, z) to the same shape."""
        out: torch.Tensor = self.adain(leaky(self.noise(self.conv(features), noise)), w)
        return out


class Generator(nn.Module):
    """z or w to images; 16,739,073 parameters at 64 x 64 x 64, 128 latents and 256 channels.

    Stage 0 styles the constant, convolves and styles it again; each further stage doubles the grid
    and has two styled convolutions, so there are ``2 + 2 * n_doublings`` places for a style. One
    1 x 1 x 1 convolution makes the image of every stage.

    Parameters
    ----------
    grid : sequence of int
        Voxels of the images along x, y, z.
    latents : int
        Size of z and of w.
    hidden : int
        Channels of every layer.
    n_doublings : int
        Stages after the first.
    depth : int
        Layers of the mapping network.
    rate : float
        Learning rate of the mapping network relative to the others'.
    """

    mean_w: torch.Tensor

    def __init__(
        self, grid: Sequence[int], latents: int = 128, hidden: int = 256, n_doublings: int = 4,
        *, depth: int = 8, rate: float = 0.01,
    ) -> None:  # fmt: skip
        super().__init__()
        base = constant_grid(grid, n_doublings)
        self.grid, self.latents, self.n_doublings = tuple(grid), latents, n_doublings
        self.mapping = Mapping(latents, depth, rate)
        self.constant = nn.Parameter(torch.randn(1, hidden, *base))
        self.first = AdaIN(latents, hidden)
        n_layers = 1 + 2 * n_doublings
        self.layers = nn.ModuleList([StyledConv(latents, hidden) for _ in range(n_layers)])
        self.to_image = EqualConv(hidden, 1, (1, 1, 1), gain=1.0)
        self.register_buffer("mean_w", torch.zeros(latents))

    @property
    def n_styles(self) -> int:
        """Places where a style enters."""
        return 1 + len(self.layers)

    def synthesise(
        self, w: torch.Tensor, *, stage: int | None = None, alpha: float = 1.0, noise: Noise = "off"
    ) -> torch.Tensor:
        """Make the images of a stage, padding included.

        Parameters
        ----------
        w : (batch, latents) or (batch, styles, latents) tensor
            One w for all places, or one for each (W+).
        stage : int, optional
            Doublings of the constant; all by default.
        alpha : float
            Share of this stage: at 0 its image is the up-sampled one of the stage before, exactly.
        noise : {"random", "fixed", "off"}
            Noise injected after each convolution.
        """
        stage = self.n_doublings if stage is None else stage
        styles = w[:, None].expand(-1, self.n_styles, -1) if w.ndim == 2 else w
        features = self.constant.expand(len(w), -1, -1, -1, -1)
        features = self.layers[0](self.first(features, styles[:, 0]), styles[:, 1], noise)
        before = features
        for k in range(1, stage + 1):
            before, features = features, doubled(features)
            for i in (2 * k - 1, 2 * k):
                features = self.layers[i](features, styles[:, i + 1], noise)
        image: torch.Tensor = self.to_image(features)
        if alpha >= 1 or not stage:
            return image
        return torch.lerp(doubled(self.to_image(before)), image, alpha)

    def picture(self, w: torch.Tensor, *, stage: int, alpha: float = 1.0) -> torch.Tensor:
        """Return images on the grid, without noise: up-sampled from the stage, padding cropped."""
        image = doubled(self.synthesise(w, stage=stage, alpha=alpha), self.n_doublings - stage)
        return cropped(image, self.grid)

    def truncated(self, w: torch.Tensor, psi: float) -> torch.Tensor:
        """Move w towards the mean: ``mean + psi (w - mean)``."""
        return self.mean_w + psi * (w - self.mean_w)

    @torch.no_grad()
    def measure_mean(self, n: int = 4096, seed: int = 0) -> None:
        """Set ``mean_w`` to the mean of ``n`` mapped draws."""
        source = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.latents, generator=source).to(self.mean_w)
        self.mean_w.copy_(self.mapping(z).double().mean(0))

    def forward(
        self, z: torch.Tensor, *, stage: int | None = None, alpha: float = 1.0,
        noise: Noise = "random",
    ) -> torch.Tensor:  # fmt: skip
        """Images of a stage from z (batch, latents)."""
        return self.synthesise(self.mapping(z), stage=stage, alpha=alpha, noise=noise)


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


def with_spread(features: torch.Tensor, group: int = 4) -> torch.Tensor:
    """Add a channel that says how much a batch varies (minibatch standard deviation).

    The batch is divided into groups of ``group`` (or is one group, where that does not go). Its
    value is the standard deviation over the group, averaged over channels and voxels.
    """
    n = len(features)
    size = group if n % group == 0 else n
    rows = features.reshape(n // size, size, *features.shape[1:])
    variance = (rows - rows.mean(1, keepdim=True)).square().mean(1)
    spread = (variance + 1e-8).sqrt().mean((1, 2, 3, 4)).repeat_interleave(size)
    channel = spread[:, None, None, None, None].expand(-1, 1, *features.shape[2:])
    return torch.cat([features, channel], 1)


class Discriminator(nn.Module):
    """Images to one number each; 20,132,353 parameters at 64 x 64 x 64 and 256 channels.

    Each stage has two convolutions and halves the grid; stage 0 sees the minibatch standard
    deviation and ends in one convolution over its whole grid. Images enter at any stage through a
    1 x 1 x 1 convolution of that stage's own.

    Notes
    -----
    The published count needs six entrances, log2(64), of 512 numbers each: those of edges 64 to 4,
    and one that no image can enter. It is kept, for the count.
    """

    def __init__(self, grid: Sequence[int], hidden: int = 256, n_doublings: int = 4) -> None:
        super().__init__()
        base = constant_grid(grid, n_doublings)
        n = n_doublings + 2
        self.from_image = nn.ModuleList([EqualConv(1, hidden, (1, 1, 1)) for _ in range(n)])
        self.first = nn.ModuleList([conv3(hidden, hidden) for _ in range(n_doublings)])
        self.second = nn.ModuleList([conv3(hidden, hidden) for _ in range(n_doublings)])
        self.last = conv3(hidden + 1, hidden)
        self.whole = EqualConv(hidden, hidden, base)
        self.score = EqualLinear(hidden, 1)

    def forward(
        self, image: torch.Tensor, *, stage: int | None = None, alpha: float = 1.0
    ) -> torch.Tensor:
        """(batch, 1, x, y, z) of a stage's grid to (batch,): larger is more real."""
        stage = len(self.first) if stage is None else stage
        features = leaky(self.from_image[stage](image))
        for k in range(stage, 0, -1):
            features = leaky(self.first[k - 1](features))
            features = halved(leaky(self.second[k - 1](features)))
            if k == stage and alpha < 1:
                coarse = leaky(self.from_image[stage - 1](halved(image)))
                features = torch.lerp(coarse, features, alpha)
        features = leaky(self.last(with_spread(features)))
        out: torch.Tensor = self.score(leaky(self.whole(features)).flatten(1)).flatten()
        return out

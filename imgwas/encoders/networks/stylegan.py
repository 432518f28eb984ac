"""The 3-D StyleGAN: a mapping network, a generator that grows, and its discriminator.

References
----------
.. [1] Karras, Laine & Aila (2019), A style-based generator architecture, CVPR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from imgwas.encoders.networks.growing import (
    GAIN,
    EqualConv,
    EqualLinear,
    constant_grid,
    conv3,
    cropped,
    doubled,
    faded,
    fitted,
    halved,
    leaky,
)
from imgwas.encoders.networks.style_inverter import Inverter

Noise = Literal["random", "fixed", "off"]

#: Smallest variance that AdaIN divides by.
TINY = 1e-12


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

    The variance is that of all voxels, divided by their number, in two passes, and in single
    precision at least. A channel without spread becomes 0.
    """
    axes = (2, 3, 4)
    features = _single(features)
    centred = features - features.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    return centred * variance.clamp_min(TINY).rsqrt()


def _single(values: torch.Tensor) -> torch.Tensor:
    """Half precision to single; others stay."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


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
    sd_w: torch.Tensor

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
        self.register_buffer("sd_w", torch.ones(()))

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

    def picture(
        self, w: torch.Tensor, *, stage: int | None = None, alpha: float = 1.0, noise: Noise = "off"
    ) -> torch.Tensor:
        """Return images on the grid: up-sampled from the stage, padding cropped off."""
        stage = self.n_doublings if stage is None else stage
        made = self.synthesise(w, stage=stage, alpha=alpha, noise=noise)
        return cropped(doubled(made, self.n_doublings - stage), self.grid)

    def truncated(self, w: torch.Tensor, psi: float) -> torch.Tensor:
        """Move w towards the mean: ``mean + psi (w - mean)``."""
        return self.mean_w + psi * (w - self.mean_w)

    @torch.no_grad()
    def measure_w(self, n: int = 4096, seed: int = 0) -> None:
        """Set ``mean_w`` and ``sd_w`` to those of ``n`` mapped draws.

        ``sd_w`` is one number: the root of the mean variance of the elements of w.
        """
        source = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.latents, generator=source).to(self.mean_w)
        w = self.mapping(z).double()
        self.mean_w.copy_(w.mean(0))
        self.sd_w.copy_(w.var(0, correction=0).mean().sqrt())

    def forward(
        self, z: torch.Tensor, *, stage: int | None = None, alpha: float = 1.0,
        noise: Noise = "random",
    ) -> torch.Tensor:  # fmt: skip
        """Images of a stage from z (batch, latents)."""
        return self.synthesise(self.mapping(z), stage=stage, alpha=alpha, noise=noise)


def with_spread(features: torch.Tensor, group: int = 4) -> torch.Tensor:
    """Add a channel that says how much a batch varies (minibatch standard deviation).

    The batch is divided into groups of ``group`` (or is one group, where that does not go). Its
    value is the standard deviation over the group, averaged over channels and voxels.
    """
    n, features = len(features), _single(features)
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
        self.stage, self.alpha = n_doublings, 1.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) of the grid of ``stage`` to (batch,): larger is more real."""
        stage, alpha = self.stage, self.alpha
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


class StyleGAN(nn.Module):
    """Generator, discriminator and inverter, and the stage that they have grown to.

    Latents are w, or one w for each place of a style where ``everywhere`` is true (W+).

    Parameters
    ----------
    generator, discriminator, inverter
        Made for one grid. The inverter answers ``(w - mean_w) / sd_w``.
    noise : {"off", "fixed"}
        Of decoded pictures.
    """

    stage: torch.Tensor
    alpha: torch.Tensor

    def __init__(
        self, generator: Generator, discriminator: Discriminator, inverter: Inverter,
        *, everywhere: bool = False, noise: Noise = "off",
    ) -> None:  # fmt: skip
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.inverter = inverter
        self.everywhere, self.noise = everywhere, noise
        self.register_buffer("stage", torch.tensor(generator.n_doublings))
        self.register_buffer("alpha", torch.ones((), dtype=torch.float64))

    def grow(self, stage: int, alpha: float) -> None:
        """Set the stage, and the share of it that has faded in."""
        self.stage.fill_(stage)
        self.alpha.fill_(alpha)
        self.discriminator.stage, self.discriminator.alpha = stage, alpha

    @property
    def grown(self) -> tuple[int, float]:
        """Stage and alpha."""
        return int(self.stage), float(self.alpha)

    def match(self, real: torch.Tensor) -> torch.Tensor:
        """Show real images as the discriminator gets them now: padded, coarse, half faded."""
        (stage, alpha), n = self.grown, self.generator.n_doublings
        return faded(halved(fitted(real, n), n - stage), alpha if stage else 1.0)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, x, y, z) to (batch, latents), from what the generator could draw of it."""
        n, grid = self.generator.n_doublings, self.generator.grid
        if self.grown != (n, 1.0):
            image = cropped(doubled(self.match(image), n - self.grown[0]), grid)
        return self.latents_from(self.inverter(image))

    def latents_from(self, answer: torch.Tensor) -> torch.Tensor:
        """Latents of what the inverter answers: standardised latents."""
        return self._mean() + self.generator.sd_w * answer

    def answered(self, latents: torch.Tensor) -> torch.Tensor:
        """Standardise latents."""
        return (latents - self._mean()) / self.generator.sd_w

    def everywhere_same(self, w: torch.Tensor) -> torch.Tensor:
        """Latents (batch, latents) of one w (batch, w) at all places."""
        return w.repeat(1, self.generator.n_styles) if self.everywhere else w

    def _mean(self) -> torch.Tensor:
        return self.everywhere_same(self.generator.mean_w[None])

    def styles(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to what the generator takes."""
        if not self.everywhere:
            return latents
        return latents.reshape(len(latents), self.generator.n_styles, -1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, x, y, z), the same every time."""
        stage, alpha = self.grown
        return self.generator.picture(
            self.styles(latents), stage=stage, alpha=alpha, noise=self.noise
        )

"""stylegan3d: a generator of volumes that grows, and W, its space of styles, as the phenotype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from imgwas.checks import check_range
from imgwas.encoders.base import Ratio
from imgwas.encoders.generative import GenerativeEncoder, GenerativeSettings
from imgwas.encoders.loop import Loop
from imgwas.encoders.networks import stylegan as networks
from imgwas.encoders.networks.growing import doubled
from imgwas.encoders.networks.style_inverter import Inverter
from imgwas.encoders.penalties import gradient_penalty, r1_penalty, return_error
from imgwas.errors import UsageError, explain

#: Voxels an axis that the constant of a cube has.
BASE = 4
#: Voxels an axis from which samples can be compared.
COMPARABLE = 8


@dataclass(frozen=True)
class StyleGANSettings(GenerativeSettings):
    """Settings of the networks, their growth, the game and the inverter.

    ``latents`` numbers in z and in w, ``hidden`` channels, ``mapping_layers`` layers from z to w
    that learn at ``mapping_rate`` times the rate. ``space`` is ``w``, or ``w+`` for one w at each
    place of a style. The edge of a cube doubles from ``start_resolution`` to ``max_resolution``,
    each time after as many epochs as ``grow`` says; the new share rises by ``fade`` every
    ``fade_steps`` batches; batches are divided by ``shrink`` at each doubling. ``loss`` is
    ``logistic`` (non-saturating, with ``r1``) or
    ``wgan`` (with ``gradient_penalty`` and ``drift``); its penalty is computed in every
    ``penalty_every``-th step and weighs that much more. ``noise`` is that of decoded pictures.
    ``real_weight`` weighs how well training images come back while the inverter learns.
    ``refine_steps`` of Adam at ``refine_rate`` improve the latents of each scan, drawn to the mean
    by ``refine_pull``.
    """

    latents: int = 128
    hidden: int = 256
    mapping_layers: int = 8
    mapping_rate: float = 0.01
    space: Literal["w", "w+"] = "w"
    start_resolution: int = 8
    max_resolution: int = 64
    grow: tuple[int, ...] = (8, 17, 35)
    fade: float = 0.1
    fade_steps: int = 20
    shrink: int = 2
    loss: Literal["logistic", "wgan"] = "logistic"
    r1: float = 10.0
    gradient_penalty: float = 10.0
    drift: float = 0.001
    penalty_every: int = 1
    noise: Literal["off", "fixed"] = "off"
    beta1: float = 0.0
    beta2: float = 0.99
    inverter_rate: float = 1e-2
    real_weight: float = 0.1
    refine_steps: int = 0
    refine_rate: float = 0.02
    refine_pull: float = 0.001

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ("refine_steps",)

    def __post_init__(self) -> None:
        """Refuse a growth that cannot be, and numbers out of range."""
        super().__post_init__()
        check_range("fade", self.fade, low=1e-6, high=1)
        check_range("mapping_rate", self.mapping_rate, low=1e-6, high=1)
        check_range("beta1", self.beta1, low=0, high=0.9999)
        check_range("beta2", self.beta2, low=0, high=0.999999)
        for name in ("r1", "gradient_penalty", "drift", "real_weight", "refine_pull"):
            check_range(name, getattr(self, name), low=0, high=1e6)
        check_range("inverter_rate", self.inverter_rate, low=1e-9, high=1)
        check_range("refine_rate", self.refine_rate, low=1e-9, high=10)
        for name in ("start_resolution", "max_resolution"):
            edge = getattr(self, name)
            if edge < BASE or edge & (edge - 1):
                raise UsageError(
                    explain(f"{name} is {edge}", expected="A power of two from 4: 4, 8, 16, 32, 64")
                )
        if list(self.grow) != sorted(set(self.grow)) or min(self.grow, default=1) < 1:
            raise UsageError(
                explain(
                    f"grow is {','.join(map(str, self.grow))}",
                    expected="Epochs in rising order, the first at least 1: grow=8,17,35",
                )
            )

    def check_growth(self) -> None:
        """Refuse settings that contradict one another."""
        if self.start_resolution > self.max_resolution:
            raise UsageError(
                explain(
                    f"start_resolution is {self.start_resolution}",
                    expected=f"At most max_resolution, {self.max_resolution}",
                )
            )
        if len(self.grow) < self.n_growths:
            raise UsageError(
                explain(
                    f"grow names {len(self.grow)} epochs",
                    expected=f"From {self.start_resolution} to {self.max_resolution} voxels the "
                    f"networks grow {self.n_growths} times",
                    do="Add epochs to grow, or set start_resolution higher",
                )
            )

    @property
    def n_doublings(self) -> int:
        """Doublings from the constant to the finest grid."""
        return round(math.log2(self.max_resolution / BASE))

    @property
    def n_growths(self) -> int:
        """How often the networks grow while they learn."""
        return round(math.log2(self.max_resolution / self.start_resolution))

    def growths_at(self, epoch: int) -> int:
        """How often they have grown when ``epoch`` epochs are finished."""
        return sum(one <= epoch for one in self.grow[: self.n_growths])

    def stage_of(self, n_growths: int) -> int:
        """Stage after some growths: doublings of the constant."""
        return self.n_doublings - self.n_growths + n_growths

    def batch_at(self, epoch: int, first: int) -> int:
        """Images of a batch, at least 2 unless it began with 1."""
        divided: int = first // self.shrink ** self.growths_at(epoch)
        return max(min(2, first), divided)


class StyleGAN3D(GenerativeEncoder):
    """The 3-D StyleGAN; 16,739,073 + 20,132,353 parameters at 64 x 64 x 64, and the inverter's."""

    name = "stylegan3d"
    paper = (
        "Schutte et al. (2021), arXiv 2101.07563; Karras et al. (2019), CVPR; "
        "brainMRIGenerativeModels"
    )
    settings_type = StyleGANSettings
    training: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 2e-3, "epochs": 150, "batch": 16, "ema": 0.999,
    }  # fmt: skip
    #: whether this step of the discriminator has a penalty
    penalises = True

    @classmethod
    def loop_type(cls) -> type[Loop]:
        """Return the loop of networks that grow."""
        from imgwas.encoders.growing import GrowingLoop

        return GrowingLoop

    def build(self) -> nn.Module:
        """Make generator, discriminator and inverter."""
        s = self.settings
        s.check_growth()
        shape = {"hidden": s.hidden, "n_doublings": s.n_doublings}
        generator = networks.Generator(
            s.grid, s.latents, depth=s.mapping_layers, rate=s.mapping_rate, **shape
        )
        n_out = s.latents * (generator.n_styles if s.space == "w+" else 1)
        return networks.StyleGAN(
            generator, networks.Discriminator(s.grid, **shape),
            Inverter(s.grid, n_out, **shape), everywhere=s.space == "w+", noise=s.noise,
        )  # fmt: skip

    @property
    def players(self) -> networks.StyleGAN:
        """The network, by its type."""
        network = self.network
        assert isinstance(network, networks.StyleGAN)
        return network

    @property
    def n_latents(self) -> int:
        """Numbers in w, or in one w for each place of a style."""
        n: int = self.settings.latents
        return n if self.settings.space == "w" else n * (2 + 2 * self.settings.n_doublings)

    def draw(
        self, n: int, *, device: torch.device, rng: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, z) codes, standard normal."""
        return torch.randn(n, self.settings.latents, generator=rng, device=device)

    def generate(self, codes: torch.Tensor) -> torch.Tensor:
        """Return pictures of z at the stage reached; with noise while the generator learns."""
        players = self.players
        stage, alpha = players.grown
        noise: networks.Noise = "random" if players.generator.training else "off"
        out: torch.Tensor = players.generator(codes, stage=stage, alpha=alpha, noise=noise)
        return out

    def match(self, real: torch.Tensor) -> torch.Tensor:
        """Bring real images to the stage reached."""
        return self.players.match(real)

    def pairs(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return standardised w and its picture; with noise while the inverter learns."""
        players = self.players
        w = players.generator.mapping(codes)
        stage, alpha = players.grown
        noise: networks.Noise = "random" if players.inverter.training else "off"
        picture = players.generator.picture(w, stage=stage, alpha=alpha, noise=noise)
        return players.answered(players.everywhere_same(w)), picture

    def discriminator_losses(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, Ratio]:
        """Logistic losses or the Wasserstein distance, and penalties of slopes."""
        s, judge = self.settings, self.players.discriminator
        on_real, on_fake = judge(real).float(), judge(fake).float()
        if s.loss == "wgan":
            terms = {"real": _mean(-on_real), "fake": _mean(on_fake), "drift": _mean(on_real**2)}
        else:
            terms = {"real": _mean(functional.softplus(-on_real)),
                     "fake": _mean(functional.softplus(on_fake))}  # fmt: skip
        if self.penalises and s.loss == "wgan" and s.gradient_penalty:
            terms["slope"] = gradient_penalty(judge, real, fake)
        if self.penalises and s.loss == "logistic" and s.r1:
            terms["r1"] = r1_penalty(judge, real)
        return terms

    def generator_losses(
        self, real: torch.Tensor, codes: torch.Tensor  # noqa: ARG002
    ) -> dict[str, Ratio]:  # fmt: skip
        """Be taken for real (the non-saturating loss), or score high."""
        score = self.players.discriminator(self.generate(codes)).float()
        loss = -score if self.settings.loss == "wgan" else functional.softplus(-score)
        return {"generator": _mean(loss)}

    def inversion_losses(
        self, target: torch.Tensor, picture: torch.Tensor, real: torch.Tensor | None
    ) -> dict[str, Ratio]:
        """Squared error of w in its variances, and of training images in theirs."""
        terms = super().inversion_losses(target, picture, real)
        if real is not None and self.settings.real_weight:
            players = self.players
            terms["image"] = return_error(real, players.decode(players.encode(real)))
        return terms

    def loss_weights(self) -> dict[str, float]:
        """Weights of the penalties, and of training images while the inverter learns."""
        s = self.settings
        return {
            "slope": s.gradient_penalty * s.penalty_every, "r1": s.r1 * s.penalty_every,
            "drift": s.drift, "image": s.real_weight,
        }  # fmt: skip

    def latents_of(self, network: nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return w, refined against each image if asked for."""
        from imgwas.encoders.inversion import refine

        s, players = self.settings, self.players
        w: torch.Tensor = network.encode(image)  # type: ignore[operator]
        if not s.refine_steps:
            return w
        answer = players.answered(w)
        better = refine(
            _Answered(players), image, answer, steps=s.refine_steps, rate=s.refine_rate,
            pull=s.refine_pull,
        )  # fmt: skip
        return players.latents_from(better)

    def sample(self, n: int, *, truncation: float = 1.0, seed: int = 0) -> torch.Tensor:
        """Return (n, latents) latents of the generator's own, truncated towards the mean.

        Parameters
        ----------
        n : int
        truncation : float
            1 leaves w as drawn, 0 gives the mean.
        seed : int

        Raises
        ------
        UsageError
            If truncation is not between 0 and 1.
        """
        check_range("truncation", truncation, low=0, high=1)
        rng = torch.Generator().manual_seed(seed)
        codes = self.draw(n, device=torch.device("cpu"), rng=rng).to(self.device)
        with torch.no_grad():
            w = self.players.generator.mapping(codes)
            w = self.players.generator.truncated(w, truncation)
            return self.players.everywhere_same(w).cpu()

    def measure(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
        """Compare samples with held-out images, at the stage reached."""
        stage, alpha = self.players.grown
        row = {"stage": float(stage), "alpha": alpha}
        if min(real.shape[2:]) < COMPARABLE:
            return row
        return row | super().measure(real, fake)

    def write_sheet(self, pictures: torch.Tensor, path: Path) -> None:
        """Write a sheet of samples, up-sampled to the finest grid."""
        times = self.settings.n_doublings - self.players.grown[0]
        super().write_sheet(doubled(pictures, times), path)


class _Answered(nn.Module):
    """Pictures of what the inverter answers, for the refinement."""

    def __init__(self, players: networks.StyleGAN) -> None:
        super().__init__()
        self.players = players

    def forward(self, answer: torch.Tensor) -> torch.Tensor:
        return self.players.decode(self.players.latents_from(answer))


def _mean(values: torch.Tensor) -> Ratio:
    return Ratio(values.sum(), torch.tensor(float(values.numel()), device=values.device))

"""gan3d: a generator of volumes, and its inverse as the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from imgwas.checks import check_range
from imgwas.encoders.base import Batch, Ratio
from imgwas.encoders.generative import GenerativeEncoder, GenerativeSettings
from imgwas.encoders.networks import gan as networks
from imgwas.encoders.penalties import gradient_penalty, r1_penalty, return_error
from imgwas.errors import UsageError, explain


@dataclass(frozen=True)
class GANSettings(GenerativeSettings):
    """Settings of networks, game and refinement.

    ``form`` is ``upsample`` (64 codes from N(0, 1), images in -1..1) or ``transposed`` (100
    codes from U(0, 1), images in 0..1); ``latents``, ``channels`` and ``intensity`` are the form's
    published ones unless given. ``loss`` is ``bce`` with ``real_label`` for real images, or
    ``wgan`` with ``gradient_penalty`` and ``drift``; ``r1`` penalises slopes at real images.
    ``norm`` is the discriminator's, ``spectral`` bounds its layers, ``variety`` tells it how much
    the pictures of a batch differ, ``instance_noise`` is added to all that it sees. ``skip_share``
    of the discriminator's steps, and its steps with a loss below ``skip_below``, are computed but
    not taken. ``inverter_width`` channels at the inverter's start; ``real_weight`` of its loss is
    how well training images come back. ``refine_steps`` of Adam at rate ``refine_rate`` improve
    the code of each scan, ``refine_pull`` draws it towards the prior.
    """

    form: Literal["upsample", "transposed"] = "upsample"
    latents: int = 0
    intensity: Literal["auto", "symmetric", "minmax"] = "auto"  # type: ignore[assignment]
    channels: int = 0
    loss: Literal["bce", "wgan"] = "bce"
    real_label: float = 0.9
    gradient_penalty: float = 10.0
    drift: float = 0.001
    r1: float = 0.0
    norm: Literal["batch", "instance", "none"] = "batch"
    spectral: bool = False
    variety: bool = False
    instance_noise: float = 0.0
    skip_share: float = 0.0
    skip_below: float = 0.0
    inverter_width: int = 16
    real_weight: float = 0.0
    refine_steps: int = 0
    refine_rate: float = 0.02
    refine_pull: float = 0.001

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ("latents", "channels", "refine_steps")

    def __post_init__(self) -> None:
        """Refuse settings that contradict one another."""
        super().__post_init__()
        check_range("real_label", self.real_label, low=0.5, high=1)
        for name in (
            "gradient_penalty",
            "drift",
            "r1",
            "skip_below",
            "refine_pull",
            "instance_noise",
        ):
            check_range(name, getattr(self, name), low=0, high=1e6)
        check_range("skip_share", self.skip_share, low=0, high=0.99)
        check_range("beta1", self.beta1, low=0, high=0.9999)
        check_range("beta2", self.beta2, low=0, high=0.999999)
        check_range("inverter_rate", self.inverter_rate, low=1e-9, high=1)
        check_range("refine_rate", self.refine_rate, low=1e-9, high=10)
        check_range("held_out_pairs", self.held_out_pairs, low=2)
        if self.inverter_width % 2:
            raise UsageError(
                explain(f"inverter_width is {self.inverter_width}", expected="An even number")
            )

    def check_penalty(self) -> None:
        """Refuse penalties of slopes where batch norm mixes the images of a batch."""
        penalised = self.r1 > 0 or (self.loss == "wgan" and self.gradient_penalty > 0)
        if penalised and self.norm == "batch":
            raise UsageError(
                explain(
                    "a penalty on the discriminator's slopes was asked for with norm=batch",
                    expected="With batch norm an image's score depends on the other images, and "
                    "its slope means nothing",
                    do="Add --set norm=instance, or norm=none",
                )
            )


#: latents, channels and intensity as published
PUBLISHED: Mapping[str, tuple[int, int, str]] = {
    "upsample": (64, 64, "symmetric"),
    "transposed": (100, 256, "minmax"),
}


class GAN3D(GenerativeEncoder):
    """A generative adversarial network of volumes, and the network that inverts it."""

    name = "gan3d"
    paper = "Goodfellow et al. (2014); brainMRIGenerativeModels; Generative models for brain aging"
    settings_type = GANSettings
    training: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 5e-5, "epochs": 150, "batch": 8, "ema": 0.999,
    }  # fmt: skip

    @property
    def n_latents(self) -> int:
        """Number of latents: the form's published one unless given."""
        return int(self.settings.latents or PUBLISHED[self.settings.form][0])

    @property
    def intensity(self) -> str:
        """Scale of the images: the form's published one unless given."""
        given: str = self.settings.intensity
        return PUBLISHED[self.settings.form][2] if given == "auto" else given

    def build(self) -> nn.Module:
        """Make generator, discriminator and inverter."""
        s = self.settings
        s.check_penalty()
        channels = s.channels or PUBLISHED[s.form][1]
        generator: nn.Module
        discriminator: nn.Module
        if s.form == "upsample":
            generator = networks.UpsamplingGenerator(
                s.grid, self.n_latents, channels, self.intensity
            )
            discriminator = networks.PooledDiscriminator(
                s.grid, channels, s.norm, variety=s.variety
            )
        else:
            generator = networks.TransposedGenerator(
                s.grid, self.n_latents, channels, self.intensity
            )
            discriminator = networks.StridedDiscriminator(
                s.grid, channels, s.norm, variety=s.variety
            )
        for part in (generator, discriminator):
            _xavier(part)
        if s.spectral:
            _bound(discriminator)
        widths = [s.inverter_width * 2**i for i in range(4)]
        inverter = networks.Inverter(s.grid, self.n_latents, widths)
        if s.form == "transposed":
            nn.init.constant_(inverter.answer.bias, 0.5)  # the mean of the prior
        return networks.Game(generator, discriminator, inverter)

    def normalise(self, raw: torch.Tensor) -> Batch:
        """Scale images to the range of the generator's pictures."""
        from imgwas.encoders.inputs import image_batch

        return image_batch(raw, replace(self.settings, intensity=self.intensity))

    def draw(
        self, n: int, *, device: torch.device, rng: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, latents) codes: standard normal, or uniform in 0..1."""
        drawn = torch.randn if self.settings.form == "upsample" else torch.rand
        return drawn(n, self.n_latents, generator=rng, device=device)

    def code_sd(self) -> float:
        """Return the standard deviation of a code: 1, or that of a uniform number."""
        return 1.0 if self.settings.form == "upsample" else 12**-0.5

    def discriminator_losses(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, Ratio]:
        """Cross-entropy or Wasserstein distance, and penalties of slopes."""
        s, players = self.settings, self.network.discriminator
        real, fake = self._noisy(real), self._noisy(fake)
        on_real, on_fake = players(real).float(), players(fake).float()  # type: ignore[operator]
        if s.loss == "bce":
            terms = {
                "real": _mean(_entropy(on_real, s.real_label)),
                "fake": _mean(_entropy(on_fake, 0.0)),
            }
        else:
            terms = {"real": _mean(-on_real), "fake": _mean(on_fake), "drift": _mean(on_real**2)}
            if s.gradient_penalty:
                terms["slope"] = gradient_penalty(players, real, fake)  # type: ignore[arg-type]
        if s.r1:
            terms["r1"] = r1_penalty(players, real)  # type: ignore[arg-type]
        return terms

    def generator_losses(self, real: torch.Tensor, codes: torch.Tensor) -> dict[str, Ratio]:  # noqa: ARG002
        """Be taken for real (the non-saturating loss), or score high."""
        picture = self._noisy(self.generate(codes))
        score = self.network.discriminator(picture).float()  # type: ignore[operator]
        return {"generator": _mean(_entropy(score, 1.0) if self.settings.loss == "bce" else -score)}

    def _noisy(self, pictures: torch.Tensor) -> torch.Tensor:
        """Blur the difference between images and pictures for the discriminator, if asked for."""
        sd = self.settings.instance_noise
        return pictures + sd * torch.randn_like(pictures) if sd else pictures

    def loss_weights(self) -> dict[str, float]:
        """Weights of the penalties."""
        s = self.settings
        return {"slope": s.gradient_penalty, "drift": s.drift, "r1": s.r1, "image": s.real_weight}

    def inversion_losses(
        self, target: torch.Tensor, picture: torch.Tensor, real: torch.Tensor | None
    ) -> dict[str, Ratio]:
        """Add, where asked for, how well training images come back, in variances of an image."""
        terms = super().inversion_losses(target, picture, real)
        if real is not None and self.settings.real_weight:
            network = self.network
            back = network.generator(network.inverter(real))  # type: ignore[operator]
            terms["image"] = return_error(real, back)
        return terms

    def keeps(self, player: str, loss: float) -> bool:
        """Skip some of the discriminator's steps, where asked for."""
        s = self.settings
        if player != "discriminator":
            return True
        unlucky = s.skip_share > 0 and float(torch.rand(())) < s.skip_share
        # Wasserstein losses are below 0 as soon as images are told apart: 0 skips nothing
        return not unlucky and not (s.skip_below and loss < s.skip_below)

    def latents_of(self, network: nn.Module, image: torch.Tensor) -> torch.Tensor:
        """Return the inverter's answers, refined against each image if asked for."""
        from imgwas.encoders.inversion import refine

        s = self.settings
        start: torch.Tensor = network.inverter(image)  # type: ignore[operator]
        if not s.refine_steps:
            return start
        uniform = s.form == "transposed"
        return refine(
            network.generator, image, start, steps=s.refine_steps, rate=s.refine_rate,  # type: ignore[arg-type]
            pull=0.0 if uniform else s.refine_pull, bounds=(0.0, 1.0) if uniform else None,
        )  # fmt: skip


def _entropy(score: torch.Tensor, label: float) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(
        score, torch.full_like(score, label), reduction="none"
    )


def _mean(values: torch.Tensor) -> Ratio:
    return Ratio(values.sum(), torch.tensor(float(values.numel()), device=values.device))


def _xavier(network: nn.Module) -> None:
    """Xavier's normal weights, no offsets."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d | nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _bound(network: nn.Module) -> None:
    """Divide each layer's weights by their largest singular value (Miyato et al. 2018)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.utils.parametrizations.spectral_norm(layer)

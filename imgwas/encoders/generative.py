"""What encoders with a generator share: prior, game, inverter, and how samples are judged."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from imgwas.encoders.base import SPANS, Batch, ImageSettings, NeuralEncoder, Ratio

if TYPE_CHECKING:
    from imgwas.encoders.loop import Loop


@dataclass(frozen=True)
class GenerativeSettings(ImageSettings):
    """Settings of every game.

    ``game_epochs`` epochs of the game, the others for the inverter. ``n_critic`` steps of the
    discriminator to one of the generator. ``beta1``, ``beta2`` of both players' Adam;
    ``inverter_rate`` the inverter's learning rate. The inverter and the samples are judged on
    ``held_out_pairs`` codes, ``samples`` of them are drawn on each sheet.
    """

    latents: int = 64
    intensity: Literal["zscore", "minmax", "symmetric", "none"] = "symmetric"
    mask: Literal["nonzero", "all"] = "all"
    game_epochs: int = 100
    n_critic: int = 1
    beta1: float = 0.5
    beta2: float = 0.999
    inverter_rate: float = 1e-4
    held_out_pairs: int = 64
    samples: int = 8


@dataclass(frozen=True)
class Position:
    """Where a game is.

    Parameters
    ----------
    phase : {"game", "inversion"}
    shown : int
        Real images that the discriminator has seen.
    images : int
        Training images, that is images an epoch.
    epoch : int
        Finished epochs.
    """

    phase: Literal["game", "inversion"]
    shown: int
    images: int
    epoch: int


class GenerativeEncoder(NeuralEncoder):
    """An encoder whose decoder is a generator and whose encoder learnt to invert it.

    ``build()`` returns a module with ``generator``, ``discriminator``, ``inverter``, ``encode``
    and ``decode``. See :mod:`imgwas.encoders.adversarial` for how they are trained.
    """

    @classmethod
    def loop_type(cls) -> type[Loop]:
        """Return the loop of the game."""
        from imgwas.encoders.adversarial import AdversarialLoop

        return AdversarialLoop

    def draw(
        self, n: int, *, device: torch.device, rng: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw (n, latents) codes from the prior: standard normal unless overridden."""
        return torch.randn(n, self.n_latents, generator=rng, device=device)

    def code_sd(self) -> float:
        """Return the standard deviation of what the inverter answers, under the prior."""
        return 1.0

    def place(self, position: Position) -> None:
        """Set what depends on how far the training is; nothing by default."""

    def generate(self, codes: torch.Tensor) -> torch.Tensor:
        """Return pictures (batch, 1, x, y, z) of codes, as the discriminator sees them."""
        out: torch.Tensor = self.network.generator(codes)  # type: ignore[operator]
        return out

    def match(self, real: torch.Tensor) -> torch.Tensor:
        """Bring real images to the size that the discriminator sees now."""
        return real

    def pairs(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the inverter is to answer, (batch, latents), and the picture it is shown."""
        return codes, self.generate(codes)

    @abstractmethod
    def discriminator_losses(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, Ratio]:
        """Return the terms that the discriminator lowers; ``fake`` carries no gradient."""

    @abstractmethod
    def generator_losses(self, real: torch.Tensor, codes: torch.Tensor) -> dict[str, Ratio]:
        """Return the terms that the generator lowers; it makes its own pictures of the codes."""

    def inversion_losses(
        self, target: torch.Tensor, picture: torch.Tensor,
        real: torch.Tensor | None,  # noqa: ARG002
    ) -> dict[str, Ratio]:  # fmt: skip
        """Return the squared error of the inverter's answer in variances of the code.

        ``real`` are training images, or None where held-out pairs are judged.
        """
        answer = self.network.inverter(picture).float()  # type: ignore[operator]
        error = ((answer - target) / self.code_sd()) ** 2
        n = torch.tensor(float(error.numel()), device=error.device)
        return {"code": Ratio(error.sum(), n)}

    def keeps(self, player: str, loss: float) -> bool:  # noqa: ARG002
        """Return whether a computed step is taken; always by default."""
        return True

    def value_range(self, pictures: torch.Tensor | None = None) -> tuple[float, float]:
        """Return the lowest and the highest intensity of a picture.

        Scales without limits, such as ``zscore``, have those of ``pictures``.
        """
        known = SPANS.get(self.intensity)
        if known is not None or pictures is None:
            return known or (0.0, 1.0)
        low, high = float(pictures.min()), float(pictures.max())
        return low, max(high, low + 1e-6 * max(1.0, abs(low)))

    @property
    def intensity(self) -> str:
        """Scale of the images."""
        return str(self.settings.intensity)

    def measure(self, real: torch.Tensor, fake: torch.Tensor) -> dict[str, float]:
        """Return numbers for the history: how samples compare with held-out images."""
        from imgwas.encoders.samples import compare_samples

        low, high = self.value_range(real)
        return compare_samples(real, fake, data_range=high - low)

    def write_sheet(self, pictures: torch.Tensor, path: Path) -> None:
        """Write a sheet of samples (n, 1, x, y, z) as PNG."""
        from imgwas.encoders.samples import sheet, write_png

        low, high = self.value_range(pictures)
        write_png(path, sheet(pictures, low=low, high=high))

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Not used: the game has losses of its own."""
        raise NotImplementedError

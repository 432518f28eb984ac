"""The diffusion autoencoder of cines and brains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from imgwas.encoders.base import SPANS, Batch, NeuralEncoder, Ratio
from imgwas.encoders.ddim import step_pairs
from imgwas.encoders.diffae_settings import (
    HALVES,
    DiffAESettings,
    check_grid,
    check_levels,
    check_shift,
    places,
)
from imgwas.encoders.diffusion import Schedule
from imgwas.encoders.networks import semantic, unet
from imgwas.encoders.networks.diffusion import DiffusionAutoencoder
from imgwas.errors import DegenerateError, InconsistentError, explain
from imgwas.shapes import Float, Float32

if TYPE_CHECKING:
    from imgwas.encoders.loop import Loop


class DiffAE(NeuralEncoder):
    """Diffusion autoencoder; 20,837,473 parameters for cines of 128 x 128 pixels and 50 frames.

    A semantic encoder turns an image into latents. A U-Net that is told the latents learns to guess
    noise in images. An image is therefore latents and the noise it is painted from; the latents
    alone are the phenotype.

    References
    ----------
    .. [1] Preechakul et al. (2022), CVPR: diffusion autoencoders.
    .. [2] Ometto, Chatterjee et al. (2026), Nature Communications, s41467-026-74575-y.
    """

    name = "diffae"
    paper = "Ometto, Chatterjee et al. (2026), Nature Communications: cardiac DiffAE"
    settings_type = DiffAESettings
    exact_derivative: ClassVar[bool] = False
    training: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 1e-4, "batch": 2, "epochs": 200, "epoch_share": 0.25, "clip": 1.0,
        "ema": 0.9999, "schedule": "constant", "score_epochs": 10,
    }  # fmt: skip

    @classmethod
    def loop_type(cls) -> type[Loop]:
        """Return the loop that judges with fixed noise, and paints."""
        from imgwas.encoders.diffusion_loop import DiffusionLoop

        return DiffusionLoop

    def build(self) -> nn.Module:
        """Make the network from the settings."""
        s = self.settings
        check_grid(s)
        check_levels(s)
        check_shift(s)
        schedule = Schedule(s.times)
        for steps in (s.render_steps, s.invert_steps):
            step_pairs(steps, s.times)
        halve = HALVES[s.halve]
        encoder = semantic.SemanticEncoder(
            s.latents, s.base, s.encoder_multipliers, halve, s.attention, s.blocks, places(s)
        )
        painter = unet.UNet(
            s.latents, s.base, s.multipliers, halve, s.attention, s.time_width, s.dropout,
            s.blocks, recompute=s.recompute,
        )  # fmt: skip
        return DiffusionAutoencoder(
            encoder, painter, s.grid, s.latents, schedule, frames_first=s.halve == "plane",
            span=SPANS.get(s.intensity) if s.clip else None, render_steps=s.render_steps,
            noise_seed=s.noise_seed, guesses_velocity=s.predicts == "velocity",
            time_shift=s.time_shift,
        )  # fmt: skip

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Ratio]:
        """Squared error of the guessed noise or velocity; 1 is that of guessing no noise."""
        guessed, added = outputs
        error = torch.where(batch.mask, guessed.float() - added.float(), 0)
        return {"error": Ratio((error * error).sum(), batch.mask.sum().to(error.dtype))}

    def invert(
        self, images: Float32[np.ndarray, "batch ..."], *, steps: int | None = None
    ) -> Float32[np.ndarray, "batch ..."]:
        """Return the noise that prepared images are painted from.

        Parameters
        ----------
        images : (batch, ...) array
            As for :meth:`encode`.
        steps : int, optional
            ``invert_steps`` by default.

        Raises
        ------
        UsageError
            If the steps do not divide the times.
        """
        net, image = self._taken(images)
        with torch.inference_mode():
            noise = net.invert(net.encode(image), image, *self._inversion(steps))
        return self._given(noise)

    def render(
        self,
        latents: Float[np.ndarray, "batch k"],
        noise: Float[np.ndarray, "noises ..."],
        *,
        steps: int | None = None,
    ) -> Float32[np.ndarray, "batch ..."]:
        """Paint images from latents and noise.

        Parameters
        ----------
        latents : (batch, latents) array
        noise : (batch, ...) array
            Of :meth:`invert`, or standard normal numbers.
        steps : int, optional
            ``render_steps`` by default.

        Returns
        -------
        (batch, ...) array
            On the intensity scale of the network.

        Raises
        ------
        InconsistentError
            If latents and noise are not of as many people, or of other shapes.
        UsageError
            If the steps do not divide the times.
        """
        net = self._net()
        codes = np.ascontiguousarray(latents, np.float32)
        start = np.ascontiguousarray(noise, np.float32)
        if codes.shape != (len(start), self.n_latents) or start.shape[1:] != self.grid:
            raise InconsistentError(
                explain(
                    f"latents of shape {codes.shape} and noise of shape {start.shape} were given",
                    expected=f"(batch, {self.n_latents}) and (batch, "
                    f"{', '.join(map(str, self.grid))})",
                    do="Noise comes from invert(images)",
                )
            )
        with torch.inference_mode():
            image = net.render(
                torch.from_numpy(codes).to(self.device),
                torch.from_numpy(start).to(self.device)[:, None],
                self.settings.render_steps if steps is None else steps,
            )
        return self._given(image)

    def reconstruct(
        self, images: Float32[np.ndarray, "batch ..."]
    ) -> Float32[np.ndarray, "batch ..."]:
        """Encode images, invert them and paint them again from their own noise."""
        return self.render(self.encode(images), self.invert(images))

    def manipulate(
        self,
        images: Float32[np.ndarray, "batch ..."],
        direction: Float[np.ndarray, " k"],
        amounts_sd: Sequence[float] | Float[np.ndarray, " amounts"],
        *,
        steps: int | None = None,
    ) -> Float32[np.ndarray, "batch amounts ..."]:
        r"""Paint people as they would look elsewhere along a direction.

        A code z is standardised by the training people's mean and SD, moved by
        :math:`a\,s\,w/\lVert w\rVert`, with s the SD of the training people along w, so that an
        amount a of 1 is one SD of people; put back to its scale; and painted from the person's own
        noise, which keeps what the code does not say.

        Parameters
        ----------
        images : (batch, ...) array
        direction : (latents,) array
            w, in units of standardised latents: the weights of a linear probe, or a unit vector.
        amounts_sd : (amounts,) array
            How far to go. Unit: SD of the training people along the direction.
        steps : int, optional
            Of inverting and of painting.

        Raises
        ------
        DegenerateError
            If the direction is zero or not finite, or people do not differ along it.
        InconsistentError
            If its length is not the number of latents, or the scale of latents is not known.
        """
        moves = self._moves(direction, np.asarray(amounts_sd, np.float64))
        codes, noise = self.encode(images), self.invert(images, steps=steps)
        painted = [
            self.render(np.asarray(codes + move, np.float32), noise, steps=steps) for move in moves
        ]
        return np.stack(painted, axis=1)

    def _moves(self, direction: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """(amounts, latents): what is added to a code on its own scale."""
        _, covariance = self.latent_scale()
        w = np.asarray(direction, np.float64)
        if w.shape != (self.n_latents,):
            raise InconsistentError(
                explain(f"the direction has shape {w.shape}",
                        expected=f"One weight for each of {self.n_latents} latents")
            )  # fmt: skip
        if not (np.isfinite(w).all() and np.isfinite(amounts).all() and w.any()):
            raise DegenerateError(
                explain("the direction or an amount is zero everywhere or not finite",
                        expected="A direction with a length, amounts in SD such as -2, 0, 2")
            )  # fmt: skip
        sd = np.sqrt(covariance.diagonal())
        unit = sd * w / np.linalg.norm(w)
        spread = w @ (covariance / np.outer(sd, sd)) @ w / (w @ w) if (sd > 0).all() else 0.0
        if not spread > 0:
            raise DegenerateError(
                explain("the training people do not differ along the direction",
                        do="Leave latents out that are the same for everybody")
            )  # fmt: skip
        return np.asarray(amounts[:, None] * np.sqrt(spread) * unit)

    def latent_scale(
        self,
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k k"]]:
        """Return mean and covariance of the training people's latents.

        Raises
        ------
        InconsistentError
            If they were never measured: weights that were converted, or an unfinished run.
        """
        net = self._net()
        if int(net.latent_people) < 2:
            raise InconsistentError(
                explain(
                    "this network does not know the scale of its latents",
                    expected="Mean and SD of the training people are stored when training ends",
                    do="Encode people and pass their latents to set_latent_scale",
                )
            )
        mean, covariance = (
            v.cpu().double().numpy() for v in (net.latent_mean, net.latent_covariance)
        )
        return mean, covariance

    def set_latent_scale(self, latents: Float[np.ndarray, "people k"]) -> None:
        """Take mean and covariance from people's latents.

        Raises
        ------
        DegenerateError
            If they are fewer than two people or not finite.
        """
        values = np.asarray(latents, np.float64)
        if values.ndim != 2 or values.shape[1] != self.n_latents:
            raise InconsistentError(
                explain(f"latents of shape {values.shape} were given",
                        expected=f"(people, {self.n_latents})")
            )  # fmt: skip
        if len(values) < 2 or not np.isfinite(values).all():
            raise DegenerateError(
                explain(f"{len(values)} people have latents, or some are not finite",
                        expected="Finite latents of at least two people")
            )  # fmt: skip
        net = self._net()
        covariance = np.atleast_2d(np.cov(values.T))
        for buffer, found in (
            (net.latent_mean, values.mean(axis=0)), (net.latent_covariance, covariance),
        ):  # fmt: skip
            buffer.copy_(torch.from_numpy(found.astype(np.float32)))
        net.latent_people.fill_(len(values))

    def measure_latents(self, parts: Iterable[torch.Tensor]) -> None:
        """Measure mean and covariance of people's latents, from batches of prepared images."""
        latents = np.concatenate([self.encode(raw.numpy()) for raw in parts])
        if len(latents) > 1:
            self.set_latent_scale(latents)

    def similarity(self, raw: torch.Tensor) -> dict[str, float]:
        """Mean SSIM of prepared images with what is painted of them.

        Returns
        -------
        dict
            ``validation_ssim`` after encode, invert and render; ``validation_ssim_code`` from the
            latents alone, with one noise for all. The first is high in a network that has learnt
            nothing, because the noise holds the image; the second is not.
        """
        from imgwas.encoders.similarity import ssim

        net, image = self._taken(raw.cpu().numpy())
        low, high = SPANS.get(self.settings.intensity) or (float(image.min()), float(image.max()))
        with torch.inference_mode():
            codes = net.encode(image)
            noise = net.invert(codes, image, *self._inversion(None))
            painted = (net.render(codes, noise, self.settings.render_steps), net.decode(codes))
        both, code = (
            float(ssim(image.flatten(4), one.flatten(4), data_range=high - low).mean())
            for one in painted
        )
        return {"validation_ssim": both, "validation_ssim_code": code}

    def _net(self) -> DiffusionAutoencoder:
        net = self.network.eval()
        assert isinstance(net, DiffusionAutoencoder)
        return net

    def _inversion(self, steps: int | None) -> tuple[int, int]:
        s = self.settings
        return (s.invert_steps if steps is None else steps), s.guesses - 1

    def _taken(self, images: np.ndarray) -> tuple[DiffusionAutoencoder, torch.Tensor]:
        raw = torch.from_numpy(self._checked(images)).to(self.device)
        return self._net(), self.normalise(raw).image

    def _given(self, image: torch.Tensor) -> np.ndarray:
        out: np.ndarray = image.float().cpu().numpy().reshape(len(image), *self.grid)
        return out

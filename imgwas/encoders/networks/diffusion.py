"""The diffusion autoencoder: a semantic encoder, and a U-Net that paints what it says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from imgwas.encoders import ddim
from imgwas.encoders.diffusion import Schedule, add_noise, draw_times
from imgwas.encoders.networks.semantic import SemanticEncoder
from imgwas.encoders.networks.unet import UNet


class DiffusionAutoencoder(nn.Module):
    """Images to latents, and latents with noise to images.

    Parameters
    ----------
    encoder : SemanticEncoder
    unet : UNet
    grid : sequence of int
        Of the images, (x, y, frames), (x, y, 1, frames) or (x, y, z).
    schedule : Schedule
    frames_first : bool
        The networks see the last axis first, as was published for cines.
    span : pair of float, optional
        Range of clean images.
    render_steps : int
        Steps of :meth:`decode`.
    noise_seed : int
        Of the noise that :meth:`decode` starts from.
    guesses_velocity : bool
        The U-Net guesses ``sqrt(a) noise - sqrt(1 - a) image`` in place of the noise [1]_.
    time_shift : float
        Of the times of training, see :func:`~imgwas.encoders.diffusion.draw_times`.

    Notes
    -----
    Mean and covariance of the training people's latents are kept as buffers; ``latent_people`` is 0
    until they are known.

    References
    ----------
    .. [1] Salimans & Ho (2022), ICLR.
    """

    levels: torch.Tensor
    latent_mean: torch.Tensor
    latent_covariance: torch.Tensor
    latent_people: torch.Tensor

    def __init__(
        self, encoder: SemanticEncoder, unet: UNet, grid: Sequence[int], n_latents: int,
        schedule: Schedule, *, frames_first: bool, span: ddim.Span, render_steps: int,
        noise_seed: int, guesses_velocity: bool = False, time_shift: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.unet = encoder, unet
        self.grid, self.schedule = tuple(grid), schedule
        self.frames_first, self.span = frames_first, span
        self.render_steps, self.noise_seed = render_steps, noise_seed
        self.guesses_velocity, self.time_shift = guesses_velocity, time_shift
        levels = torch.as_tensor(schedule.levels, dtype=torch.float32)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("latent_mean", torch.zeros(n_latents))
        self.register_buffer("latent_covariance", torch.zeros(n_latents, n_latents))
        self.register_buffer("latent_people", torch.zeros((), dtype=torch.long))

    def arranged(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, *grid) as the networks want it."""
        volume = image.flatten(4)
        return volume.permute(0, 1, 4, 2, 3).contiguous() if self.frames_first else volume

    def restored(self, volume: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`arranged`."""
        image = volume.permute(0, 1, 3, 4, 2) if self.frames_first else volume
        return image.reshape(len(image), 1, *self.grid)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, *grid) to (batch, latents)."""
        return self.encoder.encode(self.arranged(image))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Add noise at random times and guess it: (guess, truth), each (batch, 1, *grid)."""
        clean = self.arranged(image)
        times = draw_times(len(image), self.schedule.n_times, self.time_shift, image.device)
        noise = torch.randn_like(clean)
        noisy = add_noise(clean, noise, times, self.levels)
        guessed = self.unet(noisy, times, self.encoder.encode(clean))
        truth = add_noise(noise, -clean, times, self.levels) if self.guesses_velocity else noise
        return self.restored(guessed), self.restored(truth)

    def own_noise(self, n: int) -> torch.Tensor:
        """Return the noise that pictures of latents alone start from: the same for everybody."""
        source = torch.Generator().manual_seed(self.noise_seed)
        one = torch.randn(1, 1, *self.grid, generator=source).to(self.levels.device)
        return one.expand(n, *one.shape[1:])

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latents) to (batch, 1, *grid), from one noise for all."""
        return self.render(latents, self.own_noise(len(latents)), self.render_steps)

    def render(self, latents: torch.Tensor, noise: torch.Tensor, n_steps: int) -> torch.Tensor:
        """Latents and noise (batch, 1, *grid) to images of that shape."""
        volume = ddim.render(
            self._guess(latents), self.arranged(noise), self.schedule, n_steps, self.span
        )
        return self.restored(volume)

    def invert(
        self, latents: torch.Tensor, image: torch.Tensor, n_steps: int, repeats: int = 0
    ) -> torch.Tensor:
        """Latents and images to the noise that renders them."""
        volume = ddim.invert(
            self._guess(latents), self.arranged(image), self.schedule, n_steps, self.span,
            repeats=repeats,
        )  # fmt: skip
        return self.restored(volume)

    def _guess(self, latents: torch.Tensor) -> ddim.Denoise:
        def guess(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.unet(noisy, times, latents).to(noisy.dtype)
            # noise = sqrt(a) velocity + sqrt(1 - a) noisy
            return add_noise(out, noisy, times, self.levels) if self.guesses_velocity else out

        return guess

"""How noise takes over an image: the schedule of a diffusion model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from imgwas.checks import check_range
from imgwas.shapes import Float64

#: First and last beta of a schedule of 1000 times.
FIRST_BETA, LAST_BETA = 1e-4, 0.02
PUBLISHED_TIMES = 1000
#: Below this the last beta would near 1.
FEWEST_TIMES = 50


@dataclass(frozen=True)
class Schedule:
    """Linear schedule: at time t an image is ``sqrt(a) x + sqrt(1 - a) noise``, a its level.

    Parameters
    ----------
    n_times : int
        Times from 0 to ``n_times - 1``. Betas run from 1e-4 to 0.02 for 1000 times; for fewer they
        are larger in proportion, so that the last image is noise all the same.

    References
    ----------
    .. [1] Ho, Jain & Abbeel (2020), NeurIPS.
    """

    n_times: int = PUBLISHED_TIMES

    def __post_init__(self) -> None:
        check_range("the number of times", self.n_times, low=FEWEST_TIMES, high=100_000)

    @cached_property
    def betas(self) -> Float64[np.ndarray, " times"]:
        """Share of the variance that is replaced by noise at each time."""
        scale = PUBLISHED_TIMES / self.n_times
        return np.linspace(scale * FIRST_BETA, scale * LAST_BETA, self.n_times)

    @cached_property
    def levels(self) -> Float64[np.ndarray, " times"]:
        """Share of the image's variance that is left at each time."""
        return np.asarray(np.cumprod(1 - self.betas))

    def level(self, time: int) -> float:
        """Return what is left at one time; everything at time -1, the clean image."""
        return 1.0 if time < 0 else float(self.levels[time])


def draw_times(n: int, n_times: int, shift: float, device: torch.device) -> torch.Tensor:
    """Draw the times of n training images: uniform, or mostly late.

    A uniform number u becomes ``s u / (1 + (s - 1) u)``, s the shift, as a share of the times [1]_:
    below a share q lie ``q / (s - (s - 1) q)`` of the draws. At late times hardly anything of the
    image is left, and what the network guesses of it comes from the code.

    Parameters
    ----------
    n, n_times : int
    shift : float
        1 is uniform, as published for diffusion autoencoders; 3 puts half of the draws into the
        last quarter of the times.
    device : torch.device

    References
    ----------
    .. [1] Esser et al. (2024), ICML: the shift of times for larger pictures.
    """
    if shift == 1:
        return torch.randint(n_times, (n,), device=device)
    share = torch.rand(n, device=device)
    late = shift * share / (1 + (shift - 1) * share)
    return (late * n_times).long().clamp(max=n_times - 1)


def add_noise(
    image: torch.Tensor, noise: torch.Tensor, times: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """Return images as they are at their times.

    Parameters
    ----------
    image, noise : (batch, ...) tensor
    times : (batch,) int tensor
    levels : (times,) tensor
        :attr:`Schedule.levels`.
    """
    a = levels[times].to(image.dtype).reshape(-1, *[1] * (image.ndim - 1))
    noisy: torch.Tensor = a.sqrt() * image + (1 - a).sqrt() * noise
    return noisy

"""Rendering and inverting without chance: DDIM on explicit pairs of times.

Both ways visit the same times. With n steps of s = T / n they are -1 (the clean image), s - 1,
2 s - 1, ..., T - 1 (noise); rendering goes down the list, inverting goes up.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch

from imgwas.encoders.diffusion import Schedule
from imgwas.errors import UsageError, explain

#: Noisy images and the time of each to the noise in them.
Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: Lowest and highest value of a clean image; None where it has none.
Span = tuple[float, float] | None
#: Fewer steps than this give no image.
FEWEST_STEPS = 10


def legal_steps(n_times: int) -> list[int]:
    """Numbers of steps that divide a schedule evenly."""
    return [n for n in range(FEWEST_STEPS, n_times + 1) if n_times % n == 0]


def step_pairs(n_steps: int, n_times: int) -> list[tuple[int, int]]:
    """Pairs (time, next time) of rendering, from noise to the clean image at -1.

    Raises
    ------
    UsageError
        If the steps do not divide the times; those that do are listed.
    """
    if n_steps not in legal_steps(n_times):
        raise UsageError(
            explain(
                f"{n_steps} steps do not divide a schedule of {n_times} times",
                expected=f"Steps: {', '.join(map(str, legal_steps(n_times)))}",
            )
        )
    stride = n_times // n_steps
    times = [k * stride - 1 for k in range(n_steps, -1, -1)]
    return list(pairwise(times))


def moved(
    x: torch.Tensor, noise: torch.Tensor, level: float, to: float, span: Span = None
) -> torch.Tensor:
    """Move images from one level to another along the noise that was guessed in them.

    The clean image ``(x - sqrt(1 - level) noise) / sqrt(level)`` is cut to ``span`` if there is
    one, the noise follows from it, and both are mixed at the new level.
    """
    clean = (x - (1 - level) ** 0.5 * noise) / level**0.5
    if span is not None:
        clean = clean.clamp(*span)
        if level < 1:
            noise = (x - level**0.5 * clean) / (1 - level) ** 0.5
    out: torch.Tensor = to**0.5 * clean + (1 - to) ** 0.5 * noise
    return out


def render(
    denoise: Denoise, noise: torch.Tensor, schedule: Schedule, n_steps: int, span: Span = None
) -> torch.Tensor:
    """Turn noise into images; the same noise gives the same image.

    Parameters
    ----------
    denoise : callable
        Noisy images (batch, ...) and their times (batch,) to the noise in them.
    noise : (batch, ...) tensor
        Images at the last time.
    schedule : Schedule
    n_steps : int
        Divides the number of times.
    span : pair of float, optional
        Range of a clean image, as published; without it rendering can be undone exactly in the
        limit of many steps.

    References
    ----------
    .. [1] Song, Meng & Ermon (2021), ICLR.
    """
    for time, after in step_pairs(n_steps, schedule.n_times):
        guessed = denoise(noise, _times(noise, time))
        noise = moved(noise, guessed, schedule.level(time), schedule.level(after), span)
    return noise


def invert(
    denoise: Denoise, image: torch.Tensor, schedule: Schedule, n_steps: int, span: Span = None,
    *, repeats: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Find the noise that images are rendered from: the steps of :func:`render`, backwards.

    A step up guesses the noise where it starts, a step down where it ended, so that the way back
    misses by an error that falls with the number of steps. Each of ``repeats`` guesses once more
    where the step ended, and the way back misses by less.

    Parameters
    ----------
    denoise, schedule, n_steps, span
        As for :func:`render`.
    image : (batch, ...) tensor
        Clean images.
    repeats : int, default 0
        Further guesses a step.

    References
    ----------
    .. [1] Song, Meng & Ermon (2021), ICLR; Pan et al. (2023), ICCV (repeats).
    """
    for after, time in reversed(step_pairs(n_steps, schedule.n_times)):
        start, end = schedule.level(time), schedule.level(after)
        guessed = denoise(image, _times(image, max(time, 0)))
        further = moved(image, guessed, start, end, span)
        for _ in range(repeats):
            further = moved(image, denoise(further, _times(image, after)), start, end, span)
        image = further
    return image


def _times(x: torch.Tensor, time: int) -> torch.Tensor:
    return torch.full((len(x),), time, dtype=torch.long, device=x.device)

"""Settings of the diffusion autoencoder, and what no network can be built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imgwas.encoders.base import ImageSettings
from imgwas.encoders.networks import semantic, unet
from imgwas.errors import UsageError, explain

#: The smallest shift of times; its inverse is the largest.
LEAST_SHIFT = 0.01
#: What is halved between two levels.
HALVES = {"plane": semantic.PLANE, "volume": semantic.VOLUME}


@dataclass(frozen=True)
class DiffAESettings(ImageSettings):
    """Size, shape and steps of a diffusion autoencoder; the defaults are the published ones.

    Parameters
    ----------
    grid : tuple of int
        (x, y, frames) or (x, y, 1, frames) of a cine, (x, y, z) of a brain.
    base, multipliers, encoder_multipliers, blocks : int, tuple of int
        Channels of a level are ``base`` times its multiplier, in the U-Net and in the encoder;
        each has that many blocks.
    attention : int
        Level with attention, from 0.
    halve : {"plane", "volume"}
        ``plane`` for cines, whose frames are never merged, ``volume`` for brains.
    time_width, times : int
        Numbers that stand for a time, and how many times there are.
    render_steps, invert_steps : int
        They divide ``times``.
    predicts : {"noise", "velocity"}
        What the U-Net guesses: the noise, as published, or ``sqrt(a) noise - sqrt(1 - a) image``
        (Salimans & Ho 2022), with which small networks learn to paint much sooner.
    time_shift : float
        Above 1 training sees late, noisy times more often (Esser et al. 2024); published: 1.
    pool : {"mean", "places"}
        What the latents see of the encoder's last feature map: its mean, as published, or every
        place and frame of it, so that they can tell sizes, shapes and motion apart.
    guesses : int
        Of the noise in a step of the inversion; published: 1.
    clip : bool
        Cut guessed clean images to the range of intensities, if they have one.
    noise_seed : int
        Of the noise that latents alone are painted from.
    recompute : bool
        Save memory in training, at the price of a second pass forward.
    """

    latents: int = 128
    intensity: Literal["zscore", "minmax", "symmetric", "none"] = "symmetric"
    mask: Literal["nonzero", "all"] = "all"
    base: int = 32
    multipliers: tuple[int, ...] = unet.MULTIPLIERS
    encoder_multipliers: tuple[int, ...] = semantic.MULTIPLIERS
    blocks: int = semantic.BLOCKS
    attention: int = semantic.ATTENTION_LEVEL
    halve: Literal["plane", "volume"] = "plane"
    time_width: int = 128
    dropout: float = 0.1
    times: int = 1000
    render_steps: int = 100
    invert_steps: int = 100
    predicts: Literal["noise", "velocity"] = "noise"
    time_shift: float = 1.0
    pool: Literal["mean", "places"] = "mean"
    guesses: int = 2
    clip: bool = True
    noise_seed: int = 1
    recompute: bool = False


def check_grid(s: DiffAESettings) -> None:
    """Refuse grids with more axes than the network has."""
    if len(s.grid) not in (0, 3) and not (len(s.grid) == 4 and s.grid[2] == 1):
        raise UsageError(
            explain(
                f"the grid is {'x'.join(map(str, s.grid))}",
                expected="(x, y, frames) or (x, y, 1, frames) of a cine, (x, y, z) of a brain",
                do="Choose one slice of a stack of cines",
            )
        )


def check_shift(s: DiffAESettings) -> None:
    """Refuse shifts that no time follows from."""
    if not LEAST_SHIFT <= s.time_shift <= 1 / LEAST_SHIFT:
        raise UsageError(
            explain(
                f"time_shift is {s.time_shift:g}",
                expected=f"{LEAST_SHIFT:g} to {1 / LEAST_SHIFT:g}: 1 is uniform, 3 mostly late",
            )
        )


def places(s: DiffAESettings) -> tuple[int, ...]:
    """Voxels along the axes as the encoder sees them, if it weighs every place; else none."""
    if s.pool == "mean":
        return ()
    x, y, last = s.grid[0], s.grid[1], s.grid[-1]
    return (last, x, y) if s.halve == "plane" else (x, y, last)


def check_levels(s: DiffAESettings) -> None:
    """Refuse networks without levels, or that halve an image away."""
    for name in ("multipliers", "encoder_multipliers"):
        chosen = getattr(s, name)
        if not chosen or min(chosen) < 1:
            raise UsageError(
                explain(f"{name} is {chosen}", expected="Whole numbers above 0, such as 1,1,2")
            )
        edge = min(s.grid[: 2 if s.halve == "plane" else 3], default=0)
        if s.grid and 2 ** (len(chosen) - 1) > edge:
            raise UsageError(
                explain(
                    f"{len(chosen)} {name} halve {edge} voxels {len(chosen) - 1} times",
                    expected=f"At most {edge.bit_length()} levels at this grid",
                    do=f"--set {name}={','.join(map(str, chosen[: edge.bit_length()]))}",
                )
            )

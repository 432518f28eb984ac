"""Walks along a direction: pictures at several amounts, and what regions do on the way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction, units_per_sd
from imgwas.brain.heart_function import HeartFunction, as_cine, find_chambers, measure_heart
from imgwas.brain.regions import RegionScorer
from imgwas.checks import check_range
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    RefusedError,
    UsageError,
    explain,
    first_ids,
)
from imgwas.latents.ledger import who_was_seen
from imgwas.shapes import Bool, Float, Float32, Float64
from imgwas.types import Atlas, Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Amounts of a walk, in SD of people along the direction.
AMOUNTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
#: People whose average shows nobody.
FEWEST_PEOPLE = 50


@dataclass(frozen=True)
class Start:
    """Where walks begin.

    Parameters
    ----------
    latents : (latents,) float array
        In the encoder's units.
    n_people : int
        Whose average they are; 1 is a single person.
    """

    latents: Float64[np.ndarray, " latents"]
    n_people: int


@dataclass(frozen=True)
class Walk:
    """Pictures along a direction.

    Parameters
    ----------
    direction : Direction
    amounts : sequence of float
        In SD of people, increasing, 0 among them.
    images : (amounts, x, y, ...) float32 array
        On the decoder's grid, 0 outside the mask.
    hearts : tuple of HeartFunction or None
        How the heart of each picture pumps; empty where the pictures are no cines, or no ventricle
        was found.
    """

    direction: Direction
    amounts: tuple[float, ...]
    images: Float32[np.ndarray, "amounts ..."]
    hearts: tuple[HeartFunction | None, ...] = ()

    @property
    def middle(self) -> int:
        """Which picture is the start."""
        return self.amounts.index(0.0)


def average_start(latents: Latents, *, fewest: int = FEWEST_PEOPLE) -> Start:
    """Begin at the mean of the latents of many people: a picture of nobody.

    Of people whom the encoder has not seen, where these are known and enough.

    Raises
    ------
    RefusedError
        If fewer than ``fewest`` people have every latent.
    """
    complete = np.isfinite(latents.values).all(axis=1)
    marks = latents.source.get("people_seen")
    if marks:
        unseen = complete & ~who_was_seen(marks, latents.sample_ids)
        complete = unseen if unseen.sum() >= fewest else complete
    n = int(complete.sum())
    if n < max(fewest, 1):
        raise RefusedError(
            explain(
                f"{n:,} people have every latent",
                expected=f"The average of {fewest} or more shows nobody",
                do="Encode more people, or give --min-people where those few agree",
            )
        )
    values = np.asarray(latents.values, np.float64)
    return Start(values[complete].mean(axis=0), n)


def sample_start(latents: Latents, sample: str) -> Start:
    """Begin at the latents of one person, whose picture every step then shows.

    Raises
    ------
    InconsistentError
        If the person is not there, or lacks a latent.
    """
    rows = [i for i, one in enumerate(latents.sample_ids) if one == sample]
    values = np.asarray(latents.values, np.float64)
    if not rows or not np.isfinite(values[rows[0]]).all():
        raise InconsistentError(
            explain(f"there are no latents of the sample {first_ids([sample])}",
                    expected="A person with every latent in the table")
        )  # fmt: skip
    return Start(values[rows[0]], 1)


def most_varying(latents: Latents, n: int) -> list[str]:
    """Names of the latents with the largest variance, largest first."""
    check_range("the number of latents", n, low=1)
    order = np.argsort(-np.nanvar(latents.values, axis=0), kind="stable")
    return [latents.names[i] for i in order[:n]]


def walk_along(
    decoder: Decoder,
    start: Start,
    direction: Direction,
    covariance: Float64[np.ndarray, "latents latents"],
    amounts: Sequence[float] = AMOUNTS,
    *,
    pixel_mm: float | None = None,
    left: Bool[np.ndarray, "x y"] | None = None,
) -> Walk:
    """Walk from one place of latent space along a direction.

    Parameters
    ----------
    decoder : Decoder
    start : Start
    direction : Direction
    covariance : (latents, latents) float array
        Of the latents: it says what one SD along the direction is.
    amounts : sequence of float
        In SD, increasing, 0 among them.
    pixel_mm : float, optional
        Edge of a pixel, for cines of the heart: how it pumps is measured in every picture.
    left : (x, y) bool array, optional
        The left ventricle, where it is known.

    Raises
    ------
    UsageError
        If the amounts do not increase or lack 0.
    """
    steps = tuple(float(a) for a in amounts)
    if 0.0 not in steps or (np.diff(steps) <= 0).any():
        raise UsageError(
            explain(f"the amounts are {', '.join(f'{a:g}' for a in steps)}",
                    expected="Increasing, and 0 among them: -2, 0, 2")
        )  # fmt: skip
    flat = traverse(decoder, start.latents[None], direction, covariance, steps)
    images = np.stack([decoder.to_grid(picture) for picture in flat])
    hearts: tuple[HeartFunction | None, ...] = ()
    if pixel_mm is not None:
        hearts = hearts_along(images, steps.index(0.0), pixel_mm, left)
    return Walk(direction, steps, images, hearts)


def hearts_along(
    images: Float32[np.ndarray, "amounts ..."],
    middle: int,
    pixel_mm: float,
    left: Bool[np.ndarray, "x y"] | None = None,
) -> tuple[HeartFunction | None, ...]:
    """Measure the heart of every picture; the chambers are those of the picture in the middle.

    Returns
    -------
    tuple
        None where a picture shows no heart any more; empty where the middle one shows none.
    """
    try:
        chambers = find_chambers(images[middle], left=left)
    except DegenerateError as error:
        logger.warning("how the heart pumps is not measured: %s", error)
        return ()

    def one(image: np.ndarray) -> HeartFunction | None:
        try:
            return measure_heart(as_cine(image), pixel_mm, like=chambers)
        except (DegenerateError, InconsistentError) as error:
            logger.debug("a picture shows no heart: %s", error)
            return None

    return tuple(one(image) for image in images)


def heart_table(walks: Sequence[Walk]) -> pd.DataFrame:
    """How the heart pumps along walks.

    Returns
    -------
    DataFrame
        ``name``, ``amount`` (SD), ``ejection_fraction``, ``end_diastolic_volume`` and
        ``end_systolic_volume`` (ml, by area and length), ``wall`` (mm); NaN where a picture shows
        no heart.
    """
    import pandas as pd

    rows = []
    for walk in walks:
        for amount, heart in zip(walk.amounts, walk.hearts, strict=False):
            rows.append({"name": walk.direction.name, "amount": amount} | heart_numbers(heart))
    return pd.DataFrame(rows)


def heart_numbers(heart: HeartFunction | None) -> dict[str, float]:
    """Ejection fraction, volumes and wall as a row."""
    if heart is None:
        lost = float("nan")
        return dict.fromkeys(
            ("ejection_fraction", "end_diastolic_volume", "end_systolic_volume", "wall"), lost
        )
    return {
        "ejection_fraction": heart.ejection_fraction,
        "end_diastolic_volume": float(heart.volume.max()),
        "end_systolic_volume": float(heart.volume.min()),
        "wall": heart.wall,
    }


def traverse(
    decoder: Decoder,
    people: Float[np.ndarray, "people latents"],
    direction: Direction,
    covariance: Float64[np.ndarray, "latents latents"],
    amounts: Sequence[float] = AMOUNTS,
) -> Float32[np.ndarray, "amounts voxels"]:
    """Decode people moved along a direction, and average their pictures.

    Parameters
    ----------
    decoder : Decoder
    people : (people, latents) float array
        Where the walk starts; their own differences are kept at every step.
    direction : Direction
    covariance : (latents, latents) float array
        Of the latents: it says what one SD along the direction is.
    amounts : sequence of float
        In SD.

    Raises
    ------
    UsageError
        If there are no amounts.
    DegenerateError
        If the direction does not move, or nobody varies along it.
    """
    if not len(amounts):
        raise UsageError(explain("a walk needs amounts", expected="For example -2, 0, 2"))
    step = direction.vector * units_per_sd(direction.vector, covariance)
    if not np.any(step):
        raise DegenerateError(explain(f"nobody varies along {direction.name}"))
    pictures = [
        decoder.decode((people + amount * step).astype(np.float32)).mean(axis=0)
        for amount in amounts
    ]
    return np.asarray(pictures, np.float32)


def amount_curves(
    decoder: Decoder,
    pictures: Float32[np.ndarray, "amounts voxels"],
    amounts: Sequence[float],
    atlas: Atlas,
) -> pd.DataFrame:
    """Mean change of each region against the picture at amount 0, along a walk.

    A straight line says that the derivative tells the whole story.

    Returns
    -------
    DataFrame
        ``region``, ``amount`` (SD), ``change`` (intensity).
    """
    import pandas as pd

    if 0.0 not in amounts:
        raise UsageError(explain("a walk without amount 0 has nothing to compare with"))
    scorer = RegionScorer(atlas, decoder.mask)
    start = pictures[list(amounts).index(0.0)]
    change = scorer.mean_signed(pictures - start)
    return pd.DataFrame(
        {
            "region": np.tile([atlas.names[n] for n in scorer.numbers], len(amounts)),
            "amount": np.repeat(np.asarray(amounts, np.float64), len(scorer.numbers)),
            "change": change.ravel(),
        }
    )

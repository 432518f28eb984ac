"""Walks along a direction: pictures at several amounts, and what regions do on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction, units_per_sd
from imgwas.brain.regions import RegionScorer
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.shapes import Float, Float32, Float64
from imgwas.types import Atlas

if TYPE_CHECKING:
    import pandas as pd

#: Amounts of a walk, in SD of people along the direction.
AMOUNTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


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

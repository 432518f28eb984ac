"""Latents, covariates and traits of the same people, matched by id."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, explain, first_ids
from imgwas.latents.joining import aligned_values
from imgwas.shapes import Float64
from imgwas.traits.outcomes import Trait
from imgwas.types import Covariates, Latents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignedPeople:
    """People who have every covariate.

    Parameters
    ----------
    latents : (samples, latents) float array
        Standardised; NaN is missing.
    covariates : (samples, covariates) float array
        Nothing missing.
    sample_ids : tuple of str
        Whose rows they are.
    """

    latents: Float64[np.ndarray, "samples latents"]
    covariates: Float64[np.ndarray, "samples covariates"]
    sample_ids: tuple[str, ...]


def aligned_people(
    latents: Latents, covariates: Covariates | None, min_overlap: float
) -> AlignedPeople:
    """Standardise latents over the people who have every covariate."""
    values = np.asarray(latents.values, np.float64)
    if covariates is None:
        columns = np.zeros((len(values), 0))
    else:
        columns = aligned_values(latents, covariates, min_overlap=min_overlap)
    complete = np.isfinite(columns).all(axis=1)
    if not complete.any():
        raise InconsistentError(explain("nobody has a latent and every covariate"))
    if not complete.all():
        logger.info("people   %s of %s have every covariate", f"{int(complete.sum()):,}",
                    f"{len(complete):,}")  # fmt: skip
    x = values[complete]
    with np.errstate(invalid="ignore", divide="ignore"):
        x = (x - np.nanmean(x, axis=0)) / np.nanstd(x, axis=0, ddof=1)
    x[~np.isfinite(x)] = np.nan
    ids = tuple(one for one, kept in zip(latents.sample_ids, complete, strict=True) if kept)
    return AlignedPeople(x, columns[complete], ids)


def placed(
    trait: Trait, ids: Sequence[str], min_overlap: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and times of a trait for some people, NaN for those it does not have."""
    place = {one: row for row, one in enumerate(trait.sample_ids)}
    rows = np.array([place.get(one, -1) for one in ids], np.int64)
    shared, smaller = int((rows >= 0).sum()), min(len(ids), len(trait.sample_ids))
    if shared < max(1, check_range("min_overlap", min_overlap, low=0, high=1) * smaller):
        raise InconsistentError(
            explain(
                f"{shared:,} people have latents and {trait.name}",
                expected=f"At least {min_overlap:.0%} of {smaller:,}",
                where=f"latents {first_ids(ids)}; {trait.name} {first_ids(trait.sample_ids)}",
                do="Check that the id columns hold the same kind of id (--id-column)",
            )
        )
    present = rows >= 0
    values = np.where(present, np.take(trait.values, rows), np.nan)
    if trait.time is None:
        return values, None
    return values, np.where(present, np.take(trait.time, rows), np.nan)

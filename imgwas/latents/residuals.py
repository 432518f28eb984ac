"""Covariates removed from latents."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.latents.basis import missing_patterns, orthonormal_basis, remove
from imgwas.latents.joining import aligned_values
from imgwas.types import Covariates, Latents

logger = logging.getLogger(__name__)

#: A latent with less than this share of its length left is a copy of the covariates, and what is
#: left of it is rounding.
EXPLAINED = 1e-4


def residualize(latents: Latents, covariates: Covariates, *, min_overlap: float = 0.5) -> Latents:
    """Subtract what the covariates explain, each latent on the people who have it.

    ``y = [1 C] g + e``, by least squares; the result is ``e``, in the units of the latent. People
    are matched by id and keep their place.

    Parameters
    ----------
    latents : Latents
        Traits. A missing value stays missing and concerns its latent only.
    covariates : Covariates
        The intercept is added. People with a missing covariate get missing latents.
    min_overlap : float, default 0.5
        Refuse when fewer of the smaller table's people are in the other.

    Returns
    -------
    Latents
        Same people, same names. Latents that are constant, that the covariates explain, or that
        fewer people have than there are covariates, are missing throughout, and a warning names
        them.

    Raises
    ------
    InconsistentError
        If the tables share too few people.
    DegenerateError
        If nothing is left of any latent.

    Notes
    -----
    A scan of residuals is not a scan with covariates: give the covariates to ``associate`` as
    well, which removes them from the variants too.
    """
    nuisance = aligned_values(latents, covariates, min_overlap=min_overlap)
    complete = np.isfinite(nuisance).all(axis=1)
    if not complete.all():
        logger.warning(
            "%s of %s people lack a covariate: their latents become missing",
            f"{int((~complete).sum()):,}", f"{len(complete):,}",
        )  # fmt: skip
    result = np.full(latents.values.shape, np.nan)
    for columns, used in missing_patterns(latents.values, complete):
        result[np.ix_(used, columns)] = _residuals(latents.values[np.ix_(used, columns)],
                                                   nuisance[used])  # fmt: skip
    lost = np.isnan(result).all(axis=0)
    if lost.all():
        raise DegenerateError(
            explain(
                f"nothing is left of any of the {len(lost)} latents after the covariates",
                expected="Latents that vary beyond their covariates, and more people than these",
                do="Are the latents among the covariates?",
            )
        )
    if lost.any():
        named = [name for name, gone in zip(latents.names, lost, strict=True) if gone]
        logger.warning("nothing is left of %s after the covariates", ", ".join(named[:10]))
    return replace(latents, values=result)


def _residuals(values: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """Residuals of columns without gaps; NaN where nothing but rounding is left."""
    if not len(values):
        return values
    basis = orthonormal_basis(nuisance)
    if len(values) < basis.shape[1] + 2:
        return np.full(values.shape, np.nan)
    largest = np.abs(values).max(axis=0)
    size = np.where(largest > 0, largest, 1.0)
    scaled = values / size
    rest = remove(scaled, basis)
    total = np.linalg.norm(scaled - scaled.mean(axis=0), axis=0)
    gone = np.linalg.norm(rest, axis=0) <= np.maximum(EXPLAINED * total, 1e-12)
    return np.asarray(np.where(gone, np.nan, rest * size))

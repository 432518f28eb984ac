"""Principal components and whitening: fitted on some people, applied to any."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    TooFewSamplesError,
    UsageError,
    explain,
)
from imgwas.latents.basis import CONSTANT
from imgwas.latents.transforms import fitted_rows
from imgwas.shapes import Bool, Float, Float64
from imgwas.types import Latents

logger = logging.getLogger(__name__)

#: A latent with less than this share of its length left beside the others is redundant.
REDUNDANT = 1e-6


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of latents.

    Parameters
    ----------
    latents : tuple of str
        Names of the latents they are made of.
    mean, scale : (latents,) float array
        Subtracted from and divided out of each latent first; the scale is the standard deviation
        (n - 1), or one.
    directions : (latents, components) float array
        Orthonormal columns, the largest entry of each positive.
    variance : (components,) float array
        Variance (n - 1) of each component among the fitted people, decreasing.
    total_variance : float
        Of all latents after scaling.
    redundant : tuple of str
        Latents that are constant or a combination of the others: the rank is lower by their number.
    n : int
        People fitted.
    """

    latents: tuple[str, ...]
    mean: Float64[np.ndarray, " latents"]
    scale: Float64[np.ndarray, " latents"]
    directions: Float64[np.ndarray, "latents components"]
    variance: Float64[np.ndarray, " components"]
    total_variance: float
    redundant: tuple[str, ...]
    n: int

    def __repr__(self) -> str:
        return (
            f"PrincipalComponents({len(self.variance)} of {len(self.latents)} latents, "
            f"{self.n:,} people)"
        )

    @property
    def share(self) -> Float64[np.ndarray, " components"]:
        """Share of the total variance that each component holds."""
        return self.variance / self.total_variance

    def transform(
        self, values: Float[np.ndarray, "samples latents"], *, whiten: bool = False
    ) -> Float64[np.ndarray, "samples components"]:
        """Scores of people; ``whiten`` divides them by their standard deviation when fitted.

        A person who lacks a latent that the components use has no score (NaN).
        """
        used = (self.directions != 0).any(axis=1)
        standardized = (values[:, used] - self.mean[used]) / self.scale[used]
        scores = np.asarray(standardized @ self.directions[used], np.float64)
        return scores / np.sqrt(self.variance) if whiten else scores

    def apply(self, latents: Latents, *, whiten: bool = False) -> Latents:
        """Scores as latents ``PC1``, ``PC2``, ...

        Raises
        ------
        InconsistentError
            If the latents are not those that were fitted, in name and order.
        """
        if latents.names != self.latents:
            raise InconsistentError(
                explain(
                    f"the components were fitted on {_some(self.latents)}",
                    expected="The same latents in the same order",
                    where=f"the table has {_some(latents.names)}",
                )
            )
        names = tuple(f"PC{k + 1}" for k in range(len(self.variance)))
        return replace(latents, values=self.transform(latents.values, whiten=whiten), names=names)


def fit_components(
    latents: Latents,
    *,
    n_components: int | None = None,
    fit: Bool[np.ndarray, " rows"] | None = None,
    standardize: bool = True,
) -> PrincipalComponents:
    """Find the principal components of latents among people who have all of them.

    Singular value decomposition of the centred (and standardised) latents. The sign of a component
    is that of its largest direction entry, so that the same data give the same scores.

    Parameters
    ----------
    latents : Latents
        People with a missing latent take no part in the fit.
    n_components : int, optional
        How many; by default as many as the latents have dimensions.
    fit : (rows,) bool array, optional
        People to fit on; all by default. Apply the result to any others.
    standardize : bool, default True
        Divide each latent by its standard deviation, so that units do not matter.

    Returns
    -------
    PrincipalComponents
        ``redundant`` names latents that add no dimension; a warning names them too.

    Raises
    ------
    TooFewSamplesError
        If there are no more complete people than components.
    DegenerateError
        If no latent varies.
    UsageError
        If more components are asked for than the latents have dimensions.
    """
    rows = fitted_rows(fit, len(latents.values)) & np.isfinite(latents.values).all(axis=1)
    values = np.asarray(latents.values[rows], np.float64)
    _check_people(len(values), len(values.T), n_components, latents)
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    varies = np.isfinite(sd) & (sd > CONSTANT * np.maximum(np.abs(mean), 1e-290))
    if not varies.any():
        raise DegenerateError(explain("no latent varies among the people fitted"))
    redundant = _redundant((values - mean) / np.where(varies, sd, np.inf), varies)
    named = tuple(name for name, is_one in zip(latents.names, redundant, strict=True) if is_one)
    if named:
        logger.warning("no dimension of their own: %s", ", ".join(named[:10]))
    scale = np.where(varies & standardize, sd, 1.0)
    deviation = np.where(varies, (values - mean) / scale, 0.0)
    _, size, right = np.linalg.svd(deviation, full_matrices=False)
    rank = min(
        int((~redundant).sum()), int((size > (REDUNDANT if standardize else 1e-12) * size[0]).sum())
    )
    count = _check_count(rank, n_components, named)
    directions = right[:count].T
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(count)]
    return PrincipalComponents(
        latents=latents.names,
        mean=mean,
        scale=scale,
        directions=np.where(varies[:, None], directions * np.sign(largest), 0.0),
        variance=np.square(size[:count]) / (len(values) - 1),
        total_variance=float(np.square(size).sum() / (len(values) - 1)),
        redundant=named,
        n=len(values),
    )


def _check_count(rank: int, n_components: int | None, redundant: Sequence[str]) -> int:
    """Components to keep: those asked for, or as many as there are dimensions."""
    if n_components is None or n_components <= rank:
        return n_components or rank
    where = f"{', '.join(redundant[:10])} add no dimension" if redundant else ""
    raise UsageError(
        explain(
            f"n_components is {n_components}", expected=f"At most {rank}, the rank", where=where
        )
    )


def _check_people(n: int, k: int, n_components: int | None, latents: Latents) -> None:
    if n_components is not None:
        check_range("n_components", n_components, low=1)
    if n > 1 + min(k, n_components or k):
        return
    raise TooFewSamplesError(
        explain(
            f"{n:,} people have all {k:,} latents",
            expected=f"More than {1 + min(k, n_components or k):,} for that many components",
            where=f"{int(np.isnan(latents.values).any(axis=1).sum()):,} people lack a latent",
            do="Ask for fewer components, or leave out latents that many people lack",
        )
    )


def _redundant(standardized: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """Columns that are constant or a combination of the columns before them, as a bool array."""
    n, k = standardized.shape
    redundant = ~varies
    if n <= k:  # people limit the rank and no latent is to blame
        return redundant
    triangle = np.asarray(np.linalg.qr(standardized / np.sqrt(n - 1), mode="r"))
    basis = np.empty((k, 0))
    for column in np.flatnonzero(varies):
        rest = triangle[:, column].copy()
        for _ in range(2):
            rest -= basis @ (basis.T @ rest)
        length = np.linalg.norm(rest)
        if length <= REDUNDANT:
            redundant[column] = True
        else:
            basis = np.column_stack([basis, rest / length])
    return redundant


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} latents ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"

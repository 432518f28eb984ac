"""The people of a scan once more: traits and covariates in the order of the genotype file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError, InconsistentError, TooFewSamplesError, explain
from imgwas.shapes import Bool, Float64, Int64
from imgwas.types import Covariates, Latents, Samples

#: A column of covariates adds nothing below this share of its length.
_COLLINEAR = 1e-7


@dataclass(frozen=True)
class Cohort:
    """People with a row in every table and no missing covariate.

    Parameters
    ----------
    columns : (people,) int array
        Columns of the genotype file, increasing.
    traits : (people, latents) float array
        NaN is missing.
    covariates : (people, covariates) float array
        Without intercept.
    is_male, has_sex : (people,) bool array
        From the genotype file, for chromosome X.
    names : tuple of str
        Names of the latents.
    """

    columns: Int64[np.ndarray, " people"]
    traits: Float64[np.ndarray, "people latents"]
    covariates: Float64[np.ndarray, "people covariates"]
    is_male: Bool[np.ndarray, " people"]
    has_sex: Bool[np.ndarray, " people"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True)
class Projection:
    """People who have one latent, their orthonormal covariates and the residual trait.

    Parameters
    ----------
    used : (people,) bool array
        Which people of the cohort.
    basis : (used, rank) float array
        Orthonormal, the intercept first.
    trait : (used,) float array
        With intercept and covariates projected out.
    """

    used: Bool[np.ndarray, " people"]
    basis: Float64[np.ndarray, "used rank"]
    trait: Float64[np.ndarray, " used"]

    @property
    def dof(self) -> int:
        """Degrees of freedom of one variant more."""
        return len(self.trait) - self.basis.shape[1] - 1


def join(
    samples: Samples,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    columns: np.ndarray | None = None,
) -> Cohort:
    """Match genotypes, latents and covariates by id, as a scan does.

    Raises
    ------
    InconsistentError
        If nobody is in all of them.
    """
    trait_rows = _rows(samples, latents.sample_ids, latents.family_ids)
    chosen = np.zeros(len(samples), bool)
    chosen[np.arange(len(samples)) if columns is None else columns] = True
    chosen &= trait_rows >= 0
    values = np.empty((len(samples), 0))
    if covariates is not None:
        rows = _rows(samples, covariates.sample_ids, covariates.family_ids)
        values = covariates.values[rows]
        chosen &= (rows >= 0) & np.isfinite(values).all(axis=1)
    if not chosen.any():
        raise InconsistentError(
            explain(
                "nobody is in the genotypes, the latents and the covariates",
                expected="The tables of the scan; ids are compared as they are written",
                do="Give the same files as to imgwas associate",
            )
        )
    kept = np.flatnonzero(chosen)
    sex = samples.sex[kept]
    traits = latents.values[trait_rows[kept]]
    return Cohort(kept, traits, values[kept], sex == 1, sex > 0, latents.names)


def _rows(
    samples: Samples, sample_ids: Sequence[str], family_ids: Sequence[str] | None
) -> np.ndarray:
    """Row of a table for every person genotyped, -1 where it has none."""
    ours: Sequence[object] = samples.sample_ids
    theirs: Sequence[object] = sample_ids
    is_unique = len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs)
    if not is_unique and family_ids is not None:
        ours = list(zip(samples.family_ids, samples.sample_ids, strict=True))
        theirs = list(zip(family_ids, sample_ids, strict=True))
    elif not is_unique:
        raise InconsistentError(
            explain(
                "sample ids repeat, and the table has no family ids to tell people apart",
                do="Give the same files as to imgwas associate",
            )
        )
    place = {one: row for row, one in enumerate(theirs)}
    return np.array([place.get(one, -1) for one in ours])


def project(cohort: Cohort, latent: str, *, rank_normal: bool, on_x: bool = False) -> Projection:
    """Project intercept and covariates out of one latent, among the people who have it.

    Parameters
    ----------
    cohort : Cohort
        People, traits and covariates.
    latent : str
        Which trait.
    rank_normal : bool
        Rank-normalise it first, as the scan did.
    on_x : bool
        For variants of chromosome X: people of known sex, and sex as a covariate.

    Raises
    ------
    TooFewSamplesError, DegenerateError
        If no degree of freedom is left, or the covariates explain the latent.
    """
    trait = cohort.traits[:, cohort.names.index(latent)]
    used = np.isfinite(trait)
    values = trait[used]
    if rank_normal:
        from imgwas.latents import rank_normalize

        values = rank_normalize(values[:, None])[:, 0]
    covariates = cohort.covariates
    if on_x:
        values = values[cohort.has_sex[used]]
        used = used & cohort.has_sex
        covariates = np.column_stack([covariates, cohort.is_male])
    basis = orthonormal(covariates[used])
    if len(values) - basis.shape[1] - 1 < 1:
        raise TooFewSamplesError(
            explain(f"{len(values):,} people have {latent}, too few for the covariates")
        )
    centred = values - values.mean()
    residual = remove(centred, basis)
    if np.linalg.norm(residual) <= 1e-4 * max(float(np.linalg.norm(centred)), 1e-300):
        raise DegenerateError(explain(f"latent {latent} is constant or explained by covariates"))
    return Projection(used, basis, residual)


def orthonormal(values: Float64[np.ndarray, "people columns"]) -> Float64[np.ndarray, "people k"]:
    """Orthonormal basis of the intercept and of what each column adds to those before it."""
    n = len(values)
    basis = np.full((n, 1), 1 / np.sqrt(n))
    for column in values.T:
        rest = column / max(float(np.abs(column).max()), 1e-300)
        rest = rest - rest.mean()
        length = np.linalg.norm(rest)
        if length <= 1e-12 * np.sqrt(n):
            continue
        rest = remove(rest / length, basis)
        if np.linalg.norm(rest) > _COLLINEAR:
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return basis


def remove(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Project an orthonormal basis out of a vector, or of every column; twice, for rounding."""
    rest = values - basis @ (basis.T @ values)
    return np.asarray(rest - basis @ (basis.T @ rest))

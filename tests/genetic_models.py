"""Polygenic studies whose heritabilities and genetic correlations are known, and slow oracles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from imgwas.association import Design, build_design
from imgwas.genotypes import ArrayGenotypes
from imgwas.types import VARIANT_SCHEMA, Covariates, Latents, Samples


@dataclass(frozen=True)
class PolygenicStudy:
    """Genotypes in memory, latents and covariates, and what was planted."""

    genotypes: ArrayGenotypes
    dosage: np.ndarray
    latents: Latents
    covariates: Covariates
    heritability: np.ndarray
    genetic_correlation: np.ndarray

    @property
    def design(self) -> Design:
        """The design of a scan."""
        return build_design(self.genotypes.samples, self.latents, self.covariates)


#: Lengths of runs: neighbourhoods of one variant and of forty, so that LD scores differ.
UNEVEN = (1,) * 20 + (40,)


def linked_dosages(
    n: int, m: int, rng: np.random.Generator, runs: Sequence[int] = (20,)
) -> np.ndarray:
    """Allele counts (variants, people) in runs of correlated variants, MAF 5 to 50 %."""
    starts = set(itertools.accumulate(itertools.islice(itertools.cycle(runs), m), initial=0))
    limits = norm.ppf(rng.uniform(0.05, 0.5, m))
    dosage = np.zeros((m, n), np.float32)
    for _ in range(2):
        z = rng.standard_normal(n)
        for variant in range(m):
            rho = 0.0 if variant in starts else 0.9
            z = rho * z + np.sqrt(1 - rho**2) * rng.standard_normal(n)
            dosage[variant] += z < limits[variant]
    return dosage


def genotypes_of(dosage: np.ndarray, *, step: int = 1000, **samples: object) -> ArrayGenotypes:
    """Genotypes on chromosome 1 of arrays; ``family_ids`` and ``is_founder`` may be given."""
    m, n = dosage.shape
    columns = [
        ["1"] * m, list(range(step, (m + 1) * step, step)), [f"rs{j}" for j in range(m)],
        ["A"] * m, ["G"] * m,
    ]  # fmt: skip
    variants = pa.table(
        [pa.array(c, t) for c, t in zip(columns, VARIANT_SCHEMA.types, strict=True)],
        schema=VARIANT_SCHEMA,
    )
    fields = {
        "family_ids": ("0",) * n, "sex": np.zeros(n, np.int8), "is_founder": np.ones(n, bool),
    } | samples  # fmt: skip
    people = Samples(sample_ids=tuple(f"p{i:05d}" for i in range(n)), **fields)
    return ArrayGenotypes(dosage, variants, people)


def polygenic_study(
    n: int,
    m: int,
    k: int,
    seed: int,
    *,
    highest: float = 0.75,
    missing: float = 0.0,
    runs: Sequence[int] = (20,),
) -> PolygenicStudy:
    """Latents with heritabilities from 0 to ``highest`` and genetic correlations of ±0.49.

    One covariate follows five variants, so that latents and genotypes both depend on it.
    """
    rng = np.random.default_rng(seed)
    dosage = linked_dosages(n, m, rng, runs)
    covariates = np.column_stack(
        [rng.standard_normal((n, 2)), rng.standard_normal(5) @ dosage[:5] + rng.standard_normal(n)]
    )
    standard = (dosage - dosage.mean(axis=1, keepdims=True)) / dosage.std(axis=1, keepdims=True)
    heritability = np.linspace(0, highest, k)
    loading = np.where(np.arange(k) % 2, 0.7, -0.7)
    effects = rng.standard_normal((m, 1)) * loading
    effects += np.sqrt(1 - loading**2) * rng.standard_normal((m, k))
    noise = 0.5 * rng.standard_normal((n, 1)) + np.sqrt(0.75) * rng.standard_normal((n, k))
    values = standard.T @ (effects * np.sqrt(heritability / m)) + noise * np.sqrt(1 - heritability)
    values += covariates @ rng.standard_normal((3, k))
    correlation = np.outer(loading, loading)
    np.fill_diagonal(correlation, 1.0)
    if missing:
        dosage[rng.random(dosage.shape) < missing] = np.nan
    genotypes = genotypes_of(dosage)
    ids = genotypes.samples.sample_ids
    return PolygenicStudy(
        genotypes,
        dosage,
        Latents(values, ids, tuple(f"L{i:02d}" for i in range(k))),
        Covariates(covariates, ids, ("age", "score", "ancestry")),
        heritability,
        correlation,
    )


def relationship_oracle(
    dosage: np.ndarray, covariates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """``A``, the projection ``P`` and the dimensions left, by plain matrices in double."""
    filled = np.where(np.isnan(dosage), np.nanmean(dosage, axis=1, keepdims=True), dosage)
    model = np.column_stack([np.ones(len(covariates)), covariates])
    projection = np.eye(len(model)) - model @ np.linalg.pinv(model)
    genotypes = filled.astype(float) @ projection
    genotypes /= np.sqrt(np.square(genotypes).sum(axis=1, keepdims=True))
    free = len(model) - model.shape[1]
    return genotypes.T @ genotypes * free / len(dosage), projection, free


def moments_oracle(study: PolygenicStudy) -> np.ndarray:
    """Haseman-Elston regression with the exact trace, by plain matrices."""
    matrix, projection, free = relationship_oracle(study.dosage, study.covariates.values)
    traits = projection @ study.latents.values
    traits /= np.sqrt(np.square(traits).sum(axis=0) / free)
    return (traits.T @ matrix @ traits - traits.T @ traits) / (np.square(matrix).sum() - free)


def restricted_likelihood(
    trait: np.ndarray, matrix: np.ndarray, model: np.ndarray
) -> tuple[float, float]:
    """Heritability that maximises the restricted likelihood, by brute force, and its maximum."""

    def minus(heritability: float) -> float:
        variance = heritability * matrix + (1 - heritability) * np.eye(len(matrix))
        inverse = np.linalg.inv(variance)
        cross = model.T @ inverse @ model
        p = inverse - inverse @ model @ np.linalg.solve(cross, model.T @ inverse)
        free = len(model) - model.shape[1]
        scale = trait @ p @ trait / free
        logs = np.linalg.slogdet(variance)[1] + np.linalg.slogdet(cross)[1]
        return (free * np.log(scale) + logs) / 2

    found = minimize_scalar(minus, bounds=(1e-9, 1 - 1e-9), method="bounded",
                            options={"xatol": 1e-8})  # fmt: skip
    return float(found.x), -float(found.fun)

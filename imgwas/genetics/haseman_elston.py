"""Haseman-Elston regression for all latents at once, with random probes: arrays in, arrays out.

With standardised genotypes ``g_j`` (length one, mean and covariates removed), ``n`` the dimensions
that are left, and latents ``y_k`` of length one, the relationship matrix is
``A = n/M sum_j g_j g_j'`` with trace ``n``, and ``r_jk = g_j'y_k`` is what the scan measures. Under
``cov(y_k, y_l) = (S_kl A + E_kl P)/n`` the moments ``y_k'A y_l`` and ``y_k'y_l`` give

    S_kl = (1/M sum_j r_jk r_jl - y_k'y_l / n) / kappa,   kappa = tr((A - P)^2) / n^2

``S_kk`` is a heritability because each latent has variance one. ``kappa`` is the mean squared
correlation of two variants beyond chance. It is estimated as the mean of ``|(A - P) b|^2 / n^2``
over random vectors ``b``. Taking ``P`` off before squaring, and not ``n`` afterwards, is worth
about twenty times as many vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgwas.genetics.jackknife import streamed_error
from imgwas.genetics.standard import Moments, StandardGenotypes, in_order, inverse
from imgwas.shapes import Float64, Int64
from imgwas.sumstats.probes import ProbeSums, number_of_probes, random_signs


def probe_sums(
    people: StandardGenotypes,
    rows: Int64[np.ndarray, " variants"],
    edges: Int64[np.ndarray, " edges"],
    *,
    n_probes: int | None = None,
    seed: int = 0,
    known: Moments | None = None,
    threads: int = 1,
    progress: Callable[[int], object] | None = None,
) -> ProbeSums:
    """Multiply the relationship matrix with random vectors, in one pass over the genotypes.

    Parameters
    ----------
    people : StandardGenotypes
        Whose genotypes, and the covariates to remove.
    rows : (variants,) int array
        Rows of the genotype file.
    edges : (blocks + 1,) int array
        Jackknife blocks of those variants.
    n_probes : int, optional
        Random vectors of +1 and -1; by default 4, or more below 5,000 people.
    seed : int
        Of the vectors.
    known : Moments, optional
        Of these variants, where a scan has computed them.
    threads : int
        Blocks that are read and multiplied at once.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    ProbeSums

    Notes
    -----
    2 x variants x people x probes multiply-adds; people x probes x blocks numbers of four bytes,
    at most about 2 GB: fewer probes are used where they would need more.
    """
    n_blocks = len(edges) - 1
    n_probes = number_of_probes(people.n, n_blocks, n_probes)
    probes = people.project(random_signs(people.n, n_probes, seed))
    probes32 = probes.astype(np.float32)

    def multiply(at: np.ndarray) -> np.ndarray:
        dosage, moments = people.dosages(rows[at], known and known.take(at))
        weight = np.square(inverse(moments.length))[:, None].astype(np.float32)
        return np.asarray(((dosage @ probes32) * weight).T @ dosage)

    sums = np.zeros((n_blocks, n_probes, people.n), np.float32)
    pieces = people.blocks(np.arange(len(rows)), edges.tolist())
    for at, product in zip(pieces, in_order(multiply, pieces, threads), strict=True):
        sums[np.searchsorted(edges, at[0], side="right") - 1] += product
        if progress is not None:
            progress(len(at))

    return ProbeSums.of_sums(lambda probe: sums[:, probe], probes, people.basis, n_blocks)


def correlation_products(
    people: StandardGenotypes,
    traits: Float64[np.ndarray, "samples traits"],
    rows: Int64[np.ndarray, " variants"],
    *,
    threads: int = 1,
) -> tuple[Float64[np.ndarray, "variants traits"], Moments]:
    """Correlation of every variant with every latent: the scan's r, from the genotypes.

    Parameters
    ----------
    people : StandardGenotypes
        Whose genotypes.
    traits : (samples, traits) float array
        Residual latents of length one.
    rows : (variants,) int array
        Rows of the genotype file.
    threads : int
        Blocks at once.
    """
    traits32 = traits.astype(np.float32)

    def correlate(some: np.ndarray) -> tuple[np.ndarray, Moments]:
        dosage, moments = people.dosages(some)
        return (dosage @ traits32) * inverse(moments.length)[:, None], moments

    done = list(in_order(correlate, people.blocks(rows), threads))
    moments = Moments(*(np.concatenate([getattr(m, name) for _, m in done])
                        for name in ("mean", "length", "maf")))  # fmt: skip
    return np.concatenate([r for r, _ in done]).astype(np.float64), moments


@dataclass(frozen=True)
class TraitMoments:
    """What the latents contribute: their products with variants and with one another.

    Parameters
    ----------
    products : (blocks, traits, traits) float array
        ``sum_j r_jk r_jl`` over the variants of each jackknife block.
    counts : (blocks,) int array
        Variants of each block.
    phenotypic : (traits, traits) float array
        ``y_k'y_l``, people who lack one of the two counting zero.
    n_free : (traits,) int array
        Dimensions left for each latent, its people minus the rank of the covariates.
    """

    products: Float64[np.ndarray, "blocks traits traits2"]
    counts: Int64[np.ndarray, " blocks"]
    phenotypic: Float64[np.ndarray, "traits traits2"]
    n_free: Float64[np.ndarray, " traits"]

    @property
    def chance(self) -> np.ndarray:
        """Mean product of two correlations when no variant matters."""
        return np.asarray(self.phenotypic / np.sqrt(np.outer(self.n_free, self.n_free)))


@dataclass(frozen=True)
class MomentEstimates:
    """Genetic covariance matrix and what follows from it, with jackknife errors."""

    covariance: Float64[np.ndarray, "traits traits2"]
    covariance_error: Float64[np.ndarray, "traits traits2"]
    correlation: Float64[np.ndarray, "traits traits2"]
    correlation_error: Float64[np.ndarray, "traits traits2"]
    kappa: float
    #: standard error of kappa from the probes, as a share of it
    kappa_error: float


def solve_moments(traits: TraitMoments, probes: ProbeSums) -> MomentEstimates:
    """Genetic covariance of all pairs, and standard errors over blocks of variants.

    The error of ``kappa`` that finitely many probes leave is added in quadrature. Correlations
    are not limited to -1 to 1, and are NaN where a heritability is not above zero.
    """
    by_probe = probes.kappa(traits.counts)
    kappa = float(by_probe.mean())
    kappa_error = float(by_probe.std(ddof=1) / np.sqrt(len(by_probe)) / kappa)
    total, n = traits.products.sum(axis=0), int(traits.counts.sum())
    covariance = (total / n - traits.chance) / kappa

    def without(block: int) -> np.ndarray:
        rest = n - int(traits.counts[block])
        beyond = (total - traits.products[block]) / rest - traits.chance
        return np.asarray(beyond / probes.kappa(traits.counts, block).mean())

    correlation = to_correlation(covariance)
    deleted = (without(block) for block in range(len(traits.counts)))
    both = np.stack([covariance, correlation])
    error, correlation_error = streamed_error(
        both, (np.stack([one, to_correlation(one)]) for one in deleted)
    )
    return MomentEstimates(
        covariance=covariance,
        covariance_error=np.hypot(error, covariance * kappa_error),
        correlation=correlation,
        correlation_error=correlation_error,
        kappa=kappa,
        kappa_error=kappa_error,
    )


def to_correlation(covariance: np.ndarray) -> np.ndarray:
    """Scale a covariance matrix by its own diagonal; NaN where that is not positive."""
    variance = np.where(np.diag(covariance) > 0, np.diag(covariance), np.nan)
    return np.asarray(covariance / np.sqrt(np.outer(variance, variance)))

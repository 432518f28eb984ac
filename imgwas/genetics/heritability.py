"""Heritability of every latent and their genetic correlations, from genotypes and the scan."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.cluster import available_cores
from imgwas.errors import DegenerateError, InconsistentError, explain
from imgwas.genetics.haseman_elston import (
    MomentEstimates,
    TraitMoments,
    correlation_products,
    probe_sums,
    solve_moments,
)
from imgwas.genetics.jackknife import block_edges
from imgwas.genetics.standard import (
    AlignedDesign,
    autosomal_rows,
    largest_group,
    packed,
    people_of,
)
from imgwas.genetics.stored import StoredScan
from imgwas.genotypes.relatives import warn_of_relatives
from imgwas.shapes import Float64
from imgwas.sumstats import SumStats
from imgwas.types import Genotypes, Samples

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: A genetic correlation is given where both heritabilities exceed this many standard errors.
CLEAR = 2.0


@dataclass(frozen=True)
class GeneticCovariance:
    """Heritabilities of latents and the genetic covariance of all pairs.

    Parameters
    ----------
    latents : tuple of str
        Names, in the order of the matrices.
    covariance, covariance_error : (latents, latents) float array
        Genetic covariance of latents of variance one; heritabilities on the diagonal. Neither is
        limited to a range.
    correlation, correlation_error : (latents, latents) float array
        Genetic correlation; NaN where a heritability is at most two standard errors.
    phenotypic : (latents, latents) float array
        Correlation of the latents themselves, covariates removed.
    n : (latents,) int array
        People with the latent.
    n_variants, n_blocks : int
        Variants used, and jackknife blocks.
    kappa, kappa_error : float
        Mean squared correlation of two variants beyond chance, and the relative error that random
        probes left in it. ``1/kappa`` is the effective number of variants.
    """

    latents: tuple[str, ...]
    covariance: Float64[np.ndarray, "latents latents2"]
    covariance_error: Float64[np.ndarray, "latents latents2"]
    correlation: Float64[np.ndarray, "latents latents2"]
    correlation_error: Float64[np.ndarray, "latents latents2"]
    phenotypic: Float64[np.ndarray, "latents latents2"]
    n: np.ndarray
    n_variants: int
    n_blocks: int
    kappa: float
    kappa_error: float

    @property
    def heritability(self) -> np.ndarray:
        """Share of each latent's variance that the variants explain together."""
        return np.diag(self.covariance).copy()

    @property
    def heritability_error(self) -> np.ndarray:
        """Standard errors of :attr:`heritability`."""
        return np.diag(self.covariance_error).copy()

    def table(self) -> pd.DataFrame:
        """One row per latent: ``latent, heritability, standard_error, z, n, n_variants``."""
        import pandas as pd

        return pd.DataFrame(
            {
                "latent": self.latents,
                "heritability": self.heritability,
                "standard_error": self.heritability_error,
                "z": self.heritability / self.heritability_error,
                "n": self.n,
                "n_variants": self.n_variants,
            }
        )

    def pairs(self) -> pd.DataFrame:
        """One row per pair of latents, with genetic and phenotypic correlation."""
        import pandas as pd

        one, other = np.triu_indices(len(self.latents), 1)
        names = np.array(self.latents, object)
        matrices = ("covariance", "covariance_error", "correlation", "correlation_error")
        return pd.DataFrame(
            {"latent_1": names[one], "latent_2": names[other]}
            | {f"genetic_{name}": getattr(self, name)[one, other] for name in matrices}
            | {"phenotypic_correlation": self.phenotypic[one, other]}
        )

    def matrix(self, name: str = "correlation") -> pd.DataFrame:
        """One of the square matrices, with the names of the latents on both sides."""
        import pandas as pd

        return pd.DataFrame(getattr(self, name), list(self.latents), list(self.latents))


def estimate_heritability(
    genotypes: Genotypes,
    design: AlignedDesign,
    *,
    sumstats: SumStats | None = None,
    min_maf: float = 0.01,
    n_blocks: int = 100,
    n_probes: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> GeneticCovariance:
    """Estimate every heritability and genetic correlation by randomised Haseman-Elston regression.

    The model for latents k and l, covariates removed, is
    ``cov(y_k, y_l) = S_kl A + E_kl I`` with ``A`` the relationship matrix of the variants. The
    products ``y_k'A y_l`` come from the statistics of the scan, the scale of ``A`` from random
    vectors in one pass over the genotypes; standard errors from leaving out blocks of variants.

    Parameters
    ----------
    genotypes : Genotypes
        Those of the scan.
    design : AlignedDesign
        People, covariates and latents: ``imgwas.association.build_design(genotypes.samples,
        latents, covariates)``, with the options of the scan.
    sumstats : SumStats, optional
        Results of the scan of that design. Without them the statistics are computed here.
    min_maf : float, default 0.01
        Variants with a minor allele this rare or rarer are left out.
    n_blocks : int, default 100
        Jackknife blocks.
    n_probes : int, optional
        Random vectors; their error is part of the standard errors. By default 4, or as many as
        make 20,000 with the number of people, which leaves an error of about 1.4 per cent.
    seed : int
        Of the random vectors.
    threads : int, optional
        The cores this process may use by default.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    GeneticCovariance
        ``heritability`` with standard errors, genetic covariance and correlation matrices. A
        genetic correlation is NaN where a heritability is at most two standard errors. Nothing is
        cut off at 0, 1 or -1.

    Raises
    ------
    DegenerateError
        If too few variants are left, or none varies.
    InconsistentError
        If the results are of another design or other genotypes.

    Notes
    -----
    Autosomes only. People are taken as unrelated; with relatives, environment that families share
    counts as genetic. Latents that are missing for different people use the scale of ``A`` of the
    largest group of people, corrected for their own number.

    References
    ----------
    .. [1] Wu & Sankararaman (2018), Bioinformatics 34:i187.
    .. [2] Pazokitoroudi et al. (2020), Nature Communications 11:4020.
    .. [3] Wu et al. (2022), AJHG 109:273.
    """
    check_range("min_maf", min_maf, low=0, high=0.5)
    check_range("n_probes", n_probes or 2, low=2, high=1000)
    reader = packed(genotypes)
    threads = threads or available_cores()
    group = largest_group(design)
    people = people_of(reader, design, group)
    warn_of_relatives(reader.samples, people.columns)
    source: StoredScan | _FromGenotypes
    if sumstats is not None:
        check_same_samples(sumstats, design, reader.samples)
        source = StoredScan.open(sumstats, reader, design, min_maf)
    else:
        source = _FromGenotypes.scan(reader, design, min_maf, threads)
    check_variants(source.rows, min_maf)
    edges = block_edges(len(source.rows), n_blocks)
    probes = probe_sums(
        people,
        source.rows,
        edges,
        n_probes=n_probes,
        seed=seed,
        known=source.known,
        threads=threads,
        progress=progress,
    )
    traits = TraitMoments(
        products=source.products(edges),
        counts=np.diff(edges),
        phenotypic=phenotypic_correlation(design),
        n_free=np.concatenate(
            [np.full(len(g.names), int(g.used.sum()) - g.rank, float) for g in design.groups]
        ),
    )
    n = np.concatenate([np.full(len(g.names), int(g.used.sum())) for g in design.groups])
    return named(names_of(design), n, traits, solve_moments(traits, probes))


def named(
    names: tuple[str, ...], n: np.ndarray, traits: TraitMoments, found: MomentEstimates
) -> GeneticCovariance:
    """Give estimates the names of their latents; hide correlations of what is unclear."""
    h2, error = np.diag(found.covariance), np.diag(found.covariance_error)
    clear = h2 > CLEAR * error
    if not clear.all():
        logger.warning(
            "%d of %d latents have a heritability within %g standard errors of zero; their genetic "
            "correlations are not defined (NaN)", (~clear).sum(), len(clear), CLEAR,
        )  # fmt: skip
    hidden = np.where(np.outer(clear, clear), 0.0, np.nan)
    return GeneticCovariance(
        latents=names,
        covariance=found.covariance,
        covariance_error=found.covariance_error,
        correlation=found.correlation + hidden,
        correlation_error=found.correlation_error + hidden,
        phenotypic=traits.phenotypic,
        n=n,
        n_variants=int(traits.counts.sum()),
        n_blocks=len(traits.counts),
        kappa=found.kappa,
        kappa_error=found.kappa_error,
    )


@dataclass(frozen=True)
class _FromGenotypes:
    """Correlations of variants and latents computed here, where there are no results of a scan."""

    rows: np.ndarray
    correlations: np.ndarray
    known: None = None

    @classmethod
    def scan(
        cls, genotypes: Any, design: AlignedDesign, min_maf: float, threads: int
    ) -> _FromGenotypes:
        rows = autosomal_rows(genotypes)
        good = np.ones(len(rows), bool)
        pieces = []
        for group in design.groups:
            people = people_of(genotypes, design, group)
            traits = group.traits[group.used]
            found, moments = correlation_products(people, traits, rows, threads=threads)
            good &= (moments.length > 0) & (moments.maf > min_maf)
            pieces.append(found)
        return cls(rows[good], np.concatenate(pieces, axis=1)[good])

    def products(self, edges: np.ndarray) -> np.ndarray:
        """Sum of ``r r'`` over each block."""
        blocks = itertools.pairwise(edges)
        some = [self.correlations[start:stop] for start, stop in blocks]
        return np.stack([r.T @ r for r in some])


def names_of(design: AlignedDesign) -> tuple[str, ...]:
    """Latents of a design, group by group."""
    return tuple(name for group in design.groups for name in group.names)


def phenotypic_correlation(design: AlignedDesign) -> np.ndarray:
    """Products of the residual latents, zero where a person lacks one of the two."""
    traits = np.concatenate([group.traits for group in design.groups], axis=1)
    return np.asarray(traits.T @ traits)


def check_variants(rows: np.ndarray, min_maf: float) -> None:
    """Refuse when no variant is left."""
    if not len(rows):
        raise DegenerateError(
            explain(
                "no autosomal variant varies among the analysed samples",
                expected=f"Variants with a minor allele frequency above {min_maf:g} are used",
                do="Lower --min-maf, or check that these are the genotypes of these people",
            )
        )


def check_same_samples(sumstats: SumStats, design: AlignedDesign, samples: Samples) -> None:
    """Refuse a design that is not the one the results were computed with."""
    recorded = [(g["n"], g["rank"], tuple(g["latents"])) for g in sumstats.metadata["groups"]]
    given = [(int(g.used.sum()), g.rank, tuple(g.names)) for g in design.groups]
    strangers = sorted(set(names_of(design)) - set(sumstats.latents))
    if strangers:
        raise InconsistentError(
            explain(
                f"{len(strangers):,} latents are not in {sumstats.folder} "
                f"(first: {', '.join(strangers[:3])})",
                expected=f"It has {', '.join(sumstats.latents[:8])}",
                do="Give the table of latents that was scanned",
            )
        )
    ids = "\n".join(samples.sample_ids[i] for i in design.sample_columns)
    digest = hashlib.sha256(ids.encode("utf-8", "surrogateescape")).hexdigest()
    same_people = digest == sumstats.metadata["identity"]["samples"]
    if recorded != given or not same_people:
        what = "covariates or latents" if same_people else "samples"
        raise InconsistentError(
            explain(
                f"the {what} are not those of the scan in {sumstats.folder}",
                expected=f"The scan had {_sizes(recorded)}; here are {_sizes(given)}",
                do="Give the same --bfile, --latents, --covar, --keep and --remove as for the scan",
            )
        )


def _sizes(groups: list[tuple[int, int, tuple[str, ...]]]) -> str:
    n, rank, _ = groups[0]
    latents = sum(len(names) for _, _, names in groups)
    return f"{n:,} samples, {latents:,} latents and {rank:,} covariate dimensions"

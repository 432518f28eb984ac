"""Heritability from the folder of a scan alone: no genotypes, no latents, no covariates."""

from __future__ import annotations

import numpy as np

from imgwas.arrow import to_numpy
from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.genetics.haseman_elston import TraitMoments, solve_moments
from imgwas.genetics.heritability import GeneticCovariance, check_variants, named
from imgwas.genetics.jackknife import FEWEST_IN_BLOCK
from imgwas.genetics.stored import StoredScan, usable
from imgwas.shapes import Int64
from imgwas.sumstats import SumStats
from imgwas.sumstats.probes import MIN_MAF, N_BLOCKS, PROBES, StoredProbes


def heritability_of_scan(sumstats: SumStats) -> GeneticCovariance:
    """Estimate every heritability and genetic correlation from what a scan kept.

    The scan must have been made by ``associate(..., heritability=True)``, which multiplies the
    genotypes with random vectors in its own pass. The method, the variants and the random vectors
    are those of :func:`imgwas.genetics.heritability.estimate_heritability` with its defaults:
    autosomal variants with a minor allele frequency above 1 %, 100 jackknife blocks, seed 0.

    Parameters
    ----------
    sumstats : SumStats
        The finished scan.

    Returns
    -------
    GeneticCovariance
        Heritabilities, genetic covariances and correlations, with errors.

    Raises
    ------
    IncompleteError
        If the scan was made without ``heritability``.
    MalformedError
        If its sums are not those of its statistics.
    DegenerateError
        If filters left too few variants.

    Notes
    -----
    Blocks have equally many variants of those read, before filters and the limit on frequency, so
    that an error differs a little from that of a pass of its own; blocks left empty do not count.
    """
    probes = StoredProbes.read(sumstats.folder)
    groups = sumstats.metadata["groups"]
    names = tuple(name for group in groups for name in group["latents"])
    stored = _chosen(sumstats, names, len(groups))
    counts = _block_counts(stored.rows, probes, sumstats)
    full = np.flatnonzero(counts)
    _check_enough(counts)
    edges = np.concatenate([[0], np.cumsum(counts[full])])
    sizes = [len(group["latents"]) for group in groups]
    traits = TraitMoments(
        products=stored.products(edges),
        counts=counts[full],
        phenotypic=sumstats.latent_correlation().loc[list(names), list(names)].to_numpy(),
        n_free=np.repeat([float(group["n"] - group["rank"]) for group in groups], sizes),
    )
    n = np.repeat([int(group["n"]) for group in groups], sizes)
    return named(names, n, traits, solve_moments(traits, probes.sums.take(full)))


def _chosen(sumstats: SumStats, names: tuple[str, ...], n_groups: int) -> StoredScan:
    columns = ["chromosome", "row"]
    columns += [f"{what}.{g}" for g in range(n_groups)
                for what in ("reason", "effect_allele_frequency")]  # fmt: skip
    kept, rows = [], []
    for block in sumstats.iter_blocks(columns):
        keep = usable(block, n_groups, MIN_MAF)
        kept.append(keep)
        rows.append(to_numpy(block["row"])[keep])
    return StoredScan(
        sumstats, names, np.concatenate(kept), np.concatenate(rows).astype(np.int64), None
    )


def _block_counts(rows: np.ndarray, probes: StoredProbes, sumstats: SumStats) -> np.ndarray:
    """Variants of each block, which must be those that the scan multiplied."""
    block = np.searchsorted(probes.first_rows, rows, side="right") - 1
    counts = np.bincount(block, minlength=len(probes.counts))
    if probes.digest != sumstats.metadata["digest"] or not np.array_equal(counts, probes.counts):
        raise MalformedError(
            explain(
                f"{PROBES} in {sumstats.folder} is not of the statistics beside it",
                expected=f"It was made of {int(probes.counts.sum()):,} variants, and "
                f"{len(rows):,} of the statistics belong to it",
                do="Give the genotypes (imgwas heritability --bfile), or scan anew",
            )
        )
    return np.asarray(counts)


def _check_enough(counts: Int64[np.ndarray, " blocks"]) -> None:
    n = int(counts.sum())
    check_variants(np.arange(n), MIN_MAF)
    if n < FEWEST_IN_BLOCK * N_BLOCKS:
        raise DegenerateError(
            explain(
                f"{n:,} variants are left",
                expected=f"At least {FEWEST_IN_BLOCK * N_BLOCKS:,} are needed for {N_BLOCKS} "
                "jackknife blocks",
                do="Use fewer --blocks (10 at least), which reads the genotypes",
            )
        )

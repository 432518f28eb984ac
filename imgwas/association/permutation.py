"""The null by permutation: whole rows of residual latents are dealt out to other people.

One shuffle serves all variants, so that linkage disequilibrium, the correlation of the latents and
the pattern of their missing values all stay as they are, and only the tie between genotype and
latents is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from imgwas.association.alignment import align
from imgwas.association.design import build_design
from imgwas.association.engines import make_workspace
from imgwas.association.parts import scan_rows
from imgwas.association.selection import Selection, select
from imgwas.association.task import ScanSettings, ScanTask, make_task
from imgwas.checks import check_option, check_range
from imgwas.cluster import available_cores
from imgwas.genotypes.filters import VariantFilters
from imgwas.sumstats.joint import IN_SCAN
from imgwas.sumstats.omnibus_null import OmnibusNull
from imgwas.types import Covariates, Genotypes, Latents


def permute_latents(
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    selection: Selection | None = None,
    rank_normal: bool = False,
    seed: int,
) -> Latents:
    """Latents under the null: residuals given the covariates, their rows shuffled together.

    Parameters
    ----------
    genotypes, latents, covariates, selection, rank_normal
        What the scan is given. The rows of the people it analyses are shuffled.
    seed : int
        Decides the shuffle.

    Returns
    -------
    Latents
        For the same scan with the same covariates; a missing value moves with its row. Values are
        residuals of length one.

    References
    ----------
    .. [1] Freedman & Lane (1983), JBES 1:292. Winkler et al. (2014), NeuroImage 92:381.
    """
    keep = selection.sample_columns if selection is not None else None
    people = genotypes.samples
    design = build_design(
        people, latents, covariates, keep=keep, min_overlap=0.0, rank_normal=rank_normal
    )
    rows = align(people, latents, covariates, keep=keep, min_overlap=0.0).latent_rows
    residual = np.full((len(rows), len(latents.names)), np.nan)
    for group in design.groups:
        residual[np.ix_(group.used, group.columns)] = group.traits[group.used]
    values = np.full((len(latents.sample_ids), len(latents.names)), np.nan)
    values[rows] = np.random.default_rng(seed).permutation(residual)
    return replace(latents, values=values)


def permute_omnibus(
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates | None = None,
    *,
    selection: Selection | None = None,
    filters: VariantFilters | None = None,
    missing_genotype: str = "mean",
    rank_normal: bool = False,
    threads: int | None = None,
    n_permutations: int,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> OmnibusNull:
    """Scan permuted latents and keep the tests of all latents at once; nothing is written.

    Parameters
    ----------
    genotypes, latents, covariates, selection, filters, missing_genotype, rank_normal, threads
        What :func:`imgwas.associate` is given.
    n_permutations : int
        Each costs a scan. A permutation P reaches down to one over (permutations x variants); a
        family-wise one to one over permutations.
    seed : int
        Decides the shuffles.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    OmnibusNull
        Variants are those of the scan.
    """
    check_range("n_permutations", n_permutations, low=1, high=100_000)
    check_option("missing_genotype", missing_genotype, ["mean", "drop"])
    settings = ScanSettings(
        missing_genotype="drop" if missing_genotype == "drop" else "mean",
        filters=filters or VariantFilters(),
        omnibus=True,
    )
    chosen = selection if selection is not None else select(genotypes)
    seeds = np.random.SeedSequence(seed).generate_state(n_permutations)
    found: dict[str, list[np.ndarray]] = {name: [] for name in IN_SCAN}
    for number in seeds.tolist():
        shuffled = permute_latents(
            genotypes, latents, covariates, seed=number, selection=chosen, rank_normal=rank_normal
        )
        design = build_design(
            genotypes.samples, shuffled, covariates, keep=chosen.sample_columns, min_overlap=0.0
        )
        task = make_task(genotypes, design, chosen.rows, settings, Path())
        for name, values in _scan(task, threads or available_cores(), progress).items():
            found[name].append(values)
    return OmnibusNull({name: np.stack(values) for name, values in found.items()})


def _scan(
    task: ScanTask, threads: int, progress: Callable[[int], object] | None
) -> dict[str, np.ndarray]:
    """Compute the omnibus columns of every block, a few blocks a thread at a time."""
    _ = task.matrices, task.panels, task.kinds, task.omnibus
    blocks = [rows for part in range(task.n_parts) for rows in task.blocks(part)]
    task.omnibus["autosome"].check()

    def some(number: int) -> list[dict[str, np.ndarray]]:
        workspace = make_workspace(task)
        found = []
        for rows in blocks[number::threads]:
            found.append(scan_rows(task, rows, workspace).omnibus)
            if progress is not None:
                progress(len(rows))
        return found

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        shares = list(pool.map(some, range(threads)))
    ordered = [shares[i % threads][i // threads] for i in range(len(blocks))]
    return {name: np.concatenate([block[name] for block in ordered]) for name in IN_SCAN}

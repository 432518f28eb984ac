"""Weights of polygenic scores: clumped variants below a threshold, or all variants by ridge."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, RefusedError, UsageError, explain
from imgwas.genetics.greml import decompose, fit_variance_components, relationship_matrix
from imgwas.genetics.polygenic import VARIANT_COLUMNS, PolygenicScores
from imgwas.genetics.replication_lookup import effects_at
from imgwas.genetics.standard import (
    AlignedDesign,
    StandardGenotypes,
    autosomal_rows,
    inverse,
    packed,
    people_of,
)
from imgwas.latents.ledger import mark_people
from imgwas.shapes import Float64
from imgwas.sumstats import SumStats, neg_log10_p_value
from imgwas.types import Genotypes

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

MOST_PEOPLE = 20_000


def clump_scores(
    sumstats: SumStats,
    index_variants: pd.DataFrame,
    people: Sequence[str],
    *,
    thresholds: Sequence[float] = (5e-8,),
    latents: Sequence[str] | None = None,
) -> PolygenicScores:
    """Make scores of clumped variants: the scan's beta where P is below a threshold, else zero.

    Parameters
    ----------
    sumstats : SumStats
        The scan.
    index_variants : DataFrame
        Variants that clumping left, ``chromosome`` and ``base_pair_location`` and, where two share
        a place, ``variant_id``. With a column ``latent`` a variant counts for that latent only.
    people : sequence of str
        Ids of everyone who was scanned: the scores are never evaluated on them.
    thresholds : sequence of float
        P values; several make several scores a latent, named ``L000_p1e-05``.
    latents : sequence of str, optional
        All by default.

    Raises
    ------
    DegenerateError
        If no variant passes any threshold.
    RefusedError
        If there are fewer people than were scanned.
    """
    _check_people(sumstats, people)
    for threshold in thresholds:
        check_range("a threshold", threshold, low=0, high=1)
    names = list(latents) if latents is not None else list(sumstats.latents)
    rows = effects_at(sumstats, index_variants, names, by_id=True)
    p = neg_log10_p_value(rows.t, rows.dof)
    allowed = np.ones(p.shape, bool)
    if "latent" in index_variants:
        allowed = _named_pairs(index_variants, rows.variants, names)
    weights, labels = [], []
    for threshold in thresholds:
        passed = allowed & (p >= -np.log10(threshold)) & np.isfinite(rows.beta)
        weights.append(np.where(passed, rows.beta, 0.0))
        labels += [one if len(thresholds) == 1 else f"{one}_p{threshold:g}" for one in names]
    matrix = np.concatenate(weights, axis=1)
    kept = np.flatnonzero(matrix.any(axis=1))
    if not len(kept):
        raise DegenerateError(
            explain(f"none of {len(matrix):,} variants has P below {max(thresholds):g}",
                    do="Raise --p")
        )  # fmt: skip
    variants = rows.variants.assign(effect_allele_frequency=rows.frequency)
    return PolygenicScores(
        variants=variants[list(VARIANT_COLUMNS)].iloc[kept].reset_index(drop=True),
        weights=matrix[kept],
        names=tuple(labels),
        intercepts=np.zeros(len(labels)),
        fitted_on=(mark_people(people),),
        source={"method": "clump and threshold", "thresholds": list(thresholds)},
        genome_build=sumstats.metadata.get("genome_build"),
    )


def _check_people(sumstats: SumStats, people: Sequence[str]) -> None:
    n = int(sumstats.metadata["samples"]["kept"])
    if len(set(people)) < n:
        raise RefusedError(
            explain(
                f"{len(set(people)):,} people are named and {n:,} were scanned",
                expected="Everyone who was scanned, so that scores are not evaluated on them",
                do="Name the table of latents of the scan, or its --keep list",
            )
        )


def _named_pairs(leads: pd.DataFrame, variants: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Which variant counts for which latent."""
    from imgwas.sumstats.effects import chromosome_code

    wanted = {
        (chromosome_code(str(c)), int(p), str(k))
        for c, p, k in zip(leads["chromosome"], leads["base_pair_location"], leads["latent"],
                           strict=True)
    }  # fmt: skip
    places = zip(variants["chromosome"], variants["base_pair_location"], strict=True)
    return np.array([[(int(c), int(p), k) in wanted for k in names] for c, p in places], bool)


def ridge_scores(
    genotypes: Genotypes,
    design: AlignedDesign,
    *,
    heritability: float | None = None,
    min_maf: float = 0.01,
    min_heritability: float = 0.01,
    threads: int = 1,
    genome_build: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> PolygenicScores:
    """Fit all variants at once: ridge regression, the best linear unbiased predictor.

    ``y = C c + G w + e`` with ``w_j ~ N(0, h2 s2 / M)`` for standardised genotypes. With
    ``P A P = U D U'`` of the relationship matrix, ``a = U h2 (h2 D + 1 - h2)^-1 U'y`` and
    ``w = G'a (n - rank) / M``: one decomposition for all latents, one product a block.

    Parameters
    ----------
    genotypes : Genotypes
        Opened genotypes; autosomes are used.
    design : AlignedDesign
        From ``imgwas.association.build_design``: the people, covariates and latents.
    heritability : float, optional
        The same for every latent; by default each latent's own, by restricted maximum likelihood.
    min_maf : float, default 0.01
        Variants with a minor allele this rare or rarer are left out.
    min_heritability : float, default 0.01
        Latents with less have no score; they are named in the log.
    threads : int
        Of the relationship matrix.
    genome_build : str, optional
        Of the positions.
    progress : callable, optional
        Told how many variants are done, in two passes.

    Raises
    ------
    DegenerateError
        If there are more than 20,000 people, or no latent is heritable.

    References
    ----------
    .. [1] Henderson (1975), Biometrics 31:423. Yang et al. (2011), AJHG 88:76.
    """
    if heritability is not None:
        check_range("heritability", heritability, low=1e-6, high=1 - 1e-6)
    reader = packed(genotypes)
    tables = [
        _ridge_group(reader, design, group, heritability, min_maf, min_heritability, threads,
                     progress)
        for group in design.groups
    ]  # fmt: skip
    names = [name for _, some in tables for name in some]
    if not names:
        raise DegenerateError(
            explain("no latent is heritable enough for a score",
                    expected=f"A heritability of at least {min_heritability:g}")
        )  # fmt: skip
    weights = np.concatenate([matrix for matrix, _ in tables], axis=1)
    kept = np.flatnonzero(weights.any(axis=1))
    rows = autosomal_rows(reader)[kept]
    variants = reader.variants.take(rows).to_pandas()
    columns = np.asarray(design.sample_columns)
    variants["effect_allele_frequency"] = _frequencies(reader, rows, columns)
    ids = [reader.samples.sample_ids[column] for column in columns]
    return PolygenicScores(
        variants=variants[list(VARIANT_COLUMNS)],
        weights=weights[kept],
        names=tuple(names),
        intercepts=np.zeros(len(names)),
        fitted_on=(mark_people(ids),),
        source={"method": "ridge", "heritability": heritability, "min_maf": min_maf},
        genome_build=genome_build,
    )


def _ridge_group(
    reader: object, design: AlignedDesign, group: object, heritability: float | None,
    min_maf: float, min_heritability: float, threads: int,
    progress: Callable[[int], object] | None,
) -> tuple[np.ndarray, list[str]]:  # fmt: skip
    """Weights per copy of the autosomal variants for the latents of one group."""
    people = people_of(reader, design, group)  # type: ignore[arg-type]
    if people.n > MOST_PEOPLE:
        raise DegenerateError(
            explain(f"{people.n:,} people would need a relationship matrix of their square",
                    expected=f"At most {MOST_PEOPLE:,} people", do="Fit on some (--keep)")
        )  # fmt: skip
    rows = autosomal_rows(people.genotypes)
    matrix, n_variants = relationship_matrix(
        people, rows, min_maf=min_maf, threads=threads, progress=progress
    )
    values, vectors = decompose(matrix, people)
    unit = group.traits[group.used]  # type: ignore[attr-defined]
    rotated = vectors.T @ unit
    h2 = np.full(unit.shape[1], heritability or 0.0)
    if heritability is None:
        h2 = fit_variance_components(values, rotated)[0]
    good = np.flatnonzero(h2 >= min_heritability)
    names = [group.names[k] for k in good]  # type: ignore[attr-defined]
    for k in np.flatnonzero(h2 < min_heritability):
        logger.warning("%s has heritability %.3f: no score", group.names[k], h2[k])  # type: ignore[attr-defined]
    spread = np.minimum(h2[good], 1 - 1e-6)
    shrunk = rotated[:, good] * (spread / (spread * values[:, None] + 1 - spread))
    dual = vectors @ (shrunk * group.scale[good])  # type: ignore[attr-defined]
    weights = _weights(people, rows, dual, min_maf, progress)
    return weights * (people.n_free / max(n_variants, 1)), names


def _weights(
    people: StandardGenotypes, rows: np.ndarray, dual: np.ndarray, min_maf: float,
    progress: Callable[[int], object] | None,
) -> np.ndarray:  # fmt: skip
    """``G'a`` of standardised genotypes, turned into weights per copy."""
    out, at = np.zeros((len(rows), dual.shape[1])), 0
    for block in people.blocks(rows):
        genotypes, moments = people.standardised(block)
        good = (moments.maf > min_maf) & (moments.length > 0)
        product = genotypes.astype(np.float64) @ dual * inverse(moments.length)[:, None]
        out[at : at + len(block)] = np.where(good[:, None], product, 0.0)
        at += len(block)
        if progress is not None:
            progress(len(block))
    return out


def _frequencies(
    genotypes: Genotypes, rows: np.ndarray, columns: np.ndarray
) -> Float64[np.ndarray, " variants"]:
    """Frequency of the effect allele among some people."""
    step = max(1, 20_000_000 // max(genotypes.n_samples, 1))
    pieces = [
        np.nanmean(genotypes.read_dosages(rows[at : at + step])[:, columns], axis=1) / 2
        for at in range(0, len(rows), step)
    ]
    return np.concatenate(pieces).astype(np.float64) if pieces else np.empty(0)


def check_thresholds(values: Sequence[float]) -> None:
    """Refuse no thresholds at all."""
    if not values:
        raise UsageError(explain("there is no threshold", do="Give --p, such as 5e-8,1e-5"))

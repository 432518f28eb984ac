"""Scores of people: alleles matched, flips counted, all scores in one product a block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from imgwas.errors import InconsistentError, explain, first_ids
from imgwas.genetics.harmonise import Harmonised, VariantTable, harmonise_alleles
from imgwas.genetics.polygenic import PolygenicScores
from imgwas.types import Genotypes, Latents

logger = logging.getLogger(__name__)

_BLOCK_VALUES = 20_000_000
#: Below this share of a score's variants found, a warning says so.
FEW = 0.9


def apply_scores(
    scores: PolygenicScores,
    genotypes: Genotypes,
    *,
    people: Sequence[str] | None = None,
    same_strand: bool = False,
    genome_build: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Latents:
    """Compute every score of every person.

    ``intercept + sum_j w_j d_j`` with d the copies of the score's effect allele: where the
    genotype file counts the other allele, ``d = 2 - dosage``. A missing call takes twice the
    frequency stored with the score, or that of the people here where none is stored.

    Parameters
    ----------
    scores : PolygenicScores
        Weights.
    genotypes : Genotypes
        Opened genotypes.
    people : sequence of str, optional
        Ids to score; everyone by default.
    same_strand : bool
        The alleles of A/T and C/G variants are on the strand of the scores, as in the file they
        were fitted on. By default allele frequencies decide, and above 0.42 they are dropped.
    genome_build : str, optional
        Of the positions of the genotypes; compared with that of the scores.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    Latents
        One column a score. ``source`` holds ``matched`` (how many variants were the same, swapped,
        on the other strand, dropped, not found) and ``fitted_on``: with it
        :func:`imgwas.evaluate_scores` and :func:`imgwas.associate_traits` refuse people the
        weights were fitted on.

    Raises
    ------
    InconsistentError
        If no variant is found, or builds or people do not meet.
    """
    columns, ids = _columns(genotypes, people)
    pairs = match_variants(
        scores, genotypes, columns, same_strand=same_strand, genome_build=genome_build
    )
    values = np.tile(scores.intercepts, (len(ids), 1))
    stored = scores.variants["effect_allele_frequency"].to_numpy(np.float64)
    step = max(1, _BLOCK_VALUES // max(genotypes.n_samples, 1))
    order = np.argsort(pairs.theirs, kind="stable")
    for start in range(0, len(order), step):
        some = order[start : start + step]
        dosage = genotypes.read_dosages(pairs.theirs[some])[:, columns].astype(np.float64)
        flipped = pairs.sign[some] < 0
        dosage[flipped] = 2 - dosage[flipped]
        _fill(dosage, stored[pairs.ours[some]])
        values += dosage.T @ scores.weights[pairs.ours[some]]
        if progress is not None:
            progress(len(some))
    known = None if scores.fitted_on is None else [dict(one) for one in scores.fitted_on]
    source: dict[str, Any] = {
        "polygenic": True, "matched": pairs.counts, "fitted_on": known, "score": dict(scores.source)
    }  # fmt: skip
    return Latents(values, ids, scores.names, source=source)


def _columns(
    genotypes: Genotypes, people: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    everyone = genotypes.samples.sample_ids
    if people is None:
        return np.arange(len(everyone)), tuple(everyone)
    wanted = set(people)
    columns = [column for column, one in enumerate(everyone) if one in wanted]
    if not columns:
        raise InconsistentError(
            explain(f"none of {len(wanted):,} people has genotypes",
                    where=f"asked for {first_ids(list(people))}; genotypes {first_ids(everyone)}")
        )  # fmt: skip
    return np.array(columns), tuple(everyone[column] for column in columns)


def match_variants(
    scores: PolygenicScores,
    genotypes: Genotypes,
    columns: np.ndarray,
    *,
    same_strand: bool = False,
    genome_build: str | None = None,
) -> Harmonised:
    """Find the variants of scores in a genotype file; ``sign`` -1 is a swapped allele."""
    ours, theirs = scores.variants, genotypes.variants
    effect = ours["effect_allele"].tolist(), theirs["effect_allele"].to_pylist()
    other = ours["other_allele"].tolist(), theirs["other_allele"].to_pylist()
    ids = ours["variant_id"].map(str).tolist(), theirs["variant_id"].to_pylist()
    stored = ours["effect_allele_frequency"].to_numpy(np.float64)
    if same_strand:
        frequency = _by_letter(effect[0]), _by_letter(effect[1])
    else:
        frequency = stored, _palindromic_frequencies(genotypes, columns, ids, effect[1], other[1])
    pairs = harmonise_alleles(
        VariantTable(ids[0], effect[0], other[0], ours["chromosome"].map(str).tolist(),
                     ours["base_pair_location"].to_numpy(np.int64), frequency[0],
                     scores.genome_build),
        VariantTable(ids[1], effect[1], other[1], theirs["chromosome"].to_pylist(),
                     np.asarray(theirs["base_pair_location"], np.int64), frequency[1],
                     genome_build),
        names=("the scores", "the genotypes"),
    )  # fmt: skip
    shown = ", ".join(f"{what.replace('_', ' ')} {n:,}" for what, n in pairs.counts.items() if n)
    logger.info("%s of %s variants matched by %s: %s", f"{len(pairs.ours):,}", f"{len(ours):,}",
                pairs.by, shown)  # fmt: skip
    if len(pairs.ours) < FEW * len(ours):
        logger.warning("%.0f %% of the score's variants are in the genotypes",
                       100 * len(pairs.ours) / len(ours))  # fmt: skip
    return pairs


def _fill(dosage: np.ndarray, frequency: np.ndarray) -> None:
    """Replace missing calls, in place."""
    missing = np.isnan(dosage)
    if not missing.any():
        return
    called = np.maximum((~missing).sum(axis=1), 1)
    own = np.where(missing, 0.0, dosage).sum(axis=1) / called
    mean = np.where(np.isnan(frequency), own, 2 * frequency)
    np.copyto(dosage, mean[:, None], where=missing)


def _by_letter(alleles: Sequence[str]) -> np.ndarray:
    """Frequencies that tell a palindromic allele by its letter."""
    return np.array([0.25 if one in ("A", "C") else 0.75 for one in alleles])


def _palindromic_frequencies(
    genotypes: Genotypes, columns: np.ndarray, ids: tuple[list[str], list[str]],
    effect: Sequence[str], other: Sequence[str],
) -> np.ndarray:  # fmt: skip
    """Frequency of the effect allele of A/T and C/G variants that may be in a score, else NaN."""
    frequency = np.full(len(effect), np.nan)
    pairs = {("A", "T"), ("T", "A"), ("C", "G"), ("G", "C")}
    wanted = set(ids[0])
    named = not wanted.isdisjoint(ids[1])
    rows = np.array(
        [row for row, pair in enumerate(zip(effect, other, strict=True))
         if pair in pairs and (not named or ids[1][row] in wanted)], np.int64,
    )  # fmt: skip
    step = max(1, _BLOCK_VALUES // max(genotypes.n_samples, 1))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        dosage = genotypes.read_dosages(some)[:, columns].astype(np.float64)
        called = ~np.isnan(dosage)
        total = np.where(called, dosage, 0.0).sum(axis=1)
        frequency[some] = total / np.maximum(2 * called.sum(axis=1), 1)
    return frequency

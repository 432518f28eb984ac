"""Loci of a scan: significant variants clumped by LD, merged, named, across all latents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgwas._version import __version__
from imgwas.checks import check_option
from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.genetics.blocks import Interval, find_blocks, merge_blocks
from imgwas.genetics.definition import MHC, LocusDefinition, agree_on_build, define
from imgwas.genetics.genes import Genes, genes_for
from imgwas.genetics.ld import LdPanel, LdSettings
from imgwas.genetics.loci_table import Loci, make_table, no_loci
from imgwas.genetics.matching import are_scanned_people, genotype_rows
from imgwas.genetics.novelty import Catalogue, catalogue_for
from imgwas.genetics.scores import Scores, read_column, read_scores
from imgwas.sumstats import SumStats
from imgwas.types import Genotypes

logger = logging.getLogger(__name__)


def find_loci(
    sumstats: SumStats,
    genotypes: Genotypes | None = None,
    *,
    preset: str = "fuma",
    p1: float | None = None,
    p2: float | None = None,
    r2: float | None = None,
    lead_r2: float | None = None,
    kb: float | None = None,
    merge_kb: float | None = None,
    mhc: str | None = None,
    by: str = "best",
    latents: Sequence[str] | None = None,
    neg_log10_p: np.ndarray | str | None = None,
    columns: np.ndarray | None = None,
    ld: LdSettings | None = None,
    genome_build: str | None = None,
    genes: Genes | str | Path | None = None,
    catalogue: Catalogue | str | Path | None = None,
    catalogue_build: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Loci:
    """Turn the results of a scan into loci.

    LD is measured among the people of the genotypes given, which should be those of the scan.
    Nothing is computed with P, only with -log10 P.

    Parameters
    ----------
    sumstats : SumStats
        Results of :func:`imgwas.associate`.
    genotypes : Genotypes, optional
        Needed for LD: by every preset but ``distance``.
    preset : {"fuma", "plink", "distance"}
        Definition of a locus, see ``docs/loci.md``.
    p1, p2, r2, lead_r2, kb, merge_kb : float, optional
        Numbers of the preset to change.
    mhc : {"merge", "exclude", "keep"}, optional
        What happens to the MHC; merged where the genome build is known, kept otherwise.
    by : {"best", "latent"}
        Loci of the smallest P over the latents, or of each latent by itself.
    latents : sequence of str, optional
        Only these.
    neg_log10_p : (variants,) float array or str, optional
        Another -log10 P for every variant of the scan, to define loci in place of the best
        latent's; or the column of the results that holds it, such as ``omnibus.combined``.
    columns : (people,) int array, optional
        Columns of the genotype file whose people LD is measured among.
    ld : LdSettings, optional
        Kind of r², and how many people at most.
    genome_build : {"GRCh37", "GRCh38"}, optional
        If the scan did not record it.
    genes : Genes or path, optional
        For the nearest gene; see :func:`imgwas.read_genes`. By default the table shipped for the
        genome build.
    catalogue : Catalogue or path, optional
        Known associations; see :func:`imgwas.read_catalogue`.
    catalogue_build : str, optional
        Genome build of the catalogue's positions.
    progress : callable, optional
        Told the number of blocks found.

    Returns
    -------
    Loci
        One row a locus in ``table``, one row an independent significant variant in ``variants``,
        and the ``definition`` with everything needed to do it again. Both tables are empty where
        nothing is significant.

    Raises
    ------
    InconsistentError
        If the genotypes are not those of the scan, or genome builds differ.
    UsageError
        If an option has no meaning.
    """
    check_option("by", by, ("best", "latent"))
    build = agree_on_build(sumstats.metadata.get("genome_build"), genome_build)
    changes = {"p1": p1, "p2": p2, "r2": r2, "lead_r2": lead_r2, "kb": kb, "merge_kb": merge_kb}
    definition = define(preset, mhc, build, **changes)
    annotation = genes_for(genes, build)
    known = catalogue_for(catalogue, catalogue_build, build)
    if by == "latent" and neg_log10_p is not None:
        raise UsageError("by='latent' and neg_log10_p exclude each other: choose one.")
    scores = read_scores(sumstats, latents, definition.p1)
    ruler = _Ruler(sumstats, genotypes, columns, ld, definition, scores)
    described = {
        "imgwas_version": __version__,
        **definition.describe(),
        "on": by if neg_log10_p is None else _name_of(neg_log10_p),
        "latents": len(scores.latents),
        "genome_build": build,
        "mhc_interval": _mhc_text(definition, build),
        "ld": ruler.describe(),
        "genes": annotation.source if annotation else None,
        "catalogue": known.describe() if known else None,
    }
    tables = []
    for one in _sources(sumstats, scores, by, neg_log10_p):
        usable, excluded = _leave_out_mhc(one, definition, build)
        described["mhc_variants_excluded"] = excluded
        blocks = find_blocks(usable.variants, ruler, definition)
        if progress is not None:
            progress(len(blocks))
        region = _mhc_region(usable, definition, build)
        loci = merge_blocks(usable.variants, blocks, definition.merge_kb, region)
        tables.append((usable, _in_genome_order(loci, usable.chromosomes)))
    if not any(loci for _, loci in tables):
        logger.warning("no variant reaches P = %g; the table of loci is empty", definition.p1)
        return no_loci(described)
    return make_table(sumstats, tables, described, annotation, known)


class _Ruler:
    """r² of variants of the scan, by their number in the scan."""

    def __init__(
        self,
        sumstats: SumStats,
        genotypes: Genotypes | None,
        columns: np.ndarray | None,
        ld: LdSettings | None,
        definition: LocusDefinition,
        scores: Scores,
    ) -> None:
        self.panel: LdPanel | None = None
        if definition.preset == "distance":
            return
        if genotypes is None:
            raise UsageError(
                explain(
                    f"the preset {definition.preset!r} needs genotypes to measure LD",
                    do="Name those of the scan, or use preset='distance'",
                )
            )
        self.rows = genotype_rows(sumstats, genotypes, scores.row)
        self.panel = LdPanel(genotypes, columns, ld)
        chosen = np.arange(genotypes.n_samples) if columns is None else columns
        ids = tuple(genotypes.samples.sample_ids[i] for i in chosen)
        self.is_scan = are_scanned_people(sumstats, ids)
        if not self.is_scan:
            logger.warning(
                "LD is measured among %s people, who are not exactly the %s of the scan",
                f"{self.panel.n_people:,}",
                f"{sumstats.samples['kept']:,}",
            )
        self._check_significant(scores, definition)

    def _check_significant(self, scores: Scores, definition: LocusDefinition) -> None:
        with np.errstate(invalid="ignore"):
            hits = scores.variants.neg_log10_p >= -np.log10(definition.p1)
        lost = int((self.rows[hits] < 0).sum())
        if lost and lost == int(hits.sum()):
            raise InconsistentError(
                explain(
                    f"none of the {lost:,} significant variants is in the genotypes",
                    do="Name the genotypes that were scanned",
                )
            )
        if lost:
            logger.warning("%d significant variants have no genotypes and stand alone", lost)

    def __call__(self, index: int, others: np.ndarray) -> np.ndarray:
        r2 = np.full(len(others), np.nan)
        if self.panel is not None and self.rows[index] >= 0:
            there = self.rows[others] >= 0
            r2[there] = self.panel.r2(int(self.rows[index]), self.rows[others[there]])
        return r2

    def describe(self) -> dict[str, Any] | None:
        if self.panel is None:
            return None
        return {**self.panel.describe(), "people_are_those_of_the_scan": self.is_scan}


def _sources(
    sumstats: SumStats, scores: Scores, by: str, values: np.ndarray | str | None
) -> list[Scores]:
    if isinstance(values, str):
        values = read_column(sumstats, values)
    if by == "best":
        return [scores if values is None else scores.with_values(values)]
    return [
        scores.of_latent(number, sumstats.neg_log10_p(name))
        for number, name in enumerate(scores.latents)
        if (scores.pair_latent == number).any()
    ]


def _name_of(values: np.ndarray | str) -> str:
    return values if isinstance(values, str) else "given values"


def _mhc_text(definition: LocusDefinition, build: str | None) -> str | None:
    if definition.mhc == "keep" or build is None:
        return None
    return "6:{}-{}".format(*MHC[build])


def _mhc_region(
    scores: Scores, definition: LocusDefinition, build: str | None
) -> tuple[int, int, int] | None:
    if definition.mhc != "merge" or build is None or "6" not in scores.chromosomes:
        return None
    return (scores.chromosomes.index("6"), *MHC[build])


def _leave_out_mhc(
    scores: Scores, definition: LocusDefinition, build: str | None
) -> tuple[Scores, int]:
    if definition.mhc != "exclude" or build is None or "6" not in scores.chromosomes:
        return scores, 0
    start, end = MHC[build]
    variants = scores.variants
    inside = variants.chromosome == scores.chromosomes.index("6")
    inside &= (variants.position >= start) & (variants.position <= end)
    values = np.where(inside, np.nan, variants.neg_log10_p)
    logger.info("%s variants of the MHC are left out", f"{int(inside.sum()):,}")
    return scores.with_values(values).without(inside), int(inside.sum())


def _in_genome_order(loci: list[Interval], chromosomes: Sequence[str]) -> list[Interval]:
    from imgwas.sumstats.effects import chromosome_code

    def key(locus: Interval) -> tuple[int, int, int]:
        return chromosome_code(chromosomes[locus.chromosome]) or 1000, locus.chromosome, locus.start

    return sorted(loci, key=key)

"""The points of the interactive Manhattan plot, few enough to draw and small enough to embed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.plots.genome import GenomeAxis
from imgwas.plots.thin import thin_points
from imgwas.report.scan_numbers import Genome, ids_of
from imgwas.sumstats import SumStats

if TYPE_CHECKING:
    import pandas as pd

#: Every point from here on is kept; below, one for each cell of a grid.
KEEP_ABOVE = 4.0
#: Names of variants are embedded from here on.
NAMED_ABOVE = 5.0
#: So many points above :data:`KEEP_ABOVE` are kept one by one; more are thinned on a finer grid.
MOST_STRONG = 150_000
GRID, FINE_GRID = (1400, 260), (12_000, 1500)


def packed(values: np.ndarray, kind: str) -> str:
    """Base64 of little-endian numbers, ready for a typed array."""
    return base64.b64encode(values.astype(kind).tobytes()).decode("ascii")


def genome_axis(genome: Genome) -> GenomeAxis:
    """Chromosomes side by side."""
    return GenomeAxis.of(genome.chromosome, genome.position, genome.names)


def manhattan_data(
    sumstats: SumStats,
    genome: Genome,
    loci: pd.DataFrame,
    thresholds: Sequence[tuple[str, float]],
    on: str = "best",
) -> dict[str, Any]:
    """Everything that the page's script needs to draw.

    Parameters
    ----------
    sumstats : SumStats
    genome : Genome
    loci : DataFrame
        Table of loci; markers stand at their lead variants.
    thresholds : sequence of (label, -log10 P)
        Horizontal lines.
    on : str
        What the loci were found on; that is shown first.
    """
    axis = genome_axis(genome)
    x = axis.place(genome.chromosome, genome.position)
    layers = [_layer("best latent", sumstats, x, genome.best, genome.latent)]
    if "combined" in genome.omnibus:
        everywhere = np.where(np.isfinite(genome.omnibus["combined"]), -1, -2)
        layers.append(
            _layer("all latents together", sumstats, x, genome.omnibus["combined"],
                   everywhere)
        )  # fmt: skip
    return {
        "chromosomes": [
            {"name": genome.names[int(c)], "start": float(s), "end": float(e)}
            for c, s, e in zip(axis.chromosomes, axis.starts, axis.ends, strict=True)
        ],
        "latents": list(sumstats.latents),
        "thresholds": [{"label": name, "y": float(y)} for name, y in thresholds],
        "layers": layers,
        "first": first_layer(on, len(layers)),
        "loci": _markers(axis, genome, x, loci),
    }


def first_layer(on: str, n: int) -> int:
    """Number of the layer that the loci were found on."""
    return 1 if n > 1 and on.startswith("omnibus.") else 0


def _layer(
    title: str, sumstats: SumStats, x: np.ndarray, y: np.ndarray, latent: np.ndarray
) -> dict[str, Any]:
    tested = np.flatnonzero(np.isfinite(y))
    kept = tested[thinned(x[tested], y[tested].astype(np.float64))]
    kept = kept[np.argsort(x[kept], kind="stable")]
    named = np.flatnonzero(y[kept] >= NAMED_ABOVE)
    names = ids_of(sumstats, kept[named])
    return {
        "title": title,
        "n": len(kept),
        "total": len(tested),
        "x": packed(x[kept], "<u4"),
        "y": packed(y[kept], "<f4"),
        "latent": packed(latent[kept], "<i2"),
        "named": packed(named, "<u4"),
        "names": [names[row] for row in kept[named].tolist()],
    }


def thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points that draw the same picture: see :data:`KEEP_ABOVE` and :data:`MOST_STRONG`.

    Of each cell any one stays, not the first, which would show as stripes under a magnifier.
    """
    shuffled = np.random.default_rng(0).permutation(len(x))
    columns, rows = GRID
    kept = shuffled[
        thin_points(x[shuffled], y[shuffled], keep_above=KEEP_ABOVE, columns=columns, rows=rows)
    ]
    strong = kept[y[kept] >= KEEP_ABOVE]
    if len(strong) <= MOST_STRONG:
        return np.sort(kept)
    columns, rows = FINE_GRID
    fine = strong[
        thin_points(x[strong], y[strong], keep_above=float(y[strong].max()),
                    columns=columns, rows=rows)
    ]  # fmt: skip
    return np.sort(np.concatenate([kept[y[kept] < KEEP_ABOVE], fine]))


def _markers(
    axis: GenomeAxis, genome: Genome, x: np.ndarray, loci: pd.DataFrame
) -> list[dict[str, Any]]:
    markers = []
    best = rows_of_leads(genome, loci)
    for number, row in enumerate(loci.itertuples(index=False)):
        at = best[number]
        if at < 0:
            continue
        code = np.repeat(genome.chromosome[at], 2)
        start, end = axis.place(code, np.array([row.start, row.end], float))
        heights = [genome.best[at], genome.omnibus.get("combined", genome.best)[at]]
        gene = getattr(row, "nearest_gene", None)
        label = gene if isinstance(gene, str) and gene else row.lead_variant
        markers.append(
            {"panel": f"locus-{row.locus}", "label": str(label), "x": float(x[at]),
             "y": [float(h) if np.isfinite(h) else 0.0 for h in heights],
             "start": float(start), "end": float(end)}
        )  # fmt: skip
    return markers


def rows_of_leads(genome: Genome, loci: pd.DataFrame) -> list[int]:
    """Number in the scan of each lead variant, or -1 where the scan lacks it."""
    numbers = []
    for row in loci.itertuples(index=False):
        here = np.flatnonzero(
            (genome.position == row.base_pair_location)
            & (genome.chromosome == genome.number_of(str(row.chromosome)))
        )
        values = np.where(np.isfinite(genome.best[here]), genome.best[here], -1)
        numbers.append(int(here[values.argmax()]) if len(here) else -1)
    return numbers

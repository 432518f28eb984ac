"""Genes of a region in lanes, with their strands, so that neither bodies nor names overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from imgwas.genetics import genes as gene_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Inches of a lane, inches a character of a gene's name takes, and lanes drawn at most.
LANE, CHARACTER, MOST_LANES = 0.17, 0.056, 10
_CODING, _OTHER = "#1F4E79", "#8A8A8A"


class Placed(NamedTuple):
    """A gene with its lane; positions in base pairs."""

    name: str
    start: int
    end: int
    strand: str
    coding: bool
    lane: int


def genes_inside(
    genes: gene_tables.Genes, chromosome: str, start: float, end: float, inches: float
) -> tuple[list[Placed], int]:
    """Genes that reach into a region, in lanes, and how many found no room.

    Protein-coding genes are placed first, the longest first, then the others.

    Parameters
    ----------
    genes : Genes
    chromosome : str
    start, end : float
        Of the region.
    inches : float
        Width of the picture of the region.
    """
    here = [i for i, name in enumerate(genes.chromosome) if name in (chromosome, f"chr{chromosome}")
            and genes.start[i] <= end and genes.end[i] >= start]  # fmt: skip
    coding = [genes.biotype[i] in ("protein_coding", "") for i in here]
    length = [int(genes.end[i] - genes.start[i]) for i in here]
    order = np.lexsort((np.array(here), -np.array(length), ~np.array(coding, bool)))
    scale = (end - start) / inches
    lanes: list[list[tuple[float, float]]] = []
    placed, seen, left_out = [], set(), 0
    for number in order.tolist():
        i = here[number]
        key = (genes.name[i], int(genes.start[i]))
        if key in seen:
            continue
        seen.add(key)
        reach = extent(genes.name[i], int(genes.start[i]), int(genes.end[i]), start, end, scale)
        lane = _lane(lanes, reach)
        if lane < MOST_LANES:
            lanes[lane].append(reach)
            placed.append(Placed(genes.name[i], int(genes.start[i]), int(genes.end[i]),
                                 genes.strand[i], coding[number], lane))  # fmt: skip
        else:
            left_out += 1
    return placed, left_out


def extent(
    name: str, first: int, last: int, start: float, end: float, scale: float
) -> tuple[float, float]:
    """Room that a gene and its name take, in base pairs."""
    middle = (max(first, start) + min(last, end)) / 2
    half = (len(name) + 2) * CHARACTER / 2 * scale
    middle = min(max(middle, start + half), max(end - half, start + half))
    return min(middle - half, max(first, start)), max(middle + half, min(last, end))


def _lane(lanes: list[list[tuple[float, float]]], reach: tuple[float, float]) -> int:
    for number, taken in enumerate(lanes):
        if all(reach[0] > last or reach[1] < first for first, last in taken):
            return number
    if len(lanes) < MOST_LANES:
        lanes.append([])
        return len(lanes) - 1
    return MOST_LANES


def draw_genes(
    ax: Axes, placed: list[Placed], left_out: int, start: float, end: float, inches: float
) -> None:
    """Draw genes as lines with their names above; an arrow tells the strand."""
    scale = (end - start) / inches
    lanes = max((gene.lane for gene in placed), default=0) + 1
    for gene in placed:
        colour = _CODING if gene.coding else _OTHER
        left, right = max(gene.start, start), min(gene.end, end)
        y = -gene.lane
        ax.plot([left, max(right, left + 0.012 * scale)], [y, y], color=colour, linewidth=1.8,
                solid_capstyle="butt")  # fmt: skip
        arrow = {"+": f"{gene.name} →", "-": f"← {gene.name}"}.get(gene.strand, gene.name)
        first, last = extent(gene.name, gene.start, gene.end, start, end, scale)
        half = (len(gene.name) + 2) * CHARACTER / 2 * scale
        middle = min(max((left + right) / 2, start + half), max(end - half, start + half))
        ax.text(min(max(middle, first + half), last - half), y + 0.16, arrow, fontsize=5.5,
                ha="center", va="bottom", style="italic", color=colour)  # fmt: skip
    ax.set_ylim(-lanes + 0.6, 0.85)
    ax.set_xlim(start, end)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    words = [f"and {left_out:,} more genes"] if left_out else []
    words += ["no gene of the table here"] if not placed else []
    if words:
        ax.annotate(words[0], (1, 0), (0, 2), xycoords="axes fraction", fontsize=5.5,
                    textcoords="offset points", ha="right", va="bottom",
                    color="#555555")  # fmt: skip

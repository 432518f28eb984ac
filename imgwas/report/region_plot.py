"""The surroundings of loci: P values of the scan, with LD and genes where these are given."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.arrow import to_numpy
from imgwas.genetics.genes import Genes
from imgwas.genetics.ld import LdPanel
from imgwas.genetics.matching import genotype_rows
from imgwas.report.pictures import plain
from imgwas.report.scan_numbers import Genome
from imgwas.sumstats import SumStats
from imgwas.types import Genotypes

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

logger = logging.getLogger(__name__)

#: Bases on either side of a locus.
AROUND = 300_000
#: Variants that make a figure.
FEWEST = 4
GENOME_WIDE = 5e-8


@dataclass
class Surroundings:
    """Draws regions of one scan; LD is read once for all of them.

    Parameters
    ----------
    genome : Genome
    study_wide : float
        P of the dashed line.
    values : (variants,) float array
        -log10 P that defined the loci.
    what : str
        What these are, in words.
    genes : Genes, optional
        Drawn below.
    panel : LdPanel, optional
        For r² with the lead variant.
    rows : (variants,) int array, optional
        Row of the genotype file of every variant, -1 where it lacks it.
    """

    genome: Genome
    study_wide: float | None
    values: np.ndarray
    what: str
    genes: Genes | None = None
    panel: LdPanel | None = None
    rows: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        sumstats: SumStats,
        genome: Genome,
        on: str,
        genotypes: Genotypes | None,
        genes: Genes | None,
    ) -> Surroundings:
        """Match the genotypes to the scan, and choose the P that the loci are made of."""
        drawn: tuple[float | None, np.ndarray, str] = (
            GENOME_WIDE / max(len(sumstats.latents), 1), genome.best, "Smallest P over the latents"
        )  # fmt: skip
        if on.startswith("omnibus.") and on.removeprefix("omnibus.") in genome.omnibus:
            drawn = (None, genome.omnibus[on.removeprefix("omnibus.")], "P of all latents together")
        if genotypes is None:
            return cls(genome, *drawn, genes)
        blocks = [to_numpy(block["row"]) for block in sumstats.iter_blocks(["row"])]
        rows = genotype_rows(sumstats, genotypes, np.concatenate(blocks).astype(np.int64))
        return cls(genome, *drawn, genes, LdPanel(genotypes), rows)

    def says(self) -> str:
        """What a caption says of the colours."""
        if self.panel is None:
            return f"{self.what}. No genotypes were given, so LD is not shown."
        return (
            f"{self.what}. Colours: r² with the lead variant among {self.panel.n_people:,} people."
        )

    def draw(self, at: int, start: int, end: int, name: str) -> Figure | SubFigure | None:
        """Draw P of the variants around a locus; None where there are too few for a figure.

        Parameters
        ----------
        at : int
            Number of the lead variant in the scan.
        start, end : int
            The locus.
        name : str
            Of the lead variant.
        """
        import pandas as pd

        from imgwas.plots import regional

        genome = self.genome
        low, high = start - AROUND, end + AROUND
        here = (genome.position >= low) & (genome.position <= high) & np.isfinite(self.values)
        inside = np.flatnonzero(here & (genome.chromosome == genome.chromosome[at]))
        if len(inside) < FEWEST:
            return None
        table = pd.DataFrame(
            {
                "chromosome": genome.names[int(genome.chromosome[at])],
                "base_pair_location": genome.position[inside],
                "neg_log_10_p_value": self.values[inside].astype(np.float64),
                "variant_id": np.where(inside == at, plain([name])[0], ""),
                "is_lead": inside == at,
            }
        )
        r2 = self._r2(at, inside)
        if r2 is not None:
            table["r2"] = r2
        return regional(table, genes=self.genes, study_wide=self.study_wide)

    def _r2(self, at: int, inside: np.ndarray) -> np.ndarray | None:
        if self.panel is None or self.rows is None or self.rows[at] < 0:
            return None
        r2 = np.full(len(inside), np.nan)
        known = self.rows[inside] >= 0
        r2[known] = self.panel.r2(int(self.rows[at]), self.rows[inside[known]])
        r2[inside == at] = 1.0
        return r2

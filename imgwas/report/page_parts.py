"""What every section is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imgwas.genetics.genes import Genes
from imgwas.report.markup import Child, Html, tag
from imgwas.report.scan_numbers import Genome, LatentNumbers
from imgwas.report.sources import Sources
from imgwas.report.tables import Downloads
from imgwas.types import Genotypes

if TYPE_CHECKING:
    import pandas as pd

GENOME_WIDE = 5e-8


@dataclass
class Study:
    """What sections are made of.

    Parameters
    ----------
    sources : Sources
        Files.
    genome : Genome
        Smallest P of every variant.
    latents : sequence of LatentNumbers
        Genomic control and QQ points.
    names : mapping of int to str
        Ids of the strongest variants, by their number in the scan.
    leads : DataFrame
        Statistics of every lead variant for every latent.
    genotypes : Genotypes, optional
        For LD.
    genes : Genes, optional
        For pictures of regions.
    reconstructions : Path, optional
        Sheet of images and their reconstructions.
    downloads : Downloads
        Gets the tables of the sections.
    """

    sources: Sources
    genome: Genome
    latents: Sequence[LatentNumbers]
    names: Mapping[int, str]
    leads: pd.DataFrame
    genotypes: Genotypes | None = None
    genes: Genes | None = None
    reconstructions: Path | None = None
    downloads: Downloads = field(default_factory=Downloads)

    @property
    def joint_test(self) -> str:
        """Test of all latents at once: f, or chi2 where latents have different people."""
        metadata = self.sources.sumstats.metadata
        recorded = (metadata.get("omnibus") or {}).get("joint")
        return str(recorded or ("f" if len(metadata["groups"]) == 1 else "chi2"))

    @property
    def study_wide(self) -> float:
        """5e-8 over the number of latents."""
        return GENOME_WIDE / max(len(self.latents), 1)


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Parameters
    ----------
    name : str
        Anchor.
    title : str
        Heading, and its word in the list of contents.
    content : Html
    """

    name: str
    title: str
    content: Html

    def html(self) -> Html:
        """The section as an element."""
        heading = tag("h2", self.title, id=f"{self.name}-title")
        return tag("section", heading, self.content, id=self.name,
                   aria_labelledby=f"{self.name}-title")  # fmt: skip


def paragraph(*children: Child) -> Html:
    """Make a paragraph."""
    return tag("p", *children)


def folded(title: Child, *children: Child, name: str | None = None) -> Html:
    """Hide something long behind its title."""
    return tag("details", tag("summary", title), *children, id=name)

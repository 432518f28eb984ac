"""Genes by place: the nearest to a variant, and all within 500 kb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imgwas.errors import InconsistentError, explain
from imgwas.files import publish
from imgwas.genetics.gene_files import read_gene_file
from imgwas.shapes import Int64

WINDOW = 500_000
_NAMES = ("chromosome", "start", "end", "strand", "name", "biotype")


class NearGene(NamedTuple):
    """The gene nearest to a position; None and an empty name where the chromosome has none."""

    name: str
    distance: int | None
    biotype: str
    within: tuple[str, ...]


@dataclass(frozen=True)
class Genes:
    """Genes of one genome build.

    Parameters
    ----------
    chromosome : tuple of str
        1 to 22, X, Y, XY, MT, or a contig's own name.
    start, end : (genes,) int array
        First and last base, 1-based, both included.
    strand : tuple of str
        ``+``, ``-`` or empty.
    name : tuple of str
        Symbol, or the stable id where there is none.
    biotype : tuple of str
        ``protein_coding`` and so on; empty where the file has none.
    source : str
        File, release, licence as far as known.
    build : str, optional
        Genome build.
    """

    chromosome: tuple[str, ...]
    start: Int64[np.ndarray, " genes"]
    end: Int64[np.ndarray, " genes"]
    strand: tuple[str, ...]
    name: tuple[str, ...]
    biotype: tuple[str, ...]
    source: str
    build: str | None = None

    def __len__(self) -> int:
        return len(self.name)

    def __repr__(self) -> str:
        return f"Genes({len(self):,} genes, {self.build or 'build not stated'}, {self.source})"

    @cached_property
    def _by_chromosome(self) -> dict[str, np.ndarray]:
        names = np.array(self.chromosome, object)
        return {name: np.flatnonzero(names == name) for name in set(self.chromosome)}

    def around(self, chromosome: str, position: int) -> NearGene:
        """Nearest gene and all genes within 500 kb of a position.

        The distance is to the body of the gene, 0 inside it. Where several are as near, the one
        whose transcription begins nearest is taken, then the first by name. Variants of the
        pseudo-autosomal regions (XY) are looked up on X.
        """
        here = self._by_chromosome.get("X" if chromosome == "XY" else chromosome)
        if here is None:
            return NearGene("", None, "", ())
        start, end = self.start[here], self.end[here]
        distance = np.maximum(np.maximum(start - position, position - end), 0)
        backwards = np.array([self.strand[i] == "-" for i in here])
        to_start = np.abs(np.where(backwards, end, start) - position)
        names = np.array([self.name[i] for i in here])
        order = np.lexsort((names, to_start, distance))
        nearest = here[order[0]]
        close = [str(names[i]) for i in order if distance[i] <= WINDOW]
        return NearGene(
            self.name[nearest],
            int(distance[order[0]]),
            self.biotype[nearest],
            tuple(dict.fromkeys(close)),
        )

    def only(self, biotypes: Sequence[str]) -> Genes:
        """Only genes of some biotypes."""
        chosen = [i for i, kind in enumerate(self.biotype) if kind in biotypes]
        if not chosen:
            raise InconsistentError(
                explain(
                    f"no gene of {self.source} has the biotype {' or '.join(biotypes)}",
                    expected=f"It has {', '.join(sorted(set(self.biotype))[:8]) or 'none'}",
                )
            )
        return Genes(
            tuple(self.chromosome[i] for i in chosen),
            self.start[chosen],
            self.end[chosen],
            tuple(self.strand[i] for i in chosen),
            tuple(self.name[i] for i in chosen),
            tuple(self.biotype[i] for i in chosen),
            self.source,
            self.build,
        )

    def write(self, path: str | Path) -> None:
        """Write a small table that :func:`imgwas.read_genes` reads, gzipped if it ends in .gz."""
        import gzip

        columns = (self.chromosome, self.start, self.end, self.strand, self.name, self.biotype)
        lines = [f"# source={self.source}", f"# genome_build={self.build or ''}", "\t".join(_NAMES)]
        lines += ["\t".join(map(str, row)) for row in zip(*columns, strict=True)]
        content = ("\n".join(lines) + "\n").encode()
        with publish(Path(path)) as stream:
            stream.write(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def read_genes(
    path: str | Path, *, genome_build: str | None = None, biotypes: Sequence[str] | None = None
) -> Genes:
    """Read genes of any species.

    Parameters
    ----------
    path : path
        GTF or GFF3 (Ensembl, GENCODE, RefSeq), BED, PLINK's gene lists (chromosome, first base,
        last base, name, no heading), or a table headed chromosome, start, end, name and, if it has
        them, strand and biotype. ``.gz`` or not. What it is is told from the suffix and the lines.
    genome_build : str, optional
        Build of the positions, where the file does not state it.
    biotypes : sequence of str, optional
        Only these, such as ``["protein_coding"]``.

    Returns
    -------
    Genes
        Sorted as in the file. A gene that lies in several places is there several times.

    Raises
    ------
    OpenError, MalformedError
        If the file cannot be read, or a line is not what its format says.
    InconsistentError
        If the file states another genome build, or has no gene of the biotypes.
    """
    path = Path(path).expanduser()
    rows, stated, source = read_gene_file(path)
    if stated and genome_build and stated != genome_build:
        raise InconsistentError(
            explain(
                f"{path} holds genes of {stated} and the results are in {genome_build}",
                do=f"Give the file of the same release for {genome_build}",
            )
        )
    chromosome, start, end, strand, name, biotype = zip(*rows, strict=True)
    genes = Genes(
        chromosome,
        np.array(start, np.int64),
        np.array(end, np.int64),
        strand,
        name,
        biotype,
        source or path.name,
        stated or genome_build,
    )
    return genes.only(biotypes) if biotypes else genes


def genes_for(genes: Genes | str | Path | None, build: str | None) -> Genes | None:
    """Genes that were given, or the table shipped for a build, or None where there is neither."""
    if isinstance(genes, Genes):
        if genes.build and build and genes.build != build:
            raise InconsistentError(
                explain(
                    f"the genes are of {genes.build} and the results are in {build}",
                    do=f"Give genes of {build}",
                )
            )
        return genes
    if genes is not None:
        return read_genes(genes, genome_build=build)
    return None if build is None else _shipped(build)


@lru_cache(maxsize=2)
def _shipped(build: str) -> Genes | None:
    shipped = resources.files("imgwas.genetics") / "data" / f"genes_{build}.tsv.gz"
    if not shipped.is_file():
        return None
    with resources.as_file(shipped) as path:
        return read_genes(path, genome_build=build)

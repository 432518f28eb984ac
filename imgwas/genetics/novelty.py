"""Known associations near a locus, from a catalogue that the user has."""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgwas.errors import InconsistentError, MalformedError, OpenError, explain
from imgwas.genotypes.variant_table import chromosome_name
from imgwas.shapes import Int64

logger = logging.getLogger(__name__)

#: The build that the GWAS Catalog maps its associations to.
GWAS_CATALOG_BUILD = "GRCh38"
_MOST_TRAITS = 5
#: Headings, in lower case, of a catalogue; the first of each are the GWAS Catalog's.
_HEADINGS = {
    "chromosome": ("chr_id", "chromosome", "chrom", "#chrom", "chr"),
    "position": ("chr_pos", "base_pair_location", "position", "pos", "bp"),
    "name": ("snps", "variant_id", "rsid", "snp", "id", "marker"),
    "trait": ("disease/trait", "trait", "phenotype", "reported_trait"),
}


class Known(NamedTuple):
    """What is known near a locus; None and empty where nothing is."""

    n: int
    name: str
    distance: int | None
    traits: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """Places of known associations.

    Parameters
    ----------
    chromosome : tuple of str
        As in genotypes.
    position : (associations,) int array
        1-based.
    name, trait : tuple of str
        Variant and trait, empty where not given.
    source : str
        File.
    build : str, optional
        Genome build of the positions.
    window_kb : float
        How near a lead variant an association makes a locus known.
    """

    chromosome: tuple[str, ...]
    position: Int64[np.ndarray, " associations"]
    name: tuple[str, ...]
    trait: tuple[str, ...]
    source: str
    build: str | None = None
    window_kb: float = 500

    def __len__(self) -> int:
        return len(self.position)

    def __repr__(self) -> str:
        return f"Catalogue({len(self):,} associations, {self.build or 'build not stated'})"

    def describe(self) -> dict[str, Any]:
        """Return what tables state about it."""
        return {
            "file": self.source,
            "associations": len(self),
            "genome_build": self.build,
            "window_kb": self.window_kb,
        }

    @cached_property
    def _by_chromosome(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        names = np.array(self.chromosome, object)
        found = {}
        for name in set(self.chromosome):
            rows = np.flatnonzero(names == name)
            rows = rows[np.argsort(self.position[rows], kind="stable")]
            found[name] = rows, self.position[rows]
        return found

    def around(self, chromosome: str, position: int, start: int, end: int) -> Known:
        """Associations inside a locus or within the window around its lead variant."""
        window = int(self.window_kb * 1000)
        low, high = min(start, position - window), max(end, position + window)
        rows, positions = self._by_chromosome.get(chromosome, (np.empty(0, int), np.empty(0)))
        rows = rows[np.searchsorted(positions, low) : np.searchsorted(positions, high, "right")]
        if not len(rows):
            return Known(0, "", None, ())
        distance = np.abs(self.position[rows] - position)
        order = rows[np.argsort(distance, kind="stable")]
        traits = dict.fromkeys(self.trait[i] for i in order if self.trait[i])
        nearest = int(order[0])
        name = self.name[nearest] or f"{chromosome}:{self.position[nearest]}"
        return Known(len(rows), name, int(distance.min()), tuple(list(traits)[:_MOST_TRAITS]))


def read_catalogue(
    path: str | Path, *, genome_build: str | None = None, window_kb: float = 500
) -> Catalogue:
    """Read known associations.

    Parameters
    ----------
    path : path
        The GWAS Catalog's table of associations (TSV), or a table with a heading whose columns
        include chromosome and position and may include variant_id and trait. ``.gz`` or not.
    genome_build : str, optional
        Build of the positions. The GWAS Catalog's are GRCh38, which need not be said.
    window_kb : float
        A locus is known where an association lies inside it or this near to its lead variant.

    Raises
    ------
    OpenError, MalformedError
        If the file cannot be read, has no such columns or no usable line.
    InconsistentError
        If it is the GWAS Catalog's and another build is said.
    """
    path = Path(path).expanduser()
    lines = _lines(path)
    heading = next(lines, "")
    separator = "\t" if "\t" in heading else "," if "," in heading else None
    places = _places(heading.split(separator), path)
    is_gwas_catalog = "chr_id" in heading.lower()
    if is_gwas_catalog and genome_build not in (None, GWAS_CATALOG_BUILD):
        raise InconsistentError(
            explain(
                f"{path} is the GWAS Catalog's, whose positions are {GWAS_CATALOG_BUILD}, and "
                f"{genome_build} was said",
                do="Lift its positions over, write chromosome, position and trait as a table, "
                "and give that",
            )
        )
    rows, n_lines = [], 0
    for line in lines:
        n_lines += 1
        rows += _associations(line.split(separator), places)
    if not rows:
        raise MalformedError(
            explain(
                f"none of the {n_lines:,} lines of {path} has a chromosome and a position",
                expected="Whole numbers in the column of positions",
            )
        )
    logger.info("catalogue %s: %s associations", path.name, f"{len(rows):,}")
    chromosome, position, name, trait = zip(*rows, strict=True)
    build = GWAS_CATALOG_BUILD if is_gwas_catalog else genome_build
    where = np.array(position, np.int64)
    return Catalogue(chromosome, where, name, trait, path.name, build, window_kb)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as raw:
            opened = gzip.open if raw.read(2) == b"\x1f\x8b" else open
        with opened(path, "rt", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.strip() and not line.startswith("##"):
                    yield line.rstrip("\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MalformedError(
            explain(f"{path} is a damaged or truncated gzip file", do="Copy it again")
        ) from error
    except OSError as error:
        raise OpenError(
            explain(f"the catalogue {path} cannot be read ({error.strerror})", do="Check the name")
        ) from error


def _places(heading: list[str], path: Path) -> dict[str, int]:
    first = [field.strip().strip('"').lower() for field in heading]
    found = {
        key: next((first.index(word) for word in words if word in first), -1)
        for key, words in _HEADINGS.items()
    }
    lacking = [key for key in ("chromosome", "position") if found[key] < 0]
    if lacking:
        raise MalformedError(
            explain(
                f"{path} has the columns {', '.join(first[:8]) or 'of an empty file'} and none "
                f"for {lacking[0]}",
                expected="The GWAS Catalog's table (CHR_ID, CHR_POS), or columns named chromosome "
                "and position",
                do="Name the columns in the first line",
            )
        )
    return found


def _associations(fields: list[str], places: dict[str, int]) -> list[tuple[str, int, str, str]]:
    """Places of one line; the GWAS Catalog separates those of a haplotype by semicolons."""

    def text(key: str) -> str:
        at = places[key]
        return fields[at].strip().strip('"') if 0 <= at < len(fields) else ""

    chromosomes, positions = (re.split(r";\s*| x ", text(k)) for k in ("chromosome", "position"))
    if len(chromosomes) != len(positions):
        return []
    return [
        (chromosome_name(chromosome.strip()), int(position), text("name"), text("trait"))
        for chromosome, position in zip(chromosomes, positions, strict=True)
        if chromosome.strip() and re.fullmatch(r"[0-9]{1,9}", position.strip())
    ]


def catalogue_for(
    catalogue: Catalogue | str | Path | None, stated: str | None, build: str | None
) -> Catalogue | None:
    """Catalogue in the genome build of the results, or a refusal.

    Raises
    ------
    InconsistentError
        If the two builds differ, or one of them is not known.
    """
    if catalogue is None:
        return None
    if not isinstance(catalogue, Catalogue):
        catalogue = read_catalogue(catalogue, genome_build=stated)
    if catalogue.build == build:
        return catalogue
    if catalogue.build is None:
        what, do = "the genome build of the catalogue is not known", "Name it: --catalogue-build"
    elif build is None:
        what = f"the catalogue is in {catalogue.build} and the build of the results is not known"
        do = "Name it: --genome-build"
    else:
        what = f"the catalogue is in {catalogue.build} and the results are in {build}"
        do = f"Lift the catalogue over to {build} first"
    raise InconsistentError(
        explain(what, expected="Positions can be compared within one build only", do=do)
    )

"""Everything that is wrong with a PLINK fileset, not only what is met first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from imgwas.errors import ImgwasError, OpenError, explain
from imgwas.genotypes import READERS, _expand
from imgwas.genotypes.alleles import alleles_to_swap
from imgwas.genotypes.bed_checks import BedShape, check_magic, check_size, file_stat
from imgwas.genotypes.filters import _words
from imgwas.genotypes.multi import check_same_people
from imgwas.genotypes.plink import BIM_COLUMNS, FAM_COLUMNS, open_plink
from imgwas.genotypes.text import read_columns
from imgwas.genotypes.variant_table import samples_of, variants_of
from imgwas.types import Samples

T = TypeVar("T")


class Found:
    """Errors that were met while the reading went on."""

    def __init__(self) -> None:
        self.errors: list[ImgwasError] = []

    def attempt(self, function: Callable[..., T], *args: Any, **options: Any) -> T | None:
        """Call a function; keep its refusal, in whatever words, only once."""
        try:
            return function(*args, **options)
        except ImgwasError as error:
            if str(error) not in map(str, self.errors):
                self.errors.append(error)
            return None


def words_of(path: Path) -> list[bytes]:
    """Variant ids of a list, as ``--extract`` reads them."""
    return _words(path)


def diagnose_filesets(
    source: str | Path | Sequence[str | Path],
    *,
    bim: str | Path | None = None,
    fam: str | Path | None = None,
    effect_allele: str | Path = "a1",
) -> tuple[list[ImgwasError], Samples | None]:
    """Read each file of each fileset by itself and collect what is wrong.

    Parameters
    ----------
    source : path or sequence of paths
        As in :func:`imgwas.open_genotypes`. Files of other formats are left alone.
    bim, fam : path, optional
        Tables of another name.
    effect_allele : "a1", "a2" or Path
        As in :func:`imgwas.open_genotypes`.

    Returns
    -------
    errors : list of ImgwasError
        In the order bim, fam, bed of each fileset; the same words only once.
    samples : Samples or None
        People of the first ``.fam`` that can be read, so that tables can be matched all the same.
    """
    found = Found()
    prefixes = found.attempt(_prefixes, source) or []
    people: list[tuple[Path, Samples]] = []
    for stem in prefixes:
        bed, bim_here, fam_here = (Path(f"{stem}{end}") for end in (".bed", ".bim", ".fam"))
        tables = (Path(bim) if bim else bim_here, Path(fam) if fam else fam_here)
        samples = _diagnose_one(found, bed, *tables, effect_allele)
        people += [(stem, samples)] if samples is not None else []
    for stem, samples in people[1:]:
        found.attempt(check_same_people, people[0][1], samples, str(people[0][0]), str(stem))
    return found.errors, people[0][1] if people else None


def _prefixes(source: str | Path | Sequence[str | Path]) -> list[Path]:
    """Prefixes of the filesets that a source means; none of another format."""
    if isinstance(source, (str, Path)):
        many = "{chr}" in str(source)
        paths = _expand(str(source)) if many else [Path(source).expanduser()]
    else:
        paths = [Path(path) for path in source]
    plink = [path for path in paths if READERS.get(path.suffix) in (None, open_plink)]
    return [path.with_suffix("") if path.suffix == ".bed" else path for path in plink]


def _diagnose_one(
    found: Found, bed: Path, bim: Path, fam: Path, effect_allele: str | Path
) -> Samples | None:
    variants = found.attempt(_variants, bim)
    samples = found.attempt(_samples, fam)
    if variants is not None:
        found.attempt(alleles_to_swap, variants, effect_allele)
    stat = found.attempt(file_stat, bed) if bed.exists() else found.attempt(_absent, bed)
    if stat is None or found.attempt(check_magic, bed) is None:
        return samples
    if variants is not None and samples is not None:
        shape = BedShape(bed, bim, fam, variants.num_rows, len(samples))
        found.attempt(check_size, shape, stat["size"])
    return samples


def _variants(bim: Path) -> pa.Table:
    return variants_of(read_columns(bim, BIM_COLUMNS)[0], bim)


def _samples(fam: Path) -> Samples:
    return samples_of(read_columns(fam, FAM_COLUMNS)[0])


def _absent(bed: Path) -> dict[str, int]:
    raise OpenError(explain(f"{bed} not found", do="Give the prefix of the three files"))

"""Rack of genotype formats: ``open_genotypes`` and ``READERS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from imgwas.errors import OpenError, UsageError, explain
from imgwas.genotypes.counts import GenotypeCounts, count_packed, pack_mask
from imgwas.genotypes.filters import VariantFilters, sample_missingness, select_rows
from imgwas.genotypes.hardy_weinberg import hardy_weinberg_p_value
from imgwas.genotypes.memory import ArrayGenotypes, from_pandas_plink
from imgwas.genotypes.multi import MultiGenotypes
from imgwas.genotypes.plink import PlinkGenotypes, open_plink
from imgwas.types import Genotypes, PackedGenotypes

__all__ = [
    "READERS",
    "ArrayGenotypes",
    "GenotypeCounts",
    "MultiGenotypes",
    "PlinkGenotypes",
    "VariantFilters",
    "count_packed",
    "from_pandas_plink",
    "hardy_weinberg_p_value",
    "open_genotypes",
    "pack_mask",
    "sample_missingness",
    "select_rows",
]

Genotypes.from_pandas_plink = staticmethod(from_pandas_plink)

#: suffix -> function that opens it; a path without a known suffix is a PLINK 1 prefix.
READERS: dict[str, Callable[..., PackedGenotypes]] = {".bed": open_plink}

_CHROMOSOMES = [*map(str, range(1, 23)), "X", "Y", "XY", "MT", "23", "24", "25", "26"]


def open_genotypes(
    path: str | Path | Sequence[str | Path],
    *,
    bim: str | Path | None = None,
    fam: str | Path | None = None,
    effect_allele: str | Path = "a1",
    allow_nonzero_padding: bool = False,
    allow_constant_sample: bool = False,
) -> PackedGenotypes:
    """Open genotypes without reading them.

    Parameters
    ----------
    path : path or sequence of paths
        A PLINK prefix or ``.bed`` file. ``{chr}`` in it stands for every chromosome whose file
        exists, in natural order; a sequence of paths is read as one matrix.
    bim, fam : path, optional
        Tables of another name than the ``.bed``.
    effect_allele : "a1", "a2" or path
        Allele that is counted: column 5 of the ``.bim``, column 6, or as a file of variant id and
        allele says.
    allow_nonzero_padding : bool
        Accept set bits after the last person.
    allow_constant_sample : bool
        Accept last people who look like padding: two copies of the first allele everywhere.

    Returns
    -------
    Genotypes

    Raises
    ------
    OpenError
        If no such file exists; the paths tried are named.
    MalformedError, InconsistentError
        If the files violate their format or do not belong together.
    """
    options: dict[str, Any] = {
        "effect_allele": effect_allele,
        "allow_nonzero_padding": allow_nonzero_padding,
        "allow_constant_sample": allow_constant_sample,
    }
    if isinstance(path, (str, Path)):
        if "{chr}" not in str(path):
            return _open_one(Path(path).expanduser(), bim=bim, fam=fam, **options)
        paths = _expand(str(path))
    else:
        paths = [Path(p) for p in path]
    if bim is not None or (fam is not None and "{chr}" in str(fam)):
        raise UsageError("--bim names one file and cannot go with several .bed files.")
    if not paths:
        raise UsageError("no genotype file is named.")
    return MultiGenotypes([_open_one(p, fam=fam, **options) for p in paths])


def _open_one(path: Path, **options: Any) -> PackedGenotypes:
    reader = READERS.get(path.suffix)
    return open_plink(path, **options) if reader is None else reader(path, **options)


def _expand(pattern: str) -> list[Path]:
    """Paths of the chromosomes that exist, 1 to 22 and then the others."""
    paths = [Path(pattern.replace("{chr}", name)).expanduser() for name in _CHROMOSOMES]
    found = [p for p in paths if p.exists() or Path(f"{p}.bed").exists()]
    if not found:
        raise OpenError(
            explain(
                f"no file matches {pattern}",
                where=f"tried {paths[0]}.bed to {paths[21]}.bed and the sex chromosomes",
                do="Write {chr} where the chromosome stands in the file names",
            )
        )
    return found

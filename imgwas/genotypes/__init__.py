"""Rack of genotype formats: ``open_genotypes`` and ``READERS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from imgwas.errors import OpenError, UsageError, explain
from imgwas.genotypes.bgen import BgenGenotypes, open_bgen
from imgwas.genotypes.counts import GenotypeCounts, count_packed, pack_mask
from imgwas.genotypes.dosage_multi import MultiDosages
from imgwas.genotypes.filters import VariantFilters, sample_missingness, select_rows
from imgwas.genotypes.hard_calls import HardCalls, hard_calls
from imgwas.genotypes.hardy_weinberg import hardy_weinberg_p_value
from imgwas.genotypes.memory import ArrayGenotypes, from_pandas_plink
from imgwas.genotypes.multi import MultiGenotypes
from imgwas.genotypes.pgen import PgenCalls, PgenDosages, open_pgen
from imgwas.genotypes.plink import PlinkGenotypes, open_plink
from imgwas.genotypes.text import is_there
from imgwas.genotypes.vcf import open_vcf
from imgwas.genotypes.vcz import open_vcz
from imgwas.types import DosageGenotypes, Genotypes, PackedGenotypes

__all__ = [
    "READERS",
    "ArrayGenotypes",
    "BgenGenotypes",
    "GenotypeCounts",
    "HardCalls",
    "MultiDosages",
    "MultiGenotypes",
    "PgenCalls",
    "PgenDosages",
    "PlinkGenotypes",
    "VariantFilters",
    "count_packed",
    "from_pandas_plink",
    "hard_calls",
    "hardy_weinberg_p_value",
    "open_genotypes",
    "pack_mask",
    "sample_missingness",
    "select_rows",
]

Genotypes.from_pandas_plink = staticmethod(from_pandas_plink)

#: suffix -> function that opens it; a path without a known suffix is a prefix.
READERS: dict[str, Callable[..., Genotypes]] = {
    ".bed": open_plink,
    ".pgen": open_pgen,
    ".bgen": open_bgen,
    ".vcf": open_vcf,
    ".vcf.gz": open_vcf,
    ".bcf": open_vcf,
    ".vcz": open_vcz,
    ".zarr": open_vcz,
}
#: Options of one reader that others do not take.
_OWN: dict[Callable[..., Genotypes], tuple[str, ...]] = {
    open_plink: ("bim", "fam", "allow_nonzero_padding", "allow_constant_sample"),
    open_pgen: ("pvar", "psam", "multiallelic"),
    open_bgen: ("sample", "multiallelic"),
    open_vcf: ("psam", "cache", "multiallelic"),
    open_vcz: ("psam", "cache", "multiallelic"),
}

_CHROMOSOMES = [*map(str, range(1, 23)), "X", "Y", "XY", "MT", "23", "24", "25", "26"]


def open_genotypes(
    path: str | Path | Sequence[str | Path],
    *,
    bim: str | Path | None = None,
    fam: str | Path | None = None,
    pvar: str | Path | None = None,
    psam: str | Path | None = None,
    sample: str | Path | None = None,
    cache: str | Path | None = None,
    effect_allele: str | Path = "a1",
    multiallelic: str = "refuse",
    allow_nonzero_padding: bool = False,
    allow_constant_sample: bool = False,
) -> PackedGenotypes | DosageGenotypes:
    """Open genotypes without reading them.

    Parameters
    ----------
    path : path or sequence of paths
        A ``.bed``, ``.pgen``, ``.bgen``, ``.vcf.gz`` or ``.bcf`` file, a ``.vcz`` folder, or a
        PLINK prefix. ``{chr}`` in it stands for every chromosome whose file exists, in natural
        order; a sequence of paths is read as one matrix.
    bim, fam : path, optional
        Tables of another name than the ``.bed``.
    pvar, psam : path, optional
        Tables of another name than the ``.pgen``; ``psam`` also gives the people of a VCF a sex.
    sample : path, optional
        The ``.sample`` file of a ``.bgen``; ``{chr}`` in it as in the path.
    cache : path, optional
        Folder for what is unpacked of a VCF or VCF Zarr; beside it by default.
    effect_allele : "a1", "a2" or path
        Allele that is counted: column 5 of the ``.bim``, ALT, the second allele of a ``.bgen``; or
        the other one; or as a file of variant id and allele says.
    multiallelic : {"refuse", "skip", "split"}
        What to do about variants of three or more alleles.
    allow_nonzero_padding : bool
        Accept set bits after the last person of a ``.bed``.
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
    own: dict[str, Any] = {
        "bim": bim,
        "fam": fam,
        "pvar": pvar,
        "psam": psam,
        "sample": sample,
        "cache": cache,
        "multiallelic": None if multiallelic == "refuse" else multiallelic,
        "allow_nonzero_padding": allow_nonzero_padding or None,
        "allow_constant_sample": allow_constant_sample or None,
    }
    given = {name: value for name, value in own.items() if value is not None}
    if isinstance(path, (str, Path)):
        if "{chr}" not in str(path):
            return _open_one(Path(path).expanduser(), given, effect_allele)
        pairs = [(name, p) for name, p in _by_chromosome(str(path))]
    else:
        pairs = [("{chr}", Path(p)) for p in path]
    _check_many(given)
    if not pairs:
        raise UsageError("no genotype file is named.")
    opened = [_open_one(p, _of_chromosome(given, name), effect_allele) for name, p in pairs]
    if any(isinstance(file, DosageGenotypes) for file in opened):
        return MultiDosages(opened)
    return MultiGenotypes([file for file in opened if isinstance(file, PackedGenotypes)])


def _check_many(given: dict[str, Any]) -> None:
    """Refuse the name of one table for several files."""
    for name in ("bim", "pvar"):
        if name in given:
            raise UsageError(f"--{name} names one file and cannot go with several.")
    if "{chr}" in str(given.get("fam", "")):
        raise UsageError("--fam names one file of people for all chromosomes.")


def _of_chromosome(given: dict[str, Any], name: str) -> dict[str, Any]:
    if "sample" not in given:
        return given
    return given | {"sample": str(given["sample"]).replace("{chr}", name)}


def _open_one(
    path: Path, given: dict[str, Any], effect_allele: str | Path
) -> PackedGenotypes | DosageGenotypes:
    reader = reader_of(path)
    foreign = sorted(set(given) - set(_OWN[reader]))
    if foreign:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise UsageError(
            explain(
                f"{names} cannot go with {path}",
                expected="Options of the genotypes: "
                + ", ".join(f"--{name.replace('_', '-')}" for name in _OWN[reader]),
            )
        )
    opened = reader(path, effect_allele=effect_allele, **given)
    assert isinstance(opened, (PackedGenotypes, DosageGenotypes))
    return opened


def reader_of(path: Path) -> Callable[..., Genotypes]:
    """Choose the reader by suffix; a prefix is PLINK 1's, or PLINK 2's if only that exists."""
    name = path.name.lower()
    known = [suffix for suffix in READERS if name.endswith(suffix)]
    if known:
        return READERS[max(known, key=len)]
    only = is_there(Path(f"{path}.pgen")) and not is_there(Path(f"{path}.bed"))
    return open_pgen if only else open_plink


def _expand(pattern: str) -> list[Path]:
    """Paths of the chromosomes that exist, 1 to 22 and then the others."""
    return [path for _, path in _by_chromosome(pattern)]


def _by_chromosome(pattern: str) -> list[tuple[str, Path]]:
    """Name and path of the chromosomes that exist."""
    named = [(name, Path(pattern.replace("{chr}", name)).expanduser()) for name in _CHROMOSOMES]
    found = [
        (name, path)
        for name, path in named
        if any(is_there(Path(f"{path}{end}")) for end in ("", ".bed", ".pgen"))
    ]
    if not found:
        paths = [path for _, path in named]
        raise OpenError(
            explain(
                f"no file matches {pattern}",
                where=f"tried {paths[0]}{{.bed,.pgen}} to {paths[21]} and the sex chromosomes",
                do="Write {chr} where the chromosome stands in the file names",
            )
        )
    return found

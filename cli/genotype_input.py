"""Genotypes of a command, whatever their format: one option names them, others belong to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgwas.types import DosageGenotypes, PackedGenotypes

#: Options that name genotypes; one of them is given.
SOURCES = ("bfile", "bed", "pfile", "bgen", "vcf", "vcz")
#: Options that go with some of them.
_OWN = ("bim", "fam", "psam", "sample", "cache", "multiallelic", "allow_nonzero_padding",
        "allow_constant_sample")  # fmt: skip
#: All of them, as help shows them.
GENOTYPES = [*SOURCES, "bim", "fam", "psam", "sample", "effect_allele", "multiallelic", "cache",
             "allow_nonzero_padding", "allow_constant_sample"]  # fmt: skip


def is_named(given: dict[str, Any]) -> bool:
    """Whether any option names genotypes."""
    return any(given.get(name) for name in SOURCES)


def check_named(given: dict[str, Any]) -> None:
    """Refuse a command that names no genotypes, or two."""
    from imgwas.errors import UsageError

    named = [f"--{name}" for name in SOURCES if given.get(name)]
    if len(named) != 1:
        raise UsageError(
            f"Name the genotypes by one of --bfile PREFIX, --bed FILE, --pfile PREFIX, "
            f"--bgen FILE, --vcf FILE and --vcz FOLDER; {' and '.join(named) or 'none'} is given."
        )


def source_and_options(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path of the genotypes, and the options to open them with."""
    source = next(str(given[name]) for name in SOURCES if given.get(name))
    if given.get("pfile") and not source.endswith(".pgen"):
        source = f"{source}.pgen"
    allele = given.get("effect_allele") or "a1"
    options = {name: given[name] for name in _OWN if given.get(name) not in (None, False)}
    return source, {
        **options,
        "effect_allele": allele if allele in ("a1", "a2") else Path(allele),
    }


def open_named(given: dict[str, Any]) -> PackedGenotypes | DosageGenotypes:
    """Open the genotypes that one of the options names."""
    from imgwas.genotypes import open_genotypes

    check_named(given)
    source, options = source_and_options(given)
    return open_genotypes(source, **options)

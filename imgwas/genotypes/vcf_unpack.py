"""The parsing of a VCF, run as a program of its own by :func:`imgwas.genotypes.vcf.open_vcf`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    UsageError,
    explain,
)
from imgwas.files import write_error
from imgwas.genotypes.pgen import PER_COPY, pack_codes
from imgwas.genotypes.pgen_tables import read_psam
from imgwas.genotypes.stored_dosages import DosageWriter
from imgwas.types import MISSING_DOSAGE, Samples

_HALF, _PAD = -1, -2


@dataclass
class Counts:
    """What was met on the way."""

    variants: int = 0
    multiallelic: int = 0
    half_calls: int = 0
    without_dosage: int = 0
    source: str = ""
    lines: list[str] = field(default_factory=list)


def unpack_vcf(path: Path, prefix: Path, multiallelic: str, psam: Path | None) -> dict[str, Any]:
    """Write ``PREFIX.bed`` or ``PREFIX.dosage``, with a ``.bim`` and a ``.fam``.

    Returns
    -------
    dict
        What was met: rows, variants, those of more alleles, half-missing calls, the field read.
    """
    try:
        from cyvcf2 import VCF
    except ImportError as error:
        raise MissingLibraryError(
            explain(
                "reading a VCF needs the library cyvcf2, which is not installed",
                do="pip install 'imgwas[vcf]'; or plink2 --vcf F dosage=DS --make-pgen",
            )
        ) from error
    try:
        reader = VCF(str(path))
        ids = tuple(reader.samples)
    except Exception as error:
        raise MalformedError(explain(f"{path} has no readable header ({error})")) from error
    counts = Counts()
    found = _variants(path, reader, counts)
    return unpack_variants(path, prefix, multiallelic, psam, ids=ids, found=found, counts=counts)


def unpack_variants(
    path: Path,
    prefix: Path,
    multiallelic: str,
    psam: Path | None,
    *,
    ids: tuple[str, ...],
    found: Iterable[Any],
    counts: Counts,
) -> dict[str, Any]:
    """Write variants that are as cyvcf2 gives them, whoever read them."""
    people = _people(path, ids, psam)
    if not len(people):
        raise MalformedError(explain(f"{path} holds no people, only sites"))
    with ExitStack() as stack:
        add: Callable[[np.ndarray], object] | None = None
        for variant in found:
            for allele in _alleles(path, variant, multiallelic, counts):
                codes = _codes(path, variant, allele, len(people), counts)
                if add is None:
                    add = _writer(prefix, counts, stack)
                add(codes)
                counts.lines.append(_bim_line(variant, allele))
    if add is None:
        raise DegenerateError(explain(f"{path} has no variant that can be read"))
    Path(f"{prefix}.bim").write_text("".join(counts.lines), errors="surrogateescape")
    Path(f"{prefix}.fam").write_text(_fam(people), errors="surrogateescape")
    met = {name: value for name, value in vars(counts).items() if name != "lines"}
    return met | {"rows": len(counts.lines)}


def _variants(path: Path, reader: Any, counts: Counts) -> Iterator[Any]:
    iterator = iter(reader)
    while True:
        try:
            variant = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise MalformedError(
                explain(
                    f"{path} cannot be read after variant {counts.variants:,} ({error})",
                    do="Check it: bcftools view FILE > /dev/null",
                )
            ) from error
        counts.variants += 1
        yield variant


def _people(path: Path, ids: tuple[str, ...], psam: Path | None) -> Samples:
    if psam is None:
        n = len(ids)
        return Samples(ids, ("0",) * n, np.zeros(n, np.int8), np.ones(n, bool))
    people, _ = read_psam(psam)
    if people.sample_ids != ids:
        raise InconsistentError(
            explain(
                f"{psam} does not hold the {len(ids):,} people of {path.name} in their order",
                do="Make it from the file itself: plink2 --vcf F --make-just-psam",
            )
        )
    return people


def _alleles(path: Path, variant: Any, multiallelic: str, counts: Counts) -> range:
    """Numbers of the ALT alleles that get a row."""
    n = len(variant.ALT)
    if n <= 1:
        return range(1, 2)
    counts.multiallelic += 1
    if multiallelic == "refuse":
        raise UsageError(
            explain(
                f"variant {counts.variants:,} of {path}, {variant.CHROM}:{variant.POS}, has "
                f"{n + 1} alleles",
                do="--multiallelic skip leaves such variants out; --multiallelic split tests "
                "each alternate allele",
            )
        )
    return range(1, n + 1) if multiallelic == "split" else range(0)


def _writer(prefix: Path, counts: Counts, stack: ExitStack) -> Callable[[np.ndarray], object]:
    if counts.source == "DS":
        return stack.enter_context(DosageWriter(prefix)).add
    stream = stack.enter_context(Path(f"{prefix}.bed").open("wb"))  # noqa: SIM115
    stream.write(b"\x6c\x1b\x01")
    table = np.array([3, 2, 0], np.uint8)

    def add(codes: np.ndarray) -> None:
        called = np.where(codes == MISSING_DOSAGE, np.uint8(1), table[codes // PER_COPY % 3])
        stream.write(pack_codes(called[None]).tobytes())

    return add


def _codes(path: Path, variant: Any, allele: int, n: int, counts: Counts) -> np.ndarray:
    """Dosages of one ALT allele; the first variant decides between DS and GT."""
    dosage = None
    if counts.source != "GT":
        dosage = variant.format("DS") if "DS" in variant.FORMAT else None
        counts.without_dosage += dosage is None
        if not counts.source:
            counts.source = "GT" if dosage is None else "DS"
    called, haploid = _calls(path, variant, allele, n, counts)
    if dosage is None:
        return called
    try:
        values = np.asarray(dosage, np.float64).reshape(n, -1)
    except ValueError as error:
        raise _strange(path, variant, "dosages that are no numbers") from error
    if values.shape[1] < allele:
        raise _strange(path, variant, f"{values.shape[1]} dosages for {len(variant.ALT)} alleles")
    copies = values[:, allele - 1] * np.where(haploid, 2, 1)
    missing = np.isnan(copies)
    copies[missing] = 0
    if (copies < -1e-3).any() or (copies > 2 + 1e-3).any():
        raise _strange(path, variant, f"the dosage {copies[np.abs(copies - 1).argmax()]:g}")
    codes: np.ndarray = np.rint(np.clip(copies, 0, 2) * PER_COPY).astype(np.uint16)
    codes[missing] = MISSING_DOSAGE
    return codes


def _calls(
    path: Path, variant: Any, allele: int, n: int, counts: Counts
) -> tuple[np.ndarray, np.ndarray]:
    """Copies of an allele as codes, and who is haploid; everyone is missing without GT."""
    if "GT" not in variant.FORMAT:
        return np.full(n, MISSING_DOSAGE, np.uint16), np.zeros(n, bool)
    alleles = variant.genotype.array()[:, :-1]
    if alleles.shape[1] > 2:
        raise _strange(path, variant, f"people with {alleles.shape[1]} chromosomes")
    if alleles.shape[1] == 1:
        alleles = np.column_stack([alleles, np.full(n, _PAD)])
    haploid = alleles[:, 1] == _PAD
    missing = (alleles[:, 0] < 0) | (alleles[:, 1] == _HALF)
    if allele == 1:
        counts.half_calls += int((missing & (alleles >= 0).any(axis=1)).sum())
    copies = (alleles == allele).sum(axis=1) * np.where(haploid, 2, 1)
    codes = (copies * PER_COPY).astype(np.uint16)
    codes[missing] = MISSING_DOSAGE
    return codes, haploid


def _strange(path: Path, variant: Any, what: str) -> MalformedError:
    return MalformedError(
        explain(f"{variant.CHROM}:{variant.POS} of {path} has {what}, which is not read")
    )


def _bim_line(variant: Any, allele: int) -> str:
    alt = variant.ALT[allele - 1] if variant.ALT else "."
    return f"{variant.CHROM}\t{variant.ID or '.'}\t0\t{variant.POS}\t{alt}\t{variant.REF}\n"


def _fam(people: Samples) -> str:
    """Lines of a ``.fam``; who has parents is told, not who they are."""
    rows = zip(people.family_ids, people.sample_ids, people.is_founder, people.sex, strict=True)
    return "".join(
        f"{fid}\t{iid}\t{0 if founder else 'x'}\t0\t{sex}\t-9\n" for fid, iid, founder, sex in rows
    )


def main(arguments: list[str], unpack: Callable[..., dict[str, Any]] = unpack_vcf) -> None:
    """Unpack one file; say on the last line, as JSON, what was met or what is wrong."""
    path, prefix, multiallelic, psam = arguments
    try:
        said = unpack(Path(path), Path(prefix), multiallelic, Path(psam) if psam else None)
    except ImgwasError as error:
        said = {"error": type(error).__name__, "message": str(error)}
    except OSError as error:
        said = {"error": "WriteError", "message": str(write_error(Path(prefix), error))}
    sys.stdout.write(f"\n{json.dumps(said)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])

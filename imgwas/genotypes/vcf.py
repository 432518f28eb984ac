"""VCF and BCF: unpacked once, from end to end, to a ``.bed`` of calls or a file of dosages.

A text of genotypes cannot be read from the middle by many threads, and unpacking it costs more than
a scan. So it is done once, and the result is kept in a folder beside the file: later scans,
resumed runs and other commands start at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.errors import (
    DecompressError,
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    OpenError,
    UsageError,
    explain,
)
from imgwas.files import publish_json, read_json, write_error
from imgwas.genotypes.bed_checks import file_stat
from imgwas.genotypes.multiallelic import CHOICES
from imgwas.genotypes.pgen import PER_COPY, pack_codes
from imgwas.genotypes.pgen_tables import read_psam
from imgwas.genotypes.plink import PlinkGenotypes, open_plink
from imgwas.genotypes.stored_dosages import DosageWriter, StoredDosages
from imgwas.genotypes.text import is_there, what_it_is
from imgwas.types import MISSING_DOSAGE, Samples

logger = logging.getLogger(__name__)

_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
#: Written into the folder; another number means: unpack again.
_VERSION = 1
_HALF, _PAD = -1, -2


@dataclass
class _Counts:
    """What was met on the way."""

    variants: int = 0
    multiallelic: int = 0
    half_calls: int = 0
    without_dosage: int = 0
    source: str = ""
    lines: list[str] = field(default_factory=list)


def open_vcf(path: Path, **options: Any) -> PlinkGenotypes | StoredDosages:
    """Open a VCF or BCF file; the first time, unpack it to a folder beside it.

    Parameters
    ----------
    path : Path
        ``.vcf``, ``.vcf.gz`` or ``.bcf``. ``FORMAT/DS`` is taken where the first variant has it,
        rounded to 1/16384; otherwise the calls of ``GT``. Half-missing calls count as missing, and
        a haploid person's allele counts twice.
    cache : Path, optional
        Folder for what is unpacked; ``FILE.imgwas`` beside the file.
    psam : Path, optional
        Sex and parents of the same people in the same order; a VCF has neither.
    effect_allele : "a1", "a2" or Path
        ``"a1"`` is ALT.
    multiallelic : {"refuse", "skip", "split"}
        What to do about variants of three or more alleles.
    """
    effect_allele = options.pop("effect_allele", "a1")
    multiallelic = options.pop("multiallelic", "refuse")
    psam, cache = options.pop("psam", None), options.pop("cache", None)
    if multiallelic not in CHOICES:
        raise UsageError(explain(f"multiallelic is {multiallelic!r}", expected=", ".join(CHOICES)))
    if not is_there(path):
        raise OpenError(explain(f"{path} not found", do="Check the path"))
    folder = Path(cache) if cache else path.with_name(f"{path.name}.imgwas")
    stat = file_stat(path)
    wanted = {"version": _VERSION, "vcf": path.name, **stat, "multiallelic": multiallelic}
    wanted["psam"] = None if psam is None else read_psam(Path(psam))[1]
    if not _is_there(folder, wanted):
        _unpack(path, folder, wanted, None if psam is None else Path(psam))
    prefix = folder / "genotypes"
    if Path(f"{prefix}.bed").exists():
        return open_plink(prefix, effect_allele=effect_allele)
    return StoredDosages(prefix, effect_allele)


def _is_there(folder: Path, wanted: dict[str, Any]) -> bool:
    done = folder / "unpacked.json"
    return done.exists() and all(read_json(done).get(k) == v for k, v in wanted.items())


def _unpack(path: Path, folder: Path, wanted: dict[str, Any], psam: Path | None) -> None:
    """Fill a new folder and put it in place when it is whole."""
    check_whole(path)
    logger.info("unpacking %s once, to %s", path.name, folder)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        counts = _convert(path, temporary / "genotypes", wanted["multiallelic"], psam)
        for file in temporary.iterdir():  # the same bytes have the same identity another time
            os.utime(file, ns=(wanted["mtime_ns"], wanted["mtime_ns"]))
        found = {name: value for name, value in vars(counts).items() if name != "lines"}
        publish_json(temporary / "unpacked.json", wanted | {"found": found})
        if (folder / "unpacked.json").exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        if isinstance(error, ImgwasError):
            raise
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info(
        "unpacked  %s rows from %s; more than two alleles: %s (%s); half-missing calls: %s",
        f"{len(counts.lines):,}",
        counts.source,
        f"{counts.multiallelic:,}",
        wanted["multiallelic"],
        f"{counts.half_calls:,}",
    )


def check_whole(path: Path) -> None:
    """Refuse a file whose end is missing, before a library stops there without a word.

    Raises
    ------
    MalformedError
        If it is another kind of file, or a BGZF file without its end marker.
    DecompressError
        If a gzip file does not unpack to its end.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
        if not head.startswith(b"\x1f\x8b"):
            _check_plain(path, head)
            return
        size = stream.seek(0, 2)
        if head[12:14] == b"BC":
            stream.seek(max(0, size - len(_BGZF_END)))
            if stream.read() == _BGZF_END:
                return
            raise MalformedError(
                explain(
                    f"{path} is cut short: it has no BGZF end marker",
                    do="Copy or download it again and compare checksums",
                )
            )
        stream.seek(0)
        _check_gzip(path, stream)


def _check_plain(path: Path, head: bytes) -> None:
    if head.startswith((b"##fileformat=VCF", b"BCF\x02")):
        return
    meaning = what_it_is(head) or "empty" if not head else what_it_is(head)
    raise MalformedError(
        explain(
            f"{path} is {meaning}" if meaning else f"{path} does not begin as a VCF or BCF file",
            expected="A VCF begins with ##fileformat=VCF",
        )
    )


def _check_gzip(path: Path, stream: Any) -> None:
    """Unpack to the end, in bounded pieces."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        while piece := stream.read(1 << 20):
            while piece:
                unpacker.decompress(piece)
                piece = unpacker.unused_data
                if unpacker.eof and piece:
                    unpacker = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise DecompressError(
            explain(f"{path} does not unpack ({error})", do="Copy or download it again")
        ) from error
    if not unpacker.eof:
        raise DecompressError(
            explain(f"{path} is cut short", do="Copy or download it again, compare checksums")
        )


def _convert(path: Path, prefix: Path, multiallelic: str, psam: Path | None) -> _Counts:
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
    except (OSError, ValueError) as error:
        raise MalformedError(explain(f"{path} has no readable header ({error})")) from error
    people = _people(path, tuple(reader.samples), psam)
    if not len(people):
        raise MalformedError(explain(f"{path} holds no people, only sites"))
    counts = _Counts()
    with ExitStack() as stack:
        add: Callable[[np.ndarray], object] | None = None
        for variant in _variants(path, reader, counts):
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
    return counts


def _variants(path: Path, reader: Any, counts: _Counts) -> Iterator[Any]:
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


def _alleles(path: Path, variant: Any, multiallelic: str, counts: _Counts) -> range:
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


def _writer(prefix: Path, counts: _Counts, stack: ExitStack) -> Callable[[np.ndarray], object]:
    if counts.source == "DS":
        return stack.enter_context(DosageWriter(prefix)).add
    stream = stack.enter_context(Path(f"{prefix}.bed").open("wb"))  # noqa: SIM115
    stream.write(b"\x6c\x1b\x01")
    table = np.array([3, 2, 0], np.uint8)

    def add(codes: np.ndarray) -> None:
        called = np.where(codes == MISSING_DOSAGE, np.uint8(1), table[codes // PER_COPY % 3])
        stream.write(pack_codes(called[None]).tobytes())

    return add


def _codes(path: Path, variant: Any, allele: int, n: int, counts: _Counts) -> np.ndarray:
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
    values = np.asarray(dosage, np.float64).reshape(n, -1)
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
    path: Path, variant: Any, allele: int, n: int, counts: _Counts
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

"""VCF and BCF: unpacked once, from end to end, to a ``.bed`` of calls or a file of dosages.

A text of genotypes cannot be read from the middle by many threads, and unpacking it costs more than
a scan. So it is done once, and the result is kept in a folder beside the file: later scans,
resumed runs and other commands start at once.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgwas import errors
from imgwas.errors import (
    DecompressError,
    ImgwasError,
    MalformedError,
    OpenError,
    UsageError,
    explain,
)
from imgwas.files import publish_json, read_json, write_error
from imgwas.genotypes.bed_checks import file_stat
from imgwas.genotypes.multiallelic import CHOICES
from imgwas.genotypes.pgen_tables import read_psam
from imgwas.genotypes.plink import PlinkGenotypes, open_plink
from imgwas.genotypes.stored_dosages import StoredDosages
from imgwas.genotypes.text import is_there, what_it_is

logger = logging.getLogger(__name__)

_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
#: Written into the folder; another number means: unpack again.
_VERSION = 1


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
    return open_unpacked(path, _VCF, **options)


@dataclass(frozen=True)
class Unpacking:
    """How a format is unpacked: what tells that a file is the same, a look at it, a program."""

    stat: Callable[[Path], dict[str, Any]]
    check: Callable[[Path], None]
    module: str
    do: str


def open_unpacked(path: Path, how: Unpacking, **options: Any) -> PlinkGenotypes | StoredDosages:
    """Open what was unpacked of a file, or unpack it first."""
    effect_allele = options.pop("effect_allele", "a1")
    multiallelic = options.pop("multiallelic", "refuse")
    psam, cache = options.pop("psam", None), options.pop("cache", None)
    if multiallelic not in CHOICES:
        raise UsageError(explain(f"multiallelic is {multiallelic!r}", expected=", ".join(CHOICES)))
    if not is_there(path):
        raise OpenError(explain(f"{path} not found", do="Check the path"))
    folder = Path(cache) if cache else path.with_name(f"{path.name}.imgwas")
    stat = how.stat(path)
    wanted = {"version": _VERSION, "vcf": path.name, **stat, "multiallelic": multiallelic}
    wanted["psam"] = None if psam is None else read_psam(Path(psam))[1]
    if not _is_there(folder, wanted):
        _unpack(path, folder, wanted, None if psam is None else Path(psam), how)
    prefix = folder / "genotypes"
    if Path(f"{prefix}.bed").exists():
        return open_plink(prefix, effect_allele=effect_allele)
    return StoredDosages(prefix, effect_allele)


def _is_there(folder: Path, wanted: dict[str, Any]) -> bool:
    done = folder / "unpacked.json"
    return done.exists() and all(read_json(done).get(k) == v for k, v in wanted.items())


def _unpack(
    path: Path, folder: Path, wanted: dict[str, Any], psam: Path | None, how: Unpacking
) -> None:
    """Fill a new folder and put it in place when it is whole."""
    how.check(path)
    logger.info("unpacking %s once, to %s", path.name, folder)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        counts = _in_a_child(path, temporary / "genotypes", wanted["multiallelic"], psam, how)
        for file in temporary.iterdir():  # the same bytes have the same identity another time
            os.utime(file, ns=(wanted["mtime_ns"], wanted["mtime_ns"]))
        publish_json(temporary / "unpacked.json", wanted | {"found": counts})
        if _is_there(folder, wanted):
            return  # another task was quicker, and may read it already
        if (folder / "unpacked.json").exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        if isinstance(error, ImgwasError):
            raise
        if _is_there(folder, wanted):
            return
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info(
        "unpacked  %s rows from %s; more than two alleles: %s (%s); half-missing calls: %s",
        f"{counts['rows']:,}",
        counts["source"],
        f"{counts['multiallelic']:,}",
        wanted["multiallelic"],
        f"{counts['half_calls']:,}",
    )


def _in_a_child(
    path: Path, prefix: Path, multiallelic: str, psam: Path | None, how: Unpacking
) -> dict[str, Any]:
    """Unpack in a process of its own: damaged files can crash the library that parses them."""
    # -P: no module is taken from the folder of the data, where anybody may have put one
    command = [sys.executable, "-P", "-m", how.module, str(path), str(prefix)]
    command += [multiallelic, str(psam or "")]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell
    try:
        said = json.loads(done.stdout.decode().rstrip().rsplit("\n", 1)[-1])
    except ValueError:
        said = {}
    if done.returncode or not said:
        last = done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise MalformedError(
            explain(
                f"{path} cannot be unpacked: its reader ended with code {done.returncode} ({last})",
                do=how.do,
            )
        )
    if "error" in said:
        raise getattr(errors, said["error"])(said["message"])
    return dict(said)


def check_whole(path: Path) -> None:
    """Refuse a file whose end is missing, or a line of another number of columns.

    A library that parses VCF may stop at the first without a word and take the second for cells of
    other people. Costs a few percent of unpacking.

    Raises
    ------
    MalformedError
        If it is another kind of file, a BGZF file without its end marker, or a line is wrong.
    DecompressError
        If it does not unpack to its end.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
        size = stream.seek(0, 2)
        stream.seek(max(0, size - len(_BGZF_END)))
        end = stream.read()
    is_gzip = head.startswith(b"\x1f\x8b")
    if is_gzip and head[12:14] == b"BC" and end != _BGZF_END:
        raise MalformedError(
            explain(
                f"{path} is cut short: it has no BGZF end marker",
                do="Copy or download it again and compare checksums",
            )
        )
    if path.name.lower().endswith(".bcf"):
        return
    if not is_gzip and not head.startswith(b"##fileformat=VCF"):
        meaning = what_it_is(head) if head else "empty"
        raise MalformedError(
            explain(
                f"{path} is {meaning}" if meaning else f"{path} does not begin as a VCF file",
                expected="A VCF begins with ##fileformat=VCF",
            )
        )
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as lines:
            _check_columns(path, lines)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DecompressError(
            explain(f"{path} does not unpack to its end ({error})", do="Copy it again")
        ) from error


def _check_columns(path: Path, lines: Iterable[bytes]) -> None:
    """Every variant has as many columns as the line of names."""
    expected, whole = -1, True
    for number, line in enumerate(lines, start=1):
        whole = line.endswith(b"\n")
        if b"\0" in line:  # where the library that parses it ends a text
            raise MalformedError(explain(f"{path}:{number} has a zero byte", do="Copy it again"))
        if line.startswith(b"##"):
            continue
        if expected < 0:
            expected = line.count(b"\t")
        elif line.count(b"\t") != expected and line.strip():
            raise MalformedError(
                explain(
                    f"{path}:{number} has {line.count(bytes([9])) + 1} columns",
                    expected=f"The line of names has {expected + 1}",
                    do="Make the file again",
                )
            )
    if not whole:
        raise MalformedError(explain(f"{path} ends within a line", do="Copy it again"))


_VCF = Unpacking(
    file_stat,
    check_whole,
    "imgwas.genotypes.vcf_unpack",
    "Check the file: bcftools view FILE > /dev/null",
)

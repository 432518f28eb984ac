"""Gene tables as they come: GTF, GFF3, BED, PLINK's lists, headed text."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgwas.errors import MalformedError, OpenError, explain
from imgwas.genotypes.variant_table import chromosome_name

#: chromosome, first base, last base, strand, name, biotype
Row = tuple[str, int, int, str, str, str]

_BUILD = re.compile(r"\b(?:GRCh3[78]|hg19|hg38|b37|b38)\b")
_SAME = {"hg19": "GRCh37", "b37": "GRCh37", "hg38": "GRCh38", "b38": "GRCh38"}
_GTF_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')
_NAMES = ("gene_name", "gene", "Name", "gene_symbol", "gene_id", "ID")
_BIOTYPES = ("gene_biotype", "gene_type", "biotype")
_GENE_TYPES = {"gene", "ncRNA_gene", "pseudogene"}
#: RefSeq names chromosomes by accession: NC_000001.11 is chromosome 1.
_REFSEQ = re.compile(r"NC_0000(\d\d)\.\d+|NC_(012920)\.\d+")
_HEADINGS = {
    "chromosome": ("chromosome", "chrom", "#chrom", "chr", "#chr"),
    "start": ("start", "chromstart", "txstart"),
    "end": ("end", "stop", "chromend", "txend"),
    "name": ("name", "gene", "gene_name", "symbol", "gene_symbol"),
    "strand": ("strand",),
    "biotype": ("biotype", "gene_biotype", "gene_type"),
}


def read_gene_file(path: Path) -> tuple[list[Row], str | None, str]:
    """Read genes; return them with the build and the source that the file states.

    Raises
    ------
    OpenError
        If the file is absent.
    MalformedError
        If it holds no genes, or a line cannot be read.
    """
    comments: list[str] = []
    suffix = "".join(path.suffixes[-2:]).lower().removesuffix(".gz").rpartition(".")[2]
    lines = _lines(path, comments)
    if suffix == "gtf":
        rows = list(_annotation(lines, path, _gtf_attributes))
    elif suffix in ("gff", "gff3"):
        rows = list(_annotation(lines, path, _gff_attributes))
    elif suffix == "bed":
        rows = [_bed(fields, number, path) for number, fields in _fields(lines, path, 4)]
    else:
        rows = _table(lines, path)
    if not rows:
        raise MalformedError(
            explain(
                f"{path} holds no genes",
                expected="GTF or GFF3 with features of type gene, BED, or a table headed "
                "chromosome, start, end, name",
            )
        )
    source = next((c.partition("=")[2] for c in comments if c.startswith("source=")), "")
    return rows, _stated_build(comments), source


def _lines(path: Path, comments: list[str]) -> Iterator[tuple[int, str]]:
    """Lines with their number; those that begin with ``#`` are kept apart, but for a heading."""
    try:
        opened = gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else open
        with opened(path, "rt", encoding="utf-8", errors="replace") as stream:
            for number, line in enumerate(stream, start=1):
                text = line.rstrip("\r\n")
                if text.startswith("#") and not text.lower().startswith(("#chr\t", "#chrom\t")):
                    comments.append(text.lstrip("#! "))
                elif text.strip():
                    yield number, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MalformedError(
            explain(f"{path} is a damaged or truncated gzip file", do="Copy it again")
        ) from error
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be read ({error.strerror})")) from error


def _stated_build(comments: Iterable[str]) -> str | None:
    for line in comments:
        found = _BUILD.search(line)
        if found:
            return _SAME.get(found.group(), found.group())
    return None


def _annotation(lines: Iterable[tuple[int, str]], path: Path, attributes: object) -> Iterator[Row]:
    """Genes of GTF or GFF3."""
    for number, line in lines:
        fields = line.split("\t")
        if len(fields) != 9:
            raise _bad_line(path, number, f"has {len(fields)} fields", "Nine, separated by tabs")
        if fields[2] not in _GENE_TYPES:
            continue
        known = attributes(fields[8])  # type: ignore[operator]
        name = next((known[key] for key in _NAMES if known.get(key)), "")
        kind = next((known[key] for key in _BIOTYPES if key in known), "")
        start, end = _whole(fields[3], path, number), _whole(fields[4], path, number)
        yield _chromosome(fields[0]), start, end, _strand(fields[6]), name, kind


def _gtf_attributes(text: str) -> dict[str, str]:
    return dict(_GTF_ATTRIBUTE.findall(text))


def _gff_attributes(text: str) -> dict[str, str]:
    from urllib.parse import unquote

    pairs = (part.split("=", 1) for part in text.split(";") if "=" in part)
    known = {key.strip(): unquote(value) for key, value in pairs}
    if "ID" in known:
        known["ID"] = known["ID"].removeprefix("gene:").removeprefix("gene-")
    return known


def _fields(
    lines: Iterable[tuple[int, str]], path: Path, least: int
) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines:
        if line.startswith(("track ", "browser ")):
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) < least:
            raise _bad_line(path, number, f"has {len(fields)} fields", f"At least {least}")
        yield number, fields


def _bed(fields: list[str], number: int, path: Path) -> Row:
    """BED counts from 0 and leaves out its end."""
    strand = _strand(fields[5]) if len(fields) > 5 else ""
    start, end = _whole(fields[1], path, number) + 1, _whole(fields[2], path, number)
    return _chromosome(fields[0]), start, end, strand, fields[3], ""


def _table(lines: Iterable[tuple[int, str]], path: Path) -> list[Row]:
    """PLINK's list, or a table with a heading."""
    places: dict[str, int] | None = None
    rows: list[Row] = []
    for number, fields in _fields(lines, path, 4):
        if places is None:
            places = _places(fields, path)
            if not fields[1].isdigit():
                continue
        value = {key: fields[at] for key, at in places.items() if at < len(fields)}
        start, end = _whole(value["start"], path, number), _whole(value["end"], path, number)
        strand, kind = _strand(value.get("strand", "")), value.get("biotype", "")
        rows.append((_chromosome(value["chromosome"]), start, end, strand, value["name"], kind))
    return rows


def _places(fields: list[str], path: Path) -> dict[str, int]:
    if fields[1].isdigit():
        return {"chromosome": 0, "start": 1, "end": 2, "name": 3}
    first = [field.strip().lower() for field in fields]
    found = {
        key: next((first.index(word) for word in words if word in first), -1)
        for key, words in _HEADINGS.items()
    }
    lacking = [key for key in ("chromosome", "start", "end", "name") if found[key] < 0]
    if lacking:
        raise MalformedError(
            explain(
                f"{path} has the columns {', '.join(first[:8])} and none for {lacking[0]}",
                expected="A table of genes is headed chromosome, start, end, name",
            )
        )
    return {key: at for key, at in found.items() if at >= 0}


def _chromosome(text: str) -> str:
    accession = _REFSEQ.fullmatch(text)
    if accession:
        text = "MT" if accession.group(2) else str(int(accession.group(1)))
    return chromosome_name(text)


def _strand(text: str) -> str:
    return text if text in ("+", "-") else ""


def _whole(text: str, path: Path, number: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _bad_line(path, number, f"has the position {text[:20]!r}", "A whole number")
    return int(text)


def _bad_line(path: Path, number: int, what: str, expected: str) -> MalformedError:
    return MalformedError(
        explain(f"{path}:{number} {what}", expected=expected, do="Copy or download it again")
    )

"""Delimited text read strictly: every line's fields counted, ids byte-exact, nothing guessed.

What is accepted: comma, tab or runs of spaces between fields (told from the header), LF, CRLF or CR
line ends, a byte-order mark, gzip. What is refused, with the line: lines of another length, hidden
characters, a file cut short.
"""

from __future__ import annotations

import gzip
import io
import logging
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from imgwas.checks import duplicates
from imgwas.errors import MalformedError, OpenError, ReadError, RefusedError, explain

logger = logging.getLogger(__name__)

#: A text table may grow by this factor when unpacked, and to this size.
MAX_RATIO, MAX_BYTES = 200, 20_000_000_000

_BINARY: dict[bytes, str] = {
    b"PK\x03\x04": "an Excel or zip file: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save it as CSV",
    b"$FL2": "an SPSS file: export it as CSV",
    b"RDX": "an R data file: write it with write.table(..., sep='\\t', quote=FALSE)",
    b"X\n\x00\x00": "an R data file: write it with write.table(..., sep='\\t', quote=FALSE)",
    b"\x93NUMPY": "a NumPy array, which carries no sample ids: write a table with an id column",
    b"\x89HDF": "an HDF5 file: write a Parquet or TSV table from it",
    b"PAR1": "a Parquet file: give it the suffix .parquet",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it first (unzstd)",
    b"version https://git-lfs": "a Git LFS pointer, not the data: run 'git lfs pull'",
    b"<!DOCTYPE": "an HTML page, probably a failed download",
    b"<html": "an HTML page, probably a failed download",
}
#: Characters that look like something else -> their name.
_HIDDEN = {
    "\x00": "a NUL byte",
    "\u200b": "a zero-width space",
    "\u00a0": "a no-break space",
    "\u2212": "a typographic minus sign",
    "\ufeff": "a byte-order mark inside the file",
}
_FIRST_IDS = ("#FID", "FID", "#IID", "IID")


@dataclass(frozen=True)
class TextTable:
    """A table of strings, with where it came from.

    Parameters
    ----------
    table : pyarrow.Table
        String columns under the names of the header.
    path : Path
        The file.
    delimiter : str
        What separated the fields: a comma, a tab or a space.
    """

    table: pa.Table
    path: Path
    delimiter: str


def read_text_table(path: Path) -> TextTable:
    """Read a delimited table with a header; every value stays the string it was.

    Raises
    ------
    OpenError, ReadError
        If the file is absent or cannot be read.
    MalformedError
        If a line has another number of fields than the header, names repeat, or characters hide.
    """
    text = _read_text(path)
    header, _, body = text.partition(b"\n")
    delimiter = _delimiter(header)
    names = _header_names(header, delimiter, path)
    if not body.strip():
        raise MalformedError(explain(f"{path} has a header and no rows"))
    table = _parse(body, delimiter, names, path)
    logger.info(
        "read %s: %s rows, %s columns, separated by %s",
        path.name, f"{table.num_rows:,}", f"{len(names):,}",
        {",": "commas", "\t": "tabs", " ": "spaces"}[delimiter],
    )  # fmt: skip
    return TextTable(table, path, delimiter)


def _read_text(path: Path) -> bytes:
    content = _read_bytes(path)
    for magic, meaning in _BINARY.items():
        if content.startswith(magic):
            raise MalformedError(explain(f"{path} is {meaning}"))
    if content.startswith(b"\x80") and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise RefusedError(
            explain(f"{path} is a Python pickle, which can run code", do="Write a table from it")
        )
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MalformedError(explain(f"{path} is UTF-16 text", do="Save it as UTF-8"))
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    content = content.lstrip(b"\n").rstrip(b"\n")
    if not content.strip():
        raise MalformedError(explain(f"{path} is empty"))
    _check_hidden(content, path)
    return content


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise OpenError(explain(f"{path} does not exist", do="Check the path")) from error
    except (PermissionError, IsADirectoryError) as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    except OSError as error:
        raise ReadError(explain(f"reading {path} failed ({error.strerror})")) from error
    return _gunzip(raw, path) if raw.startswith(b"\x1f\x8b") else raw


def _gunzip(raw: bytes, path: Path) -> bytes:
    limit = min(MAX_BYTES, max(MAX_RATIO * len(raw), 10_000_000))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            content = stream.read(limit + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise MalformedError(
            explain(f"{path} is a damaged or truncated gzip file", do="Copy it again")
        ) from error
    if len(content) > limit:
        raise MalformedError(
            explain(f"{path} unpacks to more than {limit:,} bytes", do="Unpack and check it first")
        )
    return content


def _check_hidden(content: bytes, path: Path) -> None:
    """Refuse characters that would travel inside ids and numbers unseen."""
    if content.isascii() and b"\x00" not in content:
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MalformedError(
            explain(
                f"{path}:{line} holds a byte that is not UTF-8 (0x{content[error.start]:02x})",
                do=f"Convert it: iconv -f latin1 -t utf-8 {path.name} > fixed",
            )
        ) from error
    for character, name in _HIDDEN.items():
        at = text.find(character)
        if at >= 0:
            raise MalformedError(
                explain(
                    f"{path}:{text.count(chr(10), 0, at) + 1} holds {name} "
                    f"(U+{ord(character):04X})",
                    do="Remove it from the file",
                )
            )


def _delimiter(header: bytes) -> str:
    if b"\t" in header:
        return "\t"
    return "," if b"," in header else " "


def _header_names(header: bytes, delimiter: str, path: Path) -> list[str]:
    text = header.decode("utf-8")
    names = text.split() if delimiter == " " else [n.strip() for n in text.split(delimiter)]
    names = [name[1:-1] if name[:1] == name[-1:] == '"' else name for name in names]
    if "" in names:
        raise MalformedError(explain(f"{path}: column {names.index('') + 1} has no name"))
    repeated = duplicates(names)
    if repeated:
        raise MalformedError(
            explain(
                f"{path}: the header names {', '.join(repeated[:3])} more than once",
                do="Rename one of them",
            )
        )
    return names


def _parse(body: bytes, delimiter: str, names: list[str], path: Path) -> pa.Table:
    text, separator = body, delimiter
    if delimiter == " " or (delimiter == "\t" and b" " in body and b"\t" not in body[:10_000]):
        text, separator = re.sub(rb"(?m)^[ \t]+|[ \t]+$", b"", body), "\t"
        text = re.sub(rb"[ \t]+", b"\t", text)
    quote = '"' if delimiter == "," else False
    if text.startswith(b"\n") or (b"\n\n" in text and not (quote and b'"' in text)):
        _explain_ragged(text, separator, names, path)
    _check_last_line(text, separator, names, path)
    try:
        return pacsv.read_csv(
            io.BytesIO(text),
            read_options=pacsv.ReadOptions(column_names=names),
            parse_options=pacsv.ParseOptions(
                delimiter=separator, quote_char=quote, ignore_empty_lines=False
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        _explain_ragged(text, separator, names, path)
        # the parser's own message quotes the line, and with it a person's id
        raise MalformedError(
            explain(
                f"{path} cannot be read as a table",
                do="Look for an unbalanced quote or a line that is too long",
            )
        ) from None


def _check_last_line(text: bytes, separator: str, names: list[str], path: Path) -> None:
    last = text.rsplit(b"\n", 1)[-1]
    n = last.count(separator.encode()) + 1
    if separator != "," and n != len(names):
        line = text.count(b"\n") + 2
        raise MalformedError(
            explain(
                f"{path}:{line}, the last line, has {n} fields",
                expected=f"{len(names)} like the header",
                do="The file may have been cut short: copy it again",
            )
        )


def _explain_ragged(text: bytes, separator: str, names: list[str], path: Path) -> None:
    for number, line in enumerate(text.split(b"\n"), start=2):
        n = line.count(separator.encode()) + 1
        if n != len(names) and not (separator == "," and b'"' in line):
            what = "is blank" if not line.strip() else f"has {n} fields"
            raise MalformedError(
                explain(
                    f"{path}:{number} {what}",
                    expected=f"The header has {len(names)}",
                    do="Complete or remove that line",
                )
            ) from None


@dataclass(frozen=True)
class IdList:
    """People named by a ``--keep`` or ``--remove`` file."""

    sample_ids: tuple[str, ...]
    family_ids: tuple[str, ...] | None
    header: str


def read_id_list(path: str | Path) -> IdList:
    """Read people, one a line: IID, or FID and IID; a PLINK header is recognised.

    Lines may carry more columns, which are ignored. A single column, or the header ``#IID`` or
    ``IID``, means sample ids alone.
    """
    path = Path(path)
    lines = [line.split() for line in _read_text(path).decode("utf-8").split("\n")]
    lines = [fields for fields in lines if fields]
    header = ""
    if lines[0][0] in _FIRST_IDS:
        header = " ".join(lines.pop(0))
    only_iid = header.startswith(("#IID", "IID")) or (not header and _is_single(lines))
    needed = 1 if only_iid else 2
    for number, fields in enumerate(lines, start=1 + bool(header)):
        if len(fields) < needed:
            raise MalformedError(
                explain(
                    f"{path}:{number} has one field", expected="FID and IID, like the other lines"
                )
            )
    logger.info("read %s: header %r, %s ids", path.name, header or "none", f"{len(lines):,}")
    ids = tuple(fields[needed - 1] for fields in lines)
    families = None if only_iid else tuple(fields[0] for fields in lines)
    return IdList(ids, families, header)


def _is_single(lines: Sequence[Sequence[str]]) -> bool:
    return all(len(fields) == 1 for fields in lines)

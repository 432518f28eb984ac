"""Reading ``.bim`` and ``.fam``: fast where the file is regular, exact where it is not."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from imgwas.errors import MalformedError, OpenError, ReadError, explain

_FOREIGN = {
    b"\x1f\x8b": "a gzip file: unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it first (unzstd)",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"version https://git-lfs": "a Git LFS pointer, not the data: run 'git lfs pull'",
    b"<!DOCTYPE": "an HTML page, probably a failed download: download it again",
    b"<html": "an HTML page, probably a failed download: download it again",
}


def read_bytes(path: Path) -> bytes:
    """Read a whole small file, or say why not."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise OpenError(explain(f"{path} does not exist", do="Check the path")) from error
    except PermissionError as error:
        raise OpenError(explain(f"{path} may not be read", do="Check its permissions")) from error
    except OSError as error:
        raise ReadError(explain(f"reading {path} failed ({error.strerror})")) from error


def what_it_is(head: bytes) -> str:
    """Recognise a file that is something else by its first bytes; empty if it is not known."""
    for magic, meaning in _FOREIGN.items():
        if head.lower().startswith(magic.lower()):
            return meaning
    return ""


def read_columns(path: Path, n_columns: int, names: tuple[str, ...]) -> tuple[pa.Table, bytes]:
    """Read a headerless table of exactly ``n_columns`` fields a line as strings.

    Fields are separated by any mix of spaces and tabs, lines end in LF or CRLF, and blank lines at
    the end are allowed. Nothing is interpreted: ``007``, ``1e5`` and ``NA`` stay what they are.

    Returns
    -------
    table : pyarrow.Table
        String columns (binary where a byte is not UTF-8 would be refused, see Raises).
    content : bytes
        The file, for its digest.

    Raises
    ------
    MalformedError
        With the line, the number of fields found and expected.
    """
    content = read_bytes(path)
    meaning = what_it_is(content[:32])
    if meaning:
        raise MalformedError(explain(f"{path} is {meaning}"))
    text = content.replace(b"\r\n", b"\n") if b"\r" in content else content
    text = text.rstrip(b"\n \t")
    if not text:
        raise MalformedError(explain(f"{path} is empty", expected=f"Lines of {n_columns} fields"))
    tabbed = _tabbed(text)
    if tabbed.startswith(b"\n") or b"\n\n" in tabbed:
        _explain_bad_line(path, text, n_columns)
    try:
        table = _parse(tabbed, names)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        _explain_bad_line(path, text, n_columns)
        # the parser's own message quotes the line, and with it a person's id
        raise MalformedError(explain(f"{path} cannot be read as a table")) from None
    return table, content


def _tabbed(text: bytes) -> bytes:
    """Bring separators to single tabs; free when they are already."""
    if b" " not in text and b"\t\t" not in text and not text.startswith(b"\t"):
        return text if b"\n\t" not in text and b"\t\n" not in text else _normalise(text)
    return _normalise(text)


def _normalise(text: bytes) -> bytes:
    return re.sub(rb"[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t]+$", b"", text))


def _parse(text: bytes, names: tuple[str, ...]) -> pa.Table:
    return pacsv.read_csv(
        io.BytesIO(text),
        read_options=pacsv.ReadOptions(column_names=list(names), use_threads=True),
        parse_options=pacsv.ParseOptions(
            delimiter="\t", quote_char=False, ignore_empty_lines=False
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
        ),
    )


def _explain_bad_line(path: Path, text: bytes, n_columns: int) -> None:
    """Find the first line that is wrong and refuse with its number."""
    for number, line in enumerate(text.split(b"\n"), start=1):
        fields = line.split()
        if len(fields) != n_columns:
            raise MalformedError(
                explain(
                    f"{path}:{number} has {len(fields)} fields",
                    expected=f"{n_columns} are needed on every line",
                    do="Complete or remove that line",
                )
            ) from None
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedError(
                explain(
                    f"{path}:{number} holds a byte that is not UTF-8 "
                    f"(0x{line[error.start]:02x} at position {error.start + 1})",
                    do=f"Convert it: iconv -f latin1 -t utf-8 {path.name} > fixed",
                )
            ) from error

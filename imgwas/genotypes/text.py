"""Reading ``.bim`` and ``.fam``: fast where the file is regular, exact where it is not."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from imgwas.errors import MalformedError, OpenError, ReadError, explain
from imgwas.scratch import table_aside

_FOREIGN = {
    b"\x1f\x8b": "a gzip file: unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it first (unzstd)",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"version https://git-lfs": "a Git LFS pointer, not the data: run 'git lfs pull'",
    b"<!DOCTYPE": "an HTML page, probably a failed download: download it again",
    b"<html": "an HTML page, probably a failed download: download it again",
    b"BZh": "a bzip2 file: unpack it first (bunzip2)",
    b"\xfd7zXZ": "an xz file: unpack it first (unxz)",
    b"\xff\xfe": "UTF-16 text: convert it (iconv -f utf-16 -t utf-8)",
    b"\xfe\xff": "UTF-16 text: convert it (iconv -f utf-16 -t utf-8)",
}

#: Bytes of a file that is read piece by piece, and of a line at most.
PIECE, LONGEST_LINE = 1 << 20, 1 << 22


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


def decoded(path: Path, content: bytes) -> str:
    """Text of a small file, or which byte of it is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(
            explain(
                f"{path} holds a byte that is not UTF-8 (0x{content[error.start]:02x} at byte "
                f"{error.start + 1:,})",
                do=f"Convert it: iconv -f latin1 -t utf-8 {path.name} > fixed",
            )
        ) from error


def is_there(path: Path) -> bool:
    """Whether a path exists; one that cannot even be asked for does not."""
    try:
        return path.exists()
    except OSError:
        return False


def what_it_is(head: bytes) -> str:
    """Recognise a file that is something else by its first bytes; empty if it is not known."""
    for magic, meaning in _FOREIGN.items():
        if head.lower().startswith(magic.lower()):
            return meaning
    return ""


def read_columns(
    path: Path,
    names: tuple[str, ...],
    shorten: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
) -> tuple[pa.Table, str]:
    """Read a headerless table with one field a name as strings.

    Fields are separated by any mix of spaces and tabs, lines end in LF or CRLF, and blank lines at
    the end are allowed. Nothing is interpreted: ``007``, ``1e5`` and ``NA`` stay what they are.

    ``shorten`` may make of a piece of a regular file what is needed of it, before the next is
    read; what it raises as ``ArrowInvalid`` lets the file be read as strings.

    Returns
    -------
    table : pyarrow.Table
        String columns, unless shortened.
    digest : str
        SHA-256 of the file.

    Raises
    ------
    MalformedError
        With the line, the number of fields found and expected.

    Notes
    -----
    A regular file (single tabs, LF) is parsed while it is read and never held in memory.
    """
    return _read_regular(path, names, shorten) or _read_any(path, names)


class _Watched(io.BufferedIOBase):
    """A file that is digested, and looked at for irregular separators, while it is read."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self._sha = hashlib.sha256()
        self.last = b"\n"
        self.is_regular = True

    def read(self, size: int | None = -1) -> bytes:
        """Pass on the next bytes."""
        chunk = self._stream.read(size)
        self._sha.update(chunk)
        seen = self.last + chunk
        irregular = (b"\r", b" ", b"\t\t", b"\n\n", b"\n\t", b"\t\n")
        self.is_regular = self.is_regular and not any(text in seen for text in irregular)
        self.last = seen[-1:]
        return chunk

    def readable(self) -> bool:
        """Say that bytes can be read."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()

    def digest(self) -> str:
        """SHA-256 of what was read."""
        return self._sha.hexdigest()


def _read_regular(
    path: Path,
    names: tuple[str, ...],
    shorten: Callable[[pa.RecordBatch], pa.RecordBatch] | None,
    piece: int = PIECE,
) -> tuple[pa.Table, str] | None:
    """One pass over a regular file; None where the file is anything else, or wrong."""
    try:
        with _Watched(path) as watched:
            reader = pacsv.open_csv(watched, **_options(names, piece))
            table = table_aside(map(shorten, reader)) if shorten else reader.read_all()
            watched.read()
    except pa.ArrowInvalid as error:
        is_long = "straddl" in str(error) and piece < LONGEST_LINE
        return _read_regular(path, names, shorten, LONGEST_LINE) if is_long else None
    except (OSError, UnicodeDecodeError):
        return None
    # a tab before the end of the file would make an empty last field
    good = watched.is_regular and watched.last != b"\t" and table.num_rows
    return (table, watched.digest()) if good else None


def _read_any(path: Path, names: tuple[str, ...]) -> tuple[pa.Table, str]:
    """Bring separators to single tabs first, and say what is wrong with a file."""
    content = read_bytes(path)
    meaning = what_it_is(content[:32])
    if meaning:
        raise MalformedError(explain(f"{path} is {meaning}"))
    text = content.replace(b"\r\n", b"\n") if b"\r" in content else content
    text = text.rstrip(b"\n \t")
    if not text:
        raise MalformedError(explain(f"{path} is empty", expected=f"Lines of {len(names)} fields"))
    tabbed = _tabbed(text)
    if tabbed.startswith(b"\n") or b"\n\n" in tabbed:
        _explain_bad_line(path, text, len(names))
    try:
        table = pacsv.read_csv(io.BytesIO(tabbed), **_options(names, LONGEST_LINE))
    except (pa.ArrowInvalid, UnicodeDecodeError):
        _explain_bad_line(path, text, len(names))
        # the parser's own message quotes the line, and with it a person's id
        raise MalformedError(explain(f"{path} cannot be read as a table")) from None
    return table, hashlib.sha256(content).hexdigest()


def _tabbed(text: bytes) -> bytes:
    """Bring separators to single tabs; free when they are already."""
    if b" " not in text and b"\t\t" not in text and not text.startswith(b"\t"):
        return text if b"\n\t" not in text and b"\t\n" not in text else _normalise(text)
    return _normalise(text)


def _normalise(text: bytes) -> bytes:
    return re.sub(rb"[ \t]+", b"\t", re.sub(rb"(?m)^[ \t]+|[ \t]+$", b"", text))


def _options(names: tuple[str, ...], block_size: int) -> dict[str, Any]:
    """How tab-separated text is parsed: nothing quoted, nothing guessed, nothing missing."""
    return {
        "read_options": pacsv.ReadOptions(
            column_names=list(names), block_size=block_size, use_threads=False
        ),
        "parse_options": pacsv.ParseOptions(
            delimiter="\t", quote_char=False, ignore_empty_lines=False
        ),
        "convert_options": pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
        ),
    }


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

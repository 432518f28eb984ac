"""What a file really is, and the characters in it that nobody sees."""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from imgwas.errors import (
    ImgwasError,
    MalformedError,
    OpenError,
    ReadError,
    RefusedError,
    explain,
)

#: Every format below is told from this many bytes.
HEAD = 512
PARQUET = b"PAR1"
_IN_R = "write.table(x, sep='\\t', quote=FALSE, row.names=FALSE)"

_BINARY: dict[bytes, str] = {
    b"PK\x03\x04": "an Excel or zip file: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save it as CSV",
    b"$FL2": "an SPSS file: export it as CSV",
    b"$FL3": "an SPSS file: export it as CSV",
    b"<stata_dta>": "a Stata file: export it as CSV",
    b"RDX2": f"an R data file: write it with {_IN_R}",
    b"RDX3": f"an R data file: write it with {_IN_R}",
    b"X\n\x00\x00": f"an R data file: write it with {_IN_R}",
    b"\x93NUMPY": "a NumPy array, which carries no sample ids: write a table with an id column",
    b"\x89HDF": "an HDF5 file: write a Parquet or TSV table from it",
    b"ARROW1": "a Feather file: write it as Parquet",
    b"BZh": "a bzip2 file: unpack it first (bunzip2)",
    b"\xfd7zXZ\x00": "an xz file: unpack it first (unxz)",
    b"\x28\xb5\x2f\xfd": "a zstd file: unpack it first (unzstd)",
}
#: Text that is no table, compared without case and leading blanks.
_TEXT: dict[bytes, str] = {
    b"version https://git-lfs": "a Git LFS pointer, not the data: run 'git lfs pull'",
    b"<!doctype": "an HTML page, probably a failed download",
    b"<html": "an HTML page, probably a failed download",
    b"<?xml": "an XML document, probably the error message of a failed download",
}
_PICKLE = re.compile(rb"\x80[\x02-\x05]")

#: Characters that travel inside ids and numbers unseen, or look like something else.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2212\u3000\ufeff\ufff9-\ufffb]"
)
_HIDDEN_BYTES = bytes([*range(9), 11, 12, *range(14, 32), 127])
_NAMES = {
    "\x00": "a NUL byte",
    "\x1b": "an escape character",
    "\u00a0": "a no-break space",
    "\u00ad": "a soft hyphen",
    "\u200b": "a zero-width space",
    "\u2212": "a typographic minus sign",
    "\ufeff": "a byte-order mark inside the file",
}


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to open or read ``path`` into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise OpenError(explain(f"{path} does not exist", do="Check the path")) from error
    except IsADirectoryError as error:
        raise OpenError(
            explain(f"{path} is a folder", expected="One file", do="Name a file in it")
        ) from error
    except PermissionError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    except OSError as error:
        raise ReadError(
            explain(f"reading {path} failed ({error.strerror or type(error).__name__})")
        ) from error


@contextlib.contextmanager
def interpreted(path: Path) -> Iterator[None]:
    """Take whatever goes wrong while a file is interpreted for damage of the file.

    For formats of ours and of others that are read in many small steps; refusals with words of
    their own pass.
    """
    try:
        yield
    except ImgwasError:
        raise
    except (
        ArithmeticError, AttributeError, EOFError, LookupError, TypeError, ValueError, zlib.error,
        gzip.BadGzipFile, pa.ArrowException,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise MalformedError(
            explain(
                f"{path} is damaged or of another format ({reason})", do="Write or copy it again"
            )
        ) from error
    except OSError as error:
        with explained(path):
            raise error


def head_of(path: Path) -> bytes:
    """Read the first bytes of a file."""
    with explained(path), path.open("rb") as stream:
        return stream.read(HEAD)


def check_format(head: bytes, path: Path) -> None:
    """Refuse what is no table, saying what it is and how to make one of it.

    Raises
    ------
    MalformedError
        If the file is of another format, or was never downloaded.
    RefusedError
        If it is a pickle, which can run code when it is read.
    """
    if _PICKLE.match(head):
        raise RefusedError(
            explain(f"{path} is a Python pickle, which can run code", do="Write a table from it")
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    known = [meaning for magic, meaning in _BINARY.items() if head.startswith(magic)]
    known += [meaning for start, meaning in _TEXT.items() if text.startswith(start)]
    if known:
        raise MalformedError(explain(f"{path} is {known[0]}"))
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MalformedError(explain(f"{path} is UTF-16 text", do="Save it as UTF-8"))


def check_hidden(content: bytes, path: Path) -> None:
    """Refuse bytes that are not UTF-8, and characters that nobody sees, with their line."""
    if content.isascii() and len(content.translate(None, _HIDDEN_BYTES)) == len(content):
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
    found = _HIDDEN.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise MalformedError(
            explain(f"{path}:{line} holds {name_of(found.group())}", do="Remove it from the file")
        )


def hidden_in(text: str) -> str:
    """Name the first character of an id that cannot be seen; empty if there is none."""
    if text.isascii() and text.isprintable():
        return ""
    found = re.search(r"[\t\n\r]", text) or _HIDDEN.search(text)
    return name_of(found.group()) if found else ""


def name_of(character: str) -> str:
    """Name a character that cannot be shown, with its code point."""
    return f"{_NAMES.get(character, 'a hidden character')} (U+{ord(character):04X})"

"""Delimited text read strictly: every line's fields counted, ids byte-exact, nothing guessed.

What is accepted: comma, tab or runs of spaces between fields (told from the header), LF, CRLF or CR
line ends, a byte-order mark, gzip. What is refused, with the line: lines of another length, hidden
characters, a file cut short.
"""

from __future__ import annotations

import csv
import gzip
import io
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from imgwas.checks import duplicates
from imgwas.errors import MalformedError, explain
from imgwas.tables.recognise import check_format, check_hidden, explained

logger = logging.getLogger(__name__)

#: A text table may grow by this factor when unpacked, and to this size.
MAX_RATIO, MAX_BYTES = 200, 20_000_000_000
#: Text is parsed in blocks of this size, and in the larger ones if a line does not fit.
BLOCK, LONGEST_LINE = 8_000_000, 64_000_000
#: Of a header; each takes a fraction of a millisecond.
MOST_COLUMNS = 100_000


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
    text = read_text(path)
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


def read_text(path: Path) -> bytes:
    r"""Read UTF-8 text with ``\n`` between the lines and none at the ends.

    Raises
    ------
    OpenError, ReadError
        If the file is absent or cannot be read.
    MalformedError, RefusedError
        If it is no text, is empty, or holds hidden characters.
    """
    content = _read_bytes(path)
    check_format(content[:512], path)
    if content.startswith(b"PAR1"):
        raise MalformedError(explain(f"{path} is a Parquet file", do="Write the list as text"))
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        logger.info("%s: line ends of Windows or old Macs are read as line ends", path.name)
    if not content.strip():
        raise MalformedError(explain(f"{path} is empty"))
    if not content.endswith(b"\n"):
        logger.warning(
            "%s: the last line has no line end; if the file was cut short, its last value is too",
            path.name,
        )
    check_hidden(content, path)
    return content.lstrip(b"\n").rstrip(b"\n")


def _read_bytes(path: Path) -> bytes:
    with explained(path):
        raw = path.read_bytes()
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


def _delimiter(header: bytes) -> str:
    if b"\t" in header:
        return "\t"
    return "," if b"," in header else " "


def _header_names(header: bytes, delimiter: str, path: Path) -> list[str]:
    text = header.decode("utf-8")
    if delimiter == " " and ";" in text:
        raise MalformedError(
            explain(
                f"{path} separates its columns by semicolons",
                expected="Commas, tabs or spaces, and decimal points",
                do="Save it as tab-separated text",
            )
        )
    fields = fields_of(text, delimiter)
    if fields is None:
        raise MalformedError(explain(f"{path}:1 has a quotation mark that is not closed"))
    if len(fields) > MOST_COLUMNS:
        raise MalformedError(
            explain(
                f"{path} has {len(fields):,} columns",
                expected=f"At most {MOST_COLUMNS:,}, and one row a person",
                do="Is the table turned, with a column a person?",
            )
        )
    names = [name.strip() for name in fields]
    if delimiter != ",":
        names = [n[1:-1] if len(n) > 1 and n[0] == n[-1] == '"' else n for n in names]
    if "" in names:
        raise MalformedError(
            explain(
                f"{path}: column {names.index('') + 1} has no name",
                do="Name it in the first line: IID if it holds the sample ids",
            )
        )
    repeated = duplicates(names)
    if repeated:
        raise MalformedError(
            explain(
                f"{path}: the header names {', '.join(repeated[:3])} more than once",
                do="Rename one of them",
            )
        )
    return names


def fields_of(line: str, delimiter: str) -> list[str] | None:
    """Split a line into its fields; None if a quotation mark is not closed."""
    if delimiter == " ":
        return line.split()
    if delimiter == "\t" or '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        return None


def _parse(body: bytes, delimiter: str, names: list[str], path: Path) -> pa.Table:
    text, separator = body, delimiter
    if delimiter == " " or (delimiter == "\t" and b" " in body and b"\t" not in body[:10_000]):
        text, separator = _single_spaced(body), " "
    quoted = separator == "," and b'"' in text
    if text.startswith(b"\n") or b"\n\n" in text:
        _explain_ragged(text, separator, names, path)
    _check_last_line(text, separator, names, path)
    try:
        table = _read_csv(text, separator, names, quoted=quoted)
    except pa.ArrowInvalid:
        _explain_ragged(text, separator, names, path)
        table = _read_long_lines(text, separator, names, path, quoted=quoted)
    if quoted and table.num_rows != text.count(b"\n") + 1:
        _explain_line_break(table, text, names, path)
    return table


def _single_spaced(text: bytes) -> bytes:
    """Leave one space between fields and none around lines."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text.replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")


def _read_long_lines(
    text: bytes, separator: str, names: list[str], path: Path, *, quoted: bool
) -> pa.Table:
    try:
        return _read_csv(text, separator, names, quoted=quoted, block=LONGEST_LINE)
    except pa.ArrowInvalid:
        # the parser's own message quotes the line, and with it a person's id
        raise MalformedError(
            explain(
                f"{path} cannot be read as a table",
                do=f"Look for a line of more than {LONGEST_LINE:,} bytes",
            )
        ) from None


def _read_csv(
    text: bytes, separator: str, names: list[str], *, quoted: bool, block: int = BLOCK
) -> pa.Table:
    return pacsv.read_csv(
        io.BytesIO(text),
        read_options=pacsv.ReadOptions(column_names=names, block_size=block),
        parse_options=pacsv.ParseOptions(
            delimiter=separator,
            quote_char='"' if quoted else False,
            ignore_empty_lines=False,
            newlines_in_values=quoted,
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def _check_last_line(text: bytes, separator: str, names: list[str], path: Path) -> None:
    last = text.rsplit(b"\n", 1)[-1]
    n = last.count(separator.encode()) + 1
    if separator != "," and n < len(names):
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
        fields = fields_of(line.decode("utf-8"), separator)
        if fields is None:
            raise MalformedError(
                explain(
                    f"{path}:{number} has a quotation mark that is not closed",
                    expected="A field begins and ends on one line",
                    do="Close or remove the quotation mark",
                )
            ) from None
        if len(fields) != len(names):
            what = f"has {len(fields)} fields" if line.strip() else "is blank"
            do = "Complete or remove that line"
            if number == 2 and len(fields) == len(names) + 1:
                do = "Remove what is too much; R adds a column unless told row.names=FALSE"
            raise MalformedError(
                explain(f"{path}:{number} {what}", expected=f"The header has {len(names)}", do=do)
            ) from None


def _explain_line_break(table: pa.Table, text: bytes, names: list[str], path: Path) -> None:
    """Refuse a field that goes on in the next line: most often a quotation mark left open."""
    _explain_ragged(text, ",", names, path)
    rows = [pc.index(pc.match_substring(table[name], "\n"), True).as_py() for name in names]
    row = min((row for row in rows if row >= 0), default=0)
    raise MalformedError(
        explain(
            f"{path}:{row + 2} has a quoted field that goes on in the next line",
            do="Close or remove the quotation mark",
        )
    )

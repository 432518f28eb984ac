"""The ``.pvar`` (or ``.pvar.zst``) and ``.psam`` beside a ``.pgen``, also without a header."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from imgwas.arrow import from_strings, to_numpy
from imgwas.errors import DecompressError, MalformedError, OpenError, explain
from imgwas.genotypes.text import LONGEST_LINE, PIECE, decoded, read_bytes, what_it_is
from imgwas.genotypes.variant_table import AS_BIM, samples_of, variant_batch, wrong_position
from imgwas.scratch import table_aside
from imgwas.types import VARIANT_SCHEMA, Samples

_PVAR = ("#CHROM", "POS", "ID", "REF", "ALT")
#: A header is shorter than this, or the file is something else.
_LONGEST_HEADER = 1 << 28
_WITHOUT_HEADER = {5: ("#CHROM", "ID", "POS", "ALT", "REF"),
                   6: ("#CHROM", "ID", "CM", "POS", "ALT", "REF")}  # fmt: skip
#: PLINK 2's limit: REF and 254 others.
MOST_ALLELES = 255


class _Text(io.BufferedIOBase):
    """A table that is unpacked, digested, and brought to its first row while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        compression = "zstd" if path.suffix == ".zst" else None
        try:
            self._stream = pa.input_stream(str(path), compression=compression)
        except (OSError, pa.ArrowException) as error:
            raise OpenError(explain(f"{path} cannot be opened")) from error
        self._sha = hashlib.sha256()
        self._held = b""
        self.header: list[str] = []
        self._find_header()

    def _raw(self, size: int) -> bytes:
        try:
            content = bytes(self._stream.read(size))
        except (OSError, pa.ArrowException) as error:
            raise DecompressError(
                explain(f"{self.path} does not unpack ({error})", do="Copy the file again")
            ) from error
        self._sha.update(content)
        return content

    def _find_header(self) -> None:
        """Skip lines of ``##``; take the line of names if there is one."""
        held, at = self._raw(1 << 20), 0
        meaning = what_it_is(held[:32])
        if meaning or not held:
            raise MalformedError(explain(f"{self.path} is {meaning or 'empty'}"))
        while True:
            end = held.find(b"\n", at)
            if end < 0:
                more = self._raw(1 << 20) if len(held) < _LONGEST_HEADER else b""
                if not more:
                    break
                held = held[at:] + more
                at = 0
                continue
            line = held[at:end]
            if line.startswith(b"##"):
                at = end + 1
                continue
            if line.startswith(b"#"):
                self.header = line.decode("utf-8", "surrogateescape").split()
                at = end + 1
            break
        self._held = held[at:]

    def read(self, size: int | None = -1) -> bytes:
        """Pass on the next bytes."""
        if self._held:
            content, self._held = self._held, b""
            return content
        if size is None or size < 0:
            return b"".join(iter(lambda: self._raw(1 << 22), b""))
        return self._raw(size)

    def first_line(self) -> bytes:
        """Return the first row, which stays to be read."""
        return self._held.split(b"\n", 1)[0]

    def readable(self) -> bool:
        """Say that bytes can be read."""
        return True

    def digest(self) -> str:
        """SHA-256 of what was unpacked."""
        return self._sha.hexdigest()


def read_pvar(path: Path) -> tuple[pa.Table, np.ndarray, str]:
    """Read the variants of a ``.pvar``.

    Returns
    -------
    table : pyarrow.Table
        Variants, with all ALT alleles by commas as the effect allele and REF as the other.
    n_alleles : (variants,) uint8 array
        Alleles of each.
    digest : str
        SHA-256 of the text.

    Raises
    ------
    MalformedError
        If columns are missing or a line has another number of fields.
    """
    for piece in (PIECE, LONGEST_LINE):  # few lines are longer than the first
        try:
            return _read_pvar(path, piece)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            what = _short(error)
    raise MalformedError(
        explain(
            f"{path} cannot be read as a table of variants ({what})", do="Copy or make it again"
        )
    )


def _read_pvar(path: Path, piece: int) -> tuple[pa.Table, np.ndarray, str]:
    text = _Text(path)
    names = text.header or list(_WITHOUT_HEADER.get(len(text.first_line().split()), ()))
    absent = [name for name in _PVAR if name not in names]
    if absent:
        raise MalformedError(
            explain(
                f"{path} has no column {', '.join(absent)}",
                expected=f"A .pvar has {' '.join(_PVAR)}",
                do="Make it again: plink2 --make-just-pvar",
            )
        )
    n_alleles: list[np.ndarray] = []
    table = table_aside(_variants(path, _batches(text, names, piece), n_alleles), VARIANT_SCHEMA)
    if not table.num_rows:
        raise MalformedError(explain(f"{path} has no variants"))
    return table, np.concatenate(n_alleles), text.digest()


def _batches(text: _Text, names: list[str], piece: int) -> Iterator[pa.RecordBatch]:
    source: Any = text
    first = text.first_line()
    if b"\t" not in first or b" " in first or first.endswith(b"\r"):
        lines = text.read(-1)
        while more := text.read(-1):
            lines += more
        source = io.BytesIO(b"\n".join(b"\t".join(line.split()) for line in lines.splitlines()))
    yield from pacsv.open_csv(
        source,
        read_options=pacsv.ReadOptions(column_names=names, block_size=piece, use_threads=False),
        parse_options=pacsv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pacsv.ConvertOptions(
            include_columns=list(_PVAR),
            column_types=dict.fromkeys(_PVAR, pa.string()),
            strings_can_be_null=False,
        ),
    )
    text.read(-1)


def _variants(
    path: Path, batches: Iterator[pa.RecordBatch], n_alleles: list[np.ndarray]
) -> Iterator[pa.RecordBatch]:
    """Check rows and turn them into those of a variant table; also count their alleles."""
    start = 0
    for batch in batches:
        _check_cells(path, batch, start)
        n_alleles.append(_count_alleles(path, batch["ALT"], start))
        columns = [batch[name] for name in ("#CHROM", "POS", "ID", "ALT", "REF")]
        try:
            yield variant_batch(pa.RecordBatch.from_arrays(columns, AS_BIM))
        except pa.ArrowInvalid:
            raise wrong_position(batch["POS"], path, start) from None
        start += len(batch)


def _check_cells(path: Path, batch: pa.RecordBatch, start: int) -> None:
    for name in _PVAR:
        column = batch[name]
        bad = pc.or_(pc.equal(pc.binary_length(column), 0), pc.match_substring(column, " "))
        if pc.any(bad).as_py():
            row = int(np.flatnonzero(to_numpy(bad))[0])
            raise MalformedError(
                explain(
                    f"variant {start + row + 1:,} of {path} has {column[row].as_py()!a} in column "
                    f"{name}",
                    expected="No cell is empty or holds a space",
                )
            )


def _count_alleles(path: Path, alt: pa.Array, start: int) -> np.ndarray:
    n_alleles = to_numpy(pc.add(pc.count_substring(alt, ","), 2)).astype(np.int64)
    n_alleles[to_numpy(pc.equal(alt, "."))] = 1
    if n_alleles.max(initial=0) > MOST_ALLELES:
        row = int(n_alleles.argmax())
        raise MalformedError(
            explain(
                f"variant {start + row + 1:,} of {path} has {n_alleles[row]:,} alleles",
                expected=f"A .pgen holds at most {MOST_ALLELES} of a variant",
            )
        )
    return n_alleles.astype(np.uint8)


def _short(error: Exception) -> str:
    return str(error).split("\n", 1)[0].split(": ", 2)[-1][:80]


def read_psam(path: Path) -> tuple[Samples, str]:
    """Read the people of a ``.psam``, or of a ``.fam`` under that name.

    Raises
    ------
    MalformedError
        With the line, the fields found and expected.
    """
    content = read_bytes(path)
    meaning = what_it_is(content[:32])
    if meaning:
        raise MalformedError(explain(f"{path} is {meaning}"))
    lines = decoded(path, content).splitlines()
    names = ["#FID", "IID", "PAT", "MAT", "SEX", "PHENO"]
    start = 0
    for number, line in enumerate(lines):
        if line.startswith("#") and not line.startswith(("#FID", "#IID")):
            continue
        start = number
        if line.startswith("#"):
            names, start = line.split(), number + 1
        break
    else:
        raise MalformedError(explain(f"{path} has no people"))
    rows = [line.split() for line in lines[start:]]
    while rows and not rows[-1]:
        rows.pop()
    if start == 0 and rows and len(rows[0]) == 5:
        names = names[:5]
    _check_fields(path, rows, len(names), start)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    zeros = ("0",) * len(rows)
    table = {
        "family_id": columns.get("#FID", zeros),
        "sample_id": columns["#IID"] if "#IID" in columns else columns.get("IID", zeros),
        "father": columns.get("PAT", zeros),
        "mother": columns.get("MAT", zeros),
        "sex": columns.get("SEX", zeros),
    }
    arrays = {name: from_strings(list(values)) for name, values in table.items()}
    return samples_of(pa.table(arrays)), hashlib.sha256(content).hexdigest()


def _check_fields(path: Path, rows: list[list[str]], n_fields: int, start: int) -> None:
    if not rows:
        raise MalformedError(explain(f"{path} has no people"))
    wrong = next((i for i, row in enumerate(rows) if len(row) != n_fields), None)
    if wrong is not None:
        raise MalformedError(
            explain(
                f"{path}:{start + wrong + 1} has {len(rows[wrong])} fields",
                expected=f"{n_fields} are needed on every line",
                do="Complete or remove that line",
            )
        )

"""What the rows of a ``.bim`` and a ``.fam`` mean: chromosomes, positions, alleles, people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, from_strings, string_scalar, to_numpy
from imgwas.errors import MalformedError, explain
from imgwas.scratch import ArrayAside, release, table_aside
from imgwas.types import VARIANT_SCHEMA, Samples

#: Spellings of chromosomes -> the name used here.
_CHROMOSOMES = {str(i): str(i) for i in range(1, 23)} | {
    "X": "X", "23": "X", "Y": "Y", "24": "Y", "M": "MT", "MT": "MT", "26": "MT",
    "XY": "XY", "25": "XY", "PAR": "XY", "PAR1": "XY", "PAR2": "XY",
}  # fmt: skip

#: Spellings of sex in column 5 of a ``.fam`` that PLINK 2 takes; anything else is unknown.
_SEXES = {"1": 1, "M": 1, "m": 1, "2": 2, "F": 2, "f": 2}
_MOST_DIGITS = 18
#: Columns of a ``.bim`` that :func:`variant_batch` takes.
AS_BIM = ["chromosome", "base_pair_location", "variant_id", "allele_1", "allele_2"]
#: Rows of a long table that are looked at together.
AT_ONCE = 1 << 19
_DIGITS = re.compile(rf"[0-9]{{1,{_MOST_DIGITS}}}")


def samples_of(table: pa.Table) -> Samples:
    """People of a ``.fam``, who is a founder and of which sex."""
    ids = table["sample_id"].to_pylist()
    nobody = string_scalar("0")
    no_parents = pc.and_(pc.equal(table["father"], nobody), pc.equal(table["mother"], nobody))
    sex = np.zeros(len(ids), np.int8)
    for text, code in _SEXES.items():
        sex[to_numpy(pc.equal(table["sex"], string_scalar(text)))] = code
    return Samples(
        sample_ids=tuple(ids),
        family_ids=tuple(table["family_id"].to_pylist()),
        sex=sex,
        is_founder=to_numpy(no_parents),
    )


def variant_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of a ``.bim`` as rows of a variant table, column 5 as the effect allele.

    Raises
    ------
    ArrowInvalid
        If a position is no number, which :func:`variants_of` says better.
    """
    columns = [
        _chromosome_names(batch.column("chromosome")),
        _positions(batch.column("base_pair_location")),
        *(batch.column(name) for name in ("variant_id", "allele_1", "allele_2")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=VARIANT_SCHEMA)


def variants_of(table: pa.Table, path: Path) -> pa.Table:
    """Variant table of the rows of a ``.bim``, unless it is one already.

    Raises
    ------
    MalformedError
        With the first row whose position is none.
    """
    if table.schema == VARIANT_SCHEMA:
        return table
    try:
        return table_aside(map(variant_batch, table.to_batches()), VARIANT_SCHEMA)
    except pa.ArrowInvalid:
        raise wrong_position(table["base_pair_location"], path) from None


def stretches(variants: pa.Table, column: str) -> Iterator[tuple[slice, pa.ChunkedArray]]:
    """Go through a column of a long table; what was looked at need not stay in memory."""
    for start in range(0, variants.num_rows, AT_ONCE):
        found = variants.column(column).slice(start, AT_ONCE)
        yield slice(start, start + len(found)), found
        release()


def some_variants(variants: pa.Table, rows: np.ndarray) -> Iterator[tuple[slice, pa.RecordBatch]]:
    """Go through some rows of a long table, which may repeat: which of them, and what they hold."""
    before = 0
    for batch in variants.to_batches():
        first, stop = np.searchsorted(rows, [before, before + len(batch)]).tolist()
        yield slice(first, stop), batch.take(from_numpy(rows[first:stop] - before))
        before += len(batch)
        release()


def of_chromosomes(
    variants: pa.Table,
    rows: np.ndarray,
    say: Callable[[pa.ChunkedArray], np.ndarray],
    dtype: type[np.generic],
) -> np.ndarray:
    """Gather what a function says of the chromosomes of some rows, which increase."""
    with ArrayAside(dtype) as found:
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            first, stop = int(some[0]), int(some[-1]) + 1
            names = variants.column("chromosome").slice(first, stop - first)
            found.add(say(names)[some - first])
            release()
        return found.array()


def _chromosome_names(column: pa.Array) -> pa.Array:
    """Normalise ``chr1``, ``01``, ``23``; contigs keep their own names."""
    encoded = column.dictionary_encode()
    names = [chromosome_name(name) for name in encoded.dictionary.to_pylist()]
    return from_strings(names).take(encoded.indices)


def chromosome_name(name: str) -> str:
    """Name a chromosome as imgwas does: 1 to 22, X, Y, XY, MT, or the contig's own name."""
    bare = name[3:] if name.lower().startswith("chr") else name
    return _CHROMOSOMES.get(bare.upper().lstrip("0") or "0", name)


def _positions(column: pa.Array) -> pa.Array:
    # Arrow also reads 0x1F, which no other program does
    are_digits = pc.all(pc.ascii_is_decimal(column), min_count=0).as_py()
    if are_digits and _longest(column) <= _MOST_DIGITS:
        positions = column.cast(pa.int64())
        if to_numpy(positions).max(initial=0) < 2**31:
            return positions
    raise pa.ArrowInvalid("a position")


def _longest(column: pa.Array) -> int:
    return int(pc.max(pc.binary_length(column)).as_py() or 0)


def wrong_position(
    column: pa.Array | pa.ChunkedArray, path: Path, before: int = 0
) -> MalformedError:
    """Name the first of some positions that is none; so many rows came before them."""
    number, text = next(
        (number, text)
        for number, text in enumerate(column.to_pylist(), start=before + 1)
        if not _DIGITS.fullmatch(text) or int(text) >= 2**31
    )
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return MalformedError(
        explain(
            f"{path}:{number} has the position {shown!a}",
            expected="Positions are whole numbers from 0 to 2147483647",
        )
    )

"""What the rows of a ``.bim`` and a ``.fam`` mean: chromosomes, positions, alleles, people."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_strings, string_scalar, to_numpy
from imgwas.errors import MalformedError, explain
from imgwas.types import VARIANT_SCHEMA, Samples

#: Spellings of chromosomes -> the name used here.
_CHROMOSOMES = {str(i): str(i) for i in range(1, 23)} | {
    "X": "X", "23": "X", "Y": "Y", "24": "Y", "M": "MT", "MT": "MT", "26": "MT",
    "XY": "XY", "25": "XY", "PAR": "XY", "PAR1": "XY", "PAR2": "XY",
}  # fmt: skip

#: Spellings of sex in column 5 of a ``.fam`` that PLINK 2 takes; anything else is unknown.
_SEXES = {"1": 1, "M": 1, "m": 1, "2": 2, "F": 2, "f": 2}
_MOST_DIGITS = 18
#: Columns of a ``.bim`` that are used.
VARIANT_COLUMNS = ("chromosome", "base_pair_location", "variant_id", "allele_1", "allele_2")
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


def shortened(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Positions as numbers and no centimorgans, so that long tables are never held as text.

    Raises
    ------
    ArrowInvalid
        If a position is no number, which :func:`variants_of` says better.
    """
    text = batch.column("base_pair_location")
    if not _are_numbers(text):
        raise pa.ArrowInvalid("a position")
    names = [name for name in batch.schema.names if name in VARIANT_COLUMNS]
    columns = [batch.column(name) for name in names]
    columns[names.index("base_pair_location")] = text.cast(pa.int64())
    return pa.RecordBatch.from_arrays(columns, names)


def variants_of(table: pa.Table, path: Path) -> pa.Table:
    """Variant table with column 5 as the effect allele."""
    return pa.table(
        [
            _chromosome_names(table["chromosome"]),
            _positions(table["base_pair_location"], path),
            table["variant_id"],
            table["allele_1"],
            table["allele_2"],
        ],
        schema=VARIANT_SCHEMA,
    )


def _chromosome_names(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Normalise ``chr1``, ``01``, ``23``; contigs keep their own names."""
    named = []
    for chunk in column.chunks:  # one by one: a long column is never there three times
        encoded = chunk.dictionary_encode()
        names = [chromosome_name(name) for name in encoded.dictionary.to_pylist()]
        named.append(from_strings(names).take(encoded.indices))
    return pa.chunked_array([pa.concat_arrays(named)] if named else [], pa.string())


def chromosome_name(name: str) -> str:
    """Name a chromosome as imgwas does: 1 to 22, X, Y, XY, MT, or the contig's own name."""
    bare = name[3:] if name.lower().startswith("chr") else name
    return _CHROMOSOMES.get(bare.upper().lstrip("0") or "0", name)


def _are_numbers(column: pa.Array | pa.ChunkedArray) -> bool:
    digits = pc.all(pc.ascii_is_decimal(column)).as_py()
    return bool(digits and pc.max(pc.binary_length(column)).as_py() <= _MOST_DIGITS)


def _positions(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    # Arrow also reads 0x1F, which no other program does
    if pa.types.is_integer(column.type) or _are_numbers(column):
        positions = column.cast(pa.int64())
        if to_numpy(positions).max() < 2**31:
            return positions
        column = column.cast(pa.string())
    number, text = next(
        (number, text)
        for number, text in enumerate(column.to_pylist(), start=1)
        if not _DIGITS.fullmatch(text) or int(text) >= 2**31
    )
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    raise MalformedError(
        explain(
            f"{path}:{number} has the position {shown!a}",
            expected="Positions are whole numbers from 0 to 2147483647",
        )
    )

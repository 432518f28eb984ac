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
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    names = [chromosome_name(name) for name in encoded.dictionary.to_pylist()]
    return pa.chunked_array([from_strings(names).take(encoded.indices)])


def chromosome_name(name: str) -> str:
    """Name a chromosome as imgwas does: 1 to 22, X, Y, XY, MT, or the contig's own name."""
    bare = name[3:] if name.lower().startswith("chr") else name
    return _CHROMOSOMES.get(bare.upper().lstrip("0") or "0", name)


def _positions(column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    # Arrow also reads 0x1F, which no other program does
    digits = pc.all(pc.ascii_is_decimal(column)).as_py()
    if digits and pc.max(pc.binary_length(column)).as_py() <= _MOST_DIGITS:
        positions = column.cast(pa.int64())
        if to_numpy(positions).max() < 2**31:
            return positions
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

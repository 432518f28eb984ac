"""Which allele of a ``.bim`` is counted, and turning codes and names accordingly."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, from_strings, to_numpy
from imgwas.errors import InconsistentError, MalformedError, UsageError, explain
from imgwas.genotypes.text import read_columns
from imgwas.scratch import release, table_aside
from imgwas.types import VARIANT_SCHEMA

logger = logging.getLogger(__name__)


def alleles_to_swap(variants: pa.Table, choice: str | Path) -> np.ndarray | None:
    """Rows whose effect allele is column 6; None where it is column 5 throughout."""
    if choice == "a1":
        return None
    if choice == "a2":
        return np.ones(variants.num_rows, bool)
    if isinstance(choice, str) and not Path(choice).is_file():
        raise UsageError(explain(f"effect_allele is {choice!r}", expected="a1, a2 or a file"))
    return _swap_by_file(variants, Path(choice))


def _swap_by_file(variants: pa.Table, path: Path) -> np.ndarray:
    table, _ = read_columns(path, ("variant_id", "allele"))
    wanted = _wanted(path, table["variant_id"].to_pylist(), table["allele"].to_pylist())
    index = pc.index_in(variants["variant_id"], from_strings(list(wanted)))
    listed = to_numpy(index.is_valid())
    allele = from_strings(list(wanted.values())).take(index.combine_chunks())
    first = to_numpy(pc.fill_null(pc.equal(variants["effect_allele"], allele), False))
    second = to_numpy(pc.fill_null(pc.equal(variants["other_allele"], allele), False))
    strange = listed & ~first & ~second
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise InconsistentError(
            explain(
                f"{path} names an allele that {int(strange.sum()):,} variants do not have",
                where=f"first: {variants['variant_id'][row].as_py()}, row {row + 1} of the .bim",
                do="Compare strands and builds of the two files",
            )
        )
    logger.info(
        "effect alleles of %s variants are set by %s, of %s by column 5",
        f"{int(listed.sum()):,}",
        path.name,
        f"{int((~listed).sum()):,}",
    )
    return second & ~first


def _wanted(path: Path, ids: list[str], alleles: list[str]) -> dict[str, str]:
    """Allele of each listed variant; a variant may be listed twice, but with one allele."""
    wanted: dict[str, str] = {}
    for number, (name, allele) in enumerate(zip(ids, alleles, strict=True), start=1):
        if wanted.setdefault(name, allele) != allele:
            raise MalformedError(
                explain(
                    f"{path}:{number} names the allele {allele} for {name}, which had "
                    f"{wanted[name]} before",
                    expected="One effect allele a variant",
                )
            )
    return wanted


def name_alleles(variants: pa.Table, swap: np.ndarray | None) -> pa.Table:
    """Exchange the names of the two alleles in the rows to swap."""
    if swap is None:
        return variants
    return table_aside(_exchanged(variants, swap), VARIANT_SCHEMA)


def _exchanged(variants: pa.Table, swap: np.ndarray) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in variants.to_batches():
        mask = from_numpy(swap[start : start + len(batch)].view(np.uint8)).cast(pa.bool_())
        *others, first, second = batch.columns
        turned = pc.if_else(mask, second, first), pc.if_else(mask, first, second)
        yield pa.RecordBatch.from_arrays([*others, *turned], schema=VARIANT_SCHEMA)
        start += len(batch)
        release()


def swap_homozygotes(packed: np.ndarray, n_people: int) -> np.ndarray:
    """Turn 00 into 11 and back; padding stays zero."""
    same = ~(packed ^ (packed >> 1)) & 0x55
    swapped = packed ^ (same | (same << 1))
    spare = -n_people % 4
    if spare:
        swapped[:, -1] &= (1 << (2 * (4 - spare))) - 1
    return np.asarray(swapped)

"""Reading parts: columns with verified checksums, and where on the genome a part lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imgwas.arrow import string_scalar, to_numpy
from imgwas.checks import did_you_mean
from imgwas.errors import DegenerateError, ImgwasError, MalformedError, UsageError, explain
from imgwas.sumstats.effects import (
    VARIANT_COLUMNS,
    chromosome_code,
    chromosome_codes,
    dictionary_of,
)


def read_part(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of one part, row group by row group, page checksums verified.

    Whether a column may be null is not told: it differs between versions that share a folder.
    """
    names = list(columns)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_columns(path, columns, file.schema_arrow.names)
            for group in range(file.num_row_groups):
                # a column path with dots also matches longer names, hence the selection
                found = file.read_row_group(group, columns=names).select(names)
                yield pa.table(found.columns, names)
            if not file.num_row_groups:
                yield pa.table(file.schema_arrow.empty_table().select(names).columns, names)
    except (OSError, pa.ArrowException) as error:
        raise MalformedError(
            explain(
                f"{path} cannot be read ({str(error).splitlines()[0][:120]})",
                do="Delete it and its .ok.json, then run the scan again to repair it",
            )
        ) from error


def check_known(path: Path, wanted: Sequence[str]) -> None:
    """Refuse columns that the user asked for and no part has."""
    known = pq.read_schema(path).names
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(
            explain(
                f"the results have no column {unknown[0]!r}",
                do=did_you_mean(unknown[0], known) or f"Try {', '.join(VARIANT_COLUMNS)}",
            )
        )


def no_such_latent(
    name: str, folder: Path, latents: Sequence[str], quarantined: Mapping[str, str]
) -> ImgwasError:
    """Say why a latent has no results: set aside by the scan, or unknown."""
    if name in quarantined:
        return DegenerateError(explain(f"latent {name} was not tested: {quarantined[name]}"))
    return UsageError(
        explain(
            f"there is no latent {name!r} in {folder}",
            do=did_you_mean(name, latents) or f"It has {', '.join(latents[:8])}",
        )
    )


def _check_columns(path: Path, columns: Sequence[str], known: Sequence[str]) -> None:
    present = set(known)
    missing = [name for name in columns if name not in present]
    if missing:
        raise MalformedError(
            explain(
                f"{path} has no column {missing[0]!r}",
                expected="Every part holds all columns of docs/data_model.md",
                do="Delete it and its .ok.json, then run the scan again to repair it",
            )
        )


def chromosome_key(name: str) -> int | str:
    """Number of a chromosome, or the name itself of a contig."""
    return chromosome_code(name) or name


def inside(block: pa.Table, chromosome: str, start: int, end: int) -> np.ndarray:
    """Rows of a block between two positions, both included."""
    key = chromosome_key(chromosome)
    position = to_numpy(block["base_pair_location"])
    if isinstance(key, str):
        here = to_numpy(pc.equal(block["chromosome"], string_scalar(key)))
    else:
        here = chromosome_codes(block["chromosome"]) == key
    return np.asarray(here & (position >= start) & (position <= end))


def extent_of(path: Path) -> dict[int | str, tuple[int, int]]:
    """First and last position of every chromosome in a part."""
    extent: dict[int | str, tuple[int, int]] = {}
    for block in read_part(path, ["chromosome", "base_pair_location"]):
        names, indices = dictionary_of(block["chromosome"])
        position = to_numpy(block["base_pair_location"])
        for number, name in enumerate(names):
            here = position[indices == number]
            key = chromosome_key(name)
            low, high = extent.get(key, (here[0], here[0]))
            extent[key] = (min(low, here.min()), max(high, here.max()))
    return extent

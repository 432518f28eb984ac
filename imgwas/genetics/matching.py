"""Which row of a genotype file each variant of a scan is, and which people were scanned."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import string_scalar, to_numpy
from imgwas.errors import InconsistentError, explain
from imgwas.shapes import Int64
from imgwas.sumstats import SumStats
from imgwas.tables import read_id_list
from imgwas.types import Genotypes, Samples

logger = logging.getLogger(__name__)

#: Below this share of variants found, results and genotypes do not belong together.
LEAST_SHARE = 0.5


def genotype_rows(
    sumstats: SumStats, genotypes: Genotypes, row: np.ndarray
) -> Int64[np.ndarray, " variants"]:
    """Row of the genotype file of every variant of a scan, -1 where the file has none.

    The rows recorded by the scan are used where the ``.bim`` is the one that was scanned; otherwise
    variants are matched by chromosome, position and the two alleles in either order.

    Raises
    ------
    InconsistentError
        If fewer than half of the variants are found.
    """
    scanned = sumstats.metadata.get("identity", {}).get("genotypes", {})
    if _digests(scanned) and _digests(scanned) == _digests(genotypes.fingerprint()):
        return row
    blocks = sumstats.iter_blocks(
        ["chromosome", "base_pair_location", "effect_allele", "other_allele"]
    )
    ours = pa.concat_tables(list(blocks))
    found = pc.index_in(_keys(ours), value_set=_keys(genotypes.variants).combine_chunks())
    rows = to_numpy(pc.fill_null(found, -1)).astype(np.int64)
    n_found = int((rows >= 0).sum())
    logger.info("%s of %s variants are in the genotypes", f"{n_found:,}", f"{len(rows):,}")
    if n_found < LEAST_SHARE * len(rows):
        raise InconsistentError(
            explain(
                f"{n_found:,} of the {len(rows):,} variants of {sumstats.folder} are in "
                f"{genotypes}",
                expected="The genotypes that were scanned: chromosome, position and alleles must "
                "be the same",
                do="Name the fileset that run.json records, in the same genome build",
            )
        )
    return rows


def _digests(fingerprint: Mapping[str, Any]) -> list[str]:
    """Digests of all ``.bim`` files of a fingerprint, in order."""
    if "bim_sha256" in fingerprint:
        return [str(fingerprint["bim_sha256"])]
    return [d for name in sorted(fingerprint) if isinstance(fingerprint[name], Mapping)
            for d in _digests(fingerprint[name])]  # fmt: skip


def _keys(table: pa.Table) -> pa.ChunkedArray:
    effect, other = table["effect_allele"], table["other_allele"]
    swap = pc.greater(effect, other)
    place = table["chromosome"], table["base_pair_location"].cast(pa.string())
    alleles = pc.if_else(swap, other, effect), pc.if_else(swap, effect, other)
    return pc.binary_join_element_wise(*place, *alleles, string_scalar(":"))


def are_scanned_people(sumstats: SumStats, sample_ids: tuple[str, ...]) -> bool:
    """Whether these are exactly the people of the scan, in order, by the digest it recorded."""
    digest = hashlib.sha256("\n".join(sample_ids).encode("utf-8", "surrogateescape")).hexdigest()
    return bool(digest == sumstats.metadata.get("identity", {}).get("samples"))


def listed_columns(
    samples: Samples, keep: Sequence[Path] = (), remove: Sequence[Path] = ()
) -> Int64[np.ndarray, " people"] | None:
    """Columns of the genotype file that lists of people leave; None where there is no list.

    Raises
    ------
    InconsistentError
        If nobody is left.
    """
    if not keep and not remove:
        return None
    chosen = np.ones(len(samples), bool)
    for paths, wanted in ((keep, True), (remove, False)):
        if paths:
            chosen &= _is_listed(samples, paths) == wanted
    if not chosen.any():
        raise InconsistentError(
            explain(
                f"--keep and --remove leave none of the {len(samples):,} people genotyped",
                expected="One id a line: IID, or FID and IID",
                do="Compare the first lines of the list and of the .fam",
            )
        )
    return np.flatnonzero(chosen)


def _is_listed(samples: Samples, paths: Sequence[Path]) -> np.ndarray:
    alone: set[str] = set()
    both: set[tuple[str, str]] = set()
    for ids in map(read_id_list, paths):
        if ids.family_ids is None:
            alone.update(ids.sample_ids)
        else:
            both.update(zip(ids.family_ids, ids.sample_ids, strict=True))
    people = zip(samples.family_ids, samples.sample_ids, strict=True)
    return np.array([i in alone or (f, i) in both or ("0", i) in both for f, i in people], bool)

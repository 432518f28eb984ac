"""One part of a scan: blocks computed, gathered into one table, published with its receipt."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.arrow import from_numpy, with_nulls
from imgwas.association.blocks import GroupResult, Workspace
from imgwas.association.dosage_reading import DosageBlock
from imgwas.association.haploid import look_at_men
from imgwas.association.probing import BlockSums, add_products, publish_sums
from imgwas.association.reading import DESIGNS, PackedBlock, VariantBlock
from imgwas.association.task import AUTOSOME, ScanTask
from imgwas.files import publish_bytes, publish_json, sealed
from imgwas.genotypes.counts import GenotypeCounts
from imgwas.scratch import release
from imgwas.sumstats.joint import IN_SCAN
from imgwas.types import VARIANT_SCHEMA, DosageGenotypes


@dataclass(frozen=True)
class BlockResult:
    """Everything one block contributes to its part."""

    rows: np.ndarray
    n_missing: np.ndarray
    diploid_counts: GenotypeCounts
    quality: np.ndarray
    groups: list[GroupResult]
    removed: dict[str, int]
    digest: bytes
    #: -log10 P over all latents by name of the test; empty where not asked for
    omnibus: dict[str, np.ndarray]
    #: of random vectors, for heritability; empty where not asked for
    sums: BlockSums
    #: calls of men on X and Y, of all variants that were read
    male_heterozygotes: int = 0


def read_block(task: ScanTask, rows: np.ndarray) -> VariantBlock:
    """Read some rows of the genotype file that are in the scan."""
    kinds = task.kinds[np.searchsorted(task.rows, rows)]
    reader = DosageBlock if isinstance(task.genotypes, DosageGenotypes) else PackedBlock
    return reader.read(task, rows, kinds)


def scan_rows(task: ScanTask, rows: np.ndarray, workspace: Workspace) -> BlockResult:
    """Read, filter and test the variants of one block."""
    block, of_men = look_at_men(read_block(task, rows))
    keep, removed = block.filtered()
    if not keep.all():
        rows, block = rows[keep], block.take(keep)
    pieces, sums = [], BlockSums.none()
    for start, stop in _runs(block.kinds):
        kind = int(block.kinds[start])
        pieces.append(_test(block, start, stop, workspace))
        if task.settings.heritability and DESIGNS[kind] == AUTOSOME:
            add_products(sums, jackknife_of(task, rows[start:stop]), pieces[-1], workspace)
    groups = [_join_groups(list(group)) for group in zip(*pieces, strict=True)]
    if not pieces:
        groups = [_no_variants(len(names), task) for names in task.names]
    return BlockResult(
        rows=rows,
        n_missing=block.n_missing,
        diploid_counts=block.diploid_counts(),
        quality=block.imputation_quality(),
        groups=groups,
        removed=removed,
        digest=block.digest,
        omnibus=_omnibus(task, block.kinds, pieces),
        sums=sums,
        male_heterozygotes=of_men,
    )


def _test(block: VariantBlock, start: int, stop: int, workspace: Workspace) -> list[GroupResult]:
    """Test a run of one kind, in steps where the buffers are smaller than it."""
    kind, step = int(block.kinds[start]), workspace.block_size
    steps = [
        block.take(slice(at, min(at + step, stop))).test(kind, workspace)
        for at in range(start, stop, step)
    ]
    if len(steps) == 1:
        return steps[0]
    return [_join_groups(list(group)) for group in zip(*steps, strict=True)]


def _omnibus(
    task: ScanTask, kinds: np.ndarray, pieces: list[list[GroupResult]]
) -> dict[str, np.ndarray]:
    """Tests of all latents at once, from the t statistics of each run of one kind."""
    if not task.settings.omnibus:
        return {}
    found = [
        task.omnibus[DESIGNS[kinds[start]]].columns(
            np.hstack([result.t for result in groups]),
            np.column_stack([result.dof for result in groups]),
        )
        for (start, _), groups in zip(_runs(kinds), pieces, strict=True)
    ]
    return {name: np.concatenate([np.empty(0), *(f[name] for f in found)]) for name in IN_SCAN}


def jackknife_of(task: ScanTask, rows: np.ndarray) -> np.ndarray:
    """Jackknife blocks of some rows of the genotype file that are in the scan."""
    return task.jackknife[np.searchsorted(task.rows, rows)]


def _runs(kinds: np.ndarray) -> list[tuple[int, int]]:
    """Runs of equal kind, as (start, stop)."""
    if not len(kinds):
        return []
    edges = np.flatnonzero(np.diff(kinds)) + 1
    return list(zip([0, *edges.tolist()], [*edges.tolist(), len(kinds)], strict=True))


def _join_groups(results: list[GroupResult]) -> GroupResult:
    if len(results) == 1:
        return results[0]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(result, name) for result in results])
        for name in ("t", "n", "dof", "effect_allele_frequency", "scale", "reason")
    }
    beta = None
    if any(result.beta is not None for result in results):
        beta = np.concatenate([result.beta for result in results])
    return GroupResult(**joined, beta=beta)


def _no_variants(n_traits: int, task: ScanTask) -> GroupResult:
    none = np.empty(0)
    return GroupResult(
        t=np.empty((0, n_traits), task.settings.dtype),
        beta=np.empty((0, n_traits)) if task.settings.missing_genotype == "drop" else None,
        n=none.astype(np.int64),
        dof=none.astype(np.int64),
        effect_allele_frequency=none,
        scale=none,
        reason=none.astype(np.int8),
    )


#: Columns of a part that may be null: names of variants are the caller's.
NULLABLE = ("imputation_r2", *VARIANT_SCHEMA.names)


class PartBuilder:
    """Collects the blocks of one part, in any order, and publishes them in theirs."""

    def __init__(self, task: ScanTask, part: int) -> None:
        self.task, self.part = task, part
        self.block_rows = list(task.blocks(part))
        self._results: list[BlockResult | None] = [None] * len(self.block_rows)
        self._left = len(self.block_rows)
        self._sums, self._summed = BlockSums.none(), 0
        self._lock = threading.Lock()

    def add(self, index: int, result: BlockResult) -> bool:
        """Take a block; return True to the caller whose block was the last."""
        with self._lock:
            self._results[index] = result
            self._left -= 1
            self._sum_up()
            return self._left == 0

    def _sum_up(self) -> None:
        """Add the sums of blocks in their order, so that rounding is the same on every engine."""
        while self._summed < len(self._results):
            result = self._results[self._summed]
            if result is None:
                return
            self._sums.add(result.sums)
            self._summed += 1

    def publish(self, digest: str) -> dict[str, Any]:
        """Write the part, then its receipt; return the receipt."""
        blocks = [result for result in self._results if result is not None]
        table = part_table(self.task, blocks)
        content = encode_part(table)
        path = part_path(self.task.out, self.part)
        checksum = publish_bytes(path, content)
        start, stop = self.task.part_range(self.part)
        receipt = {
            "part": self.part,
            "sha256": checksum,
            "bytes": content.size,
            "rows": table.num_rows,
            "start": start,
            "stop": stop,
            "digest": digest,
            "input_sha256": hashlib.sha256(b"".join(b.digest for b in blocks)).hexdigest(),
            "counts": _receipt_counts(blocks),
        }
        if self.task.settings.heritability:
            receipt["probes"] = publish_sums(self.task, self.part, self._sums)
        publish_json(receipt_path(self.task.out, self.part), sealed(receipt))
        self._results = []
        release()
        return receipt


def _receipt_counts(blocks: list[BlockResult]) -> dict[str, Any]:
    removed: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for block in blocks:
        for name, n in block.removed.items():
            removed[name] = removed.get(name, 0) + int(n)
        codes, numbers = np.unique(block.groups[0].reason, return_counts=True)
        for code, n in zip(codes.tolist(), numbers.tolist(), strict=True):
            reasons[str(code)] = reasons.get(str(code), 0) + n
    of_men = sum(block.male_heterozygotes for block in blocks)
    met = {"male_heterozygotes": of_men} if of_men else {}
    return {"removed": removed, "reasons": reasons, **met}


def part_path(out: Path, part: int) -> Path:
    """Final name of a part."""
    return out / "parts" / f"part-{part:05d}.parquet"


def receipt_path(out: Path, part: int) -> Path:
    """Final name of a part's receipt."""
    return out / "parts" / f"part-{part:05d}.ok.json"


def part_table(task: ScanTask, blocks: list[BlockResult]) -> pa.Table:
    """Table of a part, with the columns of ``docs/data_model.md``."""
    rows = np.concatenate([block.rows for block in blocks])
    table = _variant_rows(task.genotypes.variants, rows)
    columns: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
    columns["row"] = from_numpy(rows)
    columns |= _count_columns(blocks)
    for group in range(len(task.names)):
        columns |= _group_columns([block.groups[group] for block in blocks], group)
    for group, names in enumerate(task.names):
        columns |= _trait_columns([block.groups[group] for block in blocks], names)
    for name in IN_SCAN if task.settings.omnibus else ():
        columns[f"omnibus.{name}"] = from_numpy(np.concatenate([b.omnibus[name] for b in blocks]))
    kinds = [(name, one.type, name in NULLABLE) for name, one in columns.items()]
    schema = pa.schema([pa.field(name, kind, nullable) for name, kind, nullable in kinds])
    return pa.table(list(columns.values()), schema=schema)


def _variant_rows(variants: pa.Table, rows: np.ndarray) -> pa.Table:
    if not len(rows):
        return variants.slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    around = variants.slice(first, last - first + 1)  # or Arrow joins all of a long column
    return around if len(around) == len(rows) else around.take(from_numpy(rows - first))


def _count_columns(blocks: list[BlockResult]) -> dict[str, pa.Array]:
    columns = {"n_missing": [block.n_missing for block in blocks]}
    for name in ("n_effect_homozygote", "n_heterozygote", "n_other_homozygote"):
        columns[name] = [getattr(block.diploid_counts, name) for block in blocks]
    arrays = {name: from_numpy(np.concatenate(v).astype(np.int32)) for name, v in columns.items()}
    quality = np.concatenate([block.quality for block in blocks]).astype(np.float32)
    return arrays | {"imputation_r2": with_nulls(quality)}


def _group_columns(results: list[GroupResult], group: int) -> dict[str, pa.Array]:
    kinds: dict[str, type] = {
        "n": np.int32,
        "effect_allele_frequency": np.float64,
        "scale": np.float64,
        "dof": np.int32,
        "reason": np.int8,
    }
    return {
        f"{name}.{group}": from_numpy(
            np.concatenate([getattr(result, name) for result in results]).astype(kind)
        )
        for name, kind in kinds.items()
    }


def _trait_columns(results: list[GroupResult], names: list[str]) -> dict[str, pa.Array]:
    columns = _by_trait("t", [result.t for result in results], names)
    betas = [result.beta for result in results if result.beta is not None]
    return columns | (_by_trait("beta", betas, names) if betas else {})


def _by_trait(prefix: str, blocks: list[np.ndarray], names: list[str]) -> dict[str, pa.Array]:
    """Turn (variants, traits) blocks into one column per trait, with a single copy."""
    by_trait = np.empty((len(names), sum(map(len, blocks))), blocks[0].dtype)
    start = 0
    for block in blocks:
        by_trait[:, start : start + len(block)] = block.T
        start += len(block)
    return {f"{prefix}.{name}": from_numpy(by_trait[i]) for i, name in enumerate(names)}


def encode_part(table: pa.Table) -> pa.Buffer:
    """Encode a part as Parquet: page checksums, the same bytes for the same table.

    Statistics are noise in most of their bits: zstd takes 7 % off them and makes both writing and
    reading several times slower, so they are stored as they are and everything else is compressed,
    whole numbers as differences. Columns that cannot be null say so, which halves the time.
    """
    statistics = [n for n in table.column_names if n.startswith(("t.", "beta.", "omnibus."))]
    moments = [
        n for n in table.column_names if n.startswith(("scale.", "effect_allele_frequency."))
    ]
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    encodings = (
        dict.fromkeys([*statistics, "variant_id"], "PLAIN")
        | dict.fromkeys(moments, "BYTE_STREAM_SPLIT")
        | dict.fromkeys(whole, "DELTA_BINARY_PACKED")
    )
    raw = set(statistics)
    others = [name for name in table.column_names if name not in raw]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression=dict.fromkeys(statistics, "NONE") | dict.fromkeys(others, "ZSTD"),
        compression_level=dict.fromkeys(others, 1),
        use_dictionary=[name for name in others if name not in encodings],
        column_encoding=encodings,
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
    )
    return sink.getvalue()

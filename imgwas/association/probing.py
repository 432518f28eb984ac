"""Random vectors inside the scan: what heritability needs of the genotypes, in the same pass.

The product of a block has a few more columns, ``U = G b`` for random vectors ``b`` of the largest
group of people; a second, thin product ``(U / s_g^2)' G`` adds to the sum of the variant's
jackknife block. A part keeps the sums of its blocks in the run's private folder, since they are
numbers about people; when the scan ends they become one small file of products, and are removed.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_strings, to_numpy
from imgwas.association.blocks import GroupArrays, GroupResult, Workspace, people_used
from imgwas.association.projection import remove
from imgwas.errors import DegenerateError, MalformedError, WriteError, explain
from imgwas.files import publish, publish_bytes, sha256_of
from imgwas.genotypes.variant_table import of_chromosomes
from imgwas.sumstats.probes import (
    MIN_MAF,
    N_BLOCKS,
    NOT_AUTOSOMES,
    PROBES,
    SEED,
    ProbeSums,
    StoredProbes,
    number_of_probes,
    random_signs,
)
from imgwas.sumstats.reasons import TESTED

if TYPE_CHECKING:
    from imgwas.association.task import ScanTask

logger = logging.getLogger(__name__)

#: A jackknife block has at least this many variants.
FEWEST_IN_BLOCK = 5


def with_probes(groups: Sequence[GroupArrays]) -> list[GroupArrays]:
    """Give the largest group its random vectors, mean and covariates removed."""
    largest = max(range(len(groups)), key=lambda i: groups[i].n)
    group = groups[largest]
    used = people_used(group, len(group.traits))
    signs = random_signs(group.n, number_of_probes(group.n, N_BLOCKS), SEED)
    probes = np.zeros((len(used), signs.shape[1]))
    probes[used] = remove(signs, group.basis[used])
    return [replace(g, probes=probes) if i == largest else g for i, g in enumerate(groups)]


def jackknife_blocks(variants: pa.Table, rows: np.ndarray) -> np.ndarray:
    """Jackknife block of each scanned variant, -1 outside the autosomes.

    Blocks have equally many variants of those to be scanned, whatever the parts and whatever
    filters remove.

    Raises
    ------
    DegenerateError
        If there are too few variants.
    """
    autosomal = of_chromosomes(variants, rows, _are_autosomes, np.bool_)
    n = int(autosomal.sum())
    if n < FEWEST_IN_BLOCK * N_BLOCKS:
        raise DegenerateError(
            explain(
                f"{n:,} autosomal variants are to be scanned",
                expected=f"--heritability needs at least {FEWEST_IN_BLOCK * N_BLOCKS:,}",
                do="Scan more variants, or leave --heritability out",
            )
        )
    edges = np.linspace(0, n, N_BLOCKS + 1).astype(np.int64)
    blocks = np.full(len(rows), -1, np.int16)
    blocks[autosomal] = np.repeat(np.arange(N_BLOCKS, dtype=np.int16), np.diff(edges))
    return blocks


def _are_autosomes(chromosomes: pa.ChunkedArray) -> np.ndarray:
    return ~to_numpy(pc.is_in(chromosomes, value_set=from_strings(NOT_AUTOSOMES)))


@dataclass
class BlockSums:
    """Sums over variants of ``(g_j'b) g_j``, and how many variants, by jackknife block."""

    vectors: dict[int, np.ndarray]
    counts: dict[int, int]

    @classmethod
    def none(cls) -> BlockSums:
        """Nothing summed yet."""
        return cls({}, {})

    def add(self, other: BlockSums) -> None:
        """Add the sums of other variants, which are emptied."""
        for block, vector in other.vectors.items():
            if block in self.vectors:
                self.vectors[block] += vector
                self.counts[block] += other.counts[block]
            else:
                self.vectors[block], self.counts[block] = vector, other.counts[block]
        other.vectors, other.counts = {}, {}


def add_products(
    sums: BlockSums, blocks: np.ndarray, results: list[GroupResult], workspace: Workspace
) -> None:
    """Add what the variants of the decode buffer contribute.

    Parameters
    ----------
    sums : BlockSums
        Is added to.
    blocks : (variants,) int array
        Jackknife block of each, -1 for none.
    results : list of GroupResult
        Of :func:`imgwas.association.kernel.scan_block`, which leaves missing calls in the buffer
        at the mean of the group that has random vectors.
    workspace : Workspace
        Whose buffer holds the variants.

    Notes
    -----
    Variants are used that every group tested, above the frequency limit in all of them.
    """
    used = blocks >= 0
    for result in results:
        frequency = result.effect_allele_frequency
        with np.errstate(invalid="ignore"):
            used &= np.minimum(frequency, 1 - frequency) > MIN_MAF
        used &= result.reason == TESTED
    reference = next(result for result in results if result.probed is not None)
    assert reference.probed is not None
    weight = np.zeros(len(used))
    weight[used] = 1 / np.square(reference.scale[used])
    products = np.asarray((reference.probed * weight[:, None]).T, workspace.dtype)
    for block in np.unique(blocks[used]).tolist():
        inside = np.flatnonzero(blocks == block)
        at = slice(int(inside[0]), int(inside[-1]) + 1)
        # variants between them that are not of the block have weight zero
        vector = workspace.weighted(np.ascontiguousarray(products[:, at]), at)
        sums.add(BlockSums({block: vector}, {block: int(used[inside].sum())}))


def sums_path(out: Path, part: int) -> Path:
    """Where the sums of a part wait for the others."""
    return out / "private" / "probes" / f"part-{part:05d}.float32"


def publish_sums(task: ScanTask, part: int, sums: BlockSums) -> dict[str, Any]:
    """Write the sums of a part; return what its receipt says of them."""
    group = _reference(task)
    assert group.probes is not None
    used = np.flatnonzero(people_used(group, len(group.probes)))
    blocks = sorted(sums.vectors)

    def contents() -> Iterator[np.ndarray]:
        for block in blocks:
            yield np.take(sums.vectors[block], used, axis=1).astype(np.float32, copy=False)

    sha = _publish_beside_a_cleaner(sums_path(task.out, part), contents)
    counts = [sums.counts[block] for block in blocks]
    return {"blocks": blocks, "counts": counts, "sha256": sha}


def _publish_beside_a_cleaner(path: Path, contents: Callable[[], Iterator[np.ndarray]]) -> str:
    """Write a file of sums, again if its folder goes: the same task, given twice, was quicker."""
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sha = hashlib.sha256()
        try:
            with publish(path) as stream:
                for content in contents():
                    sha.update(content.data)
                    stream.write(content.data)
        except WriteError:
            if path.parent.exists():
                raise
            continue
        return sha.hexdigest()


def space_of_sums(task: ScanTask, n_parts: int) -> int:
    """Bytes that the sums of some parts take until the scan ends."""
    if not task.settings.heritability:
        return 0
    group = _reference(task)
    assert group.probes is not None
    return 4 * group.n * group.probes.shape[1] * (N_BLOCKS + n_parts)


def _reference(task: ScanTask) -> GroupArrays:
    return next(group for group in task.groups["autosome"] if group.probes is not None)


@dataclass(frozen=True)
class Gathering:
    """The sums of all parts of one run on their way into one file."""

    task: ScanTask
    digest: str

    def finished(self, parts: list[int], receipts: Sequence[dict[str, Any]]) -> list[int]:
        """Leave out parts whose sums are lost, unless the file that they went into is whole."""
        if not self.task.settings.heritability or self.is_whole:
            return parts
        return [part for part in parts if self._is_there(part, receipts[part])]

    @cached_property
    def is_whole(self) -> bool:
        """Whether the file of an earlier attempt at this run is there, and readable."""
        if not (self.task.out / PROBES).exists():
            return False
        try:
            return StoredProbes.read(self.task.out).digest == self.digest
        except MalformedError:
            logger.warning("%s is damaged and is computed again", PROBES)
            return False

    def _is_there(self, part: int, receipt: dict[str, Any]) -> bool:
        path = sums_path(self.task.out, part)
        recorded = receipt.get("probes")
        try:
            return recorded is not None and sha256_of(path) == recorded["sha256"]
        except FileNotFoundError:
            return False

    def write(self, receipts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Write the file if it is not there; return its record for ``RUN_COMPLETE.json``."""
        if not self.task.settings.heritability:
            return []
        path = self.task.out / PROBES
        if not self.is_whole:
            publish_bytes(path, self._stored([receipt["probes"] for receipt in receipts]).encode())
        record = {"path": PROBES, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        return [record]

    def clean(self) -> None:
        """Remove the sums of the parts, which the file has replaced."""
        shutil.rmtree(self.task.out / "private" / "probes", ignore_errors=True)

    def _stored(self, recorded: Sequence[dict[str, Any]]) -> StoredProbes:
        task, group = self.task, _reference(self.task)
        assert group.probes is not None
        used = people_used(group, len(group.probes))
        basis = np.asarray(group.basis)[used]
        probes = np.asarray(group.probes)[used]
        files = [
            (record["blocks"], self._file(part, (len(record["blocks"]), *probes.T.shape)))
            for part, record in enumerate(recorded)
            if record["blocks"]
        ]

        total = np.zeros((N_BLOCKS, group.n))

        def sums(probe: int) -> np.ndarray:
            total.fill(0)
            for blocks, content in files:
                for at, block in enumerate(blocks):
                    total[block] += content[at, probe]
            return total

        counts = np.zeros(N_BLOCKS, np.int64)
        for record in recorded:
            counts[np.array(record["blocks"], np.int64)] += np.array(record["counts"], np.int64)
        blocks = np.maximum.accumulate(task.jackknife)  # -1 may be between them
        first = np.searchsorted(blocks, np.arange(N_BLOCKS))
        products = ProbeSums.of_sums(sums, probes, basis, N_BLOCKS)
        return StoredProbes(products, counts, task.rows[first], self.digest)

    def _file(self, part: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.memmap(sums_path(self.task.out, part), np.float32, "r", shape=shape)


def described(task: ScanTask) -> dict[str, Any]:
    """Say in ``run.json`` how the sums were made."""
    probes = _reference(task).probes
    assert probes is not None
    return {
        "n_probes": probes.shape[1],
        "n_blocks": N_BLOCKS,
        "min_maf": MIN_MAF,
        "seed": SEED,
        "group": next(i for i, g in enumerate(task.groups["autosome"]) if g.probes is not None),
    }

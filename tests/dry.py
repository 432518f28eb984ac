"""A scan of which nothing is computed: as many parts as one likes, no people, no files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imgwas.association.task import ScanSettings, ScanTask
from imgwas.types import PackedGenotypes, Samples


class DryGenotypes(PackedGenotypes):
    """Variants on chromosome 7 that nobody carries."""

    def __init__(self, n_variants: int) -> None:
        self.variants = pa.table(
            {
                "chromosome": pa.array(["7"]).take(pa.array(np.zeros(n_variants, np.int64))),
                "base_pair_location": pa.array(np.arange(n_variants) * 100 + 1),
            }
        )
        none = np.empty(0, np.int8)
        self.samples = Samples((), (), none, none.astype(bool))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.variants.num_rows,)

    def read_packed(self, rows: np.ndarray) -> np.ndarray:
        """Nobody's calls."""
        return np.empty((len(rows), 0), np.uint8)

    def read_dosages(self, rows: np.ndarray) -> np.ndarray:
        """Nobody's dosages."""
        return np.empty((len(rows), 0), np.float32)

    def fingerprint(self) -> dict[str, Any]:
        """Nothing to identify."""
        return {}

    def check_unchanged(self) -> None:
        """Nothing can change."""


@lru_cache(maxsize=1)
def _again(n_variants: int) -> DryGenotypes:
    """One a process, as readers of files do."""
    return DryGenotypes(n_variants)


def dry_task(out: Path, n_parts: int, part_size: int = 10) -> ScanTask:
    """Make a task of many parts."""
    n = n_parts * part_size
    return ScanTask(
        genotypes=DryGenotypes(n),
        rows=np.arange(n),
        columns=None,
        groups={},
        masks={"analysed": np.empty(0, np.uint8)},
        names=[],
        settings=ScanSettings(part_size=part_size),
        out=out,
    )

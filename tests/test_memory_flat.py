"""Memory does not grow with the number of variants."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.cohorts import Cohort, write
from tests.benchmarks.measure import run


def peak_mb(made: Cohort, *options: str) -> float:
    """Largest resident memory of a whole scan."""
    command = [sys.executable, "-m", "imgwas_cli.main", *made.imgwas("out", *options)[1:]]
    return run(command, made.folder).peak_mb


@pytest.mark.parametrize("missing", ["mean", "drop"])
def test_eight_times_the_variants_take_no_more_memory(tmp_path, missing):
    """Results of 40 MB against 5 MB: all of them would show."""
    peaks = []
    for m in (20_000, 160_000):
        folder = tmp_path / str(m)
        folder.mkdir()
        made = Cohort(folder / "cohort", n=300, m=m, k=64, c=3)
        write(made, missing=0.01, seed=int(np.log(m)))
        peaks.append(peak_mb(made, "--missing-genotype", missing, "--part-size", "2048"))
    assert 50 < peaks[0] < 500
    # the variant table itself: about 40 bytes a variant
    assert peaks[1] - peaks[0] < 0.1 * peaks[0] + 140_000 * 60 / 1e6, peaks
    assert Path(folder, "out", "RUN_COMPLETE.json").exists()

"""Memory does not grow with the number of variants."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.cohorts import Cohort, write
from tests.benchmarks.measure import run


def peak_mb(made: Cohort, *options: str) -> float:
    """Largest resident memory of a whole scan."""
    command = [sys.executable, "-m", "imgwas_cli.main", *made.imgwas("out", *options)[1:]]
    return run(command, made.folder).peak_mb


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "bytes_each"), [("mean", 4), ("drop", 8)])
def test_results_and_genotypes_are_not_held(tmp_path, missing, bytes_each):
    """Eight times the variants: the growth is the variant table, not what passed through."""
    few, many, k, n = 20_000, 160_000, 64, 600
    peaks = []
    for m in (few, many):
        folder = tmp_path / str(m)
        folder.mkdir()
        made = Cohort(folder / "cohort", n=n, m=m, k=k, c=3)
        write(made, missing=0.01)
        peaks.append(peak_mb(made, "--missing-genotype", missing, "--part-size", "2048"))
        assert (folder / "out" / "RUN_COMPLETE.json").exists()
    passed_through = (many - few) * (k * bytes_each + n / 4) / 1e6
    assert 50 < peaks[0] < 300
    assert peaks[1] - peaks[0] < 0.6 * passed_through, peaks

"""Figures of a million and of ten million variants: seconds, peak memory and size of the file."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.cohorts import place
from tests.benchmarks.measure import report, run

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

_SCRIPT = """
import sys, time
import numpy as np, pandas as pd
from imgwas import plots
kind, n, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
chromosome = np.sort(rng.integers(1, 23, n))
nlp = rng.exponential(1 / np.log(10), n)
nlp[rng.integers(0, n, 200)] += rng.exponential(10, 200)
start = time.perf_counter()
if kind == "miami":
    half = {"chromosome": chromosome, "base_pair_location": np.arange(n) % 200_000_000}
    top = pd.DataFrame({**half, "neg_log_10_p_value": nlp}, copy=False)
    bottom = pd.DataFrame({**half, "neg_log_10_p_value": nlp[::-1]}, copy=False)
    start = time.perf_counter()
    figure = plots.miami(top, bottom)
elif kind == "manhattan":
    ids = pd.Series(np.arange(n)).astype("string[pyarrow]")
    data = pd.DataFrame({"chromosome": chromosome, "base_pair_location": np.arange(n) % 200_000_000,
                         "neg_log_10_p_value": nlp, "variant_id": ids})
    start = time.perf_counter()
    ax = plots.manhattan(data)
elif kind == "qq":
    ax = plots.qq(nlp)
if kind != "nothing":
    plots.save_figure(figure if kind == "miami" else ax.figure, out)
print(time.perf_counter() - start)
"""


@pytest.mark.parametrize("n", [1_000_000, 10_000_000])
@pytest.mark.parametrize("kind", ["manhattan", "miami", "qq"])
def test_figures(kind, n):
    out = place() / f"{kind}.pdf"
    done = run([sys.executable, "-c", _SCRIPT, kind, n, out], place())
    seconds = float((place() / "output.txt").read_text().split()[-1])
    report(f"{kind} of {n:,}", drawing_s=seconds, process=done, file_mb=out.stat().st_size / 1e6)

"""What ``--omnibus`` and ``--heritability`` add to a scan: processor seconds, runs in turns."""

from __future__ import annotations

import os
import statistics
import sys

import pytest

from tests.benchmarks.cohorts import cohort
from tests.benchmarks.measure import report, run

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
REPEATS = int(os.environ.get("IMGWAS_BENCHMARK_REPEATS", "3"))

#: a scan in a process of its own, after a small one of the same kind; start and tables not counted
SCRIPT = """
import resource, shutil, sys
import imgwas
folder, options = sys.argv[1], {name: True for name in sys.argv[2:]}
genotypes = imgwas.open_genotypes(f"{folder}/cohort")
inputs = (genotypes, imgwas.read_latents(f"{folder}/latents.parquet"),
          imgwas.read_covariates(f"{folder}/covar.tsv"))
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
few = imgwas.select(genotypes, chromosomes=["1", "2"])
imgwas.associate(*inputs, out="warm", threads=1, overwrite=True, selection=few, **options)
shutil.rmtree("cold", ignore_errors=True)
start = used()
imgwas.associate(*inputs, out="cold", threads=1, **options)
print(used() - start)
"""
CASES = {
    "plain": [],
    "omnibus": ["omnibus"],
    "heritability": ["heritability"],
    "both": ["omnibus", "heritability"],
}


@pytest.mark.parametrize(("n", "m"), [(5000, 20_000), (5000, 100_000), (20_000, 8000)])
def test_cost_of_options(n, m):
    made = cohort(n=n, m=m)
    found = {name: [] for name in CASES}
    for _ in range(REPEATS):
        for name, options in CASES.items():
            run([sys.executable, "-c", SCRIPT, made.folder, *options], made.folder, threads=1)
            found[name].append(float((made.folder / "output.txt").read_text().split()[-1]))
    plain = found["plain"]
    report(
        "cost of omnibus and heritability in the scan",
        n=n,
        m=m,
        cpu_s={name: min(values) for name, values in found.items()},
        more={
            name: statistics.median(a / b for a, b in zip(values, plain, strict=True)) - 1
            for name, values in found.items()
        },
    )

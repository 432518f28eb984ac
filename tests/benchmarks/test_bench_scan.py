"""Whole scans against PLINK 2 and against the bound of the machine, and how they scale."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.benchmarks.cohorts import Cohort, cohort
from tests.benchmarks.measure import folder_mb, median, ratios, report, run

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

#: pairs of runs; the first of each is a warm-up and not counted
REPEATS = 7
needs_plink2 = pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")


def imgwas(made: Cohort, *options: str):
    """One whole process."""
    command = made.imgwas("imgwas-out", *options)
    return run([str(Path(sys.executable).with_name(command[0])), *command[1:]], made.folder)


def plink2(made: Cohort, *options: str):
    """One whole process; its tables are removed after they are weighed."""
    out = made.folder / "plink2-out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    done = run(made.plink2("plink2-out/glm", *options), made.folder)
    size = folder_mb(out)
    shutil.rmtree(out)
    return done, size


@needs_plink2
def test_without_missing_calls(capsys):
    made = cohort()
    imgwas(made)
    ours, theirs, size = [], [], 0.0
    for _ in range(REPEATS):
        ours.append(imgwas(made))
        done, size = plink2(made)
        theirs.append(done)
    report(
        "scan against PLINK 2, no missing calls",
        ours=median(ours),
        theirs=median(theirs),
        wall_ratio=ratios(theirs, ours),
        our_output_mb=folder_mb(made.folder / "imgwas-out"),
        their_output_mb=size,
        command=" ".join(made.plink2("glm")[:4]) + " ... --glm omit-ref hide-covar --threads 2",
    )


@needs_plink2
def test_with_missing_calls():
    """PLINK 2 solves every variant anew here, so it gets a tenth of the variants."""
    made = cohort(m=10_000, missing=0.01)
    imgwas(made)
    mean = [imgwas(made) for _ in range(REPEATS)]
    drop = [imgwas(made, "--missing-genotype", "drop") for _ in range(REPEATS)]
    theirs, size = plink2(made)
    report(
        "scan against PLINK 2, 1 % missing calls, 10,000 variants",
        mean=median(mean),
        drop=median(drop),
        theirs=theirs,
        wall_ratio_mean=theirs.wall_s / median(mean).wall_s,
        wall_ratio_drop=theirs.wall_s / median(drop).wall_s,
        their_output_mb=size,
    )


def test_missing_calls_at_full_size():
    """What missing calls cost us, beside the same size without them."""
    complete, gaps = cohort(), cohort(missing=0.01)
    imgwas(complete)
    imgwas(gaps)
    pairs = [
        (imgwas(complete), imgwas(gaps), imgwas(gaps, "--missing-genotype", "drop"))
        for _ in range(3)
    ]
    none, mean, drop = (list(column) for column in zip(*pairs, strict=True))
    report(
        "1 % missing calls at full size",
        none=median(none),
        mean=median(mean),
        drop=median(drop),
        mean_ratio=ratios(mean, none),
        drop_ratio=ratios(drop, none),
    )


def test_against_the_bound_of_this_machine():
    made = cohort()
    script = Path(__file__).with_name("bound.py")
    columns = -(-(made.k + made.c) // 4) * 4
    sizes = [str(v) for v in (made.n, made.m, columns, made.k, 2)]
    command = [sys.executable, script, made.folder, made.prefix.name, *sizes]
    imgwas(made)
    run(command, made.folder)
    ours, bound = [], []
    for _ in range(REPEATS):
        ours.append(imgwas(made))
        bound.append(run(command, made.folder))
    report(
        "scan against reading, one product and writing",
        ours=median(ours),
        bound=median(bound),
        wall_ratio=ratios(ours, bound),
    )


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("m", [25_000, 50_000, 100_000, 200_000, 400_000]),
        ("n", [1250, 2500, 5000, 10_000, 20_000]),
        ("k", [1, 16, 64, 128, 256, 512]),
    ],
)
def test_scaling(axis, values):
    base = {"m": 100_000, "n": 5000, "k": 128}
    for value in values:
        made = cohort(**(base | {axis: value}))
        imgwas(made)
        done = median([imgwas(made) for _ in range(3)])
        products = made.n * made.m * (made.k + made.c)
        report(
            f"scaling in {axis}",
            **{axis: value},
            ours=done,
            ps_per_product=1e12 * done.wall_s / products,
        )

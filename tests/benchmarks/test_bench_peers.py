"""Whole scans at five sizes against peers, and against the bound of the machine, in one run.

Processor seconds are compared, of whole processes on one thread each: on a machine that others use
as well they move far less than the clock. Wall clock is reported beside them. A peer that would
take more than two minutes gets fewer variants: its cost of a variant is what two sizes differ by.

``IMGWAS_BENCHMARK_PEER_VARIANTS`` (100,000) limits what PLINK 2 gets of complete calls,
``IMGWAS_BENCHMARK_REPEATS`` (3) sets how many runs take turns, ``IMGWAS_BENCHMARK_THREADS`` (1) on
how many threads, ``IMGWAS_BENCHMARK_TENSORQTL`` names a Python that has tensorqtl, and
``IMGWAS_BENCHMARK_TORCHGWAS`` the program torchgwas (1.1.0 or 0.1.0), whose linear scan of the same
files is timed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.cohorts import Cohort, cohort
from tests.benchmarks.measure import Run, median, report, run

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

REPEATS = int(os.environ.get("IMGWAS_BENCHMARK_REPEATS", "3"))
THREADS = int(os.environ.get("IMGWAS_BENCHMARK_THREADS", "1"))
PEER_VARIANTS = int(os.environ.get("IMGWAS_BENCHMARK_PEER_VARIANTS", "100000"))
TENSORQTL = os.environ.get("IMGWAS_BENCHMARK_TENSORQTL", "")
TORCHGWAS = os.environ.get("IMGWAS_BENCHMARK_TORCHGWAS", "")
#: people, variants, latents
SIZES = [
    (5000, 100_000, 1),
    (5000, 100_000, 16),
    (5000, 100_000, 128),
    (5000, 100_000, 256),
    (20_000, 50_000, 128),
]
needs_plink2 = pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")
needs_tensorqtl = pytest.mark.skipif(not TENSORQTL, reason="IMGWAS_BENCHMARK_TENSORQTL is not set")
needs_torchgwas = pytest.mark.skipif(not TORCHGWAS, reason="IMGWAS_BENCHMARK_TORCHGWAS is not set")


def ours(made: Cohort, *options: str) -> Run:
    """One whole process."""
    command = made.imgwas("imgwas-out", *options, threads=THREADS)
    program = Path(sys.executable).with_name(command[0])
    return run([program, *command[1:]], made.folder, threads=THREADS)


def plink2(made: Cohort, n_variants: int | None = None) -> Run:
    """One whole process, of the first variants only where a number is given."""
    out = made.folder / "plink2-out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    some = ["--extract", str(_first(made, n_variants))] if n_variants else []
    done = run(made.plink2("plink2-out/glm", *some, threads=THREADS), made.folder, threads=THREADS)
    shutil.rmtree(out)
    return done


def _first(made: Cohort, n: int) -> Path:
    path = made.folder / f"first-{n}.txt"
    path.write_text("".join(f"rs{j}\n" for j in range(n)))
    return path


def _cut(made: Cohort, n: int) -> str:
    """Name of a .bed of the first variants only, with its .bim and .fam beside it."""
    path = made.folder / f"first-{n}.bed"
    with (made.folder / "cohort.bed").open("rb") as stream:
        path.write_bytes(stream.read(3 + n * -(-made.n // 4)))
    with (made.folder / "cohort.bim").open() as lines:
        path.with_suffix(".bim").write_text("".join(islice(lines, n)))
    shutil.copyfile(made.folder / "cohort.fam", path.with_suffix(".fam"))
    return path.name


def bound(made: Cohort) -> Run:
    """Reading, one product and writing, nothing else (``bound.py``)."""
    script = Path(__file__).with_name("bound.py")
    columns = -(-(made.k + made.c) // 4) * 4
    sizes = [str(v) for v in (made.n, made.m, columns, made.k, THREADS)]
    command = [sys.executable, script, made.folder, made.prefix.name, *sizes]
    return run(command, made.folder, threads=THREADS)


def in_turns(*programs):
    """Run programs in turns; a list of runs for each."""
    found = [[] for _ in programs]
    for _ in range(REPEATS):
        for program, runs in zip(programs, found, strict=True):
            runs.append(program())
    return found


def ratios(slow, fast) -> dict[str, float]:
    """Median ratio of processor seconds and of the clock, pair by pair."""
    pairs = list(zip(slow, fast, strict=True))
    return {
        "cpu": statistics.median(a.cpu_s / b.cpu_s for a, b in pairs),
        "wall": statistics.median(a.wall_s / b.wall_s for a, b in pairs),
    }


def projected(some: Run, few: Run, times: float) -> Run:
    """A run of more variants, from what two sizes differ by."""
    return Run(
        few.wall_s + times * (some.wall_s - few.wall_s),
        few.cpu_s + times * (some.cpu_s - few.cpu_s),
        some.peak_mb,
    )


def a_million(one: Run, few: Run, n_more: int) -> float:
    """Processor seconds of a million variants, from what two sizes differ by."""
    return (one.cpu_s - few.cpu_s) / n_more * 1e6


@needs_plink2
@pytest.mark.parametrize(("n", "m", "k"), SIZES)
def test_plink2_and_the_bound_without_missing_calls(n, m, k):
    made = cohort(n=n, m=m, k=k)
    ours(made)
    some = PEER_VARIANTS if m > PEER_VARIANTS else None
    mine, theirs, least = in_turns(
        lambda: ours(made), lambda: plink2(made, some), lambda: bound(made)
    )
    if some:
        start = plink2(made, 500)
        theirs = [projected(one, start, (m - 500) / (some - 500)) for one in theirs]
    report(
        "complete calls",
        n=n, m=m, k=k, threads=THREADS, plink2_variants=some or m,
        ours=median(mine), plink2=median(theirs), bound=median(least),
        plink2_ratio=ratios(theirs, mine), bound_ratio=ratios(mine, least),
    )  # fmt: skip


@needs_plink2
@pytest.mark.parametrize(("n", "m", "k"), SIZES)
def test_plink2_with_one_per_cent_missing(n, m, k):
    """PLINK 2 solves every variant and latent anew, so it gets few variants."""
    made = cohort(n=n, m=m, k=k, missing=0.01)
    few, more = (50, 550) if k > 16 or n > 5000 else (500, 5500)
    ours(made)
    mine, drop = in_turns(lambda: ours(made), lambda: ours(made, "--missing-genotype", "drop"))
    start, theirs = plink2(made, few), plink2(made, more)
    per_million = a_million(theirs, start, more - few)
    whole = per_million * m / 1e6 + start.cpu_s
    report(
        "1 % missing calls",
        n=n, m=m, k=k, threads=THREADS,
        mean=median(mine), drop=median(drop), plink2_few=theirs, plink2_variants=more,
        plink2_projected_cpu_s=whole,
        mean_ratio_cpu=whole / median(mine).cpu_s, drop_ratio_cpu=whole / median(drop).cpu_s,
    )  # fmt: skip


#: trans mapping of all phenotypes and variants in memory, nothing filtered but by P
TRANS = """
import sys
import numpy as np, pandas as pd, torch
torch.set_num_threads(int(sys.argv[2]))
from tensorqtl import trans
n, k, m, folder = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[1]
ids = [f"id{i:06d}" for i in range(n)]
packed = np.fromfile(f"{folder}/cohort.bed", np.uint8, offset=3, count=m * (n // 4))
packed = packed.reshape(m, n // 4)
table = np.array([2, -9, 1, 0], np.int8)
codes = np.stack([packed >> s & 3 for s in (0, 2, 4, 6)], axis=2).reshape(m, n)
genotypes = pd.DataFrame(table[codes], index=[f"rs{j}" for j in range(m)], columns=ids)
latents = pd.DataFrame(np.load(f"{folder}/latents.npy").T, [f"L{i}" for i in range(k)], ids)
covariates = pd.read_csv(f"{folder}/covar.tsv", sep="\\t", dtype={"IID": str}).set_index("IID")
covariates = covariates.drop(columns="#FID").loc[ids]
found = trans.map_trans(genotypes, latents, covariates, batch_size=10000, pval_threshold=1e-5,
                        maf_threshold=0, return_sparse=True, verbose=False)
found.to_csv(f"{folder}/tensorqtl.tsv", sep="\t", index=False)
"""


def _save_latents(made: Cohort) -> None:
    latents = pd.read_parquet(made.folder / "latents.parquet").drop(columns="IID")
    np.save(made.folder / "latents.npy", latents.to_numpy())


@needs_tensorqtl
@pytest.mark.parametrize(("n", "m", "k"), SIZES)
def test_tensorqtl_trans(n, m, k):
    """It keeps pairs with P below 1e-5 only; genotypes are decoded for it by a numpy table."""
    made = cohort(n=n, m=m, k=k)
    _save_latents(made)

    def theirs():
        words = [made.folder, THREADS, n, k, m]
        return run([TENSORQTL, "-c", TRANS, *words], made.folder, threads=THREADS)

    ours(made)
    mine, others = in_turns(lambda: ours(made), theirs)
    report(
        "tensorQTL trans mapping",
        n=n, m=m, k=k, threads=THREADS, ours=median(mine), tensorqtl=median(others),
        ratio=ratios(others, mine),
    )  # fmt: skip


@needs_torchgwas
@pytest.mark.parametrize(("n", "m", "k"), SIZES)
def test_torchgwas_linear(n, m, k):
    """It writes float32 beta and t of every variant and trait, or t alone without fsync (lean).

    Version 0.1.0 has one output, gzipped text of every pair; it takes minutes, so it gets few
    variants and the whole is projected.
    """
    made = cohort(n=n, m=m, k=k)
    _save_latents(made)
    covariates = pd.read_csv(made.folder / "covar.tsv", sep="\t").drop(columns=["#FID", "IID"])
    np.save(made.folder / "covar.npy", covariates.to_numpy())

    asked = [TORCHGWAS, "linear", "--help"]
    newer = "--device" in subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    def theirs(*options: str, bed: str = "cohort.bed") -> Run:
        out = made.folder / "torchgwas-out"
        shutil.rmtree(out, ignore_errors=True)
        command = [
            *(TORCHGWAS, "linear", "--genotype", bed, "--genotype-format", "plink"),
            *("--phenotype", "latents.npy", "--covariates", "covar.npy"),
            *("--output-dir", out.name, *options),
        ]
        if newer:
            command += ["--device", "cpu", "--reader-workers", str(THREADS)]
            command += ["--prefetch-chunks", "2", "--chunk-size", "1024"]
        done = run(command, made.folder, threads=THREADS)
        shutil.rmtree(out)
        return done

    ours(made)
    if not newer:
        few, more = (1000, 3000) if k > 16 or n > 5000 else (2000, 20_000)
        least, most = _cut(made, few), _cut(made, more)
        mine, starts, others = in_turns(
            lambda: ours(made), lambda: theirs(bed=least), lambda: theirs(bed=most)
        )
        times = (m - few) / (more - few)
        whole = [projected(*pair, times) for pair in zip(others, starts, strict=True)]
        report(
            "TorchGWAS 0.1.0 linear scan",
            n=n, m=m, k=k, threads=THREADS, torchgwas_variants=more,
            ours=median(mine), torchgwas=median(whole), ratio=ratios(whole, mine),
        )  # fmt: skip
        return
    mine, others, lean = in_turns(
        lambda: ours(made), theirs, lambda: theirs("--sumstats-fields", "t", "--no-sumstats-fsync")
    )
    report(
        "TorchGWAS linear scan",
        n=n, m=m, k=k, threads=THREADS, ours=median(mine), torchgwas=median(others),
        torchgwas_lean=median(lean), ratio=ratios(others, mine), lean_ratio=ratios(lean, mine),
    )  # fmt: skip


@pytest.mark.parametrize("m", [10_000, 100_000, 1_000_000, 10_000_000])
def test_flat_in_variants(m):
    """Seconds of a variant and peak memory from ten thousand variants to ten million (5 GB)."""
    made = cohort(n=2000, m=m, k=32)
    if m <= 1_000_000:
        ours(made)
    small = cohort(n=2000, m=2000, k=32)
    start, done = median([ours(small) for _ in range(REPEATS)]), ours(made)
    report(
        "flat in variants",
        n=2000, m=m, k=32, threads=THREADS, ours=done,
        us_per_variant_cpu=(done.cpu_s - start.cpu_s) / (m - 2000) * 1e6,
        us_per_variant_wall=(done.wall_s - start.wall_s) / (m - 2000) * 1e6,
    )  # fmt: skip

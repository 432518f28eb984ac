"""Decoders of imputed genotypes against each other, and a scan of each format, on one cohort.

BGEN: ours, ``bgen`` (a C library behind Cython) and ``cbgen`` (another behind cffi), each to its
own array of dosages or probabilities. PLINK 2: Pgenlib alone and through our reader.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pytest

import imgwas
from imgwas.types import Latents
from tests.benchmarks.measure import report
from tests.formats_cohort import plink2
from tests.source_tree import ROOT

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
N, M, BLOCK = 5000, 2000, 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Imputed-looking dosages: most people certain, some not; written by Pgenlib and PLINK 2."""
    from pgenlib import PgenWriter

    made = tmp_path_factory.mktemp("imputed")
    rng = np.random.default_rng(0)
    with PgenWriter(bytes(made / "a.pgen"), N, variant_ct=M, nonref_flags=False,
                    dosage_present=True) as writer:  # fmt: skip
        for _ in range(M):
            calls = rng.binomial(2, rng.uniform(0.02, 0.5), N).astype(np.float64)
            unsure = rng.random(N) < 0.2
            calls[unsure] += rng.normal(0, 0.2, int(unsure.sum()))
            writer.append_dosages(np.clip(calls, 0, 2))
    rows = "".join(f"1\t{i + 1}\trs{i}\tG\tA\n" for i in range(M))
    (made / "a.pvar").write_text("#CHROM\tPOS\tID\tREF\tALT\n" + rows)
    (made / "a.psam").write_text("#IID\n" + "".join(f"p{i}\n" for i in range(N)))
    export = ["--export", "bgen-1.2", "ref-first", "bits=8", "id-paste=iid"]
    plink2(made, "--pfile", "a", *export, "--out", "a")
    plink2(made, "--pfile", "a", "--make-bed", "--out", "a")
    return made


def blocks():
    return [np.arange(a, min(a + BLOCK, M)) for a in range(0, M, BLOCK)]


@lru_cache
def opened(path):
    return imgwas.open_genotypes(path)


def our_codes(path):
    """Whole numbers, as the scan takes them."""
    for rows in blocks():
        opened(path).read_codes(rows)


def our_codes_on_two_threads(path):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(opened(path).read_codes, blocks()))


def bgen_library(path):
    library = importlib.import_module("bgen")  # for this measurement only: in no extra
    with library.BgenReader(str(path), delay_parsing=True) as file:
        for variant in file:
            _ = variant.alt_dosage


def cbgen_library(path):
    cbgen = importlib.import_module("cbgen")
    meta = path.with_suffix(".metafile")
    with cbgen.bgen_file(path) as file:
        if not meta.exists():
            file.create_metafile(meta, verbose=False)
        with cbgen.bgen_metafile(meta) as index:
            part = index.read_partition(0)
            offsets = list(part.variants.offset)
            for number in range(1, index.npartitions):
                offsets += list(index.read_partition(number).variants.offset)
        for offset in offsets:
            file.read_probability(offset, precision=32)


def pgenlib_alone(path):
    from pgenlib import PgenReader

    reader, out = PgenReader(bytes(path), N), np.empty((BLOCK, N), np.float32)
    for rows in blocks():
        reader.read_dosages_list(rows.astype(np.uint32), out)


def scans(folder, n_latents):
    """Seconds of a whole scan of each format on one thread."""
    from threadpoolctl import threadpool_limits

    ids = opened(folder / "a.bgen").samples.sample_ids
    values = np.random.default_rng(1).standard_normal((N, n_latents))
    latents = Latents(values, ids, tuple(f"z{i}" for i in range(n_latents)))
    seconds = {}
    with threadpool_limits(1):
        for number in range(3):
            for end in ("bed", "pgen", "bgen"):
                genotypes = imgwas.open_genotypes(folder / f"a.{end}")
                start = time.perf_counter()
                out = folder / f"{end}-{n_latents}-{number}"
                imgwas.associate(genotypes, latents, out=out, threads=1)
                taken = time.perf_counter() - start
                seconds[end] = min(taken, seconds.get(end, taken))
    return seconds


def rounds(path, *names):
    """Seconds of each function: the best of seven rounds in which they take turns."""
    seconds = {}
    for _ in range(7):
        for name in names:
            start = time.perf_counter()
            globals()[name](path)
            taken = time.perf_counter() - start
            seconds[name] = min(taken, seconds.get(name, taken))
    return seconds


def elsewhere(call):
    """Run in a process without the type checks of the tests."""
    code = f"import json, pathlib\nfrom {__name__} import rounds, scans\nprint(json.dumps({call}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_bgen_decoders(folder):
    names = ["our_codes", "our_codes_on_two_threads"]
    libraries = [name for name in ("bgen", "cbgen") if importlib.util.find_spec(name)]
    names += [f"{name}_library" for name in libraries]
    seconds = elsewhere(f"rounds(pathlib.{folder / 'a.bgen'!r}, *{names})")
    ours = seconds["our_codes"]
    report(
        "BGEN decoders, 8 bits, zlib, 2,000 variants x 5,000 people",
        million_genotypes_a_second=N * M / ours / 1e6,
        ratio_to_ours={name: value / ours for name, value in seconds.items()},
    )


def test_pgen_decoders(folder):
    names = ["our_codes", "our_codes_on_two_threads", "pgenlib_alone"]
    seconds = elsewhere(f"rounds(pathlib.{folder / 'a.pgen'!r}, *{names})")
    ours = seconds["our_codes"]
    report(
        "PLINK 2 dosages, 2,000 variants x 5,000 people",
        million_genotypes_a_second=N * M / ours / 1e6,
        ratio_to_ours={name: value / ours for name, value in seconds.items()},
    )


@pytest.mark.parametrize("n_latents", [1, 128])
def test_scans(folder, n_latents):
    """The whole scan of each format on one thread, over that of the same people's ``.bed``."""
    seconds = elsewhere(f"scans(pathlib.{folder!r}, {n_latents})")
    report(
        f"scans of 2,000 variants x 5,000 people x {n_latents} latents",
        ratio_to_bed={name: value / seconds["bed"] for name, value in seconds.items()},
    )

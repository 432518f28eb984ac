"""Decoders of ``.bed`` files against each other: to single-precision dosages, one thread."""

from __future__ import annotations

import time

import numpy as np
import pytest

import imgwas
from imgwas.association.blocks import Workspace, decode
from tests.benchmarks.cohorts import cohort
from tests.benchmarks.measure import report

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
BLOCK = 384


def blocks(m):
    return [np.arange(a, min(a + BLOCK, m)) for a in range(0, m, BLOCK)]


def lookup_table(made):
    """Ours: one table lookup a byte, into the buffer of the product."""
    genotypes = imgwas.open_genotypes(made.prefix)
    workspace = Workspace(BLOCK, -(-made.n // 4), np.float32)
    for rows in blocks(made.m):
        decode(genotypes.read_packed(rows), workspace)


def bed_reader_blocks(made):
    """bed-reader, variants of a block as rows of C order."""
    import bed_reader

    with bed_reader.open_bed(made.prefix.with_suffix(".bed"), num_threads=1) as bed:
        for rows in blocks(made.m):
            bed.read(np.s_[:, rows[0] : rows[-1] + 1], dtype="float32", order="F")


def pandas_plink_blocks(made):
    """pandas-plink's dask array, a chunk of variants at a time."""
    import pandas_plink

    chunk = pandas_plink.Chunk(nsamples=None, nvariants=BLOCK)
    path = str(made.prefix.with_suffix(".bed"))
    array = pandas_plink.read_plink1_bin(path, verbose=False, chunk=chunk).data
    for rows in blocks(made.m):
        array[:, rows[0] : rows[-1] + 1].compute(scheduler="synchronous")


@pytest.mark.parametrize("missing", [0, 0.01])
def test_decoders(missing):
    made = cohort(m=20_000, missing=missing)
    seconds = {}
    for decoder in (lookup_table, bed_reader_blocks, pandas_plink_blocks):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            decoder(made)
            times.append(time.perf_counter() - start)
        seconds[decoder.__name__] = min(times)
    ours = seconds["lookup_table"]
    report(
        "decoders, 20,000 variants x 5,000 people",
        missing=missing,
        ratio_to_lookup_table={name: value / ours for name, value in seconds.items()},
    )

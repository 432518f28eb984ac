"""The block kernel on one thread: several groups of people, and where its time goes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from imgwas.association.blocks import Workspace, decode
from imgwas.association.kernel import scan_block
from imgwas.genotypes.counts import count_packed
from tests.benchmarks.measure import report
from tests.oracles import codes_of
from tests.test_kernel import group_of

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
N, K, C, BLOCK = 5000, 128, 20, 384


def milliseconds(function, repeats=9):
    """Least processor time of some runs."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return 1e3 * min(times)


@pytest.mark.parametrize("missing", [0, 0.01])
@pytest.mark.parametrize("n_groups", [1, 5, 20])
def test_groups_of_people(n_groups, missing):
    """128 latents in groups that each lack some fifty people, beside one group and the product."""
    rng = np.random.default_rng(0)
    dosage = rng.binomial(2, rng.uniform(0.05, 0.5, (BLOCK, 1)), (BLOCK, N)).astype(float)
    dosage[rng.random(dosage.shape) < missing] = np.nan
    traits, covariates = rng.standard_normal((N, K)), rng.standard_normal((N, C))
    groups = []
    for columns in np.array_split(np.arange(K), n_groups):
        used = np.ones(N, bool)
        if groups:
            used[rng.integers(0, N, 50)] = False
        groups.append(group_of(traits[:, columns], covariates, used))
    packed = codes_of(dosage)
    workspace = Workspace(BLOCK, packed.shape[1], np.float32)
    matrices = [group.product_matrix(np.float32) for group in groups]
    counts = count_packed(packed, None)
    every = np.hstack(matrices)
    flat = workspace.dosage.reshape(BLOCK, -1)
    whole = milliseconds(
        lambda: scan_block(packed, groups, matrices=matrices, workspace=workspace, counts=counts)
    )
    report(
        "groups of people, 384 variants x 5,000 people x 128 latents",
        groups=n_groups,
        missing=missing,
        columns=every.shape[1],
        ms=whole,
        count_ms=milliseconds(lambda: count_packed(packed, None)),
        decode_ms=milliseconds(lambda: decode(packed, workspace)),
        product_ms=milliseconds(lambda: flat @ every),
        us_per_variant=1e3 * whole / BLOCK,
    )

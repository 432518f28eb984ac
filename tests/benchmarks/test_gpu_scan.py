"""The product of a scan on a GPU against the bare product and against double precision.

Skips where torch sees no GPU. ``IMGWAS_BENCHMARK_VARIANTS`` sets how many variants are multiplied
(200,000 by default); ``pytest -m benchmark tests/benchmarks/test_gpu_scan.py`` runs it.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from imgwas.association.blocks import GroupArrays, Workspace
from imgwas.association.devices import BLOCK_SIZE, visible_gpus
from imgwas.association.kernel import scan_block
from tests.benchmarks.cohorts import cohort
from tests.benchmarks.measure import report, run

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not visible_gpus()[0], reason=f"no GPU: {visible_gpus()[1]}"),
]

M = int(os.environ.get("IMGWAS_BENCHMARK_VARIANTS", "200000"))
C = 20


def group_of(n, k, seed=0):
    """Random traits and covariates, projected."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(n), rng.standard_normal((n, C))]))
    traits = rng.standard_normal((n, k))
    traits -= basis @ (basis.T @ traits)
    scale = np.linalg.norm(traits, axis=0)
    return GroupArrays(traits / scale, basis[:, 1:], scale, None, n, C + 1)


def packed_of(n, m, seed=0):
    """Random calls without missing ones, 1,024 variants repeated."""
    rng = np.random.default_rng(seed)
    frequency = rng.beta(1, 2, (min(m, 1024), 1)) * 0.5 + 0.01
    copies = rng.binomial(2, frequency, (len(frequency), n))
    codes = np.array([3, 2, 0], np.uint8)[copies].reshape(len(frequency), -1, 4)
    packed = codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6
    return np.resize(packed.astype(np.uint8), (m, n // 4))


def seconds(function, repeats=5):
    """Least of some runs, after one that is not counted, the device waited for."""
    import torch

    function()
    torch.cuda.synchronize()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


@pytest.mark.parametrize(("n", "k"), [(40_000, 256), (40_000, 128), (5_000, 128)])
def test_kernel_against_the_bare_product(n, k):
    """Variants a second, decoding and transfers included, and the share of a bare product."""
    import torch

    from imgwas.association.device import DeviceWorkspace, _half_product

    group, packed = group_of(n, k), packed_of(n, BLOCK_SIZE)
    matrix = group.product_matrix(np.float32)
    workspace = DeviceWorkspace(BLOCK_SIZE, n // 4, np.float32, "cuda:0")

    def whole():
        scan_block(packed, [group], matrices=[matrix], workspace=workspace)

    def product():
        workspace.load(packed)
        workspace.product(matrix)

    half = torch.randint(0, 3, (BLOCK_SIZE, n), device="cuda").half()
    both = torch.randn(n, 2 * matrix.shape[1], device="cuda").half()
    single = half[:1024].float()
    right = torch.randn(n, matrix.shape[1], device="cuda")
    times = {
        "kernel_s": seconds(whole),
        "decode_multiply_return_s": seconds(product),
        "bare_half_product_s": seconds(lambda: _half_product(half, both)),
        "bare_float32_product_s": seconds(lambda: single @ right) * BLOCK_SIZE / 1024,
    }
    report(
        "GPU kernel",
        n=n,
        k=k,
        device=torch.cuda.get_device_name(0),
        variants_per_s=BLOCK_SIZE / times["kernel_s"],
        share_of_half_product=times["bare_half_product_s"] / times["decode_multiply_return_s"],
        share_of_float32_product=times["bare_float32_product_s"] / times["kernel_s"],
        ten_million_variants_s=1e7 / BLOCK_SIZE * times["kernel_s"],
        **times,
    )


@pytest.mark.parametrize("n", [5_000, 40_000])
def test_error_against_double_precision(n):
    """Largest difference of t from the CPU's double precision, beside the CPU's single."""
    from imgwas.association.device import DeviceWorkspace

    group, packed = group_of(n, 32), packed_of(n, 384)
    found = {}
    for name, workspace in (
        ("double", Workspace(384, n // 4, np.float64)),
        ("cpu", Workspace(384, n // 4, np.float32)),
        ("gpu", DeviceWorkspace(384, n // 4, np.float32, "cuda:0")),
        ("gpu_double", DeviceWorkspace(384, n // 4, np.float64, "cuda:0")),
    ):
        matrix = group.product_matrix(workspace.dtype.type)
        found[name] = scan_block(packed, [group], matrices=[matrix], workspace=workspace)[0].t
    apart = {
        name: float(np.nanmax(np.abs(t - found["double"]) / np.maximum(1, np.abs(found["double"]))))
        for name, t in found.items()
    }
    report("GPU error of t against double precision", n=n, **apart)
    assert apart["gpu"] < 1e-4


def test_whole_scan():
    """The command, start to end, on the GPU and on the CPU: 40,000 people, 256 latents."""
    made = cohort(n=40_000, m=M, k=256)
    threads = len(os.sched_getaffinity(0))
    found = {
        device: run(
            made.imgwas("imgwas-out", "--device", device, threads=threads),
            made.folder,
            threads=threads,
        )
        for device in ("cuda", "cpu")
    }
    report("whole scan, 40,000 people, 256 latents", m=M, threads=threads, **found)

"""Encoding against the same network in plain torch with its images already in memory."""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

import pytest

from tests.benchmarks.measure import run

pytestmark = pytest.mark.benchmark

SCRIPT = """
import json, sys, time
import numpy as np, torch
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.encoding import encode_images
from imgwas.images.cache import build_cache
from imgwas.images.volumes import ArrayImages, open_images
grid, n, batch, settings = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
ids = tuple(f"p{i}" for i in range(n))
encoder = create_encoder("udip", {"grid": grid, **settings}, affine=np.eye(4))
values = rng.random((n, *grid), np.float32) + 0.5
cache = build_cache(ArrayImages(values, ids), "cache", dtype="float32")
network = encoder.network.eval()
perfect = encoder.normalise(torch.from_numpy(values)).image
del values

def plain():
    with torch.inference_mode():
        return torch.cat([network.encode(perfect[i:i + batch]) for i in range(0, n, batch)])

def ours(k):
    encode_images(cache, encoder, f"latents-{k}.parquet", digest="0" * 64, batch=batch,
                  reconstruction_error=False)

plain()
pairs = []
for k in range(3):
    start = time.perf_counter(); plain(); middle = time.perf_counter(); ours(k)
    pairs.append((n / (middle - start), n / (time.perf_counter() - middle)))
print(json.dumps(pairs))
"""

CASES = {
    "2 mm, udip": ((91, 109, 91), 24, 4, {}),
    "1 mm, udip": ((182, 218, 182), 3, 1, {}),
    "4 mm, udip": ((46, 55, 46), 200, 8, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_encoding_speed(tmp_path, name):
    """Volumes a second, reading, normalising and writing included, as a share of perfect data."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(CASES[name])]
    done = run(command, tmp_path, threads=2)
    pairs = json.loads((tmp_path / "output.txt").read_text().splitlines()[-1])
    plain, ours = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    line = (
        f"{name}: {ours:.2f} volumes/s, plain torch {plain:.2f}, ratio {ratio:.3f}, "
        f"peak {done.peak_mb:.0f} MB"
    )
    print(line)
    if "IMGWAS_BENCHMARK_OUT" in os.environ:
        with Path(os.environ["IMGWAS_BENCHMARK_OUT"]).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

"""Memory of training and encoding does not grow with the number of people."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from imgwas.files import publish_json
from tests.benchmarks.measure import run

GRID = (46, 55, 46)
SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.encoding import encode_images
from imgwas.encoders.fitting import fit
from imgwas.encoders.splits import Split
from imgwas.images.volumes import open_images
images = open_images(sys.argv[1])
settings = {"latents": 4, "intensity": "none", "mask": "all"}
if sys.argv[2] == "encode":
    encoder = create_encoder("ae-1000", {**settings, "grid": images.grid}, affine=images.affine)
    encode_images(images, encoder, "latents.parquet", digest="0" * 64, reconstruction_error=False)
else:
    n = len(images)
    fit("ae-1000", images, out="run", settings=settings, device="cpu",
        train={"epochs": 1, "batch": 8}, split=Split(tuple(range(n - 8)), tuple(range(n - 8, n))))
"""


def sparse_cache(folder: Path, n: int) -> Path:
    """A cache of n noisy volumes that share their bytes' pattern; made in a moment."""
    cache = folder / "cache"
    cache.mkdir(parents=True)
    one = np.random.default_rng(0).random(GRID).astype(np.float32).tobytes()
    with (cache / "values.bin").open("wb") as stream:
        for _ in range(n):
            stream.write(one)
    about = {
        "sample_ids": [f"p{i}" for i in range(n)], "grid": list(GRID), "dtype": "float32",
        "affine": np.eye(4).tolist(), "fingerprint": {"n": n, "files": "x", "recipe": None},
    }  # fmt: skip
    publish_json(cache / "cache.json", about)
    return cache


@pytest.mark.slow
@pytest.mark.parametrize("what", ["encode", "train"])
def test_volumes_are_not_held(tmp_path, what):
    """Eight times the people: the growth is far below the volumes that passed through."""
    few, many = 60, 480
    peaks = []
    for n in (few, many):
        cache = sparse_cache(tmp_path / str(n), n)
        command = [sys.executable, "-c", SCRIPT, str(cache), what]
        peaks.append(run(command, cache.parent, threads=1).peak_mb)
    passed_through = (many - few) * np.prod(GRID) * 4 / 1e6
    assert 150 < peaks[0] < 1500
    assert peaks[1] - peaks[0] < 0.3 * passed_through, (peaks, passed_through)

"""Families of encoders beside each other: how much of planted volumes their latents tell.

``pytest -m benchmark -s tests/benchmarks/test_encoder_families.py``: the same simulated brains, the
same people held out, networks that learn on a CPU in a minute or two. Nothing is asserted of who
is best; a probe of shuffled factors must find nothing.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import imgwas
from imgwas.encoders.splits import split_people

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

GRID, PEOPLE, LATENTS = (12, 14, 12), 240, 16
#: settings and training of each family, small enough for a CPU
FAMILIES = {
    "pca": ({"background": "zero", "mask": "nonzero"}, {}),
    "udip": (
        {"background": "zero", "mask": "nonzero", "levels": 2, "width": 8},
        {"epochs": 25, "batch": 16, "learning_rate": 2e-3, "schedule": "cosine", "ema": 0.98},
    ),
    "gan3d": (
        {"form": "upsample", "channels": 16, "game_epochs": 20, "inverter_width": 8,
         "norm": "none", "r1": 0.3, "inverter_rate": 2e-3},
        {"epochs": 32, "batch": 8, "learning_rate": 1e-3, "ema": 0.98},
    ),
    "stylegan3d": (
        {"hidden": 8, "start_resolution": 8, "max_resolution": 16, "grow": (8,), "fade_steps": 4,
         "game_epochs": 26, "r1": 1.0, "inverter_rate": 0.02},
        {"epochs": 38, "batch": 8, "ema": 0.99},
    ),
    "diffae": (
        {"base": 4, "blocks": 1, "multipliers": (1, 2, 3), "encoder_multipliers": (1, 2, 4),
         "attention": 9, "halve": "volume", "time_width": 64, "dropout": 0.0, "render_steps": 20,
         "invert_steps": 20},
        {"epochs": 16, "batch": 8, "epoch_share": 1.0, "score_epochs": 0, "learning_rate": 2e-3,
         "ema": 0.98, "schedule": "cosine", "keep": 1},
    ),
}  # fmt: skip


def probe(latents, factors, train, held_out):
    """Held-out R2 of each factor from a linear regression on the latents."""
    mean, sd = latents[train].mean(axis=0), latents[train].std(axis=0)
    design = np.column_stack([np.ones(len(latents)), (latents - mean) / np.where(sd > 0, sd, 1)])
    weights, *_ = np.linalg.lstsq(design[train], factors[train], rcond=None)
    truth = factors[held_out]
    missed = ((truth - design[held_out] @ weights) ** 2).sum(axis=0)
    return 1 - missed / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_planted_volumes_from_latents(name, tmp_path):
    brains = imgwas.simulate_brains(PEOPLE, grid=GRID, seed=1)
    images = imgwas.ArrayImages(brains.values, brains.sample_ids, brains.affine)
    split = split_people(images.sample_ids, seed=0)
    rows = list(split.train), list(split.validation)
    settings, train = FAMILIES[name]
    begun = time.process_time()
    fitted = imgwas.fit(name, images, out=tmp_path / name, settings={"latents": LATENTS} | settings,
                        train=train, split=split, device="cpu")  # fmt: skip
    seconds = time.process_time() - begun
    latents = fitted.encoder.encode(images.values).astype(float)
    found = probe(latents, brains.factors, *rows)
    told = " ".join(f"{n} {v:.2f}" for n, v in zip(brains.regions, found, strict=True))
    print(f"{name}: mean R2 {found.mean():.2f} in {seconds:.0f} CPU s ({told})")
    shuffled = np.random.default_rng(0).permutation(brains.factors)
    assert (probe(latents, shuffled, *rows) < 0.3).all()
    assert np.isfinite(found).all()

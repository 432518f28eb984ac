"""Planted anatomy comes back: a linear probe of the latents finds every region's volume."""

from __future__ import annotations

import numpy as np
import pytest

import imgwas
from imgwas.encoders.splits import split_people

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def probe(latents: np.ndarray, factors: np.ndarray, train: list, held_out: list) -> np.ndarray:
    """Held-out R2 of each factor from a linear regression on the latents."""
    design = np.column_stack([np.ones(len(latents)), latents])
    weights, *_ = np.linalg.lstsq(design[train], factors[train], rcond=None)
    truth = factors[held_out]
    missed = ((truth - design[held_out] @ weights) ** 2).sum(axis=0)
    return 1 - missed / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)


def test_udip_recovers_the_volume_of_every_region(tmp_path):
    """600 brains to learn from, 200 held out, 24 latents; principal components beside it."""
    brains = imgwas.simulate_brains(800, grid=(24, 28, 24), seed=1)
    images = imgwas.ArrayImages(brains.values, brains.sample_ids, brains.affine)
    split = split_people(images.sample_ids, seed=0)
    rows = list(split.train), list(split.validation)
    common = {"latents": 24, "background": "zero", "mask": "nonzero"}
    found = {}
    for name, settings, train in (
        ("pca", {}, {}),
        ("udip", {"levels": 2, "width": 8},
         {"epochs": 30, "batch": 16, "learning_rate": 2e-3, "schedule": "cosine", "ema": 0.98}),
    ):  # fmt: skip
        fitted = imgwas.fit(name, images, out=tmp_path / name, settings=common | settings,
                            train=train, split=split, device="cpu")  # fmt: skip
        found[name] = probe(fitted.encoder.encode(images.values), brains.factors, *rows)
        print(name, dict(zip(brains.regions, found[name].round(3), strict=True)))
    assert (found["udip"] >= 0.9).all()
    assert (found["pca"] >= 0.9).all()


def test_factors_that_are_not_there_are_not_found(tmp_path):
    """The probe itself finds nothing in brains that do not vary."""
    brains = imgwas.simulate_brains(200, grid=(12, 14, 12), effect=0.0, seed=2)
    images = imgwas.ArrayImages(brains.values, brains.sample_ids, brains.affine)
    split = split_people(images.sample_ids, seed=0)
    fitted = imgwas.fit("pca", images, out=tmp_path, settings={"latents": 8}, split=split)
    found = probe(fitted.encoder.encode(images.values), brains.factors, list(split.train),
                  list(split.validation))  # fmt: skip
    assert (found < 0.2).all()

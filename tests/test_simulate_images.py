"""Simulated brains against their truth: planted slopes, leakage, invertibility, files."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.simulate import PlantedEffect, builtin_template, simulate_image_arrays

QUIET = {
    "region_sd": 0, "ventricle_sd": 0, "intensity_sd": 0, "shrinkage": 0, "ventricle_growth": 0,
    "head_sd": 0, "head_sex": 0,
}  # fmt: skip
GRID = 6.0


def slopes(values: np.ndarray, dosages: np.ndarray) -> np.ndarray:
    """Least-squares slope of every column on every dosage."""
    design = np.column_stack([np.ones(len(values)), dosages.T])
    return np.linalg.lstsq(design, values, rcond=None)[0][1:]


def test_a_region_changes_by_the_stated_amount_and_the_others_do_not():
    """Volumes are measured here by plain sums over the image's own labels, not by the solver."""
    effects = [
        PlantedEffect("hippocampus_left", 0.06),
        PlantedEffect("lateral_ventricle_right", -0.15),
        PlantedEffect("frontal_cortex_left", 0.05),
    ]
    made = simulate_image_arrays(
        n_samples=60, n_variants=300, effects=effects, n_null=2, grid_mm=GRID, seed=3, **QUIET
    )
    logs = np.log(made.volumes[list(made.template.regions)].to_numpy())
    found = slopes(logs, made.dosages)
    for row, effect in enumerate(effects):
        own = made.template.regions.index(effect.region)
        assert found[row, own] == pytest.approx(effect.amount, rel=0.05)
        assert np.abs(np.delete(found[row], own)).max() < 0.02 * abs(effect.amount)
    assert np.abs(found[3:]).max() < 0.001, "null variants"
    assert made.truth["realised_slope"][:3].to_numpy() == pytest.approx(
        [e.amount for e in effects], rel=0.05
    )


def test_everything_opens_and_the_seed_decides_every_byte(tmp_path):
    def make(name: str, seed: int, threads: int) -> list[str]:
        made = imgwas.simulate_images(
            tmp_path / name, n_samples=24, n_variants=300, n_planted=4, n_null=2, grid_mm=GRID,
            seed=seed, threads=threads,
        )  # fmt: skip
        images = imgwas.open_images(made.images)
        genotypes = imgwas.open_genotypes(made.bfile)
        assert images.sample_ids == tuple(genotypes.samples.sample_ids)
        assert images.grid == builtin_template(GRID).grid
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in files]

    assert make("a", 1, 1) == make("b", 1, 2)
    assert set(make("c", 2, 1)) - set(make("a", 1, 1))
    truth = pd.read_csv(tmp_path / "a/truth.tsv", sep="\t")
    assert list(truth["role"]) == ["planted"] * 4 + ["control"] * 2

"""Volumes learned from measured ones: intervals hold whatever the kept regions do not explain."""

from __future__ import annotations

import numpy as np
import pytest

from imgwas.brain.directions import latent_direction, regression_direction, residual_covariance
from imgwas.brain.effects import Spread
from imgwas.brain.volume_change import VolumeReader, reader_of_measured
from imgwas.errors import TooFewSamplesError
from imgwas.types import Atlas, Latents


def atlas_of(n_regions):
    labels = np.zeros((n_regions + 1, 1, 1), np.int32)
    labels[1:, 0, 0] = range(1, n_regions + 1)
    names = {i: f"r{i}" for i in range(1, n_regions + 1)}
    return Atlas(labels, np.eye(4), names, dict.fromkeys(names, ""))


def study(seed, n_latents, n_regions, *, planted=None, amount=0.05, n=1000, measured=400,
          noise=1.0, common=0.0):  # fmt: skip
    """Latents that mix all regions; a genotype that changes one of them."""
    mixing = np.random.default_rng(0).standard_normal((n_regions, n_latents))
    rng = np.random.default_rng(seed + 1)
    g = rng.binomial(2, 0.4, n).astype(float)
    truth = np.zeros(n_regions)
    if planted is not None:
        truth[planted] = amount
    v = 0.08 * rng.standard_normal((n, n_regions)) + g[:, None] * truth
    v += common * rng.standard_normal((n, 1))
    z = 10 * v @ mixing + noise * rng.standard_normal((n, n_latents))
    ids = tuple(map(str, range(n)))
    latents = Latents(z, ids, tuple(f"L{i:03d}" for i in range(n_latents)))
    names = tuple(f"r{i}" for i in range(1, n_regions + 1))
    volumes = Latents(np.exp(v[:measured]) * 3000, ids[:measured], names)
    return latents, volumes, g, truth


def test_intervals_hold_where_a_region_that_is_left_out_changes():
    regions, held, without = atlas_of(26), [], []
    for seed in range(40):
        latents, volumes, g, truth = study(seed, 24, 26, planted=seed % 26)
        reader = reader_of_measured(latents, volumes, regions)
        if seed % 26 not in reader.reasons:
            continue
        blind = VolumeReader(reader.weights, reader.share, reader.noise, reader.gram,
                             reader.source, reader.reasons)  # fmt: skip
        direction = regression_direction(latents, g, "g", per="unit")
        spread = Spread.of(residual_covariance(latents))
        for one, kept in ((reader, held), (blind, without)):
            columns = one.columns(direction, spread)
            inside = (columns["volume_low"] <= truth) & (truth <= columns["volume_high"])
            kept += inside[np.isfinite(columns["volume"])].tolist()
    assert len(held) > 100
    assert np.mean(held) >= 0.95
    assert np.mean(without) < 0.9


def test_intervals_are_no_wider_where_the_regions_explain_everything():
    widths = []
    for seed in range(12):
        latents, volumes, g, _ = study(seed, 32, 8, planted=seed % 8)
        reader = reader_of_measured(latents, volumes, atlas_of(8))
        assert reader.unexplained.shape == (32, 32 - 8)
        blind = VolumeReader(reader.weights, reader.share, reader.noise, reader.gram,
                             reader.source)  # fmt: skip
        direction = regression_direction(latents, g, "g", per="unit")
        spread = Spread.of(residual_covariance(latents))
        one, other = (r.columns(direction, spread) for r in (reader, blind))
        width = one["volume_high"] - one["volume_low"]
        widths.append((width / (other["volume_high"] - other["volume_low"])).mean())
        np.testing.assert_array_equal(one["volume"], other["volume"])
    assert 1 <= np.mean(widths) < 1.02


@pytest.mark.filterwarnings("error")
def test_more_regions_than_latents_and_few_people():
    latents, volumes, g, _ = study(0, 6, 60, measured=16, common=0.3)
    reader = reader_of_measured(latents, volumes, atlas_of(60))
    assert 60 - len(reader.reasons) <= 6
    direction = regression_direction(latents, g, "g", per="unit")
    columns = reader.columns(direction, Spread.of(residual_covariance(latents)))
    read = np.isfinite(columns["volume"])
    assert read.sum() == 60 - len(reader.reasons)
    assert (columns["volume_high"] >= columns["volume_low"])[read].all()
    moved = reader.columns(latent_direction(latents, "L001"), Spread.of(np.eye(6)))
    assert set(moved) == {"volume", "volume_share"}
    with pytest.raises(TooFewSamplesError, match=r"15 people whom.*At least 16"):
        reader_of_measured(*study(0, 6, 60, measured=15)[:2], atlas_of(60))

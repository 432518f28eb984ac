"""The pool of blood of a rendered heart: against the volumes and walls that were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from imgwas.brain.heart_function import as_cine, find_chambers, measure_heart
from imgwas.errors import DegenerateError, InconsistentError, UsageError
from imgwas.simulate.heart import FIELD_OF_VIEW, Heart, contraction, draw_heart, shape_over_time
from imgwas.simulate.heart_images import _scan

GRID, FRAMES = 64, 16
PIXEL = FIELD_OF_VIEW / GRID


def drawn(wall=9.0, volume=148.0, fraction=0.6, grid=GRID, frames=FRAMES):
    heart = Heart(wall, volume, fraction, 0.75, (12.0, -24.0))
    return heart, draw_heart(heart, grid=grid, n_frames=frames)[0]


def people(n, seed=1, grid=GRID, frames=FRAMES):
    """Truth (fraction, wall, volumes) and noisy scans of people who differ as simulated ones do."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        wall, fraction = rng.normal(9, 1.2), rng.normal(0.6, 0.05)
        volume = np.exp(rng.normal(5, 0.18))
        place = tuple(4 * rng.normal(size=2) + [12.0, -24.0])
        heart = Heart(wall, volume, fraction, 0.75 + 0.08 * rng.normal(), place)
        yield (
            (fraction, wall, volume, volume * (1 - fraction)),
            _scan(heart, grid, frames, 0.04, rng),
        )


def compared(n, **size):
    truth, found = [], []
    for known, cine in people(n, **size):
        one = measure_heart(cine, FIELD_OF_VIEW / cine.shape[0])
        truth.append(known)
        found.append((one.ejection_fraction, one.wall, one.volume.max(), one.volume.min()))
    truth, found = np.array(truth), np.array(found)
    known = np.isfinite(found).all(axis=1)
    assert known.mean() > 0.9
    truth, found = truth[known], found[known]
    r = [np.corrcoef(truth[:, k], found[:, k])[0, 1] for k in range(4)]
    slope = [np.polyfit(truth[:, k], found[:, k], 1)[0] for k in range(4)]
    return r, slope, found.mean(axis=0) - truth.mean(axis=0)


def test_people_are_told_apart_by_fraction_wall_and_volume():
    r, _, bias = compared(12)
    assert r[0] > 0.95
    assert r[1] > 0.75
    assert min(r[2:]) > 0.95
    assert abs(bias[0]) < 0.05
    assert abs(bias[1]) < 1.5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_measured_against_the_truth_at_the_size_of_the_phantom():
    r, slope, bias = compared(60, grid=96, frames=50)
    print("r", np.round(r, 3), "slope", np.round(slope, 2), "bias", np.round(bias, 2))
    assert r[0] > 0.98
    assert r[1] > 0.9
    assert min(r[2:]) > 0.98
    assert np.allclose(slope, 1, atol=0.15)


def test_the_curve_follows_the_ventricle():
    heart, cine = drawn(frames=25)
    found = measure_heart(cine, PIXEL)
    volume = shape_over_time(heart, 25)[1]
    assert np.corrcoef(found.volume, volume)[0, 1] > 0.995
    assert np.abs(found.volume / volume - 1).max() < 0.15
    emptied = contraction(25)
    assert emptied[found.systole] > 0.95
    assert emptied[found.diastole] < 0.05


def test_brightness_and_scale_change_nothing():
    _, cine = drawn()
    one, other = measure_heart(cine, PIXEL), measure_heart(3 * cine - 7, PIXEL)
    np.testing.assert_allclose(one.volume, other.volume, rtol=1e-3)
    assert one.ejection_fraction == pytest.approx(other.ejection_fraction, abs=1e-3)
    four = measure_heart(cine[:, :, None], PIXEL)
    np.testing.assert_array_equal(one.area, four.area)
    twice = measure_heart(cine, 2 * PIXEL)
    np.testing.assert_allclose(twice.volume, 8 * one.volume, rtol=1e-6)


def test_other_hearts_are_found_by_the_average_one_and_by_labels():
    _, average = drawn()
    chambers = find_chambers(average)
    assert chambers.right not in (0, chambers.left)
    _, weak = drawn(fraction=0.4)
    _, thick = drawn(wall=13.0)
    cines = {"weak": weak, "thick": thick, "average": average}
    found = {name: measure_heart(cine, PIXEL, like=chambers) for name, cine in cines.items()}
    assert found["weak"].ejection_fraction < found["average"].ejection_fraction - 0.12
    assert found["thick"].wall > found["average"].wall + 2
    shares = draw_heart(Heart(9.0, 148.0, 0.6, 0.75, (12.0, -24.0)), grid=GRID, n_frames=FRAMES)[1]
    left = shares[0].min(axis=2) > 0.5
    assert find_chambers(average, left=left).left == chambers.left
    # labels decide: the pool of the right ventricle may be asked for
    other = find_chambers(average, left=chambers.cores == chambers.right)
    assert other.left == chambers.right


def test_refusals():
    _, cine = drawn()
    with pytest.raises(UsageError, match=r"the cine has shape \(64, 64, 3\).*8 frames or more"):
        measure_heart(cine[:, :, :3], PIXEL)
    with pytest.raises(UsageError, match=r"shape \(64, 64\)"):
        as_cine(cine[:, :, 0])
    with pytest.raises(DegenerateError, match="nothing moves in 16 frames"):
        measure_heart(np.repeat(cine[:, :, :1], FRAMES, axis=2), PIXEL)
    with pytest.raises(DegenerateError, match="not finite"):
        measure_heart(np.where(cine > 0.9, np.nan, cine), PIXEL)
    noise = np.random.default_rng(0).standard_normal((32, 32, 12))
    with pytest.raises(DegenerateError, match="no pixel is blood in every frame"):
        measure_heart(noise, PIXEL)
    with pytest.raises(UsageError, match="edge of a pixel"):
        measure_heart(cine, 0.0)
    with pytest.raises(InconsistentError, match=r"mask has shape \(4, 4\)"):
        measure_heart(cine, PIXEL, left=np.ones((4, 4), bool))
    with pytest.raises(InconsistentError, match="no pool of blood lies where"):
        measure_heart(cine, PIXEL, left=np.zeros((GRID, GRID), bool))
    with pytest.raises(InconsistentError, match=r"the cine has \(32, 32\) pixels"):
        measure_heart(drawn(grid=32)[1], PIXEL, like=find_chambers(cine))


def test_what_does_not_empty_is_no_ventricle():
    """Two bright discs of which none changes its size, and dark pixels that flicker beside them."""
    x, y = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    still = np.zeros((32, 32, 10), np.float32)
    for at in (8, 23):
        still[(x - at) ** 2 + (y - 16) ** 2 < 36] = 1.0
    still[:3, :3] = 0.3 * (np.arange(10) % 2)
    still[15:17, 15:17] = 0.3 + 0.1 * (np.arange(10) % 2)
    still[8, 16] += 0.4 * (np.arange(10) % 2)
    with pytest.raises(DegenerateError, match="no pool of blood"):
        measure_heart(still, 5.0)

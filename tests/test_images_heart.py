"""The heart is what moves: planted discs, real cardiac slices that are made to beat, and noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgwas.errors import DegenerateError, UsageError
from imgwas.images.heart import crop_around, crop_to_heart, locate_heart
from tests.data import data_file
from tests.dicoms import moving_disc


@pytest.mark.parametrize(
    ("size", "centre"),
    [
        ((208, 187), (90, 110)),
        ((187, 208), (40, 150)),
        ((131, 133), (64, 70)),
        ((256, 256), (200, 50)),
        ((101, 99), (22, 78)),  # near the border
    ],
)
def test_a_moving_disc_is_found_within_two_pixels(size, centre):
    rng = np.random.default_rng(2)
    x, y = np.mgrid[: size[0], : size[1]]
    phase = np.sin(2 * np.pi * np.arange(50) / 50)
    distance = np.hypot(x - centre[0], y - centre[1])[..., None]
    cine = np.where(distance < 14 + 4 * phase, 200.0, 60.0) + rng.normal(0, 2, (*size, 50))
    heart = locate_heart(cine)
    assert np.hypot(*np.subtract(heart.centre, centre)) <= 2
    assert heart.smoothness > 0.8
    assert heart.share < 0.2


def test_units_and_offset_do_not_matter():
    cine = moving_disc((90, 80), (41, 33)).astype(float)
    assert locate_heart(cine * 1e-6 + 5).box == locate_heart(cine).box


@pytest.mark.parametrize(("flank", "first"), [(0.030, 20), (0.015, 40)])
def test_half_of_the_mean_variance_is_the_limit(flank, first):
    """400 pixels of variance 1 and 400 of a smaller one: half of the mean is about 0.02."""
    wave = np.sqrt(2) * np.sin(2 * np.pi * np.arange(20) / 20)
    cine = np.zeros((100, 100, 20))
    cine[40:60, 40:60] = wave
    cine[20:40, 40:60] = np.sqrt(flank) * wave
    assert 0.0200 < cine.var(axis=2).mean() / 2 < 0.0210
    assert abs(locate_heart(cine).box[0] - first) <= 1


def test_a_heart_at_the_border_reaches_it():
    cine = moving_disc((100, 90), (6, 45)).astype(float)
    box = locate_heart(cine).box
    assert box[0] == 0
    assert abs((box[2] + box[3]) / 2 - 45) <= 1


def test_the_larger_of_two_moving_parts():
    cine = moving_disc((160, 160), (110, 60)).astype(float)
    cine[20:27, 20:27] += 400 * np.cos(2 * np.pi * np.arange(50) / 50)
    assert np.hypot(*np.subtract(locate_heart(cine).centre, (110, 60))) <= 2


def _slices(step):
    from matplotlib.image import imread

    table = data_file("sunnybrook_part1/slices.csv")
    names = [line.split(",")[0] for line in table.read_text().splitlines()[1:]]
    for name in names[::step]:
        picture = np.round(imread(table.parent / "images" / name) * 255).astype(np.float32)
        ventricle = imread(table.parent / "lv_mask" / name) > 0
        if ventricle.sum() > 200:
            yield picture, np.array(np.nonzero(ventricle)).mean(axis=1)


def _beating(picture, centre):
    """The picture, contracted by up to a quarter about a centre, fading out at 45 pixels."""
    from scipy.ndimage import map_coordinates

    x, y = np.mgrid[: picture.shape[0], : picture.shape[1]]
    weight = np.clip(1 - np.hypot(x - centre[0], y - centre[1]) / 45, 0, 1)
    scales = 1 - 0.25 * np.sin(np.pi * np.arange(20) / 20) ** 2
    frames = []
    for scale in scales:
        stretch = 1 + weight * (1 / scale - 1)
        where = [centre[0] + (x - centre[0]) * stretch, centre[1] + (y - centre[1]) * stretch]
        frames.append(map_coordinates(picture, where, order=1))
    return np.stack(frames, axis=-1)


def test_real_slices_that_beat_are_found_at_the_ventricle():
    distances = []
    for picture, centre in _slices(step=26):
        cine = _beating(picture, centre)
        distances.append(np.hypot(*np.subtract(locate_heart(cine).centre, centre)))
    assert len(distances) >= 8
    assert np.median(distances) < 2
    assert max(distances) < 10  # of a window of 128


def test_real_slices_that_stand_still_are_refused():
    rng = np.random.default_rng(3)
    for picture, _ in _slices(step=50):
        still = np.repeat(picture[..., None], 20, axis=2)
        with pytest.raises(DegenerateError, match=r"nothing moves in 20 frames.*same picture"):
            locate_heart(still)
        with pytest.raises(DegenerateError, match=r"spans \d+% of the picture.*This is noise"):
            locate_heart(still + rng.normal(0, 3, still.shape))
        with pytest.raises(DegenerateError, match=r"This is noise|at random"):
            locate_heart(still * (1 + rng.normal(0, 0.1, still.shape)))


def test_what_changes_at_random_in_one_place_is_no_heart():
    rng = np.random.default_rng(4)
    cine = np.full((100, 100, 50), 50.0)
    cine[30:60, 40:70] += rng.normal(0, 20, (30, 30, 50))
    with pytest.raises(DegenerateError, match=r"successive frames correlate at -?0\.0"):
        locate_heart(cine)


@pytest.mark.parametrize(
    ("cine", "message"),
    [
        (np.zeros((40, 40, 50)), "nothing moves"),
        (np.zeros((40, 40)), r"shape \(40, 40\)"),
        (moving_disc()[..., :5], "at least 8 frames"),
        (np.full((40, 40, 50), np.nan), "not finite"),
    ],
)
def test_what_is_no_cine(cine, message):
    with pytest.raises(DegenerateError, match=message):
        locate_heart(cine)


def test_a_twinkling_pixel_is_no_heart():
    cine = np.zeros((60, 60, 50))
    cine[30, 30] = np.sin(np.arange(50) / 8)
    with pytest.raises(DegenerateError, match="smaller than 5 x 5"):
        locate_heart(cine * 1.0)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    centre=st.tuples(st.integers(-15, 25), st.integers(-15, 25)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_a_window_is_the_picture_seen_through_it(shape, centre, size):
    picture = np.arange(1, shape[0] * shape[1] + 1).reshape(*shape, 1)
    window = crop_around(picture, centre, size)
    assert window.shape == (*size, 1)
    for i in range(size[0]):
        for j in range(size[1]):
            x, y = centre[0] + i - size[0] // 2, centre[1] + j - size[1] // 2
            inside = 0 <= x < shape[0] and 0 <= y < shape[1]
            assert window[i, j, 0] == (picture[x, y, 0] if inside else 0)


def test_the_heart_is_in_the_middle_of_its_window():
    cine = moving_disc((208, 187), (60, 130))
    window, heart = crop_to_heart(cine)
    assert window.shape == (128, 128, 50)
    assert window.dtype == cine.dtype
    middle = locate_heart(window)
    assert np.hypot(*np.subtract(middle.centre, (64, 64))) <= 2
    assert heart.box[0] < 60 < heart.box[1]


def test_a_window_needs_a_size():
    with pytest.raises(UsageError, match="At least one pixel"):
        crop_around(np.zeros((5, 5)), (2, 2), (0, 4))

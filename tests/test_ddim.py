"""Schedules and DDIM: published end points, a closed form, and the way there and back."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from imgwas.encoders.ddim import invert, legal_steps, moved, render, step_pairs
from imgwas.encoders.diffusion import Schedule, add_noise
from imgwas.errors import UsageError

MEAN, SD = 0.7, 0.3
LEVELS = torch.from_numpy(Schedule().levels)
STEPS = (20, 50, 100, 200, 250, 500, 1000)


def guess(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """The expected noise in x at some times, when clean values are normal(MEAN, SD)."""
    level = LEVELS[times].reshape(-1, 1)
    return (1 - level).sqrt() * (x - level.sqrt() * MEAN) / (level * SD**2 + 1 - level)


def noise(n: int = 50) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((3, n)))


def exact(x: torch.Tensor) -> torch.Tensor:
    """Where infinitely many steps lead: a value keeps its place in the distribution."""
    level = float(Schedule().levels[-1])
    place = (x - math.sqrt(level) * MEAN) / math.sqrt(level * SD**2 + 1 - level)
    return MEAN + SD * place


def rmse(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def test_the_schedule_is_the_published_one():
    schedule = Schedule()
    assert schedule.betas[0] == 1e-4
    assert schedule.betas[-1] == 0.02
    assert np.ptp(np.diff(schedule.betas)) < 1e-15
    left = 1.0
    for t in range(1000):
        left *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        assert schedule.levels[t] == pytest.approx(left, rel=1e-10)
    assert schedule.level(-1) == 1.0
    assert schedule.level(999) == schedule.levels[999]
    assert left == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("n_times", [50, 100, 250, 4000])
def test_a_shorter_schedule_ends_in_noise_too(n_times):
    schedule = Schedule(n_times)
    assert schedule.betas[0] == pytest.approx(0.1 / n_times)
    assert schedule.betas[-1] == pytest.approx(20 / n_times)
    assert schedule.levels[-1] < 1e-4
    with pytest.raises(UsageError, match=r"the number of times is 49.*50 to 100000"):
        Schedule(49)


def test_noise_takes_the_place_of_the_image():
    rng = np.random.default_rng(1)
    image, added = (torch.from_numpy(rng.standard_normal((2, 1, 3, 3, 3))) for _ in range(2))
    levels = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    noisy = add_noise(image, added, torch.tensor([2, 0]), levels)
    for row, a in ((0, 0.2), (1, 0.9)):
        expected = math.sqrt(a) * image[row] + math.sqrt(1 - a) * added[row]
        np.testing.assert_allclose(noisy[row].numpy(), expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("n", STEPS)
def test_pairs_run_from_the_last_time_to_the_clean_image(n):
    pairs = step_pairs(n, 1000)
    assert len(pairs) == n
    assert pairs[0][0] == 999
    assert pairs[-1][1] == -1
    assert {a - b for a, b in pairs} == {1000 // n}
    assert all(one[1] == following[0] for one, following in pairwise(pairs))


@pytest.mark.parametrize("n", [-5, 0, 1, 5, 30, 333, 999, 1001, 2000])
def test_other_numbers_of_steps_are_refused_with_the_legal_ones(n):
    with pytest.raises(UsageError, match=rf"{n} steps .* 1000 times.*10, 20, 25, 40, 50, 100, 125"):
        step_pairs(n, 1000)
    assert set(STEPS) <= set(legal_steps(1000))
    assert legal_steps(100) == [10, 20, 25, 50, 100]


def test_one_step_against_the_textbook():
    rng = np.random.default_rng(2)
    x, eps = rng.standard_normal((2, 50))
    a, b = 0.3, 0.8
    clean = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
    expected = math.sqrt(b) * clean + math.sqrt(1 - b) * eps
    got = moved(torch.from_numpy(x), torch.from_numpy(eps), a, b)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)
    # nothing moves where the level stays, and there and back along one noise is nothing
    np.testing.assert_allclose(moved(*map(torch.from_numpy, (x, eps)), a, a).numpy(), x, atol=1e-12)
    back = moved(got, torch.from_numpy(eps), b, a)
    np.testing.assert_allclose(back.numpy(), x, atol=1e-12)
    # cut: the clean image stays in range and the noise explains the rest
    cut = np.clip(clean, -1, 1)
    assert np.abs(clean).max() > 1
    other = (x - math.sqrt(a) * cut) / math.sqrt(1 - a)
    got = moved(torch.from_numpy(x), torch.from_numpy(eps), a, b, (-1.0, 1.0))
    np.testing.assert_allclose(got, math.sqrt(b) * cut + math.sqrt(1 - b) * other, rtol=1e-12)
    got = moved(torch.from_numpy(x), torch.from_numpy(eps), a, 1.0, (-1.0, 1.0))
    np.testing.assert_allclose(got, cut, rtol=1e-12)
    # a clean image has no noise to derive: the guessed one is used
    assert torch.isfinite(moved(torch.from_numpy(x), torch.from_numpy(eps), 1.0, b, (-1, 1))).all()


@pytest.mark.parametrize("n", [20, 100])
def test_rendering_equals_its_recursion(n):
    """With the exact guess each step is a x + b; the product of them, in plain numbers."""
    slope, offset = 1.0, 0.0
    levels = [*Schedule().levels.tolist(), 1.0]  # the last is that of time -1
    stride = 1000 // n
    for k in range(n, 0, -1):
        now, then = levels[k * stride - 1], levels[(k - 1) * stride - 1]
        gain = math.sqrt(1 - now) / (now * SD**2 + 1 - now)
        away = math.sqrt(1 - then) - math.sqrt(then * (1 - now) / now)
        a = math.sqrt(then / now) + away * gain
        b = -away * gain * math.sqrt(now) * MEAN
        slope, offset = a * slope, a * offset + b
    got = render(guess, noise(), Schedule(), n)
    np.testing.assert_allclose(got.numpy(), slope * noise().numpy() + offset, rtol=1e-9)


def test_rendering_nears_the_closed_form_as_steps_grow():
    errors = [rmse(render(guess, noise(), Schedule(), n), exact(noise())) for n in STEPS]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.04, "twenty steps shrink what people differ by"
    assert errors[-1] < 0.002


def test_the_way_there_and_back_misses_by_less_with_more_steps_and_guesses():
    clean = exact(noise())
    found = {}
    for repeats in (0, 1):
        found[repeats] = []
        for n in STEPS[:5]:
            there = invert(guess, clean, Schedule(), n, repeats=repeats)
            found[repeats].append(rmse(render(guess, there, Schedule(), n), clean))
        assert found[repeats] == sorted(found[repeats], reverse=True)
    assert found[0][STEPS.index(100)] < 0.03
    assert found[0][-1] < 0.012
    for plain, twice in zip(found[0], found[1], strict=True):
        assert twice < plain / 3
    # and the noise that is found is the one that it came from
    assert rmse(invert(guess, clean, Schedule(), 500), noise()) < 0.02

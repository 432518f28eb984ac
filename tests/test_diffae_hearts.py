"""What minutes of one core teach the diffusion autoencoder of hearts: its code, its pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imgwas.brain.heart_function import measure_heart
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.fitting import fit
from imgwas.encoders.splits import Split
from imgwas.errors import DegenerateError
from imgwas.images.heart import crop_to_heart
from imgwas.images.volumes import ArrayImages
from imgwas.simulate.heart import FIELD_OF_VIEW, Heart, draw_heart

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow, pytest.mark.timeout(3600)]

#: The preset of docs/diffae.md for cines of 24 x 24 pixels.
PRESET = {
    "base": 8, "blocks": 1, "multipliers": (1, 2, 2), "encoder_multipliers": (1, 2, 4),
    "attention": 6, "latents": 32, "time_width": 32, "dropout": 0.0, "render_steps": 50,
    "invert_steps": 50, "predicts": "velocity", "pool": "places", "time_shift": 3.0,
}  # fmt: skip
TRAIN = {
    "batch": 8, "epochs": 8, "epoch_share": 1.0, "score_epochs": 0, "learning_rate": 2e-3,
    "ema": 0.99, "schedule": "cosine", "keep": 1, "threads": 1,
}  # fmt: skip
#: People: who is learnt from, who chooses the epoch, who is judged on.
LEARN, CHOOSE, JUDGE = 480, 40, 320
WHOLE, FRAMES = 48, 8
WALL, PUMP, VOLUME = 0, 1, 2


def hearts(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Cines of 24 x 24 pixels of 5 mm around what beats; wall (mm), ejection fraction, volume."""
    rng = np.random.default_rng(0)
    cines, truth = [], []
    while len(cines) < n:
        drawn = (9 + 1.2 * rng.standard_normal(), 0.6 + 0.05 * rng.standard_normal(),
                 np.exp(5 + 0.18 * rng.standard_normal()))  # fmt: skip
        wall, pump, volume = map(float, drawn)
        where = (12 + 4 * rng.standard_normal(), -24 + 4 * rng.standard_normal())
        heart = Heart(wall, volume, pump, 0.75 + 0.08 * rng.standard_normal(), where)
        cine = draw_heart(heart, grid=WHOLE, n_frames=FRAMES)[0]
        cine = cine + 0.02 * rng.standard_normal(cine.shape)
        try:
            cines.append(crop_to_heart(np.maximum(cine, 0), (24, 24))[0])
        except DegenerateError:  # what beats fills half of the picture: `imgwas preprocess` fails
            continue
        truth.append(drawn)
    return np.array(cines, np.float32), np.array(truth)


def probed(codes: np.ndarray, truth: np.ndarray) -> list[float]:
    """R2 on unseen people of ridge regressions of the truth on the codes of those learnt from."""
    from sklearn.linear_model import RidgeCV

    scaled = (codes - codes[:LEARN].mean(0)) / codes[:LEARN].std(0)
    penalties = np.logspace(-2, 4, 13)
    found = []
    for values in truth.T:
        probe = RidgeCV(penalties).fit(scaled[:LEARN], values[:LEARN])
        found.append(float(probe.score(scaled[-JUDGE:], values[-JUDGE:])))
    return found


def walk(made, codes: np.ndarray, trait: np.ndarray) -> list[float]:
    """Wall (mm) at -2, 0 and 2 SD of people along a regression direction, mean of four noises.

    The thinnest walls vanish in some pictures on pixels of 5 mm; those are left out.
    """
    start, centred = codes.mean(0), trait - trait.mean()
    step = (codes - start).T @ centred
    step /= np.linalg.norm(step)
    sd = ((codes - start) @ step).std()
    noise = np.random.default_rng(0).standard_normal((4, *made.grid)).astype(np.float32)
    walls = []
    for amount in (-2, 0, 2):
        code = np.asarray(start + amount * sd * step, np.float32)
        cines = made.render(np.repeat(code[None], len(noise), axis=0), noise)
        found = [measure_heart(cine, FIELD_OF_VIEW / WHOLE).wall for cine in cines]
        walls.append(float(np.nanmean(found)))
    return walls


def test_a_few_minutes_teach_more_than_chance_knows(tmp_path):
    """Probes of the code before and after, and a walk measured on what is painted.

    A random network is a random projection, of which a probe reads much, so the bar is that.
    """
    raw, truth = hearts(LEARN + CHOOSE + JUDGE)
    images = ArrayImages(raw, tuple(f"p{i}" for i in range(len(raw))))
    split = Split(tuple(range(LEARN)), tuple(range(LEARN, LEARN + CHOOSE)))
    made = fit("diffae", images, out=tmp_path, settings=PRESET, split=split, device="cpu",
               train=TRAIN).encoder  # fmt: skip
    codes = made.encode(raw)
    learnt = probed(codes, truth)
    torch.manual_seed(0)
    before = probed(create_encoder("diffae", PRESET | {"grid": made.grid}).encode(raw), truth)
    walls = walk(made, codes[-JUDGE:], truth[-JUDGE:, WALL])
    print("R2 of wall, pump, volume:", np.round(learnt, 3), "untaught:", np.round(before, 3))
    print("wall at -2, 0 and 2 SD:", np.round(walls, 1))
    assert learnt[WALL] > max(0.9, before[WALL] + 0.1)
    assert learnt[VOLUME] > max(0.95, before[VOLUME])
    assert learnt[PUMP] > max(0.55, before[PUMP] + 0.1)
    assert walls[0] < walls[1] < walls[2]

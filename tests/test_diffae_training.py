"""The diffusion autoencoder when it has learnt something: minutes of training, so all are slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import imgwas
from imgwas.encoders.fitting import fit
from imgwas.encoders.similarity import ssim
from imgwas.encoders.splits import Split
from imgwas.images.heart import crop_around
from imgwas.images.nifti import read_volume
from imgwas.images.prepare import prepare_images
from imgwas.images.recipe import Recipe
from imgwas.images.volumes import ArrayImages
from imgwas.simulate.brains import simulate_brains
from imgwas.simulate.heart import Heart, draw_heart
from tests.data import data_file

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow, pytest.mark.timeout(3600)]

#: A preset for the CPU: volumes of 8 to 32 voxels an edge.
SMALL = {
    "base": 8, "blocks": 1, "multipliers": (1, 2, 3), "encoder_multipliers": (1, 2, 3, 3),
    "latents": 8, "time_width": 64, "dropout": 0.0, "render_steps": 50, "invert_steps": 50,
    "predicts": "velocity",
}  # fmt: skip
TRAIN = {
    "batch": 4, "epoch_share": 1.0, "score_epochs": 0, "ema": 0.999, "schedule": "cosine",
    "keep": 1, "threads": 1,
}  # fmt: skip


def likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of volumes in -1..1."""
    one, two = (torch.from_numpy(np.ascontiguousarray(v))[:, None] for v in (a, b))
    return ssim(one, two, data_range=2).numpy()


def scaled(encoder, raw: np.ndarray) -> np.ndarray:
    return encoder.normalise(torch.from_numpy(raw)).image[:, 0].numpy()


def test_one_volume_is_learnt_by_heart(tmp_path):
    """SSIM after encode, invert and render; and the code alone paints the volume too.

    The first would be high in a network that has learnt nothing, whose inverted noise holds the
    image. So the noise must look like noise, and fresh noise must lead to the volume as well.
    """
    brains = simulate_brains(1, grid=(8, 8, 8), seed=0)
    images = ArrayImages(np.repeat(brains.values, 44, axis=0), tuple(f"p{i}" for i in range(44)))
    settings = SMALL | {"base": 16, "multipliers": (1, 2, 2), "encoder_multipliers": (1, 2),
                        "halve": "volume"}  # fmt: skip
    split = Split(tuple(range(40)), tuple(range(40, 44)))
    made = fit("diffae", images, out=tmp_path, settings=settings, split=split, device="cpu",
               train=TRAIN | {"epochs": 150, "learning_rate": 2e-3}).encoder  # fmt: skip
    raw = images.values[:1]
    image, noise = scaled(made, raw), made.invert(raw)
    fresh = np.random.default_rng(1).standard_normal(noise.shape).astype(np.float32)
    found = {
        "SSIM of encode, invert, render": float(likeness(image, made.reconstruct(raw))[0]),
        "SD of the noise": float(noise.std()),
        "correlation of noise and image": abs(
            float(np.corrcoef(noise.ravel(), image.ravel())[0, 1])
        ),
        "variance explained from fresh noise": 1
        - float(np.var(image - made.render(made.encode(raw), fresh)) / image.var()),
    }
    print("\n".join(f"{name}: {value:.4f}" for name, value in found.items()))
    assert found["SSIM of encode, invert, render"] > 0.95
    assert 0.9 < found["SD of the noise"] < 1.1
    assert found["correlation of noise and image"] < 0.5
    assert found["variance explained from fresh noise"] > 0.95


def hearts(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cines of 16 x 16 pixels and 4 frames, and wall (mm), ejection fraction and volume (ml)."""
    rng = np.random.default_rng(seed)
    truth = np.column_stack([
        9 + 1.2 * rng.standard_normal(n), 0.6 + 0.05 * rng.standard_normal(n),
        np.exp(5 + 0.18 * rng.standard_normal(n)),
    ])  # fmt: skip
    cines = []
    for wall, fraction, volume in truth:
        where = {"angle": 0.6 + 0.08 * rng.standard_normal(),
                 "centre": tuple(2 * rng.standard_normal(2))}  # fmt: skip
        cine = draw_heart(Heart(wall, volume, fraction, **where), grid=32, n_frames=8)[0]
        cines.append(crop_around(cine[:, :, ::2], (14, 20), (16, 16)))
    noisy = np.array(cines) + 0.02 * rng.standard_normal((n, 16, 16, 4))
    return noisy.astype(np.float32), truth


def shares(pictures: np.ndarray) -> tuple[float, float]:
    """Of the variance of (codes, noises, ...) pictures: that of codes, and of noises."""
    centred = pictures - pictures.mean((0, 1))
    total = float((centred**2).sum())
    by_code = float((centred.mean(1) ** 2).sum()) * pictures.shape[1]
    by_noise = float((centred.mean(0) ** 2).sum()) * pictures.shape[0]
    return by_code / total, by_noise / total


def test_the_code_is_content_and_the_noise_is_detail(tmp_path):
    """Eight codes times six noises: which of the two decides about what."""
    raw, truth = hearts(200)
    images = ArrayImages(raw, tuple(f"p{i}" for i in range(200)))
    settings = SMALL | {"multipliers": (1, 2, 2), "encoder_multipliers": (1, 2, 2)}
    split = Split(tuple(range(140)), tuple(range(140, 160)))
    made = fit("diffae", images, out=tmp_path, settings=settings, split=split, device="cpu",
               train=TRAIN | {"batch": 8, "epochs": 40, "learning_rate": 0.002}
               ).encoder  # fmt: skip
    rows = list(range(192, 200))
    codes = made.encode(raw[rows])
    noises = np.random.default_rng(3).standard_normal((6, *made.grid)).astype(np.float32)
    pictures = np.stack(
        [made.render(codes, np.repeat(one[None], 8, axis=0)) for one in noises], axis=1
    )
    smooth = gaussian_filter(pictures, (0, 0, 1.5, 1.5, 0))
    blood = ((pictures[..., 0] + 1) / 2 > 0.8).mean((2, 3))
    found = {
        "whole picture": shares(pictures),
        "blurred picture": shares(smooth),
        "what the blur took": shares(pictures - smooth),
        "bright blood at the end of diastole": shares(blood),
    }
    for name, (by_code, by_noise) in found.items():
        print(f"{name}: code {by_code:.3f}, noise {by_noise:.3f}")
    volume = float(np.corrcoef(blood.mean(1), truth[rows, 2])[0, 1])
    print(f"correlation of painted blood and true volume: {volume:.3f}")
    for name in ("blurred picture", "bright blood at the end of diastole"):
        assert found[name][0] > 2 * found[name][1], "the code decides"
        assert found[name][0] > found["what the blur took"][0]
        assert found[name][1] < found["what the blur took"][1], "the noise decides more of detail"
    assert volume > 0.8


def trains_and_paints(images: ArrayImages, settings: dict, epochs: int, out: Path) -> None:
    """The loss of held-out people falls, the same image gives the same latents, pictures return."""
    done = fit("diffae", images, out=out, settings=settings, device="cpu",
               train=TRAIN | {"epochs": epochs, "learning_rate": 1.5e-3, "seed": 1})  # fmt: skip
    losses = [row["validation_loss"] for row in done.history]
    raw = np.stack([images.read(i) for i in range(2)])
    again = likeness(scaled(done.encoder, raw), done.encoder.reconstruct(raw))
    print(f"held-out loss {losses[0]:.3f} to {min(losses):.3f}, SSIM {again.round(3)}")
    assert min(losses) < 0.6 * losses[0]
    assert again.min() > 0.8
    codes = done.encoder.encode(raw)
    np.testing.assert_array_equal(codes, done.encoder.encode(raw))
    assert np.abs(codes[0] - codes[1]).max() > 1e-3


def test_real_hearts(tmp_path):
    """Two frames, the ends of diastole and systole, of slices of fifteen patients."""
    from PIL import Image

    folder = data_file("sunnybrook_part1/images")
    pairs: dict[tuple[str, int], list[Path]] = {}
    for path in sorted(folder.glob("*.png")):
        patient, _, number = path.stem.rpartition("-IM-0001-")
        pairs.setdefault((patient, (int(number) - 1) // 20), []).append(path)
    cines = []
    for frames in pairs.values():
        if len(frames) == 2:
            pixels = [np.asarray(Image.open(p).convert("L"), np.float32) for p in frames]
            inside = np.stack(pixels, axis=2)[64:192, 64:192]
            cines.append(inside.reshape(32, 4, 32, 4, 2).mean((1, 3)))
    assert len(cines) > 100
    images = ArrayImages(np.array(cines[:60]), tuple(f"s{i}" for i in range(60)))
    trains_and_paints(images, SMALL, 12, tmp_path)


def test_real_brains(tmp_path):
    """T1 at 8 mm, skull off, as they lay in the scanner."""
    found = imgwas.find_images(
        data_file("ixi40"), pattern="t1/{id}_T1.nii.gz", mask="dlmuse_seg/{id}_T1_DLMUSE.nii.gz"
    ).take(range(12))
    steps = ["reorient", "skullstrip", "resample", "crop-or-pad"]
    recipe = Recipe.of(steps, {"resample.voxel_mm": 8, "crop-or-pad.grid": "20,24,20"})
    prepare_images(found, recipe, tmp_path / "prepared", threads=1)
    paths = sorted((tmp_path / "prepared/volumes").glob("*.nii.gz"))
    values = np.stack([read_volume(path).values for path in paths]).astype(np.float32)
    images = ArrayImages(values, tuple(f"b{i}" for i in range(12)))
    trains_and_paints(images, SMALL | {"halve": "volume"}, 30, tmp_path / "run")

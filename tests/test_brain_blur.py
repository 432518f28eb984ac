"""How much softer decoded pictures are than images, and what that does to volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from imgwas.brain.blur import _core, blur_of_encoder, estimate_blur
from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction
from imgwas.brain.effects import Spread
from imgwas.brain.jacobian import AverageJacobian
from imgwas.brain.region_tests import RegionTests
from imgwas.encoders.base import Batch, Encoder, ImageSettings
from imgwas.latents.ledger import mark_people
from imgwas.simulate.brains import SimulatedBrains, simulate_brains
from imgwas.types import Atlas, Images, Latents

BLUR = 0.8  # voxels


class Softener(Encoder):
    """An encoder that loses detail, and paints rubbish where its loss did not look."""

    name, paper, settings_type = "softener", "none", ImageSettings

    def __init__(self, grid: tuple[int, ...], affine: np.ndarray | None = None):
        super().__init__(ImageSettings(grid=grid), affine=affine)

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state(self, state: object) -> None:
        pass

    def normalise(self, raw: torch.Tensor) -> Batch:
        return Batch(raw[:, None], raw[:, None] != 0)

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        sharp = latents.reshape(-1, *self.grid)
        soft = np.stack([ndimage.gaussian_filter(v, BLUR) for v in sharp])
        return np.where(sharp != 0, soft, 7).astype(np.float32)


class SomeImages(Images):
    """Images in memory; those of the people an encoder has seen must not be read."""

    def __init__(self, people: SimulatedBrains, readable: set[int]):
        self.values, self.readable, self.taken = people.values, readable, list[int]()
        self.sample_ids = tuple(f"p{i}" for i in range(len(people.values)))
        self.grid, self.affine = people.values.shape[1:], people.affine

    def read(self, index: int) -> np.ndarray:
        assert index in self.readable
        self.taken.append(index)
        return self.values[index]

    def fingerprint(self) -> dict[str, object]:
        return {}


def latents_of(images: SomeImages, seen: list[str]) -> Latents:
    n = len(images.sample_ids)
    source = {"people_seen": mark_people(seen)}
    return Latents(np.zeros((n, 1)), images.sample_ids, ("L1",), source=source)


@pytest.fixture(scope="module")
def people():
    return simulate_brains(8, noise=0, seed=5)


def test_blur_is_that_of_people_not_seen(people):
    images = SomeImages(people, {4, 5, 6, 7})
    latents = latents_of(images, ["p0", "p1", "p2", "p3"])
    mask = people.values[0] != 0
    found = blur_of_encoder(Softener(images.grid), images, latents, images.affine, mask, enough=3)
    voxel = float(np.linalg.norm(images.affine[:3, :3], axis=0).mean())
    assert found == pytest.approx(BLUR * voxel, abs=0.1 * voxel)
    assert len(set(images.taken)) == 3


def test_everyone_seen_is_said(people, caplog):
    images = SomeImages(people, set(range(8)))
    latents = latents_of(images, list(images.sample_ids))
    mask = people.values[0] != 0
    caplog.set_level("WARNING")
    encoder = Softener(images.grid)
    assert blur_of_encoder(encoder, images, latents, images.affine, mask, enough=2) > 0
    assert "has seen everyone" in caplog.text


def test_cines_have_none_and_thin_masks_are_kept(people):
    images = SomeImages(people, set())
    cine = Softener((8, 8, 1, 5))
    mask = np.ones((8, 8, 1), bool)
    assert blur_of_encoder(cine, images, latents_of(images, []), images.affine, mask) == 0
    thin = np.zeros((9, 9, 9), bool)
    thin[4] = True
    np.testing.assert_array_equal(_core(thin), thin)
    assert _core(np.ones((9, 9, 9), bool)).sum() == 5**3


def test_voxels_outside_the_mask_do_not_count(people):
    soft = np.stack([ndimage.gaussian_filter(v, BLUR) for v in people.values[:2]])
    mask = np.zeros(soft.shape[1:], bool)
    mask[8:-8, 8:-8, 8:-8] = True
    spoilt = np.where(mask, soft, 50)
    affine = people.affine
    clean = estimate_blur(people.values[:2], soft, affine, mask)
    assert estimate_blur(people.values[:2], spoilt, affine, mask) == pytest.approx(clean)
    voxel = float(np.linalg.norm(affine[:3, :3], axis=0).mean())
    assert clean == pytest.approx(BLUR * voxel, abs=0.05 * voxel)


def test_maps_read_volumes_off_soft_pictures():
    """A decoder whose seven latents grow seven regions by 5 %, and blurs."""
    factors = np.vstack([np.zeros(7), np.eye(7)])
    brains = simulate_brains(8, factors=factors, effect=float(np.log(1.05)), head_sd=0, noise=0)
    soft = np.stack([ndimage.gaussian_filter(v, 1.0) for v in brains.values]).reshape(8, -1)
    numbers = range(1, 8)
    names = dict(zip(numbers, brains.regions, strict=True))
    atlas = Atlas(brains.labels.astype(np.int32), brains.affine, names, dict.fromkeys(numbers, ""))
    grid = brains.labels.shape
    decoder = Decoder(Softener(grid, brains.affine))
    jacobian = AverageJacobian(soft[1:] - soft[0], soft[0], 1, np.ones(7))
    voxel = float(np.linalg.norm(brains.affine[:3, :3], axis=0).mean())
    direction = Direction("all", np.ones(7), "SD", "latent")
    off = []
    for blur in (0.0, voxel):
        tests = RegionTests(atlas, decoder, jacobian, Spread.of(np.eye(7)), blur=blur, draws=19,
                            seed=0)  # fmt: skip
        off.append(np.abs(np.diag(tests.volumes.weights) / 0.05 - 1)[:6])
        table = tests.table(direction, (soft[1:] - soft[0]).sum(axis=0).astype(np.float64))
        assert table["volume"].notna().all()
    assert off[1].mean() < 0.6 * off[0].mean()
    assert off[1].max() < 0.1

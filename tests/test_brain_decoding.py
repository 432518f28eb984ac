"""Derivatives of decoders, and PerDI: streamed, and equal to the published computation."""

from __future__ import annotations

import copy
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from imgwas.brain import decoding
from imgwas.brain.decoding import Decoder, decoding_noise
from imgwas.brain.jacobian import average_jacobian
from imgwas.brain.moments import Moments
from imgwas.brain.perturb import perturb_latents, published_map
from imgwas.brain.workflow import differentiate
from imgwas.encoders.autoencoders import ViTAE
from imgwas.encoders.catalogue import ENCODERS, create_encoder
from imgwas.errors import InconsistentError, TooFewSamplesError, UsageError

GRID = (16, 18, 16)
SETTINGS = {
    "vit-ae": {"heads": 2},
    "vae3d": {"channels": 16, "hidden": 32},
    "gan3d": {"channels": 16},
    "stylegan3d": {"hidden": 8, "max_resolution": 16},
}


def small(name, latents=4, grid=GRID):
    """An untrained encoder whose layers have seen images, so that slopes are of ordinary size."""
    torch.manual_seed(3)
    encoder = create_encoder(
        name, {"grid": ",".join(map(str, grid)), "latents": latents} | SETTINGS.get(name, {})
    )
    network = encoder.network.train()
    with torch.no_grad():
        for _ in range(8):
            network.decode(2 * torch.randn(6, latents))
    network.eval()
    return encoder


def pca(latents=4, grid=GRID, n=40):
    encoder = create_encoder("pca", {"grid": ",".join(map(str, grid)), "latents": latents})
    rng = np.random.default_rng(0)
    encoder.update(torch.from_numpy(rng.random((n, *grid), np.float32) + 0.5))
    encoder.finish()
    return encoder


DECODING = [
    name
    for name, kind in ENCODERS.items()
    if kind.can_decode and not kind.takes_tables and kind.exact_derivative and name != "pca"
]


class Painted(ViTAE):
    """A smooth decoder that does not have its exact derivative, and may be noisy."""

    exact_derivative = False
    noise, forgets = 0.0, False

    def decode(self, latents):
        pictures = super().decode(latents)
        for row, picture in zip(latents, pictures, strict=True):
            seed = None if self.forgets else list(np.ascontiguousarray(row).tobytes())
            rng = np.random.default_rng(seed)
            picture += self.noise * rng.standard_normal(picture.shape, np.float32)
        return pictures


def painted():
    smooth = small("vit-ae", latents=4)
    encoder = Painted(smooth.settings)
    encoder.load_state(smooth.state())
    encoder.network.eval()
    return smooth, encoder


@pytest.mark.parametrize("spread", [None, np.array([0.5, 2.0, 1.0, 1.0])])
def test_finite_differences_come_nearer_as_the_square_of_the_step(monkeypatch, spread):
    smooth, encoder = painted()
    rng = np.random.default_rng(1)
    z, move = rng.standard_normal((2, 4)), rng.standard_normal(4)
    exact = Decoder(smooth).derivative(z, move)
    errors = []
    for step in (0.04, 0.02, 0.01):
        monkeypatch.setattr(decoding, "STEP", step)
        found = Decoder(encoder, spread=spread).derivative(z, move)
        errors.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.25)
    assert errors[2] < 2e-3
    assert (Decoder(encoder).derivative(z, np.zeros(4)) == 0).all()


def test_the_step_is_a_share_of_what_people_vary_by():
    _, encoder = painted()
    decoder = Decoder(encoder, spread=np.array([10.0, 0.1, 0.0, 1.0]))
    assert decoder.distance(np.array([10.0, 0, 0, 0])) == pytest.approx(1)
    assert decoder.distance(np.array([0, 0.1, 0, 0])) == pytest.approx(1)
    assert decoder.distance(np.array([0, 0, 3.0, 4.0])) == pytest.approx(5)  # nobody varies: 1


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_noise_of_pictures_is_measured(noise):
    _, encoder = painted()
    encoder.noise = noise
    decoder = Decoder(encoder)
    z, move = np.random.default_rng(1).standard_normal((2, 1, 4))
    assert decoding_noise(decoder, z, move[0]) == pytest.approx(noise, rel=0.05)
    encoder.noise = 0.0
    assert decoding_noise(decoder, z, move[0]) < 1e-6
    with pytest.raises(UsageError, match="measured along a move"):
        decoding_noise(decoder, z, np.zeros(4))


def test_a_decoder_that_forgets_is_refused():
    _, encoder = painted()
    encoder.noise, encoder.forgets = 1e-3, True
    with pytest.raises(InconsistentError, match="paints the same latents differently each time"):
        Decoder(encoder).derivative(np.zeros((2, 4)), np.ones(4))


def test_maps_of_a_decoder_without_derivatives_equal_those_with(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(decoding, "STEP", 0.01)
    smooth, encoder = painted()
    people = np.random.default_rng(3).standard_normal((3, 4))
    place = {"mask": np.ones(GRID, bool), "affine": np.eye(4), "cache": tmp_path}
    with caplog.at_level("INFO"):
        _, finite = differentiate(encoder, "abc", people, **place)
    assert "has no exact derivative: differences over 0.05 SD" in caplog.text
    _, exact = differentiate(smooth, "abc", people, **place)
    worst = np.linalg.norm(finite.mean - exact.mean, axis=1) / np.linalg.norm(exact.mean, axis=1)
    assert worst.max() < 0.01
    assert (finite.mean != exact.mean).any()


@pytest.mark.parametrize("name", DECODING)
def test_derivative_equals_central_differences_in_double(name):
    encoder = small(name)
    rng = np.random.default_rng(1)
    z, move = rng.standard_normal((2, 4)), rng.standard_normal(4)
    exact = Decoder(encoder).derivative(z, move)
    network = copy.deepcopy(encoder.network).double().eval()
    h = 1e-5
    with torch.no_grad():
        after = network.decode(torch.from_numpy(z + h * move))
        before = network.decode(torch.from_numpy(z - h * move))
    central = ((after - before) / (2 * h)).reshape(2, -1).numpy()
    assert np.linalg.norm(exact - central) < 1e-3 * np.linalg.norm(central)
    assert np.linalg.norm(central) > 0


def test_derivative_of_components_is_exact():
    encoder = pca()
    move = np.array([1.0, -2.0, 0.5, 0.0])
    slope = Decoder(encoder).derivative(np.ones((3, 4)), move)
    wanted = (move * encoder.spread.numpy()) @ encoder.components.numpy()
    np.testing.assert_allclose(slope, np.tile(wanted, (3, 1)), atol=1e-4 * np.abs(wanted).max())


def test_average_jacobian_is_the_mean_of_single_derivatives():
    encoder = small("ae-1000", latents=3)
    decoder = Decoder(encoder)
    z = np.random.default_rng(2).standard_normal((5, 3))
    jacobian = average_jacobian(decoder, z, batch=2)
    for latent in range(3):
        each = np.stack([decoder.derivative(z[[i]], np.eye(3)[latent])[0] for i in range(5)])
        np.testing.assert_allclose(jacobian.mean[latent], each.mean(axis=0), atol=1e-6)
        together = (each.mean(axis=0) ** 2).sum() / (each**2).sum(axis=1).mean()
        assert jacobian.agreement[latent] == pytest.approx(together, rel=1e-4)


def test_people_agree_about_a_linear_decoder_and_finite_steps_are_exact():
    z = np.random.default_rng(0).standard_normal((4, 4))
    decoder = Decoder(pca())
    jacobian = average_jacobian(decoder, z)
    np.testing.assert_allclose(jacobian.agreement, 1, atol=1e-5)
    finite = [decoder.difference(z, step).mean(axis=0) / 0.5 for step in 0.5 * np.eye(4)]
    np.testing.assert_allclose(finite, jacobian.mean, atol=1e-4)


def test_mask_is_kept_and_put_back():
    mask = np.zeros(GRID, bool)
    mask[4:9, 5:8, 6:10] = True
    encoder = small("ae-1000")
    z = np.zeros((1, 4))
    inside = Decoder(encoder, mask=mask).decode(z)
    assert inside.shape == (1, mask.sum())
    full = Decoder(encoder, mask=mask).to_grid(inside[0])
    np.testing.assert_array_equal(full[mask], encoder.decode(z.astype(np.float32))[0][mask])
    assert (full[~mask] == 0).all()


def test_moments_equal_numpy_and_do_not_depend_on_company():
    x = np.random.default_rng(0).standard_normal((50, 7)) * 3 + 1e4
    moments = Moments(7)
    for row in x:
        moments.add(row)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.variance, x.var(axis=0, ddof=1), rtol=1e-9)
    same = Moments(1)
    for _ in range(3):
        same.add(np.array([2.0]))
    assert np.isnan(same.t()).all()
    assert np.isnan(Moments(2).variance).all()


def naive_perdi(encoder, z, d):
    """The published computation: batches of ten, both stacks in memory, SciPy's paired test."""
    moved = z.astype(np.float32)
    moved[:, d] += np.float32(z[:, d].std())
    tens = [slice(i, i + 10) for i in range(0, len(z), 10)]
    original = np.concatenate([encoder.decode(z.astype(np.float32)[s]) for s in tens])
    shifted = np.concatenate([encoder.decode(moved[s]) for s in tens])
    original, shifted = original.astype(np.float64), shifted.astype(np.float64)
    t = stats.ttest_rel(shifted, original, axis=0).statistic
    return t, (shifted - original).mean(axis=0)


@pytest.mark.parametrize("name", [pytest.param("udip", marks=pytest.mark.slow), "ae-1000"])
def test_streamed_perdi_equals_the_published_computation(name):
    encoder = small(name)
    z = np.random.default_rng(5).standard_normal((23, 4))
    for found in perturb_latents(Decoder(encoder), z, [0, 2]):
        t, change = naive_perdi(encoder, z, found.latent)
        np.testing.assert_allclose(found.t.reshape(GRID), t, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.change.reshape(GRID), change, atol=1e-7)
        assert (found.n, found.sd) == (23, pytest.approx(z[:, found.latent].std()))
        np.testing.assert_allclose(found.per_sd, found.change)


def test_perdi_map_is_smoothed_after_masking():
    encoder = small("ae-1000")
    mask = np.zeros(GRID, bool)
    mask[3:12, 4:14, 3:12] = True
    decoder = Decoder(encoder, mask=mask)
    z = np.random.default_rng(6).standard_normal((12, 4))
    (found,) = perturb_latents(decoder, z, [1])
    t, _ = naive_perdi(encoder, z, 1)
    wanted = ndimage.gaussian_filter(np.where(mask, np.abs(t), 0), 3)
    np.testing.assert_allclose(published_map(decoder, found.t), wanted, rtol=1e-4, atol=1e-5)


def test_perdi_is_the_same_whatever_else_is_asked():
    encoder = small("ae-1000")
    z = np.random.default_rng(7).standard_normal((9, 4))
    alone = perturb_latents(Decoder(encoder), z, [3])[0]
    again = perturb_latents(Decoder(encoder), z)[3]
    np.testing.assert_array_equal(alone.t, again.t)


def test_perdi_memory_does_not_grow_with_people():
    decoder = Decoder(pca())
    z = np.random.default_rng(0).standard_normal((60, 4))
    peaks: dict[int, list[int]] = {20: [], 60: []}
    for n in (20, 60) * 3:  # the first fills every cache; threads of earlier tests only add
        tracemalloc.start()
        perturb_latents(decoder, z[:n], [0])
        peaks[n].append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks[60]) < 1.1 * min(peaks[20])


def test_refusals():
    with pytest.raises(UsageError, match=r"cnn has no decoder.*imgwas train --encoder udip"):
        Decoder(create_encoder("cnn", {"grid": "40,40,40", "latents": 4}))
    with pytest.raises(UsageError, match="was made for tables"):
        Decoder(create_encoder("morphometry", {"grid": "12", "latents": 4}))
    with pytest.raises(InconsistentError, match="the mask has grid 4x4x4 and 64 voxels"):
        Decoder(small("ae-1000"), mask=np.ones((4, 4, 4), bool))
    with pytest.raises(InconsistentError, match="0 voxels"):
        Decoder(small("ae-1000"), mask=np.zeros(GRID, bool))
    decoder = Decoder(small("ae-1000"))
    with pytest.raises(TooFewSamplesError, match="2 people are given"):
        perturb_latents(decoder, np.zeros((2, 4)))
    with pytest.raises(TooFewSamplesError, match="nobody"):
        average_jacobian(decoder, np.empty((0, 4)))

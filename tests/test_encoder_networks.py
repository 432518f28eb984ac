"""Networks: published sizes to the last number, any grid, and losses against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imgwas.encoders.autoencoders import masked_mse
from imgwas.encoders.base import Batch, ImageSettings
from imgwas.encoders.catalogue import ENCODERS, create_encoder, describe
from imgwas.encoders.inputs import image_batch
from imgwas.encoders.networks.classifiers import PatchNet
from imgwas.encoders.networks.convolutional import plan
from imgwas.errors import DegenerateError, InconsistentError, UsageError
from imgwas.images.intensity import zscore
from tests.volumes import blob


@pytest.mark.parametrize(
    ("name", "given", "parameters", "statistics"),
    [
        ("udip", {"grid": "182,218,182"}, 138_124_497, None),
        ("ae3d", {"grid": "58,70,58"}, 1_775_105, None),
        ("vae3d", {"grid": "29,35,29"}, 16_422_273, None),
        ("ae-1000", {"grid": "58,70,58"}, 10_600_969, None),
        ("diffae-encoder", {"grid": "128,128,50"}, 4_276_032, None),
        ("cnn", {"grid": "155,155,95", "outputs": 3}, 75_942_343 - 206, 206),
        ("small-cnn", {"grid": "155,155,95", "outputs": 3, "latents": 512}, 1_353_923 - 1024, 1024),
        ("small-cnn", {"grid": "155,155,95", "outputs": 3}, 1_403_987 - 1024, 1024),
    ],
)
def test_published_sizes(name, given, parameters, statistics):
    """Keras counts running means and variances as parameters; torch does not."""
    described = describe(create_encoder(name, given))
    assert described["parameters"] == parameters
    if statistics is not None:
        assert described["running_statistics"] == statistics


def test_one_patch_has_28275_numbers():
    with torch.device("meta"):
        net = PatchNet((55, 55, 35), 3)
    statistics = sum(b.numel() for n, b in net.named_buffers() if "running" in n)
    assert sum(p.numel() for p in net.parameters()) + statistics == 28_275


def test_the_levels_of_udip_are_the_published_ones():
    grids = [grid for grid, _ in plan((182, 218, 182), 4)]
    assert grids[1:] == [(92, 110, 92), (46, 56, 46), (24, 28, 24), (12, 14, 12)]
    paddings = [padding for _, padding in plan((182, 218, 182), 4)]
    assert paddings[:4] == [(1, 1, 1), (0, 1, 0), (1, 0, 1), (0, 0, 0)]
    with pytest.raises(UsageError, match=r"a grid of 7x20x20 cannot be halved 4 times"):
        plan((7, 20, 20), 4)


@pytest.mark.parametrize("grid", [(20, 24, 20), (17, 19, 21), (33, 18, 25)])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("udip", {"latents": 3, "width": 2, "levels": 2}),
        ("udip", {"latents": 3, "width": 2, "levels": 4}),
        ("vit-ae", {"latents": 8, "patch": 6, "depth": 2, "heads": 2}),
        ("ae3d", {"latents": 6, "channels": 3}),
        ("vae3d", {"latents": 6, "channels": 3, "hidden": 5}),
        ("ae-1000", {"latents": 6}),
    ],
)
def test_the_output_grid_is_the_input_grid(name, given, grid):
    if name == "udip" and given["levels"] == 4 and min(grid) < 18:
        given = {**given, "levels": 3}
    encoder = create_encoder(name, {**given, "grid": grid})
    images = np.stack([blob(grid, seed=i) for i in range(2)])
    latents = encoder.encode(images)
    assert latents.shape == (2, encoder.n_latents) == (2, given["latents"])
    assert encoder.decode(latents).shape == (2, *grid)
    np.testing.assert_array_equal(latents, encoder.encode(images))
    # eval mode: an image's latents do not depend on its companions
    np.testing.assert_allclose(encoder.encode(images[:1]), latents[:1], rtol=1e-4, atol=1e-5)


def test_masked_loss_is_a_loop():
    rng = np.random.default_rng(0)
    image, decoded = rng.standard_normal((2, 3, 1, 4, 5, 6))
    mask = rng.random((3, 1, 4, 5, 6)) < 0.4
    total, weight = 0.0, 0
    for index in np.ndindex(*image.shape):
        if mask[index]:
            total += (image[index] - decoded[index]) ** 2
            weight += 1
    found = masked_mse(*(torch.from_numpy(a) for a in (image, decoded, mask)))
    assert float(found.total / found.weight) == pytest.approx(total / weight, rel=1e-6)
    changed = np.where(mask, decoded, 1e6)  # the background of a reconstruction changes nothing
    again = masked_mse(*(torch.from_numpy(a) for a in (image, changed, mask)))
    assert float(again.total) == float(found.total)


def test_the_gradient_outside_the_mask_is_zero():
    image, mask = torch.randn(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    decoded = torch.randn(1, 1, 4, 4, 4, requires_grad=True)
    term = masked_mse(image, decoded, mask)
    (term.total / term.weight).backward()
    assert decoded.grad is not None
    assert not decoded.grad[~mask].any()
    assert decoded.grad[mask].all()


def test_the_divergence_of_a_vae_is_that_of_two_normals():
    """Against numerical integration of q log(q / p), one latent at a time."""
    from scipy.integrate import quad
    from scipy.stats import norm

    encoder = create_encoder("vae3d", {"grid": "8,8,8", "latents": 2, "channels": 2, "hidden": 3})
    mean, log_variance = torch.tensor([[0.7, -1.1]]), torch.tensor([[-0.4, 0.9]])
    image = torch.zeros(1, 1, 8, 8, 8)
    batch = Batch(image, torch.ones_like(image, dtype=torch.bool))
    terms = encoder.losses((image, mean, log_variance), batch)
    expected = 0.0
    for m, v in zip([0.7, -1.1], np.exp([-0.4, 0.9]), strict=True):
        q = norm(m, np.sqrt(v))
        expected += quad(lambda z, q=q: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), -20, 20)[0]
    assert float(terms["kl"].total / terms["kl"].weight) == pytest.approx(expected, rel=1e-5)
    assert encoder.loss_weights() == {"kl": 0.8 / 512}


def test_a_vae_never_takes_the_logarithm_of_a_negative_number():
    encoder = create_encoder("vae3d", {"grid": "8,8,8", "latents": 2, "channels": 2, "hidden": 3})
    with torch.no_grad():
        encoder.network.log_variance.weight.fill_(-1e4)
    encoder.network.train()
    outputs = encoder.network(torch.rand(2, 1, 8, 8, 8) + 1)
    assert all(torch.isfinite(o).all() for o in outputs)


@pytest.mark.parametrize("background", ["shift", "zero"])
def test_intensities_on_the_device_are_those_of_numpy(background):
    images = np.stack([blob(seed=i) * (i + 1) for i in range(3)])
    batch = image_batch(torch.from_numpy(images), ImageSettings(background=background))
    for i in range(3):
        expected = zscore(images[i], background=background)
        np.testing.assert_allclose(batch.image[i, 0].numpy(), expected, atol=2e-5)
    np.testing.assert_array_equal(batch.mask[:, 0].numpy(), images != 0)
    scaled = image_batch(torch.from_numpy(images), ImageSettings(intensity="symmetric"))
    assert (float(scaled.image.min()), float(scaled.image.max())) == (-1, 1)


@pytest.mark.parametrize("intensity", ["zscore", "minmax"])
def test_blank_images_are_named_by_their_position(intensity):
    images = np.stack([blob(), blob() * 0, blob()])
    with pytest.raises(DegenerateError, match=r"1 of 3 images are blank.*position in the batch: 2"):
        image_batch(torch.from_numpy(images), ImageSettings(intensity=intensity))


def test_encoders_say_what_does_not_fit():
    with pytest.raises(UsageError, match=r"there is no encoder 'udp'.*Did you mean udip"):
        create_encoder("udp")
    with pytest.raises(UsageError, match=r"udip: there is no setting 'latent'"):
        create_encoder("udip", {"latent": 3})
    with pytest.raises(UsageError, match=r"udip has no grid yet"):
        create_encoder("udip").encode(np.zeros((1, 4, 4, 4), np.float32))
    encoder = create_encoder("udip", {"grid": "8,8,8", "latents": 2, "levels": 1, "width": 2})
    with pytest.raises(InconsistentError, match=r"grid 4x4x4 were given. udip was made for 8x8x8"):
        encoder.encode(np.zeros((1, 4, 4, 4), np.float32))
    with pytest.raises(InconsistentError, match=r"latents of shape \(1, 3\)"):
        encoder.decode(np.zeros((1, 3), np.float32))
    with pytest.raises(UsageError, match=r"8 latents do not divide by 3 heads"):
        create_encoder("vit-ae", {"grid": "8,8,8", "latents": 8, "heads": 3}).network  # noqa: B018
    classifier = create_encoder("resnet-sex", {"grid": "8,8,8"})
    with pytest.raises(UsageError, match=r"resnet-sex has no decoder"):
        classifier.decode(np.zeros((1, 200), np.float32))


def test_every_encoder_has_a_paper_and_settings():
    for name, cls in ENCODERS.items():
        assert cls.name == name
        assert cls.paper
        assert describe(create_encoder(name))["latents"] > 0


def test_a_forward_derivative_goes_through_every_decoder():
    """Maps of a latent's effect need one; the fused attention kernel has none on a CPU."""
    for name, given in (("udip", {"width": 2, "levels": 1}), ("vit-ae", {"patch": 6, "heads": 2}),
                        ("ae3d", {"channels": 3}), ("ae-1000", {})):  # fmt: skip
        encoder = create_encoder(name, {**given, "grid": "16,18,16", "latents": 4})
        network = encoder.network.eval()
        z, direction = torch.randn(1, 4), torch.randn(1, 4)
        _, slope = torch.func.jvp(network.decode, (z,), (direction,))
        assert slope.shape == (1, 1, 16, 18, 16)
        assert torch.isfinite(slope).all()

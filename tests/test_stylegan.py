"""The networks of the 3-D StyleGAN against what was published and against plain loops."""

import math
import re

import numpy as np
import pytest
import torch

from imgwas.encoders.networks import growing
from imgwas.encoders.networks import stylegan as net
from imgwas.errors import UsageError

pytestmark = pytest.mark.usefixtures("one_thread")


def n_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(n_doublings: int = 2, **more: object) -> net.Generator:
    torch.manual_seed(0)
    return net.Generator((8, 10, 7), 6, 5, n_doublings, **more)  # type: ignore[arg-type]


def test_published_sizes():
    with torch.device("meta"):
        generator, discriminator = net.Generator((64,) * 3), net.Discriminator((64,) * 3)
    assert n_parameters(generator) == 16_739_073
    assert n_parameters(discriminator) == 20_132_353
    assert generator.n_styles == 10
    made = generator.synthesise(torch.empty(2, 128, device="meta"), stage=1)
    assert made.shape == (2, 1, 8, 8, 8)


def test_adain_gives_mean_zero_and_deviation_one():
    torch.manual_seed(0)
    features = torch.randn(3, 4, 5, 6, 7, dtype=torch.float64) * 3 + 40
    features[1, 2] *= 1e-3
    made = net.standardised(features)
    for sample in made.reshape(12, -1).numpy():
        assert abs(sample.mean()) < 1e-12
        assert abs(sample.std() - 1) < 1e-9
    layer = net.AdaIN(6, 4).double()
    w = torch.randn(3, 6, dtype=torch.float64)
    style = (w @ layer.style.weight.T / math.sqrt(6)).detach().numpy()
    styled = layer(features, w).detach().numpy().reshape(3, 4, -1)
    np.testing.assert_allclose(styled.std(2), abs(1 + style[:, :4]), rtol=1e-9)
    np.testing.assert_allclose(styled.mean(2), style[:, 4:], atol=1e-12)


def test_adain_of_a_flat_channel_is_zero_with_a_finite_gradient():
    flat = torch.full((1, 2, 2, 2, 2), 7.0, requires_grad=True)
    made = net.standardised(flat)
    assert (made == 0).all()
    (gradient,) = torch.autograd.grad(made.square().sum(), flat)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_learning_rates_of_linear_layers_are_equal(rate):
    torch.manual_seed(0)
    values = torch.randn(7, 50, dtype=torch.float64)
    layer = growing.EqualLinear(50, 3, gain=1.5, rate=rate).double()
    scale = rate * 1.5 / math.sqrt(50)
    used = (layer.weight * scale).detach().requires_grad_()
    plain = values @ used.T
    np.testing.assert_allclose(layer(values).detach(), plain.detach(), rtol=1e-12)
    plain.square().sum().backward()
    layer(values).square().sum().backward()
    np.testing.assert_allclose(layer.weight.grad, used.grad * scale, rtol=1e-12)
    assert not np.allclose(layer.weight.grad, used.grad, rtol=0.01)


def test_learning_rates_of_convolutions_are_equal():
    torch.manual_seed(0)
    image = torch.randn(2, 4, 5, 5, 5, dtype=torch.float64)
    layer = growing.EqualConv(4, 3, (3, 3, 3), padding=1, gain=1.0).double()
    scale = 1 / math.sqrt(4 * 27)
    used = (layer.weight * scale).detach().requires_grad_()
    torch.nn.functional.conv3d(image, used, padding=1).square().sum().backward()
    layer(image).square().sum().backward()
    np.testing.assert_allclose(layer.weight.grad, used.grad * scale, rtol=1e-10)


def test_weights_start_standard_normal_and_adam_moves_wide_and_narrow_layers_alike():
    torch.manual_seed(0)
    moved = []
    for n_in in (8, 512):
        layer = growing.EqualLinear(n_in, 64)
        assert abs(float(layer.weight.detach().std()) - 1) < 0.1
        before = layer.weight.detach() * layer.scale
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        layer(torch.randn(32, n_in)).square().sum().backward()
        optimizer.step()
        change = (layer.weight.detach() * layer.scale - before).norm()
        moved.append(float(change / before.norm()))
    assert abs(moved[0] / moved[1] - 1) < 0.1


def test_alpha_zero_is_the_upsampled_stage_before_and_alpha_one_the_grown_path():
    generator = small()
    w = torch.randn(3, 6)
    for stage in (1, 2):
        old = growing.doubled(generator.synthesise(w, stage=stage - 1))
        new = generator.synthesise(w, stage=stage)
        assert torch.equal(generator.synthesise(w, stage=stage, alpha=0.0), old)
        assert torch.equal(generator.synthesise(w, stage=stage, alpha=1.0), new)
        assert not torch.allclose(old, new, atol=0.1)
        half = generator.synthesise(w, stage=stage, alpha=0.5)
        torch.testing.assert_close(half, (old + new) / 2)


def test_alpha_of_the_discriminator_and_of_real_images():
    torch.manual_seed(0)
    judge = net.Discriminator((8, 10, 7), 5, 2)
    image = torch.randn(3, 1, 8, 12, 8)
    coarse = growing.halved(image)
    grown = judge(image)
    judge.alpha = 0.0
    fading = judge(image)
    judge.stage, judge.alpha = 1, 1.0
    torch.testing.assert_close(fading, judge(coarse))
    assert not torch.allclose(grown, judge(coarse))
    assert torch.equal(growing.faded(image, 1.0), image)
    assert torch.equal(growing.faded(image, 0.0), growing.doubled(coarse))


@pytest.mark.parametrize(("n", "group"), [(8, 4), (4, 4), (6, 4), (3, 4), (1, 4)])
def test_minibatch_deviation_against_a_loop(n, group):
    torch.manual_seed(0)
    features = torch.randn(n, 3, 2, 4, 2, dtype=torch.float64)
    made = net.with_spread(features, group)
    assert made.shape == (n, 4, 2, 4, 2)
    assert torch.equal(made[:, :3], features)
    size = group if n % group == 0 else n
    values = features.numpy()
    for i in range(n):
        rows = values[i // size * size : i // size * size + size]
        deviations = [
            math.sqrt(np.var([row[place] for row in rows]) + 1e-8)
            for place in np.ndindex(*values.shape[1:])
        ]
        np.testing.assert_allclose(made[i, 3], np.mean(deviations), rtol=1e-9)


def test_mapping_starts_from_the_direction_of_z_alone():
    generator = small()
    z = torch.randn(5, 6)
    torch.testing.assert_close(generator.mapping(z), generator.mapping(10 * z))
    normed = net.on_sphere(z)
    np.testing.assert_allclose(normed.square().sum(1), 6, rtol=1e-5)


def test_mean_w_and_truncation():
    generator = small()
    generator.measure_w(n=300, seed=3)
    z = torch.randn(300, 6, generator=torch.Generator().manual_seed(3))
    mean = np.mean([generator.mapping(one[None]).detach().numpy()[0] for one in z], axis=0)
    np.testing.assert_allclose(generator.mean_w, mean, atol=1e-5)
    spread = generator.mapping(z).detach().numpy().var(axis=0).mean()
    np.testing.assert_allclose(generator.sd_w, math.sqrt(spread), rtol=1e-5)
    w = torch.randn(4, 6)
    torch.testing.assert_close(generator.truncated(w, 1.0), w)
    torch.testing.assert_close(generator.truncated(w, 0.0), generator.mean_w.expand(4, -1))
    halfway = generator.truncated(w, 0.5)
    np.testing.assert_allclose(halfway, (w + generator.mean_w) / 2, atol=1e-6)


def test_noise_starts_at_nothing_and_is_deterministic_when_asked():
    generator = small()
    w = torch.randn(2, 6)
    assert torch.equal(generator.synthesise(w, noise="random"), generator.synthesise(w))
    with torch.no_grad():
        for layer in generator.layers:
            layer.noise.scale += 1
    torch.manual_seed(1)
    assert torch.equal(generator.synthesise(w), generator.synthesise(w))
    fixed = [generator.synthesise(w, noise="fixed") for _ in range(2)]
    fresh = [generator.synthesise(w, noise="random") for _ in range(2)]
    assert torch.equal(*fixed)
    assert not torch.equal(*fresh)
    assert not torch.equal(fixed[0], generator.synthesise(w))


def test_one_style_for_all_places_equals_the_same_style_at_each():
    generator = small()
    w = torch.randn(2, 6)
    everywhere = w[:, None].repeat(1, generator.n_styles, 1)
    torch.testing.assert_close(generator.synthesise(w), generator.synthesise(everywhere))
    everywhere[:, -1] += 1
    assert not torch.allclose(generator.synthesise(w), generator.synthesise(everywhere))


@pytest.mark.parametrize("grid", [(8, 10, 7), (8, 8, 8), (9, 13, 11)])
def test_padding_to_the_network_and_back_loses_nothing(grid):
    image = torch.randn(2, 1, *grid)
    wide = growing.fitted(image, 2)
    assert wide.shape[2:] == growing.padded(grid, 2)
    assert torch.equal(growing.cropped(wide, grid), image)
    generator = net.Generator(grid, 6, 5, 2)
    for stage in range(3):
        assert generator.picture(torch.randn(2, 6), stage=stage).shape == image.shape


def test_exact_derivative_of_a_picture():
    generator = small().double()
    w, move = torch.randn(2, 2, 6, dtype=torch.float64)

    def picture(at: torch.Tensor) -> torch.Tensor:
        return generator.picture(at, stage=2, alpha=0.4)

    slope = torch.func.jvp(picture, (w,), (move,))[1]
    finite = (picture(w + 1e-6 * move) - picture(w - 1e-6 * move)) / 2e-6
    torch.testing.assert_close(slope, finite, rtol=1e-4, atol=1e-6)


def test_second_derivatives_pass_the_discriminator():
    torch.manual_seed(0)
    judge = net.Discriminator((8, 8, 8), 5, 2)
    image = torch.randn(4, 1, 8, 8, 8, requires_grad=True)
    judge.alpha = 0.5
    score = judge(image).sum()
    (gradient,) = torch.autograd.grad(score, image, create_graph=True)
    (gradient.flatten(1).norm(dim=1) - 1).square().mean().backward()
    unused = {"from_image.0", "from_image.3"}
    for name, parameter in judge.named_parameters():
        if name.rpartition(".")[0] in unused or name.endswith("bias"):
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("grid", "n_doublings", "words"),
    [
        ((64, 64), 4, r"the grid 64x64 has 2 axes.*x, y and z"),
        ((16, 16, 16), 4, r"16x16x16 with max_resolution 64 starts from 1x1x1.*max_resolution=16"),
        ((182, 218, 182), 4, r"starts from 12x14x12.*max_resolution=128"),
    ],
)
def test_grids_that_do_not_go(grid, n_doublings, words):
    with pytest.raises(UsageError, match=words) as caught:
        growing.constant_grid(grid, n_doublings)
    if len(grid) == 3:
        best = int(re.findall(r"max_resolution=(\d+)", str(caught.value))[0])
        assert growing.constant_grid(grid, round(math.log2(best / 4)))

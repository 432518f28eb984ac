"""The diffusion autoencoder: published sizes, conditions, losses, training, pictures, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from imgwas.brain.decoding import Decoder
from imgwas.encoders import ddim
from imgwas.encoders.base import Batch
from imgwas.encoders.catalogue import create_encoder, describe
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.convert import convert_weights
from imgwas.encoders.diffusion import Schedule, draw_times
from imgwas.encoders.encoding import encode_images
from imgwas.encoders.fitting import fit
from imgwas.encoders.networks.semantic import Attention, SemanticEncoder, group_norm
from imgwas.encoders.networks.unet import ConditionedBlock, UNet, sines
from imgwas.encoders.reconstruction import reconstruct_images
from imgwas.images.volumes import ArrayImages
from imgwas.simulate.brains import simulate_brains

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = (8, 8, 8)
#: A network for the CPU: as small as networks go.
TINY = {
    "base": 4, "multipliers": (1, 2), "encoder_multipliers": (1, 2), "blocks": 1, "halve": "volume",
    "latents": 3, "time_width": 8, "times": 100, "render_steps": 10, "invert_steps": 10,
    "guesses": 1,
}  # fmt: skip
TRAIN = {"epochs": 2, "batch": 3, "epoch_share": 1.0, "score_epochs": 0, "threads": 1}


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    brains = simulate_brains(12, grid=GRID, seed=0)
    return ArrayImages(brains.values, brains.sample_ids, brains.affine)


def shaken(given: dict | None = None, seed: int = 0):
    """An encoder whose numbers are none of them zero, so that every part speaks."""
    torch.manual_seed(seed)
    made = create_encoder("diffae", {"grid": GRID} | TINY | (given or {}))
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def test_reconstruct_does_not_paint_everybody_in_many_steps(images, monkeypatch, tmp_path, capsys):
    from imgwas_cli.encode import _say_likeness

    made = shaken()
    monkeypatch.setattr(made, "decode", lambda _: pytest.fail("everybody was painted"))
    _say_likeness(images, tmp_path / "run", made, ())
    said = capsys.readouterr().err
    assert "run: how many people come back from latents is not measured, diffae paints each" in said
    assert "started from each person's own noise" in said


# ------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("base", "parameters"), [(32, 20_837_473), (64, 81_213_249), (128, 320_630_017)]
)
def test_published_sizes(base, parameters):
    made = create_encoder("diffae", {"grid": "128,128,50", "base": base})
    assert describe(made)["parameters"] == parameters
    if base == 32:
        network = made.skeleton()
        assert sum(p.numel() for p in network.encoder.parameters()) == 4_276_032
        assert sum(p.numel() for p in network.unet.parameters()) == 16_561_441
        assert describe(made)["training"] == {
            "learning_rate": 1e-4, "batch": 2, "epochs": 200, "epoch_share": 0.25, "clip": 1.0,
            "ema": 0.9999, "schedule": "constant", "score_epochs": 10,
        }  # fmt: skip


def test_frames_are_never_merged_and_the_middle_has_eight_pixels():
    unet = UNet(base=4)
    seen = []
    for module in unet.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _m, x, _y: seen.append(tuple(x[0].shape[1:])))
    with torch.no_grad():
        out = unet(torch.zeros(1, 1, 2, 128, 128), torch.zeros(1), torch.zeros(1, 128))
    assert out.shape == (1, 1, 2, 128, 128)
    assert seen == [(12, 2, 16, 16)] * 2 + [(16, 2, 8, 8)] + [(12, 2, 16, 16)] * 3


def test_attention_never_stores_its_table_of_weights():
    """A kernel that does so is the only one allowed; gradients flow through it too."""
    torch.manual_seed(0)
    layer = Attention(16)
    torch.nn.init.normal_(layer.proj_out.weight)
    x = torch.randn(1, 16, 3, 8, 8, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        out = layer(x)
    out.sum().backward()
    assert float(x.grad.abs().max()) > 0
    q, k, v = layer.qkv(layer.norm(x.flatten(2)))[0].T.chunk(3, dim=1)
    mixed = torch.softmax(q @ k.T / 4, dim=1) @ v
    expected = x + layer.proj_out(mixed.T[None]).reshape(x.shape)
    np.testing.assert_allclose(out.detach(), expected.detach(), atol=1e-5)


def block_without_conditions(block: ConditionedBlock, x: torch.Tensor) -> torch.Tensor:
    """Two plain convolutions around a shortcut."""

    def normed(values, norm):
        n = norm.num_groups
        grouped = values.reshape(len(values), n, -1)
        mean, var = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, correction=0)
        back = ((grouped - mean) / (var + norm.eps).sqrt()).reshape(values.shape)
        shape = (1, -1, 1, 1, 1)
        return back * norm.weight.reshape(shape) + norm.bias.reshape(shape)

    first, last = block.in_layers[2], block.out_layers[3]
    inner = functional.conv3d(
        functional.silu(normed(x, block.in_layers[0])), first.weight, first.bias, padding=1
    )
    block.seen = normed(inner, block.out_layers[0])
    out = functional.conv3d(functional.silu(block.seen), last.weight, last.bias, padding=1)
    return block.skip_connection(x) + out


def test_without_scales_and_shifts_a_block_has_no_conditions():
    torch.manual_seed(0)
    block = ConditionedBlock(8, 12, 5, 3, 0.1).eval()
    torch.nn.init.normal_(block.out_layers[3].weight, std=0.1)
    x, time, code = torch.randn(2, 8, 4, 4, 4), torch.randn(2, 5), torch.randn(2, 3)
    for layer in (block.emb_layers[1], block.cond_emb_layers[1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    plain = block_without_conditions(block, x)
    np.testing.assert_allclose(block(x, time, code).detach(), plain.detach(), atol=2e-6)
    # with conditions: h (1 + t_s) + t_b, then (1 + z_s)
    torch.nn.init.normal_(block.emb_layers[1].weight)
    torch.nn.init.normal_(block.cond_emb_layers[1].weight)
    scale, shift = functional.linear(functional.silu(time), block.emb_layers[1].weight).chunk(2, 1)
    by_code = functional.linear(functional.silu(code), block.cond_emb_layers[1].weight)
    scale, shift, by_code = (v.reshape(2, 12, 1, 1, 1) for v in (scale, shift, by_code))
    told = (block.seen * (1 + scale) + shift) * (1 + by_code)
    last = block.out_layers[3]
    expected = functional.conv3d(functional.silu(told), last.weight, last.bias, padding=1)
    expected = expected + block.skip_connection(x)
    np.testing.assert_allclose(block(x, time, code).detach(), expected.detach(), atol=2e-5)


def test_times_are_waves_of_many_lengths():
    waves = sines(torch.tensor([0, 7]), 6)
    np.testing.assert_array_equal(waves[0], [1, 1, 1, 0, 0, 0])
    lengths = 10_000 ** -(np.arange(3) / 3)
    np.testing.assert_allclose(waves[1], [*np.cos(7 * lengths), *np.sin(7 * lengths)], atol=1e-5)
    assert sines(torch.tensor([3]), 5).shape == (1, 5)
    assert [group_norm(n).num_groups for n in (32, 160, 40, 12, 3)] == [32, 32, 4, 2, 1]


@pytest.mark.parametrize("pool", ["mean", "places"])
@pytest.mark.parametrize(
    ("grid", "halve"),
    [((7, 9, 11), "volume"), ((9, 7, 5), "plane"), ((8, 8, 1, 3), "plane"), ((8, 12, 2), "plane")],
)
def test_any_grid_comes_back(grid, halve, pool):
    made = shaken({"grid": grid, "halve": halve, "pool": pool})
    raw = np.random.default_rng(0).random((2, *grid)).astype(np.float32)
    codes = made.encode(raw)
    assert codes.shape == (2, 3)
    assert made.decode(codes).shape == (2, *grid)
    noise = made.invert(raw)
    assert made.render(codes, noise).shape == noise.shape == (2, *grid)
    np.testing.assert_allclose(made.encode(raw[1:]), codes[1:], rtol=1e-4, atol=1e-5)


def test_latents_weigh_every_place_or_only_the_mean():
    """Shuffled places leave the mean as it is; the weights of places are those of a plain sum."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    for places in ((), (3, 5, 7)):  # 5 x 7 pixels are padded to 6 x 8 and halved once
        head = SemanticEncoder(2, 4, (1, 2), n_blocks=1, places=places).out
        features = torch.from_numpy(rng.standard_normal((2, 8, 3, 3, 4)).astype(np.float32))
        order = torch.from_numpy(rng.permutation(36))
        shuffled = features.flatten(2)[:, :, order].reshape(features.shape)
        codes, others = head(features).detach(), head(shuffled).detach()
        assert bool(torch.isclose(codes, others, atol=1e-6).all()) is not bool(places)
    weights = head[-1].weight.detach().numpy().reshape(2, 8, 3, 3, 4)
    bright = functional.silu(head[0](features)).detach().numpy()
    expected = (weights[None] * bright[:, None]).sum((2, 3, 4, 5)) + head[-1].bias.detach().numpy()
    np.testing.assert_allclose(codes, expected, atol=1e-5)


def test_frames_and_slices_are_where_the_network_wants_them():
    """A cine with one slice is the cine; and the last axis, not the first, is time."""
    cine, flat = (
        shaken({"grid": (8, 8, 1, 3), "halve": "plane"}),
        shaken({"grid": (8, 8, 3), "halve": "plane"}),
    )
    raw = np.random.default_rng(1).random((1, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(cine.encode(raw[:, :, :, None]), flat.encode(raw))
    image = flat.normalise(torch.from_numpy(raw)).image
    inside = flat.network.arranged(image)
    assert inside.shape == (1, 1, 3, 8, 8)
    np.testing.assert_array_equal(inside[0, 0, 2], image[0, 0, :, :, 2])
    np.testing.assert_array_equal(flat.network.restored(inside), image)


# --------------------------------------------------------------------------------------- losses


def test_the_loss_is_that_of_the_textbook(images):
    made = shaken()
    network = made.network.eval()
    batch = made.normalise(torch.from_numpy(images.values[:4]))
    torch.manual_seed(5)
    outputs = network(batch.image)
    found = made.losses(outputs, batch)["error"]
    torch.manual_seed(5)
    times = torch.randint(100, (4,))
    added = torch.randn(4, 1, *GRID)
    left = torch.cumprod(1 - torch.linspace(1e-3, 0.2, 100, dtype=torch.float64), 0)[times]
    left = left.float().reshape(-1, 1, 1, 1, 1)
    noisy = left.sqrt() * batch.image + (1 - left).sqrt() * added
    guessed = network.unet(noisy, times, network.encoder(batch.image))
    expected = ((guessed - added) ** 2).mean()
    assert float((found.total / found.weight).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-5
    )
    masked = Batch(batch.image, batch.image > 0)
    inside = made.losses(outputs, masked)["error"]
    assert float(inside.weight) == int((batch.image > 0).sum())
    expected = ((guessed - added)[batch.image > 0] ** 2).sum()
    assert float(inside.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_times_are_drawn_as_stated():
    """Below a share q of the times lie q / (s - (s - 1) q) of the draws; 1 is plain uniform."""
    n = 100_000
    for shift in (0.5, 3.0, 100.0):
        torch.manual_seed(1)
        times = draw_times(n, 200, shift, torch.device("cpu")).numpy()
        assert 0 <= times.min() <= times.max() <= 199
        for q in (0.1, 0.5, 0.75, 0.95):
            stated = q / (shift - (shift - 1) * q)
            assert (times < 200 * q).mean() == pytest.approx(stated, abs=5 * (0.25 / n) ** 0.5)
    assert 3 / 4 / (3 - 2 * 3 / 4) == 0.5, "half of them in the last quarter, as documented"
    torch.manual_seed(1)
    uniform = draw_times(n, 200, 1.0, torch.device("cpu"))
    torch.manual_seed(1)
    assert torch.equal(uniform, torch.randint(200, (n,))), "as it was before there was a shift"


def test_the_shift_reaches_training():
    seen = []
    for shift in (0.01, 1.0, 100.0):
        network = shaken({"time_shift": shift}).network
        network.unet.register_forward_pre_hook(lambda _m, given: seen.append(given[1]))
        torch.manual_seed(2)
        network(torch.zeros(64, 1, *GRID))
    early, uniform, late = (float(times.float().mean()) for times in seen)
    assert early < 15 < 35 < uniform < 65 < 85 < late


def test_velocity_and_noise_are_the_same_guess_in_other_words(images):
    """The target is the textbook's, and from the true velocity follows the true noise."""
    made = shaken({"predicts": "velocity"})
    network = made.network.eval()
    image = made.normalise(torch.from_numpy(images.values[:2])).image
    torch.manual_seed(5)
    _, truth = network(image)
    torch.manual_seed(5)
    times = torch.randint(100, (2,))
    added = torch.randn(2, 1, *GRID)
    left = network.levels[times].reshape(-1, 1, 1, 1, 1)
    expected = left.sqrt() * added - (1 - left).sqrt() * image
    np.testing.assert_allclose(truth, expected, atol=1e-6)
    noisy = left.sqrt() * image + (1 - left).sqrt() * added
    network.unet = type("Knows", (torch.nn.Module,), {"forward": lambda *_: truth})()
    found = network._guess(torch.zeros(2, 3))(noisy, times)
    np.testing.assert_allclose(found.detach(), added, atol=1e-5)


def test_a_new_network_guesses_nothing():
    made = create_encoder("diffae", {"grid": GRID} | TINY)
    guessed, added = made.network(torch.randn(2, 1, *GRID))
    assert float(guessed.detach().abs().max()) == 0
    assert float(added.std()) == pytest.approx(1, abs=0.1)


def test_memory_can_be_saved_at_no_cost_in_gradients():
    gradients = []
    for recompute in (False, True):
        made = shaken({"recompute": recompute})
        image = torch.randn(2, 1, *GRID, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(7)
        made.network.train()
        guessed, added = made.network(image)
        (guessed - added).square().mean().backward()
        gradients.append([p.grad.clone() for p in made.network.parameters()])
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-7)
    assert all(float(g.abs().max()) > 0 for g in gradients[0])


# ------------------------------------------------------------------------------------- pictures


def test_the_same_seed_gives_the_same_latents_and_pictures(images):
    one, two = (shaken(seed=3) for _ in range(2))
    raw = images.values[:2]
    np.testing.assert_array_equal(one.encode(raw), two.encode(raw))
    torch.manual_seed(99)  # chance plays no part
    np.testing.assert_array_equal(one.reconstruct(raw), two.reconstruct(raw))
    assert np.abs(one.encode(raw) - shaken(seed=4).encode(raw)).max() > 0.01


def test_pictures_of_latents_alone_start_from_one_noise():
    made, codes = shaken(), np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    source = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 1, *GRID, generator=source).numpy()[0].repeat(2, axis=0)
    np.testing.assert_allclose(made.decode(codes), made.render(codes, noise), atol=1e-6)
    other = shaken({"noise_seed": 2})
    assert np.abs(other.decode(codes) - made.decode(codes)).max() > 0.01


def test_pictures_stay_in_the_range_of_intensities():
    codes = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    assert np.abs(shaken().decode(codes)).max() <= 1
    assert np.abs(shaken({"clip": False}).decode(codes)).max() > 1
    scaled = shaken({"intensity": "minmax"}).decode(codes)
    assert 0 <= scaled.min() < scaled.max() <= 1
    assert np.abs(shaken({"intensity": "zscore"}).decode(codes)).max() > 1


def test_guesses_steps_and_range_reach_the_inversion(images):
    made = shaken({"guesses": 2, "clip": False})
    image = made.normalise(torch.from_numpy(images.values[:1])).image
    codes = made.network.encoder(image)

    def guess(noisy, times):
        return made.network.unet(noisy, times, codes)

    made.network.eval()
    with torch.no_grad():
        expected = ddim.invert(guess, image, Schedule(100), 20, repeats=1)[:, 0].numpy()
    found = made.invert(images.values[:1], steps=20)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_person_is_moved_by_standard_deviations_of_people():
    made = shaken()
    rng = np.random.default_rng(2)
    people = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 3)) * [1, 5, 20] + 3
    made.set_latent_scale(people)
    raw = rng.random((2, *GRID)).astype(np.float32)
    w, amounts = np.array([1.0, -2.0, 0.5]), [-1.5, 0.0, 2.0]
    moved = made.manipulate(raw, w, amounts)
    assert moved.shape == (2, 3, *GRID)
    np.testing.assert_array_equal(moved[:, 1], made.reconstruct(raw))
    standardised = (people - people.mean(0)) / people.std(0, ddof=1)
    spread = (standardised @ (w / np.linalg.norm(w))).std(ddof=1)
    for k, amount in enumerate(amounts):
        code = (made.encode(raw) - people.mean(0)) / people.std(0, ddof=1)
        code = code + amount * spread * w / np.linalg.norm(w)
        code = code * people.std(0, ddof=1) + people.mean(0)
        expected = made.render(code, made.invert(raw))
        np.testing.assert_allclose(moved[:, k], expected, atol=2e-4)
    # one latent: k of its own standard deviations
    step = made._moves(np.array([0, 0, 1.0]), np.array([1.0]))
    np.testing.assert_allclose(step, [[0, 0, people[:, 2].std(ddof=1)]], rtol=1e-5)


def test_maps_use_finite_differences(images):
    made = shaken()
    codes = made.encode(images.values[:2])
    decoder = Decoder(made)
    assert not made.exact_derivative
    slope = decoder.derivative(codes, np.array([1.0, 0, 0]))
    wide = decoder.difference(codes, np.array([0.05, 0, 0])) / 0.05
    assert slope.shape == (2, 512)
    np.testing.assert_allclose(slope, wide, atol=0.1 * float(np.abs(wide).max()))


# ------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_training_measures_people_and_pictures(images, tmp_path):
    made = fit("diffae", images, out=tmp_path, settings=TINY, device="cpu",
               train=TRAIN | {"epochs": 3, "score_epochs": 2, "learning_rate": 1e-3})  # fmt: skip
    scored = [row["epoch"] for row in made.history if "validation_ssim" in row]
    assert scored == [2]
    header, first, second, *_ = (tmp_path / "history.csv").read_text().splitlines()
    assert header.split(",")[-2:] == ["validation_ssim", "validation_ssim_code"]
    assert first.endswith(",,")
    assert not second.endswith(",")
    rows = [i for i, _ in enumerate(images.sample_ids)]
    held_out = {line.split("\t")[0] for line in (tmp_path / "private/split.tsv").read_text()
                .splitlines() if line.endswith("validation")}  # fmt: skip
    train = [i for i in rows if images.sample_ids[i] not in held_out]
    codes = made.encoder.encode(images.values[train])
    mean, covariance = made.encoder.latent_scale()
    np.testing.assert_allclose(mean, codes.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(covariance, np.cov(codes.T), rtol=1e-3, atol=1e-7)
    # what is stored is what is loaded, and what is encoded has no slow pictures
    loaded = load_encoder(tmp_path)
    np.testing.assert_array_equal(loaded.encoder.encode(images.values[train]), codes)
    done = encode_images(images, loaded.encoder, tmp_path / "l.parquet", digest=loaded.digest)
    assert done.n_samples == 12
    (pair,) = reconstruct_images(images, loaded.encoder, [0])
    np.testing.assert_allclose(pair.reconstruction, made.encoder.reconstruct(images.values[:1])[0],
                               atol=1e-5)  # fmt: skip


def test_held_out_people_get_the_same_noise_in_every_epoch(images, tmp_path):
    """With a rate that moves nothing, only the training loss changes."""
    options = {"settings": TINY, "device": "cpu",
               "train": TRAIN | {"learning_rate": 1e-12, "epochs": 3}}  # fmt: skip
    history = fit("diffae", images, out=tmp_path / "a", **options).history
    held_out = [row["validation_loss"] for row in history]
    assert max(held_out) - min(held_out) < 1e-6
    assert len({round(row["train_loss"], 4) for row in history}) == 3
    # chance differs between the held-out: a loss of one noise for all would not be near 1
    assert held_out[0] == pytest.approx(1, abs=0.1)


def test_an_epoch_takes_a_share_of_the_batches(images, tmp_path):
    taken = []
    fit("diffae", images, out=tmp_path, settings=TINY, device="cpu", progress=taken.append,
        train=TRAIN | {"batch": 2, "epoch_share": 0.3, "epochs": 3})  # fmt: skip
    assert taken == [2, 2] * 3  # 9 people train, in 4 pairs: the one left over makes no batch


def test_averaged_weights_are_the_average(images, tmp_path):
    """The published decay, warmed up, over the weights that single steps saved."""
    from imgwas.encoders.diffusion_loop import DiffusionLoop
    from imgwas.encoders.splits import split_people
    from imgwas.encoders.train_settings import TrainSettings

    made = shaken()
    settings = TrainSettings(epochs=1, batch=2, ema=0.9999, learning_rate=1e-2)
    loop = DiffusionLoop(made, images, split_people(images.sample_ids), settings,
                         torch.device("cpu"))  # fmt: skip
    name = "unet.out.2.weight"
    average = loop.network.state_dict()[name].double().clone()
    steps = []

    def after(done, _n):
        k = len(steps)
        decay = min(0.9999, (1 + k) / (10 + k))
        now = done.network.state_dict()[name].double()
        steps.append(now.clone())
        average.mul_(decay).add_((1 - decay) * now)

    loop.run(after_step=after)
    assert len(steps) == 4, "four pairs of nine people"
    np.testing.assert_allclose(loop.ema[name], average, atol=1e-6)
    assert float((steps[-1] - average).abs().max()) > 1e-4


class Stop(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("after", [5, pytest.param(9, marks=pytest.mark.slow)])
def test_a_resumed_run_takes_the_same_steps(images, tmp_path, after):
    train = TRAIN | {"save_steps": 1, "augment": "flip"}
    options = {"settings": TINY, "train": train, "device": "cpu"}
    whole = fit("diffae", images, out=tmp_path / "whole", **options)
    seen = []

    def stop(n: int) -> None:
        seen.append(n)
        if sum(seen) >= after:
            raise Stop

    with pytest.raises(Stop):
        fit("diffae", images, out=tmp_path / "parts", progress=stop, **options)
    resumed = fit("diffae", images, out=tmp_path / "parts", **options)
    for name, tensor in whole.encoder.state().items():
        np.testing.assert_array_equal(tensor, resumed.encoder.state()[name], err_msg=name)
    for one, two in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in one.items() if "second" not in k} == {
            k: v for k, v in two.items() if "second" not in k
        }


# ------------------------------------------------------------------------------ published weights


def published(made, prefix: str = "ema_net.") -> dict[str, torch.Tensor]:
    """Our weights under the names of published checkpoints."""
    state = {}
    for name, tensor in made.state().items():
        if name.startswith("encoder."):
            state[prefix + name] = tensor
        elif name.startswith("unet."):
            theirs = name.removeprefix("unet.").replace("time_embed.", "time_embed.time_embed.")
            state[prefix + theirs] = tensor
    return state


def test_a_whole_checkpoint_is_converted(tmp_path, images):
    made = shaken()
    state = published(made) | {n: t * 0 for n, t in published(made, "net.").items()}
    torch.save({"state_dict": state | {"x_T": torch.ones(2)}}, tmp_path / "m.ckpt")
    given = {"encoder": "diffae", "grid": GRID} | TINY
    convert_weights(tmp_path / "m.ckpt", tmp_path / "ours", origin="imlatent", settings=given)
    loaded = load_encoder(tmp_path / "ours").encoder
    np.testing.assert_array_equal(loaded.encode(images.values[:2]), made.encode(images.values[:2]))
    np.testing.assert_array_equal(
        loaded.reconstruct(images.values[:1]), made.reconstruct(images.values[:1])
    )
    about = json.loads((tmp_path / "ours/encoder.json").read_text())
    assert about["encoder"] == "diffae"

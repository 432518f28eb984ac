"""gan3d: published sizes, ranges and priors, codes of scans, samples judged, the command line."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from imgwas.encoders.adversarial import AdversarialLoop
from imgwas.encoders.base import Batch, Encoder, ImageSettings, Ratio
from imgwas.encoders.catalogue import create_encoder, describe
from imgwas.encoders.gan import GAN3D, GANSettings
from imgwas.encoders.inversion import compare_likeness, measure_likeness, refine
from imgwas.encoders.networks.gan import (
    Inverter,
    PooledDiscriminator,
    StridedDiscriminator,
    TransposedGenerator,
    UpsamplingGenerator,
)
from imgwas.encoders.samples import compare_samples, features, sheet, similarity_between, write_png
from imgwas.encoders.similarity import ms_ssim
from imgwas.encoders.splits import Split
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import DegenerateError, InconsistentError, UsageError
from imgwas.images.volumes import ArrayImages

CUBE = (64, 64, 64)
SEED_002 = (58, 70, 58)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("build", "published"),
    [(lambda: UpsamplingGenerator(SEED_002, 64, 64), 555_649),
     (lambda: UpsamplingGenerator(SEED_002, 128, 128), 2_217_217),
     (lambda: PooledDiscriminator(SEED_002, 64), 555_777),
     (lambda: TransposedGenerator(CUBE, 100, 256), 4_410_304),
     (lambda: StridedDiscriminator(CUBE, 256), 2_771_841),
     (lambda: Inverter(CUBE, 100), 6_783_052)],
)  # fmt: skip
def test_parameters_are_as_published(build, published):
    with torch.device("meta"):
        assert count(build()) == published


def test_forms_come_with_their_published_sizes():
    encoder = create_encoder("gan3d", {"grid": "58,70,58"})
    assert (encoder.n_latents, encoder.intensity) == (64, "symmetric")
    assert count(encoder.skeleton().generator) == 555_649
    other = create_encoder("gan3d", {"grid": "64,64,64", "form": "transposed"})
    assert (other.n_latents, other.intensity) == (100, "minmax")
    assert other.n_parameters() == 4_410_304 + 2_771_841 + 6_783_052
    assert describe(other)["latents"] == 100
    assert len(other.latent_names) == 100
    chosen = create_encoder("gan3d", {"grid": "64,64,64", "form": "transposed", "latents": 7})
    assert chosen.n_latents == 7


def small(form="upsample", grid="9,16,7", **given):
    torch.manual_seed(0)
    channels = 8 if form == "transposed" else 4
    return create_encoder(
        "gan3d", {"form": form, "grid": grid, "latents": 5, "channels": channels,
                  "inverter_width": 2} | given
    )  # fmt: skip


@pytest.mark.parametrize(
    ("form", "grid", "low"),
    [("upsample", "9,16,7", -1.0), ("upsample", "4,5,33", -1.0),
     ("transposed", "17,16,30", 0.0), ("transposed", "32,16,16", 0.0)],
)  # fmt: skip
def test_any_grid_within_the_range_of_the_images(form, grid, low):
    encoder = small(form, grid)
    shape = encoder.grid
    codes = 5 * encoder.draw(4, device=torch.device("cpu"))
    pictures = encoder.generate(codes).detach()
    assert pictures.shape == (4, 1, *shape)
    assert float(pictures.min()) >= low
    assert float(pictures.max()) <= 1
    raw = np.random.default_rng(0).random((4, *shape), np.float32) * 900
    batch = encoder.normalise(torch.from_numpy(raw))
    assert (float(batch.image.min()), float(batch.image.max())) == (low, 1.0)
    assert encoder.value_range() == (low, 1.0)
    assert encoder.network.discriminator(batch.image).shape == (4,)
    latents = encoder.encode(raw)
    assert latents.shape == (4, 5)
    assert encoder.decode(latents).shape == (4, *shape)


def test_a_cut_picture_is_the_middle_of_the_whole():
    """17 voxels of 32: the generator's own grid is not moved to one side."""
    generator = TransposedGenerator((17, 16, 30), 5, 8).eval()
    assert generator.bottom == (8, 2, 1, 2)
    assert [(s.start, s.stop) for s in generator.cut] == [(7, 24), (0, 16), (1, 31)]


@pytest.mark.parametrize(("form", "mean"), [("upsample", 0.0), ("transposed", 0.5)])
def test_codes_have_the_moments_that_errors_are_divided_by(form, mean):
    encoder = small(form, "16,16,16")
    rng = torch.Generator().manual_seed(1)
    codes = encoder.draw(20_000, device=torch.device("cpu"), rng=rng)
    assert float(codes.mean()) == pytest.approx(mean, abs=0.01)
    assert float(codes.std()) == pytest.approx(encoder.code_sd(), rel=0.01)
    if form == "transposed":
        assert 0 <= float(codes.min()) <= float(codes.max()) <= 1
    # answering the mean is a loss of 1
    encoder.network.inverter = nn.Module()
    encoder.network.inverter.forward = lambda picture: torch.full((len(picture), 5), mean)
    term = encoder.inversion_losses(codes, torch.zeros(20_000, 1), None)["code"]
    assert float(term.total / term.weight) == pytest.approx(1, abs=0.02)


def test_losses_are_the_cross_entropies_of_smoothed_labels():
    encoder = small()
    real, fake = torch.rand(6, 1, *encoder.grid), torch.rand(6, 1, *encoder.grid)
    scores = iter([torch.linspace(-2, 3, 6), torch.linspace(-3, 1, 6)])
    encoder.network.discriminator.forward = lambda _: next(scores)
    terms = encoder.discriminator_losses(real, fake)
    p_real = torch.sigmoid(torch.linspace(-2, 3, 6)).double()
    p_fake = torch.sigmoid(torch.linspace(-3, 1, 6)).double()
    wanted = -(0.9 * p_real.log() + 0.1 * (1 - p_real).log()).mean()
    assert float(terms["real"].total / 6) == pytest.approx(float(wanted), rel=1e-5)
    assert float(terms["fake"].total / 6) == pytest.approx(
        float(-(1 - p_fake).log().mean()), rel=1e-5
    )


@pytest.mark.parametrize(
    "given", [{"loss": "wgan", "norm": "instance", "r1": 2.0}, {"loss": "wgan", "norm": "none"},
              {"spectral": "true", "norm": "none"}],
)  # fmt: skip
@pytest.mark.parametrize("form", ["upsample", "transposed"])
def test_other_losses_have_gradients_for_every_weight(form, given):
    encoder = small(form, "16,16,18", **given)
    real = torch.rand(3, 1, 16, 16, 18)
    fake = encoder.generate(encoder.draw(3, device=torch.device("cpu"))).detach()
    terms, weights = encoder.discriminator_losses(real, fake), encoder.loss_weights()
    assert ("slope" in terms) == ("loss" in given)
    assert ("r1" in terms) == ("r1" in given)
    sum(weights.get(n, 1.0) * t.total / t.weight for n, t in terms.items()).backward()
    grads = [
        p.grad for n, p in encoder.network.discriminator.named_parameters() if "score.b" not in n
    ]
    assert all(g is not None and g.isfinite().all() for g in grads)
    if weights.get("slope"):
        assert weights["slope"] == 10.0
        assert weights["drift"] == 0.001


def test_training_images_are_brought_back_where_asked_for():
    """Held-out pairs are judged on their codes alone."""
    encoder = small(real_weight=0.1)
    network = encoder.network.eval()
    codes, real = encoder.draw(3, device=torch.device("cpu")), torch.rand(3, 1, 9, 16, 7)
    pair = encoder.pairs(codes)
    assert set(encoder.inversion_losses(*pair, None)) == {"code"}
    term = encoder.inversion_losses(*pair, real)["image"]
    back = network.generator(network.inverter(real)).detach()
    wanted = ((back - real) ** 2).mean() / real.var(correction=0)
    assert float((term.total / term.weight).detach()) == pytest.approx(float(wanted), rel=1e-4)
    assert encoder.loss_weights()["image"] == 0.1
    assert set(small().inversion_losses(*pair, real)) == {"code"}


def test_spectral_norm_bounds_every_layer():
    encoder = small(grid="6,6,6", spectral="true", norm="none")
    critic = encoder.network.discriminator.train()
    with torch.no_grad():
        for _ in range(25):
            critic(torch.rand(2, 1, *encoder.grid))
    layers = [m for m in critic.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    assert len(layers) == 7
    for layer in layers:
        top = torch.linalg.svdvals(layer.weight.flatten(1))[0]
        assert float(top.detach()) == pytest.approx(1, abs=0.05)


def test_steps_of_the_discriminator_are_skipped_as_asked():
    torch.manual_seed(0)
    lazy = small(skip_share=0.3)
    kept = np.mean([lazy.keeps("discriminator", 1.0) for _ in range(2000)])
    assert kept == pytest.approx(0.7, abs=0.04)
    assert all(lazy.keeps(player, 1.0) for player in ("generator", "inverter") for _ in range(50))
    strong = small(skip_below=1e-4)
    assert not strong.keeps("discriminator", 9e-5)
    assert strong.keeps("discriminator", 2e-4)
    assert small().keeps("discriminator", 0.0)
    # a critic that tells images apart has a loss below 0, and goes on learning
    assert small(loss="wgan", norm="none").keeps("discriminator", -0.5)


class Bent(nn.Module):
    """A generator whose inverse is known."""

    def forward(self, codes):
        mixed = codes @ torch.linspace(-1, 1, 15).reshape(3, 5).sin()
        return torch.tanh(mixed).reshape(-1, 1, 5, 1, 1)


def test_refinement_finds_the_code_and_never_makes_worse():
    torch.manual_seed(0)
    generator, codes = Bent(), torch.randn(6, 3) * 0.5
    image = generator(codes)
    start = codes + 0.3 * torch.randn(6, 3)
    refined = refine(generator, image, start, steps=150, rate=0.05)

    def errors(z):
        return ((generator(z) - image) ** 2).flatten(1).mean(1)

    assert (errors(refined) < 1e-2 * errors(start)).all()
    # alone or together, the same
    alone = torch.cat([refine(generator, image[i : i + 1], start[i : i + 1], steps=150, rate=0.05)
                       for i in range(2)])  # fmt: skip
    torch.testing.assert_close(alone, refined[:2], atol=1e-5, rtol=1e-5)
    # a step too long: the start is kept
    wild = refine(generator, image, codes, steps=3, rate=9.0)
    torch.testing.assert_close(wild, codes)
    nothing = refine(generator, image, start, steps=0)
    assert torch.equal(nothing, start)


def test_refinement_is_pulled_and_bounded():
    torch.manual_seed(1)
    generator, codes = Bent(), torch.randn(4, 3)
    image = generator(codes)
    free, pulled = (refine(generator, image, codes * 0.5, steps=300, rate=0.05, pull=p)
                    for p in (0.0, 0.3))  # fmt: skip
    assert float(pulled.norm()) < 0.8 * float(free.norm())
    inside = refine(generator, image, codes * 5, steps=30, rate=0.1, bounds=(0.0, 1.0))
    assert 0 <= float(inside.min()) <= float(inside.max()) <= 1


@pytest.mark.parametrize("form", ["upsample", "transposed"])
def test_encoding_with_refinement(form, tmp_path):
    """Through encode and encode_batch, which run without gradients; latents improve the picture."""
    from imgwas.encoders.encoding import encode_batch

    grid = "16,16,16"
    plain, refined = small(form, grid), small(form, grid, refine_steps=4)
    refined.load_state(plain.state())
    raw = np.random.default_rng(1).random((3, 16, 16, 16), np.float32)
    before, after = (encode_batch(e, torch.from_numpy(raw)) for e in (plain, refined))
    assert (after[1] <= before[1] + 1e-6).all()
    assert after[1].mean() < before[1].mean()
    np.testing.assert_allclose(refined.encode(raw), after[0], atol=1e-6)
    np.testing.assert_allclose(refined.encode(raw[1:2]), after[0][1:2], atol=1e-4)


class Mirror(Encoder):
    """Encodes people as themselves with noise, or everybody as the mean."""

    name, paper, settings_type = "mirror", "none", ImageSettings

    def __init__(self, noise, mean=None):
        super().__init__()
        self.noise, self.mean = noise, mean

    def state(self):
        return {}

    def load_state(self, state):
        pass

    def normalise(self, raw):
        return Batch(raw[:, None], torch.ones_like(raw[:, None], dtype=torch.bool))

    def encode(self, images):
        return images.reshape(len(images), -1)

    def decode(self, latents):
        if self.mean is not None:
            return np.tile(self.mean, (len(latents), 1, 1, 1)).astype(np.float32)
        rng = np.random.default_rng(int(1e6 * abs(latents[0, 0])))
        noise = self.noise * rng.normal(size=(len(latents), 3, 4, 2))
        return (latents.reshape(-1, 3, 4, 2) + noise).astype(np.float32)


def test_likeness_is_that_of_a_loop(monkeypatch):
    from imgwas.encoders import inversion

    monkeypatch.setattr(inversion, "BLOCK", 60)  # several blocks of voxels
    rng = np.random.default_rng(3)
    values = rng.normal(size=(12, 3, 4, 2)).astype(np.float32) + 40
    images = ArrayImages(values, tuple(f"s{i}" for i in range(12)))
    encoder = Mirror(2.0)
    rows = list(range(1, 12))
    found = measure_likeness(encoder, images, rows, batch=4)
    made = np.concatenate([encoder.decode(encoder.encode(values[rows[a : a + 4]]))
                           for a in range(0, 11, 4)])  # fmt: skip
    own, nearest = 0.0, 0
    for i in range(11):
        distances = [((made[i] - values[r]) ** 2).sum(dtype=np.float64) for r in rows]
        own += distances[i]
        nearest += distances[i] < min(d for j, d in enumerate(distances) if j != i)
    around = ((values[rows] - values[rows].mean(0, dtype=np.float64)) ** 2).sum()
    assert found.people == 11
    assert found.error == pytest.approx(own / 11 / 24, rel=1e-4)
    assert found.explained == pytest.approx(1 - own / around, rel=1e-3)
    assert found.recognised == pytest.approx(nearest / 11)
    assert 0.2 < found.recognised < 1
    everybody = Mirror(0, mean=values[rows].mean(0))
    table = compare_likeness({"noisy": encoder, "mean": everybody}, images, rows, batch=4)
    assert table.loc["mean", "explained"] == pytest.approx(0, abs=1e-3)
    assert table.loc["noisy", "recognised"] == found.recognised
    with pytest.raises(UsageError, match=r"1 people and mirror were given.*At least two"):
        measure_likeness(encoder, images, [0])
    same = ArrayImages(np.ones((3, 3, 4, 2), np.float32), ("a", "b", "c"))
    with pytest.raises(DegenerateError, match="are all the same"):
        measure_likeness(Mirror(0.1), same, [0, 1, 2])


class Masked(Mirror):
    """Leaves what lies outside the mask to chance, as decoders with a masked loss do."""

    def normalise(self, raw):
        return Batch(raw[:, None], raw[:, None] != 0)

    def decode(self, latents):
        made = super().decode(latents)
        return np.where(latents.reshape(made.shape) != 0, made, 1e3).astype(np.float32)


def test_likeness_does_not_look_where_a_decoder_never_learned():
    values = np.random.default_rng(4).normal(size=(6, 3, 4, 2)).astype(np.float32)
    values[:, :2] = 0
    values[3, 2, 0] = 0  # outside one person's mask alone: nobody is told apart by it
    images = ArrayImages(values, tuple(f"s{i}" for i in range(6)))
    rows = list(range(6))
    table = compare_likeness({"all": Mirror(0), "masked": Masked(0)}, images, rows, batch=4)
    assert table["error"].tolist() == [0, 0]
    assert table["explained"].tolist() == pytest.approx([1, 1])
    assert table["recognised"].tolist() == [1, 1]
    assert measure_likeness(Masked(0), images, rows).error == 0


def blobs(n, *, seed, spread=0.2, size=12):
    """Balls of different size: pictures whose variety is known."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    radii = 0.6 + spread * rng.uniform(-1, 1, size=n)
    volumes = np.stack([np.tanh(8 * (r - np.sqrt((at**2).sum(0)))) for r in radii])
    return torch.from_numpy(volumes.astype(np.float32))[:, None]


def test_samples_are_nearer_the_more_they_are_like_the_images():
    real = blobs(16, seed=0)
    same, narrow, noisy = blobs(16, seed=1), blobs(16, seed=2, spread=0.02), blobs(16, seed=3)
    noisy = (noisy + 0.4 * torch.randn(noisy.shape)).clamp(-1, 1)
    found = {name: compare_samples(real, fake, data_range=2.0)
             for name, fake in (("same", same), ("narrow", narrow), ("noisy", noisy))}  # fmt: skip
    assert found["same"]["sample_distance"] < 0.2 * found["narrow"]["sample_distance"]
    assert found["same"]["sample_distance"] < 0.2 * found["noisy"]["sample_distance"]
    assert found["narrow"]["sample_similarity"] > found["narrow"]["real_similarity"] + 0.1
    assert found["same"]["sample_spread"] == pytest.approx(1, abs=0.4)
    assert found["narrow"]["sample_spread"] < 0.1
    assert compare_samples(real, real, data_range=2.0)["sample_distance"] == pytest.approx(
        0, abs=1e-6
    )
    a, b = (features(blobs(3, seed=5)) for _ in range(2))
    assert np.array_equal(a, b)
    assert a.shape == (3, 64)
    pairs = [float(ms_ssim(real[i : i + 1], real[j : j + 1], data_range=2.0))
             for i, j in ((0, 2), (1, 0), (2, 1))]  # fmt: skip
    assert similarity_between(real[:3], data_range=2.0) == pytest.approx(np.mean(pairs), abs=1e-5)


def test_a_sheet_is_a_png_of_middle_slices(tmp_path):
    from PIL import Image

    volumes = torch.rand(3, 1, 6, 5, 4) * 2 - 1
    grey = sheet(volumes, low=-1, high=1)
    assert grey.shape == ((5 + 1) + (4 + 1) + (4 + 1), 3 * (6 + 1))
    tile = np.rot90(volumes[1, 0, :, :, 2].numpy())
    np.testing.assert_allclose(grey[1:6, 7:13], np.rint(255 * (tile + 1) / 2), atol=1)
    path = tmp_path / "a/b.png"
    write_png(path, grey)
    with Image.open(io.BytesIO(path.read_bytes())) as opened:
        assert opened.mode == "L"
        np.testing.assert_array_equal(np.asarray(opened), grey)


def test_a_derivative_goes_through_both_generators():
    for form, grid in (("upsample", "9,16,7"), ("transposed", "17,16,16")):
        network = small(form, grid).network.double().eval()
        z, direction = torch.rand(2, 1, 5).double()
        _, slope = torch.func.jvp(network.decode, (z,), (direction,))
        h = 1e-6
        with torch.no_grad():
            step = network.decode(z + h * direction) - network.decode(z - h * direction)
        torch.testing.assert_close(slope.detach(), step / (2 * h), rtol=1e-3, atol=1e-7)


def test_wrong_grids_and_latents_are_named():
    encoder = small()
    with pytest.raises(
        InconsistentError, match=r"grid 4x4x4 were given\. gan3d was made for 9x16x7"
    ):
        encoder.encode(np.zeros((1, 4, 4, 4), np.float32))
    with pytest.raises(InconsistentError, match=r"gan3d has 5 latents"):
        encoder.decode(np.zeros((1, 6), np.float32))
    with pytest.raises(DegenerateError, match="blank or hold one value"):
        encoder.encode(np.zeros((1, 9, 16, 7), np.float32))
    with pytest.raises(UsageError, match=r"channels is 12\. A multiple of 8"):
        create_encoder(
            "gan3d", {"form": "transposed", "grid": "16,16,16", "channels": 12}
        ).skeleton()
    with pytest.raises(UsageError, match=r"the grid is 3x9x9\. At least 4"):
        create_encoder("gan3d", {"grid": "3,9,9"}).skeleton()


class Balls(nn.Module):
    """A ball whose place and size are the code: a generator that can be inverted."""

    def __init__(self, size=12):
        super().__init__()
        axes = [torch.linspace(-1, 1, size)] * 3
        self.register_buffer("at", torch.stack(torch.meshgrid(*axes, indexing="ij")))
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, codes):
        where = 0.35 * torch.tanh(0.6 * codes[:, :3, None, None, None])
        radius = 0.5 + 0.2 * torch.tanh(0.6 * codes[:, 3, None, None, None])
        distance = ((self.at - where) ** 2).sum(dim=1).sqrt()
        return self.weight * torch.tanh(6 * (radius - distance))[:, None]


class BallGame(GAN3D):
    """gan3d's inverter against a known generator."""

    def build(self):
        made = super().build()
        made.generator = Balls()
        return made

    def generator_losses(self, real, codes):
        return {"generator": Ratio(0 * self.network.generator.weight.sum(), torch.tensor(1.0))}


@pytest.mark.slow
def test_the_inverter_recovers_codes_below_a_tenth_of_their_variance(tmp_path):
    """And what it answers for pictures it has never seen makes those pictures again."""
    torch.set_num_threads(1)
    settings = GANSettings(
        grid=(12, 12, 12), latents=4, channels=2, game_epochs=1, inverter_width=8,
        inverter_rate=2e-3, held_out_pairs=128,
    )  # fmt: skip
    encoder = BallGame(settings)
    rng = np.random.default_rng(0)
    images = ArrayImages(rng.random((400, 12, 12, 12), np.float32), tuple(map(str, range(400))))
    split = Split(tuple(range(384)), tuple(range(384, 400)))
    train = TrainSettings(epochs=26, batch=16, schedule="cosine")
    loop = AdversarialLoop(encoder, images, split, train, torch.device("cpu"))
    history = loop.run()
    assert history[-1]["validation_loss"] < 0.1
    codes = loop.held_out_codes()
    with torch.no_grad():
        loop.network.eval()
        pictures = encoder.generate(codes)
        answers = encoder.network.inverter(pictures)
        error = ((answers - codes) ** 2).mean()
        assert float(error) == pytest.approx(history[-1]["validation_loss"], rel=1e-3)
        again = encoder.generate(answers)
    lost = ((again - pictures) ** 2).sum() / ((pictures - pictures.mean(0)) ** 2).sum()
    assert float(lost) < 0.1
    refined = refine(encoder.network.generator, pictures[:16], answers[:16], steps=60, rate=0.02)
    assert ((refined - codes[:16]) ** 2).mean() < 0.5 * ((answers - codes)[:16] ** 2).mean()

"""stylegan3d as an encoder: growth, resuming, inversion into W, and what it refuses."""

import csv

import numpy as np
import pytest
import torch

import imgwas
from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction, probe_direction, regression_direction
from imgwas.brain.traversal import average_start, walk_along
from imgwas.encoders.base import NeuralEncoder
from imgwas.encoders.catalogue import create_encoder, describe
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.networks.stylegan import StyleGAN
from imgwas.encoders.stylegan import StyleGAN3D, StyleGANSettings
from imgwas.errors import InconsistentError, UsageError
from imgwas.images.volumes import ArrayImages
from imgwas.simulate.brains import simulate_brains
from imgwas.types import Latents

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = (8, 9, 7)
TINY = {
    "latents": 4, "hidden": 4, "start_resolution": 4, "max_resolution": 8, "grow": (1,),
    "fade": 0.25, "fade_steps": 2, "game_epochs": 3, "held_out_pairs": 4, "samples": 2,
}  # fmt: skip
TRAIN = {"epochs": 4, "batch": 4, "ema": 0.9}


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    brains = simulate_brains(16, grid=GRID, seed=0)
    return ArrayImages(brains.values, brains.sample_ids, brains.affine)


#: (images, stage, share) of every step of ``whole``
STEPS: list[tuple[int, int, float]] = []


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    grow, seen = StyleGAN.grow, []

    def watched(self, stage, alpha):
        grow(self, stage, alpha)
        seen.append((stage, alpha))

    def note(n):
        STEPS.append((n, *seen[-1]))

    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StyleGAN, "grow", watched)
        return imgwas.fit("stylegan3d", images, out=out, settings=TINY, train=TRAIN, device="cpu",
                          progress=note)  # fmt: skip


def small(**more: object) -> StyleGAN3D:
    torch.manual_seed(0)
    encoder = create_encoder("stylegan3d", {**TINY, "grid": GRID, **more})
    assert isinstance(encoder, StyleGAN3D)
    encoder.network.eval()
    return encoder


def test_published_schedule():
    s = StyleGANSettings()
    assert [s.batch_at(epoch, 16) for epoch in (0, 7, 8, 16, 17, 34, 35, 99)] == [
        16, 16, 8, 8, 4, 4, 2, 2,
    ]  # fmt: skip
    assert [4 * 2 ** s.stage_of(s.growths_at(epoch)) for epoch in (0, 8, 17, 35)] == [8, 16, 32, 64]
    assert (s.beta1, s.beta2, s.gradient_penalty, s.drift) == (0.0, 0.99, 10.0, 0.001)
    made = create_encoder("stylegan3d", {"grid": "64,64,64"})
    assert made.training["learning_rate"] == 2e-3
    with torch.device("meta"):
        inverter = made.build().inverter
    n = sum(p.numel() for p in inverter.parameters())
    assert describe(made)["parameters"] == 16_739_073 + 20_132_353 + n


def test_stage_and_share_of_every_step(whole):
    """Against counters that are carried along: the share rises by 0.25 every 2 batches."""
    expected, since = [], 0
    for epoch in range(4):
        batch = 4 if epoch == 0 else 2
        for _ in range(12 // batch):
            alpha = 1.0 if epoch == 0 else min(1.0, 0.25 * (since // 2))
            expected.append((batch, 0 if epoch == 0 else 1, alpha))
            since += epoch > 0
    assert expected == STEPS
    rows = list(csv.DictReader((whole.folder / "history.csv").open()))
    assert [row["stage"] for row in rows] == ["0", "1", "1", ""]
    assert sorted(p.name for p in (whole.folder / "samples").iterdir()) == [
        "epoch-0002.png", "stage-004.png", "stage-008.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "stop_at", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 15, 17))]
)
def test_a_stop_before_within_and_after_the_growth_changes_nothing(
    whole, images, tmp_path, stop_at
):
    steps = []

    def stop(n):
        steps.append(n)
        if len(steps) == stop_at:
            raise KeyboardInterrupt

    train = {**TRAIN, "save_steps": 1}
    given = {"out": tmp_path, "settings": TINY, "train": train, "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        imgwas.fit("stylegan3d", images, **given, progress=stop)
    resumed = imgwas.fit("stylegan3d", images, **given)
    for name, value in whole.encoder.state().items():
        assert torch.equal(value, resumed.encoder.state()[name]), name
    told = [{k: v for k, v in row.items() if "second" not in k} for row in resumed.history]
    assert told == [{k: v for k, v in row.items() if "second" not in k} for row in whole.history]


def test_another_growth_is_another_run(whole, images):
    with pytest.raises(InconsistentError, match=r"settings.grow was \[1\], now \[2\]"):
        imgwas.fit("stylegan3d", images, out=whole.folder, settings={**TINY, "grow": (2,)},
                   train=TRAIN, device="cpu")  # fmt: skip


def test_latents_and_pictures_are_the_same_every_time(whole, images):
    encoder = whole.encoder
    latents = encoder.encode(images.values)
    assert latents.shape == (16, 4)
    np.testing.assert_array_equal(latents, encoder.encode(images.values))
    np.testing.assert_allclose(latents[3:5], encoder.encode(images.values[3:5]), atol=1e-5)
    pictures = encoder.decode(latents)
    assert pictures.shape == images.values.shape
    np.testing.assert_array_equal(pictures, encoder.decode(latents))
    loaded = load_encoder(whole.folder).encoder
    np.testing.assert_array_equal(pictures, loaded.decode(loaded.encode(images.values)))


def test_decoding_uses_the_same_noise_or_none():
    for noise in ("off", "fixed"):
        encoder = small(noise=noise)
        latents = torch.randn(2, 4).numpy()
        before = encoder.decode(latents)
        with torch.no_grad():
            for layer in encoder.players.generator.layers:
                layer.noise.scale += 1
        np.testing.assert_array_equal(encoder.decode(latents), encoder.decode(latents))
        assert (encoder.decode(latents) == before).all() == (noise == "off")


def test_samples_on_a_scale_without_limits_are_judged_in_that_of_the_images():
    made = small(intensity="zscore")
    rng = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(4, 1, 8, 8, 8, generator=rng) for _ in range(2))
    assert made.value_range(real) == (float(real.min()), float(real.max()))
    assert small().value_range(real) == (-1, 1)
    found, larger = made.measure(real, fake), made.measure(9 * real, 9 * fake)
    for name in ("sample_similarity", "real_similarity"):
        assert 0 < found[name] < 1
        assert larger[name] == pytest.approx(found[name], rel=1e-4)


def test_the_inverter_answers_w_in_its_own_spread(whole):
    encoder = load_encoder(whole.folder).encoder
    assert isinstance(encoder, StyleGAN3D)
    generator = encoder.players.generator
    w = generator.mapping(torch.randn(20_000, 4)).detach()
    np.testing.assert_allclose(generator.mean_w, w.mean(0), atol=0.05 * float(generator.sd_w))
    assert float(generator.sd_w) == pytest.approx(float(w.var(0).mean()) ** 0.5, rel=0.05)
    encoder.network.eval()
    rng = torch.Generator().manual_seed(0)
    target, picture = encoder.pairs(encoder.draw(128, device=torch.device("cpu"), rng=rng))
    assert picture.shape == (128, 1, *GRID)
    assert target.square().mean().item() == pytest.approx(1, rel=0.4)
    pictures = picture.detach().double().numpy()
    inverter = encoder.players.inverter
    spread = float(pictures.var(axis=0).mean()) ** 0.5
    np.testing.assert_allclose(inverter.mean_image[0], pictures.mean(0), atol=1e-5)
    assert float(inverter.sd_image) == pytest.approx(spread, rel=1e-4)
    parts = [torch.from_numpy(pictures[:7] + 5), torch.from_numpy(pictures[7:20] + 5)]
    inverter.measure(parts)
    np.testing.assert_allclose(inverter.mean_image[0], pictures[:20].mean(0) + 5, rtol=1e-6)
    exact = float(pictures[:20].var(axis=0).mean()) ** 0.5
    assert float(inverter.sd_image) == pytest.approx(exact, rel=1e-4)
    players = encoder.players
    torch.testing.assert_close(players.answered(players.latents_from(target)), target)


def test_w_plus_has_one_w_for_each_place():
    encoder = small(space="w+")
    assert encoder.n_latents == 4 * encoder.players.generator.n_styles == 16
    ramp = np.broadcast_to(np.arange(7, dtype=np.float32), (2, *GRID))
    assert encoder.encode(ramp).shape == (2, 16)
    w = torch.randn(3, 4).numpy()
    one, all_places = small(), np.tile(w, 4)
    np.testing.assert_allclose(one.decode(w), encoder.decode(all_places), atol=1e-5)
    assert encoder.sample(2).shape == (2, 16)
    target, _ = encoder.pairs(torch.randn(3, 4))
    assert torch.equal(target[:, :4], target[:, 12:])


def test_truncated_samples():
    encoder = small()
    encoder.players.generator.measure_w()
    drawn, mean = encoder.sample(5, seed=1), encoder.players.generator.mean_w
    torch.testing.assert_close(encoder.sample(5, truncation=0.0, seed=1), mean.expand(5, -1))
    halfway = encoder.sample(5, truncation=0.5, seed=1)
    torch.testing.assert_close(halfway, mean + (drawn - mean) / 2)
    assert torch.equal(drawn, encoder.sample(5, seed=1))
    assert not torch.equal(drawn, encoder.sample(5, seed=2))


@pytest.mark.parametrize(("loss", "penalty"), [("logistic", "r1"), ("wgan", "slope")])
def test_losses_of_both_games(loss, penalty):
    encoder = small(loss=loss, penalty_every=4, r1=3.0, gradient_penalty=3.0)
    real, fake = torch.randn(2, 4, 1, 8, 10, 8)
    terms = encoder.discriminator_losses(real, fake)
    judge = encoder.players.discriminator
    on_real, on_fake = judge(real).detach().numpy(), judge(fake).detach().numpy()
    if loss == "wgan":
        expected = {"real": -on_real.sum(), "fake": on_fake.sum(), "drift": (on_real**2).sum()}
    else:
        expected = {"real": np.log1p(np.exp(-on_real)).sum(),
                    "fake": np.log1p(np.exp(on_fake)).sum()}  # fmt: skip
    for name, value in expected.items():
        assert terms[name].total.item() == pytest.approx(value, rel=1e-4)
    assert terms.keys() - expected.keys() == {penalty}
    assert encoder.loss_weights()[penalty] == 12
    terms[penalty].total.backward()
    assert judge.whole.weight.grad.abs().sum() > 0
    encoder.penalises = False
    assert penalty not in encoder.discriminator_losses(real, fake)
    score = judge(encoder.generate(torch.ones(4, 4)))
    made = encoder.generator_losses(real, torch.ones(4, 4))["generator"].total.item()
    by_hand = -score if loss == "wgan" else torch.nn.functional.softplus(-score)
    assert made == pytest.approx(by_hand.sum().item(), rel=1e-4)


def test_refinement_only_makes_pictures_better(whole, images):
    encoder = whole.encoder
    finer = StyleGAN3D(StyleGANSettings(**{**vars(encoder.settings), "refine_steps": 20}))
    finer.load_state(encoder.state())
    errors = []
    for one in (encoder, finer):
        real = one.normalise(torch.from_numpy(images.values)).image[:, 0].numpy()
        errors.append(((one.reconstruct(images.values) - real) ** 2).mean((1, 2, 3)))
    assert (errors[1] < errors[0] * 1.01).all()
    assert errors[1].mean() < errors[0].mean()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_resolution": 48}, r"max_resolution is 48.*power of two"),
        ({"start_resolution": 2}, r"start_resolution is 2.*power of two from 4"),
        ({"start_resolution": 16}, r"start_resolution is 16.*At most max_resolution, 8"),
        ({"grow": (9, 5)}, r"grow is 9,5.*rising order"),
        ({"grow": (0,)}, r"grow is 0.*the first at least 1"),
        ({"max_resolution": 16}, r"grow names 1 epochs.*From 4 to 16 voxels the networks grow 2"),
        ({"fade": 0.0}, r"fade.*0"),
        ({"beta1": 1.0}, r"beta1 is 1"),
        ({"hidden": 0}, r"hidden is 0"),
        ({"loss": "hinge"}, r"loss.*hinge.*logistic"),
        ({"space": "z"}, r"space.*z.*w"),
        ({"grid": (40, 9, 8)}, r"40x9x8 with max_resolution 8 starts from 20x5x4"),
        ({"grid": (8, 8)}, r"the grid 8x8 has 2 axes"),
    ],
)
def test_settings_that_do_not_go(given, words):
    with pytest.raises(UsageError, match=words):
        create_encoder("stylegan3d", {**TINY, "grid": GRID, **given}).network  # noqa: B018


def test_a_game_too_short_for_the_growth_leaves_no_run(images, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=r"ends after 3 epochs.*8 voxels after 5.*game_epochs=10"):
        imgwas.fit("stylegan3d", images, out=out, settings={**TINY, "grow": (5,)}, train=TRAIN)
    with pytest.raises(UsageError, match=r"truncation is 1.5"):
        small().sample(2, truncation=1.5)
    assert not out.exists()


@pytest.mark.slow
def test_a_game_that_ends_while_fading_says_so(images, tmp_path, caplog):
    settings = {**TINY, "fade_steps": 100, "game_epochs": 2}
    imgwas.fit("stylegan3d", images, out=tmp_path, settings=settings, device="cpu",
               train={**TRAIN, "epochs": 3})  # fmt: skip
    assert "the last stage was faded in to 0 %" in caplog.text
    encoder = load_encoder(tmp_path).encoder
    assert isinstance(encoder, NeuralEncoder)
    assert encoder.network.grown == (1, 0.0)
    assert encoder.decode(encoder.encode(images.values)).shape == images.values.shape


GAME = {
    "latents": 16, "mapping_layers": 2, "hidden": 16, "start_resolution": 4, "max_resolution": 8,
    "grow": (14,), "fade_steps": 6, "game_epochs": 32, "shrink": 1, "r1": 1.0,
    "inverter_rate": 0.03, "held_out_pairs": 40,
}  # fmt: skip
PLAY = {"epochs": 46, "batch": 8, "learning_rate": 4e-3, "ema": 0.98, "schedule": "cosine"}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A small generator that has seen 120 simulated brains for a minute of a processor."""
    brains = simulate_brains(160, grid=(12, 12, 12), effect=1.0, head_sd=0.03, seed=1)
    images = ArrayImages(brains.values, brains.sample_ids, brains.affine)
    fitted = imgwas.fit("stylegan3d", images, out=tmp_path_factory.mktemp("played"),
                        settings=GAME, train=PLAY, device="cpu")  # fmt: skip
    return brains, images, fitted


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_samples_come_nearer_and_the_inverter_recovers_w(played):
    _, _, fitted = played
    distance = [row["sample_distance"] for row in fitted.history if "sample_distance" in row]
    print("distance of samples", distance[0], "->", distance[-1])
    assert distance[-1] < distance[0] / 5
    error = fitted.history[-1]["validation_loss"]
    encoder = fitted.encoder
    with torch.no_grad():
        w, picture = encoder.pairs(encoder.draw(400, device=torch.device("cpu")))
        missed = (encoder.players.inverter(picture) - w).square()
    print("error of w in variances", error, float(missed.mean()))
    print("by element", (missed.mean(0) / w.var(0)).numpy().round(3))
    assert error < 0.1
    assert float(missed.mean() / w.var(0).mean()) < 0.1


def likeness_of_walk(encoder: StyleGAN3D, latents: Latents, direction: Direction, true: np.ndarray):
    """Correlation over voxels of the change along the walk with what goes with the trait."""
    start, covariance = average_start(latents), np.cov(latents.values.T)
    walk = walk_along(Decoder(encoder), start, direction, covariance, (-2.0, 0.0, 2.0))
    return np.corrcoef((walk.images[2] - walk.images[0]).ravel(), true.ravel())[0, 1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:Perfect separation")
def test_walks_along_a_pattern_and_along_the_weights_of_a_probe(played):
    """Schutte et al. walk along the weights of a logistic probe; the pattern shows more."""
    brains, images, fitted = played
    encoder = fitted.encoder
    latents = Latents(encoder.encode(images.values).astype(float), brains.sample_ids,
                      encoder.latent_names)  # fmt: skip
    stem = brains.factors[:, brains.regions.index("brainstem")]
    voxels = encoder.normalise(torch.from_numpy(images.values)).image[:, 0].numpy()
    true = np.tensordot(stem - stem.mean(), voxels, 1)
    large = (stem > np.median(stem)).astype(float)
    pattern = regression_direction(latents, stem, "brainstem")
    weights = probe_direction(latents, large, "brainstem", model="logistic")
    found = [likeness_of_walk(encoder, latents, d, true) for d in (pattern, weights)]
    print("walk and truth, correlation over voxels: pattern, logistic weights", found)
    assert found[0] > 0.45
    assert found[1] > 0.15
    decoder = Decoder(encoder)
    exact = decoder.derivative(latents.values[:2], pattern.vector)
    finite = decoder.difference(latents.values[:2], 1e-2 * pattern.vector) / 1e-2
    assert np.corrcoef(exact.ravel(), finite.ravel())[0, 1] > 0.99

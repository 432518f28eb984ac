"""The game: whose turn it is, who learns from what, and the same steps after a stop."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from torch import nn

from imgwas.encoders.adversarial import AdversarialLoop
from imgwas.encoders.base import Ratio
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.fitting import fit
from imgwas.encoders.generative import GenerativeEncoder, GenerativeSettings
from imgwas.encoders.networks.gan import Game
from imgwas.encoders.penalties import gradient_penalty, r1_penalty
from imgwas.encoders.splits import Split
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import DegenerateError, InconsistentError, MalformedError, OpenError, UsageError
from imgwas.images.volumes import ArrayImages

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = (6, 5, 4)
N = 16


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    rng = np.random.default_rng(0)
    values = rng.random((N, *GRID), dtype=np.float32) + 0.1
    return ArrayImages(values, tuple(f"s{i}" for i in range(N)), np.eye(4))


class Shaped(nn.Module):
    """One linear layer to pictures."""

    def __init__(self, latents):
        super().__init__()
        self.layer = nn.Linear(latents, int(np.prod(GRID)))

    def forward(self, codes):
        return torch.tanh(self.layer(codes)).reshape(-1, 1, *GRID)


class Flat(nn.Module):
    """One linear layer from pictures."""

    def __init__(self, outputs, *, squeeze=False):
        super().__init__()
        self.layer, self.squeeze = nn.Linear(int(np.prod(GRID)), outputs), squeeze

    def forward(self, image):
        out = self.layer(image.flatten(1))
        return out[:, 0] if self.squeeze else out


class Toy(GenerativeEncoder):
    """Linear players; it notes what it is asked."""

    name, paper, settings_type = "toy", "none", GenerativeSettings

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.calls, self.fakes_with_gradient, self.factor = [], 0, 1.0

    def build(self):
        k = self.n_latents
        return Game(Shaped(k), Flat(1, squeeze=True), Flat(k))

    def discriminator_losses(self, real, fake):
        self.calls.append("discriminator")
        self.fakes_with_gradient += int(fake.requires_grad)
        score = self.network.discriminator
        n = torch.tensor(float(len(real)))
        return {"d": Ratio(self.factor * (score(fake) - score(real)).sum(), n)}

    def generator_losses(self, real, codes):
        self.calls.append("generator")
        score = self.network.discriminator(self.generate(codes))
        return {"g": Ratio(-score.sum(), torch.tensor(float(len(codes))))}

    def place(self, position):
        self.position = position


def toy(**given) -> Toy:
    return Toy(GenerativeSettings(grid=GRID, latents=3, **given))


def loop_of(encoder, images, *, ema=0.9, **train) -> AdversarialLoop:
    given = {"epochs": 3, "batch": 4, "learning_rate": 0.01} | train
    split = Split(tuple(range(12)), tuple(range(12, N)))
    settings = TrainSettings(ema=ema, **given)
    return AdversarialLoop(encoder, images, split, settings, torch.device("cpu"))


def raw(images, n=4):
    return torch.from_numpy(images.values[:n])


def watch(loop, player, seen):
    """Note, at each step of a player, who holds a gradient."""
    optimizer, step = loop.optimizers[player], loop.optimizers[player].step

    def noted():
        grads = {
            name: [p.grad for p in getattr(loop.network, name).parameters()]
            for name in ("generator", "discriminator", "inverter")
        }
        holders = {name for name, g in grads.items() if any(v is not None for v in g)}
        seen.append((player, holders, [v.clone() for v in grads[player]]))
        return step()

    optimizer.step = noted


def test_players_take_turns_and_learn_alone(images):
    """The discriminator first, on fakes without gradient; each step moves one player only."""
    encoder = toy(game_epochs=2)
    loop = loop_of(encoder, images)
    seen: list = []
    for player in loop.optimizers:
        watch(loop, player, seen)
    before = {k: v.clone() for k, v in loop.network.state_dict().items()}
    loop._step([0, 1, 2, 3], raw(images))
    assert encoder.calls == ["discriminator", "generator"]
    assert encoder.fakes_with_gradient == 0
    assert [(player, holders) for player, holders, _ in seen] == [
        ("discriminator", {"discriminator"}),
        ("generator", {"generator", "discriminator"}),  # the latter's, of its own step
    ]
    after = loop.network.state_dict()
    for name in before:
        # an offset of every score cancels
        same = name.startswith("inverter") or name == "discriminator.layer.bias"
        assert torch.equal(before[name], after[name]) == same, name
    # the generator's turn left the discriminator's gradient as its own turn had made it
    held = [p.grad for p in loop.network.discriminator.parameters()]
    for mine, now in zip(seen[0][2], held, strict=True):
        assert torch.equal(mine, now)
    assert all(p.requires_grad for p in loop.network.parameters())


def test_gradients_are_those_of_the_loss_computed_by_hand(images):
    """Linear players: the discriminator's gradient is mean(fake) - mean(real)."""
    encoder = toy(game_epochs=2)
    loop = loop_of(encoder, images)
    seen: list = []
    watch(loop, "discriminator", seen)
    for _ in range(2):  # the second step must not hold the first one's gradient
        fakes: list = []
        draw = encoder.draw
        encoder.draw = lambda *a, f=fakes, d=draw, **k: f.append(d(*a, **k)) or f[-1]
        still = Shaped(3)
        still.load_state_dict(loop.network.generator.state_dict())
        loop._step([0, 1, 2, 3], raw(images))
        encoder.draw = draw
        real = encoder.normalise(raw(images)).image.flatten(1)
        wanted = still(fakes[0]).flatten(1).mean(0) - real.mean(0)
        torch.testing.assert_close(seen[-1][2][0][0], wanted.detach(), atol=1e-6, rtol=1e-4)
        assert not torch.equal(fakes[0], fakes[1])  # the generator plays with fresh codes
        loop.progress.total_steps += 1


def test_parts_of_a_batch_make_the_step_of_the_whole(images):
    """Two parts weigh as one batch where the fakes are the same."""
    weights = []
    for accumulate in (1, 2):
        encoder = toy(game_epochs=2)
        encoder.draw = lambda n, **_: torch.ones(n, 3)
        loop = loop_of(encoder, images, accumulate=accumulate)
        loop._step([0, 1, 2], raw(images, 3))
        weights.append(loop.network.state_dict())
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-6, rtol=1e-5)


def test_several_steps_of_the_critic_to_one_of_the_generator(images):
    encoder = toy(game_epochs=1, n_critic=3)
    loop = loop_of(encoder, images, epochs=2)
    loop.run()
    assert encoder.calls == ["discriminator"] * 3 + ["generator"]
    assert loop.shown == 12


def test_the_average_follows_the_generator_exactly(images):
    """Warmed up, and only of the generator; the game ends with the average in its place."""
    encoder = toy(game_epochs=2)
    loop = loop_of(encoder, images, ema=0.99)
    average = {k: v.clone() for k, v in loop.network.generator.state_dict().items()}
    snapshots = []

    def after_step(loop, _):
        if encoder.position.phase == "game":
            decay = min(0.99, (1 + len(snapshots)) / (10 + len(snapshots)))
            snapshots.append(decay)
            for name, value in loop.network.generator.state_dict().items():
                average[name] = decay * average[name] + (1 - decay) * value

    loop.run(after_step=after_step)
    assert len(snapshots) == 6
    final = loop.network.generator.state_dict()
    for name, value in average.items():
        torch.testing.assert_close(loop.ema[name], value, atol=1e-6, rtol=1e-6)
        assert torch.equal(final[name], loop.ema[name])
    constant = loop_of(toy(game_epochs=2), images, learning_rate=1e-30)
    before = {k: v.clone() for k, v in constant.ema.items()}
    constant.run()
    assert all(torch.equal(before[k], constant.ema[k]) for k in before)


def test_the_inverter_is_trained_on_a_generator_that_stays(images):
    encoder = toy(game_epochs=1, inverter_rate=0.01)
    loop = loop_of(encoder, images, epochs=4)
    kept = []
    loop.run(after_epoch=lambda loop: kept.append(
        {k: v.clone() for k, v in loop.network.state_dict().items()}))  # fmt: skip
    for name in kept[1]:
        same = torch.equal(kept[1][name], kept[3][name])
        assert same == (not name.startswith("inverter")), name
    losses = [row["validation_loss"] for row in loop.progress.history]
    assert losses[0] == 1.0
    assert losses[3] < losses[1]
    assert not any("train_g" in row for row in loop.progress.history[1:])


def test_held_out_loss_is_the_error_in_variances(images):
    encoder = toy(game_epochs=1, held_out_pairs=10)
    loop = loop_of(encoder, images, epochs=2)
    loop.run()
    codes = loop.held_out_codes()
    with torch.no_grad():
        answer = loop.network.inverter(loop.network.generator(codes))
    wanted = float(((answer - codes) ** 2).mean())
    assert loop.progress.history[-1]["validation_loss"] == pytest.approx(wanted, rel=1e-5)


def test_epochs_are_ranked_by_phase(images):
    loop = loop_of(toy(game_epochs=3), images)
    loop.progress.history = [
        {"epoch": e, "validation_loss": v} for e, v in ((1, 1.0), (2, 1.0), (3, 1.0), (4, 1.7),
                                                        (5, 1.2), (6, 1.3))
    ]  # fmt: skip
    loop.progress.epoch = 6
    assert [row["epoch"] for row in loop.ranked()] == [5, 6, 4, 3, 2, 1]
    assert loop.epochs_since_best() == 1
    loop.progress.history, loop.progress.epoch = loop.progress.history[:3], 3
    assert loop.ranked()[0]["epoch"] == 3
    assert loop.epochs_since_best() == 0  # early stopping waits for the inverter


def test_places_are_told_in_images_shown(images):
    encoder = toy(game_epochs=2)
    loop = loop_of(encoder, images)
    places = []
    loop.run(after_step=lambda *_: places.append(encoder.position))
    assert [p.shown for p in places] == [0, 4, 8, 12, 16, 20, 24, 24, 24]
    assert [p.phase for p in places] == ["game"] * 6 + ["inversion"] * 3
    assert {p.images for p in places} == {12}


def test_penalties_of_a_linear_and_a_quadratic_critic():
    """Slopes are known: w everywhere, or a x; and so is the penalty's own gradient."""
    real, fake = torch.randn(5, 1, 2, 2, 2), torch.randn(5, 1, 2, 2, 2)
    weight = torch.randn(8, requires_grad=True)

    def linear(x):
        return x.flatten(1) @ weight

    penalty = gradient_penalty(linear, real, fake)
    value = penalty.total / penalty.weight
    norm = weight.detach().norm()
    assert float(value.detach()) == pytest.approx(float((norm - 1) ** 2), rel=1e-5)
    (slope,) = torch.autograd.grad(value, weight)
    torch.testing.assert_close(slope, 2 * (norm - 1) * weight.detach() / norm)
    r1 = r1_penalty(linear, real)
    assert float((r1.total / r1.weight).detach()) == pytest.approx(float(norm**2 / 2), rel=1e-5)

    def quadratic(x):
        return 1.5 * (x**2).flatten(1).sum(1)

    r1 = r1_penalty(quadratic, real)
    wanted = 0.5 * ((3 * real) ** 2).flatten(1).sum(1).mean()
    assert float(r1.total.detach() / r1.weight) == pytest.approx(float(wanted), rel=1e-5)
    torch.manual_seed(7)
    penalty = gradient_penalty(quadratic, real, fake)
    torch.manual_seed(7)
    share = torch.rand(5, 1, 1, 1, 1)
    between = (share * real + (1 - share) * fake).flatten(1)
    wanted = (((3 * between).norm(dim=1) - 1) ** 2).mean()
    value = (penalty.total / penalty.weight).detach()
    assert float(value) == pytest.approx(float(wanted), rel=1e-5)


SMALL = {"channels": 2, "latents": 3, "game_epochs": 2, "inverter_width": 2, "held_out_pairs": 4,
         "samples": 2}  # fmt: skip
TRAIN = {"epochs": 4, "batch": 4, "learning_rate": 1e-3, "ema": 0.9, "save_steps": 1}


def fit_small(images, out, *, settings=None, train=None, **more):
    return fit("gan3d", images, out=out, settings=SMALL | (settings or {}),
               train=TRAIN | (train or {}), device="cpu", **more)  # fmt: skip


class Stop(Exception):
    """Somebody pulled the plug."""


def assert_same(a, b):
    one, two = a.encoder.state(), b.encoder.state()
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
    timeless = [
        [{k: v for k, v in row.items() if "second" not in k} for row in fitted.history]
        for fitted in (a, b)
    ]
    assert timeless[0] == timeless[1]


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    torch.set_num_threads(1)
    return fit_small(images, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "stops", [(5, 10), pytest.param((6,), marks=pytest.mark.slow),
              pytest.param((7,), marks=pytest.mark.slow)]
)  # fmt: skip
def test_a_resumed_run_takes_the_same_steps(images, tmp_path, whole, stops):
    """Stopped in the game, at its end, at the inverter's first step, or later: the same bits."""
    n = [0]

    def stop(_):
        n[0] += 1
        if n[0] in stops:
            raise Stop

    for _ in stops:
        with pytest.raises(Stop):
            fit_small(images, tmp_path, progress=stop)
    assert_same(whole, fit_small(images, tmp_path))


def test_a_run_stopped_between_the_phases_resumes(images, tmp_path, whole, monkeypatch):
    """The state after the last epoch of the game is there, and nothing of the inverter."""
    settle = AdversarialLoop._settle
    monkeypatch.setattr(AdversarialLoop, "_settle", lambda self: (_ for _ in ()).throw(Stop))
    with pytest.raises(Stop):
        fit_small(images, tmp_path)
    monkeypatch.setattr(AdversarialLoop, "_settle", settle)
    assert_same(whole, fit_small(images, tmp_path))


def test_another_seed_is_another_game_and_overwriting_clears_samples(images, tmp_path, whole):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/epoch-0099.png").write_bytes(b"old")
    other = fit_small(images, tmp_path, train={"seed": 1}, overwrite=True)
    assert not (tmp_path / "samples/epoch-0099.png").exists()
    name = "generator.body.last.weight"
    assert not torch.equal(other.encoder.state()[name], whole.encoder.state()[name])


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(images, tmp_path):
    train = TRAIN | {"epochs": 14}
    settings = SMALL | {"game_epochs": 8}
    script = textwrap.dedent(
        f"""
        import sys, numpy as np, torch
        torch.set_num_threads(1)
        from imgwas.encoders.fitting import fit
        from imgwas.images.volumes import ArrayImages
        values = np.random.default_rng(0).random(({N}, *{GRID}), dtype=np.float32) + 0.1
        images = ArrayImages(values, tuple(f"s{{i}}" for i in range({N})), np.eye(4))
        fit("gan3d", images, out=sys.argv[1], settings={settings}, train={train}, device="cpu")
        """
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(out)], start_new_session=True)
    history = out / "history.csv"
    while not (history.exists() and len(history.read_text().splitlines()) > 3):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = fit_small(images, out, settings=settings, train=train)
    undisturbed = fit_small(images, tmp_path / "w", settings=settings, train=train)
    assert_same(undisturbed, resumed)
    assert not list(out.rglob("*.tmp"))


def test_the_history_and_the_sheets_are_written(whole):
    names = (whole.folder / "history.csv").read_text().splitlines()
    assert names[0].startswith("epoch,learning_rate,train_loss")
    assert "sample_distance" in names[0]
    assert names[-1].count(",") == names[0].count(",")
    assert sorted(p.name for p in (whole.folder / "samples").iterdir()) == [
        "epoch-0001.png", "epoch-0002.png"]  # fmt: skip
    about = json.loads((whole.folder / "encoder/encoder.json").read_text())
    best = min(whole.history[2:], key=lambda row: row["validation_loss"])
    assert about["best_epoch"] == best["epoch"]
    assert about["validation_loss"] == best["validation_loss"]


@pytest.mark.parametrize(
    ("settings", "train", "message"),
    [({}, {"epochs": 2}, r"epochs is 2 and the game of gan3d takes 2.*epochs=3"),
     ({}, {"precision": "fp16"}, r"cannot be trained in fp16.*bf16"),
     ({"loss": "wgan"}, {}, r"penalty on the discriminator's slopes.*norm=instance"),
     ({"r1": 1}, {}, r"score depends on the other images"),
     ({"form": "transposed"}, {}, r"the grid is 6x5x4\. form=transposed needs 16 voxels"),
     ({"real_label": 0.2}, {}, r"real_label.*0\.2"),
     ({"inverter_width": 3}, {}, r"inverter_width is 3\. An even number"),
     ({"skip_share": 1}, {}, r"skip_share"),
     ({"form": "style"}, {}, r"form is 'style'\. It must be one of upsample, transposed"),
     ({"intensity": "zscore"}, {}, r"intensity is 'zscore'\. It must be one of auto"),
     ({"game_epoch": 3}, {}, r"there is no setting 'game_epoch'.*game_epochs")],
)  # fmt: skip
def test_what_cannot_be_trained_leaves_nothing_behind(images, tmp_path, settings, train, message):
    with pytest.raises(UsageError, match=message):
        fit_small(images, tmp_path / "run", settings=settings, train=train)
    assert not (tmp_path / "run").exists()


def test_several_devices_are_refused(images, tmp_path):
    with pytest.raises(UsageError, match=r"gan3d trains on one device, 2 were asked for"):
        fit_small(images, tmp_path / "run", devices=2)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_names_the_player(images, tmp_path):
    encoder = toy(game_epochs=2)
    encoder.factor = float("nan")
    with pytest.raises(DegenerateError, match=r"discriminator: the loss is not a finite number"):
        loop_of(encoder, images).run()
    encoder.factor = 1.0
    encoder.inversion_losses = lambda target, *_: {
        "code": Ratio(target.sum() * float("inf"), torch.tensor(1.0))
    }
    with pytest.raises(DegenerateError, match=r"inverter: the loss.*in epoch 3, step 1.*0\.01"):
        loop_of(encoder, images).run()


def test_a_state_without_the_average_is_named(images, tmp_path, whole):
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "private/state.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "ema": None}, path)
    with pytest.raises(MalformedError, match=r"state.pt is damaged \(the averaged generator"):
        fit_small(images, tmp_path)
    del state["optimizers"]["discriminator"]
    torch.save(state, path)
    with pytest.raises(MalformedError, match=r"state.pt is damaged \('discriminator'\)"):
        fit_small(images, tmp_path)


def test_another_game_in_the_folder_is_refused(images, tmp_path, whole):
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InconsistentError, match=r"settings.game_epochs was 2, now 1"):
        fit_small(images, tmp_path, settings={"game_epochs": 1})
    longer = fit_small(images, tmp_path, train={"epochs": 5})
    assert len(longer.history) == 5


def test_foreign_checkpoints_are_refused_by_name(images, tmp_path, whole):
    folder = tmp_path / "encoder"
    shutil.copytree(whole.folder / "encoder", folder)
    about = json.loads((folder / "encoder.json").read_text())
    about["settings"]["channels"] = 4
    (folder / "encoder.json").write_text(json.dumps(about))
    with pytest.raises(InconsistentError, match=r"do not fit the network.*of other shape.*channels|"
                       r"of other shape \(generator"):  # fmt: skip
        load_encoder(folder)
    about["encoder"] = "biggan"
    (folder / "encoder.json").write_text(json.dumps(about))
    with pytest.raises(MalformedError, match=r"names the encoder 'biggan'.*gan3d"):
        load_encoder(folder)
    (tmp_path / "old").mkdir()
    (tmp_path / "old/G.pth").write_bytes(b"x")
    with pytest.raises(OpenError, match=r"holds no encoder.json.*Convert it first.*G.pth"):
        load_encoder(tmp_path / "old")


def test_a_generator_that_ignores_its_code_is_told_once(images, caplog):
    encoder = toy(game_epochs=4)
    encoder.generate = lambda codes: encoder.network.generator(0 * codes)
    loop = loop_of(encoder, images, epochs=5)
    with caplog.at_level(logging.WARNING):
        loop.run()
    told = [r for r in caplog.records if "all samples look the same" in r.message]
    assert len(told) == 1
    assert "epoch 2" in told[0].message  # not while the game is young
    assert loop.progress.history[0]["sample_spread"] == pytest.approx(0, abs=1e-9)

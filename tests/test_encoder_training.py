"""The training loop: the same twice, the same after a stop, the same on two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from imgwas.encoders.base import Batch
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.fitting import fit
from imgwas.encoders.loop import Loop
from imgwas.encoders.runs import Run
from imgwas.encoders.splits import Split, fold_people, split_people
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import (
    DegenerateError,
    DeviceError,
    InconsistentError,
    MalformedError,
    UsageError,
)
from imgwas.images.volumes import ArrayImages
from imgwas.simulate.brains import simulate_brains

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = (12, 14, 12)
TINY = {"latents": 3, "levels": 1, "width": 2}
TRAIN = {"epochs": 3, "batch": 6, "learning_rate": 3e-3, "threads": 2}


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    brains = simulate_brains(32, grid=GRID, seed=0)
    return ArrayImages(brains.values, brains.sample_ids, brains.affine)


def weights(fitted) -> dict[str, np.ndarray]:
    return {name: t.numpy() for name, t in fitted.encoder.state().items()}


def assert_same(a, b) -> None:
    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize(
    "more",
    [{}, {"augment": "rotate", "noise": 0.1}, {"ema": 0.9, "clip": 1.0, "accumulate": 2},
     {"schedule": "cosine", "augment": "flip"}],
)  # fmt: skip
def test_the_same_seed_twice_gives_the_same_network(images, tmp_path, more):
    runs = [
        fit("udip", images, out=tmp_path / str(i), settings=TINY, train={**TRAIN, **more},
            device="cpu")
        for i in range(2)
    ]  # fmt: skip
    assert_same(*runs)
    np.testing.assert_array_equal(*(r.encoder.encode(images.values) for r in runs))
    other = fit("udip", images, out=tmp_path / "o", settings=TINY, device="cpu",
                train={**TRAIN, **more, "seed": 1})  # fmt: skip
    assert (
        np.abs(other.encoder.encode(images.values) - runs[0].encoder.encode(images.values)).max()
        > 0
    )


class Stop(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("name", ["udip", "vae3d", "vit-ae"])
@pytest.mark.parametrize("after", [7, 30])
def test_a_resumed_run_takes_the_same_steps(images, tmp_path, name, after):
    """Stopped within an epoch or between two, the weights end up equal to the last bit."""
    given = {
        "udip": TINY,
        "vae3d": {"latents": 3, "channels": 3, "hidden": 4},
        "vit-ae": {"latents": 8, "patch": 6, "depth": 1, "heads": 2},
    }[name]
    train = {**TRAIN, "epochs": 4, "save_steps": 1, "augment": "rotate", "noise": 0.05, "ema": 0.9}
    options = {"settings": given, "train": train, "device": "cpu"}
    whole = fit(name, images, out=tmp_path / "whole", **options)
    n = [0]

    def stop(k: int) -> None:
        n[0] += k
        if n[0] >= after:
            raise Stop

    with pytest.raises(Stop):
        fit(name, images, out=tmp_path / "parts", progress=stop, **options)
    resumed = fit(name, images, out=tmp_path / "parts", **options)
    assert_same(whole, resumed)
    timeless = [{k: v for k, v in row.items() if "second" not in k} for row in whole.history]
    again = [{k: v for k, v in row.items() if "second" not in k} for row in resumed.history]
    assert timeless == again


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(images, tmp_path):
    """kill -9 in the middle of training, then the same script again."""
    script = textwrap.dedent(
        f"""
        import sys, torch
        torch.set_num_threads(1)
        from imgwas.encoders.fitting import fit
        from imgwas.images.volumes import ArrayImages
        from imgwas.simulate.brains import simulate_brains
        brains = simulate_brains(32, grid={GRID}, seed=0)
        images = ArrayImages(brains.values, brains.sample_ids, brains.affine)
        fit("udip", images, out=sys.argv[1], settings={TINY}, device="cpu",
            train={ {**TRAIN, "epochs": 12, "save_steps": 2} })
        """
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(out)], start_new_session=True)
    history = out / "history.csv"
    while not (history.exists() and len(history.read_text().splitlines()) > 2):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    train = {**TRAIN, "epochs": 12, "save_steps": 2}
    resumed = fit("udip", images, out=out, settings=TINY, train=train, device="cpu")
    whole = fit("udip", images, out=tmp_path / "w", settings=TINY, train=train, device="cpu")
    assert_same(whole, resumed)
    assert not list(out.rglob("*.tmp"))


def test_more_epochs_continue_and_other_settings_do_not(images, tmp_path):
    fit("udip", images, out=tmp_path, settings=TINY, train=TRAIN, device="cpu")
    longer = fit("udip", images, out=tmp_path, settings=TINY, train={**TRAIN, "epochs": 5},
                 device="cpu")  # fmt: skip
    assert [row["epoch"] for row in longer.history] == [1, 2, 3, 4, 5]
    with pytest.raises(InconsistentError, match=r"training.learning_rate was 0.003, now 0.01"):
        fit("udip", images, out=tmp_path, settings=TINY, device="cpu",
            train={**TRAIN, "learning_rate": 0.01})  # fmt: skip
    with pytest.raises(InconsistentError, match=r"settings.width was 2, now 3"):
        fit("udip", images, out=tmp_path, settings={**TINY, "width": 3}, train=TRAIN, device="cpu")
    again = fit("udip", images, out=tmp_path, settings={**TINY, "width": 3}, train=TRAIN,
                device="cpu", overwrite=True)  # fmt: skip
    assert again.encoder.settings.width == 3


def test_a_damaged_state_is_named(images, tmp_path):
    fit("udip", images, out=tmp_path, settings=TINY, train=TRAIN, device="cpu")
    state = tmp_path / "private/state.pt"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(MalformedError, match=r"state.pt is damaged.*Remove it to start"):
        fit("udip", images, out=tmp_path, settings=TINY, train=TRAIN, device="cpu")


def test_validation_loss_is_over_all_held_out_voxels(images, tmp_path):
    """Not the mean of the means of batches: brains of different size count by their voxels."""
    fitted = fit("udip", images, out=tmp_path, settings=TINY, device="cpu",
                 train={**TRAIN, "epochs": 1, "batch": 5})  # fmt: skip
    split = split_people(images.sample_ids, seed=0)
    total = weight = 0.0
    for row in split.validation:
        raw = images.values[row][None]
        batch = fitted.encoder.normalise(torch.from_numpy(raw))
        decoded = fitted.encoder.decode(fitted.encoder.encode(raw))
        mask = batch.mask.numpy()[0, 0]
        total += float(((batch.image.numpy()[0, 0] - decoded[0])[mask] ** 2).sum(dtype=np.float64))
        weight += mask.sum()
    assert fitted.history[0]["validation_loss"] == pytest.approx(total / weight, rel=1e-5)


def test_two_processes_take_the_steps_of_one(images, tmp_path, monkeypatch):
    """The gradient is that of the whole batch; a network without batch norm shows it exactly."""
    odd = tmp_path / "odd #?%20 ö"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))  # where the processes meet
    given = {"latents": 8, "patch": 6, "depth": 1, "heads": 2}
    train = {**TRAIN, "epochs": 2, "batch": 8, "learning_rate": 1e-3}
    one = fit("vit-ae", images, out=tmp_path / "1", settings=given, train=train, device="cpu")
    two = fit("vit-ae", images, out=tmp_path / "2", settings=given, train=train, device="cpu",
              devices=2)  # fmt: skip
    assert not list(odd.glob("imgwas-*"))
    for name, value in weights(one).items():
        np.testing.assert_allclose(weights(two)[name], value, atol=2e-4, err_msg=name)
    for a, b in zip(one.history, two.history, strict=True):
        assert a["validation_loss"] == pytest.approx(b["validation_loss"], rel=1e-3)
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-3)


def _fail(world, device: torch.device) -> None:
    """What a training process does that meets a bug."""
    del device
    if world.rank == 1:
        raise ValueError("the second process has had enough")


def test_a_process_that_dies_is_named():
    from imgwas.encoders.processes import run_together
    from imgwas.errors import MissingLibraryError

    with pytest.raises(MissingLibraryError, match=r"one of 2 training processes ended"):
        run_together(_fail, 2, "cpu")


def test_the_average_of_weights_is_the_recursion(images):
    settings = TrainSettings(epochs=1, batch=8, ema=0.8)
    encoder = create_encoder("udip", {**TINY, "grid": GRID})
    split = split_people(images.sample_ids)
    loop = Loop(encoder, images, split, settings, torch.device("cpu"))
    name = "to_latent.bias"
    expected = loop.network.state_dict()[name].clone()
    steps = [0]

    def after_step(loop: Loop, n: int) -> None:
        decay = min(0.8, (1 + steps[0]) / (10 + steps[0]))
        expected.mul_(decay).add_(loop.network.state_dict()[name], alpha=1 - decay)
        steps[0] += 1

    loop.run(after_step=after_step)
    assert steps[0] == 3
    torch.testing.assert_close(loop.ema[name], expected)


def test_accumulated_parts_give_the_gradient_of_the_batch():
    """Without batch norm, two halves of a batch and the batch itself take the same step."""
    values = simulate_brains(16, grid=GRID, seed=0, head_sd=0).values
    images = ArrayImages(values, tuple(f"p{i}" for i in range(16)))
    states, gradients = [], []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        encoder = create_encoder(
            "vit-ae",
            {"grid": GRID, "latents": 8, "patch": 6, "depth": 1, "heads": 2, "mask": "all"},
        )
        settings = TrainSettings(epochs=1, batch=8, accumulate=accumulate)
        split = Split(tuple(range(8)), (8, 9))
        loop = Loop(encoder, images, split, settings, torch.device("cpu"))
        loop.run()
        states.append(encoder.state())
        gradients.append({name: p.grad for name, p in loop.network.named_parameters()})
    assert states[0].keys() >= gradients[0].keys()
    biggest = max(one.abs().max() for one in gradients[0].values() if one is not None)
    for name, one in gradients[0].items():
        if one is None:
            assert gradients[1][name] is None
            continue
        torch.testing.assert_close(one, gradients[1][name], atol=1e-6 * biggest, rtol=1e-4)
        # a step divides by the size of the gradient: by rounding, where that is all there is
        clear = one.abs() > 1e-3 * biggest
        first, second = (state[name][clear] for state in states)
        torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-4)


def test_early_stopping_and_the_best_checkpoints(images, tmp_path, monkeypatch):
    losses = [5.0, 3.0, 4.0, 2.0, 2.5, 2.25, 1.0]
    judge = Loop._judge

    def scripted(self):
        return judge(self) | {"validation_loss": losses[self.progress.epoch]}

    monkeypatch.setattr(Loop, "_judge", scripted)
    train = {**TRAIN, "epochs": 7, "stop_after": 2, "keep": 3}
    fitted = fit("udip", images, out=tmp_path, settings=TINY, train=train, device="cpu")
    assert [row["validation_loss"] for row in fitted.history] == losses[:6]
    kept = sorted(int(p.name.split("-")[1]) for p in (tmp_path / "checkpoints").iterdir())
    assert kept == [4, 5, 6]
    best = load_encoder(tmp_path / "checkpoints/epoch-0004").encoder
    np.testing.assert_array_equal(best.encode(images.values), fitted.encoder.encode(images.values))
    assert load_encoder(tmp_path).about["best_epoch"] == 4


def test_a_loss_that_is_not_finite_stops_the_run(images, tmp_path, monkeypatch):
    from imgwas.encoders.autoencoders import Autoencoder

    whole = Autoencoder.losses

    def broken(self, outputs, batch: Batch):
        terms = whole(self, outputs, batch)
        terms["error"].total.mul_(float("nan"))
        return terms

    monkeypatch.setattr(Autoencoder, "losses", broken)
    with pytest.raises(DegenerateError, match=r"not a finite number in epoch 1, step 1.*clip=1"):
        fit("udip", images, out=tmp_path, settings=TINY, train=TRAIN, device="cpu")


def test_the_ledger_remembers_pretraining(images, tmp_path):
    from imgwas.images.volumes import SubsetImages

    first, second = SubsetImages(images, range(16)), SubsetImages(images, range(16, 32))
    start = fit("udip", first, out=tmp_path / "a", settings=TINY, train=TRAIN, device="cpu")
    tuned = fit(start.encoder, second, out=tmp_path / "b", train=TRAIN, device="cpu",
                seen=Run(tmp_path / "a").people_seen())  # fmt: skip
    assert set(Run(tmp_path / "b").people_seen()) == set(images.sample_ids)
    assert tuned.encoder.settings.width == 2
    fresh = fit("udip", second, out=tmp_path / "c", settings=TINY, train=TRAIN, device="cpu")
    assert tuned.history[0]["train_loss"] < fresh.history[0]["train_loss"]


def test_nothing_that_leaves_the_house_names_a_person(images, tmp_path):
    fit("udip", images, out=tmp_path, settings=TINY, train=TRAIN, device="cpu")
    for path in tmp_path.rglob("*"):
        if path.is_file() and "private" not in path.parts:
            content = path.read_bytes()
            assert not any(one.encode() in content for one in images.sample_ids), path
    assert (tmp_path / "private/.gitignore").read_text() == "*\n"
    assert (tmp_path / "private/people_seen.tsv").stat().st_mode & 0o077 == 0


def test_splits_keep_groups_together_and_do_not_depend_on_order():
    ids = [f"p{i}" for i in range(60)]
    families = [f"f{i // 3}" for i in range(60)]
    split = split_people(ids, groups=families, seed=4)
    assert {families[i] for i in split.train}.isdisjoint(families[i] for i in split.validation)
    assert len(split.validation) == 15
    turned = split_people(ids[::-1], groups=families[::-1], seed=4)
    assert {ids[i] for i in split.train} == {ids[::-1][i] for i in turned.train}
    folds = fold_people(ids, 4, groups=families)
    assert sorted(i for f in folds for i in f.validation) == list(range(60))
    for fold in folds:
        assert {families[i] for i in fold.train}.isdisjoint(families[i] for i in fold.validation)
    named = split_people(ids, groups=families, held_out=["p0"])
    assert named.validation == (0, 1, 2)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"train": {"epochs": 0}}, UsageError, "epochs is 0. At least 1"),
        ({"train": {"learning_rate": -1}}, UsageError, "learning_rate is -1"),
        ({"train": {"ema": 1}}, UsageError, "From 0 to below 1"),
        ({"train": {"clip": 0}}, UsageError, "Above 0, or none"),
        ({"train": {"precision": "fp8"}}, UsageError, "one of fp32, bf16, fp16"),
        ({"train": {"epoch": 3}}, UsageError, "Did you mean epochs"),
        ({"settings": {"grid": "9,9,9"}}, InconsistentError, "The images have 12x14x12"),
        ({"device": "cuda"}, DeviceError, "the device cuda is not here"),
        ({"device": "gpu"}, DeviceError, "there is no device 'gpu'"),
        ({"encoder": "morphometry"}, UsageError, "morphometry is trained on rows of a table"),
        ({"encoder": "cnn"}, UsageError, "Give --targets FILE --target COLUMN"),
    ],
)
def test_mistakes_are_explained(images, tmp_path, change, error, words):
    given = {"encoder": "udip", "settings": TINY, "train": TRAIN, "device": "cpu", **change}
    if given["encoder"] != "udip":
        given["settings"] = {}
    if "cuda" in str(change) and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(error) as raised:
        fit(given.pop("encoder"), images, out=tmp_path, **given)
    assert words in str(raised.value)


def test_bf16_stays_near_fp32(images, tmp_path):
    half = fit("udip", images, out=tmp_path, settings=TINY, device="cpu",
               train={**TRAIN, "precision": "bf16"})  # fmt: skip
    full = fit("udip", images, out=tmp_path / "f", settings=TINY, device="cpu", train=TRAIN)
    for a, b in zip(half.history, full.history, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=0.1)


def test_a_shifted_background_leaves_no_mask(images, tmp_path, monkeypatch):
    recipe = [{"step": "zscore", "background": "shift"}]
    monkeypatch.setattr(ArrayImages, "fingerprint", lambda self: {"n": len(self), "recipe": recipe})
    with pytest.raises(UsageError, match=r"cannot tell brain from background"):
        fit("udip", images, out=Path(tmp_path), settings=TINY, train=TRAIN, device="cpu")

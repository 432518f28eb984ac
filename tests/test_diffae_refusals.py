"""What the diffusion autoencoder refuses, each with what was found and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import load_encoder, save_encoder
from imgwas.encoders.convert import convert_weights
from imgwas.encoders.diffusion_loop import DiffusionLoop
from imgwas.encoders.fitting import fit
from imgwas.encoders.runs import Run
from imgwas.encoders.splits import split_people
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import DegenerateError, InconsistentError, MalformedError, UsageError
from imgwas.images.volumes import ArrayImages
from tests.cli_cohort import imgwas
from tests.test_diffae import GRID, TINY, TRAIN, published, shaken


def raw(n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).random((n, *GRID)).astype(np.float32)


def cohort(n: int = 8) -> ArrayImages:
    return ArrayImages(raw(n), tuple(f"p{i}" for i in range(n)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"render_steps": 30}, r"30 steps do not divide a schedule of 100 times.*10, 20, 25, 50"),
        ({"invert_steps": 5}, r"5 steps do not divide a schedule of 100 times.*10, 20, 25, 50"),
        ({"times": 1000, "render_steps": 300}, r"300 steps .* 1000 times.*200, 250, 500, 1000"),
        ({"times": 20}, r"the number of times is 20.*from 50 to 100000"),
        ({"grid": (8, 8)}, r"the grid is 8x8.*\(x, y, frames\) or \(x, y, 1, frames\) of a cine"),
        ({"grid": (8, 8, 4, 6)}, r"the grid is 8x8x4x6.*Choose one slice of a stack"),
        ({"multipliers": (1, 1, 2, 3, 4)}, r"5 multipliers halve 8 voxels 4 times.*At most 4 lev"),
        ({"encoder_multipliers": (1,) * 6}, r"6 encoder_multipliers halve 8 .*=1,1,1,1"),
        ({"time_shift": 0}, r"time_shift is 0.*0.01 to 100: 1 is uniform, 3 mostly late"),
        ({"time_shift": 1000.0}, r"time_shift is 1000.*0.01 to 100"),
        ({"multipliers": ()}, r"multipliers is \(\).*Whole numbers above 0"),
        ({"multipliers": (1, 0)}, r"multipliers is \(1, 0\).*Whole numbers above 0"),
    ],
)
def test_networks_that_cannot_be_built(tmp_path, given, message):
    settings = {"grid": GRID} | TINY | given
    with pytest.raises(UsageError, match=message):
        create_encoder("diffae", settings).skeleton()
    if "grid" not in given:
        with pytest.raises(UsageError, match=message):
            fit("diffae", cohort(), out=tmp_path / "run", settings=settings, train=TRAIN)
        assert not (tmp_path / "run").exists(), "nothing was written"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"guesses": 0}, r"guesses is 0.*from 1"),
        ({"dropout": 1.5}, r"dropout is 1.5"),
        ({"halve": "time"}, r"halve is 'time'.*plane, volume"),
        ({"pool": "max"}, r"pool is 'max'.*mean, places"),
        ({"time_shift": float("nan")}, r"time_shift is nan"),
        ({"step": 3}, r"no setting 'step'"),
    ],
)
def test_settings_out_of_range(given, message):
    with pytest.raises(UsageError, match=message):
        create_encoder("diffae", given)


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_shares_of_an_epoch(share):
    with pytest.raises(UsageError, match=r"epoch_share is .*Above 0, at most 1"):
        TrainSettings(epoch_share=share)


def test_pictures_that_do_not_belong_together():
    made = shaken()
    codes, noise = made.encode(raw()), made.invert(raw())
    with pytest.raises(InconsistentError, match=r"grid 8x8x4 were given.*made for 8x8x8"):
        made.invert(raw()[..., :4])
    with pytest.raises(
        InconsistentError, match=r"latents of shape \(2, 3\) and noise of shape \(1"
    ):
        made.render(codes, noise[:1])
    with pytest.raises(
        InconsistentError, match=r"noise of shape \(2, 8, 8, 4\).*comes from invert"
    ):
        made.render(codes, noise[..., :4])
    with pytest.raises(InconsistentError, match=r"latents of shape \(2, 2\)"):
        made.render(codes[:, :2], noise)
    for paint in (lambda: made.render(codes, noise, steps=7), lambda: made.invert(raw(), steps=7)):
        with pytest.raises(UsageError, match=r"7 steps do not divide"):
            paint()
    with pytest.raises(DegenerateError, match=r"1 of 1 images are blank"):
        made.invert(np.ones((1, *GRID), np.float32))


def test_moves_that_lead_nowhere():
    made = shaken()
    with pytest.raises(InconsistentError, match=r"does not know the scale.*set_latent_scale"):
        made.manipulate(raw(), np.ones(3), [1.0])
    with pytest.raises(DegenerateError, match=r"1 people have latents"):
        made.set_latent_scale(np.zeros((1, 3)))
    with pytest.raises(DegenerateError, match=r"some are not finite"):
        made.set_latent_scale(np.full((4, 3), np.nan))
    with pytest.raises(InconsistentError, match=r"latents of shape \(4, 2\).*\(people, 3\)"):
        made.set_latent_scale(np.zeros((4, 2)))
    made.set_latent_scale(np.random.default_rng(0).standard_normal((9, 3)))
    with pytest.raises(InconsistentError, match=r"shape \(2,\).*each of 3 latents"):
        made.manipulate(raw(), np.ones(2), [1.0])
    for direction, amount in ((np.zeros(3), 1.0), (np.full(3, np.inf), 1.0), (np.ones(3), np.nan)):
        with pytest.raises(DegenerateError, match=r"zero everywhere or not finite"):
            made.manipulate(raw(), direction, [amount])
    made.set_latent_scale(np.ones((9, 3)))
    with pytest.raises(DegenerateError, match=r"do not differ along the direction"):
        made.manipulate(raw(), np.ones(3), [1.0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_no_number(precision):
    made = shaken()
    with torch.no_grad():
        made.network.unet.out[2].bias.fill_(float("nan"))
    loop = DiffusionLoop(made, cohort(), split_people(cohort().sample_ids),
                         TrainSettings(batch=2, precision=precision),
                         torch.device("cpu"))  # fmt: skip
    with pytest.raises(DegenerateError, match=r"not a finite number in epoch 1, step 1.*clip=1"):
        loop.run()


def test_averaged_weights_that_are_missing(tmp_path, caplog):
    """In a state to resume from, in a run without them, and in a published checkpoint."""
    options = {"settings": TINY, "device": "cpu"}
    with caplog.at_level("WARNING"):
        fit("diffae", cohort(), out=tmp_path / "run", train=TRAIN | {"ema": 0}, **options)
    assert "ema=0  the last weights are judged" in caplog.text
    made = create_encoder("diffae", TINY | {"grid": GRID})
    loop = DiffusionLoop(made, cohort(), split_people(cohort().sample_ids),
                         TrainSettings(batch=2, ema=0.999), torch.device("cpu"))  # fmt: skip
    with pytest.raises(MalformedError, match=r"saved without averaged weights.*Remove it"):
        Run(tmp_path / "run").resume(loop)
    state = published(shaken(), "net.")
    torch.save({"state_dict": state}, tmp_path / "m.ckpt")
    given = {"encoder": "diffae", "grid": GRID} | TINY
    with pytest.raises(InconsistentError, match=r"no averaged weights.*begin with ema_net\..*enco"):
        convert_weights(tmp_path / "m.ckpt", tmp_path / "o", origin="imlatent", settings=given)


def test_weights_of_others(tmp_path):
    given = {"encoder": "diffae", "grid": GRID} | TINY
    state = published(shaken())
    state["ema_net.out.9.weight"] = torch.ones(2)
    del state["ema_net.out.2.bias"]
    torch.save({"state_dict": state}, tmp_path / "m.ckpt")
    with pytest.raises(InconsistentError, match=r"1 missing \(unet.out.2.bias\); 1 unknown \(unet"):
        convert_weights(tmp_path / "m.ckpt", tmp_path / "o", origin="imlatent", settings=given)
    torch.save({"state_dict": published(shaken({"base": 8}))}, tmp_path / "wide.ckpt")
    with pytest.raises(InconsistentError, match=r"of other shape"):
        convert_weights(tmp_path / "wide.ckpt", tmp_path / "o", origin="imlatent", settings=given)
    with pytest.raises(UsageError, match=r"do not fit udip.*diffae-encoder"):
        convert_weights(tmp_path / "m.ckpt", tmp_path / "o", origin="imlatent",
                        settings={"encoder": "udip"})  # fmt: skip
    # a folder whose settings and weights are of two networks
    save_encoder(tmp_path / "a", shaken())
    save_encoder(tmp_path / "b", shaken({"base": 8}))
    (tmp_path / "a/encoder.safetensors").write_bytes(
        (tmp_path / "b/encoder.safetensors").read_bytes()
    )
    with pytest.raises(InconsistentError, match=r"is not the file that encoder.json describes"):
        load_encoder(tmp_path / "a")


def test_an_encoder_from_elsewhere_is_no_start(tmp_path):
    start = shaken({"base": 8})
    with pytest.raises(InconsistentError, match=r"set to a grid of 8x8x8.*have 8x8x4"):
        fit(start, ArrayImages(raw(4)[..., :4], ("a", "b", "c", "d")), out=tmp_path, train=TRAIN)


def test_the_command_line_says_it_in_one_line(tmp_path):
    done = imgwas("encoders", "diffae", "--set", "grid=8,8,8", "--set", "render_steps=30",
                  folder=tmp_path)  # fmt: skip
    assert done.code == 8, done.text
    assert "halve 8 voxels" in done.text
    done = imgwas("encoders", "diffae", "--set", "grid=128,128,50", folder=tmp_path)
    assert done.code == 0
    assert "20,837,473" in done.text

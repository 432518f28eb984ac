"""Published weights: the names of UDIP's checkpoints, and what must not be read."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.convert import (
    MNI_1MM,
    convert_weights,
    read_tensors,
    rename,
    strip_prefixes,
    udip_names,
)
from imgwas.encoders.runs import Run
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    OpenError,
    RefusedError,
    UsageError,
)

pytestmark = pytest.mark.usefixtures("one_thread")

GRID = (10, 12, 11)
SETTINGS = {"grid": GRID, "latents": 5, "width": 2}
ORDER = ("first", "second", "third", "fourth")


class Published(nn.Module):
    """UDIP's network written with the published names, at any even chain of grids.

    Written from the published description, not from our network: the test compares two
    independent forward passes.
    """

    def __init__(self, pads: list[tuple[int, ...]], bottom: tuple[int, ...], width: int, k: int):
        super().__init__()
        w = [width * 2**i for i in range(5)]
        self.bottom = (w[4], *bottom)
        size = int(np.prod(self.bottom))
        self.pads = pads
        self.first_cnn = self.block(1, w[0])
        self.encoding_mlp = nn.Linear(size, k)
        self.decoding_mlp = nn.Linear(k, size)
        for i, name in enumerate(ORDER):
            setattr(self, f"{name}_encoder", self.block(w[i], w[i + 1]))
            setattr(self, f"{name}_decoder", self.block(w[4 - i], w[3 - i]))
            back = nn.ConvTranspose3d(w[3 - i], w[3 - i], 2, 2, pads[3 - i])
            setattr(self, f"{name}_transconv", back)
        self.last_cnn = nn.Sequential(*self.block(w[0], w[0]), nn.Conv3d(w[0], 1, 1))

    @staticmethod
    def block(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv3d(n_in, n_out, 3, padding=1), nn.BatchNorm3d(n_out), nn.LeakyReLU(),
            nn.Conv3d(n_out, n_out, 3, padding=1), nn.BatchNorm3d(n_out), nn.LeakyReLU(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.first_cnn(x)
        for name, pad in zip(ORDER, self.pads, strict=True):
            x = nn.functional.max_pool3d(x, 2, 2, pad)
            x = getattr(self, f"{name}_encoder")(x)
        latents = self.encoding_mlp(torch.flatten(x, 1))
        x = self.decoding_mlp(latents).view(-1, *self.bottom)
        for name in ORDER:
            x = getattr(self, f"{name}_transconv")(getattr(self, f"{name}_decoder")(x))
        return self.last_cnn(x), latents


#: a grid whose every half is even, so that the published layers (without output padding) fit
EVEN = (30, 46, 44)


def published(width: int = 2, k: int = 5) -> Published:
    """The published network at a grid that its own paddings bring back whole."""
    torch.manual_seed(3)
    grid, pads = EVEN, []
    for _ in range(4):
        step = tuple(int(n % 2 == 1 or (n // 2) % 2 == 1) for n in grid)
        pads.append(step)
        grid = tuple(n // 2 + p for n, p in zip(grid, step, strict=True))
    network = Published(pads, grid, width, k)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    return network.eval()


@pytest.mark.parametrize(
    ("prefix", "wrapped"),
    [("", "state_dict"), ("model.", "state_dict"), ("module._orig_mod.", "model_state_dict"),
     ("model.module.", "model"), ("", None)],
)  # fmt: skip
def test_published_names_give_the_same_latents_and_reconstructions(tmp_path, prefix, wrapped):
    network = published()
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    content = state if wrapped is None else {
        wrapped: state, "epoch": 97, "global_step": 12_416, "pytorch-lightning_version": "1.4.9",
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.zeros(3)}}}],
        "lr_schedulers": [{"best": 0.25}], "hyper_parameters": {"lr": 0.0005248},
    }  # fmt: skip
    torch.save(content, tmp_path / "T1.ckpt")
    settings = {"grid": EVEN, "latents": 5, "width": 2}
    convert_weights(tmp_path / "T1.ckpt", tmp_path / "out", origin="udip", settings=settings)
    encoder = load_encoder(tmp_path / "out").encoder
    x = torch.randn(3, 1, *EVEN)
    with torch.inference_mode():
        image, latents = network(x)
        mine = encoder.latents_of(encoder.network, x)
        back = encoder.network.decode(mine)
    torch.testing.assert_close(mine, latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back, image, rtol=1e-5, atol=1e-5)
    assert float(latents.std()) > 0.01
    about = load_encoder(tmp_path / "out").about["converted_from"]
    assert about["file"] == "T1.ckpt"
    assert len(about["sha256"]) == 64
    assert Run(tmp_path / "out").people_seen() is None


def test_the_published_size_has_the_published_names_and_lattice():
    encoder = create_encoder("udip", {"grid": (182, 218, 182)})
    with torch.device("meta"):
        theirs = Published([(1, 1, 1), (0, 1, 0), (1, 0, 1), (0, 0, 0)], (12, 14, 12), 16, 128)
    renamed = rename(theirs.state_dict(), udip_names())
    wanted = encoder.skeleton().state_dict()
    assert {n: t.shape for n, t in renamed.items()} == {n: t.shape for n, t in wanted.items()}
    assert sum(p.numel() for p in theirs.parameters()) == 138_124_497


def test_the_place_of_the_published_images_is_kept():
    """Images in RAS are mirrored to what UDIP saw; encoding compares the lattices."""
    from imgwas.encoders.convert import _planned

    assert np.array_equal(_planned("udip", {}).affine, MNI_1MM)
    assert _planned("udip", {"grid": (91, 109, 91)}).affine is None


def small(tmp_path: Path, **change) -> Path:
    encoder = create_encoder("udip", {**SETTINGS, "levels": 1})
    state = encoder.state() | change
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "w.pt")
    return tmp_path / "w.pt"


def convert(path: Path, **more):
    settings = {**SETTINGS, "levels": 1} | more
    return convert_weights(path, path.parent / "out", origin="imgwas", settings=settings)


def test_our_own_names_pass_and_half_precision_becomes_single(tmp_path):
    encoder = create_encoder("udip", {**SETTINGS, "levels": 1})
    half = {n: t.half() if t.is_floating_point() else t for n, t in encoder.state().items()}
    torch.save(half, tmp_path / "w.pth")
    digest = convert(tmp_path / "w.pth")
    loaded = load_encoder(tmp_path / "out")
    assert loaded.digest == digest
    for name, tensor in loaded.encoder.state().items():
        if "num_batches" not in name:
            torch.testing.assert_close(tensor, half[name].float(), rtol=0, atol=0)


def test_missing_unknown_and_misshapen_weights_are_listed(tmp_path):
    path = small(
        tmp_path, **{"to_latent.bias": None, "head.weight": torch.ones(2),
                     "last.1.bias": torch.ones(7)}
    )  # fmt: skip
    with pytest.raises(InconsistentError) as error:
        convert(path)
    text = str(error.value)
    assert "1 missing (to_latent.bias)" in text
    assert "1 unknown (head.weight)" in text
    assert "1 of other shape (last.1.bias (7,) for (1,))" in text
    assert not (tmp_path / "out").exists()


def test_weights_of_another_size_are_refused(tmp_path):
    with pytest.raises(InconsistentError, match=r"of other shape.*grid, latents, width"):
        convert(small(tmp_path), latents=6)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, zipped):
    path = tmp_path / "bad.ckpt"
    content = {"state_dict": {"first_cnn.0.weight": torch.zeros(2)}, "x": Bomb(tmp_path / "owned")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RefusedError, match=r"more than tensors.*run code.*state_dict"):
        convert_weights(path, tmp_path / "out", origin="udip", settings=SETTINGS)
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out").exists()
    torch.load(path, weights_only=False)  # the trap is armed: an ordinary load springs it
    assert (tmp_path / "owned").exists()


def test_a_plain_pickle_is_refused(tmp_path):
    path = tmp_path / "bad.pt"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "owned")))
    with pytest.raises((RefusedError, MalformedError)):
        read_tensors(path)
    assert not (tmp_path / "owned").exists()


def test_callbacks_of_old_lightning_are_read_without_lightning(tmp_path, monkeypatch):
    """Lightning 1.4 stored callbacks under their classes, which weights-only loading refuses."""
    import sys
    import types

    names = ["pytorch_lightning", "pytorch_lightning.callbacks",
             "pytorch_lightning.callbacks.model_checkpoint"]  # fmt: skip
    with monkeypatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        cls = type("ModelCheckpoint", (), {"__module__": names[-1]})
        sys.modules[names[-1]].ModelCheckpoint = cls
        state = {"w": torch.arange(3.0)}
        content = {"state_dict": state, "callbacks": {cls: {"best_model_score": torch.ones(())}}}
        torch.save(content, tmp_path / "T1.ckpt")
    assert "pytorch_lightning" not in sys.modules
    assert read_tensors(tmp_path / "T1.ckpt")["w"].tolist() == [0, 1, 2]
    assert not any("lightning" in str(one) for one in torch.serialization.get_safe_globals())


def test_a_view_that_claims_gigabytes_is_refused(tmp_path):
    path = tmp_path / "view.pt"
    torch.save({"w": torch.zeros(1).expand(2_000_000_000)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(MalformedError, match=r"claims 8,000,000,000 of weights"):
        read_tensors(path)


def test_a_zip_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(40_000_000))
    with pytest.raises(MalformedError, match=r"unpacks to 40,000,"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "no checkpoint"), (b"\x93NUMPY not weights", "no checkpoint"),
     (b"PK\x03\x04 cut short", "damaged"), (b"\x80\x02", "damaged|more than")],
)  # fmt: skip
def test_what_is_no_checkpoint_is_named(tmp_path, content, what):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises((MalformedError, RefusedError), match=what):
        read_tensors(tmp_path / "x.pt")


def test_a_cut_checkpoint_is_damaged(tmp_path):
    path = small(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MalformedError, match="damaged"):
        convert(path)


@pytest.mark.parametrize(
    ("tensors", "error", "what"),
    [
        ({}, MalformedError, "holds no tensor"),
        ({"epoch": 3}, MalformedError, r"holds no tensor. keys: epoch"),
        ({"w": torch.tensor([1.0, float("nan")])}, DegenerateError, "not finite"),
        ({"w": torch.zeros(3, dtype=torch.complex64)}, MalformedError, "complex"),
        ({"w": torch.eye(3).to_sparse()}, MalformedError, "sparse"),
    ],
)
def test_strange_tensors_are_refused(tmp_path, tensors, error, what):
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(error, match=what):
        read_tensors(tmp_path / "w.pt")


def test_a_list_is_no_dictionary_of_tensors(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(MalformedError, match="no dictionary"):
        read_tensors(tmp_path / "w.pt")


def test_a_folder_with_one_checkpoint_is_enough(tmp_path):
    (tmp_path / "deep").mkdir()
    path = small(tmp_path / "deep")
    settings = {**SETTINGS, "levels": 1}
    convert_weights(tmp_path, tmp_path / "out", origin="imgwas", settings=settings)
    (tmp_path / "second.ckpt").write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=r"2 checkpoints.*second.ckpt, w.pt|Name one"):
        convert_weights(tmp_path, tmp_path / "out", origin="imgwas", settings=settings)


@pytest.mark.parametrize(
    ("origin", "settings", "what"),
    [("udpi", {}, "origin is 'udpi'"), ("imgwas", {"encoder": "pca"}, "no weights"),
     ("imgwas", {}, "grid of udip is not known"), ("imgwas", {"encoder": "udp"}, "udip")],
)  # fmt: skip
def test_settings_are_checked_before_the_file(tmp_path, origin, settings, what):
    path = small(tmp_path)
    with pytest.raises(UsageError, match=what):
        convert_weights(path, tmp_path / "out", origin=origin, settings=settings)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(OpenError, match=r"T1.ckpt does not exist"):
        convert_weights(tmp_path / "T1.ckpt", tmp_path / "out", origin="udip")


def test_a_prefix_that_not_all_names_have_stays():
    state = {"model.a": torch.zeros(1), "b": torch.zeros(1)}
    assert set(strip_prefixes(state)) == set(state)
    assert set(strip_prefixes({"module.model.a": torch.zeros(1)})) == {"a"}


def test_two_tensors_of_one_name_are_refused():
    with pytest.raises(InconsistentError, match=r"two tensors map to down.0.weight"):
        rename({"down.0.weight": torch.zeros(1), "first_cnn.weight": torch.zeros(1)}, udip_names())


def test_images_in_ras_are_refused_by_converted_weights(tmp_path):
    """Left and right of the published images run as FSL stores them."""
    from imgwas.encoders.encoding import encode_images
    from imgwas.images.space import Space
    from imgwas.images.volumes import ArrayImages

    assert Space((182, 218, 182), np.array(MNI_1MM, float)).axes == "LAS"
    encoder = create_encoder("udip", {**SETTINGS, "levels": 1}, affine=np.array(MNI_1MM, float))
    values = np.random.default_rng(0).uniform(1, 2, (2, *GRID)).astype(np.float32)
    ras = np.array(MNI_1MM, float)
    ras[0] = (1, 0, 0, -91)
    with pytest.raises(InconsistentError, match="181 mm from where"):
        encode_images(ArrayImages(values, ("a", "b"), ras), encoder, tmp_path / "l.parquet",
                      digest="x")  # fmt: skip
    las = ArrayImages(values, ("a", "b"), np.array(MNI_1MM, float))
    assert encode_images(las, encoder, tmp_path / "l.parquet", digest="x").n_samples == 2

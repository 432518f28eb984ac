"""The cardiac semantic encoder: against a plain reading of its weights, from published names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import load_encoder
from imgwas.encoders.convert import convert_weights
from imgwas.encoders.fitting import fit
from imgwas.errors import InconsistentError, UsageError
from imgwas.images.volumes import ArrayImages

SETTINGS = {"grid": (64, 32, 3), "latents": 5, "base": 4}


def encoder():
    torch.manual_seed(0)
    made = create_encoder("diffae-encoder", SETTINGS)
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def cines(n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).random((n, 64, 32, 3)).astype(np.float32)


def reference(state: dict[str, torch.Tensor], cine: torch.Tensor) -> torch.Tensor:
    """Read the network off the names of its weights, one plain operation after the other."""

    def norm(x, name):
        groups = {4: 2, 8: 4, 12: 2, 16: 4}[x.shape[1]]
        return functional.group_norm(x, groups, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(x, name):
        weight = state[f"{name}.weight"]
        pad = 1 if weight.shape[-1] == 3 else 0
        return functional.conv3d(x, weight, state[f"{name}.bias"], padding=pad)

    def block(x, name, halve):
        inner = functional.silu(norm(x, f"{name}.in_layers.0"))
        if halve:
            n, c, t, a, b = inner.shape
            inner, x = (v.reshape(n, c, t, a // 2, 2, b // 2, 2).mean((4, 6)) for v in (inner, x))
        inner = conv(inner, f"{name}.in_layers.2")
        has_skip = f"{name}.skip_connection.weight" in state
        return inner + (conv(x, f"{name}.skip_connection") if has_skip else x)

    def attend(x, name):
        flat = x.flatten(2)
        n = flat.shape[1]
        weight, bias = state[f"{name}.qkv.weight"][..., 0], state[f"{name}.qkv.bias"]
        q, k, v = (weight @ norm(flat, f"{name}.norm") + bias[:, None]).split(n, dim=1)
        share = torch.softmax(q.transpose(1, 2) @ k / n**0.5, dim=-1)
        mixed = (share @ v.transpose(1, 2)).transpose(1, 2)
        out = state[f"{name}.proj_out.weight"][..., 0] @ mixed
        return x + (out + state[f"{name}.proj_out.bias"][:, None]).reshape(x.shape)

    x = conv(cine, "input_blocks.0.0")
    number = 1
    for level in range(6):
        for _ in range(2):
            x = block(x, f"input_blocks.{number}.0", halve=False)
            if level == 3:
                x = attend(x, f"input_blocks.{number}.1")
            number += 1
        if level < 5:
            x = block(x, f"input_blocks.{number}.0", halve=True)
            number += 1
    x = block(x, "middle_block.0", halve=False)
    x = attend(x, "middle_block.1")
    x = block(x, "middle_block.2", halve=False)
    pooled = functional.silu(norm(x, "out.0")).mean((2, 3, 4), keepdim=True)
    return conv(pooled, "out.3").flatten(1)


def test_latents_are_those_of_a_plain_reading_of_the_weights():
    made, images = encoder(), cines()
    low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
    scaled = 2 * (images - low) / (high - low) - 1
    frames_first = torch.from_numpy(scaled).permute(0, 3, 1, 2)[:, None]
    expected = reference(made.state(), frames_first)
    np.testing.assert_allclose(made.encode(images), expected.numpy(), atol=2e-5)
    with_slices = create_encoder("diffae-encoder", SETTINGS | {"grid": (64, 32, 1, 3)})
    with_slices.load_state(made.state())
    np.testing.assert_allclose(
        with_slices.encode(images[:, :, :, None]), made.encode(images), atol=1e-5
    )


@pytest.mark.parametrize("prefix", ["ema_net.encoder.", "net.encoder."])
def test_published_names_give_the_same_latents(tmp_path, prefix):
    """A Lightning checkpoint with a decoder beside the encoder, in a folder."""
    made = encoder()
    state = {f"{prefix}{name}": tensor for name, tensor in made.state().items()}
    state |= {"net.decoder.weight": torch.ones(3), "x_T": torch.ones(2, 2)}
    if prefix.startswith("ema"):  # the averaged weights win over the others
        state |= {f"net.encoder.{n}": torch.zeros_like(t) for n, t in made.state().items()}
    (tmp_path / "best").mkdir()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "best/model.ckpt")
    convert_weights(tmp_path / "best", tmp_path / "ours", origin="imlatent", settings=SETTINGS)
    loaded = load_encoder(tmp_path / "ours").encoder
    np.testing.assert_array_equal(loaded.encode(cines()), made.encode(cines()))


def test_what_is_no_cardiac_checkpoint(tmp_path):
    torch.save({"state_dict": {"a.b": torch.ones(2)}}, tmp_path / "m.ckpt")
    with pytest.raises(InconsistentError, match=r"holds no semantic encoder.*found a.b"):
        convert_weights(tmp_path / "m.ckpt", tmp_path / "ours", origin="imlatent")
    with pytest.raises(UsageError, match=r"\(x, y, frames\) or \(x, y, 1, frames\)"):
        create_encoder("diffae-encoder", {"grid": (64, 64, 2, 3)}).network  # noqa: B018
    with pytest.raises(UsageError, match=r"Multiples of 32 are needed"):
        create_encoder("diffae-encoder", {"grid": (60, 64, 3)}).network  # noqa: B018


def test_it_is_not_trained_without_its_decoder(tmp_path):
    images = ArrayImages(cines(8), tuple(f"p{i}" for i in range(8)))
    with pytest.raises(UsageError, match=r"cannot be trained without its diffusion decoder"):
        fit("diffae-encoder", images, out=tmp_path, settings={"latents": 3, "base": 4},
            train={"epochs": 1, "batch": 2}, device="cpu")  # fmt: skip

"""Published weights: the names of their tensors mapped onto ours, read without running code.

``torch.load(weights_only=True)`` is the only way in, and nothing is retried without it. What comes
out is compared with the network name by name and shape by shape, sizes are checked against the
bytes of the file, and the result is written as safetensors.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from imgwas.encoders.base import NeuralEncoder
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import compare_state, save_encoder
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    OpenError,
    RefusedError,
    UsageError,
    explain,
)
from imgwas.files import sha256_of

logger = logging.getLogger(__name__)

#: Prefixes that training frameworks put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")


def udip_names() -> list[tuple[str, str]]:
    """Patterns that turn the names of UDIP's checkpoints into ours.

    Theirs are ``first_cnn``, ``first_encoder`` to ``fourth_encoder``, ``encoding_mlp``,
    ``decoding_mlp``, ``first_decoder`` and ``first_transconv`` to ``fourth_...``, ``last_cnn``.
    """
    rules = [
        (r"first_cnn\.", "down.0."),
        (r"encoding_mlp\.", "to_latent."),
        (r"decoding_mlp\.", "from_latent."),
        (r"last_cnn\.6\.", "last.1."),
        (r"last_cnn\.", "last.0."),
    ]
    for i, number in enumerate(("first", "second", "third", "fourth")):
        rules.append((rf"{number}_encoder\.", f"down.{2 * i + 2}."))
        rules.append((rf"{number}_decoder\.", f"up.{2 * i}."))
        rules.append((rf"{number}_transconv\.", f"up.{2 * i + 1}."))
    return rules


def convert_weights(
    path: str | Path, out: str | Path, *, origin: str, settings: Mapping[str, Any] | None = None
) -> str:
    """Turn a published checkpoint into an encoder folder of ours.

    Parameters
    ----------
    path : path
        ``.ckpt``, ``.pt`` or ``.pth``, or a folder that holds one.
    out : path
        Folder to write ``encoder.json`` and ``encoder.safetensors`` to.
    origin : {"udip", "imgwas"}
        Whose names the tensors have.
    settings : mapping, optional
        Settings of the encoder where they differ from the published ones.

    Returns
    -------
    str
        SHA-256 of the weights written.

    Raises
    ------
    RefusedError
        If the file holds anything but tensors and plain values.
    InconsistentError
        If names or shapes do not fit, which are listed.
    """
    source = _find(Path(path).expanduser())
    state = strip_prefixes(read_tensors(source))
    if origin == "udip":
        encoder = create_encoder("udip", {"grid": (182, 218, 182), **(settings or {})})
        state = rename(state, udip_names())
    elif origin == "imgwas":
        given = dict(settings or {})
        encoder = create_encoder(str(given.pop("encoder", "udip")), given)
    else:
        raise UsageError(explain(f"origin is {origin!r}", expected="udip or imgwas"))
    assert isinstance(encoder, NeuralEncoder)
    wanted = encoder.skeleton().state_dict()
    state = {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}
    for name, tensor in wanted.items():
        if "num_batches_tracked" in name:
            state[name] = torch.zeros((), dtype=tensor.dtype)
    compare_state(wanted, state, str(source))
    encoder.load_state(state)
    return save_encoder(
        out, encoder, converted_from={"file": source.name, "sha256": sha256_of(source)}
    )


def _find(path: Path) -> Path:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in (".ckpt", ".pt", ".pth"))
        if len(found) != 1:
            raise UsageError(
                explain(f"{path} holds {len(found)} checkpoints",
                        where=", ".join(p.name for p in found[:3]), do="Name one of them")
            )  # fmt: skip
        return found[0]
    if not path.exists():
        raise OpenError(explain(f"{path} does not exist"))
    return path


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint without running anything in it.

    Raises
    ------
    RefusedError
        If reading it would have to run code.
    MalformedError
        If it is no checkpoint, or a tensor claims more than the file holds.
    DegenerateError
        If a weight is not finite.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = " ".join(str(error).split())
        if not any(word in text for word in ("weights_only", "Unsupported", "WeightsUnpickler")):
            raise MalformedError(explain(f"{path} is damaged ({text[:150]})")) from error
        culprit = re.search(r"GLOBAL [\w.]+", text)
        raise RefusedError(
            explain(
                f"{path} holds more than tensors and plain values"
                + (f" ({culprit.group(0)[:80]})" if culprit else ""),
                expected="Reading it would run code that somebody put there",
                do="Save the state_dict alone where you trust the file, then convert that",
            )
        ) from error
    tensors = _tensors_in(content, path)
    limit = 4 * path.stat().st_size + 1_000_000
    claimed = sum(t.numel() * t.element_size() for t in tensors.values())
    if claimed > limit:
        raise MalformedError(
            explain(f"{path} has {path.stat().st_size:,} bytes and claims {claimed:,} of weights",
                    do="Do not trust it")
        )  # fmt: skip
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        raise DegenerateError(explain(f"{path} holds weights that are not finite ({bad[0]})"))
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def _tensors_in(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Find the dictionary of tensors: the content itself or under the usual keys."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise MalformedError(explain(f"{path} holds no dictionary of tensors"))
    tensors = {str(name): t for name, t in content.items() if isinstance(t, torch.Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(content)[:5]))
        raise MalformedError(explain(f"{path} holds no tensor", where=f"keys: {keys}"))
    return tensors


def strip_prefixes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove what frameworks put before every name: ``module.``, ``_orig_mod.``, ``model.``."""
    names = dict(state)
    again = True
    while again:
        again = False
        for prefix in PREFIXES:
            if names and all(name.startswith(prefix) for name in names):
                names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
                again = True
    return names


def rename(
    state: Mapping[str, torch.Tensor], rules: list[tuple[str, str]]
) -> dict[str, torch.Tensor]:
    """Apply the first pattern that fits each name; a name that none fits stays.

    Raises
    ------
    InconsistentError
        If two tensors would get one name.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in rules:
            if re.match(pattern, name):
                new = re.sub(pattern, replacement, name, count=1)
                break
        if new in renamed:
            raise InconsistentError(explain(f"two tensors map to {new} (second: {name})"))
        renamed[new] = tensor
    return renamed

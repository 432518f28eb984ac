"""Published weights: the names of their tensors mapped onto ours, read without running code.

``torch.load(weights_only=True)`` is the only way in, and nothing is retried without it. What comes
out is compared with the network name by name and shape by shape, sizes are checked against the
bytes of the file, and the result is written as safetensors.
"""

from __future__ import annotations

import logging
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgwas.encoders.base import NeuralEncoder
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import compare_state, save_encoder
from imgwas.encoders.imlatent import cine_encoder_in, diffusion_autoencoder_in
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

#: Voxel to mm of the MNI152 template at 1 mm as FSL stores it, where UDIP's images lie: x runs from
#: right to left.
MNI_1MM = ((-1, 0, 0, 90), (0, 1, 0, -126), (0, 0, 1, -72), (0, 0, 0, 1))


class _Inert(dict[str, Any]):
    """Stands for a class of Lightning that a checkpoint names; it is never used."""


#: Classes that Lightning's checkpoints name beside the weights: as keys of the callbacks' states up
#: to 1.4 (UDIP's), or around the hyperparameters. Each becomes the inert one.
_STAND_INS: list[Any] = [
    (_Inert, f"{package}.{name}")
    for package in ("pytorch_lightning", "lightning.pytorch")
    for name in (
        "callbacks.model_checkpoint.ModelCheckpoint",
        "callbacks.early_stopping.EarlyStopping",
        "callbacks.lr_monitor.LearningRateMonitor",
        "utilities.parsing.AttributeDict",
    )
]
_COUNTER = "num_batches_tracked"
#: Begins the names of what imgwas measures of people's latents; 0 is not known.
LATENT_SCALE = "latent_"

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
    origin : {"udip", "imlatent", "imgwas"}
        Whose names the tensors have. Of ImLatent's diffusion autoencoder the semantic encoder is
        taken, or the whole with ``encoder=diffae`` among the settings, from the averaged weights
        where there are any.
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
    MalformedError
        If it is damaged, or claims more than its size.
    InconsistentError
        If names or shapes do not fit, which are listed.

    Notes
    -----
    UDIP's networks were trained on images in the voxel order of FSL's MNI152 template, left and
    right as stored (LAS). At 182 x 218 x 182 the encoder therefore expects that lattice, and images
    in RAS are refused: end the recipe with ``reorient`` and ``axes=LAS``.
    """
    source = _find(Path(path).expanduser())
    encoder = _planned(origin, dict(settings or {}))
    tensors = read_tensors(source)
    state = _ours(tensors, encoder, origin, source)
    wanted = encoder.skeleton().state_dict()
    state = {name: tensor for name, tensor in state.items() if _COUNTER not in name}
    for name, tensor in wanted.items():
        if _COUNTER in name or name.startswith(LATENT_SCALE):
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    compare_state(wanted, state, str(source))
    encoder.load_state(state)
    return save_encoder(
        out, encoder, converted_from={"file": source.name, "sha256": sha256_of(source)}
    )


def _ours(
    tensors: Mapping[str, torch.Tensor], encoder: NeuralEncoder, origin: str, source: Path
) -> dict[str, torch.Tensor]:
    """Give tensors our names."""
    if origin == "imlatent" and encoder.name == "diffae":
        return diffusion_autoencoder_in(tensors, source)
    if origin == "imlatent":
        return cine_encoder_in(tensors, source)
    state = strip_prefixes(tensors)
    return rename(state, udip_names()) if origin == "udip" else state


def _planned(origin: str, given: dict[str, Any]) -> NeuralEncoder:
    """Make the encoder that the weights are for."""
    if origin == "udip":
        given = {"grid": (182, 218, 182)} | given
        name = "udip"
    elif origin == "imlatent":
        given = {"grid": (128, 128, 50)} | given
        name = str(given.pop("encoder", "diffae-encoder"))
        if name not in ("diffae", "diffae-encoder"):
            raise UsageError(
                explain(f"ImLatent's weights do not fit {name}",
                        expected="encoder=diffae or encoder=diffae-encoder")
            )  # fmt: skip
    elif origin == "imgwas":
        name = str(given.pop("encoder", "udip"))
    else:
        raise UsageError(explain(f"origin is {origin!r}", expected="udip, imlatent or imgwas"))
    encoder = create_encoder(name, given)
    if not isinstance(encoder, NeuralEncoder):
        raise UsageError(explain(f"{name} has no weights to convert", do="Fit it to images"))
    if not encoder.grid:
        raise UsageError(explain(f"the grid of {name} is not known", do="--set grid=91,109,91"))
    if origin == "udip" and encoder.grid == (182, 218, 182):
        encoder.affine = np.asarray(MNI_1MM, np.float64)
    return encoder


def _find(path: Path) -> Path:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in (".ckpt", ".pt", ".pth"))
        if len(found) != 1:
            raise UsageError(
                explain(f"{path} holds {len(found)} checkpoints",
                        expected="One .ckpt, .pt or .pth",
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
    _check_container(path)
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be read ({error.strerror or error})")) from error
    except Exception as error:
        text = " ".join(str(error).split())
        if not any(word in text for word in ("weights_only", "Unsupported", "WeightsUnpickler")):
            raise MalformedError(
                explain(f"{path} is damaged ({text[:150]})", do="Copy or download it again")
            ) from error
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
    _check_tensors(tensors, path)
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def _check_container(path: Path) -> None:
    """Refuse what is no checkpoint, or would unpack to far more than its size."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
        if head[:2] == b"PK":
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(item.file_size for item in archive.infolist())
            if unpacked > _limit(size):
                raise MalformedError(
                    explain(f"{path} has {size:,} bytes and unpacks to {unpacked:,}",
                            do="Do not trust it")
                )  # fmt: skip
            with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
                damaged = archive.testzip()
            if damaged is not None:
                raise MalformedError(
                    explain(f"{path} is damaged: {damaged!a} does not match its checksum",
                            do="Copy or download it again")
                )  # fmt: skip
            return
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be read ({error.strerror or error})")) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(
            explain(f"{path} is damaged ({error})", do="Copy or download it again")
        ) from error
    if head[:1] != b"\x80":
        raise MalformedError(
            explain(
                f"{path} is no checkpoint of torch",
                expected="A file that torch.save wrote",
                where=f"it has {size:,} bytes and begins with {head[:4]!r}",
            )
        )


def _limit(size: int) -> int:
    """Bytes of weights that a file of some size may claim."""
    return 4 * size + 1_000_000


def _check_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse tensors that claim more than the file holds, of strange kinds, or not finite."""
    size = path.stat().st_size
    claimed = sum(t.numel() * t.element_size() for t in tensors.values())
    if claimed > _limit(size):
        raise MalformedError(
            explain(f"{path} has {size:,} bytes and claims {claimed:,} of weights",
                    do="Do not trust it")
        )  # fmt: skip
    strange = [
        name for name, t in tensors.items()
        if t.layout != torch.strided or t.is_quantized or t.is_complex() or t.device.type != "cpu"
    ]  # fmt: skip
    if strange:
        raise MalformedError(
            explain(
                f"{path} holds tensors that are sparse, quantised, complex or empty of values",
                where=f"first: {strange[0]}",
                expected="Plain numbers",
            )
        )
    bad = [n for n, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        raise DegenerateError(explain(f"{path} holds weights that are not finite ({bad[0]})"))


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

"""Encoders on disk: weights as safetensors, everything else as JSON, never a pickle.

A folder ``encoder.json`` + ``encoder.safetensors``. The JSON holds name, settings, space, recipe of
the images, digests and versions, and no id, path or value of a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgwas import settings as typed
from imgwas._version import __version__
from imgwas.encoders.base import Encoder
from imgwas.encoders.catalogue import ENCODERS
from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MalformedError,
    OpenError,
    UsageError,
    explain,
)
from imgwas.files import publish_bytes, publish_json, read_json

#: Raised when the meaning of the JSON changes.
FORMAT = 1
ABOUT, WEIGHTS = "encoder.json", "encoder.safetensors"
#: A header of safetensors or a JSON larger than this is no encoder.
MAX_HEADER = 10_000_000


@dataclass(frozen=True)
class Loaded:
    """An encoder from disk and what was stored beside it."""

    encoder: Encoder
    digest: str
    about: Mapping[str, Any] = field(default_factory=dict)


def save_encoder(folder: str | Path, encoder: Encoder, **about: Any) -> str:
    """Write an encoder to a folder and return the SHA-256 of its weights.

    Parameters
    ----------
    folder : path
        Made if absent. Both files are published whole, the JSON last.
    encoder : Encoder
        A trained one.
    **about
        More to store: ``recipe``, ``training``, ``history``. Nothing that names people.
    """
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    digest = publish_bytes(folder / WEIGHTS, save(encoder.state()))
    content = {
        "format": FORMAT,
        "encoder": encoder.name,
        "settings": typed.as_json(encoder.settings),
        "affine": None if encoder.affine is None else np.asarray(encoder.affine).tolist(),
        "weights_sha256": digest,
        "trained_on_individual_data": True,
        "imgwas": __version__,
        "torch": torch.__version__,
        **about,
    }
    publish_json(folder / ABOUT, content)
    return digest


def load_encoder(folder: str | Path, *, device: str = "cpu") -> Loaded:
    """Read an encoder that :func:`save_encoder` wrote.

    Parameters
    ----------
    folder : path
        With ``encoder.json`` and ``encoder.safetensors``; a training run's folder will do.
    device : str
        Where the network goes.

    Raises
    ------
    OpenError
        If a file is absent.
    MalformedError
        If a file is damaged, or was made by a newer imgwas.
    InconsistentError
        If weights and settings do not belong together.
    DegenerateError
        If a weight is not finite.
    """
    folder = Path(folder).expanduser()
    if not (folder / ABOUT).exists() and (folder / "encoder" / ABOUT).exists():
        folder = folder / "encoder"
    about = _read_about(folder)
    encoder = _create(about, folder)
    state, digest = _read_weights(folder / WEIGHTS)
    if digest != about.get("weights_sha256"):
        raise InconsistentError(
            explain(
                f"{folder / WEIGHTS} is not the file that {ABOUT} describes",
                expected=f"SHA-256 {about.get('weights_sha256')}",
                where=f"found {digest}",
                do="Copy both files of the folder again",
            )
        )
    _take(encoder, state, folder)
    network = getattr(encoder, "network", None)
    if network is not None:
        network.to(device).eval()
    return Loaded(encoder, digest, about)


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    if not path.exists():
        pickles = [p.name for p in folder.glob("*") if p.suffix in (".pt", ".pth", ".ckpt")]
        do = (
            f"Convert it first: imgwas weights convert {folder / pickles[0]}"
            if pickles
            else "Name the folder that imgwas train wrote"
        )
        raise OpenError(explain(f"{folder} holds no {ABOUT}", do=do))
    if path.stat().st_size > MAX_HEADER:
        raise MalformedError(explain(f"{path} is larger than {MAX_HEADER:,} bytes"))
    try:
        about = read_json(path)
        version = int(about["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedError(explain(f"{path} is damaged ({error})")) from error
    if version > FORMAT:
        made_by = about.get("imgwas", "a newer version")
        raise MalformedError(
            explain(f"{path} was made by imgwas {made_by}", do="pip install --upgrade imgwas")
        )
    return dict(about)


def _create(about: Mapping[str, Any], folder: Path) -> Encoder:
    name = str(about.get("encoder"))
    if name not in ENCODERS:
        raise MalformedError(
            explain(f"{folder / ABOUT} names the encoder {name!r}",
                    expected=f"Encoders: {', '.join(ENCODERS)}")
        )  # fmt: skip
    affine = about.get("affine")
    try:
        values: Any = typed.build(ENCODERS[name].settings_type, about["settings"], where=ABOUT)
        matrix = None if affine is None else np.asarray(affine, np.float64)
        return ENCODERS[name](values, affine=matrix)
    except (UsageError, KeyError, TypeError, ValueError) as error:
        raise MalformedError(explain(f"{folder / ABOUT} is damaged ({error})")) from error


def _read_weights(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Read safetensors whole, after its header was found believable."""
    import hashlib

    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be opened ({error.strerror})")) from error
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(MAX_HEADER, len(content)):
        raise MalformedError(
            explain(
                f"{path} is no whole safetensors file ({len(content):,} bytes)",
                do="Copy it again; a .pt or .ckpt is converted by imgwas weights convert",
            )
        )
    try:
        state = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise MalformedError(explain(f"{path} is damaged ({error})", do="Copy it again")) from error
    return state, hashlib.sha256(content).hexdigest()


def _take(encoder: Encoder, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Load weights strictly: every name, shape and type, and only finite numbers."""
    bad = [name for name, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        raise DegenerateError(
            explain(f"{folder / WEIGHTS} holds weights that are not finite",
                    where=f"first: {', '.join(bad[:3])}", do="Train again with a lower rate")
        )  # fmt: skip
    network = getattr(encoder, "network", None)
    if network is not None:
        compare_state(network.state_dict(), state, str(folder / WEIGHTS))
    try:
        encoder.load_state(state)
    except ImgwasError:
        raise
    except RuntimeError as error:
        raise InconsistentError(explain(f"{folder / WEIGHTS}: {error}")) from error


def compare_state(
    wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: str
) -> None:
    """Refuse weights whose names or shapes are not those of the network.

    Raises
    ------
    InconsistentError
        Naming the first five of each kind.
    """
    missing = [name for name in wanted if name not in found]
    strange = sorted(name for name in found if name not in wanted)  # a file has no order
    shapes = [
        f"{name} {tuple(found[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    parts = [
        f"{len(names)} {kind} ({', '.join(names[:5])})"
        for kind, names in (("missing", missing), ("unknown", strange), ("of other shape", shapes))
        if names
    ]
    if parts:
        raise InconsistentError(
            explain(
                f"the weights in {where} do not fit the network: {'; '.join(parts)}",
                do="Check the settings (grid, latents, width) and the version of the weights",
            )
        )

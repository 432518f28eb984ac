"""Originals beside their reconstructions, on one intensity scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from imgwas.encoders.base import Encoder
from imgwas.encoders.loading import batches, chunks
from imgwas.errors import UsageError, explain
from imgwas.images.nifti import Volume, write_volume
from imgwas.types import Images


@dataclass(frozen=True)
class Pair:
    """One image as the network saw it, what came back, and where the loss looked.

    ``error`` is the mean squared difference inside the mask, ``explained`` the share of the
    variance inside the mask that came back.
    """

    original: np.ndarray
    reconstruction: np.ndarray
    mask: np.ndarray
    error: float
    explained: float


def reconstruct_images(images: Images, encoder: Encoder, rows: Sequence[int]) -> list[Pair]:
    """Encode and decode some images.

    Raises
    ------
    UsageError
        If the encoder has no decoder.
    """
    if not encoder.can_decode:
        raise UsageError(explain(f"{encoder.name} has no decoder", do="Choose an autoencoder"))
    pairs = []
    for _, raw in batches(images, chunks(list(rows), 4)):
        batch = encoder.normalise(raw)  # type: ignore[attr-defined]
        decoded = torch.from_numpy(encoder.reconstruct(raw.numpy()))
        for k in range(len(raw)):
            original = batch.image[k].reshape(encoder.grid).numpy()
            mask = batch.mask[k].reshape(encoder.grid).numpy()
            pairs.append(_pair(original, decoded[k].numpy(), mask))
    return pairs


def _pair(original: np.ndarray, reconstruction: np.ndarray, mask: np.ndarray) -> Pair:
    inside = original[mask].astype(np.float64)
    error = float(np.mean((inside - reconstruction[mask]) ** 2))
    variance = float(inside.var())
    explained = 1 - error / variance if variance else float("nan")
    return Pair(original, reconstruction, mask, error, explained)


def held_out_rows(images: Images, run: Path, n: int) -> list[int]:
    """Rows to show: people whom the run held out first, then the others."""
    parts = _parts_of(run) or {}
    order = sorted(
        range(len(images)), key=lambda i: parts.get(images.sample_ids[i]) != "validation"
    )
    return order[:n]


def count_trained(images: Images, run: Path, rows: Sequence[int]) -> int | None:
    """Count the people of some rows whom a run was trained on; None where it does not say."""
    parts = _parts_of(run)
    if parts is None:
        return None
    return sum(parts.get(images.sample_ids[i]) == "train" for i in rows)


def _parts_of(run: Path) -> dict[str, str] | None:
    """Ids of a run's people, and the part of each."""
    path = run / "private" / "split.tsv"
    if not path.exists():
        return None
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()[1:]
    return dict(line.split("\t", 1) for line in lines)


def write_pairs(pairs: Sequence[Pair], images: Images, out: Path) -> None:
    """Write originals and reconstructions as NIfTI, numbered, with nobody's id."""
    out.mkdir(parents=True, exist_ok=True)
    for number, pair in enumerate(pairs, start=1):
        for name, values in (("original", pair.original), ("reconstruction", pair.reconstruction)):
            volume = Volume(np.asarray(values, np.float32), np.asarray(images.affine, np.float64))
            write_volume(out / f"{number:03d}_{name}.nii.gz", volume)

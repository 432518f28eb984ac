"""Out-of-fold features: nobody is encoded by a network that saw their label.

A supervised network's features of its own training people contain their labels: a scan of them
finds the genetics of the label, not of the image. With k folds, k networks are trained, each
without one fold, and each encodes the fold it never saw.

Networks of different folds number their features differently. Every fold's features are therefore
standardised on its own training people and turned (orthogonal Procrustes) onto those of the first
fold's network, using the people that both were trained on, before the folds are put together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from imgwas.encoders.base import Encoder
from imgwas.encoders.encoding import FOOTER, encode_batch
from imgwas.encoders.fitting import Fitted, fit
from imgwas.encoders.loading import batches, chunks
from imgwas.encoders.splits import Split, fold_people
from imgwas.encoders.targets import Targets
from imgwas.errors import UsageError, explain
from imgwas.files import publish
from imgwas.types import Images

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folds:
    """Networks and out-of-fold features.

    Parameters
    ----------
    fitted : list of Fitted
        One per fold.
    latents : (samples, latents) float array
        Row i comes from the network that did not see person i.
    fold : (samples,) int array
        Which network that was.
    agreement : tuple of float
        Mean correlation of each fold's features with the first fold's, on shared people, after
        turning; 1 for the first.
    predictions : (samples, outputs) float array
        Class probabilities, or values in their own unit, out of fold.
    """

    fitted: list[Fitted]
    latents: np.ndarray
    fold: np.ndarray
    agreement: tuple[float, ...]
    predictions: np.ndarray


def fit_folds(
    encoder: str,
    images: Images,
    targets: Targets,
    *,
    out: str | Path,
    n_folds: int = 5,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> Folds:
    """Train a supervised encoder once per fold and encode everyone out of fold.

    Parameters
    ----------
    encoder : str
        Key of a supervised encoder.
    images, targets
        What to learn from.
    out : path
        ``fold-1`` ... ``fold-k`` are runs that resume; ``latents.parquet`` is for the scan.
    n_folds : int
        At least 3, so that any two networks share training people.
    groups : sequence of str, optional
        Family of each image; never parted.
    seed : int
        Of the folds.
    **options
        As in :func:`imgwas.encoders.fitting.fit`: ``settings``, ``train``, ``device``, ...

    Returns
    -------
    Folds
    """
    if n_folds < 3:
        raise UsageError(explain(f"{n_folds} folds", expected="At least 3: networks are aligned "
                                 "on people that two of them share"))  # fmt: skip
    out = Path(out)
    parts = fold_people(images.sample_ids, n_folds, seed=seed, groups=groups)
    fitted, features, predictions = [], [], []
    for number, part in enumerate(parts, start=1):
        logger.info("fold     %d of %d: %d people held out", number, n_folds, len(part.validation))
        inner = _inner(part, images.sample_ids, groups, seed)
        made = fit(encoder, images, out=out / f"fold-{number}", targets=targets, split=inner,
                   progress=progress, **options)  # fmt: skip
        latents, predicted = _features(made.encoder, images)
        fitted.append(made)
        features.append(latents)
        predictions.append(predicted)
    latents, agreement = align_folds(features, [p.validation for p in parts])
    fold = np.zeros(len(images), int)
    chosen = np.empty_like(predictions[0])
    for number, part in enumerate(parts):
        rows = list(part.validation)
        fold[rows] = number + 1
        chosen[rows] = predictions[number][rows]
    made_folds = Folds(fitted, latents, fold, agreement, chosen)
    _write(out / "latents.parquet", images, made_folds)
    return made_folds


def _inner(
    part: Split, sample_ids: Sequence[str], groups: Sequence[str] | None, seed: int
) -> Split:
    """Judge epochs on an eighth of the training people: the fold itself stays untouched."""
    from imgwas.encoders.splits import split_people

    rows = list(part.train)
    keys = None if groups is None else [groups[i] for i in rows]
    inner = split_people([sample_ids[i] for i in rows], validation=0.125, seed=seed, groups=keys)
    return Split(tuple(rows[i] for i in inner.train), tuple(rows[i] for i in inner.validation))


def _features(encoder: Encoder, images: Images) -> tuple[np.ndarray, np.ndarray]:
    latents, predictions = [], []
    for _, raw in batches(images, chunks(range(len(images)), 8)):
        values, _ = encode_batch(encoder, raw)
        latents.append(values)
        with torch.inference_mode():
            image = encoder.normalise(raw).image  # type: ignore[attr-defined]
            predictions.append(encoder.predict(image).cpu().numpy())  # type: ignore[attr-defined]
    return np.concatenate(latents), np.concatenate(predictions)


def align_folds(
    features: Sequence[np.ndarray], held_out: Sequence[Sequence[int]]
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Put out-of-fold features of several networks on the axes of the first.

    Parameters
    ----------
    features : sequence of (samples, latents) float arrays
        Everyone, encoded by each network.
    held_out : sequence of sequence of int
        Rows that each network did not see; together everyone once.

    Returns
    -------
    (samples, latents) float array
        Row i from the network that did not see it.
    tuple of float
        Mean correlation with the first network's features on shared training people.

    References
    ----------
    .. [1] Schonemann (1966), Psychometrika 31:1 (orthogonal Procrustes).
    """
    n = len(features[0])
    result = np.empty_like(features[0], dtype=np.float64)
    agreement = []
    for values, own in zip(features, held_out, strict=True):
        shared = np.ones(n, bool)
        shared[list(own)] = shared[list(held_out[0])] = False
        mine, first = _standardise(values, shared), _standardise(features[0], shared)
        u, _, vt = np.linalg.svd(mine[shared].T @ first[shared])
        turned = mine @ (u @ vt)
        result[list(own)] = turned[list(own)]
        spread = turned[shared].std(axis=0) * first[shared].std(axis=0)
        usable = spread > 1e-9
        r = (turned[shared] * first[shared]).mean(axis=0)[usable] / spread[usable]
        agreement.append(float(r.mean()) if usable.any() else float("nan"))
    return result, tuple(agreement)


def _standardise(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Centre and scale by the people of ``rows``; a feature that is constant becomes zero."""
    mean, sd = values[rows].mean(axis=0), values[rows].std(axis=0)
    scaled = (values - mean) / np.where(sd > 1e-9, sd, 1.0)
    return np.asarray(np.where(sd > 1e-9, scaled, 0.0))


def _write(path: Path, images: Images, folds: Folds) -> None:
    import json

    encoder = folds.fitted[0].encoder
    names = encoder.latent_names
    usable = [k for k in range(len(names)) if folds.latents[:, k].std() > 0]
    columns: dict[str, pa.Array] = {"IID": pa.array(images.sample_ids, pa.string())}
    for k in usable:
        columns[names[k]] = pa.array(folds.latents[:, k], pa.float32())
    columns["fold"] = pa.array(folds.fold, pa.int16())
    for k in range(folds.predictions.shape[1]):
        columns[f"prediction_{k}"] = pa.array(folds.predictions[:, k], pa.float32())
    footer = {
        "encoder": encoder.name,
        "out_of_fold": True,
        "latent_columns": [names[k] for k in usable],
        "fold_weights_sha256": [made.digest for made in folds.fitted],
        "agreement": list(folds.agreement),
        "in_sample": False,
    }
    table = pa.table(columns).replace_schema_metadata({FOOTER: json.dumps(footer).encode()})
    with publish(path) as stream:
        pq.write_table(table, stream, write_page_checksum=True)


def rank_patches(
    images: Images, targets: Targets, *, out: str | Path, split: Split, settings: dict[str, Any],
    train: dict[str, Any] | None = None, device: str = "auto",
) -> list[tuple[int, float]]:  # fmt: skip
    """Train one branch per patch and rank the patches by their validation loss, best first.

    The ranking uses the validation people of ``split`` only, never the fold to be encoded.

    Returns
    -------
    list of (int, float)
        Number of the patch, as :func:`imgwas.images.patches.patch_corners` counts, and its loss.
    """
    from imgwas.encoders.catalogue import create_encoder
    from imgwas.images.patches import patch_corners

    planned = create_encoder("patch-cnn", {**settings, "grid": images.grid}).settings
    corners = patch_corners(images.grid, planned.patch, planned.steps)
    losses = []
    for number in range(len(corners)):
        made = fit(
            "patch-cnn", images, out=Path(out) / f"patch-{number:02d}", targets=targets,
            split=split, settings={**settings, "chosen": (number,)}, train=train, device=device,
        )  # fmt: skip
        losses.append((number, min(row["validation_loss"] for row in made.history)))
    return sorted(losses, key=lambda pair: pair[1])


def fit_patches(
    images: Images, targets: Targets, *, out: str | Path, split: Split,
    settings: dict[str, Any] | None = None, train: dict[str, Any] | None = None,
    device: str = "auto",
) -> Fitted:  # fmt: skip
    """Rank the patches, then train the fusion of the best ``keep`` of them (seed 001)."""
    from imgwas.encoders.catalogue import create_encoder

    settings = dict(settings or {})
    ranked = rank_patches(
        images, targets, out=Path(out) / "patches", split=split, settings=settings, train=train,
        device=device,
    )  # fmt: skip
    keep = create_encoder("patch-cnn", settings).settings.keep
    chosen = tuple(sorted(number for number, _ in ranked[:keep]))
    logger.info("patches  %s chosen of %d", ", ".join(map(str, chosen)), len(ranked))
    return fit(
        "patch-cnn", images, out=Path(out) / "fusion", targets=targets, split=split,
        settings={**settings, "chosen": chosen}, train=train, device=device,
    )  # fmt: skip

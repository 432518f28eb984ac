"""Out-of-fold features: nobody is encoded by a network that saw their label.

A supervised network's features of its own training people contain their labels: a scan of them
finds the genetics of the label, not of the image. With k folds, k networks are trained, each
without one fold, and each encodes the fold it never saw.

Networks of different folds number their features differently. Every fold's features are therefore
standardised and turned (orthogonal Procrustes) onto those of the first fold's network, using the
people whom both had, before the folds are put together. A rotation rather than a regression: with
fewer people than features a regression fits the shared people and nobody else. What is left of the
difference between networks, a shift and a scale, is removed by standardising each fold's held-out
people, as ``fold`` as a covariate would.
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
from imgwas.encoders.classifiers import SupervisedEncoder
from imgwas.encoders.devices import choose_device
from imgwas.encoders.encoding import FOOTER
from imgwas.encoders.fitting import Fitted, fit
from imgwas.encoders.loading import batches, chunks
from imgwas.encoders.patch_ranking import fit_patches
from imgwas.encoders.splits import Split, fold_people, split_people
from imgwas.encoders.targets import Targets
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.files import publish
from imgwas.shapes import Float64
from imgwas.types import Images

logger = logging.getLogger(__name__)

#: Below this mean correlation of features across folds a warning says so.
LOW_AGREEMENT = 0.5


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
        Mean correlation of each fold's features with the first fold's after turning, on shared
        people whom the turning did not use; 1 for the first.
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

    Raises
    ------
    UsageError
        If there are fewer than three folds, or more than groups, or the encoder takes no labels.
    DegenerateError
        If a fold's training people lack a class, or no feature varies.
    """
    if n_folds < 3:
        raise UsageError(explain(f"{n_folds} folds", expected="At least 3: networks are aligned "
                                 "on people that two of them share"))  # fmt: skip
    out = Path(out)
    parts = fold_people(images.sample_ids, n_folds, seed=seed, groups=groups)
    fitted, features, predictions = [], [], []
    for number, part in enumerate(parts, start=1):
        logger.info("fold     %d of %d: %d people held out", number, n_folds, len(part.validation))
        inner = _inner(part, images.sample_ids, groups, 1000 * (seed + 1) + number)
        made = _fit_one(encoder, images, targets, inner, out / f"fold-{number}",
                        options | {"progress": progress})  # fmt: skip
        latents, predicted = _features(made.encoder, images, str(options.get("device", "auto")))
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


def _fit_one(
    encoder: str, images: Images, targets: Targets, split: Split, out: Path,
    options: dict[str, Any],
) -> Fitted:  # fmt: skip
    """Train one network; patches are ranked anew, by people whom this network has anyway."""
    if encoder == "patch-cnn" and not (options.get("settings") or {}).get("chosen"):
        return fit_patches(images, targets, out=out, split=split, **options)
    return fit(encoder, images, out=out, targets=targets, split=split, **options)


def _inner(
    part: Split, sample_ids: Sequence[str], groups: Sequence[str] | None, seed: int
) -> Split:
    """Judge epochs on an eighth of the training people: the fold itself stays untouched."""
    rows = list(part.train)
    keys = None if groups is None else [groups[i] for i in rows]
    inner = split_people([sample_ids[i] for i in rows], validation=0.125, seed=seed, groups=keys)
    return Split(tuple(rows[i] for i in inner.train), tuple(rows[i] for i in inner.validation))


@torch.inference_mode()
def _features(
    encoder: Encoder, images: Images, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Features and predictions of everyone by one network."""
    if not isinstance(encoder, SupervisedEncoder):
        raise UsageError(explain(f"{encoder.name} is not trained on labels"))
    where = choose_device(device)
    network = encoder.network.to(where).eval()
    latents, predictions = [], []
    for _, raw in batches(images, chunks(range(len(images)), 8)):
        features = encoder.latents_of(network, encoder.normalise(raw.to(where)).image)
        latents.append(features.float().cpu().numpy())
        predictions.append(encoder.outputs_of(network, features).cpu().numpy())
    network.to("cpu")
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
        Row i from the network that did not see it; mean 0 and variance 1 in each fold.
    tuple of float
        Mean correlation with the first network's features: the shared people are halved, each
        half is turned as the other half says, so that a rotation that only fits scores nothing.

    References
    ----------
    .. [1] Schonemann (1966), Psychometrika 31:1 (orthogonal Procrustes).
    """
    n = len(features[0])
    result = np.empty_like(features[0], dtype=np.float64)
    agreement = []
    for number, (values, own) in enumerate(zip(features, held_out, strict=True)):
        shared = np.ones(n, bool)
        shared[list(own)] = shared[list(held_out[0])] = False
        mine, first = _standardise(values, shared), _standardise(features[0], shared)
        is_first = number == 0
        turned = mine if is_first else mine @ turn(mine[shared], first[shared])
        everyone = np.zeros(n, bool)
        everyone[list(own)] = True
        result[everyone] = _standardise(turned, everyone, floor=1e-6)[everyone]
        agreement.append(1.0 if is_first else _agreement(mine[shared], first[shared]))
    return result, tuple(agreement)


def turn(
    mine: Float64[np.ndarray, "people k"], first: Float64[np.ndarray, "people k"]
) -> Float64[np.ndarray, "k k"]:
    """Return the rotation (or reflection) R that makes ``mine @ R`` nearest to ``first``.

    Directions that nobody here has, where every rotation is as good, are left as they are.
    """
    inner = mine.T @ first
    weight = 1e-9 * float(np.linalg.norm(inner)) or 1.0
    u, _, vt = np.linalg.svd(inner + weight * np.eye(len(inner)))
    return np.asarray(u @ vt)


def _agreement(mine: np.ndarray, first: np.ndarray) -> float:
    """Mean correlation of features on people whom the rotation was not fitted to."""
    half = np.arange(len(mine)) % 2 == 0
    if half.sum() < 3 or (~half).sum() < 3:
        return float("nan")
    found = []
    for fitted in (half, ~half):
        a = mine[~fitted] @ turn(mine[fitted], first[fitted])
        a, b = a - a.mean(axis=0), first[~fitted] - first[~fitted].mean(axis=0)
        lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
        usable = lengths > 1e-9
        found.append(((a * b).sum(axis=0)[usable] / lengths[usable]).mean() if usable.any() else 0)
    return float(np.mean(found))


def _standardise(values: np.ndarray, rows: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Centre and scale by the people of ``rows``; a feature that is constant becomes zero.

    Constant means a spread below ``floor`` or lost in the rounding of single precision.
    """
    exact = np.asarray(values, np.float64)
    mean, sd = exact[rows].mean(axis=0), exact[rows].std(axis=0)
    lost = 1e-7 * np.abs(exact[rows]).max(axis=0, initial=0)
    varies = sd > np.maximum(lost, max(floor, 1e-30))
    return np.asarray(np.where(varies, (exact - mean) / np.where(varies, sd, 1.0), 0.0))


def _write(path: Path, images: Images, folds: Folds) -> None:
    import json

    encoder = folds.fitted[0].encoder
    names = encoder.latent_names
    usable = [k for k in range(len(names)) if folds.latents[:, k].std() > 0]
    if not usable:
        raise DegenerateError(
            explain("every feature is constant: the networks have learned nothing",
                    do="Train longer, or with a lower learning_rate")
        )  # fmt: skip
    if len(usable) < len(names):
        logger.info("folds    %d of %d features are constant and left out",
                    len(names) - len(usable), len(names))  # fmt: skip
    low = [r for r in folds.agreement if not r >= LOW_AGREEMENT]
    if low:
        logger.warning(
            "the features of %d of %d folds agree little with the first fold's (lowest r %.2f): "
            "a latent does not mean the same in all folds; train longer, or use fewer latents",
            len(low), len(folds.agreement), min(low),
        )  # fmt: skip
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
        "agreement": [None if np.isnan(r) else r for r in folds.agreement],
        "in_sample": False,
    }
    table = pa.table(columns).replace_schema_metadata({FOOTER: json.dumps(footer).encode()})
    with publish(path) as stream:
        pq.write_table(table, stream, write_page_checksum=True)

"""Fitting an encoder to images: one door for every kind of encoder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgwas import settings as typed
from imgwas.encoders.base import Encoder, NeuralEncoder
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.checkpoints import compare_state, load_encoder, save_encoder
from imgwas.encoders.devices import choose_device
from imgwas.encoders.loading import batches, chunks
from imgwas.encoders.loop import Loop
from imgwas.encoders.pca import PCA
from imgwas.encoders.processes import World, run_together
from imgwas.encoders.runs import Run
from imgwas.encoders.splits import Split, split_people
from imgwas.encoders.tabular import StandardisedAutoencoder
from imgwas.encoders.targets import Targets, scaled_values, settings_for
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.locks import locked, sweep
from imgwas.types import Images

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A trained encoder and how it got there.

    ``history`` has one mapping an epoch: ``train_loss``, ``validation_loss``, ``learning_rate``.
    ``best_epoch`` is the one whose network ``encoder`` is.
    """

    encoder: Encoder
    history: Sequence[Mapping[str, float]]
    folder: Path
    digest: str
    best_epoch: int = 1


def fit(
    encoder: str | Encoder,
    images: Images,
    *,
    out: str | Path,
    settings: Mapping[str, Any] | None = None,
    train: TrainSettings | Mapping[str, Any] | None = None,
    split: Split | None = None,
    targets: Targets | None = None,
    device: str = "auto",
    devices: int = 1,
    seen: Sequence[str] = (),
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Fitted:
    """Train an encoder on images, resuming what is there.

    Parameters
    ----------
    encoder : str or Encoder
        Key of ``ENCODERS``, or an encoder whose weights are the start (fine-tuning).
    images : Images
        All on one grid; a cache (:func:`imgwas.images.cache.build_cache`) makes epochs fast.
    out : path
        Folder of the run. Called again with the same arguments, it goes on where it stopped.
    settings : mapping, optional
        Settings of the encoder that differ from its own.
    train : TrainSettings or mapping, optional
        Settings of the loop; the encoder's published ones are the default.
    split : Split, optional
        Who is held out; a quarter of the people by default.
    targets : Targets, optional
        Labels, for a supervised encoder.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
    devices : int
        Processes, one per device.
    seen : sequence of str
        People whom the start weights have seen already; they join the ledger.
    overwrite : bool
        Throw away another run in the folder.
    progress : callable, optional
        Called with the number of images after each step.

    Returns
    -------
    Fitted

    Raises
    ------
    UsageError, InconsistentError
        If settings, images, labels or the folder do not belong together.
    DegenerateError
        If an image is blank or the loss is no longer finite.
    """
    train = _train_settings(encoder, train)
    split = split or split_people(images.sample_ids, seed=train.seed)
    made = _for_images(encoder, images, settings, targets, split)
    if isinstance(made, NeuralEncoder):
        made.skeleton()  # what cannot be built must not leave a run behind
        made.loop_type().check(made, train, devices)
    run = Run(out)
    values = scaled_values(targets, made.settings) if targets is not None else None
    run.start(made, images, split, train, seen=seen, targets=values, overwrite=overwrite)
    with locked(run.folder):
        sweep(run.folder, run.private, *run.checkpoint_folders())
        if isinstance(made, PCA):
            return _fit_components(made, images, split, train, run, progress)
        if not isinstance(made, NeuralEncoder):
            raise UsageError(explain(f"{made.name} cannot be trained"))
        start = made.state() if isinstance(encoder, Encoder) else None
        where = choose_device(device)
        if devices > 1:
            kind = where.type
            run_together(_train, devices, kind, made, images, split, train, values, run, start)
        else:
            _train(World(), where, made, images, split, train, values, run, start, progress)
        loaded = load_encoder(run.folder)
    about = loaded.about
    best = int(about.get("best_epoch", 1))
    return Fitted(loaded.encoder, about["history"], run.folder, loaded.digest, best)


def _train(
    world: World, device: torch.device, encoder: NeuralEncoder, images: Images, split: Split,
    train: TrainSettings, targets: np.ndarray | None, run: Run,
    start: Mapping[str, torch.Tensor] | None, progress: Callable[[int], object] | None = None,
) -> None:  # fmt: skip
    """Train in this process; only the first of several writes."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
    torch.manual_seed(train.seed)
    encoder.__dict__.pop("network", None)  # weights must follow from the seed, not from history
    if start is not None:
        encoder.load_state(start)
    if isinstance(encoder.network, StandardisedAutoencoder) and start is None:
        rows = np.stack([images.read(i) for i in split.train])
        encoder.network.fit_scale(torch.from_numpy(rows))
    kind = encoder.loop_type()
    loop = kind(encoder, images, split, train, device, targets=targets, world=world)
    run.resume(loop)
    about = _about(images, split, train)

    def after_epoch(loop: Loop) -> None:
        row = loop.progress.history[-1]
        if world.rank == 0:
            run.finish_epoch(loop, about)
            loop.show(run.folder)
            logger.info("%s", loop.describe(row))

    def after_step(loop: Loop, n: int) -> None:
        if progress is not None:
            progress(n)
        if train.save_steps and loop.progress.step % train.save_steps == 0 and world.rank == 0:
            run.save_state(loop)

    history = loop.run(after_epoch=after_epoch, after_step=after_step)
    if world.rank == 0:
        run.publish_best(loop, {**about, "history": history})


def _fit_components(
    encoder: PCA, images: Images, split: Split, train: TrainSettings, run: Run,
    progress: Callable[[int], object] | None,
) -> Fitted:  # fmt: skip
    """Take in the training images batch by batch; judge on the held-out ones."""
    for rows, raw in batches(images, chunks(split.train, train.batch), threads=train.threads):
        encoder.update(raw)
        if progress is not None:
            progress(len(rows))
    encoder.finish()
    losses = {}
    for kind, chosen in (("train", split.train), ("validation", split.validation)):
        losses[f"{kind}_loss"] = _component_error(encoder, images, chosen, train)
    history = [{"epoch": 1.0, "learning_rate": 0.0, **losses}]
    run.write_history(history)
    about = {**_about(images, split, train), "history": history}
    digest = save_encoder(run.folder / "encoder", encoder, **about)
    return Fitted(encoder, history, run.folder, digest)


def _component_error(
    encoder: PCA, images: Images, rows: Sequence[int], train: TrainSettings
) -> float:
    total = weight = 0.0
    for _, raw in batches(images, chunks(rows, train.batch), threads=train.threads):
        batch = encoder.normalise(raw)
        decoded = torch.from_numpy(encoder.decode(encoder.encode(raw.numpy())))
        error = (batch.image.reshape(decoded.shape) - decoded) * batch.mask.reshape(decoded.shape)
        total += float((error**2).sum())
        weight += float(batch.mask.sum())
    return total / max(weight, 1.0)


def _train_settings(
    encoder: str | Encoder, given: TrainSettings | Mapping[str, Any] | None
) -> TrainSettings:
    if isinstance(given, TrainSettings):
        return given
    made = create_encoder(encoder) if isinstance(encoder, str) else encoder
    base = typed.build(TrainSettings, made.training, where=made.name)
    return typed.override(base, given or {}, where="train")


def _for_images(
    encoder: str | Encoder, images: Images, given: Mapping[str, Any] | None,
    targets: Targets | None, split: Split,
) -> Encoder:  # fmt: skip
    """Make the encoder and give it the grid and the place of the images."""
    made = create_encoder(encoder, given) if isinstance(encoder, str) else encoder
    if not made.is_trainable:
        raise UsageError(
            explain(
                f"{made.name} cannot be trained without its diffusion decoder",
                do="Convert published weights: imgwas weights convert",
            )
        )
    if made.takes_tables != (len(images.grid) == 1) and not isinstance(made, PCA):
        what = "rows of a table" if made.takes_tables else "volumes"
        raise UsageError(explain(f"{made.name} is trained on {what}"))
    if made.grid and made.grid != images.grid:
        raise InconsistentError(
            explain(
                f"{made.name} is set to a grid of {'x'.join(map(str, made.grid))}",
                expected=f"The images have {'x'.join(map(str, images.grid))}",
                do="Leave grid out, or prepare the images to it",
            )
        )
    _check_mask(made, images)
    settings = replace(made.settings, grid=images.grid)
    if made.is_supervised:
        settings = settings_for(settings, targets, split, made.name)
    elif targets is not None:
        raise UsageError(explain(f"{made.name} is not trained on labels", do="Leave --target out"))
    if settings == made.settings and made.affine is not None:
        return made
    fresh = type(made)(settings, affine=np.asarray(images.affine))
    if not isinstance(encoder, str):
        if isinstance(fresh, NeuralEncoder):
            compare_state(
                fresh.skeleton().state_dict(), made.state(), f"the {made.name} to start from"
            )
        fresh.load_state(made.state())
    return fresh


def _check_mask(encoder: Encoder, images: Images) -> None:
    """Refuse images whose zero voxels were shifted away: the mask would be all of them."""
    recipe = images.fingerprint().get("recipe") or []
    shifted = [s for s in recipe if s.get("step") == "zscore" and s.get("background") == "shift"]
    if shifted and getattr(encoder.settings, "mask", "all") == "nonzero":
        raise UsageError(
            explain(
                "the images were standardised with background=shift: no voxel is zero, so "
                f"{encoder.name} cannot tell brain from background",
                do="Prepare without the step zscore (the encoder standardises itself), or with "
                "--set zscore.background=zero",
            )
        )


def _about(images: Images, split: Split, train: TrainSettings) -> dict[str, Any]:
    people = "\n".join(sorted(images.sample_ids[i] for i in split.train))
    return {
        "recipe": images.fingerprint().get("recipe"),
        "training": typed.as_json(train),
        "n_train": len(split.train),
        "n_validation": len(split.validation),
        "training_set_sha256": hashlib.sha256(
            people.encode("utf-8", "surrogateescape")
        ).hexdigest(),
    }

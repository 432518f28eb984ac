"""The training loop of every network: plain torch, exactly resumable, on one device or several.

Nothing random depends on what happened before: the order of an epoch follows from (seed, epoch),
the augmentation of an image from (seed, epoch, row), dropout and noise of a step from (seed, step).
A run that is stopped and resumed therefore takes the same steps as one that is not, to the bit on
a CPU.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from imgwas.encoders.base import Batch, NeuralEncoder, Ratio
from imgwas.encoders.loading import batches, chunks
from imgwas.encoders.processes import World
from imgwas.encoders.splits import Split
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.types import Images

logger = logging.getLogger(__name__)

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Progress:
    """Where a run is: finished epochs, finished steps of the next one, and the history so far."""

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


class Loop:
    """Trains one network.

    Parameters
    ----------
    encoder : NeuralEncoder
        Its network is trained in place.
    images : Images
    split : Split
        Rows to learn from and rows to judge on.
    settings : TrainSettings
    device : torch.device
    targets : (samples,) float array, optional
        Labels of a supervised network.
    world : World
        The processes that train together.
    """

    def __init__(
        self, encoder: NeuralEncoder, images: Images, split: Split, settings: TrainSettings,
        device: torch.device, *, targets: np.ndarray | None = None, world: World | None = None,
    ) -> None:  # fmt: skip
        self.encoder, self.images, self.split = encoder, images, split
        self.settings, self.device, self.targets = settings, device, targets
        self.world = world or World()
        torch.manual_seed(settings.seed)
        self.network = encoder.network.to(device)
        if settings.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.ema = _copy_state(self.network) if settings.ema else None
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.schedule = _schedule(self.optimizer, settings)
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=settings.precision == "fp16" and device.type == "cuda"
        )
        self.forward = self.world.wrap(self.network, device)
        if settings.compile:
            self.forward = torch.compile(self.forward)
        self.progress = Progress()

    def run(
        self,
        *,
        after_epoch: Callable[[Loop], object] | None = None,
        after_step: Callable[[Loop, int], object] | None = None,
    ) -> list[dict[str, float]]:
        """Train to the last epoch, or until early stopping; return the history.

        Raises
        ------
        DegenerateError
            If the loss is no longer a finite number.
        """
        settings = self.settings
        while self.progress.epoch < settings.epochs:
            if settings.stop_after and self.epochs_since_best() >= settings.stop_after:
                logger.info("stopped  no better validation loss for %d epochs", settings.stop_after)
                break
            self._epoch(after_step)
            if after_epoch is not None:
                after_epoch(self)
        return self.progress.history

    @classmethod
    def check(cls, encoder: NeuralEncoder, settings: TrainSettings, devices: int) -> None:
        """Refuse what this loop cannot do, before anything is written; this one does it all."""

    def describe(self, row: Mapping[str, float]) -> str:
        """Say in a line how an epoch went."""
        return (
            f"epoch {row['epoch']:.0f}  train {row['train_loss']:.6g}  validation "
            f"{row['validation_loss']:.6g}  rate {row['learning_rate']:.2g}  "
            f"{row['images_per_second']:.1f} images/s"
        )

    def show(self, folder: Path) -> None:
        """Write pictures of how far the training is; nothing here."""

    def finish(self) -> None:
        """Measure what the best network should know of the training images; nothing here."""

    def ranked(self) -> list[dict[str, float]]:
        """Rows of the history, the best epoch first."""
        return sorted(self.progress.history, key=lambda row: row["validation_loss"])

    def epochs_since_best(self) -> int:
        """Finished epochs after the best one."""
        ranked = self.ranked()
        return self.progress.epoch - int(ranked[0]["epoch"]) if ranked else 0

    def _epoch(self, after_step: Callable[[Loop, int], object] | None) -> None:
        progress, settings = self.progress, self.settings
        start, skipped = time.monotonic(), progress.step
        order = np.random.default_rng([settings.seed, progress.epoch]).permutation(self.split.train)
        steps = [c for c in chunks(order.tolist(), settings.batch) if self._is_usable(c)]
        steps = steps[: math.ceil(settings.epoch_share * len(steps))]
        if not steps:
            raise UsageError(
                explain(
                    f"{len(self.split.train)} training images make no batch of {settings.batch}",
                    do="Use a smaller batch, or more images",
                )
            )
        rows = [self.world.share(chosen) for chosen in steps[skipped:]]
        parts = self._batches(rows, how=settings.augment, epoch=progress.epoch)
        self.network.train()
        for chosen, raw in parts:
            self._step(chosen, raw)
            progress.step += 1
            progress.total_steps += 1
            if after_step is not None:
                after_step(self, len(chosen) * self.world.size)
        seconds = max(time.monotonic() - start, 1e-9)
        row = self._judge()
        n_images = sum(len(c) for c in steps[skipped:])
        row |= {"seconds": round(seconds, 3), "images_per_second": round(n_images / seconds, 3)}
        self._advance(row)
        progress.history.append(row)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}

    def _advance(self, row: Mapping[str, float]) -> None:
        """Set the learning rate of the next epoch."""
        if isinstance(self.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.schedule.step(row["validation_loss"])
        else:
            self.schedule.step()

    def _is_usable(self, chosen: Sequence[int]) -> bool:
        """A last batch of a single image has no spread for batch norm to measure."""
        return len(chosen) >= max(self.world.size, 2 if self.settings.batch > 1 else 1)

    def _batches(
        self, rows: Sequence[Sequence[int]], *, how: str = "none", epoch: int = 0
    ) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
        return batches(
            self.images, rows, threads=self.settings.threads, how=how,
            seed=(self.settings.seed, epoch), pin=self.device.type == "cuda",
        )  # fmt: skip

    def _step(self, chosen: Sequence[int], raw: torch.Tensor) -> None:
        """Take one step on one batch, computed in parts if asked."""
        settings = self.settings
        torch.manual_seed(_mix(settings.seed, self.progress.total_steps, self.world.rank))
        self.optimizer.zero_grad(set_to_none=True)
        n_parts = min(settings.accumulate, len(chosen))
        for part in np.array_split(np.arange(len(chosen)), n_parts):
            sync = part[-1] == len(chosen) - 1
            with contextlib.nullcontext() if sync else self.world.no_sync(self.forward):
                batch = self._batch([chosen[i] for i in part], raw[part])
                loss = self._loss(batch, keep=True) * (len(part) / len(chosen))
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if settings.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            _blend(self.ema, self.network, _warmed(settings.ema, self.progress.total_steps))

    def _batch(self, chosen: Sequence[int], raw: torch.Tensor, *, train: bool = True) -> Batch:
        batch = self.encoder.normalise(raw.to(self.device, non_blocking=True))
        target = None
        if self.targets is not None:
            target = torch.as_tensor(self.targets[list(chosen)], device=self.device)
        image = batch.image
        if train and self.settings.noise:
            image = image + self.settings.noise * torch.randn_like(image)
        if self.settings.channels_last and image.ndim == 5:
            image = image.contiguous(memory_format=torch.channels_last_3d)
        return Batch(image, batch.mask, target)

    def _loss(self, batch: Batch, *, keep: bool) -> torch.Tensor:
        """Weighted sum of the terms of the loss, each a ratio over the whole batch."""
        half = _HALF.get(self.settings.precision)
        with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
            outputs = self.forward(batch.image)
        terms = self.encoder.losses(outputs, batch)
        weights = self.encoder.loss_weights()
        loss = torch.zeros((), device=self.device)
        for name, term in terms.items():
            pooled = self.world.pool_weight(term)
            loss = loss + weights.get(name, 1.0) * term.total / pooled
        if not bool(torch.isfinite(loss)):
            raise DegenerateError(_not_finite(self.progress, self.settings))
        if keep:
            _add(self.progress.sums, terms)
        return loss

    @torch.no_grad()
    def _judge(self) -> dict[str, float]:
        """Validation loss over all held-out voxels, with the averaged weights if there are any."""
        sums: dict[str, list[float]] = {}
        with self.judged_weights():
            self.network.eval()
            held_out = list(self.split.validation)[self.world.rank :: self.world.size]
            half = _HALF.get(self.settings.precision)
            for chosen, raw in self._batches(chunks(held_out, self.settings.batch)):
                batch = self._batch(chosen, raw, train=False)
                with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
                    outputs = self.network(batch.image)
                _add(sums, self.encoder.losses(outputs, batch))
        return self._row(sums)

    def _row(self, sums: dict[str, list[float]]) -> dict[str, float]:
        """One row of the history, from sums over the training and the held-out images."""
        row: dict[str, float] = {
            "epoch": self.progress.epoch + 1,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }
        weights = self.encoder.loss_weights()
        for kind, found in (("train", self.progress.sums), ("validation", sums)):
            means = {n: t / max(w, 1e-12) for n, (t, w) in self.world.pool_sums(found).items()}
            row[f"{kind}_loss"] = sum(weights.get(n, 1.0) * v for n, v in means.items())
            row |= {f"{kind}_{n}": v for n, v in means.items()} if len(means) > 1 else {}
        return row

    @contextlib.contextmanager
    def judged_weights(self) -> Iterator[None]:
        """Put the averaged weights in place, where there are any, and the others back after."""
        if self.ema is None:
            yield
            return
        mine = _copy_state(self.network)
        self.network.load_state_dict(self.ema)
        try:
            yield
        finally:
            self.network.load_state_dict(mine)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs: tensors, numbers and strings only."""
        progress = self.progress
        return {
            "network": self.network.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": {
                "epoch": progress.epoch, "step": progress.step,
                "total_steps": progress.total_steps, "sums": progress.sums,
                "history": progress.history,
            },
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.network.load_state_dict(state["network"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress(**state["progress"])


def _schedule(optimizer: torch.optim.Optimizer, settings: TrainSettings) -> Any:
    if settings.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=settings.factor, patience=settings.patience,
            min_lr=settings.learning_rate * settings.min_rate,
        )  # fmt: skip
    if settings.schedule == "cosine":
        floor = settings.learning_rate * settings.min_rate
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs, floor)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


def _mix(seed: int, step: int, rank: int) -> int:
    """One seed for one step of one process."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]) >> 1


def _warmed(decay: float, step: int) -> float:
    """Let the average follow quickly at first: 0.9999 would otherwise need 100,000 steps."""
    return min(decay, (1 + step) / (10 + step))


def _copy_state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def _blend(ema: dict[str, torch.Tensor], network: nn.Module, decay: float) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            ema[name].lerp_(tensor, 1 - decay)
        else:
            ema[name].copy_(tensor)


def _add(sums: dict[str, list[float]], terms: Mapping[str, Ratio]) -> None:
    for name, term in terms.items():
        held = sums.setdefault(name, [0.0, 0.0])
        held[0] += float(term.total.detach())
        held[1] += float(term.weight.detach())


def _not_finite(progress: Progress, settings: TrainSettings) -> str:
    return explain(
        f"the loss is not a finite number in epoch {progress.epoch + 1}, step {progress.step + 1}",
        where=f"learning_rate {settings.learning_rate:g}, precision {settings.precision}",
        do="Lower learning_rate, set clip=1, or use precision=fp32; the last state is kept",
    )

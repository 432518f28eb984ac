"""The game of networks that grow while they play."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from imgwas.encoders.adversarial import AdversarialLoop
from imgwas.encoders.base import NeuralEncoder
from imgwas.encoders.loop import Loop
from imgwas.encoders.stylegan import BASE, StyleGAN3D
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import UsageError, explain

logger = logging.getLogger(__name__)

#: Pictures whose mean and spread the inverter is told.
MEASURED = 128


class GrowingLoop(AdversarialLoop):
    """A game of networks that grow.

    Stage, share and batch follow from the number of finished epochs and steps alone.
    """

    encoder: StyleGAN3D

    def __init__(self, encoder: StyleGAN3D, *arguments: Any, **options: Any) -> None:
        super().__init__(encoder, *arguments, **options)
        #: training settings before any growth
        self.given = self.settings

    @classmethod
    def check(cls, encoder: NeuralEncoder, settings: TrainSettings, devices: int) -> None:
        """Refuse also a game that ends before the networks have grown.

        Raises
        ------
        UsageError
        """
        s = encoder.settings
        last = s.grow[s.n_growths - 1] if s.n_growths else 0
        if s.game_epochs <= last:
            raise UsageError(
                explain(
                    f"the game ends after {s.game_epochs} epochs",
                    expected=f"The networks grow to {s.max_resolution} voxels after {last}",
                    do=f"Use --set game_epochs={last * 2}, or an earlier grow",
                )
            )
        super().check(encoder, settings, devices)

    def _epoch(self, after_step: Callable[[Loop, int], object] | None) -> None:
        self.settings = replace(self.given, batch=self._batch_at(self.progress.epoch))
        self._grow()
        super()._epoch(after_step)

    def _step(self, chosen: Sequence[int], raw: torch.Tensor) -> None:
        self._grow()
        every = self.encoder.settings.penalty_every
        self.encoder.penalises = self.progress.total_steps % every == 0
        super()._step(chosen, raw)

    def _batch_at(self, epoch: int) -> int:
        return int(self.encoder.settings.batch_at(epoch, self.given.batch))

    def _grow(self) -> None:
        """Put the networks where this step belongs; after the game they stay where it ended."""
        s, progress = self.encoder.settings, self.progress
        epoch = min(progress.epoch, s.game_epochs)
        n_growths = s.growths_at(epoch)
        alpha = 1.0
        if n_growths:
            n, batch = len(self.split.train), self._batch_at(epoch)
            per_epoch = n // batch + (n % batch >= min(2, batch))
            since = (epoch - s.grow[n_growths - 1]) * per_epoch
            since += progress.step if self.in_game else 0
            alpha = min(1.0, s.fade * (since // s.fade_steps))
        self.encoder.players.grow(s.stage_of(n_growths), alpha)

    def _settle(self) -> None:
        """End the game, and measure what w and the pictures are like."""
        super()._settle()
        if self.progress.epoch > self.encoder.settings.game_epochs:
            return
        players, seed = self.encoder.players, self.settings.seed
        players.generator.measure_w(seed=seed)
        players.inverter.measure(self._pictures(seed))
        if self.ema is not None:
            state = players.generator.state_dict()
            self.ema = {name: value.clone() for name, value in state.items()}
        alpha = players.grown[1]
        if alpha < 1:
            logger.warning(
                "the game ended while the last stage was faded in to %.0f %%: play longer "
                "(game_epochs), or fade faster (fade_steps)", 100 * alpha,
            )  # fmt: skip

    def _pictures(self, seed: int) -> Iterator[torch.Tensor]:
        """Draw batches of pictures without noise."""
        self.network.eval()
        rng = torch.Generator().manual_seed(seed)
        codes = self.encoder.draw(MEASURED, device=torch.device("cpu"), rng=rng).to(self.device)
        parts = torch.split(codes, self.settings.batch)
        for some in parts:
            yield self.encoder.pairs(some)[1]

    def show(self, folder: Path) -> None:
        """Write a sheet of each epoch, and one of each stage when it ends."""
        super().show(folder)
        s, epoch = self.encoder.settings, self.progress.epoch
        ends = epoch in (*s.grow[: s.n_growths], s.game_epochs)
        written = folder / "samples" / f"epoch-{epoch:04d}.png"
        if ends and written.exists():
            edge = BASE * 2 ** self.encoder.players.grown[0]
            written.replace(written.with_name(f"stage-{edge:03d}.png"))

"""What diffusion autoencoders add to the loop: chances that stay, and how pictures return."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from imgwas.encoders.base import Batch, NeuralEncoder
from imgwas.encoders.loading import chunks
from imgwas.encoders.loop import Loop
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import InconsistentError, explain

if TYPE_CHECKING:
    from imgwas.encoders.diffae import DiffAE

logger = logging.getLogger(__name__)

#: Held-out images that are encoded, inverted and painted again.
SCORED = 4
_JUDGED = 1 << 40


class DiffusionLoop(Loop):
    """The loop of ``diffae``.

    Held-out images get the same times and noise in every epoch, so that epochs can be compared.
    Every ``score_epochs`` epochs the SSIM of a few of them with what the averaged weights paint of
    them stands in the history.
    """

    encoder: DiffAE

    @classmethod
    def check(cls, encoder: NeuralEncoder, settings: TrainSettings, devices: int) -> None:
        """Say what is lost without averaged weights."""
        super().check(encoder, settings, devices)
        if not settings.ema:
            logger.warning(
                "ema=0  the last weights are judged and saved; averaged ones paint better"
            )

    def _batch(self, chosen: Sequence[int], raw: torch.Tensor, *, train: bool = True) -> Batch:
        if not train:
            torch.manual_seed(_JUDGED + self.settings.seed + (chosen[0] << 20))
        return super()._batch(chosen, raw, train=train)

    def _judge(self) -> dict[str, float]:
        row = super()._judge()
        every = self.settings.score_epochs
        if every and (self.progress.epoch + 1) % every == 0:
            rows = list(self.split.validation)[:SCORED]
            with self.judged_weights():
                found = [
                    (len(some), self.encoder.similarity(raw))
                    for some, raw in self._batches(chunks(rows, self.settings.batch))
                ]
            for name in found[0][1]:
                row[name] = sum(n * values[name] for n, values in found) / len(rows)
        return row

    def finish(self) -> None:
        """Measure mean and covariance of the training people's latents with the best weights."""
        rows = chunks(list(self.split.train), self.settings.batch)
        self.encoder.measure_latents(raw for _, raw in self._batches(rows))

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`; averaged weights must be there if they are asked for."""
        if (state["ema"] is None) != (self.ema is None):
            there, asked = (
                "without" if ema is None else "with" for ema in (state["ema"], self.ema)
            )
            raise InconsistentError(
                explain(f"the state was saved {there} averaged weights",
                        expected=f"This run is one {asked} them (--train ema)")
            )  # fmt: skip
        super().load_state(state)

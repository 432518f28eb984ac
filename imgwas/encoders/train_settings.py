"""How a network is trained, as typed settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imgwas.checks import check_range
from imgwas.errors import UsageError, explain

#: Larger numbers, infinity among them, are no settings.
LARGEST = 2**62


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the training loop.

    Parameters
    ----------
    epochs : int
        Passes over the training images.
    epoch_share : float
        Share of the training batches that an epoch takes; which ones changes from epoch to epoch.
    batch : int
        Images whose mean gradient makes one step, over all devices.
    accumulate : int
        Parts that a batch is computed in, one after the other, to save memory; each weighs by its
        number of images.
    learning_rate, weight_decay : float
        Of Adam.
    schedule : {"plateau", "cosine", "constant"}
        ``plateau`` multiplies the rate by ``factor`` when the validation loss has not fallen for
        ``patience`` epochs, down to ``learning_rate * min_rate``.
    clip : float, optional
        Largest norm of the gradient.
    precision : {"fp32", "bf16", "fp16"}
        Of activations; weights stay in single precision.
    ema : float
        Decay of the exponential moving average of weights that is judged and saved; 0 for none.
    stop_after : int
        Stop when the validation loss has not fallen for that many epochs; 0 never.
    keep : int
        Best checkpoints kept.
    save_steps : int
        Also save the state every so many steps within an epoch; 0 only after epochs.
    score_epochs : int
        Every so many epochs, measure what takes long: for ``diffae``, how alike held-out images are
        to what is painted of them; 0 never.
    seed : int
        Of weights, order, augmentation and noise.
    augment : {"none", "flip", "rotate"}
        Mirror x with probability 1/2, or one rotation by +-5, 10 or 20 degrees.
    noise : float
        Standard deviation of Gaussian noise added to normalised images.
    channels_last, compile : bool
        Memory layout and torch.compile, for GPUs.
    threads : int
        Images read at a time.
    """

    epochs: int = 100
    epoch_share: float = 1.0
    batch: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    factor: float = 0.5
    patience: int = 4
    min_rate: float = 1e-3
    clip: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema: float = 0.0
    stop_after: int = 0
    keep: int = 5
    save_steps: int = 0
    score_epochs: int = 0
    seed: int = 0
    augment: Literal["none", "flip", "rotate"] = "none"
    noise: float = 0.0
    channels_last: bool = False
    compile: bool = False
    threads: int = 2

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "keep", "threads"):
            if getattr(self, name) < 1:
                raise UsageError(explain(f"{name} is {getattr(self, name)}", expected="At least 1"))
        for name in ("weight_decay", "noise", "patience", "stop_after", "save_steps", "seed",
                     "score_epochs"):  # fmt: skip
            check_range(name, getattr(self, name), low=0, high=LARGEST)
        check_range("min_rate", self.min_rate, low=0, high=1)
        if not 0 < self.learning_rate < 10:
            raise UsageError(
                explain(f"learning_rate is {self.learning_rate}", expected="Above 0, e.g. 1e-3")
            )
        if not 0 < self.factor < 1:
            raise UsageError(explain(f"factor is {self.factor}", expected="Above 0 and below 1"))
        if not 0 < self.epoch_share <= 1:
            raise UsageError(
                explain(f"epoch_share is {self.epoch_share}", expected="Above 0, at most 1")
            )
        if not 0 <= self.ema < 1:
            raise UsageError(explain(f"ema is {self.ema}", expected="From 0 to below 1"))
        if self.clip is not None and not 0 < self.clip <= LARGEST:
            raise UsageError(explain(f"clip is {self.clip}", expected="Above 0, or none"))

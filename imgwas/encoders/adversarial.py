"""Training of encoders whose decoder was trained in a game: two players, then an inverter.

How to build on it
------------------
An encoder derives from :class:`imgwas.encoders.generative.GenerativeEncoder`. Its ``build()``
returns a module with three parts, ``generator``, ``discriminator`` and ``inverter``, and with
``encode`` and ``decode``. :class:`AdversarialLoop` trains them in two phases, told apart by the
number of the epoch alone (``settings.game_epochs``), so that a run resumes to the bit:

**game**: each step draws codes (``encoder.draw``) and takes a step of the discriminator on
``discriminator_losses(real, fake)``, fakes made without gradient; every ``settings.n_critic`` steps
a step of the generator on ``generator_losses(real, codes)`` with fresh codes, the discriminator
frozen. Gradients are cleared before each. The generator's average follows it (``ema``).

**inversion**: the averaged generator takes the generator's place and stays as it is. Each step
draws codes, lets ``encoder.pairs(codes)`` make (what to answer, picture), and takes a step of the
inverter on ``inversion_losses(target, picture, real)``. Its first term is relative: 1 is the loss
of always answering the mean. Held-out pairs, the same every epoch, give ``validation_loss``.

Before each step ``encoder.place(Position)`` says how many real images the players have seen:
progressive growth and fade-in follow from that. In the game no held-out loss means anything, so
``validation_loss`` is 1 there and the last epoch ranks first among the game's; any epoch of the
inversion ranks before all of them, the lowest loss first. ``encoder.measure(real, fake)`` adds
columns to the history after each epoch of the game, ``encoder.keeps(player, loss)`` may skip a
step, ``encoder.warn`` looks at the samples that ``show`` writes. Random numbers of a step follow
from (seed, step) as in :mod:`imgwas.encoders.loop`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from imgwas.encoders.base import NeuralEncoder, Ratio
from imgwas.encoders.generative import GenerativeEncoder, Position
from imgwas.encoders.loading import chunks
from imgwas.encoders.loop import _HALF, Loop, _add, _blend, _mix, _not_finite, _schedule, _warmed
from imgwas.encoders.penalties import measured_anew
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import DegenerateError, UsageError, explain

logger = logging.getLogger(__name__)

PLAYERS = ("generator", "discriminator", "inverter")
#: Steps of this number and above are no steps of training: their random numbers are for judging.
JUDGING = 2**40
#: Variance between samples, as a share of that between images, that is no variety.
COLLAPSED = 0.01
#: Batches over which batch norm is measured anew (the standing statistics of Brock et al. 2019).
COUNTED = 8


class AdversarialLoop(Loop):
    """Trains generator and discriminator against each other, then the inverter.

    Parameters are those of :class:`imgwas.encoders.loop.Loop`.
    """

    encoder: GenerativeEncoder

    def __init__(self, encoder: GenerativeEncoder, *arguments: Any, **options: Any) -> None:
        super().__init__(encoder, *arguments, **options)
        given, s = self.settings, encoder.settings
        betas = (s.beta1, s.beta2)
        rates = {"generator": given.learning_rate, "discriminator": given.learning_rate}
        self.optimizers = {
            name: torch.optim.Adam(self._part(name).parameters(), lr=rate, betas=betas)
            for name, rate in rates.items()
        }
        self.optimizer = torch.optim.Adam(self._part("inverter").parameters(), lr=s.inverter_rate)
        self.optimizers["inverter"] = self.optimizer
        n_epochs = max(1, given.epochs - s.game_epochs)
        self.schedule = _schedule(
            self.optimizer, replace(given, epochs=n_epochs, learning_rate=s.inverter_rate)
        )
        if self.ema is not None:
            self.ema = _copy(self._part("generator"))
        #: real images that the players have seen
        self.shown = 0
        self._held_out: torch.Tensor | None = None
        self._warned = False

    @classmethod
    def check(cls, encoder: NeuralEncoder, settings: TrainSettings, devices: int) -> None:
        """Refuse what this loop cannot do.

        Raises
        ------
        UsageError
            With several devices, fp16, or no epochs left for the inverter.
        """
        n_game = encoder.settings.game_epochs
        if settings.epochs <= n_game:
            raise UsageError(
                explain(
                    f"epochs is {settings.epochs} and the game of {encoder.name} takes {n_game}",
                    expected="The inverter, which makes the latents, is trained in the epochs "
                    "after the game",
                    do=f"Use --train epochs={n_game + max(1, n_game // 2)}, or a shorter game: "
                    "--set game_epochs=N",
                )
            )
        if devices > 1:
            raise UsageError(
                explain(f"{encoder.name} trains on one device, {devices} were asked for",
                        do="Leave --devices out; --train accumulate=2 halves the memory")
            )  # fmt: skip
        if settings.precision == "fp16":
            raise UsageError(
                explain(f"{encoder.name} cannot be trained in fp16: slopes of slopes overflow",
                        do="Use --train precision=bf16 or fp32")
            )  # fmt: skip

    @property
    def in_game(self) -> bool:
        """Whether the epoch now under way is one of the game."""
        return self.progress.epoch < int(self.encoder.settings.game_epochs)

    @property
    def position(self) -> Position:
        """Where the training is."""
        n = len(self.split.train)
        return Position("game" if self.in_game else "inversion", self.shown, n, self.progress.epoch)

    def _part(self, name: str) -> nn.Module:
        part: nn.Module = getattr(self.network, name)
        return part

    def _epoch(self, after_step: Callable[[Loop, int], object] | None) -> None:
        if not self.in_game and not self.progress.step:
            self._settle()
        self.encoder.place(self.position)
        super()._epoch(after_step)

    def _settle(self) -> None:
        """End the game: the averaged generator takes the generator's place."""
        generator = self._part("generator")
        if self.ema is not None:
            generator.load_state_dict(self.ema)
        self._count_again(generator)
        if self.ema is not None:
            self.ema = _copy(generator)

    def _count_again(self, generator: nn.Module) -> None:
        """Measure batch norm's means and variances anew: the averaged weights have their own."""
        rng = torch.Generator().manual_seed(_mix(self.settings.seed, JUDGING + 2, 0))
        n = max(2, self.settings.batch)
        with measured_anew(generator) as needed, torch.no_grad():
            for _ in range(COUNTED if needed else 0):
                codes = self.encoder.draw(n, device=torch.device("cpu"), rng=rng)
                self.encoder.generate(codes.to(self.device))

    def _step(self, chosen: Sequence[int], raw: torch.Tensor) -> None:
        """Take one step of the game, or of the inverter."""
        settings, total = self.settings, self.progress.total_steps
        torch.manual_seed(_mix(settings.seed, total, self.world.rank))
        self.encoder.place(self.position)
        n_parts = min(settings.accumulate, len(chosen))
        rows = np.array_split(np.arange(len(chosen)), n_parts)
        parts = [self._batch([chosen[i] for i in part], raw[part]).image for part in rows]
        if not self.in_game:
            self._part("generator").eval()
            self._part("discriminator").eval()
            self._update("inverter", parts, self._inversion)
            return
        self._update("discriminator", parts, self._judging_fakes)
        if (total + 1) % int(self.encoder.settings.n_critic) == 0:
            self._update("generator", parts, self._fooling)
            if self.ema is not None:
                _blend(self.ema, self._part("generator"), _warmed(settings.ema, total))
        self.shown += len(chosen)

    def _judging_fakes(self, real: torch.Tensor) -> dict[str, Ratio]:
        with torch.no_grad():
            fake = self.encoder.generate(self.encoder.draw(len(real), device=self.device))
        return self.encoder.discriminator_losses(self.encoder.match(real), fake)

    def _fooling(self, real: torch.Tensor) -> dict[str, Ratio]:
        codes = self.encoder.draw(len(real), device=self.device)
        return self.encoder.generator_losses(self.encoder.match(real), codes)

    def _inversion(self, real: torch.Tensor) -> dict[str, Ratio]:
        with torch.no_grad():
            codes = self.encoder.draw(len(real), device=self.device)
            target, picture = self.encoder.pairs(codes)
        return self.encoder.inversion_losses(target, picture, real)

    def _update(
        self, player: str, parts: Sequence[torch.Tensor],
        compute: Callable[[torch.Tensor], dict[str, Ratio]],
    ) -> None:  # fmt: skip
        """Take one step of one player; nobody else gets a gradient."""
        optimizer, n = self.optimizers[player], sum(len(part) for part in parts)
        half = _HALF.get(self.settings.precision)
        weights, total = self.encoder.loss_weights(), 0.0
        optimizer.zero_grad(set_to_none=True)
        with _only(self.network, player):
            for part in parts:
                with torch.autocast(self.device.type, dtype=half, enabled=half is not None):
                    terms = compute(part)
                loss = sum(
                    (weights.get(name, 1.0) * term.total.float() / term.weight.clamp(min=1e-12)
                     for name, term in terms.items()),
                    start=torch.zeros((), device=self.device),
                )  # fmt: skip
                if not bool(torch.isfinite(loss)):
                    raise DegenerateError(f"{player}: {_not_finite(self.progress, self.settings)}")
                (loss * (len(part) / n)).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach()) * len(part) / n
                _add(self.progress.sums, terms)
        if not self.encoder.keeps(player, total):
            return
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self._part(player).parameters(), self.settings.clip)
        optimizer.step()

    def _advance(self, row: Mapping[str, float]) -> None:
        """Only the inverter's rate changes, and only while it is trained."""
        if not self.in_game:
            super()._advance(row)

    @torch.no_grad()
    def _judge(self) -> dict[str, float]:
        """Judge the inverter on held-out pairs, or what the generator makes on held-out images."""
        torch.manual_seed(_mix(self.settings.seed, JUDGING, self.world.rank))
        sums: dict[str, list[float]] = {}
        with self.judged_weights():
            self.network.eval()
            self.encoder.place(self.position)
            measured = self._measure() if self.in_game else self._judge_inverter(sums)
        row = self._row(sums)
        if self.in_game:
            row["validation_loss"] = 1.0
        return row | measured

    def _judge_inverter(self, sums: dict[str, list[float]]) -> dict[str, float]:
        """Add up the losses over pairs that no step has seen, the same in every epoch."""
        for codes in torch.split(self.held_out_codes(), self.settings.batch):
            target, picture = self.encoder.pairs(codes)
            _add(sums, self.encoder.inversion_losses(target, picture, None))
        return {}

    def held_out_codes(self) -> torch.Tensor:
        """Codes of the pairs that the inverter is judged on; they follow from the seed."""
        if self._held_out is None:
            n = int(self.encoder.settings.held_out_pairs)
            rng = torch.Generator().manual_seed(_mix(self.settings.seed, JUDGING + 1, 0))
            self._held_out = self.encoder.draw(n, device=torch.device("cpu"), rng=rng)
        return self._held_out.to(self.device)

    def _measure(self) -> dict[str, float]:
        """Compare samples with as many held-out images, where there are enough of both."""
        n = min(int(self.encoder.settings.held_out_pairs), len(self.split.validation))
        if n < 2:
            return {}
        codes, fakes, reals = self.held_out_codes()[:n], [], []
        for (_, raw), some in zip(
            self._batches(chunks(list(self.split.validation)[:n], self.settings.batch)),
            torch.split(codes, self.settings.batch),
            strict=True,
        ):
            image = self.encoder.normalise(raw.to(self.device)).image
            reals.append(self.encoder.match(image).float().cpu())
            fakes.append(self.encoder.generate(some).float().cpu())
        found = self.encoder.measure(torch.cat(reals), torch.cat(fakes))
        self._look_for_collapse(found)
        return found

    def _look_for_collapse(self, found: Mapping[str, float]) -> None:
        """Warn once, in the second half of the game, where all samples are the same."""
        n_game = int(self.encoder.settings.game_epochs)
        spread = found.get("sample_spread", 1.0)
        if self._warned or spread >= COLLAPSED or 2 * (self.progress.epoch + 1) < n_game:
            return
        self._warned = True
        logger.warning(
            "all samples look the same (epoch %d): their variance is %.2g of that between held-out "
            "images. The generator ignores its code, and latents would say nothing. Try another "
            "seed, --set n_critic=2, --set loss=wgan, or more people",
            self.progress.epoch + 1, spread,
        )  # fmt: skip

    def _row(self, sums: dict[str, list[float]]) -> dict[str, float]:
        row = super()._row(sums)
        if self.in_game:
            row["learning_rate"] = float(self.optimizers["generator"].param_groups[0]["lr"])
        return row

    def describe(self, row: Mapping[str, float]) -> str:
        """Say how the game stands; of the inverter what every loop says."""
        if row["epoch"] > int(self.encoder.settings.game_epochs):
            return super().describe(row)
        names = [
            n for n in row if n.startswith(("train_", "sample_", "real_")) and n != "train_loss"
        ]
        shown = "  ".join(f"{n.removeprefix('train_')} {row[n]:.3g}" for n in names)
        speed = row["images_per_second"]
        return f"epoch {row['epoch']:.0f} of the game  {shown}  {speed:.1f} images/s"

    def ranked(self) -> list[dict[str, float]]:
        """The inversion's epochs by their loss, then the game's, the last first."""
        n_game = int(self.encoder.settings.game_epochs)

        def rank(row: Mapping[str, float]) -> tuple[bool, float]:
            is_game = row["epoch"] <= n_game
            return is_game, -row["epoch"] if is_game else row["validation_loss"]

        return sorted(self.progress.history, key=rank)

    def show(self, folder: Path) -> None:
        """Write a sheet of samples of fixed codes after each epoch of the game."""
        epoch = self.progress.epoch
        if epoch > int(self.encoder.settings.game_epochs):
            return
        codes = self.held_out_codes()[: int(self.encoder.settings.samples)]
        with torch.no_grad(), self.judged_weights():
            self.network.eval()
            parts = torch.split(codes, self.settings.batch)
            pictures = torch.cat([self.encoder.generate(some).float().cpu() for some in parts])
        self.encoder.write_sheet(pictures, folder / "samples" / f"epoch-{epoch:04d}.png")

    @contextlib.contextmanager
    def judged_weights(self) -> Iterator[None]:
        """Put the averaged generator in place, batch norm measured anew, the other back after."""
        generator = self._part("generator")
        mine, training = _copy(generator), generator.training
        if self.ema is not None:
            generator.load_state_dict(self.ema)
        if self._in_play:
            self._count_again(generator)
        try:
            yield
        finally:
            generator.load_state_dict(mine)
            generator.train(training)

    @property
    def _in_play(self) -> bool:
        """Whether the inverter has not had a step yet: the generator is still that of the game."""
        n_game = int(self.encoder.settings.game_epochs)
        return self.progress.epoch < n_game or (self.progress.epoch, self.progress.step) == (
            n_game,
            0,
        )

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, of all three players."""
        optimizers = {name: one.state_dict() for name, one in self.optimizers.items()}
        return {**super().state(), "optimizers": optimizers, "shown": self.shown}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`.

        Raises
        ------
        ValueError
            If the averaged generator is absent although this run averages, or the reverse.
        """
        if (state["ema"] is None) != (self.ema is None):
            raise ValueError("the averaged generator (ema) is missing or was not asked for")
        super().load_state(state)
        for name, one in self.optimizers.items():
            one.load_state_dict(state["optimizers"][name])
        self.shown = int(state["shown"])


@contextlib.contextmanager
def _only(network: nn.Module, player: str) -> Iterator[None]:
    """Let gradients reach one player's weights alone."""
    for name in PLAYERS:
        for weight in getattr(network, name).parameters():
            weight.requires_grad_(name == player)
    try:
        yield
    finally:
        for weight in network.parameters():
            weight.requires_grad_(True)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

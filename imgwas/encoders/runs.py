"""The folder of a training run: what is finished, what may be resumed, what may leave.

::

    encoder/            the best network: encoder.json and encoder.safetensors, names nobody
    checkpoints/        the best few epochs
    private/            state.pt to resume from, people_seen.tsv, split.tsv: keep to yourself
    run.json            identity of the run, checked before it is resumed
    history.csv         one row an epoch
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from imgwas import settings as typed
from imgwas._version import __version__
from imgwas.encoders.base import Encoder
from imgwas.encoders.checkpoints import save_encoder
from imgwas.encoders.splits import Split
from imgwas.encoders.train_settings import TrainSettings
from imgwas.errors import InconsistentError, MalformedError, explain
from imgwas.files import publish, publish_json, read_json, write_error
from imgwas.latents.ledger import FILE as LEDGER
from imgwas.latents.ledger import read_ledger, write_ledger
from imgwas.types import Images

if TYPE_CHECKING:
    from imgwas.encoders.loop import Loop

logger = logging.getLogger(__name__)

STATE = "state.pt"
#: Settings that may differ when a run is resumed: they do not change a step that was taken.
MAY_DIFFER = ("epochs", "threads", "keep", "save_steps", "score_epochs", "stop_after")


class Run:
    """One training run on disk."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def private(self) -> Path:
        """Folder that must not be shared."""
        return self.folder / "private"

    def start(
        self, encoder: Encoder, images: Images, split: Split, train: TrainSettings,
        *, seen: Sequence[str] = (), targets: Any = None, overwrite: bool = False,
    ) -> None:  # fmt: skip
        """Make the folder, or check that it holds this very run.

        Raises
        ------
        InconsistentError
            If it holds another one; what differs is named.
        """
        try:
            if overwrite:
                self._clear()
            self.private.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.private / ".gitignore").write_text("*\n", encoding="ascii")
        except OSError as error:
            raise write_error(self.folder / "run.json", error) from error
        identity = _identity(encoder, images, split, train, targets)
        path = self.folder / "run.json"
        if path.exists():
            self._compare(read_json(path)["identity"], identity)
        else:
            publish_json(path, {"identity": identity, "imgwas": __version__})
        people = {images.sample_ids[i] for i in (*split.train, *split.validation)}
        before = set(self.people_seen() or ())
        write_ledger(self.private / LEDGER, people | before | set(seen))
        self._write_split(images, split)

    def _clear(self) -> None:
        """Remove what a run wrote, and nothing else."""
        for name in ("encoder", "checkpoints", "private", "samples"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("run.json", "history.csv", "learning_curve.pdf"):
            (self.folder / name).unlink(missing_ok=True)

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        differing = [key for key in now if before.get(key) != now[key]]
        details = [
            f"{key}.{name} was {before[key].get(name)!r}, now {value!r}"
            for key in differing
            if isinstance(now[key], dict) and isinstance(before.get(key), dict)
            for name, value in now[key].items()
            if before[key].get(name) != value
        ]
        if differing:
            raise InconsistentError(
                explain(
                    f"{self.folder} holds another run (differing: {', '.join(differing)})",
                    where="; ".join(details[:3]),
                    do="Choose another --out, or pass --overwrite",
                )
            )

    def _write_split(self, images: Images, split: Split) -> None:
        with publish(self.private / "split.tsv", "w") as stream:
            stream.write("sample_id\tpart\n")
            for part, rows in (("train", split.train), ("validation", split.validation)):
                stream.writelines(f"{images.sample_ids[i]}\t{part}\n" for i in rows)

    def people_seen(self) -> list[str] | None:
        """Ids of everyone seen, or None where the ledger is absent."""
        path = self.private / LEDGER
        return read_ledger(path) if path.exists() else None

    def resume(self, loop: Loop) -> bool:
        """Put a loop where the run stopped; return whether there was something to resume."""
        path = self.private / STATE
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location=loop.device, weights_only=True)
            loop.load_state(state)
        except (RuntimeError, KeyError, EOFError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0][:200]
            raise MalformedError(
                explain(f"{path} is damaged ({reason})", do="Remove it to start the run again")
            ) from error
        logger.info("resumed  after epoch %d", loop.progress.epoch)
        return True

    def save_state(self, loop: Loop) -> None:
        """Publish everything a resumed run needs."""
        with publish(self.private / STATE) as stream:
            torch.save(loop.state(), stream)

    def finish_epoch(self, loop: Loop, about: Mapping[str, Any]) -> None:
        """Write the checkpoint if it is among the best, the history, and then the state."""
        history = loop.progress.history
        best = [int(row["epoch"]) for row in loop.ranked()[: loop.settings.keep]]
        if loop.progress.epoch in best:
            with loop.judged_weights():
                save_encoder(self._checkpoint(loop.progress.epoch), loop.encoder, **about)
        for folder in (self.folder / "checkpoints").glob("epoch-*"):
            if int(folder.name.split("-")[1]) not in best:
                shutil.rmtree(folder, ignore_errors=True)
        self.write_history(history)
        self.save_state(loop)

    def checkpoint_folders(self) -> list[Path]:
        """Folders that hold encoders."""
        return [self.folder / "encoder", *(self.folder / "checkpoints").glob("epoch-*")]

    def _checkpoint(self, epoch: int) -> Path:
        return self.folder / "checkpoints" / f"epoch-{epoch:04d}"

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Publish one row an epoch; a cell is empty where an epoch has no such number."""
        names = list(dict.fromkeys(name for row in history for name in row)) or ["epoch"]
        with publish(self.folder / "history.csv", "w") as stream:
            stream.write(",".join(names) + "\n")
            stream.writelines(
                ",".join(f"{row[name]:.9g}" if name in row else "" for name in names) + "\n"
                for row in history
            )

    def publish_best(self, loop: Loop, about: Mapping[str, Any]) -> str:
        """Make the best checkpoint the run's encoder; return the SHA-256 of its weights."""
        from imgwas.encoders.checkpoints import load_encoder

        best = loop.ranked()[0]
        loaded = load_encoder(self._checkpoint(int(best["epoch"])), device=str(loop.device))
        loop.network.load_state_dict(loaded.encoder.network.state_dict())  # type: ignore[attr-defined]
        loop.finish()
        return save_encoder(
            self.folder / "encoder", loop.encoder, **about, best_epoch=int(best["epoch"]),
            validation_loss=best["validation_loss"],
        )  # fmt: skip


def _identity(
    encoder: Encoder, images: Images, split: Split, train: TrainSettings, targets: Any
) -> dict[str, Any]:
    training = {k: v for k, v in typed.as_json(train).items() if k not in MAY_DIFFER}
    if train.epoch_share == 1:  # runs of before there was such a setting go on
        del training["epoch_share"]
    if train.schedule == "cosine":
        training["epochs"] = train.epochs
    fingerprint = json.dumps(images.fingerprint(), sort_keys=True).encode()
    return {
        "encoder": encoder.name,
        "settings": typed.as_json(encoder.settings),
        "training": training,
        "images": hashlib.sha256(fingerprint).hexdigest(),
        "split": split.digest(),
        "targets": None if targets is None else hashlib.sha256(targets.tobytes()).hexdigest(),
    }

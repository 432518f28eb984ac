"""The history of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from imgwas.errors import MissingLibraryError, explain


def write_tensorboard(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Write every column of a history as scalars, one step an epoch."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingLibraryError(
            explain("TensorBoard is not installed", do="pip install 'imgwas[tensorboard]'")
        ) from error
    with SummaryWriter(str(folder)) as writer:
        for row in history:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(row["epoch"]))

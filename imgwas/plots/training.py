"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imgwas.errors import UsageError
from imgwas.plots.style import COLOURS, ONE_COLUMN, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curve(
    history: Sequence[Mapping[str, float]], *, ax: Axes | None = None, baseline: float | None = None
) -> Axes:
    """Draw training and validation loss by epoch, the best epoch marked.

    Parameters
    ----------
    history : sequence of mapping
        ``epoch``, ``train_loss``, ``validation_loss``.
    ax : Axes, optional
        Where to draw.
    baseline : float, optional
        A loss to beat, e.g. that of as many principal components.

    Returns
    -------
    Axes
    """
    from matplotlib.ticker import MaxNLocator

    if not history:
        raise UsageError("the history is empty: nothing has been trained yet.")
    ax = own_axes(ax, width=ONE_COLUMN, height=2.4)
    epochs = [row["epoch"] for row in history]
    validation = [row["validation_loss"] for row in history]
    marker = "o" if len(epochs) == 1 else None
    ax.plot(epochs, [row["train_loss"] for row in history], color=COLOURS[5], lw=1.2,
            marker=marker, label="training")  # fmt: skip
    ax.plot(epochs, validation, color=COLOURS[0], lw=1.2, marker=marker, label="held out")
    best = validation.index(min(validation))
    ax.plot(epochs[best], validation[best], "o", ms=4, color=COLOURS[1], zorder=3,
            label=f"best: {validation[best]:.4g} (epoch {epochs[best]:g})")  # fmt: skip
    if baseline is not None:
        ax.axhline(baseline, color="0.5", lw=0.8, ls="--", label=f"baseline {baseline:.4g}")
    low, high = min(validation), max(max(validation), *(row["train_loss"] for row in history))
    if low > 0 and high / low > 20:
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss")
    ax.legend(frameon=False, fontsize=6.5)
    return ax

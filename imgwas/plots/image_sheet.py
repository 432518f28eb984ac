"""Sheets of images: three slices a person, worst first; originals beside reconstructions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from imgwas.errors import UsageError
from imgwas.plots.style import RC, TWO_COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SheetEntry:
    """One image of a sheet: a title, the volume (None if unreadable), what is wrong with it."""

    title: str
    values: np.ndarray | None
    problem: str = ""


@runtime_checkable
class PairLike(Protocol):
    """What a sheet of reconstructions needs of a pair."""

    @property
    def original(self) -> np.ndarray: ...  # noqa: D102
    @property
    def reconstruction(self) -> np.ndarray: ...  # noqa: D102
    @property
    def mask(self) -> np.ndarray: ...  # noqa: D102
    @property
    def explained(self) -> float: ...  # noqa: D102


def middle_slices(values: np.ndarray) -> list[np.ndarray]:
    """Sagittal, coronal and axial slices through the middle of what is not background.

    Pictures are turned so that up is up and, for RAS volumes, the front is at the right of the
    sagittal one and the right hand at the right of the others.
    """
    if values.ndim == 4:
        values = values[..., 0]
    inside = values != values.flat[0]
    if not inside.any():
        inside = np.ones_like(inside)
    centre = [round(float(np.mean(np.flatnonzero(inside.any(axis=axes)))))
              for axes in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
    x, y, z = centre
    return [values[x].T[::-1], values[:, y].T[::-1], values[:, :, z].T[::-1]]


def montage(slices: Sequence[np.ndarray]) -> np.ndarray:
    """Lay pictures side by side, filled up to one height with their own corner value."""
    height = max(picture.shape[0] for picture in slices)
    parts = []
    for picture in slices:
        missing = height - picture.shape[0]
        edges = ((missing // 2, missing - missing // 2), (0, 0))
        parts.append(np.pad(picture, edges, constant_values=float(picture.flat[0])))
    return np.concatenate(parts, axis=1)


def image_sheet(entries: Sequence[SheetEntry], *, columns: int = 3) -> Figure:
    """Draw three slices of every image, in the order given; problems stand in red below.

    Parameters
    ----------
    entries : sequence of SheetEntry
        Worst first.
    columns : int
        Images side by side.

    Returns
    -------
    Figure
    """
    if not entries:
        raise UsageError("there is no image to draw.")
    rows = math.ceil(len(entries) / columns)
    figure = _figure(rows * (TWO_COLUMNS / columns * 0.42 + 0.28) + 0.1)
    grid = figure.add_gridspec(rows, columns)
    for number, entry in enumerate(entries):
        ax = figure.add_subplot(grid[number // columns, number % columns])
        ax.set_axis_off()
        ax.set_title(entry.title, fontsize=6, pad=2, loc="left")
        if entry.values is None:
            ax.text(0.5, 0.5, "unreadable", ha="center", va="center", fontsize=7, color="0.5",
                    transform=ax.transAxes)  # fmt: skip
        else:
            _show(ax, montage(middle_slices(entry.values)))
        if entry.problem:
            text = entry.problem if len(entry.problem) < 72 else entry.problem[:70] + "..."
            ax.text(0.0, -0.03, text, fontsize=5, color="#B22222", va="top",
                    transform=ax.transAxes, wrap=True)  # fmt: skip
    return figure


def reconstruction_sheet(pairs: Sequence[PairLike]) -> Figure:
    """Draw originals, reconstructions and their difference, one row a person.

    Original and reconstruction share one window (percentiles 1 and 99.5 of the original inside its
    mask); the difference is symmetric about white. Outside the mask nothing is drawn, because the
    loss does not look there.
    """
    if not pairs:
        raise UsageError("there is no image to draw.")
    figure = _figure(len(pairs) * 0.95 + 0.35)
    axes = figure.subplots(len(pairs), 3, squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        inside = pair.original[pair.mask]
        low, high = np.percentile(inside, [1, 99.5])
        missed = np.abs(pair.original - pair.reconstruction)[pair.mask]
        limit = max(float(np.percentile(missed, 99)), 1e-9)
        black = np.where(pair.mask, 0, 1).astype(bool)
        original = np.where(black, low, pair.original)
        decoded = np.where(black, low, pair.reconstruction)
        difference = np.where(black, 0, pair.original - pair.reconstruction)
        _show(row[0], _slices_of(original, pair.mask), low, high)
        _show(row[1], _slices_of(decoded, pair.mask), low, high)
        _show(row[2], _slices_of(difference, pair.mask), -limit, limit, "RdBu_r")
        row[1].set_title(f"{pair.explained:.0%} of variance", fontsize=6, pad=1, loc="right")
        for ax in row:
            ax.set_axis_off()
    for ax, name in zip(axes[0], ("original", "reconstruction", "difference"), strict=True):
        ax.set_title(name, fontsize=7, pad=3, loc="left")
    return figure


def _slices_of(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    centre = [round(float(np.mean(np.flatnonzero(mask.any(axis=axes)))))
              for axes in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
    x, y, z = centre
    return montage([values[x].T[::-1], values[:, y].T[::-1], values[:, :, z].T[::-1]])


def _show(
    ax: Any, picture: np.ndarray, low: float | None = None, high: float | None = None,
    colours: str = "gray",
) -> None:  # fmt: skip
    if low is None:
        low, high = (float(v) for v in np.percentile(picture, [0.5, 99.5]))
    ax.imshow(picture, cmap=colours, vmin=low, vmax=high, interpolation="nearest")


def _figure(height: float) -> Figure:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(RC):
        return Figure(figsize=(TWO_COLUMNS, height), layout="constrained")

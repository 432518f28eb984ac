"""Sheets of images: three slices a person, worst first; originals beside reconstructions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from imgwas.errors import UsageError
from imgwas.images.quality import Quality, read_to_show
from imgwas.images.space import space_of
from imgwas.plots.style import RC, TWO_COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Images side by side and rows on a page of a quality sheet.
COLUMNS, ROWS = 3, 7
#: A slice is drawn with at most so many pixels along an edge.
PIXELS = 256
#: Width over height of the frame of an image: three slices of a head side by side.
FRAME = 2.5


@dataclass(frozen=True)
class SheetEntry:
    """One image of a sheet.

    Parameters
    ----------
    title : str
        A number rather than an id: sheets are shown to others.
    values : (x, y, z) or (x, y, z, frames) array, optional
        Axes towards right, front and up; None if the image could not be read.
    problem : str
        What is wrong with it.
    zooms : tuple of float
        Voxel sizes in mm, so that nothing is drawn squashed.
    """

    title: str
    values: np.ndarray | None
    problem: str = ""
    zooms: tuple[float, ...] = (1.0, 1.0, 1.0)


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


def middle_slices(values: np.ndarray, zooms: Sequence[float] = (1.0, 1.0, 1.0)) -> list[np.ndarray]:
    """Sagittal, coronal and axial slices through the middle of what is not background.

    Pictures are turned so that up is up and, for RAS volumes, the front is at the right of the
    sagittal one and the right hand at the right of the others. Pixels are squares of the smallest
    voxel size.
    """
    if values.ndim == 4:
        values = values[..., 0]
    inside = values != values.flat[0]
    if not inside.any():
        inside = np.ones_like(inside)
    return _slices_at(values, _centre(inside), zooms)


def _centre(inside: np.ndarray) -> list[int]:
    return [round(float(np.mean(np.flatnonzero(inside.any(axis=axes)))))
            for axes in ((1, 2), (0, 2), (0, 1))]  # fmt: skip


def _slices_at(
    values: np.ndarray, centre: Sequence[int], zooms: Sequence[float] = (1.0, 1.0, 1.0)
) -> list[np.ndarray]:
    x, y, z = centre
    right, front, up = zooms[:3]
    slices = ((values[x], front, up), (values[:, y], right, up), (values[:, :, z], right, front))
    finest = max(
        min(zooms[:3]), max(n * z for n, z in zip(values.shape, zooms, strict=False)) / PIXELS
    )
    return [_square(one, across / finest, along / finest).T[::-1] for one, across, along in slices]


def _square(picture: np.ndarray, *factors: float) -> np.ndarray:
    """Repeat or skip rows and columns until pixels are square; no value is invented."""
    for axis, factor in enumerate(factors):
        n = picture.shape[axis]
        wanted = max(1, round(n * factor))
        if wanted != n:
            rows = ((np.arange(wanted) + 0.5) * n / wanted).astype(int)
            picture = picture.take(rows, axis=axis)
    return picture


def montage(slices: Sequence[np.ndarray]) -> np.ndarray:
    """Lay pictures side by side, filled up to one height with their own corner value."""
    height = max(picture.shape[0] for picture in slices)
    parts = []
    for picture in slices:
        missing = height - picture.shape[0]
        edges = ((missing // 2, missing - missing // 2), (0, 0))
        parts.append(np.pad(picture, edges, constant_values=float(picture.flat[0])))
    return np.concatenate(parts, axis=1)


def image_sheet(entries: Sequence[SheetEntry], *, columns: int = COLUMNS) -> Figure:
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
    width = TWO_COLUMNS / columns
    figure = _figure(rows * (width / FRAME + 0.38) + 0.05)
    grid = figure.add_gridspec(rows, columns)
    for number, entry in enumerate(entries):
        ax = figure.add_subplot(grid[number // columns, number % columns])
        ax.set_title(entry.title, fontsize=6, pad=2, loc="left")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(entry.values is None)
        if entry.values is None:
            _blank_frame(ax)
        else:
            picture = montage(middle_slices(entry.values, entry.zooms))
            _show(ax, picture)
            _frame(ax, *picture.shape)
        # two lines are always kept free, so that pictures of a row have one size
        lines = textwrap.wrap(entry.problem, int(width * 25), max_lines=2, placeholder=" ...")
        text = "\n".join([*lines, " ", " "][:2])
        ax.set_xlabel(text, fontsize=5, color="#B22222", loc="left", labelpad=2)
    return figure


def _frame(ax: Any, height: int, width: int) -> None:
    """Give every picture of a sheet a frame of one shape."""
    half = max(width / 2, height / 2 * FRAME)
    x, y = width / 2 - 0.5, height / 2 - 0.5
    ax.set(xlim=(x - half, x + half), ylim=(y + half / FRAME, y - half / FRAME), facecolor="black")


def _blank_frame(ax: Any) -> None:
    ax.set(xlim=(0, FRAME), ylim=(0, 1), aspect="equal")
    ax.spines[:].set(color="0.8", linewidth=0.4)
    ax.text(0.5, 0.5, "cannot be shown", ha="center", va="center", fontsize=6, color="0.5",
            transform=ax.transAxes)  # fmt: skip


def quality_pages(
    rows: Sequence[Quality], *, pictures: int = 63, seed: int = 0
) -> Iterator[Figure]:
    """Draw the images of a quality table, a page at a time, read again as each page is drawn.

    Every image with a problem is drawn; if there are fewer than ``pictures`` of them, some of the
    others are drawn by chance too, in the order of the table.

    Parameters
    ----------
    rows : sequence of Quality
        Of :func:`imgwas.images.quality.quality_table`, worst first.
    pictures : int
        Images to draw, where not more have problems.
    seed : int
        Of the choice among images without problems.

    Yields
    ------
    Figure
        Titles are numbers of rows in ``qc.tsv``, no ids.
    """
    bad = [i for i, row in enumerate(rows) if row.problems]
    good = [i for i, row in enumerate(rows) if not row.problems]
    n_good = min(max(pictures - len(bad), 0), len(good))
    some = np.random.default_rng(seed).permutation(len(good))[:n_good].tolist()
    chosen = [*bad, *(good[i] for i in sorted(some))]
    for start in range(0, len(chosen), COLUMNS * ROWS):
        page = chosen[start : start + COLUMNS * ROWS]
        yield image_sheet([_entry(i + 1, rows[i]) for i in page])


def _entry(number: int, row: Quality) -> SheetEntry:
    # the first sentence of each reason says what; the others say what to do
    problem = "; ".join(str(p).split(". ")[0].rstrip(".") for p in row.problems)
    volume = read_to_show(row.file)
    if volume is None:
        return SheetEntry(f"{number}", None, problem)
    zooms = space_of(volume).zooms
    return SheetEntry(f"{number}", volume.values, problem, zooms)


def reconstruction_sheet(pairs: Sequence[PairLike], *, figure: Figure | None = None) -> Figure:
    """Draw originals, reconstructions and their difference, one row a person.

    Original and reconstruction share one window (percentiles 1 and 99.5 of the original inside its
    mask); the difference is symmetric about white. Outside the mask nothing is drawn, because the
    loss does not look there. ``figure`` is drawn into, if given, and returned.
    """
    if not pairs:
        raise UsageError("there is no image to draw.")
    figure = figure or _figure(len(pairs) * 0.95 + 0.35)
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
    return montage(_slices_at(values, _centre(mask)))


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

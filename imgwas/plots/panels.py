"""Panels in inches: pictures of true proportions side by side, with one colour bar.

Layout engines leave gaps around pictures whose aspect is fixed. Here every panel is placed where it
fits, so that all share one scale in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgwas.plots.planes import PLANES, Scene, draw_plane, fades, size_of, tones

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

#: Room in inches: between panels, for a title, for the labels below panels, for a colour bar.
GAP, TITLE, LABEL, BAR = 0.06, 0.24, 0.16, 0.70
#: Tone behind a colour bar whose middle is transparent.
BEHIND = "#9A9A9A"


def new_figure(width: float, height: float) -> Figure:
    """Make a figure without a layout engine, outside pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def inches(figure: Figure | SubFigure) -> tuple[float, float]:
    """Width and height of a figure or of a part of one."""
    dpi = figure.figure.dpi
    return float(figure.bbox.width / dpi), float(figure.bbox.height / dpi)


def panel(
    figure: Figure | SubFigure, left: float, bottom: float, width: float, height: float
) -> Axes:
    """Add axes at a place in inches from the lower left."""
    total_width, total_height = inches(figure)
    return figure.add_axes((left / total_width, bottom / total_height, width / total_width,
                            height / total_height))  # fmt: skip


def rows_of_panels(
    figure: Figure | SubFigure,
    rows: Sequence[Sequence[tuple[float, float]]],
    room: tuple[float, float, float, float],
    *,
    gap: tuple[float, float] = (GAP, LABEL),
) -> list[list[Axes]]:
    """Place rows of panels of given sizes in mm, all on one scale, as large as they fit.

    Parameters
    ----------
    figure : Figure or SubFigure
    rows : sequence of rows of (width, height)
    room : (left, bottom, width, height)
        In inches.
    gap : (across, up)
        Between panels and between rows, in inches.
    """
    left, bottom, width, height = room
    scale = scale_of(rows, width, height, gap)
    tall = sum(max(h for _, h in row) for row in rows) * scale + gap[1] * (len(rows) - 1)
    top = bottom + height - (height - tall) / 2
    placed = []
    for row in rows:
        row_height = max(h for _, h in row) * scale
        wide = sum(w for w, _ in row) * scale + gap[0] * (len(row) - 1)
        x = left + (width - wide) / 2
        axes = []
        for panel_width, panel_height in row:
            size = (panel_width * scale, panel_height * scale)
            axes.append(panel(figure, x, top - row_height, *size))
            x += panel_width * scale + gap[0]
        placed.append(axes)
        top -= row_height + gap[1]
    return placed


def scale_of(
    rows: Sequence[Sequence[tuple[float, float]]], width: float, height: float,
    gap: tuple[float, float] = (GAP, LABEL),
) -> float:  # fmt: skip
    """Inches per mm at which rows of panels fit."""
    widest = [(width - gap[0] * (len(row) - 1)) / sum(w for w, _ in row) for row in rows]
    tall = sum(max(h for _, h in row) for row in rows)
    return max(1e-6, min(*widest, (height - gap[1] * (len(rows) - 1)) / tall, np.inf))


def height_for(
    rows: Sequence[Sequence[tuple[float, float]]], width: float,
    gap: tuple[float, float] = (GAP, LABEL),
) -> float:  # fmt: skip
    """Height in inches of rows of panels that fill a width."""
    scale = scale_of(rows, width, np.inf, gap)
    return sum(max(h for _, h in row) for row in rows) * scale + gap[1] * (len(rows) - 1)


def sizes(scene: Scene, planes: Sequence[str]) -> list[tuple[float, float]]:
    """Sizes of planes in mm."""
    return [size_of(scene, plane) for plane in planes]


def draw_row(
    axes: Sequence[Axes], scene: Scene, planes: Sequence[str], at: Sequence[float],
    *, letters: bool = True,
) -> None:  # fmt: skip
    """Draw planes through one point."""
    for ax, plane in zip(axes, planes, strict=True):
        draw_plane(ax, scene, plane, at[PLANES[plane][0]], letters=letters)


def signed_number(value: float, digits: int = 0) -> str:
    """Write a number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def colour_bar(
    figure: Figure | SubFigure, scene: Scene, label: str, place: tuple[float, float, float, float],
    *, horizontal: bool = False, behind: str | None = None,
) -> Axes:  # fmt: skip
    """Draw the colours of a scene as a bar at a place in inches, symmetric about zero.

    Colours that are transparent in the picture are seen on grey here, or on the tone ``behind``;
    below a threshold the bar has that tone.
    """
    ends = (-scene.limit, scene.limit)
    ax = plain_bar(figure, tones(fades(scene)), ends, label, place, horizontal=horizontal,
                   hidden=scene.threshold)  # fmt: skip
    ax.set_facecolor(behind or (BEHIND if scene.grey or scene.threshold else "white"))
    return ax


def plain_bar(
    figure: Figure | SubFigure, colours: Colormap, ends: tuple[float, float], label: str,
    place: tuple[float, float, float, float], *, horizontal: bool = False, hidden: float = 0.0,
) -> Axes:  # fmt: skip
    """Draw a colour bar between two values; magnitudes below ``hidden`` are left out."""
    ax = panel(figure, *place)
    at = np.linspace(*ends, 512)
    shown = np.where(np.abs(at) < hidden, np.nan, at)
    strip = shown[None, :] if horizontal else shown[:, None]
    extent = (*ends, 0.0, 1.0) if horizontal else (0.0, 1.0, *ends)
    ax.imshow(strip, cmap=colours, vmin=ends[0], vmax=ends[1], extent=extent, origin="lower",
              aspect="auto", interpolation="nearest")  # fmt: skip
    ax.spines[:].set_visible(False)
    axis, other = (ax.xaxis, ax.yaxis) if horizontal else (ax.yaxis, ax.xaxis)
    other.set_ticks([])
    if not horizontal:
        ax.yaxis.tick_right()
        ax.yaxis.set_label_position("right")
    ticks = bar_ticks(max(map(abs, ends)), hidden, few=horizontal)
    axis.set_ticks([tick for tick in ticks if ends[0] <= tick <= ends[1]])
    axis.set_major_formatter(lambda value, _: f"{value:.3g}".replace("-", "−"))
    axis.set_tick_params(length=2, pad=2, labelsize=6)
    axis.set_label_text(label, fontsize=6.5)
    return ax


def bar_ticks(limit: float, threshold: float, *, few: bool = False) -> list[float]:
    """Round numbers about zero, with the threshold if there is one; few where there is no room."""
    power = 10.0 ** np.floor(np.log10(limit))
    step = next(s * power for s in (5, 2, 1, 0.5) if s * power <= limit * 0.999 or s == 0.5)
    found = [step, 2 * step] if 2 * step <= limit else [step]
    found = found[-1:] if few else found
    if threshold:
        found = [threshold] + [v for v in found if v > 1.35 * threshold]
    return sorted([-v for v in found] + [0.0] + found)

"""Values of regions painted on a brain: from outside, from the middle, and what lies inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option, check_range, did_you_mean
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.plots.layers import Layer
from imgwas.plots.panels import (
    BAR,
    LABEL,
    TITLE,
    height_for,
    inches,
    new_figure,
    plain_bar,
    rows_of_panels,
)
from imgwas.plots.planes import tones
from imgwas.plots.region_views import VIEWS, View, borders, cropped, halves, look, surface_of
from imgwas.plots.style import RC, TWO_COLUMNS
from imgwas.types import Atlas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

#: Views side by side.
COLUMNS = 4
#: Regions of which less than this share can be seen from outside are drawn by themselves.
HIDDEN = 0.5
#: How opaque the outline around hidden regions is.
SHELL = 0.3
#: Tone of brain without a value.
PLAIN = (0.80, 0.80, 0.80)
#: What is at the left and the right of each view.
SIDES = {"left, outer": "AP", "left, inner": "PA", "right, inner": "AP", "right, outer": "PA",
         "above": "LR", "below": "RL", "front": "RL", "behind": "LR", "left, inside": "AP",
         "right, inside": "PA", "left, deep": "AP", "right, deep": "PA"}  # fmt: skip


def region_picture(
    values: Mapping[str, float],
    atlas: Atlas,
    *,
    views: Sequence[str] = tuple(VIEWS),
    inside: bool = True,
    limit: float | None = None,
    label: str = "",
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Paint one value for each region on the brain, without a surface mesh.

    Every view is a projection of the atlas: along each line of sight the first voxel of a region
    is found and lit. Regions that the views hide (insula, hippocampus) are drawn by themselves in
    the outline of their half, and those behind them once more. Any atlas will do.

    Parameters
    ----------
    values : mapping of str to float
        Value of each region by its name. NaN, and regions that are not named, are grey.
    atlas : Atlas
    views : sequence of str
        Of ``left, outer``, ``left, inner``, ``right, inner``, ``right, outer``, ``above``,
        ``below``, ``front`` and ``behind``.
    inside : bool
        Add the regions that the views hide.
    limit : float, optional
        Value at the end of the colours; the largest magnitude by default. Colours run from 0 where
        no value is negative, and are symmetric about 0 otherwise.
    label : str
        What the values are, with their unit.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    UsageError
        If a name is not in the atlas or a view does not exist.
    """
    import matplotlib as mpl

    for view in views:
        check_option("view", view, VIEWS)
    if not views:
        raise UsageError("there is no view to draw.")
    by_number = _by_number(values, atlas)
    ends, colours = _scale(list(by_number.values()), limit)
    seen = _views(atlas, views, inside)
    with mpl.rc_context(RC):
        names = list(seen)
        rows = [
            [seen[n].size for n in names[i : i + COLUMNS]] for i in range(0, len(names), COLUMNS)
        ]
        gap = (0.12, LABEL + 0.08)
        if figure is None:
            tall = height_for(rows, TWO_COLUMNS - BAR, gap)
            figure = new_figure(TWO_COLUMNS, tall + LABEL + TITLE / 2)
        width, height = inches(figure)
        room = (0.0, LABEL, width - BAR, height - LABEL - TITLE / 2)
        axes = [ax for row in rows_of_panels(figure, rows, room, gap=gap) for ax in row]
        for ax, name in zip(axes, names, strict=True):
            _paint(ax, seen[name], by_number, ends, colours)
            _name_view(ax, name)
        tall = min(room[3] * 0.8, 1.8)
        plain_bar(figure, colours, ends, label,
                  (width - BAR + 0.08, room[1] + (room[3] - tall) / 2, 0.09, tall))  # fmt: skip
    return figure


def _by_number(values: Mapping[str, float], atlas: Atlas) -> dict[int, float]:
    numbers = {name: number for number, name in atlas.names.items()}
    unknown = [str(name) for name in values if name not in numbers]
    if unknown:
        raise UsageError(
            explain(f"{len(unknown)} of {len(values)} regions are not in the atlas",
                    where=f"first: {', '.join(unknown[:3])}",
                    do=did_you_mean(unknown[0], numbers) or "Name regions as the atlas does")
        )  # fmt: skip
    found = {numbers[name]: float(value) for name, value in values.items()}
    found = {number: value for number, value in found.items() if not np.isnan(value)}
    if not found:
        raise DegenerateError("no region has a value to draw.")
    if not np.isfinite(list(found.values())).all():
        raise DegenerateError("regions hold infinite values.")
    return found


def _scale(values: Sequence[float], limit: float | None) -> tuple[tuple[float, float], Colormap]:
    """Ends of the colours, and the colours: from zero up, or symmetric about zero."""
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap

    top = limit if limit is not None else max(map(abs, values)) or 1.0
    check_range("limit", top, low=1e-300)
    if min(values) < 0:
        return (-top, top), tones(False)
    warm = mpl.colormaps["YlOrRd"](np.linspace(0.03, 1, 512))
    return (0.0, top), ListedColormap(warm, name="upwards")


def _views(atlas: Atlas, views: Sequence[str], inside: bool) -> dict[str, View]:
    """Render the views asked for, and those of regions that they hide."""
    if not (atlas.labels > 0).any():
        raise DegenerateError("the atlas holds no region.")
    parts = halves(atlas)
    shapes = {half: surface_of(parts[half]) for half in dict.fromkeys(VIEWS[v][0] for v in views)
              if (parts[half].values > 0).any()}  # fmt: skip
    seen = {
        v: cropped(look(shapes[VIEWS[v][0]], *VIEWS[v][1:])) for v in views if VIEWS[v][0] in shapes
    }
    for layer in ("inside", "deep") if inside else ():
        hidden = _hidden(parts[""], list(seen.values()))
        for half, name in (("L", "left"), ("R", "right")):
            kept = np.where(np.isin(parts[half].values, hidden), parts[half].values, 0)
            if kept.any():
                seen[f"{name}, {layer}"] = _inside(parts[half], kept, from_high=half == "R")
    return seen


def _hidden(whole: Layer, seen: Sequence[View]) -> list[int]:
    """Regions that are mostly out of sight: area seen against that of a ball of their volume."""
    voxel = float(np.prod(whole.zooms))
    found = []
    for number, count in zip(*np.unique(whole.values, return_counts=True), strict=True):
        if number == 0:
            continue
        area = max((_area(view, int(number)) for view in seen), default=0.0)
        ball = np.pi * (3 * count * voxel / (4 * np.pi)) ** (2 / 3)
        if area < HIDDEN * ball:
            found.append(int(number))
    return found


def _area(view: View, number: int) -> float:
    pixel = view.size[0] * view.size[1] / view.labels.size
    return float(((view.labels == number) & (view.cover > 0.5)).sum() * pixel)


def _inside(half: Layer, kept: np.ndarray, *, from_high: bool) -> View:
    """Hidden regions of one half from outside, in the faint outline of the half."""
    shell = look(surface_of(half), 0, from_high)
    deep = look(surface_of(replace(half, values=kept), fill=False), 0, from_high)
    shown = deep.cover > 0.05
    return cropped(
        View(
            labels=np.where(shown, deep.labels, 0),
            shade=np.where(shown, deep.shade, shell.shade),
            cover=np.where(shown, np.maximum(deep.cover, SHELL * shell.cover), SHELL * shell.cover),
            size=shell.size,
        )
    )


def _paint(
    ax: Axes, view: View, values: Mapping[int, float], ends: tuple[float, float],
    colours: Colormap,
) -> None:  # fmt: skip
    """Colour, light and borders of one view."""
    table = np.tile(np.array(PLAIN), (int(view.labels.max()) + 1, 1))
    span = ends[1] - ends[0]
    for number, value in values.items():
        if number < len(table):
            table[number] = colours((value - ends[0]) / span)[:3]
    picture = table[view.labels] * view.shade[..., None]
    picture[borders(view.labels)] *= 0.72
    shown = np.dstack([np.clip(picture, 0, 1), view.cover])
    ax.imshow(shown, extent=(0, view.size[0], 0, view.size[1]), interpolation="bilinear")
    ax.set(xlim=(0, view.size[0]), ylim=(0, view.size[1]), aspect="equal")
    ax.set_axis_off()


def _name_view(ax: Axes, name: str) -> None:
    ax.text(0.5, -0.02, name, transform=ax.transAxes, ha="center", va="top", fontsize=6.5)
    for place, side in zip((0.0, 1.0), SIDES[name], strict=True):
        ax.text(place, -0.02, side, transform=ax.transAxes, ha="left" if place == 0 else "right",
                va="top", fontsize=6, color="#777777")  # fmt: skip

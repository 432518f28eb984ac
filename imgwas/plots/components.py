"""Two columns against each other, coloured by a variable, nobody drawn unless asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain
from imgwas.plots.style import COLOURS, RC, own_axes, root_of
from imgwas.shapes import Float
from imgwas.types import Latents

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Cells and classes with fewer people are not drawn.
FEWEST = 5
#: Classes beyond the seven colours take the next marker.
_MARKERS = "o^sD"


def component_scatter(
    scores: Latents,
    colour: Float[np.ndarray, " samples"] | None = None,
    *,
    ax: Axes | None = None,
    label: str = "",
    classes: Sequence[str] = (),
    individuals: bool = False,
) -> Axes:
    """Draw the first two columns against each other, coloured by a variable.

    By default nobody is drawn: cells hold the mean of five people or more, classes their mean with
    ellipses of one and two standard deviations. Points of single people must be asked for, since
    they may not leave a protected environment.

    Parameters
    ----------
    scores : Latents
        Principal components, for instance; the first two are drawn.
    colour : (samples,) float array, optional
        A number, or which of ``classes`` each person is; NaN people are left out.
    ax : Axes, optional
        Where to draw.
    label : str
        Name of the variable.
    classes : sequence of str
        Names of the classes that ``colour`` numbers.
    individuals : bool, default False
        Draw one point per person.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    values = np.ones(len(scores.values)) if colour is None else np.asarray(colour, float)
    if scores.values.shape[1] < 2 or values.shape != (len(scores.values),):
        raise InconsistentError(
            explain(f"scores have shape {scores.values.shape} and colour {values.shape}",
                    expected="Two columns or more, and one value per person")
        )  # fmt: skip
    most = len(COLOURS) * len(_MARKERS)
    if len(classes) > most:
        raise UsageError(explain(f"{label} has {len(classes)} classes",
                                 expected=f"At most {most} can be told apart"))  # fmt: skip
    used = np.isfinite(scores.values[:, :2]).all(axis=1) & np.isfinite(values)
    if not used.any():
        raise DegenerateError(explain("nobody has both components and the variable"))
    x, y, values = scores.values[used, 0], scores.values[used, 1], values[used]
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=3.7, height=3.1)
        if classes:
            _draw_classes(ax, x, y, values, classes, label, individuals)
        else:
            _draw_number(ax, x, y, None if colour is None else values, label, individuals)
        ax.set_xlabel(scores.names[0])
        ax.set_ylabel(scores.names[1])
    return ax


def _draw_number(
    ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray | None, label: str, individuals: bool
) -> None:
    if individuals:
        tone = {"color": COLOURS[0]} if values is None else {"c": values, "cmap": "viridis"}
        drawn: Any = ax.scatter(x, y, s=4, linewidths=0, rasterized=True, **tone)
    else:
        size = max(8, min(40, int(np.sqrt(len(x) / 12))))
        drawn = ax.hexbin(x, y, values, gridsize=size, mincnt=FEWEST, linewidths=0.1,
                          cmap="viridis" if values is not None else "Blues")  # fmt: skip
        _limit_to_cells(ax, drawn)
    if values is not None or not individuals:
        words = label or "value"
        text = words if individuals else f"mean {words}" if values is not None else "people"
        bar = root_of(ax.figure).colorbar(drawn, ax=ax, fraction=0.05, pad=0.02, label=text)
        bar.outline.set_visible(False)


def _limit_to_cells(ax: Axes, cells: Any) -> None:
    """End the axes at the cells, so that they do not tell where the last person is."""
    centres = np.asarray(cells.get_offsets())
    if not len(centres):
        raise DegenerateError(
            explain(f"no cell holds {FEWEST} people", do="Draw each person, with individuals=True")
        )
    steps = [np.diff(np.unique(np.round(centres[:, axis], 9))) for axis in (0, 1)]
    for axis, limits in ((0, ax.set_xlim), (1, ax.set_ylim)):
        step = 2 * float(steps[axis].min(initial=np.inf))
        step = step if np.isfinite(step) else 1.0
        limits(centres[:, axis].min() - step, centres[:, axis].max() + step)


def _draw_classes(
    ax: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray, classes: Sequence[str], label: str,
    individuals: bool,
) -> None:  # fmt: skip
    for code, name in enumerate(classes):
        own = values == code
        if own.sum() < (1 if individuals else FEWEST):
            continue
        text, tone = f"{name} ({int(own.sum()):,})", COLOURS[code % len(COLOURS)]
        marker = _MARKERS[code // len(COLOURS)]
        if individuals:
            ax.scatter(x[own], y[own], s=5, color=tone, linewidths=0, alpha=0.6, label=text,
                       marker=marker, rasterized=True)  # fmt: skip
            continue
        centre = np.array([x[own].mean(), y[own].mean()])
        ax.plot(*centre, marker, color=tone, markersize=4, label=text, zorder=3)
        size, axes = np.linalg.eigh(np.cov(x[own], y[own]))
        turn = np.linspace(0, 2 * np.pi, 120)
        circle = axes @ (np.sqrt(np.maximum(size, 0))[:, None] * [np.cos(turn), np.sin(turn)])
        for sds, width in ((1, 1.3), (2, 0.7)):
            ax.plot(*(centre[:, None] + sds * circle), color=tone, linewidth=width)
    names = ax.get_legend_handles_labels()[1]
    points = 60 * root_of(ax.figure).get_size_inches()[0] * ax.get_position().width
    longest = max(map(len, names), default=1)
    ax.legend(title=label or None, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0),
              ncols=max(1, min(len(names), int(points / (4 * longest + 18)))), handletextpad=0.2,
              columnspacing=1, markerscale=3 if individuals else 1)  # fmt: skip

"""How every figure looks: journal widths, small sans type, colours for all eyes, vector text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgwas.errors import UsageError, explain
from imgwas.files import publish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

#: Widths of one and of two journal columns, in inches.
ONE_COLUMN, TWO_COLUMNS = 89 / 25.4, 183 / 25.4
#: Okabe and Ito's colours that can be told apart by all.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CHROMOSOME_TONES = ("#1F4E79", "#7FA7CC")
LEAD_COLOUR = "#D55E00"
RC: Any = {
    "font.family": "sans-serif",
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "imgwas",
}
_FORMATS = {".pdf", ".svg", ".png"}


def new_axes(width: float = TWO_COLUMNS, height: float = 2.6) -> Axes:
    """Make a figure with one pair of axes, outside pyplot's global state."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure.add_subplot()


def own_axes(ax: Axes | None, **size: float) -> Axes:
    """Use the axes given, or make some."""
    return ax if ax is not None else new_axes(**size)


def root_of(figure: Figure | SubFigure | None) -> Figure:
    """Return the whole figure that axes belong to, whether or not in a part of it."""
    if figure is None:
        raise UsageError("These axes belong to no figure.")
    return figure.figure


def save_figure(figure: Figure | SubFigure, path: str | Path, *, dpi: int = 300) -> Path:
    """Write a figure as pdf, svg or png; the same figure gives the same bytes.

    Text stays text in pdf and svg; clouds of points are one image of ``dpi`` dots per inch.

    Raises
    ------
    UsageError
        If the suffix names no known format.
    WriteError
        If the file cannot be written.
    """
    import matplotlib as mpl

    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(
            explain(
                f"the figure {path.name!r} has the suffix {path.suffix!r}",
                expected=f"One of {', '.join(sorted(_FORMATS))}",
            )
        )
    kind = path.suffix.lower()[1:]
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None},
        "svg": {"Date": None},
        "png": {},
    }
    buffer = io.BytesIO()
    with mpl.rc_context(RC):
        root_of(figure).savefig(buffer, format=kind, dpi=dpi, metadata=metadata[kind])
    with publish(path) as stream:
        stream.write(buffer.getvalue())
    return path

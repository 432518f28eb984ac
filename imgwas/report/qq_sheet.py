"""One small QQ plot a latent, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgwas.plots.qq import qq_band
from imgwas.plots.style import COLOURS, RC
from imgwas.report.scan_numbers import LatentNumbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 8
#: Latents on one sheet.
PER_SHEET = 64
#: Panels end here, so that one strong locus does not flatten all others.
HIGHEST = 12.0


def qq_sheet(latents: Sequence[LatentNumbers]) -> Figure:
    """Draw observed against expected -log10 P of each latent with the 95 % band of chance.

    All panels share their axes, cut at :data:`HIGHEST`; a triangle marks a latent that goes on
    above.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(latents))
    rows = -(-len(latents) // columns)
    right = max(float(one.expected.max()) for one in latents) * 1.05
    top = min(HIGHEST, max(max(one.top_neg_log10_p for one in latents), right) * 1.05)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(0.95 * columns + 0.5, 0.98 * rows + 0.4), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        band = qq_band(max(one.n_tested for one in latents))
        for ax, one in zip(panels, latents, strict=False):
            _panel(ax, one, band, top)
        for ax in panels[len(latents) :]:
            ax.set_visible(False)
        panels[0].set_xlim(0, right)
        panels[0].set_ylim(0, top)
        figure.supxlabel(r"Expected $-\log_{10}P$", fontsize=7)
        figure.supylabel(r"Observed $-\log_{10}P$", fontsize=7)
    return figure


def _panel(
    ax: Axes, one: LatentNumbers, band: tuple[np.ndarray, np.ndarray, np.ndarray], top: float
) -> None:
    expected, low, high = band
    ax.fill_between(expected, low, high, color="#DDDDDD", linewidth=0)
    ax.plot([0, expected[0]], [0, expected[0]], color="#555555", linewidth=0.5)
    ax.plot(one.expected, np.minimum(one.observed, top), linestyle="none", marker="o",
            markersize=1.6, markeredgewidth=0, color=COLOURS[0], rasterized=True)  # fmt: skip
    if one.top_neg_log10_p > top:
        ax.plot(one.expected[0], top * 0.97, marker="^", markersize=3.5, color=COLOURS[1],
                clip_on=False)  # fmt: skip
    name = one.name if len(one.name) <= 12 else f"{one.name[:11]}…"
    ax.text(0.06, 0.95, f"{name}\nλ {one.lambda_gc:.3f}", transform=ax.transAxes, va="top",
            fontsize=5.5, linespacing=1.15, parse_math=False)  # fmt: skip
    ax.tick_params(length=1.5, pad=1.5, labelsize=5.5)

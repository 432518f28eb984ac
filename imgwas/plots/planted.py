"""What was planted beside what was found: one row for each variant, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.plots.brain_slices import name_place, scene_of, unit_of
from imgwas.plots.layers import check_grid, layer_of
from imgwas.plots.panels import (
    colour_bar,
    inches,
    new_figure,
    panel,
    rows_of_panels,
    scale_of,
    signed_number,
    sizes,
)
from imgwas.plots.planes import PLANES, Scene, draw_plane, draw_share, limit_of, peak_of
from imgwas.plots.region_table import need_columns
from imgwas.plots.style import RC, TWO_COLUMNS
from imgwas.shapes import Bool, Float64
from imgwas.types import BrainMap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure, SubFigure

#: Inches: words, pictures of one kind, names of regions, and the rooms above and below the rows.
WORDS, PICTURES, NAMES, HEAD, FOOT = 1.22, 1.62, 1.26, 0.34, 0.46
#: Between the columns, between two planes, and below each row.
BETWEEN, BESIDE, BELOW = 0.14, 0.04, 0.22
PLANTED, OTHER = "#009E73", "#8A8A8A"


@dataclass(frozen=True)
class PlantedRow:
    """One variant: what was planted, and what was found.

    Parameters
    ----------
    variant : str
        Its name.
    neg_log10_p : float
        Evidence of the scan.
    template : (x, y, z) array
        Grey image to draw on.
    affine : (4, 4) array
        Voxel indices of the template to millimetres, RAS+.
    found : BrainMap
        Effect map or z map of the variant, on any grid in the same space.
    regions : DataFrame
        Columns ``region``, ``effect``, ``low`` and ``high``: change and 95 % interval; with a
        column ``q_value``, regions below 0.05 are called found, otherwise those whose interval
        leaves out zero. Their order is that of a column ``rank``, or of the magnitudes.
    planted_mask : (x, y, z) bool array, optional
        The planted region on the grid of the template; None for a variant without effect.
    planted_region : str
        Its name in the table of regions.
    truth : float, optional
        Planted change, in units of the effects.
    unit : str
        Of the effects, e.g. ``% per allele``.
    """

    variant: str
    neg_log10_p: float
    template: np.ndarray
    affine: Float64[np.ndarray, "4 4"]
    found: BrainMap
    regions: pd.DataFrame
    planted_mask: Bool[np.ndarray, " *grid"] | None = None
    planted_region: str = ""
    truth: float | None = None
    unit: str = "% per allele"

    @property
    def values(self) -> np.ndarray:
        """The template, as an image that knows where it is."""
        return self.template

    @property
    def ranked(self) -> pd.DataFrame:
        """Regions from the first to the last, with their ``rank``."""
        by = self.regions["rank"] if "rank" in self.regions else -self.regions["effect"].abs()
        order = np.argsort(by.to_numpy(float), kind="stable")
        table: pd.DataFrame = self.regions.iloc[order].reset_index(drop=True)
        return table.assign(rank=np.arange(1, len(table) + 1))


def found_beside_planted(
    rows: Sequence[PlantedRow],
    *,
    planes: Sequence[str] = ("coronal", "axial"),
    top: int = 4,
    threshold: float = 0.0,
    limit: float | None = None,
    radiological: bool = False,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw planted regions beside the effect maps that were found, a row for each variant.

    From the left: the variant, its evidence and both changes in words; the planted region on the
    template; the map that was found on the same slices, all rows in one scale of colours; and the
    regions that change most with their intervals, the planted one in green, its truth as an open
    diamond. Slices go through the planted region, or through the peak of the slightly smoothed map
    where nothing was planted.

    Parameters
    ----------
    rows : sequence of PlantedRow
        Up to ten.
    planes : sequence of {"sagittal", "coronal", "axial"}
        Slices of each kind.
    top : int
        Regions of each row. The planted one is always among them.
    threshold : float
        Magnitudes of the maps below it are transparent; without one, small values fade out.
    limit : float, optional
        Value of the maps at the ends of the colours, which larger ones share. By default the
        magnitude that one voxel in 200 exceeds, in the map where that is largest.
    radiological : bool
        Draw the left of the brain at the right.
    figure : Figure or SubFigure, optional
        Where to draw.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    UsageError
        If there is no row or more than ten, or maps have different units.
    """
    import matplotlib as mpl

    _check_rows(rows)
    check_range("top", top, low=1)
    shared = limit if limit is not None else max(_usual_limit(row.found) for row in rows)
    scenes = [scene_of(r.found, r, threshold, max(shared, 1.25 * threshold), None, radiological)
              for r in rows]  # fmt: skip
    scenes = [replace(scene, frame=replace(scene, mask=None).box) for scene in scenes]
    with mpl.rc_context(RC):
        scale = scale_of([sizes(s, planes) for s in scenes], PICTURES, np.inf, (BESIDE, 0))
        tall = max(h for s in scenes for _, h in sizes(s, planes)) * scale + BELOW
        tall = max(tall, 0.115 * top + BELOW)
        if figure is None:
            figure = new_figure(TWO_COLUMNS, HEAD + tall * len(rows) + FOOT)
        height = inches(figure)[1]
        tall = (height - HEAD - FOOT) / len(rows)
        span = _span(rows, top)
        for number, (row, scene) in enumerate(zip(rows, scenes, strict=True)):
            bottom = height - HEAD - tall * (number + 1) + BELOW
            last = number == len(rows) - 1
            _draw_words(figure, row, (0.0, bottom, WORDS, tall - BELOW))
            _draw_pictures(figure, row, scene, planes, (bottom, tall - BELOW), number == 0)
            _draw_regions(figure, row, top, span, (bottom, tall - BELOW), last)
        _draw_head(figure, rows[0])
        left = WORDS + PICTURES + 2 * BETWEEN
        colour_bar(figure, scenes[0], unit_of(rows[0].found),
                   (left + 0.2, FOOT - 0.07, PICTURES - 0.4, 0.08), horizontal=True)  # fmt: skip
    return figure


def _usual_limit(found: BrainMap) -> float:
    """Magnitude that one voxel in 200 exceeds: single extreme voxels do not pale the rest."""
    inside = np.abs(np.asarray(found.values)[found.mask])
    inside = inside[np.isfinite(inside)]
    return (float(np.percentile(inside, 99.5)) if inside.size else 0.0) or limit_of(inside)


def _check_rows(rows: Sequence[PlantedRow]) -> None:
    if not 1 <= len(rows) <= 10:
        raise UsageError(explain(f"{len(rows)} variants were given", expected="From 1 to 10"))
    units = dict.fromkeys((row.found.unit, row.unit) for row in rows)
    if len(units) > 1:
        raise UsageError(explain(f"the rows have {len(units)} different units",
                                 expected="One for all maps and one for all regions"))  # fmt: skip
    for row in rows:
        need_columns(row.regions, ["region", "effect", "low", "high"])
        if row.regions.empty:
            raise DegenerateError(f"{row.variant} has no region to draw.")
        if row.planted_mask is not None:
            check_grid(row.planted_mask, row.template.shape, f"planted region of {row.variant}")
        names = set(row.regions["region"])
        if row.planted_region and row.planted_region not in names:
            raise UsageError(
                explain(f"the planted region {row.planted_region!r} of {row.variant} is not in "
                        "its table of regions")
            )  # fmt: skip


def _centre(row: PlantedRow, scene: Scene) -> tuple[float, float, float]:
    """Voxel of the planted region that is nearest to its middle, in mm; or the peak of the map."""
    from scipy import ndimage

    if row.planted_mask is None or not row.planted_mask.any():
        if scene.colour is None:
            raise DegenerateError("there is no map to draw.")
        smooth = ndimage.gaussian_filter(np.abs(scene.colour.values), 1.5)
        return peak_of(replace(scene.colour, values=smooth))
    mask = layer_of(row.planted_mask, row.affine, order=0)
    voxels = np.argwhere(mask.values > 0)  # noqa: PD011
    return mask.place_of(
        voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
    )


def _draw_words(
    figure: Figure | SubFigure, row: PlantedRow, place: tuple[float, float, float, float]
) -> None:
    ax = panel(figure, *place)
    ax.set_axis_off()
    first = row.ranked.iloc[0]
    lines: list[tuple[str, dict[str, Any]]] = [(row.variant, {"fontsize": 8, "fontweight": "bold"}),
             (f"−log₁₀ P = {row.neg_log10_p:.1f}", {"color": "#333333"})]  # fmt: skip
    if row.planted_region:
        change = f"  {change_of(row.truth)}" if row.truth is not None else ""
        lines += [(f"planted{change}", {"color": PLANTED}), (_named(row.planted_region, 24), {})]
    else:
        lines.append(("nothing planted", {"color": "#777777"}))
    sure = (first["q_value"] < 0.05 if "q_value" in first
            else first["low"] > 0 or first["high"] < 0)  # fmt: skip
    change = f"  {change_of(first['effect'])}" if sure else ""
    name = _named(str(first["region"]), 24) if sure else "no region for certain"
    lines += [(f"found{change}", {"color": "#555555"}), (name, {})]
    middle, step = 0.5, 0.125 / place[3]
    top = middle + step * (len(lines) - 1) / 2
    for number, (text, looks) in enumerate(lines):
        ax.text(0.0, top - number * step, text, va="center", **{"fontsize": 6.5, **looks})


def _named(region: str, room: int) -> str:
    """Name of a region in the room there is."""
    name = region.replace("_", " ")
    return name if len(name) <= room else f"{name[: room - 1].rstrip()}…"


def change_of(value: float) -> str:
    """Write a change with its sign and three digits."""
    digits = 2 if abs(value) < 1 else 1 if abs(value) < 100 else 0
    return f"{'+' if value > 0 else ''}{signed_number(value, digits)}"


def _draw_pictures(
    figure: Figure | SubFigure, row: PlantedRow, scene: Scene, planes: Sequence[str],
    place: tuple[float, float], is_first: bool,
) -> None:  # fmt: skip
    """Planted region, and the map that was found on the same slices."""
    bottom, tall = place
    at = _centre(row, scene)
    planted = (layer_of(row.planted_mask, row.affine, order=0)
               if row.planted_mask is not None and row.planted_mask.any() else None)  # fmt: skip
    outlined = replace(scene, contours=() if planted is None else (planted,))
    kinds = ((replace(scene, colour=None), planted), (outlined, None))
    for number, (shown, filled) in enumerate(kinds):
        left = WORDS + BETWEEN + number * (PICTURES + BETWEEN)
        (axes,) = rows_of_panels(figure, [sizes(scene, planes)], (left, bottom, PICTURES, tall),
                                 gap=(BESIDE, 0))  # fmt: skip
        for ax, plane in zip(axes, planes, strict=True):
            where = at[PLANES[plane][0]]
            draw_plane(ax, shown, plane, where, letters=is_first and number == 0)
            if filled is not None:
                draw_share(ax, filled, plane, where, PLANTED)
            name_place(ax, plane, at)


def _shown_regions(row: PlantedRow, top: int) -> pd.DataFrame:
    """Regions that change most; the planted one takes the last place if it is not among them."""
    ranked = row.ranked
    names = list(ranked["region"])
    places = list(range(min(top, len(ranked))))
    if row.planted_region and names.index(row.planted_region) >= top:
        places[-1] = names.index(row.planted_region)
    return ranked.iloc[places]


def _span(rows: Sequence[PlantedRow], top: int) -> tuple[float, float]:
    """One axis for all rows, with zero in it."""
    ends = [0.0]
    for row in rows:
        shown = _shown_regions(row, top)
        ends += [*shown["low"], *shown["high"], *([row.truth] if row.truth is not None else [])]
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    margin = 0.06 * ((high - low) or 1.0)
    return low - margin, high + margin


def _draw_regions(
    figure: Figure | SubFigure, row: PlantedRow, top: int, span: tuple[float, float],
    place: tuple[float, float], is_last: bool,
) -> None:  # fmt: skip
    """Regions that change most, with intervals."""
    left = WORDS + 2 * PICTURES + 3 * BETWEEN + NAMES
    bottom, tall = place
    ax = panel(figure, left, bottom, inches(figure)[0] - left - 0.06, tall)
    shown = _shown_regions(row, top)
    ax.axvline(0, color="#888888", linewidth=0.6, zorder=0)
    for number, (_, one) in enumerate(shown.iterrows()):
        mine = one["region"] == row.planted_region
        tone = PLANTED if mine else OTHER
        ax.plot([one["low"], one["high"]], [number] * 2, color=tone, linewidth=1.5,
                solid_capstyle="butt", zorder=2)  # fmt: skip
        ax.plot(one["effect"], number, "o", color=tone, markersize=4, markeredgewidth=0, zorder=3)
        if mine and row.truth is not None:
            ax.plot(row.truth, number, "D", color="black", fillstyle="none", markersize=6,
                    markeredgewidth=0.9, zorder=4)  # fmt: skip
        text = f"{one['rank']:.0f}  {_named(str(one['region']), 24)}"
        ax.annotate(text, (0, number), xycoords=("axes fraction", "data"), xytext=(-4, 0),
                    textcoords="offset points", ha="right", va="center", fontsize=6,
                    color=tone if mine else "#444444")  # fmt: skip
    ax.set(xlim=span, ylim=(top - 0.4, -0.6), yticks=[])
    ax.spines["left"].set_visible(False)
    ax.spines["bottom"].set_color("black" if is_last else "#CCCCCC")
    ax.tick_params(axis="x", labelsize=6, length=2 if is_last else 0, labelbottom=is_last, pad=2)
    if is_last:
        ax.set_xlabel(f"change ({row.unit})", fontsize=6.5, labelpad=2)


def _draw_head(figure: Figure | SubFigure, row: PlantedRow) -> None:
    width, height = inches(figure)
    pictures = WORDS + BETWEEN
    regions = pictures + 2 * (PICTURES + BETWEEN)
    heads = [(0.0, "variant", ""), (pictures, "planted", "region that the variant changes"),
             (pictures + PICTURES + BETWEEN, "found", unit_of(row.found)),
             (regions, "regions", "rank, 95 % interval, ◇ planted change")]  # fmt: skip
    for left, name, more in heads:
        figure.text(left / width, 1 - 0.03 / height, name, va="top", fontsize=8, fontweight="bold")
        figure.text(left / width, 1 - 0.16 / height, more, va="top", fontsize=6, color="#555555")

"""The figures of ``imgwas map``: a page for each direction, and all regions of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from imgwas.images.nifti import Volume
from imgwas.plots.brain_slices import brain_lightbox, brain_slices
from imgwas.plots.region_table import region_bars, region_heatmap
from imgwas.plots.style import RC, TWO_COLUMNS, save_figure
from imgwas.types import Atlas, BrainMap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@runtime_checkable
class MapLike(Protocol):
    """What a figure needs of a map: ``imgwas.brain.EffectMap`` has it."""

    @property
    def effect(self) -> BrainMap: ...  # noqa: D102
    @property
    def z(self) -> BrainMap | None: ...  # noqa: D102
    @property
    def summary(self) -> Mapping[str, object]: ...  # noqa: D102
    @property
    def regions(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def is_finding(self) -> bool: ...  # noqa: D102


def map_page(one: MapLike, background: Volume, atlas: Atlas | None = None) -> Figure:
    """Draw one direction: three planes, a lightbox, and the regions' volumes.

    The planes go through the largest change inside the region that stands out.

    Parameters
    ----------
    one : EffectMap
    background : Volume
        Average decoded picture.
    atlas : Atlas, optional
        The region that stands out is outlined.

    Returns
    -------
    Figure
    """
    import matplotlib.pyplot as plt

    has_regions = len(one.regions) > 0
    effect = replace(one.effect, name="")
    with plt.rc_context(RC):
        figure = plt.figure(figsize=(TWO_COLUMNS, 3.9))
        upper, lower = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=[1.5, 1])))
        left, right = upper, None
        if has_regions:
            left, right = np.ravel(np.asarray(upper.subfigures(1, 2, width_ratios=[1.8, 1])))
        place, outline = place_of(one, atlas), _outline(one, atlas)
        brain_slices(effect, background=background, at=place, contour=outline, figure=left)
        brain_lightbox(effect, background=background, slices=8, columns=8, figure=lower)
        if right is not None:
            _regions(one, right.add_axes((0.52, 0.2, 0.45, 0.62)))
        figure.suptitle(_title(one), fontsize=8.5, x=0.01, ha="left", y=0.99, va="top")
    return figure


def _regions(one: MapLike, ax: Axes) -> None:
    value = "volume" if one.regions["volume"].notna().any() else "effect"
    frame = one.regions.dropna(subset=[value]).head(8)
    if f"{value}_low" not in frame:
        frame = frame.assign(**{f"{value}_low": frame[value], f"{value}_high": frame[value]})
    scaled = frame.copy()
    if value == "volume":
        for name in ("volume", "volume_low", "volume_high"):
            scaled[name] = 100 * scaled[name]
    per = str(one.summary["per"])
    label = f"% of volume per {per}" if value == "volume" else one.effect.unit
    region_bars(scaled, value=value, top=8, label=label, ax=ax)


def _outline(one: MapLike, atlas: Atlas | None) -> np.ndarray | None:
    if atlas is None or not len(one.regions):
        return None
    return np.asarray(atlas.labels == int(one.regions.iloc[0]["label"]))


def place_of(one: MapLike, atlas: Atlas | None = None) -> tuple[float, float, float]:
    """Where to look at a map, in mm: the largest change inside the region that stands out.

    Without an atlas, inside the brain. The map is smoothed by a voxel first: single voxels at the
    edge of the brain change most where heads differ, and show nothing.
    """
    from scipy import ndimage

    size = np.abs(np.asarray(one.effect.values, np.float64))
    smooth = np.asarray(ndimage.gaussian_filter(size, 1.0)) * one.effect.mask
    outline = _outline(one, atlas)
    if outline is not None and (smooth * outline).any():
        smooth = smooth * outline
    index = np.unravel_index(int(smooth.argmax()), smooth.shape)
    x, y, z = (one.effect.affine @ [*index, 1])[:3]
    return float(x), float(y), float(z)


def _title(one: MapLike) -> str:
    name = str(one.summary["name"])
    nlp = float(str(one.summary.get("neg_log10_p", "nan")))
    if not np.isfinite(nlp):
        return f"{name}, per {one.summary['per']}"
    verdict = "" if one.is_finding else "  (no finding: the map shows noise)"
    return f"{name}, per {one.summary['per']}; all latents together: -log10 P {nlp:.1f}{verdict}"


def save_map_figures(
    folder: Path,
    maps: Sequence[MapLike],
    background: Volume,
    atlas: Atlas | None,
    *,
    stems: Mapping[str, str],
    kind: str = "png",
    progress: Callable[[int], object] | None = None,
) -> list[Path]:
    """Write a page for each map, and one heatmap of regions by maps.

    Parameters
    ----------
    folder : Path
        Made if absent.
    maps : sequence of EffectMap
    background : Volume
    atlas : Atlas, optional
    stems : mapping of str to str
        File name, without suffix, of each map.
    kind : {"png", "pdf", "svg"}
    progress : callable, optional
        Called with 1 after each page.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    folder.mkdir(exist_ok=True)
    written = []
    for one in maps:
        figure = map_page(one, background, atlas)
        written.append(save_figure(figure, folder / f"{stems[str(one.summary['name'])]}.{kind}"))
        plt.close(figure)
        if progress is not None:
            progress(1)
    tables = [one.regions.assign(name=str(one.summary["name"])) for one in maps if len(one.regions)]
    if len(tables) > 1:
        ax = region_heatmap(pd.concat(tables, ignore_index=True), value="effect")
        written.append(save_figure(ax.figure, folder / f"regions.{kind}"))
        plt.close("all")
    return written

"""Loci by latents: how strongly, and in which direction, each lead variant moves each latent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.plots.labels import counted, power_text
from imgwas.plots.matrix import shortened
from imgwas.plots.panels import inches, new_figure, panel
from imgwas.plots.region_table import diverging, need_columns
from imgwas.plots.style import RC, root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Inches of a row, of a column at most, of all columns at most; of a character; of the colour bar.
ROW, COLUMN, WIDEST, CHARACTER, BAR = 0.13, 0.13, 9.0, 0.048, 0.75
VALUES = {
    "signed_neg_log_10_p": r"signed $-\log_{10}P$",
    "z": "z",
    "beta": "effect per allele",
}


def locus_heatmap(
    table: pd.DataFrame,
    *,
    value: str = "signed_neg_log_10_p",
    study_wide: float | None = None,
    order: str = "cluster",
    align: bool = True,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw loci (rows) by latents (columns); a dot marks what is significant study-wide.

    Parameters
    ----------
    table : DataFrame
        Of :func:`lead_effects`: ``name`` of the locus, ``latent``, ``beta``, ``z`` and
        ``neg_log_10_p_value``.
    value : {"signed_neg_log_10_p", "z", "beta"}
        What the colour is: -log10 P with the sign of the effect, z, or the effect.
    study_wide : float, optional
        Largest P that gets a dot; 5e-8 over the number of latents by default.
    order : {"cluster", "given"}
        Similar loci and similar latents together (average linkage of correlations), or as in the
        table.
    align : bool, default True
        Count the allele that raises the strongest latent of the locus, so that loci compare;
        otherwise the effect allele of the scan.
    limit : float, optional
        Magnitude of the last colour. By default the largest, but for -log10 P at most 4 times the
        threshold: beyond it all cells have the last colour, and the bar ends in an arrow.
    ax : Axes, optional
        Where to draw; by default a figure as large as the names need.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    check_option("value", value, VALUES)
    check_option("order", order, ["cluster", "given"])
    cells, nlp = _cells(table, value, align)
    threshold = -np.log10(study_wide or 5e-8 / cells.shape[1])
    rows, columns = np.arange(cells.shape[0]), np.arange(cells.shape[1])
    if order == "cluster":
        rows, columns = (similar(m, axis) for axis, m in enumerate([cells.to_numpy()] * 2))
    cells, nlp = cells.iloc[rows, columns], nlp.iloc[rows, columns]
    largest = float(np.nanmax(np.abs(cells.to_numpy()))) or 1.0
    if limit is None:
        limit = min(largest, 4 * threshold) if value.startswith("signed") else largest
    check_range("limit", limit, low=1e-300)
    with mpl.rc_context(RC):
        ax = ax if ax is not None else _new_axes(cells)
        _draw(ax, cells.to_numpy(), nlp.to_numpy() >= threshold, limit, VALUES[value])
        _name_rows(ax, [str(n) for n in cells.index])
        _name_columns(ax, [str(n) for n in cells.columns], [
            f"• P ≤ {power_text(10**-threshold)}: {(nlp.to_numpy() >= threshold).sum():,} of "
            f"{cells.size:,}",
            *(["allele that raises the strongest latent"] if align else []),
        ])  # fmt: skip
    return ax


def _cells(table: pd.DataFrame, value: str, align: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Values and -log10 P, loci by latents, in the order of the table."""
    need_columns(table, ["name", "latent", "beta", "z", "neg_log_10_p_value"])
    twice = table.duplicated(["name", "latent"])
    if twice.any():
        one = table.loc[twice].iloc[0]
        raise MalformedError(
            explain(f"{int(twice.sum()):,} pairs of locus and latent occur more than once",
                    where=f"first: {one['name']}, {one['latent']}")
        )  # fmt: skip
    rows, columns = table["name"].drop_duplicates(), table["latent"].drop_duplicates()

    def wide(column: str) -> pd.DataFrame:
        made = table.set_index(["name", "latent"])[column].unstack()  # noqa: PD010
        return made.reindex(index=rows, columns=columns).astype(float)

    nlp, z = wide("neg_log_10_p_value"), wide("z")
    if nlp.notna().to_numpy().sum() == 0:
        raise DegenerateError("no pair of locus and latent was tested.")
    cells = nlp * np.sign(z.to_numpy()) if value.startswith("signed") else wide(value)
    if align:
        best = np.nan_to_num(nlp.to_numpy(), nan=-1.0).argmax(axis=1)
        signs = np.sign(z.to_numpy()[np.arange(len(z)), best])
        cells = cells.mul(np.where(signs < 0, -1.0, 1.0), axis=0)
    return cells, nlp


def similar(values: np.ndarray, axis: int) -> np.ndarray:
    """Order in which similar rows (axis 0) or columns (1) are together, by correlation."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    vectors = np.nan_to_num(values if axis == 0 else values.T)
    if len(vectors) < 3:
        return np.arange(len(vectors))
    length = np.sqrt((vectors**2).sum(axis=1))
    unit = vectors / np.where(length > 0, length, 1)[:, None]
    distance = np.clip(1 - unit @ unit.T, 0, None)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return np.asarray(leaves_list(tree))


def _new_axes(cells: pd.DataFrame) -> Axes:
    left = 0.15 + CHARACTER * max(len(shortened(str(name))) for name in cells.index)
    below = 0.5 + CHARACTER * max(len(shortened(str(name))) for name in cells.columns)
    width = max(min(COLUMN * cells.shape[1], WIDEST), 1.6)
    height = max(ROW * len(cells), 0.5)
    return panel(new_figure(left + width + BAR, below + height + 0.1), left, below, width, height)


def _draw(ax: Axes, values: np.ndarray, dotted: np.ndarray, limit: float, label: str) -> None:
    drawn = ax.imshow(values, cmap=diverging(), vmin=-limit, vmax=limit, aspect="auto",
                      interpolation="nearest")  # fmt: skip
    ax.spines[:].set_visible(False)
    box, (width, height) = ax.get_position(), inches(root_of(ax.figure))
    wide, tall = box.width * width, box.height * height
    cell = min(tall / values.shape[0], wide / values.shape[1]) * 72
    size = max(0.8, min(2.4, 0.35 * cell))
    for strong in (False, True):
        at = np.argwhere(dotted & ((np.abs(values) > 0.55 * limit) == strong))
        ax.plot(at[:, 1], at[:, 0], "o", color="white" if strong else "#222222", markersize=size,
                markeredgewidth=0, linestyle="none")  # fmt: skip
    bar = ax.inset_axes((1 + 0.12 / wide, max(0.0, 1 - 1.6 / tall), 0.09 / wide,
                         min(1.0, 1.6 / tall)))  # fmt: skip
    beyond = "both" if np.nanmax(np.abs(values)) > limit * (1 + 1e-9) else "neither"
    scale = root_of(ax.figure).colorbar(drawn, cax=bar, label=label, extend=beyond)
    scale.outline.set_visible(False)
    bar.tick_params(length=2, pad=2, labelsize=6)


def _name_rows(ax: Axes, names: list[str]) -> None:
    name_side(ax, names, "y")


def _name_columns(ax: Axes, names: list[str], words: list[str]) -> None:
    every = name_side(ax, names, "x")
    count = counted(len(names), "latent") + ("" if every == 1 else f", one in {every} named")
    ax.set_xlabel("\n".join([count, *words]), fontsize=6.5)


def name_side(ax: Axes, names: list[str], side: str) -> int:
    """Name what there is room for, evenly; return one in how many."""
    box, (width, height) = ax.get_position(), inches(root_of(ax.figure))
    points = 72 * (box.width * width if side == "x" else box.height * height)
    every = max(1, int(np.ceil(len(names) * 6.2 / points)))
    places = np.arange(0, len(names), every)
    axis = ax.xaxis if side == "x" else ax.yaxis
    axis.set_ticks(places, [shortened(names[i]) for i in places])
    axis.set_tick_params(labelsize=5.5, length=0 if every == 1 else 1.5, pad=1.5,
                         labelrotation=90 if side == "x" else 0)  # fmt: skip
    return every

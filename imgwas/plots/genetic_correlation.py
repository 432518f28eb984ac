"""Genetic correlations of latents as a matrix: dots where clear of zero, hatched where unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import DegenerateError, InconsistentError, MalformedError, explain
from imgwas.plots.labels import counted, power_text
from imgwas.plots.locus_heatmap import name_side
from imgwas.plots.matrix import shortened
from imgwas.plots.panels import inches, new_figure, panel
from imgwas.plots.region_table import diverging
from imgwas.plots.style import RC, root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Inches of a cell at most, of a side at most, of a character.
CELL, SIDE, CHARACTER = 0.16, 7.0, 0.048


def genetic_correlation_matrix(
    correlation: pd.DataFrame,
    error: pd.DataFrame | None = None,
    *,
    phenotypic: pd.DataFrame | None = None,
    alpha: float = 0.05,
    order: str = "cluster",
    ax: Axes | None = None,
) -> Axes:
    """Draw genetic correlations; a dot marks those clear of zero after Bonferroni's correction.

    Parameters
    ----------
    correlation : DataFrame
        (latents, latents), symmetric; NaN (hatched) where it is not defined. From
        ``GeneticCovariance.matrix("correlation")``.
    error : DataFrame, optional
        Standard errors, alike; needed for the dots.
    phenotypic : DataFrame, optional
        Correlations of the latents themselves, drawn above the diagonal.
    alpha : float, default 0.05
        Shared by all pairs with an estimate.
    order : {"cluster", "given"}
        Similar latents together, or as in the table.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Estimates beyond -1 and 1 have the last colour and are counted.

    Raises
    ------
    InconsistentError
        If the tables do not name the same latents.
    """
    import matplotlib as mpl

    check_option("order", order, ["cluster", "given"])
    check_range("alpha", alpha, low=0, high=1)
    names = _names(correlation, error, phenotypic)
    rg = correlation.to_numpy(float)
    se = None if error is None else error.to_numpy(float)
    below = np.tril(np.ones(rg.shape, bool), -1)
    marked, limit = _marked(rg, se, below & np.isfinite(rg), alpha)
    n_marked = int(marked.sum())
    beyond = int((np.abs(rg[below]) > 1).sum())
    rows = _order(rg, phenotypic) if order == "cluster" else np.arange(len(rg))
    rg, marked = rg[np.ix_(rows, rows)], (marked | marked.T)[np.ix_(rows, rows)]
    shown = rg.copy()
    np.fill_diagonal(shown, 1.0)
    upper = np.triu(np.ones(rg.shape, bool), 1)
    if phenotypic is not None:
        shown[upper] = phenotypic.to_numpy(float)[np.ix_(rows, rows)][upper]
        marked &= ~upper
    with mpl.rc_context(RC):
        ax = ax if ax is not None else _new_axes(names)
        _draw(ax, shown, marked)
        every = name_side(ax, [names[i] for i in rows], "x")
        name_side(ax, [names[i] for i in rows], "y")
        words = [counted(len(names), "latent") + ("" if every == 1 else f", one in {every} named")]
        if limit is not None:
            words.append(f"• P ≤ {power_text(limit)}: {counted(n_marked, 'pair')}")
        missing = int((~np.isfinite(correlation.to_numpy(float)[below])).sum())
        words += [f"hatched: not defined, {counted(missing, 'pair')}"] if missing else []
        words += [f"beyond ±1: {counted(beyond, 'pair')}"] if beyond else []
        words += ["above the diagonal: phenotypic"] if phenotypic is not None else []
        ax.set_xlabel("\n".join(words), fontsize=6.5)
    return ax


def _names(
    correlation: pd.DataFrame, error: pd.DataFrame | None, phenotypic: pd.DataFrame | None
) -> list[str]:
    names = [str(name) for name in correlation.columns]
    if [str(name) for name in correlation.index] != names:
        raise MalformedError(
            explain(f"the correlations are a table of shape {correlation.shape} whose rows and "
                    "columns are not named alike", expected="Latents by latents",
                    do='Use GeneticCovariance.matrix("correlation")')
        )  # fmt: skip
    for what, other in (("errors", error), ("phenotypic correlations", phenotypic)):
        if other is not None and (
            list(map(str, other.columns)) != names or list(map(str, other.index)) != names
        ):
            raise InconsistentError(
                explain(f"the {what} do not name the latents of the correlations, in their order",
                        expected=f"{len(names):,} latents: {', '.join(names[:3])}, ...",
                        do="Take all matrices from one GeneticCovariance")
            )  # fmt: skip
    if len(names) < 2:
        raise DegenerateError(explain("a single latent has no correlation to draw"))
    return names


def _marked(
    rg: np.ndarray, se: np.ndarray | None, pairs: np.ndarray, alpha: float
) -> tuple[np.ndarray, float | None]:
    """Pairs whose two-sided P is at most alpha over the number of pairs, and that limit."""
    from scipy.special import log_ndtr

    if se is None or not pairs.any():
        return np.zeros(rg.shape, bool), None
    limit = alpha / int(pairs.sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        log_p = np.log(2) + log_ndtr(-np.abs(rg / se))
    return np.asarray(pairs & (log_p <= np.log(limit))), limit


def _order(rg: np.ndarray, phenotypic: pd.DataFrame | None) -> np.ndarray:
    """Latents by average linkage of 1 - r; phenotypic correlations stand in for missing ones."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(rg) < 3:
        return np.arange(len(rg))
    stand_in = np.zeros(rg.shape) if phenotypic is None else phenotypic.to_numpy(float)
    filled = np.clip(np.where(np.isfinite(rg), rg, stand_in), -1, 1)
    distance = 1 - (filled + filled.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return np.asarray(leaves_list(tree))


def _new_axes(names: list[str]) -> Axes:
    room = 0.15 + CHARACTER * max(len(shortened(name)) for name in names)
    side = max(min(CELL * len(names), SIDE), 1.2)
    return panel(new_figure(room + side + 0.75, room + side + 0.75), room, room + 0.65, side, side)


def _draw(ax: Axes, shown: np.ndarray, marked: np.ndarray) -> None:
    n = len(shown)
    ax.set_facecolor("white")
    ax.patch.set_hatch("//////")
    ax.patch.set_edgecolor("#BBBBBB")
    ax.patch.set_linewidth(0)
    drawn = ax.imshow(shown, cmap=diverging().with_extremes(bad=(0, 0, 0, 0)), vmin=-1, vmax=1,
                      aspect="auto", interpolation="nearest")  # fmt: skip
    ax.spines[:].set_visible(False)
    box, (width, height) = ax.get_position(), inches(root_of(ax.figure))
    wide, tall = box.width * width, box.height * height
    size = max(0.7, min(2.4, 0.3 * 72 * wide / n))
    for strong in (False, True):
        at = np.argwhere(marked & ((np.abs(np.nan_to_num(shown)) > 0.55) == strong))
        ax.plot(at[:, 1], at[:, 0], "o", color="white" if strong else "#222222", markersize=size,
                markeredgewidth=0, linestyle="none")  # fmt: skip
    ax.set_xlim(-0.5, n - 0.5)
    ax.set_ylim(n - 0.5, -0.5)
    bar = ax.inset_axes((1 + 0.12 / wide, max(0.0, 1 - 1.6 / tall), 0.09 / wide,
                         min(1.0, 1.6 / tall)))  # fmt: skip
    scale = root_of(ax.figure).colorbar(drawn, cax=bar, label="genetic correlation")
    scale.outline.set_visible(False)
    bar.tick_params(length=2, pad=2, labelsize=6)

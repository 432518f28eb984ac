"""Figures of latents: their correlation, its spectrum, what nuisance explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import MalformedError, explain
from imgwas.latents.correlation import EigenSpectrum
from imgwas.latents.nuisance import NuisanceReport
from imgwas.plots.matrix import draw_matrix, name_axis, shortened
from imgwas.plots.style import COLOURS, RC, own_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def correlation_heatmap(
    matrix: pd.DataFrame,
    *,
    ax: Axes | None = None,
    absolute: bool = True,
    cluster: bool = False,
    title: str | None = None,
) -> Axes:
    """Draw the correlation matrix of latents.

    Parameters
    ----------
    matrix : DataFrame
        Square, named both ways; NaN is grey.
    ax : Axes, optional
        Where to draw.
    absolute : bool, default True
        ``|r|`` from white to blue, not r from blue to red: the sign of a latent is arbitrary.
    cluster : bool
        Order latents by average linkage on ``1 - |r|``, so that groups stand together.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    r = matrix.to_numpy(float)
    if r.shape[0] != r.shape[1] or not r.size:
        raise MalformedError(explain(f"the matrix has shape {r.shape}", expected="A square one"))
    names = [str(name) for name in matrix.columns]
    if cluster:
        order = _cluster_order(r)
        r, names = r[np.ix_(order, order)], [names[i] for i in order]
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=4.6, height=4.0)
        limits = (0.0, 1.0) if absolute else (-1.0, 1.0)
        shown = np.abs(r) if absolute else r
        label = "|Pearson r|" if absolute else "Pearson r"
        draw_matrix(ax, shown, "Blues" if absolute else "RdBu_r", limits, label)
        name_axis(ax, names, "x")
        name_axis(ax, names, "y")
        if title:
            ax.set_title(title)
    return ax


def _cluster_order(r: np.ndarray) -> np.ndarray:
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = 1 - np.abs(np.nan_to_num(r))
    np.fill_diagonal(distance, 0)
    if len(r) < 3:
        return np.arange(len(r))
    condensed = squareform((distance + distance.T) / 2, checks=False)
    return np.asarray(leaves_list(linkage(condensed, "average", optimal_ordering=len(r) <= 300)))


def spectrum(
    data: EigenSpectrum, *, ax: Axes | None = None, method: str = "li-ji", title: str | None = None
) -> Axes:
    """Draw eigenvalues of the latents' correlation with their effective number.

    Parameters
    ----------
    data : EigenSpectrum
        What :func:`imgwas.latents.eigen_spectrum` returns.
    ax : Axes, optional
        Where to draw.
    method : {"li-ji", "cheverud", "galwey"}
        Of the effective number.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl
    from matplotlib.ticker import MaxNLocator

    effective = data.effective_number(method)
    m = len(data.names)
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=3.5, height=2.6)
        ax.plot(np.arange(1, m + 1), data.eigenvalues, "o-", color=COLOURS[0], markersize=2.2,
                markeredgewidth=0, linewidth=0.6, zorder=3)  # fmt: skip
        ax.axhline(1, color="#999999", linewidth=0.6, zorder=1)
        ax.axvline(effective, color=COLOURS[1], linewidth=0.9, linestyle="--", zorder=2)
        ax.set_xlim(0, m + 1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=min(0.0, float(data.eigenvalues.min())))
        ax.set_xlabel("Component")
        ax.set_ylabel("Eigenvalue")
        ax.set_title(_in_words(data, method, title), loc="left", fontsize=RC["font.size"])
    return ax


def _in_words(data: EigenSpectrum, method: str, title: str | None) -> str:
    effective = data.effective_number(method)
    mantissa, exponent = f"{data.study_wide(method):.2e}".split("e")
    lines = [
        f"{len(data.names)} latents, {effective:.1f} effective ({_METHODS[method]}), "
        f"{data.n_components(0.95)} components for 95 %",
        f"study-wide P: 5×10$^{{-8}}$ / {effective:.1f} = {mantissa}×10$^{{{int(exponent)}}}$",
    ]
    return "\n".join([title, *lines] if title else lines)


_METHODS = {"li-ji": "Li and Ji", "cheverud": "Cheverud", "galwey": "Galwey"}


def nuisance_heatmap(
    report: NuisanceReport,
    *,
    ax: Axes | None = None,
    column: str = "r2_alone",
    title: str | None = None,
) -> Axes:
    """Draw how much of each latent each covariate explains, worst latents first.

    Parameters
    ----------
    report : NuisanceReport
        What :func:`imgwas.latents.variance_explained` returns.
    ax : Axes, optional
        Where to draw.
    column : {"r2_alone", "r2_unique", "r2_partial"}
        Share to draw per term; the first row is the joint R².
    title : str, optional
        Written above.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    words = {"r2_alone": "R², each term alone", "r2_unique": "R² beyond the other terms",
             "r2_partial": "partial R²"}  # fmt: skip
    check_option("column", column, words)
    joint = report.joint.set_index("latent")["r2"].sort_values(ascending=False)
    wide = report.matrix(column).loc[joint.index]
    shown = np.vstack([joint.to_numpy(float), wide.to_numpy(float).T])
    with mpl.rc_context(RC):
        ax = own_axes(ax, height=max(1.5, 0.85 + 0.19 * len(shown)))
        top = float(np.nanmax(shown)) if np.isfinite(shown).any() else 1.0
        draw_matrix(ax, shown, "Reds", (0.0, max(top, 1e-3)), words[column])
        ax.axhline(0.5, color="black", linewidth=0.8)
        ax.set_yticks(range(len(shown)), ["all together", *map(shortened, wide.columns)])
        ax.tick_params(axis="y", length=0)
        name_axis(ax, list(joint.index), "x")
        ax.set_xlabel("Latents, most explained first")
        if title:
            ax.set_title(title)
    return ax

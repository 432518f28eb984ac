"""Quantile-quantile plots of -log10 P, with the band that chance allows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.plots.style import COLOURS, RC, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Edges of the strata of minor allele frequency.
MAF_EDGES = (0.0, 0.01, 0.05, 0.2, 0.5)
_MEDIAN_CHI2 = 0.454936423119572


def qq(
    neg_log10_p: np.ndarray,
    *,
    maf: np.ndarray | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw observed against expected -log10 P of one latent.

    The i-th smallest of n P values is drawn at its median-free expectation i / (n + 1), and the
    band holds the central 95 % of its Beta(i, n + 1 - i) distribution.

    Parameters
    ----------
    neg_log10_p : (variants,) array
        NaN is left out.
    maf : (variants,) array, optional
        Draw one line per stratum of minor allele frequency instead of one for all.
    ax : Axes, optional
        Where to draw.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
    """
    values = np.asarray(neg_log10_p, float)
    if maf is None:
        return qq_many({"": values}, ax=ax, title=title)
    if np.shape(maf) != values.shape:
        raise MalformedError(
            explain(f"maf has shape {np.shape(maf)}", expected=f"{values.shape}, like -log10 P")
        )
    strata = {}
    for low, high in itertools.pairwise(MAF_EDGES):
        inside = (maf > low) & (maf <= high) & np.isfinite(values)
        if inside.sum() >= 100:
            strata[f"MAF {low:g} to {high:g}"] = values[inside]
    return qq_many(strata or {"": values}, ax=ax, title=title)


def qq_many(
    series: Mapping[str, np.ndarray], *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Draw several QQ lines in one plot; up to seven get a colour and a legend with lambda.

    Parameters
    ----------
    series : mapping of str to array
        -log10 P by name (latents, or strata).
    ax, title
        As in :func:`qq`.
    """
    import matplotlib as mpl

    cleaned = {name: _cleaned(values) for name, values in series.items()}
    few = len(cleaned) <= len(COLOURS)
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=3.2, height=3.2)
        largest = max(len(values) for values in cleaned.values())
        _band(ax, largest)
        for number, (name, values) in enumerate(cleaned.items()):
            expected, observed = qq_points(values)
            label = f"{name + ', ' if name else ''}λ = {lambda_of(values):.3f}"
            ax.plot(
                expected, observed, linestyle="none" if few else "-", marker="o" if few else "",
                markersize=1.8, markeredgewidth=0, linewidth=0.5, alpha=1.0 if few else 0.35,
                color=COLOURS[number % len(COLOURS)] if few else COLOURS[0],
                label=label if few else None, rasterized=True, zorder=2,
            )  # fmt: skip
        _finish(ax, cleaned, few, title)
    return ax


def _cleaned(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        raise DegenerateError(explain("no variant has a P value", do="Was anything tested?"))
    if values.min() < 0:
        raise MalformedError(
            explain("a -log10 P is negative", expected="-log10 P, not P and not log10 P")
        )
    return np.sort(values)[::-1]


def lambda_of(neg_log10_p: np.ndarray) -> float:
    """Genomic control: median chi-square (one degree of freedom) over its expectation."""
    from scipy.special import ndtri

    return float(ndtri(10.0 ** -np.median(neg_log10_p) / 2) ** 2 / _MEDIAN_CHI2)


def qq_points(
    descending: np.ndarray, *, top: int = 2000, rest: int = 5000
) -> tuple[np.ndarray, np.ndarray]:
    """Expected and observed -log10 P: the top ranks, then ranks evenly spaced in logarithm."""
    n = len(descending)
    ranks = np.arange(1, min(top, n) + 1)
    if n > top:
        spaced = np.unique(np.geomspace(top + 1, n, rest).astype(np.int64))
        ranks = np.concatenate([ranks, spaced])
    return -np.log10(ranks / (n + 1)), descending[ranks - 1]


def qq_band(n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected -log10 P, and the lower and upper end of the band, along the ranks of n values."""
    from scipy.stats import beta

    ranks = np.unique(np.geomspace(1, n, 400).astype(np.int64))
    tail = (1 - level) / 2
    low = -np.log10(beta.ppf(1 - tail, ranks, n + 1 - ranks))
    high = -np.log10(beta.ppf(tail, ranks, n + 1 - ranks))
    return -np.log10(ranks / (n + 1)), low, high


def _band(ax: Axes, n: int) -> None:
    expected, low, high = qq_band(n)
    ax.fill_between(expected, low, high, color="#DDDDDD", linewidth=0, zorder=0)
    ax.plot([0, expected[0]], [0, expected[0]], color="#555555", linewidth=0.6, zorder=1)


def _finish(ax: Axes, cleaned: Mapping[str, np.ndarray], few: bool, title: str | None) -> None:
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(r"Expected $-\log_{10}P$")
    ax.set_ylabel(r"Observed $-\log_{10}P$")
    if few:
        ax.legend(frameon=False, loc="upper left", markerscale=2, handletextpad=0.2)
    else:
        lambdas = [lambda_of(values) for values in cleaned.values()]
        ax.text(
            0.03, 0.97,
            f"{len(cleaned)} latents\nλ {np.median(lambdas):.3f} "
            f"({min(lambdas):.3f} to {max(lambdas):.3f})",
            transform=ax.transAxes, va="top", ha="left",
        )  # fmt: skip
    if title:
        ax.set_title(title)

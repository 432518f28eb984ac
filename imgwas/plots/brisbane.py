"""Brisbane plots: how densely independent signals lie along the genome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError
from imgwas.plots.chromosomes import chromosome_numbers
from imgwas.plots.genome import GenomeAxis
from imgwas.plots.labels import counted
from imgwas.plots.manhattan import find_leads, name_leads
from imgwas.plots.region_table import need_columns
from imgwas.plots.style import CHROMOSOME_TONES, RC, own_axes
from imgwas.shapes import Int64

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def brisbane(
    table: pd.DataFrame,
    *,
    kb: float = 100.0,
    labels: int = 10,
    label: str = "variant_id",
    ax: Axes | None = None,
) -> Axes:
    """Draw for every independent signal how many others lie within some kb of it.

    Parameters
    ----------
    table : DataFrame
        One row a signal: ``chromosome``, ``base_pair_location`` and the names. ``Loci.variants`` of
        :func:`imgwas.find_loci`, with ``by="latent"`` for the signals of all latents, or the
        signals of :func:`imgwas.condition_loci`.
    kb : float, default 100
        Reach to either side.
    labels : int, default 10
        Densest places to name; others with as many neighbours as the last named are counted.
    label : str, default "variant_id"
        Column of the names, such as ``nearest_gene``.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    References
    ----------
    .. [1] Yengo et al. (2022), Nature 610:704.
    """
    import matplotlib as mpl
    from matplotlib.ticker import MaxNLocator

    check_range("kb", kb, low=0)
    need_columns(table, ["chromosome", "base_pair_location", *([label] if labels else [])])
    if table.empty:
        raise DegenerateError("the table has no signal to draw.")
    (number,), names = chromosome_numbers([table["chromosome"]])
    position = table["base_pair_location"].to_numpy(float)
    density = signal_density(number, position, kb * 1e3)
    with mpl.rc_context(RC):
        ax = own_axes(ax, height=2.2)
        genome = GenomeAxis.of(number, position, names)
        x = genome.place(number, position)
        for place, code in enumerate(genome.chromosomes):
            own = number == code
            ax.vlines(x[own], 0, density[own], color=CHROMOSOME_TONES[place % 2], linewidth=0.5,
                      rasterized=len(x) > 5000)  # fmt: skip
            ax.plot(x[own], density[own], "o", color=CHROMOSOME_TONES[place % 2], markersize=2.2,
                    markeredgewidth=0, rasterized=len(x) > 5000)  # fmt: skip
        margin = 0.008 * (genome.ends[-1] - genome.starts[0])
        ax.set_xlim(genome.starts[0] - margin, genome.ends[-1] + margin)
        ax.set_ylim(0, max(1.06 * float(density.max()), 1.0))
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_ylabel(f"Other signals within {kb:g} kb")
        genome.label(ax)
        ax.set_xlabel(f"{ax.get_xlabel()}; {counted(len(table), 'signal')}")
        peaks = find_leads(number, position, density.astype(float), 1.0, kb * 1e3)
        words = [str(table[label].iloc[i]) if k < labels else "" for k, i in enumerate(peaks)]
        name_leads(ax, x[peaks], density[peaks].astype(float), words, nouns=("place", "places"))
    return ax


def signal_density(
    chromosome: np.ndarray, position: np.ndarray, reach: float
) -> Int64[np.ndarray, " signals"]:
    """Count the other signals of the same chromosome at most ``reach`` bases away."""
    place = position + chromosome.astype(float) * (2.0**40 + 2 * reach)
    ordered = np.sort(place)
    last = np.searchsorted(ordered, place + reach, "right")
    first = np.searchsorted(ordered, place - reach, "left")
    return np.asarray(last - first - 1, np.int64)

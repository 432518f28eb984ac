"""The genome as one axis: chromosomes side by side, each with its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.plots.style import root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NAMES = {23: "X", 24: "Y", 25: "MT"}


@dataclass(frozen=True)
class GenomeAxis:
    """Where each chromosome lies on a shared axis.

    Parameters
    ----------
    chromosomes : (k,) int array
        In order.
    starts, ends : (k,) float array
        First and last position on the axis, in base pairs.
    """

    chromosomes: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, chromosome: np.ndarray, position: np.ndarray) -> GenomeAxis:
        """Lay out the chromosomes that occur, with gaps of half a percent."""
        present = np.unique(chromosome)
        lengths = np.array([position[chromosome == c].max() for c in present], float)
        gap = 0.005 * lengths.sum() if len(present) > 1 else 0.0
        starts = np.concatenate([[0.0], np.cumsum(lengths[:-1] + gap)])
        return cls(present, starts, starts + lengths)

    def place(self, chromosome: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Coordinates of variants on the axis."""
        return np.asarray(self.starts[np.searchsorted(self.chromosomes, chromosome)] + position)

    def label(self, ax: Axes) -> None:
        """Label every chromosome; a label that would touch its neighbour moves to a lower row."""
        if len(self.chromosomes) == 1:
            _label_positions(ax, int(self.chromosomes[0]))
            return
        middles = (self.starts + self.ends) / 2
        names = [_NAMES.get(int(c), str(int(c))) if c else "other" for c in self.chromosomes]
        inches = float(root_of(ax.figure).get_size_inches()[0])
        # the layout will take room for the axis on the left, which a narrow figure feels
        points = min(ax.get_position().width * inches, inches - 0.5) * 72
        scale = points / (self.ends[-1] - self.starts[0])
        rows_end: list[float] = []
        labels = []
        for middle, name in zip(middles * scale, names, strict=True):
            half = 2.1 * len(name) + 1.2
            row = next((r for r, end in enumerate(rows_end) if middle - half > end), len(rows_end))
            rows_end[row : row + 1] = [middle + half]
            labels.append("\n" * row + name)
        ax.set_xticks(middles, labels, linespacing=0.95)
        ax.tick_params(axis="x", length=2, pad=1.5)
        ax.set_xlabel("Chromosome")


def _label_positions(ax: Axes, chromosome: int) -> None:
    from matplotlib.ticker import FuncFormatter

    name = _NAMES.get(chromosome, str(chromosome))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
    ax.set_xlabel(f"Position on chromosome {name} (Mb)")


def checked(data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Chromosome, position, -log10 P and row number of the variants that have a P value.

    Raises
    ------
    MalformedError
        If a column is missing, or a -log10 P is negative or infinite.
    DegenerateError
        If no variant has a P value.
    """
    needed = ("chromosome", "base_pair_location", "neg_log_10_p_value")
    absent = [name for name in needed if name not in data.columns]
    if absent:
        raise MalformedError(
            explain(
                f"the data have no column {', '.join(absent)}",
                expected=f"Columns {', '.join(needed)}, as SumStats.latent() returns",
            )
        )
    nlp = data["neg_log_10_p_value"].to_numpy(float)
    tested = np.flatnonzero(~np.isnan(nlp))
    if np.isinf(nlp).any():
        raise MalformedError(
            explain(
                f"-log10 P is infinite for {int(np.isinf(nlp).sum()):,} variants",
                expected="-log10 P that was never P: a P of 1e-400 is 0 as a number",
            )
        )
    if not len(tested):
        raise DegenerateError(explain("no variant has a P value", do="Was anything tested?"))
    if (nlp[tested] < 0).any():
        raise MalformedError(
            explain("a -log10 P is negative", expected="-log10 P, not P and not log10 P")
        )
    order = tested[
        np.lexsort(
            (
                data["base_pair_location"].to_numpy()[tested],
                data["chromosome"].to_numpy()[tested],
            )
        )
    ]
    chromosome = data["chromosome"].to_numpy(np.int64)[order]
    return chromosome, data["base_pair_location"].to_numpy(float)[order], nlp[order], order

"""The genome as one axis: chromosomes side by side, each with its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.plots.chromosomes import chromosome_name, chromosome_numbers
from imgwas.plots.style import root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("chromosome", "base_pair_location", "neg_log_10_p_value")


@dataclass(frozen=True)
class GenomeAxis:
    """Where each chromosome lies on a shared axis.

    Parameters
    ----------
    chromosomes : (k,) int array
        In order.
    starts, ends : (k,) float array
        First and last position on the axis, in base pairs.
    names : tuple of str
        Name of each chromosome number, those that are absent included.
    """

    chromosomes: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(
        cls, chromosome: np.ndarray, position: np.ndarray, names: Sequence[str] | None = None
    ) -> GenomeAxis:
        """Lay out the chromosomes that occur, with gaps of half a percent.

        ``names`` are those of the numbers; by default the numbers are GWAS-SSF's.
        """
        if names is None:
            names = [chromosome_name(i) for i in range(int(chromosome.max()) + 1)]
        lengths = np.full(len(names), -1.0)
        for start in range(0, len(position), 1_000_000):
            part = slice(start, start + 1_000_000)
            np.maximum.at(lengths, chromosome[part], position[part])
        present = np.flatnonzero(lengths >= 0)
        lengths = np.maximum(lengths[present], 1.0)
        gap = 0.005 * lengths.sum() if len(present) > 1 else 0.0
        starts = np.concatenate([[0.0], np.cumsum(lengths[:-1] + gap)])
        return cls(present, starts, starts + lengths, tuple(names))

    def place(self, chromosome: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Coordinates of variants on the axis."""
        begins = np.zeros(len(self.names))
        begins[self.chromosomes] = self.starts
        return np.asarray(begins[chromosome] + position)

    def label(self, ax: Axes) -> None:
        """Label every chromosome; a label that would touch its neighbour moves to a lower row."""
        names = [self.names[i] for i in self.chromosomes]
        if len(names) == 1:
            label_megabases(ax, names[0])
            return
        middles = (self.starts + self.ends) / 2
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


def label_megabases(ax: Axes, chromosome: str) -> None:
    """Write positions in megabases along an axis of one chromosome."""
    from matplotlib.ticker import FuncFormatter

    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
    ax.set_xlabel(f"Position on chromosome {chromosome} (Mb)")


@dataclass(frozen=True)
class Points:
    """Variants that have a P value, in the order of the genome.

    Parameters
    ----------
    chromosome : (points,) int array
        Number in ``names``.
    position, neg_log10_p : (points,) array
    row : (points,) int array
        Row of the table that was given.
    names : tuple of str
        Names of the chromosomes.
    """

    chromosome: np.ndarray
    position: np.ndarray
    neg_log10_p: np.ndarray
    row: np.ndarray
    names: tuple[str, ...]


def points_of(*tables: pd.DataFrame) -> list[Points]:
    """Take the variants with a P value out of tables that share their chromosomes.

    Raises
    ------
    MalformedError
        If a column is missing, or a -log10 P is negative or infinite.
    DegenerateError
        If no variant has a P value.
    """
    values = [_checked(table) for table in tables]
    numbers, names = chromosome_numbers([table["chromosome"] for table in tables])
    return [
        _in_order(number, table["base_pair_location"].to_numpy(), nlp, names)
        for number, table, nlp in zip(numbers, tables, values, strict=True)
    ]


def _in_order(
    number: np.ndarray, position: np.ndarray, nlp: np.ndarray, names: tuple[str, ...]
) -> Points:
    """Variants with P, sorted; nothing is copied that is in order already."""
    tested = ~np.isnan(nlp)
    row = np.arange(len(nlp), dtype=np.uint32)
    if not tested.all():
        row, number, position, nlp = row[tested], number[tested], position[tested], nlp[tested]
    if not _is_sorted(number, position):
        order = np.lexsort((position, number))
        row, number, position, nlp = row[order], number[order], position[order], nlp[order]
    return Points(number, position, nlp, row, names)


def _is_sorted(number: np.ndarray, position: np.ndarray) -> bool:
    """Whether variants are in the order of the genome, looked at a million at a time."""
    for start in range(0, len(number) - 1, 1_000_000):
        these, those = slice(start, start + 1_000_000), slice(start + 1, start + 1_000_001)
        n, p = number[these][: len(number[those])], position[these][: len(number[those])]
        same = number[those] == n
        if (number[those] < n).any() or (position[those][same] < p[same]).any():
            return False
    return True


def _checked(data: pd.DataFrame) -> np.ndarray:
    absent = [name for name in _NEEDED if name not in data.columns]
    if absent:
        raise MalformedError(
            explain(
                f"the data have no column {', '.join(absent)}",
                expected=f"Columns {', '.join(_NEEDED)}, as SumStats.latent() returns",
            )
        )
    nlp = data["neg_log_10_p_value"].to_numpy(float)
    if np.isinf(nlp).any():
        raise MalformedError(
            explain(
                f"-log10 P is infinite for {int(np.isinf(nlp).sum()):,} variants",
                expected="-log10 P that was never P: a P of 1e-400 is 0 as a number",
            )
        )
    if not len(nlp) or np.isnan(nlp).all():
        raise DegenerateError(explain("no variant has a P value", do="Was anything tested?"))
    if (nlp < 0).any():
        raise MalformedError(
            explain("a -log10 P is negative", expected="-log10 P, not P and not log10 P")
        )
    return nlp

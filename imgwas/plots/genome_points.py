"""The points of a Manhattan plot read from a folder of results, never all of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_numpy, to_numpy
from imgwas.errors import DegenerateError, explain
from imgwas.plots.chromosomes import chromosome_name
from imgwas.sumstats import SumStats, neg_log10_p_value
from imgwas.sumstats.effects import LatentEntry, dictionary_of
from imgwas.sumstats.reading import check_known
from imgwas.sumstats.reduce import best_of_block

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("chromosome", "base_pair_location", "variant_id")
#: Every point at or above this stays; below, one a cell of the grid, finer than that of a figure.
KEEP_ABOVE, COLUMNS, ROWS = 4.0, 4800, 600


def genome_points(
    results: SumStats, what: str | None = None, *, chromosome: str | None = None
) -> pd.DataFrame:
    """Read what a Manhattan or Miami plot can show, in memory that does not grow with the scan.

    Every variant with -log10 P of 4 or more is returned, and below that the first of each cell of a
    4,800 x 600 grid: the plot of these is the plot of all.

    Parameters
    ----------
    results : SumStats
        From :func:`imgwas.open_sumstats`.
    what : str, optional
        A latent, or a column of -log10 P such as ``omnibus.combined``. By default the smallest P
        over all latents.
    chromosome : str, optional
        Only this one; a contig by its own name.

    Returns
    -------
    DataFrame
        ``chromosome`` (a name), ``base_pair_location``, ``variant_id``, ``neg_log_10_p_value`` and,
        for the smallest P, ``latent``.

    Raises
    ------
    UsageError
        If there is neither a latent nor a column of this name.
    DegenerateError
        If no variant was tested.
    """
    reader = ValueReader(results, what)
    grid = _Grid(results, chromosome)
    kept = [grid.choose(block, *reader.values(block))
            for block in results.iter_blocks([*PLACE, *reader.columns])]  # fmt: skip
    table: pd.DataFrame = pa.concat_tables(kept).to_pandas()
    if table.empty:
        raise DegenerateError(explain("no variant has a P value", do="Was anything tested?"))
    if what is None:
        names = np.array(results.latents, object)
        table["latent"] = names[table["latent"].to_numpy()]
        return table
    return table.drop(columns="latent")


class ValueReader:
    """-log10 P of every variant of a block: of a latent, of the best latent, or of a column.

    Parameters
    ----------
    results : SumStats
        The scan.
    what : str, optional
        A latent, a column such as ``omnibus.combined``, or None for the smallest P.

    Attributes
    ----------
    columns : list of str
        Columns of the parts that :meth:`values` needs.
    """

    def __init__(self, results: SumStats, what: str | None) -> None:
        self.entries: list[LatentEntry] = []
        if what is not None and what not in results.latents and "." in what:
            check_known(results.parts[0], [what])
            self.columns = [what]
            return
        names = results.latents if what is None else [what]
        self.entries = [results.entry(name) for name in names]
        tested = [f"t.{entry.name}" for entry in self.entries]
        self.columns = [*tested, *sorted({f"dof.{entry.group}" for entry in self.entries})]

    def values(self, block: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """-log10 P (NaN: not tested) and the number of the latent (-1 where none was tested)."""
        first = np.zeros(block.num_rows, np.int64)
        if not self.entries:
            return to_numpy(block[self.columns[0]]).astype(np.float64), first
        if len(self.entries) > 1:
            best, which = best_of_block(block, self.entries)
            return best, which.astype(np.int64)
        t, dof = (to_numpy(block[name]) for name in self.columns)
        return neg_log10_p_value(t.astype(np.float64), dof), first


class _Grid:
    """Which cells of the page have a point already."""

    def __init__(self, results: SumStats, chromosome: str | None) -> None:
        self.ends = _ends(results)
        if chromosome is not None:
            wanted = chromosome_name(chromosome)
            if wanted not in self.ends:
                raise DegenerateError(
                    explain(f"no variant is on chromosome {chromosome}",
                            expected=f"One of {', '.join(list(self.ends)[:30])}")
                )  # fmt: skip
            self.ends = {wanted: self.ends[wanted]}
        width = max(sum(self.ends.values()) / COLUMNS, 1.0)
        self.width = width
        self.taken = {name: np.zeros((int(end / width) + 1) * ROWS, bool)
                      for name, end in self.ends.items()}  # fmt: skip

    def choose(self, block: pa.Table, nlp: np.ndarray, latent: np.ndarray) -> pa.Table:
        """Rows of a block to draw."""
        names, numbers = dictionary_of(block["chromosome"])
        position = to_numpy(block["base_pair_location"])
        rows = [self._rows(name, np.flatnonzero((numbers == i) & ~np.isnan(nlp)), position, nlp)
                for i, name in enumerate(names) if chromosome_name(name) in self.ends]  # fmt: skip
        chosen = np.sort(np.concatenate([np.empty(0, np.int64), *rows]))
        labels = pa.array([chromosome_name(name) for name in names], pa.string())
        table = block.select(list(PLACE)).take(from_numpy(chosen))
        chromosome = pc.take(labels, from_numpy(numbers[chosen].astype(np.int64)))
        return (
            table.set_column(0, "chromosome", chromosome)
            .append_column("neg_log_10_p_value", from_numpy(nlp[chosen]))
            .append_column("latent", from_numpy(latent[chosen].astype(np.int64)))
        )

    def _rows(self, name: str, rows: np.ndarray, position: np.ndarray, nlp: np.ndarray
              ) -> np.ndarray:  # fmt: skip
        taken = self.taken[chromosome_name(name)]
        high = nlp[rows] >= KEEP_ABOVE
        low = rows[~high]
        cell = (position[low] / self.width).astype(np.int64) * ROWS
        cell += (nlp[low] * (ROWS / KEEP_ABOVE)).astype(np.int64)
        fresh = np.flatnonzero(~taken[cell])
        cells, first = np.unique(cell[fresh], return_index=True)
        taken[cells] = True
        last = rows[position[rows] == self.ends[chromosome_name(name)]][:1]
        return np.asarray(np.unique(np.concatenate([rows[high], low[fresh[first]], last])))


def _ends(results: SumStats) -> dict[str, float]:
    """Last position of every chromosome."""
    ends: dict[str, float] = {}
    for block in results.iter_blocks(["chromosome", "base_pair_location"]):
        names, numbers = dictionary_of(block["chromosome"])
        position = to_numpy(block["base_pair_location"])
        for number, name in enumerate(map(chromosome_name, names)):
            last = float(position[numbers == number].max())
            ends[name] = max(last, ends.get(name, 0.0))
    return ends

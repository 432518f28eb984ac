"""What the page says about a scan in numbers, read off its parts in few passes.

One pass finds the best latent of every variant, the omnibus tests and the statistics of chosen
variants; further passes take a few latents at a time for genomic control and QQ points. Memory is a
few bytes a variant and a few columns, never the matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.arrow import from_numpy, to_numpy
from imgwas.plots.chromosomes import chromosome_name, chromosome_numbers
from imgwas.shapes import Float32, Float64, Int64
from imgwas.sumstats import SumStats
from imgwas.sumstats.effects import VARIANT_COLUMNS, dictionary_of
from imgwas.sumstats.joint import OmnibusTest
from imgwas.sumstats.omnibus_table import omnibus_test
from imgwas.sumstats.pvalues import neg_log10_p_value
from imgwas.sumstats.reduce import MEDIAN_CHI2, best_of_block, median_chi2

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of one pass over the columns of some latents.
_BUDGET = 200_000_000
#: Ranks of a QQ plot: the first, and so many further ones.
_TOP, _REST = 300, 300
#: Variants that are tested against all latents at a time.
_ROWS = 8192
OMNIBUS = ("combined", "joint", "minp")


@dataclass(frozen=True)
class Genome:
    """Every variant in the order of the file, with its smallest P.

    Parameters
    ----------
    chromosome : (variants,) int array
        Number in ``names``.
    position : (variants,) int array
    names : tuple of str
        Chromosomes in the order of the genome, X for 23.
    best : (variants,) float array
        Largest -log10 P over latents; NaN where nothing was tested.
    latent : (variants,) int array
        Whose it is; -1 where nothing was tested.
    omnibus : mapping
        -log10 P of the tests of all latents at once, by name.
    """

    chromosome: np.ndarray
    position: Int64[np.ndarray, " variants"]
    names: tuple[str, ...]
    best: Float32[np.ndarray, " variants"]
    latent: np.ndarray
    omnibus: Mapping[str, Float32[np.ndarray, " variants"]]

    @property
    def n_tested(self) -> int:
        """Variants with a P value for some latent."""
        return int((self.latent >= 0).sum())

    def number_of(self, chromosome: str) -> int:
        """Number of a chromosome, however it is written; -1 where the scan has none of it."""
        name = chromosome_name(chromosome)
        return self.names.index(name) if name in self.names else -1


@dataclass(frozen=True)
class LatentNumbers:
    """One latent: genomic control, strongest variant, points of its QQ plot."""

    name: str
    n_tested: int
    lambda_gc: float
    top_row: int
    top_neg_log10_p: float
    expected: Float64[np.ndarray, " ranks"]
    observed: Float64[np.ndarray, " ranks"]


def read_genome(
    sumstats: SumStats,
    leads: pd.DataFrame,
    progress: Callable[[int], object] | None = None,
    *,
    omnibus: bool = False,
) -> tuple[Genome, pd.DataFrame]:
    """Pass over all variants.

    Parameters
    ----------
    sumstats : SumStats
    leads : DataFrame
        ``variant_id``, ``base_pair_location`` of variants whose statistics are wanted.
    progress : callable, optional
        Told how many variants were read.
    omnibus : bool
        Make the tests of all latents at once where the scan did not.

    Returns
    -------
    Genome
    DataFrame
        Statistics of the leads: ``latent`` and the columns of :meth:`SumStats.latent`.
    """
    entries = [sumstats.entry(name) for name in sumstats.latents]
    stored = _omnibus_columns(sumstats)
    test = omnibus_test(sumstats) if omnibus and not stored else None
    tests = OMNIBUS if test else tuple(name.removeprefix("omnibus.") for name in stored)
    columns = [*VARIANT_COLUMNS, *stored]
    columns += [c for name in sumstats.latents for c in sumstats.columns_of(name)]
    pieces: dict[str, list[np.ndarray]] = {
        name: [] for name in ("chromosome", "position", "best", "latent", *tests)
    }
    chosen, seen = [], dict[str, int]()
    for block in sumstats.iter_blocks(list(dict.fromkeys(columns))):
        best, latent = best_of_block(block, entries)
        position = to_numpy(block["base_pair_location"])
        pieces["chromosome"].append(_numbered(block["chromosome"], seen))
        pieces["position"].append(position)
        pieces["best"].append(best.astype(np.float32))
        pieces["latent"].append(latent.astype(np.int32))
        for name, values in (_tested(block, test) if test else _read(block, stored)).items():
            pieces[name].append(values.astype(np.float32))
        chosen.append(_leads_in(block, position, leads))
        if progress is not None:
            progress(block.num_rows)
    whole = {name: np.concatenate(found) for name, found in pieces.items()}
    together = {name: whole.pop(name) for name in tests}
    order, names = _in_genome_order(seen)
    chromosome = order[whole.pop("chromosome")]
    genome = Genome(chromosome, names=names, omnibus=together, **whole)
    return genome, _statistics(sumstats, pa.concat_tables(chosen))


def _numbered(column: pa.ChunkedArray, seen: dict[str, int]) -> np.ndarray:
    """Number chromosomes in the order in which they are met."""
    names, rows = dictionary_of(column)
    table = [seen.setdefault(name, len(seen)) for name in names]
    return np.asarray(np.array(table, np.int16)[rows])


def _in_genome_order(seen: Mapping[str, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    import pandas as pd

    numbers, names = chromosome_numbers([pd.Series(list(seen), dtype=object)])
    return numbers[0], names


def _omnibus_columns(sumstats: SumStats) -> list[str]:
    there = set(pq.read_schema(sumstats.parts[0]).names)
    return [f"omnibus.{name}" for name in OMNIBUS if f"omnibus.{name}" in there]


def _read(block: pa.Table, stored: Sequence[str]) -> dict[str, np.ndarray]:
    return {name.removeprefix("omnibus."): to_numpy(block[name]) for name in stored}


def _tested(block: pa.Table, test: OmnibusTest) -> dict[str, np.ndarray]:
    """Test some variants against all latents at once, a few thousand at a time."""
    names = [name for name in block.column_names if name.startswith("t.")]
    groups = [f"dof.{group}" for group in range(max(test.groups) + 1)]
    found: dict[str, list[np.ndarray]] = {name: [] for name in OMNIBUS}
    for start in range(0, block.num_rows, _ROWS):
        some = block.slice(start, _ROWS)
        t = np.column_stack([to_numpy(some[name]) for name in names]).astype(np.float64)
        dof = np.column_stack([to_numpy(some[name]) for name in groups])
        for name, values in test.columns(t, dof, OMNIBUS).items():
            found[name].append(values)
    return {name: np.concatenate(pieces) for name, pieces in found.items()}


def _leads_in(block: pa.Table, position: np.ndarray, leads: pd.DataFrame) -> pa.Table:
    near = np.flatnonzero(np.isin(position, leads["base_pair_location"].to_numpy(np.int64)))
    found = block.take(from_numpy(near))
    wanted = set(zip(leads["variant_id"], leads["base_pair_location"], strict=True))
    keys = zip(found["variant_id"].to_pylist(), position[near].tolist(), strict=True)
    return found.filter(pa.array([key in wanted for key in keys], pa.bool_()))


def _statistics(sumstats: SumStats, block: pa.Table) -> pd.DataFrame:
    import pandas as pd

    frames = []
    for name in sumstats.latents:
        frame = sumstats.statistics(block, name)
        frame.insert(0, "latent", name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def read_latents(
    sumstats: SumStats, progress: Callable[[int], object] | None = None
) -> list[LatentNumbers]:
    """Genomic control, strongest variant and QQ points of every latent, a few latents at a time.

    Notes
    -----
    The median and the ranks are exact: whole columns of t are ordered. P values are computed for
    the ranks that are drawn, where all variants have the same degrees of freedom.
    """
    per_pass = max(1, min(32, _BUDGET // (8 * max(sumstats.n_variants, 1))))
    names = sumstats.latents
    numbers = []
    for start in range(0, len(names), per_pass):
        for name, t, dof in _columns(sumstats, names[start : start + per_pass]):
            numbers.append(_of_latent(name, t, dof))
            if progress is not None:
                progress(1)
    return numbers


def _columns(
    sumstats: SumStats, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield abs(t) and degrees of freedom of some latents, read in one pass."""
    groups = {name: sumstats.entry(name).group for name in names}
    columns = [f"t.{name}" for name in names] + [f"dof.{g}" for g in sorted(set(groups.values()))]
    pieces: dict[str, list[np.ndarray]] = {column: [] for column in columns}
    for block in sumstats.iter_blocks(columns):
        for column in columns:
            pieces[column].append(to_numpy(block[column]))
    for name in names:
        t = np.abs(np.concatenate(pieces.pop(f"t.{name}")))
        yield name, t, np.concatenate(pieces[f"dof.{groups[name]}"])


def _of_latent(name: str, t: np.ndarray, dof: np.ndarray) -> LatentNumbers:
    tested = np.isfinite(t) & (dof >= 1)
    n = int(tested.sum())
    if n == 0:
        return LatentNumbers(name, 0, np.nan, -1, np.nan, np.empty(0), np.empty(0))
    rows = np.arange(len(t)) if n == len(t) else np.flatnonzero(tested)
    t, dof = t[rows], dof[rows]
    control = median_chi2(t, dof) / MEDIAN_CHI2
    strongest, observed = _ranked(t, dof, ranks := _ranks(n))
    return LatentNumbers(
        name, n, control, int(rows[strongest]), float(observed[0]),
        -np.log10(ranks / (n + 1)), observed,
    )  # fmt: skip


def _ranks(n: int) -> np.ndarray:
    ranks = np.arange(1, min(_TOP, n) + 1)
    if n > _TOP:
        ranks = np.concatenate([ranks, np.geomspace(_TOP + 1, n, _REST).astype(np.int64)])
    return np.asarray(np.unique(ranks))


def _ranked(t: np.ndarray, dof: np.ndarray, ranks: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of the strongest variant, and -log10 P at some ranks, largest first."""
    if dof.min() == dof.max():
        at = len(t) - ranks
        ordered = np.partition(t, np.unique(at)) if len(at) < 20 else np.sort(t)
        values = neg_log10_p_value(ordered[at].astype(np.float64), float(dof[0]))
        return int(t.argmax()), np.asarray(values)
    p = np.asarray(neg_log10_p_value(t.astype(np.float64), dof.astype(np.float64)))
    return int(p.argmax()), np.sort(p)[::-1][ranks - 1]


def ids_of(sumstats: SumStats, rows: np.ndarray) -> dict[int, str]:
    """Names of some variants by their number in the scan."""
    wanted = np.unique(rows[rows >= 0])
    names: dict[int, str] = {}
    start = 0
    for block in sumstats.iter_blocks(["variant_id"]):
        here = wanted[(wanted >= start) & (wanted < start + block.num_rows)]
        found = block["variant_id"].take(from_numpy(here - start)).to_pylist()
        names.update(zip(here.tolist(), found, strict=True))
        start += block.num_rows
    return names


def correlation_spectrum(sumstats: SumStats) -> Any:
    """Eigenvalues of the correlation of the latents that the scan stored."""
    from imgwas.latents.correlation import EigenSpectrum

    matrix = sumstats.latent_correlation()
    values = np.linalg.eigvalsh(matrix.to_numpy())[::-1].copy()
    return EigenSpectrum(values, tuple(matrix.columns))

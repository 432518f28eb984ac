"""Tests of all latents at once from a finished scan: no genotype is read."""

from __future__ import annotations

import gzip
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imgwas.arrow import from_numpy, to_numpy
from imgwas.checks import check_option, check_range
from imgwas.errors import UsageError, explain
from imgwas.files import publish
from imgwas.sumstats.effects import VARIANT_COLUMNS, chromosome_codes
from imgwas.sumstats.joint import TESTS, OmnibusTest
from imgwas.sumstats.store import SumStats

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

DEFAULT = ("combined", "joint", "minp", "share_last")
#: variants tested at a time
_ROWS = 8192


def omnibus(
    results: SumStats,
    *,
    tests: Sequence[str] = DEFAULT,
    latents: Sequence[str] | None = None,
    shrink: float = 0.0,
    eig_keep: int | None = None,
) -> pd.DataFrame:
    """Test every variant of a finished scan against all latents at once.

    Parameters
    ----------
    results : SumStats
        From :func:`imgwas.open_sumstats`.
    tests : sequence of str
        ``combined`` (2 min of joint and minp), ``joint`` (f, or chi2 where latents have different
        people), ``f``, ``chi2``, ``minp``, ``acat``, and ``share_last``, which is no P value.
    latents : sequence of str, optional
        All by default.
    shrink : float
        ``d`` of ``(1 - d) R + d I`` in chi2, 0 to 1.
    eig_keep : int, optional
        Use only that many of the largest eigenvectors of the latents' correlation, in f and chi2.

    Returns
    -------
    DataFrame
        ``chromosome`` (X is 23, Y 24, MT 25), ``base_pair_location``, ``variant_id``,
        ``effect_allele``, ``other_allele``, ``neg_log_10_p_value`` of the first test, and
        ``omnibus.TEST`` for each; NaN where nothing was tested. ``share_last`` is the part of the
        statistic that comes from the tenth of the directions with the smallest eigenvalues: about
        0.1 where nothing is found.

    Raises
    ------
    IncompleteError
        If an older imgwas made the folder, without the correlation of the latents.
    InconsistentError
        If there are as many latents as people.
    DegenerateError
        If ``f`` is asked for and latents have different people.

    Notes
    -----
    The F test is exact from t alone: ``R2 = r' R^-1 r`` with ``r = t / sqrt(t^2 + dof)``. Calls
    that were dropped per variant leave R an approximation, exact where none is missing. On X and Y
    the correlation is that of the autosomes; where a variant has fewer than 80 % of the people,
    chi-square takes the place of F. ``imgwas associate --omnibus`` is exact there too.

    References
    ----------
    .. [1] Ferreira & Purcell (2009), Bioinformatics 25:132 (one canonical correlation).
    .. [2] Liu & Xie (2020), JASA 115:393 (acat).
    """
    test = omnibus_test(results, latents=latents, shrink=shrink, eig_keep=eig_keep)
    names = _names(results, latents)
    blocks = list(_blocks(results, test, names, tests))
    frame: pd.DataFrame = pa.concat_tables(blocks).to_pandas()
    return frame


def omnibus_test(
    results: SumStats,
    *,
    latents: Sequence[str] | None = None,
    shrink: float = 0.0,
    eig_keep: int | None = None,
) -> OmnibusTest:
    """Prepare the test of some latents of a scan; the arguments are those of :func:`omnibus`."""
    check_range("shrink", shrink, low=0, high=1)
    names = _names(results, latents)
    entries = [results.entry(name) for name in names]
    at = [results.latents.index(name) for name in names]
    groups = {group["group"]: group for group in results.metadata.get("groups", [])}
    first = groups.get(entries[0].group)
    test = OmnibusTest(
        results.latent_correlation().to_numpy()[np.ix_(at, at)],
        [entry.group for entry in entries],
        n=max(entry.n for entry in entries),
        dof=None if first is None else int(first["dof"]),
        single=results.metadata["settings"]["precision"] == "single",
        shrink=shrink,
        eig_keep=eig_keep,
    )
    test.check()
    for line in test.cautions():
        logger.warning("%s", line)
    return test


def write_omnibus(
    results: SumStats,
    path: Path,
    test: OmnibusTest,
    *,
    tests: Sequence[str] = DEFAULT,
    latents: Sequence[str] | None = None,
    calibrate: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[pa.Table]:
    """Write the table of :func:`omnibus` block by block, and yield each block as it is written.

    Parameters
    ----------
    path : Path
        ``.parquet``, ``.tsv`` or ``.tsv.gz``.
    test : OmnibusTest
        From :func:`omnibus_test`, made with the same ``latents``.
    calibrate : callable, optional
        Turns -log10 P of the first test into what ``neg_log_10_p_value`` says, such as
        ``OmnibusNull.calibrated``.
    progress : callable, optional
        Told how many variants are done.

    Raises
    ------
    UsageError
        If the name says no known format.
    """
    check_output(path)
    blocks = _blocks(results, test, _names(results, latents), tests)
    first = next(blocks)  # a scan has a part, and a part a block
    with publish(path) as stream, ExitStack() as open_files:
        writer = _writer(path, stream, first.schema, open_files)
        for raw in itertools.chain([first], blocks):
            block = _calibrated(raw, calibrate)
            writer.write_table(block)
            if progress is not None:
                progress(block.num_rows)
            yield block


def check_output(path: Path) -> None:
    """Refuse a name that says no known format."""
    if not path.name.endswith((".parquet", ".tsv", ".tsv.gz")):
        raise UsageError(
            explain(f"--out {path} has no known ending", expected=".parquet, .tsv or .tsv.gz")
        )


def _writer(path: Path, stream: IO[bytes], schema: pa.Schema, open_files: ExitStack) -> Any:
    if path.suffix == ".parquet":
        table = pq.ParquetWriter(stream, schema, compression="zstd", write_page_checksum=True)
        return open_files.enter_context(table)
    if path.suffix == ".gz":
        packed = gzip.GzipFile("", "wb", 4, stream, mtime=0)  # no date: equal tables, equal bytes
        return _TextTable(open_files.enter_context(packed))
    return _TextTable(stream)


class _TextTable:
    """Tab-separated text with one header, NA where there is no number."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.header = stream, True

    def write_table(self, block: pa.Table) -> None:
        text = block.to_pandas().to_csv(sep="\t", index=False, header=self.header, na_rep="NA")
        self.stream.write(text.encode("utf-8", "surrogateescape"))
        self.header = False


def _names(results: SumStats, latents: Sequence[str] | None) -> list[str]:
    names = list(dict.fromkeys(latents)) if latents is not None else list(results.latents)
    if not names:
        raise UsageError("Name at least one latent.")
    for name in names:
        results.entry(name)
    return names


def _blocks(
    results: SumStats, test: OmnibusTest, names: Sequence[str], tests: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the table in blocks of a few thousand variants."""
    for name in tests:
        check_option("tests", name, [*TESTS, "share_last"])
    columns = [f"t.{name}" for name in names]
    groups = range(max(test.groups) + 1)
    dofs = [f"dof.{g}" for g in groups]
    for table in results.iter_blocks([*VARIANT_COLUMNS, *dofs, *columns]):
        for start in range(0, max(table.num_rows, 1), _ROWS):
            block = table.slice(start, _ROWS)
            t = np.empty((block.num_rows, len(columns)))
            for k, column in enumerate(columns):
                t[:, k] = to_numpy(block[column])
            dof = np.column_stack([to_numpy(block[name]) for name in dofs])
            yield _tidy(block, test.columns(t, dof, tests), tests)


def _calibrated(block: pa.Table, calibrate: Callable[[np.ndarray], np.ndarray] | None) -> pa.Table:
    if calibrate is None:
        return block
    at = block.column_names.index("neg_log_10_p_value")
    values = calibrate(to_numpy(block.column(at)))
    return block.set_column(at, "neg_log_10_p_value", from_numpy(values))


def _tidy(block: pa.Table, found: dict[str, np.ndarray], tests: Sequence[str]) -> pa.Table:
    columns: dict[str, pa.Array | pa.ChunkedArray] = {name: block[name] for name in VARIANT_COLUMNS}
    columns["chromosome"] = from_numpy(chromosome_codes(block["chromosome"]))
    columns["neg_log_10_p_value"] = from_numpy(found[tests[0]])
    for name in tests:
        columns[f"omnibus.{name}"] = from_numpy(found[name])
    return pa.table(columns)

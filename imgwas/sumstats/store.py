"""Lazy access to the folder of a scan: by latent, by region, by threshold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from imgwas.arrow import from_numpy, to_numpy
from imgwas.files import sha256_of
from imgwas.sumstats import reading, reduce
from imgwas.sumstats.correlation import read_correlation
from imgwas.sumstats.effects import (
    VARIANT_COLUMNS,
    Effects,
    LatentEntry,
    chromosome_code,
    effects_of,
    statistics_of,
)
from imgwas.sumstats.folder import Part, open_folder, problems_of_files
from imgwas.sumstats.pvalues import neg_log10_p_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SumStats", "chromosome_code", "open_sumstats"]

_COUNTS = ("n_missing", "n_effect_homozygote", "n_heterozygote", "n_other_homozygote")


class SumStats:
    """The results of a scan, read from disk when asked for.

    Made by :func:`open_sumstats`. Holds tables of contents, never the matrix.

    Attributes
    ----------
    folder : Path
        Where the results are.
    metadata : dict
        Content of ``run.json``.
    latents : tuple of str
        Names of the latents that were tested.
    is_partial : bool
        True where parts are missing because the run is not finished.
    """

    def __init__(
        self,
        folder: Path,
        metadata: Mapping[str, Any],
        parts: Sequence[Part],
        *,
        is_partial: bool = False,
    ) -> None:
        self.folder, self.metadata, self.is_partial = folder, dict(metadata), is_partial
        self.receipts = tuple(parts)
        self._entries = {e["name"]: LatentEntry.from_json(e) for e in metadata["latents"]}
        self.latents: tuple[str, ...] = tuple(self._entries)

    def __repr__(self) -> str:
        part = ", not finished" if self.is_partial else ""
        return f"SumStats({self.n_variants:,} variants x {len(self.latents):,} latents{part})"

    @property
    def parts(self) -> list[Path]:
        """Files of statistics, in the order of the genotype file."""
        return [part.path for part in self.receipts]

    @property
    def n_variants(self) -> int:
        """Number of variants listed, tested or not."""
        return sum(part.rows for part in self.receipts)

    @property
    def samples(self) -> dict[str, Any]:
        """How many samples each step of the alignment left."""
        return dict(self.metadata["samples"])

    @property
    def quarantined(self) -> dict[str, str]:
        """Latents that were not tested, and why."""
        return {entry["name"]: entry["reason"] for entry in self.metadata["quarantined"]}

    @property
    def stores_beta(self) -> bool:
        """Whether beta is stored because the latents' scales vary by variant."""
        return bool(self.metadata["settings"]["missing_genotype"] == "drop")

    def entry(self, name: str) -> LatentEntry:
        """Look up a latent.

        Raises
        ------
        DegenerateError
            If the scan set the latent aside; the message says why.
        UsageError
            If there is no such latent; the message names the nearest.
        """
        if name in self._entries:
            return self._entries[name]
        raise reading.no_such_latent(name, self.folder, self.latents, self.quarantined)

    def iter_blocks(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns of the parts in order, page checksums verified.

        Parameters
        ----------
        columns : sequence of str
            Names as in ``docs/data_model.md``.

        Yields
        ------
        pyarrow.Table
            At most a part at a time, and at most a million rows.

        Raises
        ------
        MalformedError
            If a part is missing, damaged or lacks a column.
        """
        for part in self.receipts:
            yield from reading.read_part(part.path, columns)

    def variants(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the variant table, with missingness and genotype counts.

        Parameters
        ----------
        columns : sequence of str, optional
            Columns of the parts; ``chromosome`` keeps the names ``1`` to ``22``, ``X``, ``Y``,
            ``XY`` and ``MT`` here.
        """
        wanted = list(columns) if columns is not None else [*VARIANT_COLUMNS, *_COUNTS]
        reading.check_known(self.parts[0], wanted)
        frame: pd.DataFrame = self._read(wanted).to_pandas()
        return frame

    def _read(self, columns: Sequence[str]) -> pa.Table:
        return pa.concat_tables(list(self.iter_blocks(columns)))

    def columns_of(self, name: str) -> list[str]:
        """Columns of a part that one latent's statistics need."""
        return self.entry(name).columns(with_beta=self.stores_beta)

    def latent(self, name: str) -> pd.DataFrame:
        """All variants of one latent, with the columns of GWAS-SSF.

        Returns
        -------
        DataFrame
            ``chromosome`` (X is 23, Y 24, MT 25, another contig 0), ``base_pair_location``,
            ``effect_allele``, ``other_allele``, ``beta`` per copy of the effect allele in units of
            the latent, ``standard_error``, ``effect_allele_frequency``, ``neg_log_10_p_value``,
            ``variant_id``, ``n``, and ``reason``, empty where the variant was tested.

        Raises
        ------
        UsageError, DegenerateError
            As :meth:`entry`.
        """
        import pandas as pd

        columns = [*VARIANT_COLUMNS, *self.columns_of(name)]
        frames = [self.statistics(block, name) for block in self.iter_blocks(columns)]
        return pd.concat(frames, ignore_index=True)

    def effects(self, block: pa.Table, name: str) -> Effects:
        """beta, standard error, t and degrees of freedom of one latent in one block."""
        return effects_of(block, self.entry(name), with_beta=self.stores_beta)

    def statistics(self, block: pa.Table, name: str) -> pd.DataFrame:
        """Turn the columns of one latent in one block into the columns of :meth:`latent`."""
        return statistics_of(block, self.entry(name), with_beta=self.stores_beta)

    def region(
        self, chromosome: str | int, start: int, end: int, latents: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Every variant between two positions, one row per variant and latent.

        Parameters
        ----------
        chromosome : str or int
            ``7``, ``"chr7"``, ``"X"`` or ``23``; a contig by its own name.
        start, end : int
            1-based, both included.
        latents : sequence of str, optional
            All by default.

        Returns
        -------
        DataFrame
            ``latent`` and the columns of :meth:`latent`; untested variants are included.
        """
        import pandas as pd

        names = self._names(latents)
        frames = []
        for part in self._parts_with(str(chromosome), start, end):
            for block in reading.read_part(part.path, self._columns_for(names)):
                here = reading.inside(block, str(chromosome), start, end)
                frames += self._tidy(block, dict.fromkeys(names, here))
        return pd.concat(frames, ignore_index=True) if frames else self._no_rows(names)

    def _parts_with(self, chromosome: str, start: int, end: int) -> list[Part]:
        key = reading.chromosome_key(chromosome)
        return [
            part
            for part, extent in zip(self.receipts, self._extents, strict=True)
            if key in extent and extent[key][0] <= end and extent[key][1] >= start
        ]

    @cached_property
    def _extents(self) -> list[dict[int | str, tuple[int, int]]]:
        """First and last position of every chromosome in every part."""
        return [reading.extent_of(part.path) for part in self.receipts]

    def top(
        self, *, neg_log10_p: float = 7.30103, latents: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Every variant and latent at or above a -log10 P, strongest first.

        The threshold is turned into one on t, so that P is computed for what passes only.

        Parameters
        ----------
        neg_log10_p : float
            The default is P = 5e-8.
        latents : sequence of str, optional
            All by default.

        Returns
        -------
        DataFrame
            ``latent`` and the columns of :meth:`latent`.
        """
        import pandas as pd

        names = self._names(latents)
        entries = [self.entry(name) for name in names]
        thresholds = reduce.Thresholds(neg_log10_p)
        frames = []
        for block in self.iter_blocks(self._columns_for(names)):
            frames += self._tidy(block, thresholds.passing(block, entries))
        if not frames:
            return self._no_rows(names)
        frame = pd.concat(frames, ignore_index=True)
        frame = frame[frame["neg_log_10_p_value"] >= neg_log10_p]
        return frame.sort_values(
            "neg_log_10_p_value", ascending=False, ignore_index=True, kind="stable"
        )

    def _names(self, latents: Sequence[str] | None) -> list[str]:
        if isinstance(latents, str):
            latents = [latents]
        names = list(latents) if latents is not None else list(self.latents)
        for name in names:
            self.entry(name)
        return names

    def _columns_for(self, names: Sequence[str]) -> list[str]:
        columns = (column for name in names for column in self.columns_of(name))
        return list(dict.fromkeys([*VARIANT_COLUMNS, *columns]))

    def _tidy(self, block: pa.Table, rows: Mapping[str, np.ndarray]) -> list[pd.DataFrame]:
        frames = []
        for name, chosen in rows.items():
            if chosen.any():
                columns = [*VARIANT_COLUMNS, *self.columns_of(name)]
                wanted = block.select(columns).take(from_numpy(np.flatnonzero(chosen)))
                frames.append(self._labelled(wanted, name))
        return frames

    def _labelled(self, block: pa.Table, name: str) -> pd.DataFrame:
        frame = self.statistics(block, name)
        frame.insert(0, "latent", np.full(len(frame), name, object))
        return frame

    def _no_rows(self, names: Sequence[str]) -> pd.DataFrame:
        block = next(self.iter_blocks(self._columns_for(names[:1])))
        return self._labelled(block.slice(0, 0), names[0])

    def neg_log10_p(self, name: str) -> np.ndarray:
        """-log10 P of one latent for every variant, NaN where it was not tested."""
        group = self.entry(name).group
        blocks = self.iter_blocks([f"t.{name}", f"dof.{group}"])
        pieces = [
            neg_log10_p_value(to_numpy(b[f"t.{name}"]), to_numpy(b[f"dof.{group}"])) for b in blocks
        ]
        return np.concatenate(pieces)

    def lambda_gc(self, latents: Sequence[str] | None = None) -> pd.Series:
        """Genomic control: the median test statistic of each latent over its expectation.

        Each t is carried through its P value to a chi-square with one degree of freedom before the
        median is divided by 0.4549, so that few degrees of freedom do not look like inflation. The
        median is exact; a few latents at a time are held in memory.

        References
        ----------
        .. [1] Devlin & Roeder (1999), Biometrics 55:997.
        """
        import pandas as pd

        values = reduce.lambda_gc(self, self._names(latents))
        return pd.Series(values, name="lambda_gc", dtype=np.float64)

    def best_latent(self, latents: Sequence[str] | None = None) -> pd.DataFrame:
        """For each variant the smallest P over the latents, and whose it is.

        Returns
        -------
        DataFrame
            ``chromosome``, ``base_pair_location``, ``variant_id``, ``neg_log_10_p_value`` and
            ``latent``; NaN and an empty name where no latent was tested.
        """
        import pandas as pd

        names = self._names(latents)
        entries = [self.entry(name) for name in names]
        blocks = self.iter_blocks(self._columns_for(names))
        return pd.concat([reduce.best_table(b, entries) for b in blocks], ignore_index=True)

    def latent_correlation(self) -> pd.DataFrame:
        """Correlation of the latents' t statistics where no variant has an effect.

        ``Y'Y`` of the residual latents (covariates removed, length one, zero for people without the
        latent), on the people of the autosomes. It is what tests of all latents at once need.

        Returns
        -------
        DataFrame
            (latents, latents), symmetric, ones on the diagonal.

        Raises
        ------
        IncompleteError
            If an older imgwas made the folder; the same scan run again adds it.
        """
        import pandas as pd

        values = read_correlation(self.folder, self.latents)
        return pd.DataFrame(values, list(self.latents), list(self.latents))

    def verify(self, *, deep: bool = True) -> list[str]:
        """Compare every part with its receipt, and the correlation of latents with its record.

        Parameters
        ----------
        deep : bool
            Also compute every SHA-256; otherwise sizes only.

        Returns
        -------
        list of str
            What is wrong, in sentences; empty if nothing is.
        """
        problems = [problem for part in self.receipts if (problem := part.problem(deep=deep))]
        return problems + problems_of_files(self.folder, deep=deep)

    def digest(self) -> str:
        """One SHA-256 over all parts, equal for equal results."""
        sha = hashlib.sha256()
        for part in self.receipts:
            sha.update(sha256_of(part.path).encode())
        return sha.hexdigest()


def open_sumstats(folder: str | Path, *, allow_partial: bool = False) -> SumStats:
    """Open the results of a scan.

    Parameters
    ----------
    folder : path
        What ``imgwas associate --out`` wrote.
    allow_partial : bool
        Open a run that is not finished, with the parts it has.

    Raises
    ------
    OpenError
        If there is no scan in the folder.
    IncompleteError
        If the run is not finished.
    MalformedError
        If the folder was written by a newer imgwas, or is damaged.
    """
    metadata, parts, is_partial = open_folder(Path(folder), allow_partial=allow_partial)
    return SumStats(Path(folder), metadata, parts, is_partial=is_partial)

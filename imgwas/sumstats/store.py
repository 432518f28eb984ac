"""Lazy access to the folder of a scan: by latent, by region, by threshold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imgwas.checks import did_you_mean
from imgwas.errors import (
    DegenerateError,
    IncompleteError,
    MalformedError,
    OpenError,
    UsageError,
    explain,
)
from imgwas.files import read_json, sha256_of
from imgwas.sumstats.pvalues import neg_log10_p_value, t_from_neg_log10_p
from imgwas.sumstats.reasons import REASONS

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1
#: median of chi-square with one degree of freedom
MEDIAN_CHI2 = 0.454936423119572
_CODES = {"X": 23, "Y": 24, "MT": 25, "XY": 23}
_VARIANT = (
    "chromosome", "base_pair_location", "variant_id", "effect_allele", "other_allele",
)  # fmt: skip


@dataclass(frozen=True)
class LatentEntry:
    """What the scan recorded about one latent."""

    name: str
    group: int
    n: int
    scale: dict[str, float]


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
    """

    def __init__(self, folder: Path, metadata: dict[str, Any], parts: list[Path]) -> None:
        self.folder, self.metadata, self.parts = folder, metadata, parts
        self._entries = {e["name"]: _entry(e) for e in metadata["latents"]}
        self.latents: tuple[str, ...] = tuple(self._entries)

    def __repr__(self) -> str:
        return f"SumStats({self.n_variants:,} variants x {len(self.latents):,} latents)"

    @cached_property
    def n_variants(self) -> int:
        """Number of variants listed, tested or not."""
        return sum(pq.ParquetFile(path).metadata.num_rows for path in self.parts)

    @property
    def quarantined(self) -> dict[str, str]:
        """Latents that were not tested, and why."""
        return {entry["name"]: entry["reason"] for entry in self.metadata["quarantined"]}

    def entry(self, name: str) -> LatentEntry:
        """Look up a latent, or refuse with the nearest names."""
        if name in self._entries:
            return self._entries[name]
        if name in self.quarantined:
            raise DegenerateError(
                explain(f"latent {name} was not tested: {self.quarantined[name]}")
            )
        raise UsageError(
            explain(
                f"there is no latent {name!r} in {self.folder}",
                do=did_you_mean(name, self.latents) or f"It has {', '.join(self.latents[:8])}",
            )
        )

    def iter_blocks(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield some columns part by part, checksums verified."""
        for path in self.parts:
            try:
                file = pq.ParquetFile(path, page_checksum_verification=True)
                yield file.read(columns=list(columns))
            except (OSError, pa.ArrowException) as error:
                raise MalformedError(
                    explain(
                        f"{path} is damaged ({str(error).splitlines()[0][:120]})",
                        do="Delete it and its .ok.json, then run the scan again to repair it",
                    )
                ) from error

    def variants(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the variant table, with genotype counts and missingness."""
        default = [*_VARIANT, "n_missing", "n_effect_homozygote", "n_heterozygote",
                   "n_other_homozygote"]  # fmt: skip
        frame: pd.DataFrame = self._read(columns or default).to_pandas()
        return frame

    def _read(self, columns: Sequence[str]) -> pa.Table:
        return pa.concat_tables(list(self.iter_blocks(columns)))

    def columns_of(self, name: str) -> list[str]:
        """Columns of a part that one latent's statistics need."""
        group = self.entry(name).group
        per_group = [f"{c}.{group}" for c in ("n", "effect_allele_frequency", "scale", "dof",
                                               "reason")]  # fmt: skip
        return [f"t.{name}", *([f"beta.{name}"] if self.stores_beta else []), *per_group]

    @cached_property
    def stores_beta(self) -> bool:
        """Whether beta is stored because the trait's scale varies by variant."""
        return self.metadata["settings"]["missing_genotype"] == "drop"

    def latent(self, name: str) -> pd.DataFrame:
        """All variants of one latent, with the columns of GWAS-SSF.

        Returns
        -------
        DataFrame
            chromosome (X is 23), base_pair_location, effect_allele, other_allele, beta per copy of
            the effect allele, standard_error, effect_allele_frequency, neg_log_10_p_value,
            variant_id, n, and ``reason`` where the variant was not tested.
        """
        import pandas as pd

        columns = [*_VARIANT, *self.columns_of(name)]
        frames = [self.statistics(block, name) for block in self.iter_blocks(columns)]
        return pd.concat(frames, ignore_index=True)

    def statistics(self, block: pa.Table, name: str) -> pd.DataFrame:
        """Turn the columns of one latent in one block into GWAS-SSF columns."""
        import pandas as pd

        group = self.entry(name).group
        beta, error, t, dof = self.effects(block, name)
        reason = np.asarray(block[f"reason.{group}"])
        return pd.DataFrame(
            {
                "chromosome": chromosome_codes(block["chromosome"]),
                "base_pair_location": np.asarray(block["base_pair_location"]),
                "effect_allele": block["effect_allele"].to_pandas(),
                "other_allele": block["other_allele"].to_pandas(),
                "beta": beta,
                "standard_error": error,
                "effect_allele_frequency": np.asarray(block[f"effect_allele_frequency.{group}"]),
                "neg_log_10_p_value": neg_log10_p_value(t, dof),
                "variant_id": block["variant_id"].to_pandas(),
                "n": np.asarray(block[f"n.{group}"]),
                "reason": pd.Categorical.from_codes(reason, list(REASONS.values())).astype(str),
            }
        )

    def effects(
        self, block: pa.Table, name: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """beta, standard error, t and degrees of freedom of one latent in one block."""
        entry = self.entry(name)
        t = np.asarray(block[f"t.{name}"]).astype(np.float64)
        dof = np.asarray(block[f"dof.{entry.group}"]).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.stores_beta:
                beta = np.asarray(block[f"beta.{name}"]).astype(np.float64)
                return beta, np.abs(beta / t), t, dof
            ratio = self._trait_scale(block, entry) / np.asarray(block[f"scale.{entry.group}"])
            denominator = dof + t * t
            beta = t / np.sqrt(denominator) * ratio
            error = ratio / np.sqrt(denominator)
        error[np.isnan(t)] = np.nan
        return beta, error, t, dof

    def _trait_scale(self, block: pa.Table, entry: LatentEntry) -> np.ndarray:
        scale = np.full(block.num_rows, entry.scale["autosome"])
        for kind in ("X", "Y"):
            if kind in entry.scale:
                scale[np.asarray(pc.equal(block["chromosome"], kind))] = entry.scale[kind]
        return scale

    def region(
        self, chromosome: str | int, start: int, end: int, latents: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Every variant between two positions (ends included), one row per variant and latent."""
        import pandas as pd

        code = chromosome_code(str(chromosome))
        names = self._names(latents)
        frames = []
        for block in self._blocks_for(names):
            position = np.asarray(block["base_pair_location"])
            inside = (chromosome_codes(block["chromosome"]) == code) & (position >= start)
            inside &= position <= end
            frames += self._tidy(block, dict.fromkeys(names, inside))
        return pd.concat(frames, ignore_index=True) if frames else self._no_rows(names[0])

    def top(
        self, *, neg_log10_p: float = 7.30103, latents: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Every variant and latent at or above a -log10 P, strongest first.

        The threshold is turned into one on t, so that P is computed for what passes only.
        """
        import pandas as pd

        names = self._names(latents)
        limits: dict[float, float] = {}
        frames = []
        for block in self._blocks_for(names):
            passing = {}
            for name in names:
                dof = np.asarray(block[f"dof.{self.entry(name).group}"]).astype(np.float64)
                limit = _limits(dof, neg_log10_p, limits)
                with np.errstate(invalid="ignore"):
                    passing[name] = np.abs(np.asarray(block[f"t.{name}"])) >= limit * (1 - 1e-7)
            frames += self._tidy(block, passing)
        if not frames:
            return self._no_rows(names[0])
        frame = pd.concat(frames, ignore_index=True)
        frame = frame[frame["neg_log_10_p_value"] >= neg_log10_p]
        return frame.sort_values("neg_log_10_p_value", ascending=False, ignore_index=True)

    def _names(self, latents: Sequence[str] | None) -> list[str]:
        names = list(latents) if latents is not None else list(self.latents)
        for name in names:
            self.entry(name)
        return names

    def _blocks_for(self, names: Sequence[str]) -> Iterator[pa.Table]:
        columns = dict.fromkeys([*_VARIANT, *(c for n in names for c in self.columns_of(n))])
        return self.iter_blocks(list(columns))

    def _tidy(self, block: pa.Table, rows: dict[str, np.ndarray]) -> list[pd.DataFrame]:
        frames = []
        for name, chosen in rows.items():
            if chosen.any():
                columns = [*_VARIANT, *self.columns_of(name)]
                frame = self.statistics(block.select(columns).filter(pa.array(chosen)), name)
                frame.insert(0, "latent", name)
                frames.append(frame)
        return frames

    def _no_rows(self, name: str) -> pd.DataFrame:
        block = next(self._blocks_for([name])).slice(0, 0)
        frame = self.statistics(block, name)
        frame.insert(0, "latent", np.array([], object))
        return frame

    def neg_log10_p(self, name: str) -> np.ndarray:
        """-log10 P of one latent for every variant, NaN where it was not tested."""
        group = self.entry(name).group
        table = self._read([f"t.{name}", f"dof.{group}"])
        t = np.asarray(table[f"t.{name}"]).astype(np.float64)
        return neg_log10_p_value(t, np.asarray(table[f"dof.{group}"]))

    def lambda_gc(self, latents: Sequence[str] | None = None) -> pd.Series:
        """Genomic control of each latent: the median test statistic over its expectation.

        The median of abs(t) is carried through its P value to a chi-square with one degree of
        freedom, so that few degrees of freedom do not look like inflation. One latent at a time is
        held in memory.
        """
        import pandas as pd
        from scipy.special import ndtri

        values = {}
        for name in self._names(latents):
            group = self.entry(name).group
            table = self._read([f"t.{name}", f"dof.{group}"])
            t = np.abs(np.asarray(table[f"t.{name}"]).astype(np.float64))
            tested = np.isfinite(t)
            if not tested.any():
                values[name] = np.nan
                continue
            dof = np.asarray(table[f"dof.{group}"])[tested]
            nlp = np.median(neg_log10_p_value(t[tested], dof))
            values[name] = float(ndtri(10.0**-nlp / 2) ** 2 / MEDIAN_CHI2)
        return pd.Series(values, name="lambda_gc")

    def best_latent(self, latents: Sequence[str] | None = None) -> pd.DataFrame:
        """For each variant the latent with the smallest P, part by part."""
        import pandas as pd

        names = self._names(latents)
        return pd.concat(
            [self._best(block, names) for block in self._blocks_for(names)], ignore_index=True
        )

    def _best(self, block: pa.Table, names: Sequence[str]) -> pd.DataFrame:
        import pandas as pd

        best = np.full(block.num_rows, -np.inf)
        which = np.full(block.num_rows, -1)
        for group in sorted({self.entry(name).group for name in names}):
            members = [i for i, name in enumerate(names) if self.entry(name).group == group]
            t = np.abs(np.stack([np.asarray(block[f"t.{names[i]}"]) for i in members]))
            t = np.where(np.isnan(t), -1, t)
            strongest = t.argmax(axis=0)
            value = t[strongest, np.arange(t.shape[1])].astype(np.float64)
            dof = np.asarray(block[f"dof.{group}"])
            nlp = np.where(value >= 0, neg_log10_p_value(np.maximum(value, 0), dof), -np.inf)
            better = nlp > best
            best[better] = nlp[better]
            which[better] = np.array(members)[strongest[better]]
        labels = np.array([*names, ""], object)
        return pd.DataFrame(
            {
                "chromosome": chromosome_codes(block["chromosome"]),
                "base_pair_location": np.asarray(block["base_pair_location"]),
                "variant_id": block["variant_id"].to_pandas(),
                "neg_log_10_p_value": np.where(np.isinf(best), np.nan, best),
                "latent": labels[which],
            }
        )

    def verify(self, *, deep: bool = True) -> list[str]:
        """Compare every part with its receipt; return what is wrong, in sentences."""
        problems = []
        for path in self.parts:
            receipt = read_json(path.with_suffix(".ok.json"))
            if not path.exists():
                problems.append(f"{path.name} is missing")
            elif path.stat().st_size != receipt["bytes"]:
                problems.append(f"{path.name} has {path.stat().st_size:,} bytes, not "
                                f"{receipt['bytes']:,}")  # fmt: skip
            elif deep and sha256_of(path) != receipt["sha256"]:
                problems.append(f"{path.name} does not match its checksum")
        return problems

    def digest(self) -> str:
        """One SHA-256 over all parts, equal for equal results."""
        sha = hashlib.sha256()
        for path in self.parts:
            sha.update(sha256_of(path).encode())
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
    """
    folder = Path(folder)
    metadata = _read_run(folder)
    done = sorted((folder / "parts").glob("part-*.ok.json"))
    parts = [path.with_name(path.name.replace(".ok.json", ".parquet")) for path in done]
    if not (folder / "RUN_COMPLETE.json").exists() and not allow_partial:
        raise IncompleteError(
            explain(
                f"the run in {folder} is not finished: {len(done)} of {metadata['n_parts']} parts "
                "are done",
                do="Run the same imgwas associate command again to resume",
            )
        )
    if not parts:
        raise IncompleteError(explain(f"the run in {folder} has no finished part"))
    return SumStats(folder, metadata, parts)


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.exists():
        raise OpenError(
            explain(
                f"{folder} is not the folder of a scan (it has no run.json)",
                do="Give the --out folder of imgwas associate",
            )
        )
    try:
        metadata = dict(read_json(path))
    except ValueError as error:
        raise MalformedError(explain(f"{path} is not valid JSON ({error})")) from error
    if metadata.get("format") != "imgwas-scan":
        raise MalformedError(explain(f"{path} was not written by imgwas associate"))
    if metadata["format_version"] > FORMAT_VERSION:
        raise MalformedError(
            explain(
                f"{folder} was made by imgwas {metadata.get('imgwas_version')}, which is newer",
                do="Upgrade: pip install -U imgwas",
            )
        )
    return metadata


def _entry(entry: dict[str, Any]) -> LatentEntry:
    scale = {"autosome": entry["scale"]}
    scale |= {kind: entry[f"scale_{kind}"] for kind in ("X", "Y") if f"scale_{kind}" in entry}
    return LatentEntry(entry["name"], entry["group"], entry["n"], scale)


def _limits(dof: np.ndarray, neg_log10_p: float, known: dict[float, float]) -> np.ndarray:
    unique, where = np.unique(dof, return_inverse=True)
    for value in unique.tolist():
        if value not in known:
            known[value] = t_from_neg_log10_p(neg_log10_p, value) if value >= 1 else np.inf
    return np.array([known[value] for value in unique.tolist()])[where]


def chromosome_code(name: str) -> int:
    """GWAS-SSF number of one chromosome name; 0 for a contig."""
    bare = name.removeprefix("chr")
    return _CODES.get(bare.upper(), int(bare) if bare.isdigit() else 0)


def chromosome_codes(column: pa.ChunkedArray) -> np.ndarray:
    """GWAS-SSF numbers of chromosomes: X and XY 23, Y 24, MT 25, other contigs 0."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    codes = np.array([chromosome_code(name) for name in encoded.dictionary.to_pylist()], np.int64)
    return codes[np.asarray(encoded.indices)] if len(codes) else np.empty(0, np.int64)

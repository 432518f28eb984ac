"""From stored t statistics to GWAS-SSF numbers: chromosome codes, beta and standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import string_scalar, to_numpy
from imgwas.sumstats.pvalues import neg_log10_p_value
from imgwas.sumstats.reasons import REASONS

if TYPE_CHECKING:
    import pandas as pd

_CODES = {"X": 23, "Y": 24, "MT": 25, "M": 25, "XY": 23}
#: Columns of a part that name the variant.
VARIANT_COLUMNS = (
    "chromosome",
    "base_pair_location",
    "variant_id",
    "effect_allele",
    "other_allele",
)


@dataclass(frozen=True)
class LatentEntry:
    """What the scan recorded about one latent.

    ``scale`` is the root of the latent's residual sum of squares, by the kind of chromosome:
    ``autosome`` always, ``X`` and ``Y`` where the scan had variants on them.
    """

    name: str
    group: int
    n: int
    scale: dict[str, float]

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> LatentEntry:
        """Read an element of ``run.json``'s ``latents``."""
        scale = {"autosome": float(entry["scale"])}
        for kind in ("X", "Y"):
            if f"scale_{kind}" in entry:
                scale[kind] = float(entry[f"scale_{kind}"])
        return cls(entry["name"], entry["group"], entry["n"], scale)

    def columns(self, *, with_beta: bool) -> list[str]:
        """Columns of a part that the statistics of this latent need."""
        names = ("n", "effect_allele_frequency", "scale", "dof", "reason")
        stored = [f"t.{self.name}", *([f"beta.{self.name}"] if with_beta else [])]
        return [*stored, *(f"{name}.{self.group}" for name in names)]


class Effects(NamedTuple):
    """Statistics of one latent in one block, double precision; NaN where there is none."""

    beta: np.ndarray
    standard_error: np.ndarray
    t: np.ndarray
    dof: np.ndarray


def effects_of(block: pa.Table, entry: LatentEntry, *, with_beta: bool) -> Effects:
    """Compute beta and standard error by the formulas of ``docs/data_model.md``.

    Parameters
    ----------
    block : pyarrow.Table
        With the columns of ``entry.columns(...)`` and ``chromosome``.
    entry : LatentEntry
        The latent.
    with_beta : bool
        True where the part stores beta because the latent's scale varies by variant.
    """
    t = to_numpy(block[f"t.{entry.name}"]).astype(np.float64)
    dof = to_numpy(block[f"dof.{entry.group}"]).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        if with_beta:
            beta = to_numpy(block[f"beta.{entry.name}"]).astype(np.float64)
            return Effects(beta, np.where(t == 0, np.nan, np.abs(beta / t)), t, dof)
        scale = to_numpy(block[f"scale.{entry.group}"])
        # r / sqrt(1 - r^2) = t / sqrt(dof), so both quotients share one root
        unit = _trait_scale(block["chromosome"], entry) / (scale * np.sqrt(t * t + dof))
    return Effects(t * unit, np.where(np.isnan(t), np.nan, unit), t, dof)


def statistics_of(block: pa.Table, entry: LatentEntry, *, with_beta: bool) -> pd.DataFrame:
    """Statistics of one latent in one block as a table with the columns of GWAS-SSF."""
    import pandas as pd

    effects = effects_of(block, entry, with_beta=with_beta)
    reason = to_numpy(block[f"reason.{entry.group}"])
    return pd.DataFrame(
        {
            "chromosome": chromosome_codes(block["chromosome"]),
            "base_pair_location": to_numpy(block["base_pair_location"]),
            "effect_allele": block["effect_allele"].to_pandas(),
            "other_allele": block["other_allele"].to_pandas(),
            "beta": effects.beta,
            "standard_error": effects.standard_error,
            "effect_allele_frequency": to_numpy(block[f"effect_allele_frequency.{entry.group}"]),
            "neg_log_10_p_value": neg_log10_p_value(effects.t, effects.dof),
            "variant_id": block["variant_id"].to_pandas(),
            "n": to_numpy(block[f"n.{entry.group}"]),
            "reason": np.array(list(REASONS.values()), object)[reason],
        }
    )


def _trait_scale(chromosomes: pa.ChunkedArray, entry: LatentEntry) -> np.ndarray:
    scale = np.full(len(chromosomes), entry.scale["autosome"])
    for kind in entry.scale.keys() - {"autosome"}:
        scale[to_numpy(pc.equal(chromosomes, string_scalar(kind)))] = entry.scale[kind]
    return scale


def chromosome_code(name: str) -> int:
    """GWAS-SSF number of a chromosome: X and XY 23, Y 24, MT 25; 0 for a contig."""
    bare = name[3:] if name.lower().startswith("chr") else name
    if bare.isascii() and bare.isdigit():
        return int(bare)
    return _CODES.get(bare.upper(), 0)


def chromosome_codes(column: pa.ChunkedArray) -> np.ndarray:
    """GWAS-SSF numbers of a chromosome column, int64."""
    names, indices = dictionary_of(column)
    codes = np.array([chromosome_code(name) for name in names], np.int64)
    return np.asarray(codes[indices])


def dictionary_of(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Return the distinct values of a string column and the number of each row's value."""
    encoded = pc.dictionary_encode(column).unify_dictionaries()
    if not encoded.num_chunks:
        return [], np.empty(0, np.int32)
    indices = np.concatenate([to_numpy(chunk.indices) for chunk in encoded.chunks])
    return encoded.chunk(0).dictionary.to_pylist(), indices

"""Summary statistics of other studies: which column is what, and z on the effect allele."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.genetics.harmonise import VariantTable
from imgwas.shapes import Float64
from imgwas.sumstats.pvalues import chi2_from_neg_log10_p
from imgwas.tables.columns import to_numbers
from imgwas.tables.source import read_table

logger = logging.getLogger(__name__)

#: What a column is, and the names it goes by (case does not matter), the first found wins.
NAMES: dict[str, tuple[str, ...]] = {
    "variant_id": ("rsid", "rs_id", "snp", "variant_id", "markername", "id", "snpid"),
    "chromosome": ("chromosome", "#chrom", "chrom", "chr", "hm_chrom"),
    "position": ("base_pair_location", "pos", "bp", "genpos", "hm_pos"),
    "effect_allele": ("effect_allele", "a1", "allele1", "ea"),
    "other_allele": ("other_allele", "a2", "allele0", "nea", "oa", "non_effect_allele", "omitted"),
    "z": ("z", "zscore", "z_score"),
    "beta": ("beta", "effect", "b", "log_odds"),
    "odds_ratio": ("odds_ratio", "or"),
    "standard_error": ("standard_error", "se", "log(or)_se", "stderr"),
    "p": ("p_value", "p", "pval", "pvalue", "p-value", "pvalues"),
    "neg_log10_p": (
        "neg_log_10_p_value", "neg_log10_p_value", "neg_log10_p", "mlog10p", "log10p", "log10_p"
    ),
    "n": ("n", "obs_ct", "n_samples", "sample_size", "n_total", "samplesize"),
    "frequency": ("effect_allele_frequency", "eaf", "frq", "a1freq", "a1_freq", "freq"),
}  # fmt: skip


@dataclass(frozen=True)
class ExternalStatistics:
    """Summary statistics of one trait from a file.

    Parameters
    ----------
    name : str
        Of the trait; the file's name by default.
    variants : VariantTable
        Identity, alleles and frequencies; the effect allele is the one ``z`` refers to.
    z : (variants,) float array
        Test statistic per copy of the effect allele.
    n : (variants,) float array
        People.
    neg_log10_p : (variants,) float array, optional
        -log10 P as the file has it, also where P is too small for a number; NaN where it has none.
    """

    name: str
    variants: VariantTable
    z: Float64[np.ndarray, " variants"]
    n: Float64[np.ndarray, " variants"]
    neg_log10_p: Float64[np.ndarray, " variants"] | None = None

    def __repr__(self) -> str:
        return f"ExternalStatistics({self.name}: {len(self.z):,} variants)"


def read_statistics(
    path: str | Path,
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    n: float | None = None,
    genome_build: str | None = None,
) -> ExternalStatistics:
    """Read summary statistics of another study.

    GWAS-SSF, REGENIE, PLINK 2 (``.glm``), LDSC's ``.sumstats`` and imgwas's own exports are
    recognised by their columns. The effect allele is ``effect_allele``, ``A1`` or, as REGENIE has
    it, ``ALLELE1``.

    Parameters
    ----------
    path : path
        Text, gzip allowed, or Parquet.
    name : str, optional
        Name of the trait.
    columns : mapping, optional
        Names of columns that are not recognised, e.g. ``{"effect_allele": "tested"}``; keys are
        variant_id, chromosome, position, effect_allele, other_allele, z, beta, odds_ratio,
        standard_error, p, neg_log10_p, n, frequency.
    n : float, optional
        People, where the file has no such column.
    genome_build : str, optional
        Of the positions.

    Returns
    -------
    ExternalStatistics
        Rows without a statistic or without alleles are left out and counted.

    Raises
    ------
    MalformedError
        If a column that is needed is not there; the message lists those that are.
    """
    path = Path(path).expanduser()
    table = read_table(path)
    found = _recognise(table.column_names, columns or {}, path)
    if "other_allele" not in found and {"REF", "ALT"} <= set(table.column_names):
        table, found = _plink_other(table, found)
    _check_needed(found, table.column_names, n, path)
    z = _z(table, found, path)
    people = np.full(len(z), float(n)) if n is not None else _column(table, found, "n", path)
    effect, other = (_text(table, found[k]) for k in ("effect_allele", "other_allele"))
    good = np.isfinite(z) & (people > 0) & (effect != "") & (other != "")
    if not good.any():
        raise DegenerateError(explain(f"{path} has no row with a statistic, alleles and people"))
    if not good.all():
        logger.info("%s: %s rows without a statistic or alleles are left out", path.name,
                    f"{int((~good).sum()):,}")  # fmt: skip
    rows = np.flatnonzero(good)
    return ExternalStatistics(
        name or path.name.split(".")[0],
        VariantTable(
            variant_id=_some(_text(table, found.get("variant_id")), rows),
            effect_allele=_some(effect, rows),
            other_allele=_some(other, rows),
            chromosome=_some(_text(table, found["chromosome"]), rows)
            if "chromosome" in found
            else None,
            position=_positions(table, found, path)[rows] if "position" in found else None,
            frequency=_column(table, found, "frequency", path)[rows],
            genome_build=genome_build,
        ),
        z[rows],
        people[rows],
        _strength(table, found, path)[rows],
    )


def _recognise(names: Sequence[str], given: Mapping[str, str], path: Path) -> dict[str, str]:
    unknown = [name for name in given.values() if name not in names]
    if unknown:
        raise MalformedError(
            explain(f"{path} has no column {unknown[0]!r}", expected=f"It has {', '.join(names)}")
        )
    lower: dict[str, str] = {}
    for name in names:
        lower.setdefault(name.lower(), name)
    found = {
        what: next(lower[alias] for alias in aliases if alias in lower)
        for what, aliases in NAMES.items()
        if any(alias in lower for alias in aliases)
    }
    return found | dict(given)


def _plink_other(table: pa.Table, found: dict[str, str]) -> tuple[pa.Table, dict[str, str]]:
    """PLINK 2 names REF, ALT and the tested A1: the other allele is the one of them that is not."""
    tested = _text(table, found.get("effect_allele"))
    reference, alternate = _text(table, "REF"), _text(table, "ALT")
    other = np.where(tested == reference, alternate, reference)
    return table.append_column("OMITTED", pa.array(list(other))), {
        **found,
        "other_allele": "OMITTED",
    }


def _check_needed(found: Mapping[str, str], names: Sequence[str], n: object, path: Path) -> None:
    lacking = [what for what in ("effect_allele", "other_allele") if what not in found]
    has_effect = "beta" in found or "odds_ratio" in found
    has_size = {"standard_error", "p", "neg_log10_p"} & found.keys()
    if "z" not in found and not (has_effect and has_size):
        lacking.append("z, or beta with standard_error or p")
    if "variant_id" not in found and not {"chromosome", "position"} <= found.keys():
        lacking.append("variant_id, or chromosome and position")
    if "n" not in found and n is None:
        lacking.append("n (the number of people; --n gives it)")
    if lacking:
        raise MalformedError(
            explain(
                f"{path} lacks {'; '.join(lacking)}",
                where=f"its columns are {', '.join(names)}",
                do="Rename them, for example to the names of GWAS-SSF",
            )
        )


def _z(table: pa.Table, found: Mapping[str, str], path: Path) -> np.ndarray:
    if "z" in found:
        return _column(table, found, "z", path)
    if "beta" in found:
        effect = _column(table, found, "beta", path)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            effect = np.log(_column(table, found, "odds_ratio", path))
    if "standard_error" in found:
        error = _column(table, found, "standard_error", path)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(error > 0, effect / error, np.nan))
    strength = _strength(table, found, path)
    return np.asarray(np.sign(effect) * np.sqrt(chi2_from_neg_log10_p(strength)))


def _strength(table: pa.Table, found: Mapping[str, str], path: Path) -> np.ndarray:
    """-log10 P; P that underflows as a number is read from its mantissa and exponent."""
    if "neg_log10_p" in found:
        return _column(table, found, "neg_log10_p", path)
    p = _column(table, found, "p", path)
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = np.where(p > 0, -np.log10(p), np.nan)
    tiny = np.flatnonzero(p < sys.float_info.min)
    if len(tiny):
        words = table[found["p"]].take(pa.array(tiny)).cast(pa.string()).to_pylist()
        strength[tiny] = [_minus_log10(word) for word in words]
    return strength


def _minus_log10(text: str) -> float:
    """-log10 of a number such as 3.2e-412; NaN where it is 0."""
    mantissa, _, exponent = text.strip().lower().partition("e")
    value = float(mantissa)
    return -(math.log10(value) + float(exponent or 0)) if value > 0 else math.nan


def _column(table: pa.Table, found: Mapping[str, str], what: str, path: Path) -> np.ndarray:
    if what not in found:
        return np.full(table.num_rows, np.nan)
    return np.asarray(to_numbers(table, [found[what]], path, neg9="value")[:, 0])


def _positions(table: pa.Table, found: Mapping[str, str], path: Path) -> np.ndarray:
    values = _column(table, found, "position", path)
    return np.nan_to_num(values, nan=-1).astype(np.int64)


def _text(table: pa.Table, name: str | None) -> np.ndarray:
    if name is None:
        return np.full(table.num_rows, "", object)
    values = table[name].cast(pa.string()).to_pylist()
    return np.array([one.strip() if one else "" for one in values], object)


def _some(values: np.ndarray, rows: np.ndarray) -> list[str]:
    return list(values[rows])

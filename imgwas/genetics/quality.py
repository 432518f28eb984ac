"""Quality of genotypes: missing calls, heterozygosity, sex told from chromosome X.

The statistics are PLINK 1.9's ``--missing``, ``--het`` and ``--check-sex``. With the frequency
``p`` of an allele among founders, a person is expected to be homozygous at ``sum_j 1 - 2 p_j
(1 - p_j)`` of the variants called in them; ``F = (observed - expected) / (called - expected)``. On
X ``p`` counts one allele of a man, and men have an F near 1, women near 0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import UsageError, explain
from imgwas.genetics.ld import chromosome_numbers
from imgwas.genetics.standard import packed
from imgwas.genotypes import GenotypeCounts, count_packed, hardy_weinberg_p_value, pack_mask
from imgwas.shapes import Int64, UInt8
from imgwas.sumstats.probes import NOT_AUTOSOMES
from imgwas.types import Genotypes, PackedGenotypes

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

AUTOSOME, X, Y, MT, PAR = range(5)
_KINDS = {"X": X, "Y": Y, "MT": MT, "XY": PAR}
_MISSING, _HETEROZYGOTE = 1, 2
_BLOCK_VALUES = 4_000_000
_SHIFTS = np.array([0, 2, 4, 6], np.uint8)


@dataclass(frozen=True)
class GenotypeQuality:
    """Tables of quality.

    Parameters
    ----------
    people : DataFrame
        A row a person: ``FID``, ``IID``, ``sex`` (1 male, 2 female, 0 unknown), ``n_missing``,
        ``n_genotyped``, ``missing_rate``; on autosomes ``n_called``, ``n_homozygous``,
        ``expected_homozygous``, ``heterozygosity`` and ``f``; ``x_f``, ``sex_by_x`` and
        ``sex_status`` (``OK``, ``PROBLEM``, or empty where there is no X).
    variants : DataFrame
        A row a variant: names, ``effect_allele_frequency`` among founders, ``n_missing``,
        ``n_genotyped``, ``missing_rate``, ``hardy_weinberg_p`` among founders (women on X).
    """

    people: pd.DataFrame
    variants: pd.DataFrame

    def __repr__(self) -> str:
        return f"GenotypeQuality({len(self.people):,} people, {len(self.variants):,} variants)"

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``people.tsv`` and ``variants.tsv`` into a folder, which is made."""
        from imgwas.genetics.heritability_files import write_tsv

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return [
            write_tsv(self.people, folder / "people.tsv"),
            write_tsv(self.variants, folder / "variants.tsv"),
        ]


def genotype_quality(
    genotypes: Genotypes,
    *,
    columns: Int64[np.ndarray, " people"] | None = None,
    rows: Int64[np.ndarray, " variants"] | None = None,
    nonfounders: bool = False,
    max_female_f: float = 0.2,
    min_male_f: float = 0.8,
    progress: Callable[[int], object] | None = None,
) -> GenotypeQuality:
    """Compute missingness, heterozygosity and sex of every person, and quality of every variant.

    One pass over the file; memory is one block.

    Parameters
    ----------
    genotypes : Genotypes
        Opened genotypes.
    columns : (people,) int array, optional
        Whom to look at; everyone by default.
    rows : (variants,) int array, optional
        Which variants; all by default.
    nonfounders : bool
        Take frequencies over everyone instead of founders.
    max_female_f, min_male_f : float
        F on X below the first means a woman, above the second a man.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    GenotypeQuality

    Raises
    ------
    UsageError
        If the limits of F cross.

    References
    ----------
    .. [1] Purcell et al. (2007), American Journal of Human Genetics 81:559.
    .. [2] Anderson et al. (2010), Nature Protocols 5:1564.
    """
    check_range("max_female_f", max_female_f, low=-1, high=1)
    if min_male_f < max_female_f:
        raise UsageError(
            explain(f"a man's F is above {min_male_f:g}, a woman's below {max_female_f:g}",
                    expected="The limit of women is the lower one")
        )  # fmt: skip
    reader = packed(genotypes)
    chosen = np.arange(reader.n_samples) if columns is None else np.unique(columns)
    listed = np.arange(reader.n_variants) if rows is None else np.unique(rows)
    tally = _Tally(reader, chosen, nonfounders)
    step = max(1, _BLOCK_VALUES // max(reader.n_samples, 1))
    parts = []
    for start in range(0, len(listed), step):
        parts.append(tally.add(listed[start : start + step]))
        if progress is not None:
            progress(len(parts[-1]["n_missing"]))
    limits = (max_female_f, min_male_f)
    return GenotypeQuality(tally.people(limits), _variants(reader, listed, parts))


def _variants(
    reader: PackedGenotypes, rows: np.ndarray, parts: list[dict[str, np.ndarray]]
) -> pd.DataFrame:
    table: pd.DataFrame = reader.variants.take(rows).to_pandas()
    for name in parts[0] if parts else ():
        table[name] = np.concatenate([part[name] for part in parts])
    return table


class _Tally:
    """Sums over variants for every person, block by block."""

    def __init__(self, reader: PackedGenotypes, chosen: np.ndarray, nonfounders: bool) -> None:
        self.reader, self.chosen = reader, chosen
        names, numbers = chromosome_numbers(reader)
        of_name = [_KINDS.get(name, AUTOSOME) for name in names]
        self.kinds = np.array(of_name, np.int64)[numbers]
        assert set(_KINDS) == set(NOT_AUTOSOMES)
        sex = reader.samples.sex
        base = chosen if nonfounders else chosen[reader.samples.is_founder[chosen]]
        self.masks = {
            "everyone": self._mask(chosen),
            "base": self._mask(base),
            "men": self._mask(base[sex[base] == 1]),
            "women": self._mask(base[sex[base] == 2]),
            "all_men": self._mask(chosen[sex[chosen] == 1]),
        }
        self.sex = sex[chosen]
        n = len(chosen)
        self.missing, self.seen = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.sums = {kind: np.zeros((3, n)) for kind in (AUTOSOME, X)}

    def _mask(self, columns: np.ndarray) -> np.ndarray:
        people = np.zeros(-(-self.reader.n_samples // 4) * 4, bool)
        people[columns] = True
        return pack_mask(people)

    def add(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Count one block; return the columns of its variants."""
        codes = self.reader.read_packed(rows)
        kinds = self.kinds[rows]
        counts = {name: count_packed(codes, mask) for name, mask in self.masks.items()}
        frequency = _frequency(kinds, counts)
        self._add_people(codes, kinds, frequency)
        shown = GenotypeCounts.choose(
            (kinds == Y).astype(np.int64), [counts["everyone"], counts["all_men"]]
        )
        n_seen = shown.n_missing + shown.n_called
        return {
            "effect_allele_frequency": frequency,
            "n_missing": shown.n_missing,
            "n_genotyped": n_seen,
            "missing_rate": shown.n_missing / np.maximum(n_seen, 1),
            "hardy_weinberg_p": _hardy_weinberg(kinds, counts),
        }

    def _add_people(
        self, packed_codes: UInt8[np.ndarray, "variants bytes"], kinds: np.ndarray,
        frequency: np.ndarray,
    ) -> None:  # fmt: skip
        codes = (packed_codes[:, :, None] >> _SHIFTS & 3).reshape(len(kinds), -1)[:, self.chosen]
        is_missing = codes == _MISSING
        on_y = kinds == Y
        is_man = self.sex == 1
        self.missing += is_missing[~on_y].sum(axis=0)
        self.missing += np.where(is_man, is_missing[on_y].sum(axis=0), 0)
        self.seen += int((~on_y).sum()) + np.where(is_man, int(on_y.sum()), 0)
        for kind, sums in self.sums.items():
            here = (kinds == kind) & (frequency > 0) & (frequency < 1)
            expected = 1 - 2 * frequency[here] * (1 - frequency[here])
            sums[0] += (~is_missing[here]).sum(axis=0)
            sums[1] += (codes[here] == _HETEROZYGOTE).sum(axis=0)
            sums[2] += expected.sum() - expected @ is_missing[here]

    def people(self, limits: tuple[float, float]) -> pd.DataFrame:
        """The table of people."""
        import pandas as pd

        samples = self.reader.samples
        called, heterozygous, expected = self.sums[AUTOSOME]
        x_f = _excess(*self.sums[X])
        by_x = np.select([x_f < limits[0], x_f > limits[1]], [2, 1], 0)
        status = np.where((by_x == self.sex) & (by_x > 0), "OK", "PROBLEM")
        columns: dict[str, Any] = {
            "FID": [samples.family_ids[i] for i in self.chosen],
            "IID": [samples.sample_ids[i] for i in self.chosen],
            "sex": self.sex,
            "n_missing": self.missing,
            "n_genotyped": self.seen,
            "missing_rate": self.missing / np.maximum(self.seen, 1),
            "n_called": called.astype(np.int64),
            "n_homozygous": (called - heterozygous).astype(np.int64),
            "expected_homozygous": expected,
            "heterozygosity": heterozygous / np.maximum(called, 1),
            "f": _excess(called, heterozygous, expected),
            "x_f": x_f,
            "sex_by_x": by_x,
            "sex_status": np.where(np.isfinite(x_f), status, ""),
        }
        return pd.DataFrame(columns)


def _excess(called: np.ndarray, heterozygous: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """F: homozygotes beyond expectation, as a share of the heterozygotes expected."""
    below = called - expected
    return np.divide(
        called - heterozygous - expected, below, out=np.full(len(called), np.nan), where=below > 0
    )


def _frequency(kinds: np.ndarray, counts: dict[str, GenotypeCounts]) -> np.ndarray:
    """Of the effect allele: one allele of a man on X and Y, one of anybody on MT.

    A heterozygous call where there is one allele counts as missing.
    """
    base, men = counts["base"], counts["men"]
    copies, total = base.copies.astype(float), 2.0 * base.n_called
    one = men.n_effect_homozygote.astype(float)
    men_called = one + men.n_other_homozygote
    on_mt = base.n_effect_homozygote.astype(float)
    copies = np.select(
        [kinds == X, kinds == Y, kinds == MT], [copies - men.copies + one, one, on_mt], copies
    )
    total = np.select(
        [kinds == X, kinds == Y, kinds == MT],
        [total - 2.0 * men.n_called + men_called, men_called, on_mt + base.n_other_homozygote],
        total,
    )
    return np.divide(copies, total, out=np.full(len(kinds), np.nan), where=total > 0)


def _hardy_weinberg(kinds: np.ndarray, counts: dict[str, GenotypeCounts]) -> np.ndarray:
    """Exact P value; women on X, none on Y and MT."""
    used = GenotypeCounts.choose((kinds == X).astype(np.int64), [counts["base"], counts["women"]])
    found = hardy_weinberg_p_value(
        used.n_effect_homozygote, used.n_heterozygote, used.n_other_homozygote
    )
    return np.where((kinds == Y) | (kinds == MT), np.nan, found)

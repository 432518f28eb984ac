"""Which variants stay: lists before the scan, limits on counts during it, with PLINK 2's meaning.

Frequencies, allele counts and Hardy-Weinberg are taken over founders, missingness over everyone,
all among the analysed samples. On X a male carries one copy and only females enter Hardy-Weinberg.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgwas.arrow import from_strings, string_scalar, to_numpy
from imgwas.checks import check_range
from imgwas.errors import DegenerateError, MalformedError, UsageError, explain
from imgwas.genotypes.counts import GenotypeCounts, count_packed
from imgwas.genotypes.hardy_weinberg import hardy_weinberg_p_value
from imgwas.genotypes.text import read_bytes, what_it_is
from imgwas.genotypes.variant_table import AT_ONCE, chromosome_name, of_chromosomes, stretches
from imgwas.scratch import array_aside
from imgwas.types import MISSING_DOSAGE, DosageGenotypes, Genotypes, PackedGenotypes

logger = logging.getLogger(__name__)

_RANGE = re.compile(r"(?:chr)?([0-9]{1,3})-(?:chr)?([0-9]{1,3})", re.IGNORECASE | re.ASCII)
_LAST_CHROMOSOME = 95  # PLINK's own limit

_SMALL = 1 - 2.0**-44  # PLINK 2 lets a value this close to its limit pass


@dataclass(frozen=True)
class VariantFilters:
    """Limits that a variant must meet among the analysed samples. None means no limit.

    Parameters
    ----------
    maf : float, optional
        Lowest minor allele frequency that stays.
    mac : float, optional
        Lowest minor allele count that stays.
    geno : float, optional
        Highest share of missing calls that stays.
    hwe : float, optional
        Lowest exact Hardy-Weinberg P value that stays.
    nonfounders : bool
        Take frequencies and Hardy-Weinberg over everyone instead of founders.
    info : float, optional
        Lowest imputation quality that stays: IMPUTE's INFO of probabilities, MaCH's r2 of dosages.
        Hard calls have none.
    """

    maf: float | None = None
    mac: float | None = None
    geno: float | None = None
    hwe: float | None = None
    nonfounders: bool = False
    info: float | None = None

    def __post_init__(self) -> None:
        for name, high in (
            ("maf", 0.5),
            ("mac", np.inf),
            ("geno", 1.0),
            ("hwe", 1.0),
            ("info", 1.0),
        ):
            value = getattr(self, name)
            if value is not None:
                check_range(f"--{name}", value, low=0, high=high)

    @property
    def any_active(self) -> bool:
        """Whether any limit is set."""
        limits = (self.maf, self.mac, self.geno, self.hwe, self.info)
        return any(value is not None for value in limits)

    def described(self) -> dict[str, Any]:
        """Fields for ``run.json``; what is off and came later is left out, as older runs do."""
        return {k: v for k, v in asdict(self).items() if k != "info" or v is not None}

    def passes(
        self,
        packed: np.ndarray,
        counts: GenotypeCounts,
        *,
        analysed: np.ndarray,
        founders: np.ndarray,
        females: np.ndarray,
        males: np.ndarray,
        kinds: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Decide for each variant of a block; count what each limit removed, in PLINK 2's order.

        Parameters
        ----------
        packed : (variants, bytes) uint8 array
            Two-bit codes.
        counts : GenotypeCounts
            Over the analysed people.
        analysed, founders, females, males : packed masks
            People, all among the analysed.
        kinds : (variants,) int array
            0 autosome, 1 X, 2 Y, 3 mitochondria.
        """
        people = analysed if self.nonfounders else founders
        return self.decide(
            len(packed),
            missing_rate=lambda: _missing_rate(packed, counts, kinds, males),
            hardy_weinberg=lambda: _hardy_weinberg(packed, people, females, kinds),
            minor_allele=lambda: _minor_allele(packed, people, males, kinds),
        )

    def decide(
        self,
        n_variants: int,
        *,
        missing_rate: Callable[[], np.ndarray],
        hardy_weinberg: Callable[[], np.ndarray],
        minor_allele: Callable[[], tuple[np.ndarray, np.ndarray]],
        quality: Callable[[], np.ndarray] | None = None,
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Apply the limits that are set, in PLINK 2's order, to what is measured on demand.

        Parameters
        ----------
        n_variants : int
            Variants of the block.
        missing_rate, hardy_weinberg : function
            Return one number a variant.
        minor_allele : function
            Returns copies of the rarer allele and of both.
        quality : function, optional
            Returns one number a variant; NaN has no quality and stays.
        """
        keep = np.ones(n_variants, bool)
        removed: dict[str, int] = {}

        def limit(name: str, passed: np.ndarray) -> None:
            removed[name] = int((keep & ~passed).sum())
            np.logical_and(keep, passed, out=keep)

        if self.geno is not None:
            limit("geno", missing_rate() <= self.geno / _SMALL)
        if self.hwe is not None:
            limit("hwe", hardy_weinberg() >= self.hwe * _SMALL)
        if self.maf is not None or self.mac is not None:
            minor, total = minor_allele()
            if self.maf is not None:
                limit("maf", minor >= self.maf * total * _SMALL)
            if self.mac is not None:
                limit("mac", minor >= self.mac * _SMALL)
        if self.info is not None and quality is not None:
            limit("info", ~(quality() < self.info * _SMALL))
        return keep, removed


def _missing_rate(
    packed: np.ndarray, counts: GenotypeCounts, kinds: np.ndarray, males: np.ndarray
) -> np.ndarray:
    """Share of missing calls; on Y among males only."""
    missing, total = counts.n_missing, counts.n_missing + counts.n_called
    if (kinds == 2).any():
        male = count_packed(packed, males)
        missing = np.where(kinds == 2, male.n_missing, missing)
        total = np.where(kinds == 2, male.n_missing + male.n_called, total)
    return np.asarray(missing / np.maximum(total, 1))


def _minor_allele(
    packed: np.ndarray, people: np.ndarray, males: np.ndarray, kinds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Copies of the rarer allele and of both; one each on MT, of males on X and Y."""
    counts = count_packed(packed, people)
    copies, total = counts.copies.astype(float), 2.0 * counts.n_called
    if kinds.any():
        male = count_packed(packed, people & males)
        on = [kinds == 1, kinds == 2, kinds == 3]
        some = [copies - male.copies / 2, male.copies / 2, copies / 2]
        copies = np.select(on, some, copies)
        total = np.select(on, [total - male.n_called, male.n_called, total / 2], total)
    return np.minimum(copies, total - copies), total


def _hardy_weinberg(
    packed: np.ndarray, people: np.ndarray, females: np.ndarray, kinds: np.ndarray
) -> np.ndarray:
    """Exact P value; females on X, always 1 on Y and MT."""
    counts = count_packed(packed, people)
    if kinds.any():
        female = count_packed(packed, people & females)
        nobody = count_packed(packed, np.zeros_like(people))
        counts = GenotypeCounts.choose(kinds, [counts, female, nobody, nobody])
    return hardy_weinberg_p_value(
        counts.n_effect_homozygote, counts.n_heterozygote, counts.n_other_homozygote
    )


def select_rows(
    genotypes: Genotypes,
    *,
    chromosomes: Sequence[str] = (),
    extract: Sequence[Path] = (),
    exclude: Sequence[Path] = (),
) -> tuple[np.ndarray, dict[str, str]]:
    """Rows of the variants that chromosome and lists leave.

    Returns
    -------
    rows : (variants,) int64 array
        Increasing.
    report : dict
        One sentence for each option that was used.

    Raises
    ------
    DegenerateError
        If a list names no variant of the file.
    """
    keep = np.ones(genotypes.n_variants, bool)
    report: dict[str, str] = {}
    if chromosomes:
        keep &= _on_chromosomes(genotypes, _expand(chromosomes))
        report["chr"] = f"{int(keep.sum()):,} of {len(keep):,} are on {','.join(chromosomes)}"
    for option, paths, wanted in (("extract", extract, True), ("exclude", exclude, False)):
        if not paths:
            continue
        listed, names, found = _listed(genotypes, paths)
        if wanted and not found:
            raise DegenerateError(
                explain(
                    f"none of the {names:,} variants of --{option} is in the genotype file",
                    expected="One variant id a line, as in column 2 of the .bim",
                )
            )
        keep &= listed == wanted
        report[option] = f"{found:,} of {names:,} listed ids are genotyped; {keep.sum():,} left"
    return array_aside(_places(keep), np.int64), report


def _places(keep: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(keep), AT_ONCE):
        yield start + np.flatnonzero(keep[start : start + AT_ONCE])


def _listed(genotypes: Genotypes, paths: Sequence[Path]) -> tuple[np.ndarray, int, int]:
    """Variants that the lists name, how many ids they hold, and how many of those were found."""
    words = {w.decode("utf-8", "surrogateescape") for p in paths for w in _words(p)}
    ids = from_strings(sorted(words))
    listed, found = np.zeros(genotypes.n_variants, bool), np.zeros(len(ids), bool)
    for rows, names in stretches(genotypes.variants, "variant_id"):
        at = pc.index_in(names, value_set=ids)
        listed[rows] = to_numpy(at.is_valid())
        found[to_numpy(at.drop_null())] = True
    return listed, len(ids), int(found.sum())


def _words(path: Path) -> list[bytes]:
    """Ids of a list, parted by white space of any kind."""
    content = read_bytes(path)
    meaning = what_it_is(content[:32])
    if meaning:
        raise MalformedError(explain(f"{path} is {meaning}"))
    return content.removeprefix(b"\xef\xbb\xbf").split()


def _expand(chromosomes: Sequence[str]) -> list[str]:
    """Write ranges such as 1-4 out; a name such as HLA-A is no range."""
    names: list[str] = []
    for entry in chromosomes:
        ends = _RANGE.fullmatch(entry)
        first, last = map(int, ends.groups()) if ends else (0, 0)
        if not ends:
            names.append(chromosome_name(entry))
        elif first <= last <= _LAST_CHROMOSOME:
            names += [chromosome_name(str(i)) for i in range(first, last + 1)]
        else:
            raise UsageError(
                explain(f"--chr has the range {entry!r}", expected="A range is written 1-22")
            )
    return names


def _on_chromosomes(genotypes: Genotypes, names: list[str]) -> np.ndarray:
    wanted = from_strings(names)
    inside, present = np.empty(genotypes.n_variants, bool), set()
    for rows, column in stretches(genotypes.variants, "chromosome"):
        present.update(pc.unique(column).to_pylist())
        inside[rows] = to_numpy(pc.is_in(column, value_set=wanted))
    absent = [name for name in names if name not in present]
    if len(absent) == len(names):
        raise DegenerateError(
            explain(
                f"no variant is on chromosome {', '.join(absent[:5])}",
                where=f"the file has {', '.join(sorted(present)[:30])}",
            )
        )
    return inside


def sample_missingness(
    genotypes: Genotypes, rows: np.ndarray, *, block_size: int = 4096
) -> np.ndarray:
    """Share of missing calls of each person over some variants; Y counts for males only.

    Memory: one block of codes at a time.
    """
    on_y = of_chromosomes(genotypes.variants, rows, _is_y, np.bool_)
    missing = _missing_calls(genotypes, rows[~on_y], block_size)
    total = np.full(genotypes.n_samples, int((~on_y).sum()))
    if on_y.any():
        male = genotypes.samples.sex == 1
        missing += np.where(male, _missing_calls(genotypes, rows[on_y], block_size), 0)
        total += np.where(male, int(on_y.sum()), 0)
    return np.asarray(missing / np.maximum(total, 1))


def _is_y(chromosomes: pa.ChunkedArray) -> np.ndarray:
    return to_numpy(pc.equal(chromosomes, string_scalar("Y")))


def _missing_calls(genotypes: Genotypes, rows: np.ndarray, block_size: int) -> np.ndarray:
    """Missing calls of each person; where there are dosages, missing dosages."""
    if isinstance(genotypes, DosageGenotypes):
        missing = np.zeros(genotypes.n_samples, np.int64)
        for at in range(0, len(rows), block_size // 8):
            codes = genotypes.read_codes(rows[at : at + block_size // 8])
            missing += (codes.dosage == MISSING_DOSAGE).sum(axis=0)
        return missing
    assert isinstance(genotypes, PackedGenotypes)
    missing = np.zeros(-(-genotypes.n_samples // 4) * 4, np.int64)
    for at in range(0, len(rows), block_size):
        packed = genotypes.read_packed(rows[at : at + block_size])
        low = packed & ~(packed >> 1) & 0x55
        for shift in range(4):
            missing[shift::4] += ((low >> (2 * shift)) & 1).sum(axis=0, dtype=np.int64)
    return missing[: genotypes.n_samples]

"""Variants that tell of ancestry once each: pruned for LD, outside regions of long-range LD.

The rule is that of PLINK's ``--indep-pairwise``. A window slides along each chromosome. While any
two of its variants have an r² of allele counts above the limit, the one with the rarer minor allele
goes; of equals the later one. Pairs are tested in the order of the file, one a variant a round.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import DegenerateError, explain
from imgwas.genetics.ld import chromosome_numbers
from imgwas.genetics.standard import autosomal_rows
from imgwas.genotypes import count_packed, pack_mask
from imgwas.shapes import Bool, Float32, Float64, Int64
from imgwas.sumstats.probes import NOT_AUTOSOMES
from imgwas.types import Genotypes, PackedGenotypes

logger = logging.getLogger(__name__)

#: Long-range LD that unrelated people share: chromosome, first and last position.
#: Price (2008) and Anderson (2010), brought to both builds; the region of lactase (chromosome 2)
#: is shifted between them as rs4988235 is, that of chromosome 6 at 57 Mb as the genes beside its
#: ends are: the assembly between them was rebuilt. Both builds hold the same genes.
LONG_RANGE_LD = {
    "GRCh37": (
        ("1", 48_227_413, 52_227_412), ("2", 86_146_489, 101_133_568),
        ("2", 134_783_530, 138_283_530), ("2", 183_291_755, 190_291_755),
        ("3", 47_524_996, 50_024_996), ("3", 83_417_310, 86_917_310),
        ("5", 44_464_243, 50_464_243), ("5", 128_972_101, 131_972_101),
        ("6", 25_392_021, 33_392_022), ("6", 56_892_041, 63_942_041),
        ("6", 139_958_307, 142_458_307), ("7", 55_032_506, 66_362_565),
        ("8", 7_962_590, 11_962_591), ("8", 42_880_843, 49_837_447),
        ("8", 111_930_824, 114_930_824), ("10", 36_959_994, 43_679_994),
        ("11", 87_860_352, 90_860_352), ("12", 33_108_733, 41_713_733),
        ("20", 32_536_339, 35_066_586),
    ),
    "GRCh38": (
        ("1", 47_761_741, 51_761_740), ("2", 85_919_366, 100_517_106),
        ("2", 134_025_960, 137_525_960), ("2", 182_427_028, 189_427_029),
        ("3", 47_483_506, 49_987_563), ("3", 83_368_159, 86_868_160),
        ("5", 44_464_141, 51_168_409), ("5", 129_636_408, 132_636_409),
        ("6", 25_391_793, 33_424_245), ("6", 57_027_247, 63_232_135),
        ("6", 139_637_170, 142_137_170), ("7", 54_964_813, 66_897_578),
        ("8", 8_105_068, 12_105_082), ("8", 43_025_700, 48_924_888),
        ("8", 110_918_595, 113_918_595), ("10", 36_671_066, 43_184_546),
        ("11", 88_127_184, 91_127_184), ("12", 32_955_799, 41_319_931),
        ("20", 33_948_533, 36_438_183),
    ),
}  # fmt: skip

#: Variants whose r² with those before them is computed at once.
_TOGETHER = 256
#: PLINK's tolerance when it compares r² with the limit.
_SLACK = 1 + 2.0**-44


@dataclass(frozen=True)
class LdPruning:
    """How variants are pruned, in the words of PLINK's ``--indep-pairwise WINDOW[kb] STEP R2``.

    Parameters
    ----------
    window : float
        Length of the window, in ``unit``.
    step : int
        Variants by which it moves; 1 where it is in kb.
    r2 : float
        Largest r² that two variants of a window may have.
    unit : {"kb", "variants"}
        Of the window.
    """

    window: float = 1000
    step: int = 1
    r2: float = 0.1
    unit: str = "kb"

    def __post_init__(self) -> None:
        check_option("the unit of the window", self.unit, ("kb", "variants"))
        check_range("the window", self.window, low=1 if self.unit == "kb" else 2, unit=self.unit)
        high = 1 if self.unit == "kb" else np.inf  # as PLINK 2 has it
        check_range("the step", self.step, low=1, high=high, unit="variants")
        check_range("r²", self.r2, low=0, high=1)

    def __str__(self) -> str:
        return f"{self.window:g}{' kb' if self.unit == 'kb' else ''} {self.step} {self.r2:g}"


def prune_variants(
    genotypes: Genotypes,
    pruning: LdPruning | None = None,
    *,
    rows: Int64[np.ndarray, " variants"] | None = None,
    columns: Int64[np.ndarray, " people"] | None = None,
    max_people: int = 10_000,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Int64[np.ndarray, " kept"]:
    """Choose variants of which no two in a window are in LD.

    r² is that of allele counts among the people who have both calls, as in PLINK 1.9's
    ``--indep-pairwise``, whose choice this is. Variants that do not vary go.

    Parameters
    ----------
    genotypes : Genotypes
        Opened genotypes.
    pruning : LdPruning, optional
        1000 kb, 1, 0.1 by default.
    rows : (variants,) int array, optional
        Rows of the genotype file to choose from; all autosomes by default.
    columns : (people,) int array, optional
        Whom to measure LD among; all founders by default.
    max_people : int
        With more people, so many are drawn at random.
    seed : int
        Of the draw.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    (kept,) int array
        Rows of the genotype file, increasing.

    Raises
    ------
    DegenerateError
        If fewer than two people are left, or no variant varies.

    References
    ----------
    .. [1] Purcell et al. (2007), American Journal of Human Genetics 81:559.
    """
    pruning = pruning or LdPruning()
    chosen = autosomal_rows(genotypes) if rows is None else np.unique(rows)
    people = _people(genotypes, columns, max_people, seed)
    kept: list[np.ndarray] = []
    for one in _by_chromosome(genotypes, chosen):
        position = np.asarray(genotypes.variants["base_pair_location"].to_numpy())[one]
        order = np.argsort(position, kind="stable")
        reader = _Calls(genotypes, one[order], people)
        links, maf = _links(reader, position[order], pruning, progress)
        kept.append(one[order][_slide(links, maf, position[order], pruning)])
    found = np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)
    if not len(found):
        raise DegenerateError(explain(f"none of {len(chosen):,} variants varies"))
    logger.info("LD       %s of %s variants are left (%s)", f"{len(found):,}",
                f"{len(chosen):,}", pruning)  # fmt: skip
    return found


def outside_long_range_ld(genotypes: Genotypes, genome_build: str) -> Bool[np.ndarray, " variants"]:
    """Which variants of a genotype file lie in no region of long-range LD.

    Parameters
    ----------
    genotypes : Genotypes
        Opened genotypes.
    genome_build : {"GRCh37", "GRCh38"}
        Of its positions.
    """
    check_option("the genome build", genome_build, LONG_RANGE_LD)
    names, numbers = chromosome_numbers(genotypes)
    position = np.asarray(genotypes.variants["base_pair_location"].to_numpy())
    outside = np.ones(genotypes.n_variants, bool)
    for chromosome, first, last in LONG_RANGE_LD[genome_build]:
        if chromosome in names:
            here = numbers == names.index(chromosome)
            outside &= ~(here & (position >= first) & (position <= last))
    return outside


def _people(
    genotypes: Genotypes, columns: np.ndarray | None, max_people: int, seed: int
) -> np.ndarray:
    chosen = np.flatnonzero(genotypes.samples.is_founder) if columns is None else np.unique(columns)
    if len(chosen) < 2:
        raise DegenerateError(
            explain(f"{len(chosen):,} people are left for pruning", expected="At least two",
                    do="Name columns: by default only founders count")
        )  # fmt: skip
    if len(chosen) > max_people:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(chosen, max_people, replace=False))
        logger.info("LD       among %s people, drawn at random", f"{max_people:,}")
    return chosen


def _by_chromosome(genotypes: Genotypes, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of one chromosome after the other; X, Y and MT are refused by their absence."""
    names, numbers = chromosome_numbers(genotypes)
    mine = numbers[rows]
    for number in dict.fromkeys(mine.tolist()):
        if names[number] not in NOT_AUTOSOMES:
            yield rows[mine == number]


class _Calls:
    """Genotypes of some people, a run of variants at a time; missing calls are counted apart."""

    def __init__(self, genotypes: Genotypes, rows: np.ndarray, people: np.ndarray) -> None:
        self.genotypes, self.rows, self.people = genotypes, rows, people

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> tuple[Float32[np.ndarray, "variants people"], bool]:
        """Copies of the effect allele, NaN where missing, and whether any is."""
        rows = self.rows[start:stop]
        order = np.argsort(rows)
        dosage = np.empty((len(rows), len(self.people)), np.float32)
        dosage[order] = self.genotypes.read_dosages(rows[order])[:, self.people]
        return dosage, bool(np.isnan(dosage).any())


def _links(
    reader: _Calls,
    position: np.ndarray,
    pruning: LdPruning,
    progress: Callable[[int], object] | None,
) -> tuple[list[list[int]], Float64[np.ndarray, " variants"]]:
    """Later partners of each variant above the limit, and minor allele frequencies (-1: constant).

    Blocks that no window reaches any more are forgotten.
    """
    links: list[list[int]] = [[] for _ in range(len(reader))]
    maf = np.full(len(reader), -1.0)
    held: deque[tuple[int, np.ndarray, bool]] = deque()
    for start in range(0, len(reader), _TOGETHER):
        stop = min(start + _TOGETHER, len(reader))
        block, is_missing = reader.read(start, stop)
        maf[start:stop] = _minor_frequency(block)
        first = _first_in_reach(position, start, pruning)
        while held and held[0][0] + len(held[0][1]) <= first:
            held.popleft()
        held.append((start, block, is_missing))
        for begin, others, also_missing in held:
            r2 = _r2(others, block, is_missing or also_missing)
            for i, j in np.argwhere(r2 > pruning.r2 * _SLACK).tolist():
                if begin + i < start + j:
                    links[begin + i].append(start + j)
        if progress is not None:
            progress(stop - start)
    return links, maf


def _first_in_reach(position: np.ndarray, at: int, pruning: LdPruning) -> int:
    if pruning.unit == "variants":
        return max(0, at - int(pruning.window) + 1)
    return int(np.searchsorted(position, position[at] - pruning.window * 1000))


def _minor_frequency(block: np.ndarray) -> np.ndarray:
    """Frequency of the rarer allele; -1 where nobody differs."""
    called = np.isfinite(block)
    n = np.maximum(called.sum(axis=1), 1)
    frequency = np.where(called, block, 0).sum(axis=1, dtype=np.float64) / (2 * n)
    filled = np.where(called, block, block[np.arange(len(block)), called.argmax(axis=1)][:, None])
    varies = (filled != filled[:, :1]).any(axis=1)
    return np.asarray(np.where(varies, np.minimum(frequency, 1 - frequency), -1.0))


def _r2(one: np.ndarray, two: np.ndarray, is_missing: bool) -> np.ndarray:
    """Squared correlations of allele counts, people without both calls left out pair by pair."""
    if is_missing:
        has_one, has_two = np.isfinite(one), np.isfinite(two)
        one, two = np.where(has_one, one, 0), np.where(has_two, two, 0)
        called_one, called_two = has_one.astype(np.float32), has_two.astype(np.float32)
        n = (called_one @ called_two.T).astype(np.float64)
        sums = (one @ called_two.T).astype(np.float64), (called_one @ two.T).astype(np.float64)
        squares = (one**2 @ called_two.T), (called_one @ (two**2).T)
    else:
        n = np.full((len(one), len(two)), float(one.shape[1]))
        sums = one.sum(axis=1, dtype=float)[:, None], two.sum(axis=1, dtype=float)[None]
        squares = (one**2).sum(axis=1)[:, None], (two**2).sum(axis=1)[None]
    product = n * (one @ two.T).astype(np.float64) - sums[0] * sums[1]
    spread = [n * s.astype(np.float64) - t**2 for s, t in zip(squares, sums, strict=True)]
    below = spread[0] * spread[1]
    return np.asarray(np.divide(product**2, below, out=np.zeros_like(below), where=below > 0))


def _windows(position: np.ndarray, pruning: LdPruning) -> Iterator[tuple[int, int]]:
    """First variant of each window, and the one after its last."""
    m = len(position)
    for start in range(0, m, pruning.step):
        if pruning.unit == "variants":
            stop = min(m, start + int(pruning.window))
        else:
            stop = int(np.searchsorted(position, position[start] + pruning.window * 1000, "right"))
        yield start, stop
        if stop == m:
            return


def _slide(
    links: Sequence[list[int]], maf: np.ndarray, position: np.ndarray, pruning: LdPruning
) -> np.ndarray:
    """Variants that are left when the window has passed over the chromosome."""
    lives = maf >= 0
    linked = np.array([i for i, partners in enumerate(links) if partners], np.int64)
    back: dict[int, list[int]] = {}
    for i in linked.tolist():
        for j in links[i]:
            back.setdefault(j, []).append(i)
    done = 0
    for start, stop in _windows(position, pruning):
        touched = {i for j in range(max(done, start), stop) for i in back.get(j, ()) if i >= start}
        done = stop
        _prune_window(sorted(touched), links, lives, maf, stop)
    return np.flatnonzero(lives)


def _prune_window(
    candidates: list[int],
    links: Sequence[list[int]],
    lives: np.ndarray,
    maf: np.ndarray,
    stop: int,
) -> None:
    """Rounds over a window until no two of it are linked; each variant prunes once a round."""
    has_pruned = bool(candidates)
    while has_pruned:
        has_pruned = False
        for i in candidates:
            if not lives[i]:
                continue
            partner = next((j for j in links[i] if j < stop and lives[j]), None)
            if partner is None:
                continue
            lives[i if maf[i] < maf[partner] * (1 - 2.0**-44) else partner] = False
            has_pruned = True


def varying_rows(
    genotypes: PackedGenotypes,
    rows: Int64[np.ndarray, " variants"],
    columns: Int64[np.ndarray, " people"],
    *,
    min_maf: float,
    max_missing: float,
) -> Int64[np.ndarray, " kept"]:
    """Rows with a minor allele this frequent and at most this share of calls missing."""
    people = np.zeros(-(-genotypes.n_samples // 4) * 4, bool)
    people[columns] = True
    mask = pack_mask(people)
    keep = []
    for start in range(0, len(rows), 4096):
        some = rows[start : start + 4096]
        counts = count_packed(genotypes.read_packed(some), mask)
        frequency = counts.copies / np.maximum(2 * counts.n_called, 1)
        missing = counts.n_missing / np.maximum(counts.n_missing + counts.n_called, 1)
        minor = np.minimum(frequency, 1 - frequency)
        keep.append(some[(minor >= min_maf) & (minor > 0) & (missing <= max_missing)])
    return np.fromiter(chain.from_iterable(keep), np.int64)

"""Genotypes with linkage disequilibrium, structure and relatives, made block by block.

Each founder haplotype is a Gaussian process along the chromosome, a first-order autoregression
whose correlation between neighbours falls with distance, thresholded at the variant's frequency.
Recombination is concentrated in hotspots, so that LD comes in blocks. Populations draw their own
frequencies around the ancestral one (Balding & Nichols 1995). Children inherit their parents'
haplotypes with crossovers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

#: Lengths of the autosomes and X in Mb (GRCh37, rounded).
CHROMOSOME_MB = {
    **{
        str(i): length
        for i, length in enumerate(
            [249, 243, 198, 191, 181, 171, 159, 146, 141, 136, 135, 134, 115, 107, 103, 90, 81,
             78, 59, 63, 48, 51],
            start=1,
        )
    },
    "X": 155,
}  # fmt: skip
_CROSSOVERS_PER_BP = 1e-8


@dataclass(frozen=True)
class GenotypeModel:
    """What the simulated genotypes look like.

    Parameters
    ----------
    n_samples, n_variants : int
        Size of the cohort, relatives included.
    chromosomes : tuple of str
        Variants are spread over these in proportion to their length.
    populations : int
        Groups of people with their own allele frequencies.
    fst : float
        Differentiation of the populations.
    sib_pairs, trios, duplicates : int
        Relatives: two children of hidden parents; a child and both parents; the same person twice.
    missing_rate : float
        Share of calls that are missing.
    ld_length_kb : float
        Distance over which the correlation within a block falls to 1/e.
    seed : int
        Everything follows from it.
    """

    n_samples: int = 2000
    n_variants: int = 20_000
    chromosomes: tuple[str, ...] = field(default_factory=lambda: tuple(map(str, range(1, 23))))
    populations: int = 1
    fst: float = 0.02
    sib_pairs: int = 0
    trios: int = 0
    duplicates: int = 0
    missing_rate: float = 0.0
    ld_length_kb: float = 60.0
    seed: int = 0


@dataclass(frozen=True)
class People:
    """Who the simulated people are and where their haplotypes come from.

    ``haplotype`` (people, 2) numbers founder haplotypes; a child's entry is -1 and its parents
    stand in ``parents``, which numbers rows of ``haplotype``.
    """

    population: np.ndarray
    sex: np.ndarray
    haplotype: np.ndarray
    parents: np.ndarray
    kind: np.ndarray

    @property
    def n_founder_haplotypes(self) -> int:
        """Number of independent haplotypes."""
        return int(self.haplotype.max()) + 1


def make_people(model: GenotypeModel, rng: np.random.Generator) -> People:
    """Lay out founders, hidden parents, children and duplicates.

    The first ``n_samples`` rows are the cohort; hidden parents follow.
    """
    n, hidden = model.n_samples, 2 * model.sib_pairs
    parents = np.full((n + hidden, 2), -1)
    kind = np.full(n + hidden, "founder", dtype=object)
    kind[n:] = "hidden"
    at = n - 2 * model.sib_pairs - 3 * model.trios - model.duplicates
    for pair in range(model.sib_pairs):
        parents[at : at + 2] = n + 2 * pair, n + 2 * pair + 1
        kind[at : at + 2] = "sibling"
        at += 2
    for _ in range(model.trios):
        parents[at + 2] = at, at + 1
        kind[at : at + 3] = "parent", "parent", "child"
        at += 3
    kind[at : at + model.duplicates] = "duplicate"
    sex = rng.integers(1, 3, n + hidden)
    for child in np.flatnonzero(parents[:, 0] >= 0):
        sex[parents[child]] = 1, 2
    return _with_haplotypes(model, rng, parents, kind, sex)


def _with_haplotypes(
    model: GenotypeModel,
    rng: np.random.Generator,
    parents: np.ndarray,
    kind: np.ndarray,
    sex: np.ndarray,
) -> People:
    is_founder = (parents[:, 0] < 0) & (kind != "duplicate")
    haplotype = np.full((len(kind), 2), -1)
    haplotype[is_founder] = np.arange(2 * is_founder.sum()).reshape(-1, 2)
    population = rng.integers(0, model.populations, len(kind))
    for number, copy in enumerate(np.flatnonzero(kind == "duplicate")):
        haplotype[copy], sex[copy] = haplotype[number], sex[number]
        population[copy] = population[number]
    for child in np.flatnonzero(parents[:, 0] >= 0):
        population[parents[child]] = population[parents[child, 0]]
        population[child] = population[parents[child, 0]]
    return People(population, sex.astype(np.int8), haplotype, parents, kind)


@dataclass(frozen=True)
class Variants:
    """Positions and frequencies of the simulated variants."""

    chromosome: np.ndarray
    position: np.ndarray
    frequency: np.ndarray
    decay: np.ndarray
    distance: np.ndarray


def make_variants(model: GenotypeModel, rng: np.random.Generator) -> Variants:
    """Place variants, draw frequencies of the array-like spectrum, and set LD between neighbours.

    Minor allele frequencies mix a uniform part (what arrays are designed to) with a part
    proportional to 1/f (what sequencing finds), above 0.5 %.
    """
    lengths = np.array([CHROMOSOME_MB[c] for c in model.chromosomes], float)
    share = np.floor(model.n_variants * lengths / lengths.sum()).astype(int)
    share[: model.n_variants - share.sum()] += 1
    chromosome = np.repeat(np.array(model.chromosomes, object), share)
    position = np.concatenate(
        [
            np.sort(rng.choice(int(mb * 1e6) - 1, size=k, replace=False)) + 1
            for mb, k in zip(lengths, share, strict=True)
        ]
    )
    rare = np.exp(rng.uniform(np.log(0.005), np.log(0.5), model.n_variants))
    common = rng.uniform(0.05, 0.5, model.n_variants)
    frequency = np.where(rng.random(model.n_variants) < 0.35, rare, common)
    distance = np.diff(position, prepend=position[:1]).astype(float)
    first = np.concatenate([[True], chromosome[1:] != chromosome[:-1]])
    distance[first] = np.inf
    # one interval in ten is a hotspot that takes most of the recombination
    rate = np.where(rng.random(model.n_variants) < 0.1, 7.0, 1.0 / 3.0)
    decay = np.exp(-distance / (model.ld_length_kb * 1e3) * rate)
    return Variants(chromosome, position, frequency, decay, distance)


class HaplotypeSource:
    """Yields the dosages of a model, block by block along the genome.

    Attributes
    ----------
    people : People
        The cohort (first ``n_samples`` rows) and hidden parents.
    variants : Variants
        Positions and frequencies.
    """

    def __init__(self, model: GenotypeModel) -> None:
        self.model = model
        self.rng = np.random.default_rng(model.seed)
        self.people = make_people(model, self.rng)
        self.variants = make_variants(model, self.rng)
        self._process = np.zeros(self.people.n_founder_haplotypes, np.float32)
        self._phase = self.rng.integers(0, 2, (len(self.people.kind), 2))

    def blocks(self, block_size: int = 1000) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, dosages) with dosages (variants, samples) float32, NaN where missing."""
        for start in range(0, self.model.n_variants, block_size):
            rows = slice(start, min(start + block_size, self.model.n_variants))
            yield rows, self._dosages(rows)

    def _dosages(self, rows: slice) -> np.ndarray:
        alleles = self._founder_alleles(rows)
        both = self._haplotypes(alleles, rows)
        is_x = self.variants.chromosome[rows] == "X"
        males = self.people.sex == 1
        if is_x.any():
            both[1][np.ix_(is_x, males)] = both[0][np.ix_(is_x, males)]
        dosage = (both[0] + both[1])[:, : self.model.n_samples].astype(np.float32)
        if self.model.missing_rate:
            dosage[self.rng.random(dosage.shape, np.float32) < self.model.missing_rate] = np.nan
        return np.asarray(dosage)

    def _founder_alleles(self, rows: slice) -> np.ndarray:
        """Alleles (variants, founder haplotypes) of the thresholded process."""
        from scipy.special import ndtri

        decay = self.variants.decay[rows].astype(np.float32)
        frequency = self._frequencies(rows)
        threshold = ndtri(frequency).astype(np.float32)
        alleles = np.empty((len(decay), len(self._process)), np.int8)
        owner = self._owner_population()
        noise = self.rng.standard_normal(alleles.shape, np.float32)
        for j, rho in enumerate(decay):
            self._process = rho * self._process + np.sqrt(1 - rho * rho) * noise[j]
            alleles[j] = self._process < threshold[j, owner]
        return alleles

    def _frequencies(self, rows: slice) -> np.ndarray:
        """Frequencies (variants, populations), Balding and Nichols around the ancestral one."""
        p = self.variants.frequency[rows][:, None]
        if self.model.populations == 1:
            return np.asarray(p)
        spread = (1 - self.model.fst) / self.model.fst
        shape = (len(p), self.model.populations)
        drawn = self.rng.beta(np.broadcast_to(p * spread, shape), (1 - p) * spread)
        return np.clip(drawn, 1e-4, 1 - 1e-4)

    def _owner_population(self) -> np.ndarray:
        owner = np.zeros(len(self._process), np.intp)
        known = self.people.haplotype[:, 0] >= 0
        for side in range(2):
            owner[self.people.haplotype[known, side]] = self.people.population[known]
        return owner

    def _haplotypes(self, alleles: np.ndarray, rows: slice) -> np.ndarray:
        """Both haplotypes (2, variants, people); children recombine their parents'."""
        founders = np.maximum(self.people.haplotype, 0)
        both = np.stack([alleles[:, founders[:, 0]], alleles[:, founders[:, 1]]])
        for child in np.flatnonzero(self.people.parents[:, 0] >= 0):
            for side, parent in enumerate(self.people.parents[child]):
                is_father = bool(self.people.sex[parent] == 1)
                phase = self._crossovers(child, side, rows, is_father)
                both[side, :, child] = both[phase, np.arange(len(phase)), parent]
        return np.asarray(both)

    def _crossovers(self, child: int, side: int, rows: slice, from_father: bool) -> np.ndarray:
        """Which of the parent's haplotypes is passed on, variant by variant."""
        distance = self.variants.distance[rows]
        odds = np.where(
            np.isinf(distance), 0.5, 0.5 * (1 - np.exp(-2 * _CROSSOVERS_PER_BP * distance))
        )
        switch = self.rng.random(len(distance)) < odds
        phase = (self._phase[child, side] + np.cumsum(switch)) % 2
        self._phase[child, side] = phase[-1]
        if from_father:  # he has one X
            phase = np.where(self.variants.chromosome[rows] == "X", 0, phase)
        return np.asarray(phase)


def pack_dosages(dosage: np.ndarray) -> np.ndarray:
    """PLINK's two-bit codes of allele counts, four people to a byte."""
    missing = np.isnan(dosage)
    codes = np.array([3, 2, 0], np.uint8)[np.where(missing, 0, dosage).astype(np.intp)]
    codes[missing] = 1
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 4)))
    quads = codes.reshape(len(codes), -1, 4)
    packed = quads[..., 0] | quads[..., 1] << 2 | quads[..., 2] << 4 | quads[..., 3] << 6
    return np.asarray(packed, np.uint8)

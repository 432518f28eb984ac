"""Who the people are: genotypes, covariates, and what every region of everyone should be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.shapes import Float64
from imgwas.simulate.cohort import (
    ALLELES,
    sample_names,
    write_bed,
    write_bim,
    write_fam,
)
from imgwas.simulate.effects import (
    PlantedEffect,
    choose_variants,
    fill_amounts,
    realised_slopes,
    truth_table,
)
from imgwas.simulate.genotypes import GenotypeModel, HaplotypeSource
from imgwas.simulate.rendering import ImageModel
from imgwas.simulate.template import BrainTemplate

if TYPE_CHECKING:
    import pandas as pd

_SIDE = re.compile(r"(^|[_ .-])(left|right|l|r|lh|rh)(?=$|[_ .-])", re.IGNORECASE)
#: The age that has the template's brain.
MEAN_AGE = 62.5


@dataclass(frozen=True)
class Tables:
    """What is written beside the images."""

    covariates: pd.DataFrame
    volumes: pd.DataFrame
    truth: pd.DataFrame


@dataclass(frozen=True)
class Planting:
    """Genotypes and the plan of every image.

    Parameters
    ----------
    source : HaplotypeSource
    rows : (listed,) int array
        Variants of the truth, planted ones first.
    alleles : (variants, 2) array
    dosages : (listed, samples) float array
    genotypes : (variants, samples) array or None
    sample_ids : tuple of str
    effects, amounts
        What is planted, and how much per allele.
    regions : tuple of str
    spread : (regions,) float array
        Standard deviation of each region's own variation.
    log_volumes, intensities : (samples, regions) float array
        What every region of everyone should be, relative to the template.
    head, age, sex : (samples,) array
        Log of head size, years, and 1 for men and 2 for women.
    train_share : float
    """

    source: HaplotypeSource
    rows: np.ndarray
    alleles: np.ndarray
    dosages: Float64[np.ndarray, "listed samples"]
    genotypes: np.ndarray | None
    sample_ids: tuple[str, ...]
    effects: tuple[PlantedEffect, ...]
    amounts: Float64[np.ndarray, " effects"]
    regions: tuple[str, ...]
    spread: Float64[np.ndarray, " regions"]
    log_volumes: Float64[np.ndarray, "samples regions"]
    intensities: Float64[np.ndarray, "samples regions"]
    head: Float64[np.ndarray, " samples"]
    age: np.ndarray
    sex: np.ndarray
    train_share: float

    @property
    def train(self) -> tuple[str, ...]:
        """People to train an encoder on."""
        return self.sample_ids[: round(self.train_share * len(self.sample_ids))]

    @property
    def scan(self) -> tuple[str, ...]:
        """Everybody else."""
        return self.sample_ids[len(self.train) :]

    def finish(
        self, columns: Mapping[str, np.ndarray], measured: Float64[np.ndarray, "samples regions"]
    ) -> Tables:
        """Make the tables once everything has been measured.

        Parameters
        ----------
        columns : mapping of str to (samples,) array
            What ``volumes.tsv`` holds.
        measured : (samples, regions) float array
            What the effects act on: log-volumes, or the quantities of the heart.
        """
        import pandas as pd

        covariates = pd.DataFrame(
            {
                "IID": self.sample_ids,
                "age": self.age,
                "sex": self.sex.astype(int),
                "head_size": np.round(np.exp(self.head), 5),
            }
        )
        table = pd.DataFrame({"IID": self.sample_ids, **columns})
        quantities = self._quantities(measured)
        n = len(self.effects)
        nuisance = np.column_stack([self.age - MEAN_AGE, self.sex, self.head])
        slopes, errors = realised_slopes(quantities, self.dosages[:n], nuisance)
        spread = self.amounts**2 * self.dosages[:n].var(axis=1)
        explained = spread / np.maximum(quantities.var(axis=1), 1e-12)
        truth = truth_table(
            self.source.variants, self.rows, self.alleles, self.dosages, self.effects,
            self.amounts, slopes, errors, explained,
        )  # fmt: skip
        return Tables(covariates, table, truth)

    def _quantities(self, measured: np.ndarray) -> Float64[np.ndarray, "effects samples"]:
        """What each planted variant changes, of everyone."""
        rows = [self.regions.index(effect.region) for effect in self.effects]
        columns = [
            self.intensities[:, k] if effect.kind == "intensity" else measured[:, k]
            for effect, k in zip(self.effects, rows, strict=True)
        ]
        return np.array(columns).reshape(len(columns), len(measured))


@dataclass(frozen=True)
class People:
    """Genotypes, age and sex, before anything is planted; fields as in :class:`Planting`."""

    source: HaplotypeSource
    rows: np.ndarray
    alleles: np.ndarray
    dosages: Float64[np.ndarray, "listed samples"]
    genotypes: np.ndarray | None
    sample_ids: tuple[str, ...]
    age: np.ndarray
    sex: np.ndarray


def draw_people(
    n_listed: int,
    rng: np.random.Generator,
    *,
    n_samples: int,
    n_variants: int,
    seed: int,
    bed: Path | None = None,
    keep: bool = False,
    **genotypes: Any,
) -> People:
    """Draw genotypes, choose the variants that the truth will list, and write PLINK files.

    Parameters
    ----------
    n_listed : int
        Planted and null variants.
    rng : numpy Generator
    n_samples, n_variants, seed
        And further fields of :class:`GenotypeModel`.
    bed : Path, optional
        Folder for ``cohort.bed``, ``.bim`` and ``.fam``.
    keep : bool
        Keep all genotypes in memory.
    """
    check_range("the number of samples", n_samples, low=20)
    check_range("the number of variants", n_variants, low=22)
    source = HaplotypeSource(
        GenotypeModel(n_samples=n_samples, n_variants=n_variants, seed=seed, **genotypes)
    )
    rows = choose_variants(source.variants, n_listed, rng)
    alleles = ALLELES[np.random.default_rng([seed, 2]).integers(0, len(ALLELES), n_variants)]
    ids = tuple(sample_names(n_samples))
    if bed is not None:
        bed.mkdir(parents=True, exist_ok=True)
    dosages, everything = _genotypes(source, rows, bed, keep)
    if bed is not None:
        write_bim(bed / "cohort.bim", source, alleles)
        write_fam(bed / "cohort.fam", source, list(ids))
    age = np.round(rng.uniform(45, 80, n_samples), 1)
    sex = source.people.sex[:n_samples].astype(int)
    return People(source, rows, alleles, dosages, everything, ids, age, sex)


def plant(
    brain: BrainTemplate,
    effects: Sequence[PlantedEffect],
    model: ImageModel,
    *,
    n_null: int,
    variance_explained: float,
    train_share: float,
    seed: int,
    **people: Any,
) -> Planting:
    """Draw genotypes and covariates, and plan the regions of everyone.

    The log-volume of region k of person i, over the template's, is::

        3 h_i + a_k (age_i - 62.5) / 10 + s_k e_ik + sum_j beta_j (g_ij - mean g_j)

    with h the log of head size, a_k the change per decade, e_ik standard normal cut at 3, alike on
    both sides, and the last sum over the variants planted in k. Further options are those of
    :func:`draw_people`.
    """
    check_shares(n_null, variance_explained, train_share)
    rng = np.random.default_rng([seed, 13])
    drawn = draw_people(len(effects) + n_null, rng, seed=seed, **people)
    n_samples = len(drawn.sample_ids)
    head = model.head_sd * bounded_normal(rng, n_samples) + model.head_sex * (1.5 - drawn.sex)
    spread = model.spread(brain.regions)
    spreads = [
        float(spread[brain.regions.index(e.region)]) if e.kind == "volume" else model.intensity_sd
        for e in effects
    ]
    amounts = fill_amounts(effects, drawn.dosages, spreads, variance_explained, rng)
    decades = (drawn.age - MEAN_AGE) / 10
    volumes = 3 * head[:, None] + np.outer(decades, model.per_decade(brain.regions))
    volumes += spread * _variation(brain.regions, model, n_samples, rng)
    intensities = model.intensity_sd * bounded_normal(rng, volumes.shape)
    for effect, amount, dosage in zip(effects, amounts, drawn.dosages, strict=False):
        target = intensities if effect.kind == "intensity" else volumes
        target[:, brain.regions.index(effect.region)] += amount * (dosage - dosage.mean())
    return Planting(
        drawn.source, drawn.rows, drawn.alleles, drawn.dosages, drawn.genotypes, drawn.sample_ids,
        tuple(effects), amounts, brain.regions, spread, volumes, intensities, head, drawn.age,
        drawn.sex, train_share,
    )  # fmt: skip


def check_shares(n_null: int, variance_explained: float, train_share: float) -> None:
    """Refuse numbers out of range before anything is drawn."""
    check_range("the number of null variants", n_null, low=0)
    check_range("the variance explained", variance_explained, low=0, high=0.9)
    check_range("the share of people for training", train_share, low=0, high=1)


def _genotypes(
    source: HaplotypeSource, rows: np.ndarray, bed: Path | None, keep: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Dosages of the listed variants, in their order; all, or a PLINK file, if asked for."""
    order = np.argsort(rows)
    if bed is not None:
        found = write_bed(bed / "cohort.bed", source, rows[order], None)
        return found[np.argsort(order)], None
    blocks, found = [], np.empty((len(rows), source.model.n_samples))
    for span, dosage in source.blocks():
        inside = (rows >= span.start) & (rows < span.stop)
        found[inside] = dosage[rows[inside] - span.start]
        if keep:
            blocks.append(dosage)
    mean = np.nanmean(found, axis=1, keepdims=True)
    found = np.where(np.isnan(found), mean, found)
    return found, np.concatenate(blocks) if keep else None


def bounded_normal(rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, cut at 3 so that every warp is possible."""
    return np.asarray(np.clip(rng.standard_normal(shape), -3, 3))


def _variation(
    regions: tuple[str, ...], model: ImageModel, n: int, rng: np.random.Generator
) -> Float64[np.ndarray, "samples regions"]:
    """Standard normal variation that both sides of a structure share in part."""
    plain = [_SIDE.sub("", name).lower() for name in regions]
    pair = np.unique(plain, return_inverse=True)[1]
    whole, sides = model.brain_correlation, model.side_correlation
    shared = max(0.0, sides - whole)
    own = max(0.0, 1 - whole - shared)
    drawn = (
        np.sqrt(whole) * rng.standard_normal((n, 1))
        + np.sqrt(shared) * rng.standard_normal((n, pair.max() + 1))[:, pair]
        + np.sqrt(own) * rng.standard_normal((n, len(regions)))
    )
    return np.asarray(np.clip(drawn, -3, 3))

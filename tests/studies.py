"""Studies with known inputs for whole scans: real genotypes, planted traits, honest oracles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import imgwas
from imgwas.types import Covariates, Latents, PackedGenotypes
from tests.oracles import Fit, mean_imputed, ols

#: every PLINK bed set among the public data
BED_SETS = {
    "hapmap3": "hapmap3/hapmap3.bed",
    "plinkqc": "plinkqc/data.bed",
    "regenie": "regenie_example/example.bed",
    "regenie_3chr": "regenie_example/example_3chr.bed",
    "regenie_masks": "regenie_example/example_3chr_masks.bed",
    "maize": "maize/maize.bed",
    "wheat": "wheat/wheat.bed",
}


@dataclass(frozen=True)
class Study:
    """A cohort in memory: what goes into a scan and what an oracle needs."""

    genotypes: PackedGenotypes
    dosage: np.ndarray
    latents: Latents
    covariates: Covariates
    #: variants of which one covariate alone explains a third and more
    confounded: np.ndarray

    @property
    def chromosome(self) -> list[str]:
        """Chromosome of each variant."""
        return self.genotypes.variants.column("chromosome").to_pylist()

    def only(self, *names: str) -> Study:
        """The same study with some of its latents."""
        columns = [self.latents.names.index(name) for name in names]
        some = replace(self.latents, values=self.latents.values[:, columns], names=names)
        return replace(self, latents=some)

    def fit(self, variant: int, latent: int, *, missing: str = "mean") -> Fit:
        """What statsmodels says of one pair, X and Y coded as documented."""
        trait = self.latents.values[:, latent]
        # the intercept takes the mean; an offset of a million would cost the oracle six digits
        trait = trait - np.nanmean(trait)
        covariates = self.covariates.values
        sex = self.genotypes.samples.sex
        people = np.isfinite(trait) & np.isfinite(covariates).all(axis=1)
        if self.chromosome[variant] == "X":
            people &= sex > 0
            covariates = np.column_stack([covariates, sex == 1])
        elif self.chromosome[variant] == "Y":
            people &= sex == 1
        dosage = self.dosage[variant]
        if missing == "mean":
            dosage = mean_imputed(dosage, people)
        return ols(np.where(people, trait, np.nan), dosage, covariates)

    def scan(self, out: Path, **options: object) -> imgwas.SumStats:
        """Run the public function on it."""
        return imgwas.associate(self.genotypes, self.latents, self.covariates, out=out, **options)


def study_of(bed: Path, *, seed: int = 0, missing_traits: float = 0.1) -> Study:
    """Build latents and covariates on a real bed file.

    The first covariates are the leading principal components of the genotypes themselves, the last
    two are a variant and noise, so that they explain much of some variants. Latent 0 is noise,
    latent 1 moves with one variant and the covariates, latent 2 is almost one variant (huge t),
    latent 3 has missing values and an offset of a million, latent 4 is missing on other people.
    """
    genotypes = imgwas.open_genotypes(bed)
    dosage = genotypes.read_dosages(np.arange(genotypes.n_variants)).astype(np.float64)
    rng = np.random.default_rng(seed)
    confounded = rng.permutation(np.flatnonzero(np.nanstd(dosage, axis=1) > 0.3))[:2]
    covariates = _covariates(dosage, confounded, rng)
    latents = _latents(dosage, covariates, missing_traits, rng)
    ids = genotypes.samples.sample_ids
    families = genotypes.samples.family_ids if len(set(ids)) < len(ids) else None
    names = tuple(f"z{i:03d}" for i in range(latents.shape[1]))
    return Study(
        genotypes=genotypes,
        dosage=dosage,
        latents=Latents(latents, ids, names, family_ids=families),
        covariates=Covariates(
            covariates,
            ids,
            tuple(f"c{i}" for i in range(covariates.shape[1])),
            family_ids=families,
        ),
        confounded=confounded,
    )


def _covariates(dosage: np.ndarray, confounded: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    filled = np.nan_to_num(dosage - np.nanmean(dosage, axis=1, keepdims=True))
    components = np.linalg.svd(filled, full_matrices=False)[2][:3].T
    components = components * np.sqrt(len(components))
    variants = filled[confounded].T
    variants = variants + 0.8 * variants.std(axis=0) * rng.standard_normal(variants.shape)
    return np.column_stack([components, rng.normal(60, 8, len(components)), variants])


def _latents(
    dosage: np.ndarray, covariates: np.ndarray, missing: float, rng: np.random.Generator
) -> np.ndarray:
    n = dosage.shape[1]
    # planted where covariates explain little, so that t can become huge
    causal = most_informative(dosage, covariates)
    latents = rng.standard_normal((n, 5))
    latents[:, 1] += 0.3 * causal + covariates[:, 0] + covariates[:, -1]
    latents[:, 2] = causal + 0.2 * rng.standard_normal(n)
    latents[:, 3] += 0.2 * causal + 1e6
    latents[rng.random(n) < missing, 3] = np.nan
    latents[rng.random(n) < missing / 2, 4] = np.nan
    return latents


def most_informative(dosage: np.ndarray, covariates: np.ndarray) -> np.ndarray:
    """The variant with most variance left by the covariates, missing calls at the mean."""
    filled = np.where(np.isnan(dosage), np.nanmean(dosage, axis=1, keepdims=True), dosage)
    model = np.column_stack([np.ones(len(covariates)), covariates])
    basis = np.linalg.qr(model)[0]
    left = filled - (filled @ basis) @ basis.T
    return filled[np.square(left).sum(axis=1).argmax()]


def table_of(results: imgwas.SumStats, name: str) -> pd.DataFrame:
    """One latent's table with its t statistic."""
    frame = results.latent(name)
    frame["t"] = frame["beta"] / frame["standard_error"]
    return frame

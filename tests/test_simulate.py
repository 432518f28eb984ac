"""The simulator against what it promises: LD, structure, relatives, effects, gaps, truth."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import UsageError
from tests.cli_cohort import imgwas as command_line
from tests.oracles import ols


def dosages_of(cohort) -> np.ndarray:
    genotypes = imgwas.open_genotypes(cohort.bfile)
    return genotypes.read_dosages(np.arange(genotypes.n_variants)).astype(float)


def test_ld_falls_with_distance_and_frequencies_look_real(tmp_path):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=1500, n_variants=3000, chromosomes=("20",), n_causal=0, seed=1
    )
    dosage = dosages_of(cohort)
    position = pd.read_csv(f"{cohort.bfile}.bim", sep="\t", header=None)[3].to_numpy()
    frequency = dosage.mean(axis=1) / 2
    maf = np.minimum(frequency, 1 - frequency)
    assert (np.diff(position) > 0).all()
    assert 0.1 < (maf < 0.05).mean() < 0.7
    common = np.flatnonzero(maf > 0.05)
    r2 = np.corrcoef(dosage[common]) ** 2
    distance = np.abs(np.subtract.outer(position[common], position[common])) / 1e3
    upper = np.triu(np.ones_like(r2, bool), 1)
    mean_r2 = [
        r2[upper & (distance >= low) & (distance < high)].mean()
        for low, high in ((0, 30), (30, 100), (100, 300), (2000, 1e9))
    ]
    assert mean_r2[0] > 0.15
    assert mean_r2 == sorted(mean_r2, reverse=True)
    assert mean_r2[-1] < 2 / 1500 + 0.002


def test_populations_differ_by_the_fst_that_was_asked(tmp_path):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=2000, n_variants=3000, n_causal=0, populations=2, fst=0.1,
        ld_length_kb=0.1, seed=2,
    )  # fmt: skip
    dosage = dosages_of(cohort)
    ancestry = pd.read_csv(cohort.covariates, sep="\t")["ancestry_1"].to_numpy()
    first = ancestry < np.median(ancestry)
    a, b = dosage[:, first].mean(axis=1) / 2, dosage[:, ~first].mean(axis=1) / 2
    # Hudson's estimator, ratio of sums, corrected for the sizes of the samples
    n_a, n_b = 2 * first.sum(), 2 * (~first).sum()
    between = (a - b) ** 2 - a * (1 - a) / (n_a - 1) - b * (1 - b) / (n_b - 1)
    within = a * (1 - b) + b * (1 - a)
    assert between.sum() / within.sum() == pytest.approx(0.1, abs=0.02)


def kinship(dosage: np.ndarray) -> np.ndarray:
    """Kinship of every pair from genotypes standardised by their frequencies."""
    frequency = dosage.mean(axis=1, keepdims=True) / 2
    keep = ((frequency > 0.05) & (frequency < 0.95))[:, 0]
    z = (dosage[keep] - 2 * frequency[keep]) / np.sqrt(2 * frequency[keep] * (1 - frequency[keep]))
    return z.T @ z / len(z) / 2


def test_relatives_share_what_relatives_share(tmp_path):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=300, n_variants=8000, n_causal=0, sib_pairs=20, trios=15,
        duplicates=5, seed=3,
    )  # fmt: skip
    pairs = kinship(dosages_of(cohort))[np.triu_indices(300, 1)]
    assert (pairs > 0.4).sum() == 5
    # twenty pairs of siblings, and a child with each of two parents fifteen times
    assert ((pairs > 0.18) & (pairs < 0.35)).sum() == 20 + 30
    assert np.abs(np.median(pairs)) < 0.01
    fam = pd.read_csv(f"{cohort.bfile}.fam", sep=r"\s+", header=None)
    assert (fam[2] != "0").sum() >= 15


def test_planted_effects_are_found_where_the_truth_says(tmp_path):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=3000, n_variants=2000, n_latents=6, n_causal=6,
        variance_explained=0.02, seed=4,
    )  # fmt: skip
    truth = cohort.truth
    assert list(pd.read_csv(tmp_path / "truth.tsv", sep="\t")["variant_id"]) == list(
        truth["variant_id"]
    )
    genotypes = imgwas.open_genotypes(cohort.bfile)
    latents = imgwas.read_latents(cohort.latents)
    covariates = imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"])
    results = imgwas.associate(genotypes, latents, covariates, out=tmp_path / "out")
    names = genotypes.variants["variant_id"].to_pylist()
    deviations = []
    for effect in truth.itertuples():
        row = results.latent(effect.latent).iloc[names.index(effect.variant_id)]
        assert row["effect_allele"] == effect.effect_allele
        assert row["effect_allele_frequency"] == pytest.approx(effect.effect_allele_frequency)
        deviations.append((row["beta"] - effect.beta) / row["standard_error"])
    assert np.max(np.abs(deviations)) < 3.5
    assert truth["variance_explained"].to_numpy() == pytest.approx(0.02, rel=1e-6)


@pytest.mark.parametrize("r2", [0.3, 0.6])
def test_a_covariate_follows_genotypes_as_much_as_asked(tmp_path, r2):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=4000, n_variants=300, n_latents=2, covariate_r2=r2, seed=5
    )
    genotypes = imgwas.open_genotypes(cohort.bfile)
    names = genotypes.variants["variant_id"].to_pylist()
    row = names.index(cohort.truth["variant_id"][0])
    score = pd.read_csv(cohort.covariates, sep="\t")["batch_score"]
    fit = ols(score.to_numpy(), genotypes.read_dosages(np.array([row]))[0], np.empty((4000, 0)))
    assert fit.t**2 / (fit.t**2 + fit.dof) == pytest.approx(r2, abs=0.04)


def test_missing_calls_and_latents_at_the_rates_asked(tmp_path):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=1001, n_variants=500, n_latents=8, missing_rate=0.03,
        missing_latents=0.1, seed=6,
    )  # fmt: skip
    assert np.isnan(dosages_of(cohort)).mean() == pytest.approx(0.03, abs=0.002)
    values = imgwas.read_latents(cohort.latents).values
    gaps = np.isnan(values)
    assert gaps.mean() == pytest.approx(0.1, abs=0.03)
    assert (gaps[:, :4] == gaps[:, :1]).all(), "half of the latents miss the same people"
    assert len({column.tobytes() for column in gaps.T}) == 5


def test_males_carry_one_x(tmp_path):
    cohort = imgwas.simulate_cohort(
        tmp_path, n_samples=200, n_variants=400, chromosomes=("1", "X"), n_causal=0, seed=7
    )
    genotypes = imgwas.open_genotypes(cohort.bfile)
    on_x = np.array(genotypes.variants["chromosome"].to_pylist()) == "X"
    dosage = dosages_of(cohort)[on_x]
    assert on_x.sum() > 50
    assert set(np.unique(dosage[:, genotypes.samples.sex == 1])) <= {0.0, 2.0}
    assert (dosage[:, genotypes.samples.sex == 2] == 1).any()


def test_the_seed_decides_every_byte(tmp_path):
    def digest(name, seed):
        imgwas.simulate_cohort(tmp_path / name, n_samples=50, n_variants=200, seed=seed)
        files = sorted((tmp_path / name).glob("*"))
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    assert digest("a", 1) == digest("b", 1)
    assert digest("c", 2)[:1] != digest("a", 1)[:1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 1}, "number of samples is 1"),
        ({"n_variants": 0}, "number of variants is 0"),
        ({"fst": 1.5}, "Fst is 1.5"),
        ({"missing_rate": -0.1}, "missing calls is -0.1"),
        ({"variance_explained": 1.2}, "variance explained is 1.2"),
        ({"n_causal": 10**7}, "number of causal variants is"),
        ({"sib_pairs": 10**6}, "2,000,000 related people"),
        ({"chromosomes": ("77",)}, "chromosome '77' cannot be simulated"),
    ],
)
def test_impossible_cohorts_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        imgwas.simulate_cohort(tmp_path, **options)
    assert not (tmp_path / "cohort.bed").exists()


def test_simulate_then_associate_on_the_command_line(tmp_path):
    done = command_line(
        *("simulate", "c", "--samples", 80, "--variants", 300, "--latents", 3),
        folder=tmp_path,
    )
    assert done.code == 0, done.text
    done = command_line(
        *("associate", "--bfile", "c/cohort", "--latents", "c/latents.parquet"),
        *("--covar", "c/covariates.tsv", "--out", "r"),
        folder=tmp_path,
    )
    assert done.code == 0, done.text

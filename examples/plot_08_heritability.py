"""
Heritability
============

How much of each latent common variants explain together, and which latents share their genes.
"""

# %%
# A study whose truth is known
# ----------------------------
#
# Two thousand people, four thousand variants, twelve latents. Latents 0 to 5 and 6 to 11 form two
# families: effects of variants are shared within a family and opposite between the last two of
# each. Heritability rises from nothing to 0.6.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa

import imgwas
from imgwas import Covariates, Latents
from imgwas.association import build_design
from imgwas.genotypes import ArrayGenotypes
from imgwas.types import VARIANT_SCHEMA, Samples

rng = np.random.default_rng(8)
n, m, k = 2000, 4000, 12
frequency = rng.uniform(0.05, 0.5, m)
dosage = rng.binomial(2, frequency[:, None], (m, n)).astype(np.float32)
copied = np.arange(1, m, 2)
same = rng.random((len(copied), n)) < 0.8
dosage[copied] = np.where(same, dosage[copied - 1], dosage[copied])

names = [f"L{i:02d}" for i in range(k)]
planted = np.tile(np.linspace(0, 0.6, 6), 2)
family = np.repeat([0, 1], 6)
loading = 0.85 * np.where(np.arange(k) % 6 == 5, -1, 1)
factors = rng.standard_normal((m, 2))[:, family] * loading
effects = factors + np.sqrt(1 - 0.85**2) * rng.standard_normal((m, k))
standard = (dosage - dosage.mean(axis=1, keepdims=True)) / dosage.std(axis=1, keepdims=True)
age = rng.normal(60, 8, n)
noise = rng.standard_normal((n, k)) * np.sqrt(1 - planted)
values = standard.T @ (effects * np.sqrt(planted / m)) + noise + 0.02 * age[:, None]

ids = tuple(f"person{i:04d}" for i in range(n))
variants = pa.table(
    [
        pa.array(["1"] * m), pa.array(np.arange(m) * 3000 + 1),
        pa.array([f"rs{j}" for j in range(m)]),
        pa.array(["A"] * m), pa.array(["G"] * m),
    ],
    schema=VARIANT_SCHEMA,
)  # fmt: skip
people = Samples(ids, ("0",) * n, np.zeros(n, np.int8), np.ones(n, bool))
genotypes = ArrayGenotypes(dosage, variants, people)
latents = Latents(values, ids, tuple(names))
covariates = Covariates(age[:, None], ids, ("age",))

# %%
# Scan, then heritability
# -----------------------
#
# ``imgwas heritability results/`` does the second step on the command line. It reads the statistics
# of the scan and multiplies the genotypes with a few random vectors.

with tempfile.TemporaryDirectory() as folder:
    results = imgwas.associate(genotypes, latents, covariates, out=f"{folder}/results")
    design = build_design(genotypes.samples, latents, covariates)
    found = imgwas.estimate_heritability(genotypes, design, sumstats=results)

print(found.table().round(3).to_string(index=False))

# %%
# Bars are two standard errors; ticks are what was planted.

_, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
place = np.arange(k)
ax.bar(place, found.heritability, color="#7a9cc6", width=0.7)
ax.errorbar(place, found.heritability, 2 * found.heritability_error, fmt="none", color="0.2", lw=1)
ax.plot(place, planted, "_", color="#c44", ms=14, mew=2, label="planted")
ax.axhline(0, color="0.2", lw=0.8)
ax.set(xticks=place, xticklabels=names, ylabel="heritability")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="upper left")

# %%
# Genetic correlations
# --------------------
#
# Cells are empty where a heritability is within two standard errors of zero: a ratio of two numbers
# near zero says nothing. L05 and L11 have the opposite sign of their family, as planted.

_, ax = plt.subplots(figsize=(4.6, 4), layout="constrained")
image = ax.imshow(found.correlation, cmap="RdBu_r", vmin=-1, vmax=1)
ax.set(xticks=place, xticklabels=names, yticks=place, yticklabels=names)
ax.tick_params(axis="x", rotation=90)
ax.figure.colorbar(image, ax=ax, label="genetic correlation", shrink=0.8)
ax.set_facecolor("0.88")

# %%
# Two other ways
# --------------
#
# Restricted maximum likelihood is more precise and needs a matrix of people by people. LD score
# regression needs statistics and LD scores only; with so few variants its errors are large.

greml = imgwas.estimate_greml(genotypes, design)
print("mean error, HE:   ", found.heritability_error.mean().round(3))
print("mean error, GREML:", greml["standard_error"].mean().round(3))
_, ax = plt.subplots(figsize=(3.2, 3), layout="constrained")
ax.axline((0, 0), slope=1, color="0.7", lw=1)
ax.plot(greml["heritability"], found.heritability, "o", ms=4)
ax.set(xlabel="GREML", ylabel="Haseman–Elston", aspect="equal")
ax.spines[["top", "right"]].set_visible(False)

"""
Is the scan calibrated?
=======================

A QQ plot of latents that no variant affects, with genomic control. The cohort has two populations
and a covariate that is correlated with genotypes, so a scan without covariates would go wrong: the
second plot shows it.
"""

# %%
# No effect is planted
# --------------------

import tempfile

import matplotlib.pyplot as plt

import imgwas
from imgwas.plots import qq_many

folder = tempfile.mkdtemp()
cohort = imgwas.simulate_cohort(
    folder,
    n_samples=1500,
    n_variants=8000,
    n_latents=4,
    n_causal=0,
    populations=2,
    fst=0.05,
    seed=2,
)
genotypes = imgwas.open_genotypes(cohort.bfile)
latents = imgwas.read_latents(cohort.latents)
covariates = imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"])

# %%
# With the covariates
# -------------------
#
# Points follow the diagonal, and the median test statistic is near its expectation.

results = imgwas.associate(genotypes, latents, covariates, out=f"{folder}/with")
_, ax = plt.subplots(figsize=(4, 4), layout="constrained")
ax = qq_many({name: results.neg_log10_p(name) for name in results.latents}, ax=ax)

# %%
# Without them
# ------------
#
# Some latents follow ancestry, and so do allele frequencies: these latents seem to be associated
# with the whole genome.

results = imgwas.associate(genotypes, latents, out=f"{folder}/without")
_, ax = plt.subplots(figsize=(4, 4), layout="constrained")
ax = qq_many({name: results.neg_log10_p(name) for name in results.latents}, ax=ax)
results.lambda_gc()

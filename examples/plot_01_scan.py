"""
A scan from files to a Manhattan plot
=====================================

Simulate a small cohort, test every variant against every latent, and draw the best latent at each
variant. With real data the first step falls away: name your own files instead.
"""

# %%
# A cohort with known truth
# -------------------------
#
# The folder has what a real cohort has: ``cohort.bed``, ``.bim`` and ``.fam``, a table of latents
# and one of covariates. Ids have leading zeros and rows come in different orders on purpose.

import tempfile

import matplotlib.pyplot as plt

import imgwas
from imgwas.plots import aggregated_manhattan

folder = tempfile.mkdtemp()
cohort = imgwas.simulate_cohort(
    folder,
    n_samples=1500,
    n_variants=8000,
    n_latents=8,
    n_causal=6,
    variance_explained=0.03,
    messy_ids=True,
    seed=1,
)
cohort.truth[["variant_id", "effect_allele", "latent", "beta"]]

# %%
# The scan
# --------
#
# People are matched by id. The result stays on disk; ``results`` opens it.

results = imgwas.associate(
    imgwas.open_genotypes(cohort.bfile),
    imgwas.read_latents(cohort.latents),
    imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"]),
    out=f"{folder}/results",
)
results.samples

# %%
# What was found
# --------------
#
# Every planted effect should be among the strongest rows, with the planted sign.

results.top()[["latent", "variant_id", "effect_allele", "beta", "neg_log_10_p_value"]].head(8)

# %%
# The dashed line is 5e-8 divided by the number of latents.

_, ax = plt.subplots(figsize=(8, 3), layout="constrained")
ax = aggregated_manhattan(results.best_latent(), n_latents=len(results.latents), ax=ax)

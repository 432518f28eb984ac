"""
From images to loci
===================

Brains whose regions grow with a person's genes, an encoder that has never heard of regions or
genes, and a scan of its latents that finds the planted variants.
"""

# %%
# Brains with a truth
# -------------------
#
# A cohort with seven planted effects, one per trait; the traits become the volumes of seven brain
# regions. In your study this is a folder that ``imgwas preprocess`` wrote:
# ``images = imgwas.open_images("prepared/")``.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import imgwas
from imgwas.encoders.reconstruction import reconstruct_images
from imgwas.images.volumes import SubsetImages
from imgwas.plots import aggregated_manhattan, learning_curve, reconstruction_sheet

folder = Path(tempfile.mkdtemp())
cohort = imgwas.simulate_cohort(
    folder / "cohort", n_samples=900, n_variants=4000, n_latents=7, n_causal=7,
    variance_explained=0.15, seed=4,
)  # fmt: skip
volumes = imgwas.read_latents(cohort.latents)
factors = (volumes.values - volumes.values.mean(axis=0)) / volumes.values.std(axis=0)
brains = imgwas.simulate_brains(900, grid=(16, 18, 16), factors=factors, noise=0.02, seed=4)
images = imgwas.ArrayImages(brains.values, volumes.sample_ids, brains.affine)

# %%
# Train on some, scan the others
# ------------------------------
#
# The first 200 people train; they will not be scanned, because their latents were fitted and not
# measured. Principal components are the baseline that every network is compared with, and they
# take a second; UDIP's autoencoder gets three passes here and would get a hundred in earnest.
# ``fit`` can be stopped and called again: it goes on as if nothing had happened.

learners = SubsetImages(images, range(200))
settings = {"latents": 12, "mask": "nonzero", "background": "zero"}
baseline = imgwas.fit("pca", learners, out=folder / "pca", settings=settings)
udip = imgwas.fit(
    "udip", learners, out=folder / "udip", settings=settings | {"levels": 2, "width": 4},
    train={"epochs": 4, "batch": 10, "learning_rate": 4e-3, "ema": 0.9}, device="cpu",
)  # fmt: skip
_, ax = plt.subplots(figsize=(4.2, 2.8), layout="constrained")
learning_curve(udip.history, baseline=baseline.history[0]["validation_loss"], ax=ax)
plt.show()

# %%
# What twelve numbers carry
# -------------------------
#
# Two people whom the encoder has never seen. Outside the brain the loss does not look, so nothing
# is drawn there.

others = SubsetImages(images, range(200, 900))
figure = plt.figure(figsize=(7.2, 2.3), layout="constrained")
reconstruction_sheet(reconstruct_images(others, baseline.encoder, [0, 1]), figure=figure)
plt.show()

# %%
# A linear probe on half of the others, judged on the other half, says how much of each region's
# volume the latents know.

imgwas.encode_images(
    others, baseline.encoder, folder / "latents.parquet", digest=baseline.digest,
    people_seen=learners.sample_ids,
)  # fmt: skip
latents = imgwas.read_latents(folder / "latents.parquet")
truth = factors[200:]
design = np.column_stack([np.ones(700), latents.values])
weights, *_ = np.linalg.lstsq(design[:350], truth[:350], rcond=None)
missed = ((truth[350:] - design[350:] @ weights) ** 2).sum(axis=0)
r2 = 1 - missed / ((truth[350:] - truth[350:].mean(axis=0)) ** 2).sum(axis=0)
for region, value in zip(brains.regions, r2, strict=True):
    print(f"{region:18} R2 {value:.2f}")

# %%
# The scan
# --------
#
# The table of latents carries the ledger of the people who trained the encoder; a scan that met
# one of them would refuse.

results = imgwas.associate(
    imgwas.open_genotypes(cohort.bfile),
    latents,
    imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"]),
    out=folder / "results",
)
_, ax = plt.subplots(figsize=(8, 3), layout="constrained")
aggregated_manhattan(results.best_latent(), n_latents=len(results.latents), labels=8, ax=ax)
plt.show()

# %%
# Nobody told the encoder about regions: its latents are mixtures of them, and each locus shows in
# the latents that its region is part of.

top = results.top()
found = top[top["variant_id"].isin(cohort.truth["variant_id"])]
print(f"{found['variant_id'].nunique()} of {len(cohort.truth)} planted variants pass 5e-8")

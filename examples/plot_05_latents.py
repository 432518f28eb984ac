"""
What latents hold
=================

Latents are looked at before they are scanned: how many there really are, what nuisance explains,
which come back from another training seed and at another visit, and whether they know more than
guessing does.
"""

# %%
# Three training seeds
# --------------------
#
# Six factors of the brain, and age and head size, mixed anew by every "network". Each seed adds
# latents of its own that no other has.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from imgwas import Covariates, Latents
from imgwas.consensus import compare_seeds
from imgwas.latents import (
    eigen_spectrum,
    latent_correlation,
    variance_explained,
    visit_reliability,
)
from imgwas.plots import agreement, components, latents, prediction
from imgwas.prediction import Target, bin_target, predict_targets

rng = np.random.default_rng(2)
n = 1500
ids = tuple(f"person{i:04d}" for i in range(n))
age = rng.normal(62, 8, n)
sex = rng.integers(0, 2, n).astype(float)
head_size = 0.8 * sex + rng.standard_normal(n)
brain = np.column_stack([rng.standard_normal((n, 6)), (age - 62) / 8, head_size])


def encode(seed, visit=0):
    """Sixteen latents: eight that follow the brain, four mixtures, four of this seed alone."""
    network, scanner = np.random.default_rng(seed), np.random.default_rng([seed, visit])
    mixing = np.column_stack([np.eye(8), network.standard_normal((8, 4)) / 2])
    own = np.random.default_rng([seed, 99]).standard_normal((n, 4))
    values = np.column_stack([brain @ mixing, own])
    values += network.uniform(0.1, 0.6, 16) * scanner.standard_normal(values.shape)
    values *= network.choice([-1, 1], 16)
    return Latents(values, ids, tuple(f"z{k:02d}" for k in range(16)))


def choose(table, columns, people=n):
    """Some of the latents of the first people."""
    frame = pd.DataFrame(table.values, ids, list(table.names)).iloc[:people, columns]
    return Latents(frame.to_numpy(), ids[:people], tuple(frame.columns))


seeds = {f"seed {number}": encode(number) for number in (1, 2, 3)}
first = seeds["seed 1"]

# %%
# How many latents there are
# --------------------------
#
# Groups of latents that say the same stand together. The effective number sets the study-wide
# threshold.

names = list(first.names)
correlation = pd.DataFrame(latent_correlation(first), index=names, columns=names)
_, ax = plt.subplots(figsize=(4.6, 4), layout="constrained")
ax = latents.correlation_heatmap(correlation, cluster=True, ax=ax)

# %%

_, ax = plt.subplots(figsize=(4.2, 2.8), layout="constrained")
ax = latents.spectrum(eigen_spectrum(first), ax=ax)

# %%
# What nuisance explains
# ----------------------

covariates = Covariates(
    np.column_stack([age, sex, head_size]), ids, ("age", "sex", "head_size"),
)  # fmt: skip
nuisance = variance_explained(first, covariates)
_, ax = plt.subplots(figsize=(7, 1.8), layout="constrained")
ax = latents.nuisance_heatmap(nuisance, ax=ax)

# %%
# Two latents, coloured by age. A cell is the mean of five people or more; nobody can be
# told from it.

_, ax = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
ax = components.component_scatter(choose(first, [6, 7]), age, label="age", ax=ax)

# %%
# Which come back
# ---------------
#
# Latents z00 to z07 follow the same factors in every seed, whatever their sign and order; z12 to
# z15 do not.

report = compare_seeds(seeds, n_components=10)
again = report.matches.groupby("latent")["is_reproduced"].sum()
print(report)
print("reproduced in all seeds:", ", ".join(again.index[again == 3]))
print("agreement of shared components:", report.shared.agreement.round(2))
print("the same on held-out people, as r:", report.r_held_out.round(2))

# %%

_, ax = plt.subplots(figsize=(3.2, 2.6), layout="constrained")
ax = agreement.agreement_matrix(report.matrix("cka_debiased"), label="debiased CKA", ax=ax)

# %%
# And at another visit, by the same network. Not everybody came.

second = choose(encode(1, visit=1), slice(None), people=600)
_, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax = agreement.reliability_dots(visit_reliability([first, second]), ax=ax)

# %%
# Whether they know more than guessing does
# -----------------------------------------
#
# The black tick is chance: the share of the largest class.

years = Target("age", age, ids)
targets = [Target("sex", sex, ids, classes=("female", "male")), bin_target(years, [55, 65, 75])]
alone = choose(first, range(12, 16))
table = predict_targets(
    {"all latents": first, "z12 to z15": alone}, targets,
    models=["linear", "neighbours", "tree"], n_folds=3,
)  # fmt: skip
_, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
ax = prediction.prediction_bars(table, ax=ax)

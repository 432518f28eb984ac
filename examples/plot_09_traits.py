"""
Latents, diseases and scores
============================

Which traits of people go with a latent: cases in a window around imaging, follow-up with
everybody's own censoring, many tests at once, and whether acting on a prediction is worth it.
"""

# %%
# People, dates and records
# -------------------------
#
# Eight latents. The first makes a disease of the heart more likely, the second one of the brain;
# age drives both, and the latents.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from imgwas import Covariates, Latents, associate_traits, define_cases, follow_up
from imgwas.plots import calibration_plot, decision_curves, forest, survival_curves, volcano
from imgwas.traits import (
    Dates,
    Diagnoses,
    calibration_curve,
    decision_curve,
    delong_test,
    fit_logistic,
    kaplan_meier,
    roc_areas,
)

rng = np.random.default_rng(4)
n = 6000
ids = tuple(f"person{i:04d}" for i in range(n))
age = rng.normal(64, 7, n)
z = rng.standard_normal((n, 8)) + 0.3 * (age[:, None] - 64) / 7
latents = Latents(z, ids, tuple(f"z{k}" for k in range(8)))
covariates = Covariates(age[:, None], ids, ("age",))

imaged = np.datetime64("2016-01-01", "D").astype(int) + rng.integers(0, 700, n)
codes = ("I48", "F03", "J45")  # atrial fibrillation, dementia, asthma
risk = np.stack([0.35 * z[:, 0], 0.6 * z[:, 1], np.zeros(n)], axis=1) + 0.05 * (age[:, None] - 64)
years = rng.exponential(np.array([25, 60, 30]) * np.exp(-risk)) - 6  # after imaging; before is <0
person, code = np.nonzero(years < 8)
days = (imaged[person] + 365.25 * years[person, code]).astype(np.int64)
records = Diagnoses(ids, codes, person.astype(np.int64), code.astype(np.int64), days)
definitions = {"atrial fibrillation": ["I48*"], "dementia": ["F03"], "asthma": ["J45"]}

# %%
# Cases and controls, and follow-up
# ---------------------------------
#
# A case was diagnosed at most five years before imaging and one year after it. Who was diagnosed
# outside that window is neither case nor control.

scans = Dates(ids, imaged.astype(float))
cases = define_cases(records, definitions, scans)
followed = follow_up(records, definitions, scans, end="2023-06-30", min_cases=100)
for trait in cases:
    print(trait, dict(trait.counts))

# %%
# Every latent against every disease
# ----------------------------------

table = associate_traits(latents, cases, covariates, n_permutations=200)
_, ax = plt.subplots(figsize=(3.6, 3), layout="constrained")
ax = volcano(table, ax=ax)

# %%
# The same diseases by logistic regression and, in people who did not have them yet, by Cox's model.

hazards = associate_traits(latents, followed, covariates)
both = np.concatenate([[True] * len(table), [False] * len(hazards)])
together = pd.concat([table, hazards], ignore_index=True)
together["model"] = np.where(both, "cases, odds ratio", "follow-up, hazard ratio")
chosen = together[together["latent"].isin(["z0", "z1"])]
chosen = chosen.assign(pair=chosen["trait"] + ", " + chosen["latent"])
_, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
ax = forest(chosen, label="pair", group="model", ax=ax)

# %%
# Survival by thirds of a latent.

trait = followed[0]
event, time = np.asarray(trait.values), np.asarray(trait.time)
used = np.isfinite(event)
third = np.digitize(z[used, 0], np.quantile(z[used, 0], [1 / 3, 2 / 3]))
curves = {
    f"{name} third": kaplan_meier(time[used][third == k], event[used][third == k] == 1)
    for k, name in enumerate(("lowest", "middle", "highest"))
}
_, ax = plt.subplots(figsize=(3.8, 3.2), layout="constrained")
ax = survival_curves(curves, title=f"{trait.name} by z0", ax=ax)

# %%
# Is it worth acting on
# ---------------------
#
# Dementia in the window, predicted from age alone and from age and latents. Fitted on one half of
# the people and looked at in the other.

y = np.asarray(cases[1].values)
train, test = (np.isfinite(y) & (np.arange(n) % 2 == k) for k in (0, 1))
predicted = {}
for name, columns in (
    ("age", age[:, None] - 64),
    ("age and latents", np.column_stack([age - 64, z])),
):
    x = np.column_stack([np.ones(n), columns])
    beta = fit_logistic(y[train], x[train]).beta
    predicted[name] = 1 / (1 + np.exp(-x[test] @ beta))

areas = roc_areas(y[test], np.stack(list(predicted.values()), axis=1))
difference = delong_test(y[test], predicted["age and latents"], predicted["age"])
print("areas:", areas.area.round(3), "difference:", round(difference.difference, 3),
      "-log10 P:", round(difference.neg_log10_p, 1))  # fmt: skip

# %%

_, ax = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
calibration_plot({name: calibration_curve(y[test], p) for name, p in predicted.items()}, ax=ax[0])
decision_curves({name: decision_curve(y[test], p) for name, p in predicted.items()}, ax=ax[1])

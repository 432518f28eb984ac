"""
Pictures of brain maps
======================

From a variant to the region that it changes: slices, a glass brain, a walk along its direction,
values of regions painted on the brain, and the page that shows what was found beside what was
planted.
"""

# %%
# A cohort whose truth is known
# -----------------------------
#
# Three variants, each of which changes the volume of one region. The map of a variant is here the
# plain regression of every voxel on the copies of the effect allele; in your study it comes from
# ``imgwas map``, through the decoder of an encoder.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import imgwas
from imgwas import plots

rng = np.random.default_rng(6)
copies = rng.binomial(2, 0.4, (300, 3)).astype(float)
planted = {"hippocampus_left": 0.5, "caudate_right": -0.5, "ventricle": 0.4}
effects = np.array(list(planted.values()))
factors = copies * effects + 0.8 * rng.standard_normal((300, 3))
brains = imgwas.simulate_brains(
    300, grid=(32, 38, 32), factors=factors, regions=tuple(planted), seed=6
)
images = brains.values  # noqa: PD011
mask = (images > 0).mean(axis=0) > 0.5
template = np.where(mask, images.mean(axis=0), 0).astype(np.float32)


def map_of(variant, name):
    """Change of intensity per copy of the effect allele, in every voxel."""
    centred = copies[:, variant] - copies[:, variant].mean()
    slope = np.tensordot(centred, images, 1) / (centred @ centred)
    return imgwas.BrainMap(
        values=np.where(mask, slope, 0).astype(np.float32),
        mask=mask,
        affine=brains.affine,
        statistic="effect",
        unit="intensity per allele",
        name=name,
        direction=np.zeros(1),
    )


names = ["rs101", "rs202", "rs303"]
maps = [map_of(i, name) for i, name in enumerate(names)]

# %%
# Three planes through the peak
# -----------------------------
#
# Left is left, as the letters say. Without a threshold small values fade out, so that nothing ends
# at an edge that means nothing. The outline is the planted region.

figure = plt.figure(figsize=(7.2, 2.9))
plots.brain_slices(maps[0], background=template, contour=brains.labels == 1, figure=figure)
plt.show()

# %%
# All of the brain at once
# ------------------------

figure = plt.figure(figsize=(7.2, 2.9))
plots.glass_brain(maps[1], figure=figure)
plt.show()

figure = plt.figure(figsize=(7.2, 3.4))
plots.brain_lightbox(maps[1], background=template, slices=12, figure=figure)
plt.show()

# %%
# A walk along a direction
# ------------------------
#
# One brain whose left hippocampus grows from -3 to 3 SD. ``plots.traversal_gif`` writes the same as
# a film.

steps = np.zeros((7, 3))
steps[:, 0] = np.arange(-3, 4) * 0.6
walk = imgwas.simulate_brains(
    7, grid=(32, 38, 32), factors=steps, regions=tuple(planted), noise=0, head_sd=0
)
figure = plt.figure(figsize=(7.2, 3.3))
plots.traversal_strip(walk.values, range(-3, 4), walk.affine, figure=figure)
plt.show()

# %%
# Regions
# -------
#
# Changes of log-volume per allele with their intervals; in your study, columns of the table that
# ``imgwas map`` writes.


def region_rows(variant):
    """Regression of each region's log-volume on the copies, in percent."""
    design = np.column_stack([np.ones(300), copies[:, variant]])
    rows = []
    for j, region in enumerate(planted):
        volume = 100 * 0.4 * factors[:, j]
        fit, missed, *_ = np.linalg.lstsq(design, volume, rcond=None)
        error = np.sqrt(missed[0] / 298 * np.linalg.inv(design.T @ design)[1, 1])
        low, high = fit[1] - 1.97 * error, fit[1] + 1.97 * error
        rows.append((region.replace("_", " "), fit[1], low, high, fit[1] / error))
    return pd.DataFrame(rows, columns=["region", "effect", "low", "high", "t"])


tables = [region_rows(i) for i in range(3)]
tables[0]

# %%
# Found beside planted
# --------------------

page = [
    plots.PlantedRow(
        variant=names[i],
        neg_log10_p=float(imgwas.neg_log10_p_value(np.array([tables[i]["t"].abs().max()]), 298)[0]),
        template=template,
        affine=brains.affine,
        found=maps[i],
        regions=tables[i],
        planted_mask=brains.labels == i + 1,
        planted_region=region.replace("_", " "),
        truth=40 * effect,
    )
    for i, (region, effect) in enumerate(planted.items())
]
figure = plt.figure(figsize=(7.2, 4.2))
plots.found_beside_planted(page, figure=figure)
plt.show()

# %%
# Values painted on the brain
# ---------------------------
#
# An atlas is drawn by what its voxels show from outside; regions that are hidden are drawn by
# themselves. A shell of four parts stands for the cortex here.

side, front = np.meshgrid(np.arange(32) >= 16, np.arange(38) >= 19, indexing="ij")
cortex = np.broadcast_to((4 + 2 * front + side)[..., None], mask.shape)
values = {
    "hippocampus left": 20.0, "caudate right": -20.0, "ventricle": 16.0, "behind left": 3.0,
    "behind right": -2.0, "front left": 5.0, "front right": -6.0,
}  # fmt: skip
atlas = imgwas.Atlas(
    labels=np.where(mask & (brains.labels == 0), cortex, brains.labels).astype(np.int32),
    affine=brains.affine,
    names=dict(enumerate(values, start=1)),
    hemispheres={1: "L", 2: "R", 3: "", 4: "L", 5: "R", 6: "L", 7: "R"},
)
figure = plt.figure(figsize=(7.2, 3.4))
plots.region_picture(
    values, atlas, views=("left, outer", "right, outer", "above", "front"), label="% per allele",
    figure=figure,
)  # fmt: skip
plt.show()

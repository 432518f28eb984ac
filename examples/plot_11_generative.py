"""
Generative encoders and what their latents move
===============================================

Three encoders learn from the same simulated brains: principal components, an adversarial network
whose generator was inverted (``gan3d``), and a diffusion autoencoder (``diffae``). Each turns a
brain into eight latents, and latents back into brains. The networks are tiny and have learnt for
seconds: the figures show how to look, not how good they can be.
"""

# %%
# Brains whose ventricle and thalamus vary, and nothing else but noise and the size of the head.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch

import imgwas
from imgwas.brain.directions import residual_covariance
from imgwas.plots import traversal_strip

torch.set_num_threads(1)
brains = imgwas.simulate_brains(
    100, grid=(12, 14, 12), regions=("ventricle", "thalamus"), effect=0.8, seed=0
)
images = imgwas.ArrayImages(brains.values, brains.sample_ids, brains.affine)

# %%
# One call trains any of them; a quarter of the people is held out.

SETTINGS = {
    "pca": {"background": "zero"},
    "gan3d": {
        "form": "upsample", "channels": 8, "norm": "none", "r1": 1.0, "game_epochs": 6,
        "inverter_width": 4, "inverter_rate": 2e-3, "held_out_pairs": 8, "samples": 4,
    },
    "diffae": {
        "base": 4, "multipliers": (1, 2), "encoder_multipliers": (1, 2, 4), "blocks": 1,
        "attention": 9, "halve": "volume", "time_width": 16, "dropout": 0.0,
        "render_steps": 20, "invert_steps": 20,
    },
}  # fmt: skip
TRAIN = {
    "pca": {},
    "gan3d": {"epochs": 12, "batch": 8, "learning_rate": 1e-3, "ema": 0.95},
    "diffae": {
        "epochs": 8, "batch": 8, "epoch_share": 1.0, "score_epochs": 0, "learning_rate": 2e-3,
        "ema": 0.95, "schedule": "cosine",
    },
}  # fmt: skip
folder = tempfile.TemporaryDirectory()
encoders = {
    name: imgwas.fit(
        name, images, out=f"{folder.name}/{name}", settings={"latents": 8} | SETTINGS[name],
        train=TRAIN[name], device="cpu",
    ).encoder
    for name in SETTINGS
}  # fmt: skip

# %%
# The same brain, and what each encoder makes of its latents, inside the brain. ``diffae`` paints
# from the latents and the person's own noise: after so few steps it is the noise that holds the
# image, and latents alone would not paint it.

mask = (brains.values != 0).mean(axis=0) > 0.5
shown = {"image": brains.values[0]}
for name, encoder in encoders.items():
    one = brains.values[:1]
    has_noise = hasattr(encoder, "reconstruct")
    again = encoder.reconstruct(one) if has_noise else encoder.decode(encoder.encode(one))
    shown[name] = again[0]
figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.2))
for ax, (name, picture) in zip(axes, shown.items(), strict=True):
    ax.imshow(np.where(mask, picture, picture[mask].min())[:, :, 6].T, cmap="gray", origin="lower")
    ax.set_title(name, fontsize=9)
    ax.set_axis_off()

# %%
# How much of the planted volumes do the latents tell? A linear probe learns from 60 people and is
# judged on 40.

for name, encoder in encoders.items():
    latents = encoder.encode(brains.values).astype(float)
    design = np.column_stack([np.ones(100), (latents - latents.mean(axis=0)) / latents.std(axis=0)])
    weights, *_ = np.linalg.lstsq(design[:60], brains.factors[:60], rcond=None)
    truth = brains.factors[60:]
    missed = ((truth - design[60:] @ weights) ** 2).sum(axis=0)
    r2 = 1 - missed / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    print(f"{name:7}", " ".join(f"{n} {v:.2f}" for n, v in zip(brains.regions, r2, strict=True)))

# %%
# A walk from the average of everybody, along the regression of the latents on the volume of the
# ventricle:
# three SD smaller to three SD larger. ``imgwas traverse`` writes such walks as a page with sliders.

encoder = encoders["pca"]
latents = imgwas.Latents(encoder.encode(brains.values), brains.sample_ids, encoder.latent_names)
decoder = imgwas.Decoder(encoder, mask=mask, affine=brains.affine)
direction = imgwas.regression_direction(latents, brains.factors[:, 0], "ventricle")
start = imgwas.average_start(latents)
walk = imgwas.walk_along(decoder, start, direction, residual_covariance(latents))
traversal_strip(walk.images, walk.amounts, brains.affine)

# %%
# The page itself: one file, no network.

page = imgwas.write_traversals(f"{folder.name}/page.html", [walk], decoder, start)
print(f"{page.name}: {page.stat().st_size / 1e3:.0f} kB")
folder.cleanup()

"""
Figures after the scan
======================

One simulated scan, seen along the genome, at one locus, and over all latents.
"""

# %%
# A cohort with twelve latents and sixteen causal variants, scanned with the omnibus tests.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import imgwas
from imgwas import plots

folder = Path(tempfile.mkdtemp())
cohort = imgwas.simulate_cohort(
    folder, n_samples=1200, n_variants=12_000, n_latents=12, n_causal=16, variance_explained=0.06,
    ld_length_kb=600, seed=11,
)  # fmt: skip
genotypes = imgwas.open_genotypes(cohort.bfile)
latents = imgwas.read_latents(cohort.latents)
covariates = imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"])
results = imgwas.associate(
    genotypes, latents, covariates, out=folder / "results", genome_build="GRCh38", omnibus=True
)
n_latents = len(results.latents)

# %%
# The omnibus test above, the smallest P of the latents below. White diamonds pass in both.
plots.miami(
    plots.genome_points(results, "omnibus.combined"), plots.genome_points(results),
    names=("omnibus", "smallest P"), study_wide=(None, 5e-8 / n_latents),
    figure=plt.figure(figsize=(7.2, 4.8)),
)  # fmt: skip

# %%
# The strongest locus, coloured by r² among the people of the scan.
loci = imgwas.find_loci(results, genotypes)
locus = loci.table.loc[loci.table["neg_log_10_p_value"].idxmax()]
region = plots.regional_data(
    results, locus["chromosome"], int(locus["start"]) - 1_500_000, int(locus["end"]) + 1_500_000,
    genotypes=genotypes,
)  # fmt: skip
plots.regional(region, study_wide=5e-8 / n_latents, title=f"Locus {locus['locus']}",
               figure=plt.figure(figsize=(7.2, 3.3)))  # fmt: skip

# %%
# What the lead variant of every locus does to every latent.
effects = plots.lead_effects(results, loci.table)
_, ax = plt.subplots(figsize=(3.4, 3.6), layout="constrained")
plots.locus_heatmap(effects, ax=ax)

# %%
# One of them.
_, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
plots.phewas(effects[effects["locus"] == locus["locus"]], ax=ax)

# %%
# Which loci two halves of the latents share.
halves = {
    name: imgwas.find_loci(results, genotypes, latents=chosen).table
    for name, chosen in (("first six", results.latents[:6]), ("last six", results.latents[6:]))
}
plots.upset(halves | {"all twelve": loci.table}, figure=plt.figure(figsize=(3.6, 2.8)))

# %%
# How densely the signals of single latents lie along the genome.
signals = imgwas.find_loci(results, genotypes, by="latent").variants
_, ax = plt.subplots(figsize=(7.2, 2.2), layout="constrained")
plots.brisbane(signals, kb=500, ax=ax)

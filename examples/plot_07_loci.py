"""
Loci across latents
===================

Significant variants of all latents become loci; one locus is looked at closely.
"""

# %%
# A simulated cohort with four latents and eight causal variants, and its scan.
import tempfile
from pathlib import Path

import imgwas

folder = Path(tempfile.mkdtemp())
cohort = imgwas.simulate_cohort(
    folder, n_samples=1000, n_variants=3000, n_latents=4, n_causal=8, variance_explained=0.06,
    chromosomes=("21", "22"), ld_length_kb=600, seed=7,
)  # fmt: skip
genotypes = imgwas.open_genotypes(cohort.bfile)
latents = imgwas.read_latents(cohort.latents)
covariates = imgwas.read_covariates(cohort.covariates, categorical=["sex", "centre"])
results = imgwas.associate(
    genotypes, latents, covariates, out=folder / "results", genome_build="GRCh38"
)

# %%
# Loci, with genes of a small table that stands for a GTF of Ensembl.
(folder / "genes.tsv").write_text(
    "chromosome\tstart\tend\tname\tstrand\n"
    "21\t30000000\t30100000\tGENE1\t+\n21\t40000000\t40200000\tGENE2\t-\n"
    "21\t20000000\t20050000\tGENE3\t+\n22\t30000000\t30900000\tGENE4\t-\n"
)
loci = imgwas.find_loci(results, genotypes, genes=folder / "genes.tsv")
loci.table[["chromosome", "start", "end", "lead_variant", "neg_log_10_p_value", "latents",
            "n_independent", "nearest_gene", "gene_distance"]]  # fmt: skip

# %%
# The definition that stands above every table.
print("\n".join(loci.header()))

# %%
# Signals within the loci, and credible sets.
signals = imgwas.condition_loci(results, genotypes, latents, covariates, loci)
signals[["locus", "latent", "signal", "variant_id", "joint_beta", "joint_neg_log_10_p_value"]]

# %%
fine = imgwas.fine_map_loci(results, genotypes, latents, covariates, loci)
fine.sets[["locus", "latent", "credible_set", "n_variants", "variant_id"]]

# %%
# The locus with most independent variants: −log₁₀ P of each variant, coloured by r² with the lead
# variant among the people of the scan; what was planted is marked.
import matplotlib.pyplot as plt
import numpy as np

from imgwas.genetics.ld import LdPanel

locus = loci.table.loc[loci.table["n_independent"].idxmax()]
view = results.best_latent()
near = view["base_pair_location"].between(locus["start"] - 1.5e6, locus["end"] + 1.5e6)
here = view[near & (view["chromosome"] == int(locus["chromosome"]))]
lead = int(view.index[view["variant_id"] == locus["lead_variant"]][0])
r2 = np.nan_to_num(LdPanel(genotypes).r2(lead, here.index.to_numpy()))

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
megabases = here["base_pair_location"] / 1e6
points = ax.scatter(
    megabases, here["neg_log_10_p_value"], c=r2, cmap="viridis", vmin=0, vmax=1, s=22
)
ax.axvspan(locus["start"] / 1e6, locus["end"] / 1e6, color="0.92", zorder=0)
ax.axhline(-np.log10(5e-8), color="0.4", linewidth=0.8)
planted = here[here["variant_id"].isin(cohort.truth["variant_id"])]
ax.scatter(
    planted["base_pair_location"] / 1e6, planted["neg_log_10_p_value"], s=90, facecolors="none",
    edgecolors="C3", linewidths=1.5, label="planted",
)  # fmt: skip
ax.set_xlabel(f"chromosome {locus['chromosome']} (Mb)")
ax.set_ylabel("−log₁₀ P of the best latent")
ax.legend(frameon=False)
figure.colorbar(points, label="r² with the lead variant")
figure.savefig(folder / "locus.png", dpi=110)

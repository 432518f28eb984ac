"""Rack of figures: one file per figure, ``f(data, *, ax=None, ...) -> Axes``."""

from imgwas.plots.agreement import agreement_matrix, reliability_dots
from imgwas.plots.brain_glass import glass_brain
from imgwas.plots.brain_slices import brain_lightbox, brain_slices, original_shifted_difference
from imgwas.plots.brisbane import brisbane
from imgwas.plots.calibration import calibration_plot, decision_curves
from imgwas.plots.components import component_scatter
from imgwas.plots.films import cine_film
from imgwas.plots.forest import forest
from imgwas.plots.genetic_correlation import genetic_correlation_matrix
from imgwas.plots.genome_points import genome_points
from imgwas.plots.heritability import heritability_bars
from imgwas.plots.image_sheet import image_sheet, reconstruction_sheet
from imgwas.plots.ks_curves import ks_curves
from imgwas.plots.latents import correlation_heatmap, nuisance_heatmap, spectrum
from imgwas.plots.lead_effects import lead_effects
from imgwas.plots.locus_heatmap import locus_heatmap
from imgwas.plots.manhattan import aggregated_manhattan, manhattan
from imgwas.plots.miami import miami
from imgwas.plots.phewas import phewas
from imgwas.plots.planted import PlantedRow, found_beside_planted
from imgwas.plots.prediction import prediction_bars
from imgwas.plots.qq import qq, qq_many
from imgwas.plots.recombination import read_recombination_map
from imgwas.plots.region_picture import region_picture
from imgwas.plots.region_table import region_bars, region_heatmap
from imgwas.plots.regional import ImageStrip, regional
from imgwas.plots.regional_data import regional_data
from imgwas.plots.style import new_axes, save_figure
from imgwas.plots.survival import survival_curves
from imgwas.plots.training import learning_curve
from imgwas.plots.traversal import cine_ends, traversal_gif, traversal_strip
from imgwas.plots.upset import shared_loci, upset
from imgwas.plots.volcano import volcano

__all__ = [
    "ImageStrip",
    "PlantedRow",
    "aggregated_manhattan",
    "agreement_matrix",
    "brain_lightbox",
    "brain_slices",
    "brisbane",
    "calibration_plot",
    "cine_ends",
    "cine_film",
    "component_scatter",
    "correlation_heatmap",
    "decision_curves",
    "forest",
    "found_beside_planted",
    "genetic_correlation_matrix",
    "genome_points",
    "glass_brain",
    "heritability_bars",
    "image_sheet",
    "ks_curves",
    "lead_effects",
    "learning_curve",
    "locus_heatmap",
    "manhattan",
    "miami",
    "new_axes",
    "nuisance_heatmap",
    "original_shifted_difference",
    "phewas",
    "prediction_bars",
    "qq",
    "qq_many",
    "read_recombination_map",
    "reconstruction_sheet",
    "region_bars",
    "region_heatmap",
    "region_picture",
    "regional",
    "regional_data",
    "reliability_dots",
    "save_figure",
    "shared_loci",
    "spectrum",
    "survival_curves",
    "traversal_gif",
    "traversal_strip",
    "upset",
    "volcano",
]

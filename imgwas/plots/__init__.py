"""Rack of figures: one file per figure, ``f(data, *, ax=None, ...) -> Axes``."""

from imgwas.plots.agreement import agreement_matrix, reliability_dots
from imgwas.plots.brain_glass import glass_brain
from imgwas.plots.brain_slices import brain_lightbox, brain_slices, original_shifted_difference
from imgwas.plots.calibration import calibration_plot, decision_curves
from imgwas.plots.components import component_scatter
from imgwas.plots.films import cine_film
from imgwas.plots.forest import forest
from imgwas.plots.image_sheet import image_sheet, reconstruction_sheet
from imgwas.plots.ks_curves import ks_curves
from imgwas.plots.latents import correlation_heatmap, nuisance_heatmap, spectrum
from imgwas.plots.manhattan import aggregated_manhattan, manhattan
from imgwas.plots.planted import PlantedRow, found_beside_planted
from imgwas.plots.prediction import prediction_bars
from imgwas.plots.qq import qq, qq_many
from imgwas.plots.region_picture import region_picture
from imgwas.plots.region_table import region_bars, region_heatmap
from imgwas.plots.style import new_axes, save_figure
from imgwas.plots.survival import survival_curves
from imgwas.plots.training import learning_curve
from imgwas.plots.traversal import traversal_gif, traversal_strip
from imgwas.plots.volcano import volcano

__all__ = [
    "PlantedRow",
    "aggregated_manhattan",
    "agreement_matrix",
    "brain_lightbox",
    "brain_slices",
    "calibration_plot",
    "cine_film",
    "component_scatter",
    "correlation_heatmap",
    "decision_curves",
    "forest",
    "found_beside_planted",
    "glass_brain",
    "image_sheet",
    "ks_curves",
    "learning_curve",
    "manhattan",
    "new_axes",
    "nuisance_heatmap",
    "original_shifted_difference",
    "prediction_bars",
    "qq",
    "qq_many",
    "reconstruction_sheet",
    "region_bars",
    "region_heatmap",
    "region_picture",
    "reliability_dots",
    "save_figure",
    "spectrum",
    "survival_curves",
    "traversal_gif",
    "traversal_strip",
    "volcano",
]

"""Rack of figures: one file per figure, ``f(data, *, ax=None, ...) -> Axes``."""

from imgwas.plots.agreement import agreement_matrix, reliability_dots
from imgwas.plots.components import component_scatter
from imgwas.plots.image_sheet import image_sheet, reconstruction_sheet
from imgwas.plots.latents import correlation_heatmap, nuisance_heatmap, spectrum
from imgwas.plots.manhattan import aggregated_manhattan, manhattan
from imgwas.plots.prediction import prediction_bars
from imgwas.plots.qq import qq, qq_many
from imgwas.plots.style import new_axes, save_figure
from imgwas.plots.training import learning_curve

__all__ = [
    "aggregated_manhattan",
    "agreement_matrix",
    "component_scatter",
    "correlation_heatmap",
    "image_sheet",
    "learning_curve",
    "manhattan",
    "new_axes",
    "nuisance_heatmap",
    "prediction_bars",
    "qq",
    "qq_many",
    "reconstruction_sheet",
    "reliability_dots",
    "save_figure",
    "spectrum",
]

"""Rack of figures: one file per figure, ``f(data, *, ax=None, ...) -> Axes``."""

from imgwas.plots.image_sheet import image_sheet, reconstruction_sheet
from imgwas.plots.manhattan import aggregated_manhattan, manhattan
from imgwas.plots.qq import qq, qq_many
from imgwas.plots.style import new_axes, save_figure
from imgwas.plots.training import learning_curve

__all__ = [
    "aggregated_manhattan",
    "image_sheet",
    "learning_curve",
    "manhattan",
    "new_axes",
    "qq",
    "qq_many",
    "reconstruction_sheet",
    "save_figure",
]

"""Rack of figures: one file per figure, ``f(data, *, ax=None, ...) -> Axes``."""

from imgwas.plots.manhattan import aggregated_manhattan, manhattan
from imgwas.plots.qq import qq, qq_many
from imgwas.plots.style import new_axes, save_figure

__all__ = ["aggregated_manhattan", "manhattan", "new_axes", "qq", "qq_many", "save_figure"]

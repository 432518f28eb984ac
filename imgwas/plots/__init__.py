"""Rack of figures: one file per figure, ``f(data, *, ax=None, ...) -> Axes``."""

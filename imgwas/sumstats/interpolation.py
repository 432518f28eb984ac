"""Slow, smooth functions of one variable from a table: polynomials on equal intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from imgwas.shapes import Float64

#: Chebyshev nodes of an interval, and the points between them where the table is tried.
NODES = 8
#: A table that is further from its function than this, as a share, is not used.
TOLERANCE = 1e-10

Function = Callable[[np.ndarray], np.ndarray]


@dataclass
class Interpolant:
    """A positive function of one variable, quickly between two ends and itself outside.

    The logarithm of the function is interpolated by polynomials of degree 7 on equal intervals.
    The table is tried against the function between its nodes when it is made; where it is not
    within :data:`TOLERANCE` everywhere, the function is always asked.

    Parameters
    ----------
    function : callable
        Takes and gives arrays.
    low, high : float
        Ends of the table.
    intervals : int
        Pieces.

    Notes
    -----
    Costs ``12 x intervals`` calls of the function once, and about 30 ns a value then.
    """

    function: Function
    low: float
    high: float
    intervals: int = 96
    _table: np.ndarray | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        with np.errstate(all="ignore"):
            made = self._fit()
            if made is not None and self._error(made) < TOLERANCE:
                self._table = made

    @classmethod
    def between(
        cls, function: Function, ends: tuple[float, float], values: tuple[float, float]
    ) -> Interpolant:
        """Tabulate a growing function where its values lie between two.

        Parameters
        ----------
        function : callable
            Grows from one of ``ends`` to the other.
        ends : two floats
            Where to look.
        values : two floats
            Of the function at the ends of the table.
        """
        low, high = (_where(function, ends, value) for value in values)
        return cls(function, low, high)

    def __call__(self, x: Float64[np.ndarray, " values"]) -> Float64[np.ndarray, " values"]:
        """Values of the function."""
        x = np.asarray(x, np.float64)
        inside = (x >= self.low) & (x < self.high)
        if self._table is None or not inside.any():
            return self.function(x)
        if inside.all():
            return self._between(self._table, x)
        found = np.empty(x.shape)
        found[inside] = self._between(self._table, x[inside])
        found[~inside] = self.function(x[~inside])
        return found

    def _points(self, within: np.ndarray) -> np.ndarray:
        """Points at the same places, -1 to 1, of every interval."""
        width = (self.high - self.low) / self.intervals
        return self.low + (np.arange(self.intervals)[:, None] + (within + 1) / 2) * width

    def _fit(self) -> np.ndarray | None:
        """Coefficients (degree, interval) of powers of the place within an interval."""
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            return None
        nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
        values = np.log(self.function(self._points(nodes).reshape(-1)))
        if not np.isfinite(values).all():
            return None
        return np.linalg.solve(np.vander(nodes, NODES), values.reshape(-1, NODES).T)

    def _error(self, table: np.ndarray) -> float:
        points = self._points(np.array([-0.97, -0.3, 0.1, 0.6])).reshape(-1)
        return float(np.abs(self._between(table, points) / self.function(points) - 1).max())

    def _between(self, table: np.ndarray, x: np.ndarray) -> np.ndarray:
        place = (x - self.low) * (self.intervals / (self.high - self.low))
        interval = np.minimum(place.astype(np.int64), self.intervals - 1)
        place = 2 * (place - interval) - 1
        coefficients = table[:, interval]
        value = coefficients[0] * place
        for row in coefficients[1:-1]:
            value += row
            value *= place
        return np.asarray(np.exp(value + coefficients[-1]))


def _where(function: Function, ends: tuple[float, float], value: float) -> float:
    """Where a growing function reaches a value: to a thousandth of a millionth of the range."""
    low, high = ends
    for _ in range(5):
        points = np.linspace(low, high, 65)
        at = int(np.clip(np.searchsorted(function(points), value), 1, 64))
        low, high = points[at - 1], points[at]
    return float(high)

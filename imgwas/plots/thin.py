"""Leave out points that nobody could see: one per pixel below a cut, all above it."""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Int64

#: Points looked at together, so that memory does not grow with their number.
_AT_ONCE = 1_000_000


def thin_points(
    x: np.ndarray,
    y: np.ndarray,
    *,
    keep_above: float,
    columns: int = 2400,
    rows: int = 600,
) -> Int64[np.ndarray, " kept"]:
    """Choose points that draw the same picture.

    Parameters
    ----------
    x, y : (points,) float array
        Coordinates, finite.
    keep_above : float
        Every point with y at or above this stays.
    columns, rows : int
        Cells of the grid below; the first point of each cell stays.

    Returns
    -------
    (kept,) int64 array
        Indices, increasing.

    Notes
    -----
    Time is linear in the number of points; memory is a million of them and those kept.
    """
    if len(x) == 0:
        return np.empty(0, np.int64)
    width = max(float(np.ptp(x)), 1e-300)
    left, low = float(x.min()), float(y.min())
    height = max(keep_above - low, 1e-300)
    first = np.full(columns * rows, -1, np.int64)
    above = []
    for start in range(0, len(x), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        is_below = y[part] < keep_above
        above.append(np.flatnonzero(~is_below) + start)
        below = np.flatnonzero(is_below)
        column = ((x[part][below] - left) * (columns - 1e-9) / width).astype(np.int64)
        row = ((y[part][below] - low) * (rows - 1e-9) / height).astype(np.int64)
        cell = column * rows + row
        fresh = np.flatnonzero(first[cell] < 0)[::-1]
        first[cell[fresh]] = below[fresh] + start
    return np.sort(np.concatenate([first[first >= 0], *above]))

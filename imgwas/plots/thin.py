"""Leave out points that nobody could see: one per pixel below a cut, all above it."""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Int64


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
    Time and memory are linear in the number of points.
    """
    if len(x) == 0:
        return np.empty(0, np.int64)
    below = np.flatnonzero(y < keep_above)
    above = np.flatnonzero(y >= keep_above)
    if len(below) == 0:
        return above
    width = max(float(np.ptp(x)), 1e-300)
    column = ((x[below] - x.min()) * (columns - 1e-9) / width).astype(np.int64)
    low = float(y[below].min())
    height = max(keep_above - low, 1e-300)
    row = ((y[below] - low) * (rows - 1e-9) / height).astype(np.int64)
    cell = column * rows + row
    first = np.full(columns * rows, -1, np.int64)
    first[cell[::-1]] = below[::-1]
    return np.sort(np.concatenate([first[first >= 0], above]))

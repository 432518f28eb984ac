"""Means and variances of many pictures that are never in memory together."""

from __future__ import annotations

import numpy as np

from imgwas.shapes import Float, Float64


class Moments:
    """Running mean and sum of squared deviations, one person at a time.

    Every person is added by Welford's update in double precision, in the order given, so that the
    result depends neither on the batches people came in nor on their number's effect on memory.

    Parameters
    ----------
    *shape : int
        Of one person's values.

    References
    ----------
    .. [1] Welford (1962), Technometrics 4:419.
    """

    def __init__(self, *shape: int) -> None:
        self.n = 0
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)

    def add(self, values: Float[np.ndarray, " *shape"]) -> None:
        """Take in one person's values."""
        self.n += 1
        away = values - self.mean
        self.mean += away / self.n
        away *= values - self.mean
        self._squares += away

    @property
    def variance(self) -> Float64[np.ndarray, " *shape"]:
        """Sample variance, divided by n - 1; NaN before the second person."""
        if self.n < 2:
            return np.full(self.mean.shape, np.nan)
        return self._squares / (self.n - 1)

    def t(self) -> Float64[np.ndarray, " *shape"]:
        """Student's t of the mean against 0: that of a paired test when differences were added.

        Where all values are equal there is no spread and no t: NaN, as in ``ttest_rel``.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            t = self.mean / np.sqrt(self.variance / max(1, self.n))
        return np.where(np.isfinite(t), t, np.nan)

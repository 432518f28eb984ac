"""The null distribution of tests of all latents: from permutations, or simulated from R alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Float64
from imgwas.sumstats.joint import IN_SCAN, OmnibusTest

if TYPE_CHECKING:
    import pandas as pd

#: null values at least as large that a P by rank needs
FEWEST = 100
_DRAWS = 8192


@dataclass(frozen=True)
class OmnibusNull:
    """Tests of all latents where no variant has an effect, permuted or simulated.

    Parameters
    ----------
    tests : dict of str to (permutations, variants) array
        -log10 P as computed, NaN where untested: ``joint``, ``minp`` and ``combined``.
    """

    tests: dict[str, Float64[np.ndarray, "permutations variants"]]

    def neg_log10_p(
        self, observed: Float64[np.ndarray, " variants"], test: str = "combined"
    ) -> Float64[np.ndarray, " variants"]:
        """Permutation P of each variant: its rank among all variants of all permutations.

        ``(1 + b) / (1 + B)`` of B permuted statistics, b of which are as large: never zero, and no
        smaller than ``1 / (1 + B)``.
        """
        return self._ranked(observed, self._null(test).ravel())

    def family_wise(
        self, observed: Float64[np.ndarray, " variants"], test: str = "combined"
    ) -> Float64[np.ndarray, " variants"]:
        """-log10 P of each variant corrected for all variants, by the largest of each permutation.

        References
        ----------
        .. [1] Westfall & Young (1993), Resampling-Based Multiple Testing.
        """
        return self._ranked(observed, np.nanmax(self._null(test), axis=1))

    def calibrated(
        self, observed: Float64[np.ndarray, " variants"], test: str = "combined"
    ) -> Float64[np.ndarray, " variants"]:
        """-log10 P by rank where a hundred null values are as large, and as computed beyond.

        The P values as computed are conservative there, so no signal is made stronger by running
        out of null values.
        """
        null = np.sort(self._null(test)[np.isfinite(self._null(test))])
        if len(null) <= FEWEST:
            return np.asarray(observed)
        edge = null[-FEWEST]
        ranked = self._ranked(observed, null)
        limit = self._ranked(np.array([edge]), null)[0]
        with np.errstate(invalid="ignore"):
            return np.where(observed > edge, np.maximum(observed, limit), ranked)

    def shares(self, levels: Sequence[float]) -> pd.DataFrame:
        """Share of permuted P values below each level, over the level: one where calibrated."""
        import pandas as pd

        found = {
            name: [np.mean(values[np.isfinite(values)] > -np.log10(p)) / p for p in levels]
            for name, values in self.tests.items()
        }
        return pd.DataFrame(found, index=pd.Index(list(levels), name="level"))

    def _null(self, test: str) -> np.ndarray:
        check_option("test", test, list(self.tests))
        return self.tests[test]

    def _ranked(self, observed: np.ndarray, null: np.ndarray) -> np.ndarray:
        null = np.sort(null[np.isfinite(null)])
        above = len(null) - np.searchsorted(null, observed, side="left")
        found = np.log10(len(null) + 1.0) - np.log10(above + 1.0)
        return np.where(np.isnan(observed), np.nan, found)


def simulate_null(
    test: OmnibusTest, *, n_draws: int, seed: int, tests: Sequence[str] = IN_SCAN
) -> OmnibusNull:
    """Draw the null distribution of tests of all latents from the latents' correlation.

    A variant without effect is a random direction among the residuals of the people, so that its
    correlations with the latents are ``R^1/2 w``, with w the first K numbers of a random direction
    in as many dimensions as there are degrees of freedom. That is exact for normally distributed
    latents, or many people.

    Parameters
    ----------
    test : OmnibusTest
        From :func:`imgwas.sumstats.omnibus_table.omnibus_test`.
    n_draws : int
        Variants without effect to draw.
    seed : int
        Decides the draws.
    tests : sequence of str
        Which tests.

    Raises
    ------
    DegenerateError
        If latents have different people, or the scan does not say its degrees of freedom.
    """
    check_range("n_draws", n_draws, low=1, high=1_000_000_000)
    if test.dof is None or not test.same_people:
        raise DegenerateError(
            explain(
                "the null can be drawn from the correlation where all latents have the same people",
                do="Use imgwas.permute_omnibus, which needs the genotypes",
            )
        )
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(test.correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    dof, k = test.dof, len(values)
    found: dict[str, list[np.ndarray]] = {name: [] for name in tests}
    for start in range(0, n_draws, _DRAWS):
        n = min(_DRAWS, n_draws - start)
        w = rng.standard_normal((n, k))
        length = np.square(w).sum(axis=1)
        if dof + 1 > k:
            length += rng.chisquare(dof + 1 - k, n)
        r = (w / np.sqrt(length)[:, None]) @ root.T
        t = r * np.sqrt(dof / np.maximum(1 - r * r, 1e-15))
        dofs = np.full((n, max(test.groups) + 1), dof)
        for name, column in test.columns(t, dofs, tests).items():
            found[name].append(column)
    return OmnibusNull({name: np.concatenate(each)[None, :] for name, each in found.items()})

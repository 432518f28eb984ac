"""Everything that regressions within a locus need: products of residual genotypes and trait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.genetics.cohort import Cohort, Projection, remove
from imgwas.shapes import Float64, Int64
from imgwas.types import Genotypes

#: Bytes of residual genotypes of one locus.
MOST_BYTES = 2_000_000_000
#: A variant with less than this share of its variance left by the covariates is left out.
_EXPLAINED = 1e-6


@dataclass(frozen=True)
class Moments:
    """Sums of squares and products after covariates, for one locus and one trait.

    Parameters
    ----------
    rows : (variants,) int array
        Rows of the genotype file; variants that do not vary are left out.
    frequency : (variants,) float array
        Of the effect allele among the people used.
    gram : (variants, variants) float array
        ``X'X`` of residual genotypes.
    cross : (variants,) float array
        ``X'y``.
    total : float
        ``y'y`` of the residual trait.
    dof : int
        Degrees of freedom with one variant in the model.
    n : int
        People used.
    """

    rows: Int64[np.ndarray, " variants"]
    frequency: Float64[np.ndarray, " variants"]
    gram: Float64[np.ndarray, "variants variants"]
    cross: Float64[np.ndarray, " variants"]
    total: float
    dof: int
    n: int

    def __len__(self) -> int:
        return len(self.rows)

    def with_trait(self, cross: np.ndarray, total: float) -> Moments:
        """The same genotypes with another trait."""
        return Moments(self.rows, self.frequency, self.gram, cross, total, self.dof, self.n)


class Locus:
    """Residual genotypes of a stretch of the genome, kept while traits come and go.

    Parameters
    ----------
    genotypes : Genotypes
        Read once for every pattern of missing traits.
    cohort : Cohort
        People and covariates.
    rows : (variants,) int array
        Rows of the genotype file.

    Raises
    ------
    UsageError
        If the locus does not fit into memory.
    """

    def __init__(self, genotypes: Genotypes, cohort: Cohort, rows: np.ndarray) -> None:
        self.genotypes, self.cohort, self.rows = genotypes, cohort, rows
        n_bytes = 8 * len(rows) * len(cohort)
        if n_bytes > MOST_BYTES:
            raise UsageError(
                explain(
                    f"{len(rows):,} variants of {len(cohort):,} people need {n_bytes / 1e9:.1f} GB",
                    expected=f"At most {MOST_BYTES / 1e9:.0f} GB for a locus",
                    do="Take a smaller --flank-kb",
                )
            )
        self._kept: tuple[bytes, np.ndarray, Moments] | None = None

    def moments(self, projection: Projection) -> Moments:
        """Products of the residual genotypes with themselves and with a residual trait.

        Missing calls take the mean among the people used, as in the scan.
        """
        key = np.packbits(projection.used).tobytes() + projection.basis.shape[1].to_bytes(4, "big")
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, *self._residuals(projection))
        _, residual, known = self._kept
        total = float(projection.trait @ projection.trait)
        return known.with_trait(residual @ projection.trait, total)

    def _residuals(self, projection: Projection) -> tuple[np.ndarray, Moments]:
        columns = self.cohort.columns[projection.used]
        dosage = np.empty((len(self.rows), len(columns)))
        step = max(1, 64_000_000 // (4 * self.genotypes.n_samples))
        for start in range(0, len(self.rows), step):
            block = self.genotypes.read_dosages(self.rows[start : start + step])
            dosage[start : start + step] = block[:, columns]
        called = np.isfinite(dosage)
        mean = np.where(called, dosage, 0).sum(axis=1) / np.maximum(called.sum(axis=1), 1)
        dosage = np.where(called, dosage, mean[:, None]) - mean[:, None]
        before = np.einsum("vp,vp->v", dosage, dosage)
        residual = remove(dosage.T, projection.basis).T
        after = np.einsum("vp,vp->v", residual, residual)
        good = (before > 0) & (after > _EXPLAINED * before)
        if not good.any():
            raise DegenerateError(explain("no variant of the locus varies among the people used"))
        residual = np.ascontiguousarray(residual[good])
        known = Moments(
            rows=self.rows[good],
            frequency=mean[good] / 2,
            gram=residual @ residual.T,
            cross=np.zeros(int(good.sum())),
            total=0.0,
            dof=projection.dof,
            n=len(columns),
        )
        return residual, known

"""The correlation of latents taken apart: which directions can be tested, and how well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, explain
from imgwas.shapes import Float64


@dataclass(frozen=True)
class Directions:
    """Eigenvectors of a correlation of latents, largest first, those that can be told from none.

    Parameters
    ----------
    values : (rank,) float array
        Eigenvalues.
    vectors : (latents, rank) float array
        Their eigenvectors.
    n_latents : int
        Latents of the matrix.
    n_collinear : int
        Directions left out because the latents do not span them.
    """

    values: Float64[np.ndarray, " rank"]
    vectors: Float64[np.ndarray, "latents rank"]
    n_latents: int
    n_collinear: int

    @property
    def rank(self) -> int:
        """Number of directions."""
        return len(self.values)

    @property
    def condition_number(self) -> float:
        """Largest eigenvalue over the smallest one kept."""
        return float(self.values[0] / self.values[-1])

    def weights(self, shrink: float = 0.0) -> Float64[np.ndarray, "latents rank"]:
        """Matrix ``W`` with ``W W' = ((1 - shrink) R + shrink I)^-1`` on the directions kept."""
        return np.asarray(self.vectors / np.sqrt((1 - shrink) * self.values + shrink))

    @classmethod
    def of(
        cls,
        correlation: Float64[np.ndarray, "latents latents"],
        *,
        n: int,
        single: bool = True,
        eig_keep: int | None = None,
    ) -> Directions:
        """Take a correlation matrix apart.

        Parameters
        ----------
        correlation : (latents, latents) array
            Symmetric.
        n : int
            People. A statistic's rounding must stay below a hundredth of its standard deviation in
            every direction, so eigenvalues below ``n (100 u)^2`` are collinear latents, with u the
            rounding unit of the scan.
        single : bool
            Whether the scan ran in single precision.
        eig_keep : int, optional
            Keep this many of the largest directions only.
        """
        unit = float(np.finfo(np.float32 if single else np.float64).eps)
        values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
        values, vectors = values[::-1], vectors[:, ::-1]
        rank = max(1, int((values > max(n * (100 * unit) ** 2, 1e-10)).sum()))
        keep = rank
        if eig_keep is not None:
            check_range("eig_keep", eig_keep, low=1, high=len(values), unit="directions")
            keep = min(rank, eig_keep)
        return cls(values[:keep], vectors[:, :keep].copy(), len(values), len(values) - rank)

    def check_dof(self, dof: int) -> None:
        """Refuse a regression of the variant on as many latents as there are people.

        Parameters
        ----------
        dof : int
            Degrees of freedom of one latent's t statistic.
        """
        if dof + 1 - self.rank < 1:
            raise InconsistentError(
                explain(
                    f"{self.n_latents:,} latents span {self.rank:,} directions and the scan has "
                    f"{dof + 1:,} degrees of freedom for them",
                    expected="The F test regresses a variant on all latents: it needs more people "
                    "than latents and covariates together",
                    do=f"Keep fewer directions (eig_keep below {dof + 1:,}), or fewer latents",
                )
            )

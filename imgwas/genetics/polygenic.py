"""Polygenic scores of latents: weights of alleles, who they were fitted on, sums of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_unique
from imgwas.errors import InconsistentError, MalformedError, UsageError, explain
from imgwas.latents.ledger import mark_people
from imgwas.shapes import Float64

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the table of variants, in order.
VARIANT_COLUMNS = (
    "variant_id", "chromosome", "base_pair_location", "effect_allele", "other_allele",
    "effect_allele_frequency",
)  # fmt: skip


@dataclass(frozen=True)
class PolygenicScores:
    """Weights of variants for one or more scores.

    ``score_k = intercept_k + sum_j weights_jk dosage_j``, dosage in copies of the effect allele.

    Parameters
    ----------
    variants : DataFrame
        ``variant_id``, ``chromosome``, ``base_pair_location``, ``effect_allele``,
        ``other_allele``, ``effect_allele_frequency`` (NaN where unknown).
    weights : (variants, scores) float array
        Per copy of the effect allele, in units of the latent.
    names : tuple of str
        Name of each score.
    intercepts : (scores,) float array
        Added to each score.
    fitted_on : tuple of mapping, or None
        Salted digests of everyone the weights were fitted on, one ledger per step of fitting; None
        where that is not known, as for a downloaded score.
    source : mapping
        How the weights were made.
    genome_build : str, optional
        Of the positions.
    """

    variants: pd.DataFrame
    weights: Float64[np.ndarray, "variants scores"]
    names: tuple[str, ...]
    intercepts: Float64[np.ndarray, " scores"]
    fitted_on: tuple[Mapping[str, Any], ...] | None
    source: Mapping[str, Any] = field(default_factory=dict)
    genome_build: str | None = None

    def __post_init__(self) -> None:
        lacking = [name for name in VARIANT_COLUMNS if name not in self.variants]
        if lacking:
            raise MalformedError(explain(f"the variants lack {', '.join(lacking)}"))
        if self.weights.shape != (len(self.variants), len(self.names)):
            raise InconsistentError(
                explain(f"the weights have shape {self.weights.shape}",
                        expected=f"{len(self.variants):,} variants and {len(self.names):,} scores")
            )  # fmt: skip
        if len(self.intercepts) != len(self.names):
            raise InconsistentError(explain(f"there are {len(self.intercepts):,} intercepts"))
        check_unique("the scores", self.names)
        if not (np.isfinite(self.weights).all() and np.isfinite(self.intercepts).all()):
            raise MalformedError(explain("a weight is missing or infinite"))

    def __repr__(self) -> str:
        return f"PolygenicScores({len(self.names):,} scores, {len(self.variants):,} variants)"

    def select(self, names: Sequence[str]) -> PolygenicScores:
        """Some of the scores, with the variants that have a weight in any of them."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise UsageError(
                explain(f"there is no score {unknown[0]!r}",
                        expected=f"Some of {', '.join(self.names[:8])}")
            )  # fmt: skip
        columns = [self.names.index(name) for name in names]
        rows = np.flatnonzero((self.weights[:, columns] != 0).any(axis=1))
        return replace(
            self,
            variants=self.variants.iloc[rows].reset_index(drop=True),
            weights=self.weights[rows][:, columns],
            names=tuple(names),
            intercepts=self.intercepts[columns],
        )


def combine_scores(
    scores: PolygenicScores,
    coefficients: Mapping[str, float],
    *,
    name: str = "combined",
    intercept: float = 0.0,
    fitted_on: Sequence[str] | None = None,
) -> PolygenicScores:
    """Sum scores into one: ``w_j = sum_k alpha_k beta_jk``.

    The combined score equals ``intercept + sum_k alpha_k score_k`` for everybody.

    Parameters
    ----------
    scores : PolygenicScores
        The parts.
    coefficients : mapping from name to float
        ``alpha``, as fitted on the scores as they are, not on standardised ones.
    name : str
        Of the new score.
    intercept : float
        Of the model that gave ``alpha``.
    fitted_on : sequence of str, optional
        Ids of the people ``alpha`` was fitted on. They join those the parts were fitted on; None
        means that ``alpha`` was chosen, not fitted.

    Raises
    ------
    UsageError
        If a coefficient belongs to no score.
    """
    unknown = [one for one in coefficients if one not in scores.names]
    if unknown or not coefficients:
        raise UsageError(
            explain(f"there is no score {unknown[0]!r}" if unknown else "there is no coefficient",
                    expected=f"Some of {', '.join(scores.names[:8])}")
        )  # fmt: skip
    alpha = np.array([coefficients.get(one, 0.0) for one in scores.names], np.float64)
    known = scores.fitted_on
    if known is not None and fitted_on is not None:
        known = (*known, mark_people(fitted_on))
    return PolygenicScores(
        variants=scores.variants,
        weights=(scores.weights @ alpha)[:, None],
        names=(name,),
        intercepts=np.array([float(intercept) + float(scores.intercepts @ alpha)]),
        fitted_on=known,
        source={"method": "combined", "coefficients": dict(coefficients),
                "parts": dict(scores.source)},
        genome_build=scores.genome_build,
    )  # fmt: skip

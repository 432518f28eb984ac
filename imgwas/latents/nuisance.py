"""How much of each latent nuisance covariates explain: site, head size, motion, age, sex."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import DegenerateError, TooFewSamplesError, explain
from imgwas.latents.basis import CONSTANT, centred, missing_patterns, orthonormal_basis, span
from imgwas.latents.joining import aligned_values
from imgwas.types import Covariates, Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NuisanceReport:
    """Variance of latents that covariates explain.

    Parameters
    ----------
    terms : DataFrame
        One row per latent and term: ``latent``, ``term``, ``n``, ``columns`` (dimensions of the
        term), ``r2_alone``, ``r2_unique``, ``r2_partial``.
    joint : DataFrame
        One row per latent: ``latent``, ``n``, ``columns``, ``r2``, ``r2_adjusted``.
    """

    terms: pd.DataFrame
    joint: pd.DataFrame

    def __repr__(self) -> str:
        n_terms = self.terms["term"].nunique()
        return f"NuisanceReport({len(self.joint):,} latents x {n_terms} terms)"

    def matrix(self, column: str = "r2_alone") -> pd.DataFrame:
        """One row per latent, one column per term, in the order of the tables."""
        order = list(dict.fromkeys(self.terms["term"]))
        wide = self.terms.set_index(["latent", "term"])[column].unstack()  # noqa: PD010
        return wide.loc[list(self.joint["latent"]), order]


def variance_explained(
    latents: Latents, covariates: Covariates, *, min_overlap: float = 0.5
) -> NuisanceReport:
    """Share of each latent's variance that each covariate explains, alone and beside the others.

    Least squares with an intercept, each latent on the people who have it and every covariate.
    A categorical covariate is one term: all its indicators enter and leave together.

    Parameters
    ----------
    latents : Latents
        Traits, matched by id.
    covariates : Covariates
        ``terms`` says which columns belong together.
    min_overlap : float, default 0.5
        Refuse when fewer of the smaller table's people are in the other.

    Returns
    -------
    NuisanceReport
        ``r2_alone``: the term by itself. ``r2_unique``: R² of all terms minus R² without this
        one. ``r2_partial``: that over 1 - R² without it. ``r2_adjusted`` of the joint model:
        1 - (1 - R²)(n - 1)/(n - columns - 1). NaN for a constant latent.

    Raises
    ------
    TooFewSamplesError
        If a latent has no more people than the covariates have dimensions.
    DegenerateError
        If nobody has every covariate.

    Notes
    -----
    One decomposition per pattern of missing values: terms are compared as coordinates in an
    orthonormal basis of all of them, where nothing is lost to collinearity.
    """
    import pandas as pd

    nuisance = aligned_values(latents, covariates, min_overlap=min_overlap)
    complete = np.isfinite(nuisance).all(axis=1)
    if not complete.any():
        raise DegenerateError(
            explain("nobody has every covariate", do="Leave out covariates that many lack")
        )
    groups = _columns_of(covariates)
    rows: list[tuple[int, list[dict[str, object]], dict[str, object]]] = []
    traits = np.asarray(latents.values)
    for columns, used in missing_patterns(traits, complete):
        model = _Model(nuisance[used], groups)
        values = traits[np.ix_(used, columns)]
        _check_people(model, latents.names[columns[0]])
        table = model.explain(values)
        rows += [
            (column, *_records(latents.names[column], model, table, index))
            for index, column in enumerate(columns)
        ]
    rows.sort(key=lambda row: row[0])
    return NuisanceReport(
        pd.DataFrame([record for _, records, _ in rows for record in records]),
        pd.DataFrame([joint for _, _, joint in rows]),
    )


def _columns_of(covariates: Covariates) -> dict[str, list[int]]:
    """Columns of each term, in the order of the terms."""
    groups: dict[str, list[int]] = {}
    for column, term in enumerate(covariates.terms or covariates.names):
        groups.setdefault(term, []).append(column)
    return groups


class _Model:
    """All covariates of some people, as coordinates in an orthonormal basis."""

    def __init__(self, nuisance: np.ndarray, groups: Mapping[str, list[int]]) -> None:
        self.n, self.terms = len(nuisance), list(groups)
        self.basis = orthonormal_basis(nuisance)
        coordinates = self.basis.T @ centred(nuisance)
        everything = range(nuisance.shape[1])
        self.alone = [span(coordinates[:, columns]) for columns in groups.values()]
        self.without = [
            span(coordinates[:, [c for c in everything if c not in columns]])
            for columns in groups.values()
        ]

    @property
    def rank(self) -> int:
        return self.basis.shape[1]

    def explain(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """R² of all terms (latents), of each alone and of all without it (terms, latents)."""
        unit = centred(values)
        is_constant = np.einsum("sl,sl->l", unit, unit) < CONSTANT
        inside = self.basis.T @ unit
        alone = np.array([_squares(part.T @ inside) for part in self.alone])
        without = np.array([_squares(part.T @ inside) for part in self.without])
        joint = np.where(is_constant, np.nan, _squares(inside))
        return {
            "joint": joint,
            "r2_alone": np.where(is_constant, np.nan, alone),
            "r2_unique": np.maximum(joint - without, 0),
            "r2_partial": np.maximum(joint - without, 0) / np.maximum(1 - without, 1e-300),
        }


def _squares(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(np.square(values).sum(axis=0), 1.0))


def _check_people(model: _Model, latent: str) -> None:
    if model.n < model.rank + 2:
        raise TooFewSamplesError(
            explain(
                f"{model.n:,} people have {latent} and every covariate",
                expected=f"At least {model.rank + 2:,}, for {model.rank} covariate dimensions",
                do="Leave out that latent, or covariates that many people lack",
            )
        )


def _records(
    latent: str, model: _Model, table: Mapping[str, np.ndarray], index: int
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Rows of both tables for one latent."""
    common = {"latent": latent, "n": model.n}
    shares = ("r2_alone", "r2_unique", "r2_partial")
    terms = [
        {"latent": latent, "term": term, "n": model.n, "columns": model.alone[t].shape[1]}
        | {share: float(table[share][t, index]) for share in shares}
        for t, term in enumerate(model.terms)
    ]
    r2 = float(table["joint"][index])
    adjusted = 1 - (1 - r2) * (model.n - 1) / (model.n - model.rank - 1)
    return terms, common | {"columns": model.rank, "r2": r2, "r2_adjusted": adjusted}

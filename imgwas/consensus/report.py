"""Everything about the agreement of several seeds, in one object."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.consensus.joining import join_latents, joined_source
from imgwas.consensus.matching import THRESHOLD, best_matches, match_latents
from imgwas.consensus.shared import SharedComponents, share_components
from imgwas.consensus.spaces import linear_cka
from imgwas.errors import DegenerateError, TooFewSamplesError, explain
from imgwas.latents.basis import centred, orthonormal_basis
from imgwas.shapes import Float64
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Components that all seeds share, unless another number is asked for.
COMPONENTS = 30


@dataclass(frozen=True)
class ConsensusReport:
    """Agreement of training seeds.

    Parameters
    ----------
    n : int
        People compared: in every table, with every latent.
    threshold : float
        ``|r|`` above which a latent counts as reproduced.
    matches : DataFrame
        The best match of every latent, see :func:`best_matches`.
    pairs : DataFrame
        One-to-one pairs of every two seeds: ``first_seed``, ``second_seed`` and the columns of
        :func:`match_latents`.
    spaces : DataFrame
        One row per two seeds: ``first``, ``second``, ``mean_abs_r`` over the one-to-one pairs,
        ``share_reproduced`` of these above the threshold, ``cka``, ``cka_debiased``.
    explained : float
        Share of the variance of all standardised latents that the reproduced ones explain.
    shared : SharedComponents
        What all seeds share.
    r_held_out : (components,) float array
        Mean correlation between the seeds' estimates of each component, fitted on one half of the
        people and computed on the other; NaN if there are too few people.
    """

    n: int
    threshold: float
    matches: pd.DataFrame
    pairs: pd.DataFrame
    spaces: pd.DataFrame
    explained: float
    shared: SharedComponents
    r_held_out: Float64[np.ndarray, " components"]

    def __repr__(self) -> str:
        return (
            f"ConsensusReport({self.n:,} people, {int(self.matches['is_reproduced'].sum()):,} of "
            f"{len(self.matches):,} latents reproduced)"
        )

    def matrix(self, column: str = "cka") -> pd.DataFrame:
        """One measure of ``spaces`` as a symmetric matrix of seeds, 1 on the diagonal."""
        import pandas as pd

        seeds = list(self.shared.tables)
        square = pd.DataFrame(np.eye(len(seeds)), index=seeds, columns=seeds)
        for _, row in self.spaces.iterrows():
            square.loc[row["first"], row["second"]] = row[column]
            square.loc[row["second"], row["first"]] = row[column]
        return square

    def summary(self) -> dict[str, Any]:
        """Return the main figures as plain values."""
        counts = self.matches.groupby("seed", sort=False)["is_reproduced"]
        return {
            "people": self.n,
            "threshold": self.threshold,
            "latents": {seed: int(n) for seed, n in counts.size().items()},
            "reproduced": {seed: int(n) for seed, n in counts.sum().items()},
            "variance_explained_by_reproduced": self.explained,
            "spaces": self.spaces.to_dict("records"),
            "shared_components": {
                "agreement": [float(value) for value in self.shared.agreement],
                "r_held_out": [None if np.isnan(r) else float(r) for r in self.r_held_out],
            },
        }


def compare_seeds(
    tables: Mapping[str, Latents] | Sequence[Latents],
    *,
    threshold: float = THRESHOLD,
    n_components: int | None = None,
    ridge: float = 0.0,
    min_overlap: float = 0.5,
    seed: int = 0,
) -> ConsensusReport:
    """Measure how far latents from several training seeds agree.

    Parameters
    ----------
    tables : mapping from name to Latents, or sequence of Latents
        Two or more, in any order of people; they are joined by id.
    threshold : float, default 0.8
        ``|r|`` above which a latent counts as reproduced.
    n_components : int, optional
        Shared components to compute; by default 30, or as many as the smallest table has latents.
    ridge : float, default 0
        Of the shared components, see :func:`share_components`.
    min_overlap : float, default 0.5
        Share of the smallest table whose people all tables must have.
    seed : int, default 0
        Draws the two halves of the held-out correlation.

    Returns
    -------
    ConsensusReport

    Raises
    ------
    InconsistentError
        If too few people are shared.
    TooFewSamplesError
        If there are so few people that any seeds would agree.
    """
    joined = join_latents(tables, min_overlap=min_overlap)
    first = next(iter(joined.values()))
    smallest = min(len(table.names) for table in joined.values())
    count = min(COMPONENTS, smallest) if n_components is None else n_components
    matches = best_matches(joined, threshold=threshold)
    pairs = _all_pairs(joined)
    return ConsensusReport(
        n=len(first.sample_ids),
        threshold=threshold,
        matches=matches,
        pairs=pairs,
        spaces=_spaces(joined, pairs, threshold),
        explained=_explained(joined, matches),
        shared=share_components(joined, n_components=count, ridge=ridge),
        r_held_out=held_out_agreement(joined, n_components=count, ridge=ridge, seed=seed),
    )


def reproduced_latents(tables: Mapping[str, Latents], matches: pd.DataFrame) -> Latents:
    """Latents that some other seed has too, as one table with columns ``seed.latent``.

    Raises
    ------
    DegenerateError
        If there are none.
    """
    kept = matches[matches["is_reproduced"]]
    if kept.empty:
        raise DegenerateError(
            explain("no latent is reproduced by another seed", do="Train longer, or lower the "
                    "threshold (--threshold)")
        )  # fmt: skip
    first = next(iter(tables.values()))
    columns = {
        f"{seed}.{latent}": np.asarray(tables[seed].values)[:, tables[seed].names.index(latent)]
        for seed, latent in zip(kept["seed"], kept["latent"], strict=True)
    }
    values = np.column_stack(list(columns.values()))
    return replace(first, values=values, names=tuple(columns), source=joined_source(tables))


def held_out_agreement(
    tables: Mapping[str, Latents], *, n_components: int, ridge: float = 0.0, seed: int = 0
) -> Float64[np.ndarray, " components"]:
    """Correlate the seeds' estimates of shared components on people who took no part in the fit.

    The people are split into random halves; each half is fitted and judged on the other. The mean
    over both and over all pairs of tables is returned, NaN if a half is too small to fit.
    """
    n = len(next(iter(tables.values())).sample_ids)
    half = np.random.default_rng(seed).permutation(n) < n // 2
    try:
        both = [_estimated(tables, fit, n_components, ridge) for fit in (half, ~half)]
    except TooFewSamplesError:
        logger.warning("%s people are too few to check shared components on a half", f"{n:,}")
        return np.full(n_components, np.nan)
    return np.asarray(np.mean(both, axis=0))


def _estimated(
    tables: Mapping[str, Latents], fit: np.ndarray, n_components: int, ridge: float
) -> np.ndarray:
    """Mean correlation of estimates on the people who are not fitted, per component."""
    fitted = share_components(_rows(tables, fit), n_components=n_components, ridge=ridge)
    own = fitted.estimates(_rows(tables, ~fit))
    unit = [centred(values) for values in own.values()]
    pairs = [np.einsum("sc,sc->c", a, b) for a, b in combinations(unit, 2)]
    return np.asarray(np.mean(pairs, axis=0))


def _rows(tables: Mapping[str, Latents], chosen: np.ndarray) -> dict[str, Latents]:
    rows = np.flatnonzero(chosen)
    return {
        name: replace(
            table,
            values=np.asarray(table.values)[rows],
            sample_ids=tuple(table.sample_ids[i] for i in rows),
            family_ids=None
            if table.family_ids is None
            else tuple(table.family_ids[i] for i in rows),
        )
        for name, table in tables.items()
    }


def _all_pairs(tables: Mapping[str, Latents]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for a, b in combinations(tables, 2):
        pairs = match_latents(tables[a], tables[b])
        pairs.insert(0, "first_seed", a)
        pairs.insert(1, "second_seed", b)
        parts.append(pairs)
    return pd.concat(parts, ignore_index=True)


def _spaces(tables: Mapping[str, Latents], pairs: pd.DataFrame, threshold: float) -> pd.DataFrame:
    import pandas as pd

    size = pairs["r"].abs()
    means = size.groupby([pairs["first_seed"], pairs["second_seed"]]).mean()
    shares = (size > threshold).groupby([pairs["first_seed"], pairs["second_seed"]]).mean()
    values = {name: np.asarray(table.values) for name, table in tables.items()}
    return pd.DataFrame(
        [
            {
                "first": a,
                "second": b,
                "mean_abs_r": float(means[a, b]),
                "share_reproduced": float(shares[a, b]),
                "cka": linear_cka(values[a], values[b]),
                "cka_debiased": linear_cka(values[a], values[b], debiased=True),
            }
            for a, b in combinations(tables, 2)
        ]
    )


def _explained(tables: Mapping[str, Latents], matches: pd.DataFrame) -> float:
    """Share of the variance of all latents, each standardised, that the reproduced ones explain."""
    unit = np.column_stack([centred(np.asarray(table.values)) for table in tables.values()])
    kept = matches["is_reproduced"].to_numpy(bool)
    basis = orthonormal_basis(unit[:, kept])
    return float(np.square(basis.T @ unit).sum() / unit.shape[1])

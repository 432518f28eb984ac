"""What several tables share: MAXVAR generalised canonical correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgwas.checks import check_range
from imgwas.consensus.joining import check_joined, joined_source
from imgwas.errors import InconsistentError, TooFewSamplesError, UsageError, explain
from imgwas.latents.basis import COLLINEAR
from imgwas.shapes import Float64
from imgwas.types import Latents


@dataclass(frozen=True)
class SharedComponents:
    """What several tables of latents share: MAXVAR generalised canonical correlation.

    Parameters
    ----------
    tables : mapping from name to tuple of str
        Tables that were compared and their latents.
    scores : Latents
        ``S1``, ``S2``, ...: uncorrelated, mean 0, variance 1 (n - 1), most shared first; the
        largest weight of the first table is positive.
    agreement : (components,) float array
        Weighted mean over tables of the R² with which a table predicts the component; 1 if all
        tables hold it.
    r : (tables, components) float array
        Multiple correlation of each component with each table.
    means, weights : mapping from name to array
        ``(values - mean) @ weight`` is one table's estimate of the scores.
    table_weights : (tables,) float array
        Weight of each table, with sum one.
    """

    tables: Mapping[str, tuple[str, ...]]
    scores: Latents
    agreement: Float64[np.ndarray, " components"]
    r: Float64[np.ndarray, "tables components"]
    means: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray]
    table_weights: Float64[np.ndarray, " tables"]

    def __repr__(self) -> str:
        return f"SharedComponents({len(self.agreement)} of {len(self.tables)} tables)"

    def estimates(self, tables: Mapping[str, Latents]) -> dict[str, np.ndarray]:
        """Scores of people as each table by itself estimates them."""
        for name, latents in self.tables.items():
            if name not in tables or tables[name].names != latents:
                raise InconsistentError(
                    explain(f"the latents of {name} are not those that were fitted",
                            expected="The same tables with the same latents in the same order")
                )  # fmt: skip
        return {
            name: np.asarray((tables[name].values - self.means[name]) @ self.weights[name])
            for name in self.tables
        }

    def transform(self, tables: Mapping[str, Latents]) -> Latents:
        """Scores of these or other people; on those fitted they are ``scores``."""
        own = self.estimates(tables)
        weighted = [w * own[name] for name, w in zip(self.tables, self.table_weights, strict=True)]
        first = tables[next(iter(self.tables))]
        values = np.sum(weighted, axis=0) / self.agreement
        return replace(first, values=values, names=self.scores.names,
                       source=joined_source(tables))  # fmt: skip


def share_components(
    tables: Mapping[str, Latents],
    *,
    n_components: int,
    ridge: float = 0.0,
    table_weights: Sequence[float] | None = None,
) -> SharedComponents:
    """Find the components that all tables share (MAXVAR).

    Maximises over orthonormal ``G`` the sum over tables of ``w_v |P_v G|^2``, with
    ``P_v = X_v (X_v'X_v + ridge |X_v|_2^2 I)^-1 X_v'`` of centred ``X_v``: the leading
    eigenvectors of ``sum_v w_v P_v``. For two tables without a ridge these are the canonical
    variates and the agreement is ``(1 + r) / 2`` with r the canonical correlation.

    Parameters
    ----------
    tables : mapping from name to Latents
        Of the same people in the same order, as :func:`join_latents` returns.
    n_components : int
        How many.
    ridge : float, default 0
        Shrinks directions of little variance: share of the largest squared singular value.
    table_weights : sequence of float, optional
        How much each table counts; equal by default.

    Returns
    -------
    SharedComponents

    Raises
    ------
    TooFewSamplesError
        If there are so few people that any tables would agree perfectly, and no ridge is given.
    UsageError
        If more components are asked for than the smallest table has dimensions.

    References
    ----------
    .. [1] Kettenring (1971), Biometrika 58:433. [2] Via et al. (2007), Neural Networks 20:139.
    """
    check_joined(tables)
    check_range("ridge", ridge, low=0)
    check_range("n_components", n_components, low=1)
    shares = _shares(table_weights, len(tables))
    views = [_View(table.values, ridge) for table in tables.values()]
    _check_dimensions(views, n_components, ridge)
    stacked = np.column_stack([v.shrunk * np.sqrt(w) for v, w in zip(views, shares, strict=True)])
    left, size, _ = np.linalg.svd(stacked, full_matrices=False)
    unit, agreement = left[:, :n_components], np.square(size[:n_components])
    weights = [view.weights(unit) for view in views]
    largest = weights[0][np.abs(weights[0]).argmax(axis=0), np.arange(n_components)]
    n = len(unit)
    scale = np.sign(largest) * np.sqrt(n - 1)
    names = tuple(f"S{k + 1}" for k in range(n_components))
    first = next(iter(tables.values()))
    return SharedComponents(
        tables={name: table.names for name, table in tables.items()},
        scores=replace(first, values=unit * scale, names=names, source=joined_source(tables)),
        agreement=agreement,
        r=np.array([np.sqrt(np.square(view.left.T @ unit).sum(axis=0)) for view in views]),
        means={name: view.mean for name, view in zip(tables, views, strict=True)},
        weights={name: w * scale for name, w in zip(tables, weights, strict=True)},
        table_weights=shares,
    )


class _View:
    """Singular values of one centred table, and its shrunk projector."""

    def __init__(self, values: np.ndarray, ridge: float) -> None:
        self.mean = values.mean(axis=0)
        deviation = values - self.mean
        spread = deviation.std(axis=0)
        self.scale = np.where(spread > 0, spread, np.inf)
        left, size, right = np.linalg.svd(deviation / self.scale, full_matrices=False)
        kept = size > COLLINEAR * size[0]
        self.left, self.size, self.right = left[:, kept], size[kept], right[kept]
        self.damping = np.square(self.size) + ridge * self.size[0] ** 2
        self.shrunk = self.left * (self.size / np.sqrt(self.damping))

    @property
    def rank(self) -> int:
        return len(self.size)

    def weights(self, unit: np.ndarray) -> np.ndarray:
        """Coefficients of the (ridge) regression of components on the table."""
        inside = (self.left.T @ unit) * (self.size / self.damping)[:, None]
        return np.asarray(self.right.T @ inside / self.scale[:, None])


def _shares(table_weights: Sequence[float] | None, n: int) -> np.ndarray:
    if table_weights is None:
        return np.full(n, 1 / n)
    weights = np.asarray(table_weights, np.float64)
    if weights.shape != (n,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise UsageError(
            explain(f"table_weights are {list(table_weights)}",
                    expected=f"{n} positive numbers, one per table")
        )  # fmt: skip
    return np.asarray(weights / weights.sum())


def _check_dimensions(views: Sequence[_View], n_components: int, ridge: float) -> None:
    smallest = min(view.rank for view in views)
    if n_components > smallest:
        raise UsageError(
            explain(f"n_components is {n_components}",
                    expected=f"At most {smallest}, the dimensions of the smallest table")
        )  # fmt: skip
    n, total = len(views[0].left), sum(sorted(view.rank for view in views)[-2:])
    if ridge == 0 and n - 1 <= total:
        raise TooFewSamplesError(
            explain(
                f"{n:,} people for tables of {total:,} dimensions together",
                expected=f"More than {total + 1:,}: with fewer, any two tables agree perfectly",
                do="Add people, use fewer latents (whiten with --components), or give a ridge",
            )
        )

"""Tests of a block of variants against all latents, from its t statistics.

With ``r_k = t_k / sqrt(t_k^2 + d)`` the partial correlations of a variant with K latents and ``R``
the partial correlation of the latents, ``R2 = r' R^-1 r`` is the squared multiple correlation of
the variant with all latents given the covariates, so that::

    F = (R2 / K) / ((1 - R2) / (d + 1 - K))

is the F test of the regression of the variant on the latents: the exact test of one canonical
variate (MANOVA, Wilks). That holds where all latents have the same people. Where they do not,
``T = t' R^-1 t`` with chi-square of K degrees of freedom takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from imgwas.errors import DegenerateError, explain
from imgwas.shapes import Float
from imgwas.sumstats.combining import acat, sidak, twice_the_smaller
from imgwas.sumstats.directions import Directions
from imgwas.sumstats.interpolation import Interpolant
from imgwas.sumstats.mixtures import neg_log10_p_mixture
from imgwas.sumstats.pvalues import neg_log10_p_value
from imgwas.sumstats.tails import neg_log10_p_r2, neg_log10_p_value_chi2

#: what the scan computes as it goes
IN_SCAN = ("joint", "minp", "combined")
#: what can be asked for; joint is f, or chi2 where latents have different people
TESTS = ("combined", "joint", "f", "chi2", "minp", "acat")
#: share of the directions, the smallest eigenvalues, whose part in T is reported
LAST = 0.1

#: -log10 P of what is looked up in a table; beyond, each is computed
TABLE = (1e-6, 30.0)
#: share of the degrees of freedom below which a variant has other people
SAME = 0.8

Columns = dict[str, np.ndarray]


@dataclass
class OmnibusTest:
    """Everything that testing a block needs to know of the latents.

    Parameters
    ----------
    correlation : (latents, latents) array
        Of the t statistics under the null.
    group_of : sequence of int
        Missingness group of each latent; groups index the columns of ``dof``.
    n : int
        People, for the rounding of the eigenvalues.
    dof : int, optional
        Degrees of freedom of t for the people of ``correlation``. A variant with fewer than 80 % of
        them has other people, and chi-square stands in for F.
    single : bool
        Whether t was computed in single precision.
    shrink : float
        ``d`` of ``(1 - d) R + d I`` in chi2.
    eig_keep : int, optional
        Use only the largest eigenvectors of R, in F and chi2.
    """

    correlation: np.ndarray
    group_of: Sequence[int]
    n: int
    dof: int | None = None
    single: bool = True
    shrink: float = 0.0
    eig_keep: int | None = None
    directions: Directions = field(init=False)
    _parts: dict[tuple[int, ...], OmnibusTest] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.directions = Directions.of(
            self.correlation, n=self.n, single=self.single, eig_keep=self.eig_keep
        )
        self.groups = sorted(set(self.group_of))
        self._members = {
            g: np.array([i for i, own in enumerate(self.group_of) if own == g]) for g in self.groups
        }
        self._weights = self.directions.weights()
        self._shrunk = self.directions.weights(self.shrink)
        values = self.directions.values
        self._mixture = values / ((1 - self.shrink) * values + self.shrink)
        self.n_last = max(1, round(LAST * self.directions.rank))

    @property
    def same_people(self) -> bool:
        """Whether all latents have the same people, so that F is exact."""
        return len(self.groups) == 1

    def check(self) -> None:
        """Refuse what F cannot answer."""
        if self.same_people and self.dof is not None:
            self.directions.check_dof(self.dof)

    def described(self) -> dict[str, Any]:
        """What was computed, for ``run.json``."""
        directions = self.directions
        return {
            "joint": "f" if self.same_people else "chi2",
            "n_latents": directions.n_latents,
            "rank": directions.rank,
            "n_collinear": directions.n_collinear,
            "condition_number": directions.condition_number,
        }

    def cautions(self) -> list[str]:
        """What a reader of the P values should know, in sentences."""
        directions, said = self.directions, []
        if directions.n_collinear:
            said.append(
                f"{directions.n_latents:,} latents span {directions.rank:,} directions that the "
                f"scan's precision can tell apart; the tests use those ({directions.rank:,} "
                "degrees of freedom)"
            )
        if not self.same_people:
            said.append(
                "latents have different people: chi-square with their null correlation takes the "
                "place of the exact F test, which is conservative where people are few"
            )
        if directions.condition_number > 1e4:
            said.append(
                f"the correlation of the latents has condition number "
                f"{directions.condition_number:.3g}: small directions, which may be noise of the "
                "encoder, weigh as much as large ones"
            )
        return said

    def columns(
        self,
        t: Float[np.ndarray, "variants latents"],
        dof: np.ndarray,
        tests: Sequence[str] = IN_SCAN,
    ) -> Columns:
        """-log10 P of each test for each variant.

        Parameters
        ----------
        t : (variants, latents) array
            NaN where a variant was not tested in a latent's group.
        dof : (variants, groups) array
            Degrees of freedom of t, one column for each number in ``group_of``.
        tests : sequence of str
            Of :data:`TESTS`, or ``share_last``, which is no P value: the part of the statistic
            that the tenth of the directions with the smallest eigenvalues contributes.
        """
        has = np.isfinite(t[:, [self._members[g][0] for g in self.groups]])
        if has.all():
            return self._columns(t, dof, tests)
        found = {name: np.full(len(t), np.nan) for name in tests}
        for pattern in np.unique(has, axis=0):
            if pattern.any():
                rows = np.flatnonzero((has == pattern).all(axis=1))
                groups = tuple(g for g, kept in zip(self.groups, pattern, strict=True) if kept)
                part = self._part(groups)
                members = np.concatenate([self._members[g] for g in groups])
                some = part._columns(t[np.ix_(rows, np.sort(members))], dof[rows], tests)
                for name, values in some.items():
                    found[name][rows] = values
        return found

    def _part(self, groups: tuple[int, ...]) -> OmnibusTest:
        """Build the test of the latents of some groups."""
        if groups == tuple(self.groups):
            return self
        if groups not in self._parts:
            members = np.sort(np.concatenate([self._members[g] for g in groups]))
            keep = self.eig_keep and min(self.eig_keep, len(members))
            self._parts[groups] = OmnibusTest(
                self.correlation[np.ix_(members, members)],
                [self.group_of[i] for i in members],
                n=self.n,
                dof=self.dof,
                single=self.single,
                shrink=self.shrink,
                eig_keep=keep,
            )
        return self._parts[groups]

    def _columns(self, t: np.ndarray, dof: np.ndarray, tests: Sequence[str]) -> Columns:
        known: Columns = {}
        made = {
            "joint": lambda: self._joint(t, dof),
            "f": lambda: self._only_f(t, dof),
            "chi2": lambda: self._chi2(t)[0],
            "minp": lambda: self._minp(t, dof),
            "acat": lambda: acat(neg_log10_p_value(t, dof[:, np.asarray(self.group_of)])),
            "combined": lambda: twice_the_smaller(of("joint"), of("minp")),
            "share_last": lambda: self._share(t, dof),
        }

        def of(name: str) -> np.ndarray:
            if name not in known:
                known[name] = made[name]()
            return known[name]

        return {name: of(name) for name in tests}

    def _joint(self, t: np.ndarray, dof: np.ndarray) -> np.ndarray:
        if not self.same_people:
            return self._chi2(t)[0]
        found = self._f(t, dof[:, self.groups[0]])
        others = self._other_people(dof)
        if others.any():
            found[others] = self._chi2(t[others])[0]
        return found

    def _only_f(self, t: np.ndarray, dof: np.ndarray) -> np.ndarray:
        if not self.same_people:
            raise DegenerateError(_NOT_THE_SAME)
        found = self._f(t, dof[:, self.groups[0]])
        return np.where(self._other_people(dof), np.nan, found)

    def _other_people(self, dof: np.ndarray) -> np.ndarray:
        return np.asarray(dof[:, self.groups[0]] < SAME * (self.dof or 0))

    def _share(self, t: np.ndarray, dof: np.ndarray) -> np.ndarray:
        if not self.same_people:
            return self._chi2(t)[1]
        squares = np.square(self._along(t, dof[:, self.groups[0]]))
        last = squares[:, -self.n_last :].sum(axis=1)
        return np.asarray(last / np.maximum(squares.sum(axis=1), 1e-300), np.float64)

    def _f(self, t: np.ndarray, dof: np.ndarray) -> np.ndarray:
        along = self._along(t, dof)
        r2 = np.square(along, out=along).sum(axis=1, dtype=np.float64)
        rank = self.directions.rank

        def usual(r2: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore"):
                return self._usual_joint(np.log(r2))

        def other(r2: np.ndarray, dof: np.ndarray) -> np.ndarray:
            return neg_log10_p_r2(r2, rank, dof + 1.0 - rank)

        return self._by_dof(r2, dof, usual, other)

    def _by_dof(
        self,
        values: np.ndarray,
        dof: np.ndarray,
        usual: Callable[[np.ndarray], np.ndarray],
        other: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Look up what has everyone's degrees of freedom, and compute the others."""
        has_usual = dof == self.dof
        if has_usual.all():
            return usual(values)
        if not has_usual.any():
            return other(values, dof)
        found = np.empty(len(values))
        found[has_usual] = usual(values[has_usual])
        found[~has_usual] = other(values[~has_usual], dof[~has_usual])
        return found

    def _along(self, t: np.ndarray, dof: np.ndarray) -> np.ndarray:
        """Give r along each direction over its standard deviation, in the precision of t."""
        r = t * t
        r += dof[:, None].astype(t.dtype)
        np.sqrt(r, out=r)
        np.divide(t, r, out=r)
        return np.asarray(r @ self._weights.astype(t.dtype, copy=False))

    @cached_property
    def _usual_joint(self) -> Interpolant:
        """-log10 P of log R2 for a variant with everyone's degrees of freedom."""
        rank = self.directions.rank
        left = (self.dof or 0) + 1.0 - rank
        return Interpolant.between(
            lambda x: neg_log10_p_r2(np.exp(x), rank, left), ends=(-40.0, -1e-9), values=TABLE
        )

    def _chi2(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        squares = np.square(t.astype(np.float64, copy=False) @ self._shrunk)
        total = squares.sum(axis=1)
        share = squares[:, -self.n_last :].sum(axis=1) / np.maximum(total, 1e-300)
        if self.shrink:
            return neg_log10_p_mixture(total, self._mixture), share
        return neg_log10_p_value_chi2(total, self.directions.rank), share

    def _minp(self, t: np.ndarray, dof: np.ndarray) -> np.ndarray:
        """One P value a group, of its largest t; Šidák's correction of the smallest of them."""
        if self.same_people:
            return self._by_dof(
                _largest(t),
                dof[:, self.groups[0]],
                self._usual_minp,
                lambda t, dof: sidak(neg_log10_p_value(t, dof), len(self.group_of)),
            )
        found = [
            neg_log10_p_value(_largest(t[:, self._members[g]]), dof[:, g]) for g in self.groups
        ]
        return sidak(np.max(found, axis=0), t.shape[1])

    @cached_property
    def _usual_minp(self) -> Interpolant:
        """-log10 P of the largest t for a variant with everyone's degrees of freedom."""
        n, dof = len(self.group_of), float(self.dof or 0)
        return Interpolant.between(
            lambda t: sidak(neg_log10_p_value(t, dof), n), ends=(0.0, 1e4), values=TABLE
        )


def _largest(t: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(t.max(axis=1), -t.min(axis=1)), np.float64)


_NOT_THE_SAME = explain(
    "the F test needs latents that have the same people, and some have missing values others do "
    "not have",
    do="Ask for chi2 (which combined takes then), or choose latents without missing values",
)

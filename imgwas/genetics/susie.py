"""Sum of single effects: the variants of a locus that are likely to act, by Wang et al. (2020).

Model: ``y = X b + e``, ``b`` the sum of ``L`` vectors with one non-zero entry each, every variant
equally likely a priori, the entry normal with variance ``V_l``. Fitted by iterative Bayesian
stepwise selection on ``X'X``, ``X'y`` and ``y'y`` of standardised genotypes; ``V_l`` maximises the
evidence of its single-effect regression, the residual variance the expected likelihood.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from imgwas.genetics.moments import Moments
from imgwas.shapes import Float64, Int64

logger = logging.getLogger(__name__)

_MOST_ROUNDS, _TOLERANCE = 500, 1e-4


@dataclass(frozen=True)
class CredibleSet:
    """Variants that hold one effect with the coverage asked for.

    Parameters
    ----------
    variants : (members,) int array
        Numbers in the moments, the likeliest first.
    coverage : float
        Their posterior probability.
    purity : float
        Smallest absolute correlation between two of them.
    log10_bayes_factor : float
        Evidence for the effect.
    """

    variants: Int64[np.ndarray, " members"]
    coverage: float
    purity: float
    log10_bayes_factor: float


@dataclass(frozen=True)
class SusieFit:
    """Posterior of a locus.

    Parameters
    ----------
    alpha : (effects, variants) float array
        Probability that an effect is that variant's.
    prior_variance : (effects,) float array
        0: the effect is not needed.
    pip : (variants,) float array
        Probability that a variant has any effect.
    sets : tuple of CredibleSet
        The strongest first.
    residual_variance : float
        In units of the trait's variance after covariates.
    has_converged : bool
        False where probabilities still moved when the rounds were used up.
    """

    alpha: Float64[np.ndarray, "effects variants"]
    prior_variance: Float64[np.ndarray, " effects"]
    pip: Float64[np.ndarray, " variants"]
    sets: tuple[CredibleSet, ...]
    residual_variance: float
    has_converged: bool


def fit_susie(
    moments: Moments, *, n_effects: int = 10, coverage: float = 0.95, purity: float = 0.5
) -> SusieFit:
    """Fit the sum of single effects to one locus and one trait.

    Parameters
    ----------
    moments : Moments
        Products after covariates, all from the same people, so that LD and effects agree.
    n_effects : int
        Effects at most; those that are not needed get no variance.
    coverage : float
        Posterior probability of a credible set.
    purity : float
        Sets with less correlated members are not reported.

    Returns
    -------
    SusieFit

    References
    ----------
    .. [1] Wang, Sarkar, Carbonetto & Stephens (2020), JRSS B 82:1273.
    """
    state = _State.start(moments, n_effects)
    pip = state.pip()
    has_converged = False
    for _ in range(_MOST_ROUNDS):
        state.round()
        before, pip = pip, state.pip()
        has_converged = bool(np.abs(pip - before).max() < _TOLERANCE)
        if has_converged:
            break
    if not has_converged:
        logger.warning("fine-mapping did not settle in %d rounds", _MOST_ROUNDS)
    return SusieFit(
        alpha=state.alpha,
        prior_variance=state.prior,
        pip=pip,
        sets=_credible_sets(state, coverage, purity),
        residual_variance=state.noise,
        has_converged=has_converged,
    )


@dataclass
class _State:
    """The fit as it goes on; genotypes have variance one, the trait too."""

    correlation: np.ndarray
    cross: np.ndarray
    n: int
    alpha: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    prior: np.ndarray
    evidence: np.ndarray
    noise: float

    @classmethod
    def start(cls, moments: Moments, n_effects: int) -> _State:
        n = moments.dof + 1  # what is left of the people after covariates
        size = np.sqrt(np.diagonal(moments.gram))
        shape = (min(n_effects, len(moments)), len(moments))
        return cls(
            correlation=moments.gram / np.outer(size, size),
            cross=n * moments.cross / (size * np.sqrt(moments.total)),
            n=n,
            alpha=np.full(shape, 1 / shape[1]),
            mean=np.zeros(shape),
            square=np.zeros(shape),
            prior=np.full(shape[0], 0.2),
            evidence=np.zeros(shape[0]),
            noise=1.0,
        )

    def pip(self) -> np.ndarray:
        needed = self.prior > 0
        return np.asarray(1 - np.prod(1 - self.alpha[needed], axis=0))

    def round(self) -> None:
        """Fit every effect to what the others leave, then the residual variance."""
        effects = self.alpha * self.mean
        fitted = self.n * (self.correlation @ effects.sum(axis=0))
        for k in range(len(self.alpha)):
            fitted -= self.n * (self.correlation @ effects[k])
            self._fit_one(k, self.cross - fitted)
            effects[k] = self.alpha[k] * self.mean[k]
            fitted += self.n * (self.correlation @ effects[k])
        self._fit_noise(effects)

    def _fit_one(self, k: int, rest: np.ndarray) -> None:
        estimate, error = rest / self.n, self.noise / self.n
        prior = _best_prior(estimate, error, self.prior[k])
        log_bf = _log_bayes_factors(estimate, error, prior)
        top = log_bf.max()
        weight = np.exp(log_bf - top)
        self.alpha[k] = weight / weight.sum()
        self.evidence[k] = top + np.log(weight.mean())
        shrink = prior / (prior + error)
        self.prior[k] = prior
        self.mean[k] = shrink * estimate
        self.square[k] = self.mean[k] ** 2 + shrink * error

    def _fit_noise(self, effects: np.ndarray) -> None:
        total = effects.sum(axis=0)
        expected = self.n - 2 * total @ self.cross + self.n * total @ self.correlation @ total
        own = self.n * np.einsum("ki,ij,kj->", effects, self.correlation, effects)
        expected += self.n * (self.alpha * self.square).sum() - own
        self.noise = float(max(expected / self.n, 1e-6))


def _log_bayes_factors(estimate: np.ndarray, error: float, prior: float) -> np.ndarray:
    """Log evidence for an effect of each variant against none."""
    total = prior + error
    return np.asarray(0.5 * np.log(error / total) + 0.5 * estimate**2 / error * (prior / total))


def _best_prior(estimate: np.ndarray, error: float, before: float) -> float:
    """Prior variance with the greatest evidence, 0 where no effect is better."""
    from scipy.optimize import minimize_scalar

    def loss(log_prior: float) -> float:
        log_bf = _log_bayes_factors(estimate, error, float(np.exp(log_prior)))
        top = log_bf.max()
        return -float(top + np.log(np.exp(log_bf - top).mean()))

    best = minimize_scalar(loss, bounds=(-25, 5), method="bounded")
    tried = [(float(best.fun), float(np.exp(best.x)))]
    if before > 0:
        tried.append((loss(float(np.log(before))), before))
    value, prior = min(tried)
    return prior if value < -1e-3 else 0.0


def _credible_sets(state: _State, coverage: float, purity: float) -> tuple[CredibleSet, ...]:
    sets: dict[tuple[int, ...], CredibleSet] = {}
    for k in np.flatnonzero(state.prior > 0):
        order = np.argsort(-state.alpha[k], kind="stable")
        share = np.cumsum(state.alpha[k][order])
        size = int(np.searchsorted(share, coverage * (1 - 1e-12))) + 1
        members = order[:size]
        least = float(np.abs(state.correlation[np.ix_(members, members)]).min())
        if least >= purity:
            log10 = float(state.evidence[k] / np.log(10))
            one = CredibleSet(members, float(share[min(size, len(share)) - 1]), least, log10)
            sets.setdefault(tuple(sorted(members.tolist())), one)
    return tuple(sorted(sets.values(), key=lambda s: -s.log10_bayes_factor))

"""What polygenic scores are worth, in people their weights have never seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, RefusedError, explain
from imgwas.latents.basis import orthonormal_basis
from imgwas.latents.ledger import who_was_seen
from imgwas.shapes import Float64, Int64
from imgwas.traits.cox import fit_cox, risk_sets
from imgwas.traits.fits import fit_trait
from imgwas.traits.hazards import concordance
from imgwas.traits.logistic import fit_firth, fit_logistic
from imgwas.traits.outcomes import Trait
from imgwas.traits.people import aligned_people, placed
from imgwas.traits.roc import roc_areas
from imgwas.types import Covariates, Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: What a score adds to: the R squared, area or concordance of the covariates alone.
METRICS = {"number": "r2", "binary": "auc", "survival": "concordance"}


def check_held_out(table: Latents, *, assume: bool = False) -> None:
    """Refuse scores of people whose genotypes and traits made the weights.

    Parameters
    ----------
    table : Latents
        From :func:`imgwas.apply_scores`; any other table passes.
    assume : bool
        Go on where it is not known whom the weights were fitted on. Known overlap is refused in any
        case.

    Raises
    ------
    RefusedError
        If anyone was in the fit, or it is not known.
    """
    if not table.source.get("polygenic"):
        return
    ledgers = table.source.get("fitted_on")
    if ledgers is None:
        if assume:
            logger.warning(
                "it is assumed, not checked, that the weights have not seen these people"
            )
            return
        raise RefusedError(
            explain(
                "it is not known whom these scores were fitted on",
                expected="Scores of people that the weights have not seen",
                do="Pass --assume-held-out if they come from another cohort",
            )
        )
    seen = np.zeros(len(table.sample_ids), bool)
    for marks in ledgers:
        seen |= who_was_seen(marks, table.sample_ids)
    if seen.any():
        raise RefusedError(
            explain(
                f"{int(seen.sum()):,} of {len(seen):,} people are among those the scores were "
                "fitted on",
                expected="Others: in these people a score looks better than it is",
                do="Score other people (imgwas score apply --remove)",
            )
        )


def evaluate_scores(
    table: Latents,
    traits: Trait | Sequence[Trait],
    covariates: Covariates | None = None,
    *,
    n_folds: int = 5,
    n_bootstrap: int = 500,
    assume_held_out: bool = False,
    min_overlap: float = 0.5,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what each score adds to the covariates, in held-out people only.

    Numbers: the R squared of covariates and score minus that of the covariates. Cases: the area
    under the ROC curve; survival: Harrell's C; both of predictions for people of a fold by models
    fitted on the other folds, so that the larger model has no advantage.

    Parameters
    ----------
    table : Latents
        Scores of people, from :func:`imgwas.apply_scores`.
    traits : Trait or sequence of Trait
        What they should predict.
    covariates : Covariates, optional
        Age, sex, principal components.
    n_folds : int, default 5
        For cases and survival.
    n_bootstrap : int, default 500
        Resamples of people for the intervals.
    assume_held_out : bool
        See :func:`imgwas.traits.check_held_out`.
    min_overlap : float, default 0.5
        As in :func:`imgwas.associate_traits`.
    seed : int
        Of folds and resamples.

    Returns
    -------
    DataFrame
        ``trait``, ``score``, ``metric``, ``n``, ``n_cases``, ``covariates`` and ``with_score`` (the
        metric), ``increment`` with ``ci_low`` and ``ci_high`` (95 %, bootstrap percentiles), and
        ``neg_log_10_p_value`` of the score beside the covariates by ``test`` (as in
        :func:`imgwas.associate_traits`).

    Raises
    ------
    RefusedError
        If anyone was among those the weights were fitted on, or it is not known.

    Notes
    -----
    DeLong's test compares two scores. It is not used for a model and the same model with one more
    column: their areas differ by next to nothing without an effect, and the test's normal
    distribution does not hold (Demler 2012). The coefficient's own test does.

    References
    ----------
    .. [1] Demler, Pencina & D'Agostino (2012), Stat Med 31:2577.
    """
    import pandas as pd

    check_held_out(table, assume=assume_held_out)
    check_range("n_folds", n_folds, low=2, high=100)
    people = aligned_people(table, covariates, min_overlap)
    rows: list[dict[str, Any]] = []
    for trait in [traits] if isinstance(traits, Trait) else traits:
        values, time = placed(trait, people.sample_ids, min_overlap)
        used = np.isfinite(values) & np.isfinite(people.latents).all(axis=1)
        _check_enough(trait, values[used], n_folds, people.covariates.shape[1])
        x, c = people.latents[used], people.covariates[used]
        common = {"trait": trait.name, "metric": METRICS[trait.kind], "n": int(used.sum()),
                  "n_cases": 0 if trait.kind == "number" else int(values[used].sum())}  # fmt: skip
        if trait.kind == "number":
            found = _r2_rows(values[used], x, c, n_bootstrap, seed)
        else:
            own = None if time is None else time[used]
            found = _folded_rows(values[used], own, x, c, n_folds, n_bootstrap, seed)
        tested = fit_trait(trait, values, time, people.latents, people.covariates).rows
        for name, row, test in zip(table.names, found, tested, strict=True):
            p = {"neg_log_10_p_value": test.neg_log10_p, "test": test.method}
            rows.append(common | {"score": name} | row | p)
    frame = pd.DataFrame(rows)
    first = ["trait", "score", "metric", "n", "n_cases"]
    return frame[first + [name for name in frame if name not in first]]


def _check_enough(trait: Trait, values: np.ndarray, n_folds: int, n_covariates: int) -> None:
    n = len(values)
    smaller = n if trait.kind == "number" else int(min(values.sum(), n - values.sum()))
    if trait.kind == "survival":
        smaller = int(values.sum())
    if smaller < 2 * n_folds or n < n_covariates + 10:
        raise DegenerateError(
            explain(f"{trait.name} has {n:,} people, {smaller:,} in its smaller class",
                    expected=f"At least {2 * n_folds} there")
        )  # fmt: skip


def _r2_rows(
    y: np.ndarray, scores: np.ndarray, covariates: np.ndarray, n_bootstrap: int, seed: int
) -> list[dict[str, float]]:
    columns = np.column_stack([np.ones(len(y)), orthonormal_basis(covariates), y, scores])
    k = scores.shape[1]
    base, added = _increments(columns, np.ones(len(y)), k)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            _increments(columns, np.bincount(rng.integers(0, len(y), len(y)), minlength=len(y)), k)[
                1
            ]
            for _ in range(n_bootstrap)
        ]
    ).reshape(n_bootstrap, k)
    low, high = (
        np.quantile(drawn, [0.025, 0.975], axis=0) if n_bootstrap else np.full((2, k), np.nan)
    )
    return [
        {"covariates": base, "with_score": base + float(one), "increment": float(one),
         "ci_low": float(a), "ci_high": float(b)}
        for one, a, b in zip(added, low, high, strict=True)
    ]  # fmt: skip


def _increments(
    columns: Float64[np.ndarray, "people columns"], weight: np.ndarray, k: int
) -> tuple[float, np.ndarray]:
    """R squared of the covariates, and what each of the last k columns adds to it, weighted."""
    gram = (columns * weight[:, None]).T @ columns
    c = gram.shape[0] - k - 1
    solved = np.linalg.lstsq(gram[:c, :c], gram[:c, c:], rcond=None)[0]
    left = gram[c:, c:] - gram[c:, :c] @ solved
    total = gram[c, c] - gram[0, c] ** 2 / gram[0, 0]
    base = 1 - left[0, 0] / total
    with np.errstate(invalid="ignore", divide="ignore"):
        added = left[0, 1:] ** 2 / np.diag(left)[1:] / total
    return float(base), np.asarray(added)


def _folded_rows(
    y: np.ndarray, time: np.ndarray | None, scores: np.ndarray, covariates: np.ndarray,
    n_folds: int, n_bootstrap: int, seed: int,
) -> list[dict[str, float]]:  # fmt: skip
    fold = stratified_folds(y, n_folds, seed)
    base = _out_of_fold(y, time, covariates, fold)
    rows = []
    for k in range(scores.shape[1]):
        full = _out_of_fold(y, time, np.column_stack([covariates, scores[:, k]]), fold)
        rows.append(_increment_row(y, time, base, full, n_bootstrap, seed))
    return rows


def _increment_row(
    y: np.ndarray, time: np.ndarray | None, base: np.ndarray, full: np.ndarray, n_bootstrap: int,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Area or concordance of two predictions, their difference, and its bootstrap interval."""

    def both(rows: np.ndarray) -> np.ndarray:
        pair = np.stack([base[rows], full[rows]], axis=1)
        if time is None:
            return roc_areas(y[rows], pair).area
        return np.array([concordance(time[rows], y[rows] == 1, one) for one in pair.T])

    before, after = both(np.arange(len(y)))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n_bootstrap):
        first, second = both(_resample(y, rng))
        drawn.append(second - first)
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (np.nan, np.nan)
    return {"covariates": float(before), "with_score": float(after),
            "increment": float(after - before), "ci_low": float(low),
            "ci_high": float(high)}  # fmt: skip


def _resample(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many cases, and as many others, as there are, with replacement."""
    groups = [np.flatnonzero(y == value) for value in (0, 1)]
    return np.concatenate([rng.choice(rows, len(rows)) for rows in groups if len(rows)])


def stratified_folds(y: np.ndarray, n_folds: int, seed: int) -> Int64[np.ndarray, " samples"]:
    """Fold of each person; cases and controls are spread evenly."""
    rng = np.random.default_rng(seed)
    fold = np.empty(len(y), np.int64)
    for value in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == value))
        fold[rows] = (np.arange(len(rows)) + rng.integers(n_folds)) % n_folds
    return fold


def _out_of_fold(
    y: np.ndarray, time: np.ndarray | None, columns: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Linear predictor of each person by a model of the other folds, on one scale.

    The logit of a probability, or the log hazard relative to the mean of those it was fitted on.
    """
    out = np.zeros(len(y))
    for number in np.unique(fold):
        train, held = fold != number, fold == number
        mean, sd = columns[train].mean(axis=0), columns[train].std(axis=0)
        good = sd > 0
        x = (columns[:, good] - mean[good]) / sd[good]
        if time is not None:
            if good.any():
                fit = fit_cox(risk_sets(time[train], y[train] == 1), x[train])
                out[held] = x[held] @ fit.beta
            continue
        x = np.column_stack([np.ones(len(y)), x])
        logistic = fit_logistic(y[train], x[train])
        if logistic.is_separated:
            logistic = fit_firth(y[train], x[train])
        out[held] = x[held] @ logistic.beta
    return out

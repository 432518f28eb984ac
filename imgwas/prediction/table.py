"""Cross-validated scores of several models, each beside what guessing gives."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import UsageError, explain
from imgwas.prediction.folds import Task, make_task
from imgwas.prediction.models import MODELS, SCHEMES, make_model
from imgwas.prediction.targets import Target
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def predict_targets(
    features: Latents | Mapping[str, Latents],
    targets: Target | Sequence[Target],
    *,
    models: Sequence[str] = tuple(MODELS),
    schemes: Sequence[str] = SCHEMES[:1],
    n_folds: int = 5,
    groups: Target | None = None,
    seed: int = 0,
    threads: int = 1,
) -> pd.DataFrame:
    """Predict traits of people by cross-validation and say what guessing would give.

    Everyone is predicted once, by a model that was scaled and fitted on the other folds. The
    people and the folds of a target are the same for all models and feature sets.

    Parameters
    ----------
    features : Latents, or mapping from name to Latents
        Latents, raw features, or several such sets to compare.
    targets : Target or sequence of Target
        Classes (sex, age in bins) or numbers (age in years).
    models : sequence of {"linear", "forest", "neighbours", "tree"}
        Logistic or ridge regression, random forest, k nearest neighbours, decision tree.
    schemes : sequence of {"multiclass", "one-vs-rest", "one-vs-one"}
        For targets of more than two classes; two classes and numbers have one way.
    n_folds : int, default 5
        Folds; classes are spread evenly over them.
    groups : Target, optional
        Families or people with repeat visits: a group is never split between folds.
    seed : int, default 0
        Of folds, forests and trees. The same seed gives the same table.
    threads : int, default 1
        Does not change the result.

    Returns
    -------
    DataFrame
        One row per target, feature set, scheme, model and metric: ``score`` (mean over folds),
        ``score_sd`` (over folds), ``chance``, ``chance_rule``, ``is_degenerate`` (in every fold
        one class, or one number, was predicted for everybody), ``n``, ``n_folds``,
        ``n_features``. Classes have ``accuracy`` (chance: share of the largest class),
        ``balanced_accuracy`` (one over the classes) and, if they are two, ``auc`` (0.5); numbers
        have ``r2`` (0) and ``mae`` (that of the training median).

    Raises
    ------
    InconsistentError
        If features and targets share too few people, or a feature is the target itself.
    DegenerateError
        If a target does not vary or a class is smaller than the number of folds.
    MissingLibraryError
        If scikit-learn is not installed.
    """
    import pandas as pd

    sets = {"features": features} if isinstance(features, Latents) else dict(features)
    if not sets or not models or not schemes:
        raise UsageError(explain("nothing to predict from", expected="Features, models, schemes"))
    for name in models:
        check_option("model", name, MODELS)
    rows: list[dict[str, Any]] = []
    for target in [targets] if isinstance(targets, Target) else targets:
        task = make_task(sets, target, n_folds=n_folds, groups=groups, seed=seed)
        for scheme in schemes if len(task.classes) > 2 else ["-"]:
            for name in sets:
                for model in models:
                    rows += _score(task, name, model, scheme, seed, threads)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Fold:
    """What one fold predicts, and the truth."""

    truth: np.ndarray
    predicted: np.ndarray
    ranking: np.ndarray | None
    guess: float


def _score(
    task: Task, features: str, model: str, scheme: str, seed: int, threads: int
) -> list[dict[str, Any]]:
    """Rows of one model on one feature set."""
    is_number = not task.classes
    wanted = SCHEMES[0] if scheme == "-" else scheme
    values = task.features[features]
    folds = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(task.n_folds):
            fitted = make_model(
                model, is_number=is_number, scheme=wanted, seed=seed, threads=threads
            )
            folds.append(_one_fold(task, values, fitted, number))
    label = MODELS[model][int(is_number)]
    _mention(caught, f"{task.target}, {features}, {label}")
    degenerate = all(np.ptp(fold.predicted) == 0 for fold in folds)
    if degenerate:
        logger.warning(
            "%s, %s, %s: DEGENERATE, one %s is predicted for everybody",
            task.target, features, label, "number" if is_number else "class",
        )  # fmt: skip
    metrics = _number_metrics(folds) if is_number else _class_metrics(task, folds)
    common = {"target": task.target, "features": features, "scheme": scheme, "model": label}
    counts = {"n": len(task.outcome), "n_folds": task.n_folds, "n_features": values.shape[1]}
    return [
        common
        | {"metric": metric, "score": float(np.mean(scores)),
           "score_sd": float(np.std(scores, ddof=1)), "chance": chance, "chance_rule": rule,
           "is_degenerate": degenerate}
        | counts
        for metric, (scores, chance, rule) in metrics.items()
    ]  # fmt: skip


def _one_fold(task: Task, values: np.ndarray, model: Any, number: int) -> _Fold:
    held = task.fold == number
    outcome = task.outcome if not task.classes else task.outcome.astype(np.int64)
    model.fit(values[~held], outcome[~held])
    ranking = None
    if len(task.classes) == 2:
        ranking = model.predict_proba(values[held])[:, 1]
    return _Fold(
        truth=outcome[held],
        predicted=np.asarray(model.predict(values[held])),
        ranking=ranking,
        guess=float(np.median(task.outcome[~held])),
    )


_Metrics = dict[str, tuple[list[float], float, str]]


def _class_metrics(task: Task, folds: Sequence[_Fold]) -> _Metrics:
    from sklearn.metrics import roc_auc_score

    k = len(task.classes)
    share = float(np.bincount(task.outcome.astype(np.int64)).max() / len(task.outcome))
    accuracy = [float((fold.truth == fold.predicted).mean()) for fold in folds]
    balanced = [_balanced_accuracy(fold) for fold in folds]
    found: _Metrics = {
        "accuracy": (accuracy, share, "share of the largest class"),
        "balanced_accuracy": (balanced, 1 / k, "one over the number of classes"),
    }
    if k == 2 and all(len(np.unique(fold.truth)) == 2 for fold in folds):
        auc = [float(roc_auc_score(fold.truth, fold.ranking)) for fold in folds]
        found["auc"] = (auc, 0.5, "a ranking by chance")
    return found


def _balanced_accuracy(fold: _Fold) -> float:
    """Mean over the classes in the fold of the share that is predicted right."""
    right = fold.truth == fold.predicted
    return float(np.mean([right[fold.truth == code].mean() for code in np.unique(fold.truth)]))


def _number_metrics(folds: Sequence[_Fold]) -> _Metrics:
    r2, mae, guess = [], [], []
    for fold in folds:
        spread = float(np.square(fold.truth - fold.truth.mean()).sum())
        wrong = float(np.square(fold.truth - fold.predicted).sum())
        r2.append(1 - wrong / spread if spread > 0 else float("nan"))
        mae.append(float(np.abs(fold.truth - fold.predicted).mean()))
        guess.append(float(np.abs(fold.truth - fold.guess).mean()))
    return {
        "r2": (r2, 0.0, "the mean for everybody"),
        "mae": (mae, float(np.mean(guess)), "the median for everybody"),
    }


def _mention(caught: Sequence[warnings.WarningMessage], what: str) -> None:
    """Say once that a fit did not converge; show other warnings as they came."""
    from sklearn.exceptions import ConvergenceWarning

    unfinished = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    if unfinished:
        logger.warning("%s: %d fits did not converge", what, len(unfinished))
    for other in caught:
        if other not in unfinished:
            logger.debug("%s: %s", what, other.message)

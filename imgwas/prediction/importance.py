"""Which features a model leans on, judged on people it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.prediction.folds import Task, make_task
from imgwas.prediction.models import make_model
from imgwas.prediction.targets import Target
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd


def feature_importance(
    features: Latents,
    target: Target,
    *,
    model: str = "linear",
    n_folds: int = 5,
    n_repeats: int = 5,
    groups: Target | None = None,
    seed: int = 0,
    threads: int = 1,
) -> pd.DataFrame:
    """Loss of out-of-fold score when one feature is shuffled among the people of a fold.

    Parameters
    ----------
    features : Latents
        Latents or raw features.
    target : Target
        Classes (score: accuracy) or a number (score: R²).
    model : {"linear", "forest", "neighbours", "tree"}
        Fitted on the other folds.
    n_folds : int, default 5
        As in :func:`predict_targets`: the same folds.
    n_repeats : int, default 5
        Shuffles per fold and feature.
    groups, seed, threads
        As in :func:`predict_targets`.

    Returns
    -------
    DataFrame
        ``feature``, ``importance`` (mean over folds, in units of the score), ``importance_sd``
        (over folds), most important first. Features that say the same share their importance, or
        hide it from each other.

    Raises
    ------
    DegenerateError, InconsistentError, MissingLibraryError
        As :func:`predict_targets`.
    """
    import pandas as pd

    check_range("n_repeats", n_repeats, low=1)
    sets = {"features": features}
    task = make_task(sets, target, n_folds=n_folds, groups=groups, seed=seed)
    losses = np.array(
        [_one_fold(task, model, number, n_repeats, seed, threads) for number in range(n_folds)]
    )
    order = np.argsort(-losses.mean(axis=0), kind="stable")
    return pd.DataFrame(
        {
            "feature": np.array(task.names["features"], object)[order],
            "importance": losses.mean(axis=0)[order],
            "importance_sd": losses.std(axis=0, ddof=1)[order],
        }
    )


def _one_fold(
    task: Task, name: str, number: int, n_repeats: int, seed: int, threads: int
) -> np.ndarray:
    """Mean loss of each feature in one fold."""
    held = task.fold == number
    outcome = task.outcome if not task.classes else task.outcome.astype(np.int64)
    values = task.features["features"]
    model = make_model(name, is_number=not task.classes, seed=seed, threads=threads)
    model.fit(values[~held], outcome[~held])
    shown, truth = values[held].copy(), outcome[held]
    full = float(model.score(shown, truth))
    rng = np.random.default_rng([seed, number])
    losses = np.zeros(values.shape[1])
    for feature in range(values.shape[1]):
        column = shown[:, feature].copy()
        for _ in range(n_repeats):
            shown[:, feature] = rng.permutation(column)
            losses[feature] += (full - float(model.score(shown, truth))) / n_repeats
        shown[:, feature] = column
    return losses

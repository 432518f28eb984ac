"""The models of a prediction table, with scaling inside whatever they are fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import MissingLibraryError, explain

#: name of a model -> what it is called for classes and for numbers
MODELS = {
    "linear": ("logistic regression", "ridge regression"),
    "forest": ("random forest", "random forest"),
    "neighbours": ("nearest neighbours", "nearest neighbours"),
    "tree": ("decision tree", "decision tree"),
}
#: How more than two classes are told apart.
SCHEMES = ("multiclass", "one-vs-rest", "one-vs-one")
#: Trees of a forest.
TREES = 200


def load_sklearn() -> Any:
    """Import scikit-learn, or say how to install it."""
    try:
        import sklearn
    except ImportError as error:
        raise MissingLibraryError(
            explain(
                "prediction needs scikit-learn, which is not installed",
                do="pip install 'imgwas[predict]'",
            )
        ) from error
    return sklearn


def make_model(
    name: str, *, is_number: bool, scheme: str = "multiclass", seed: int = 0, threads: int = 1
) -> Any:
    """Make an unfitted pipeline: scale each feature, then the model.

    Logistic regression has an L2 penalty of one; the penalty of ridge regression is chosen by
    leave-one-out within the rows it is fitted on; forests have 200 trees, neighbours are 5, trees
    are grown to the end.

    Parameters
    ----------
    name : {"linear", "forest", "neighbours", "tree"}
        Which model.
    is_number : bool
        Regression rather than classification.
    scheme : {"multiclass", "one-vs-rest", "one-vs-one"}
        How several classes are told apart.
    seed : int
        Of forests and trees.
    threads : int
        Of forests and neighbours; the result does not depend on it.
    """
    load_sklearn()
    from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    check_option("model", name, MODELS)
    check_option("scheme", scheme, SCHEMES)
    model = _regressor(name, seed, threads) if is_number else _classifier(name, seed, threads)
    if scheme == "one-vs-rest":
        model = OneVsRestClassifier(model)
    elif scheme == "one-vs-one":
        model = OneVsOneClassifier(model)
    return make_pipeline(StandardScaler(), model)


def _classifier(name: str, seed: int, threads: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    if name == "linear":
        return LogisticRegression(max_iter=5000)
    if name == "forest":
        return RandomForestClassifier(TREES, random_state=seed, n_jobs=threads)
    if name == "neighbours":
        return KNeighborsClassifier(n_jobs=threads)
    return DecisionTreeClassifier(random_state=seed)


def _regressor(name: str, seed: int, threads: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.tree import DecisionTreeRegressor

    if name == "linear":
        return RidgeCV(alphas=np.logspace(-2, 5, 22))
    if name == "forest":
        return RandomForestRegressor(TREES, random_state=seed, n_jobs=threads)
    if name == "neighbours":
        return KNeighborsRegressor(n_jobs=threads)
    return DecisionTreeRegressor(random_state=seed)

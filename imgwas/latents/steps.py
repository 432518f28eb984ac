"""Transforms by name, in the order they were asked for, each written down."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain
from imgwas.latents.components import fit_components
from imgwas.latents.residuals import residualize
from imgwas.latents.transforms import quantile_normalize, rank_normalize
from imgwas.types import Covariates, Latents

logger = logging.getLogger(__name__)

#: name of a step -> what it does
STEPS = {
    "rank-normal": "rank-based inverse normal transform of each latent",
    "quantile-normal": "the same, learned from the people of --fit-on",
    "quantile-common": "one common distribution for all latents",
    "residualize": "subtract what the covariates explain",
    "pca": "principal components of the standardised latents",
    "whiten": "principal components with variance one",
}


def transform_latents(
    latents: Latents,
    steps: Sequence[str],
    *,
    covariates: Covariates | None = None,
    n_components: int | None = None,
    fit_on: Collection[str] | None = None,
) -> tuple[Latents, list[dict[str, Any]]]:
    """Apply steps to latents, one after the other.

    Parameters
    ----------
    latents : Latents
        People and their order stay; missing values stay missing.
    steps : sequence of str
        Names in ``STEPS``, in the order of application; a step may come twice.
    covariates : Covariates, optional
        For ``residualize``.
    n_components : int, optional
        For ``pca`` and ``whiten``; all by default.
    fit_on : collection of str, optional
        Sample ids of the people whom quantiles and components are learned from.

    Returns
    -------
    transformed : Latents
        Same people in the same order.
    done : list of dict
        What each step did, as JSON values.

    Raises
    ------
    UsageError
        If a step is not known, or lacks its input, or an input has no step.
    InconsistentError
        If nobody of ``fit_on`` has latents.
    """
    check_steps(
        steps,
        has_covariates=covariates is not None,
        n_components=n_components,
        has_people=fit_on is not None,
    )
    fit = None if fit_on is None else _chosen_people(latents, fit_on)
    done = []
    for step in steps:
        latents, said = _apply(step, latents, covariates, n_components, fit)
        _check_something_left(latents, step)
        done.append({"step": step, "missing_values": int(np.isnan(latents.values).sum())} | said)
    return latents, done


def check_steps(
    steps: Sequence[str],
    *,
    has_covariates: bool = False,
    n_components: int | None = None,
    has_people: bool = False,
) -> None:
    """Refuse an unknown step, one without its input, and an input that no step would use."""
    for step in steps:
        check_option("step", step, STEPS)
    rotates, learns = {"pca", "whiten"}, {"pca", "whiten", "quantile-normal", "quantile-common"}
    if not steps:
        raise UsageError(explain("no step was given", expected=f"Some of {', '.join(STEPS)}"))
    if ("residualize" in steps) != has_covariates:
        what = "is there" if has_covariates else "is missing"
        raise UsageError(
            explain(f"the table of covariates {what}, and the steps are {', '.join(steps)}",
                    expected="Covariates (--covar) and the step residualize together")
        )  # fmt: skip
    if n_components is not None and not rotates & set(steps):
        raise UsageError(explain("a number of components was given", expected="pca or whiten"))
    if has_people and not learns & set(steps):
        raise UsageError(
            explain("people to fit on were given", expected=f"One of {', '.join(sorted(learns))}")
        )


def _chosen_people(latents: Latents, fit_on: Collection[str]) -> np.ndarray:
    wanted = set(fit_on)
    fit = np.array([sample in wanted for sample in latents.sample_ids])
    if not fit.any():
        raise InconsistentError(
            explain(
                f"none of the {len(wanted):,} people to fit on has latents",
                expected="Sample ids (IID) of the table of latents",
            )
        )
    logger.info("fitted on %s of %s people", f"{int(fit.sum()):,}", f"{len(fit):,}")
    return fit


def _apply(
    step: str,
    latents: Latents,
    covariates: Covariates | None,
    n_components: int | None,
    fit: np.ndarray | None,
) -> tuple[Latents, dict[str, Any]]:
    people = {} if fit is None else {"people_fitted": int(fit.sum())}
    if step == "rank-normal":
        return replace(latents, values=rank_normalize(latents.values)), {"offset": 0.375}
    if step.startswith("quantile"):
        target = step.removeprefix("quantile-")
        values = quantile_normalize(latents.values, target=target, fit=fit)
        return replace(latents, values=values), people
    if step == "residualize":
        assert covariates is not None
        said = {"covariates": list(covariates.names), "file": _where_from(covariates.source)}
        return residualize(latents, covariates), said
    components = fit_components(latents, n_components=n_components, fit=fit)
    scores = components.apply(latents, whiten=step == "whiten")
    return scores, {
        "people_fitted": components.n,
        "latents": list(components.latents),
        "redundant": list(components.redundant),
        "share_of_variance": [float(share) for share in components.share],
    }


def _where_from(source: Mapping[str, Any]) -> dict[str, Any]:
    return {key: source[key] for key in ("file", "bytes", "sha256") if key in source}


def _check_something_left(latents: Latents, step: str) -> None:
    if np.isnan(latents.values).all():
        raise DegenerateError(explain(f"every value is missing after the step {step}"))

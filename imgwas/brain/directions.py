"""Directions of latent space: a latent, a component, a variant, a trait, a difference of groups.

A direction is a move of the latents, in the encoder's own units, and what the move is per: an
allele, a standard deviation, a year. Where a regression estimated it, it knows how sure it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgwas.checks import check_option, check_range, did_you_mean
from imgwas.errors import DegenerateError, TooFewSamplesError, UsageError, explain
from imgwas.latents.basis import orthonormal_basis, remove
from imgwas.latents.joining import aligned_values
from imgwas.shapes import Float, Float64
from imgwas.types import Covariates, Latents


@dataclass(frozen=True)
class Direction:
    """A move of the latents and how sure it is.

    Parameters
    ----------
    name : str
        What is moved.
    vector : (latents,) float array
        The move, in the units of the encoder's latents.
    per : str
        What the move is for: ``allele``, ``SD``, ``year``, ``group``.
    kind : str
        ``latent``, ``component``, ``variant``, ``trait`` or ``group``.
    variance : float, optional
        Number c such that ``vector`` has covariance ``c C`` under no effect, C being the
        covariance of the latents after covariates; None where the move was not estimated.
    dof : float
        Residual degrees of freedom of the regression; infinite where there was none.
    n : int
        People.
    """

    name: str
    vector: Float64[np.ndarray, " latents"]
    per: str
    kind: str
    variance: float | None = None
    dof: float = float("inf")
    n: int = 0


def latent_direction(latents: Latents, name: str) -> Direction:
    """One latent, moved by its standard deviation."""
    row = latents.names.index(name) if name in latents.names else -1
    if row < 0:
        raise UsageError(
            explain(f"there is no latent {name!r}", do=did_you_mean(name, latents.names)
                    or f"There are {', '.join(latents.names[:8])}")
        )  # fmt: skip
    vector = np.zeros(len(latents.names))
    vector[row] = np.nanstd(latents.values[:, row])
    return Direction(name, vector, "SD", "latent", n=len(latents.sample_ids))


def component_direction(latents: Latents, number: int) -> Direction:
    """A principal component of the standardised latents, moved by its standard deviation."""
    check_range("component", number, low=1, high=len(latents.names))
    values = latents.values[np.isfinite(latents.values).all(axis=1)]
    sd = values.std(axis=0)
    standard = (values - values.mean(axis=0)) / np.where(sd > 0, sd, 1)
    _, sizes, vectors = np.linalg.svd(standard, full_matrices=False)
    spread = sizes[number - 1] / np.sqrt(len(values))
    vector = vectors[number - 1] * spread * sd
    return Direction(f"PC{number}", vector, "SD", "component", n=len(values))


def regression_direction(
    latents: Latents,
    trait: Float[np.ndarray, " samples"],
    name: str,
    *,
    covariates: Covariates | None = None,
    per: str = "SD",
    kind: str = "trait",
) -> Direction:
    """How the latents differ with a trait: the regression of each latent on it.

    ``z_k = C g + x b_k + e``; x is divided by its standard deviation where ``per`` is ``SD``. These
    are the pattern of a linear or logistic probe, not its weights: weights also carry whatever
    cancels noise [1]_. With a two-valued trait and ``per="group"`` it is the difference of the
    groups' means, adjusted for the covariates.

    Parameters
    ----------
    latents : Latents
    trait : (samples,) float array
        One value for each row of ``latents``; NaN is missing.
    name : str
    covariates : Covariates, optional
        Adjusted for: head size, age, sex; matched by id.
    per : {"SD", "unit", "group"}
    kind : str

    Raises
    ------
    TooFewSamplesError, DegenerateError
        If too few people have the trait, or it does not vary beyond the covariates.

    References
    ----------
    .. [1] Haufe et al. (2014), NeuroImage 87:96.
    """
    check_option("per", per, ["SD", "unit", "group"])
    values, x, basis = _complete(latents, trait, covariates)
    if per == "group" and len(np.unique(x)) != 2:
        raise UsageError(
            explain(f"{name} has {len(np.unique(x))} values", expected="A group has two")
        )
    unit = x.std() if per == "SD" else 1.0
    spread = remove(x[:, None], basis)[:, 0]
    if x.std() == 0 or np.linalg.norm(spread) < 1e-6 * np.linalg.norm(x - x.mean()):
        raise DegenerateError(
            explain(f"{name} does not vary beyond the covariates among {len(x):,} people")
        )
    spread = spread / unit
    squares = float(spread @ spread)
    move = remove(values, basis).T @ spread / squares
    dof = len(x) - basis.shape[1] - 2
    return Direction(name, move, per, kind, variance=1 / squares, dof=dof, n=len(x))


def probe_direction(
    latents: Latents,
    trait: Float[np.ndarray, " samples"],
    name: str,
    *,
    model: str = "linear",
    time: Float[np.ndarray, " samples"] | None = None,
    covariates: Covariates | None = None,
) -> Direction:
    """Move along the weights of a probe, as the diffusion autoencoder and StyleGAN papers do.

    A linear, logistic or Cox model predicts the trait from the standardised latents (and the
    covariates, whose share is not moved); the move is along its weights, so far that the score
    rises by one standard deviation.

    Parameters
    ----------
    latents : Latents
    trait : (samples,) float array
        Values; 0 and 1 for ``logistic``; 1 for an event and 0 for censored for ``cox``.
    name : str
    model : {"linear", "logistic", "cox"}
    time : (samples,) float array, optional
        Of the event or of censoring, for ``cox``.
    covariates : Covariates, optional

    Raises
    ------
    UsageError
        If the trait does not fit the model.
    DegenerateError
        If the model cannot be fitted.
    """
    check_option("model", model, ["linear", "logistic", "cox"])
    if model == "cox" and time is None:
        raise UsageError(explain("a Cox model needs times", do="Give time= or --trait-time"))
    joint = trait if time is None else np.where(np.isnan(time), np.nan, trait)
    values, x, basis, used = _complete_rows(latents, joint, covariates)
    if model != "linear" and not set(np.unique(x)) <= {0.0, 1.0}:
        raise UsageError(
            explain(f"{name} has values beside 0 and 1", expected=f"{model} needs 0, 1")
        )
    sd = values.std(axis=0)
    standard = (values - values.mean(axis=0)) / np.where(sd > 0, sd, 1)
    nuisance = basis * np.sqrt(len(x))
    when = None if time is None else np.asarray(time, np.float64)[used]
    weights = _fit(model, standard, nuisance, x, when)
    score = standard @ weights
    length = float(weights @ weights)
    if not np.isfinite(weights).all() or length == 0:
        raise DegenerateError(explain(f"the {model} probe of {name} has no finite weights"))
    return Direction(name, weights * sd * score.std() / length, "SD", "trait", n=len(x))


def _fit(
    model: str,
    latents: np.ndarray,
    nuisance: np.ndarray,
    y: np.ndarray,
    time: np.ndarray | None,
) -> np.ndarray:
    """Fit the probe and return the weights of the latents."""
    import warnings

    import statsmodels.api as sm

    k = latents.shape[1]
    design = np.hstack([latents, nuisance])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            fitted: Any
            if model == "cox":
                fitted = sm.PHReg(time, design, status=y, ties="efron").fit()
                return np.asarray(fitted.params[:k], np.float64)
            family = sm.families.Binomial() if model == "logistic" else sm.families.Gaussian()
            fitted = sm.GLM(y, sm.add_constant(design), family=family).fit()
            return np.asarray(fitted.params[1 : k + 1], np.float64)
        except Exception as error:
            if not isinstance(error, (ValueError, RuntimeWarning, np.linalg.LinAlgError)):
                name = type(error).__name__
                if name not in ("PerfectSeparationWarning", "PerfectSeparationError"):
                    raise
            raise DegenerateError(
                explain(f"the {model} probe cannot be fitted to {len(y):,} people ({error})",
                        do="Use fewer latents, more people, or the regression on the trait")
            ) from error  # fmt: skip


def _complete(
    latents: Latents, trait: np.ndarray, covariates: Covariates | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, x, basis, _ = _complete_rows(latents, trait, covariates)
    return values, x, basis


def _complete_rows(
    latents: Latents, trait: np.ndarray, covariates: Covariates | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Latents, trait and covariates of the people who have them all."""
    if len(trait) != len(latents.sample_ids):
        raise UsageError(
            explain(f"the trait has {len(trait):,} values",
                    expected=f"{len(latents.sample_ids):,} people have latents")
        )  # fmt: skip
    known = np.isfinite(latents.values).all(axis=1) & np.isfinite(trait)
    nuisance = np.empty((len(trait), 0))
    if covariates is not None:
        nuisance = aligned_values(latents, covariates, min_overlap=0)
        known &= np.isfinite(nuisance).all(axis=1)
    used = np.flatnonzero(known)
    k = latents.values.shape[1]
    if len(used) < nuisance.shape[1] + 3:
        raise TooFewSamplesError(
            explain(f"{len(used)} people have the trait, every latent and every covariate",
                    expected=f"More than {nuisance.shape[1] + 2} are needed for {k} latents")
        )  # fmt: skip
    basis = orthonormal_basis(nuisance[used])
    return latents.values[used], np.asarray(trait, np.float64)[used], basis, used


def residual_covariance(
    latents: Latents,
    covariates: Covariates | None = None,
    trait: Float[np.ndarray, " samples"] | None = None,
) -> Float64[np.ndarray, "k k"]:
    """Return the covariance of the latents after covariates, of the people who have all of them.

    Sums of products over n - rank - 2, the degrees of freedom that one more regressor leaves, as
    a scan counts them. With a ``trait`` (NaN is missing) of the people who have that too: the test
    of all latents together is exact only among the people of the regression.

    Raises
    ------
    TooFewSamplesError
        If these are too few.
    """
    if trait is None:
        trait = np.zeros(len(latents.sample_ids))
    values, _, basis = _complete(latents, trait, covariates)
    rest = remove(values, basis)
    return np.asarray(rest.T @ rest / (len(rest) - basis.shape[1] - 2))


def units_per_sd(
    vector: Float64[np.ndarray, " k"], covariance: Float64[np.ndarray, "k k"]
) -> float:
    """Return how many times the vector is a move by one standard deviation of people along it.

    ``sqrt(v' C v) / |v|^2``: people vary by ``sqrt(v' C v) / |v|`` along v. For one latent this is
    the latent's own standard deviation.
    """
    length = float(vector @ vector)
    spread = float(vector @ covariance @ vector)
    return float(np.sqrt(max(spread, 0.0))) / length if length else 0.0

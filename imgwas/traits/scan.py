"""Traits against latents: every pair fitted on its own people, then corrected for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_unique
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    RefusedError,
    UsageError,
    explain,
)
from imgwas.latents import eigen_spectrum
from imgwas.latents.basis import orthonormal_basis, remove
from imgwas.latents.ledger import who_was_seen
from imgwas.multiple_testing import benjamini_hochberg, bonferroni
from imgwas.traits.fits import fit_trait
from imgwas.traits.held_out import check_held_out
from imgwas.traits.multiple import max_t
from imgwas.traits.outcomes import Trait
from imgwas.traits.people import aligned_people, placed
from imgwas.types import Covariates, Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Columns of the table, in order.
COLUMNS = (
    "trait", "latent", "kind", "method", "n", "n_cases", "beta", "standard_error", "ci_low",
    "ci_high", "ratio", "statistic", "neg_log_10_p_value", "neg_log_10_p_bonferroni",
    "neg_log_10_q_value", "p_max_t", "note",
)  # fmt: skip


def associate_traits(
    latents: Latents,
    traits: Trait | Sequence[Trait],
    covariates: Covariates | None = None,
    *,
    n_permutations: int = 0,
    effective: str = "cheverud",
    min_overlap: float = 0.5,
    allow_in_sample: bool = False,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Test every latent against every trait, with confounds.

    Numbers by least squares, cases by logistic regression (Firth's where classes separate),
    survival by Cox's model with Efron's ties; each with one latent and all covariates. Every pair
    uses the people who have both, so its numbers do not depend on what else is tested.

    Parameters
    ----------
    latents : Latents
        Standardised over the people with complete covariates; effects are per that SD.
    traits : Trait or sequence of Trait
        From :func:`imgwas.read_traits`, :func:`imgwas.define_cases`, :func:`imgwas.follow_up`.
    covariates : Covariates, optional
        Confounds: age, sex, site, head size, motion. Nobody with a missing one is used.
    n_permutations : int
        For ``p_max_t``, see :func:`imgwas.traits.max_t`; 0 for none.
    effective : {"cheverud", "li-ji", "galwey"}
        How many independent latents there are, for Bonferroni.
    min_overlap : float, default 0.5
        Share of the smaller side, latents or trait, whose people must be in the other.
    allow_in_sample : bool
        Accept a supervised network's features of its own training people. They know the label.
    seed : int
        Of the permutations.
    progress : callable, optional
        Called with the number of tests done.

    Returns
    -------
    DataFrame
        One row per trait and latent: ``trait``, ``latent``, ``kind``, ``method`` (ols, logistic,
        firth, cox), ``n``, ``n_cases`` (or events), ``beta`` per SD of the latent (change of a
        number, log odds ratio, log hazard ratio), ``standard_error``, ``ci_low`` and ``ci_high``
        (95 %), ``ratio`` (exp beta; NaN for numbers), ``statistic``, ``neg_log_10_p_value``,
        ``neg_log_10_p_bonferroni`` over traits times effective latents, ``neg_log_10_q_value``
        (Benjamini-Hochberg over all rows), ``p_max_t`` if asked for, and ``note``.

    Raises
    ------
    InconsistentError
        If too few people are shared, or a trait is a latent.
    RefusedError
        If the latents are in-sample features of a supervised network.
    """
    traits = [traits] if isinstance(traits, Trait) else list(traits)
    _check(latents, traits, allow_in_sample)
    people = aligned_people(latents, covariates, min_overlap)
    x, c, ids = people.latents, people.covariates, people.sample_ids
    rows, scores = [], np.zeros((len(ids), len(traits)))
    for number, trait in enumerate(traits):
        values, time = placed(trait, ids, min_overlap)
        _check_not_a_latent(trait, values, x, latents.names)
        fit = fit_trait(trait, values, time, x, c, progress=progress)
        scores[:, number] = fit.score
        rows += [
            {"trait": trait.name, "latent": name, "kind": trait.kind, **asdict(row)}
            for name, row in zip(latents.names, fit.rows, strict=True)
        ]
    n_effective = len(traits) * eigen_spectrum(latents).effective_number(effective)
    frame = _corrected(rows, n_effective)
    if n_permutations:
        p = _permuted(scores, x, c, n_permutations, seed, progress)
        frame["p_max_t"] = p.reshape(-1)
    return frame[[name for name in COLUMNS if name in frame]]


def _check(latents: Latents, traits: Sequence[Trait], allow_in_sample: bool) -> None:
    if not traits:
        raise UsageError(explain("there is no trait to test"))
    check_unique("the traits", [trait.name for trait in traits])
    if len(set(latents.sample_ids)) != len(latents.sample_ids):
        raise InconsistentError(
            explain("the latents have people who come twice",
                    expected="One row per person: traits are matched by IID")
        )  # fmt: skip
    if latents.source.get("in_sample") and not allow_in_sample:
        raise RefusedError(
            explain(
                "these latents are features of people whose labels trained the network",
                expected="Out-of-fold features: these know the label they were trained on",
                do="Encode out of fold (imgwas train --folds 5), or pass --allow-in-sample",
            )
        )
    check_held_out(latents, assume=allow_in_sample)
    marks = latents.source.get("people_seen")
    if marks:
        seen = int(who_was_seen(marks, latents.sample_ids).sum())
        if seen:
            logger.warning("%s of %s people trained the encoder of these latents", f"{seen:,}",
                           f"{len(latents.sample_ids):,}")  # fmt: skip


def _check_not_a_latent(
    trait: Trait, values: np.ndarray, latents: np.ndarray, names: Sequence[str]
) -> None:
    both = np.isfinite(values) & np.isfinite(latents).all(axis=1)
    if trait.kind != "number" or both.sum() < 3:
        return
    y = values[both] - values[both].mean()
    x = latents[both] - latents[both].mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.abs(y @ x) / np.sqrt((y @ y) * np.square(x).sum(axis=0))
    same = np.flatnonzero(r > 1 - 1e-9)
    if len(same):
        raise InconsistentError(
            explain(f"the trait {trait.name} is the latent {names[same[0]]} itself",
                    do="Leave one of them out")
        )  # fmt: skip


def _corrected(rows: list[dict], n_effective: float) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows).rename(columns={"neg_log10_p": "neg_log_10_p_value"})
    frame["ratio"] = np.where(frame["kind"] == "number", np.nan, np.exp(frame["beta"]))
    p = frame["neg_log_10_p_value"].to_numpy(np.float64)
    frame["neg_log_10_p_bonferroni"] = bonferroni(p, max(n_effective, 1.0))
    frame["neg_log_10_q_value"] = benjamini_hochberg(p)
    logger.info("%s tests, %.1f of them effective: Bonferroni's P is %.2e", f"{len(frame):,}",
                n_effective, 0.05 / max(n_effective, 1.0))  # fmt: skip
    return frame


def _permuted(
    scores: np.ndarray, latents: np.ndarray, covariates: np.ndarray, n_permutations: int,
    seed: int, progress: Callable[[int], object] | None,
) -> np.ndarray:  # fmt: skip
    """P values of maxT on the people who have all latents."""
    whole = np.isfinite(latents).all(axis=1)
    if not whole.any():
        raise DegenerateError(
            explain("nobody has all latents", do="Test fewer latents, or leave out --permutations")
        )
    if not whole.all():
        logger.warning("maxT uses the %s of %s people who have all latents",
                       f"{int(whole.sum()):,}", f"{len(whole):,}")  # fmt: skip
    basis = orthonormal_basis(covariates[whole])
    x = remove(latents[whole], basis)
    return max_t(scores[whole], x, n_permutations=n_permutations, seed=seed, progress=progress)

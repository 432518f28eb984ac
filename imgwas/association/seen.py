"""Who trained the encoder must not be scanned with it: the ledger that travels with latents."""

from __future__ import annotations

import logging

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import RefusedError, TooFewSamplesError, explain
from imgwas.latents.ledger import who_was_seen
from imgwas.types import Latents

logger = logging.getLogger(__name__)

CHOICES = ("refuse", "exclude", "allow")


def without_training_people(latents: Latents, how: str) -> Latents:
    """Compare the people of a table of latents with those that its encoder has seen.

    Parameters
    ----------
    latents : Latents
        Made by ``imgwas encode``, whose table carries the ledger; any other table passes.
    how : {"refuse", "exclude", "allow"}
        What to do about people who trained the encoder.

    Returns
    -------
    Latents
        Without them, under ``exclude``.

    Raises
    ------
    RefusedError
        Under ``refuse``, if there are any, or if the latents are a supervised network's features
        of its own training people.
    """
    check_option("training_people", how, CHOICES)
    source = latents.source
    if source.get("in_sample") and how != "allow":
        raise RefusedError(
            explain(
                "these latents are features of people whose labels trained the network",
                expected="A scan of them finds the genetics of the label",
                do="Encode out of fold (imgwas train --folds 5), or pass --training-people allow",
            )
        )
    marks = source.get("people_seen")
    if not marks:
        if "encoder" in source and not source.get("out_of_fold"):
            logger.warning("it is not known whom the encoder of these latents was trained on")
        return latents
    seen = who_was_seen(marks, latents.sample_ids)
    if not seen.any():
        logger.info("ledger   nobody here has trained the encoder")
        return latents
    n = f"{int(seen.sum()):,} of {len(seen):,}"
    if how == "refuse":
        raise RefusedError(
            explain(
                f"{n} people of these latents trained the encoder that made them",
                expected="Their latents were fitted, not measured",
                do="--training-people exclude leaves them out; allow keeps them",
            )
        )
    logger.warning("ledger   %s people trained the encoder: %s", n,
                   "left out" if how == "exclude" else "kept, as asked")  # fmt: skip
    return latents if how == "allow" else _rows(latents, ~seen)


def _rows(latents: Latents, keep: np.ndarray) -> Latents:
    rows = np.flatnonzero(keep)
    if not len(rows):
        raise TooFewSamplesError(
            explain("everyone of these latents trained the encoder",
                    do="Encode people who did not, or pass --training-people allow")
        )  # fmt: skip
    families = latents.family_ids
    return Latents(
        values=latents.values[rows],
        sample_ids=tuple(latents.sample_ids[i] for i in rows),
        names=latents.names,
        family_ids=None if families is None else tuple(families[i] for i in rows),
        source=latents.source,
    )

"""Relatives that a genotype file records."""

from __future__ import annotations

import logging

import numpy as np

from imgwas.types import Samples

logger = logging.getLogger(__name__)

#: Smallest share of people with a relative of the same family that is worth a warning.
FEW_RELATED = 0.01


def warn_of_relatives(samples: Samples, columns: np.ndarray) -> int:
    """Say so when the genotype file records relatives among the analysed people."""
    families: dict[str, int] = {}
    for column in columns:
        families[samples.family_ids[column]] = families.get(samples.family_ids[column], 0) + 1
    together = sum(n for family, n in families.items() if family != "0" and n > 1)
    children = int((~samples.is_founder[columns]).sum())
    n = max(together, children) if len(families) > 1 else children
    if n > FEW_RELATED * len(columns):
        logger.warning(
            "%s of %s people share a family id or have a parent recorded; heritability takes "
            "people as unrelated, so leave one of each pair out (--remove)",
            f"{n:,}", f"{len(columns):,}",
        )  # fmt: skip
    return n

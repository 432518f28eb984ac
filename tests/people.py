"""Sixty people, and tables of them, for tests of who is analysed and how."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgwas.types import Covariates, Latents, Samples

N = 60
IDS = tuple(f"sub{1000 + i}" for i in range(N))


def samples_of(
    ids: Sequence[str], families: Sequence[str] | None = None, sex: Sequence[int] | None = None
) -> Samples:
    """People of a genotype file."""
    n = len(ids)
    codes = np.zeros(n, np.int8) if sex is None else np.asarray(sex, np.int8)
    return Samples(tuple(ids), tuple(families or ["0"] * n), codes, np.ones(n, bool))


def latents_of(
    ids: Sequence[str],
    families: Sequence[str] | None = None,
    names: Sequence[str] = ("z",),
    values: np.ndarray | None = None,
) -> Latents:
    """Latents of people, random unless given."""
    if values is None:
        values = np.random.default_rng(0).standard_normal((len(ids), len(names)))
    return Latents(
        values, tuple(ids), tuple(names), family_ids=None if families is None else tuple(families)
    )


def covariates_of(ids: Sequence[str], values: np.ndarray | None = None) -> Covariates:
    """Covariates c0, c1, ... of people, two random ones unless given."""
    if values is None:
        values = np.random.default_rng(1).standard_normal((len(ids), 2))
    return Covariates(values, tuple(ids), tuple(f"c{i}" for i in range(values.shape[1])))

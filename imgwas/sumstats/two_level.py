"""Which latents does a variant move: false discovery rate in two levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.arrow import from_numpy
from imgwas.checks import check_range
from imgwas.errors import InconsistentError, explain
from imgwas.multiple_testing import discoveries
from imgwas.shapes import Float64
from imgwas.sumstats.effects import VARIANT_COLUMNS
from imgwas.sumstats.pvalues import neg_log10_p_value
from imgwas.sumstats.store import SumStats

if TYPE_CHECKING:
    import pandas as pd


def two_level_fdr(
    results: SumStats,
    neg_log10_p: Float64[np.ndarray, " variants"],
    *,
    q_variants: float = 0.05,
    q_latents: float = 0.05,
    threshold: float | None = None,
) -> pd.DataFrame:
    """Find variants by a test of all latents, and then the latents of each variant found.

    Parameters
    ----------
    results : SumStats
        The scan.
    neg_log10_p : (variants,) array
        -log10 P of the omnibus test for every variant of the scan, in its order; NaN is no test.
    q_variants : float
        False discovery rate among variants.
    q_latents : float
        Expected share of false latents, averaged over the variants that are found.
    threshold : float, optional
        Select variants by this P value (such as 5e-8) instead of ``q_variants``.

    Returns
    -------
    DataFrame
        One row a discovery: ``chromosome base_pair_location variant_id effect_allele other_allele
        latent beta standard_error neg_log_10_p_value neg_log_10_p_omnibus``, strongest variant
        first.

    Notes
    -----
    Level 1 is Benjamini-Hochberg over the variants, S of M of which are selected. Level 2 is
    Benjamini-Hochberg over the latents of each selected variant at ``q_latents S / M``, so that the
    false share, averaged over selected variants, stays below ``q_latents``.

    References
    ----------
    .. [1] Peterson, Bogomolov, Benjamini & Sabatti (2016), Genetic Epidemiology 40:45.
    .. [2] Benjamini & Bogomolov (2014), JRSS B 76:297.
    """
    check_range("q_variants", q_variants, low=0, high=1)
    check_range("q_latents", q_latents, low=0, high=1)
    if len(neg_log10_p) != results.n_variants:
        raise InconsistentError(
            explain(
                f"{len(neg_log10_p):,} omnibus values for {results.n_variants:,} variants",
                expected="One value a variant, in the order of the scan",
                do="Take the column neg_log_10_p_value of imgwas.omnibus(results)",
            )
        )
    if threshold is None:
        selected = discoveries(neg_log10_p, q_variants)
    else:
        selected = neg_log10_p >= -np.log10(threshold)
    n_tested = max(int(np.isfinite(neg_log10_p).sum()), 1)
    return _second_level(results, neg_log10_p, selected, q_latents * selected.sum() / n_tested)


def _second_level(
    results: SumStats, omnibus: np.ndarray, selected: np.ndarray, level: float
) -> pd.DataFrame:
    import pandas as pd

    names = list(results.latents)
    columns = [*VARIANT_COLUMNS, *(c for name in names for c in results.columns_of(name))]
    frames: list[pd.DataFrame] = []
    start = 0
    for block in results.iter_blocks(list(dict.fromkeys(columns))):
        here = np.flatnonzero(selected[start : start + block.num_rows])
        some = block.take(from_numpy(here))
        p = np.empty((len(here), len(names)))
        for k, name in enumerate(names):
            effects = results.effects(some, name)
            p[:, k] = neg_log10_p_value(effects.t, effects.dof)
        passes = discoveries(p, level)
        for k, name in enumerate(names):
            rows = np.flatnonzero(passes[:, k])
            if len(rows) or not frames:
                frame = results.statistics(some.take(from_numpy(rows)), name)
                frame["latent"] = np.full(len(rows), name, object)
                frame["neg_log_10_p_omnibus"] = omnibus[start + here[rows]]
                frames.append(frame)
        start += block.num_rows
    table = pd.concat(frames, ignore_index=True)[_SHOWN]
    order = ["neg_log_10_p_omnibus", "neg_log_10_p_value"]
    return table.sort_values(order, ascending=False, ignore_index=True, kind="stable")


_SHOWN = [
    "chromosome", "base_pair_location", "variant_id", "effect_allele", "other_allele", "latent",
    "beta", "standard_error", "neg_log_10_p_value", "neg_log_10_p_omnibus",
]  # fmt: skip

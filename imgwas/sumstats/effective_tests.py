"""How many independent tests a set of correlated latents is worth, by the field's formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import UsageError, explain


def _all(values: np.ndarray) -> float:
    return float(len(values))


def _nyholt(values: np.ndarray) -> float:
    k = len(values)
    return 1 + (k - 1) * (1 - float(np.var(values, ddof=1)) / k) if k > 1 else 1.0


def _li_ji(values: np.ndarray) -> float:
    rounded = np.round(values, 10)  # an eigenvalue of one must not become 0.999...
    return float((rounded >= 1).sum() + (rounded - np.floor(rounded)).sum())


def _gao(values: np.ndarray) -> float:
    share = np.cumsum(np.sort(values)[::-1]) / values.sum()
    return float(np.searchsorted(share, 0.995 * (1 - 1e-12)) + 1)


def _galwey(values: np.ndarray) -> float:
    return float(np.sqrt(values).sum() ** 2 / values.sum())


METHODS: dict[str, Callable[[np.ndarray], float]] = {
    "bonferroni": _all,
    "nyholt": _nyholt,
    "li_ji": _li_ji,
    "gao": _gao,
    "galwey": _galwey,
}


def effective_tests(correlation: Any, method: str = "bonferroni") -> float:
    """Effective number of independent tests among correlated latents.

    Parameters
    ----------
    correlation : (latents, latents) array or DataFrame
        ``SumStats.latent_correlation()``.
    method : {"bonferroni", "nyholt", "li_ji", "gao", "galwey"}
        With eigenvalues v of the correlation of K latents: K; ``1 + (K - 1)(1 - var(v) / K)``;
        ``sum(1[v >= 1] + v - floor(v))``; how many of the largest hold 99.5 % of the variance;
        ``(sum sqrt v)^2 / sum v``.

    Returns
    -------
    float

    References
    ----------
    .. [1] Nyholt (2004), AJHG 74:765. Li & Ji (2005), Heredity 95:221. Gao et al. (2008), Genetic
       Epidemiology 32:361. Galwey (2009), Genetic Epidemiology 33:559.
    """
    check_option("method", method, list(METHODS))
    values = np.asarray(correlation, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not np.isfinite(values).all():
        raise UsageError(
            explain(
                f"the correlation has shape {values.shape} or holds no number somewhere",
                expected="A square matrix, such as results.latent_correlation()",
            )
        )
    return METHODS[method](np.maximum(np.linalg.eigvalsh((values + values.T) / 2), 0))


def study_wide_threshold(
    correlation: Any,
    method: str = "bonferroni",
    *,
    genome_wide: float = 5e-8,
) -> float:
    """P value below which a variant counts as found when every latent was scanned.

    Parameters
    ----------
    correlation : (latents, latents) array or DataFrame
        ``SumStats.latent_correlation()``.
    method : {"bonferroni", "nyholt", "li_ji", "gao", "galwey"}
        As in :func:`effective_tests`. Bonferroni, the default, holds for any correlation. Nyholt
        comes close to the truth unless latents are very alike; Li and Ji's and Galwey's numbers,
        which are often quoted, let through up to twice the errors they promise, see
        ``docs/heritability.md``.
    genome_wide : float
        Threshold of a single trait.

    Returns
    -------
    float
        ``genome_wide`` over the effective number of latents.
    """
    check_range("genome_wide", genome_wide, low=0, high=1)
    return genome_wide / effective_tests(correlation, method)

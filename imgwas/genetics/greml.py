"""Heritability by restricted maximum likelihood: one eigendecomposition, then every latent.

The model is ``y ~ N(C g, s2 (h2 A + (1 - h2) I))`` with ``A`` the relationship matrix of the
variants. With covariates removed and ``P A P = U diag(d) U'`` on the dimensions that are left,
``U'y`` has independent entries of variance ``s2 (1 + h2 (d_i - 1))``, so a likelihood costs a sum
and every latent is one search over h2 (Kang 2008; Lippert 2011).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.cluster import available_cores
from imgwas.errors import DegenerateError, explain
from imgwas.genetics.heritability import check_variants
from imgwas.genetics.standard import (
    AlignedDesign,
    StandardGenotypes,
    autosomal_rows,
    in_order,
    packed,
    people_of,
)
from imgwas.genotypes.relatives import warn_of_relatives
from imgwas.shapes import Float64, Int64
from imgwas.types import Genotypes

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

MOST_PEOPLE = 20_000
#: Relationship above which two people count as relatives: third degree is 0.125. With few
#: independent variants chance alone reaches that, so it must also be this many deviations away.
RELATED, FAR_OUT = 0.1, 6.0
#: Steps of the first, coarse search, and of the bisection after it.
GRID, BISECTIONS = 41, 40


def relationship_matrix(
    people: StandardGenotypes,
    rows: Int64[np.ndarray, " variants"],
    *,
    min_maf: float = 0.01,
    threads: int = 1,
    progress: Callable[[int], object] | None = None,
) -> tuple[Float64[np.ndarray, "samples samples2"], int]:
    """Relationship matrix ``n/M sum_j g_j g_j'`` of standardised genotypes, in double precision.

    Returns
    -------
    matrix : (samples, samples) float array
        Mean and covariates removed; its trace is the number of dimensions left.
    n_variants : int
        Variants that vary and are common enough.
    """
    matrix, n_variants = np.zeros((people.n, people.n)), 0

    def product(some: np.ndarray) -> tuple[np.ndarray, int]:
        genotypes, moments = people.standardised(some)
        good = (moments.maf > min_maf) & (moments.length > 0)
        chosen = genotypes[good]
        return chosen.T @ chosen, len(chosen)

    pieces = [rows[at : at + 1024] for at in range(0, len(rows), 1024)]
    for piece, (square, n) in zip(pieces, in_order(product, pieces, threads), strict=True):
        matrix += square
        n_variants += n
        if progress is not None:
            progress(len(piece))
    return matrix * (people.n_free / max(n_variants, 1)), n_variants


def fit_variance_components(
    values: Float64[np.ndarray, " dimensions"],
    rotated: Float64[np.ndarray, "dimensions traits"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maximise the restricted likelihood of every trait over its heritability.

    Parameters
    ----------
    values : (dimensions,) float array
        Eigenvalues ``d`` of the relationship matrix.
    rotated : (dimensions, traits) float array
        ``U'y``.

    Returns
    -------
    heritability : (traits,) float array
        From 0 to 1, the bounds included.
    standard_error : (traits,) float array
        From the expected information, which also holds at a bound.
    log_likelihood : (traits,) float array
        At the estimate, up to a constant.

    Notes
    -----
    With ``x_i = (d_i - 1)/(1 + h2 (d_i - 1))`` the score is
    ``(n sum x z / sum z - sum x)/2``, ``z_i = (U'y)_i^2/(1 + h2 (d_i - 1))``, and
    ``var(h2) = 2/(sum x^2 - (sum x)^2/n)``.
    """
    away, squares = values - 1.0, np.square(rotated)
    top = min(1.0, _largest(away))
    grid = np.linspace(0, top, GRID)
    likelihood = np.stack(
        [_log_likelihood(away, squares, np.full(squares.shape[1], h)) for h in grid]
    )
    best = likelihood.argmax(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, GRID - 1)]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        rises = _score(away, squares, middle) > 0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    h2 = (low + high) / 2
    for bound in (0.0, top):  # the likelihood may be highest at the end of the range
        at = np.full_like(h2, bound)
        better = _log_likelihood(away, squares, at) >= _log_likelihood(away, squares, h2)
        h2 = np.where(better, at, h2)
    return h2, _error(away, h2), _log_likelihood(away, squares, h2)


def _largest(away: np.ndarray) -> float:
    """Keep every variance positive when an eigenvalue is zero."""
    lowest = float(away.min(initial=0.0))
    return (1 - 1e-6) / -lowest if lowest < 0 else 1.0


def _variance(away: np.ndarray, h2: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 + away[:, None] * h2[None, :])


def _log_likelihood(away: np.ndarray, squares: np.ndarray, h2: np.ndarray) -> np.ndarray:
    variance = _variance(away, h2)
    scale = (squares / variance).mean(axis=0)
    return np.asarray(-(len(away) * np.log(scale) + np.log(variance).sum(axis=0)) / 2)


def _score(away: np.ndarray, squares: np.ndarray, h2: np.ndarray) -> np.ndarray:
    variance = _variance(away, h2)
    x, z = away[:, None] / variance, squares / variance
    return np.asarray(len(away) * (x * z).sum(axis=0) / z.sum(axis=0) - x.sum(axis=0))


def _error(away: np.ndarray, h2: np.ndarray) -> np.ndarray:
    x = away[:, None] / _variance(away, h2)
    information = (x * x).sum(axis=0) - np.square(x.sum(axis=0)) / len(away)
    return np.asarray(np.sqrt(2 / information))


def estimate_greml(
    genotypes: Genotypes,
    design: AlignedDesign,
    *,
    min_maf: float = 0.01,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Estimate the heritability of every latent by restricted maximum likelihood.

    ``y ~ N(C g, s2 (h2 A + (1 - h2) I))``. More precise than Haseman-Elston regression at the price
    of a matrix of people by people; for up to 20,000 people.

    Parameters
    ----------
    genotypes : Genotypes
        Those of the scan.
    design : AlignedDesign
        From ``imgwas.association.build_design``.
    min_maf : float, default 0.01
        Variants with a minor allele this rare or rarer are left out.
    threads : int, optional
        The cores this process may use by default.
    progress : callable, optional
        Told how many variants are done.

    Returns
    -------
    DataFrame
        ``latent, heritability, standard_error, z, n, n_variants, log_likelihood`` and
        ``is_at_bound``, True where the estimate is 0 or 1 because the likelihood still rises there.

    Raises
    ------
    DegenerateError
        If there are too many people, or no variant is left.

    Notes
    -----
    Memory: about 24 bytes x people squared. Latents missing for other people need a decomposition
    of their own.

    References
    ----------
    .. [1] Kang et al. (2008), Genetics 178:1709. Yang et al. (2011), AJHG 88:76.
    .. [2] Lippert et al. (2011), Nature Methods 8:833.
    """
    import pandas as pd

    check_range("min_maf", min_maf, low=0, high=0.5)
    reader = packed(genotypes)
    n = max(int(group.used.sum()) for group in design.groups)
    if n > MOST_PEOPLE:
        raise DegenerateError(
            explain(
                f"{n:,} people would need {24e-9 * n * n:,.0f} GB for their relationship matrix",
                expected=f"GREML takes at most {MOST_PEOPLE:,} people",
                do="Use --method he, which has no such matrix, or --keep some people",
            )
        )
    warn_of_relatives(reader.samples, np.asarray(design.sample_columns))
    if len(design.groups) > 1:
        logger.info(
            "greml: %d patterns of missing latents, one decomposition each", len(design.groups)
        )
    tables = [
        _group_table(reader, design, group, min_maf, threads or available_cores(), progress)
        for group in design.groups
    ]
    return pd.concat(tables, ignore_index=True)


def _group_table(
    genotypes: Any,
    design: AlignedDesign,
    group: Any,
    min_maf: float,
    threads: int,
    progress: Callable[[int], object] | None,
) -> pd.DataFrame:
    import pandas as pd

    people = people_of(genotypes, design, group)
    rows = autosomal_rows(genotypes)
    matrix, n_variants = relationship_matrix(
        people, rows, min_maf=min_maf, threads=threads, progress=progress
    )
    check_variants(rows[:n_variants], min_maf)
    _warn_of_pairs(matrix)
    values, vectors = decompose(matrix, people)
    h2, error, likelihood = fit_variance_components(values, vectors.T @ group.traits[group.used])
    return pd.DataFrame(
        {
            "latent": group.names,
            "heritability": h2,
            "standard_error": error,
            "z": h2 / error,
            "n": people.n,
            "n_variants": n_variants,
            "log_likelihood": likelihood,
            "is_at_bound": (h2 <= 0) | (h2 >= min(1.0, _largest(values - 1))),
        }
    )


def decompose(
    matrix: Float64[np.ndarray, "samples samples2"], people: StandardGenotypes
) -> tuple[Float64[np.ndarray, " dimensions"], Float64[np.ndarray, "samples dimensions"]]:
    """Eigenvalues and vectors on the dimensions that mean and covariates leave.

    Mean and covariates are moved above all other eigenvalues, where they are cut off.
    """
    from scipy.linalg import eigh

    removed = np.column_stack([np.full(people.n, people.n**-0.5), people.basis])
    above = 2 * float(np.abs(matrix).sum(axis=1).max())
    # float32 products leave the matrix symmetric only up to rounding
    shifted = (matrix + matrix.T) / 2 + above * (removed @ removed.T)
    values, vectors = eigh(shifted, overwrite_a=True, check_finite=False)
    return np.maximum(values[: people.n_free], 0.0), vectors[:, : people.n_free]


def _warn_of_pairs(matrix: np.ndarray) -> None:
    above = matrix[np.triu_indices(len(matrix), 1)]
    limit = max(RELATED, FAR_OUT * 1.4826 * float(np.median(np.abs(above))))
    related = int((above > limit).sum())
    if related:
        logger.warning(
            "%s pairs of people have a relationship above %g; what their families share counts as "
            "heritability, so leave one of each pair out (--remove)", f"{related:,}", limit,
        )  # fmt: skip

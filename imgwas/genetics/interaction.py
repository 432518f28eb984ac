"""Does a variant act differently by sex or environment: G x E on many latents at once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import did_you_mean
from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain, first_ids
from imgwas.latents.basis import missing_patterns, orthonormal_basis, remove
from imgwas.shapes import Float64, Int64
from imgwas.sumstats import neg_log10_p_value
from imgwas.types import Covariates, Genotypes, Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: A variant or product of which less than this share is left beside the rest is not tested.
EXPLAINED = 1e-8
_BLOCK_VALUES = 20_000_000


@dataclass(frozen=True)
class InteractionBlock:
    """Main effects and interactions of variants on latents, (variants, latents).

    Parameters
    ----------
    beta, beta_interaction : (variants, latents) array
        Effect per copy at the mean of the environment, and its change per unit of it.
    standard_error, standard_error_interaction : (variants, latents) array
        Of least squares, or robust to unequal variances (HC1).
    dof : int
        n - rank(C, e, 1) - 2.
    """

    beta: Float64[np.ndarray, "variants latents"]
    beta_interaction: Float64[np.ndarray, "variants latents"]
    standard_error: Float64[np.ndarray, "variants latents"]
    standard_error_interaction: Float64[np.ndarray, "variants latents"]
    dof: int


def interaction_block(
    dosage: Float64[np.ndarray, "variants samples"],
    traits: Float64[np.ndarray, "samples latents"],
    environment: Float64[np.ndarray, " samples"],
    covariates: Float64[np.ndarray, "samples covariates"],
    *,
    robust: bool = True,
) -> InteractionBlock:
    """Fit ``y = C c + g a + e d + (g e) b + error`` for all variants and latents.

    Two products with the latents and three sums a variant solve every two-by-two system; robust
    errors take three more products. The environment is centred, so that ``a`` is the effect at its
    mean.

    Parameters
    ----------
    dosage : (variants, samples) array
        Nothing missing.
    traits : (samples, latents) array
        Nothing missing.
    environment : (samples,) array
        ``e``: sex, age.
    covariates : (samples, covariates) array
        ``C``; the intercept and the environment are always in the model.
    robust : bool, default True
        Errors that hold when the variance of the latent changes with the environment.

    References
    ----------
    .. [1] White (1980), Econometrica 48:817; MacKinnon & White (1985) for n / (n - p).
    .. [2] Voorman et al. (2011), PLoS One 6:e19416, on G x E and unequal variances.
    """
    e = environment - environment.mean()
    basis = orthonormal_basis(np.column_stack([covariates, e]))
    n, dof = len(e), len(e) - basis.shape[1] - 3
    if dof < 1:
        raise DegenerateError(explain(f"{n:,} people are too few for an interaction"))
    y = remove(traits, basis)
    centred = dosage - dosage.mean(axis=1, keepdims=True)
    g, h = (remove(one.T, basis).T for one in (centred, centred * e))
    gg, gh, hh = (np.einsum("vn,vn->v", a, b) for a, b in ((g, g), (g, h), (h, h)))
    total = np.einsum("vn,vn->v", centred, centred)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = hh - gh * gh / gg
        bad = ~(gg > EXPLAINED * total) | ~(left > EXPLAINED * np.maximum(hh, total * e.var()))
        gg, left = np.where(bad, np.nan, gg)[:, None], np.where(bad, np.nan, left)[:, None]
        determinant = gg * left
        gy, hy = g @ y, h @ y
        beta = (hh[:, None] * gy - gh[:, None] * hy) / determinant
        change = (hy - gh[:, None] / gg * gy) / left
        if robust:
            pieces = _Pieces(g, h, y, beta, change)
            u = h - (gh / gg[:, 0])[:, None] * g
            v = g - (gh / hh)[:, None] * h
            factor = n / dof
            errors = [np.sqrt(factor * pieces.meat(one)) / np.einsum("vn,vn->v", one, one)[:, None]
                      for one in (v, u)]  # fmt: skip
        else:
            yy = np.einsum("nk,nk->k", y, y)
            variance = (yy - beta * gy - change * hy) / dof
            errors = [np.sqrt(variance * hh[:, None] / determinant), np.sqrt(variance / left)]
    return InteractionBlock(beta, change, errors[0], errors[1], dof)


class _Pieces:
    """Sums of squared residuals weighted by squared regressors, without any residual in memory."""

    def __init__(
        self, g: np.ndarray, h: np.ndarray, y: np.ndarray, beta: np.ndarray, change: np.ndarray
    ) -> None:
        self.g, self.h, self.y, self.beta, self.change = g, h, y, beta, change

    def meat(self, u: np.ndarray) -> np.ndarray:
        """Sum over people of ``u^2 (y - g a - h b)^2``, (variants, latents)."""
        square, g, h, a, b = u * u, self.g, self.h, self.beta, self.change
        out = square @ np.square(self.y)
        out -= 2 * a * ((square * g) @ self.y) + 2 * b * ((square * h) @ self.y)
        for x, z, factor in ((g, g, a * a), (h, h, b * b), (g, h, 2 * a * b)):
            out += factor * np.einsum("vn,vn,vn->v", square, x, z)[:, None]
        return np.asarray(np.maximum(out, 0.0))


def find_interactions(
    genotypes: Genotypes,
    latents: Latents,
    covariates: Covariates,
    environment: str,
    *,
    rows: Int64[np.ndarray, " variants"] | None = None,
    with_covariates: bool = True,
    robust: bool = True,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Test whether the effect of variants on latents changes with an environment, such as sex.

    ``y = C c + g a + e d + (g e) b + error``. Missing genotypes take the mean of the analysed
    people. Each latent is fitted on the people who have it.

    Parameters
    ----------
    genotypes : Genotypes
        Opened genotypes.
    latents : Latents
        Traits.
    covariates : Covariates
        With the environment among them.
    environment : str
        Name of its column.
    rows : (variants,) int array, optional
        Rows of the genotype file to test, such as lead variants; all by default.
    with_covariates : bool, default True
        Also fit the product of the environment with every other covariate: without them an
        interaction of ancestry with the environment looks like one of a variant.
    robust : bool, default True
        See :func:`interaction_block`.
    progress : callable, optional
        Called with the number of variants done.

    Returns
    -------
    DataFrame
        One row per variant and latent: ``beta`` at the mean environment, ``beta_interaction``,
        their standard errors, ``neg_log_10_p_interaction``, ``n``, effect-allele frequency.

    Raises
    ------
    UsageError
        If the environment is no covariate.
    InconsistentError
        If the people of the three do not meet.

    References
    ----------
    .. [1] Keller (2014), Biol Psychiatry 75:18, on covariates times environment.
    """
    import pandas as pd

    if environment not in covariates.names:
        raise UsageError(
            explain(f"there is no covariate {environment!r}",
                    do=did_you_mean(environment, covariates.names)
                    or f"There are {', '.join(covariates.names[:8])}")
        )  # fmt: skip
    columns, y, c = _aligned(genotypes, latents, covariates)
    which = covariates.names.index(environment)
    e, rest = c[:, which], np.delete(c, which, axis=1)
    if with_covariates and rest.shape[1]:
        rest = np.column_stack([rest, (rest - rest.mean(axis=0)) * (e - e.mean())[:, None]])
    rows = np.arange(genotypes.n_variants) if rows is None else np.asarray(rows, np.int64)
    step = max(1, _BLOCK_VALUES // max(len(columns), 1))
    frames = []
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        dosage = genotypes.read_dosages(some)[:, columns].astype(np.float64)
        for named, used in missing_patterns(y, np.ones(len(y), bool)):
            own = _filled(dosage[:, used])
            block = interaction_block(own, y[used][:, named], e[used], rest[used], robust=robust)
            frames.append(_table(genotypes, some, own, latents, named, block))
        if progress is not None:
            progress(len(some))
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["environment"] = environment
    return frame


def _filled(dosage: np.ndarray) -> np.ndarray:
    missing = np.isnan(dosage)
    if not missing.any():
        return dosage
    count = np.maximum((~missing).sum(axis=1), 1)
    mean = np.where(missing, 0.0, dosage).sum(axis=1) / count
    return np.where(missing, mean[:, None], dosage)


def _aligned(
    genotypes: Genotypes, latents: Latents, covariates: Covariates
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns of the genotype file, latents and covariates of the people who are in all three."""
    places = [
        {one: row for row, one in enumerate(ids)}
        for ids in (latents.sample_ids, covariates.sample_ids)
    ]
    complete = np.isfinite(covariates.values).all(axis=1)
    columns = [
        column
        for column, one in enumerate(genotypes.samples.sample_ids)
        if one in places[0] and one in places[1] and complete[places[1][one]]
    ]
    if len(columns) < 4:
        raise InconsistentError(
            explain(f"{len(columns)} people have genotypes, latents and covariates",
                    where=f"genotypes {first_ids(genotypes.samples.sample_ids)}; "
                    f"latents {first_ids(latents.sample_ids)}",
                    do="Check that the ids are of the same kind")
        )  # fmt: skip
    ids = [genotypes.samples.sample_ids[column] for column in columns]
    y = np.take(latents.values, [places[0][one] for one in ids], axis=0)
    c = np.take(covariates.values, [places[1][one] for one in ids], axis=0)
    return np.array(columns, np.int64), y, c


def _table(
    genotypes: Genotypes, rows: np.ndarray, dosage: np.ndarray, latents: Latents,
    named: np.ndarray, block: InteractionBlock,
) -> pd.DataFrame:  # fmt: skip
    import pandas as pd

    variants = genotypes.variants.take(rows).to_pandas()
    variants["effect_allele_frequency"] = dosage.mean(axis=1) / 2
    variants["n"] = dosage.shape[1]
    frames = []
    for k, column in enumerate(named):
        frame = variants.copy()
        frame.insert(0, "latent", latents.names[column])
        for name in ("beta", "standard_error", "beta_interaction", "standard_error_interaction"):
            frame[name] = getattr(block, name)[:, k]
        t = frame["beta_interaction"] / frame["standard_error_interaction"]
        frame["neg_log_10_p_interaction"] = neg_log10_p_value(t.to_numpy(), block.dof)
        frames.append(frame)
    table: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return table

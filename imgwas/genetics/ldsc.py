"""LD score regression of a scan: heritability of every latent, correlation with other studies."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import InconsistentError, explain
from imgwas.genetics.external import ExternalStatistics
from imgwas.genetics.harmonise import VariantTable, bare_chromosome, harmonise_alleles
from imgwas.genetics.heritability import CLEAR
from imgwas.genetics.jackknife import block_edges, jackknife_error
from imgwas.genetics.ld_scores import LdScores
from imgwas.genetics.ldsc_regression import (
    FIRST_STEP,
    Correlations,
    Heritabilities,
    regress_chi2,
    regress_products,
)
from imgwas.shapes import Float64, Int64
from imgwas.sumstats import SumStats

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: Numbers of a latent held in memory at once.
AT_ONCE = 20_000_000
#: Fewer variants than this, or fewer people, and LDSC is known to be unsure.
FEW_VARIANTS, FEW_PEOPLE = 200_000, 5000
#: The median of a chi-square with one degree of freedom.
MEDIAN_CHI2 = 0.45493642


@dataclass(frozen=True)
class _Matched:
    """Variants of a scan that have an LD score."""

    rows: Int64[np.ndarray, " used"]
    score: Float64[np.ndarray, " used"]


def estimate_ldsc(
    sumstats: SumStats,
    scores: LdScores,
    *,
    latents: Sequence[str] | None = None,
    min_maf: float = 0.01,
    two_step: float | None = FIRST_STEP,
    intercept: float | None = None,
    n_blocks: int = 200,
) -> pd.DataFrame:
    """Estimate the heritability of every latent by LD score regression.

    ``E[z_j^2] = N h2 l_j / M + a``. Needs no genotypes where LD scores are given. Less precise than
    Haseman-Elston regression on the people of the scan, but its intercept tells confounding from
    polygenicity.

    Parameters
    ----------
    sumstats : SumStats
        Results of a scan.
    scores : LdScores
        From :func:`imgwas.compute_ld_scores` or :func:`imgwas.read_ld_scores`.
    latents : sequence of str, optional
        All by default.
    min_maf : float, default 0.01
        Variants with a minor allele this rare or rarer are left out.
    two_step : float, optional
        Variants with a chi-square below 30 find the intercept first. None fits both at once.
    intercept : float, optional
        Fix the intercept, e.g. at 1.
    n_blocks : int, default 200
        Jackknife blocks.

    Returns
    -------
    DataFrame
        ``latent, heritability, standard_error, z, intercept, intercept_error, ratio, ratio_error,
        mean_chi2, lambda_gc, n_variants``. ``ratio`` is (intercept - 1)/(mean chi-square - 1), NaN
        where there is no inflation. Nothing is cut off.

    Raises
    ------
    InconsistentError
        If no variant has an LD score.
    DegenerateError
        If too few variants are left for the jackknife.

    References
    ----------
    .. [1] Bulik-Sullivan et al. (2015), Nature Genetics 47:291.
    """
    import pandas as pd

    check_range("min_maf", min_maf, low=0, high=0.5)
    names = list(latents) if latents is not None else list(sumstats.latents)
    for name in names:
        sumstats.entry(name)
    matched = _match_scores(sumstats, scores, min_maf)
    edges = block_edges(len(matched.rows), n_blocks)
    _warn_if_small(sumstats, len(matched.rows))
    tables = []
    for some, z, n in _statistics(sumstats, names, matched.rows):
        found = regress_chi2(
            z * z, matched.score, n, scores.n_variants, edges, two_step=two_step,
            intercept=intercept,
        )  # fmt: skip
        tables.append(_heritability_table(some, found, z))
    return pd.concat(tables, ignore_index=True)


def _heritability_table(names: Sequence[str], found: Heritabilities, z: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    error = found.heritability_error
    return pd.DataFrame(
        {
            "latent": names,
            "heritability": found.heritability,
            "standard_error": error,
            "z": found.heritability / error,
            "intercept": found.line.intercept,
            "intercept_error": found.intercept_error,
            "ratio": found.ratio,
            "ratio_error": found.ratio_error,
            "mean_chi2": found.mean_chi2,
            "lambda_gc": np.nanmedian(z * z, axis=0) / MEDIAN_CHI2,
            "n_variants": found.n_variants,
        }
    )


def correlate_with(
    sumstats: SumStats,
    external: ExternalStatistics,
    scores: LdScores,
    *,
    latents: Sequence[str] | None = None,
    min_maf: float = 0.01,
    n_blocks: int = 200,
) -> pd.DataFrame:
    """Genetic correlation of every latent with another study, by cross-trait LD score regression.

    ``E[z_1j z_2j] = sqrt(N1 N2) rho l_j / M + a``, with the statistics of the other study put on
    the effect alleles of the scan. People who are in both studies go into the intercept.

    Parameters
    ----------
    sumstats : SumStats
        Results of a scan.
    external : ExternalStatistics
        From :func:`imgwas.read_statistics`.
    scores : LdScores
        From :func:`imgwas.compute_ld_scores` or :func:`imgwas.read_ld_scores`.
    latents : sequence of str, optional
        All by default.
    min_maf : float, default 0.01
        Variants with a minor allele this rare or rarer are left out.
    n_blocks : int, default 200
        Jackknife blocks.

    Returns
    -------
    DataFrame
        ``latent, external, correlation, standard_error, z, covariance, covariance_error, intercept,
        intercept_error, heritability, heritability_error, external_heritability,
        external_heritability_error, n_variants``; ``attrs["alleles"]`` counts what harmonising did.
        ``correlation`` is NaN where a heritability is at most two standard errors. Its sign is that
        of the latent as it was scanned, which for a learned latent means nothing by itself.

    Raises
    ------
    InconsistentError
        If the studies share no variant, or none with an LD score.

    References
    ----------
    .. [1] Bulik-Sullivan et al. (2015), Nature Genetics 47:1236.
    """
    import pandas as pd

    check_range("min_maf", min_maf, low=0, high=0.5)
    names = list(latents) if latents is not None else list(sumstats.latents)
    for name in names:
        sumstats.entry(name)
    matched = _match_scores(sumstats, scores, min_maf)
    ours = _variant_table(sumstats, matched.rows)
    both = harmonise_alleles(ours, external.variants, names=(str(sumstats.folder), external.name))
    logger.info(
        "alleles  %s", ", ".join(f"{what} {n:,}" for what, n in both.counts.items() if n)
    )  # fmt: skip
    edges = block_edges(len(both.ours), n_blocks)
    _warn_if_small(sumstats, len(both.ours))
    theirs = (external.z[both.theirs] * both.sign)[:, None]
    their_n = external.n[both.theirs][:, None]
    tables = []
    for some, z, n in _statistics(sumstats, names, matched.rows[both.ours]):
        shape = z.shape
        found = regress_products(
            z, np.broadcast_to(theirs, shape).copy(), matched.score[both.ours], n,
            np.broadcast_to(their_n, shape).copy(), scores.n_variants, edges,
        )  # fmt: skip
        tables.append(_correlation_table(some, external.name, found))
    table = pd.concat(tables, ignore_index=True)
    table.attrs["alleles"] = both.counts
    return table


def _correlation_table(names: Sequence[str], external: str, found: Correlations) -> pd.DataFrame:
    import pandas as pd

    h2, error = found.first.heritability, found.first.heritability_error
    their_h2, their_error = found.second.heritability, found.second.heritability_error
    clear = (h2 > CLEAR * error) & (their_h2 > CLEAR * their_error)
    if not clear.all():
        logger.warning(
            "%d of %d correlations with %s are not defined (NaN): a heritability is within %g "
            "standard errors of zero", (~clear).sum(), len(clear), external, CLEAR,
        )  # fmt: skip
    correlation = np.where(clear, found.correlation, np.nan)
    correlation_error = np.where(clear, found.correlation_error, np.nan)
    return pd.DataFrame(
        {
            "latent": names,
            "external": external,
            "correlation": correlation,
            "standard_error": correlation_error,
            "z": correlation / correlation_error,
            "covariance": found.line.slope,
            "covariance_error": jackknife_error(found.line.deleted_slope),
            "intercept": found.line.intercept,
            "intercept_error": jackknife_error(found.line.deleted_intercept),
            "heritability": h2,
            "heritability_error": error,
            "external_heritability": their_h2,
            "external_heritability_error": their_error,
            "n_variants": found.first.n_variants,
        }
    )


def _match_scores(sumstats: SumStats, scores: LdScores, min_maf: float) -> _Matched:
    """Find the score of every tested, common variant by id, or else by position."""
    frame = sumstats.variants(
        ["variant_id", "chromosome", "base_pair_location", "effect_allele_frequency.0", "reason.0"]
    )
    frequency = frame["effect_allele_frequency.0"].to_numpy()
    with np.errstate(invalid="ignore"):
        common = np.minimum(frequency, 1 - frequency) > min_maf
    usable = np.flatnonzero(common & (frame["reason.0"].to_numpy() == 0))
    by_id = _rows_in(frame["variant_id"].tolist(), list(scores.variant_id))
    places = [f"{bare_chromosome(c)}:{p}" for c, p in
              zip(frame["chromosome"], frame["base_pair_location"], strict=True)]  # fmt: skip
    their_places = [f"{bare_chromosome(c)}:{p}" for c, p in
                    zip(scores.chromosome, scores.position, strict=True)]  # fmt: skip
    by_place = _rows_in(places, their_places)
    found = max((by_id, by_place), key=lambda rows: int((rows[usable] >= 0).sum()))
    used = usable[found[usable] >= 0]
    score = scores.score[found[used]]
    used, score = used[np.isfinite(score)], score[np.isfinite(score)]
    logger.info("LD scores for %s of %s common variants", f"{len(used):,}", f"{len(usable):,}")
    if not len(used):
        ours = _first_three(frame["variant_id"], places)
        theirs = _first_three(scores.variant_id, their_places)
        raise InconsistentError(
            explain(
                f"none of the {len(usable):,} common variants of {sumstats.folder} has an LD "
                "score, neither by id nor by position",
                where=f"the scan begins with {ours}; the scores with {theirs}",
                do="Scores name variants by rs number and position in GRCh37 as a rule; leave "
                "--ld-scores out to compute them from the genotypes",
            )
        )
    return _order_by_place(frame, used, score)


def _first_three(ids: Iterable[str], places: Sequence[str]) -> str:
    return ", ".join(f"{v} at {p}" for v, p in zip(ids, places[:3], strict=False))


def _rows_in(wanted: Sequence[str], known: Sequence[str]) -> np.ndarray:
    place: dict[str, int] = {}
    for row, key in enumerate(known):
        place[key] = -1 if key in place else row
    return np.array([place.get(key, -1) for key in wanted], np.int64)


def _order_by_place(frame: pd.DataFrame, used: np.ndarray, score: np.ndarray) -> _Matched:
    """Blocks of the jackknife are stretches of the genome, so variants go in its order."""
    from imgwas.sumstats.store import chromosome_code

    codes = np.array([chromosome_code(c) for c in frame["chromosome"].iloc[used]])
    order = np.lexsort((frame["base_pair_location"].to_numpy()[used], codes))
    return _Matched(used[order], score[order])


def _variant_table(sumstats: SumStats, rows: np.ndarray) -> VariantTable:
    frame = sumstats.variants(
        ["variant_id", "effect_allele", "other_allele", "chromosome", "base_pair_location",
         "effect_allele_frequency.0"]
    ).iloc[rows]  # fmt: skip
    return VariantTable(
        variant_id=frame["variant_id"].tolist(),
        effect_allele=frame["effect_allele"].tolist(),
        other_allele=frame["other_allele"].tolist(),
        chromosome=frame["chromosome"].tolist(),
        position=frame["base_pair_location"].to_numpy(np.int64),
        frequency=frame["effect_allele_frequency.0"].to_numpy(np.float64),
        genome_build=sumstats.metadata.get("genome_build"),
    )


def _statistics(
    sumstats: SumStats, names: Sequence[str], rows: np.ndarray
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """Yield latents, their t and their number of people at some variants, a few latents at once."""
    size = max(1, AT_ONCE // max(sumstats.n_variants, 1))
    for start in range(0, len(names), size):
        some = list(names[start : start + size])
        groups = [sumstats.entry(name).group for name in some]
        columns = [*(f"t.{name}" for name in some), *(f"n.{g}" for g in sorted(set(groups)))]
        frame = sumstats.variants(columns)
        z = frame[[f"t.{name}" for name in some]].to_numpy(np.float64)[rows]
        n = frame[[f"n.{g}" for g in sorted(set(groups))]].to_numpy(np.float64)[rows]
        yield some, z, n[:, np.searchsorted(sorted(set(groups)), groups)]


def _warn_if_small(sumstats: SumStats, n_variants: int) -> None:
    people = int(sumstats.samples["kept"])
    if n_variants < FEW_VARIANTS or people < FEW_PEOPLE:
        logger.warning(
            "LD score regression on %s variants and %s people: its errors are large below %s "
            "variants or %s people; Haseman-Elston regression is more precise",
            f"{n_variants:,}", f"{people:,}", f"{FEW_VARIANTS:,}", f"{FEW_PEOPLE:,}",
        )  # fmt: skip

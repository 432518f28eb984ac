"""Chi-square tests of all latents from tables of summary statistics, one a latent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.errors import DegenerateError, InconsistentError, explain
from imgwas.sumstats.joint import OmnibusTest

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: variants whose largest abs(z) stays below this estimate the correlation
NULL_Z = 4.0
_PLACE = ["chromosome", "base_pair_location"]
_ALLELES = ["effect_allele", "other_allele"]


def omnibus_from_tables(
    tables: Mapping[str, pd.DataFrame],
    correlation: pd.DataFrame | None = None,
    *,
    shrink: float = 0.0,
    eig_keep: int | None = None,
) -> pd.DataFrame:
    """Test variants against several latents of which only summary statistics are at hand.

    ``T = z' R^-1 z`` is chi-square with as many degrees of freedom as latents (JAGWAS, and the
    multi-trait tests before it).

    Parameters
    ----------
    tables : mapping of str to DataFrame
        For each latent ``chromosome base_pair_location effect_allele other_allele beta
        standard_error`` (the names of GWAS-SSF, as ``SumStats.latent`` gives). Variants are matched
        by place and alleles; where a table counts the other allele its sign is turned.
    correlation : DataFrame, optional
        Of the statistics under the null, rows and columns named as ``tables``. Without it, it is
        estimated over the variants whose every abs(z) is below 4.
    shrink, eig_keep
        As in :func:`imgwas.omnibus`.

    Returns
    -------
    DataFrame
        Place and alleles of the first table, ``n_latents``, ``neg_log_10_p_value`` of chi2, and
        ``omnibus.chi2``, ``omnibus.minp``, ``omnibus.combined``, ``omnibus.acat``. Only variants
        that every table has.

    Raises
    ------
    InconsistentError
        If the tables have no variant in common, or the correlation has other names.

    References
    ----------
    .. [1] Zhu et al. (2015), AJHG 96:21 (correlation from null variants).
    """
    names = list(tables)
    if len(names) < 2:
        raise InconsistentError(explain("a test of all latents needs two tables or more"))
    frame, z = _matched(tables)
    values = _correlation(names, correlation, z)
    # normal statistics: t with more degrees of freedom than any double tells from infinity
    test = OmnibusTest(
        values, list(range(len(names))), n=1, single=False, shrink=shrink, eig_keep=eig_keep
    )
    found = test.columns(z, np.full(z.shape, 10**9), ("chi2", "minp", "combined", "acat"))
    frame = frame.assign(n_latents=len(names), neg_log_10_p_value=found["chi2"])
    return frame.assign(**{f"omnibus.{name}": column for name, column in found.items()})


def _matched(tables: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, np.ndarray]:
    """Variants of all tables, and z counted by the effect allele of the first."""
    import pandas as pd

    keyed = {name: _keyed(name, table) for name, table in tables.items()}
    common = pd.concat([one["key"] for one in keyed.values()]).value_counts()
    keys = common.index[common == len(tables)]
    first = next(iter(keyed.values()))
    first = first[first["key"].isin(keys)].reset_index(drop=True)
    if not len(first):
        raise InconsistentError(
            explain(
                f"the {len(tables):,} tables have no variant in common",
                expected="The same build, and both alleles of each variant",
            )
        )
    z = np.column_stack(
        [one.set_index("key").loc[first["key"], "z"].to_numpy() for one in keyed.values()]
    )
    turned = np.array(first["effect_allele"] > first["other_allele"])
    lost = max(map(len, tables.values())) - len(first)
    if lost:
        logger.warning("%s variants are not in every table, or twice, and left out", f"{lost:,}")
    return first[[*_PLACE, *_ALLELES]], np.where(turned[:, None], -z, z)


def _keyed(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Place and alleles as one key, and z of the allele that comes first in the alphabet."""
    lacking = [c for c in (*_PLACE, *_ALLELES, "beta", "standard_error") if c not in table]
    if lacking:
        raise InconsistentError(
            explain(f"the table of {name} has no column {lacking[0]!r}", do="Rename its columns")
        )
    effect, other = (np.char.upper(table[c].to_numpy(str)) for c in _ALLELES)
    turned = effect > other
    low, high = np.where(turned, other, effect), np.where(turned, effect, other)
    places = zip(*(table[c].astype(str) for c in _PLACE), low, high, strict=True)
    z = (table["beta"] / table["standard_error"]).to_numpy()
    made: pd.DataFrame = table[[*_PLACE]].assign(
        effect_allele=effect,
        other_allele=other,
        key=[":".join(place) for place in places],
        z=np.where(turned, -z, z),
    )
    once: pd.DataFrame = made[np.isfinite(made["z"])].drop_duplicates("key", keep=False)
    return once


def _correlation(names: list[str], given: Any, z: np.ndarray) -> np.ndarray:
    if given is not None:
        missing = [n for n in names if n not in given.index or n not in given.columns]
        if missing:
            raise InconsistentError(
                explain(
                    f"the correlation has no row and column {missing[0]!r}",
                    expected="The names of the tables",
                )
            )
        return np.asarray(given.loc[names, names], np.float64)
    null = z[(np.abs(z) < NULL_Z).all(axis=1)]
    if len(null) < 10 * len(names):
        raise DegenerateError(
            explain(
                f"{len(null):,} variants without a signal are too few to estimate the correlation "
                f"of {len(names):,} latents",
                expected=f"At least {10 * len(names):,}",
                do="Pass correlation",
            )
        )
    return np.asarray(np.corrcoef(null, rowvar=False))

"""Do discoveries come back in other people: signs, one-sided P, what was to be expected.

The people of the two scans must be different ones, and none of the second may have trained the
encoder: then the latents would have been fitted to them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import DegenerateError, InconsistentError, RefusedError, explain
from imgwas.genetics.replication_lookup import PLACE, EffectRows, effects_at, harmonise_rows
from imgwas.genetics.winners_curse import conditional_mean, prior_variance, replication_power
from imgwas.latents.ledger import who_was_seen
from imgwas.shapes import Float64
from imgwas.sumstats import SumStats, neg_log10_p_value, t_from_neg_log10_p
from imgwas.sumstats.effects import chromosome_code
from imgwas.sumstats.pvalues import chi2_from_neg_log10_p
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_LN10 = np.log(10.0)
People = Latents | Sequence[str] | None


@dataclass(frozen=True)
class Replication:
    """Leads looked up in other people.

    Parameters
    ----------
    table : DataFrame
        One row a lead and latent.
    directional : DataFrame
        One row a lead: all latents at once, along the direction of discovery.
    summary : dict
        Counts, expectations and tests over leads, one latent each.
    """

    table: pd.DataFrame
    directional: pd.DataFrame
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Replication({self.summary['same_sign']} of {self.summary['leads']} leads with the "
            f"same sign, {self.summary['replicated']} replicated)"
        )


def replicate(
    discovery: SumStats,
    replication: SumStats,
    leads: pd.DataFrame,
    *,
    discovery_people: People = None,
    replication_people: People = None,
    assume_disjoint: bool = False,
    alpha: float = 0.05,
    selected_at: float = 5e-8,
) -> Replication:
    """Look up the leads of one scan in a scan of other people.

    Parameters
    ----------
    discovery, replication : SumStats
        Two scans of latents of the same names, made by the same encoder.
    leads : DataFrame
        ``chromosome``, ``base_pair_location`` and, where two variants share a place,
        ``variant_id``; ``latent`` names the one to look up, else the strongest in discovery is
        taken. One lead a locus: the counts take leads as independent.
    discovery_people, replication_people : Latents or sequence of str
        Who was scanned: the tables of latents, whose ledger of training people is then looked at
        too, or ids.
    assume_disjoint : bool
        Go on without knowing the people.
    alpha : float
        Level, one-sided and over all leads (Bonferroni), at which a lead counts as replicated.
    selected_at : float, default 5e-8
        P below which leads were selected; the winner's curse is that of this threshold.

    Returns
    -------
    Replication
        ``table``: effects of both scans per copy of discovery's effect allele, ``same_sign``,
        ``neg_log_10_p_one_sided`` in the direction of discovery, ``replicated``; the inverse
        variance weighted ``beta_meta``, its P and the P of heterogeneity; ``beta_corrected`` for
        the winner's curse and ``power`` to replicate it, given how leads were selected.

    Raises
    ------
    RefusedError
        If people are in both scans or trained the encoder, or it is not known.
    InconsistentError
        If no lead, or no latent, is in both scans.

    References
    ----------
    .. [1] Zhong & Prentice (2008), Biostatistics 9:621.
    .. [2] Palmer & Pe'er (2017), PLoS Genet 13:e1006916.
    """
    import pandas as pd

    check_disjoint(discovery, replication, discovery_people, replication_people,
                   assume_disjoint=assume_disjoint)  # fmt: skip
    names = _shared_latents(discovery, replication)
    ours = effects_at(discovery, leads, names, by_id=True)
    theirs = effects_at(replication, ours.variants, names, by_id=False)
    pairs = harmonise_rows(discovery, replication, ours, theirs)
    first, second = ours.rows(pairs.ours), theirs.rows(pairs.theirs, pairs.sign)
    latent = _latent_of(leads, first, names)
    table = _compare(first, second, latent, names, selected_at)
    table["replicated"] = table["neg_log_10_p_one_sided"] >= -np.log10(alpha / len(table))
    table["power"] = _power(table, alpha / len(table), selected_at)
    directional = pd.concat(
        [first.variants.reset_index(drop=True),
         _directional(discovery, replication, first, second, names)], axis=1,
    )  # fmt: skip
    summary = summarise(table, alpha, selected_at=selected_at)
    summary |= {"not_found": len(ours.variants) - len(pairs.ours), "alleles": pairs.counts,
                "latents": len(names)}  # fmt: skip
    return Replication(table, directional, summary)


def check_disjoint(
    discovery: SumStats,
    replication: SumStats,
    discovery_people: People,
    replication_people: People,
    *,
    assume_disjoint: bool = False,
) -> None:
    """Refuse a replication in people of the discovery, or in people who trained the encoder."""
    samples = [one.metadata.get("identity", {}).get("samples") for one in (discovery, replication)]
    if samples[0] is not None and samples[0] == samples[1]:
        raise RefusedError(
            explain("both scans are of the same people", expected="Replication in other people")
        )
    if discovery_people is None or replication_people is None:
        if assume_disjoint:
            logger.warning("it is assumed, not checked, that nobody is in both scans")
            return
        raise RefusedError(
            explain(
                "it is not known who was scanned",
                expected="Replication in other people than those of the discovery",
                do="Name the tables of latents or lists of ids (--discovery-people, "
                "--replication-people), or pass --assume-disjoint",
            )
        )
    first, second = set(_ids(discovery_people)), list(_ids(replication_people))
    both = sum(one in first for one in second)
    if both:
        raise RefusedError(
            explain(
                f"{both:,} of {len(second):,} people of the replication are in the discovery",
                expected="Nobody in both",
                do="Scan again without them (imgwas associate --remove)",
            )
        )
    _check_training(replication_people, second)
    logger.info("people   none of %s is in the discovery", f"{len(second):,}")


def _ids(people: People) -> Sequence[str]:
    if people is None:
        return ()
    return people.sample_ids if isinstance(people, Latents) else people


def _check_training(people: People, ids: Sequence[str]) -> None:
    marks = people.source.get("people_seen") if isinstance(people, Latents) else None
    if not marks:
        return
    seen = int(who_was_seen(marks, ids).sum())
    if seen:
        raise RefusedError(
            explain(
                f"{seen:,} of {len(ids):,} people of the replication trained the encoder",
                expected="Their latents were fitted, not measured",
                do="Scan again without them (imgwas associate --training-people exclude)",
            )
        )


def _shared_latents(discovery: SumStats, replication: SumStats) -> list[str]:
    there = set(replication.latents)
    names = [name for name in discovery.latents if name in there]
    if not names:
        raise InconsistentError(
            explain("no latent is in both scans",
                    where=f"discovery has {', '.join(discovery.latents[:5])}, replication "
                    f"{', '.join(replication.latents[:5])}",
                    do="Encode both with the same encoder")
        )  # fmt: skip
    return names


def _latent_of(leads: pd.DataFrame, first: EffectRows, names: Sequence[str]) -> list[list[int]]:
    """Latents to look up for each variant: those named, or the strongest."""
    if "latent" not in leads:
        return [[int(k)] for k in np.nanargmax(np.abs(np.nan_to_num(first.t)), axis=1)]
    column = {name: k for k, name in enumerate(names)}
    wanted: dict[tuple[int, int], list[int]] = {}
    for place in leads.to_dict("records"):
        key = chromosome_code(str(place["chromosome"])), int(place["base_pair_location"])
        if str(place["latent"]) in column:
            wanted.setdefault(key, []).append(column[str(place["latent"])])
    places = zip(first.variants["chromosome"], first.variants["base_pair_location"], strict=True)
    return [sorted(set(wanted.get((int(c), int(p)), []))) for c, p in places]


def _compare(
    first: EffectRows, second: EffectRows, latent: list[list[int]], names: Sequence[str],
    selected_at: float,
) -> pd.DataFrame:  # fmt: skip
    rows = np.array([v for v, some in enumerate(latent) for _ in some], np.int64)
    columns = np.array([k for some in latent for k in some], np.int64)
    usable = np.isfinite(first.t[rows, columns]) & np.isfinite(second.t[rows, columns])
    at = rows[usable], columns[usable]
    if not len(at[0]):
        raise DegenerateError(explain("no lead has a statistic in both scans"))
    frame: pd.DataFrame = first.variants.iloc[at[0]].reset_index(drop=True)
    frame["latent"] = [names[k] for k in at[1]]
    for suffix, one in (("discovery", first), ("replication", second)):
        frame[f"beta_{suffix}"], frame[f"standard_error_{suffix}"] = one.beta[at], one.error[at]
        frame[f"effect_allele_frequency_{suffix}"] = one.frequency[at[0]]
        frame[f"dof_{suffix}"] = one.dof[at].astype(np.int64)
    t, dof = second.t[at], second.dof[at]
    direction = np.sign(first.t[at])
    frame["neg_log_10_p_discovery"] = neg_log10_p_value(first.t[at], first.dof[at])
    frame["same_sign"] = direction * t > 0
    frame["neg_log_10_p_one_sided"] = one_sided(direction * t, dof)
    _add_meta(frame)
    threshold = _threshold(selected_at, float(np.nanmedian(first.dof)))
    corrected = conditional_mean(first.t[at], threshold)
    frame["beta_corrected"] = corrected * first.error[at]
    return frame


def one_sided(
    t: Float64[np.ndarray, " tests"], dof: Float64[np.ndarray, " tests"]
) -> Float64[np.ndarray, " tests"]:
    """-log10 P that t is above zero by chance."""
    two = neg_log10_p_value(t, dof)
    below = -np.log1p(-np.power(10.0, -two) / 2) / _LN10
    return np.asarray(np.where(t > 0, two + np.log10(2), below))


def _add_meta(frame: pd.DataFrame) -> None:
    """Inverse-variance weighted mean of the two effects, its P, and the P that they differ."""
    first, second = frame["beta_discovery"], frame["beta_replication"]
    weights = [1 / frame[f"standard_error_{one}"] ** 2 for one in ("discovery", "replication")]
    total = weights[0] + weights[1]
    frame["beta_meta"] = (weights[0] * first + weights[1] * second) / total
    frame["standard_error_meta"] = 1 / np.sqrt(total)
    z = (frame["beta_meta"] * np.sqrt(total)).to_numpy()
    apart = ((first - second) / np.sqrt(1 / weights[0] + 1 / weights[1])).to_numpy()
    frame["neg_log_10_p_meta"], frame["neg_log_10_p_heterogeneity"] = normal_p(z), normal_p(apart)


def normal_p(z: Float64[np.ndarray, " tests"]) -> Float64[np.ndarray, " tests"]:
    """Two-sided -log10 P of normal statistics, also where P underflows."""
    from scipy.special import log_ndtr

    return np.asarray(np.maximum(-(np.log(2) + log_ndtr(-np.abs(z))) / _LN10, 0.0))


def _threshold(selected_at: float, dof: float) -> float:
    return t_from_neg_log10_p(float(-np.log10(selected_at)), dof)


def _power(frame: pd.DataFrame, alpha: float, selected_at: float) -> np.ndarray:
    """Chance of a one-sided P below alpha, given discovery and how it was selected."""
    z = (frame["beta_discovery"] / frame["standard_error_discovery"]).to_numpy()
    ratio = frame["standard_error_discovery"] / frame["standard_error_replication"]
    threshold = _threshold(selected_at, float(frame["dof_discovery"].median()))
    variance = prior_variance(z, threshold)
    return replication_power(z, ratio.to_numpy(), variance, alpha)


def summarise(
    table: pd.DataFrame, alpha: float = 0.05, *, selected_at: float = 5e-8
) -> dict[str, Any]:
    """Count, and say what was to be expected; each variant by its strongest latent.

    Returns
    -------
    dict
        ``leads``; ``same_sign`` with ``sign_test_p`` (binomial, one-sided) and
        ``expected_same_sign``; ``nominal`` and ``replicated`` with their expectations and standard
        deviations, at alpha and at alpha over the number of leads; ``slope`` of replication on
        discovery through zero with its standard error, and the same on corrected effects.
    """
    from scipy.stats import binom

    check_range("alpha", alpha, low=0, high=1)
    strongest = table.sort_values("neg_log_10_p_discovery", ascending=False, kind="stable")
    one = strongest.drop_duplicates([*PLACE])
    n = len(one)
    same = int(one["same_sign"].sum())
    expected_sign = _power(one, 0.5, selected_at)
    summary: dict[str, Any] = {
        "leads": n,
        "same_sign": same,
        "expected_same_sign": float(expected_sign.sum()),
        "sign_test_p": float(binom.sf(same - 1, n, 0.5)),
    }
    for name, level in (("nominal", alpha), ("replicated", alpha / n)):
        power = _power(one, level, selected_at)
        passed = one["neg_log_10_p_one_sided"] >= -np.log10(level)
        summary[name] = int(passed.sum())
        summary[f"expected_{name}"] = float(power.sum())
        summary[f"sd_{name}"] = float(np.sqrt((power * (1 - power)).sum()))
    for name, column in (("slope", "beta_discovery"), ("slope_corrected", "beta_corrected")):
        weight = 1 / one["standard_error_replication"] ** 2
        square = float((weight * one[column] ** 2).sum())
        summary[name] = float((weight * one[column] * one["beta_replication"]).sum()) / square
        summary[f"{name}_standard_error"] = square**-0.5
    return summary


def _directional(
    discovery: SumStats, replication: SumStats, first: EffectRows, second: EffectRows,
    names: Sequence[str],
) -> pd.DataFrame:  # fmt: skip
    import pandas as pd
    from scipy.special import log_ndtr

    wanted = list(names)
    matrices = [
        one.latent_correlation().loc[wanted, wanted].to_numpy() for one in (discovery, replication)
    ]
    z = [_normal_scores(one) for one in (first, second)]
    score = directional_score(z[0], z[1], matrices[0], matrices[1])
    p = -log_ndtr(-score) / _LN10
    return pd.DataFrame({"z_directional": score, "neg_log_10_p_directional": p})


def _normal_scores(rows: EffectRows) -> np.ndarray:
    p = neg_log10_p_value(rows.t, rows.dof)
    return np.asarray(np.sign(rows.t) * np.sqrt(chi2_from_neg_log10_p(p)))


def directional_score(
    z_discovery: Float64[np.ndarray, "variants latents"],
    z_replication: Float64[np.ndarray, "variants latents"],
    correlation_discovery: Float64[np.ndarray, "latents latents"],
    correlation_replication: Float64[np.ndarray, "latents latents"],
    *,
    floor: float = 1e-6,
) -> Float64[np.ndarray, " variants"]:
    """Test all latents of a variant at once along the direction found in discovery.

    An omnibus hit has no sign. The weights ``w = R^-1 z_discovery`` give it one, and the score
    ``w' z_replication / sqrt(w' R w)`` is standard normal without an effect: one degree of
    freedom in place of as many as there are latents. It is tested on the positive side.

    Parameters
    ----------
    z_discovery, z_replication : (variants, latents) array
        Statistics of the same effect allele.
    correlation_discovery, correlation_replication : (latents, latents) array
        Of the latents' statistics without an effect; ``w`` takes the first, the variance of the
        score the second.
    floor : float
        Eigenvalues below this share of the largest are left out of the inverse.

    Returns
    -------
    (variants,) array
        NaN where a latent was not tested in either.
    """
    values, vectors = np.linalg.eigh(correlation_discovery)
    inverse = np.where(values > floor * values.max(), 1 / np.maximum(values, 1e-300), 0.0)
    weights = ((z_discovery @ vectors) * inverse) @ vectors.T
    spread = np.einsum("vk,kl,vl->v", weights, correlation_replication, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.einsum("vk,vk->v", weights, z_replication) / np.sqrt(spread))

"""From the results of a scan to directions in the encoder's latent space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from imgwas.brain.directions import Direction
from imgwas.checks import did_you_mean
from imgwas.errors import DegenerateError, InconsistentError, UsageError, explain
from imgwas.shapes import Float64
from imgwas.sumstats import SumStats
from imgwas.types import Latents

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: One scanned latent whose SD differs from the table's by more than this: all were transformed.
SAME_SCALE = 1.25
#: Column of the test of all latents together, where the scan made it.
OMNIBUS = "omnibus.combined"


@dataclass(frozen=True)
class ScanSpace:
    """How the latents of a scan lie in the latent space of an encoder.

    Parameters
    ----------
    names : tuple of str
        The encoder's latents in its order; those the scan set aside are not moved.
    scanned : (latents,) bool array
        Which of them the scan tested.
    scale : (latents,) float array
        Units of the encoder's latent per unit of the scanned one.
    covariance : (latents, latents) float array
        Of the effects of a variant that has none, up to the variant's own number c: that of the
        latents after the scan's covariates, in the encoder's units; less shared and larger where
        people lack a latent.
    """

    names: tuple[str, ...]
    scanned: np.ndarray
    scale: Float64[np.ndarray, " latents"]
    covariance: Float64[np.ndarray, "latents latents"]


def scan_space(sumstats: SumStats, latents: Latents) -> ScanSpace:
    """Find an encoder's latents among those of a scan.

    Parameters
    ----------
    sumstats : SumStats
        The scan; rank-normal or rescaled latents are brought back to the encoder's units by their
        standard deviations.
    latents : Latents
        What the encoder wrote, in its order.

    Raises
    ------
    InconsistentError
        If the scan lacks a latent that the encoder has.
    """
    known = set(sumstats.latents)
    lost = [n for n in latents.names if n not in known and n not in sumstats.quarantined]
    if lost:
        raise InconsistentError(
            explain(
                f"the scan lacks {len(lost):,} of the encoder's {len(latents.names):,} latents",
                where=f"first: {', '.join(lost[:3])}; it has {', '.join(sumstats.latents[:3])}",
                expected="A decoder needs all of its latents",
                do="Scan the table of imgwas encode as it is, or name the encoder of these latents",
            )
        )
    scanned = np.array([name in known for name in latents.names])
    used = [name for name in latents.names if name in known]
    scale = np.zeros(len(latents.names))
    scale[scanned] = _scales(sumstats, latents, used)
    dof = _dof(sumstats, used)
    length = np.array([sumstats.entry(name).scale["autosome"] for name in used])
    # an effect on a latent that fewer people have is less sure, at any frequency of the variant
    residual_sd = length / np.sqrt(dof) * scale[scanned] * np.sqrt(dof.max() / dof)
    correlation = sumstats.latent_correlation().loc[used, used].to_numpy()
    covariance = np.zeros((len(scale), len(scale)))
    covariance[np.ix_(scanned, scanned)] = correlation * np.outer(residual_sd, residual_sd)
    return ScanSpace(latents.names, scanned, scale, covariance)


def _scales(sumstats: SumStats, latents: Latents, used: Sequence[str]) -> np.ndarray:
    """Encoder's units per scanned unit: one, unless the latents were transformed in between.

    A transform takes all latents, so that one that is far off speaks for the others.
    """
    columns = [latents.names.index(name) for name in used]
    own = np.nanstd(np.take(latents.values, columns, axis=1), axis=0, ddof=1)
    recorded = {entry["name"]: entry["sd"] for entry in sumstats.metadata["latents"]}
    ratio = np.asarray(own / np.array([recorded[name] for name in used]))
    if sumstats.metadata["settings"].get("rank_normal"):
        return ratio
    changed = (ratio > SAME_SCALE) | (ratio < 1 / SAME_SCALE)
    if not changed.any():
        return np.ones(len(used))
    logger.warning(
        "%d of %d latents were scanned on another scale: effects are multiplied by the ratios of "
        "standard deviations", int(changed.sum()), len(used),
    )  # fmt: skip
    return ratio


def find_variants(sumstats: SumStats, ids: Sequence[str]) -> pd.DataFrame:
    """Find variants of a scan by id.

    Returns
    -------
    DataFrame
        ``variant_id``, ``chromosome``, ``base_pair_location`` in the order asked for.

    Raises
    ------
    UsageError
        If a variant is not in the scan; the message names the first three and near names.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["variant_id", "chromosome", "base_pair_location"]
    wanted = pa.array(list(ids), pa.string())
    frames, near = [], list[str]()
    for block in sumstats.iter_blocks(columns):
        hit = pc.is_in(block["variant_id"].cast(pa.string()), value_set=wanted)
        frames.append(block.filter(hit).to_pandas())
        if len(near) < 20_000:
            near += block["variant_id"].slice(0, 20_000).to_pylist()
    found = pd.concat(frames, ignore_index=True)
    lost = [one for one in ids if one not in set(found["variant_id"])]
    if lost:
        raise UsageError(
            explain(
                f"{len(lost):,} of {len(ids):,} variants are not in the scan",
                where=f"first: {', '.join(lost[:3])}",
                do=did_you_mean(lost[0], near) or "Ids are those of the .bim",
            )
        )
    repeated = found["variant_id"][found["variant_id"].duplicated()]
    if len(repeated):
        raise UsageError(
            explain(f"the id {repeated.iloc[0]} stands for several variants of the scan",
                    do="Give the variants unique ids")
        )  # fmt: skip
    ordered: pd.DataFrame = found.set_index("variant_id").loc[list(ids)].reset_index()
    return ordered


def strongest_variants(sumstats: SumStats, n: int, *, apart: int = 1_000_000) -> pd.DataFrame:
    """Return the variants with the smallest P over all latents, at least ``apart`` bases apart.

    A quick look; ``imgwas loci`` finds loci properly. Where the scan tested all latents together,
    that test decides.
    """
    best = sumstats.best_latent()
    evidence = "neg_log_10_p_value"
    if OMNIBUS in pq.read_schema(sumstats.parts[0]).names:
        best[evidence] = sumstats.variants([OMNIBUS])[OMNIBUS].to_numpy()
    best = best.dropna(subset=[evidence]).sort_values(evidence, ascending=False, kind="stable")
    taken: list[tuple[int, int]] = []
    rows: list[int] = []
    for row, chromosome, place in zip(
        best.index, best["chromosome"], best["base_pair_location"], strict=True
    ):
        if all(c != chromosome or abs(p - place) >= apart for c, p in taken):
            taken.append((chromosome, place))
            rows.append(row)
        if len(rows) == n:
            break
    return best.loc[rows, ["variant_id", "chromosome", "base_pair_location"]]


def variant_direction(
    sumstats: SumStats, space: ScanSpace, variant: pd.Series, weights: str = "effects"
) -> Direction:
    """What one copy of a variant's effect allele does to the latents.

    Parameters
    ----------
    sumstats : SumStats
    space : ScanSpace
        Of the same scan.
    variant : Series
        ``variant_id``, ``chromosome``, ``base_pair_location``: a row of :func:`find_variants` or
        of a table of loci.
    weights : {"effects", "inverse"}
        Move by the effects b of an allele, or along ``C^-1 b``, the weights of the score of the
        latents that the variant is associated with most strongly, until it rises by one SD.

    Raises
    ------
    UsageError
        If it is not in the scan.
    DegenerateError
        If the scan could not test it.
    """
    place = int(variant["base_pair_location"])
    rows = sumstats.region(str(variant["chromosome"]), place, place)
    rows = rows[rows["variant_id"] == variant["variant_id"]].set_index("latent")
    if not len(rows):
        raise UsageError(
            explain(f"variant {variant['variant_id']} is not in the scan at "
                    f"{variant['chromosome']}:{place:,}", do="Do the loci come from this scan?")
        )  # fmt: skip
    used = [name for name, kept in zip(space.names, space.scanned, strict=True) if kept]
    rows = rows.loc[used]
    if rows["beta"].isna().any():
        reason = next((r for r in rows["reason"] if r), "no statistic")
        raise DegenerateError(explain(f"the scan did not test {variant['variant_id']}: {reason}"))
    vector = np.zeros(len(space.names))
    vector[space.scanned] = rows["beta"].to_numpy() * space.scale[space.scanned]
    error = rows["standard_error"].to_numpy() * space.scale[space.scanned]
    dof = _dof(sumstats, used)
    sd2 = np.diag(space.covariance)[space.scanned]
    # se^2 = c C_kk - b^2 / dof: the residual variance lacks what the variant explains
    each = (error**2 + vector[space.scanned] ** 2 / dof) / sd2
    name, n = str(variant["variant_id"]), int(rows["n"].min())
    if weights == "inverse":
        score = np.linalg.pinv(space.covariance, hermitian=True) @ vector
        vector = score * np.sqrt(score @ space.covariance @ score) / (score @ score)
        return Direction(name, vector, "SD", "variant", n=n)
    return Direction(
        name, vector, "allele", "variant", variance=float(np.median(each)), dof=float(dof.min()),
        n=n,
    )  # fmt: skip


def _dof(sumstats: SumStats, names: Sequence[str]) -> np.ndarray:
    dof = {g["group"]: float(g["dof"]) for g in sumstats.metadata["groups"]}
    return np.array([dof[sumstats.entry(name).group] for name in names])

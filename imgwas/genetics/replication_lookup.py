"""Statistics of some variants in two scans, on the same alleles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.genetics.harmonise import Harmonised, VariantTable, harmonise_alleles
from imgwas.sumstats import SumStats

if TYPE_CHECKING:
    import pandas as pd

PLACE = ["chromosome", "base_pair_location", "effect_allele", "other_allele"]


@dataclass(frozen=True)
class EffectRows:
    """Effects of some variants on all latents, (variants, latents)."""

    variants: pd.DataFrame
    beta: np.ndarray
    error: np.ndarray
    t: np.ndarray
    dof: np.ndarray
    frequency: np.ndarray

    def rows(self, rows: np.ndarray, sign: np.ndarray | None = None) -> EffectRows:
        """Some rows, their effects turned by a sign."""
        turn = np.ones((len(rows), 1)) if sign is None else sign[:, None]
        return EffectRows(self.variants.iloc[rows], self.beta[rows] * turn, self.error[rows],
                           self.t[rows] * turn, self.dof[rows], self.frequency[rows])  # fmt: skip


def effects_at(
    sumstats: SumStats, places: pd.DataFrame, names: Sequence[str], *, by_id: bool
) -> EffectRows:
    """Read the statistics of every variant at some places, all latents."""
    import pandas as pd

    for name in ("chromosome", "base_pair_location"):
        if name not in places:
            raise UsageError(explain(f"the leads have no column {name}"))
    chosen = [*PLACE[:2], *(["variant_id"] if by_id and "variant_id" in places else [])]
    frames = []
    for place in places[chosen].drop_duplicates().to_dict("records"):
        position = int(place["base_pair_location"])
        here = sumstats.region(str(place["chromosome"]), position, position, names)
        if "variant_id" in place:
            here = here[here["variant_id"] == str(place["variant_id"])]
        frames.append(here)
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if frame.empty:
        raise InconsistentError(
            explain(f"none of {len(places):,} leads is in {sumstats.folder}",
                    do="Check that positions are of the scan's genome build")
        )  # fmt: skip
    return _by_variant(sumstats, frame, names)


def _by_variant(sumstats: SumStats, frame: pd.DataFrame, names: Sequence[str]) -> EffectRows:
    frame = frame.drop_duplicates([*PLACE, "variant_id", "latent"])
    keys = [*PLACE[:2], "variant_id", *PLACE[2:]]
    code = frame.groupby(keys, sort=False).ngroup().to_numpy()
    column = {name: k for k, name in enumerate(names)}
    at = code, np.array([column[name] for name in frame["latent"]])
    shape = (int(code.max()) + 1, len(names))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (frame["beta"] / frame["standard_error"]).to_numpy()
    t = np.where(frame["beta"] == 0, 0.0, t)
    grids = [np.full(shape, np.nan) for _ in range(4)]
    values = [frame["beta"], frame["standard_error"], t, _dof(sumstats, frame)]
    for grid, column_values in zip(grids, values, strict=True):
        grid[at] = column_values
    first = frame.groupby(keys, sort=False)["effect_allele_frequency"].first().to_numpy()
    variants = frame.drop_duplicates(keys)[keys].reset_index(drop=True)
    return EffectRows(variants, grids[0], grids[1], grids[2], grids[3], first)


def harmonise_rows(
    discovery: SumStats, replication: SumStats, ours: EffectRows, theirs: EffectRows
) -> Harmonised:
    """Pair the variants of both, and put the replication on the alleles of the discovery."""

    def table(sumstats: SumStats, rows: EffectRows) -> VariantTable:
        frame = rows.variants
        return VariantTable(
            frame["variant_id"].tolist(), frame["effect_allele"].tolist(),
            frame["other_allele"].tolist(), frame["chromosome"].map(str).tolist(),
            frame["base_pair_location"].to_numpy(np.int64), rows.frequency,
            sumstats.metadata.get("genome_build"),
        )  # fmt: skip

    names = "the discovery", "the replication"
    return harmonise_alleles(table(discovery, ours), table(replication, theirs), by="position",
                             names=names)  # fmt: skip


def _dof(sumstats: SumStats, frame: pd.DataFrame) -> np.ndarray:
    """Degrees of freedom: people used, less what the covariates of the latent's group take."""
    taken = {group["group"]: group["n"] - group["dof"] for group in sumstats.metadata["groups"]}
    by_latent = {name: taken[sumstats.entry(name).group] for name in frame["latent"].unique()}
    return np.array(frame["n"] - frame["latent"].map(by_latent), np.float64)

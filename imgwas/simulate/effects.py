"""Which variant changes which region by how much, and the table that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import MalformedError, UsageError, explain
from imgwas.shapes import Float64, Int64
from imgwas.simulate.genotypes import Variants

if TYPE_CHECKING:
    import pandas as pd

#: Planted and null variants are at least this common, and this far apart on a chromosome.
LEAST_FREQUENCY, APART_BP = 0.2, 5_000_000


@dataclass(frozen=True)
class PlantedEffect:
    """What one variant does.

    Parameters
    ----------
    region : str
        Name of a region, or of a quantity of the heart.
    amount : float, optional
        Change per copy of the effect allele: of the region's log-volume, of its intensity, where
        white matter is 1, or of the quantity in its own unit. By default what explains
        ``variance_explained`` of it.
    kind : {"volume", "intensity", "quantity"}
        Quantities are those of the heart.
    """

    region: str
    amount: float | None = None
    kind: str = "volume"

    def __post_init__(self) -> None:
        check_option("kind", self.kind, ("volume", "intensity", "quantity"))
        if self.amount is not None:
            check_range(f"the amount for {self.region}", self.amount, low=-3, high=3)


def read_effects(path: str | Path) -> tuple[PlantedEffect, ...]:
    """Read planted effects from a table with ``region``, and ``amount`` and ``kind`` if wished.

    Raises
    ------
    OpenError, MalformedError
        If the file is absent, has no column ``region``, or an amount is no number.
    """
    from imgwas.tables.source import read_table

    table = read_table(Path(path))
    if "region" not in table.column_names:
        raise MalformedError(
            explain(
                f"{path} has the columns {', '.join(table.column_names[:6])}",
                expected="region, amount and kind (volume or intensity)",
            )
        )
    rows = table.to_pylist()
    try:
        return tuple(
            PlantedEffect(
                str(row["region"]),
                None if row.get("amount") in (None, "") else float(str(row["amount"])),
                str(row.get("kind") or "volume"),
            )
            for row in rows
        )
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        message = explain(f"{path}: {error}", expected="amount is a number such as 0.05")
        raise MalformedError(message) from error


def choose_effects(
    regions: Sequence[str], n_planted: int, rng: np.random.Generator
) -> tuple[PlantedEffect, ...]:
    """Spread effects over regions in random order, each region once before any comes twice."""
    check_range("the number of planted effects", n_planted, low=0, high=10 * len(regions))
    order = [rng.permutation(len(regions)) for _ in range(n_planted // len(regions) + 1)]
    return tuple(PlantedEffect(regions[k]) for k in np.concatenate(order)[:n_planted])


def choose_variants(
    variants: Variants, n: int, rng: np.random.Generator
) -> Int64[np.ndarray, " chosen"]:
    """Choose common variants on as many chromosomes as there are, far apart where they share one.

    Raises
    ------
    UsageError
        If there are too few.
    """
    common = np.minimum(variants.frequency, 1 - variants.frequency) >= LEAST_FREQUENCY
    names = list(dict.fromkeys(variants.chromosome.tolist()))
    names = [name for name in names if name != "X"] or names
    chosen: list[int] = []
    for turn in range(max(1, n)):
        for name in rng.permutation(names):
            if len(chosen) < n:
                free = np.flatnonzero(common & (variants.chromosome == name))
                here = [j for j in chosen if variants.chromosome[j] == name]
                for j in here:
                    free = free[np.abs(variants.position[free] - variants.position[j]) > APART_BP]
                if len(free):
                    chosen.append(int(rng.choice(free)))
        if len(chosen) == n or len(chosen) < turn:
            break
    if len(chosen) < n:
        raise UsageError(
            explain(
                f"{n} planted and null variants are asked for and {len(chosen)} places are found",
                expected=f"Common variants at least {APART_BP / 1e6:g} Mb apart",
                do="Ask for more variants (--variants) or fewer effects",
            )
        )
    return np.array(chosen, np.int64)


def fill_amounts(
    effects: Sequence[PlantedEffect],
    dosages: Float64[np.ndarray, "listed samples"],
    spread: Sequence[float],
    variance_explained: float,
    rng: np.random.Generator,
) -> Float64[np.ndarray, " effects"]:
    """Amount per allele of each effect: as given, or what explains a share of the variance.

    An effect beta on a dosage of variance v explains ``r2 = beta^2 v / (beta^2 v + spread^2)``.
    """
    odds = variance_explained / (1 - variance_explained)
    amounts = np.empty(len(effects))
    for k, (effect, dosage) in enumerate(zip(effects, dosages, strict=False)):
        sign = rng.choice([-1.0, 1.0])
        default = sign * np.sqrt(odds / max(dosage.var(), 1e-9)) * spread[k]
        amounts[k] = default if effect.amount is None else effect.amount
    return amounts


def realised_slopes(
    quantities: Float64[np.ndarray, "effects samples"],
    dosages: Float64[np.ndarray, "effects samples"],
    covariates: Float64[np.ndarray, "samples covariates"],
) -> tuple[Float64[np.ndarray, " effects"], Float64[np.ndarray, " effects"]]:
    """Least-squares slope, and its error, of each true quantity on its variant's dosage.

    All other planted dosages and the covariates are in the model: it is what a perfect
    measurement of these people would find, the planted amount plus the sample's own luck.
    """
    n = dosages.shape[1]
    design = np.column_stack([np.ones(n), dosages.T, covariates])
    inverse = np.linalg.pinv(design.T @ design)
    slopes, errors = np.empty(len(dosages)), np.empty(len(dosages))
    for k, y in enumerate(quantities):
        fit = inverse @ (design.T @ y)
        noise = ((y - design @ fit) ** 2).sum() / max(1, n - np.linalg.matrix_rank(design))
        slopes[k], errors[k] = fit[k + 1], np.sqrt(noise * inverse[k + 1, k + 1])
    return slopes, errors


def truth_table(
    variants: Variants,
    rows: np.ndarray,
    alleles: np.ndarray,
    dosages: Float64[np.ndarray, "listed samples"],
    effects: Sequence[PlantedEffect],
    amounts: np.ndarray,
    slopes: np.ndarray,
    errors: np.ndarray,
    explained: np.ndarray,
) -> pd.DataFrame:
    """One row per planted variant, then one per null variant, whose role is ``control``.

    (The word null would be read back as a missing value by pandas.)
    """
    import pandas as pd

    n_null = len(rows) - len(effects)
    nothing = [np.nan] * n_null
    return pd.DataFrame(
        {
            "variant_id": [f"rs{row + 1}" for row in rows],
            "chromosome": variants.chromosome[rows],
            "base_pair_location": variants.position[rows],
            "effect_allele": alleles[rows, 0],
            "other_allele": alleles[rows, 1],
            "effect_allele_frequency": dosages.mean(axis=1) / 2,
            "role": ["planted"] * len(effects) + ["control"] * n_null,
            "region": [effect.region for effect in effects] + [""] * n_null,
            "kind": [effect.kind for effect in effects] + [""] * n_null,
            "amount": [*amounts, *[0.0] * n_null],
            "realised_slope": [*slopes, *nothing],
            "realised_slope_error": [*errors, *nothing],
            "variance_explained": [*explained, *[0.0] * n_null],
        }
    )

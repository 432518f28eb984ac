"""A cohort as a user would have it: PLINK files, latents, covariates, and the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.checks import check_range
from imgwas.errors import UsageError, explain
from imgwas.files import publish
from imgwas.simulate.genotypes import CHROMOSOME_MB, GenotypeModel, HaplotypeSource, pack_dosages

if TYPE_CHECKING:
    import pandas as pd

#: (effect allele, other allele) that variants draw from.
ALLELES = np.array([("A", "G"), ("C", "T"), ("A", "C"), ("G", "T")], dtype=object)


@dataclass(frozen=True)
class Cohort:
    """Where a simulated cohort is, and what was planted in it.

    Parameters
    ----------
    bfile : Path
        Prefix of the PLINK files.
    latents, covariates : Path
        Tables by sample id.
    truth : DataFrame
        One row per planted effect: variant_id, chromosome, base_pair_location, effect_allele,
        latent, beta (per copy, in units of the latent), variance_explained,
        effect_allele_frequency. Also written as ``truth.tsv``.
    """

    bfile: Path
    latents: Path
    covariates: Path
    truth: pd.DataFrame


def simulate_cohort(
    out: str | Path,
    *,
    n_samples: int = 2000,
    sample_ids: Sequence[str] | None = None,
    n_variants: int = 20_000,
    n_latents: int = 16,
    n_causal: int = 10,
    variance_explained: float = 0.02,
    covariate_r2: float = 0.35,
    missing_latents: float = 0.0,
    messy_ids: bool = False,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
    **genotypes: Any,
) -> Cohort:
    """Write a cohort with planted effects.

    Latents share factors and depend on age, sex, centre, head size and two ancestry axes; each
    causal variant adds ``beta`` per copy of its effect allele to one latent, so that it explains
    the given share of that latent's variance. The covariate ``batch_score`` follows the first
    causal variants' genotypes, so that a scan that does not project genotypes goes wrong.

    Parameters
    ----------
    out : path
        Folder; it is made.
    sample_ids : sequence of str, optional
        People to make genotypes for, e.g. those of real images; in place of ``n_samples``.
    n_samples, n_variants, seed
        And any further field of :class:`GenotypeModel` by keyword: populations, fst, sib_pairs,
        trios, duplicates, missing_rate, chromosomes, ld_length_kb.
    n_latents, n_causal : int
        Number of traits, and of variants with an effect.
    variance_explained : float
        Of one latent by its causal variant.
    covariate_r2 : float
        Share of the first causal variant's dosage that ``batch_score`` explains.
    missing_latents : float
        Share of missing latent values; half of the latents lose the same people, the others each
        their own.
    messy_ids : bool
        Leading zeros, files in different orders, people that only one file has.
    progress : callable, optional
        Told the number of variants written.

    Returns
    -------
    Cohort

    Raises
    ------
    UsageError
        If a number is out of range.
    """
    n_samples = len(sample_ids) if sample_ids is not None else n_samples
    model = GenotypeModel(n_samples=n_samples, n_variants=n_variants, seed=seed, **genotypes)
    _check(model, n_latents, n_causal, variance_explained, covariate_r2, missing_latents)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    source = HaplotypeSource(model)
    rng = np.random.default_rng([seed, 1])
    rows = np.sort(rng.choice(n_variants, size=n_causal, replace=False))
    dosages = write_bed(folder / "cohort.bed", source, rows, progress)
    alleles = ALLELES[np.random.default_rng([seed, 2]).integers(0, len(ALLELES), n_variants)]
    ids = list(sample_ids) if sample_ids is not None else sample_names(n_samples, messy_ids)
    write_bim(folder / "cohort.bim", source, alleles)
    write_fam(folder / "cohort.fam", source, ids)
    covariates = _covariates(source, dosages, covariate_r2, rng)
    values, effects = _latents(dosages, covariates, n_latents, variance_explained, rng)
    _lose(values, missing_latents, rng)
    names = [f"L{k:03d}" for k in range(n_latents)]
    order = rng.permutation(n_samples) if messy_ids else np.arange(n_samples)
    _write_tables(folder, ids, names, values, covariates, order, messy_ids)
    truth = _truth(source, rows, alleles, names, effects, dosages)
    with publish(folder / "truth.tsv", "w") as stream:
        truth.to_csv(stream, sep="\t", index=False)
    return Cohort(folder / "cohort", folder / "latents.parquet", folder / "covariates.tsv", truth)


def _check(
    model: GenotypeModel,
    n_latents: int,
    n_causal: int,
    variance_explained: float,
    covariate_r2: float,
    missing_latents: float,
) -> None:
    check_range("the number of samples", model.n_samples, low=20)
    check_range("the number of variants", model.n_variants, low=22)
    check_range("the number of latents", n_latents, low=1)
    check_range("the number of causal variants", n_causal, low=0, high=model.n_variants)
    check_range("the variance explained", variance_explained, low=0, high=0.9)
    check_range("the covariate's R2", covariate_r2, low=0, high=0.99)
    check_range("the share of missing calls", model.missing_rate, low=0, high=0.9)
    check_range("the share of missing latents", missing_latents, low=0, high=0.9)
    check_range("Fst", model.fst, low=1e-4, high=0.5)
    check_range("the number of populations", model.populations, low=1, high=100)
    unknown = [name for name in model.chromosomes if name not in CHROMOSOME_MB]
    if unknown or not model.chromosomes:
        raise UsageError(
            explain(
                f"chromosome {unknown[0] if unknown else ''!r} cannot be simulated",
                expected=f"Known are {', '.join(CHROMOSOME_MB)}",
            )
        )
    related = 2 * model.sib_pairs + 3 * model.trios + 2 * model.duplicates
    if related > model.n_samples:
        raise UsageError(
            explain(
                f"{related:,} related people are asked for among {model.n_samples:,} samples",
                do="Ask for more samples or fewer relatives",
            )
        )


def write_bed(
    path: Path,
    source: HaplotypeSource,
    wanted: np.ndarray,
    progress: Callable[[int], object] | None,
) -> np.ndarray:
    """Write all genotypes; return the dosages of the wanted rows, missing calls at their mean."""
    kept = np.empty((len(wanted), source.model.n_samples))
    with publish(path) as stream:
        stream.write(b"\x6c\x1b\x01")
        for rows, dosage in source.blocks():
            stream.write(pack_dosages(dosage).tobytes())
            inside = (wanted >= rows.start) & (wanted < rows.stop)
            kept[inside] = dosage[wanted[inside] - rows.start]
            if progress is not None:
                progress(rows.stop - rows.start)
    mean = np.nanmean(kept, axis=1, keepdims=True) if len(kept) else kept
    return np.where(np.isnan(kept), mean, kept)


def sample_names(n: int, messy: bool = False) -> list[str]:
    """Ids of simulated people; messy ones start with zeros."""
    return [f"{i + 1:07d}" if messy else f"{1_000_001 + i}" for i in range(n)]


def write_bim(path: Path, source: HaplotypeSource, alleles: np.ndarray) -> None:
    """Write the variants; variant j is rs(j + 1)."""
    variants = source.variants
    with publish(path, "w") as stream:
        for j, (name, position) in enumerate(
            zip(variants.chromosome.tolist(), variants.position.tolist(), strict=True)
        ):
            a1, a2 = alleles[j]
            stream.write(f"{name}\trs{j + 1}\t0\t{position}\t{a1}\t{a2}\n")


def write_fam(path: Path, source: HaplotypeSource, ids: list[str]) -> None:
    """Write the people."""
    people, n = source.people, source.model.n_samples
    with publish(path, "w") as stream:
        for i, name in enumerate(ids):
            father, mother = people.parents[i]
            known = 0 <= father < n
            parents = f"{ids[father]}\t{ids[mother]}" if known else "0\t0"
            stream.write(f"0\t{name}\t{parents}\t{people.sex[i]}\t-9\n")


def _covariates(
    source: HaplotypeSource, dosages: np.ndarray, r2: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    n = source.model.n_samples
    sex = source.people.sex[:n]
    population = source.people.population[:n]
    spread = population - population.mean()
    columns: dict[str, np.ndarray] = {
        "age": np.round(rng.uniform(45, 80, n), 1),
        "sex": sex.astype(int),
        "centre": rng.choice([11025, 11026, 11027], n, p=[0.6, 0.25, 0.15]),
        "head_size": np.round(1.3 + 0.1 * rng.standard_normal(n) - 0.05 * sex, 4),
        "ancestry_1": np.round(spread + 0.1 * rng.standard_normal(n), 5),
        "ancestry_2": np.round(spread**2 + 0.1 * rng.standard_normal(n), 5),
    }
    signal = _standardize(dosages[0]) if len(dosages) else rng.standard_normal(n)
    columns["batch_score"] = np.round(
        np.sqrt(r2) * signal + np.sqrt(1 - r2) * rng.standard_normal(n), 5
    )
    return columns


def _standardize(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return np.asarray((values - values.mean()) / (spread if spread > 0 else 1.0))


def _latents(
    dosages: np.ndarray,
    covariates: dict[str, np.ndarray],
    n_latents: int,
    variance_explained: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Values (samples, latents), and the effect of each causal variant on its latent."""
    n = len(covariates["age"])
    nuisance = np.column_stack([_standardize(values) for values in covariates.values()])
    factors = rng.standard_normal((n, min(4, n_latents)))
    values = 0.6 * rng.standard_normal((n, n_latents))
    values += 0.3 * factors @ rng.standard_normal((factors.shape[1], n_latents))
    values += nuisance @ (0.2 * rng.standard_normal((nuisance.shape[1], n_latents)))
    values /= values.std(axis=0)
    sizes = dosages.std(axis=1)
    effects = np.divide(np.sqrt(variance_explained), sizes, where=sizes > 0, out=sizes * 0)
    effects *= rng.choice([-1.0, 1.0], len(effects))
    for causal, (dosage, effect) in enumerate(zip(dosages, effects, strict=True)):
        values[:, causal % n_latents] += effect * (dosage - dosage.mean())
    return values, effects


def _lose(values: np.ndarray, rate: float, rng: np.random.Generator) -> None:
    if not rate:
        return
    n, k = values.shape
    values[rng.random(n) < rate, : k // 2] = np.nan
    for column in range(k // 2, k):
        values[rng.random(n) < rate, column] = np.nan


def _write_tables(
    folder: Path,
    ids: list[str],
    names: list[str],
    values: np.ndarray,
    covariates: dict[str, np.ndarray],
    order: np.ndarray,
    messy: bool,
) -> None:
    import pandas as pd

    latents = pd.DataFrame(values[order], columns=names)
    latents.insert(0, "IID", [ids[i] for i in order])
    table = pd.DataFrame({"IID": ids, **covariates})
    if messy:  # people that only one file has
        latents = pd.concat([latents, latents.head(3).assign(IID=["X1", "X2", "X3"])])
        table = table.iloc[:-2]
    with publish(folder / "latents.parquet") as stream:
        latents.to_parquet(stream, index=False)
    with publish(folder / "covariates.tsv", "w") as stream:
        table.to_csv(stream, sep="\t", index=False)


def _truth(
    source: HaplotypeSource,
    rows: np.ndarray,
    alleles: np.ndarray,
    names: list[str],
    effects: np.ndarray,
    dosages: np.ndarray,
) -> pd.DataFrame:
    import pandas as pd

    variants = source.variants
    return pd.DataFrame(
        {
            "variant_id": [f"rs{row + 1}" for row in rows],
            "chromosome": variants.chromosome[rows],
            "base_pair_location": variants.position[rows],
            "effect_allele": alleles[rows, 0],
            "other_allele": alleles[rows, 1],
            "latent": [names[i % len(names)] for i in range(len(rows))],
            "beta": effects,
            "variance_explained": effects**2 * dosages.var(axis=1),
            "effect_allele_frequency": dosages.mean(axis=1) / 2,
        }
    )

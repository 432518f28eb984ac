"""Cines of simulated hearts as a study: genotypes, tables, and the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.checks import check_range, did_you_mean
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.files import publish, publish_json
from imgwas.shapes import Float32, Float64, Int16
from imgwas.simulate.effects import PlantedEffect, choose_effects, fill_amounts
from imgwas.simulate.heart import FIELD_OF_VIEW, Heart, draw_heart
from imgwas.simulate.images import ImageCohort, in_order, write_tables
from imgwas.simulate.planting import (
    MEAN_AGE,
    Planting,
    bounded_normal,
    check_shares,
    draw_people,
)
from imgwas.simulate.template import write_nifti

#: Quantities that effects act on: mean, standard deviation, and the range that can be drawn.
QUANTITIES = {
    "wall_thickness": (9.0, 1.2, (4.0, 18.0)),  # mm, end of diastole
    "ejection_fraction": (0.60, 0.05, (0.25, 0.80)),
    "log_volume": (5.0, 0.18, (4.2, 5.8)),  # logarithm of the end-diastolic millilitres
}
#: Change of each quantity per decade of age, and of women against men.
_PER_DECADE, _WOMEN = np.array([0.2, -0.005, -0.03]), np.array([-1.2, 0.01, -0.22])
#: Regions of the average heart.
LABELS = ("lv_cavity", "lv_wall", "rv_cavity")


def simulate_hearts(
    out: str | Path,
    *,
    n_samples: int = 300,
    n_variants: int = 2000,
    effects: Sequence[PlantedEffect] | None = None,
    n_planted: int = 3,
    n_null: int = 5,
    grid: int = 96,
    n_frames: int = 50,
    variance_explained: float = 0.1,
    train_share: float = 0.5,
    noise: float = 0.04,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
    **genotypes: Any,
) -> ImageCohort:
    """Write long-axis cines of the heart, genotypes, tables, and the truth.

    Parameters
    ----------
    out : path
        Folder; it is made.
    n_samples, n_variants : int
    effects : sequence of PlantedEffect, optional
        Their ``region`` is ``wall_thickness`` (mm per allele), ``ejection_fraction`` (a fraction)
        or ``log_volume`` (of the end-diastolic volume); ``n_planted`` of these by default.
    n_planted, n_null : int
        Variants with an effect, and variants listed without one.
    grid : int
        Pixels along both edges, 32 to 256; the picture is 240 mm wide.
    n_frames : int
        Frames of one beat, at least 8.
    variance_explained, train_share
        As for :func:`simulate_images`.
    noise : float
        Standard deviation; blood is 1.
    seed : int
        The same seed gives the same bytes.
    threads, progress
        As for :func:`simulate_images`.
    **genotypes
        Fields of :class:`~imgwas.simulate.genotypes.GenotypeModel`.

    Returns
    -------
    ImageCohort
        ``volumes`` holds wall thickness (mm), volumes at the ends of diastole and systole (ml) and
        ejection fraction.

    Raises
    ------
    UsageError
        If a number is out of range or an effect names no quantity of the heart.
    DegenerateError
        If an effect is too large for a heart.
    """
    check_range("the grid", grid, low=32, high=256, unit="pixels")
    check_range("the number of frames", n_frames, low=8, high=200)
    check_range("the noise", noise, low=0, high=1)
    planned = _effects(effects, n_planted, seed)
    planting = _plant(
        planned, n_null=n_null, variance_explained=variance_explained, train_share=train_share,
        seed=seed, n_samples=n_samples, n_variants=n_variants, bed=Path(out), **genotypes,
    )  # fmt: skip
    folder = Path(out)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    affine = np.diag([FIELD_OF_VIEW / grid, FIELD_OF_VIEW / grid, 8.0, 1.0])

    def one(i: int) -> None:
        rng = np.random.default_rng([seed, 12, i])
        cine = _scan(_person(planting, i, rng), grid, n_frames, noise, rng)
        path = folder / f"images/{planting.sample_ids[i]}.nii.gz"
        whole = np.minimum(np.rint(1000 * cine[:, :, None]), 32_000)  # integers, as scanners give
        write_nifti(path, whole, affine, "int16")

    for _ in in_order(one, n_samples, threads):
        if progress is not None:
            progress(1)
    columns = _columns(planting.log_volumes)
    tables = planting.finish(columns, planting.log_volumes)
    _write_average(folder, grid, n_frames, affine)
    write_tables(folder, planting, tables)
    about = {"seed": seed, "grid": [grid, grid, 1, n_frames], "noise": noise}
    publish_json(folder / "simulation.json", about)
    return ImageCohort(
        folder, folder / "cohort", folder / "images.tsv", folder / "covariates.tsv",
        folder / "template.nii.gz", folder / "regions.nii.gz", folder / "train.txt",
        folder / "scan.txt", tables.truth, tables.volumes,
    )  # fmt: skip


def _effects(
    effects: Sequence[PlantedEffect] | None, n_planted: int, seed: int
) -> tuple[PlantedEffect, ...]:
    if effects is None:
        effects = choose_effects(tuple(QUANTITIES), n_planted, np.random.default_rng([seed, 11]))
    for effect in effects:
        if effect.region not in QUANTITIES:
            raise UsageError(
                explain(
                    f"a heart has no {effect.region!r}",
                    expected=f"Quantities: {', '.join(QUANTITIES)}",
                    do=did_you_mean(effect.region, QUANTITIES),
                )
            )
        if effect.kind == "intensity":
            raise UsageError(
                explain(
                    f"the effect on {effect.region} is of kind 'intensity'",
                    expected="Effects on hearts change quantities: leave the kind out",
                )
            )
    return tuple(dataclasses.replace(effect, kind="quantity") for effect in effects)


def _plant(
    effects: Sequence[PlantedEffect],
    *,
    n_null: int,
    variance_explained: float,
    train_share: float,
    seed: int,
    **people: Any,
) -> Planting:
    """Draw people and their hearts: mean, age, sex, own variation, planted variants."""
    check_shares(n_null, variance_explained, train_share)
    rng = np.random.default_rng([seed, 13])
    names = tuple(QUANTITIES)
    _check_room(effects)
    drawn = draw_people(len(effects) + n_null, rng, seed=seed, **people)
    n = len(drawn.sample_ids)
    mean, spread = (np.array([QUANTITIES[name][k] for name in names]) for k in (0, 1))
    spreads = [float(spread[names.index(e.region)]) for e in effects]
    amounts = fill_amounts(effects, drawn.dosages, spreads, variance_explained, rng)
    values = mean + np.outer((drawn.age - MEAN_AGE) / 10, _PER_DECADE)
    values += np.outer(drawn.sex - 1.5, _WOMEN) + spread * bounded_normal(rng, (n, len(names)))
    for effect, amount, dosage in zip(effects, amounts, drawn.dosages, strict=False):
        values[:, names.index(effect.region)] += amount * (dosage - dosage.mean())
    for k, name in enumerate(names):
        values[:, k] = np.clip(values[:, k], *QUANTITIES[name][2])
    size = 0.08 * bounded_normal(rng, n) - 0.05 * (drawn.sex - 1.5)
    return Planting(
        drawn.source, drawn.rows, drawn.alleles, drawn.dosages, drawn.genotypes, drawn.sample_ids,
        tuple(effects), amounts, names, spread, values, 0 * values, size, drawn.age, drawn.sex,
        train_share,
    )  # fmt: skip


def _check_room(effects: Sequence[PlantedEffect]) -> None:
    """Refuse an amount that would push people with two copies out of the range of hearts."""
    for effect in effects:
        mean, spread, (low, high) = QUANTITIES[effect.region]
        room = (min(mean - low, high - mean) - 2 * spread) / 2
        if effect.amount is not None and abs(effect.amount) > room:
            raise DegenerateError(
                explain(
                    f"an effect of {effect.amount:+g} per allele on {effect.region} is too large",
                    expected=f"At most {room:.3g}: hearts are drawn from {low:g} to {high:g}",
                    do="Choose a smaller amount",
                )
            )


def _person(planting: Planting, i: int, rng: np.random.Generator) -> Heart:
    wall, fraction, log_volume = planting.log_volumes[i].tolist()
    angle = 0.75 + 0.08 * float(bounded_normal(rng, 1)[0])
    x, y = (4 * bounded_normal(rng, 2) + np.array([12.0, -24.0])).tolist()
    return Heart(wall, float(np.exp(log_volume)), fraction, angle, (x, y))


def _scan(
    heart: Heart, grid: int, n_frames: int, noise: float, rng: np.random.Generator
) -> Float32[np.ndarray, "x y frames"]:
    """Draw a heart as a scanner shows it: coil, scale, and noise, which makes magnitudes."""
    values, _ = draw_heart(heart, grid=grid, n_frames=n_frames)
    across = np.linspace(-1, 1, grid, dtype=np.float32)
    tilt = rng.normal(0, 0.10, 2).astype(np.float32)
    values *= np.exp(tilt[0] * across[:, None, None] + tilt[1] * across[None, :, None])
    values *= np.float32(np.exp(rng.normal(0, 0.05)))
    both = noise * rng.standard_normal((2, *values.shape), dtype=np.float32)
    return np.asarray(np.hypot(values + both[0], both[1]), np.float32)


def _columns(quantities: Float64[np.ndarray, "samples 3"]) -> dict[str, np.ndarray]:
    wall, fraction, volume = quantities[:, 0], quantities[:, 1], np.exp(quantities[:, 2])
    return {
        "wall_thickness": np.round(wall, 4),
        "end_diastolic_volume": np.round(volume, 4),
        "end_systolic_volume": np.round(volume * (1 - fraction), 4),
        "ejection_fraction": np.round(fraction, 6),
    }


def _write_average(
    folder: Path, grid: int, n_frames: int, affine: Float64[np.ndarray, "4 4"]
) -> None:
    """Write the heart of average quantities and its parts."""
    mean = [QUANTITIES[name][0] for name in QUANTITIES]
    heart = Heart(mean[0], float(np.exp(mean[2])), mean[1], 0.75, (12.0, -24.0))
    values, shares = draw_heart(heart, grid=grid, n_frames=n_frames)
    labels: Int16[np.ndarray, "x y frames"] = np.where(
        shares.max(axis=0) > 0.5, shares.argmax(axis=0) + 1, 0
    ).astype(np.int16)
    write_nifti(folder / "template.nii.gz", values[:, :, None], affine)
    write_nifti(folder / "regions.nii.gz", labels[:, :, None], affine, "int16")
    rows = "".join(f"{n}\t{name}\t\n" for n, name in enumerate(LABELS, start=1))
    with publish(folder / "regions.tsv", "w") as stream:
        stream.write("label\tregion\themisphere\n" + rows)

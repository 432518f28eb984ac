"""A beating heart with two chambers, whose wall and pump follow planted effects.

The left ventricle is half an ellipsoid of length L and radius a at the valve, seen along its long
axis; its volume is ``2/3 pi a^2 L``. The wall keeps its volume while it beats, so that it thickens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.checks import check_range, did_you_mean
from imgwas.errors import DegenerateError, UsageError, explain
from imgwas.files import publish, publish_json
from imgwas.shapes import Float32, Float64, Int16
from imgwas.simulate.effects import PlantedEffect, choose_effects, fill_amounts
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
#: Edge of the square picture. Unit: mm.
FIELD_OF_VIEW = 240.0
#: Length over radius of the cavity at the end of diastole; its shortening per ejected share.
_ELONGATION, _SHORTENING = 3.3, 0.25
#: Intensities of bright-blood cine pictures.
_BLOOD, _MUSCLE, _LUNG, _FAT, _LIVER = 1.0, 0.38, 0.07, 0.75, 0.48
LABELS = ("lv_cavity", "lv_wall", "rv_cavity")


@dataclass(frozen=True)
class Heart:
    """One person's heart.

    Parameters
    ----------
    wall_thickness : float
        Of the left ventricle at the end of diastole. Unit: mm.
    end_diastolic_volume : float
        Unit: ml.
    ejection_fraction : float
    angle, centre : float, (float, float)
        Direction of the axis, in radians, and place of the valve, in mm from the picture's centre.
    """

    wall_thickness: float
    end_diastolic_volume: float
    ejection_fraction: float
    angle: float = 0.6
    centre: tuple[float, float] = (0.0, 0.0)

    @property
    def end_systolic_volume(self) -> float:
        """Unit: ml."""
        return self.end_diastolic_volume * (1 - self.ejection_fraction)


def contraction(n_frames: int) -> Float64[np.ndarray, " frames"]:
    """How far the ventricle has emptied in each frame: 0 at the end of diastole, 1 of systole.

    It empties in 36 % of the beat, fills to three quarters by 60 %, rests, and is filled by the
    atrium from 82 %.
    """
    time = np.arange(n_frames) / n_frames
    knots = np.array([0.0, 0.36, 0.60, 0.82, 1.0])
    levels = np.array([0.0, 1.0, 0.25, 0.22, 0.0])
    part = np.clip(np.searchsorted(knots, time, side="right") - 1, 0, 3)
    share = (time - knots[part]) / (knots[part + 1] - knots[part])
    smooth = (1 - np.cos(np.pi * share)) / 2
    emptied: np.ndarray = levels[part] + (levels[part + 1] - levels[part]) * smooth
    return np.asarray(emptied / emptied.max())


def shape_over_time(
    heart: Heart, n_frames: int
) -> tuple[Float64[np.ndarray, "3 frames"], Float64[np.ndarray, " frames"]]:
    """Radius, length and wall of the left ventricle in each frame, in mm, and its volume in ml."""
    emptied = contraction(n_frames)
    ejected = heart.ejection_fraction * emptied
    volume = 1000 * heart.end_diastolic_volume * (1 - ejected)
    radius = (1.5 * volume[0] / (np.pi * _ELONGATION)) ** (1 / 3)
    length = _ELONGATION * radius * (1 - _SHORTENING * ejected)
    radii = np.sqrt(1.5 * volume / (np.pi * length))
    wall = np.full(n_frames, heart.wall_thickness)
    muscle = _shell(radii[0], length[0], heart.wall_thickness)
    for _ in range(20):  # Newton's method on the volume of the wall, which stays
        slope = (_shell(radii, length, wall + 1e-4) - _shell(radii, length, wall)) / 1e-4
        wall = wall + (muscle - _shell(radii, length, wall)) / slope
    return np.stack([radii, length, wall]), volume / 1000


def _shell(radius: Any, length: Any, wall: Any) -> Any:
    """Volume of the wall. Unit: cubic millimetres."""
    return 2 / 3 * np.pi * ((radius + wall) ** 2 * (length + wall) - radius**2 * length)


def draw_heart(
    heart: Heart, *, grid: int = 96, n_frames: int = 50
) -> tuple[Float32[np.ndarray, "x y frames"], Float32[np.ndarray, "parts x y frames"]]:
    """Draw a cine without noise.

    Parameters
    ----------
    heart : Heart
    grid : int
        Pixels along both edges of the picture, which is 240 mm wide.
    n_frames : int
        One beat.

    Returns
    -------
    values : (x, y, frames) float32 array
    shares : (3, x, y, frames) float32 array
        How much of each pixel is cavity and wall of the left ventricle, and right ventricle.
    """
    pixel = FIELD_OF_VIEW / grid
    axis = ((np.arange(grid) + 0.5 - grid / 2) * pixel).astype(np.float32)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    x, y = -x[:, :, None], y[:, :, None]  # the apex points to the left of the person
    u, v = x + heart.centre[0], y - heart.centre[1]
    radius, length, wall = shape_over_time(heart, n_frames)[0].astype(np.float32)
    emptied = contraction(n_frames).astype(np.float32)
    # the valve's plane moves towards the apex, which stays
    down = np.cos(heart.angle) * u + np.sin(heart.angle) * v - (length[0] - length)
    across = np.sin(heart.angle) * u - np.cos(heart.angle) * v
    cavity = _half(down, across, length, radius, pixel)
    outer = _half(down, across, length + wall, radius + wall, pixel)
    muscle = np.maximum(outer - cavity, 0)
    right = _right(down, across, length, radius + wall, emptied, pixel) * (1 - outer)
    values = _background(x, y, pixel)
    sac = _ellipse(down - 0.32 * length[0], across + 22, 82.0, 68.0, pixel)
    values = values * (1 - 0.55 * sac) + 0.55 * sac * 0.30
    for share, level in _atria(down, across, radius, wall, emptied, pixel):
        values = values * (1 - share) + level * share
    rim = _right(down, across, length, radius + wall, emptied, pixel, 3.5)
    for share, level in ((rim * (1 - outer), _MUSCLE), (right, _BLOOD * 0.96),
                         (muscle, _MUSCLE), (cavity, _BLOOD)):  # fmt: skip
        values = values * (1 - share) + level * share
    shares = np.stack([cavity, muscle, right])
    return values.astype(np.float32), shares.astype(np.float32)


def _soft(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a pixel inside a surface at that distance, positive inside."""
    return np.asarray(np.clip(0.5 + distance / pixel, 0, 1))


def _ellipse(u: Any, v: Any, a: Any, b: Any, pixel: float) -> np.ndarray:
    radius = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    slope = np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2)
    return _soft(radius * (1 - radius) / np.maximum(slope, 1e-4), pixel)


def _half(down: Any, across: Any, length: Any, radius: Any, pixel: float) -> np.ndarray:
    """Half an ellipse below the plane of the valve."""
    return np.asarray(_ellipse(down, across, length, radius, pixel) * _soft(down, pixel))


def _right(
    down: Any, across: Any, length: Any, left: Any, emptied: Any, pixel: float, rim: float = 0.0
) -> np.ndarray:
    """The right ventricle: a crescent at the septum, which empties with the left one."""
    width = 34 * (1 - 0.30 * emptied) + rim
    shape = _half(down + rim, across + left[0] + 4, 0.86 * length + rim, width + 8, pixel)
    return np.asarray(shape * _soft(-across, pixel))


def _atria(
    down: Any, across: Any, radius: Any, wall: Any, emptied: Any, pixel: float
) -> list[tuple[np.ndarray, float]]:
    """Walls and blood of both atria, which fill while the ventricles empty."""
    size = 19 + 5 * emptied
    parts = []
    for middle in (0.0, -(2.0 * radius[0] + wall[0]) * 0.95):
        where = (down + size + 5.0, across - middle)
        parts.append((_ellipse(*where, size + 2.5, 1.12 * size + 2.5, pixel), _MUSCLE))
        parts.append((_ellipse(*where, size, 1.12 * size, pixel), 0.93 * _BLOOD))
    return parts


def _background(x: np.ndarray, y: np.ndarray, pixel: float) -> np.ndarray:
    """Chest: fat, muscle, lungs, liver, spine and the descending aorta, which do not move."""
    values = 0.02 + 0 * x + 0 * y
    for u, v, a, b, level in (
        (x, y, 116, 100, _FAT), (x, y, 108, 91, 0.30), (x, y, 100, 84, _LUNG),
        (x - 8, y + 62, 62, 34, 0.25), (x + 70, y - 24, 40, 52, _LIVER),
        (x + 6, y + 74, 17, 15, 0.42), (x - 26, y + 58, 10, 10, 0.9 * _BLOOD),
    ):  # fmt: skip
        share = _ellipse(u, v, float(a), float(b), pixel)
        values = values * (1 - share) + level * share
    return np.asarray(values)


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
    variance_explained, train_share, threads, progress
        As for :func:`simulate_images`.
    noise : float
        Standard deviation; blood is 1.
    seed : int
        The same seed gives the same bytes.
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

"""Images of people whose genes change named regions by known amounts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from imgwas.checks import check_option, check_range
from imgwas.errors import DegenerateError, explain
from imgwas.files import publish, publish_json
from imgwas.shapes import Float32, Float64
from imgwas.simulate.effects import PlantedEffect, choose_effects
from imgwas.simulate.planting import Planting, Tables, plant
from imgwas.simulate.rendering import ImageModel, Renderer
from imgwas.simulate.template import BrainTemplate, builtin_template, find_region, write_nifti
from imgwas.simulate.warps import make_warps, solve_warp

if TYPE_CHECKING:
    import pandas as pd

Made = TypeVar("Made")


@dataclass(frozen=True)
class ImageCohort:
    """Where simulated images and genotypes are, and the truth about them.

    Parameters
    ----------
    folder, bfile, images, covariates, template, regions : Path
        The folder; prefix of the PLINK files; ``images.tsv``; ``covariates.tsv``; the template;
        its labels. ``template`` and ``regions`` of a heart are None.
    train, scan : Path
        People to train an encoder on, and the others.
    truth, volumes : DataFrame
        What ``truth.tsv`` and ``volumes.tsv`` hold.
    """

    folder: Path
    bfile: Path
    images: Path
    covariates: Path
    template: Path | None
    regions: Path | None
    train: Path
    scan: Path
    truth: pd.DataFrame
    volumes: pd.DataFrame


@dataclass(frozen=True)
class ImageArrays:
    """Simulated images and genotypes in memory.

    Parameters
    ----------
    values : (samples, x, y, z) float32 array
        0 outside the brain.
    sample_ids : tuple of str
    dosages : (listed, samples) float array
        Copies of the effect allele, in the rows of ``truth``: planted variants, then null ones.
    genotypes : (variants, samples) float32 array or None
        All variants, if asked for.
    covariates, volumes, truth : DataFrame
        As :func:`simulate_images` writes them.
    template : BrainTemplate
    train, scan : tuple of str
        People to train an encoder on, and the others.
    """

    values: Float32[np.ndarray, "samples x y z"]
    sample_ids: tuple[str, ...]
    dosages: Float64[np.ndarray, "listed samples"]
    genotypes: np.ndarray | None
    covariates: pd.DataFrame
    volumes: pd.DataFrame
    truth: pd.DataFrame
    template: BrainTemplate
    train: tuple[str, ...]
    scan: tuple[str, ...]


def simulate_images(
    out: str | Path,
    *,
    n_samples: int = 300,
    n_variants: int = 2000,
    effects: Sequence[PlantedEffect] | None = None,
    n_planted: int = 10,
    n_null: int = 5,
    template: BrainTemplate | None = None,
    grid_mm: float = 4.0,
    variance_explained: float = 0.1,
    train_share: float = 0.5,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> ImageCohort:
    """Write brain images, genotypes, tables, and the truth.

    Every region's log-volume follows age, sex, head size, its own variation, and the variants
    planted in it; a smooth warp of the template gives it exactly that volume. See the page on
    simulation for the formulae.

    Parameters
    ----------
    out : path
        Folder; it is made.
    n_samples, n_variants : int
    effects : sequence of PlantedEffect, optional
        One variant each; ``n_planted`` regions at random by default.
    n_planted, n_null : int
        Variants with an effect, if ``effects`` is not given, and variants listed without one.
    template : BrainTemplate, optional
        From :func:`imgwas.simulate.read_template`; the built-in brain by default.
    grid_mm : float
        Voxel size of the built-in brain. Unit: mm.
    variance_explained : float
        Of a region's log-volume by a variant whose amount is not given.
    train_share : float
        Share of the people in ``train.txt``; the others are in ``scan.txt``.
    seed : int
        The same seed gives the same bytes.
    threads : int, optional
        By default two, or the one core there is.
    progress : callable, optional
        Told the number of images written.
    **options
        Fields of :class:`~imgwas.simulate.rendering.ImageModel` (``region_sd``, ``noise``, ...)
        and of :class:`~imgwas.simulate.genotypes.GenotypeModel` (``chromosomes``, ...).

    Returns
    -------
    ImageCohort

    Raises
    ------
    UsageError
        If a number is out of range or no region has the name of an effect.
    DegenerateError
        If an effect is too large for an invertible warp.
    """
    folder = Path(out)
    brain = template if template is not None else builtin_template(grid_mm)
    model, genotypes = ImageModel.split(options)
    effects = effects_of(brain, effects, n_planted, seed)
    renderer = prepare(brain, model, effects, seed)
    planting = plant(
        brain, effects, model, n_samples=n_samples, n_variants=n_variants, n_null=n_null,
        variance_explained=variance_explained, train_share=train_share, seed=seed, bed=folder,
        **genotypes,
    )  # fmt: skip
    check_amounts(renderer, planting.effects, planting.amounts.tolist())
    (folder / "images").mkdir(exist_ok=True)
    volumes = np.empty((n_samples, len(brain.regions)))
    for i, (image, volume) in enumerate(_rendered(renderer, planting, seed, threads)):
        volumes[i] = volume
        write_nifti(folder / f"images/{planting.sample_ids[i]}.nii.gz", image, brain.affine)
        if progress is not None:
            progress(1)
    about = {"seed": seed, "model": asdict(model)}
    return _write(folder, brain, planting, _finish(planting, volumes), about)


def simulate_image_arrays(
    *,
    n_samples: int = 300,
    n_variants: int = 2000,
    effects: Sequence[PlantedEffect] | None = None,
    n_planted: int = 10,
    n_null: int = 5,
    template: BrainTemplate | None = None,
    grid_mm: float = 4.0,
    variance_explained: float = 0.1,
    train_share: float = 0.5,
    keep_genotypes: bool = False,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
    **options: Any,
) -> ImageArrays:
    """Make what :func:`simulate_images` writes, in memory, for benchmarks and notebooks.

    Parameters are those of :func:`simulate_images`; ``keep_genotypes`` keeps all variants, not
    only the listed ones. The same seed gives the same images as on disk.
    """
    brain = template if template is not None else builtin_template(grid_mm)
    model, genotypes = ImageModel.split(options)
    effects = effects_of(brain, effects, n_planted, seed)
    renderer = prepare(brain, model, effects, seed)
    planting = plant(
        brain, effects, model, n_samples=n_samples, n_variants=n_variants, n_null=n_null,
        variance_explained=variance_explained, train_share=train_share, seed=seed,
        keep=keep_genotypes, **genotypes,
    )  # fmt: skip
    check_amounts(renderer, planting.effects, planting.amounts.tolist())
    values = np.empty((n_samples, *brain.grid), np.float32)
    volumes = np.empty((n_samples, len(brain.regions)))
    for i, (image, volume) in enumerate(_rendered(renderer, planting, seed, threads)):
        values[i], volumes[i] = image, volume
        if progress is not None:
            progress(1)
    tables = _finish(planting, volumes)
    return ImageArrays(
        values, planting.sample_ids, planting.dosages, planting.genotypes, tables.covariates,
        tables.volumes, tables.truth, brain, planting.train, planting.scan,
    )  # fmt: skip


def effects_of(
    brain: BrainTemplate, effects: Sequence[PlantedEffect] | None, n_planted: int, seed: int
) -> tuple[PlantedEffect, ...]:
    """Return the effects asked for, or some in regions at random."""
    if effects is not None:
        return tuple(effects)
    return choose_effects(brain.regions, n_planted, np.random.default_rng([seed, 11]))


def prepare(
    brain: BrainTemplate, model: ImageModel, effects: Sequence[PlantedEffect], seed: int
) -> Renderer:
    """Check effects before anything is written, and compute the fields."""
    for effect in effects:
        find_region(brain, effect.region)
        check_option(f"the kind of {effect.region}", effect.kind, ("volume", "intensity"))
    check_range("the seed", seed, low=0)
    renderer = Renderer(make_warps(brain), model)
    check_amounts(renderer, effects, [effect.amount for effect in effects])
    return renderer


def check_amounts(
    renderer: Renderer, effects: Sequence[PlantedEffect], amounts: Sequence[float | None]
) -> None:
    """Refuse an effect that no invertible warp can give to somebody with two copies.

    Raises
    ------
    DegenerateError
        With the effect and the largest log-volume that works.
    """
    warps = renderer.warps
    spread = renderer.model.spread(warps.template.regions)
    for effect, amount in zip(effects, amounts, strict=True):
        if effect.kind != "volume" or amount is None:
            continue
        row = warps.template.regions.index(effect.region)
        change = np.zeros(len(warps.base))
        change[row] = 2 * amount + 3 * np.sign(amount) * spread[row]
        try:
            solve_warp(warps, change)
        except DegenerateError as error:
            works = _largest(renderer, row, change[row])
            room = max(0.0, abs(works) - 3 * spread[row]) / 2
            raise DegenerateError(
                explain(
                    f"an effect of {amount:+.3f} per allele on the log-volume of "
                    f"{effect.region} is too large: with two copies and 3 SD of other variation "
                    f"the log-volume changes by {change[row]:+.2f}, and no invertible warp does "
                    "that",
                    expected=f"At most about {room:.2f} per allele here",
                    do="Choose a smaller amount, or a smaller --region-sd",
                )
            ) from error


def _largest(renderer: Renderer, row: int, change: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(6):
        middle = (low + high) / 2
        wanted = np.zeros(len(renderer.warps.base))
        wanted[row] = middle * change
        try:
            solve_warp(renderer.warps, wanted)
            low = middle
        except DegenerateError:
            high = middle
    return low * change


def _rendered(
    renderer: Renderer, planting: Planting, seed: int, threads: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and volumes of everyone in order, a few people at a time."""

    def one(i: int) -> tuple[np.ndarray, np.ndarray]:
        return renderer.render(
            planting.log_volumes[i],
            planting.intensities[i],
            float(planting.head[i]),
            np.random.default_rng([seed, 12, i]),
        )

    return in_order(one, len(planting.sample_ids), threads)


def in_order(make: Callable[[int], Made], n: int, threads: int | None) -> Iterator[Made]:
    """Yield ``make(0)``, ``make(1)``, ... made by threads, a few at a time."""
    n_threads = threads or min(2, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, n, 8 * n_threads):
            yield from pool.map(make, range(start, min(start + 8 * n_threads, n)))


def _write(
    folder: Path,
    brain: BrainTemplate,
    planting: Planting,
    tables: Tables,
    about: dict[str, Any],
) -> ImageCohort:
    write_nifti(folder / "template.nii.gz", brain.values, brain.affine)
    write_nifti(folder / "regions.nii.gz", brain.labels, brain.affine, "int16")
    rows = [f"{n}\t{brain.names[n]}\t{brain.hemispheres[n]}\n" for n in sorted(brain.names)]
    with publish(folder / "regions.tsv", "w") as stream:
        stream.write("label\tregion\themisphere\n" + "".join(rows))
    write_tables(folder, planting, tables)
    place = {"grid_mm": brain.zoom, "grid": list(brain.grid)}
    publish_json(folder / "simulation.json", about | place)
    return ImageCohort(
        folder, folder / "cohort", folder / "images.tsv", folder / "covariates.tsv",
        folder / "template.nii.gz", folder / "regions.nii.gz", folder / "train.txt",
        folder / "scan.txt", tables.truth, tables.volumes,
    )  # fmt: skip


def _finish(planting: Planting, volumes: np.ndarray) -> Tables:
    """Make the tables of measured volumes. Unit: cubic millimetres."""
    columns = dict(zip(planting.regions, np.round(volumes, 3).T, strict=True))
    return planting.finish(columns, np.log(volumes))


def write_tables(folder: Path, planting: Planting, tables: Tables) -> None:
    """Write the list of images, covariates, truth, volumes, and who trains and who is scanned."""
    with publish(folder / "images.tsv", "w") as stream:
        stream.write("sample_id\tvisit\tpath\tmember\tmask\tmatrix\n")
        stream.writelines(f"{one}\t\timages/{one}.nii.gz\t\t\t\n" for one in planting.sample_ids)
    for name, table in (("covariates", tables.covariates), ("volumes", tables.volumes),
                        ("truth", tables.truth)):  # fmt: skip
        with publish(folder / f"{name}.tsv", "w") as stream:
            table.to_csv(stream, sep="\t", index=False)
    for name, ids in (("train", planting.train), ("scan", planting.scan)):
        with publish(folder / f"{name}.txt", "w") as stream:
            stream.write("IID\n" + "".join(f"{one}\n" for one in ids))

"""``imgwas demo``: images to latents, latents to loci, loci back to regions, and the truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs
from imgwas_cli.options import FOLDER, Command
from imgwas_cli.running import bar

if TYPE_CHECKING:
    import pandas as pd

    from imgwas.brain.mapping import EffectMap
    from imgwas.encoders.checkpoints import Loaded
    from imgwas.genetics.loci_table import Loci
    from imgwas.simulate.images import ImageCohort
    from imgwas.sumstats import SumStats
    from imgwas.types import Atlas, Latents

#: Planted regions and their variants' changes of log-volume per allele; the last two are deep and
#: small, where principal components of coarse images see little.
PLANTED = {
    "lateral_ventricle_left": 0.15, "temporal_cortex_right": -0.06, "cerebellum_left": 0.06,
    "frontal_cortex_right": 0.06, "occipital_cortex_left": -0.07, "parietal_cortex_right": -0.06,
    "brain_stem": 0.06, "temporal_cortex_left": 0.06, "hippocampus_right": 0.06,
    "putamen_left": -0.06,
}  # fmt: skip


@click.command(cls=Command, example="imgwas demo demo")
@click.argument("out", type=FOLDER, default=Path("demo"))
@click.option("--samples", default=1400, show_default=True, help="People.")
@click.option("--variants", default=4000, show_default=True, help="Variants.")
@click.option("--latents", default=64, show_default=True, help="Principal components.")
@click.option("--grid-mm", default=5.0, show_default=True, help="Voxel size.")
@click.option("--seed", default=7, show_default=True, help="Everything follows from it.")
def demo(out: Path, **given: Any) -> None:
    """Simulate brains with planted genetics, find the loci, map each back to its region.

    Brains and genotypes are simulated; an encoder is trained on some people; the others are
    encoded and scanned; loci are found by the test of all latents together; each lead variant is
    mapped through the decoder; and the last page shows what was found beside what was planted.
    """
    logs.to_terminal(quiet=True)
    start = time.monotonic()
    cohort = _simulate(out, given)
    loaded, latents = _encode(cohort, out, given)
    sumstats, loci = _scan(cohort, latents, out)
    maps, atlas = _map(cohort, loaded, latents, sumstats, loci)
    figures = _draw(cohort, sumstats, maps, atlas, out)
    click.echo(_verdict(cohort.truth, maps))
    for figure in figures:
        click.echo(f"figure   {figure}")
    click.echo(
        f"tables   {out / 'loci.tsv'}, {out / 'found_regions.tsv'}; truth {out / 'truth.tsv'}"
    )
    click.echo(f"done in {time.monotonic() - start:.0f} s")


def _simulate(out: Path, given: dict[str, Any]) -> ImageCohort:
    from imgwas.simulate import PlantedEffect, simulate_images

    effects = [PlantedEffect(region, amount=amount) for region, amount in PLANTED.items()]
    with bar(given["samples"], "simulate", "image") as progress:
        return simulate_images(
            out, n_samples=given["samples"], n_variants=given["variants"], effects=effects,
            n_null=5, grid_mm=given["grid_mm"], train_share=0.35, seed=given["seed"],
            progress=progress,
        )  # fmt: skip


def _encode(cohort: ImageCohort, out: Path, given: dict[str, Any]) -> tuple[Loaded, Latents]:
    """Train on some people, encode the others."""
    from imgwas.encoders.checkpoints import load_encoder
    from imgwas.encoders.encoding import encode_images
    from imgwas.encoders.fitting import fit
    from imgwas.encoders.runs import Run
    from imgwas.images.volumes import SubsetImages, open_images
    from imgwas.tables import read_id_list, read_latents

    images = open_images(cohort.images)
    train = set(read_id_list(cohort.train).sample_ids)
    rows = [i for i, one in enumerate(images.sample_ids) if one in train]
    others = [i for i, one in enumerate(images.sample_ids) if one not in train]
    with bar(len(rows), "train", "image") as progress:
        fit("pca", SubsetImages(images, rows), out=out / "encoder", overwrite=True,
            settings={"latents": given["latents"], "background": "zero"},
            progress=progress)  # fmt: skip
    loaded = load_encoder(out / "encoder")
    with bar(len(others), "encode", "image") as progress:
        encode_images(SubsetImages(images, others), loaded.encoder, out / "latents.parquet",
                      digest=loaded.digest, people_seen=Run(out / "encoder").people_seen(),
                      progress=progress)  # fmt: skip
    return loaded, read_latents(out / "latents.parquet")


def _scan(cohort: ImageCohort, latents: Latents, out: Path) -> tuple[SumStats, Loci]:
    """Scan all latents, and find loci by the test of all of them together."""
    import numpy as np
    from imgwas_cli.running import choose_progress

    import imgwas

    genotypes = imgwas.open_genotypes(cohort.bfile)
    covariates = imgwas.read_covariates(cohort.covariates, categorical=["sex"])
    sumstats = imgwas.associate(
        genotypes, latents, covariates, out=out / "results", overwrite=True, omnibus=True,
        command=["imgwas", "demo"], progress=choose_progress({"quiet": False, "on_part": None}),
    )  # fmt: skip
    scanned = set(latents.sample_ids)
    columns = [i for i, one in enumerate(genotypes.samples.sample_ids) if one in scanned]
    loci = imgwas.find_loci(
        sumstats, genotypes, neg_log10_p="omnibus.combined", columns=np.array(columns)
    )
    loci.table.to_csv(out / "loci.tsv", sep="\t", index=False)
    return sumstats, loci


def _map(
    cohort: ImageCohort, loaded: Loaded, latents: Latents, sumstats: SumStats, loci: Loci
) -> tuple[list[EffectMap], Atlas]:
    """Map every lead variant through the decoder; some people's measured volumes calibrate."""
    import imgwas
    from imgwas.brain.output import region_table_of, write_effect_map, write_table
    from imgwas.images.space import Space

    images = imgwas.open_images(cohort.images)
    assert cohort.regions is not None
    atlas = imgwas.read_atlas(
        cohort.regions, cohort.folder / "regions.tsv", space=Space(images.grid, images.affine)
    )
    with bar(loaded.encoder.n_latents, "map", "latent") as progress:
        maps = imgwas.map_to_brain(
            list(loci.table["lead_variant"]), sumstats, loaded, latents, images, atlas=atlas,
            volumes=imgwas.latents_from_frame(cohort.volumes.iloc[-500:]),
            covariates=imgwas.read_covariates(cohort.covariates, categorical=["sex"]),
            progress=progress,
        )  # fmt: skip
    folder = cohort.folder / "maps"
    folder.mkdir(exist_ok=True)
    for one in maps:
        write_effect_map(folder, one.direction.name, one)
    write_table(cohort.folder / "found_regions.tsv", region_table_of(maps))
    return maps, atlas


def _draw(
    cohort: ImageCohort, sumstats: SumStats, maps: list[EffectMap], atlas: Atlas, out: Path
) -> list[Path]:
    from imgwas.plots import aggregated_manhattan, found_beside_planted, qq_many, save_figure

    best = sumstats.best_latent()
    manhattan = aggregated_manhattan(best, n_latents=len(sumstats.latents)).figure
    quantiles = qq_many({name: sumstats.neg_log10_p(name) for name in sumstats.latents}).figure
    drawn = {"manhattan": manhattan, "qq": quantiles}
    rows = _rows(cohort, maps, atlas)
    if rows:
        drawn["found_beside_planted"] = found_beside_planted(rows[:8])
    return [
        save_figure(figure, out / f"{name}.{kind}")
        for name, figure in drawn.items()
        for kind in ("png", "pdf")
    ]


def _rows(cohort: ImageCohort, maps: list[EffectMap], atlas: Atlas) -> list[Any]:
    """What was planted and what was found, strongest first."""
    import numpy as np

    from imgwas.images.nifti import read_volume
    from imgwas.plots.planted import PlantedRow

    assert cohort.template is not None
    template = read_volume(cohort.template)
    planted = _planted(cohort.truth)
    numbers = {name: number for number, name in atlas.names.items()}
    rows = []
    for one in sorted(maps, key=lambda m: -float(m.summary["neg_log10_p"])):
        name = one.direction.name
        region, amount = planted.get(name, ("", None))
        table = one.regions.dropna(subset=["volume"])
        table = table[["rank", "region", "volume", "volume_low", "volume_high", "share_q"]]
        table = table.set_axis(["rank", "region", "effect", "low", "high", "q_value"], axis=1)
        table[["effect", "low", "high"]] *= 100
        rows.append(
            PlantedRow(
                variant=name, neg_log10_p=float(one.summary["neg_log10_p"]),
                template=template.values, affine=template.affine, found=one.effect, regions=table,
                planted_mask=np.asarray(atlas.labels == numbers[region]) if region else None,
                planted_region=region, truth=None if amount is None else 100 * amount,
            )
        )  # fmt: skip
    return rows


def _planted(truth: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Region and amount of every planted variant."""
    rows = truth[truth["role"] == "planted"]
    regions, amounts = rows["region"].astype(str), rows["amount"].astype(float)
    return dict(zip(rows["variant_id"], zip(regions, amounts, strict=True), strict=True))


def _verdict(truth: pd.DataFrame, maps: list[EffectMap]) -> str:
    """Count planted variants that lead a locus, regions that come first, intervals that hold."""
    planted = _planted(truth)
    found = [one for one in maps if one.direction.name in planted]
    first = covered = read = 0
    for one in found:
        region, amount = planted[one.direction.name]
        row = one.regions[one.regions["region"] == region].iloc[0]
        first += int(row["rank"]) == 1
        low, high = float(row["volume_low"]), float(row["volume_high"])
        read += low == low
        covered += low <= amount <= high
    return (
        f"{len(found)} of {len(planted)} planted variants lead a locus, {len(maps) - len(found)} "
        f"other loci; the planted region comes first in {first} of {len(found)}; the 95 % interval "
        f"of its change of volume holds the truth in {covered} of {read}"
    )

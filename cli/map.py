"""``imgwas map``: what a variant, a latent or a trait changes in the picture, and how surely."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import options
from imgwas_cli.options import FILE, FOLDER, CommaList, Command
from imgwas_cli.running import bar, device, log_into

if TYPE_CHECKING:
    from imgwas_cli.map_inputs import MapInputs

    from imgwas.brain.mapping import EffectMap, Mapper

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas map results/ --encoder run/ --latents latents.parquet --images prepared/ \\
    --loci loci.tsv --atlas atlas.nii.gz --atlas-names atlas.csv --out maps/
imgwas map results/ --encoder run/ --latents latents.parquet --mask mask.nii.gz \\
    --variant rs429358,rs7412 --atlas atlas.nii.gz --out maps/
imgwas map --encoder run/ --latents latents.parquet --images prepared/ --latent L003,L017 \\
    --perdi --trait participants.csv --trait-name age,sex --covar head.csv --out maps/
"""
GROUPS = {
    "Encoder": ["encoder", "latents", "images", "mask", "visit", "cine", "device", "people",
                "batch"],
    "What is moved": ["loci", "variant", "weights", "top", "latent", "component", "trait",
                      "trait_name", "trait_model", "trait_time", "covar", "categorical", "perdi",
                      "perdi_people"],
    "Regions": ["atlas", "atlas_names", "merge_hemispheres", "volumes"],
    "How sure": ["draws", "gate", "level", "seed"],
    "Also": ["traverse", "outside", "brainpainter", "compare"],
    "Output": ["out", "no_figures", "figures", "quiet", "verbose"],
}  # fmt: skip


@click.command(cls=Command, example=EXAMPLE, groups=GROUPS)
@click.argument("results", type=FOLDER, required=False)
@click.option("--encoder", type=FOLDER, required=True, help="Run of 'imgwas train'.")
@click.option("--latents", type=FILE, required=True, help="What 'imgwas encode' wrote with it.")
@click.option("--images", type=FOLDER, help="Prepared images: they say where the brain is.")
@click.option("--mask", type=FILE, help="Voxels to look at; by default where images are not zero.")
@click.option("--visit", help="Which visit of the images, where there are several.")
@click.option("--cine", is_flag=True, help="The last axis of a 3-D grid is time.")
@click.option("--loci", type=FILE, help="Table of 'imgwas loci': its lead variants are mapped.")
@click.option("--variant", type=CommaList(), help="Ids of variants of the scan.")
@click.option("--weights", type=click.Choice(["effects", "inverse"]), default="effects",
              show_default=True, help="A variant's effects b, or the weights R^-1 b.")  # fmt: skip
@click.option("--top", type=click.IntRange(1), help="The strongest variants, 1 Mb apart.")
@click.option("--latent", type=CommaList(), help="Latents, moved by one SD.")
@click.option("--component", type=click.IntRange(1), multiple=True, help="Principal component N.")
@click.option("--trait", type=FILE, help="Table of traits, by sample id.")
@click.option("--trait-name", type=CommaList(), help="Columns of it; all by default.")
@click.option(
    "--trait-model",
    type=click.Choice(["regression", "linear", "logistic", "cox"]),
    default="regression",
    show_default=True,
    help="Regression of latents on the trait (with its P), or the weights of a probe.",
)
@click.option("--trait-time", help="Column of times, for cox.")
@click.option("--covar", type=FILE, help="Adjust traits for these: head size, age, sex.")
@click.option("--categorical", type=CommaList(), help="Covariates that are classes.")
@click.option("--perdi", is_flag=True, help="Also the published recipe (paired t) of each latent.")
@click.option("--perdi-people", type=click.IntRange(3), default=500, show_default=True,
              help="People for it.")  # fmt: skip
@click.option("--atlas", type=FILE, help="Image of region numbers, in the space of the images; of "
              "cines on their grid.")  # fmt: skip
@click.option("--atlas-names", type=FILE, help="Names of the numbers: XML, CSV, TSV or JSON.")
@click.option("--merge-hemispheres", is_flag=True, help="Left and right as one region.")
@click.option("--volumes", type=FILE, help="Measured volumes of some people, a column a region: "
              "changes of volume are then calibrated.")  # fmt: skip
@click.option("--people", type=click.IntRange(1), default=16, show_default=True,
              help="People to differentiate at.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True,
              help="People decoded together.")  # fmt: skip
@click.option("--draws", type=click.IntRange(1), default=1999, show_default=True,
              help="Effect vectors of chance.")  # fmt: skip
@click.option("--gate", type=click.FloatRange(0), default=7.30103, show_default=True,
              help="-log10 P of a variant's finding.")  # fmt: skip
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05,
              show_default=True, help="Family-wise level, and FDR.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of people and draws.")  # fmt: skip
@click.option("--traverse", is_flag=True, help="Walks from -3 to 3 SD: strips, gifs, curves.")
@click.option("--outside", is_flag=True, help="Regions painted on the brain, seen from outside.")
@click.option("--brainpainter", is_flag=True, help="Also a CSV of 82 regions for BrainPainter.")
@click.option("--compare", type=FOLDER, help="Maps of another training seed: how far they agree.")
@options.out_folder
@click.option("--figures", type=click.Choice(["png", "pdf", "svg"]), default="png",
              show_default=True, help="Kind of figures.")  # fmt: skip
@click.option("--no-figures", is_flag=True, help="Tables and NIfTI only.")
@device
@options.verbosity
def map(results: Path | None, **given: Any) -> None:  # noqa: A001
    """Write maps, regions and figures of variants, latents and traits.

    RESULTS is the folder of a scan; without it, latents and traits only. For every direction:
    the effect map (intensity per allele), its z with a family-wise threshold, and a table of
    regions with effect, volume change, 95 % interval, P and q.
    """
    from imgwas_cli.map_inputs import read_inputs

    out: Path = given["out"]
    _check_out(out)
    log_into(out, given)
    inputs = read_inputs(results, given)
    n = sum(len(directions) for _, directions in inputs.groups)
    logger.info("maps     %d directions of %d latents", n, inputs.n_latents)
    mappers = _prepare(inputs, given)
    each = [_map(m, d, given) for m, (_, d) in zip(mappers, inputs.groups, strict=True)]
    found = [one for maps in each for one in maps]
    if found:
        _write(out, mappers[0], found, inputs, given)
    if given["traverse"]:
        from imgwas_cli.map_extras import write_walks

        write_walks(out / "walks", mappers, each, given)
    if given["outside"]:
        from imgwas_cli.map_extras import write_outside

        write_outside(out / "outside", found, inputs.atlas, given)
    if given["brainpainter"]:
        from imgwas_cli.map_extras import write_brainpainter

        write_brainpainter(out / "brainpainter.csv", found)
    if given["perdi"]:
        from imgwas_cli.map_perdi import write_perdi

        write_perdi(out / "perdi", mappers[0], inputs, given)
    _say(found, out)


def _check_out(out: Path) -> None:
    """Refuse the folder of a scan or of an encoder: its files would be mixed with the maps."""
    from imgwas.errors import RefusedError, explain

    if (out / "run.json").exists():
        raise RefusedError(
            explain(
                f"--out {out} holds a scan or an encoder",
                expected="Maps have their own folder",
                do=f"Give --out {out / 'maps'}",
            )
        )


def _prepare(inputs: MapInputs, given: dict[str, Any]) -> list[Mapper]:
    """Differentiate the decoder once, and prepare the tests for each set of covariates."""
    from imgwas.brain.mapping import Mapper, MapSettings
    from imgwas.brain.workflow import differentiate

    settings = MapSettings(
        draws=given["draws"], level=given["level"], gate=given["gate"], seed=given["seed"],
        blur=inputs.blur,
    )  # fmt: skip
    with bar(inputs.n_latents, "decoder", "latent", quiet=given["quiet"]) as progress:
        decoder, jacobian = differentiate(
            inputs.encoder, inputs.digest, inputs.people, mask=inputs.mask, affine=inputs.affine,
            cache=given["out"], batch=given["batch"], progress=progress,
        )  # fmt: skip
    return [
        Mapper(decoder, jacobian, covariance, inputs.people, atlas=inputs.atlas,
                    volumes=inputs.volumes, settings=settings)
        for covariance, _ in inputs.groups
    ]  # fmt: skip


def _map(mapper: Mapper, directions: list[Any], given: dict[str, Any]) -> list[EffectMap]:
    from imgwas.brain.mapping import map_many

    with bar(len(directions), "map", "map", quiet=given["quiet"]) as progress:
        return map_many(mapper, directions, progress)


def _write(
    out: Path, mapper: Mapper, found: list[EffectMap], inputs: MapInputs, given: dict[str, Any]
) -> None:
    """Write tables first, then volumes, then figures."""
    from imgwas.brain.output import (
        notes_of,
        region_table_of,
        summary_table,
        write_effect_map,
        write_table,
    )  # fmt: skip
    from imgwas.filenames import file_names
    from imgwas.files import publish_json

    notes = notes_of(inputs.about, given["draws"], given["gate"], given["level"])
    summary = summary_table(found)
    if given["compare"]:
        from imgwas.brain.agreement import agreement_with

        summary = summary.merge(agreement_with(given["compare"], found), on="name", how="left")
    write_table(out / "maps.tsv", summary, notes)
    regions = region_table_of(found)
    if len(regions):
        write_table(out / "regions.tsv", regions, notes)
    else:
        (out / "regions.tsv").unlink(missing_ok=True)  # of an earlier run with an atlas
    folder = out / "maps"
    folder.mkdir(exist_ok=True)
    stems = file_names([one.direction.name for one in found])
    for one in found:
        write_effect_map(folder, stems[one.direction.name], one)
    publish_json(out / "map.json", inputs.about | {"maps": stems})
    if not given["no_figures"]:
        from imgwas_cli.map_extras import write_cines

        from imgwas.images.nifti import Volume
        from imgwas.plots.map_figures import save_map_figures

        decoder = mapper.decoder
        background = Volume(decoder.to_grid(mapper.jacobian.picture), decoder.affine)

        if len(inputs.encoder.grid) == 4 or given["cine"]:
            write_cines(out / "figures", found, background, stems, given["figures"])
            return
        with bar(len(found), "figures", "map", quiet=given["quiet"]) as progress:
            save_map_figures(
                out / "figures", found, background, inputs.atlas, stems=stems,
                kind=given["figures"], progress=progress,
            )  # fmt: skip


def _say(found: list[EffectMap], out: Path) -> None:
    from imgwas.brain.output import sentence_of

    for one in found[:20]:
        click.echo(sentence_of(one))
    if len(found) > 20:
        click.echo(f"... and {len(found) - 20} more")
    tables = [out / "maps.tsv", out / "regions.tsv"]
    if found:
        click.echo(f"tables   {', '.join(str(one) for one in tables if one.exists())}")
        click.echo(f"volumes  {out / 'maps'}")

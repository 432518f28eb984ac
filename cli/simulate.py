"""``imgwas simulate``: a cohort whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from imgwas_cli.options import FILE, FOLDER, CommaList, Command
from imgwas_cli.running import bar

EXAMPLE = """
imgwas simulate cohort/ --samples 5000 --variants 100000 --latents 128 --causal 20
imgwas simulate cohort/ --populations 3 --fst 0.05 --sib-pairs 50 --missing-calls 0.01
imgwas simulate study/ --images brain --samples 600 --planted 12 --null 5
imgwas simulate hearts/ --images heart --samples 300
"""


@click.command(cls=Command, example=EXAMPLE)
@click.argument("out", type=FOLDER)
@click.option("--samples", type=int, show_default="2000; 300 with --images", help="People.")
@click.option("--ids", type=FILE, help="Genotypes for the people of this table, e.g. images.tsv.")
@click.option("--variants", type=int, show_default="20000; 2000 with --images", help="Variants.")
@click.option("--latents", default=16, show_default=True, help="Latents.")
@click.option("--causal", default=10, show_default=True, help="Variants with an effect.")
@click.option(
    "--variance-explained",
    type=float,
    show_default="0.02; 0.1 with --images",
    help="Of a latent, or of a region's log-volume, by its variant.",
)
@click.option(
    "--covariate-r2", default=0.35, show_default=True,
    help="How much of a causal genotype the covariate batch_score explains.",
)  # fmt: skip
@click.option("--chr", "chromosomes", type=CommaList(), default=None, help="1,2,X; all autosomes.")
@click.option("--populations", default=1, show_default=True, help="Groups of people.")
@click.option("--fst", default=0.02, show_default=True, help="Their differentiation.")
@click.option("--sib-pairs", default=0, show_default=True, help="Pairs of siblings.")
@click.option("--trios", default=0, show_default=True, help="Children with both parents.")
@click.option("--duplicates", default=0, show_default=True, help="People who occur twice.")
@click.option("--missing-calls", default=0.0, show_default=True, help="Share of missing calls.")
@click.option("--missing-latents", default=0.0, show_default=True, help="Share of missing values.")
@click.option("--messy-ids", is_flag=True, help="Leading zeros, other orders, extra people.")
@click.option("--brains", is_flag=True, help="Also a brain image of everyone: brains/ID.nii.gz.")
@click.option("--grid", type=CommaList(), default="40,48,40", show_default=True, help="Of brains.")
@click.option(
    "--images", type=click.Choice(["brain", "heart"]),
    help="Images whose regions change with genotypes, in place of latents.",
)  # fmt: skip
@click.option("--template", type=FILE, help="T1 without skull; the built-in brain by default.")
@click.option("--labels", type=FILE, help="Regions of --template, on its grid.")
@click.option("--label-names", type=FILE, help="Table of the numbers and names of --labels.")
@click.option("--grid-mm", default=4.0, show_default=True, help="Voxel size of brains.")
@click.option("--pixels", default=96, show_default=True, help="Of hearts, along both edges.")
@click.option("--frames", default=50, show_default=True, help="Of hearts, in one beat.")
@click.option("--effects", type=FILE, help="Table: region, amount per allele, kind.")
@click.option("--planted", type=int, help="Effects at random places, where --effects is not given.")
@click.option("--null", default=5, show_default=True, help="Variants listed without an effect.")
@click.option("--region-sd", type=float, help="Variation of log-volumes for other reasons.")
@click.option("--seed", default=0, show_default=True, help="Everything follows from it.")
def simulate(**given: Any) -> None:
    """Write genotypes with LD, latents with planted effects, covariates, and truth.tsv.

    The files are what a real cohort has: cohort.bed/.bim/.fam, latents.parquet, covariates.tsv.
    With --images there are images in place of latents, and truth.tsv says which variant changes
    which region by how much.
    """
    from imgwas.simulate import simulate_cohort

    out: Path = given["out"]
    if given["images"]:
        from imgwas_cli.simulate_images import simulate_images

        simulate_images(out, given)
        return
    _refuse_image_options(given)
    given["samples"] = int(_or(given["samples"], 2000))
    given["variants"] = int(_or(given["variants"], 20_000))
    chromosomes = {"chromosomes": given["chromosomes"]} if given["chromosomes"] else {}
    with bar(given["variants"], "simulate", "variant") as progress:
        cohort = simulate_cohort(
            out,
            n_samples=given["samples"],
            sample_ids=_ids(given["ids"]),
            n_variants=given["variants"],
            n_latents=given["latents"],
            n_causal=given["causal"],
            missing_rate=given["missing_calls"],
            progress=progress,
            variance_explained=_or(given["variance_explained"], 0.02),
            **{name: given[name] for name in _PASSED},
            **chromosomes,
        )
    if given["brains"]:
        _write_brains(cohort, out, given)
    click.echo(f"{len(cohort.truth)} planted effects are listed in {out / 'truth.tsv'}", err=True)
    click.echo(
        f"next: imgwas associate --bfile {cohort.bfile} --latents {cohort.latents} "
        f"--covar {cohort.covariates} --categorical sex,centre --out {out / 'results'}",
        err=True,
    )


_PASSED = (
    "covariate_r2", "populations", "fst", "sib_pairs", "trios", "duplicates",
    "missing_latents", "messy_ids", "seed",
)  # fmt: skip


def _refuse_image_options(given: dict[str, Any]) -> None:
    """Refuse what has no meaning without images, so that nobody waits for it in vain."""
    from imgwas.errors import UsageError, explain

    wanted = ("template", "labels", "label_names", "effects", "planted", "region_sd")
    lost = [f"--{name.replace('_', '-')}" for name in wanted if given[name] is not None]
    if lost:
        raise UsageError(
            explain(f"{', '.join(lost)} means nothing without images", do="Add --images brain")
        )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _ids(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    from imgwas.tables.columns import find_ids
    from imgwas.tables.source import read_table

    return find_ids(read_table(path), path, None).sample_ids


def _write_brains(cohort: Any, out: Path, given: dict[str, Any]) -> None:
    """Let the first latents be the volumes of brain regions, one each."""
    import numpy as np

    from imgwas.errors import UsageError, explain
    from imgwas.images.nifti import Volume, write_volume
    from imgwas.simulate.brains import ANATOMY, simulate_brains
    from imgwas.tables import read_latents

    if len(given["grid"]) != 3 or not all(n.isdigit() for n in given["grid"]):
        raise UsageError(
            explain(f"--grid is {','.join(given['grid'])}", expected="Three numbers: 40,48,40")
        )
    latents = read_latents(cohort.latents)
    values = latents.values - np.nanmean(latents.values, axis=0)
    factors = np.nan_to_num(values / np.nanstd(values, axis=0))[:, : len(ANATOMY)]
    regions = tuple(ANATOMY)[: factors.shape[1]]
    folder = out / "brains"
    folder.mkdir(exist_ok=True)
    options = {"grid": tuple(map(int, given["grid"])), "regions": regions, "seed": given["seed"]}
    with bar(len(factors), "brains", "image") as progress:
        for i, one in enumerate(latents.sample_ids):
            brain = simulate_brains(1, factors=factors[i : i + 1], **options | {"seed": i})
            write_volume(folder / f"{one}.nii.gz", Volume(brain.values[0], brain.affine))
            if progress is not None:
                progress(1)
    template = simulate_brains(
        1, factors=np.zeros((1, len(regions))), noise=0, head_sd=0, **options
    )
    write_volume(out / "template.nii.gz", Volume(template.values[0], template.affine))
    labels = Volume(template.labels.astype(np.float32), template.affine)
    write_volume(out / "regions.nii.gz", labels, dtype="uint8")
    names = "".join(
        f"{number}\t{name}\t{latent}\n"
        for number, (name, latent) in enumerate(zip(regions, latents.names, strict=False), start=1)
    )
    (out / "regions.tsv").write_text("label\tregion\tlatent\n" + names, encoding="utf-8")
    ids = latents.sample_ids[: len(latents.sample_ids) // 2]
    (out / "train.txt").write_text("IID\n" + "".join(f"{one}\n" for one in ids), encoding="utf-8")
    click.echo(
        f"{len(factors)} brains are in {folder}; {out / 'train.txt'} lists half of them", err=True
    )

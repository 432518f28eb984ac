"""``imgwas plot regional``: one locus with LD, genes, recombination and decoded images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import recorded
from imgwas_cli.options import FILE, FOLDER, CommaList, Command

if TYPE_CHECKING:
    import pandas as pd

    from imgwas.plots import ImageStrip
    from imgwas.sumstats import SumStats

EXAMPLE = """
imgwas plot regional results/ --loci loci.tsv --locus 3 --out locus3.pdf
imgwas plot regional results/ --variant rs429358 --kb 300 --genes genes.gtf.gz --out apoe.pdf
imgwas plot regional results/ --region 6:32000000-33000000 --no-ld --out mhc.pdf
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "Where": ["region", "variant", "loci", "locus", "kb"],
        "What": ["latent", "column", "study_wide", "title", "out"],
        "Beside the points": ["genes", "recombination", "images", "amounts", "genome_build"],
        "LD": ["no_ld", "max_people", *recorded.NAMES],
    },
)
@click.argument("results", type=FOLDER)
@click.option("--region", help="CHR:START-END.")
@click.option("--variant", help="Lead variant: LD is with it, and the region around it.")
@click.option("--loci", type=FILE, help="Table of `imgwas loci`.")
@click.option("--locus", type=int, help="Number of the locus in --loci.")
@click.option(
    "--kb", type=click.FloatRange(0, min_open=True), default=500, show_default=True,
    help="Around --variant, or beyond the ends of --locus.",
)  # fmt: skip
@click.option("--latent", help="One latent; by default the smallest P over all.")
@click.option("--column", help="Another -log10 P of the scan, such as omnibus.combined.")
@click.option(
    "--study-wide", type=click.FloatRange(0, 1, min_open=True), help="P of a dashed line.",
    show_default="5e-8 over the latents where all are drawn",
)  # fmt: skip
@click.option("--title", help="Written above.")
@click.option("--genes", type=FILE, help="GTF, GFF3, BED or PLINK's list, of any species.")
@click.option("--recombination", type=FILE, help="Map: chromosome, position, rate (cM/Mb).")
@click.option("--images", type=CommaList(), help="Decoded images (NIfTI) along the direction.")
@click.option(
    "--amounts", type=CommaList(), default="-2,0,2", show_default=True, help="Their SD, increasing."
)
@click.option(
    "--genome-build", type=click.Choice(["GRCh37", "GRCh38"]),
    help="Where the scan did not record it.",
)  # fmt: skip
@click.option("--no-ld", is_flag=True, help="Do not read genotypes.")
@click.option(
    "--max-people", type=click.IntRange(2), default=30_000, show_default=True,
    help="LD among so many people, drawn at random.",
)  # fmt: skip
@recorded.inputs
@click.option("--out", type=FILE, required=True, help="Figure to write: .pdf, .svg or .png.")
def regional(results: Path, out: Path, **given: Any) -> None:
    """Draw one locus: -log10 P by position, coloured by r² with the lead variant.

    LD is measured among the people of the scan, whose inputs are read again as its command names
    them; with --bfile among everyone in it, or whom --keep and --remove leave.
    """
    from imgwas_cli.study_inputs import panel_inputs

    from imgwas.errors import UsageError
    from imgwas.genetics.definition import agree_on_build
    from imgwas.genetics.genes import genes_for
    from imgwas.genetics.ld import LdSettings
    from imgwas.plots import read_recombination_map, regional_data, save_figure
    from imgwas.plots import regional as draw
    from imgwas.sumstats import open_sumstats

    if given["latent"] and given["column"]:
        raise UsageError("--latent and --column exclude each other: choose one.")
    sumstats, genotypes, columns = open_sumstats(results), None, None
    strip = _strip(given)
    chromosome, start, end, lead = _where(sumstats, given)
    what = given["latent"] or given["column"]
    if not given["no_ld"]:
        _, genotypes, columns = panel_inputs(results, given)
    data = regional_data(
        sumstats, chromosome, start, end, genotypes=genotypes, what=what, lead=lead,
        columns=columns, ld=LdSettings(max_people=given["max_people"]),
    )  # fmt: skip
    build = agree_on_build(sumstats.metadata.get("genome_build"), given["genome_build"])
    chart = given["recombination"]
    line = 5e-8 / len(sumstats.latents) if what is None and len(sumstats.latents) > 1 else None
    figure = draw(
        data,
        genes=genes_for(given["genes"], build),
        recombination=read_recombination_map(chart) if chart else None,
        strip=strip,
        study_wide=given["study_wide"] or line,
        title=given["title"] or what,
    )
    click.echo(f"wrote {save_figure(figure, out)}", err=True)


def _where(sumstats: SumStats, given: dict[str, Any]) -> tuple[str, int, int, str | None]:
    """Chromosome, first and last base, and the lead variant if one is named."""
    from imgwas_cli.plot_loci import one_locus

    from imgwas.errors import UsageError, explain

    if given["region"]:
        found = re.fullmatch(r"(.+):([\d,_]+)-([\d,_]+)", given["region"])
        start, end = (int(re.sub("[,_]", "", w)) for w in found.groups()[1:]) if found else (1, 0)
        if found is None or end < start:
            raise UsageError(
                explain(f"--region {given['region']!r}", expected="CHR:START-END, as 6:100-200")
            )
        return found[1], start, end, given["variant"]
    row: pd.Series = one_locus(sumstats, given).iloc[0]
    place = int(row["base_pair_location"])
    first, last = int(row.get("start", place)), int(row.get("end", place))
    reach = int(given["kb"] * 1000)
    return str(row["chromosome"]), max(first - reach, 0), last + reach, str(row["lead_variant"])


def _strip(given: dict[str, Any]) -> ImageStrip | None:
    """Read the images that go below."""
    import numpy as np

    from imgwas.errors import InconsistentError, UsageError, explain
    from imgwas.images.nifti import read_volume
    from imgwas.plots import ImageStrip

    if not given["images"]:
        return None
    try:
        amounts = [float(word) for word in given["amounts"]]
    except ValueError as error:
        raise UsageError(explain(f"--amounts {','.join(given['amounts'])}",
                                 expected="Numbers, as -2,0,2")) from error  # fmt: skip
    volumes = [read_volume(Path(path)) for path in given["images"]]
    arrays = [volume.values for volume in volumes]  # noqa: PD011
    for path, array, volume in zip(given["images"], arrays, volumes, strict=True):
        is_same = array.shape == arrays[0].shape
        if not is_same or not np.allclose(volume.affine, volumes[0].affine, atol=1e-3):
            raise InconsistentError(
                explain(f"{path} is not on the grid of {given['images'][0]}",
                        expected="Images of one decoder")
            )  # fmt: skip
    return ImageStrip(np.stack(arrays), volumes[0].affine, amounts)

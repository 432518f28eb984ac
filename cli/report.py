"""``imgwas report``: everything about a scan in one HTML file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from imgwas_cli import logs, options
from imgwas_cli.options import FILE, FOLDER, Command
from imgwas_cli.running import bar

logger = logging.getLogger("imgwas.cli")

EXAMPLE = """
imgwas report results/ --out report.html
imgwas report results/ --loci loci.tsv --maps maps/ --heritability heritability/ \\
    --latents latents.parquet --encoder run/ --out report.html
"""


@click.command(
    cls=Command,
    example=EXAMPLE,
    groups={
        "What to show": [
            "loci",
            "signals",
            "credible",
            "maps",
            "heritability",
            "replication",
            "traits",
            "encoder",
            "reconstructions",
            "omnibus",
        ],
        "Regional plots": ["bfile", "genes"],
        "Origin of the latents": ["latents"],
        "Output": ["out", "title", "quiet", "verbose"],
    },
)
@click.argument("results", type=FOLDER)
@click.option("--loci", type=FILE, help="Table of imgwas loci. [default: loci by distance]")
@click.option("--signals", type=FILE, help="Table of imgwas condition: into the panels of loci.")
@click.option("--credible", type=FILE, help="Table of imgwas finemap: into the panels of loci.")
@click.option("--maps", type=FOLDER, help="Folder of imgwas map.")
@click.option("--heritability", type=FOLDER, help="Folder of imgwas heritability.")
@click.option("--replication", type=FOLDER, help="Folder of imgwas replicate.")
@click.option("--traits", type=FOLDER, help="Folder of imgwas traits.")
@click.option("--encoder", type=FOLDER, help="Folder of imgwas train.")
@click.option(
    "--reconstructions", type=FILE, help="Sheet of imgwas reconstruct (PNG): shows single people."
)
@click.option("--omnibus", is_flag=True, help="Test all latents at once, if the scan did not.")
@click.option("--latents", type=FILE, help="Table of latents: which encoder made them.")
@click.option("--bfile", metavar="PREFIX", help="Genotypes of the scan, for LD.")
@click.option("--genes", type=FILE, help="GTF, GFF3, BED or PLINK's list, as for imgwas loci.")
@click.option("--title", help="Heading of the page. [default: the name of the genotypes]")
@click.option("--out", type=FILE, required=True, help="File to write, e.g. report.html.")
@options.verbosity
def report(results: Path, out: Path, **given: Any) -> None:
    """Write one HTML file about a scan, to send to a collaborator.

    The file needs no network and no other file, and works from a folder or a mail. It holds no id
    of a person and nothing per person, unless --reconstructions is given. What was not given is
    left out.
    """
    import imgwas
    from imgwas.genetics.genes import genes_for

    quiet = given.pop("quiet")
    logs.to_terminal(verbose=given.pop("verbose"), quiet=quiet)
    sumstats = imgwas.open_sumstats(results, allow_partial=True)
    build = sumstats.metadata.get("genome_build")
    bfile, genes = given.pop("bfile"), given.pop("genes")
    total = 2 * sumstats.n_variants * len(sumstats.latents)
    with bar(total, "read", "test", quiet=quiet) as progress:
        written = imgwas.write_report(
            results,
            out,
            genotypes=None if bfile is None else imgwas.open_genotypes(bfile),
            genes=genes_for(genes, build),
            progress=progress,
            **given,
        )
    click.echo(f"wrote {written}", err=True)

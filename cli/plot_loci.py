"""``imgwas plot heatmap``, ``phewas`` and ``upset``: figures of loci."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.options import FILE, FOLDER, CommaList, Command

if TYPE_CHECKING:
    import pandas as pd

OUT = click.option("--out", type=FILE, required=True, help="Figure to write: .pdf, .svg or .png.")
LOCI = click.option("--loci", type=FILE, required=True, help="Table of `imgwas loci`.")
P = click.option(
    "--study-wide",
    type=click.FloatRange(0, 1, min_open=True),
    show_default="5e-8 over the number of latents",
    help="Largest P that counts as found.",
)


def read_text(path: Path) -> pd.DataFrame:
    """Read a tab-separated table of ours; lines that begin with # are comments."""
    import pandas as pd

    from imgwas.errors import MalformedError, OpenError, explain

    try:
        table = pd.read_csv(path, sep="\t", comment="#", dtype={"chromosome": str},
                            keep_default_na=False, na_values=["NA"])  # fmt: skip
    except OSError as error:
        raise OpenError(explain(f"{path} cannot be read ({error.strerror})")) from error
    except ValueError as error:
        raise MalformedError(explain(f"{path} is no tab-separated table ({error})")) from error
    return table


@click.command(
    cls=Command,
    example="imgwas plot heatmap results/ --loci loci.tsv --out heatmap.pdf\n"
    "imgwas plot heatmap replication/ --loci loci.tsv --value z --out replicated.pdf",
)
@click.argument("results", type=FOLDER)
@LOCI
@click.option(
    "--value", type=click.Choice(["signed_neg_log_10_p", "z", "beta"]),
    default="signed_neg_log_10_p", show_default=True, help="What the colour is.",
)  # fmt: skip
@click.option(
    "--order", type=click.Choice(["cluster", "given"]), default="cluster", show_default=True,
    help="Similar rows and columns together, or as they are.",
)  # fmt: skip
@click.option("--keep-alleles", is_flag=True, help="Signs of the scan's effect alleles.")
@click.option("--latent-name", type=CommaList(), multiple=True, help="Only these latents.")
@P
@OUT
def heatmap(results: Path, loci: Path, out: Path, **given: Any) -> None:
    """Draw lead variants by latents: direction and strength, a dot for what is found."""
    from imgwas_cli.study_inputs import flat

    from imgwas.plots import lead_effects, locus_heatmap, save_figure
    from imgwas.sumstats import open_sumstats

    table = lead_effects(
        open_sumstats(results), read_text(loci), latents=flat(given["latent_name"]) or None
    )
    ax = locus_heatmap(table, value=given["value"], order=given["order"],
                       study_wide=given["study_wide"], align=not given["keep_alleles"])  # fmt: skip
    click.echo(f"wrote {save_figure(ax.figure, out)}", err=True)


@click.command(
    cls=Command,
    example="imgwas plot phewas results/ --loci loci.tsv --locus 3 --out locus3.pdf\n"
    "imgwas plot phewas results/ --variant rs429358 --sort --out rs429358.pdf",
)
@click.argument("results", type=FOLDER)
@click.option("--variant", help="Variant id.")
@click.option("--loci", type=FILE, help="Table of `imgwas loci`.")
@click.option("--locus", type=int, help="Number of the locus in --loci.")
@click.option("--sort", is_flag=True, help="Strongest latent first.")
@click.option("--labels", default=20, show_default=True, help="Latents to name.")
@P
@OUT
def phewas(results: Path, out: Path, **given: Any) -> None:
    """Draw one variant for every latent: bars up where its allele raises the latent."""
    from imgwas.plots import lead_effects, save_figure
    from imgwas.plots import phewas as draw
    from imgwas.sumstats import open_sumstats

    sumstats = open_sumstats(results)
    table = lead_effects(sumstats, one_locus(sumstats, given))
    ax = draw(table, order="p" if given["sort"] else "given", labels=given["labels"],
              study_wide=given["study_wide"])  # fmt: skip
    click.echo(f"wrote {save_figure(ax.figure, out)}", err=True)


def one_locus(sumstats: Any, given: dict[str, Any]) -> pd.DataFrame:
    """One row of a table of loci: that of --locus, or made of --variant."""
    from imgwas.errors import UsageError, explain

    if given["variant"] and not given["loci"]:
        places = sumstats.variants(["variant_id", "chromosome", "base_pair_location"])
        here = places[places["variant_id"] == given["variant"]]
        if len(here) != 1:
            raise UsageError(
                explain(
                    f"{len(here):,} variants of {sumstats.folder} are named {given['variant']!r}",
                    do="Give --loci and --locus" if len(here) else "Check the spelling",
                )
            )
        made: pd.DataFrame = here.rename(columns={"variant_id": "lead_variant"})
        return made
    if not given["loci"] or given["locus"] is None or given["variant"]:
        raise UsageError("Name the variant: --variant ID, or --loci FILE with --locus NUMBER.")
    table = read_text(given["loci"])
    row = table[table["locus"] == given["locus"]] if "locus" in table else table.iloc[:0]
    if row.empty:
        raise UsageError(
            explain(f"{given['loci']} has no locus {given['locus']}",
                    expected=f"A number from 1 to {len(table)}")
        )  # fmt: skip
    return row


@click.command(
    cls=Command,
    example="imgwas plot upset seed1=loci1.tsv seed2=loci2.tsv seed3=loci3.tsv --out upset.pdf",
)
@click.argument("sets", nargs=-1, required=True, metavar="NAME=LOCI.tsv ...")
@click.option(
    "--kb", type=click.FloatRange(0), default=0, show_default=True,
    help="Loci of different tables are one where their gap is at most this.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(1), default=20, show_default=True,
              help="Intersections to draw.")  # fmt: skip
@click.option("--table", type=FILE, help="Also write the merged loci and whose they are, TSV.")
@OUT
def upset(sets: tuple[str, ...], out: Path, kb: float, top: int, table: Path | None) -> None:
    """Draw how many loci several encoders, halves or modalities find together."""
    from imgwas.errors import UsageError, explain
    from imgwas.plots import save_figure, shared_loci
    from imgwas.plots import upset as draw

    read = {}
    for word in sets:
        name, sign, path = word.partition("=")
        if not sign:
            name, path = Path(word).stem, word
        if name in read:
            raise UsageError(explain(f"two sets are named {name!r}", do="Write NAME=FILE"))
        read[name] = read_text(Path(path))
    figure = draw(read, kb=kb, top=top)
    click.echo(f"wrote {save_figure(figure, out)}", err=True)
    if table is not None:
        from imgwas.files import publish

        with publish(table, "w") as stream:
            shared_loci(read, kb=kb).to_csv(stream, sep="\t", index=False)
        click.echo(f"wrote {table}", err=True)

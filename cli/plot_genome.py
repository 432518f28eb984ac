"""``imgwas plot miami`` and ``brisbane``: figures along the whole genome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from imgwas_cli.options import FILE, FOLDER, CommaList, Command

if TYPE_CHECKING:
    from imgwas.sumstats import SumStats

OUT = click.option("--out", type=FILE, required=True, help="Figure to write: .pdf, .svg or .png.")
WHAT = "A latent, a column such as omnibus.combined, or best (the smallest P of a variant)."


@click.command(
    cls=Command,
    example="imgwas plot miami results/ --out miami.pdf\n"
    "imgwas plot miami discovery/ replication/ --bottom-p 0.001 --out miami.pdf\n"
    "imgwas plot miami t1/ t2/ --names T1,T2 --top omnibus.combined --bottom omnibus.combined "
    "--out miami.pdf",
    groups={"Halves": ["top", "bottom", "names", "top_p", "bottom_p"]},
)
@click.argument("results", type=FOLDER)
@click.argument("other", type=FOLDER, required=False)
@click.option("--top", help=f"{WHAT} [default: omnibus.combined of one folder, best of two]")
@click.option("--bottom", default="best", show_default=True, help=WHAT)
@click.option("--names", type=CommaList(), help="What the halves are called: A,B.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Dashed line above.")
@click.option("--bottom-p", type=click.FloatRange(0, 1, min_open=True), help="Dashed line below.")
@click.option("--labels", default=10, show_default=True, help="Lead variants to name in each half.")
@OUT
def miami(results: Path, other: Path | None, out: Path, **given: Any) -> None:
    """Draw two scans, or two tests of one scan, above and below one genome.

    Where a half shows the smallest P of several latents its dashed line stands at 5e-8 over their
    number, unless --top-p or --bottom-p say otherwise.
    """
    from imgwas.errors import UsageError, explain
    from imgwas.plots import genome_points, save_figure
    from imgwas.plots import miami as draw
    from imgwas.sumstats import open_sumstats

    upper = open_sumstats(results)
    lower = upper if other is None else open_sumstats(other)
    top = given["top"] or ("best" if other else "omnibus.combined")
    if other is None and top == given["bottom"]:
        raise UsageError(explain(f"both halves would show {top}", do="Name another with --top"))
    names = given["names"] or (_name(results, top, other), _name(other or results, given["bottom"],
                                                                 other))  # fmt: skip
    if len(names) != 2:
        raise UsageError(explain(f"--names has {len(names)} entries", expected="Two: A,B"))
    halves = [genome_points(one, None if what == "best" else what)
              for one, what in ((upper, top), (lower, given["bottom"]))]  # fmt: skip
    lines = [given["top_p"] or _line(upper, top),
             given["bottom_p"] or _line(lower, given["bottom"])]  # fmt: skip
    figure = draw(*halves, names=names, study_wide=lines, labels=given["labels"])
    click.echo(f"wrote {save_figure(figure, out)}", err=True)


def _line(sumstats: SumStats, what: str) -> float | None:
    several = what == "best" and len(sumstats.latents) > 1
    return 5e-8 / len(sumstats.latents) if several else None


def _name(folder: Path, what: str, other: Path | None) -> str:
    shown = {"best": "smallest P", "omnibus.combined": "omnibus"}.get(what, what)
    return shown if other is None else f"{folder.name}, {shown}"


@click.command(
    cls=Command,
    example="imgwas loci results/ --by latent --out signals.tsv\n"
    "imgwas plot brisbane signals.variants.tsv --out brisbane.pdf",
)
@click.argument("signals", type=FILE)
@click.option(
    "--kb", type=click.FloatRange(0), default=100, show_default=True, help="Reach to either side."
)
@click.option("--labels", default=10, show_default=True, help="Densest places to name.")
@OUT
def brisbane(signals: Path, out: Path, kb: float, labels: int) -> None:
    """Draw how many other independent signals lie near each signal.

    SIGNALS is the .variants.tsv of `imgwas loci`, or any table with chromosome, base_pair_location
    and variant_id.
    """
    from imgwas_cli.plot_loci import read_text

    from imgwas.plots import brisbane as draw
    from imgwas.plots import save_figure

    ax = draw(read_text(signals), kb=kb, labels=labels)
    click.echo(f"wrote {save_figure(ax.figure, out)}", err=True)

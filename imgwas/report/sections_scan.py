"""The scan: a row for every latent, QQ plots, and the interactive Manhattan plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.report.manhattan_data import KEEP_ABOVE, manhattan_data
from imgwas.report.markup import Html, data_block, join, tag
from imgwas.report.page_parts import Section, Study, folded, paragraph
from imgwas.report.pictures import figure_block, plain
from imgwas.report.qq_sheet import PER_SHEET, qq_sheet
from imgwas.report.tables import Column, fixed, p_text, table_block

if TYPE_CHECKING:
    import pandas as pd


def latents(study: Study) -> Section:
    """A row for every latent, and its QQ plot."""
    table = latent_table(study)
    link = study.downloads.add("latents.tsv", table, "One row a latent: control, top hit, loci, h2")
    block = table_block(
        table, _COLUMNS, name="latent-table",
        caption="One row a latent. A click on a title sorts.",
    )  # fmt: skip
    return Section("latents", "Every latent", join([block, paragraph(link), *_sheets(study)]))


#: Signals from which on their density is drawn.
FEWEST_SIGNALS = 10
_COLUMNS = [
    Column("latent", "latent"),
    Column("n", "people"),
    Column("lambda_gc", "λ", "Genomic control: median chi-square over its expectation", fixed(3)),
    Column("top_variant", "top variant"),
    Column("top_chromosome", "chr"),
    Column("top_position", "position"),
    Column("top_neg_log_10_p_value", "top P", "Smallest P of the latent", p_text),
    Column("n_loci", "loci", "Loci with a significant variant for this latent"),
    Column("heritability", "h²", "Variance explained by all variants", fixed(3)),
    Column("heritability_error", "SE of h²", "Standard error of h²", fixed(3)),
    Column("intercept", "intercept", "Of LD score regression", fixed(3)),
    Column("mean", "mean", "Before the covariates", fixed(2)),
    Column("sd", "SD", "Before the covariates", fixed(2)),
]


def latent_table(study: Study) -> pd.DataFrame:
    """One row a latent: people, genomic control, strongest variant, loci, heritability."""
    import pandas as pd

    loci = study.sources.loci.pairs.groupby("latent")["locus"].nunique()
    recorded = {one["name"]: one for one in study.sources.sumstats.metadata["latents"]}
    genome = study.genome
    rows: list[dict[str, Any]] = []
    for one in study.latents:
        at = one.top_row
        place: dict[str, Any] = {"top_variant": None, "top_chromosome": None, "top_position": None}
        if at >= 0:
            place = {
                "top_variant": study.names[at],
                "top_chromosome": genome.names[int(genome.chromosome[at])],
                "top_position": int(genome.position[at]),
            }
        about = recorded[one.name]
        rows.append(
            {"latent": one.name, "n": about["n"], "n_tested": one.n_tested,
             "lambda_gc": one.lambda_gc, **place,
             "top_neg_log_10_p_value": one.top_neg_log10_p, "n_loci": int(loci.get(one.name, 0)),
             "mean": about.get("mean"), "sd": about.get("sd")}
        )  # fmt: skip
    return _with_heritability(pd.DataFrame(rows), study)


def _with_heritability(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    found = study.sources.table("heritability", "heritability.tsv")
    if found is None:
        return table
    found = found.rename(columns={"standard_error": "heritability_error"})
    wanted = ["latent", "heritability", "heritability_error", "intercept"]
    return table.merge(found[[c for c in wanted if c in found]], on="latent", how="left")


def _sheets(study: Study) -> list[Html]:
    tested = [one for one in study.latents if one.n_tested]
    sheets = []
    for start in range(0, len(tested), PER_SHEET):
        shown = tested[start : start + PER_SHEET]
        lambdas = [one.lambda_gc for one in shown]
        block = figure_block(
            qq_sheet(shown), name=f"qq-{start // PER_SHEET + 1}",
            alt=f"Quantile-quantile plots of {len(shown)} latents, {shown[0].name} to "
            f"{shown[-1].name}; genomic control {min(lambdas):.3f} to {max(lambdas):.3f}",
            caption="Observed against expected -log10 P with the 95 % band of chance; axes are "
            "shared and end at 12, a triangle marks latents that go on above.",
        )  # fmt: skip
        sheets.append(
            block if start == 0 else folded(f"{shown[0].name} to {shown[-1].name}", block)
        )
    return sheets


def manhattan(study: Study) -> Section:
    """The interactive Manhattan plot and its static twin."""
    lines = [("5e-8", -np.log10(5e-8))]
    if len(study.latents) > 1:
        lines.append((f"5e-8 / {len(study.latents)}", -np.log10(study.study_wide)))
    on = str(study.sources.loci.definition.get("on"))
    data = manhattan_data(study.sources.sumstats, study.genome, study.sources.loci.table, lines, on)
    blocks = [_viewer(data), data_block("manhattan-data", data), _without_script(study)]
    blocks += [*_miami(study), *_density(study)]
    return Section("manhattan", "Manhattan plot", join(blocks))


def _viewer(data: dict[str, Any]) -> Html:
    first = data["layers"][0]
    choices = [
        tag("option", layer["title"], value=i, selected=i == data["first"])
        for i, layer in enumerate(data["layers"])
    ]
    choose = tag("label", "Show ", tag("select", choices, id="manhattan-layer"))
    buttons = [
        tag("button", title, type="button", id=f"manhattan-{name}")
        for name, title in (("in", "zoom in"), ("out", "zoom out"), ("left", "◀ left"),
                            ("right", "right ▶"), ("reset", "whole genome"))
    ]  # fmt: skip
    about = (
        f"{first['total']:,} variants, the smallest P of each over {len(data['latents'])} latents. "
        f"All points from -log10 P {KEEP_ABOVE:g} on are drawn; below, one for each pixel. Drag to "
        "zoom, double-click for the whole genome. A click on a marker opens its locus."
    )
    return tag(
        "div",
        tag("p", choose if len(choices) > 1 else None, buttons, class_="tools"),
        tag("div",
            tag("canvas", id="manhattan-canvas", tabindex="0", role="img",
                aria_label=f"Manhattan plot of {about} The table of loci lists all markers."),
            tag("div", id="manhattan-tip", class_="tip", hidden=True),
            class_="plot"),
        tag("p", about, class_="caption"),
        class_="viewer", id="manhattan-viewer",
    )  # fmt: skip


def best_frame(study: Study) -> pd.DataFrame:
    """What the figures of ``imgwas.plots`` read: place, -log10 P."""
    import pandas as pd

    genome = study.genome
    return pd.DataFrame(
        {"chromosome": pd.Categorical.from_codes(genome.chromosome, pd.Index(genome.names)),
         "base_pair_location": genome.position,
         "neg_log_10_p_value": genome.best.astype(np.float64)}
    )  # fmt: skip


def _without_script(study: Study) -> Html:
    from imgwas.plots import aggregated_manhattan

    if not study.genome.n_tested:
        return paragraph("No variant has a P value.")
    ax = aggregated_manhattan(best_frame(study), n_latents=len(study.latents), labels=0)
    block = figure_block(
        ax, name="manhattan-static",
        alt=f"Manhattan plot: smallest P of every variant over {len(study.latents)} latents",
        caption="The same figure as a picture, to copy.",
    )  # fmt: skip
    return folded("As a picture", block)


def _miami(study: Study) -> list[Html]:
    """All latents together above, the best single latent below."""
    from imgwas.plots import miami

    tests = study.genome.omnibus
    if not {"joint", "minp"} <= tests.keys() or not study.genome.n_tested:
        return []
    frame = best_frame(study)
    joint = {"f": "F", "chi2": "chi-square"}.get(study.joint_test, study.joint_test)
    above, below = (
        frame.assign(neg_log_10_p_value=tests[name].astype(np.float64))
        for name in ("joint", "minp")
    )
    drawn = miami(above, below, names=("all latents together", "best single latent"), labels=0)
    block = figure_block(
        drawn, name="miami",
        alt="Miami plot: test of all latents together above, the best single latent below",
        caption=f"Above: one test of all latents together ({joint}). Below: the best single "
        "latent, corrected for their number (Šidák). Filled: loci that only one half finds.",
    )  # fmt: skip
    return [block]


def _density(study: Study) -> list[Html]:
    """How many other signals lie near each independent signal."""
    from imgwas.plots import brisbane

    signals = study.sources.loci.variants
    if len(signals) < FEWEST_SIGNALS:
        return []
    block = figure_block(
        brisbane(signals.assign(variant_id=plain(signals["variant_id"]))),
        name="brisbane",
        alt=f"Number of other signals within 100 kb of each of {len(signals)} signals",
        caption=f"Brisbane plot: for each of {len(signals):,} independent significant variants, "
        "how many others lie within 100 kb.",
    )
    return [folded("Density of signals", block)]

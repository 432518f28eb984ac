"""After the loci: what latents share, what came back elsewhere, what it means for traits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.report.markup import Html, join
from imgwas.report.page_parts import Section, Study, paragraph
from imgwas.report.pictures import figure_block, plain
from imgwas.report.tables import Column, facts, fixed, number, p_text, table_block

if TYPE_CHECKING:
    import pandas as pd

#: Loci on one heatmap, the strongest.
MOST_LOCI = 120


def shared(study: Study) -> Section | None:
    """Loci against latents, and the genetic correlation of latents."""
    blocks = [_heatmap(study), *_genetics(study)]
    blocks = [block for block in blocks if block]
    return Section("shared", "What latents share", join(blocks)) if blocks else None


def _heatmap(study: Study) -> Html | None:
    table = study.sources.loci.table
    if not len(table) or len(study.latents) < 2:
        return None
    strongest = table.nlargest(MOST_LOCI, "neg_log_10_p_value")
    from imgwas.plots import locus_heatmap

    names = _labels(strongest)
    cells = study.leads[study.leads["variant_id"].isin(names)].drop_duplicates(
        ["variant_id", "latent"]
    )
    cells = cells.assign(
        name=plain(cells["variant_id"].map(names)),
        latent=plain(cells["latent"]),
        z=cells["beta"] / cells["standard_error"],
    )
    if not len(cells):
        return None
    n = cells["variant_id"].nunique()
    shown = f"{n} loci" if n == len(table) else f"the {n} strongest loci"
    return figure_block(
        locus_heatmap(cells), name="locus-heatmap",
        alt=f"Heatmap of the lead variants of {shown} for {len(study.latents)} latents",
        caption=f"Lead variants of {shown} for every latent: -log10 P with the sign of the effect "
        "of the allele that raises the strongest latent; both sides ordered by likeness. Dots: "
        "study-wide significant. Signs of latents are arbitrary; along a row they show a pattern.",
    )  # fmt: skip


def _labels(loci: pd.DataFrame) -> dict[str, str]:
    """Lead variants with their nearest genes."""
    genes = [str(one) if isinstance(one, str) else "" for one in loci["nearest_gene"]]
    return {
        str(name): f"{name} {gene}".strip()
        for name, gene in zip(loci["lead_variant"], genes, strict=True)
    }


def _genetics(study: Study) -> list[Html]:
    table = study.sources.table("heritability", "heritability.tsv")
    if table is None:
        return []
    from imgwas.plots import heritability_bars

    study.downloads.add("heritability.tsv", table, "Heritability of every latent with its error")
    z = (table["heritability"] / table["standard_error"]).to_numpy(float)
    told = paragraph(
        f"Heritability: {int((z > 2).sum()):,} of {len(table):,} latents above two standard "
        f"errors; median {number(float(table['heritability'].median()))}. "
        "Each latent's is in the table of latents."
    )
    bars = figure_block(
        heritability_bars(table.assign(latent=plain(table["latent"]))),
        name="heritability",
        alt=f"Heritability of {len(table)} latents with 95 % intervals",
        caption="Heritability with 95 % intervals, largest first; pale where the interval holds 0.",
    )
    return [told, bars, *_correlations(study)]


def _correlations(study: Study) -> list[Html]:
    pairs = study.sources.table("heritability", "genetic_correlation_pairs.tsv")
    if pairs is None:
        return []
    study.downloads.add("genetic_correlation_pairs.tsv", pairs, "Genetic correlation of all pairs")
    known = pairs.dropna(subset=["genetic_correlation"])
    if not len(known):
        return [
            paragraph(
                "No genetic correlation is defined: no two latents have a heritability above two "
                "standard errors."
            )
        ]
    from imgwas.plots import genetic_correlation_matrix

    names = list(dict.fromkeys([*pairs["latent_1"], *pairs["latent_2"]]))
    value, error, own = (
        square(pairs, column, names, diagonal)
        for column, diagonal in (
            ("genetic_correlation", 1.0),
            ("genetic_correlation_error", 0.0),
            ("phenotypic_correlation", 1.0),
        )
    )
    return [
        figure_block(
            genetic_correlation_matrix(value, error, phenotypic=own),
            name="genetic-correlation",
            alt=f"Heatmap of genetic and phenotypic correlations of {len(names)} latents",
            caption=f"Genetic correlation below the diagonal ({len(known):,} of {len(pairs):,} "
            "pairs defined), correlation of the latents themselves above it.",
        )
    ]


def square(pairs: pd.DataFrame, column: str, names: list[str], diagonal: float) -> pd.DataFrame:
    """Turn rows of pairs into a symmetric matrix."""
    import pandas as pd

    number = {name: i for i, name in enumerate(names)}
    one = pairs["latent_1"].map(number).to_numpy()
    other = pairs["latent_2"].map(number).to_numpy()
    values = np.full((len(names), len(names)), np.nan)
    values[one, other] = values[other, one] = pairs[column].to_numpy(float)
    np.fill_diagonal(values, diagonal)
    return pd.DataFrame(values, plain(names), plain(names))


def replication(study: Study) -> Section | None:
    """Leads in other people."""
    table = study.sources.table("replication", "replication.tsv")
    if table is None:
        return None
    summary = study.sources.facts("replication", "replication.json").get("summary") or {}
    link = study.downloads.add("replication.tsv", table, "Every lead in both studies, one allele")
    directional = study.sources.table("replication", "directional.tsv")
    if directional is not None:
        study.downloads.add(
            "directional.tsv", directional, "All latents along discovery's direction"
        )
    blocks = [facts(_summary(summary)), *_effects(table)]
    blocks.append(
        table_block(
            table, _REPLICATION, name="replication-table",
            caption="Leads of the discovery in other people.",
        )
    )  # fmt: skip
    blocks.append(paragraph(link))
    return Section("replication", "Replication", join(blocks))


def _summary(summary: dict[str, Any]) -> list[tuple[str, Any]]:
    def both(name: str) -> str:
        if name not in summary:
            return ""
        expected = summary.get(f"expected_{name}")
        said = f" ({expected:.1f} expected)" if isinstance(expected, float) else ""
        return f"{summary[name]:,} of {summary.get('leads', 0):,}{said}"

    slope, error = summary.get("slope_corrected"), summary.get("slope_corrected_standard_error")
    return [
        ("Same sign", both("same_sign")),
        ("Nominal (one-sided P < 0.05)", both("nominal")),
        ("Replicated", both("replicated")),
        ("Sign test P", number(summary.get("sign_test_p"))),
        ("Slope, selection corrected", f"{number(slope)} (SE {number(error)})" if slope else ""),
    ]


_REPLICATION = [
    Column("variant_id", "variant"),
    Column("chromosome", "chr"),
    Column("base_pair_location", "position"),
    Column("latent", "latent"),
    Column("beta_discovery", "beta, discovery", "", number),
    Column("beta_replication", "beta, replication", "", number),
    Column("standard_error_replication", "SE", "Of the replication", number),
    Column("same_sign", "same sign"),
    Column("neg_log_10_p_one_sided", "one-sided P", "In the direction of discovery", p_text),
    Column("neg_log_10_p_meta", "P, both", "Weighted by inverse variances", p_text),
    Column("power", "power", "Chance to replicate, given discovery", fixed(2)),
    Column("replicated", "repl.", "One-sided P below 0.05 over the number of leads"),
]


def _effects(table: pd.DataFrame) -> list[Html]:
    """Draw replication's effects against discovery's."""
    from imgwas.plots.style import COLOURS, new_axes

    columns = ["beta_discovery", "beta_replication", "standard_error_discovery",
               "standard_error_replication"]  # fmt: skip
    known = table.dropna(subset=columns)
    if not len(known):
        return []
    ax = new_axes(width=3.4, height=3.2)
    ax.axhline(0, color="#999999", linewidth=0.5)
    ax.axvline(0, color="#999999", linewidth=0.5)
    limits = [known["beta_discovery"].min(), known["beta_discovery"].max()]
    ax.plot(limits, limits, color="#555555", linewidth=0.7, linestyle="--")
    for came_back, colour, label in ((True, COLOURS[0], "replicated"), (False, COLOURS[1], "not")):
        some = known[known["replicated"].astype(bool) == came_back]
        if len(some):
            ax.errorbar(some["beta_discovery"], some["beta_replication"],
                        xerr=1.96 * some["standard_error_discovery"],
                        yerr=1.96 * some["standard_error_replication"], fmt="o", markersize=2.5,
                        linewidth=0.5, color=colour, label=f"{label} ({len(some)})")  # fmt: skip
    ax.set_xlabel("Effect in discovery (95 % interval)")
    ax.set_ylabel("Effect in replication")
    ax.legend(frameon=False, fontsize=6.5)
    block = figure_block(
        ax, name="replication-effects",
        alt=f"Effects of {len(known)} leads in replication against discovery",
        caption="Effects per copy of discovery's effect allele; dashed: equal effects.",
    )  # fmt: skip
    return [block]


def traits(study: Study) -> Section | None:
    """Latents against traits of people."""
    table = study.sources.table("traits", "associations.tsv")
    if table is None:
        return None
    link = study.downloads.add("associations.tsv", table, "Every latent against every trait")
    ordered = table.sort_values("neg_log_10_p_value", ascending=False, kind="stable")
    blocks = [*_trait_heatmap(table),
              table_block(ordered, _TRAITS, name="trait-table", caption=_traits_caption(table)),
              paragraph(link)]  # fmt: skip
    definitions = study.sources.table("traits", "definitions.tsv")
    if definitions is not None:
        columns = [Column(str(name), str(name).replace("_", " ")) for name in definitions]
        blocks.append(table_block(definitions, columns, name="trait-definitions",
                                  caption="Who was a case, a control or neither."))  # fmt: skip
        study.downloads.add("definitions.tsv", definitions, "Cases, controls, others of each trait")
    return Section("traits", "Traits", join(blocks))


def _traits_caption(table: pd.DataFrame) -> str:
    n = int((table["neg_log_10_p_bonferroni"] > -np.log10(0.05)).sum())
    return (
        f"{table['trait'].nunique():,} traits times {table['latent'].nunique():,} latents; "
        f"{n:,} pairs pass Bonferroni over traits times the effective number of latents."
    )


_TRAITS = [
    Column("trait", "trait"),
    Column("latent", "latent"),
    Column("method", "model"),
    Column("n", "people"),
    Column("n_cases", "cases"),
    Column("beta", "beta", "Per SD of the latent", number),
    Column("ci_low", "from", "95 % interval of the ratio, or of beta for quantities", number),
    Column("ci_high", "to", "95 % interval of the ratio, or of beta for quantities", number),
    Column("ratio", "ratio", "Odds or hazard ratio per SD", fixed(2)),
    Column("neg_log_10_p_value", "P", "", p_text),
    Column("neg_log_10_p_bonferroni", "Bonferroni", "", p_text),
    Column("p_max_t", "maxT", "Permutation, step-down", number),
    Column("note", "note"),
]


def _trait_heatmap(table: pd.DataFrame) -> list[Html]:
    """Signed -log10 P of traits against latents."""
    from imgwas.plots.matrix import draw_matrix, name_axis
    from imgwas.plots.style import new_axes

    if table["trait"].nunique() < 2 or table["latent"].nunique() < 2:
        return []
    signed = table.assign(value=np.sign(table["beta"]) * table["neg_log_10_p_value"])
    once = signed.drop_duplicates(["trait", "latent"])
    wide = once.pivot_table(index="trait", columns="latent", values="value", sort=False)
    ax = new_axes(width=7.2, height=min(9.0, 1.3 + 0.13 * len(wide)))
    top = float(np.clip(np.nanmax(np.abs(wide.to_numpy())), 2, 12))
    draw_matrix(ax, wide.to_numpy(float), "PuOr_r", (-top, top), "signed $-\\log_{10}P$")
    name_axis(ax, plain(wide.index), "y")
    name_axis(ax, plain(wide.columns), "x")
    block = figure_block(
        ax, name="trait-heatmap",
        alt=f"Heatmap of signed -log10 P of {len(wide)} traits against {wide.shape[1]} latents",
        caption=f"Signed -log10 P of traits against latents; colours end at {top:.3g}.",
    )  # fmt: skip
    return [block]

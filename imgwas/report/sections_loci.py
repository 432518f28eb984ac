"""The table of loci, and a panel for each that a click opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.report.bars import latent_bars
from imgwas.report.manhattan_data import rows_of_leads
from imgwas.report.maps import MapPictures
from imgwas.report.markup import Child, Html, join, tag
from imgwas.report.page_parts import Section, Study, folded, paragraph
from imgwas.report.pictures import figure_block
from imgwas.report.region_plot import Surroundings
from imgwas.report.sections_signals import add_downloads, signal_blocks
from imgwas.report.tables import Column, facts, fixed, number, p_text, table_block

if TYPE_CHECKING:
    import pandas as pd

#: Panels with a picture of the surroundings; beyond, the strongest loci have one.
MOST_PICTURES = 300
#: Latents listed in a panel.
LISTED = 10

_COLUMNS = [
    Column("locus", "locus"),
    Column("chromosome", "chr"),
    Column("start", "start"),
    Column("end", "end"),
    Column("lead_variant", "lead variant"),
    Column("effect_allele", "EA", "Effect allele: beta is per copy of it"),
    Column("other_allele", "OA", "Other allele"),
    Column("effect_allele_frequency", "EAF", "Frequency of the effect allele", fixed(3)),
    Column("neg_log_10_p_value", "P", "The value that defined the locus", p_text),
    Column("latent", "top latent", "Latent with the smallest P at the lead variant"),
    Column("beta", "beta", "On the top latent, in its units", number),
    Column("standard_error", "SE", "Standard error of beta", number),
    Column("n_latents", "latents", "Latents with a significant variant inside"),
    Column("n_independent", "signals", "Independent significant variants"),
    Column("nearest_gene", "nearest gene"),
    Column("is_novel", "novel", "No known association inside or near"),
    Column("replicated", "repl.", "One-sided P below 0.05 over the number of leads"),
]
_LATENT_COLUMNS = [
    Column("latent", "latent"),
    Column("beta", "beta", "Per copy of the effect allele", number),
    Column("standard_error", "SE", "", number),
    Column("neg_log_10_p_value", "P", "", p_text),
]


def loci(study: Study) -> Section:
    """Loci, the way they were defined, and their panels."""
    table = study.sources.loci.table
    text = [paragraph(definition_text(study))]
    if not len(table):
        text.append(paragraph("No variant passes: there is no locus to show. That is a result."))
        return Section("loci", "Loci", join(text))
    links = _downloads(study)
    shown = _with_replication(table, study)
    panels = {row: f"locus-{number}" for row, number in enumerate(table["locus"])}
    columns = [_LOCUS, *_COLUMNS[1:]]
    block = table_block(
        shown, columns, name="locus-table", row_ids=panels,
        caption=f"{len(table):,} loci. A click on a row opens its panel below.",
    )  # fmt: skip
    return Section("loci", "Loci", join([*text, block, paragraph(links), _panels(study)]))


_LOCUS = Column("locus", "locus", "", lambda n: tag("a", str(int(n)), href=f"#locus-{int(n)}"))


def definition_text(study: Study) -> str:
    """Say in a sentence what a locus is here."""
    one = study.sources.loci.definition
    told = {name: one.get(name) for name in ("p1", "p2", "r2", "lead_r2", "kb", "merge_kb", "mhc")}
    numbers = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
    on = {"best": "the smallest P over the latents", "latent": "the P of each latent"}
    source = on.get(str(one.get("on")), str(one.get("on")))
    text = f"Definition of a locus: preset {one.get('preset')} ({numbers}), on {source}."
    if study.sources.found_here:
        text += " Found for this page by distance alone; imgwas loci uses LD and names genes."
    elif one.get("ld"):
        people = one["ld"].get("people")
        text += f" LD among {people:,} people." if isinstance(people, int) else ""
    return text


def _downloads(study: Study) -> list[Child]:
    loci = study.sources.loci
    files = (
        ("loci.tsv", loci.table, "One row a locus"),
        ("loci.variants.tsv", loci.variants, "Independent significant variants of each locus"),
        ("loci.latents.tsv", loci.pairs, "Every significant pair of locus and latent"),
    )
    links: list[Child] = []
    for name, table, about in files:
        links += [study.downloads.add(name, table, about), " "]
    study.downloads.add("lead_statistics.tsv", study.leads,
                        "Every lead variant for every latent: beta, error, -log10 P")  # fmt: skip
    add_downloads(study)
    return links


def _with_replication(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    found = study.sources.table("replication", "replication.tsv")
    if found is None:
        return table
    came_back = found.groupby("variant_id")["replicated"].any()
    return table.assign(replicated=table["lead_variant"].map(came_back))


@dataclass(frozen=True)
class _Locus:
    """One locus with what its panel shows."""

    row: Any
    at: int
    is_pictured: bool
    statistics: pd.DataFrame


def _panels(study: Study) -> Html:
    table = study.sources.loci.table
    strongest = set(table["neg_log_10_p_value"].nlargest(MOST_PICTURES).index)
    pictures = MapPictures.of(study.sources, list(table.sort_values(
        "neg_log_10_p_value", ascending=False)["lead_variant"]))  # fmt: skip
    by_variant = dict(iter(study.leads.groupby(["variant_id", "base_pair_location"], sort=False)))
    places = Surroundings.of(
        study.sources.sumstats,
        study.genome,
        str(study.sources.loci.definition.get("on")),
        study.genotypes,
        study.genes,
    )
    rows = rows_of_leads(study.genome, table)
    panels = []
    for index, at, row in zip(table.index, rows, table.itertuples(index=False), strict=True):
        statistics = by_variant.get((row.lead_variant, row.base_pair_location), study.leads[:0])
        locus = _Locus(row, at, index in strongest, statistics)
        shown = [_place(places, locus), _latents(study, locus)]
        shown += signal_blocks(study, str(row.locus))
        panels.append(_panel(row, [*shown, *pictures.blocks(str(row.lead_variant))]))
    notes = [paragraph(note) for note in pictures.notes()]
    if len(table) > MOST_PICTURES:
        notes.append(
            paragraph(f"The {MOST_PICTURES} strongest loci have a picture of their place.")
        )
    tools = tag("p", [tag("button", title, type="button", id=f"panel-{name}") for name, title in (
        ("previous", "◀ previous locus"), ("next", "next locus ▶"), ("close", "close"))],
        class_="tools", id="panel-tools", hidden=True)  # fmt: skip
    return tag("div", tools, panels, notes, id="panels")


def _panel(row: Any, shown: list[Child]) -> Html:
    gene = _text(row.nearest_gene)
    title = f"Locus {row.locus}: {row.lead_variant}, {row.chromosome}:{row.start:,}–{row.end:,}"
    title += f", nearest gene {gene}" if gene else ""
    content = [facts(_facts(row)), *shown]
    return tag("details", tag("summary", title), content, id=f"locus-{row.locus}", class_="panel")


def _facts(row: Any) -> list[tuple[str, Any]]:
    error = f" (SE {number(row.standard_error)})"
    known = f"{_text(row.nearest_known)} {_text(row.known_traits)[:200]}".strip()
    return [
        ("Lead variant", f"{row.lead_variant} ({row.chromosome}:{row.base_pair_location:,})"),
        ("Alleles", f"{row.effect_allele} (effect) / {row.other_allele}"),
        ("EAF", number(row.effect_allele_frequency)),
        ("P of the locus", p_text(row.neg_log_10_p_value)),
        ("Top latent", f"{row.latent}, P {p_text(row.latent_neg_log_10_p_value)}"),
        ("Beta", f"{number(row.beta)}{error}"),
        ("People", number(row.n)),
        ("Significant latents", _shortened(_text(row.latents), 160)),
        ("Genes within 500 kb", _shortened(_text(row.genes_within_500kb), 160)),
        ("Known", known or None),
    ]


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most].rsplit(',', 1)[0]}, …"


def _place(places: Surroundings, locus: _Locus) -> Html | None:
    if locus.at < 0:
        return paragraph("The scan does not list the lead variant of this locus.")
    if not locus.is_pictured:
        return None
    row = locus.row
    drawn = places.draw(locus.at, int(row.start), int(row.end), str(row.lead_variant))
    if drawn is None:
        return paragraph("Too few variants lie around this locus for a picture of its place.")
    return figure_block(
        drawn,
        alt=f"-log10 P of the variants around {row.lead_variant}",
        caption=places.says(),
    )


def _latents(study: Study, locus: _Locus) -> Html | None:
    if not len(locus.statistics):
        return None
    best = locus.statistics.nlargest(LISTED, "neg_log_10_p_value")
    name = f"locus-{locus.row.locus}-latents"
    return join(
        [
            tag("figure", latent_bars(locus.statistics, -np.log10(study.study_wide)),
                tag("figcaption", "The lead variant over all latents: blue where the effect allele "
                    "raises the latent, orange where it lowers it; line: study-wide threshold.")),
            folded(f"{len(best)} strongest latents",
                   table_block(best, _LATENT_COLUMNS, name=name,
                               caption=f"{locus.row.lead_variant}, strongest latents")),
        ]
    )  # fmt: skip

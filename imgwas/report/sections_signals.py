"""Conditional signals and credible sets, in the panel of the locus they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgwas.errors import InconsistentError, explain
from imgwas.report.markup import Child, Html
from imgwas.report.page_parts import Study, folded
from imgwas.report.sources import Sources
from imgwas.report.tables import Column, fixed, number, p_text, table_block

if TYPE_CHECKING:
    import pandas as pd

_SIGNALS = [
    Column("latent", "latent"),
    Column("signal", "signal", "In the order of entry"),
    Column("variant_id", "variant"),
    Column("base_pair_location", "position"),
    Column("neg_log_10_p_value", "P alone", "As in the scan", p_text),
    Column("conditional_neg_log_10_p_value", "P at entry", "Given the signals before", p_text),
    Column("joint_beta", "joint beta", "All signals in one model", number),
    Column("joint_standard_error", "SE", "Of the joint beta", number),
    Column("joint_neg_log_10_p_value", "joint P", "", p_text),
]
_SETS = [
    Column("latent", "latent"),
    Column("credible_set", "set"),
    Column("n_variants", "variants", "In the set"),
    Column("coverage", "coverage", "Sum of posterior probabilities", fixed(3)),
    Column("purity", "purity", "Smallest absolute correlation between members", fixed(3)),
    Column("variant_id", "likeliest variant"),
    Column("posterior_probability", "probability", "Of that variant", fixed(3)),
]


def check_loci(sources: Sources) -> None:
    """Refuse tables of signals or credible sets that name other loci.

    Raises
    ------
    InconsistentError
        If a locus of the table is not among the loci, or lies on another chromosome.
    """
    place = dict(zip(sources.loci.table["locus"], sources.loci.table["chromosome"], strict=True))
    for kind, table in sources.tables.items():
        named = table[["locus", "chromosome"]].drop_duplicates()
        rows = zip(named["locus"], named["chromosome"], strict=True)
        wrong = [str(locus) for locus, where in rows if str(place.get(locus)) != str(where)]
        if wrong:
            raise InconsistentError(
                explain(
                    f"the {kind} name {len(wrong):,} loci that are not those of the report",
                    where=f"first: {', '.join(wrong[:3])}",
                    do="Give the --loci from which they were made",
                )
            )


def signal_blocks(study: Study, locus: str) -> list[Child]:
    """Tables of one locus, folded; nothing where nothing was given or found."""
    blocks: list[Child] = []
    for kind, columns, title in (
        ("signals", _SIGNALS, "Independent signals, each given the others"),
        ("credible", _SETS, "Credible sets"),
    ):
        table = study.sources.tables.get(kind)
        if table is None:
            continue
        here = table[table["locus"].astype(str) == locus].reset_index(drop=True)
        blocks.append(_block(here, columns, title, f"locus-{locus}-{kind}"))
    return blocks


def _block(table: pd.DataFrame, columns: list[Column], title: str, name: str) -> Html | None:
    if not len(table):
        return None
    n_latents = table["latent"].nunique()
    caption = f"{title}: {len(table):,} for {n_latents:,} latent{'s' * (n_latents > 1)}"
    return folded(caption, table_block(table, columns, name=name, caption=caption))


def add_downloads(study: Study) -> None:
    """Offer the tables as files."""
    about = {"signals": "Independent signals of each locus and latent, each given the others",
             "credible": "Credible sets of each locus and latent"}  # fmt: skip
    for kind, table in study.sources.tables.items():
        study.downloads.add(f"{kind}.tsv", table, about[kind])

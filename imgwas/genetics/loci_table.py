"""Tables of loci, of their independent variants and latents, with the definition beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas.files import publish, publish_json
from imgwas.genetics.blocks import Interval
from imgwas.genetics.genes import Genes
from imgwas.genetics.novelty import Catalogue
from imgwas.genetics.scores import Scores, describe_variants, variant_ids
from imgwas.sumstats import SumStats

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the table of loci.
COLUMNS = (
    "locus", "chromosome", "start", "end", "lead_variant", "base_pair_location", "effect_allele",
    "other_allele", "effect_allele_frequency", "beta", "standard_error", "neg_log_10_p_value",
    "latent", "latent_neg_log_10_p_value", "n", "n_latents", "latents", "n_variants",
    "n_significant", "n_independent", "n_lead", "lead_variants", "nearest_gene", "gene_distance",
    "gene_biotype", "genes_within_500kb", "is_novel", "n_known", "nearest_known", "known_distance",
    "known_traits",
)  # fmt: skip
#: Columns of the table of independent significant variants.
VARIANT_COLUMNS = (
    "locus", "variant_id", "chromosome", "base_pair_location", "effect_allele", "other_allele",
    "effect_allele_frequency", "beta", "standard_error", "neg_log_10_p_value", "latent", "is_lead",
    "lead_variant", "start", "end", "n_partners", "partners",
)  # fmt: skip
#: Columns of the table of significant pairs of locus and latent.
PAIR_COLUMNS = (
    "locus", "latent", "variant_id", "base_pair_location", "neg_log_10_p_value", "n_significant",
)  # fmt: skip


@dataclass(frozen=True)
class Loci:
    """Loci with the definition that made them.

    Parameters
    ----------
    table : DataFrame
        One row a locus, in the order of the genome; columns are listed in ``docs/loci.md``.
    variants : DataFrame
        One row an independent significant variant, with what it tags.
    pairs : DataFrame
        One row for every locus and latent with a significant variant in it.
    definition : mapping
        Preset, limits, LD, genome build, sources of genes and of known associations.
    """

    table: pd.DataFrame
    variants: pd.DataFrame
    pairs: pd.DataFrame
    definition: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Loci({len(self)} loci, preset {self.definition['preset']!r})"

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False))

    def header(self) -> list[str]:
        """The definition in lines, as they stand above the table."""
        return definition_lines(self.definition)

    def write(self, path: str | Path) -> list[Path]:
        """Write the tables as text and the definition as JSON.

        Parameters
        ----------
        path : path
            ``loci.tsv`` also makes ``loci.variants.tsv``, ``loci.latents.tsv`` and ``loci.json``.
            Lines that begin with ``#`` state the definition.

        Returns
        -------
        list of Path
            What was written.
        """
        path = Path(path)
        stem = path.with_suffix("")
        paths = [path, Path(f"{stem}.variants.tsv"), Path(f"{stem}.latents.tsv")]
        for target, table in zip(paths, (self.table, self.variants, self.pairs), strict=True):
            write_table(target, table, self.header())
        summary = Path(f"{stem}.json")
        publish_json(summary, {"format": "imgwas-loci", "loci": len(self), **self.definition})
        return [*paths, summary]


def definition_lines(definition: Mapping[str, Any]) -> list[str]:
    """One line for each entry; nested entries as JSON."""
    return [
        f"{name}={value if isinstance(value, str) else json.dumps(value, sort_keys=True)}"
        for name, value in definition.items()
    ]


def write_table(path: Path, table: pd.DataFrame, comments: Sequence[str]) -> None:
    """Write tab-separated text under lines that begin with ``#``; missing is NA."""
    with publish(path, "w") as stream:
        for line in comments:
            stream.write(f"# {line}\n")
        table.to_csv(stream, sep="\t", index=False, na_rep="NA", float_format="%.10g")


def no_loci(definition: Mapping[str, Any]) -> Loci:
    """Empty tables with all their columns."""
    import pandas as pd

    table, variants, pairs = (
        pd.DataFrame({name: [] for name in columns})
        for columns in (COLUMNS, VARIANT_COLUMNS, PAIR_COLUMNS)
    )
    return Loci(table, variants, pairs, dict(definition))


def make_table(
    sumstats: SumStats,
    sources: Sequence[tuple[Scores, Sequence[Interval]]],
    definition: Mapping[str, Any],
    genes: Genes | None,
    known: Catalogue | None,
) -> Loci:
    """Name, count and annotate the loci of one or several sources of -log10 P."""
    import pandas as pd

    loci, variants, pairs = [], [], []
    first = 1
    for scores, intervals in sources:
        if intervals:
            loci.append(_locus_rows(sumstats, scores, intervals, first))
            variants.append(_variant_rows(sumstats, scores, intervals, first))
            pairs.append(_pair_rows(sumstats, scores, intervals, first))
            first += len(intervals)
    table = pd.concat(loci, ignore_index=True)
    _add_genes(table, genes)
    _add_known(table, known)
    return Loci(
        table[list(COLUMNS)],
        pd.concat(variants, ignore_index=True)[list(VARIANT_COLUMNS)],
        pd.concat(pairs, ignore_index=True)[list(PAIR_COLUMNS)],
        dict(definition),
    )


def _strongest(scores: Scores, numbers: Sequence[int]) -> int:
    """Smallest P; the first in the file where several share it."""
    return min(numbers, key=lambda i: (-scores.variants.neg_log10_p[i], i))


def _names(scores: Scores, numbers: Sequence[int]) -> list[str]:
    return [scores.latents[scores.best[i]] for i in numbers]


def _inside(scores: Scores, locus: Interval) -> np.ndarray:
    """Pairs of a locus."""
    where = scores.pair_variant
    position = scores.variants.position[where]
    here = scores.variants.chromosome[where] == locus.chromosome
    return np.flatnonzero(here & (position >= locus.start) & (position <= locus.end))


def _latents_of(scores: Scores, pairs: np.ndarray) -> list[str]:
    """Latents of some pairs, the strongest first."""
    best: dict[int, float] = {}
    values = scores.pair_neg_log10_p[pairs]
    for latent, value in zip(scores.pair_latent[pairs].tolist(), values.tolist(), strict=True):
        best[latent] = max(value, best.get(latent, 0.0))
    return [scores.latents[k] for k in sorted(best, key=lambda k: (-best[k], k))]


def _locus_rows(
    sumstats: SumStats, scores: Scores, loci: Sequence[Interval], first: int
) -> pd.DataFrame:
    leads = [_strongest(scores, [b.index for b in locus.blocks]) for locus in loci]
    table = describe_variants(sumstats, np.array(leads), _names(scores, leads))
    table = table.rename(columns={"variant_id": "lead_variant"})
    table["latent_neg_log_10_p_value"] = table["neg_log_10_p_value"]
    table["neg_log_10_p_value"] = scores.variants.neg_log10_p[leads]
    table["locus"] = np.arange(first, first + len(loci))
    table["start"], table["end"] = [x.start for x in loci], [x.end for x in loci]
    inside = [_inside(scores, locus) for locus in loci]
    latents = [_latents_of(scores, pairs) for pairs in inside]
    table["n_latents"] = [len(names) for names in latents]
    table["latents"] = [",".join(names) for names in latents]
    table["n_variants"] = [
        len(np.unique(np.concatenate([np.append(b.partners, b.index) for b in x.blocks])))
        for x in loci
    ]
    table["n_significant"] = [len(np.unique(scores.pair_variant[pairs])) for pairs in inside]
    table["n_independent"] = [len(locus.blocks) for locus in loci]
    lead_numbers = [sorted({b.lead for b in locus.blocks}) for locus in loci]
    table["n_lead"] = [len(numbers) for numbers in lead_numbers]
    flat = np.array([i for numbers in lead_numbers for i in numbers])
    ids = dict(zip(flat.tolist(), variant_ids(sumstats, flat), strict=True))
    table["lead_variants"] = [",".join(ids[i] for i in numbers) for numbers in lead_numbers]
    return table


def _variant_rows(
    sumstats: SumStats, scores: Scores, loci: Sequence[Interval], first: int
) -> pd.DataFrame:
    numbered = [
        (number, block) for number, locus in enumerate(loci, start=first) for block in locus.blocks
    ]
    blocks = [block for _, block in numbered]
    index = np.array([block.index for block in blocks])
    table = describe_variants(sumstats, index, _names(scores, index.tolist()))
    table["neg_log_10_p_value"] = scores.variants.neg_log10_p[index]
    table["locus"] = [number for number, _ in numbered]
    table["is_lead"] = [block.lead == block.index for block in blocks]
    table["lead_variant"] = variant_ids(sumstats, np.array([block.lead for block in blocks]))
    table["start"], table["end"] = [b.start for b in blocks], [b.end for b in blocks]
    table["n_partners"] = [len(block.partners) for block in blocks]
    members = [np.sort(block.partners) for block in blocks]
    flat = np.concatenate([np.empty(0, np.int64), *members])
    ids = dict(zip(flat.tolist(), variant_ids(sumstats, flat), strict=True))
    table["partners"] = [",".join(ids[i] for i in found.tolist()) for found in members]
    return table


def _pair_rows(
    sumstats: SumStats, scores: Scores, loci: Sequence[Interval], first: int
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for number, locus in enumerate(loci, start=first):
        pairs = _inside(scores, locus)
        for name in _latents_of(scores, pairs):
            mine = pairs[scores.pair_latent[pairs] == scores.latents.index(name)]
            best = mine[scores.pair_neg_log10_p[mine].argmax()]
            value = float(scores.pair_neg_log10_p[best])
            rows.append((number, name, int(scores.pair_variant[best]), value, len(mine)))
    columns = ["locus", "latent", "variant", "neg_log_10_p_value", "n_significant"]
    table = pd.DataFrame(rows, columns=columns)
    chosen = table["variant"].to_numpy(np.int64)
    table["variant_id"] = variant_ids(sumstats, chosen)
    table["base_pair_location"] = scores.variants.position[chosen]
    return table


def _add_genes(table: pd.DataFrame, genes: Genes | None) -> None:
    columns = ("nearest_gene", "gene_distance", "gene_biotype", "genes_within_500kb")
    if genes is None:
        table[list(columns)] = np.nan
        return
    places = zip(table["chromosome"], table["base_pair_location"], strict=True)
    found = [genes.around(str(chromosome), int(position)) for chromosome, position in places]
    table["nearest_gene"] = [one.name for one in found]
    table["gene_distance"] = [one.distance for one in found]
    table["gene_biotype"] = [one.biotype for one in found]
    table["genes_within_500kb"] = [",".join(one.within) for one in found]


def _add_known(table: pd.DataFrame, known: Catalogue | None) -> None:
    columns = ("is_novel", "n_known", "nearest_known", "known_distance", "known_traits")
    if known is None:
        table[list(columns)] = np.nan
        return
    places = ("chromosome", "base_pair_location", "start", "end")
    rows = zip(*(table[name] for name in places), strict=True)
    found = [known.around(str(c), int(p), int(s), int(e)) for c, p, s, e in rows]
    table["is_novel"] = [one.n == 0 for one in found]
    table["n_known"] = [one.n for one in found]
    table["nearest_known"] = [one.name for one in found]
    table["known_distance"] = [one.distance for one in found]
    table["known_traits"] = [";".join(one.traits) for one in found]

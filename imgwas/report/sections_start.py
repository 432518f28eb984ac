"""The first sections: what was done, what to worry about, who was analysed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgwas._version import __version__
from imgwas.report.markup import Html, join, tag
from imgwas.report.page_parts import Section, Study, paragraph
from imgwas.report.tables import Column, facts, number, table_block

if TYPE_CHECKING:
    import pandas as pd

#: Genomic control outside these limits is worth a look.
LAMBDA_LIMITS = (0.95, 1.10)
#: Its standard error times the root of the number of independent variants: 1 / (2 f(m) m) with m
#: the median of chi-square (one degree of freedom) and f its density there.
LAMBDA_ERROR = 2.33
_DONE = re.compile(r"done in ([\d,.]+ \w+)")
_WARNING = re.compile(r"^\S+ WARNING\s+(.*)$", re.MULTILINE)


def overview(study: Study) -> Section:
    """Header: warnings first, then what was scanned, with what, and how long it took."""
    warnings = warnings_of(study)
    return Section(
        "overview", "Overview", join([_warnings(warnings), _facts(study), _found(study)])
    )


def _warnings(warnings: Sequence[str]) -> Html:
    if not warnings:
        return tag("p", "No warnings.", class_="fine")
    items = [tag("li", text) for text in warnings]
    n = len(warnings)
    title = "1 warning" if n == 1 else f"{n} warnings"
    return tag("div", tag("h3", title), tag("ul", items), class_="warnings", role="note")


def warnings_of(study: Study) -> list[str]:
    """Sentences on what a reader should know before believing the page."""
    sumstats, metadata = study.sources.sumstats, study.sources.sumstats.metadata
    found = list(study.sources.notes)
    if sumstats.is_partial:
        found.append("The scan is not finished: variants are missing from every figure.")
    found += [f"The scan's files: {problem}" for problem in sumstats.verify(deep=False)[:5]]
    if not metadata.get("genome_build"):
        found.append("The genome build was not recorded (imgwas associate --genome-build).")
    for name, reason in sumstats.quarantined.items():
        found.append(f"Latent {name} was not scanned: {reason}.")
    found += _warnings_of_control(study)
    found += _warnings_of_numbers(study)
    if study.reconstructions is not None:
        found.append("This page shows images of single people: ask whether it may be sent.")
    if study.sources.latents.get("in_sample"):
        found.append("The encoder was trained on people of the table of latents.")
    told = [line for _, text in study.sources.logs() for line in _WARNING.findall(text)]
    found += [f"From the log: {line}" for line in dict.fromkeys(told)]
    return [study.sources.mask.text(line) for line in found]


def _warnings_of_control(study: Study) -> list[str]:
    low, high = LAMBDA_LIMITS
    off = [
        one
        for one in study.latents
        if one.n_tested
        and not low <= one.lambda_gc <= high
        and abs(one.lambda_gc - 1) > 3 * LAMBDA_ERROR / np.sqrt(one.n_tested)
    ]
    if not off:
        return []
    worst = max(off, key=lambda one: abs(np.log(one.lambda_gc)))
    return [
        f"Genomic control is outside {low:g} to {high:g} for {len(off):,} of "
        f"{len(study.latents):,} latents (farthest: {worst.name}, {worst.lambda_gc:.3f}). "
        "Structure among people, relatives and polygenicity move it."
    ]


def _warnings_of_numbers(study: Study) -> list[str]:
    found = []
    metadata = study.sources.sumstats.metadata
    total, tested = len(study.genome.best), study.genome.n_tested
    if tested < total:
        found.append(
            f"{total - tested:,} of {total:,} variants could not be tested for any latent."
        )
    people = {group["n"] for group in metadata["groups"]}
    if len(people) > 1:
        found.append(
            f"Latents have different people ({min(people):,} to {max(people):,}): "
            "numbers of people differ by latent."
        )
    if min(people) < 2000:
        found.append(
            f"Few people ({min(people):,}): effects that pass a threshold are overestimated."
        )
    return found


def _facts(study: Study) -> Html:
    sumstats, metadata = study.sources.sumstats, study.sources.sumstats.metadata
    genotypes = metadata.get("identity", {}).get("genotypes", {})
    people = sorted({group["n"] for group in metadata["groups"]})
    origin = study.sources.latents
    encoder = study.sources.facts("encoder", "encoder/encoder.json")
    weights = origin.get("weights_sha256") or encoder.get("weights_sha256")
    name = origin.get("encoder") or encoder.get("encoder")
    command = study.sources.mask.words(map(str, metadata.get("command") or []))
    return facts(
        [
            ("Genotypes", study.sources.mask.text(str(genotypes.get("bed", "not recorded")))),
            ("People", " to ".join(f"{n:,}" for n in {people[0], people[-1]})),
            ("Latents", f"{len(study.latents):,}"),
            ("Variants", f"{sumstats.n_variants:,}"),
            ("Genome build", metadata.get("genome_build") or "not recorded"),
            ("Encoder", name or "not recorded"),
            ("Weights (SHA-256)", tag("code", str(weights)[:16]) if weights else None),
            ("Seeds", _seeds(study, encoder)),
            ("Scanned", str(metadata.get("created", ""))[:16].replace("T", " ")),
            ("Run time", run_time(study)),
            ("imgwas", f"scan {metadata.get('imgwas_version', '?')}, page {__version__}"),
            ("Libraries", _libraries(study)),
            ("Digest of the scan", tag("code", str(metadata["digest"])[:16])),
            ("Command", tag("code", " ".join(command)) if command else "not recorded"),
        ]
    )


def _seeds(study: Study, encoder: dict[str, Any]) -> str:
    seeds = {
        "training": encoder.get("training", {}).get("seed"),
        "LD": (study.sources.loci.definition.get("ld") or {}).get("seed"),
        "heritability": study.sources.facts("heritability", "heritability.json").get("seed"),
        "maps": study.sources.facts("maps", "map.json").get("seed"),
    }
    return ", ".join(f"{what} {seed}" for what, seed in seeds.items() if seed is not None)


def run_time(study: Study) -> str:
    """Time that the scan's logs state, over all attempts."""
    found = [done for _, text in study.sources.logs() for done in _DONE.findall(text)]
    return " + ".join(found)


def _libraries(study: Study) -> str:
    for _, text in reversed(study.sources.logs()):
        for line in text.splitlines():
            if " libraries " in line:
                return line.split(" libraries ", 1)[1].strip()
    return ""


def _found(study: Study) -> Html:
    loci = study.sources.loci.table
    hits = float(np.nansum(study.genome.best >= -np.log10(5e-8)))
    n_latents = study.sources.loci.pairs["latent"].nunique()
    parts = [
        tag("strong", f"{len(loci):,} loci"), f", {n_latents:,} latents with at least one, ",
        f"{hits:,.0f} variants below P = 5e-8 for some latent.",
    ]  # fmt: skip
    if len(loci):
        best = loci.iloc[int(loci["neg_log_10_p_value"].to_numpy(float).argmax())]
        parts.append(
            f" Strongest: {best['lead_variant']} at {best['chromosome']}:"
            f"{int(best['base_pair_location']):,} (-log10 P {best['neg_log_10_p_value']:.1f}, "
            f"{best['latent']})."
        )
    return paragraph(parts)


def cohort(study: Study) -> Section:
    """How many people and variants each step left."""
    import pandas as pd

    metadata = study.sources.sumstats.metadata
    steps = pd.DataFrame(metadata["samples"]["steps"], columns=["step", "people"])
    study.downloads.add("sample_flow.tsv", steps, "How many people each step of the alignment left")
    groups = pd.DataFrame(
        [{**{k: g[k] for k in ("group", "n", "rank", "dof")}, "latents": len(g["latents"])}
         for g in metadata["groups"]]
    )  # fmt: skip
    content = [
        paragraph("Tables are matched by id; every count below is of people."),
        _flow(steps),
        table_block(groups, _GROUPS, name="groups",
                    caption="Latents whose values are missing for the same people form a group."),
        paragraph(_covariates(metadata)),
        _variant_flow(study),
    ]  # fmt: skip
    return Section("cohort", "Cohort and exclusions", join(content))


_GROUPS = [
    Column("group", "group"), Column("latents", "latents"), Column("n", "people"),
    Column("rank", "rank of the covariates", "with the intercept"),
    Column("dof", "degrees of freedom", "of the t test of a variant: n - rank - 1"),
]  # fmt: skip


def _flow(steps: pd.DataFrame) -> Html:
    """Draw the counts as bars beside their names."""
    most = max(int(steps["people"].max()), 1)
    rows = [
        tag("tr", tag("th", step, scope="row"), tag("td", f"{int(n):,}", class_="n"),
            tag("td", _share(int(n) / most)))
        for step, n in steps.itertuples(index=False)
    ]  # fmt: skip
    head = tag("tr", tag("th", "step", scope="col"), tag("th", "people", scope="col"), tag("td"))
    caption = tag("caption", "Cohort flow: people left by each step")
    return tag("table", caption, tag("thead", head), tag("tbody", rows), class_="flow", id="flow")


def _share(part: float) -> Html:
    bar = tag("rect", width=f"{100 * part:.2f}", height=10)
    return tag("svg", bar, viewBox="0 0 100 10", preserveAspectRatio="none", class_="bar",
               aria_hidden="true")  # fmt: skip


def _covariates(metadata: dict[str, Any]) -> str:
    covariates = metadata.get("covariates") or {}
    names = covariates.get("names") or []
    text = f"Covariates ({len(names)}): {', '.join(map(str, names)) or 'none, intercept only'}."
    dropped = covariates.get("dropped") or {}
    if dropped:
        text += " Left out: " + "; ".join(f"{name} ({why})" for name, why in dropped.items()) + "."
    return text


def _variant_flow(study: Study) -> Html:
    sumstats = study.sources.sumstats
    totals = totals_of(study)
    settings = sumstats.metadata["settings"]
    filters = {k: v for k, v in (settings.get("filters") or {}).items() if v not in (None, False)}
    said = ", ".join(f"{name} {value:g}" if isinstance(value, float | int) else str(name)
                     for name, value in filters.items())  # fmt: skip
    text = f"Filters of variants: {said or 'none'}. {sumstats.n_variants:,} variants are listed"
    removed = {name: n for name, n in (totals.get("removed") or {}).items() if n}
    if removed:
        text += "; removed: " + ", ".join(f"{number(n)} by {name}" for name, n in removed.items())
    from imgwas.sumstats.reasons import REASONS

    counts = {int(code): n for code, n in (totals.get("reasons") or {}).items()}
    untested = {REASONS.get(code, str(code)): n for code, n in counts.items() if code and n}
    if untested:
        text += "; not tested: " + ", ".join(f"{n:,} {why}" for why, n in untested.items())
    return paragraph(text + ".")


def totals_of(study: Study) -> dict[str, Any]:
    """Counts that the finished scan recorded."""
    from imgwas.report.sources import json_of

    path = study.sources.sumstats.folder / "RUN_COMPLETE.json"
    content = json_of(path) if path.exists() else {}
    return {key: content.get(key) for key in ("removed", "reasons", "n_variants")}

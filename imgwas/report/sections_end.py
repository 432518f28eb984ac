"""The last sections: files to keep, the methods in words, every setting, the log."""

from __future__ import annotations

import json
from typing import Any

from imgwas.report.markup import Html, join, tag
from imgwas.report.methods import methods_text, references
from imgwas.report.page_parts import Section, Study, folded, paragraph

#: Characters of one log; of a longer one the two ends are shown.
LONGEST_LOG = 200_000


def downloads(study: Study) -> Section:
    """The tables of this page as files, with what is in them."""
    rows = [
        tag("tr", tag("td", link), tag("td", about))
        for _, (about, link) in sorted(study.downloads.files.items())
    ]
    head = tag("tr", tag("th", "file", scope="col"), tag("th", "content", scope="col"))
    caption = tag("caption", "Files inside this page, tab-separated text. A click saves one.")
    table = tag("table", caption, tag("thead", head), tag("tbody", rows), class_="files")
    text = paragraph(
        "Statistics of all variants are not in this page: imgwas export writes them from the "
        "folder of results. A dictionary of columns follows."
    )
    return Section("downloads", "Files", join([table, text, _dictionary()]))


#: Columns of the files that are not plain words.
DICTIONARY = {
    "effect_allele, other_allele": "beta is per copy of the effect allele",
    "effect_allele_frequency": "among the people analysed",
    "beta, standard_error": "in units of the latent, as scanned",
    "neg_log_10_p_value": "-log10 of the two-sided P",
    "latent_neg_log_10_p_value": "the same of the top latent, where another test defined the locus",
    "lambda_gc": "genomic control, median chi-square over its expectation",
    "n_latents, latents": "latents with a significant variant inside the locus",
    "n_variants, n_significant": "variants tagged by the locus; variants inside that pass",
    "n_independent, n_lead": "independent significant variants; lead variants",
    "reason": "why a variant was not tested; empty where it was",
    "beta_corrected": "most likely effect, given that it passed the threshold of discovery",
    "ratio": "odds or hazard ratio per SD of the latent",
    "p_max_t": "step-down permutation over all tests",
}


def _dictionary() -> Html:
    pairs = [tag("div", tag("dt", tag("code", name)), tag("dd", about))
             for name, about in DICTIONARY.items()]  # fmt: skip
    return folded("Dictionary of columns", tag("dl", pairs, class_="facts"))


def methods(study: Study) -> Section:
    """Methods to paste into a paper, references, settings and logs."""
    text = [paragraph(one) for one in methods_text(study)]
    cited = tag("ol", [tag("li", one) for one in references(study)], class_="references")
    blocks = [
        paragraph("Written from what was recorded; check it before you use it."),
        tag("div", text, class_="methods"),
        tag("h3", "References"),
        cited,
        folded("All settings of the scan", tag("pre", _settings(study), tabindex="0")),
        folded("Definition of loci", tag("pre", _definition(study), tabindex="0")),
    ]
    blocks += [
        folded(f"Log of the scan, {name}", tag("pre", _ends(log), tabindex="0"))
        for name, log in study.sources.logs()
    ]
    return Section("methods", "Methods, settings, log", join(blocks))


def _settings(study: Study) -> str:
    """What ``run.json`` says, without lists of latents and without places on a machine."""
    metadata = study.sources.sumstats.metadata
    hidden = {"latents", "identity", "groups", "command"}
    shown = {name: value for name, value in metadata.items() if name not in hidden}
    shown["groups"] = [
        {name: value for name, value in group.items() if name != "latents"}
        for group in metadata["groups"]
    ]
    return study.sources.mask.text(_json(shown))


def _definition(study: Study) -> str:
    return study.sources.mask.text(_json(dict(study.sources.loci.definition)))


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, default=str)


def _ends(log: str) -> str:
    if len(log) <= LONGEST_LOG:
        return log
    half = LONGEST_LOG // 2
    return f"{log[:half]}\n… {len(log) - 2 * half:,} characters left out …\n{log[-half:]}"

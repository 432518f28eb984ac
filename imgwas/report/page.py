"""The whole page: sections in order, one style, one script, a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from imgwas.files import publish
from imgwas.genetics.genes import Genes
from imgwas.report import (
    sections_after,
    sections_encoder,
    sections_end,
    sections_loci,
    sections_scan,
    sections_start,
)
from imgwas.report.markup import Html, join, tag
from imgwas.report.page_parts import Section, Study
from imgwas.report.scan_numbers import ids_of, read_genome, read_latents
from imgwas.report.sections_signals import check_loci
from imgwas.report.sources import Sources, open_sources
from imgwas.types import Genotypes

logger = logging.getLogger(__name__)

#: Above this size a page is hard to send.
MOST_BYTES = 25_000_000
SECTIONS: Sequence[Callable[[Study], Section | None]] = (
    sections_start.overview,
    sections_start.cohort,
    sections_encoder.encoder,
    sections_scan.latents,
    sections_scan.manhattan,
    sections_loci.loci,
    sections_after.shared,
    sections_after.replication,
    sections_after.traits,
    sections_end.downloads,
    sections_end.methods,
)


def write_report(
    results: str | Path,
    out: str | Path,
    *,
    title: str | None = None,
    loci: str | Path | None = None,
    maps: str | Path | None = None,
    heritability: str | Path | None = None,
    traits: str | Path | None = None,
    replication: str | Path | None = None,
    encoder: str | Path | None = None,
    signals: str | Path | None = None,
    credible: str | Path | None = None,
    reconstructions: str | Path | None = None,
    omnibus: bool = False,
    latents: str | Path | None = None,
    genotypes: Genotypes | None = None,
    genes: Genes | None = None,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write one HTML file about a scan and whatever was done with it.

    The file needs no network and no other file. It holds no id of a person and nothing per person,
    but for ``reconstructions``.

    Parameters
    ----------
    results : path
        Folder of a scan.
    out : path
        File to write, such as ``report.html``.
    title : str, optional
        By default the name of the genotypes.
    loci : path, optional
        ``loci.tsv`` of ``imgwas loci``. Without it loci are found by distance.
    maps, heritability, traits, replication, encoder : path, optional
        Folders of ``imgwas map``, ``heritability``, ``traits``, ``replicate`` and ``train``.
    signals, credible : path, optional
        Tables of ``imgwas condition`` and ``imgwas finemap``: shown in the panels of their loci.
    reconstructions : path, optional
        Sheet of ``imgwas reconstruct`` (PNG). It shows images of people; the page says so first.
    omnibus : bool
        Test all latents at once where the scan did not (``imgwas associate --omnibus``).
    latents : path, optional
        Table of latents: says which encoder made them. Its ids are masked wherever text has them.
    genotypes : Genotypes, optional
        Of the scan: regional plots get LD, and ids are masked in text.
    genes : Genes, optional
        From :func:`imgwas.read_genes`: drawn below regional plots.
    progress : callable, optional
        Told the number of variants times latents that were read.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    OpenError, MalformedError
        If something that was named is absent or damaged.
    InconsistentError
        If maps, loci, signals or credible sets belong to another scan.

    Examples
    --------
    >>> imgwas.write_report("results/", "report.html", loci="loci.tsv")  # doctest: +SKIP
    """
    sources = open_sources(
        results, loci=loci, latents=latents, genotypes=genotypes, maps=maps,
        heritability=heritability, traits=traits, replication=replication, encoder=encoder,
        signals=signals, credible=credible,
    )  # fmt: skip
    check_loci(sources)
    study = read_study(sources, progress, omnibus=omnibus)
    study.genotypes, study.genes = genotypes, genes
    study.reconstructions = Path(reconstructions) if reconstructions else None
    text = page_of(study, title or _default_title(sources)).encode("utf-8")
    if len(text) > MOST_BYTES:
        logger.warning("the page has %.1f MB: some mail programs will refuse it", len(text) / 1e6)
    with publish(Path(out)) as stream:
        stream.write(text)
    logger.info("wrote %s: %.1f MB, %d loci", out, len(text) / 1e6, len(sources.loci.table))
    return Path(out)


def read_study(
    sources: Sources, progress: Callable[[int], object] | None = None, *, omnibus: bool = False
) -> Study:
    """Read everything that sections share off the scan."""
    sumstats = sources.sumstats
    n = len(sumstats.latents)
    leads = sources.loci.table.rename(columns={"lead_variant": "variant_id"})
    genome, statistics = read_genome(
        sumstats,
        leads[["variant_id", "base_pair_location"]],
        progress and (lambda rows: progress(rows * n)),
        omnibus=omnibus,
    )
    latents = read_latents(sumstats, progress and (lambda _: progress(sumstats.n_variants)))
    names = ids_of(sumstats, np.array([one.top_row for one in latents], np.int64))
    return Study(sources, genome, latents, names, statistics)


def _default_title(sources: Sources) -> str:
    genotypes = sources.sumstats.metadata.get("identity", {}).get("genotypes", {})
    name = Path(str(genotypes.get("bed", ""))).name
    return f"{name.removesuffix('.bed')}: association of imaging latents".lstrip(": ")


def page_of(study: Study, title: str) -> str:
    """Put the sections into one document."""
    title = study.sources.mask.text(title)
    sections = []
    for make in SECTIONS:
        section = make(study)
        if section is not None:
            sections.append(section)
            logger.debug("section %s", section.name)
    style, script = asset("report.css"), asset("report.js")
    links = [tag("li", tag("a", one.title, href=f"#{one.name}")) for one in sections]
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag("header", tag("h1", title), tag("p", "imgwas report", class_="kind")),
        tag("nav", tag("ul", links), aria_label="Contents"),
        tag("main", tag("p", id="script-errors", role="alert", hidden=True, class_="warnings"),
            [one.html() for one in sections], id="content"),
        Html(f"<script>{script}</script>"),
    )  # fmt: skip
    return document(title, body, style, script)


def document(title: str, body: Html, style: str, script: str) -> str:
    """Text of a page that lets nothing run or load but its own style and script."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Html(f"<style>{style}</style>"),
    )
    return f"<!doctype html>\n{tag('html', join([head, body]), lang='en')}\n"


def policy(style: str, script: str) -> str:
    """Content security policy: this style, this script, pictures inside the page, nothing else."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    sha = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{sha}'"


def asset(name: str) -> str:
    """Text of a style or script that is shipped."""
    return resources.files("imgwas.report").joinpath("assets", name).read_text(encoding="utf-8")

"""The page of a scan: whole by itself, safe whatever things are called, free of people."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import InconsistentError, MalformedError, OpenError, UsageError
from imgwas.report import page
from imgwas.report.maps import MapPictures
from imgwas.report.markup import Html, data_block, escaped, tag
from imgwas.report.privacy import Mask
from imgwas.report.sources import open_sources
from tests.cli_cohort import imgwas as command
from tests.report_study import (
    FORMULA,
    HOSTILE,
    LATENT,
    ODD,
    Elements,
    check_safe,
    hostile_page,
    shared_page,
    shared_study,
    write_maps,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return shared_study(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return shared_page(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return hostile_page(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def elements(written):
    return Elements(written.read_text(encoding="utf-8"))


# ---- the page by itself -------------------------------------------------------------------------


def test_sections_are_in_the_order_of_the_design(elements):
    names = [attributes["id"] for attributes in elements.all("section")]
    assert names == [
        "overview", "cohort", "encoder", "latents", "manhattan", "loci", "shared", "replication",
        "traits", "downloads", "methods",
    ]  # fmt: skip


def test_page_is_whole_and_safe(elements):
    check_safe(elements)
    assert len(elements.all("img")) >= 10
    assert len(elements.all("svg")) >= 4


def test_style_and_script_are_the_ones_the_policy_allows(written):
    text = written.read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    meta = next(a for a in Elements(text).all("meta") if a.get("http-equiv"))
    assert meta["content"] == page.policy(style, script)
    assert "unsafe" not in meta["content"]
    assert meta["content"].startswith("default-src 'none';")


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "AdjacentHTML", "eval(", "document.write", "fetch(", "http"]
)
def test_script_has_no_way_to_make_markup_or_to_reach_out(word):
    assert word not in page.asset("report.js")
    assert word not in page.asset("report.css")


def test_downloads_are_the_tables(written, study, elements):
    links = {a["download"]: a["href"] for a in elements.all("a") if "download" in a}

    saved = base64.b64decode(links["loci.tsv"].split(",", 1)[1]).decode()
    table = pd.read_csv(io.StringIO(saved), sep="\t", dtype={"chromosome": str})
    expected = imgwas.read_loci(study / "loci.tsv").table
    assert list(table["lead_variant"]) == list(expected["lead_variant"])
    np.testing.assert_allclose(table["beta"], expected["beta"], rtol=1e-6)
    assert {
        "latents.tsv",
        "sample_flow.tsv",
        "lead_statistics.tsv",
        "replication.tsv",
        "associations.tsv",
        "heritability.tsv",
        "latent_correlation.tsv",
    } <= set(links)


def test_maps_stand_in_the_panel_of_their_variant(written, study):
    first = imgwas.read_loci(study / "loci.tsv").table["lead_variant"][0]
    text = written.read_text(encoding="utf-8")
    panel = text[text.index('<details id="locus-1"') : text.index('<details id="locus-2"')]
    assert "What the variant changes" in panel
    assert f"Map of the change along the effect of the variant of {first}" in panel
    assert "pons stands out" in panel
    assert "region 2" in panel


def test_methods_say_what_the_scan_did(written):
    text = written.read_text(encoding="utf-8")
    methods = text[text.index('<div class="methods">') :]
    assert "5 latents of 240 people were tested against" in methods
    assert "an exact F test of the variant&#x27;s regression on all latents" in methods
    assert "Missing calls were set to the variant&#x27;s mean." in methods
    assert "preset fuma (p1 5e-08, p2 0.05, r2 0.6" in methods
    assert "Watanabe K et al. (2017)" in methods
    assert "Cox DR" not in methods


def test_images_of_people_are_announced(written, hostile):
    said = "This page shows images of single people"
    assert said in written.read_text(encoding="utf-8")
    assert said not in hostile.read_text(encoding="utf-8")


def test_same_inputs_make_the_same_page(hostile, tmp_path):
    folder = hostile.parent
    again = imgwas.write_report(
        folder / "results", tmp_path / "again.html", title=HOSTILE[1],
        latents=folder / "latents.parquet",
    )  # fmt: skip
    assert again.read_bytes() == hostile.read_bytes()


# ---- people -------------------------------------------------------------------------------------


def test_no_id_of_a_person_is_in_the_page(hostile):
    text = hostile.read_text(encoding="utf-8")
    assert set(re.findall(r"person\d+", text)) == set()
    assert f"****{ODD[-3:]} is odd" in text
    assert "secret" not in text
    assert "bighost" not in text
    assert "2.5 s" in text


def test_mask_leaves_other_words_alone():
    mask = Mask(frozenset({"1000017"}))
    assert mask.text("1000017, x1000017 and 10000170") == "****017, x1000017 and 10000170"
    assert mask.text("--bfile /data/a/cohort 5e-8/24") == "--bfile …/cohort 5e-8/24"


# ---- names that try to run ----------------------------------------------------------------------


def test_hostile_names_are_text(hostile):
    elements = Elements(hostile.read_text(encoding="utf-8"))
    check_safe(elements)
    shown = "".join(elements.text)
    found = imgwas.open_sumstats(hostile.parent / "results").top()
    present = set(found["variant_id"]) & set(HOSTILE)
    assert len(present) >= 2
    for name in [*present, LATENT, FORMULA]:
        assert name in shown


def test_data_block_cannot_be_left():
    block = data_block("x", {"name": "</script><!--<script>", "amp": "&"})
    inner = block[block.index(">") + 1 : block.rindex("</script>")]
    assert not set("<>&") & set(inner)
    assert json.loads(inner) == {"name": "</script><!--<script>", "amp": "&"}


def test_tag_escapes_texts_and_attributes():
    made = tag("td", "<b>&\"'", [1, None, Html("<i>x</i>")], title='"><script>', hidden=True)
    assert made == (
        '<td title="&quot;&gt;&lt;script&gt;" hidden>&lt;b&gt;&amp;&quot;&#x27;1<i>x</i></td>'
    )
    assert escaped("a\x00\udc80") == "a�?"


@pytest.mark.parametrize(
    "attributes",
    [{"onclick": "x"}, {"ONLOAD": "x"}, {"style": "x"}, {"href": "javascript:alert(1)"},
     {"href": "https://a.b"}, {"src": "data:image/svg+xml;base64,AA"}, {"src": "x"},
     {"href": "data:text/html;base64,AA"}],
)  # fmt: skip
def test_tag_refuses_what_could_run(attributes):
    with pytest.raises(UsageError):
        tag("a", **attributes)


# ---- what may be absent, or wrong ---------------------------------------------------------------


def test_command_line_of_a_scan_without_loci(tmp_path):
    folder = tmp_path / "null"
    imgwas.simulate_cohort(folder, n_samples=80, n_variants=60, n_latents=1, n_causal=0, seed=1)
    imgwas.associate(
        imgwas.open_genotypes(folder / "cohort"), imgwas.read_latents(folder / "latents.parquet"),
        out=folder / "results",
    )  # fmt: skip
    result = command(
        "report", folder / "results", "--bfile", folder / "cohort", "--out", "r.html",
        "--title", "A & B", folder=tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.text
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    check_safe(Elements(text))
    assert "<h1>A &amp; B</h1>" in text
    assert "No variant passes" in text
    assert "One latent was scanned" in text
    assert "The genome build was not recorded" in text


def test_folders_are_checked(study, tmp_path):
    with pytest.raises(OpenError, match=r"has no maps\.tsv.*imgwas map"):
        imgwas.write_report(study / "results", tmp_path / "r.html", maps=tmp_path)
    with pytest.raises(OpenError, match="is not a folder"):
        imgwas.write_report(study / "results", tmp_path / "r.html", traits=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_maps_of_another_scan_are_refused(study, tmp_path):
    results = imgwas.open_sumstats(study / "results")
    write_maps(tmp_path / "maps", results, ["rs1"])
    about = json.loads((tmp_path / "maps" / "map.json").read_text()) | {"scan": "f" * 64}
    (tmp_path / "maps" / "map.json").write_text(json.dumps(about))
    with pytest.raises(InconsistentError, match="another scan"):
        imgwas.write_report(study / "results", tmp_path / "r.html", maps=tmp_path / "maps")


def test_latents_of_another_encoder_are_refused(study, tmp_path):
    run = tmp_path / "run" / "encoder"
    run.mkdir(parents=True)
    (run / "encoder.json").write_text(json.dumps({"weights_sha256": "a" * 64}))
    latents = imgwas.read_latents(study / "latents.parquet")
    from imgwas.latents import write_latents

    write_latents(latents, tmp_path / "z.parquet", history={"weights_sha256": "b" * 64})
    with pytest.raises(InconsistentError, match="not made by the encoder"):
        open_sources(study / "results", latents=tmp_path / "z.parquet", encoder=tmp_path / "run")


def map_pictures(study: Path, folder: Path, stem: str | None = None) -> MapPictures:
    """Pictures of one lead variant, whose file may have another name than the table says."""
    results = imgwas.open_sumstats(study / "results")
    lead = imgwas.read_loci(study / "loci.tsv").table["lead_variant"][0]
    if not folder.exists():
        write_maps(folder, results, [lead])
    if stem is not None:
        (folder / "figures" / f"{lead}.png").rename(folder.parent / "out.png")
        about = json.loads((folder / "map.json").read_text()) | {"maps": {lead: stem}}
        (folder / "map.json").write_text(json.dumps(about))
    sources = open_sources(study / "results", maps=folder, loci=study / "loci.tsv")
    return MapPictures.of(sources, [lead, lead])


def test_a_map_name_cannot_lead_out_of_its_folder(study, tmp_path):
    assert len(map_pictures(study, tmp_path / "a").pictures.popitem()[1]) == 1
    assert map_pictures(study, tmp_path / "maps", "../../out").pictures.popitem()[1] == []


def test_maps_that_would_make_the_page_large_are_left_out_and_told(study, tmp_path, monkeypatch):
    monkeypatch.setattr("imgwas.report.maps.MOST_BYTES", 10)
    found = map_pictures(study, tmp_path / "maps")
    assert found.pictures == {}
    assert "Maps of 1 weaker loci are left out" in found.notes()[0]


def test_a_damaged_picture_is_named(study, tmp_path):
    map_pictures(study, tmp_path / "maps")
    next((tmp_path / "maps" / "figures").iterdir()).write_bytes(b"no picture")
    with pytest.raises(MalformedError, match="is no PNG picture"):
        map_pictures(study, tmp_path / "maps")


def test_signals_and_credible_sets_are_in_the_panels_of_their_loci(written, study, elements):
    signals = pd.read_csv(study / "signals.tsv", sep="\t")
    sets = pd.read_csv(study / "credible.tsv", sep="\t")
    assert len(signals)
    assert len(sets)
    ids = {attributes.get("id") for attributes in elements.all("div")}
    for kind, table in (("signals", signals), ("credible", sets)):
        named = {f"locus-{locus}-{kind}" for locus in table["locus"]}
        assert named == {one for one in ids if re.fullmatch(rf"locus-\d+-{kind}", str(one))}
    text = written.read_text(encoding="utf-8")
    assert "sum of single effects" in text
    assert "variable selection in regression" in text
    assert "signals.tsv" in text


def test_signals_of_other_loci_are_refused(study, tmp_path):
    signals = pd.read_csv(study / "signals.tsv", sep="\t")
    signals.assign(locus=signals["locus"] + 1000).to_csv(tmp_path / "s.tsv", sep="\t", index=False)
    with pytest.raises(InconsistentError, match="not those of the report"):
        imgwas.write_report(study / "results", tmp_path / "r.html", loci=study / "loci.tsv",
                            signals=tmp_path / "s.tsv")  # fmt: skip
    with pytest.raises(MalformedError, match="imgwas finemap"):
        imgwas.write_report(study / "results", tmp_path / "r.html", loci=study / "loci.tsv",
                            credible=study / "signals.tsv")  # fmt: skip

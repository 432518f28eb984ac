"""The page of a scan: right numbers, whole by itself, safe whatever things are called, alive."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.errors import InconsistentError, MalformedError, OpenError, UsageError
from imgwas.report import manhattan_data, page, scan_numbers
from imgwas.report.markup import Html, data_block, escaped, tag
from imgwas.report.privacy import Mask
from imgwas.report.sources import open_sources
from imgwas.report.tables import number, p_text
from tests import browser
from tests.browser import Browser
from tests.cli_cohort import imgwas as command

N, M, K = 240, 1500, 5
HOSTILE = (
    "<img/src=x/onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "'\"--><svg/onload=alert(3)>",
)
LATENT = "<img src=x onerror=alert(4)>"
needs_browser = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium is installed")


def people() -> list[str]:
    """Ids that could not be anything else."""
    return [f"person{9000 + 7 * i}" for i in range(N)]


def make_study(folder: Path, *, hostile: bool, **options: object) -> Path:
    """Scan a simulated cohort whose strongest variants and a latent may have hostile names."""
    cohort = imgwas.simulate_cohort(
        folder, sample_ids=people(), n_variants=M, n_latents=K, n_causal=4, seed=8,
        variance_explained=0.35, covariate_r2=0.0, missing_rate=0.02,
    )  # fmt: skip
    if hostile:
        text = (folder / "cohort.bim").read_text()
        for name, bad in zip(cohort.truth["variant_id"], HOSTILE, strict=False):
            text = re.sub(rf"\t{name}\t", lambda _, b=bad: f"\t{b}\t", text)
        (folder / "cohort.bim").write_text(text)
    latents = imgwas.read_latents(folder / "latents.parquet")
    if hostile:
        frame = pd.DataFrame(latents.values, columns=[LATENT, *latents.names[1:]])
        frame.insert(0, "IID", list(latents.sample_ids))
        latents = imgwas.latents_from_frame(frame)
    covariates = imgwas.read_covariates(folder / "covariates.tsv", categorical=["sex", "centre"])
    imgwas.associate(
        imgwas.open_genotypes(folder / "cohort"), latents, covariates, out=folder / "results",
        omnibus=True, command=["imgwas", "associate", "--bfile", "/home/me/secret/cohort"],
        **options,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), hostile=False)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("hostile"), hostile=True)


@pytest.fixture(scope="module")
def written(study):
    """The page of the study, with loci, traits, maps, heritability and replication."""
    write_neighbours(study)
    return imgwas.write_report(
        study / "results", study / "report.html", loci=study / "loci.tsv", maps=study / "maps",
        traits=study / "traits", heritability=study / "h2", replication=study / "repl",
        latents=study / "latents.parquet", genotypes=imgwas.open_genotypes(study / "cohort"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def hostile_page(hostile):
    return imgwas.write_report(hostile / "results", hostile / "report.html", title=HOSTILE[1])


def write_neighbours(folder: Path) -> None:
    """Make what other commands write about the scan."""
    results = imgwas.open_sumstats(folder / "results")
    genotypes = imgwas.open_genotypes(folder / "cohort")
    loci = imgwas.find_loci(results, genotypes)
    loci.write(folder / "loci.tsv")
    write_maps(folder / "maps", results, list(loci.table["lead_variant"]))
    latents = imgwas.read_latents(folder / "latents.parquet")
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"IID": people(), "bmi": rng.normal(size=N), "sbp": rng.normal(size=N)})
    table.to_csv(folder / "people.tsv", sep="\t", index=False)
    (folder / "traits").mkdir()
    traits = imgwas.read_traits(folder / "people.tsv", numbers=["bmi", "sbp"])
    found = imgwas.associate_traits(latents, traits)
    found.to_csv(folder / "traits" / "associations.tsv", sep="\t", index=False, na_rep="NA")
    write_replication(folder / "repl", loci.table)
    write_heritability(folder / "h2", results.latents)


def write_replication(folder: Path, loci: pd.DataFrame) -> None:
    folder.mkdir()
    table = pd.DataFrame(
        {
            "variant_id": loci["lead_variant"],
            "chromosome": loci["chromosome"],
            "base_pair_location": loci["base_pair_location"],
            "latent": loci["latent"],
            "beta_discovery": loci["beta"],
            "standard_error_discovery": loci["standard_error"],
            "beta_replication": loci["beta"] * 0.9,
            "standard_error_replication": loci["standard_error"] * 1.1,
            "same_sign": True,
            "replicated": np.arange(len(loci)) > 0,
        }
    )
    table.to_csv(folder / "replication.tsv", sep="\t", index=False, na_rep="NA")
    summary = {"leads": len(loci), "same_sign": len(loci), "expected_same_sign": 3.9}
    (folder / "replication.json").write_text(json.dumps({"summary": summary}))


def write_maps(folder: Path, results: imgwas.SumStats, names: list[str]) -> None:
    (folder / "figures").mkdir(parents=True)
    rows = [{"name": name, "neg_log10_p": 9.0, "is_finding": True, "region": "pons",
             "region_q": 0.01} for name in names]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "maps.tsv", sep="\t", index=False)
    regions = [{"name": name, "per": "allele", "region": f"region {i}", "volume": 0.01 * i}
               for name in names for i in range(3)]  # fmt: skip
    pd.DataFrame(regions).to_csv(folder / "regions.tsv", sep="\t", index=False)
    stems = {name: name for name in names}
    about = {"scan": results.metadata["digest"], "maps": stems, "n_people": 16, "atlas": "a.nii"}
    (folder / "map.json").write_text(json.dumps(about))
    from PIL import Image

    Image.new("RGB", (300, 120), "#4477AA").save(folder / "figures" / f"{names[0]}.png")


def write_heritability(folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir()
    table = pd.DataFrame({"latent": names, "heritability": np.linspace(0.1, 0.5, len(names)),
                          "standard_error": 0.04})  # fmt: skip
    table.to_csv(folder / "heritability.tsv", sep="\t", index=False)
    one, other = np.triu_indices(len(names), 1)
    pairs = pd.DataFrame({"latent_1": np.array(names)[one], "latent_2": np.array(names)[other],
                          "genetic_correlation": 0.3, "genetic_correlation_error": 0.1,
                          "phenotypic_correlation": 0.2})  # fmt: skip
    pairs.to_csv(folder / "genetic_correlation_pairs.tsv", sep="\t", index=False)


class Elements(HTMLParser):
    """Elements and visible text of a page, as a browser splits it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


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


def check_safe(elements: Elements) -> None:
    """Nothing that runs but the one script, nothing from outside, no id twice, all figures told."""
    identifiers = [a["id"] for _, a in elements.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    scripts = [a for a in elements.all("script") if a.get("type") != "application/json"]
    assert scripts == [{}]
    for name, attributes in elements.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
        for key in ("src", "href", "action", "srcset", "data", "formaction"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/", "data:text/tab-sep"))
        assert name not in {"iframe", "object", "embed", "link", "base", "form", "foreignobject"}
    assert all(image["alt"] for image in elements.all("img"))
    targets = {a["href"][1:] for a in elements.all("a") if a["href"].startswith("#")}
    assert targets <= set(identifiers)


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
    assert word not in page._asset("report.js")
    assert word not in page._asset("report.css")


def test_downloads_are_the_tables(written, study, elements):
    links = {a["download"]: a["href"] for a in elements.all("a") if "download" in a}
    import io

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


def test_same_inputs_make_the_same_page(study, tmp_path):
    once, again = (
        imgwas.write_report(study / "results", tmp_path / f"{i}.html").read_bytes() for i in "ab"
    )
    assert once == again


# ---- people -------------------------------------------------------------------------------------


def test_no_id_of_a_person_is_in_the_page(study, tmp_path):
    log = study / "results" / "log-1.txt"
    one = people()[3]
    log.write_text(
        "2026-01-01T00:00:00Z DEBUG   host     bighost, Linux\n"
        f"2026-01-01T00:00:00Z WARNING {one} is odd\n"
        "2026-01-01T00:00:00Z INFO    read /home/me/secret/cohort.bed\n"
        "2026-01-01T00:00:00Z INFO    done in 2.5 s, peak memory 10 MB\n"
    )
    try:
        path = imgwas.write_report(
            study / "results", tmp_path / "r.html", latents=study / "latents.parquet"
        )
    finally:
        log.unlink()
    text = path.read_text(encoding="utf-8")
    words = set(re.findall(r"person\d+", text))
    assert words == set()
    assert f"****{one[-3:]} is odd" in text
    assert "secret" not in text
    assert "bighost" not in text
    assert "2.5 s" in text


def test_mask_leaves_other_words_alone():
    mask = Mask(frozenset({"1000017"}))
    assert mask.text("1000017, x1000017 and 10000170") == "****017, x1000017 and 10000170"
    assert mask.text("--bfile /data/a/cohort 5e-8/24") == "--bfile …/cohort 5e-8/24"


# ---- names that try to run ----------------------------------------------------------------------


def test_hostile_names_are_text(hostile_page):
    elements = Elements(hostile_page.read_text(encoding="utf-8"))
    check_safe(elements)
    shown = "".join(elements.text)
    found = imgwas.open_sumstats(hostile_page.parent / "results").top()
    present = set(found["variant_id"]) & set(HOSTILE)
    assert len(present) >= 2
    for name in [*present, LATENT]:
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


# ---- numbers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["mean", "drop"])
def numbers(request, study, tmp_path_factory):
    """The passes over two scans: one degrees of freedom for all, and different ones."""
    if request.param == "mean":
        folder = study
    else:
        folder = make_study(tmp_path_factory.mktemp("drop"), hostile=False, missing_genotype="drop")
    sources = open_sources(folder / "results")
    return sources.sumstats, page.read_study(sources)


def test_genome_is_the_best_latent_of_every_variant(numbers):
    sumstats, study = numbers
    best = sumstats.best_latent()
    np.testing.assert_allclose(study.genome.best, best["neg_log_10_p_value"], rtol=1e-6)
    names = np.array([*sumstats.latents, ""], object)[study.genome.latent]
    assert list(names) == list(best["latent"])
    chromosome = [study.genome.names[i] for i in study.genome.chromosome]
    assert chromosome == [str(c) for c in best["chromosome"]]


def test_latents_have_the_control_and_top_of_the_scan(numbers):
    sumstats, study = numbers
    control = sumstats.lambda_gc()
    ids = sumstats.variants(["variant_id"])["variant_id"]
    for one in study.latents:
        p = sumstats.neg_log10_p(one.name)
        assert one.lambda_gc == pytest.approx(control[one.name], rel=1e-12)
        assert one.top_neg_log10_p == pytest.approx(np.nanmax(p), rel=1e-9)
        assert study.names[one.top_row] == ids[int(np.nanargmax(p))]
        assert one.n_tested == np.isfinite(p).sum()


def test_qq_points_are_ranks_of_the_scan(numbers):
    sumstats, study = numbers
    for one in study.latents[:2]:
        p = sumstats.neg_log10_p(one.name)
        descending = np.sort(p[np.isfinite(p)])[::-1]
        ranks = np.rint(10.0**-one.expected * (len(descending) + 1)).astype(int)
        np.testing.assert_allclose(one.observed, descending[ranks - 1], rtol=1e-9)
        assert ranks[0] == 1
        assert ranks[-1] == len(descending)


def test_lead_statistics_are_those_of_the_scan(numbers):
    sumstats, study = numbers
    loci = study.sources.loci.table
    assert len(loci) >= 2
    for row in loci.itertuples():
        here = sumstats.region(row.chromosome, row.base_pair_location, row.base_pair_location)
        here = here[here["variant_id"] == row.lead_variant].set_index("latent")
        mine = study.leads[study.leads["variant_id"] == row.lead_variant].set_index("latent")
        for column in ("beta", "standard_error", "neg_log_10_p_value"):
            np.testing.assert_allclose(mine[column], here.loc[mine.index, column], rtol=1e-12)


def unpack(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_manhattan_points_are_the_variants(numbers):
    sumstats, study = numbers
    data = manhattan_data.manhattan_data(sumstats, study.genome, study.sources.loci.table, [])
    best = sumstats.best_latent().dropna()
    starts = {c["name"]: c["start"] for c in data["chromosomes"]}
    x = best["base_pair_location"] + best["chromosome"].astype(str).map(starts)
    layer = data["layers"][0]
    points = pd.DataFrame({"x": unpack(layer["x"], "<u4"), "y": unpack(layer["y"], "<f4"),
                           "latent": unpack(layer["latent"], "<i2")})  # fmt: skip
    assert points["x"].is_monotonic_increasing
    strong = best[best["neg_log_10_p_value"].astype(np.float32) >= 4]
    drawn = points[points["y"] >= 4]
    assert sorted(drawn["y"]) == sorted(strong["neg_log_10_p_value"].astype(np.float32))
    assert set(points["x"]) <= set(x.astype(np.uint32))
    named = unpack(layer["named"], "<u4")
    ids = dict(zip(x.astype(np.uint32), best["variant_id"], strict=True))
    assert [ids[points["x"][i]] for i in named] == layer["names"]
    assert list(named) == list(np.flatnonzero(points["y"] >= manhattan_data.NAMED_ABOVE))
    markers = {m["label"]: m for m in data["loci"]}
    for row in study.sources.loci.table.itertuples():
        assert (
            markers[row.lead_variant]["x"] == starts[str(row.chromosome)] + row.base_pair_location
        )


def test_too_many_strong_points_are_thinned_and_the_strongest_stays(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 3e9, 50_000), rng.uniform(3, 30, 50_000)
    everything = manhattan_data.thinned(x, y)
    monkeypatch.setattr(manhattan_data, "MOST_STRONG", 1000)
    monkeypatch.setattr(manhattan_data, "FINE_GRID", (50, 40))
    fewer = manhattan_data.thinned(x, y)
    assert len(fewer) < len(everything)
    assert set(fewer) <= set(everything)
    assert (y[fewer] >= 4).sum() <= 50 * 40 + 1
    assert y.argmax() in fewer


def test_passes_may_be_small(study, monkeypatch):
    sumstats = imgwas.open_sumstats(study / "results")
    whole = scan_numbers.read_latents(sumstats)
    monkeypatch.setattr(scan_numbers, "_BUDGET", 8 * sumstats.n_variants)
    for one, other in zip(whole, scan_numbers.read_latents(sumstats), strict=True):
        assert (one.name, one.lambda_gc, one.top_row) == (
            other.name,
            other.lambda_gc,
            other.top_row,
        )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (np.nan, ""), (3, "3"), (12345, "12,345"), (0.12345, "0.123"), (-12.3456, "-12.3"),
     (1e-7, "1.00e-7"), (2.5e8, "250,000,000"), (1.5e9 + 0.5, "1.50e9"), (True, "yes"),
     (np.False_, "no"), ("x", "x"), (999.96, "1,000")],
)  # fmt: skip
def test_numbers_can_be_read(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("nlp", "shown"), [(0.30103, "0.5"), (7.30103, "5.0e-8"), (411.5, "3.2e-412"), (np.nan, "")]
)
def test_p_values_of_any_size(nlp, shown):
    assert p_text(nlp) == shown


# ---- what may be absent, or wrong ---------------------------------------------------------------


def test_a_scan_without_loci_is_a_result(tmp_path):
    folder = tmp_path / "null"
    imgwas.simulate_cohort(folder, n_samples=80, n_variants=60, n_latents=1, n_causal=0, seed=1)
    imgwas.associate(
        imgwas.open_genotypes(folder / "cohort"), imgwas.read_latents(folder / "latents.parquet"),
        out=folder / "results",
    )  # fmt: skip
    path = imgwas.write_report(folder / "results", tmp_path / "r.html")
    text = path.read_text(encoding="utf-8")
    check_safe(Elements(text))
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


def test_a_map_name_cannot_lead_out_of_its_folder(study, tmp_path, monkeypatch):
    results = imgwas.open_sumstats(study / "results")
    lead = open_sources(study / "results").loci.table["lead_variant"][0]
    write_maps(tmp_path / "maps", results, [lead])
    (tmp_path / "maps" / "figures" / f"{lead}.png").rename(tmp_path / "out.png")
    about = json.loads((tmp_path / "maps" / "map.json").read_text())
    (tmp_path / "maps" / "map.json").write_text(json.dumps(about | {"maps": {lead: "../../out"}}))
    path = imgwas.write_report(study / "results", tmp_path / "r.html", maps=tmp_path / "maps")
    assert "Map of the change" not in path.read_text(encoding="utf-8")


def test_a_damaged_picture_is_named(study, tmp_path):
    results = imgwas.open_sumstats(study / "results")
    lead = open_sources(study / "results").loci.table["lead_variant"][0]
    write_maps(tmp_path / "maps", results, [lead])
    (tmp_path / "maps" / "figures" / f"{lead}.png").write_bytes(b"no picture")
    with pytest.raises(MalformedError, match="is no PNG picture"):
        imgwas.write_report(study / "results", tmp_path / "r.html", maps=tmp_path / "maps")


def test_command_line(study, tmp_path):
    result = command(
        "report", study / "results", "--bfile", study / "cohort", "--out", "r.html",
        "--title", "A & B", folder=tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.text
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in text
    assert "r² with the lead variant among 240 people" in text


# ---- in a browser -------------------------------------------------------------------------------


BOX = (
    "(({left, top, width, height}) => [left, top, width, height])"
    "(document.getElementById('manhattan-canvas').getBoundingClientRect())"
)


@pytest.fixture(scope="module")
def shown(written):
    with Browser() as window:
        window.go(written)
        window.until("document.documentElement.dataset.ready === 'yes'")
        yield window


@needs_browser
def test_nothing_goes_wrong_and_nothing_is_asked_for(written, shown):
    assert shown.problems == []
    assert shown.js("document.getElementById('script-errors').hidden")
    assert {url for url in shown.requests if not url.startswith("data:")} == {written.as_uri()}


@needs_browser
@pytest.mark.parametrize("width", [1280, 700])
def test_page_does_not_scroll_sideways(shown, width):
    shown.resize(width, 900)
    assert shown.js("document.documentElement.scrollWidth") <= width
    shown.resize(1280, 900)


@needs_browser
def test_a_click_on_a_title_sorts(shown):
    table = "document.querySelector('#latent-table table')"
    head = f"[...{table}.tHead.rows[0].cells].find(c => c.textContent === 'λ')"
    values = f"[...{table}.tBodies[0].rows].map(r => Number(r.cells[{head}.cellIndex].dataset.v))"
    for direction in ("ascending", "descending"):
        shown.js(f"{head}.firstElementChild.click()")
        assert shown.js(f"{head}.getAttribute('aria-sort')") == direction
        found = shown.js(values)
        assert found == sorted(found, reverse=direction == "descending")
    assert len(set(found)) == K


@needs_browser
def test_rows_are_opened_by_keyboard(shown):
    shown.js("document.querySelector('#locus-table td a').focus()")
    shown.press("Enter", 13)
    assert shown.js("[...document.querySelectorAll('details.panel[open]')].length") == 1
    shown.js("document.getElementById('panel-next').click()")
    assert shown.js("document.querySelector('details.panel[open]').id") == "locus-2"
    assert shown.js("document.activeElement.closest('details').id") == "locus-2"
    shown.js("document.getElementById('panel-close').click()")
    assert shown.js("document.querySelector('details.panel[open]')") is None


@needs_browser
def test_a_click_on_a_marker_opens_its_locus(shown, study):
    loci = imgwas.read_loci(study / "loci.tsv").table
    strongest = int(loci["neg_log_10_p_value"].argmax())
    shown.js("document.getElementById('manhattan').scrollIntoView()")
    box = shown.js(BOX)
    data = json.loads(shown.js("document.getElementById('manhattan-data').textContent"))
    marker = next(m for m in data["loci"] if m["panel"] == f"locus-{loci['locus'][strongest]}")
    share = marker["x"] / data["chromosomes"][-1]["end"]
    top = max(marker["y"][0], -np.log10(5e-8 / K)) * 1.06
    fold = [v if top <= 40 or v <= 20 else 20 + (v - 20) * 20 / (top - 20)
            for v in (marker["y"][0], top)]  # fmt: skip
    x = box[0] + 52 + share * (box[2] - 52 - 96)
    y = box[1] + 14 + (1 - fold[0] / fold[1]) * (box[3] - 14 - 34)
    shown.mouse("mouseMoved", x, y)
    tip = shown.js("document.getElementById('manhattan-tip').textContent")
    assert marker["label"] in tip
    shown.click(x, y)
    assert shown.js("document.querySelector('details.panel[open]').id") == marker["panel"]
    shown.js("document.getElementById('panel-close').click()")
    assert shown.problems == []


@needs_browser
def test_dragging_zooms_and_escape_shows_the_whole_genome(shown):
    picture = "document.getElementById('manhattan-canvas').toDataURL()"
    shown.js("document.getElementById('manhattan').scrollIntoView()")
    left, top, *_ = shown.js(BOX)
    whole = shown.js(picture)
    shown.drag(left + 200, top + 200, left + 300)
    zoomed = shown.js(picture)
    assert zoomed != whole
    shown.js("document.getElementById('manhattan-canvas').focus()")
    shown.press("ArrowRight", 39)
    assert shown.js(picture) not in (whole, zoomed)
    shown.press("Escape", 27)
    assert shown.js(picture) == whole
    assert shown.problems == []


@needs_browser
def test_hostile_names_do_nothing_in_a_browser(hostile_page):
    with Browser() as window:
        window.go(hostile_page)
        window.until("document.documentElement.dataset.ready === 'yes'")
        for row in range(window.js("document.querySelectorAll('tr[data-panel]').length")):
            window.js(f"document.querySelectorAll('tr[data-panel]')[{row}].click()")
        assert window.js("document.querySelectorAll('script').length") == 2
        assert window.js("document.querySelectorAll('img[src=x]').length") == 0
        assert window.problems == []


@needs_browser
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("<section ", "<script>window.x = 1</script><section ", "Content Security Policy"),
     ("<section ", "<img src=http://127.0.0.1:9/x.png><section ", "Content Security Policy"),
     ('"use strict";', '"use strict"; null.x;', "")],
)  # fmt: skip
def test_the_browser_would_notice(hostile_page, tmp_path, old, new, said):
    text = hostile_page.read_text(encoding="utf-8").replace(old, new, 1)
    broken = tmp_path / "broken.html"
    broken.write_text(text, encoding="utf-8")
    with Browser() as window:
        window.go(broken)
        window.until("document.readyState === 'complete'")
        window.js("1")
        assert window.problems
        assert said in window.problems[0]

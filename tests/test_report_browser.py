"""The page in a headless Chromium: no error, no request, and everything that moves, moves."""

from __future__ import annotations

import json

import numpy as np
import pytest

import imgwas
from imgwas.report import page
from imgwas.report.markup import escaped
from tests import browser
from tests.browser import Browser
from tests.report_study import K, hostile_page, shared_page, shared_study

needs_browser = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium is installed")
BOX = (
    "(({left, top, width, height}) => [left, top, width, height])"
    "(document.getElementById('manhattan-canvas').getBoundingClientRect())"
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
def test_hostile_names_do_nothing_in_a_browser(hostile):
    with Browser() as window:
        window.go(hostile)
        window.until("document.documentElement.dataset.ready === 'yes'")
        for row in range(window.js("document.querySelectorAll('tr[data-panel]').length")):
            window.js(f"document.querySelectorAll('tr[data-panel]')[{row}].click()")
        assert window.js("document.querySelectorAll('script').length") == 2
        assert window.js("document.querySelectorAll('img[src=x]').length") == 0
        assert window.problems == []


@needs_browser
def test_the_browser_would_notice(hostile, tmp_path):
    text = hostile.read_text(encoding="utf-8")
    broken = (
        ("<section ", "<script>window.x = 1</script><section ", "Content Security Policy"),
        ("<section ", "<img src=http://127.0.0.1:9/x.png><section ", "Content Security Policy"),
        ('"use strict";', '"use strict"; null.x;', "Content Security Policy"),
    )
    with Browser() as window:
        for old, new, said in broken:
            window.problems.clear()
            (tmp_path / "broken.html").write_text(text.replace(old, new, 1), encoding="utf-8")
            window.go(tmp_path / "broken.html")
            window.js("1")
            assert window.problems
            assert said in window.problems[0]
        assert window.js("window.x") is None


@needs_browser
def test_an_error_of_the_script_is_shown_and_noticed(hostile, tmp_path):
    script, style = page.asset("report.js"), page.asset("report.css")
    damaged = script.replace("followAddress();\n  document", "null.x;\n  document")
    assert damaged != script
    text = hostile.read_text(encoding="utf-8").replace(script, damaged)
    text = text.replace(escaped(page.policy(style, script)), escaped(page.policy(style, damaged)))
    (tmp_path / "damaged.html").write_text(text, encoding="utf-8")
    with Browser() as window:
        window.go(tmp_path / "damaged.html")
        assert not window.js("document.getElementById('script-errors').hidden")
        assert "Uncaught" in window.problems[0]

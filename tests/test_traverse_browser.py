"""The page of traversals in Chromium: sliders move pictures, hearts beat, names are text."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from imgwas.brain.decoding import Decoder
from imgwas.brain.directions import Direction
from imgwas.brain.traversal import Start, Walk, hearts_along
from imgwas.encoders.catalogue import create_encoder
from imgwas.report.traverse import write_traversals
from imgwas.simulate.heart import Heart, draw_heart
from tests import browser
from tests.browser import Browser

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium is installed")

HOSTILE = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
NAMES = ("wall", HOSTILE, "x" * 300)
PICTURE = "document.getElementById('picture')"


def place(grid):
    encoder = create_encoder("ae-1000", {"grid": ",".join(map(str, grid)), "latents": 3})
    return Decoder(encoder)


def walk(name, images, hearts=()):
    return Walk(Direction(name, np.ones(3), "SD", "latent"), (-2.0, 0.0, 2.0), images, hearts)


@pytest.fixture(scope="module")
def brain_page(tmp_path_factory):
    rng = np.random.default_rng(0)
    walks = []
    for number, name in enumerate(NAMES):
        images = np.zeros((3, 16, 18, 16), np.float32)
        images[:, 3:13, 3:15, 3:13] = 0.5 + 0.05 * rng.random((10, 12, 10))
        images[2, 5 + number : 8 + number, 6:9, 5:9] += 0.4
        walks.append(walk(name, images))
    path = tmp_path_factory.mktemp("page") / "brain.html"
    return write_traversals(path, walks, place((16, 18, 16)), Start(np.zeros(3), 64),
                            title=f"Of {HOSTILE}")  # fmt: skip


@pytest.fixture(scope="module")
def heart_page(tmp_path_factory):
    images = np.stack([
        draw_heart(Heart(9.0, 148.0, one, 0.75, (12.0, -24.0)), grid=64, n_frames=12)[0]
        for one in (0.45, 0.6, 0.7)
    ])  # fmt: skip
    walks = [walk("fraction", images, hearts_along(images, 1, 3.75)), walk("none", images)]
    path = tmp_path_factory.mktemp("page") / "heart.html"
    decoder = place((64, 64, 12))
    return write_traversals(path, walks, decoder, Start(np.zeros(3), 1), is_cine=True)


@pytest.fixture(scope="module")
def window():
    with Browser() as one:
        yield one


def opened(window, path):
    window.go(path)
    window.until("document.documentElement.dataset.ready === 'yes'")


def pixels(window):
    """Digest of what the canvas shows."""
    return hashlib.sha256(window.js(f"{PICTURE}.toDataURL()").encode()).hexdigest()


def waits_for(window, shown):
    window.until(f"{PICTURE}.dataset.shown === '{shown}'")


def test_a_slider_moved_by_keys_changes_the_picture(window, brain_page):
    opened(window, brain_page)
    seen = {pixels(window)}
    window.js("document.getElementById('slider-0').focus()")
    window.press("ArrowRight", 39)
    waits_for(window, "0/2/0/false")
    seen.add(pixels(window))
    assert window.js("document.getElementById('amount-0').textContent") == "+2 SD"
    assert (
        window.js("document.getElementById('slider-0').getAttribute('aria-valuetext')") == "+2 SD"
    )
    window.js("document.getElementById('difference').click()")
    waits_for(window, "0/2/0/true")
    seen.add(pixels(window))
    assert not window.js("document.getElementById('legend').hidden")
    window.js("document.getElementById('slider-2').focus()")
    window.press("ArrowRight", 39)
    waits_for(window, "2/2/0/true")
    seen.add(pixels(window))
    assert len(seen) == 4
    # the other slider went back
    assert window.js("document.getElementById('slider-0').value") == "1"
    window.js("document.getElementById('reset').click()")
    waits_for(window, "2/1/0/true")


def test_nothing_goes_wrong_and_names_are_text(window, brain_page, heart_page):
    window.requests.clear()  # of other tests
    window.problems.clear()
    opened(window, brain_page)
    assert window.js("window.broken") is None
    labels = "[...document.querySelectorAll('.row label')].map(one => one.textContent)"
    assert tuple(window.js(labels)) == NAMES
    assert HOSTILE in window.js("document.querySelector('h1').textContent")
    assert window.js("document.getElementById('script-errors').hidden")
    for width in (1280, 500):
        window.resize(width, 900)
        assert window.js("document.documentElement.scrollWidth") <= width
    window.resize(1280, 900)
    opened(window, heart_page)
    assert window.problems == []
    asked = {url for url in window.requests if not url.startswith("data:")}
    assert asked <= {brain_page.as_uri(), heart_page.as_uri()}


def test_a_heart_beats_and_its_curves_follow(window, heart_page):
    opened(window, heart_page)
    assert window.js("document.getElementById('one-person') !== null")
    first = window.js(f"{PICTURE}.dataset.shown")
    window.until(f"{PICTURE}.dataset.shown !== '{first}'")
    window.js("document.getElementById('play').click()")
    assert window.js("document.getElementById('play').textContent") == "Play"
    window.js("document.getElementById('systole').click()")
    frame = window.js("Number(document.getElementById('frame').value)")
    waits_for(window, f"0/1/{frame}/false")
    systole = pixels(window)
    told = "document.getElementById('told').textContent"
    before = window.js(told)
    circle = "document.querySelector('#pump circle').getAttribute('cy')"
    height = window.js(f"Number({circle})")
    window.js("(s => { s.value = '2'; s.dispatchEvent(new Event('input')); })"
              "(document.getElementById('slider-0'))")  # fmt: skip
    waits_for(window, f"0/2/{frame}/false")
    assert pixels(window) != systole
    assert "ejection fraction" in before
    fraction = [
        int(text.split("ejection fraction ")[1].split(" ")[0]) for text in (before, window.js(told))
    ]
    assert fraction[1] > fraction[0]
    assert window.js(f"Number({circle})") < height  # higher on the chart
    window.js("document.getElementById('slider-1').focus()")
    window.until("document.getElementById('charts').hidden")
    window.js("document.getElementById('slider-0').focus()")
    window.until("!document.getElementById('charts').hidden")
    assert window.problems == []


def test_an_error_of_the_script_is_told_and_noticed(window, brain_page, tmp_path):
    torn = tmp_path / "torn.html"
    torn.write_text(brain_page.read_text().replace('id="walks">{', 'id="walks">{{'))
    window.go(torn)
    window.until("!document.getElementById('script-errors').hidden")
    assert window.problems
    window.problems.clear()

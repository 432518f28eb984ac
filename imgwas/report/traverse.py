"""A page with a slider for every direction of latent space: what moves when a latent moves.

One HTML file that needs no network: pictures are rendered before, and lie in the file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgwas.brain.decoding import Decoder
from imgwas.brain.heart_function import HeartFunction
from imgwas.brain.traversal import Start, Walk
from imgwas.errors import InconsistentError, UsageError, explain
from imgwas.files import publish
from imgwas.plots.panels import signed_number
from imgwas.report.markup import Html, data_block, tag
from imgwas.report.page import MOST_BYTES, asset, document
from imgwas.report.traverse_pictures import Drawn, address_of, colour_strip, draw_walk

logger = logging.getLogger(__name__)

#: Qualities of pictures, tried one after the other until the page is small enough.
QUALITIES = (85, 70, 50, 30)


def write_traversals(
    path: str | Path,
    walks: Iterable[Walk],
    decoder: Decoder,
    start: Start,
    *,
    title: str = "Latent traversals",
    is_cine: bool = False,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write walks along directions as one page with a slider for each.

    The picture in the middle of every slider is the start: the average of many people, unless a
    single person was asked for, and then the page says so first. Names are escaped, nothing of
    the page runs but its own script, and nothing is asked of the network.

    Parameters
    ----------
    path : path
        File to write, such as ``page.html``.
    walks : iterable of Walk
        From :func:`imgwas.brain.traversal.walk_along`; drawn one after the other.
    decoder : Decoder
        That made them.
    start : Start
        Where they begin.
    title : str
        Heading.
    is_cine : bool
        Their last axis is time: hearts are played.
    about : mapping of str to str, optional
        Facts for the foot of the page, such as the encoder.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If there are no walks, or the page would be too large however coarse its pictures are.
    InconsistentError
        If two walks have other amounts.
    """
    drawn: list[tuple[Walk, Drawn]] = []
    for walk in walks:
        if drawn and walk.amounts != drawn[0][0].amounts:
            raise InconsistentError(explain("two walks of one page have other amounts"))
        light = Walk(walk.direction, walk.amounts, walk.images[:0], walk.hearts)
        drawn.append((light, draw_walk(walk, decoder.affine, decoder.mask, is_cine=is_cine)))
    if not drawn:
        raise UsageError(explain("there is nothing to walk along", do="Name latents or directions"))
    path = Path(path)
    text = _fitting(drawn, start, title, is_cine, about or {})
    with publish(path) as stream:
        stream.write(text)
    logger.info("wrote %s: %.1f MB, %d directions", path, len(text) / 1e6, len(drawn))
    return path


def _fitting(
    drawn: list[tuple[Walk, Drawn]], start: Start, title: str, is_cine: bool,
    about: Mapping[str, str],
) -> bytes:  # fmt: skip
    """Make the page with the finest pictures that fit."""
    for quality in QUALITIES:
        first = sum(len(one) for one in _addresses(drawn[0][1], quality))
        if first * len(drawn) > MOST_BYTES and quality != QUALITIES[-1]:
            continue
        text = _page(drawn, start, title, is_cine, about, quality).encode("utf-8")
        if len(text) <= MOST_BYTES:
            return text
    raise UsageError(
        explain(
            f"the page would have {len(text) / 1e6:.0f} MB",
            expected=f"At most {MOST_BYTES / 1e6:.0f}, or mail programs refuse it",
            do="Give fewer directions or --steps",
        )
    )


def _addresses(one: Drawn, quality: int) -> list[str]:
    return [address_of(picture, quality) for picture in (*one.plain, *one.changes)]


def _page(
    drawn: list[tuple[Walk, Drawn]], start: Start, title: str, is_cine: bool,
    about: Mapping[str, str], quality: int,
) -> str:  # fmt: skip
    walks = [_walk_data(walk, one, quality) for walk, one in drawn]
    amounts = list(drawn[0][0].amounts)
    content = {"amounts": amounts, "middle": drawn[0][0].middle, "walks": walks, "cine": is_cine}
    style, script = asset("traverse.css"), asset("traverse.js")
    body = tag(
        "body",
        tag("header", tag("h1", title), _subtitle(start, len(drawn), amounts)),
        tag("main",
            tag("p", id="script-errors", role="alert", hidden=True, class_="warnings"),
            tag("noscript", tag("p", "This page needs JavaScript to move.", class_="warnings")),
            tag("div", tag("div", _stage(drawn[0][1], is_cine), class_="stage"),
                _sliders(walks, amounts, drawn[0][0].middle), class_="board"),
            _facts(start, about)),
        data_block("walks", content),
        Html(f"<script>{script}</script>"),
    )  # fmt: skip
    return document(title, body, style, script)


def _walk_data(walk: Walk, one: Drawn, quality: int) -> dict[str, Any]:
    """What the script needs of a walk."""
    addresses = _addresses(one, quality)
    n = len(walk.amounts)
    return {
        "name": _readable(walk.direction.name), "kind": walk.direction.kind,
        "plain": addresses[:n], "changes": addresses[n:], "tile": list(one.tile),
        "columns": one.columns, "frames": one.frames, "limit": f"{one.limit:.3g}",
        "place": one.place, "hearts": [_heart_data(heart) for heart in walk.hearts],
    }  # fmt: skip


def _heart_data(heart: HeartFunction | None) -> dict[str, Any] | None:
    if heart is None:
        return None
    wall = None if not np.isfinite(heart.wall) else round(heart.wall, 2)
    return {
        "ef": round(heart.ejection_fraction, 4), "wall": wall, "diastole": heart.diastole,
        "systole": heart.systole, "volume": [round(float(v), 1) for v in heart.volume],
    }  # fmt: skip


def _readable(name: str) -> str:
    """A name that JSON and a page can hold: bytes of a damaged file become a mark."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _subtitle(start: Start, n: int, amounts: list[float]) -> Html:
    ends = f"{signed_number(amounts[0])} to {signed_number(amounts[-1])}"
    if start.n_people == 1:
        return tag(
            "p", tag("strong", "Pictures of one person. "),
            "Every step shows the brain or heart of a single participant, from whom it may be "
            "recognised: do not pass this page on.", class_="warnings", id="one-person",
        )  # fmt: skip
    return tag(
        "p", f"{n} directions of latent space, {ends} standard deviations of people, from the "
        f"average of {start.n_people:,} people.", class_="kind",
    )  # fmt: skip


def _stage(first: Drawn, is_cine: bool) -> list[Html]:
    """Canvas, tools and, for hearts, two charts."""
    width, height = first.tile
    canvas = tag("canvas", id="picture", role="img", width=2 * width, height=2 * height,
                 aria_label="Picture of the chosen step")  # fmt: skip
    tools = [tag("label", tag("input", type="checkbox", id="difference"), " Difference from 0 SD")]
    if is_cine:
        tools += [
            tag("button", "Pause", type="button", id="play"),
            tag("label", "Frame ", tag("input", type="range", id="frame", min=0,
                                       max=first.frames - 1, step=1, value=0), class_="frame"),
            tag("button", "End of diastole", type="button", id="diastole", hidden=True),
            tag("button", "End of systole", type="button", id="systole", hidden=True),
        ]  # fmt: skip
    tools.append(tag("button", "All to 0", type="button", id="reset"))
    legend = tag("p", tag("span", id="low"), tag("img", src=colour_strip(), alt="Colours",
                 width=180, height=10), tag("span", id="high"), id="legend", class_="legend",
                 hidden=True)  # fmt: skip
    parts = [canvas, tag("p", id="told", role="status", aria_live="polite"),
             tag("div", tools, class_="tools"), legend]  # fmt: skip
    if is_cine:
        parts.append(tag("div", _chart("beat", "Volume over the beat (ml, proxy)"),
                         _chart("pump", "Ejection fraction along the slider (proxy)"),
                         id="charts", class_="charts", hidden=True))  # fmt: skip
    return parts


def _chart(name: str, caption: str) -> Html:
    drawing = tag("svg", id=name, viewBox="0 0 320 150", role="img", aria_label=caption)
    return tag("figure", tag("figcaption", caption), drawing)


def _sliders(walks: list[dict[str, Any]], amounts: list[float], middle: int) -> Html:
    """One slider a direction."""
    rows = []
    for number, walk in enumerate(walks):
        key = f"slider-{number}"
        rows.append(
            tag("div", tag("label", walk["name"], for_=key),
                tag("output", "0 SD", id=f"amount-{number}", for_=key),
                tag("input", type="range", id=key, class_="slider", data_walk=number, min=0,
                    max=len(amounts) - 1, step=1, value=middle, aria_valuetext="0 SD"),
                class_="row")
        )  # fmt: skip
    note = tag("p", "One direction moves at a time: the others go back to 0.", class_="note")
    return tag("fieldset", tag("legend", "Directions"), note, *rows, class_="sliders")


def _facts(start: Start, about: Mapping[str, str]) -> Html:
    of = "one person" if start.n_people == 1 else f"the average of {start.n_people:,} people"
    facts = {"Start": of, **about}
    rows = [tag("div", tag("dt", key), tag("dd", value)) for key, value in facts.items()]
    return tag("footer", tag("dl", *rows, class_="facts"))

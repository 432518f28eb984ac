"""Bars of one variant over all latents, as a small drawing inside the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.report.markup import Html, join, tag
from imgwas.report.tables import number, p_text

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 190, 44, 18, 16
#: Latents that are named above their bars.
NAMED = 5


def latent_bars(statistics: pd.DataFrame, threshold: float) -> Html:
    """Draw -log10 P of one variant for every latent, coloured by the sign of its effect.

    Parameters
    ----------
    statistics : DataFrame
        ``latent``, ``beta``, ``neg_log_10_p_value``, in the order of the latents.
    threshold : float
        -log10 P of the line.
    """
    values = statistics["neg_log_10_p_value"].fillna(0).to_numpy(float)
    top = max(float(values.max()), threshold) * 1.08
    inner = HEIGHT - BOTTOM - TOP
    step = (WIDTH - LEFT) / len(values)
    wide = float(np.clip(step * 0.8, 0.6, 40))
    strongest = set(np.argsort(-values, kind="stable")[:NAMED].tolist())
    drawn: list[Html] = []
    rows = zip(statistics["latent"], statistics["beta"], values, strict=True)
    for place, (name, beta, value) in enumerate(rows):
        height = value / top * inner
        x, y = LEFT + place * step, HEIGHT - BOTTOM - height
        said = f"{name}: beta {number(beta)}, P {p_text(value)}"
        drawn.append(
            tag("rect", tag("title", said), x=f"{x:.1f}", y=f"{y:.1f}",
                width=f"{wide:.2f}", height=f"{max(height, 0.5):.1f}",
                class_="up" if beta >= 0 else "down")
        )  # fmt: skip
        if place in strongest and value >= threshold:
            drawn.append(_label(str(name), min(max(x + wide / 2, LEFT + 20), WIDTH - 20), y - 3))
    line = HEIGHT - BOTTOM - threshold / top * inner
    frame = [
        tag("line", x1=LEFT, x2=WIDTH, y1=f"{line:.1f}", y2=f"{line:.1f}", class_="limit"),
        tag("line", x1=LEFT, x2=WIDTH, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"),
        *_ticks(top, inner),
        tag("text", f"{len(values)} latents, in order", x=LEFT, y=HEIGHT - 4, class_="small"),
    ]
    best = statistics.iloc[int(values.argmax())]
    alt = (f"Bars of -log10 P over {len(values)} latents; highest {best['latent']} at "
           f"{values.max():.1f}")  # fmt: skip
    return tag("svg", join([*frame, *drawn]), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
               aria_label=alt, class_="bars")  # fmt: skip


def _label(name: str, x: float, y: float) -> Html:
    short = name if len(name) <= 14 else f"{name[:13]}…"
    return tag("text", short, x=f"{x:.1f}", y=f"{max(y, 9):.1f}", text_anchor="middle",
               class_="small")  # fmt: skip


def _ticks(top: float, inner: float) -> list[Html]:
    steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)
    step = next((s for s in steps if top / s <= 5), 10_000)
    marks = []
    for value in np.arange(0, top, step):
        y = HEIGHT - BOTTOM - value / top * inner
        marks.append(tag("text", f"{value:g}", x=LEFT - 6, y=f"{y + 3:.1f}", text_anchor="end",
                         class_="small"))  # fmt: skip
    title = tag("text", "-log10 P", x=0, y=TOP - 5, class_="small")
    return [*marks, title]

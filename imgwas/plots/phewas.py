"""One locus over all latents: bars upwards where the allele raises the latent, else downwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgwas.checks import check_option
from imgwas.errors import DegenerateError, MalformedError, explain
from imgwas.plots.labels import counted, label_lane, power_text
from imgwas.plots.manhattan import GENOME_WIDE, Break
from imgwas.plots.matrix import shortened
from imgwas.plots.panels import inches
from imgwas.plots.region_table import DECREASE, INCREASE, need_columns
from imgwas.plots.style import RC, own_axes, root_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def phewas(
    table: pd.DataFrame,
    *,
    label: str = "latent",
    study_wide: float | None = None,
    order: str = "given",
    labels: int = 20,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw -log10 P of one variant for every latent, with the sign of the effect.

    Parameters
    ----------
    table : DataFrame
        One variant: rows of :func:`lead_effects` of one locus, or of
        :func:`imgwas.associate_traits`: ``beta``, ``neg_log_10_p_value`` and the names.
    label : str, default "latent"
        Column of the names; ``trait`` for traits.
    study_wide : float, optional
        Largest P of the dashed line; 5e-8 over the number of bars by default.
    order : {"given", "p"}
        As in the table, or the strongest first.
    labels : int, default 20
        Bars to name beyond the dashed line, the strongest; what is not named is counted.
    title : str, optional
        Written above; the ``name`` of the locus by default.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        A bar far above all others breaks the axis.
    """
    import matplotlib as mpl

    check_option("order", order, ["given", "p"])
    rows = _checked(table, label)
    if order == "p":
        rows = rows.sort_values("neg_log_10_p_value", ascending=False, kind="stable")
    nlp = rows["neg_log_10_p_value"].to_numpy(float)
    sign = np.where(rows["beta"].to_numpy(float) < 0, -1.0, 1.0)
    limit = study_wide or GENOME_WIDE / len(rows)
    breaks = Break.choose(nlp, np.argsort(-nlp, kind="stable"), None)
    if title is None and "name" in rows and len(set(rows["name"])) == 1:
        title = str(rows["name"].iloc[0])
    with mpl.rc_context(RC):
        ax = own_axes(ax, height=2.4)
        height = breaks.shown(nlp)
        passing = nlp >= -np.log10(limit)
        colours = np.where(sign > 0, INCREASE, DECREASE)
        for strong in (True, False):
            here = np.flatnonzero(passing == strong)
            ax.bar(here, (sign * height)[here], color=colours[here], width=0.82,
                   alpha=1.0 if strong else 0.45, linewidth=0)  # fmt: skip
        _lines(ax, breaks, limit, sign)
        _frame(ax, breaks, nlp, sign, limit)
        named = np.flatnonzero(passing)
        named = named[np.argsort(-nlp[named], kind="stable")]
        room = _name(ax, [str(name) for name in rows[label]], named, sign * height, labels)
        words = (
            f"{counted(len(rows), label)}, {int(passing.sum()):,} beyond P = {power_text(limit)}"
        )
        ax.set_xlabel(words, labelpad=4 + room[-1])
        if title:
            ax.set_title(title, loc="left", pad=4 + room[1])
    return ax


def _checked(table: pd.DataFrame, label: str) -> pd.DataFrame:
    need_columns(table, [label, "beta", "neg_log_10_p_value"])
    twice = table.duplicated([label])
    if twice.any():
        raise MalformedError(
            explain(f"{label} {table.loc[twice, label].iloc[0]!r} occurs more than once",
                    expected=f"One row a {label}: one variant",
                    do="Choose a locus, such as table[table['locus'] == 1]")
        )  # fmt: skip
    rows = table[table["neg_log_10_p_value"].notna()]
    if rows.empty:
        raise DegenerateError(f"the variant was tested for no {label}.")
    values = rows["neg_log_10_p_value"].to_numpy(float)
    if np.isinf(values).any() or (values < 0).any():
        raise MalformedError(
            explain("a -log10 P is negative or infinite", expected="-log10 P that was never P")
        )
    return rows


def _lines(ax: Axes, breaks: Break, limit: float, sign: np.ndarray) -> None:
    ax.axhline(0, color="black", linewidth=0.6)
    for value, style in ((GENOME_WIDE, "-"), (limit, "--")):
        height = float(breaks.shown(np.array([-np.log10(value)]))[0])
        for side in np.unique(sign):
            ax.axhline(side * height, color="#777777", linewidth=0.6, linestyle=style, zorder=0)


def _frame(ax: Axes, breaks: Break, nlp: np.ndarray, sign: np.ndarray, limit: float) -> None:
    from matplotlib.ticker import MaxNLocator

    strictest = -np.log10(min(limit, GENOME_WIDE))
    least = 1.05 * float(breaks.shown(np.array([strictest]))[0])
    tops = [
        max(float(breaks.shown(nlp[sign == side]).max()), least) if (sign == side).any() else 0.0
        for side in (-1, 1)
    ]
    ax.set_ylim(-1.12 * tops[0], 1.12 * tops[1])
    ax.set_xlim(-0.8, len(nlp) - 0.2)
    ax.set_xticks([])
    highest = min(breaks.at, breaks.top) if breaks.is_on else max(max(nlp), strictest)
    ticks = [v for v in MaxNLocator(5).tick_values(0, highest) if 0 <= v <= highest]
    if breaks.is_on:
        ticks.append(float(np.floor(breaks.top)))
    both = sorted({side * v for v in ticks for side in (-1, 1)})
    heights = [float(np.sign(v) * breaks.shown(np.array([abs(v)]))[0]) for v in both]
    low, high = ax.get_ylim()
    kept = [(h, v) for h, v in zip(heights, both, strict=True) if low <= h <= high]
    ax.set_yticks([h for h, _ in kept], [f"{abs(v):g}" for _, v in kept])
    for side in (-1, 1) if breaks.is_on else ():
        if low <= side * breaks.at * 1.03 <= high:
            ax.axhline(side * breaks.at * 1.03, color="white", linewidth=2.5, zorder=5)
    ax.set_ylabel("lowers      $-\\log_{10}P$      raises" if len(set(sign)) > 1
                  else r"$-\log_{10}P$")  # fmt: skip


def _name(
    ax: Axes, names: list[str], strongest: np.ndarray, height: np.ndarray, labels: int
) -> dict[int, float]:
    """Name bars in lanes above and below; return the room that each lane takes, in points."""
    chosen = strongest[:labels]
    tall = 72 * ax.get_position().height * inches(root_of(ax.figure))[1]
    room = {}
    for side in (-1, 1):
        own = chosen[np.sign(height[chosen]) == side]
        words = [shortened(names[i]) for i in own]
        label_lane(ax, own.astype(float), height[own], words, below=side < 0)
        room[side] = (0.06 * tall + 3.3 * max(map(len, words))) if words else 0.0
    if len(strongest) > len(chosen):
        ax.annotate(f"and {len(strongest) - len(chosen):,}\nmore", (1.003, 1),
                    xycoords="axes fraction", ha="left", va="top", fontsize=5.5,
                    color="#555555")  # fmt: skip
    return room

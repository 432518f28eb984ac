"""Prediction tables as bars, with a tick at the chance level of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from imgwas.errors import UsageError, explain
from imgwas.plots.style import COLOURS, RC, own_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def prediction_bars(
    table: pd.DataFrame, *, ax: Axes | None = None, metric: str = "accuracy",
    title: str | None = None,
) -> Axes:  # fmt: skip
    """Draw cross-validated scores as bars, a black tick at the chance level of each.

    Parameters
    ----------
    table : DataFrame
        What :func:`imgwas.prediction.predict_targets` returns.
    ax : Axes, optional
        Where to draw.
    metric : {"accuracy", "balanced_accuracy", "auc", "r2", "mae"}
        Which rows to draw. Whiskers are one standard deviation over folds; a hatched bar is a
        model that predicted the same for everybody.
    title : str, optional
        Written above.

    Returns
    -------
    Axes
    """
    import matplotlib as mpl

    rows = table[table["metric"] == metric]
    if rows.empty:
        raise UsageError(
            explain(f"the table has no rows of {metric!r}",
                    expected=f"One of {', '.join(dict.fromkeys(table['metric']))}")
        )  # fmt: skip
    groups = list(dict.fromkeys(_row_names(rows)))
    models = list(dict.fromkeys(rows["model"]))
    height = 0.8 / len(models)
    with mpl.rc_context(RC):
        ax = own_axes(ax, width=4.8, height=0.95 + 0.13 * len(groups) * (len(models) + 1))
        for name, (_, row) in zip(_row_names(rows), rows.iterrows(), strict=True):
            number = models.index(row["model"])
            place = groups.index(name) + height * (number - (len(models) - 1) / 2)
            _one_bar(ax, place, height, row, COLOURS[number % len(COLOURS)])
        ax.set_yticks(range(len(groups)), groups)
        ax.set_ylim(len(groups) - 0.45, -0.55)
        ax.tick_params(axis="y", length=0)
        lowest = float((rows["score"] - rows["score_sd"]).min())
        if metric == "r2":
            ax.axvline(0, color="black", linewidth=0.6)
            ax.set_xlim(left=max(min(lowest, 0) * 1.05, -1.0), right=1)
        elif metric != "mae":
            ax.set_xlim(0, 1)
        ax.set_xlabel(f"{_METRICS.get(metric, metric)}, mean and SD over folds")
        _legend(ax, models)
        if title:
            ax.set_title(title)
    return ax


_METRICS = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "auc": "AUC",
            "r2": "R²", "mae": "Mean absolute error (less is better)"}  # fmt: skip


def _row_names(rows: pd.DataFrame) -> list[str]:
    scheme = ["" if s == "-" else f", {s}" for s in rows["scheme"]]
    many = len(set(rows["features"])) > 1
    return [
        f"{target}{how}" + (f"\n{features}" if many else "")
        for target, how, features in zip(rows["target"], scheme, rows["features"], strict=True)
    ]


def _one_bar(ax: Axes, place: float, height: float, row: pd.Series, tone: str) -> None:
    hatch = "//////" if row["is_degenerate"] else None
    ax.barh(place, row["score"], height * 0.92, color="white" if hatch else tone, edgecolor=tone,
            hatch=hatch, linewidth=0.4, xerr=row["score_sd"], zorder=2,
            error_kw={"linewidth": 0.7, "ecolor": "#555555"})  # fmt: skip
    ax.plot([row["chance"]] * 2, [place - height / 2, place + height / 2], color="black",
            linewidth=1.6, solid_capstyle="butt", zorder=4)  # fmt: skip


def _legend(ax: Axes, models: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=COLOURS[i % len(COLOURS)], label=m)
                          for i, m in enumerate(models)]  # fmt: skip
    handles.append(Line2D([], [], color="black", linewidth=1.6, label="chance"))
    ax.legend(handles=handles, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0),
              ncols=3, handlelength=1, columnspacing=1)  # fmt: skip

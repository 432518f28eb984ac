"""Figures of traits draw what their tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from imgwas.errors import UsageError
from imgwas.plots import calibration_plot, decision_curves, forest, survival_curves, volcano
from imgwas.traits import calibration_curve, decision_curve, kaplan_meier, nelson_aalen

RNG = np.random.default_rng(1)


def curves_of(make):
    time = RNG.exponential(3, 90)
    event = RNG.random(90) < 0.5
    return {name: make(time[k::2], event[k::2]) for k, name in enumerate(("low", "high"))}


def associations(n=30):
    frame = pd.DataFrame({"trait": [f"t{i % 5}" for i in range(n)],
                          "latent": [f"z{i // 5}" for i in range(n)], "kind": "binary",
                          "beta": RNG.normal(0, 0.3, n)})  # fmt: skip
    frame["ci_low"], frame["ci_high"] = frame["beta"] - 0.2, frame["beta"] + 0.2
    frame["neg_log_10_p_value"] = (frame["beta"] / 0.1) ** 2 / 2
    frame["neg_log_10_p_bonferroni"] = (frame["neg_log_10_p_value"] - np.log10(20)).clip(lower=0)
    return frame


def test_survival_is_drawn_as_steps_from_one_with_people_at_risk():
    curves = curves_of(kaplan_meier)
    ax = survival_curves(curves, until=5.0)
    for line, curve in zip(ax.lines, curves.values(), strict=True):
        shown = curve[curve["time"] <= 5]
        np.testing.assert_array_equal(line.get_ydata()[:-1], shown["survival"])
        assert line.get_xdata()[-1] == 5
        assert line.get_drawstyle() == "steps-post"
    texts = [text.get_text() for text in ax.texts]
    assert texts[0] == "At risk"
    at_two = int((curves["low"]["time"] >= 2).to_numpy().argmax())
    assert f"{curves['low']['n_at_risk'].iloc[at_two]}" in texts
    assert ax.get_ylim()[1] == 1


def test_cumulative_hazards_start_at_zero_and_do_not_mix_with_survival():
    hazards = curves_of(nelson_aalen)
    ax = survival_curves(hazards, risk_table=False)
    assert ax.get_ylim()[0] == 0
    assert not ax.texts
    with pytest.raises(UsageError, match="all of survival or all of hazard"):
        survival_curves({**hazards, "x": curves_of(kaplan_meier)["low"]})


def test_a_forest_writes_ratios_and_cuts_long_intervals_with_an_arrow():
    table = associations(5).assign(beta=[0.2, -0.2, 0.1, 0.0, 0.3])
    table["ci_low"], table["ci_high"] = table["beta"] - 0.1, table["beta"] + 0.1
    table.loc[4, "ci_high"] = 9.0
    ax = forest(table, label="trait")
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"t{i}" for i in range(5)]
    assert ax.texts[0].get_text() == "1.22 (1.11 to 1.35)"
    assert ax.get_xlim()[1] < 3
    assert sum(line.get_marker() == ">" for line in ax.lines) == 1
    assert ax.get_xscale() == "log"
    with pytest.raises(UsageError, match="without effect"):
        forest(table, label="effect")


def test_a_volcano_names_what_passes_and_keeps_units_apart():
    table = associations()
    ax = volcano(table, labels=3)
    line = next(line for line in ax.lines if line.get_linestyle() == "--").get_ydata()[0]
    assert line == pytest.approx(-np.log10(0.05 / 20))
    passed = table[table["neg_log_10_p_value"] >= line]
    assert len(ax.texts) == min(3, len(passed)) > 0
    best = passed.loc[passed["neg_log_10_p_value"].idxmax()]
    assert f"{best['trait']}, {best['latent']}" in [text.get_text() for text in ax.texts]
    with pytest.raises(UsageError, match="several kinds"):
        volcano(table.assign(kind=["number", "binary"] * 15))


def test_calibration_and_decision_curves_show_their_tables():
    p = RNG.random(400) * 0.4
    y = (RNG.random(400) < p).astype(float)
    curve, decisions = calibration_curve(y, p), decision_curve(y, p)
    ax = calibration_plot({"model": curve})
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), curve["predicted"])
    ax = decision_curves({"model": decisions})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "treat no one", "treat everyone", "model",
    ]  # fmt: skip
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), decisions["net_benefit"])
    assert ax.get_xlim()[1] == pytest.approx(3 * y.mean())
    with pytest.raises(UsageError, match="0 curves"):
        decision_curves({})

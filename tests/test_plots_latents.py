"""Figures of latents: what is drawn, that names never touch, that nobody is shown unasked."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MalformedError,
    UsageError,
)
from imgwas.latents import (
    EigenSpectrum,
    eigen_spectrum,
    latent_correlation,
    variance_explained,
    visit_reliability,
)
from imgwas.plots.agreement import agreement_matrix, reliability_dots
from imgwas.plots.components import component_scatter
from imgwas.plots.latents import correlation_heatmap, nuisance_heatmap, spectrum
from imgwas.plots.prediction import prediction_bars
from imgwas.plots.style import new_axes, save_figure
from imgwas.types import Covariates
from tests.people import latents_of

N = 300
IDS = tuple(f"p{i:04d}" for i in range(N))


def people(k, seed=0, prefix="z"):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((N, 4)) @ rng.standard_normal((4, k))
    values += 2 * rng.standard_normal((N, k))
    return latents_of(IDS, None, [f"{prefix}{i:03d}" for i in range(k)], values)


def square(latents):
    names = list(latents.names)
    return pd.DataFrame(latent_correlation(latents), index=names, columns=names)


def nuisance(k):
    rng = np.random.default_rng(5)
    columns = rng.standard_normal((N, 4))
    names = ("age", "site1", "site2", "head_size_scaling_factor_2019")
    terms = ("age", "site", "site", names[3])
    return variance_explained(people(k), Covariates(columns, IDS, names, terms=terms))


def visits(k):
    return visit_reliability([people(k), _again(people(k))])


def _again(latents):
    noise = np.random.default_rng(9).standard_normal(latents.values.shape)
    return latents_of(IDS, None, latents.names, latents.values + noise)


def predictions(metric="accuracy"):
    rows = [
        {"target": target, "features": features, "scheme": scheme, "model": model,
         "metric": metric, "score": 0.5 + 0.1 * i, "score_sd": 0.02, "chance": 0.3 + 0.07 * i,
         "is_degenerate": i == 3}
        for target, scheme in (("sex", "-"), ("age in bins", "one-vs-rest"))
        for features in ("latents", "raw")
        for i, model in enumerate(["logistic regression", "random forest",
                                   "nearest neighbours", "decision tree"])
    ]  # fmt: skip
    return pd.DataFrame(rows)


def extents(ax, texts):
    ax.figure.draw_without_rendering()
    return [text.get_window_extent() for text in texts if text.get_text().strip()]


def overlapping(boxes):
    return sum(
        a.x0 + 0.5 < b.x1 and b.x0 + 0.5 < a.x1 and a.y0 + 0.5 < b.y1 and b.y0 + 0.5 < a.y1
        for a, b in itertools.combinations(boxes, 2)
    )


def is_inside(ax, boxes):
    whole = ax.figure.bbox
    return all(
        b.x0 > whole.x0 - 1 and b.x1 < whole.x1 + 1 and b.y0 > whole.y0 - 1 and b.y1 < whole.y1 + 1
        for b in boxes
    )


def in_view(ax, side):
    """Tick labels that are drawn: matplotlib keeps some beyond the ends of an axis."""
    ax.figure.draw_without_rendering()
    axis = getattr(ax, f"{side}axis")
    low, high = sorted(axis.get_view_interval())
    return [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]


DRAWN = {
    "correlation": lambda k, **more: correlation_heatmap(square(people(k)), **more),
    "clustered": lambda k, **more: correlation_heatmap(square(people(k)), cluster=True, **more),
    "nuisance": lambda k, **more: nuisance_heatmap(nuisance(k), **more),
    "reliability": lambda k, **more: reliability_dots(visits(k), **more),
    "spectrum": lambda k, **more: spectrum(eigen_spectrum(people(k)), **more),
}


@pytest.mark.parametrize("k", [3, 256])
@pytest.mark.parametrize("name", DRAWN)
def test_names_never_touch_and_stay_on_the_page(name, k):
    ax = DRAWN[name](k)
    for labels in (in_view(ax, "x"), in_view(ax, "y")):
        boxes = extents(ax, labels)
        assert overlapping(boxes) == 0
        assert len(boxes) >= 2
    texts = [*in_view(ax, "x"), *in_view(ax, "y"), ax.xaxis.label, ax.yaxis.label, ax.title]
    assert is_inside(ax, extents(ax, texts))


@pytest.mark.parametrize("k", [3, 256])
def test_names_fit_narrow_axes_that_were_given(k):
    ax = new_axes(width=2.2, height=2.2)
    assert correlation_heatmap(square(people(k)), ax=ax) is ax
    assert overlapping(extents(ax, ax.get_xticklabels())) == 0
    assert overlapping(extents(ax, ax.get_yticklabels())) == 0


def test_the_heatmap_shows_the_matrix():
    matrix = square(people(5))
    matrix.iloc[1, 2] = matrix.iloc[2, 1] = np.nan
    image = correlation_heatmap(matrix).images[0].get_array()
    np.testing.assert_allclose(image.filled(np.nan), np.abs(matrix.to_numpy()))
    signed = correlation_heatmap(matrix, absolute=False).images[0]
    np.testing.assert_allclose(signed.get_array().filled(np.nan), matrix.to_numpy())
    assert signed.get_clim() == (-1, 1)


def test_clustering_puts_a_group_side_by_side():
    rng = np.random.default_rng(1)
    factor = rng.standard_normal(N)
    values = rng.standard_normal((N, 12))
    group = [1, 5, 9]
    values[:, group] = factor[:, None] * [1, -1, 1] + 0.3 * values[:, group]
    latents = latents_of(IDS, None, [f"z{i}" for i in range(12)], values)
    ax = correlation_heatmap(square(latents), cluster=True)
    order = [text.get_text() for text in ax.get_xticklabels()]
    places = sorted(order.index(f"z{i}") for i in group)
    assert places[2] - places[0] == 2
    image = ax.images[0].get_array()
    assert image[places[0], places[2]] > 0.8
    assert [t.get_text() for t in ax.get_yticklabels()] == order


def test_the_spectrum_says_what_it_counts():
    data = EigenSpectrum(np.array([2.25, 1.5, 0.25, 0.0]), tuple("abcd"))
    ax = spectrum(data, title="T1")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), data.eigenvalues)
    assert ax.lines[2].get_xdata()[0] == pytest.approx(3.0)
    words = ax.get_title(loc="left")
    assert words.startswith("T1\n4 latents, 3.0 effective (Li and Ji), 3 components for 95 %")
    assert "1.67×10$^{-8}$" in words
    assert "(Galwey)" in spectrum(data, method="galwey").get_title(loc="left")


def test_nuisance_rows_are_terms_below_the_joint_r2():
    report = nuisance(6)
    ax = nuisance_heatmap(report, column="r2_unique")
    image = ax.images[0].get_array()
    joint = report.joint.set_index("latent")["r2"].sort_values(ascending=False)
    np.testing.assert_allclose(image[0], joint)
    np.testing.assert_allclose(image[1], report.matrix("r2_unique").loc[joint.index, "age"])
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["all together", "age", "site", "head_size_scaling…r_2019"]
    with pytest.raises(UsageError, match="column is 'r2'"):
        nuisance_heatmap(report, column="r2")


def test_cells_hold_five_people_and_the_axes_end_with_them():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((N, 2))
    values[0] = 1e4  # a person whose place would be told by the axes
    scores = latents_of(IDS, None, ["PC1", "PC2"], values)
    values[1] = [30, 30]
    ages = np.arange(N, dtype=float)
    ages[7] = np.nan
    for colour in (ages, None):
        clipped = latents_of(IDS, None, ["PC1", "PC2"], np.clip(values, -4, 40))
        ax = component_scatter(clipped, colour, label="age")
        assert ax.get_xlim()[1] < 30
        assert len(ax.collections[0].get_offsets()) < 200
    counts = component_scatter(clipped).collections[0].get_array()
    assert counts.min() >= 5
    means = component_scatter(clipped, ages, label="age").collections[0].get_array()
    assert means.min() > 0
    with pytest.raises(DegenerateError, match=r"no cell holds 5 people.*individuals=True"):
        component_scatter(
            latents_of(IDS[:9], None, scores.names, values[:9] * np.arange(9)[:, None])
        )


def test_points_of_people_are_drawn_when_asked_for():
    scores = people(2)
    ages = np.arange(N, dtype=float)
    ages[7] = np.nan
    points = component_scatter(scores, ages, label="age", individuals=True).collections[0]
    assert len(points.get_offsets()) == N - 1
    np.testing.assert_array_equal(points.get_array(), np.delete(ages, 7))
    plain = component_scatter(scores, individuals=True)
    assert len(plain.collections[0].get_offsets()) == N
    assert len(plain.figure.axes) == 1


def test_classes_are_means_and_ellipses():
    scores, sex = people(2), np.arange(N) % 2.0
    sex[:4] = 2.0  # four people of a class too small to show
    ax = component_scatter(scores, sex, label="sex", classes=("f", "m", "other"))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["f (148)", "m (148)"]
    centre = ax.lines[0]
    own = scores.values[sex == 0]
    np.testing.assert_allclose([centre.get_xdata()[0], centre.get_ydata()[0]], own.mean(axis=0))
    ellipse = np.array([ax.lines[1].get_xdata(), ax.lines[1].get_ydata()])
    away = ellipse - own.mean(axis=0)[:, None]
    distance = np.einsum("ij,ik,kj->j", away, np.linalg.inv(np.cov(own.T)), away)
    np.testing.assert_allclose(distance, 1)
    assert not ax.collections
    every = component_scatter(scores, sex, classes=("f", "m", "other"), individuals=True)
    assert sum(len(c.get_offsets()) for c in every.collections) == N
    assert is_inside(every, extents(every, every.get_legend().get_texts()))


def test_classes_beyond_the_colours_take_other_markers():
    classes = tuple("abcdefghij")
    ax = component_scatter(people(2), np.arange(N) % 10.0, classes=classes)
    looks = {
        (line.get_color(), line.get_marker()) for line in ax.lines if len(line.get_xdata()) == 1
    }
    assert len(looks) == 10
    assert {marker for _, marker in looks} == {"o", "^"}


def test_scatters_that_cannot_be():
    with pytest.raises(InconsistentError, match=r"shape \(300, 1\)"):
        component_scatter(people(1))
    with pytest.raises(InconsistentError, match=r"colour \(3,\)"):
        component_scatter(people(2), np.ones(3))
    with pytest.raises(UsageError, match=r"site has 29 classes\. At most 28"):
        component_scatter(people(2), np.zeros(N), label="site", classes=tuple(map(str, range(29))))
    with pytest.raises(DegenerateError, match="nobody has both components and the variable"):
        component_scatter(people(2), np.full(N, np.nan))


def test_agreement_writes_its_numbers():
    seeds = ["seed 1701", "seed 42", "s3"]
    data = pd.DataFrame([[1, 0.734, -0.001], [0.734, 1, 1.0], [-0.001, 1.0, 1]], seeds, seeds)
    ax = agreement_matrix(data, label="debiased CKA")
    assert [text.get_text() for text in ax.texts] == [".73", ".00", ".73", "1.00", ".00", "1.00"]
    assert ax.figure.axes[1].get_ylabel() == "debiased CKA"
    assert overlapping(extents(ax, [*ax.get_xticklabels(), *ax.get_yticklabels()])) == 0


def test_every_bar_has_its_chance_tick():
    table = predictions()
    ax = prediction_bars(table)
    bars = [patch for patch in ax.patches if patch.get_width() > 0]
    assert len(bars) == len(table)
    np.testing.assert_allclose(sorted(bar.get_width() for bar in bars), sorted(table["score"]))
    ticks = [line for line in ax.lines if line.get_linewidth() > 1.5]
    assert len(ticks) == len(table)
    chance_of = dict(zip(table["score"].round(9), table["chance"], strict=True))
    expected = sorted(
        (bar.get_y() + bar.get_height() / 2, chance_of[round(bar.get_width(), 9)]) for bar in bars
    )
    found = sorted((np.mean(tick.get_ydata()), tick.get_xdata()[0]) for tick in ticks)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert sum(bar.get_hatch() is not None for bar in bars) == 4
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["sex\nlatents", "sex\nraw", "age in bins, one-vs-rest\nlatents",
                     "age in bins, one-vs-rest\nraw"]  # fmt: skip
    assert overlapping(extents(ax, ax.get_yticklabels())) == 0
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend[-1] == "chance"
    assert is_inside(ax, extents(ax, [*ax.get_yticklabels(), *ax.get_legend().get_texts()]))


def test_bars_of_other_metrics():
    table = predictions("r2")
    table.loc[0, "score"] = -5.0
    assert prediction_bars(table, metric="r2").get_xlim() == (-1.0, 1)
    assert prediction_bars(predictions("mae"), metric="mae").get_xlim()[1] < 1
    one = predictions()[lambda rows: rows["features"] == "raw"]
    assert prediction_bars(one).get_yticklabels()[0].get_text() == "sex"
    with pytest.raises(UsageError, match=r"the table has no rows of 'f1'\. One of accuracy"):
        prediction_bars(predictions(), metric="f1")


def test_dots_stand_in_order_with_their_intervals():
    table = visits(7)
    ax = reliability_dots(table, kind="icc_3_1")
    ordered = table.sort_values("icc_3_1", ascending=False)
    dots = ax.lines[-1]
    np.testing.assert_allclose(dots.get_ydata(), ordered["icc_3_1"])
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, 0, 1], ordered["icc_3_1_low"])
    np.testing.assert_allclose(segments[:, 1, 1], ordered["icc_3_1_high"])
    assert [t.get_text() for t in ax.get_xticklabels()] == list(ordered["latent"])
    assert f"median {table['icc_3_1'].median():.2f}" in [t.get_text() for t in ax.texts]
    table.loc[2, "icc_2_1"] = np.nan
    assert len(reliability_dots(table).lines[-1].get_ydata()) == 6


def test_figures_of_nothing():
    with pytest.raises(MalformedError, match=r"the matrix has shape \(2, 3\)\. A square one"):
        correlation_heatmap(pd.DataFrame(np.ones((2, 3))))
    with pytest.raises(DegenerateError, match="no latent has an intraclass correlation"):
        reliability_dots(visits(2).assign(icc_2_1=np.nan))
    with pytest.raises(UsageError, match="kind is 'icc'"):
        reliability_dots(visits(2), kind="icc")
    assert issubclass(DegenerateError, ImgwasError)


def test_figures_repeat_byte_for_byte_and_leave_pyplot_alone(tmp_path):
    import matplotlib.pyplot as plt

    there = plt.get_fignums()  # left by other libraries in other tests
    for kind, name in (("pdf", "clustered"), ("png", "spectrum")):
        first, again = (
            save_figure(DRAWN[name](9).figure, tmp_path / f"{turn}.{kind}", dpi=60).read_bytes()
            for turn in "ab"
        )
        assert first == again, name
    assert plt.get_fignums() == there

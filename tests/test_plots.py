"""Figures: what is drawn, what overlaps, what is refused, and that bytes repeat."""

from __future__ import annotations

import itertools
import re
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.transforms import Bbox
from scipy import stats

import imgwas
from imgwas import plots
from imgwas.errors import DegenerateError, ImgwasError, MalformedError, UsageError
from imgwas.plots.qq import lambda_of, qq_band, qq_points
from imgwas.plots.thin import thin_points
from tests.cli_cohort import imgwas as command_line

HUMAN_MB = [249, 243, 198, 191, 181, 171, 159, 146, 141, 136, 135, 134, 115, 107, 103, 90, 81, 78,
            59, 63, 48, 51, 155]  # fmt: skip


def genome(n=30_000, *, seed=0, chromosomes=23, peaks=()):
    """A null genome with some peaks of given height."""
    rng = np.random.default_rng(seed)
    lengths = np.array(HUMAN_MB[:chromosomes]) * 1e6
    chromosome = rng.choice(chromosomes, n, p=lengths / lengths.sum()) + 1
    position = (rng.random(n) * lengths[chromosome - 1]).astype(np.int64) + 1
    nlp = rng.exponential(1 / np.log(10), n)
    for index, height in zip(rng.choice(n, len(peaks), replace=False), peaks, strict=True):
        nlp[index] = height
    order = np.lexsort((position, chromosome))
    return pd.DataFrame(
        {
            "chromosome": chromosome[order],
            "base_pair_location": position[order],
            "neg_log_10_p_value": nlp[order],
            "variant_id": [f"rs{100000 + i}" for i in order],
            "effect_allele_frequency": rng.random(n),
        }
    )


def boxes(ax, texts):
    """Where some texts are drawn, in pixels."""
    ax.figure.draw_without_rendering()
    return [last_line(text) for text in texts if text.get_text()]


def last_line(text):
    """Box of the last line: a label in a lower row has empty lines above it."""
    box = text.get_window_extent()
    height = box.height / (text.get_text().count("\n") + 1)
    return Bbox([[box.x0, box.y0], [box.x1, box.y0 + height]])


def overlapping(extents) -> int:
    """Pairs of boxes that share more than a pixel's edge."""
    return sum(
        a.x0 + 0.5 < b.x1 and b.x0 + 0.5 < a.x1 and a.y0 + 0.5 < b.y1 and b.y0 + 0.5 < a.y1
        for a, b in itertools.combinations(extents, 2)
    )


def lead_labels(ax):
    return [text for text in ax.texts if re.match(r"rs\d+", text.get_text())]


@pytest.mark.parametrize("n_peaks", [1, 5, 20, 45])
@pytest.mark.parametrize("clustered", [False, True])
def test_lead_labels_never_overlap(n_peaks, clustered):
    data = genome(peaks=np.linspace(9, 30, n_peaks))
    if clustered:  # all peaks on one short chromosome
        peaks = data["neg_log_10_p_value"] > 8
        data.loc[peaks, "chromosome"] = 21
        data.loc[peaks, "base_pair_location"] = np.arange(peaks.sum()) * 1_000_000 + 1_000_000
    ax = plots.manhattan(data, labels=n_peaks)
    labels = lead_labels(ax)
    assert len(labels) == n_peaks
    assert overlapping(boxes(ax, labels)) == 0


@pytest.mark.parametrize("width", [2.2, 3.5, 7.2])
@pytest.mark.parametrize("chromosomes", [22, 23])
def test_every_chromosome_label_is_legible(width, chromosomes):
    ax = plots.manhattan(genome(chromosomes=chromosomes), ax=plots.new_axes(width=width, height=2))
    labels = [t for t in ax.get_xticklabels() if t.get_text()]
    names = [t.get_text().strip() for t in labels]
    assert names == [*map(str, range(1, 23)), "X"][:chromosomes]
    assert overlapping(boxes(ax, labels)) == 0


def raster(ax) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(ax.figure)
    ax.figure.set_dpi(100)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def test_thinned_points_draw_the_same_picture(monkeypatch):
    """Every pixel that all points together would darken is dark."""
    data = genome(200_000)
    thinned = raster(plots.manhattan(data, labels=0))
    module = sys.modules["imgwas.plots.manhattan"]
    monkeypatch.setattr(module, "thin_points", lambda x, *_, **__: np.arange(len(x)))
    full = raster(plots.manhattan(data, labels=0))
    assert (np.abs(thinned - full).max(axis=2) > 60).mean() < 0.002


def test_thinning_keeps_all_that_matters_and_drops_the_rest():
    data = genome(1_000_000, peaks=[12.0])
    x = np.arange(1e6)
    y = data["neg_log_10_p_value"].to_numpy()
    kept = thin_points(x, y, keep_above=4.0)
    assert set(np.flatnonzero(y >= 4)) <= set(kept)
    assert len(kept) < 600_000
    low = y < 4
    cell = (x * 2400 / x.max()).astype(int) * 10_000 + (y / 4 * 100).astype(int)
    assert set(cell[low]) == set(cell[kept][y[kept] < 4]), "a cell of the page lost its only point"
    assert (np.diff(kept) > 0).all()


def test_a_giant_peak_breaks_the_axis_and_others_stay_visible():
    data = genome(peaks=[310.0, 12.0, 9.0])
    ax = plots.manhattan(data)
    top = ax.get_ylim()[1]
    assert top < 60, "the axis must not reach 310 on its own scale"
    ticks = [text.get_text() for text in ax.get_yticklabels()]
    assert any(float(t) > 290 for t in ticks)
    heights = ax.get_yticks()
    assert (np.diff(heights) > 0).all()
    plain = plots.manhattan(genome(peaks=[12.0, 9.0]))
    assert plain.get_ylim()[1] < 15


def test_the_study_wide_line_stands_at_five_e_minus_eight_over_k():
    ax = plots.aggregated_manhattan(genome(peaks=[15]), n_latents=128)
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata()[0] == pytest.approx(-np.log10(5e-8 / 128))
    assert "128 latents" in ax.get_ylabel()


def test_leads_are_the_peaks_of_their_loci():
    data = genome(peaks=[20.0])
    peak = data["neg_log_10_p_value"].idxmax()
    near = data.index[data["chromosome"] == data.loc[peak, "chromosome"]]
    near = near[np.abs(data.loc[near, "base_pair_location"] - data.loc[peak, "base_pair_location"])
                < 400_000]  # fmt: skip
    data.loc[near.drop(peak), "neg_log_10_p_value"] = 12.0
    labels = [t.get_text() for t in lead_labels(plots.manhattan(data))]
    assert labels == [data.loc[peak, "variant_id"]]


@pytest.mark.parametrize("n", [1, 10, 1000, 10_000_000])
def test_the_band_is_that_of_order_statistics(n):
    expected, low, high = qq_band(n)
    ranks = np.rint(10**-expected * (n + 1)).astype(int)
    for at in {0, len(ranks) // 2, len(ranks) - 1}:
        distribution = stats.beta(ranks[at], n + 1 - ranks[at])
        assert 10 ** -low[at] == pytest.approx(distribution.ppf(0.975), rel=1e-9)
        assert 10 ** -high[at] == pytest.approx(distribution.ppf(0.025), rel=1e-9)


def test_the_band_holds_95_percent_of_null_quantiles():
    rng = np.random.default_rng(0)
    expected, low, high = qq_band(500)
    ranks = np.rint(10**-expected * 501).astype(int)
    draws = np.sort(rng.random((2000, 500)), axis=1)[:, ranks - 1]
    inside = (-np.log10(draws) >= low) & (-np.log10(draws) <= high)
    assert inside.mean(axis=0) == pytest.approx(0.95, abs=0.025)


def test_lambda_is_that_of_chi_square_medians():
    rng = np.random.default_rng(1)
    z = rng.standard_normal(50_001) * 1.1
    nlp = -np.log10(stats.chi2.sf(z**2, 1))
    assert lambda_of(nlp) == pytest.approx(np.median(z**2) / stats.chi2.ppf(0.5, 1), rel=1e-6)


def test_qq_points_keep_the_tail_and_the_number_of_tests():
    nlp = np.sort(np.random.default_rng(0).exponential(1 / np.log(10), 100_000))[::-1]
    expected, observed = qq_points(nlp)
    assert (observed[:2000] == nlp[:2000]).all()
    assert expected[0] == pytest.approx(np.log10(100_001))
    assert len(expected) < 10_000


def test_qq_by_frequency_and_many_latents():
    data = genome()
    maf = np.minimum(data["effect_allele_frequency"], 1 - data["effect_allele_frequency"])
    ax = plots.qq(data["neg_log_10_p_value"].to_numpy(), maf=maf.to_numpy())
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert len(legend) == 4
    assert all("MAF" in t and "λ" in t for t in legend)
    rng = np.random.default_rng(0)
    ax = plots.qq_many({f"z{i}": rng.exponential(0.43, 5000) for i in range(40)})
    assert any("40 latents" in t.get_text() for t in ax.texts)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_data_gives_the_same_bytes(tmp_path, suffix):
    for name in "ab":
        ax = plots.manhattan(genome(3000, peaks=[11]))
        plots.save_figure(ax.figure, tmp_path / f"{name}.{suffix}")
    a, b = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert a == b


def test_text_is_text_and_points_are_one_image(tmp_path):
    ax = plots.manhattan(genome(30_000, peaks=[11]))
    path = plots.save_figure(ax.figure, tmp_path / "m.svg")
    svg = path.read_text()
    assert "<text" in svg
    assert ">22<" in svg
    assert svg.count("<image") >= 1
    assert svg.count("<use") < 200
    assert path.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.iloc[:1],
        lambda d: d[d["chromosome"] == 7],
        lambda d: d.sample(frac=1, random_state=0),
        lambda d: d.assign(chromosome=25),
        lambda d: d.assign(neg_log_10_p_value=np.where(d.index % 2, np.nan, 1.0)),
        lambda d: d.assign(neg_log_10_p_value=1000.0),
        lambda d: d.assign(neg_log_10_p_value=0.0),
    ],
    ids=["one variant", "one chromosome", "unsorted", "MT", "gaps", "P of 1e-1000", "P of 1"],
)
def test_odd_data_are_drawn(tmp_path, change):
    ax = plots.manhattan(change(genome(3000)))
    plots.save_figure(ax.figure, tmp_path / "m.png")
    assert ax.get_ylim()[1] > 5


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d.iloc[:0], DegenerateError),
        (lambda d: d.assign(neg_log_10_p_value=np.nan), DegenerateError),
        (lambda d: d.drop(columns="chromosome"), MalformedError),
        (lambda d: d.assign(neg_log_10_p_value=-1.0), MalformedError),
        (lambda d: d.assign(neg_log_10_p_value=np.inf), MalformedError),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, error):
    with pytest.raises(error):
        plots.manhattan(change(genome(300)))


def test_wrong_arguments_are_refused(tmp_path):
    ax = plots.manhattan(genome(300))
    with pytest.raises(UsageError, match=r"suffix '\.gif'"):
        plots.save_figure(ax.figure, tmp_path / "m.gif")
    with pytest.raises(ImgwasError, match="n_latents"):
        plots.aggregated_manhattan(genome(300), n_latents=0)
    with pytest.raises(MalformedError, match="maf has shape"):
        plots.qq(np.ones(5), maf=np.ones(4))
    with pytest.raises(DegenerateError, match="no variant has a P value"):
        plots.qq(np.full(5, np.nan))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    home = tmp_path_factory.mktemp("results")
    made = imgwas.simulate_cohort(
        home / "cohort", n_samples=200, n_variants=800, n_latents=3, n_causal=2, seed=1
    )
    imgwas.associate(
        imgwas.open_genotypes(made.bfile), imgwas.read_latents(made.latents), out=home / "results"
    )
    return home


@pytest.mark.parametrize(
    "words",
    [
        ("manhattan", "results", "--out", "a.pdf"),
        ("manhattan", "results", "--latent", "L001", "--out", "b.png", "--write-data", "b.tsv"),
        ("manhattan", "results", "--chr", "3", "--out", "c.svg"),
        ("qq", "results", "--out", "d.pdf"),
        ("qq", "results", "--latent", "L001", "--maf-strata", "--out", "e.png"),
    ],
)
def test_plots_on_the_command_line(results, words):
    done = command_line("plot", *words, folder=results)
    assert done.code == 0, done.text
    out = words[words.index("--out") + 1]
    assert (results / out).stat().st_size > 2000


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("manhattan", "nowhere", "--out", "a.pdf"), 3, "nowhere"),
        (("manhattan", "results", "--out", "a.gif"), 8, "suffix"),
        (("manhattan", "results", "--latent", "L9", "--out", "a.pdf"), 8, "L9"),
        (("manhattan", "results", "--chr", "99", "--out", "a.pdf"), 13, "99"),
        (("qq", "results", "--maf-strata", "--out", "a.pdf"), 8, "name it with --latent"),
    ],
)
def test_plots_that_cannot_be(results, words, code, message):
    done = command_line("plot", *words, folder=results)
    assert done.code == code, done.text
    assert message in done.text
    assert not (results / words[-1]).exists() or words[-1] == "a.pdf"

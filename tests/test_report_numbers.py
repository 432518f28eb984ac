"""Numbers of the page against those that the scan's own functions give."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.report import manhattan_data, page, scan_numbers
from imgwas.report.scan_numbers import read_genome
from imgwas.report.sources import open_sources
from imgwas.report.tables import number, p_text
from tests.report_study import make_study, shared_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return shared_study(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module", params=["mean", "drop"])
def numbers(request, study, tmp_path_factory):
    """The passes over two scans: one degrees of freedom for all, and different ones."""
    if request.param == "mean":
        folder = study
    else:
        drop = tmp_path_factory.mktemp("drop")
        folder = make_study(drop, hostile=False, missing_genotype="drop")
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


def test_omnibus_tests_are_made_where_the_scan_did_not(numbers, monkeypatch):
    sumstats, study = numbers
    monkeypatch.setattr(scan_numbers, "_omnibus_columns", lambda _: [])
    monkeypatch.setattr(scan_numbers, "_ROWS", 401)
    loci = study.sources.loci.table.rename(columns={"lead_variant": "variant_id"})
    genome, _ = read_genome(sumstats, loci, omnibus=True)
    expected = imgwas.omnibus(sumstats, tests=("combined", "joint", "minp"))
    for name in ("combined", "joint", "minp"):
        made = genome.omnibus[name]
        np.testing.assert_allclose(made, expected[f"omnibus.{name}"], rtol=1e-6)
        stored = sumstats.variants([f"omnibus.{name}"])[f"omnibus.{name}"]
        np.testing.assert_allclose(study.genome.omnibus[name], stored, rtol=1e-6)
    assert read_genome(sumstats, loci)[0].omnibus == {}

"""Figures of loci: what is read and counted is checked against slow oracles, layouts by boxes."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas import plots
from imgwas.errors import (
    DegenerateError,
    ImgwasError,
    InconsistentError,
    MalformedError,
    UsageError,
)
from imgwas.genetics.genes import Genes
from imgwas.plots.brisbane import signal_density
from imgwas.plots.chromosomes import chromosome_name, chromosome_numbers
from imgwas.plots.gene_track import MOST_LANES, genes_inside
from imgwas.plots.genome_points import COLUMNS, ROWS
from imgwas.plots.locus_heatmap import similar
from imgwas.plots.manhattan import find_leads
from imgwas.plots.regional import EDGES, LD_COLOURS, NO_LD, ImageStrip, ld_class
from tests.cli_cohort import imgwas as command_line
from tests.test_plots import boxes, genome, overlapping, raster

N_LATENTS = 4


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A scan with omnibus columns, X and a contig; its loci; the folder of its heritability."""
    home = tmp_path_factory.mktemp("study")
    made = imgwas.simulate_cohort(
        home / "cohort", n_samples=400, n_variants=1500, n_latents=N_LATENTS, n_causal=5,
        variance_explained=0.14, chromosomes=("1", "6", "X"), seed=4,
    )  # fmt: skip
    done = command_line(
        "associate", "--bfile", "cohort/cohort", "--latents", "cohort/latents.parquet",
        "--omnibus", "--genome-build", "GRCh38", "--out", "results", "--quiet", folder=home,
    )  # fmt: skip
    assert done.code == 0, done.text
    results = imgwas.open_sumstats(home / "results")
    genotypes = imgwas.open_genotypes(made.bfile)
    loci = imgwas.find_loci(results, genotypes)
    assert len(loci) >= 3
    loci.write(home / "loci.tsv")
    return home, results, genotypes, loci


def texts(ax):
    return [t.get_text() for t in ax.texts]


def everything(figure):
    """All words of a figure."""
    from matplotlib.text import Text

    return "\n".join(t.get_text() for t in figure.findobj(Text))


# --- chromosomes and points ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [(23, "X"), ("23", "X"), ("chrX", "X"), ("XY", "X"), (25, "MT"), ("chr7", "7"), (7, "7"),
     ("2L", "2L"), ("GL000192.1", "GL000192.1"), (0, "other"), ("0", "other")],
)  # fmt: skip
def test_a_chromosome_has_one_name(given, name):
    assert chromosome_name(given) == name


def test_chromosomes_are_in_the_order_of_the_genome_and_shared_by_tables():
    one = pd.Series(["10", "X", "2", "GL1", "9", None], dtype=object)
    (first, second), names = chromosome_numbers([one, pd.Series([23, 2, 0])])
    assert names == ("2", "9", "10", "X", "GL1", "other")
    assert [names[i] for i in first] == ["10", "X", "2", "GL1", "9", "other"]
    assert [names[i] for i in second] == ["X", "2", "other"]
    _, fly = chromosome_numbers([pd.Series(["X", "3R", "2L", "4", "2R", "3L"])])
    assert fly == ("2L", "2R", "3L", "3R", "4", "X")


def test_many_contigs_are_drawn_together():
    scaffolds = pd.Series(["1", *(f"scaffold_{i}" for i in range(100))])
    (numbers,), names = chromosome_numbers([scaffolds])
    assert names == ("1", "other")
    assert (numbers == [0] + [1] * 100).all()


@pytest.mark.parametrize("n", [1, 3, 1_000_001, 2_000_001])
def test_order_is_noticed_across_blocks(n):
    from imgwas.plots.genome import _is_sorted

    number, position = np.repeat([0, 1], [n // 2, n - n // 2]), np.arange(n)
    assert _is_sorted(number, position)
    for at in {i for i in (1, 999_999, 1_000_000, n - 1) if 0 < i < n}:
        wrong = position.copy()
        wrong[at] = wrong[at - 1] - 1
        assert _is_sorted(number, wrong) == (number[at] != number[at - 1])


def slow_leads(chromosome, position, nlp, limit, distance):
    taken = []
    for i in np.argsort(-nlp, kind="stable"):
        free = all(chromosome[i] != chromosome[j] or abs(position[i] - position[j]) >= distance
                   for j in taken)  # fmt: skip
        if nlp[i] >= limit and free:
            taken.append(i)
    return taken


@pytest.mark.parametrize("distance", [0.0, 1.0, 40.0, 1e9])
def test_leads_are_those_of_the_slow_way(distance):
    rng = np.random.default_rng(int(distance))
    chromosome, position = rng.integers(0, 3, 400), rng.integers(0, 900, 400).astype(float)
    nlp = np.round(rng.exponential(1, 400), 1)
    if distance == 0:  # nothing is near anything
        expected = np.flatnonzero(nlp >= 1)[np.argsort(-nlp[nlp >= 1], kind="stable")]
    else:
        expected = slow_leads(chromosome, position, nlp, 1.0, distance)
    assert list(find_leads(chromosome, position, nlp, 1.0, distance)) == list(expected)


def cells_of(table, ends, width):
    low = table[table["neg_log_10_p_value"] < 4]
    column = (low["base_pair_location"] / width).astype(int)
    row = (low["neg_log_10_p_value"] * ROWS / 4).astype(int)
    return set(zip(low["chromosome"], column, row, strict=True))


@pytest.mark.parametrize("what", [None, "L002", "omnibus.combined"])
def test_points_are_read_without_losing_a_cell_of_the_page(study, what):
    _, results, _, _ = study
    full = results.best_latent() if what is None else results.latent("L002")
    full["chromosome"] = full["chromosome"].map(chromosome_name)
    if what == "omnibus.combined":
        full["neg_log_10_p_value"] = results.variants([what])[what]
    full = full[full["neg_log_10_p_value"].notna()]
    found = plots.genome_points(results, what)
    ends = full.groupby("chromosome")["base_pair_location"].max()
    width = results.variants(["base_pair_location", "chromosome"]).groupby("chromosome")[
        "base_pair_location"].max().sum() / COLUMNS  # fmt: skip
    assert cells_of(found, ends, width) == cells_of(full, ends, width)
    keys = ["chromosome", "base_pair_location", "variant_id", "neg_log_10_p_value"]
    both = found.merge(full[keys], on=keys)
    assert len(both) == len(found), "every point is a variant of the scan with its own P"
    high = full[full["neg_log_10_p_value"] >= 4]
    assert set(high["variant_id"]) <= set(found["variant_id"])
    assert (found.groupby("chromosome")["base_pair_location"].max() == ends).all()
    if what is None:
        own = full.set_index("variant_id").loc[found["variant_id"], "latent"]
        assert (own.to_numpy() == found["latent"].to_numpy()).all()


def test_points_of_one_chromosome(study):
    _, results, _, _ = study
    assert set(plots.genome_points(results, chromosome="chrX")["chromosome"]) == {"X"}
    with pytest.raises(DegenerateError, match="One of 1, 6, X"):
        plots.genome_points(results, chromosome="7")
    with pytest.raises(UsageError, match=r"omnibus\.combined"):
        plots.genome_points(results, "omnibus.combind")


# --- Miami --------------------------------------------------------------------------------------


def test_halves_of_a_miami_plot_share_the_genome_but_not_the_scale():
    top, bottom = genome(3000, peaks=[300.0, 12.0]), genome(3000, seed=1, peaks=[9.0])
    bottom = bottom[bottom["chromosome"] != 1]
    figure = plots.miami(top, bottom, names=("a", "b"))
    up, down = figure.axes
    assert up.get_xlim() == pytest.approx(down.get_xlim(), rel=1e-3)
    assert up.get_ylim()[0] == 0
    assert down.get_ylim()[1] == 0
    assert down.get_ylim()[0] < 12, "the lower half has a scale of its own"
    assert any(float(t.get_text()) > 290 for t in up.get_yticklabels())


@pytest.mark.parametrize(("p", "n"), [(None, 0), (1e-3, 1)])
def test_a_locus_is_found_again_where_the_other_half_reaches_its_line(p, n):
    """A lead of 1e-12 above; near it P = 1e-4 below: enough for a replication, not for 5e-8."""
    top = genome(3000, seed=3, peaks=[12.0])
    lead = top["neg_log_10_p_value"].idxmax()
    bottom = genome(3000, seed=5)
    bottom["neg_log_10_p_value"] = bottom["neg_log_10_p_value"].clip(upper=2.5)
    bottom.loc[10, ["chromosome", "base_pair_location", "neg_log_10_p_value"]] = [
        top.loc[lead, "chromosome"], top.loc[lead, "base_pair_location"] + 10_000, 4.0]  # fmt: skip
    figure = plots.miami(top, bottom, study_wide=(None, p))
    assert f"passes in the other half too: {n} above" in everything(figure)


def test_labels_of_both_halves_stay_apart_and_the_rest_is_counted():
    peaks = np.linspace(9, 30, 14)
    figure = plots.miami(genome(5000, peaks=peaks), genome(5000, seed=2, peaks=peaks), labels=9)
    figure.draw_without_rendering()
    lanes = [[t for t in ax.texts if t.get_text().startswith("rs")] for ax in figure.axes]
    assert [len(lane) for lane in lanes] == [9, 9]
    assert overlapping([t.get_window_extent() for lane in lanes for t in lane]) == 0
    for ax in figure.axes:
        assert any("and 5\nmore loci" in t for t in texts(ax))
    page = figure.bbox
    for lane in lanes:
        for text in lane:
            box = text.get_window_extent()
            assert page.y0 <= box.y0
            assert box.y1 <= page.y1


def test_miami_refuses_what_does_not_go_together():
    data = genome(300)
    with pytest.raises(InconsistentError, match="the lower other"):
        plots.miami(data, data.assign(chromosome=0))
    with pytest.raises(UsageError, match="names has 1"):
        plots.miami(data, data, names=("a",))


# --- regional -----------------------------------------------------------------------------------


def test_regional_data_has_r2_with_the_lead(study):
    _, results, genotypes, loci = study
    locus = loci.table.iloc[0]
    start, end = int(locus["start"]) - 300_000, int(locus["end"]) + 300_000
    data = plots.regional_data(
        results, locus["chromosome"], start, end, genotypes=genotypes,
        ld=imgwas.LdSettings("dosage"),
    )  # fmt: skip
    best = results.best_latent().set_index("variant_id")
    assert (best.loc[data["variant_id"], "neg_log_10_p_value"].to_numpy()
            == data["neg_log_10_p_value"].to_numpy()).all()  # fmt: skip
    where = results.variants(["variant_id", "chromosome", "base_pair_location", "row"])
    near = where["base_pair_location"].between(start, end)
    expected = where[near & (where["chromosome"] == locus["chromosome"])].set_index("variant_id")
    tested = best.loc[expected.index, "neg_log_10_p_value"].notna()
    assert set(data["variant_id"]) == set(expected.index[tested])
    lead = data[data["is_lead"]].iloc[0]
    assert lead["neg_log_10_p_value"] == data["neg_log_10_p_value"].max()
    rows = expected.loc[data["variant_id"], "row"].to_numpy()
    dosage = genotypes.read_dosages(rows)
    at = int(np.flatnonzero(data["is_lead"])[0])
    slow = [np.corrcoef(dosage[at], other)[0, 1] ** 2 for other in dosage]
    assert data["r2"].to_numpy() == pytest.approx(slow, abs=1e-6)
    assert lead["r2"] == pytest.approx(1)


def test_regional_data_of_a_latent_a_column_and_a_named_lead(study):
    _, results, _, loci = study
    place = loci.table.iloc[1]
    at = (place["chromosome"], int(place["start"]) - 5000, int(place["end"]) + 5000)
    one = plots.regional_data(results, *at, what="L001", lead=place["lead_variant"])
    full = results.latent("L001").set_index("variant_id")["neg_log_10_p_value"]
    assert (one["neg_log_10_p_value"].to_numpy() == full[one["variant_id"]].to_numpy()).all()
    assert one.loc[one["is_lead"], "variant_id"].tolist() == [place["lead_variant"]]
    assert "r2" not in one
    with pytest.raises(UsageError, match="the lead variant 'rs0' is not among"):
        plots.regional_data(results, *at, lead="rs0")
    with pytest.raises(DegenerateError, match="no variant was tested"):
        plots.regional_data(results, "9", 1, 1000)


def test_classes_of_r2_are_those_of_the_legend():
    r2 = np.array([0.0, 0.19, 0.2, 0.5, 0.799, 0.8, 1.0, np.nan])
    assert ld_class(r2).tolist() == [0, 0, 1, 2, 3, 4, 4, -1]


def region(n=200, seed=0):
    rng = np.random.default_rng(seed)
    r2 = rng.random(n)
    r2[5] = np.nan
    return pd.DataFrame(
        {
            "chromosome": "7",
            "base_pair_location": np.sort(rng.integers(10_000_000, 11_000_000, n)),
            "neg_log_10_p_value": rng.exponential(3, n),
            "variant_id": [f"rs{i}" for i in range(n)],
            "r2": r2,
            "is_lead": np.arange(n) == 77,
        }
    )


def test_every_point_has_the_colour_of_its_r2_and_the_lead_is_on_top():
    data = region()
    ax = plots.regional(data).axes[0]
    drawn = {}
    for line in ax.lines:
        for x, y in zip(*line.get_data(), strict=True):
            drawn[(float(x), float(y))] = (line.get_marker(), line.get_color(), line.get_zorder())
    highest = max(order for _, _, order in drawn.values())
    for number, row in data.iterrows():
        key = (float(row["base_pair_location"]), row["neg_log_10_p_value"])
        marker, colour, order = drawn[key]
        if row["is_lead"]:
            assert (marker, order) == ("D", highest)
            continue
        below = [i for i, edge in enumerate(EDGES) if row["r2"] < edge]
        assert colour == (NO_LD if np.isnan(row["r2"]) else LD_COLOURS[below[0]]), number
    assert "no r²" in everything(ax.figure)


def some_genes(n, seed=0, chromosome="7"):
    rng = np.random.default_rng(seed)
    start = rng.integers(9_900_000, 11_000_000, n)
    return Genes(
        (chromosome,) * n, start, start + rng.integers(500, 200_000, n),
        tuple(rng.choice(["+", "-", ""], n).tolist()), tuple(f"GENE{i}" for i in range(n)),
        tuple(rng.choice(["protein_coding", "lncRNA"], n).tolist()), "made up",
    )  # fmt: skip


@pytest.mark.parametrize("n", [1, 12, 60, 400])
def test_genes_never_overlap_and_none_is_lost(n):
    genes, (start, end), inches = some_genes(n), (10e6, 11e6), 6.0
    placed, left_out = genes_inside(genes, "7", start, end, inches)
    inside = int(((genes.start <= end) & (genes.end >= start)).sum())
    assert len(placed) + left_out == inside
    assert left_out > 0 if n == 400 else left_out < 5
    for one, other in itertools.combinations(placed, 2):
        if one.lane == other.lane:
            bodies = max(one.start, other.start) > min(one.end, other.end)
            assert bodies, f"{one} and {other}"
    assert max(g.lane for g in placed) < MOST_LANES
    data = region()
    figure = plots.regional(data, genes=genes)
    figure.draw_without_rendering()
    track = figure.axes[1]
    names = [t for t in track.texts if "GENE" in t.get_text()]
    assert overlapping([t.get_window_extent() for t in names]) == 0
    assert any("more genes" in t for t in texts(track)) == (left_out > 0)


def test_coding_genes_find_room_first():
    genes = some_genes(400)
    placed, _ = genes_inside(genes, "7", 10e6, 11e6, 6.0)
    coding = sum(kind == "protein_coding" for kind in genes.biotype)
    assert sum(g.coding for g in placed) > 0.5 * len(placed)
    assert coding < 0.6 * len(genes)


def test_recombination_is_drawn_as_steps_of_the_map(tmp_path):
    path = tmp_path / "map.txt"
    path.write_text("Chromosome\tPosition(bp)\tRate(cM/Mb)\tMap(cM)\n"
                    "chr7\t9000000\t2.5\t0\nchr7\t10500000\t40\t0\nchr7\t10600000\t1\t0\n"
                    "chr8\t10550000\t99\t0\n")  # fmt: skip
    table = plots.read_recombination_map(path)
    assert table["chromosome"].tolist() == ["7", "7", "7", "8"]
    twin = plots.regional(region(), recombination=table).axes[1]
    x, y = next(line.get_data() for line in twin.lines)
    step = lambda at: y[np.searchsorted(x, at, "right") - 1]  # noqa: E731
    assert [step(at) for at in (10_100_000, 10_550_000, 10_900_000)] == [2.5, 40, 1]
    with pytest.raises(DegenerateError, match="nothing on chromosome 7"):
        plots.regional(region(), recombination=table[table["chromosome"] == "8"])
    path.write_text("position rate\n1 2\n")
    with pytest.raises(MalformedError, match="no column of the chromosome"):
        plots.read_recombination_map(path)
    path.write_text("chr pos rate\n1 2 x\n")
    with pytest.raises(MalformedError, match="holds text"):
        plots.read_recombination_map(path)


def strip(n=3, seed=0):
    amounts = {3: (-2, 0, 2), 5: (-2, -1, 0, 1, 2), 2: (-2, 2)}[n]
    x, y, z = np.mgrid[-1:1:24j, -1:1:28j, -1:1:24j]
    ball = (x**2 + y**2 + z**2 < 0.9).astype(float)
    images = np.stack([ball * (1 + 0.1 * a * (x > 0.3)) for a in amounts])
    affine = np.diag([6.0, 6, 6, 1])
    affine[:3, 3] = -72
    return ImageStrip(images, affine, amounts)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_strip_shows_every_image_and_the_points_keep_their_room(n):
    figure = plots.regional(region(), strip=strip(n))
    words = everything(figure)
    assert "−2 SD" in words
    assert "+2 SD" in words
    figure.draw_without_rendering()
    page = figure.bbox
    points = max((ax.get_window_extent() for ax in figure.axes), key=lambda box: box.width)
    assert points.height > 0.4 * page.height
    images = [ax.get_window_extent() for ax in figure.axes if ax.images]
    assert len(images) >= (n if n == 2 else 2 * n)
    assert all(box.y1 < points.y0 and box.x0 >= 0 and box.x1 <= page.x1 for box in images)


def test_regional_refusals_teach():
    data = region()
    with pytest.raises(InconsistentError, match=r"on 2 chromosomes \(1, 7\)"):
        plots.regional(pd.concat([data, data.assign(chromosome="1")]))
    with pytest.raises(MalformedError, match="r2 goes from"):
        plots.regional(data.assign(r2=-0.5))
    with pytest.raises(InconsistentError, match=r"\(3, x, y, z\)"):
        plots.regional(data, strip=ImageStrip(np.zeros((3, 4, 4)), np.eye(4)))


@pytest.mark.parametrize(
    "change",
    [lambda d: d.iloc[:1], lambda d: d.drop(columns=["r2", "is_lead"]),
     lambda d: d.assign(neg_log_10_p_value=np.linspace(0, 1000, len(d))),
     lambda d: d.assign(chromosome="chrUn_KI270302v1"), lambda d: d.assign(r2=np.nan)],
)  # fmt: skip
def test_odd_regions_are_drawn(tmp_path, change):
    figure = plots.regional(change(region()), genes=some_genes(3, chromosome="1"))
    assert plots.save_figure(figure, tmp_path / "r.png").stat().st_size > 2000
    assert "no gene of the table here" in everything(figure)


# --- heatmap and PheWAS -------------------------------------------------------------------------


def test_lead_effects_are_those_of_the_scan(study):
    _, results, _, loci = study
    table = plots.lead_effects(results, loci.table)
    assert len(table) == len(loci) * N_LATENTS
    for name in results.latents:
        full = results.latent(name).set_index("variant_id")
        own = table[table["latent"] == name]
        assert own["locus"].tolist() == loci.table["locus"].tolist()
        expected = full.loc[loci.table["lead_variant"]]
        for column in ("beta", "standard_error", "neg_log_10_p_value"):
            assert (own[column].to_numpy() == expected[column].to_numpy()).all()
        assert own["z"].to_numpy() == pytest.approx(expected["beta"] / expected["standard_error"])
    lost = loci.table.assign(lead_variant=["gone", *loci.table["lead_variant"][1:]])
    with pytest.raises(InconsistentError, match=r"1 of \d+ lead variants .*first: gone"):
        plots.lead_effects(results, lost)
    with pytest.raises(MalformedError, match="no column 'lead_variant'"):
        plots.lead_effects(results, loci.table.drop(columns="lead_variant"))


def effects(n_loci, n_latents, seed=0, strength=8.0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_loci, n_latents)) * strength
    from imgwas.sumstats import neg_log10_p_value

    return pd.DataFrame(
        {
            "name": np.repeat([f"rs{i} (GENE{i})" for i in range(n_loci)], n_latents),
            "latent": np.tile([f"L{i:03d}" for i in range(n_latents)], n_loci),
            "beta": z.ravel() / 100,
            "z": z.ravel(),
            "neg_log_10_p_value": neg_log10_p_value(z.ravel(), np.array(20_000)),
        }
    )


@pytest.mark.parametrize("value", ["signed_neg_log_10_p", "z", "beta"])
@pytest.mark.parametrize("align", [True, False])
def test_cells_and_dots_of_the_heatmap_are_those_of_the_table(value, align):
    table = effects(7, 9)
    ax = plots.locus_heatmap(table, value=value, align=align, limit=1e9)
    shown = np.asarray(ax.images[0].get_array())
    rows = [t.get_text() for t in ax.get_yticklabels()]
    columns = [t.get_text() for t in ax.get_xticklabels()]
    dots = {(int(y), int(x)) for line in ax.lines for x, y in zip(*line.get_data(), strict=True)}
    wide = table.set_index(["name", "latent"])
    for (i, name), (j, latent) in itertools.product(enumerate(rows), enumerate(columns)):
        cell, own = wide.loc[(name, latent)], wide.loc[name]
        flip = np.sign(own.loc[own["neg_log_10_p_value"].idxmax(), "z"]) if align else 1
        signed = np.sign(cell["z"]) * cell["neg_log_10_p_value"]
        expected = signed if value.startswith("signed") else cell[value]
        assert shown[i, j] == pytest.approx(flip * expected)
        assert ((i, j) in dots) == (cell["neg_log_10_p_value"] >= -np.log10(5e-8 / 9))


def test_similar_loci_are_neighbours():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 30)
    values = rng.standard_normal((3, 12))[kinds] * 10 + rng.standard_normal((30, 12))
    order = kinds[similar(values, 0)]
    assert (np.diff(order) != 0).sum() == 2, "each kind is one run"
    assert sorted(similar(values, 1)) == list(range(12))


@pytest.mark.parametrize(("n_loci", "n_latents"), [(60, 300), (1, 1), (1, 40), (40, 1), (2, 2)])
def test_heatmaps_of_any_size_are_legible(n_loci, n_latents):
    table = effects(n_loci, n_latents)
    table.loc[0, "neg_log_10_p_value"] = 1000.0
    ax = plots.locus_heatmap(table)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert overlapping([t.get_window_extent() for t in labels]) == 0
    named = len(ax.get_xticklabels())
    assert ("named" in ax.get_xlabel()) == (named < n_latents)
    assert len(ax.get_yticklabels()) == n_loci


def test_bars_of_a_phewas_have_height_and_sign():
    table = effects(1, 30, strength=5)
    ax = plots.phewas(table)
    heights = {round(p.get_x() + p.get_width() / 2): p.get_height() for p in ax.patches}
    expected = np.sign(table["z"]) * table["neg_log_10_p_value"]
    assert [heights[i] for i in range(30)] == pytest.approx(expected.tolist())
    n = int((table["neg_log_10_p_value"] >= -np.log10(5e-8 / 30)).sum())
    assert f"30 latents, {n} beyond" in ax.get_xlabel()
    assert sum(t.startswith("L") for t in texts(ax)) == n


@pytest.mark.parametrize("order", ["given", "p"])
def test_names_of_a_phewas_never_touch_and_the_rest_is_counted(order):
    table = effects(1, 300)
    n = int((table["neg_log_10_p_value"] >= -np.log10(5e-8 / 300)).sum())
    ax = plots.phewas(table, labels=25, order=order)
    names = [t for t in ax.texts if t.get_text().startswith("L")]
    assert len(names) == 25
    assert overlapping(boxes(ax, names)) == 0
    assert any(f"and {n - 25}\nmore" in t for t in texts(ax))


def test_one_giant_latent_does_not_flatten_the_others():
    table = effects(1, 20, strength=4)
    table.loc[3, "neg_log_10_p_value"] = 1000.0
    ax = plots.phewas(table)
    assert max(abs(p.get_height()) for p in ax.patches) < 60
    assert "1000" in [t.get_text() for t in ax.get_yticklabels()]


def test_heatmap_and_phewas_refuse_what_they_cannot_draw():
    table = effects(2, 3)
    with pytest.raises(MalformedError, match="occur more than once"):
        plots.locus_heatmap(pd.concat([table, table]))
    with pytest.raises(MalformedError, match="latent 'L000' occurs more than once"):
        plots.phewas(table)
    empty = table.assign(neg_log_10_p_value=np.nan)
    for draw in (plots.locus_heatmap, lambda t: plots.phewas(t.iloc[:3])):
        with pytest.raises(DegenerateError):
            draw(empty)
    with pytest.raises(ImgwasError, match="colour"):
        plots.locus_heatmap(table, value="colour")


# --- heritability and genetic correlation -------------------------------------------------------


def correlations(n, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"L{i:03d}" for i in range(n)]
    rg = np.clip(rng.normal(0, 0.6, (n, n)), -1.3, 1.3)
    rg = (np.tril(rg, -1) + np.tril(rg, -1).T) + np.eye(n)
    rg[1], rg[:, 1] = np.nan, np.nan
    se = np.full((n, n), 0.15)
    return pd.DataFrame(rg, names, names), pd.DataFrame(se, names, names)


@pytest.mark.parametrize("with_phenotypic", [False, True])
def test_marks_of_the_genetic_correlations(with_phenotypic):
    from scipy import stats

    rg, se = correlations(9)
    phenotypic = rg.fillna(0.3) / 3 if with_phenotypic else None
    ax = plots.genetic_correlation_matrix(rg, se, phenotypic=phenotypic)
    names = [t.get_text() for t in ax.get_xticklabels()]
    shown = np.ma.filled(ax.images[0].get_array().astype(float), np.nan)
    dots = {(int(y), int(x)) for line in ax.lines for x, y in zip(*line.get_data(), strict=True)}
    pairs = 8 * 7 / 2
    for (i, a), (j, b) in itertools.product(enumerate(names), repeat=2):
        if i == j:
            continue
        if with_phenotypic and j > i:
            assert shown[i, j] == pytest.approx(phenotypic.loc[a, b])
            assert (i, j) not in dots
            continue
        assert shown[i, j] == pytest.approx(rg.loc[a, b], nan_ok=True)
        p = 2 * stats.norm.sf(abs(rg.loc[a, b]) / 0.15)
        assert ((i, j) in dots) == bool(p <= 0.05 / pairs)
    assert "hatched: not defined, 8 pairs" in ax.get_xlabel()
    assert ax.patch.get_hatch()
    beyond = int((np.abs(np.tril(rg.to_numpy(), -1)) > 1).sum())
    assert (f"beyond ±1: {beyond} pair" in ax.get_xlabel()) == (beyond > 0)


def test_matrices_that_do_not_belong_together_are_refused():
    rg, se = correlations(5)
    with pytest.raises(InconsistentError, match="the errors do not name"):
        plots.genetic_correlation_matrix(rg, se.iloc[::-1, ::-1])
    with pytest.raises(MalformedError, match="not named alike"):
        plots.genetic_correlation_matrix(rg.reset_index(drop=True))
    with pytest.raises(DegenerateError, match="single latent"):
        plots.genetic_correlation_matrix(rg.iloc[:1, :1])


def heritabilities(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "latent": [f"L{i:03d}" for i in range(n)],
            "heritability": rng.normal(0.2, 0.2, n),
            "standard_error": rng.uniform(0.02, 0.1, n),
        }
    )


@pytest.mark.parametrize("n", [1, 7, pytest.param(300, marks=pytest.mark.slow)])
def test_bars_of_heritability(n):
    table = heritabilities(n)
    ax = plots.heritability_bars(table, order="given")
    bars = {round(p.get_x() + p.get_width() / 2): p for p in ax.patches}
    assert [bars[i].get_height() for i in range(n)] == pytest.approx(table["heritability"].tolist())
    low = table["heritability"] - 1.96 * table["standard_error"]
    dark = {bars[i].get_facecolor() for i in range(n) if low[i] > 0}
    pale = {bars[i].get_facecolor() for i in range(n) if low[i] <= 0 <= table["heritability"][i]}
    assert dark.isdisjoint(pale)
    assert f"{int((low > 0).sum())} above zero" in ax.get_xlabel()
    assert overlapping(boxes(ax, ax.get_xticklabels())) == 0
    sized = plots.heritability_bars(table)
    heights = [p.get_height() for p in sorted(sized.patches, key=lambda p: p.get_x())]
    assert heights == sorted(heights, reverse=True)


def test_missing_heritabilities_are_counted_and_wrong_ones_refused():
    table = heritabilities(6)
    table.loc[2, "heritability"] = np.nan
    assert "1 without an estimate" in plots.heritability_bars(table).get_xlabel()
    with pytest.raises(MalformedError, match="'L003' occurs more than once"):
        plots.heritability_bars(table.replace("L004", "L003"))
    with pytest.raises(MalformedError, match="negative"):
        plots.heritability_bars(table.assign(standard_error=-1.0))
    with pytest.raises(DegenerateError):
        plots.heritability_bars(table.assign(heritability=np.nan))


# --- Brisbane and upset -------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [0, 1, 50, 10_000])
def test_density_of_signals_is_that_of_counting(reach):
    rng = np.random.default_rng(reach)
    chromosome, position = rng.integers(0, 4, 300), rng.integers(0, 2000, 300).astype(float)
    slow = [sum(chromosome[i] == chromosome[j] and abs(position[i] - position[j]) <= reach
                for j in range(300)) - 1 for i in range(300)]  # fmt: skip
    assert signal_density(chromosome, position, reach).tolist() == slow


def test_brisbane_draws_all_signals_and_names_the_densest():
    table = genome(400, peaks=[]).assign(name=lambda d: "S" + d.index.astype(str))
    table.loc[:30, ["chromosome", "base_pair_location"]] = [5, 70_000_000]
    ax = plots.brisbane(table, label="name", labels=1)
    heights = np.concatenate([line.get_ydata() for line in ax.lines if len(line.get_ydata())])
    assert (heights == 30).sum() == 31
    assert "400 signals" in ax.get_xlabel()
    named = [t for t in texts(ax) if t.startswith("S")]
    assert len(named) == 1
    assert int(named[0][1:]) <= 30
    with pytest.raises(MalformedError, match="'rsid'"):
        plots.brisbane(table, label="rsid")
    with pytest.raises(DegenerateError):
        plots.brisbane(table.iloc[:0], label="name")


def slow_components(intervals, gap):
    """Connected components of overlapping intervals, by repeated union."""
    group = list(range(len(intervals)))
    for _ in intervals:
        for i, j in itertools.combinations(range(len(intervals)), 2):
            (c, s, e), (d, t, f) = intervals[i], intervals[j]
            if c == d and max(s, t) - min(e, f) <= gap:
                group[i] = group[j] = min(group[i], group[j])
    return group


def tables_of_loci(seed, sizes=(12, 9, 14)):
    rng = np.random.default_rng(seed)
    made = {}
    for k, n in enumerate(sizes):
        start = rng.integers(1, 3_000_000, n)
        made[f"seed {k}"] = pd.DataFrame(
            {"chromosome": rng.choice(["1", "X"], n), "start": start,
             "end": start + rng.integers(0, 150_000, n)}
        )  # fmt: skip
    return made


@pytest.mark.parametrize("kb", [0, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shared_loci_are_the_components_of_overlaps(seed, kb):
    sets = tables_of_loci(seed)
    every = [(name, *row) for name, table in sets.items()
             for row in table[["chromosome", "start", "end"]].itertuples(index=False)]  # fmt: skip
    group = slow_components([row[1:] for row in every], kb * 1000)
    expected = set()
    for g in set(group):
        own = [row for row, h in zip(every, group, strict=True) if h == g]
        names = frozenset(row[0] for row in own)
        expected.add((own[0][1], min(r[2] for r in own), max(r[3] for r in own), names))
    merged = plots.shared_loci(sets, kb=kb)
    found = {(r["chromosome"], r["start"], r["end"], frozenset(n for n in sets if r[n]))
             for _, r in merged.iterrows()}  # fmt: skip
    assert found == expected


@pytest.mark.parametrize("top", [2, 20])
def test_upset_counts_every_locus_once_and_says_what_is_left_out(top):
    sets = tables_of_loci(3, (30, 25, 40, 5))
    merged = plots.shared_loci(sets)
    counts = merged[list(sets)].value_counts()
    figure = plots.upset(sets, top=top)
    bars = [int(p.get_height()) for p in figure.axes[0].patches]
    assert bars == sorted(counts.tolist(), reverse=True)[:top]
    words = everything(figure)
    rest = len(counts) - len(bars)
    left = f"and {rest} more intersections with {counts.sum() - sum(bars)} loci"
    assert (left in words) == (rest > 0)
    totals = [round(p.get_width()) for p in figure.axes[2].patches]
    assert totals == [int(merged[name].sum()) for name in sets]


def test_upset_refusals():
    sets = tables_of_loci(0)
    with pytest.raises(UsageError, match="1 set of loci"):
        plots.upset({"a": sets["seed 0"]})
    with pytest.raises(MalformedError, match="the loci of 'b' have no column 'end'"):
        plots.upset({"a": sets["seed 0"], "b": sets["seed 1"].drop(columns="end")})
    with pytest.raises(DegenerateError, match="none of the sets"):
        plots.upset({"a": sets["seed 0"].iloc[:0], "b": sets["seed 1"].iloc[:0]})


# --- on the command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("miami", "results", "--out", "a.pdf"),
        ("miami", "results", "results", "--names", "T1,T2", "--bottom", "L001", "--out", "b.png"),
        ("regional", "results", "--loci", "loci.tsv", "--locus", "2", "--bfile",
         "cohort/cohort", "--out", "c.svg"),
        ("regional", "results", "--region", "6:1-200000000", "--no-ld", "--column",
         "omnibus.joint", "--out", "d.png"),
        ("heatmap", "results", "--loci", "loci.tsv", "--out", "e.pdf"),
        ("phewas", "results", "--loci", "loci.tsv", "--locus", "1", "--sort", "--out", "f.png"),
        ("brisbane", "loci.variants.tsv", "--out", "g.png"),
        ("upset", "a=loci.tsv", "b=loci.tsv", "--table", "shared.tsv", "--out", "h.png"),
        ("manhattan", "results", "--chr", "X", "--out", "i.png"),
    ],
    ids=lambda words: " ".join(words[:1]),
)  # fmt: skip
def test_figures_of_loci_on_the_command_line(study, words):
    home = study[0]
    done = command_line("plot", *words, folder=home)
    assert done.code == 0, done.text
    assert (home / words[-1]).stat().st_size > 2000


def test_figures_of_heritability_on_the_command_line(study):
    home = study[0]
    rg, se = correlations(4)
    folder = home / "h2"
    folder.mkdir()
    heritabilities(4).to_csv(folder / "heritability.tsv", sep="\t", index=False)
    for name, frame in (("genetic_correlation", rg), ("genetic_correlation_error", se)):
        frame.rename_axis("latent").reset_index().to_parquet(folder / f"{name}.parquet")
    for words in (("h2", "h2", "--out", "j.png"), ("rg", "h2", "--out", "k.png")):
        done = command_line("plot", *words, folder=home)
        assert done.code == 0, done.text
        assert (home / words[-1]).stat().st_size > 2000


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("miami", "results", "--top", "best"), 8, "Name another with --top"),
        (("regional", "results"), 8, "--variant ID"),
        (("regional", "results", "--region", "6-7", "--no-ld"), 8, "CHR:START-END"),
        (("phewas", "results", "--loci", "loci.tsv", "--locus", "99"), 8, "no locus 99"),
        (("phewas", "results", "--variant", "rs0"), 8, "Check the spelling"),
        (("rg", "results"), 3, "imgwas heritability RESULTS"),
        (("h2", "results"), 3, "heritability.tsv"),
        (("upset", "loci.tsv"), 8, "1 set of loci"),
        (("brisbane", "nowhere.tsv"), 3, "nowhere.tsv"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_figures_that_cannot_be(study, words, code, message):
    done = command_line("plot", *words, "--out", "never.png", folder=study[0])
    assert done.code == code, done.text
    assert message in done.text
    assert not (study[0] / "never.png").exists()


def test_the_plot_of_thinned_points_is_the_plot_of_all(study):
    _, results, _, _ = study
    full = raster(plots.aggregated_manhattan(results.best_latent(), n_latents=N_LATENTS))
    thin = raster(plots.aggregated_manhattan(plots.genome_points(results), n_latents=N_LATENTS))
    assert (np.abs(full - thin).max(axis=2) > 60).mean() < 0.002

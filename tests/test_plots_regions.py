"""Regions as pictures: running sums, heatmaps, intervals, and an atlas seen from outside."""

from __future__ import annotations

import itertools
import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imgwas import plots
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    UsageError,
)
from imgwas.images.nifti import Volume
from imgwas.images.space import reorient
from imgwas.plots.region_views import VIEWS, borders, cropped, halves, look, surface_of
from imgwas.types import Atlas
from tests.brain_maps import (
    affine_of,
    places,
    raster,
)
from tests.data import data_file

# -- regions as curves and tables --------------------------------------------------------------


def running_sums(n=4000, seed=0) -> dict[str, np.ndarray]:
    """Regions whose voxels stand more and less far up a ranking."""
    rng = np.random.default_rng(seed)
    region = rng.integers(0, 8, n)
    order = np.argsort(
        -np.abs(rng.standard_normal(n) + np.array([3, 2, 1, 0.5, 0, 0, 0, 0])[region])
    )
    inside = region[order][:, None] == np.arange(8)
    sums = np.cumsum(inside / inside.sum(axis=0) - 1 / n, axis=0)
    return {f"region {i}": sums[:, i] for i in range(8)}


@pytest.mark.parametrize("as_frame", [False, True])
def test_curves_keep_their_highest_points_and_name_the_best(as_frame):
    curves = running_sums()
    ax = plots.ks_curves(pd.DataFrame(curves) if as_frame else curves, labels=3)
    words = [t.get_text() for t in ax.texts]
    assert words == [f"region {i}  {curves[f'region {i}'].max():.2f}" for i in (2, 1, 0)]
    tops = {
        round(float(line.get_ydata().max()), 9) for line in ax.lines if len(line.get_xdata()) > 9
    }
    assert tops >= {round(float(c.max()), 9) for c in curves.values()}
    assert max(len(line.get_xdata()) for line in ax.lines) <= 1502
    raster(ax.figure)
    boxes = [t.get_window_extent() for t in ax.texts]
    for a, b in itertools.combinations(boxes, 2):
        assert a.y1 <= b.y0 + 0.5 or b.y1 <= a.y0 + 0.5


def test_names_of_equal_curves_stand_apart_and_low_ones_get_none():
    curve = running_sums()["region 0"]
    ax = plots.ks_curves({f"copy {i}": curve for i in range(6)} | {"low": -np.abs(curve) - 0.1})
    raster(ax.figure)
    boxes = sorted((t.get_window_extent() for t in ax.texts), key=lambda b: b.y0)
    assert len(boxes) == 6
    assert all(a.y1 <= b.y0 + 0.5 for a, b in itertools.pairwise(boxes))


def test_curves_that_do_not_belong_together_are_refused():
    with pytest.raises(InconsistentError, match=r"curves have \[3, 4\] voxels"):
        plots.ks_curves({"a": np.zeros(3), "b": np.zeros(4)})
    with pytest.raises(DegenerateError, match="first: b"):
        plots.ks_curves({"a": np.zeros(3), "b": np.full(3, np.nan)})
    with pytest.raises(DegenerateError, match="no running sum"):
        plots.ks_curves({})


def region_rows(n_regions=30, n_loci=5, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [{"region": f"r{i}", "name": f"rs{j}", "hemisphere": ("L", "R", "")[i % 3]}
            for i in range(n_regions) for j in range(n_loci)]  # fmt: skip
    table = pd.DataFrame(rows)
    table["volume"] = rng.standard_normal(len(table))
    table["volume_q"] = rng.random(len(table)) * 0.94 + 0.06
    strong = rng.choice(len(table), 6, replace=False)
    table.loc[strong, "volume_q"] = 0.01
    return table


def cells_of(ax):
    """What a heatmap shows: values and dots by the names on its axes."""
    rows = [t.get_text() for t in ax.get_yticklabels()]
    columns = [t.get_text() for t in ax.get_xticklabels()]
    values = pd.DataFrame(np.asarray(ax.images[0].get_array()), rows, columns)
    dots = {(rows[int(y)], columns[int(x)]) for line in ax.lines if line.get_linestyle() == "None"
            for x, y in zip(*line.get_data(), strict=True)}  # fmt: skip
    return values, dots


@pytest.mark.parametrize("order", ["hemisphere", "cluster", "given"])
@pytest.mark.parametrize("top", [None, 8])
def test_every_cell_of_a_heatmap_has_its_value_and_its_dot(order, top):
    table = region_rows()
    shuffled = table.sample(frac=1, random_state=3)
    ax = plots.region_heatmap(shuffled, order=order, top=top)
    values, dots = cells_of(ax)
    assert values.shape == (top or 30, 5)
    indexed = table.set_index(["region", "name"])
    for (region, name), value in values.stack().items():
        assert value == pytest.approx(indexed.loc[(region, name), "volume"])
    small = {key for key, q in indexed["volume_q"].items() if q < 0.05}
    assert dots == small  # the regions with small q are never left out
    limits = ax.images[0].get_clim()
    assert limits[0] == -limits[1] == -np.abs(values.to_numpy()).max()


def test_hemispheres_stand_apart_and_similar_regions_together():
    table = region_rows()
    values, _ = cells_of(plots.region_heatmap(table, top=None))
    sides = table.drop_duplicates("region").set_index("region")["hemisphere"].loc[values.index]
    assert sides.tolist() == ["L"] * 10 + ["R"] * 10 + [""] * 10
    kinds = table["region"].str.removeprefix("r").astype(int) % 2
    table["volume"] = np.where(kinds, 1, -1) + 0.01 * table["volume"]
    values, _ = cells_of(plots.region_heatmap(table, top=None, order="cluster"))
    signs = np.sign(values.iloc[:, 0].to_numpy())
    assert np.abs(np.diff(signs)).sum() == 2


def test_names_of_a_large_heatmap_do_not_touch():
    ax = plots.region_heatmap(region_rows(150, 30), top=None)
    raster(ax.figure)
    for labels, low, high in (
        (ax.get_yticklabels(), "y0", "y1"),
        (ax.get_xticklabels(), "x0", "x1"),
    ):
        boxes = sorted((t.get_window_extent() for t in labels), key=lambda b: getattr(b, low))
        assert all(getattr(a, high) <= getattr(b, low) + 1 for a, b in itertools.pairwise(boxes))
    assert min(t.get_fontsize() for t in ax.get_yticklabels()) >= 6


def test_tables_that_cannot_be_drawn_are_refused():
    table = region_rows()
    with pytest.raises(MalformedError, match=r"no column 'volumes'.*Did you mean volume"):
        plots.region_heatmap(table, value="volumes")
    with pytest.raises(MalformedError, match=r"5 pairs of region and locus.*first: r0, rs0"):
        plots.region_heatmap(pd.concat([table, table.head(5)]))
    with pytest.raises(DegenerateError, match="holds no number"):
        plots.region_heatmap(table.assign(volume=np.nan))
    with pytest.raises(UsageError, match="order is 'size'"):
        plots.region_heatmap(table, order="size")
    gaps = table.assign(volume=table["volume"].where(table.index % 7 > 0))
    values, _ = cells_of(plots.region_heatmap(gaps, top=None))
    assert values.isna().sum().sum() == gaps["volume"].isna().sum()


def intervals() -> pd.DataFrame:
    change = np.array([0.5, -4.0, 2.0, np.nan, 0.1])
    ends = {"volume_low": change - 1, "volume_high": change + 1}
    true = [np.nan, -3.5, np.nan, 1, 0]
    return pd.DataFrame({"region": list("abcde"), "volume": change, **ends, "true": true})


def test_bars_are_sorted_and_truth_is_open():
    ax = plots.region_bars(intervals(), truth="true", top=3)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "c", "a"]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [d.get_xdata()[0] for d in dots] == [-4.0, 2.0, 0.5]
    assert [d.get_alpha() for d in dots] == [1, 1, 0.4]  # the last interval holds zero
    assert len({d.get_color() for d in dots}) == 2
    (open_marks,) = [line for line in ax.lines if line.get_marker() == "D"]
    assert open_marks.get_fillstyle() == "none"
    np.testing.assert_array_equal(open_marks.get_xdata(), [-3.5, np.nan, np.nan])
    wrong = intervals().assign(volume_low=9.0)
    with pytest.raises(UsageError, match="does not hold its change"):
        plots.region_bars(wrong)
    with pytest.raises(MalformedError, match="volume_high"):
        plots.region_bars(intervals().drop(columns="volume_high"))
    with pytest.raises(DegenerateError, match="no region"):
        plots.region_bars(intervals().assign(volume=np.nan))
    bare = intervals().assign(volume_low=np.nan, volume_high=np.nan)
    raster(plots.region_bars(bare).figure)  # estimates without intervals


# -- regions from outside ----------------------------------------------------------------------


def boxes_atlas(zooms=(2.0, 2.0, 2.0)) -> Atlas:
    """Left box 1, right box 2, a front 3 and a top 4 on both sides, and a core 5 inside box 1."""
    grid = tuple(int(80 / z) for z in zooms)
    affine = affine_of(grid, zooms)
    x, y, z = np.moveaxis(places(affine, grid), -1, 0)
    inside = (abs(x) < 24) & (abs(y) < 24) & (abs(z) < 24)
    labels = np.where(x < 0, 1, 2) * inside
    labels[inside & (y > 16)] = 3
    labels[inside & (z > 16)] = 4
    labels[(abs(x + 12) < 5) & (abs(y) < 6) & (abs(z) < 6)] = 5
    names = {1: "left", 2: "right", 3: "front", 4: "top", 5: "core"}
    return Atlas(labels.astype(np.int32), affine, names, {1: "L", 2: "R", 3: "", 4: "", 5: "L"})


def seen_in(atlas: Atlas, name: str) -> np.ndarray:
    half, axis, from_high = VIEWS[name]
    view = cropped(look(surface_of(halves(atlas)[half]), axis, from_high))
    return np.where(view.cover > 0.5, view.labels, -1)


@pytest.mark.parametrize("axes", ["LAS", "PSR"])
def test_each_view_shows_the_side_that_faces_it(axes):
    atlas = boxes_atlas()
    volume = reorient(Volume(atlas.labels.astype(np.float32), atlas.affine), axes)
    atlas = Atlas(volume.values.astype(np.int32), volume.affine, atlas.names, atlas.hemispheres)

    def middle(name, row, column):
        picture = seen_in(atlas, name)
        return picture[int(row * picture.shape[0]), int(column * picture.shape[1])]

    assert middle("left, outer", 0.7, 0.5) == 1
    assert middle("right, outer", 0.7, 0.5) == 2
    assert middle("left, inner", 0.7, 0.5) == 1
    assert middle("right, inner", 0.7, 0.5) == 2
    # the front is at the left when one looks at the left side, at the right from the middle
    assert (middle("left, outer", 0.7, 0.05), middle("left, outer", 0.7, 0.95)) == (3, 1)
    assert (middle("left, inner", 0.7, 0.05), middle("left, inner", 0.7, 0.95)) == (1, 3)
    assert (middle("right, outer", 0.7, 0.05), middle("right, outer", 0.7, 0.95)) == (2, 3)
    assert middle("left, outer", 0.05, 0.5) == 4
    assert middle("above", 0.5, 0.5) == 4
    assert (middle("below", 0.7, 0.25), middle("below", 0.7, 0.75)) == (2, 1)
    assert middle("below", 0.05, 0.5) == 3
    assert middle("front", 0.7, 0.5) == 3
    assert (middle("behind", 0.7, 0.25), middle("behind", 0.7, 0.75)) == (1, 2)


def test_rays_stop_at_the_first_region():
    """Against a walk along every line of sight, away from borders that are drawn smoothly."""
    atlas = boxes_atlas()
    rng = np.random.default_rng(0)
    labels = atlas.labels.copy()
    for number in range(6, 12):  # lumps on the left face
        at = rng.integers(12, 28, 2)
        labels[12 - number + 5 : 12, at[0] : at[0] + 5, at[1] : at[1] + 5] = number
    lumpy = Atlas(labels, atlas.affine, {n: str(n) for n in range(1, 12)},
                  dict.fromkeys(range(1, 12), "L"))  # fmt: skip
    view = look(surface_of(halves(lumpy)["L"]), 0, from_high=False)
    box = halves(lumpy)["L"]
    pad = int(np.ceil(11 / 2))
    picture = np.pad(box.values, pad)
    walked = np.zeros(picture.shape[1:], int)
    for y, z in np.ndindex(walked.shape):
        line = picture[:, y, z]
        walked[y, z] = line[line > 0][0] if (line > 0).any() else 0
    fine = walked[::-1].T[::-1].repeat(4, axis=0).repeat(4, axis=1)
    near = borders(fine.astype(np.int32))
    reach = np.lib.stride_tricks.sliding_window_view(np.pad(near, 6), (13, 13)).any(axis=(2, 3))
    clear = ~reach & (view.cover > 0.5) & (fine > 0)
    assert clear.mean() > 0.1
    np.testing.assert_array_equal(view.labels[clear], fine[clear])
    assert ((view.cover > 0.5) == (fine > 0))[~reach].all()


def test_hidden_regions_are_drawn_by_themselves():
    atlas = boxes_atlas()
    values = {"left": 1.0, "right": 2.0, "core": -3.0}
    figure = plots.region_picture(values, atlas, label="z")
    words = [t.get_text() for ax in figure.axes for t in ax.texts if len(t.get_text()) > 1]
    assert words == [*VIEWS, "left, inside"]
    outer, inside = (figure.axes[i].images[0].get_array() for i in (0, 8))

    def bluish(picture):
        return (picture[..., 2] > picture[..., 0] + 0.2).mean()

    assert bluish(outer) == 0
    assert bluish(inside) > 0.01
    bare = plots.region_picture(values, atlas, inside=False, views=("above",))
    assert len(bare.axes) == 2


def test_colours_start_at_zero_or_are_symmetric_and_have_no_fixed_end():
    atlas = boxes_atlas((4.0, 4.0, 4.0))

    def ends(values, **change):
        figure = plots.region_picture(values, atlas, views=("front",), inside=False, **change)
        return figure.axes[-1].images[0].get_clim()

    assert ends({"left": 0.5, "right": 7.5}) == (0, 7.5)
    assert ends({"left": -0.5, "right": 2.5}) == (-2.5, 2.5)
    assert ends({"left": np.nan, "top": 1.0}, limit=3) == (0, 3)


def test_gaps_between_regions_are_filled_below_the_surface():
    """A hollow ball with a slit shows grey depth through the slit, not the far wall."""
    grid = (40, 40, 40)
    at = places(affine_of(grid, (2.0,) * 3), grid)
    radius = np.linalg.norm(at, axis=-1)
    shell = (radius < 34) & (radius > 28) & ~((abs(at[..., 1]) < 4) & (at[..., 2] > 0))
    atlas = Atlas(shell.astype(np.int32), affine_of(grid, (2.0,) * 3), {1: "shell"}, {1: ""})
    picture = seen_in(atlas, "above")
    middle = picture[picture.shape[0] // 2 - 2 : picture.shape[0] // 2 + 2, picture.shape[1] // 2]
    assert (middle == 0).all()
    assert picture[picture.shape[0] // 4, picture.shape[1] // 2] == 1


@pytest.mark.parametrize(
    ("values", "change", "error", "words"),
    [
        ({"lefd": 1.0}, {}, UsageError, "1 of 1 regions are not in the atlas.*Did you mean left"),
        ({"left": np.nan}, {}, DegenerateError, "no region has a value"),
        ({"left": np.inf}, {}, DegenerateError, "infinite"),
        ({"left": 1.0}, {"views": ("side",)}, UsageError, "view is 'side'"),
        ({"left": 1.0}, {"views": ()}, UsageError, "no view"),
    ],
)
def test_values_that_cannot_be_painted_are_refused(values, change, error, words):
    with pytest.raises(error, match=words):
        plots.region_picture(values, boxes_atlas((4.0, 4.0, 4.0)), **change)


def test_a_real_atlas_is_seen_from_its_sides():
    """FSL's Desikan regions at 2 mm, stored LAS: left regions on the left views only."""
    image = nib.load(data_file("atlases/Desikan_space-MNI152NLin6_res-2x2x2.nii.gz"))
    text = data_file("atlases/Desikan_space-MNI152NLin6_res-2x2x2.json").read_text()
    rois = json.loads(text)["rois"]
    labels = np.asarray(image.dataobj).astype(np.int32)
    names = {int(n): roi["label"] for n, roi in rois.items() if int(n) and (labels == int(n)).any()}
    atlas = Atlas(labels, image.affine, names, {n: name[0] for n, name in names.items()})
    left = {n for n, name in names.items() if name.startswith("L_")}
    outer = seen_in(atlas, "left, outer")
    assert set(np.unique(outer)) <= left | {0, -1}
    assert (outer == 0).sum() < 0.01 * (outer >= 0).sum()
    picture = seen_in(atlas, "above")
    columns = np.indices(picture.shape)[1]
    is_left = np.isin(picture, list(left))
    assert columns[is_left].mean() < columns[~is_left & (picture > 0)].mean()
    volume = reorient(Volume(labels.astype(np.float32), image.affine))
    assert (outer >= 0).mean() == pytest.approx(
        _silhouette(np.isin(volume.values, list(left)).any(axis=0)), abs=0.02
    )


def _silhouette(shadow: np.ndarray) -> float:
    rows, columns = (np.flatnonzero(shadow.any(axis=a)) for a in (1, 0))
    return float(shadow[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean())

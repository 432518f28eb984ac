"""Brain maps as pictures: left is left in every orientation, colours about zero, true places."""

from __future__ import annotations

import itertools
import stat
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imgwas import plots
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    UsageError,
    WriteError,
)
from imgwas.images.nifti import Volume
from imgwas.images.space import reorient
from imgwas.plots import films, planes
from imgwas.plots.brain_glass import projected
from imgwas.plots.brain_slices import scene_of
from imgwas.plots.layers import layer_of
from imgwas.plots.panels import bar_ticks
from imgwas.types import Atlas
from tests.brain_maps import (
    GRID,
    MARK,
    affine_of,
    colour_at,
    colours_of,
    grown,
    head,
    is_red,
    letters,
    map_of,
    marked,
    oblique,
    places,
    raster,
    turned,
)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fewer pixels: pictures are the same, only rougher."""
    monkeypatch.setattr(planes, "PIXELS", 120)


# -- slices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("radiological", [False, True])
@pytest.mark.parametrize("axes", ["RAS", "LAS", "PSR", "oblique"])
def test_a_mark_on_the_left_is_drawn_beside_the_letter_of_the_left(axes, radiological):
    found = marked(oblique()) if axes == "oblique" else turned(marked(), axes)
    figure = plots.brain_slices(found, at=MARK, radiological=radiological)
    picture = raster(figure)
    sagittal, coronal, axial = figure.axes[:3]
    x, y, z = MARK
    assert is_red(colour_at(sagittal, y, z, picture))
    assert not is_red(colour_at(sagittal, -y, z, picture))
    for ax, up in ((coronal, z), (axial, y)):
        assert is_red(colour_at(ax, x - 3, up + 2, picture))
        assert not is_red(colour_at(ax, -x + 3, up + 2, picture))
        assert not is_red(colour_at(ax, x - 3, -up - 2, picture))
        mark, other = (ax.transData.transform((side, up))[0] for side in (x, -x))
        sides = letters(ax)
        assert (sides["L"] < sides["R"]) == (mark < other) == (not radiological)
    assert letters(sagittal)["P"] < letters(sagittal)["A"]
    assert sagittal.transData.transform((y, z))[0] > sagittal.transData.transform((-y, z))[0]


@pytest.mark.parametrize("axes", ["LAS", "PSR", "AIR"])
def test_pictures_do_not_depend_on_how_the_file_is_turned(axes):
    rng = np.random.default_rng(0)
    values = np.where(head(), rng.standard_normal(GRID), 0)
    grey = np.where(head(), rng.random(GRID) + 1, 0).astype(np.float32)
    one = map_of(values)
    other = turned(one, axes)
    back = reorient(Volume(grey, one.affine), axes)
    a = plots.brain_slices(one, background=Volume(grey, one.affine))
    b = plots.brain_slices(other, background=back.values)
    np.testing.assert_array_equal(raster(a), raster(b))


def test_millimetres_are_as_long_in_every_direction_and_panel():
    figure = plots.brain_slices(marked())
    scales = []
    for ax in figure.axes[:3]:
        (x0, y0), (x1, y1) = ax.transData.transform([(0, 0), (10, 10)])
        scales += [x1 - x0, y1 - y0]
    np.testing.assert_allclose(scales, scales[0], rtol=1e-6)


def test_a_map_and_its_background_meet_in_millimetres_whatever_their_grids():
    fine = affine_of((73, 61, 83), (1.0, 1.0, 1.0))
    at = places(fine, (73, 61, 83))
    spot = np.linalg.norm(at - MARK, axis=-1) < 3
    grey = np.where(head(fine, (73, 61, 83)), 1 + spot, 0).astype(np.float32)
    figure = plots.brain_slices(marked(height=0.0001), background=Volume(grey, fine), at=MARK,
                                limit=5)  # fmt: skip
    picture = raster(figure)
    ax = figure.axes[1]
    bright, dark = (colour_at(ax, s * (MARK[0] + 1.2), MARK[2] + 1.2, picture) for s in (1, -1))
    assert bright.min() > dark.max() + 80


def test_colours_are_symmetric_and_shared_with_the_bar():
    values = np.where(head(), np.linspace(-3, 7.5, head().size).reshape(GRID), 0)
    top = float(np.abs(values).max())
    drawn = colours_of(plots.brain_slices(map_of(values)))
    assert len(drawn) == 4  # three planes and the bar
    assert {im.get_clim() for im in drawn} == {(-np.float32(top), np.float32(top))}
    assert {im.get_clim() for im in colours_of(plots.brain_slices(map_of(values), limit=2))} == {
        (-2, 2)
    }


def test_values_below_the_threshold_are_transparent():
    values = np.where(head(), np.linspace(-3, 7.5, head().size).reshape(GRID), 0)
    figure = plots.brain_slices(map_of(values), background=head().astype(np.float32), threshold=2)
    for im in colours_of(figure):
        shown = np.ma.filled(np.ma.masked_invalid(im.get_array()), 0)
        assert np.abs(shown[shown != 0]).min() >= 2
        assert (shown != 0).any()
    rgba = [im.to_rgba(np.array([0.0, 2.0, 7.0]))[:, 3] for im in colours_of(figure)]
    assert np.min(rgba) == 1  # what passes is opaque
    fading = colours_of(plots.brain_slices(map_of(values), background=head().astype(np.float32)))
    alpha = fading[0].to_rgba(np.array([0.0, 1.0, -1.0, 7.0]))[:, 3]
    assert alpha[0] == 0
    assert 0 < alpha[1] < 1
    assert alpha[1] == pytest.approx(alpha[2], abs=0.01)
    assert alpha[3] == 1


def test_slices_go_through_the_largest_magnitude():
    values = np.where(head(), 0.1, 0)
    values[6, 20, 12] = -4
    x, y, z = places()[6, 20, 12]
    figure = plots.brain_slices(map_of(values))
    words = [t.get_text() for ax in figure.axes[:3] for t in ax.texts if "mm" in t.get_text()]
    minus = lambda v: f"{v:.0f}".replace("-", "−")  # noqa: E731
    assert words == [f"x = {minus(x)} mm", f"y = {minus(y)} mm", f"z = {minus(z)} mm"]


def test_outlines_follow_regions():
    inside = np.linalg.norm(places() - MARK, axis=-1) < 9
    for contour in (inside, Atlas(inside.astype(np.int32), affine_of(), {1: "a"}, {1: "L"})):
        figure = plots.brain_slices(marked(), at=MARK, contour=contour)
        lines = [c for c in figure.axes[1].collections if len(c.get_paths())]
        around = [p.vertices for c in lines for p in c.get_paths() if len(p.vertices)]
        radii = [np.linalg.norm(v - (MARK[0], MARK[2]), axis=1) for v in around]
        assert any(r.min() > 6 and r.max() < 12 for r in radii)


def test_a_figure_or_a_part_of_one_is_drawn_into():
    whole = Figure(figsize=(7, 6))
    parts = whole.subfigures(2, 1)
    assert plots.brain_slices(marked(), figure=parts[0]) is parts[0]
    assert plots.glass_brain(marked(), figure=parts[1]) is parts[1]
    raster(whole)
    tops = [ax.get_window_extent() for ax in parts[1].axes]
    assert max(box.y1 for box in tops) <= 300  # the lower part stays in the lower half


def test_a_map_of_zeros_is_drawn():
    assert colours_of(plots.brain_slices(map_of(np.zeros(GRID))))[0].get_clim() == (-1, 1)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"background": np.ones((4, 5, 6))}, InconsistentError, r"background has grid \(4, 5, 6\)"),
        ({"contour": np.ones((4, 5, 6))}, InconsistentError, "contour has grid"),
        ({"at": (0, 0, 500)}, UsageError, "z of the point is 500.*from -42 to 42 mm"),
        ({"at": (0, 0)}, UsageError, "at has 2 numbers"),
        ({"threshold": -1}, UsageError, "threshold is -1"),
        ({"limit": 0}, UsageError, "limit is 0"),
        ({"limit": 1, "threshold": 2}, UsageError, "limit is 1.*at least 2"),
    ],
)
def test_what_does_not_fit_the_map_is_refused(change, error, words):
    with pytest.raises(error, match=words):
        plots.brain_slices(marked(), **change)


def test_images_elsewhere_are_refused():
    far = affine_of()
    far[0, 3] += 60
    background = Volume(np.ones(GRID, np.float32), far)
    with pytest.raises(InconsistentError, match=r"background lies elsewhere.*x 22 to 98 mm"):
        plots.brain_slices(marked(), background=background)
    atlas = Atlas(np.ones(GRID, np.int32), far, {1: "a"}, {1: ""})
    with pytest.raises(InconsistentError, match="atlas lies elsewhere"):
        plots.brain_slices(marked(), contour=atlas)


def test_broken_maps_are_refused():
    values = np.where(head(), 1.0, np.nan)
    plots.brain_slices(map_of(values))  # outside the mask nobody looks
    values[12, 15, 10] = np.nan
    with pytest.raises(DegenerateError, match="1 values that are not finite"):
        plots.brain_slices(map_of(values))
    flat = affine_of()
    flat[2, 2] = 0
    with pytest.raises(MalformedError, match="affine cannot say"):
        layer_of(np.ones(GRID), flat)
    with pytest.raises(UsageError, match="3 axes"):
        layer_of(np.ones((3, 4)), np.eye(4))
    torn = marked()
    object.__setattr__(torn, "mask", np.ones((2, 3, 4), bool))
    with pytest.raises(InconsistentError, match="Its mask has"):
        plots.brain_slices(torn)


def test_oblique_images_keep_their_places():
    """A ball is found where it was put, although its voxels are turned."""
    layer = layer_of(marked(oblique()).values, oblique())
    heavy = np.argwhere(layer.values > 1)
    centre = np.average(heavy, weights=layer.values[tuple(heavy.T)], axis=0)
    np.testing.assert_allclose(layer.origin + layer.zooms * centre, MARK, atol=0.8)


@pytest.mark.parametrize("limit", [1e-9, 0.013, 0.99, 1.0, 1.01, 4.2, 71.3, 5e8])
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.9])
def test_ticks_of_the_bar_are_few_symmetric_and_inside(limit, threshold):
    ticks = np.array(bar_ticks(limit, threshold * limit))
    np.testing.assert_allclose(ticks, -ticks[::-1])
    assert 3 <= len(ticks) <= 7
    assert ticks.max() <= limit
    assert (np.diff(ticks) > 0).all()
    assert not threshold or np.isclose(ticks, threshold * limit).any()


# -- lightbox and glass ------------------------------------------------------------------------


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_a_lightbox_says_where_each_slice_is(plane, axis):
    values = places()[..., axis] * head()
    figure = plots.brain_lightbox(map_of(values), plane=plane, slices=7, columns=4)
    axes = figure.axes[:7]
    words = [t.get_text() for ax in axes for t in ax.texts if len(t.get_text()) > 1 or
             t.get_text().isdigit()]  # fmt: skip
    assert len(words) == 7
    assert words[0].startswith(f"{'xyz'[axis]} = ")
    shown = [float(w.removeprefix(f"{'xyz'[axis]} = ").removesuffix(" mm").replace("−", "-"))
             for w in words]  # fmt: skip
    assert (np.diff(shown) > 0).all()
    for ax, place in zip(axes, shown, strict=True):
        inside = np.ma.compressed(np.ma.masked_invalid(ax.images[0].get_array()))
        if abs(place) > 1:  # every voxel's value is its place
            assert np.median(inside) == pytest.approx(place, abs=0.5)


def test_lightbox_slices_can_be_chosen_and_are_checked():
    figure = plots.brain_lightbox(marked(), slices=[-8.0, 0.0, 8.0], columns=9)
    assert len(figure.axes) == 4  # three and the bar
    with pytest.raises(UsageError, match="a slice is 900"):
        plots.brain_lightbox(marked(), slices=[900.0])
    with pytest.raises(UsageError, match="plane is 'top'"):
        plots.brain_lightbox(marked(), plane="top")
    with pytest.raises(UsageError, match="no slice"):
        plots.brain_lightbox(marked(), slices=[])


def test_a_glass_brain_shows_the_largest_magnitude_with_its_sign():
    values = np.where(head(), np.random.default_rng(0).standard_normal(GRID), 0)
    scene = scene_of(map_of(values), None, 0.0, None)
    for axis, plane in enumerate(("sagittal", "coronal", "axial")):
        found = projected(scene, plane).colour.values.squeeze(axis)
        lines = np.moveaxis(values.astype(np.float32), axis, -1)
        for index in itertools.product(*map(range, found.shape)):
            line = lines[index]
            assert found[index] == line[np.abs(line).argmax()]


def test_a_glass_brain_keeps_sides():
    picture = raster(figure := plots.glass_brain(turned(marked(), "LAS")))
    coronal, axial = figure.axes[1:3]
    for ax, up in ((coronal, MARK[2]), (axial, MARK[1])):
        assert is_red(colour_at(ax, MARK[0], up, picture))
        assert not is_red(colour_at(ax, -MARK[0], up, picture))
        assert letters(ax)["L"] < letters(ax)["R"]
    with pytest.raises(DegenerateError, match="empty"):
        plots.glass_brain(map_of(np.zeros(GRID), mask=np.zeros(GRID, bool)))


# -- original, shifted, traversals -------------------------------------------------------------


def test_original_and_shifted_share_one_window():
    figure = plots.original_shifted_difference(grown(0), grown(-1.5), affine_of())
    original, shifted, change = (figure.axes[3 * i : 3 * i + 3] for i in range(3))
    for a, b, c in zip(original, shifted, change, strict=True):
        first, second = (np.asarray(ax.images[0].get_array()) for ax in (a, b))
        same = np.isclose(first, second)
        assert 0.5 < same.mean() < 1  # equal but for the ball
        assert (second[~same] < first[~same]).all()
        assert a.get_xlim() == b.get_xlim() == c.get_xlim()
        np.testing.assert_array_equal(c.images[0].get_array(), first)
        assert c.images[1].get_clim() == (-1.5, 1.5)
        assert np.nanmin(c.images[1].get_array()) == pytest.approx(-1.5)
    with pytest.raises(InconsistentError, match="shifted image has grid"):
        plots.original_shifted_difference(grown(0), np.zeros((2, 3, 4)), affine_of())


def test_a_traversal_strip_has_a_column_for_each_amount():
    amounts = [-3, -1.5, 0, 1.5, 3]
    images = np.stack([grown(a / 3) for a in amounts])
    figure = plots.traversal_strip(images, amounts, affine_of())
    assert [ax.get_title() for ax in figure.axes[:5]] == ["−3 SD", "−1.5 SD", "0 SD", "+1.5 SD",
                                                          "+3 SD"]  # fmt: skip
    changes = figure.axes[10:15]
    drawn = [np.ma.filled(np.ma.masked_invalid(ax.images[1].get_array()), 0) for ax in changes]
    extremes = [d.flat[np.abs(d).argmax()] for d in drawn]
    np.testing.assert_allclose(extremes, [-1, -0.5, 0, 0.5, 1], atol=1e-5)
    assert {ax.images[1].get_clim() for ax in changes} == {(-1, 1)}
    assert len({ax.get_xlim() for ax in figure.axes[:5]}) == 1
    plain = plots.traversal_strip(images[:2], amounts[:2], affine_of(), difference=False)
    assert not colours_of(plain)


@pytest.mark.parametrize(
    ("amounts", "words"),
    [
        ([-1, 1, 2], "no image is at amount 0"),
        ([1, 0, -1], "increasing"),
        ([0, 1], "one image for"),
    ],
)
def test_traversals_that_cannot_be_drawn(amounts, words):
    with pytest.raises((UsageError, InconsistentError), match=words):
        plots.traversal_strip(np.stack([grown(0)] * 3), amounts, affine_of())


def test_a_traversal_gif_walks_there_and_back(tmp_path):
    images = np.stack([grown(a) for a in (-1, 0, 1)])
    path = plots.traversal_gif(tmp_path / "walk.gif", images, [-2, 0, 2], affine_of(), dpi=60)
    film = Image.open(path)
    assert film.n_frames == 4
    assert film.info["loop"] == 0
    frames = []
    for number in range(4):
        film.seek(number)
        frames.append(np.asarray(film.convert("RGB")).astype(int))
        assert film.info["duration"] == 750
    np.testing.assert_array_equal(frames[1], frames[3])
    assert np.abs(frames[0] - frames[2]).max() > 50
    assert (frames[0][0, 0] == 255).all()
    assert [p.name for p in tmp_path.iterdir()] == ["walk.gif"]
    with pytest.raises(UsageError, match="suffix"):
        plots.traversal_gif(tmp_path / "walk.png", images, [-2, 0, 2], affine_of())
    with pytest.raises(WriteError):
        plots.traversal_gif(tmp_path / "no" / "walk.gif", images, [-2, 0, 2], affine_of(), dpi=40)


def heart(thickness: float, n_frames=6) -> np.ndarray:
    x, y = np.meshgrid(np.arange(24) - 11, np.arange(20) - 9, indexing="ij")
    radius = 4 + np.cos(2 * np.pi * np.arange(n_frames) / n_frames)
    distance = np.hypot(x, y)[..., None]
    return ((distance < radius) + 0.5 * (distance < radius + thickness))[:, :, None].astype(
        np.float32
    )


@pytest.mark.parametrize("difference", [False, True])
def test_two_hearts_beat_in_step(tmp_path, difference):
    path = plots.cine_film(tmp_path / "heart.gif", heart(3), heart(5), difference=difference,
                           seconds=0.6, dpi=50)  # fmt: skip
    film = Image.open(path)
    assert film.n_frames == 6
    assert film.info["duration"] == 100
    wide = np.asarray(film.convert("RGB"))
    assert wide.shape[1] == pytest.approx(50 * (1.8 * (2 + difference) + 0.06 * (1 + difference)),
                                          abs=1.5)  # fmt: skip


def test_cines_that_cannot_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(InconsistentError, match="The same"):
        plots.cine_film(tmp_path / "a.gif", heart(3), heart(3, 5))
    with pytest.raises(UsageError, match="slice_index is 3"):
        plots.cine_film(tmp_path / "a.gif", heart(3), heart(3), slice_index=3)
    with pytest.raises(DegenerateError, match="not finite"):
        plots.cine_film(tmp_path / "a.gif", heart(3), heart(3) * np.nan)
    monkeypatch.setattr(films.shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingLibraryError, match=r"needs the program ffmpeg.*Write a \.gif"):
        plots.cine_film(tmp_path / "a.mp4", heart(3), heart(3))
    assert not list(tmp_path.iterdir())


def stand_in(folder: Path, script: str) -> None:
    """A program called ffmpeg."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_mp4_frames_are_handed_to_ffmpeg_whole_and_even(tmp_path, monkeypatch):
    """The stand-in keeps what it is given, so that bytes can be counted."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    stand_in(programs, f'echo "$@" > "{tmp_path}/said"; for last; do :; done; cat > "$last"')
    path = plots.cine_film(tmp_path / "heart.mp4", heart(3), heart(5), dpi=51)
    said = (tmp_path / "said").read_text().split()
    width, height = map(int, said[said.index("-s") + 1].split("x"))
    assert width % 2 == height % 2 == 0
    assert path.stat().st_size == 6 * width * height * 3
    assert float(said[said.index("-r") + 1]) == pytest.approx(3)
    stand_in(programs, "echo no encoder >&2; exit 1")
    with pytest.raises(WriteError, match="could not encode the film: no encoder"):
        plots.cine_film(tmp_path / "other.mp4", heart(3), heart(5), dpi=40)
    assert not (tmp_path / "other.mp4").exists()


# -- found beside planted ----------------------------------------------------------------------


def planted_row(variant="rs1", *, planted=True, **change) -> plots.PlantedRow:
    ball = np.linalg.norm(places() - MARK, axis=-1) < 8
    effect = [0.5, -4, 1, 2, 0, 1, 3, -0.4]
    regions = pd.DataFrame({"region": [f"r{i}" for i in range(8)], "effect": effect})
    regions["low"], regions["high"] = regions["effect"] - 1, regions["effect"] + 1
    fields = {
        "variant": variant, "neg_log10_p": 12.34, "template": grown(0), "affine": affine_of(),
        "found": marked(), "regions": regions, "planted_mask": ball if planted else None,
        "planted_region": "r7" if planted else "", "truth": -0.6 if planted else None,
    }  # fmt: skip
    return plots.PlantedRow(**(fields | change))


def words_of(figure) -> list[str]:
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def test_found_and_planted_stand_side_by_side():
    figure = plots.found_beside_planted([planted_row(), planted_row("rs2", planted=False)], top=3)
    words = words_of(figure)
    for text in ("rs1", "−log₁₀ P = 12.3", "planted  −0.60", "found  −4.0", "nothing planted"):
        assert text in words
    # the planted region is not among the first three, and is drawn all the same
    assert [w for w in words if w[:1].isdigit()][:3] == ["1  r1", "2  r6", "7  r7"]
    diamonds = [line for ax in figure.axes for line in ax.lines if line.get_marker() == "D"]
    assert [d.get_xdata()[0] for d in diamonds] == [-0.6]
    assert len({im.get_clim() for im in colours_of(figure)}) == 1


def test_planted_slices_go_through_the_region_and_show_it_on_its_side():
    figure = plots.found_beside_planted([planted_row()])
    picture = raster(figure)
    coronal = figure.axes[1]
    green = colour_at(coronal, MARK[0], MARK[2], picture)
    assert green[1] > green[0] + 60
    other = colour_at(coronal, -MARK[0], MARK[2], picture)
    assert abs(other[1] - other[0]) < 10
    found = figure.axes[3]
    assert is_red(colour_at(found, MARK[0], MARK[2], picture))
    assert not is_red(colour_at(found, -MARK[0], MARK[2], picture))


def test_what_is_not_certain_is_not_called_found():
    weak = planted_row(planted=False)
    regions = weak.regions.assign(q_value=0.5)
    figure = plots.found_beside_planted([planted_row(planted=False, regions=regions)])
    assert "no region for certain" in words_of(figure)
    ranked = weak.regions.assign(rank=np.arange(8, 0, -1))
    assert planted_row(regions=ranked).ranked["region"].tolist() == [
        f"r{i}" for i in range(7, -1, -1)
    ]


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([], UsageError, "0 variants"),
        ([{}] * 11, UsageError, "11 variants"),
        ([{}, {"unit": "mm"}], UsageError, "2 different units"),
        ([{"planted_region": "r9"}], UsageError, "'r9' of rs1 is not in"),
        ([{"planted_mask": np.ones((2, 3, 4), bool)}], InconsistentError, "planted region of rs1"),
        ([{"regions": pd.DataFrame({"region": ["a"]})}], MalformedError, "no column 'effect'"),
    ],
)
def test_pages_that_cannot_be_drawn(rows, error, words):
    with pytest.raises(error, match=words):
        plots.found_beside_planted([planted_row(**row) for row in rows])


def test_pictures_repeat_to_the_byte(tmp_path):
    for name in "ab":
        plots.save_figure(plots.brain_slices(marked()), tmp_path / f"{name}.pdf")
    a, b = (Path(tmp_path / f"{name}.pdf").read_bytes() for name in "ab")
    assert a == b

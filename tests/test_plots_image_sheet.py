"""Sheets of images: the right slices the right way up, nothing overlapping, nobody named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from imgwas.errors import UsageError
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.quality import inspect_images
from imgwas.plots import save_figure
from imgwas.plots.image_sheet import (
    PIXELS,
    SheetEntry,
    image_sheet,
    middle_slices,
    montage,
    quality_pages,
    reconstruction_sheet,
)
from tests.volumes import blob, write_nifti


def marked() -> np.ndarray:
    """A bright box with marks at its right, front and top, in RAS order."""
    values = np.zeros((21, 25, 17), np.float32)
    values[4:17, 4:21, 4:13] = 1
    values[16, 12, 8] = 5  # right
    values[10, 20, 8] = 6  # front
    values[10, 12, 12] = 7  # top
    return values


def where(picture: np.ndarray, value: float) -> tuple[int, int]:
    """Row (from the top) and column of a mark."""
    ((row, column),) = np.argwhere(picture == value)
    return int(row), int(column)


def test_up_is_up_and_front_and_right_are_at_the_right():
    sagittal, coronal, axial = middle_slices(marked())
    assert sagittal.shape == (17, 25)
    assert coronal.shape == (17, 21)
    assert axial.shape == (25, 21)
    assert where(sagittal, 7) == (17 - 1 - 12, 12)  # above the middle
    assert where(sagittal, 6) == (17 - 1 - 8, 20)  # front at the right
    assert where(coronal, 7) == (4, 10)
    assert where(coronal, 5) == (8, 16)  # right hand at the right
    assert where(axial, 6) == (25 - 1 - 20, 10)  # front is up
    assert where(axial, 5) == (25 - 1 - 12, 16)


def test_pixels_are_square_in_millimetres():
    """Slices 3 mm apart are drawn three pixels high, each the same three times."""
    sagittal, coronal, axial = middle_slices(marked(), (1.0, 1.0, 3.0))
    assert (sagittal.shape, coronal.shape, axial.shape) == ((51, 25), (51, 21), (25, 21))
    np.testing.assert_array_equal(sagittal[0::3], middle_slices(marked())[0])
    np.testing.assert_array_equal(sagittal[0::3], sagittal[2::3])


def test_large_images_are_thinned_and_blank_and_empty_ones_drawn():
    assert max(max(p.shape) for p in middle_slices(np.ones((600, 500, 4)))) <= PIXELS
    assert [p.shape for p in middle_slices(np.zeros((3, 4, 5)))] == [(5, 4), (5, 3), (4, 3)]
    assert middle_slices(np.ones((6, 7, 1, 9)))[2].shape == (7, 6)  # one frame of a cine


def test_montage_keeps_every_picture_whole():
    pictures = [np.full((4, 3), 1.0), np.full((8, 2), 2.0), np.full((5, 5), 3.0)]
    laid = montage(pictures)
    assert laid.shape == (8, 10)
    assert (laid[:, 3:5] == 2).all()
    assert [np.count_nonzero(laid == v) for v in (1.0, 2.0, 3.0)] == [24, 16, 40]


def boxes(figure):
    """Extents of titles, pictures and problems on the page, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for ax in figure.axes:
        for artist in (ax.title, ax._left_title, ax.xaxis.label, *ax.images):
            text = getattr(artist, "get_text", lambda: "image")()
            if text.strip():
                yield text, artist.get_window_extent(renderer)


def overlaps(figure) -> list[tuple[str, str]]:
    found = list(boxes(figure))
    return [
        (a, b)
        for i, (a, one) in enumerate(found)
        for b, other in found[:i]
        if one.x0 < other.x1 - 0.5 and other.x0 < one.x1 - 0.5
        and one.y0 < other.y1 - 0.5 and other.y0 < one.y1 - 0.5
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 3, 7, 21])
def test_nothing_overlaps_and_nothing_leaves_the_page(n):
    long = "Grid 120x120x15, most have 120x120x90; " * 9
    shapes = [(20, 24, 18), (40, 10, 10), (9, 9, 40)]
    entries = [
        SheetEntry(
            str(i + 1), None if i % 5 == 1 else blob(shapes[i % 3], i), long if i % 2 else ""
        )
        for i in range(n)
    ]
    figure = image_sheet(entries)
    assert overlaps(figure) == []
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in boxes(figure):
        assert box.x0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= height + 1, text
    problems = [ax.get_xlabel() for ax in figure.axes]
    assert all(text.count("\n") <= 1 for text in problems)


def test_no_image_is_no_sheet():
    for draw in (image_sheet, reconstruction_sheet):
        with pytest.raises(UsageError, match=r"there is no image to draw"):
            draw([])


@pytest.fixture
def rows(tmp_path):
    """24 images, four of them with problems; files named by ids."""
    files = []
    for i in range(24):
        path = write_nifti(tmp_path / f"person{1000 + i}.nii.gz", blob((10, 12, 9), i))
        files.append(ImageFile(f"person{1000 + i}", path))
    write_nifti(files[3].path, blob((9, 9, 9)))
    write_nifti(files[5].path, blob() * 0)
    files[7].path.write_bytes(files[7].path.read_bytes()[:200])
    files[9].path.unlink()
    return inspect_images(ImageList(tuple(files)))


def titles(page) -> list[int]:
    return [int(ax._left_title.get_text()) for ax in page.axes]


def test_everything_wrong_is_drawn_and_then_a_sample(rows):
    assert [len(row.problems) > 0 for row in rows] == [True] * 4 + [False] * 20
    drawn = [n for page in quality_pages(rows, pictures=10) for n in titles(page)]
    assert drawn[:4] == [1, 2, 3, 4]
    assert len(drawn) == 10
    assert drawn == sorted(set(drawn))
    assert drawn == [n for page in quality_pages(rows, pictures=10) for n in titles(page)]
    assert [n for page in quality_pages(rows, pictures=2) for n in titles(page)] == [1, 2, 3, 4]
    assert [len(page.axes) for page in quality_pages(rows, pictures=99)] == [21, 3]
    assert list(quality_pages(rows[4:], pictures=0)) == []


def test_pages_name_nobody_and_say_what_is_wrong(rows, tmp_path):
    (page,) = quality_pages(rows, pictures=6)
    path = save_figure(page, tmp_path / "sheet.svg")
    text = path.read_text()
    assert "person" not in text
    for word in ("does not exist", "cut short", "Every voxel is 0", "Grid 9x9x9"):
        assert word in text
    assert overlaps(page) == []
    first = path.read_bytes()
    (again,) = quality_pages(rows, pictures=6)
    assert save_figure(again, tmp_path / "again.svg").read_bytes() == first


def test_images_are_turned_to_ras_before_they_are_drawn(tmp_path):
    """The same head stored along other axes gives the same picture."""
    affine = np.diag([2.0, 2, 2, 1])
    straight = nib.Nifti1Image(marked(), affine)
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("PSR")
    )
    pictures = []
    for name, image in (("a", straight), ("b", straight.as_reoriented(change))):
        path = Path(tmp_path / f"{name}.nii.gz")
        nib.save(image, path)
        (page,) = quality_pages(inspect_images(ImageList((ImageFile(name, path),))))
        pictures.append(np.asarray(page.axes[0].images[0].get_array()))
    np.testing.assert_array_equal(*pictures)


@dataclass
class Pair:
    original: np.ndarray
    reconstruction: np.ndarray
    mask: np.ndarray
    explained: float


def test_reconstructions_share_a_window_and_show_only_the_mask():
    original = blob((12, 14, 10)) + 3
    mask = original > 60
    other = original.copy()
    other[~mask] = 9999
    pair = Pair(original, other, mask, 0.8)
    figure = reconstruction_sheet([pair, pair])
    images = [ax.images[0] for ax in figure.axes]
    assert len(images) == 6
    assert images[0].get_clim() == images[1].get_clim()
    np.testing.assert_array_equal(images[0].get_array(), images[1].get_array())
    low, high = images[2].get_clim()
    assert low == -high
    assert not np.any(images[2].get_array())
    assert overlaps(figure) == []

"""Quality of images: every fault is one clear line, and good images have none."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from imgwas.cluster import local_cluster
from imgwas.images import likeness
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.nifti import read_header, read_volume
from imgwas.images.quality import (
    COLUMNS,
    KINDS,
    count_problems,
    inspect_image,
    inspect_images,
    quality_table,
    write_quality,
)
from imgwas.images.space import Space
from tests.cli_cohort import imgwas
from tests.data import data_file
from tests.volumes import blob, write_nifti

GRID = (14, 18, 13)
PLACE = np.array([[2.0, 0, 0, -14], [0, 2, 0, -18], [0, 0, 2, -13], [0, 0, 0, 1]])


def head(seed: int) -> np.ndarray:
    """A head with structures that all people share, the same turned in no other way."""
    shared = np.random.default_rng(99).random((7, 9, 13)).repeat(2, 0).repeat(2, 1)
    values = blob(GRID, seed)
    return np.where(values > 0, 60 + 0.3 * values + 200 * shared, 0).astype(np.float32)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve good images ``person0.nii.gz`` ... at one place."""
    for i in range(12):
        write_nifti(tmp_path / f"person{i:02d}.nii.gz", head(i), PLACE)
    return tmp_path


def listed(folder: Path) -> ImageList:
    return ImageList(tuple(ImageFile(p.name[:8], p) for p in sorted(folder.glob("person*.nii.gz"))))


def problems_of(folder: Path, **options: object) -> dict[str, tuple[str, ...]]:
    """Sample id -> its problems, for those that have any."""
    rows = inspect_images(listed(folder), **options)
    return {row.file.sample_id: tuple(map(str, row.problems)) for row in rows if row.problems}


def test_good_images_have_no_problem(folder):
    rows = inspect_images(listed(folder), threads=2)
    assert [row.problems for row in rows] == [()] * 12
    for row in rows:
        values = read_volume(row.file).values
        assert row.maximum == values.max()
        assert row.mean == pytest.approx(values.mean(), rel=1e-5)
        assert row.share_nonzero == pytest.approx((values != 0).mean())
        assert row.thumbnail is None
    # worst first: among good ones, the least like the others
    assert [r.resemblance for r in rows] == sorted(r.resemblance for r in rows)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def shifted() -> np.ndarray:
    affine = PLACE.copy()
    affine[1, 3] += 7
    return affine


def mirrored() -> np.ndarray:
    """The same voxels, said to run from right to left."""
    return PLACE @ np.diag([-1, 1, 1, 1])


FAULTS = {
    "other grid": (
        lambda p: write_nifti(p, blob((9, 9, 9)), PLACE), "grid",
        "Grid 9x9x9, most have 14x18x13.",
    ),
    "other voxels": (
        lambda p: write_nifti(p, head(3), PLACE @ np.diag([1, 1, 1.5, 1])), "voxel-size",
        "Voxels of 2x2x3 mm, most have 2x2x2 mm.",
    ),
    "other place": (
        lambda p: write_nifti(p, head(3), shifted()), "place",
        "Lies up to 7.0 mm from where most have it.",
    ),
    "other orientation": (
        lambda p: write_nifti(p, head(3), mirrored()), "axes", "Axes LAS, most have RAS.",
    ),
    "upside down": (
        lambda p: write_nifti(p, head(3)[:, :, ::-1], PLACE), "turned",
        "Looks turned: with axis 3 reversed it would resemble the others by r",
    ),
    "back to front": (
        lambda p: write_nifti(p, head(3)[:, ::-1], PLACE), "turned",
        "Looks turned: with axis 2 reversed",
    ),
    "blank": (lambda p: write_nifti(p, head(3) * 0, PLACE), "blank", "Every voxel is 0."),
    "constant": (lambda p: write_nifti(p, head(3) * 0 + 7, PLACE), "blank", "Every voxel is 7."),
    "nearly blank": (
        lambda p: write_nifti(p, head(3) * (np.arange(GRID[0]) == 0)[:, None, None]
                              + (np.indices(GRID).sum(0) == 3), PLACE),
        "sparse", "of the voxels are not zero.",
    ),
    "NaN": (
        lambda p: write_nifti(p, np.where(head(3) > 200, np.nan, head(3)), PLACE), "not-finite",
        "values that are not finite (NaN or infinity).",
    ),
    "cut short": (truncated, "damaged", "The file is damaged or cut short"),
    "absurd sizes": (
        lambda p: write_nifti(p, head(3), PLACE, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
        "header", "The file claims 32767x32767x32767 voxels. At most 512,000,000 are read.",
    ),
    "claims more than it holds": (
        lambda p: write_nifti(p, head(3), PLACE, dim=[3, 700, 700, 700, 1, 1, 1, 1]), "header",
        "The header of the file claims 1,372,000,352 bytes",
    ),
    "4-D": (
        lambda p: write_nifti(p, head(3)[..., None].repeat(2, -1), PLACE), "dimensions",
        "The file has 4 axes (14x18x13x2). 3 axes are needed.",
    ),
    "absent": (lambda p: p.unlink(), "absent", "The file does not exist."),
    "a folder": (
        lambda p: (p.unlink(), p.mkdir()), "unreadable", "The file cannot be read",
    ),
    "no orientation": (
        lambda p: write_nifti(p, head(3), PLACE, sform_code=0, qform_code=0), "no-orientation",
        "Neither qform nor sform is set.",
    ),
    "two orientations": (
        lambda p: write_nifti(p, head(3), PLACE, qform_code=1, qoffset_x=2.0), "forms-apart",
        "Qform and sform are",
    ),
    "a mask": (
        lambda p: write_nifti(p, (head(3) > 0).astype(np.float32), PLACE), "unlike",
        "Unlike the others: r 0.",
    ),
    "other contrast": (
        lambda p: write_nifti(p, np.where(head(3) > 0, 400 - head(3), 0).clip(0), PLACE),
        "unlike", "inside the head (usual 1.00)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_clear_line(folder, name):
    harm, kind, text = FAULTS[name]
    files = listed(folder)
    harm(folder / "person03.nii.gz")
    rows = inspect_images(files)
    assert kind in rows[0].kinds, rows[0].problems
    said = {p.kind: str(p) for p in rows[0].problems}[kind]
    assert text in said
    assert rows[0].file.sample_id == "person03"
    assert "person03" not in " ".join(map(str, rows[0].problems))
    assert not any(row.problems for row in rows[1:])
    write_quality(folder / "qc.tsv", rows)
    with (folder / "qc.tsv").open(newline="") as stream:
        first = next(csv.DictReader(stream, delimiter="\t"))
    assert tuple(first) == COLUMNS
    assert (first["number"], first["sample_id"]) == ("1", "person03")
    assert text in first["problems"]
    assert set(first["kinds"].split(",")) <= set(KINDS)


def test_copies_are_found_by_content_and_blank_images_are_no_copies(folder):
    write_nifti(folder / "person03.nii.gz", head(5), PLACE)
    for i in (7, 8):
        write_nifti(folder / f"person{i:02d}.nii.gz", head(0) * 0, PLACE)
    found = problems_of(folder)
    assert found["person03"] == found["person05"] == ("The same image under 2 ids.",)
    assert found["person07"] == found["person08"] == ("Every voxel is 0.",)
    assert set(found) == {"person03", "person05", "person07", "person08"}


def test_copies_among_the_visits_of_one_person(folder):
    files = [ImageFile("a", folder / "person00.nii.gz", visit="2"),
             ImageFile("a", folder / "person00.nii.gz", visit="3"),
             ImageFile("b", folder / "person01.nii.gz", visit="2")]  # fmt: skip
    rows = inspect_images(ImageList(tuple(files)))
    assert [(r.file.sample_id, len(r.problems)) for r in rows] == [("a", 1), ("a", 1), ("b", 0)]
    assert str(rows[0].problems[0]) == "The same image in 2 visits."


def test_one_image_may_have_several_problems(folder):
    write_nifti(folder / "person03.nii.gz", blob((9, 9, 9)), mirrored(), sform_code=0)
    (said,) = problems_of(folder).values()
    assert "Grid 9x9x9, most have 14x18x13." in said
    assert len(said) >= 2


def test_what_is_expected_beats_what_most_have(folder):
    template = write_nifti(folder / "template.nii", blob((9, 9, 9)), PLACE)
    header = read_header(template)
    found = problems_of(folder, expected=Space(header.grid, header.affine))
    assert len(found) == 12
    assert set(found.values()) == {("Grid 14x18x13, expected 9x9x9.",)}
    here = Space(GRID, shifted())
    assert set(problems_of(folder, expected=here).values()) == {
        ("Lies up to 7.0 mm from where expected it.",)
    }


def test_places_are_compared_only_where_most_share_one(folder):
    """Scans as they came lie each at a place of its own, and that is no fault."""
    for i in range(12):
        affine = PLACE.copy()
        affine[:3, 3] += i * 0.7
        write_nifti(folder / f"person{i:02d}.nii.gz", head(i), affine)
    assert problems_of(folder) == {}


def test_a_damaged_majority_does_not_decide_what_is_usual(folder):
    files = listed(folder)
    for i in range(9):
        truncated(folder / f"person{i:02d}.nii.gz")
    rows = inspect_images(files)
    assert count_problems(rows) == {"damaged": 9}
    assert [row.file.sample_id for row in rows[9:]] == ["person09", "person10", "person11"]


def test_nothing_readable_and_nothing_at_all(tmp_path):
    (tmp_path / "person00.nii.gz").write_bytes(b"")
    rows = inspect_images(listed(tmp_path))
    assert [row.kinds for row in rows] == [("header",)]
    assert quality_table([]) == []


def test_cines_are_welcome_when_asked_for(folder):
    for i in range(12):
        write_nifti(folder / f"person{i:02d}.nii.gz", head(i)[..., None].repeat(3, -1), PLACE)
    assert len(problems_of(folder)) == 12
    assert problems_of(folder, dimensions=(4,)) == {}


def test_workers_find_the_same_in_the_same_order(folder):
    truncated(folder / "person03.nii.gz")
    files = listed(folder)
    here = inspect_images(files)
    with local_cluster(2) as client:
        there = inspect_images(files, client=client)
    assert [(r.file.sample_id, r.problems) for r in here] == [
        (r.file.sample_id, r.problems) for r in there
    ]


# --- likeness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(24, 36, 12), (25, 31, 13), (5, 12, 1), (1, 1, 1)])
def test_thumbnails_are_means_of_blocks(grid):
    """Means over twelfths, by cutting every voxel into twelve along each axis."""
    values = np.random.default_rng(0).random(grid)
    slow = values
    for axis, n in enumerate(grid):
        k = min(12, n)
        fine = slow.repeat(k, axis=axis)
        slow = np.stack([part.mean(axis=axis) for part in np.split(fine, k, axis=axis)], axis=axis)
    slow = (slow - slow.mean()) / (slow.std() or 1)
    np.testing.assert_allclose(likeness.thumbnail(values), slow, atol=2e-3)
    turned = likeness.thumbnail(values[:, ::-1])
    np.testing.assert_allclose(turned, likeness.thumbnail(values)[:, ::-1], atol=2e-3)


def test_likeness_is_the_correlation_with_the_mean_of_the_others():
    rng = np.random.default_rng(1)
    common = rng.standard_normal((6, 7, 8))
    small = [
        likeness.thumbnail(common + 0.5 * rng.standard_normal(common.shape)) for _ in range(11)
    ]
    for i, found in enumerate(likeness.compare(small)):
        rest = sum(s.astype(float) for k, s in enumerate(small) if k != i)
        slow = np.corrcoef(small[i].astype(float).ravel(), rest.ravel())[0, 1]
        assert found.whole == pytest.approx(slow, abs=1e-9)
    assert likeness.compare(small[:9]) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("steps", [(1, 1, -1), (-1, -1, 1), (1, -1, 1)])
def test_any_turn_of_a_cube_is_recognised(order, steps):
    rng = np.random.default_rng(2)
    common = rng.standard_normal((8, 8, 8))
    small = [
        likeness.thumbnail(common + 0.3 * rng.standard_normal(common.shape)) for _ in range(12)
    ]
    small[4] = small[4].transpose(order)[tuple(slice(None, None, s) for s in steps)]
    found = likeness.compare(small)
    assert [one.kind for one in found] == [""] * 4 + ["turned"] + [""] * 7


def test_false_alarms_are_rare():
    """Normal variation, 40 studies of 30 images."""
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(40):
        common = rng.standard_normal((6, 6, 6))
        weight = rng.gamma(20, 0.02, 30)
        small = [likeness.thumbnail(common + w * rng.standard_normal((6, 6, 6))) for w in weight]
        alarms += sum(bool(one.kind) for one in likeness.compare(small))
    assert alarms <= 6  # of 1,200


def test_memory_does_not_grow_with_the_size_of_the_study(folder):
    """What stays of an image is its thumbnail: 3.5 kB and a row, not its 3 million voxels."""
    path = write_nifti(folder / "big.nii", np.tile(head(0), (8, 8, 8)), PLACE)
    inspect_image(ImageFile("p", path))
    tracemalloc.start()
    rows = [inspect_image(ImageFile(f"p{i}", path)) for i in range(6)]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) == 6
    assert kept / 6 < 20_000


# --- the command --------------------------------------------------------------------------------


def test_the_command_counts_draws_and_names_nobody(folder):
    truncated(folder / "person03.nii.gz")
    words = ["images", "qc", folder, "--pattern", "{id}.nii.gz", "--out", "qc", "--threads", "2"]
    done = imgwas(*words, folder=folder)
    assert done.code == 0, done.text
    assert "looked at 12 images: 1 have problems" in done.text
    assert "1  cut short or damaged" in done.text
    assert "person" not in done.text
    assert sorted(p.name for p in (folder / "qc").iterdir()) == [
        ".gitignore", "log-1.txt", "qc.tsv", "sheet-001.png"
    ]  # fmt: skip
    assert "person" not in (folder / "qc/log-1.txt").read_text()
    failed = imgwas(*words, "--fail-on-problems", "--format", "pdf", folder=folder)
    assert failed.code == 7
    assert "1 of 12 images have problems. see qc/qc.tsv" in failed.text
    assert sorted(p.name for p in (folder / "qc").glob("sheet*")) == ["sheet-001.pdf"]


def test_the_command_takes_a_prepared_folder_a_list_and_a_template(folder):
    done = imgwas("preprocess", folder, "--pattern", "{id}.nii.gz", "--steps", "reorient",
                  "--out", "ready", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    for source in ("ready", "ready/images.tsv"):
        done = imgwas("images", "qc", source, "--out", "qc", "--pictures", "0", folder=folder)
        assert "looked at 12 images: 0 have problems" in done.text
        assert "0 pages" in done.text
    write_nifti(folder / "t.nii", blob((9, 9, 9)), PLACE)
    done = imgwas("images", "qc", "ready", "--out", "qc", "--expected", "t.nii", folder=folder)
    assert "12  other grid" in done.text
    done = imgwas("images", "qc", "none", "--out", "qc", folder=folder)
    assert done.code == 3


def test_real_brains_have_no_problem_and_planted_ones_are_found(tmp_path):
    """IXI: 40 T1 as they came; a segmentation, a flip and an inverted contrast among them."""
    source = data_file("ixi40/t1")
    files = [ImageFile(p.name[:6], p) for p in sorted(source.glob("*.nii.gz"))[:24]]
    assert not any(row.problems for row in inspect_images(ImageList(tuple(files)), threads=2))
    volume = read_volume(files[3])
    top = np.percentile(volume.values[volume.values > 0], 99)
    inverted = np.where(volume.values > 0.1 * top, np.maximum(top - volume.values, 0), 0)
    labels = sorted(data_file("ixi40/dlmuse_seg").glob("*.nii.gz"))[0]
    planted = {
        "flip": volume.values[:, ::-1],
        "contrast": inverted,
        "labels": read_volume(labels).values,
    }
    for name, values in planted.items():
        write_nifti(tmp_path / f"{name}.nii.gz", values, volume.affine)
    more = [ImageFile(name, tmp_path / f"{name}.nii.gz") for name in planted]
    rows = inspect_images(ImageList((*files, *more)), threads=2)
    found = {row.file.sample_id: row.kinds for row in rows if row.problems}
    assert found == {"flip": ("turned",), "contrast": ("unlike",), "labels": ("unlike",)}

"""Recipes, intensities, and preparing a study: parallel, resumable, one bad scan stops nobody."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from imgwas.cluster import local_cluster
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    OpenError,
    UsageError,
)  # fmt: skip
from imgwas.images import intensity
from imgwas.images.cache import CachedImages, build_cache
from imgwas.images.listing import ImageFile, ImageList
from imgwas.images.manifest import read_image_list, write_image_list
from imgwas.images.nifti import Volume, read_volume, write_volume
from imgwas.images.patches import cut_patches, join_patches, patch_corners
from imgwas.images.prepare import prepare_images
from imgwas.images.recipe import Recipe, prepare_image
from imgwas.images.space import space_of
from imgwas.images.steps import STEPS
from imgwas.images.volumes import ArrayImages, SubsetImages, VolumeImages, open_images
from tests.volumes import blob, write_nifti

PSR = np.array([[0, 0, 2.0, -8], [-2, 0, 0, 10], [0, 3, 0, -7], [0, 0, 0, 1]])


def study(folder, n: int = 6) -> ImageList:
    files = []
    for i in range(n):
        path = write_nifti(folder / f"p{i}.nii.gz", blob(seed=i) * (1 + i), PSR)
        files.append(ImageFile(f"p{i}", path))
    return ImageList(tuple(files))


# --- intensities -----------------------------------------------------------------------------


def test_zscore_is_over_the_voxels_that_are_not_zero():
    values = blob()
    inside = values != 0
    scaled = intensity.zscore(values)
    assert abs(scaled[inside].mean(dtype=np.float64)) < 1e-5
    assert scaled[inside].std(dtype=np.float64) == pytest.approx(1, abs=1e-4)
    mean, sd = values[inside].mean(dtype=np.float64), values[inside].std(dtype=np.float64)
    np.testing.assert_allclose(scaled[~inside], -mean / sd, rtol=1e-5)
    assert not intensity.zscore(values, background="zero")[~inside].any()


@pytest.mark.parametrize("values", [np.zeros((3, 3, 3)), np.eye(3)[None] * 5])
def test_blank_images_have_no_zscore(values):
    with pytest.raises(DegenerateError, match=r"blank|has one value"):
        intensity.zscore(values.astype(np.float32))


def test_ranges_and_percentiles():
    values = blob()
    scaled = intensity.to_range(values, -1, 1)
    assert (scaled.min(), scaled.max()) == (-1, 1)
    np.testing.assert_allclose(scaled, 2 * values / values.max() - 1, atol=1e-6)
    inside = values != 0
    low, high = np.percentile(values[inside], [2, 98])
    clipped = intensity.clip_percentiles(values, 2, 98)
    np.testing.assert_allclose(clipped[inside], np.clip(values[inside], low, high), rtol=1e-6)
    assert not clipped[~inside].any()
    with pytest.raises(DegenerateError, match=r"has one value"):
        intensity.to_range(np.ones((2, 2, 2), np.float32), 0, 1)


def test_tissue_classes_of_a_planted_mixture():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (24, 24, 24))
    values = np.array([300, 600, 900])[truth] + 60 * rng.standard_normal(truth.shape)
    maps = [intensity.tissue_probability(values.astype(np.float32), k) for k in range(3)]
    np.testing.assert_allclose(sum(maps), 1, atol=1e-5)
    assert (np.argmax(maps, axis=0) == truth).mean() > 0.98


# --- patches ---------------------------------------------------------------------------------


def test_patches_of_seed_001():
    corners = patch_corners((155, 155, 95), (55, 55, 35), (3, 3, 3))
    assert len(corners) == 27
    assert {c[0] for c in corners} == {c[1] for c in corners} == {0, 50, 100}
    assert {c[2] for c in corners} == {0, 30, 60}
    covered = np.zeros((155, 155, 95), bool)
    for x, y, z in corners:
        covered[x : x + 55, y : y + 55, z : z + 35] = True
    assert covered.all()


def test_patches_come_back_together():
    values = blob((20, 18, 16))
    corners = patch_corners(values.shape, (9, 9, 9), (3, 2, 2))
    np.testing.assert_allclose(
        join_patches(cut_patches(values, corners, (9, 9, 9)), corners, values.shape), values,
        rtol=1e-6,
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"leave voxels of an axis of 20 uncovered"):
        patch_corners((20, 20, 20), (9, 9, 9), (2, 2, 2))
    with pytest.raises(UsageError, match=r"do not fit a grid"):
        patch_corners((8, 8, 8), (9, 9, 9), (1, 1, 1))


# --- recipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "settings", "words"),
    [
        (["reorint"], {}, "there is no step 'reorint'"),
        (["reorint"], {}, "Did you mean reorient"),
        (["zscore", "zscore"], {}, "the step zscore is named twice"),
        (["zscore"], {"zscore.back": "zero"}, "there is no setting 'back'"),
        (["zscore"], {"zscor.background": "zero"}, "no step for the setting zscor.background"),
        (["zscore"], {"zscore": "zero"}, "no step for the setting zscore"),
        (["zscore"], {"zscore.background": "black"}, "one of shift, zero"),
    ],
)
def test_recipes_that_cannot_be(names, settings, words):
    with pytest.raises(UsageError) as error:
        Recipe.of(names, settings)
    assert words in str(error.value)


def test_recipe_files(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("steps:\n  - reorient\n  - zscore: {background: zero}\n")
    assert Recipe.read(path).as_json() == [
        {"step": "reorient", "axes": "RAS"}, {"step": "zscore", "background": "zero"},
    ]  # fmt: skip
    path.write_text("steps: []\n")
    with pytest.raises(UsageError, match=r"lists no steps"):
        Recipe.read(path)


def test_every_step_is_in_the_table_under_its_name():
    assert all(step.name == name and step.__doc__ for name, step in STEPS.items())


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("skullstrip", "the list names no mask for this image"),
        ("apply-matrix", "the list names no matrix for this image"),
        ("register", "register.template is not set"),
        ("resample", "set resample.template=FILE, resample.voxel_mm=2"),
        ("crop-or-pad", "set crop-or-pad.grid=91,109,91"),
    ],
)
def test_steps_say_what_they_need(tmp_path, step, words):
    images = study(tmp_path, 1)
    with pytest.raises(UsageError) as error:
        prepare_image(images.files[0], Recipe.of([step]))
    assert words in str(error.value)
    assert str(error.value).startswith(f"{step}: ")


def test_a_mask_is_applied_wherever_the_image_has_moved_to(tmp_path):
    """Masked before or after reorientation and resampling, the same brain is left."""
    values = blob()
    mask = (np.indices(values.shape)[0] < 6).astype(np.uint8)
    image = ImageFile(
        "p", write_nifti(tmp_path / "a.nii", values + 1, PSR),
        mask=write_nifti(tmp_path / "m.nii", mask, PSR),
    )  # fmt: skip
    first, _ = prepare_image(image, Recipe.of(["skullstrip", "reorient"]))
    second, record = prepare_image(image, Recipe.of(["reorient", "skullstrip"]))
    np.testing.assert_array_equal(first.values, second.values)
    assert np.count_nonzero(first.values) == mask.sum()
    assert record["measured"]["mask_litres"] == pytest.approx(mask.sum() * 12 / 1e6, abs=1e-4)
    assert record["measured"]["axes_of_file"] == "PSR"
    other = write_nifti(tmp_path / "o.nii", mask, np.eye(4))
    with pytest.raises(InconsistentError, match=r"the mask o.nii is not in the expected space"):
        prepare_image(ImageFile("p", image.path, mask=other), Recipe.of(["skullstrip"]))


def test_a_flirt_matrix_of_the_list_is_applied(tmp_path):
    """A shift in FSL's coordinates moves the brain by as much towards the template."""
    template = Volume(np.ones((20, 20, 20), np.float32), np.diag([2.0, 2, 2, 1]))
    write_volume(tmp_path / "t.nii.gz", template)
    values = np.zeros((20, 20, 20), np.float32)
    values[5:9, 5:9, 5:9] = 3
    path = write_nifti(tmp_path / "a.nii", values, template.affine)
    (tmp_path / "m.mat").write_text("1 0 0 -4\n0 1 0 2\n0 0 1 0\n0 0 0 1\n")
    recipe = Recipe.of(
        ["apply-matrix", "resample"],
        {f"{s}.template": str(tmp_path / "t.nii.gz") for s in ("apply-matrix", "resample")},
    )
    moved, _ = prepare_image(ImageFile("p", path, matrix=tmp_path / "m.mat"), recipe)
    # FSL's x runs against the voxels here: -4 mm are two voxels up
    np.testing.assert_allclose(moved.values, np.roll(values, (2, 1), (0, 1)), atol=1e-5)


def test_external_tools_are_named_when_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    file = study(tmp_path, 1).files[0]
    with pytest.raises(MissingLibraryError, match=r"mri_synthstrip is not installed"):
        prepare_image(file, Recipe.of(["skullstrip"], {"skullstrip.tool": "synthstrip"}))
    template = {"register.template": str(file.path), "register.tool": "flirt"}
    with pytest.raises(MissingLibraryError, match=r"flirt is not installed"):
        prepare_image(file, Recipe.of(["register"], template))


def test_an_external_tool_is_run_without_a_shell(tmp_path, monkeypatch):
    """A stand-in for SynthStrip that copies its input."""
    tool = tmp_path / "mri_synthstrip"
    tool.write_text('#!/bin/sh\ncp "$2" "$4"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = study(tmp_path, 1).files[0]
    recipe = Recipe.of(["skullstrip"], {"skullstrip.tool": "synthstrip"})
    stripped, _ = prepare_image(file, recipe)
    np.testing.assert_array_equal(stripped.values, read_volume(file.path).values)
    tool.write_text("#!/bin/sh\necho no licence >&2\nexit 3\n")
    with pytest.raises(DegenerateError, match=r"failed with code 3 \(no licence\)"):
        prepare_image(file, recipe)


# --- a study ---------------------------------------------------------------------------------


def test_a_study_is_prepared_and_nothing_is_done_twice(tmp_path):
    images = study(tmp_path)
    recipe = Recipe.of(["reorient", "zscore"], {"zscore.background": "zero"})
    seen: list[int] = []
    first = prepare_images(images, recipe, tmp_path / "out", threads=2, progress=seen.append)
    assert (len(first.images), first.n_resumed, sum(seen)) == (6, 0, 6)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/volumes").glob("*.nii.gz")}
    again = prepare_images(images, recipe, tmp_path / "out")
    assert again.n_resumed == 6
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}
    record = json.loads((tmp_path / "out/volumes/p3.json").read_text())
    assert [s["step"] for s in record["steps"]] == ["reorient", "zscore"]
    opened = open_images(tmp_path / "out")
    assert opened.sample_ids == images.sample_ids
    expected = intensity.zscore(read_volume(images.files[3]).values, background="zero")
    np.testing.assert_allclose(np.sort(opened.read(3).ravel()), np.sort(expected.ravel()))
    with pytest.raises(InconsistentError, match=r"holds images of another recipe"):
        prepare_images(images, Recipe.of(["reorient"]), tmp_path / "out")
    other = prepare_images(images, Recipe.of(["reorient"]), tmp_path / "out", overwrite=True)
    assert other.n_resumed == 0


def test_one_bad_scan_is_listed_and_the_others_go_on(tmp_path):
    images = study(tmp_path, 12)
    content = images.files[4].path.read_bytes()
    images.files[4].path.write_bytes(content[:200])
    out = prepare_images(images, Recipe.of(["reorient"]), tmp_path / "out", threads=2)
    assert len(out.images) == 11
    (failed,) = (tmp_path / "out/failures.tsv").read_text().splitlines()[1:]
    assert failed.startswith("p4\t\tp4.nii.gz\t")
    assert "damaged or cut short" in failed
    images.files[4].path.write_bytes(content)  # mended: only it is done
    assert prepare_images(images, Recipe.of(["reorient"]), tmp_path / "out").n_resumed == 11
    for file in images.files[:3]:
        file.path.write_bytes(b"x")
    with pytest.raises(DegenerateError, match=r"3 of 12 images failed. At most 10% may"):
        prepare_images(images, Recipe.of(["reorient"]), tmp_path / "out")


def test_a_changed_image_is_prepared_again(tmp_path):
    images = study(tmp_path, 3)
    prepare_images(images, Recipe.of(["reorient"]), tmp_path / "out")
    write_nifti(images.files[1].path, blob(seed=99), PSR)
    again = prepare_images(images, Recipe.of(["reorient"]), tmp_path / "out")
    assert again.n_resumed == 2


def test_mistakes_that_every_image_would_meet_stop_the_run(tmp_path):
    with pytest.raises(UsageError, match=r"set resample.template"):
        prepare_images(study(tmp_path), Recipe.of(["resample"]), tmp_path / "out")
    with pytest.raises(UsageError, match=r"the list names no image"):
        prepare_images(ImageList(()), Recipe.of(["reorient"]), tmp_path / "out")


def test_workers_of_a_cluster_prepare_the_same(tmp_path):
    images = study(tmp_path)
    recipe = Recipe.of(["reorient", "zscore"])
    prepare_images(images, recipe, tmp_path / "threads")
    with local_cluster(2) as client:
        prepare_images(images, recipe, tmp_path / "workers", client=client)
    for path in (tmp_path / "threads/volumes").glob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "workers/volumes" / path.name).read_bytes()


# --- lists, folders, caches ------------------------------------------------------------------


def test_lists_of_images_round_trip(tmp_path):
    images = study(tmp_path, 3)
    files = (
        *images.files[:2],
        ImageFile("007", tmp_path / "z.zip", member="T1/T1.nii.gz", visit="2"),
    )
    write_image_list(tmp_path / "list.tsv", ImageList(files))
    back = read_image_list(tmp_path / "list.tsv")
    assert [(f.sample_id, f.path.name, f.member, f.visit) for f in back] == [
        (f.sample_id, f.path.name, f.member, f.visit) for f in files
    ]
    text = (tmp_path / "list.tsv").read_text()
    (tmp_path / "bad.tsv").write_text(text.replace("p1.nii.gz", "p0.nii.gz"))
    with pytest.raises(MalformedError, match=r"2 rows name a file that another row names too"):
        read_image_list(tmp_path / "bad.tsv")
    (tmp_path / "bad.tsv").write_text(text.replace("\tpath", "\tfile"))
    with pytest.raises(MalformedError, match=r"has no column 'path'"):
        read_image_list(tmp_path / "bad.tsv")


def test_opening_what_is_no_study(tmp_path):
    with pytest.raises(OpenError, match=r"does not exist"):
        open_images(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OpenError, match=r"holds no images.tsv.*preprocess"):
        open_images(tmp_path / "empty")


def test_images_off_the_grid_are_refused_when_read(tmp_path):
    images = study(tmp_path, 3)
    write_nifti(images.files[2].path, blob((9, 9, 9)), PSR)
    opened = VolumeImages(images.files)
    opened.read(1)
    with pytest.raises(InconsistentError, match=r"its grid is 9x9x9, not 10x12x9"):
        opened.read(2)


def test_several_visits_need_a_choice(tmp_path):
    images = study(tmp_path, 4)
    files = [ImageFile(f"p{i // 2}", f.path, visit=str(2 + i % 2)) for i, f in enumerate(images)]
    write_image_list(tmp_path / "list.tsv", ImageList(tuple(files)))
    with pytest.raises(InconsistentError, match=r"2 people have several images. visits: 2, 3"):
        open_images(tmp_path / "list.tsv")
    assert open_images(tmp_path / "list.tsv", visit="3").sample_ids == ("p0", "p1")
    with pytest.raises(UsageError, match=r"no image is of visit '4'. Visits: 2, 3"):
        open_images(tmp_path / "list.tsv", visit="4")


def test_a_cache_gives_what_the_files_give(tmp_path):
    images = VolumeImages(study(tmp_path).files)
    cache = build_cache(images, tmp_path / "cache", dtype="float32", threads=2)
    assert cache.sample_ids == images.sample_ids
    for i in range(len(images)):
        np.testing.assert_array_equal(cache.read(i), images.read(i))
    half = build_cache(images, tmp_path / "half")
    np.testing.assert_allclose(half.read(2), images.read(2), rtol=6e-4)
    assert open_images(tmp_path / "cache").fingerprint() == images.fingerprint()
    some = VolumeImages(images.files[:3])
    with pytest.raises(InconsistentError, match=r"caches other images"):
        build_cache(some, tmp_path / "cache", dtype="float32")


class Failing(ArrayImages):
    """Images that cannot be read after the k-th."""

    def read(self, index: int) -> np.ndarray:
        if index >= 100:
            raise MalformedError("the rest is damaged")
        return super().read(index)


def test_an_interrupted_cache_is_finished_and_not_begun_again(tmp_path, monkeypatch):
    values = np.random.default_rng(0).random((150, 3, 4, 5)).astype(np.float32)
    ids = tuple(f"p{i}" for i in range(150))
    with pytest.raises(MalformedError, match=r"the rest is damaged"):
        build_cache(Failing(values, ids), tmp_path / "cache", dtype="float32")
    with pytest.raises(MalformedError, match=r"holds no finished cache"):
        CachedImages(tmp_path / "cache")
    read: list[int] = []
    whole = ArrayImages(values, ids)
    monkeypatch.setattr(ArrayImages, "read", lambda self, i: (read.append(i), self.values[i])[1])
    cache = build_cache(whole, tmp_path / "cache", dtype="float32")
    assert len(read) < 150
    np.testing.assert_array_equal(cache.values, values)


def test_half_precision_refuses_what_it_cannot_hold(tmp_path):
    values = np.full((2, 3, 3, 3), 70_000, np.float32)
    with pytest.raises(DegenerateError, match=r"above 65,504.*cache with float32"):
        build_cache(ArrayImages(values, ("a", "b")), tmp_path / "cache")


def test_a_cut_cache_is_refused(tmp_path):
    images = ArrayImages(np.ones((4, 3, 3, 3), np.float32), tuple("abcd"))
    build_cache(images, tmp_path / "cache")
    path = tmp_path / "cache/values.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(MalformedError, match=r"214 bytes. 216 are needed"):
        CachedImages(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")


def test_arrays_and_subsets():
    images = ArrayImages(np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2), ("a", "b", "c"))
    some = SubsetImages(images, [2, 0])
    assert some.sample_ids == ("c", "a")
    np.testing.assert_array_equal(some.read(0), images.values[2])
    assert some.fingerprint() != images.fingerprint()
    assert space_of(Volume(some.read(1), some.affine)).grid == (2, 2, 2)
    with pytest.raises(InconsistentError, match=r"3 images came with 2 sample ids"):
        ArrayImages(images.values, ("a", "b"))
    with pytest.raises(MalformedError, match=r"not finite"):
        ArrayImages(images.values * np.nan, ("a", "b", "c"))

"""Where voxels are: each operation against nibabel, a loop, or a world coordinate."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from imgwas.errors import DegenerateError, InconsistentError, MalformedError, UsageError
from imgwas.images.nifti import Volume, read_volume
from imgwas.images.registration import parse_matrix, register
from imgwas.images.space import (
    Space,
    check_space,
    crop_or_pad,
    dice,
    flirt_to_world,
    reorient,
    resample,
    same_space,
    space_of,
    with_voxels,
)  # fmt: skip
from tests.data import data_file
from tests.volumes import blob

PSR = np.array([[0, 0, 2.0, -8], [-2, 0, 0, 10], [0, 3, 0, -7], [0, 0, 0, 1]])


def rotation(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(4)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def test_reorient_is_nibabels():
    volume = Volume(blob(), PSR)
    turned = reorient(volume)
    oracle = nib.as_closest_canonical(nib.Nifti1Image(volume.values, PSR))
    np.testing.assert_array_equal(turned.values, oracle.get_fdata())
    np.testing.assert_allclose(turned.affine, oracle.affine)
    assert space_of(turned).axes == "RAS"
    back = reorient(turned, space_of(volume).axes)
    np.testing.assert_array_equal(back.values, volume.values)
    np.testing.assert_allclose(back.affine, PSR)
    with pytest.raises(UsageError, match=r"Three letters"):
        reorient(volume, "ABC")


def test_resample_is_trilinear_at_world_coordinates():
    rng = np.random.default_rng(0)
    volume = Volume(rng.random((7, 8, 9), np.float32), np.diag([2.0, 2, 2, 1]))
    affine = rotation(20, 2) @ np.diag([1.7, 2.1, 1.9, 1])
    affine[:3, 3] = 4, 2, 3
    target = Space((4, 5, 4), affine)
    values = resample(volume, target).values
    inverse = np.linalg.inv(volume.affine)
    for index in np.ndindex(4, 5, 4):
        x = (inverse @ affine @ [*index, 1])[:3]
        if (x < 0).any() or (x > np.array(volume.grid) - 1).any():
            continue
        low = np.floor(x).astype(int)
        total = 0.0
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([f if c else 1 - f for f, c in zip(x - low, corner, strict=True)])
            place = np.minimum(low + corner, np.array(volume.grid) - 1)
            total += weight * volume.values[tuple(place)]
        assert values[index] == pytest.approx(total, abs=1e-5)


def test_resample_of_labels_and_of_the_same_space():
    labels = Volume((blob() > 100).astype(np.float32) * 7, np.diag([2.0, 2, 2, 1]))
    fine = resample(labels, with_voxels(space_of(labels), (1, 1, 1)), order=0)
    assert set(np.unique(fine.values)) <= {0, 7}
    assert resample(labels, space_of(labels)) is labels
    cine = Volume(np.stack([labels.values, labels.values * 2], -1), labels.affine)
    moved = resample(cine, with_voxels(space_of(labels), (1, 1, 1)), order=0)
    np.testing.assert_array_equal(moved.values[..., 1], fine.values * 2)


def test_voxels_of_another_size_cover_the_same_box():
    space = Space((91, 109, 91), np.diag([-2.0, 2, 2, 1]))
    coarse = with_voxels(space, (4, 4, 4))
    assert coarse.grid == (46, 55, 46)
    assert coarse.zooms == pytest.approx((4, 4, 4))
    middle = [space.affine @ [45, 54, 45, 1], coarse.affine @ [22.5, 27, 22.5, 1]]
    np.testing.assert_allclose(*middle)
    with pytest.raises(UsageError, match=r"Above zero"):
        with_voxels(space, (0, 1, 1))


@pytest.mark.parametrize("grid", [(6, 6, 6), (15, 16, 17), (10, 4, 20)])
def test_crop_and_pad_keep_voxels_where_they_are(grid):
    volume = Volume(blob(), PSR)
    changed = crop_or_pad(volume, grid)
    assert changed.grid == grid
    for index in np.ndindex(*grid):
        world = changed.affine @ [*index, 1]
        old = np.round(np.linalg.inv(PSR) @ world)[:3].astype(int)
        inside = (old >= 0).all() and (old < volume.grid).all()
        assert changed.values[index] == (volume.values[tuple(old)] if inside else 0)


def test_crop_with_an_offset_outside():
    volume = Volume(blob(), PSR)
    changed = crop_or_pad(volume, (3, 3, 3), offset=(50, 50, 50))
    assert not changed.values.any()


def test_flirt_matrix_without_fsl():
    """FSL counts from the other end of x when the affine has a positive determinant."""
    source = Space((20, 22, 18), np.diag([1.5, 2, 2.5, 1]))
    reference = Space((91, 109, 91), np.array(
        [[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]))  # fmt: skip
    matrix = rotation(10, 0) @ np.diag([1.1, 0.9, 1, 1])
    matrix[:3, 3] = 5, -3, 2
    world = flirt_to_world(matrix, source, reference)
    for voxel in ([0, 0, 0], [3, 5, 7], [19, 21, 17]):
        scaled = np.array([(19 - voxel[0]) * 1.5, voxel[1] * 2, voxel[2] * 2.5, 1])
        landed = matrix @ scaled  # in millimetres of FSL's reference
        target = reference.affine @ [*(landed[:3] / 2), 1]
        np.testing.assert_allclose(world @ source.affine @ [*voxel, 1], target, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 0 0\n0 1 0\n", "is no affine matrix"),
        ("1 0 0 a\n" * 4, "holds more than numbers"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 1 1\n", "the last 0 0 0 1"),
        ("1 0 0 0\n0 0 0 0\n0 0 1 0\n0 0 0 1\n", "cannot be inverted"),
        ("1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "is no affine matrix"),
    ],
)
def test_matrices_that_are_none(text, words):
    with pytest.raises(MalformedError) as error:
        parse_matrix(text, "m.mat")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Space((10, 12, 9), PSR), "its axes grow towards PSR, not RAS"),
        (Space((10, 12, 8), np.eye(4)), "its grid is 10x12x8, not 10x12x9"),
        (Space((10, 12, 9), np.diag([1, 1, 1.1, 1])), "its corners are up to 0.8 mm elsewhere"),
    ],
)
def test_another_space_is_refused_by_how_it_differs(space, words):
    with pytest.raises(InconsistentError) as error:
        check_space(space, Space((10, 12, 9), np.eye(4)), "a.nii")
    assert words in str(error.value)
    assert not same_space(space, Space((10, 12, 9), np.eye(4)))


def test_dice():
    a, b = np.zeros((2, 10)), np.zeros((2, 10))
    a[0, :4], b[0, 2:6] = 1, 1
    assert dice(a, b) == pytest.approx(0.5)
    assert dice(a, a) == 1
    assert np.isnan(dice(a * 0, b * 0))


@pytest.mark.slow
@pytest.mark.parametrize(("finest_mm", "within_mm"), [(4, 0.5), (None, 0.5)])
def test_registration_undoes_a_known_affine(finest_mm, within_mm):
    """A template bent by a known affine comes back within a fraction of a voxel."""
    how = {} if finest_mm is None else {"finest_mm": finest_mm}
    template = read_volume(data_file("atlases/MNI152NLin6_res-2x2x2_T1w_descr-brain.nii.gz"))
    known = rotation(8, 1) @ rotation(-5, 0) @ np.diag([1.08, 0.94, 1.05, 1])
    known[0, 1] += 0.04
    known[:3, 3] = 7, -5, 4
    bent = Volume(template.values**0.8, np.linalg.inv(known) @ template.affine)
    native = Space((110, 120, 110), np.diag([2.0, 2, 2, 1]) + np.array(
        [[0, 0, 0, -110], [0, 0, 0, -130], [0, 0, 0, -90], [0, 0, 0, 0]]))  # fmt: skip
    moving = resample(bent, native)
    found = register(moving, template, **how)
    brain = np.argwhere(template.values > 0)[::997]
    points = np.c_[brain, np.ones(len(brain))] @ template.affine.T
    error = np.linalg.norm((points @ np.linalg.inv(known).T @ found.T - points)[:, :3], axis=1)
    assert error.mean() < within_mm
    np.testing.assert_array_equal(register(moving, template, finest_mm=4), found if how else
                                  register(moving, template, finest_mm=4))  # fmt: skip


def test_registration_of_nothing():
    template = read_volume(data_file("atlases/MNI152NLin6_res-2x2x2_T1w_descr-brain.nii.gz"))
    blank = Volume(np.zeros((20, 20, 20), np.float32), np.eye(4))
    with pytest.raises(DegenerateError, match=r"registration"):
        register(blank, template)
    with pytest.raises(UsageError, match=r"6 \(rigid\) or 12"):
        register(blank, template, dof=9)

"""Changes of volume read off changes of a picture: a dense oracle, and brains of known truth."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from imgwas.brain import volumes
from imgwas.brain.blur import estimate_blur
from imgwas.brain.volumes import volume_readout
from imgwas.errors import DegenerateError, InconsistentError, UsageError
from imgwas.simulate.brains import ANATOMY, simulate_brains
from imgwas.types import Atlas
from tests.data import data_file

REGIONS = tuple(ANATOMY)
#: A factor of 1 adds 5 % to the volume.
STEP = float(np.log(1.05))


def atlas_of(labels: np.ndarray, affine: np.ndarray, names: tuple[str, ...] = ()) -> Atlas:
    numbers = [int(n) for n in np.unique(labels) if n]
    named = {n: names[n - 1] if names else f"r{n}" for n in numbers}
    return Atlas(labels.astype(np.int32), affine, named, dict.fromkeys(numbers, ""))


@pytest.fixture(scope="module")
def brains():
    """The average brain, one with each region grown by 5 %, and one with four changed at once."""
    factors = np.vstack([np.zeros(7), np.eye(7), [1, 1, -1, 0, 0.6, 0, 0]])
    return simulate_brains(9, factors=factors, effect=STEP, head_sd=0, noise=0)


@pytest.fixture(scope="module")
def readout(brains):
    atlas = atlas_of(brains.labels, brains.affine, brains.regions)
    return volume_readout(brains.values[0], atlas)


def changes(brains) -> np.ndarray:
    return (brains.values[1:] - brains.values[0]).reshape(8, -1)


def test_growth_of_each_region_is_read(brains, readout):
    found = readout.relative(changes(brains))[:7] / 0.05
    own = dict(zip(REGIONS, np.diag(found), strict=True))
    # the brainstem of this simulator reaches out of its head, where nothing shows
    assert own.pop("brainstem") == pytest.approx(1, abs=0.25)
    assert list(own.values()) == pytest.approx([1] * 6, abs=0.08)
    others = found - np.diag(np.diag(found))
    assert np.abs(others).max() < 0.08
    assert readout.visible.min() > 0.9
    assert not readout.reasons


def test_regions_that_change_at_once_are_told_apart(brains, readout):
    found = readout.relative(changes(brains))[7]
    truth = [0.05, 0.05, 1 / 1.05 - 1, 0, 1.05**0.6 - 1, 0, 0]
    assert list(found) == pytest.approx(truth, abs=0.006)


def test_mm3_and_shares_agree_and_maps_add_up(brains, readout):
    maps = changes(brains)
    volumes_ = np.bincount(brains.labels.ravel())[1:] * abs(np.linalg.det(brains.affine[:3, :3]))
    np.testing.assert_allclose(readout.volumes, volumes_)
    np.testing.assert_allclose(readout.change(maps) / volumes_, readout.relative(maps))
    np.testing.assert_allclose(
        readout.change(maps[:1] + 2 * maps[1:2]),
        readout.change(maps[:1]) + 2 * readout.change(maps[1:2]),
        rtol=1e-4,
        atol=1e-2,
    )
    np.testing.assert_allclose(readout.matrix @ maps[0], readout.change(maps)[0])
    assert readout.names == REGIONS


def test_a_shift_of_the_whole_brain_changes_no_volume(brains, readout):
    shifted = ndimage.shift(brains.values[0], (0.2, -0.1, 0.1), order=3, mode="nearest")
    found = readout.relative((shifted - brains.values[0]).reshape(1, -1))[0]
    inner = [i for i, name in enumerate(REGIONS) if name != "brainstem"]
    assert np.abs(found[inner]).max() < 0.03  # one side alone moves by 0.05


def test_brightness_is_not_taken_for_growth(brains, readout):
    atlas = atlas_of(brains.labels, brains.affine, brains.regions)
    naive = volume_readout(brains.values[0], atlas, shade=0)
    soft = ndimage.gaussian_filter((brains.labels == 2).astype(np.float32), 0.7)
    brighter = (0.05 * soft).reshape(1, -1)
    assert abs(readout.relative(brighter)[0, 1]) < 0.5 * abs(naive.relative(brighter)[0, 1])


def test_a_known_blur_is_allowed_for(brains):
    blur = 0.7
    soft = np.stack([ndimage.gaussian_filter(v, blur) for v in brains.values])
    atlas = atlas_of(brains.labels, brains.affine, brains.regions)
    maps = (soft[1:8] - soft[0]).reshape(7, -1)
    mm = blur * float(np.linalg.norm(brains.affine[:3, :3], axis=0).mean())
    plain = np.diag(volume_readout(soft[0], atlas).relative(maps)) / 0.05
    aware = np.diag(volume_readout(soft[0], atlas, blur=mm).relative(maps)) / 0.05
    assert list(aware[:6]) == pytest.approx([1] * 6, abs=0.08)
    assert np.abs(aware - 1).mean() < 0.6 * np.abs(plain - 1).mean()


def test_blur_is_estimated():
    people = simulate_brains(4, noise=0.03, seed=3)
    clean = simulate_brains(4, noise=0, seed=3)
    soft = np.stack([ndimage.gaussian_filter(v, 0.7) for v in clean.values])
    voxel = float(np.linalg.norm(people.affine[:3, :3], axis=0).mean())
    assert estimate_blur(clean.values, soft, people.affine) == pytest.approx(0.7 * voxel, abs=0.15)
    assert estimate_blur(people.values, soft, people.affine) == pytest.approx(0.7 * voxel, abs=0.6)
    with pytest.raises(InconsistentError, match="shapes"):
        estimate_blur(clean.values, soft[:2], people.affine)


def kernel(n: int, length: float, reach: int) -> np.ndarray:
    """SciPy's truncated Gaussian with zeros outside, as a matrix."""
    radius = int(reach * length + 0.5)
    at = np.arange(-radius, radius + 1)
    weight = np.exp(-0.5 * (at / length) ** 2)
    weight /= weight.sum()
    matrix = np.zeros((n, n))
    for i in range(n):
        for offset, w in zip(at, weight, strict=True):
            if 0 <= i + offset < n:
                matrix[i, i + offset] = w
    return matrix


def box(n: int, width: int) -> np.ndarray:
    """Mean of the voxels at most half a width away, with zeros outside."""
    at = np.arange(n)
    return (np.abs(at[:, None] - at) <= width // 2) / width


@pytest.mark.parametrize("masked", [False, True])
def test_weights_are_the_best_linear_guess(monkeypatch, masked):
    """w = (g K g' + shade + noise)^-1 g K f with every matrix written out."""
    rng = np.random.default_rng(0)
    grid, zooms = (9, 8, 7), (2.0, 3.0, 2.5)
    affine = np.diag([*zooms, 1.0])
    picture = ndimage.gaussian_filter(rng.standard_normal(grid), 1.0).astype(np.float32)
    labels = np.zeros(grid, np.int32)
    labels[3:6, 2:5, 2:5] = 1
    seen = rng.random(grid) < 0.8 if masked else np.ones(grid, bool)
    seen[3:6, 2:5, 2:5] = True
    monkeypatch.setattr(volumes, "ITERATIONS", 500)
    monkeypatch.setattr(volumes, "TOLERANCE", 1e-9)
    noise, shade, length = 0.3, 0.03, 3.0
    readout = volume_readout(
        picture, atlas_of(labels, affine), mask=seen, smoothness=length, noise=noise, shade=shade,
        least_visible=0,
    )  # fmt: skip
    smooth = length / np.array(zooms)
    wide = np.rint(volumes.SHADE_WIDTH * np.mean(zooms) / np.array(zooms) / 2) * 2 + 1
    moving = np.kron(np.kron(*[kernel(n, s, 3) for n, s in zip(grid[:2], smooth[:2], strict=True)]),
                     kernel(grid[2], smooth[2], 3))  # fmt: skip
    boxes = [box(n, int(w)) @ box(n, int(w)) for n, w in zip(grid, wide, strict=True)]
    shading = np.kron(np.kron(boxes[0], boxes[1]), boxes[2])
    g = [-(d * seen).ravel() for d in np.gradient(picture.astype(float), *zooms)]
    soft = ndimage.gaussian_filter((labels == 1).astype(float), volumes.BORDER)
    f = [-d.ravel() * np.prod(zooms) for d in np.gradient(soft, *zooms)]
    border = sum(np.abs(v) for v in f)
    power = (sum(v**2 for v in g) * border).sum() / border.sum()
    peak = 1 / ((2 * np.pi) ** 1.5 * np.prod(smooth))
    unit = np.prod(wide)
    total = sum(np.diag(v) @ moving @ np.diag(v) for v in g)
    total += (
        shade
        * power
        * peak
        * unit
        * np.diag(seen.ravel() * 1.0)
        @ shading
        @ np.diag(seen.ravel() * 1.0)
    )
    total += noise**2 * power * peak * np.eye(total.shape[0])
    target = sum(v * (moving @ w) for v, w in zip(g, f, strict=True))
    weights = np.linalg.solve(total, target)
    visible = weights @ target / sum(w @ moving @ w for w in f)
    assert readout.visible[0] == pytest.approx(visible, rel=1e-6)
    grown = ndimage.gaussian_filter((labels == 1).astype(float), volumes.GROWTH)
    v = [-d.ravel() for d in np.gradient(grown, *zooms)]
    scale = weights @ sum(a * b for a, b in zip(g, v, strict=True))
    scale /= sum((a * b).sum() for a, b in zip(f, v, strict=True))
    expected = (weights / scale)[seen.ravel()]
    dense = readout.matrix.toarray()[0]
    assert np.abs(dense - expected).max() < 3e-5 * np.abs(expected).max()


def test_what_does_not_show_is_not_read(caplog):
    grid = (24, 22, 20)
    axes = np.meshgrid(*[np.arange(n, dtype=float) for n in grid], indexing="ij")
    ball = lambda centre, r: sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < r**2  # noqa: E731
    labels = np.zeros(grid, np.int32)
    labels[ball((6, 11, 10), 4)] = 1
    labels[ball((17, 11, 10), 4)] = 2
    labels[23, 21, 19] = 5
    picture = ndimage.gaussian_filter((labels == 1).astype(np.float32), 0.7)
    mask = np.ones(grid, bool)
    mask[20:, 18:, 16:] = False
    readout = volume_readout(picture, atlas_of(labels, np.diag([2.0, 2, 2, 1])), mask=mask)
    assert set(readout.reasons) == {2, 5}
    assert readout.reasons[5] == "no voxel in the mask"
    assert re.fullmatch(r"only \d% of its change would show", readout.reasons[2])
    read = readout.relative(np.ones((2, int(mask.sum())), np.float32))
    assert np.isfinite(read[:, 0]).all()
    assert np.isnan(read[:, 1:]).all()
    assert "the volumes of 2 of 3 regions cannot be read (first: r2" in caplog.text


def test_a_mask_only_drops_columns_that_do_not_matter(brains, readout):
    """The brain's own mask: what lies outside never changes."""
    mask = brains.values[0] > 0
    atlas = atlas_of(brains.labels, brains.affine, brains.regions)
    masked = volume_readout(brains.values[0], atlas, mask=mask)
    maps = (brains.values[1:] - brains.values[0])[:, mask]
    whole = readout.relative(changes(brains))
    np.testing.assert_allclose(masked.relative(maps)[:, :6], whole[:, :6], atol=0.004)
    assert masked.matrix.shape == (7, int(mask.sum()))


def test_refusals(brains, readout):
    atlas = atlas_of(brains.labels, brains.affine)
    with pytest.raises(InconsistentError, match=r"picture 40x48x39, atlas 40x48x40.*space=map"):
        volume_readout(brains.values[0][..., :39], atlas)
    with pytest.raises(InconsistentError, match="the grids differ"):
        volume_readout(brains.values[0], atlas, mask=np.ones((2, 2, 2), bool))
    with pytest.raises(DegenerateError, match="constant"):
        volume_readout(np.ones((40, 48, 40), np.float32), atlas)
    with pytest.raises(InconsistentError, match="the maps have 5 voxels"):
        readout.change(np.ones((1, 5)))
    for wrong in ({"smoothness": 0.1}, {"noise": 0.0}, {"shade": -1.0}, {"blur": 99.0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            volume_readout(brains.values[0], atlas, **wrong)


@pytest.mark.slow
@pytest.mark.parametrize("growth", [-0.05, 0.01, 0.03, 0.10])
def test_growth_of_one_to_ten_per_cent(growth):
    factors = np.vstack([np.zeros(7), np.eye(7)])
    brains = simulate_brains(8, factors=factors, effect=float(np.log1p(growth)), head_sd=0, noise=0)
    atlas = atlas_of(brains.labels, brains.affine)
    readout = volume_readout(brains.values[0], atlas)
    found = readout.relative((brains.values[1:] - brains.values[0]).reshape(7, -1)) / growth
    assert list(np.diag(found)[:6]) == pytest.approx([1] * 6, abs=0.12)


@pytest.mark.slow
def test_a_real_template_that_is_bent():
    """DLMUSE regions of the MNI template at 4 mm grow by 5 % in a smooth field; see the page."""
    import nibabel as nib

    load = lambda name: np.asarray(nib.load(data_file(f"atlases/{name}")).dataobj)[:90, :108, :90]  # noqa: E731
    picture = load("MNI152NLin6_res-2x2x2_T1w_descr-brain.nii.gz") / 8000.0
    labels = load("ixi_dlmuse_majority_mni2mm.nii.gz").astype(np.int32)

    def coarse(values: np.ndarray) -> np.ndarray:
        return values.reshape(45, 2, 54, 2, 45, 2).mean((1, 3, 5)).astype(np.float32)

    chosen = [35, 47, 51, 57, 59, 95, 120, 154, 168, 200]
    kept = np.where(np.isin(labels, chosen), labels, 0)[1::2, 1::2, 1::2]
    readout = volume_readout(coarse(picture), atlas_of(kept, np.diag([4.0, 4, 4, 1])))
    ratios = []
    for i, number in enumerate(chosen):
        inside = (labels == number).astype(float)
        field = np.array([-g for g in np.gradient(ndimage.gaussian_filter(inside, 4))])
        border = np.gradient(ndimage.gaussian_filter(inside, 0.6))
        field *= (
            0.05 * inside.sum() / -sum((b * u).sum() for b, u in zip(border, field, strict=True))
        )
        at = np.indices(labels.shape) - field
        moved = ndimage.map_coordinates(picture, at, order=3, mode="nearest")
        soft = ndimage.gaussian_filter(inside, 0.6)
        truth = ndimage.map_coordinates(soft, at, order=1).sum() / soft.sum() - 1
        change = (coarse(moved) - coarse(picture)).reshape(1, -1)
        ratios.append(readout.relative(change)[0, i] / truth)
    assert min(ratios) > 0.7
    assert max(ratios) < 1.35
    assert 0.85 < float(np.median(ratios)) < 1.15

"""Simulated brains against their truth: planted slopes, leakage, invertibility, files."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

import imgwas
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    OpenError,
    UsageError,
)
from imgwas.images.nifti import Volume, read_volume, write_volume
from imgwas.simulate import (
    PlantedEffect,
    builtin_template,
    make_template,
    read_template,
    simulate_image_arrays,
)
from imgwas.simulate.warps import make_warps, solve_warp
from tests.cli_cohort import imgwas as command_line
from tests.data import data_file

QUIET = {
    "region_sd": 0, "ventricle_sd": 0, "intensity_sd": 0, "shrinkage": 0, "ventricle_growth": 0,
    "head_sd": 0, "head_sex": 0,
}  # fmt: skip
GRID = 6.0


def slopes(values: np.ndarray, dosages: np.ndarray) -> np.ndarray:
    """Least-squares slope of every column on every dosage."""
    design = np.column_stack([np.ones(len(values)), dosages.T])
    return np.linalg.lstsq(design, values, rcond=None)[0][1:]


@pytest.fixture(scope="module")
def quiet():
    """People who differ by nothing but three planted variants, a smooth warp and noise."""
    effects = [
        PlantedEffect("hippocampus_left", 0.06),
        PlantedEffect("lateral_ventricle_right", -0.15),
        PlantedEffect("frontal_cortex_left", 0.05),
        PlantedEffect("cerebellum_right", 0.08, "intensity"),
    ]
    return effects, simulate_image_arrays(
        n_samples=60, n_variants=300, effects=effects, n_null=2, grid_mm=GRID, seed=3, **QUIET
    )


def test_a_region_changes_by_the_stated_amount_and_the_others_do_not(quiet):
    effects, made = quiet
    logs = np.log(made.volumes[list(made.template.regions)].to_numpy())
    found = slopes(logs, made.dosages)
    for row, effect in enumerate(effects[:3]):
        own = made.template.regions.index(effect.region)
        assert found[row, own] == pytest.approx(effect.amount, rel=0.05)
        assert np.abs(np.delete(found[row], own)).max() < 0.02 * abs(effect.amount)
    assert np.abs(found[3:]).max() < 0.001, "intensities and null variants leave volumes alone"
    assert made.truth["realised_slope"][:4].to_numpy() == pytest.approx(
        [e.amount for e in effects], rel=0.05
    )


def test_volumes_are_those_of_the_jacobian():
    """The volume of a warped region is the integral over the people's space, found on a fine grid.

    The oracle inverts nothing: it asks at many points of the person's space which region is there.
    """
    brain = builtin_template(GRID)
    warps = make_warps(brain)
    rng = np.random.default_rng(0)
    change = 0.1 * rng.standard_normal(len(brain.regions))
    warp = solve_warp(warps, change)
    shift = np.zeros((3, *brain.grid), np.float32)
    shift.reshape(3, -1)[:, warps.voxels] = warp.where - warps.points[:, : len(warps.voxels)]
    fine = np.stack(np.meshgrid(*[np.arange(0, n - 1, 0.5) for n in brain.grid], indexing="ij"))
    where = fine + [ndimage.map_coordinates(part, fine, order=3) for part in shift]
    for row, wanted in enumerate(change):
        share = brain.shares[[row]].toarray().reshape(brain.grid)
        after = ndimage.map_coordinates(share, where, order=1).sum()
        before = ndimage.map_coordinates(share, fine, order=1).sum()
        assert np.log(after / before) == pytest.approx(wanted, abs=0.025), brain.regions[row]
        assert warp.volumes[row] == pytest.approx(np.exp(wanted) * share.sum(), rel=0.002)
    assert warp.smallest_jacobian > 0.3


def test_intensity_effects_show_in_the_region_only(quiet):
    effects, made = quiet
    inside = [
        made.template.shares[[row]].toarray().ravel() > 0.8
        for row in map(made.template.regions.index, (effects[3].region, "cerebellum_left"))
    ]
    means = np.column_stack(
        [made.values.reshape(60, -1)[:, where].mean(axis=1) for where in inside]
    )
    whole = np.array([one[one > 0].mean() for one in made.values])
    found = slopes(means / whole[:, None], made.dosages)[3]
    scale = means.mean(axis=0) / (means / whole[:, None]).mean(axis=0)
    assert (found * scale)[0] == pytest.approx(effects[3].amount, rel=0.1)
    assert abs((found * scale)[1]) < 0.1 * effects[3].amount


@pytest.mark.slow
def test_people_differ_as_the_model_says():
    made = simulate_image_arrays(
        n_samples=250, n_variants=200, n_planted=0, n_null=1, grid_mm=11.0, seed=4, head_sd=0.02
    )
    logs = np.log(made.volumes[list(made.template.regions)].to_numpy())
    people = made.covariates
    design = np.column_stack(
        [np.ones(250), (people["age"] - 62.5) / 10, np.log(people["head_size"])]
    )
    fit, rest = np.linalg.lstsq(design, logs, rcond=None)[:2]
    spread = np.sqrt(rest / (250 - 3))
    fluid = np.array(["ventricle" in name for name in made.template.regions])
    assert spread == pytest.approx(np.where(fluid, 0.15, 0.08), rel=0.2)
    assert fit[1] == pytest.approx(np.where(fluid, 0.12, -0.03), abs=0.04)
    assert fit[2] == pytest.approx(np.full(26, 3.0), abs=2.0)
    left = made.template.regions.index("putamen_left")
    own = logs - design @ fit
    assert np.corrcoef(own[:, left], own[:, left + 1])[0, 1] == pytest.approx(0.5, abs=0.12)
    assert np.corrcoef(own[:, left], own[:, 0])[0, 1] == pytest.approx(0.1, abs=0.15)
    assert np.log(people["head_size"]).groupby(people["sex"]).mean().diff().iloc[1] < 0


def test_planted_variants_are_found_and_null_ones_are_not():
    made = simulate_image_arrays(
        n_samples=250, n_variants=300, n_planted=8, n_null=8, grid_mm=8.0, seed=5
    )
    truth = made.truth
    planted = truth[truth["role"] == "planted"]
    off = (planted["realised_slope"] - planted["amount"]) / planted["realised_slope_error"]
    assert np.abs(off).max() < 3.5
    assert off.std() > 0.3, "these people are a sample, not the truth itself"
    assert planted["variance_explained"].between(0.04, 0.13).all()
    assert truth["effect_allele_frequency"].between(0.1, 0.9).all()
    assert len(set(truth["chromosome"])) == 16
    logs = np.log(made.volumes[list(made.template.regions)].to_numpy())
    others = made.dosages[8:]
    r = np.corrcoef(np.vstack([others, logs.T]))[:8, 8:]
    assert np.abs(r).max() < 4.2 / np.sqrt(250)


def test_images_are_brains_on_a_black_ground():
    made = simulate_image_arrays(n_samples=20, n_variants=300, n_planted=2, grid_mm=GRID, seed=1)
    assert made.values.min() == 0
    for edge in (made.values[:, 0], made.values[:, :, -1], made.values[..., 0]):
        assert not edge.any()
    share = (made.values > 0).mean(axis=(1, 2, 3))
    assert share == pytest.approx(np.full(20, made.template.mask.mean()), rel=0.2)
    assert not set(made.train) & set(made.scan)
    assert set(made.train) | set(made.scan) == set(made.sample_ids)


def test_everything_opens_and_the_seed_decides_every_byte(tmp_path):
    def make(name: str, seed: int, threads: int) -> list[str]:
        made = imgwas.simulate_images(
            tmp_path / name, n_samples=20, n_variants=200, n_planted=4, n_null=2, grid_mm=GRID,
            seed=seed, threads=threads,
        )  # fmt: skip
        images = imgwas.open_images(made.images)
        genotypes = imgwas.open_genotypes(made.bfile)
        assert images.sample_ids == tuple(genotypes.samples.sample_ids)
        assert images.grid == builtin_template(GRID).grid
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in files]

    first = make("a", 1, 1)
    assert make("b", 1, 2) == first
    assert set(make("c", 2, 1)) - set(first)
    truth = pd.read_csv(tmp_path / "a/truth.tsv", sep="\t")
    assert list(truth["role"]) == ["planted"] * 4 + ["control"] * 2


def a_template(folder, shift: float = 0.0):
    """A user's template: two regions in a ball, names in a table."""
    x, y, z = np.meshgrid(*[np.arange(-60, 60, 3.0)] * 3, indexing="ij")
    ball = x**2 + y**2 + z**2 < 50**2
    labels = np.where((x - 25) ** 2 + y**2 + z**2 < 15**2, 7, 0)
    labels[(x + 25) ** 2 + y**2 + z**2 < 12**2] = 3
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -60
    moved = affine.copy()
    moved[0, 3] += shift
    write_volume(folder / "t1.nii.gz", Volume((800 * ball).astype(np.float32), affine))
    write_volume(folder / "atlas.nii.gz", Volume(labels.astype(np.float32), moved))
    (folder / "names.csv").write_text("index,name\n3,nucleus L\n7,nucleus R\n9,nowhere\n")
    return [folder / name for name in ("t1.nii.gz", "atlas.nii.gz", "names.csv")]


def test_a_template_of_ones_own(tmp_path):
    brain = read_template(*a_template(tmp_path), grid_mm=6.0)
    assert dict(brain.names) == {3: "nucleus L", 7: "nucleus R"}
    assert dict(brain.hemispheres) == {3: "L", 7: "R"}, "by the affine, not by the name"
    sizes = brain.shares.sum(axis=1) * 6.0**3
    assert sizes == pytest.approx([4 / 3 * np.pi * 12**3, 4 / 3 * np.pi * 15**3], rel=0.05)
    made = simulate_image_arrays(
        n_samples=40, n_variants=300, effects=[PlantedEffect("nucleus R", -0.1)], n_null=1,
        template=brain, seed=1, **QUIET,
    )  # fmt: skip
    found = slopes(np.log(made.volumes[["nucleus L", "nucleus R"]].to_numpy()), made.dosages)
    assert found[0] == pytest.approx([0, -0.1], abs=0.005)


@pytest.mark.slow
def test_the_public_atlas_and_template():
    brain = read_template(
        data_file("atlases/MNI152NLin6_res-2x2x2_T1w_descr-brain.nii.gz"),
        data_file("atlases/ixi_dlmuse_majority_mni2mm.nii.gz"),
        data_file("atlases/ixi_dlmuse_labels.csv"),
        grid_mm=4.0,
    )
    assert len(brain.regions) == 143
    assert all(brain.hemispheres[n] == "R" for n, name in brain.names.items()
               if name.endswith("Hippocampus_R"))  # fmt: skip
    warps = make_warps(brain)
    row = brain.regions.index("Hippocampus_L")
    change = np.zeros(143)
    change[row] = 0.2
    warp = solve_warp(warps, change)
    found = np.log(warp.volumes / warps.base)
    assert found[row] == pytest.approx(0.2, abs=0.002)
    assert np.abs(np.delete(found, row)).max() < 0.002


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"effects": [PlantedEffect("hipocampus_left")]}, UsageError,
         r"no region 'hipocampus_left'.*26 regions.*Did you mean hippocampus_left"),
        ({"effects": [PlantedEffect("hippocampus_left", 0.9)]}, DegenerateError,
         r"\+0.900 per allele.*hippocampus_left is too large.*At most about 0\.\d+ per allele"),
        ({"effects": [PlantedEffect("thalamus_left", 0.1, "quantity")]}, UsageError,
         r"kind of thalamus_left is 'quantity'.*intensity, volume"),
        ({"n_samples": 5}, UsageError, "number of samples is 5"),
        ({"n_planted": 300}, UsageError, "planted effects is 300"),
        ({"n_variants": 60, "n_planted": 100}, UsageError, r"105 planted and null.*--variants"),
        ({"grid_mm": 30.0}, UsageError, "--grid-mm.*is 30.*from 1 to 12 mm"),
        ({"region_sd": -1.0}, UsageError, "region_sd is -1"),
        ({"train_share": 1.5}, UsageError, "people for training is 1.5"),
        ({"region_sd": 2.0}, DegenerateError, "would change its log-volume by|is too large"),
    ],
)  # fmt: skip
def test_impossible_studies_are_refused(tmp_path, options, error, message):
    given = {"n_samples": 40, "n_variants": 300, "grid_mm": GRID} | options
    with pytest.raises(error, match=message):
        imgwas.simulate_images(tmp_path / "out", **given)
    assert not list(tmp_path.glob("out/images/*"))


def test_templates_that_cannot_be_used(tmp_path):
    t1, labels, names = a_template(tmp_path, shift=3.0)
    with pytest.raises(InconsistentError, match=r"Both on one grid.*nearest neighbour"):
        read_template(t1, labels, names)
    t1, labels, names = a_template(tmp_path)
    with pytest.raises(OpenError, match="does not exist"):
        read_template(tmp_path / "no.nii.gz", labels, names)
    with pytest.raises(MalformedError, match="no whole NIfTI image"):
        read_template(names, labels, names)
    with pytest.raises(DegenerateError, match=r"without skull"):
        make_template(np.ones((9, 9, 9)), np.zeros((9, 9, 9), int), np.eye(4), {1: "a"})
    names.write_text("colour,shape\n1,2\n")
    with pytest.raises(MalformedError, match=r"columns colour, shape.*A number \(label"):
        read_template(t1, labels, names)
    names.write_text("label,name\n55,a\n")
    with pytest.raises(InconsistentError, match=r"none of the 1 numbers.*labels: 3, 7"):
        read_template(t1, labels, names)
    names.write_text("label,name\n3,a\n7,b\n")
    numbers = np.zeros((40, 40, 40), np.float32)
    numbers[20, 20, 20], numbers[10:20, 10:20, 10:20] = 3, 7
    write_volume(labels, Volume(numbers, read_volume(t1).affine))
    with pytest.raises(DegenerateError, match=r"1 regions have less than 1 voxel.*a \(0\.1\)"):
        read_template(t1, labels, names, grid_mm=6.0)


def test_the_command_line_writes_a_study(tmp_path):
    (tmp_path / "effects.tsv").write_text("region\tamount\nputamen_left\t0.07\n")
    done = command_line(
        *("simulate", "s", "--images", "brain", "--samples", 24, "--variants", 200),
        *("--effects", "effects.tsv", "--null", 1, "--grid-mm", 8),
        folder=tmp_path,
    )
    assert done.code == 0, done.text
    assert "1 planted effects and 1 variants without one" in done.text
    assert "next: imgwas train udip s/images.tsv --keep s/train.txt" in done.text
    truth = pd.read_csv(tmp_path / "s/truth.tsv", sep="\t")
    assert truth["amount"].tolist() == [0.07, 0]
    assert truth["region"][0] == "putamen_left"
    assert len(imgwas.open_images(tmp_path / "s/images.tsv")) == 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--planted 3", "--planted means nothing without images. Add --images brain"),
        ("--images brain --brains", "--brains belongs to simulated latents"),
        ("--images brain --template t.nii.gz", "a template needs three files"),
        ("--images heart --template a --labels b --label-names c", "hearts are drawn by formulae"),
        ("--images brain --planted 2 --effects e.tsv", "were both given"),
        ("--images brain --effects e.tsv", "amount is a number such as 0.05"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, words, message):
    (tmp_path / "e.tsv").write_text("region\tamount\nputamen_left\tmuch\n")
    done = command_line("simulate", "s", *words.split(), folder=tmp_path)
    assert done.code != 0
    assert message in done.text
    assert not (tmp_path / "s").exists()

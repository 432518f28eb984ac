"""Real brains: age mapped back to anatomy; skipped where the public data set is absent."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from imgwas.images.nifti import read_volume
from imgwas.images.prepare import prepare_images
from imgwas.images.recipe import Recipe
from tests.cli_cohort import imgwas
from tests.data import data_file
from tests.test_real_images import real_images

ATLAS = "atlases/ixi_dlmuse_majority_mni2mm.nii.gz"
NAMES = "atlases/ixi_dlmuse_labels.csv"
TEMPLATE = "atlases/MNI152NLin6_res-2x2x2_T1w_descr-brain.nii.gz"
VENTRICLES = {"LateralVentricle_R": 51, "LateralVentricle_L": 52}
INTRACRANIAL = "702"


def coarse_recipe() -> Recipe:
    """As in docs/quickstart.md, but registered on 6 mm: a third of the time."""
    template = str(data_file(TEMPLATE))
    return Recipe.of(
        ["reorient", "skullstrip", "register", "resample"],
        {"register.template": template, "register.finest_mm": 6, "resample.template": template,
         "resample.voxel_mm": 4},
    )  # fmt: skip


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Per standard deviation of x."""
    return float(np.polyfit((x - x.mean()) / x.std(), y, 1)[0])


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Twelve youngest and twelve oldest: id, age, and all measured volumes."""
    measured = pd.read_csv(data_file("ixi40/dlmuse_vol.csv"), dtype={"MRID": str})
    table = pd.read_csv(data_file("ixi40/participants.csv")).merge(measured, on="MRID")
    table = table.rename(columns={"MRID": "IID", "Age": "age"}).sort_values("age")
    return pd.concat([table.head(12), table.tail(12)], ignore_index=True)


@pytest.fixture(scope="module")
def maps(people, tmp_path_factory):
    """Registered brains, components of half of them, and the map of age."""
    folder = tmp_path_factory.mktemp("real")
    listed = real_images(40)
    rows = [i for i, one in enumerate(listed.sample_ids) if one in set(people["IID"])]
    prepare_images(listed.take(rows), coarse_recipe(), folder / "prepared", threads=2)
    people[["IID", "age"]].to_csv(folder / "people.tsv", sep="\t", index=False)
    (folder / "train.txt").write_text("\n".join(people["IID"][::2]) + "\n")
    atlas = f"--atlas {data_file(ATLAS)} --atlas-names {data_file(NAMES)}"
    for words in (
        "train pca prepared --keep train.txt --validation 0.1 --set latents=8 "
        "--set background=zero --out run",
        "encode prepared run --out latents.parquet",
        "map --encoder run --latents latents.parquet --images prepared --trait people.tsv "
        f"--trait-name age {atlas} --people 4 --draws 199 --out maps",
    ):
        done = imgwas(*words.split(), folder=folder)
        assert done.code == 0, f"{words}: {done.text}"
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ventricles_grow_with_age_as_they_were_measured(maps, people):
    regions = pd.read_csv(maps / "maps/regions.tsv", sep="\t", comment="#").set_index("region")
    for name, number in VENTRICLES.items():
        share = people[str(number)] / people[INTRACRANIAL]
        direct = slope(people["age"].to_numpy(), np.log(share.to_numpy()))
        assert np.sign(regions.loc[name, "volume"]) == np.sign(direct), (name, direct)
        assert np.sign(regions.loc[name, "effect"]) == -np.sign(direct), "fluid is dark"
        assert regions.loc[name, "volume_low"] <= direct, (name, direct)
    assert regions.loc[list(VENTRICLES), "rank"].min() <= 30


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_named_region_is_in_the_table(maps):
    regions = pd.read_csv(maps / "maps/regions.tsv", sep="\t", comment="#")
    named = pd.read_csv(data_file(NAMES))["name"].dropna()
    assert set(named) <= set(regions["region"])
    assert (regions["n_voxels"] > 0).all()
    assert sorted(regions["rank"]) == list(range(1, len(regions) + 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_maps_lie_where_the_images_do(maps):
    image = read_volume(next((maps / "prepared/volumes").glob("*.nii.gz")))
    for kind in ("effect", "z"):
        volume = read_volume(maps / f"maps/maps/age_{kind}.nii.gz")
        assert volume.grid == image.grid
        np.testing.assert_allclose(volume.affine, image.affine)
        assert np.abs(volume.values[image.values == 0]).mean() < np.abs(volume.values).mean()
    assert json.loads((maps / "maps/map.json").read_text())["blur_mm"] > 0
    assert (maps / "maps/figures/age.png").stat().st_size > 10_000

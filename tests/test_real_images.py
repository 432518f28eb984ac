"""Real brains: registered, encoded, scanned; skipped where the public data set is absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import imgwas
from imgwas.images.listing import ImageList
from imgwas.images.nifti import Volume, read_volume
from imgwas.images.prepare import prepare_images
from imgwas.images.recipe import Recipe
from imgwas.images.space import dice, resample, space_of
from tests.cli_cohort import imgwas as command
from tests.data import data_file

PATTERN = {"pattern": "t1/{id}_T1.nii.gz", "mask": "dlmuse_seg/{id}_T1_DLMUSE.nii.gz"}


def real_images(n: int) -> ImageList:
    return imgwas.find_images(data_file("ixi40"), **PATTERN).take(range(n))


def recipe(voxel_mm: float = 4) -> Recipe:
    template = str(data_file("atlases/MNI152NLin6_res-2x2x2_T1w_descr-brain.nii.gz"))
    return Recipe.of(
        ["reorient", "skullstrip", "register", "resample"],
        {"register.template": template, "resample.template": template,
         "resample.voxel_mm": voxel_mm},
    )  # fmt: skip


def overlap(folder: Path, name: str) -> tuple[float, float]:
    """Dice of brain masks against the template's, before and after the registration."""
    labels = read_volume(data_file("atlases/ixi_dlmuse_majority_mni2mm.nii.gz"))
    segmentation = read_volume(data_file(f"ixi40/dlmuse_seg/{name}_T1_DLMUSE.nii.gz"))
    matrix = np.array(json.loads((folder / f"volumes/{name}.json").read_text())["world_to_world"])
    moved = Volume(segmentation.values, matrix @ segmentation.affine)
    before, after = (
        resample(v, space_of(labels), order=0).values > 0 for v in (segmentation, moved)
    )
    return dice(before, labels.values > 0), dice(after, labels.values > 0)


def test_registration_overlaps_the_template(tmp_path):
    prepared = prepare_images(real_images(2), recipe(), tmp_path, threads=2)
    for name in prepared.images.sample_ids:
        before, after = overlap(tmp_path, name)
        assert before < 0.85
        assert after > 0.94
    opened = imgwas.open_images(tmp_path)
    assert opened.grid == (46, 55, 46)
    np.testing.assert_allclose(np.abs(opened.affine.diagonal()[:3]), 4)


@pytest.mark.slow
def test_images_to_manhattan_plot_on_real_brains(tmp_path):
    """The commands of docs/quickstart.md on twenty people, with fewer epochs."""
    prepare_images(real_images(20), recipe(), tmp_path / "prepared", threads=2)
    lines = (tmp_path / "prepared/images.tsv").read_text().splitlines()[:11]
    (tmp_path / "train.txt").write_text("".join(line.split("\t")[0] + "\n" for line in lines))
    small = "--set latents=4 --set width=2 --set levels=3 --set background=zero"
    loop = "--train epochs=2 --train batch=3"
    for words in (
        "images qc prepared --out qc",
        f"train udip prepared --keep train.txt --cache cache --out run {small} {loop}",
        "encode prepared run --remove train.txt --out latents.parquet",
        "reconstruct prepared run --out sheet.png --n 2",
        "simulate genotypes --ids prepared/images.tsv --variants 500 --latents 1 --causal 0",
        "associate --bfile genotypes/cohort --latents latents.parquet --out results",
        "plot manhattan results --out manhattan.pdf",
    ):
        done = command(*words.split(), folder=tmp_path)
        assert done.code == 0, f"{words}: {done.text}"
    assert (tmp_path / "manhattan.pdf").stat().st_size > 1000
    latents = imgwas.read_latents(tmp_path / "latents.parquet")
    others = (tmp_path / "prepared/images.tsv").read_text().splitlines()[11:]
    assert latents.sample_ids == tuple(line.split("\t")[0] for line in others)
    assert np.isfinite(latents.values).all()

"""gan3d from the command line: trained, encoding, decoded, mapped; what it refuses."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from imgwas.images.cache import build_cache
from imgwas.images.volumes import ArrayImages
from imgwas.simulate import simulate_images
from imgwas.tables import read_latents
from tests.cli_cohort import imgwas

TRAIN = ("train", "gan3d", "images", "--set", "latents=3", "--set", "channels=4", "--set",
         "inverter_width=2", "--train", "batch=4", "--train", "learning_rate=1e-3")  # fmt: skip
SHORT = ("--set", "game_epochs=2", "--train", "epochs=3")
N = 14


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    values = np.random.default_rng(0).random((N, 6, 5, 6), np.float32) + 0.1
    ids = tuple(f"s{i}" for i in range(N))
    build_cache(ArrayImages(values, ids), folder / "images", dtype="float32")
    pd.DataFrame({"IID": ids, "sex": np.arange(N) % 2}).to_csv(
        folder / "people.tsv", sep="\t", index=False
    )
    for words in (
        (*TRAIN, *SHORT, "--out", "run"),
        ("train", "pca", "images", "--set", "latents=3", "--out", "pca"),
        ("encode", "images", "run", "--out", "latents.parquet"),
    ):
        done = imgwas(*words, folder=folder)
        assert done.code == 0, done.text
        if words[1] == "gan3d":
            (folder / "said.txt").write_text(done.text)
    return folder


def test_trained_and_encoded(study):
    said = (study / "said.txt").read_text()
    assert "epoch 1 of the game  real " in said
    assert "sample_distance" in said
    assert "epoch 3  train" in said
    assert "best     epoch 3, validation loss" in said
    assert len(list((study / "run/samples").iterdir())) == 2
    latents = read_latents(study / "latents.parquet")
    assert latents.values.shape[1] == 3
    table = pd.read_parquet(study / "latents.parquet")
    assert table["reconstruction_error"].between(0, 4).all()


def test_people_coming_back_are_compared_with_another_encoder(study):
    done = imgwas("reconstruct", "images", "run", "--n", "2", "--out", "pairs", "--beside",
                  "pca", folder=study)  # fmt: skip
    assert done.code == 0, done.text
    for name in ("run", "pca"):
        assert f"{name}: " in done.text
    assert "of 14 people are nearest to their own image (1 by chance)" in done.text
    split = pd.read_csv(study / "run/private/split.tsv", sep="\t")
    n_trained = (split["part"] == "train").sum()
    assert 0 < n_trained < N
    assert f"comes back; it learned from {n_trained} of them" in done.text
    assert len(list((study / "pairs").iterdir())) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--train", "epochs=2", "--set", "game_epochs=2"), r"the game of gan3d takes 2"),
     ((*SHORT, "--set", "loss=wgan"), r"norm=instance"),
     ((*SHORT, "--devices", "2"), r"trains on one device"),
     ((*SHORT, "--set", "form=transposed"), r"needs 16 voxels an axis"),
     ((*SHORT, "--targets", "people.tsv", "--target", "sex"), r"not trained on labels"),
     ((*SHORT, "--set", "refine_step=3"), r"no setting 'refine_step'.*mean refine_steps")],
)  # fmt: skip
def test_what_is_refused(study, words, message):
    done = imgwas(*TRAIN, *words, "--out", "refused", folder=study)
    assert done.code == 8, done.text
    assert re.search(message, done.text), done.text
    assert not (study / "refused" / "run.json").exists()


def test_weights_of_another_encoder_are_refused(study):
    mixed = study / "mixed"
    shutil.copytree(study / "run/encoder", mixed)
    about = json.loads((mixed / "encoder.json").read_text())
    (mixed / "encoder.json").write_text(json.dumps(about | {"encoder": "ae3d", "settings": {
        "grid": about["settings"]["grid"]}}))  # fmt: skip
    done = imgwas("encode", "images", "mixed", "--out", "x.parquet", folder=study)
    assert done.code != 0
    assert "do not fit the network" in done.text
    assert re.search(r"unknown \(discriminator\.", done.text)


@pytest.mark.slow
def test_a_hit_is_mapped_through_the_generator(tmp_path):
    simulate_images(tmp_path, n_samples=60, n_variants=40, n_planted=1, n_null=1, grid_mm=11.0,
                    train_share=0.3, seed=2)  # fmt: skip
    train = ["images.tsv" if word == "images" else word for word in TRAIN]
    for words in (
        (*train, *SHORT, "--keep", "train.txt", "--out", "run"),
        ("encode", "images.tsv", "run", "--keep", "scan.txt", "--out", "latents.parquet"),
        ("associate", "--bfile", "cohort", "--latents", "latents.parquet", "--out", "results"),
        ("map", "results", "--encoder", "run", "--latents", "latents.parquet", "--images",
         "images.tsv", "--latent", "L001", "--atlas", "regions.nii.gz", "--atlas-names",
         "regions.tsv", "--people", "2", "--draws", "19", "--no-figures", "--out", "maps"),
    ):  # fmt: skip
        done = imgwas(*words, folder=tmp_path)
        assert done.code == 0, done.text
    maps = pd.read_csv(tmp_path / "maps/maps.tsv", sep="\t", comment="#")
    assert (maps["agreement_finite"] > 0.99).all()

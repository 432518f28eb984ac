"""``imgwas map``: from files to maps, and every refusal on the way."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pandas as pd
import pytest

import imgwas as im
from imgwas.images.nifti import Volume, read_volume, write_volume
from imgwas.images.space import Space
from imgwas.simulate import simulate_hearts, simulate_images
from tests.cli_cohort import imgwas


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A simulated study up to the scan: what a user has before mapping."""
    folder = tmp_path_factory.mktemp("study")
    cohort = simulate_images(
        folder, n_samples=150, n_variants=60, n_planted=2, n_null=1, grid_mm=9.0,
        variance_explained=0.4, train_share=0.3, seed=2,
    )  # fmt: skip
    for words in (
        ("train", "pca", "images.tsv", "--keep", "train.txt", "--set", "latents=5",
         "--set", "background=zero", "--out", "run"),
        ("train", "pca", "images.tsv", "--keep", "train.txt", "--set", "latents=4",
         "--set", "background=zero", "--out", "other"),
        ("encode", "images.tsv", "run", "--keep", "scan.txt", "--out", "latents.parquet"),
        ("encode", "images.tsv", "other", "--keep", "scan.txt", "--out", "other.parquet"),
        ("associate", "--bfile", "cohort", "--latents", "latents.parquet", "--covar",
         "covariates.tsv", "--categorical", "sex", "--omnibus", "--out", "results"),
        ("associate", "--bfile", "cohort", "--latents", "other.parquet", "--out", "others"),
    ):  # fmt: skip
        done = imgwas(*words, folder=folder)
        assert done.code == 0, done.text
    strangers(folder)
    return folder, cohort


BASIC = ("--encoder", "run", "--latents", "latents.parquet", "--images", "images.tsv")
ATLAS = ("--atlas", "regions.nii.gz", "--atlas-names", "regions.tsv")
QUICK = ("--draws", "99", "--people", "3", "--no-figures")


def strangers(folder):
    (folder / "strangers.tsv").write_text("IID\tage\nx1\t3\nx2\t4\n")
    covariates = pd.read_csv(folder / "covariates.tsv", sep="\t", usecols=["IID", "age"])
    covariates.rename(columns={"age": "L001"}).to_csv(folder / "clash.tsv", sep="\t", index=False)
    (folder / "torn").mkdir()
    (folder / "torn" / "map.json").write_text("[")


def run_map(study, *words, out="maps", results=("results",)):
    return imgwas("map", *results, *words, "--out", out, folder=study[0])


def test_variants_latents_and_traits_to_regions(study):
    folder, cohort = study
    planted = cohort.truth.iloc[0]["variant_id"]
    done = run_map(
        study, *BASIC, *ATLAS, "--variant", planted, "--latent", "L001", "--component", "1",
        "--trait", "covariates.tsv", "--trait-name", "age,sex", "--draws", "199", "--people", "2",
        "--volumes", "volumes.tsv", "--gate", "2", "--no-figures", out="maps",
    )  # fmt: skip
    assert done.code == 0, done.text
    out = folder / "maps"
    maps = pd.read_csv(out / "maps.tsv", sep="\t", comment="#").set_index("name")
    assert list(maps.index) == [planted, "L001", "PC1", "age", "sex"]
    assert (maps["agreement_finite"] > 0.999).all()
    assert (maps["agreement_people"] > 0.999).all()
    assert maps.loc["sex", "per"] == "group"
    assert maps.loc["age", "neg_log10_p"] > 5
    regions = pd.read_csv(out / "regions.tsv", sep="\t", comment="#")
    assert len(regions) == len(maps) * len(pd.read_csv(folder / "regions.tsv", sep="\t"))
    assert regions["share_p"].dropna().between(1 / 200, 1).all()
    volume = read_volume(out / "maps" / f"{planted}_effect.nii.gz")
    template = read_volume(folder / "template.nii.gz")
    assert volume.grid == template.grid
    np.testing.assert_allclose(volume.affine, template.affine)
    assert np.abs(volume.values).max() > 0
    assert (out / "jacobian.safetensors").exists()
    about = json.loads((out / "map.json").read_text())
    assert about["encoder"] == "pca"
    assert not any(one in (out / "map.json").read_text() for one in cohort.volumes["IID"][:20])


@pytest.mark.slow
def test_every_figure_is_drawn(study):
    done = run_map(
        study, *BASIC, *ATLAS, "--latent", "L001", "--traverse", "--outside", "--perdi",
        "--perdi-people", "6", "--people", "1", "--draws", "19", results=(), out="drawn",
    )  # fmt: skip
    assert done.code == 0, done.text
    for name in ("figures/L001.png", "walks/L001_strip.png", "walks/L001.gif",
                 "walks/L001_shifted.png", "walks/curves.tsv", "perdi/L001_perdi.nii.gz",
                 "perdi/regions.tsv", "perdi/L001_sums.png", "outside/L001.png"):  # fmt: skip
        assert (study[0] / "drawn" / name).stat().st_size > 100, name


def test_finished_derivatives_are_used_again_and_seeds_compared(study):
    folder, _ = study
    words = (*BASIC, *ATLAS, *QUICK, "--top", "1")
    assert run_map(study, *words, out="twice").code == 0
    first = (folder / "twice" / "regions.tsv").read_bytes()
    stamp = (folder / "twice" / "jacobian.safetensors").stat().st_mtime_ns
    done = run_map(study, *words, "--compare", "twice", "--verbose", out="twice")
    assert done.code == 0, done.text
    assert "the decoder's derivative is taken from" in done.text
    assert (folder / "twice" / "jacobian.safetensors").stat().st_mtime_ns == stamp
    assert (folder / "twice" / "regions.tsv").read_bytes() == first
    maps = pd.read_csv(folder / "twice" / "maps.tsv", sep="\t", comment="#")
    assert maps["agreement_seeds"].iloc[0] == pytest.approx(1)
    assert maps["same_sign_seeds"].iloc[0] == 1


def test_loci_and_inverse_weights(study):
    folder, cohort = study
    lead = cohort.truth["variant_id"].iloc[0]
    (folder / "loci.tsv").write_text(f"locus\tlead_variant\n1\t{lead}\n")
    done = run_map(study, *BASIC, *ATLAS, *QUICK, "--loci", "loci.tsv", "--weights", "inverse",
                   out="inverse")  # fmt: skip
    assert done.code == 0, done.text
    maps = pd.read_csv(folder / "inverse" / "maps.tsv", sep="\t", comment="#")
    assert list(maps["per"]) == ["SD"]
    assert json.loads((folder / "inverse" / "map.json").read_text())["blur_mm"] > 0


def flipped(study, name):
    """The atlas with its image, not its affine, turned from left to right."""
    folder, _ = study
    volume = read_volume(folder / "regions.nii.gz")
    turned = np.ascontiguousarray(volume.values[::-1])
    write_volume(folder / name, Volume(turned, volume.affine), dtype="uint8")


def elsewhere(study, name):
    folder, _ = study
    volume = read_volume(folder / "regions.nii.gz")
    affine = volume.affine.copy()
    affine[:3, 3] += 300
    write_volume(folder / name, Volume(volume.values, affine), dtype="uint8")


def test_atlases_that_do_not_fit(study):
    folder, _ = study
    flipped(study, "flipped.nii.gz")
    elsewhere(study, "far.nii.gz")
    words = (*BASIC, *QUICK, "--top", "1", "--atlas")
    done = run_map(study, *words, "flipped.nii.gz", "--atlas-names", "regions.tsv")
    assert done.code == 7
    assert "flipped" in done.text or "other side" in done.text
    done = run_map(study, *words, "far.nii.gz", "--atlas-names", "regions.tsv")
    assert done.code == 7
    assert "far.nii.gz" in done.text
    (folder / "none.tsv").write_text("label\tregion\n")
    done = run_map(study, *words, "regions.nii.gz", "--atlas-names", "none.tsv")
    assert (done.code, "none.tsv" in done.text) == (6, True), done.text
    done = run_map(study, *words, "template.nii.gz")
    assert done.code == 6
    assert "Traceback" not in done.text


REFUSED = [
    ((*BASIC, "--variant", "rs0"), 8, "1 of 1 variants are not in the scan", True),
    ((*BASIC,), 8, "there is nothing to map", True),
    ((*BASIC, "--variant", "rs1"), 8, "variants need the scan they are of", False),
    (("--encoder", "run", "--latents", "other.parquet", "--images", "images.tsv", "--top", "1"), 7,
     "these latents were made by another encoder", True),
    (("--encoder", "nowhere", "--latents", "latents.parquet", "--top", "1"), 3, "nowhere", True),
    (("--encoder", "run", "--latents", "latents.parquet", "--top", "1"), 8,
     "it is not known where the brain is", True),
    ((*BASIC, "--latent", "L9"), 8, "there is no latent 'L9'", False),
    ((*BASIC, "--component", "9"), 8, "component is 9", False),
    ((*BASIC, "--atlas-names", "regions.tsv", "--latent", "L001"), 8, "without --atlas", False),
    ((*BASIC, "--volumes", "volumes.tsv", "--latent", "L001"), 8, "--volumes needs", False),
    ((*BASIC, "--trait", "strangers.tsv"), 8, "nobody of the latents is in strangers.tsv", False),
    ((*BASIC, "--trait", "truth.tsv"), 6, "truth.tsv has no id column", False),
    ((*BASIC, "--latent", "L001", "--compare", "run"), 3, "holds no map.json", False),
    ((*BASIC, "--mask", "template.nii.gz", "--latent", "L001", "--draws", "5"), 13,
     "5 draws cannot show a level", False),
    ((*BASIC, "--loci", "covariates.tsv"), 6, "has no column of variants", True),
    ((*BASIC, "--latent", "L001", "--outside"), 8, "--outside needs regions", False),
    ((*BASIC, "--latent", "L001", "--brainpainter"), 8, "--brainpainter needs regions", False),
    ((*BASIC, "--latent", "L001", "--level", "0"), 8, "--level", False),
    ((*BASIC, "--latent", "L001", "--seed", "-1"), 8, "--seed", False),
    ((*BASIC, "--latent", "L001", "--compare", "torn"), 6, "map.json is damaged", False),
    ((*BASIC, "--latent", "L001", "--trait", "clash.tsv"), 8, "1 names stand for two", False),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "text", "with_scan"), REFUSED, ids=lambda v: str(v)[:40])
def test_refusals(study, words, code, text, with_scan):
    done = run_map(study, *words, "--no-figures", "--people", "2", out="refused",
                   results=("results",) if with_scan else ())  # fmt: skip
    assert (done.code, text in done.text) == (code, True), done.text
    assert "Traceback" not in done.text


def test_scan_of_other_latents_is_refused(study):
    done = run_map(study, *BASIC, "--top", "1", *QUICK, results=("others",), out="refused")
    assert done.code == 7
    assert "the scan lacks 1 of the encoder's 5 latents" in done.text


def test_a_folder_of_a_scan_or_encoder_is_refused(study):
    for out in ("results", "run"):
        before = sorted(one.name for one in (study[0] / out).iterdir())
        done = run_map(study, *BASIC, *QUICK, "--latent", "L001", results=(), out=out)
        assert (done.code, "Maps have their own folder" in done.text) == (21, True), done.text
        assert sorted(one.name for one in (study[0] / out).iterdir()) == before


def test_perdi_alone_and_regions_of_an_earlier_run(study):
    folder, _ = study
    words = (*BASIC, *QUICK, "--perdi-people", "4")
    done = run_map(study, *words, *ATLAS, "--latent", "L001,L001", results=(), out="again")
    assert done.code == 0, done.text
    assert len(pd.read_csv(folder / "again" / "maps.tsv", sep="\t", comment="#")) == 1
    assert (folder / "again" / "regions.tsv").exists()
    done = run_map(study, *words, "--latent", "L002", results=(), out="again")
    assert done.code == 0, done.text
    assert not (folder / "again" / "regions.tsv").exists()
    assert "regions.tsv" not in done.text
    done = run_map(study, *words, "--perdi", results=(), out="alone")
    assert done.code == 0, done.text
    assert not (folder / "alone" / "maps.tsv").exists()
    assert (folder / "alone" / "perdi" / "L001_perdi.nii.gz").exists()


def test_transformed_latents_are_refused(study):
    done = imgwas("latents", "transform", "latents.parquet", "--steps", "rank-normal", "--out",
                  "ranked.parquet", folder=study[0])  # fmt: skip
    assert done.code == 0, done.text
    done = run_map(study, "--encoder", "run", "--latents", "ranked.parquet", "--images",
                   "images.tsv", "--latent", "L001", *QUICK, results=(), out="refused")  # fmt: skip
    assert done.code == 7
    assert "these latents were transformed (rank-normal)" in done.text


def test_encoder_without_a_decoder_is_refused(study):
    folder, _ = study
    done = imgwas("train", "diffae-encoder", "images.tsv", "--out", "cine", folder=folder)
    assert done.code != 0
    from imgwas.encoders.catalogue import create_encoder
    from imgwas.encoders.checkpoints import save_encoder

    encoder = create_encoder("cnn", {"grid": "24,24,24", "latents": 4})
    save_encoder(folder / "plain", encoder)
    done = run_map(study, "--encoder", "plain", "--latents", "latents.parquet", "--top", "1")
    assert done.code == 8
    assert "cnn has no decoder" in done.text


def test_cines_become_films(tmp_path):
    simulate_hearts(tmp_path, n_samples=40, n_variants=50, grid=32, n_frames=8, seed=3)
    for words in (
        ("train", "pca", "images.tsv", "--keep", "train.txt", "--set", "latents=3", "--out", "run"),
        ("encode", "images.tsv", "run", "--keep", "scan.txt", "--out", "latents.parquet"),
        ("map", *BASIC, "--latent", "L001", "--traverse", "--draws", "99", "--people", "2",
         "--out", "maps"),
    ):  # fmt: skip
        done = imgwas(*words, folder=tmp_path)
        assert done.code == 0, done.text
    for name in ("figures/L001.gif", "figures/L001_ends.png", "walks/L001.gif",
                 "walks/L001_ends.png", "maps/L001_effect.nii.gz"):  # fmt: skip
        assert (tmp_path / "maps" / name).stat().st_size > 100, name
    quick = ("--latent", "L001", "--draws", "99", "--people", "2", "--no-figures")
    done = imgwas("map", *BASIC, *ATLAS, *quick, "--out", "parts", folder=tmp_path)
    assert done.code == 0, done.text
    regions = pd.read_csv(tmp_path / "parts" / "regions.tsv", sep="\t", comment="#")
    assert set(regions["region"]) == {"lv_cavity", "lv_wall", "rv_cavity"}
    assert regions["volume"].isna().all()
    # by hand: the mean effect over the pixels and frames of the cavity
    effect = np.asarray(nibabel.load(tmp_path / "parts/maps/L001_effect.nii.gz").dataobj)
    labels = np.asarray(nibabel.load(tmp_path / "regions.nii.gz").dataobj)
    seen = effect[(labels == 1) & (effect != 0)].mean()
    row = regions.set_index("region").loc["lv_cavity"]
    assert row["effect"] == pytest.approx(seen, rel=1e-3)
    write_volume(tmp_path / "other.nii.gz", Volume(np.ones((5, 6, 1), np.float32), np.eye(4)))
    done = imgwas("map", *BASIC, "--atlas", "other.nii.gz", *quick, "--out", "no", folder=tmp_path)
    assert (done.code, "other.nii.gz has the grid 5x6" in done.text) == (7, True), done.text
    write_volume(tmp_path / "half.nii.gz", Volume(np.full((32, 32, 1), 0.5, np.float32), np.eye(4)))
    done = imgwas("map", *BASIC, "--atlas", "half.nii.gz", *quick, "--out", "no", folder=tmp_path)
    assert (done.code, "half.nii.gz holds no labels" in done.text) == (6, True), done.text


def test_mask_on_another_grid_is_refused(study):
    folder, _ = study
    image = nibabel.load(folder / "template.nii.gz")
    other = np.ones(tuple(n + 1 for n in image.shape), np.float32)
    write_volume(folder / "mask.nii.gz", Volume(other, image.affine))
    done = run_map(study, *BASIC, "--top", "1", "--mask", "mask.nii.gz", *QUICK, out="refused")
    assert done.code == 7
    assert "mask.nii.gz is not in the expected space" in done.text


def test_the_library_call_gives_the_regions_of_the_command(study):
    """One call and one command: the same blur, people, draws and so the same regions."""
    folder, cohort = study
    planted = cohort.truth.iloc[0]["variant_id"]
    done = run_map(study, *BASIC, *ATLAS, "--variant", planted, "--no-figures", out="commanded")
    assert done.code == 0, done.text
    images = im.open_images(folder / "images.tsv")
    atlas = im.read_atlas(folder / "regions.nii.gz", folder / "regions.tsv",
                          space=Space(images.grid, images.affine))  # fmt: skip
    (found,) = im.map_to_brain(
        [planted], im.open_sumstats(folder / "results"), im.load_encoder(folder / "run"),
        im.read_latents(folder / "latents.parquet"), images, atlas=atlas,
    )  # fmt: skip
    written = pd.read_csv(folder / "commanded" / "regions.tsv", sep="\t", comment="#")
    assert list(found.regions["region"]) == list(written["region"])
    for name in ("effect", "share_p"):
        np.testing.assert_allclose(found.regions[name], written[name], rtol=1e-4)
    about = json.loads((folder / "commanded" / "map.json").read_text())
    assert about["blur_mm"] > 0

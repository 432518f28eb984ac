"""Several training seeds and their consensus: three commands, from images to one table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from imgwas.consensus import join_latents, reproduced_latents
from imgwas.consensus.joining import joined_source
from imgwas.latents.ledger import mark_people, who_was_seen
from imgwas.simulate import simulate_images
from imgwas.tables import read_latents
from imgwas.types import Latents
from tests.cli_cohort import imgwas

TRAIN = ("train", "udip", "images.tsv", "--keep", "train.txt", "--set", "latents=3", "--set",
         "width=4", "--set", "levels=2", "--train", "epochs=1", "--train", "batch=8", "--train",
         "learning_rate=1e-3")  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    simulate_images(folder, n_samples=30, n_variants=40, n_planted=1, n_null=1, grid_mm=11.0,
                    train_share=0.4, seed=2)  # fmt: skip
    done = imgwas(*TRAIN, "--seeds", "1701,42", "--out", "runs", folder=folder)
    assert done.code == 0, done.text
    return folder, done.text


def test_from_images_to_what_seeds_agree_on(study):
    folder, said = study
    assert "imgwas encode IMAGES runs --out latents/" in said
    names = ["seed-1701", "seed-42"]
    runs = [json.loads((folder / "runs" / one / "run.json").read_text()) for one in names]
    identities = [one["identity"] for one in runs]
    assert [one["training"]["seed"] for one in identities] == [1701, 42]
    assert len({one["split"] for one in identities}) == 1, "another held-out people a seed"
    ledgers = [(folder / "runs" / one / "private" / "people_seen.tsv").read_text() for one in names]
    assert len(set(ledgers)) == 1
    weights = [(folder / "runs" / one / "encoder" / "encoder.safetensors").read_bytes()
               for one in names]  # fmt: skip
    assert len(set(weights)) == 2
    encode = ("encode", "images.tsv", "runs", "--keep", "scan.txt", "--out", "latents")
    done = imgwas(*encode, folder=folder)
    assert done.code == 0, done.text
    assert "imgwas latents consensus latents --out consensus/" in done.text
    tables = {one: read_latents(folder / "latents" / f"{one}.parquet") for one in names}
    assert len({one.sample_ids for one in tables.values()}) == 1
    done = imgwas("latents", "consensus", "latents", "--threshold", "0.3", "--components", "1",
                  "--out", "consensus", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    matches = pd.read_csv(folder / "consensus" / "matches.tsv", sep="\t")
    assert list(matches["seed"].unique()) == names
    spaces = pd.read_csv(folder / "consensus" / "spaces.tsv", sep="\t")
    assert len(spaces) == 1
    # by hand: the best |r| of each latent in the other seed
    for _, row in matches.iterrows():
        own = tables[row["seed"]]
        mine = own.values[:, own.names.index(row["latent"])]
        others = np.column_stack([t.values for name, t in tables.items() if name != row["seed"]])
        best = max(abs(np.corrcoef(mine, other)[0, 1]) for other in others.T)
        assert abs(row["r"]) == pytest.approx(best, abs=1e-6)
        assert row["is_reproduced"] == (best > 0.3)
    shared = read_latents(folder / "consensus" / "shared.parquet")
    assert not who_was_seen(shared.source["people_seen"], shared.sample_ids).any()
    if matches["is_reproduced"].any():
        kept = read_latents(folder / "consensus" / "reproduced.parquet")
        assert len(kept.names) == int(matches["is_reproduced"].sum())


@pytest.mark.slow
@pytest.mark.slow
def test_the_command_again_changes_nothing_and_another_seed_joins(study):
    folder, _ = study
    weights = folder / "runs" / "seed-42" / "encoder" / "encoder.safetensors"
    before = weights.read_bytes(), weights.stat().st_mtime_ns
    done = imgwas(*TRAIN, "--seeds", "42,5", "--out", "runs", folder=folder)
    assert done.code == 0, done.text
    assert weights.read_bytes() == before[0]
    split = {one.name: json.loads((one / "run.json").read_text())["identity"]["split"]
             for one in (folder / "runs").glob("seed-*")}  # fmt: skip
    assert len(split) == 3
    assert len(set(split.values())) == 1


@pytest.mark.slow
@pytest.mark.slow
def test_people_whom_any_seed_has_seen_stay_marked(study):
    folder, _ = study
    done = imgwas("encode", "images.tsv", "runs", "--out", "everyone", folder=folder)
    assert done.code == 0, done.text
    done = imgwas("latents", "consensus", "everyone", "--components", "1", "--threshold", "0",
                  "--out", "all", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    done = imgwas("associate", "--bfile", "cohort", "--latents", "all/reproduced.parquet", "--out",
                  "refused", folder=folder)  # fmt: skip
    assert done.code == 21, done.text
    assert "trained the encoder that made them" in done.text


def test_ledgers_of_several_encoders_are_united():
    ids = tuple(f"p{i}" for i in range(8))
    rng = np.random.default_rng(0)
    values = rng.standard_normal((8, 2))

    def table(seen, name):
        return Latents(values + 0.01 * rng.standard_normal((8, 2)), ids, ("a", "b"),
                       source={"encoder": name, "people_seen": mark_people(seen)})  # fmt: skip

    joined = join_latents({"one": table(["p1", "x"], "gan"), "two": table(["p5"], "udip")})
    source = joined_source(joined)
    assert source["encoder"] == "gan+udip"
    assert list(np.flatnonzero(who_was_seen(source["people_seen"], ids))) == [1, 5]
    matches = pd.DataFrame({"seed": ["one"], "latent": ["a"], "is_reproduced": [True]})
    assert "people_seen" in reproduced_latents(joined, matches).source
    assert joined_source({"plain": Latents(values, ids, ("a", "b"))}) == {}


REFUSED = [
    (("--seeds", "1"), 8, "--seeds has one seed"),
    (("--seeds", "1,1"), 8, "the seed 1 is given twice"),
    (("--seeds", "1,two"), 8, "Whole numbers"),
    (("--seeds", "1,-2"), 8, "Whole numbers"),
    (("--seeds", "1,,2"), 8, "empty entry"),
    (("--seeds", "1,2", "--train", "seed=3"), 8, "Leave --train seed= out"),
    (("--seeds", "1,2", "--folds", "3"), 8, "networks without labels"),
    (("--seeds", f"1,{2**63}"), 8, "a seed"),
]


@pytest.mark.parametrize(("words", "code", "text"), REFUSED, ids=lambda v: str(v)[:30])
def test_seeds_that_cannot_be(study, words, code, text):
    done = imgwas(*TRAIN, *words, "--out", "no", folder=study[0])
    assert (done.code, text in done.text) == (code, True), done.text


def test_folders_that_cannot_be(study):
    folder, _ = study
    done = imgwas(*TRAIN, "--seeds", "1,2", "--out", "runs/seed-42", folder=folder)
    assert (done.code, "holds a single run" in done.text) == (21, True), done.text
    done = imgwas("encode", "images.tsv", "runs", "--out", "one.parquet", folder=folder)
    assert (done.code, "is one table, and there are" in done.text) == (8, True), done.text
    done = imgwas("encode", "images.tsv", "runs/seed-42", "--out", "runs", folder=folder)
    assert (done.code, "is a folder, and there is one encoder" in done.text) == (8, True)
    (folder / "half" / "seed-1").mkdir(parents=True)
    (folder / "half" / "seed-1" / "run.json").write_text("{}")
    done = imgwas("encode", "images.tsv", "half", "--out", "half-latents", folder=folder)
    assert (done.code, "1 of 1 runs in half are not finished" in done.text) == (7, True), done.text
    (folder / "empty").mkdir()
    done = imgwas("latents", "consensus", "empty", "--out", "no", folder=folder)
    assert (done.code, "0 tables were given" in done.text) == (8, True), done.text

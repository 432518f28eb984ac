"""Out-of-fold features: nobody is encoded by a network that saw their label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

import imgwas
from imgwas.association.seen import without_training_people
from imgwas.encoders.encoding import encode_images
from imgwas.encoders.fitting import fit
from imgwas.encoders.folds import align_folds, fit_folds, turn
from imgwas.encoders.runs import Run
from imgwas.encoders.splits import Split, fold_people
from imgwas.encoders.targets import Targets
from imgwas.errors import RefusedError, UsageError
from imgwas.images.volumes import ArrayImages
from tests.cli_cohort import imgwas as command
from tests.cli_cohort import write_cohort

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {"base": 4, "latents": 6, "dropout": 0.0, "intensity": "none"}


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Share of pairs that a score puts in order."""
    a, b = score[label == 1][:, None], score[label == 0][None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def probe_auc(features: np.ndarray, label: np.ndarray) -> float:
    """AUC of a linear probe on held-out people: fitted on one half, judged on the other, twice."""
    order = np.random.default_rng(0).permutation(len(label))
    found = []
    for fitted, judged in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        x = np.column_stack([np.ones(len(features)), features])
        ridge = 0.1 * np.eye(x.shape[1])
        weights = np.linalg.solve(x[fitted].T @ x[fitted] + ridge, x[fitted].T @ label[fitted])
        found.append(auc(x[judged] @ weights, label[judged]))
    return float(np.mean(found))


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Images without any content and labels drawn by a coin; families of two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(11)
    n = 120
    label = rng.permutation(np.arange(n) % 2)
    values = rng.standard_normal((n, 6, 6, 6)).astype(np.float32)
    images = ArrayImages(values, tuple(f"p{i:03d}" for i in range(n)))
    groups = [f"f{i // 2}" for i in range(n)]
    targets = Targets(label.astype(np.float32), "classes", ("a", "b"))
    train = {"epochs": 28, "batch": 8, "learning_rate": 5e-3, "schedule": "constant", "keep": 40}
    folds = fit_folds("resnet-sex", images, targets, out=folder / "folds", n_folds=4, groups=groups,
                      settings=SETTINGS, train={**train, "epochs": 6}, device="cpu")  # fmt: skip
    torch.set_num_threads(before)
    return folder, images, label, groups, folds, (targets, train)


@pytest.mark.slow
def test_labels_of_noise_are_found_in_sample_and_not_out_of_fold(noise):
    """Why folds: the images hold nothing, yet features of training people know the label."""
    folder, images, label, _, folds, (targets, train) = noise
    from imgwas.encoders.checkpoints import load_encoder

    split = Split(tuple(range(110)), tuple(range(110, 120)))
    fit("resnet-sex", images, out=folder / "once", targets=targets, split=split,
        settings=SETTINGS, train=train, device="cpu")  # fmt: skip
    last = sorted((folder / "once" / "checkpoints").glob("epoch-*"))[-1]
    in_sample = load_encoder(last).encoder.encode(images.values)[:110]
    assert probe_auc(in_sample, label[:110]) > 0.8
    assert 0.35 < probe_auc(folds.latents, label) < 0.65
    assert 0.35 < auc(folds.predictions[:, 1], label) < 0.65


def read_split(path: Path) -> dict[str, str]:
    return dict(pd.read_csv(path, sep="\t", dtype=str).itertuples(index=False))


def test_nobody_is_encoded_by_a_network_that_saw_them(noise):
    folder, images, _, groups, folds, _ = noise
    table = pd.read_parquet(folder / "folds" / "latents.parquet").set_index("IID")
    group_of = dict(zip(images.sample_ids, groups, strict=True))
    for number in range(1, 5):
        run = folder / "folds" / f"fold-{number}"
        seen = set(read_split(run / "private" / "split.tsv"))
        encoded = set(table.index[table["fold"] == number])
        assert encoded
        assert not seen & encoded
        assert not {group_of[one] for one in seen} & {group_of[one] for one in encoded}
        assert set(Run(run).people_seen()) == seen
        assert seen | encoded == set(images.sample_ids)
    assert list(table.index) == list(images.sample_ids)
    assert np.array_equal(table["fold"], folds.fold)


def test_epochs_are_judged_on_others_in_each_fold(noise):
    folder, *_ = noise
    judges = []
    for number in range(1, 5):
        parts = read_split(folder / "folds" / f"fold-{number}" / "private" / "split.tsv")
        judges.append({one for one, part in parts.items() if part == "validation"})
        assert 0.1 < len(judges[-1]) / len(parts) < 0.15
    assert len(set.intersection(*judges)) < 5


def test_latents_are_each_networks_own_features_turned(noise):
    """The table follows from the four networks by the definition, written out."""
    _, images, _, _, folds, _ = noise
    everyone = [made.encoder.encode(images.values).astype(float) for made in folds.fitted]
    for number in range(1, 5):
        own = np.flatnonzero(folds.fold == number)
        shared = np.flatnonzero((folds.fold != number) & (folds.fold != 1))
        mine, first = (
            (x - x[shared].mean(0)) / np.where(x[shared].std(0) > 0, x[shared].std(0), 1)
            for x in (everyone[number - 1], everyone[0])
        )
        a, b = mine[shared], first[shared]
        little = np.eye(6) * np.sqrt(1e-9 * np.linalg.norm(a.T @ b))  # dead features stay put
        rotation = orthogonal_procrustes(np.vstack([a, little]), np.vstack([b, little]))[0]
        turned = (mine @ rotation)[own] if number > 1 else mine[own]
        expected = (turned - turned.mean(0)) / np.where(turned.std(0) > 1e-6, turned.std(0), np.inf)
        np.testing.assert_allclose(folds.latents[own], expected, atol=2e-3)


def test_the_table_is_read_as_latents_only(noise):
    folder, images, _, _, folds, _ = noise
    path = folder / "folds" / "latents.parquet"
    names = pq.read_schema(path).names
    assert {"IID", "fold", "prediction_0", "prediction_1"} <= set(names)
    latents = imgwas.read_latents(path)
    assert set(latents.names) == set(names) - {"IID", "fold", "prediction_0", "prediction_1"}
    assert latents.names[0].startswith("L0")
    assert latents.sample_ids == images.sample_ids
    footer = json.loads(pq.read_schema(path).metadata[b"imgwas"])
    assert footer["out_of_fold"] is True
    assert footer["in_sample"] is False
    assert footer["fold_weights_sha256"] == [made.digest for made in folds.fitted]
    text = json.dumps(footer)
    assert not any(one in text for one in images.sample_ids)
    assert without_training_people(latents, "refuse") is latents


def test_predictions_are_probabilities(noise):
    *_, folds, _ = noise
    np.testing.assert_allclose(folds.predictions.sum(axis=1), 1, rtol=1e-5)


def test_the_same_command_again_gives_the_same_table(noise):
    folder, images, label, groups, folds, _ = noise
    targets = Targets(label.astype(np.float32), "classes", ("a", "b"))
    train = {"epochs": 6, "batch": 8, "learning_rate": 5e-3, "schedule": "constant"}
    before = (folder / "folds" / "latents.parquet").read_bytes()
    again = fit_folds("resnet-sex", images, targets, out=folder / "folds", n_folds=4,
                      groups=groups, settings=SETTINGS, train=train, device="cpu")  # fmt: skip
    assert np.array_equal(again.latents, folds.latents)
    assert (folder / "folds" / "latents.parquet").read_bytes() == before


def test_associate_takes_features_out_of_fold_and_refuses_them_in_sample(noise, tmp_path):
    folder, images, _, _, folds, _ = noise
    made = folds.fitted[0]
    write_cohort(tmp_path)
    ids = [line.split()[1] for line in (tmp_path / "cohort.fam").read_text().splitlines()]
    table = pq.read_table(folder / "folds" / "latents.parquet").slice(0, len(ids))
    import pyarrow as pa

    renamed = table.set_column(0, "IID", pa.array(ids)).replace_schema_metadata(
        table.schema.metadata
    )
    pq.write_table(renamed, tmp_path / "fold.parquet")
    words = ("associate", "--bfile", "cohort", "--out")
    done = command(*words, "a", "--latents", "fold.parquet", folder=tmp_path)
    assert done.code == 0, done.text
    people = ArrayImages(images.values[: len(ids)], tuple(ids))
    encode_images(people, made.encoder, tmp_path / "in.parquet", digest=made.digest,
                  people_seen=ids, in_sample=True)  # fmt: skip
    refused = command(*words, "b", "--latents", "in.parquet", folder=tmp_path)
    assert refused.code == RefusedError.exit_code
    assert "labels trained the network" in refused.text
    assert "--folds 5" in refused.text
    allowed = command(*words, "c", "--latents", "in.parquet", "--training-people", "allow",
                      folder=tmp_path)  # fmt: skip
    assert allowed.code == 0, allowed.text


def test_two_folds_and_unlabelled_encoders_are_refused(noise, tmp_path):
    _, images, label, *_ = noise
    targets = Targets(label.astype(np.float32), "classes", ("a", "b"))
    with pytest.raises(UsageError, match=r"2 folds\. At least 3"):
        fit_folds("resnet-sex", images, targets, out=tmp_path, n_folds=2)
    with pytest.raises(UsageError, match="udip is not trained on labels"):
        fit_folds("udip", images, targets, out=tmp_path, device="cpu")
    with pytest.raises(UsageError, match="121 folds"):
        fit_folds("resnet-sex", images, targets, out=tmp_path, n_folds=121)


# ---- alignment ----------------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(20, 60), st.integers(0, 10_000))
def test_the_turn_is_scipys_orthogonal_procrustes(k, n, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n, k))
    np.testing.assert_allclose(turn(a, b), orthogonal_procrustes(a, b)[0], atol=1e-5)


@given(st.integers(3, 8), st.integers(1, 20), st.integers(0, 1000))
def test_directions_that_nobody_has_are_left_as_they_are(n, more, seed):
    """More features than people: every rotation of the rest fits as well, so none is made up."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n + more))
    rotation = turn(a, a)
    np.testing.assert_allclose(rotation, np.eye(n + more), atol=1e-5)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(n + more), atol=1e-9)


@given(st.integers(2, 10), st.integers(3, 6), st.integers(0, 1000))
def test_planted_rotations_are_undone(k, n_folds, seed):
    """Networks that differ by a rotation, a shift and a scale are one."""
    rng = np.random.default_rng(seed)
    n = 240
    truth = rng.standard_normal((n, k))
    held_out = [part.validation for part in fold_people([f"p{i}" for i in range(n)], n_folds)]
    rotations = [np.eye(k)] + [ortho_group.rvs(k, random_state=rng) if k > 1 else np.eye(1)
                               for _ in range(n_folds - 1)]  # fmt: skip
    shifts, scales = rng.normal(0, 5, n_folds), rng.uniform(0.1, 10, n_folds)
    features = [s * (truth @ q) + m for q, m, s in zip(rotations, shifts, scales, strict=True)]
    aligned, agreement = align_folds(features, held_out)
    assert min(agreement) > 0.99
    for j in range(k):
        assert np.corrcoef(aligned[:, j], truth[:, j])[0, 1] > 0.95


def test_each_fold_ends_with_mean_0_and_variance_1():
    """What networks differ in beyond a rotation cannot pose as a difference between people."""
    rng = np.random.default_rng(0)
    held_out = [tuple(range(i, 100, 4)) for i in range(4)]
    features = [rng.normal(10 * i, 1 + i, (100, 3)) for i in range(4)]
    aligned, _ = align_folds(features, held_out)
    for rows in held_out:
        np.testing.assert_allclose(aligned[list(rows)].mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(aligned[list(rows)].std(axis=0), 1, atol=1e-12)


def test_agreement_is_not_what_a_rotation_can_fit():
    """50 unrelated features of 60 people: a rotation fits them at r > 0.5, and agrees on nobody."""
    rng = np.random.default_rng(0)
    held_out = [tuple(range(i, 90, 3)) for i in range(3)]
    features = [rng.standard_normal((90, 50)) for _ in range(3)]
    shared = [i for i in range(90) if i % 3 == 2]
    rotation = turn(features[1][shared], features[0][shared])
    fitted = np.corrcoef((features[1] @ rotation)[shared, 0], features[0][shared, 0])[0, 1]
    assert fitted > 0.5
    _, agreement = align_folds(features, held_out)
    assert agreement[0] == 1
    assert abs(agreement[1]) < 0.1
    assert abs(agreement[2]) < 0.1


def test_dead_features_stay_zero_and_tiny_ones_are_kept():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((60, 3)) * [1, 1e-12, 1] * [1, 1, 0] + [0, 0, 7]
    held_out = [tuple(range(i, 60, 3)) for i in range(3)]
    aligned, agreement = align_folds([base] * 3, held_out)
    assert np.abs(aligned[:, 2]).max() == 0
    np.testing.assert_allclose(aligned[:, :2].std(axis=0), 1)
    assert min(agreement) > 0.99


def test_little_agreement_is_said_aloud(noise, caplog):
    """Networks of noise share nothing but their start."""
    folder, images, _, _, folds, _ = noise
    from dataclasses import replace

    from imgwas.encoders.folds import _write

    with caplog.at_level("WARNING", logger="imgwas"):
        _write(
            folder / "x.parquet", images, replace(folds, agreement=(1.0, 0.2, 0.9, float("nan")))
        )
    assert "2 of 4 folds agree little with the first" in caplog.text
    footer = json.loads(pq.read_schema(folder / "x.parquet").metadata[b"imgwas"])
    assert footer["agreement"] == [1.0, 0.2, 0.9, None]


def test_patches_are_ranked_anew_in_each_fold(tmp_path):
    """A patch chosen by people of the fold would have seen their labels."""
    rng = np.random.default_rng(0)
    label = np.arange(12) % 2
    values = rng.normal(1, 0.2, (12, 32, 31, 31)).astype(np.float32)
    images = ArrayImages(values, tuple(f"p{i:02d}" for i in range(12)))
    targets = Targets(label.astype(np.float32), "classes", ("no", "yes"))
    fit_folds(
        "patch-cnn", images, targets, out=tmp_path, n_folds=3, device="cpu",
        settings={"patch": (31, 31, 31), "steps": (2, 1, 1), "keep": 1, "latents": 3,
                  "intensity": "none"},
        train={"epochs": 1, "batch": 4},
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "latents.parquet").set_index("IID")
    for number in (1, 2, 3):
        splits = list((tmp_path / f"fold-{number}").rglob("private/split.tsv"))
        assert len(splits) == 3
        encoded = set(table.index[table["fold"] == number])
        for path in splits:
            assert not set(read_split(path)) & encoded

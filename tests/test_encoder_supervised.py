"""Labels and the networks that learn them: classes, values, weights, patches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imgwas.encoders.base import Batch
from imgwas.encoders.catalogue import create_encoder
from imgwas.encoders.classifiers import SupervisedSettings
from imgwas.encoders.encoding import encode_images
from imgwas.encoders.fitting import fit
from imgwas.encoders.patch_ranking import fit_patches
from imgwas.encoders.runs import Run
from imgwas.encoders.splits import Split, fold_people, split_people
from imgwas.encoders.targets import (
    Targets,
    read_groups,
    read_targets,
    scaled_values,
    settings_for,
)
from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    RefusedError,
    UsageError,
)
from imgwas.images.patches import cut_patches, join_patches, patch_corners
from imgwas.images.volumes import ArrayImages
from imgwas.simulate.brains import simulate_brains

pytestmark = pytest.mark.usefixtures("one_thread")

PEOPLE = tuple(f"p{i}" for i in range(6))


def table(folder: Path, values, ids=PEOPLE, name: str = "people.tsv") -> Path:
    path = folder / name
    pd.DataFrame({"IID": ids, "label": values}).to_csv(path, sep="\t", index=False, na_rep="NA")
    return path


# ---- labels -------------------------------------------------------------------------------------


def test_text_is_classes_in_alphabetical_order(tmp_path):
    made = read_targets(table(tmp_path, ["MCI", "CN", "AD", "CN", "CN", "AD"]), "label", PEOPLE)
    assert (made.task, made.class_names) == ("classes", ("AD", "CN", "MCI"))
    assert made.values.tolist() == [2, 1, 0, 1, 1, 0]


def test_small_whole_numbers_are_classes_in_numerical_order(tmp_path):
    made = read_targets(table(tmp_path, [10, 2, 2, 10, 9, 9]), "label", PEOPLE)
    assert (made.task, made.class_names) == ("classes", ("2", "9", "10"))
    assert made.values.tolist() == [2, 0, 0, 2, 1, 1]


def test_one_class_written_two_ways_is_one_class(tmp_path):
    made = read_targets(table(tmp_path, ["1", "1.0", "0", "0.0", " 1", "0"]), "label", PEOPLE)
    assert made.class_names == ("0", "1")
    assert made.values.tolist() == [1, 1, 0, 0, 1, 0]


def test_parquet_numbers_and_text_numbers_are_the_same_classes(tmp_path):
    frame = pd.DataFrame({"IID": PEOPLE, "label": [1.0, 2.0, 2.0, 1.0, 1.0, 2.0]})
    frame.to_parquet(tmp_path / "t.parquet")
    made = read_targets(tmp_path / "t.parquet", "label", PEOPLE)
    assert (made.task, made.class_names) == ("classes", ("1", "2"))


@pytest.mark.parametrize("values", [[1.5, 2, 3, 4, 5, 2], [0.5, 0.25, 1, 1, 1, 1]])
def test_a_single_fraction_makes_values(tmp_path, values):
    made = read_targets(table(tmp_path, values), "label", PEOPLE)
    assert made.task == "values"
    assert made.values.tolist() == np.float32(values).tolist()


def test_many_whole_numbers_are_values_and_missing_ones_stay_missing(tmp_path):
    ids = tuple(f"p{i}" for i in range(40))
    values = [float(40 + i) if i != 7 else np.nan for i in range(40)]
    made = read_targets(table(tmp_path, values, ids), "label", ids)
    assert made.task == "values"
    assert np.isnan(made.values[7])
    assert np.isfinite(made.values).sum() == 39


def test_task_decides_where_it_is_given(tmp_path):
    path = table(tmp_path, [22, 26, 31, 22, 26, 31])
    assert read_targets(path, "label", PEOPLE, task="values").values[0] == 22
    assert read_targets(path, "label", PEOPLE, task="classes").class_names == ("22", "26", "31")


def test_labels_follow_the_ids_not_the_rows(tmp_path):
    path = table(tmp_path, list("aabbcc"))
    made = read_targets(path, "label", ("p5", "p0", "p3"))
    assert [made.class_names[int(v)] for v in made.values] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("values", "task", "error", "what"),
    [
        (["a", "b", None, "a", "b", "NA"], "auto", InconsistentError, "2 people have no label"),
        ([1, 2, -9, 1, 2, -9], "auto", InconsistentError, "2 people have -9, PLINK's code"),
        ([50.5, 60, -9, 70, 55, 61], "auto", InconsistentError, "1 people have label -9"),
        (["a"] * 6, "auto", DegenerateError, "label is 'a' for everybody"),
        ([3.5] * 6, "values", DegenerateError, "label has one value for everybody"),
        ([None] * 6, "values", DegenerateError, "label is missing for everybody"),
    ],
)
def test_labels_that_cannot_be_learned(tmp_path, values, task, error, what):
    with pytest.raises(error, match=what):
        read_targets(table(tmp_path, values), "label", PEOPLE, task=task)


def test_minus_nine_among_negative_values_is_a_value(tmp_path):
    made = read_targets(table(tmp_path, [-9, -8.5, 3, 4, 5, 6]), "label", PEOPLE)
    assert made.values[0] == -9


def test_absent_and_repeated_people_are_counted_and_redacted(tmp_path):
    with pytest.raises(
        InconsistentError, match=r"2 of 8 people.*no row.*first: sub-###17"
    ) as error:
        read_targets(table(tmp_path, list("abcabc")), "label", (*PEOPLE, "sub-12317", "sub-12318"))
    assert "12317" not in str(error.value)
    twice = table(tmp_path, list("aabbcc"), ("p0", "p1", "p2", "p3", "p4", "p4"))
    with pytest.raises(InconsistentError, match=r"several rows for 1 people"):
        read_targets(twice, "label", PEOPLE[:5])
    assert len(read_targets(twice, "label", PEOPLE[:4]).values) == 4


def test_a_wrong_column_and_too_many_texts_are_refused(tmp_path):
    path = table(tmp_path, list("abcabc"))
    with pytest.raises(UsageError, match=r"no column 'lable'. Did you mean label"):
        read_targets(path, "lable", PEOPLE)
    ids = tuple(f"p{i}" for i in range(30))
    with pytest.raises(UsageError, match=r"30 different texts.*--task classes"):
        read_targets(table(tmp_path, [f"x{i}" for i in range(30)], ids), "label", ids)


# ---- what follows from the labels ---------------------------------------------------------------


def test_rare_classes_weigh_more_and_only_training_people_count():
    values = np.array([0] * 8 + [1] * 2 + [1] * 50, np.float32)
    targets = Targets(values, "classes", ("a", "b"))
    split = Split(tuple(range(10)), tuple(range(10, 60)))
    made = settings_for(SupervisedSettings(), targets, split, "cnn")
    assert made.class_weights == pytest.approx((10 / (2 * 8), 10 / (2 * 2)))  # n / (K n_k)
    assert made.outputs == 2
    mean = np.mean([made.class_weights[int(v)] for v in values[:10]])
    assert mean == pytest.approx(1)


def test_given_class_weights_stay_and_are_checked():
    targets = Targets(np.array([0, 1, 0, 1], np.float32), "classes", ("a", "b"))
    split = Split((0, 1), (2, 3))
    made = settings_for(SupervisedSettings(class_weights=(1.0, 5.0)), targets, split, "cnn")
    assert made.class_weights == (1.0, 5.0)
    for wrong in ((1.0,), (1.0, -1.0)):
        with pytest.raises(UsageError, match="2 numbers above 0, for a, b"):
            settings_for(SupervisedSettings(class_weights=wrong), targets, split, "cnn")


def test_a_class_absent_from_training_is_named():
    targets = Targets(np.array([0, 0, 0, 1], np.float32), "classes", ("a", "b"))
    with pytest.raises(DegenerateError, match="nobody of the class 'b' is among the 3 training"):
        settings_for(SupervisedSettings(), targets, Split((0, 1, 2), (3,)), "cnn")
    with pytest.raises(UsageError, match=r"cnn is trained on labels\. Give --targets"):
        settings_for(SupervisedSettings(), None, Split((0,), (1,)), "cnn")


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=30), st.integers(0, 3))
def test_values_are_standardised_by_training_people_and_come_back(numbers, n_missing):
    values = np.array([*numbers, 0.0, 1e3], np.float32)
    values[:n_missing] = np.nan
    split = Split(tuple(range(2, len(values))), (0, 1, len(values) - 1))
    targets = Targets(values, "values", column="age")
    made = settings_for(SupervisedSettings(), targets, split, "cnn")
    known = values[list(split.train)].astype(np.float64)
    known = known[np.isfinite(known)]
    assert made.target_mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-9)
    assert made.target_sd == pytest.approx(known.std(), rel=1e-9)
    scaled = scaled_values(targets, made)
    assert np.array_equal(np.isnan(scaled), np.isnan(values))
    encoder = create_encoder("resnet-sex", {"grid": (8, 8, 8), "latents": 3, "base": 2})
    encoder = type(encoder)(replace(made_for(encoder, made)))
    with torch.inference_mode():
        network = encoder.network.eval()
        network.head = torch.nn.Identity()
        back = encoder.outputs_of(network, torch.from_numpy(scaled)[:, None])
    np.testing.assert_allclose(back[:, 0], values, rtol=1e-4, atol=1e-3 * made.target_sd)


def made_for(encoder, made):
    return replace(encoder.settings, task="values", outputs=1, target_mean=made.target_mean,
                   target_sd=made.target_sd)  # fmt: skip


@pytest.mark.parametrize(
    ("values", "what"),
    [([1, 1, 1, 2], "one value for all training people"),
     ([np.nan, np.nan, np.nan, 2], "missing for all training people"),
     ([1, 2, 3, np.nan], "missing for all held-out people")],
)  # fmt: skip
def test_values_that_cannot_be_scaled_or_judged(values, what):
    targets = Targets(np.array(values, np.float32), "values", column="age")
    with pytest.raises(DegenerateError, match=f"age.*{what}"):
        settings_for(SupervisedSettings(), targets, Split((0, 1, 2), (3,)), "cnn")


def test_losses_are_those_of_a_loop_and_missing_values_do_not_count():
    rng = np.random.default_rng(0)
    outputs = torch.from_numpy(rng.standard_normal((5, 3)).astype(np.float32))
    target = np.array([0, 2, 1, 1, 2])
    weights = (0.5, 1.0, 3.0)
    encoder = create_encoder("cnn", {"outputs": 3, "class_weights": weights})
    empty = torch.zeros(5)
    ratio = encoder.losses(outputs, Batch(empty, empty, torch.from_numpy(target).float()))
    ratio = ratio["cross_entropy"]
    expected = sum(
        -weights[t] * np.log(np.exp(o[t]) / np.exp(o).sum())
        for o, t in zip(outputs.numpy().astype(float), target, strict=True)
    )
    assert float(ratio.total) == pytest.approx(expected, rel=1e-5)
    assert float(ratio.weight) == 5
    encoder = create_encoder("cnn", {"task": "values", "outputs": 1})
    known = torch.tensor([1.0, float("nan"), 0, 2, float("nan")])
    leaf = outputs[:, :1].clone().requires_grad_()
    ratio = encoder.losses(leaf, Batch(empty, empty, known))["error"]
    o = outputs.numpy()[:, 0]
    expected = (o[0] - 1) ** 2 + o[2] ** 2 + (o[3] - 2) ** 2
    assert float(ratio.total.detach()) == pytest.approx(expected)
    assert float(ratio.weight) == 3
    ratio.total.backward()
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad[1] == 0
    with pytest.raises(UsageError, match="cnn needs labels"):
        encoder.losses(outputs, Batch(empty, empty))


def recall_of_the_rare(weights: tuple[float, ...]) -> tuple[float, float]:
    """Recall of the common and the rare class of a line fitted with our loss in batches of 4."""
    rng = np.random.default_rng(5)
    label = (np.arange(2000) % 10 == 0).astype(np.float32)
    x = torch.from_numpy((rng.standard_normal(2000) + 2 * label).astype(np.float32))[:, None]
    targets = Targets(label, "classes", ("common", "rare"))
    made = settings_for(
        SupervisedSettings(class_weights=weights), targets,
        Split(tuple(range(1000)), tuple(range(1000, 2000))), "cnn",
    )  # fmt: skip
    encoder = type(create_encoder("cnn"))(made)
    torch.manual_seed(0)
    line = torch.nn.Linear(1, 2)
    optimizer = torch.optim.Adam(line.parameters(), 0.02)
    for step in range(1500):
        rows = rng.integers(0, 1000, 4)
        batch = Batch(x[rows], x[rows], torch.from_numpy(label[rows]))
        ratio = encoder.losses(line(x[rows]), batch)["cross_entropy"]
        optimizer.zero_grad()
        (ratio.total / ratio.weight).backward()
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 1500)
        optimizer.step()
    guess = line(x[1000:]).argmax(dim=1).numpy()
    truth = label[1000:]
    return float((guess[truth == 0] == 0).mean()), float((guess[truth == 1] == 1).mean())


def test_the_rare_class_is_recognised_where_counts_as_weights_would_not():
    """Equal spread, means 0 and 2: balanced, the line stands at 1 and both recalls are 0.84."""
    common, rare = recall_of_the_rare(())
    assert common == pytest.approx(0.84, abs=0.05)
    assert rare == pytest.approx(0.84, abs=0.07)
    assert recall_of_the_rare((1.0, 1.0))[1] < 0.6
    assert recall_of_the_rare((1.8, 0.2))[1] < 0.1  # seed 001 used class counts


# ---- networks -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brains():
    """Brains whose ventricle says the class, plainly."""
    factors = np.zeros((40, 1))
    factors[::2], factors[1::2] = -1.5, 1.5
    return simulate_brains(40, grid=(48, 48, 46), factors=factors, regions=["ventricle"], seed=2)


def shrunk(brains, step: int) -> ArrayImages:
    values = np.ascontiguousarray(brains.values[:, ::step, ::step, ::step])
    return ArrayImages(values, brains.sample_ids)


@pytest.mark.parametrize(
    ("name", "step", "settings", "train"),
    [
        ("resnet-sex", 4, {"base": 4, "latents": 6}, {"epochs": 16, "batch": 8}),
        ("cnn", 4, {"latents": 6}, {"epochs": 10, "batch": 6, "learning_rate": 2e-3}),
        ("small-cnn", 1, {"latents": 6}, {"epochs": 1, "batch": 4, "learning_rate": 1e-3}),
    ],
)
def test_each_network_learns_a_planted_label(brains, tmp_path, name, step, settings, train):
    n = 40 if step > 1 else 12
    images = shrunk(brains, step)
    images = ArrayImages(images.values[:n], images.sample_ids[:n])
    targets = Targets((np.arange(n) % 2).astype(np.float32), "classes", ("small", "large"))
    split = Split(tuple(range(n - 8)), tuple(range(n - 8, n)))
    made = fit(name, images, out=tmp_path / "run", targets=targets, split=split, device="cpu",
               settings={"dropout": 0.0, **settings}, train=train)  # fmt: skip
    assert all(np.isfinite(row["train_loss"]) for row in made.history)
    with torch.inference_mode():
        image = made.encoder.normalise(torch.from_numpy(images.values[n - 8 :])).image
        probability = made.encoder.predict(image).numpy()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    features = made.encoder.encode(images.values)
    assert features.shape == (n, made.encoder.n_latents)
    if step > 1:
        assert (probability.argmax(axis=1) == np.arange(8) % 2).mean() >= 0.875
        assert made.history[-1]["train_loss"] < made.history[0]["train_loss"]


def test_values_are_learned_and_predicted_in_their_own_unit(tmp_path):
    rng = np.random.default_rng(1)
    factors = rng.uniform(-2, 2, (60, 1))
    brains = simulate_brains(60, grid=(12, 12, 12), factors=factors, regions=["ventricle"])
    age = (60 + 8 * factors[:, 0]).astype(np.float32)
    age[3] = np.nan
    images = ArrayImages(brains.values, brains.sample_ids)
    made = fit("resnet-sex", images, out=tmp_path / "run", targets=Targets(age, "values"),
               split=Split(tuple(range(44)), tuple(range(44, 60))), device="cpu",
               settings={"base": 4, "latents": 6, "dropout": 0.0},
               train={"epochs": 15, "batch": 8})  # fmt: skip
    with torch.inference_mode():
        image = made.encoder.normalise(torch.from_numpy(images.values[44:])).image
        guess = made.encoder.predict(image).numpy()[:, 0]
    error = np.sqrt(np.mean((guess - age[44:]) ** 2))
    assert error < 0.6 * age[44:].std()


def test_features_of_training_people_are_refused_and_in_sample_says_so(brains, tmp_path):
    images = shrunk(brains, 4)
    targets = Targets((np.arange(40) % 2).astype(np.float32), "classes", ("a", "b"))
    split = Split(tuple(range(8)), tuple(range(8, 12)))
    made = fit("resnet-sex", images, out=tmp_path / "run", targets=targets, split=split,
               settings={"base": 2, "latents": 3}, train={"epochs": 1}, device="cpu")  # fmt: skip
    seen = Run(tmp_path / "run").people_seen()
    out = tmp_path / "latents.parquet"
    with pytest.raises(RefusedError, match=r"12 of 40 people trained this network.*--folds 5"):
        encode_images(images, made.encoder, out, digest=made.digest, people_seen=seen)
    with pytest.raises(RefusedError, match="not known whom this network was trained on"):
        encode_images(images, made.encoder, out, digest=made.digest)
    others = ArrayImages(images.values[12:], images.sample_ids[12:])
    done = encode_images(others, made.encoder, out, digest=made.digest, people_seen=seen)
    assert done.n_samples == 28


def test_labels_for_an_unsupervised_encoder_are_refused(brains, tmp_path):
    targets = Targets((np.arange(40) % 2).astype(np.float32), "classes", ("a", "b"))
    with pytest.raises(UsageError, match="udip is not trained on labels"):
        fit("udip", shrunk(brains, 4), out=tmp_path / "run", targets=targets, device="cpu")


# ---- patches ------------------------------------------------------------------------------------


@given(
    st.tuples(*[st.integers(6, 40)] * 3), st.tuples(*[st.integers(1, 20)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
)  # fmt: skip
def test_patches_cover_the_volume_or_are_refused(grid, patch, steps):
    axes = list(zip(grid, patch, steps, strict=True))
    if not all(p <= n <= p * s and (s > 1 or p == n) for n, p, s in axes):
        with pytest.raises(UsageError, match="patches"):
            patch_corners(grid, patch, steps)
        return
    corners = patch_corners(grid, patch, steps)
    assert len(corners) == np.prod(steps)
    if all(s <= n - p + 1 for n, p, s in axes):
        assert len(set(corners)) == len(corners)
    volume = np.random.default_rng(0).standard_normal(grid).astype(np.float32) + 10
    again = join_patches(cut_patches(volume, corners, patch), corners, grid)
    np.testing.assert_allclose(again, volume, rtol=1e-6)


def test_the_published_patches():
    corners = patch_corners((155, 155, 95), (55, 55, 35), (3, 3, 3))
    assert len(corners) == 27
    assert {c[0] for c in corners} == {c[1] for c in corners} == {0, 50, 100}
    assert {c[2] for c in corners} == {0, 30, 60}
    covered = np.zeros((155, 155, 95), bool)
    for x, y, z in corners:
        covered[x : x + 55, y : y + 55, z : z + 35] = True
    assert covered.all()


@pytest.mark.parametrize(
    ("patch", "steps", "what"),
    [((55, 55), (3, 3, 3), "one number an axis"), ((99, 9, 9), (1, 1, 1), "do not fit"),
     ((9, 9, 9), (0, 3, 3), "do not fit"), ((9, 9, 9), (2, 2, 2), "leave voxels")],
)  # fmt: skip
def test_patches_that_cannot_be_cut(patch, steps, what):
    with pytest.raises(UsageError, match=what):
        patch_corners((40, 40, 40), patch, steps)


def test_a_patch_too_small_for_the_network_is_refused():
    encoder = create_encoder("patch-cnn", {"grid": (40,) * 3, "patch": (16,) * 3})
    with pytest.raises(UsageError, match="16x16x16 is too small for 4 poolings"):
        encoder.skeleton()


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """Noise with a class-dependent spot at one end, which one of three patches holds alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    label = np.arange(30) % 2
    values = rng.normal(1, 0.1, (30, 48, 31, 31)).astype(np.float32)
    values[:, 41:, 4:28, 4:28] += 2.0 * label[:, None, None, None]
    images = ArrayImages(values, tuple(f"p{i:02d}" for i in range(30)))
    targets = Targets(label.astype(np.float32), "classes", ("no", "yes"))
    made = fit_patches(
        images, targets, out=folder / "run", device="cpu",
        split=Split(tuple(range(20)), tuple(range(20, 30))),
        settings={"patch": (31, 31, 31), "steps": (3, 1, 1), "keep": 2, "dropout": 0.0,
                  "intensity": "none"},
        train={"epochs": 12, "batch": 5, "learning_rate": 3e-3},
    )  # fmt: skip
    torch.set_num_threads(before)
    return folder / "run", made, images


def test_the_planted_patch_ranks_first_and_the_best_are_fused(ranked):
    folder, made, _ = ranked
    rows = pd.read_csv(folder / "patches.tsv", sep="\t")
    assert rows.iloc[0][["patch", "x", "y", "z"]].tolist() == [2, 17, 0, 0]
    assert rows["validation_loss"].is_monotonic_increasing
    assert rows["validation_loss"].iloc[0] < 0.8 * rows["validation_loss"].iloc[1]
    assert made.encoder.settings.chosen == tuple(sorted(rows["patch"].iloc[:2]))
    assert rows["chosen"].tolist() == [1, 1, 0]
    assert len(made.encoder.network.branches) == 2


def test_patches_are_ranked_by_the_same_held_out_people(ranked):
    folder, _, _ = ranked
    splits = {path.read_text() for path in folder.rglob("private/split.tsv")}
    assert len(list(folder.rglob("private/split.tsv"))) == 4
    assert len(splits) == 1


def test_a_run_of_patches_is_what_encode_takes(ranked, tmp_path):
    from imgwas.encoders.checkpoints import load_encoder

    folder, made, images = ranked
    loaded = load_encoder(folder)
    assert loaded.digest == made.digest
    assert len(Run(folder).people_seen()) == 30
    assert loaded.encoder.encode(images.values[:2]).shape == (2, 10)


def test_keeping_more_patches_than_there_are_is_refused(ranked, tmp_path):
    _, _, images = ranked
    targets = Targets((np.arange(30) % 2).astype(np.float32), "classes", ("no", "yes"))
    with pytest.raises(UsageError, match=r"keep is 9\. From 1 to 3"):
        fit_patches(images, targets, out=tmp_path / "x", split=Split((0, 1), (2, 3)),
                    settings={"patch": (31, 31, 31), "steps": (3, 1, 1), "keep": 9})  # fmt: skip


# ---- people who stay together -------------------------------------------------------------------


def test_groups_from_a_table(tmp_path):
    pd.DataFrame({"IID": ["a", "b", "c", "d", "x"], "family": ["1", "1", "0", "0", "9"]}).to_csv(
        tmp_path / "g.tsv", sep="\t", index=False
    )
    groups = read_groups(tmp_path / "g.tsv", ["a", "b", "c", "d", "e"])
    assert groups[0] == groups[1]
    assert len(set(groups)) == 4  # 0 is no family, and e has no row
    with pytest.raises(InconsistentError, match="a group of none of the 2 people"):
        read_groups(tmp_path / "g.tsv", ["y", "z"])


@given(st.integers(2, 6), st.integers(0, 5), st.integers(8, 30))
def test_folds_partition_people_and_never_part_groups(n_folds, seed, n):
    groups = [f"f{i // 3}" for i in range(3 * n)]
    ids = [f"p{i}" for i in range(3 * n)]
    parts = fold_people(ids, n_folds, seed=seed, groups=groups)
    held = [row for part in parts for row in part.validation]
    assert sorted(held) == list(range(3 * n))
    for part in parts:
        assert not {groups[i] for i in part.train} & {groups[i] for i in part.validation}
        assert len(part.train) + len(part.validation) == 3 * n
    sizes = [len(part.validation) for part in parts]
    assert max(sizes) - min(sizes) <= 3


def test_groups_of_another_length_are_refused():
    for function in (lambda g: split_people(["a", "b"], groups=g),
                     lambda g: fold_people(["a", "b"], 2, groups=g)):  # fmt: skip
        with pytest.raises(InconsistentError, match="1 groups were given for 2 images"):
            function(["x"])


def test_many_held_out_people_are_looked_up_quickly():
    """Each by its hash, and not by comparing it with everyone."""
    compared = [0]

    class Id(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared[0] += 1
            return str.__eq__(self, other)

    ids = [Id(f"p{i}") for i in range(2_000)]
    split = split_people(ids, held_out=[Id(one) for one in ids[:1_000]])
    assert len(split.validation) == 1_000
    assert compared[0] < 50 * len(ids)


# ---- the page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "n_statistics"),
    [
        ("udip", {"grid": (182, 218, 182)}, None),
        ("vit-ae", {"grid": (182, 218, 182)}, None),
        ("ae3d", {"grid": (58, 70, 58)}, None),
        ("vae3d", {"grid": (29, 35, 29)}, None),
        ("ae-1000", {"grid": (58, 70, 58)}, None),
        ("cnn", {"grid": (155, 155, 95), "outputs": 3}, 206),
        ("small-cnn", {"grid": (155, 155, 95), "outputs": 3}, 1024),
        ("patch-cnn", {"grid": (155, 155, 95), "outputs": 3, "chosen": tuple(range(5))}, 1120),
        ("resnet-sex", {"grid": (64, 64, 64)}, None),
        ("morphometry", {"grid": (935,)}, None),
    ],
)
def test_the_page_states_the_exact_counts(name, settings, n_statistics):
    page = (Path(__file__).parents[1] / "docs" / "encoders.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
    encoder = create_encoder(name, settings)
    number = f"{encoder.n_parameters():,}"
    cell = number if n_statistics is None else f"{number} + {encoder.n_statistics():,}"
    assert f"| {cell} |" in row
    assert f"| {encoder.n_latents} |" in row
    if n_statistics is not None:
        assert encoder.n_statistics() == n_statistics

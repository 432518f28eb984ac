"""Prediction tables: against scikit-learn by hand, chance beside every score, nothing leaks."""

from __future__ import annotations

import builtins
import logging

import numpy as np
import pandas as pd
import pytest

from imgwas.errors import (
    DegenerateError,
    InconsistentError,
    MalformedError,
    MissingLibraryError,
    TooFewSamplesError,
    UsageError,
)
from imgwas.prediction import Target, bin_target, feature_importance, predict_targets, read_target
from imgwas.prediction import models as models_module
from imgwas.prediction.folds import make_task
from tests.data import data_file
from tests.people import latents_of

RNG = np.random.default_rng(11)
N = 240
IDS = tuple(f"p{i:04d}" for i in range(N))
FAST = ("linear", "tree")


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr(models_module, "TREES", 8)


def features_of(values, ids=IDS, names=None):
    values = np.asarray(values, float)
    names = names or [f"z{k}" for k in range(values.shape[1])]
    return latents_of(ids[: len(values)], None, names, values)


def classes_of(codes, labels=("f", "m"), name="sex", ids=IDS):
    return Target(name, np.asarray(codes, float), tuple(ids[: len(codes)]), classes=tuple(labels))


def number_of(values, name="age", ids=IDS):
    return Target(name, np.asarray(values, float), tuple(ids[: len(values)]))


LATENTS = RNG.standard_normal((N, 5)) * np.array([1, 1000, 1, 1, 1])
SEX = (LATENTS[:, 0] + 0.8 * RNG.standard_normal(N) > 0.4).astype(float)
AGE = 60 + 6 * LATENTS[:, 2] + 3 * RNG.standard_normal(N)


def cell(table, metric, **where):
    for column, value in ({"metric": metric} | where).items():
        table = table[table[column] == value]
    (row,) = table.to_dict("records")
    return row


# --- the table


def by_hand(model, values, outcome, splitter):
    """Scores of a model fold by fold, scaled by the training folds' mean and deviation."""
    accuracy = []
    for train, test in splitter.split(values, outcome):
        mean, sd = values[train].mean(axis=0), values[train].std(axis=0)
        model.fit((values[train] - mean) / sd, outcome[train])
        accuracy.append((model.predict((values[test] - mean) / sd), outcome[test]))
    return accuracy


def test_classes_equal_scikit_learn_by_hand():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    table = predict_targets(features_of(LATENTS), classes_of(SEX), models=["linear"], seed=4)
    folds = StratifiedKFold(5, shuffle=True, random_state=4)
    found = by_hand(LogisticRegression(), LATENTS, SEX, folds)
    accuracy = [(p == t).mean() for p, t in found]
    row = cell(table, "accuracy")
    assert row["score"] == pytest.approx(np.mean(accuracy))
    assert row["score_sd"] == pytest.approx(np.std(accuracy, ddof=1))
    assert row["chance"] == pytest.approx(max(SEX.mean(), 1 - SEX.mean()))
    assert row["score"] > row["chance"] + 0.1
    balanced = [balanced_accuracy_score(t, p) for p, t in found]
    assert cell(table, "balanced_accuracy")["score"] == pytest.approx(np.mean(balanced))
    assert cell(table, "balanced_accuracy")["chance"] == 0.5
    auc = []
    for train, test in folds.split(LATENTS, SEX):
        scaled = (LATENTS - LATENTS[train].mean(axis=0)) / LATENTS[train].std(axis=0)
        fitted = LogisticRegression().fit(scaled[train], SEX[train])
        auc.append(roc_auc_score(SEX[test], fitted.predict_proba(scaled[test])[:, 1]))
    assert cell(table, "auc")["score"] == pytest.approx(np.mean(auc))
    assert (row["n"], row["n_folds"], row["n_features"]) == (N, 5, 5)
    assert row["model"] == "logistic regression"
    assert row["scheme"] == "-"


def test_numbers_equal_scikit_learn_by_hand():
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import mean_absolute_error, r2_score
    from sklearn.model_selection import KFold

    table = predict_targets(features_of(LATENTS), number_of(AGE), models=["linear"], n_folds=4)
    folds = KFold(4, shuffle=True, random_state=0)
    found = by_hand(RidgeCV(np.logspace(-2, 5, 22)), LATENTS, AGE, folds)
    r2 = cell(table, "r2")
    assert r2["score"] == pytest.approx(np.mean([r2_score(t, p) for p, t in found]))
    assert r2["chance"] == 0
    assert r2["score"] > 0.7
    mae = cell(table, "mae")
    assert mae["score"] == pytest.approx(np.mean([mean_absolute_error(t, p) for p, t in found]))
    guess = [np.abs(AGE[b] - np.median(AGE[a])).mean() for a, b in folds.split(AGE)]
    assert mae["chance"] == pytest.approx(np.mean(guess))
    assert mae["model"] == "ridge regression"


def test_every_model_and_scheme_has_a_row_with_its_chance():
    bins = bin_target(number_of(AGE), [56, 62, 68])
    table = predict_targets(
        {"latents": features_of(LATENTS), "raw": features_of(LATENTS[:, ::-1] + 1)},
        [classes_of(SEX), bins, number_of(AGE)],
        schemes=("multiclass", "one-vs-one"),
        n_folds=2,
    )
    accuracy = table[table["metric"] == "accuracy"]
    assert len(accuracy[accuracy["target"] == "sex"]) == 2 * 4
    assert len(accuracy[accuracy["target"] == "age in bins"]) == 2 * 4 * 2
    assert len(table[table["metric"] == "r2"]) == 2 * 4
    assert table["chance"].notna().all()
    assert not table["is_degenerate"].any()
    ages = accuracy[accuracy["target"] == "age in bins"]
    share = np.bincount(bins.values.astype(int)).max() / N
    np.testing.assert_allclose(ages["chance"], share)
    assert (ages["score"] > share + 0.05).all()
    assert (table[table["metric"] == "r2"]["score"] > 0.2).all()


def test_schemes_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier

    bins = bin_target(number_of(AGE), [56, 62, 68])
    table = predict_targets(
        features_of(LATENTS), bins, models=["linear"], schemes=["one-vs-rest", "one-vs-one"],
        n_folds=2,
    )  # fmt: skip
    for name, kind in (("one-vs-rest", OneVsRestClassifier), ("one-vs-one", OneVsOneClassifier)):
        folds = StratifiedKFold(2, shuffle=True, random_state=0)
        found = by_hand(kind(LogisticRegression()), LATENTS, bins.values, folds)
        expected = np.mean([(p == t).mean() for p, t in found])
        assert cell(table, "accuracy", scheme=name)["score"] == pytest.approx(expected)


def test_the_same_seed_gives_the_same_table_whatever_the_threads():
    arguments = (features_of(LATENTS[:, :3]), [classes_of(SEX), number_of(AGE)])
    one = predict_targets(*arguments, models=["forest", "neighbours"], n_folds=2, seed=3)
    two = predict_targets(*arguments, models=["forest", "neighbours"], n_folds=2, seed=3, threads=2)
    pd.testing.assert_frame_equal(one, two)
    other = predict_targets(*arguments, models=["neighbours"], n_folds=2, seed=4)
    assert not other["score"].equals(one[one["model"] == "nearest neighbours"]["score"])


def test_units_of_a_feature_do_not_matter():
    for model in ("linear", "neighbours"):
        a, b = (
            predict_targets(features_of(LATENTS * unit), classes_of(SEX), models=[model])
            for unit in (np.ones(5), 10.0 ** np.array([-6, 3, 0, 6, 9]))
        )
        np.testing.assert_allclose(a["score"], b["score"], atol=1e-9)


def test_noise_scores_what_chance_does():
    """Labels without a relation: scores lie around their chance level, and R² below zero."""
    rng = np.random.default_rng(0)
    noise = features_of(rng.standard_normal((N, 5)))
    table = predict_targets(noise, [classes_of(rng.random(N) < 0.4), number_of(rng.random(N))])
    auc = table[table["metric"] == "auc"]
    np.testing.assert_allclose(auc["score"], 0.5, atol=0.1)
    assert (table[table["metric"] == "r2"]["score"] < 0.05).all()
    mae = table[table["metric"] == "mae"]
    assert (mae["score"] > 0.95 * mae["chance"]).all()


def test_a_model_that_always_says_the_same_is_marked(caplog):
    """With 95 % of one class and no signal, logistic regression names it for everybody."""
    codes = (np.arange(N) % 20 == 0).astype(float)
    rng = np.random.default_rng(1)
    with caplog.at_level(logging.WARNING, "imgwas"):
        table = predict_targets(
            features_of(1e-3 * rng.standard_normal((N, 2))), classes_of(codes), models=FAST
        )
    flat = table[table["model"] == "logistic regression"]
    assert flat["is_degenerate"].all()
    assert cell(flat, "accuracy")["score"] == pytest.approx(0.95)
    assert cell(flat, "accuracy")["chance"] == pytest.approx(0.95)
    assert not table[table["model"] == "decision tree"]["is_degenerate"].any()
    assert "sex, features, logistic regression: DEGENERATE, one class is predicted" in caplog.text


def test_a_number_that_is_always_the_same_is_marked(caplog):
    with caplog.at_level(logging.WARNING, "imgwas"):
        table = predict_targets(features_of(np.ones((N, 1))), number_of(AGE), models=["tree"])
    assert table["is_degenerate"].all()
    assert "DEGENERATE, one number is predicted for everybody" in caplog.text


def test_one_fold_that_says_the_same_is_no_mark():
    """The people of one group have the same features, and so the same prediction."""
    group = np.arange(N) % 5.0
    values = LATENTS * (group != 0)[:, None]
    groups = Target("site", group, IDS, classes=tuple("abcde"))
    table = predict_targets(features_of(values), classes_of(SEX), models=FAST, groups=groups)
    assert not table["is_degenerate"].any()


# --- folds


def test_everyone_is_predicted_once_and_by_the_same_folds():
    task = make_task(
        {"a": features_of(LATENTS), "b": features_of(LATENTS[::-1], IDS[::-1])}, classes_of(SEX)
    )
    np.testing.assert_array_equal(task.features["a"], task.features["b"])
    assert np.bincount(task.fold).tolist() == [48] * 5
    shares = [task.outcome[task.fold == k].mean() for k in range(5)]
    assert np.ptp(shares) < 0.03
    assert repr(task) == "Task(sex, 240 people, 5 folds)"


@pytest.mark.parametrize("target", [classes_of(SEX), number_of(AGE)])
def test_families_are_never_split(target):
    family = np.arange(N) // 4.0
    family[:20] = np.nan  # people without relatives
    groups = Target("family", family, IDS, classes=tuple(str(i) for i in range(60)))
    task = make_task({"a": features_of(LATENTS)}, target, groups=groups)
    for number in range(20, N, 4):
        assert len(set(task.fold[number : number + 4])) == 1
    assert len(set(task.fold[:20])) > 1
    assert (np.bincount(task.fold) > 30).all()


def test_relatives_split_between_folds_would_look_like_skill():
    """Twins share a label and a noise fingerprint: neighbours seem to predict, until grouped."""
    rng = np.random.default_rng(2)
    pair = np.arange(N) // 2
    prints = rng.standard_normal((N // 2, 6))[pair] + 0.05 * rng.standard_normal((N, 6))
    label = classes_of(rng.integers(0, 2, N // 2)[pair])
    groups = Target("pair", pair.astype(float), IDS, classes=tuple(map(str, range(N // 2))))
    loose = predict_targets(features_of(prints), label, models=["tree"])
    tight = predict_targets(features_of(prints), label, models=["tree"], groups=groups)
    assert cell(loose, "accuracy")["score"] > 0.75
    assert cell(tight, "accuracy")["score"] < 0.62


def test_people_who_lack_something_are_left_out_of_everything(caplog):
    gaps = LATENTS.copy()
    gaps[:7, 1] = np.nan
    age = AGE.copy()
    age[5:10] = np.nan
    with caplog.at_level(logging.INFO, "imgwas"):
        task = make_task({"raw": features_of(gaps), "all": features_of(LATENTS)}, number_of(age))
    assert len(task.outcome) == N - 10
    np.testing.assert_array_equal(task.features["all"], LATENTS[10:])
    assert "raw: 7 people lack a feature" in caplog.text
    assert f"age: {N - 10} of {N} people have it and every feature" in caplog.text
    assert "p000" not in caplog.text


def test_classes_nobody_has_do_not_count():
    codes = np.where(SEX == 1, 2.0, 0.0)
    task = make_task({"a": features_of(LATENTS)}, classes_of(codes, ("f", "other", "m")))
    assert task.classes == ("f", "m")
    assert set(task.outcome) == {0.0, 1.0}


# --- refusals


def test_what_cannot_be_predicted():
    latents = features_of(LATENTS)
    with pytest.raises(DegenerateError, match="sex is m for everybody"):
        predict_targets(latents, classes_of(np.ones(N)))
    with pytest.raises(DegenerateError, match="age is 50 for everybody"):
        predict_targets(latents, number_of(np.full(N, 50.0)))
    rare = (np.arange(N) < 3).astype(float)
    with pytest.raises(DegenerateError, match=r"sex: 3 people are 'm'\. At least 5.*--folds"):
        predict_targets(latents, classes_of(rare))
    with pytest.raises(InconsistentError, match="0 people are in all 2 tables"):
        predict_targets(latents, number_of(AGE, ids=[f"q{i}" for i in range(N)]))
    few = np.where(np.arange(N) < 9, AGE, np.nan)
    with pytest.raises(
        TooFewSamplesError, match=r"9 people have age.*age is missing for 231 of 240"
    ):
        predict_targets(latents, number_of(few))
    two = Target("family", np.arange(N) % 2.0, IDS, classes=("a", "b"))
    with pytest.raises(UsageError, match=r"there are 2 groups for 5 folds.*at most 2 folds"):
        predict_targets(latents, number_of(AGE), groups=two)


def test_groups_that_empty_a_fold():
    codes = (np.arange(N) < 10).astype(float)
    family = np.where(codes == 1, 0.0, np.arange(N))
    groups = Target("family", family, IDS, classes=tuple(map(str, range(N))))
    with pytest.raises(DegenerateError, match=r"sex: groups leave fold \d of 5 without"):
        predict_targets(features_of(LATENTS), classes_of(codes), groups=groups)


def test_a_target_is_not_predicted_from_itself():
    for name, extra in (("age", RNG.random(N)), ("years", 3 * AGE - 100)):
        features = features_of(np.column_stack([LATENTS, extra]), names=[*"abcde", name])
        with pytest.raises(InconsistentError, match=f"the feature {name} is the target age itself"):
            predict_targets(features, number_of(AGE))
    features = features_of(np.column_stack([LATENTS, 2 - SEX]), names=[*"abcde", "gender"])
    with pytest.raises(InconsistentError, match="the feature gender is the target sex itself"):
        predict_targets(features, classes_of(SEX))


def test_words_that_are_no_model_or_scheme():
    latents, sex = features_of(LATENTS), classes_of(SEX)
    with pytest.raises(UsageError, match=r"model is 'forrest'.*Did you mean forest\?"):
        predict_targets(latents, sex, models=["forrest"])
    three = classes_of(np.arange(N) % 3, "abc")
    with pytest.raises(UsageError, match=r"scheme is 'ovr'\. It must be one of multiclass"):
        predict_targets(latents, three, schemes=["ovr"])
    with pytest.raises(UsageError, match=r"n_folds is 1\. It must be from 2 to 100"):
        predict_targets(latents, sex, n_folds=1)
    with pytest.raises(UsageError, match="nothing to predict from"):
        predict_targets({}, sex)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "sklearn":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingLibraryError, match=r"pip install 'imgwas\[predict\]'"):
        predict_targets(features_of(LATENTS), classes_of(SEX))
    assert models_module.MODELS


# --- targets


def test_targets_are_read_as_labels_numbers_or_bins(tmp_path):
    path = tmp_path / "people.tsv"
    path.write_text(
        "eid\tsex\tage\tcode\n007\tfemale\t22\t10\n7\tmale\t26.5\t-9\n8\tNA\tNA\t2\n9\tmale\t40\t1\n"
    )
    sex = read_target(path, "sex")
    assert sex.classes == ("female", "male")
    np.testing.assert_array_equal(sex.values, [0, 1, np.nan, 1])
    assert sex.sample_ids == ("007", "7", "8", "9")
    assert repr(sex) == "Target(sex, 2 classes, 4 people)"
    code = read_target(path, "code")
    assert code.classes == ("1", "2", "10")
    np.testing.assert_array_equal(code.values, [2, np.nan, 1, 0])
    age = read_target(path, "age", kind="number")
    assert age.is_number
    bins = bin_target(age, [22, 26, 31, 36])
    assert bins.classes == ("[22, 26)", "[26, 31)", "36+")
    np.testing.assert_array_equal(bins.values, [0, 1, np.nan, 2])
    assert bin_target(age, [25]).classes == ("<25", "25+")
    assert read_target(path, "code", neg9="value").classes == ("-9", "1", "2", "10")


def test_labels_in_parquet_are_what_they_were(tmp_path):
    frame = pd.DataFrame({"IID": ["a", "b", "c"], "sex": [1, 2, 1], "site": ["x", None, "y"]})
    frame["flag"] = pd.Categorical(["no", "yes", "no"])
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_target(tmp_path / "t.parquet", "sex").classes == ("1", "2")
    assert read_target(tmp_path / "t.parquet", "site").classes == ("x", "y")
    assert read_target(tmp_path / "t.parquet", "flag").classes == ("no", "yes")


def test_targets_that_cannot_be(tmp_path):
    path = tmp_path / "people.tsv"
    rows = [f"p{i}\t{20 + i / 7:.3f}\tx\n" for i in range(60)]
    path.write_text("IID\tage\tsex\n" + "".join(rows))
    with pytest.raises(UsageError, match=r"no column 'Age'\. Did you mean age\?"):
        read_target(path, "Age")
    with pytest.raises(MalformedError, match=r"age has 60 labels\. At most 30.*--number.*--bins"):
        read_target(path, "age")
    assert len(read_target(path, "age", max_classes=None).classes) == 60
    with pytest.raises(MalformedError, match="'x' in column sex, which is no number"):
        read_target(path, "sex", kind="number")
    with pytest.raises(UsageError, match="kind is 'bins'"):
        read_target(path, "sex", kind="bins")
    age = read_target(path, "age", kind="number")
    for edges in ([], [30, 20], [20, np.nan]):
        with pytest.raises(UsageError, match="do not increase"):
            bin_target(age, edges)
    with pytest.raises(UsageError, match="sex has classes already"):
        bin_target(read_target(path, "sex"), [1])
    with pytest.raises(InconsistentError, match=r"age has 2 values\. 1, one per sample id"):
        Target("age", np.ones(2), ("a",))


# --- importance


@pytest.mark.parametrize("model", ["linear", "forest"])
def test_the_planted_feature_matters_most(model):
    found = feature_importance(features_of(LATENTS), number_of(AGE), model=model, n_folds=3)
    assert found["feature"][0] == "z2"
    assert found["importance"][0] > 0.8
    assert found["importance"][1:].abs().max() < 0.1
    classes = feature_importance(features_of(LATENTS), classes_of(SEX), model=model, n_folds=3)
    assert classes["feature"][0] == "z0"
    assert classes["importance"][0] > 0.1


def test_importance_equals_scikit_learn_in_expectation():
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    found = feature_importance(features_of(LATENTS), number_of(AGE), n_repeats=40)
    expected = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(LATENTS):
        model = models_module.make_model("linear", is_number=True).fit(LATENTS[train], AGE[train])
        done = permutation_importance(model, LATENTS[test], AGE[test], n_repeats=40, random_state=1)
        expected.append(done.importances_mean)
    expected = pd.Series(np.mean(expected, axis=0), [f"z{k}" for k in range(5)])
    found = found.set_index("feature")
    np.testing.assert_allclose(found["importance"], expected[found.index], atol=0.06)


def test_importance_repeats_with_its_seed():
    arguments = (features_of(LATENTS), classes_of(SEX))
    one, two, three = (feature_importance(*arguments, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(three)
    with pytest.raises(UsageError, match="n_repeats is 0"):
        feature_importance(*arguments, n_repeats=0)


# --- real data


def test_sex_and_age_from_real_volumes():
    """Forty brains, 25 women: sex is predicted above 62.5 %, and age in bins at best as chance."""
    import imgwas

    volumes = imgwas.read_latents(data_file("ixi40/dlmuse_vol.csv"), id_column="MRID")
    people = data_file("ixi40/participants.csv")
    sex = read_target(people, "Sex", id_column="MRID")
    age = read_target(people, "Age", kind="number", id_column="MRID")
    table = predict_targets(
        volumes, [sex, bin_target(age, [40, 55])], models=["linear", "neighbours"]
    )
    row = cell(table, "accuracy", target="Sex", model="logistic regression")
    assert row["chance"] == 0.625
    assert row["score"] > 0.7
    bins = cell(table, "accuracy", target="Age in bins", model="nearest neighbours")
    assert bins["chance"] == 0.825
    assert bins["score"] <= 0.85
    assert bins["is_degenerate"] == (bins["score"] == 0.825)

"""``imgwas latents`` as a user types it: what is written, what is refused, what the scan takes."""

from __future__ import annotations

import json
import re
import shutil

import imgwas_cli.main
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import imgwas as library
from imgwas.files import sha256_of
from imgwas.latents import read_history
from imgwas.plots import save_figure
from tests.cli_cohort import imgwas, people, replaced, write_cohort

N, K = 120, 6
EIDS = [f"{1000000 + 37 * i}" for i in range(N)]


def save_quickly(figure, path):
    """Draw pictures coarsely, and skip embedding fonts, which takes most of the time."""
    if path.suffix == ".pdf":
        path.write_bytes(b"%PDF-1.4\n")
        return path
    return save_figure(figure, path, dpi=30)


@pytest.fixture(autouse=True)
def command_is_known(monkeypatch):
    entry = ("imgwas_cli.latents", "latents -> transforms, reports, agreement, prediction")
    monkeypatch.setitem(imgwas_cli.main.COMMANDS, "latents", entry)
    monkeypatch.setattr("imgwas.prediction.models.TREES", 10)
    monkeypatch.setattr("imgwas.plots.save_figure", save_quickly)


@pytest.fixture
def folder(tmp_path, original):
    """A copy of the tables that a test may damage."""
    return shutil.copytree(original, tmp_path / "study")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Latents of 120 people, covariates, two visits and three seeds."""
    tmp_path = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(6)
    age, sex = rng.normal(62, 8, N), rng.integers(0, 2, N)
    site = rng.choice(["leeds", "york", "hull"], N)
    factors = rng.standard_normal((N, 3))
    values = factors @ rng.standard_normal((3, K)) + rng.standard_normal((N, K))
    values[:, 0] += (age - 62) / 4
    values[:, 1] += 2 * sex
    frame = pd.DataFrame(values, columns=[f"z{i}" for i in range(K)])
    frame.insert(0, "eid", EIDS)
    gaps = frame.copy()
    gaps.loc[4, "z2"] = np.nan
    gaps.loc[5, "z0"] = -9.0
    gaps.to_parquet(tmp_path / "latents.parquet")
    covariates = pd.DataFrame({"eid": EIDS, "age": age.round(1), "sex": sex + 1, "site": site})
    covariates["family"] = [f"F{i // 2}" for i in range(N)]
    covariates.sample(frac=1, random_state=1).to_csv(tmp_path / "covar.tsv", sep="\t", index=False)
    for number in (2, 3):
        visit = frame.sample(n=90, random_state=number).reset_index(drop=True)
        visit.iloc[:, 1:] += 0.3 * rng.standard_normal((90, K))
        visit.to_csv(tmp_path / f"visit{number}.tsv", sep="\t", index=False)
    for number in range(3):
        mixed = np.column_stack([factors[:, ::-1] * (-1) ** number, rng.standard_normal((N, 2))])
        seed = pd.DataFrame(mixed + 0.1 * rng.standard_normal(mixed.shape), index=EIDS)
        seed = seed.add_prefix("w").rename_axis("eid").sample(frac=1, random_state=number)
        seed.reset_index().to_parquet(tmp_path / f"seed{number}.parquet", index=False)
    return tmp_path


def run(folder, *words):
    """Run a command that must succeed; return what it said."""
    result = imgwas("latents", *words, folder=folder)
    assert result.code == 0, result.text
    return result.text


def check_files(folder, name):
    """The JSON file lists the digests of all others, and nobody's id is in it."""
    content = json.loads((folder / name).read_text())
    for file, digest in content["files"].items():
        assert sha256_of(folder / file) == digest
    assert {path.name for path in folder.iterdir()} == {*content["files"], name}
    assert EIDS[3] not in (folder / name).read_text()
    return content


# --- transform


def test_transform_keeps_people_ids_and_gaps_and_says_what_it_did(folder):
    said = run(
        folder, "transform", "latents.parquet", "--steps", "rank-normal", "--out", "r.parquet"
    )
    assert "wrote r.parquet (120 people, 6 latents) and r.json" in said
    before = library.read_latents(folder / "latents.parquet")
    after = library.read_latents(folder / "r.parquet")
    assert (after.sample_ids, after.names) == (before.sample_ids, before.names)
    np.testing.assert_allclose(after.values, library.rank_normalize(before.values))
    assert pq.read_schema(folder / "r.parquet").names[0] == "eid"
    assert np.isnan(after.values[4, 2])
    history = read_history(folder / "r.parquet")
    assert history["steps"] == [{"missing_values": 1, "offset": 0.375, "step": "rank-normal"}]
    assert history["input"]["sha256"] == sha256_of(folder / "latents.parquet")
    beside = json.loads((folder / "r.json").read_text())
    assert beside["table"] == {"file": "r.parquet", "sha256": sha256_of(folder / "r.parquet")}
    assert beside["steps"] == history["steps"]
    assert not list(folder.glob(".*"))


def test_steps_are_applied_in_their_order_and_the_history_grows(folder):
    covar = ("--covar", "covar.tsv", "--covar-name", "age,sex,site", "--categorical", "sex")
    run(folder, "transform", "latents.parquet", "--steps", "residualize,rank-normal", *covar,
        "--out", "a.parquet")  # fmt: skip
    run(folder, "transform", "latents.parquet", "--steps", "rank-normal,residualize", *covar,
        "--out", "b.tsv")  # fmt: skip
    a, b = (library.read_latents(folder / name).values for name in ("a.parquet", "b.tsv"))
    assert not np.allclose(a, b, equal_nan=True)
    assert np.nanmax(np.abs(np.nanmean(b, axis=0))) < 1e-9
    covariates = library.read_covariates(folder / "covar.tsv", names=["age"])
    order = [covariates.sample_ids.index(eid) for eid in EIDS]
    for column in b.T:
        used = np.isfinite(column)
        assert abs(np.corrcoef(column[used], covariates.values[order, 0][used])[0, 1]) < 1e-9
    run(folder, "transform", "a.parquet", "--steps", "whiten", "--components", "3", "--out",
        "c.parquet")  # fmt: skip
    white = library.read_latents(folder / "c.parquet")
    assert white.names == ("PC1", "PC2", "PC3")
    np.testing.assert_allclose(np.cov(white.values[np.isfinite(white.values[:, 0])].T), np.eye(3),
                               atol=1e-9)  # fmt: skip
    history = read_history(folder / "c.parquet")
    assert [step["step"] for step in history["input"]["history"]["steps"]] == [
        "residualize", "rank-normal",
    ]  # fmt: skip
    assert history["steps"][0]["people_fitted"] == 119


def test_components_are_fitted_on_the_people_of_a_list(folder):
    (folder / "some.txt").write_text("\n".join(EIDS[20:80]) + "\n")
    run(folder, "transform", "latents.parquet", "--steps", "whiten", "--fit-on", "some.txt",
        "--out", "w.parquet")  # fmt: skip
    values = library.read_latents(folder / "w.parquet").values
    np.testing.assert_allclose(np.cov(values[20:80].T), np.eye(K), atol=1e-9)
    assert not np.allclose(np.cov(values[80:].T), np.eye(K), atol=0.05)
    (folder / "none.txt").write_text("nobody\n")
    result = imgwas("latents", "transform", "latents.parquet", "--steps", "pca", "--fit-on",
                    "none.txt", "--out", "x.parquet", folder=folder)  # fmt: skip
    assert result.code == 7
    assert "none of the 1 people to fit on has latents" in result.text


def test_the_scan_takes_a_transformed_table_unchanged(tmp_path):
    write_cohort(tmp_path)
    run(tmp_path, "transform", "latents.tsv", "--steps", "rank-normal", "--out", "ready.parquet")
    scan = ("associate", "--bfile", "cohort", "--covar", "covar.tsv")
    done = imgwas(*scan, "--latents", "ready.parquet", "--out", "a", folder=tmp_path)
    assert done.code == 0, done.text
    again = imgwas(*scan, "--latents", "latents.tsv", "--out", "b", folder=tmp_path)
    assert again.code == 0, again.text
    ready = library.open_sumstats(tmp_path / "a")
    assert ready.latents == library.open_sumstats(tmp_path / "b").latents
    assert library.read_latents(tmp_path / "ready.parquet").sample_ids == tuple(people())


def test_family_ids_and_odd_id_columns_survive(tmp_path):
    (tmp_path / "l.tsv").write_text(
        "#FID\tIID\tz\n" + "".join(f"f{i // 2}\t{'007' if i % 2 else '7'}\t{i}\n" for i in range(8))
    )
    run(tmp_path, "transform", "l.tsv", "--steps", "rank-normal", "--out", "o.tsv")
    lines = (tmp_path / "o.tsv").read_text().splitlines()
    assert lines[0] == "#FID\tIID\tz"
    assert lines[2].startswith("f0\t007\t")
    (tmp_path / "p.tsv").write_text("person\tz\n" + "".join(f"a{i}\t{i}\n" for i in range(4)))
    run(tmp_path, "transform", "p.tsv", "--id-column", "person", "--steps", "rank-normal", "--out",
        "q.tsv")  # fmt: skip
    assert (tmp_path / "q.tsv").read_text().startswith("IID\tz\na0\t")


REFUSED = [
    (["--steps", "rint", "--out", "x.parquet"], 8, "step is 'rint'"),
    (["--steps", "pca,,whiten", "--out", "x.parquet"], 8, "has an empty entry"),
    (["--out", "x.parquet"], 8, "Missing option '--steps'"),
    (["--steps", "residualize", "--out", "x.parquet"], 8, r"covariates is missing.*\(--covar\)"),
    (["--steps", "pca", "--covar", "covar.tsv", "--out", "x.parquet"], 8, "covariates is there"),
    (["--steps", "pca", "--formula", "age", "--out", "x.parquet"], 8, "--formula needs --covar"),
    (["--steps", "rank-normal", "--components", "2", "--out", "x.parquet"], 8, "pca or whiten"),
    (["--steps", "rank-normal", "--fit-on", "covar.tsv", "--out", "x.parquet"], 8,
     "people to fit on were given"),
    (["--steps", "pca", "--components", "7", "--out", "x.parquet"], 8, "At most 6, the rank"),
    (["--steps", "pca", "--out", "x.csv"], 8, r"suffix '.csv'\. One of .parquet, .tsv"),
    (["--steps", "pca", "--out", "latents.parquet"], 8, "is the table that is read"),
    (["--steps", "pca", "--out", "nowhere/x.parquet"], 5, "Writing nowhere/x.parquet failed"),
    (["--steps", "pca", "--latent-name", "z0-z9", "--out", "x.parquet"], 8, "no column 'z0-z9'"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "message"), REFUSED, ids=lambda v: str(v)[:40])
def test_transforms_that_are_refused_write_nothing(folder, words, code, message):
    before = sorted(path.name for path in folder.iterdir())
    digest = sha256_of(folder / "latents.parquet")
    result = imgwas("latents", "transform", "latents.parquet", *words, folder=folder)
    assert result.code == code, result.text
    assert re.search(message, result.text)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert sha256_of(folder / "latents.parquet") == digest


# --- report


def test_report_of_latents_with_covariates(folder):
    said = run(folder, "report", "latents.parquet", "--covar", "covar.tsv", "--covar-name",
               "age,sex,site", "--categorical", "sex", "--cluster", "--out", "report")  # fmt: skip
    out = folder / "report"
    found = check_files(out, "report.json")
    assert found["people"] == N
    assert found["missing_values"] == 1
    assert 1 < found["effective_number"]["li-ji"] <= K
    assert found["nuisance"]["largest_r2"] > 0.3
    assert f"{found['effective_number']['li-ji']:.1f} effective" in said
    correlation = pd.read_csv(out / "correlation.tsv", sep="\t", index_col="latent")
    frame = pd.read_parquet(folder / "latents.parquet").drop(columns="eid")
    np.testing.assert_allclose(correlation, frame.corr(), atol=1e-9)
    quality = pd.read_csv(out / "quality.tsv", sep="\t").set_index("latent")
    assert quality.loc["z2", ["n", "n_missing"]].tolist() == [N - 1, 1]
    terms = pd.read_csv(out / "nuisance_terms.tsv", sep="\t")
    assert set(terms["term"]) == {"age", "sex", "site"}
    figures = {path.stem for path in out.glob("*.png")}
    assert figures == {"correlation", "spectrum", "nuisance", "components_age", "components_sex",
                       "components_site"}  # fmt: skip


def test_report_names_odd_latents_and_goes_on(folder):
    frame = pd.read_parquet(folder / "latents.parquet")
    frame["z5"] = 3.0
    frame["z4"] = frame["z3"]
    frame.to_csv(folder / "odd.tsv", sep="\t", index=False, na_rep="NA")
    run(folder, "report", "odd.tsv", "--individuals", "--out", "report")
    found = check_files(folder / "report", "report.json")
    assert found["odd_latents"] == 2
    quality = pd.read_csv(folder / "report" / "quality.tsv", sep="\t").set_index("latent")
    assert quality.loc["z5", "problem"] == "constant"
    assert quality.loc["z4", "problem"] == "equal to z3"
    one = pd.read_parquet(folder / "latents.parquet")[["eid", "z0"]]
    one.to_parquet(folder / "one.parquet")
    run(folder, "report", "one.parquet", "--out", "one")
    assert check_files(folder / "one", "report.json")["effective_number"]["li-ji"] == 1


# --- consensus


def test_consensus_of_three_seeds(folder):
    said = run(folder, "consensus", "seed0.parquet", "seed1.parquet", "seed2.parquet",
               "--components", "3", "--out", "c")  # fmt: skip
    assert "9 of 15 latents are found again by another seed (|r| above 0.8)" in said
    found = check_files(folder / "c", "consensus.json")
    assert found["reproduced"] == {"seed0": 3, "seed1": 3, "seed2": 3}
    assert min(found["shared_components"]["r_held_out"]) > 0.95
    matches = pd.read_csv(folder / "c" / "matches.tsv", sep="\t")
    assert matches["is_reproduced"].sum() == 9
    kept = library.read_latents(folder / "c" / "reproduced.parquet")
    assert kept.names[0] == "seed0.w0"
    shared = library.read_latents(folder / "c" / "shared.parquet")
    assert shared.names == ("S1", "S2", "S3")
    assert set(shared.sample_ids) == set(EIDS)
    assert set(read_history(folder / "c" / "shared.parquet")["shared_by"]) == {
        "seed0", "seed1", "seed2",
    }  # fmt: skip


def test_consensus_of_strangers(folder):
    result = imgwas("latents", "consensus", "seed0.parquet", "--out", "c", folder=folder)
    assert (result.code, "1 tables were given" in result.text) == (8, True)
    result = imgwas("latents", "consensus", "seed0.parquet", "seed0.parquet", "--out", "c",
                    folder=folder)  # fmt: skip
    assert (result.code, "Two or more, each once" in result.text) == (8, True)
    other = pd.read_parquet(folder / "seed1.parquet")
    other["eid"] = [f"9{eid}" for eid in other["eid"]]
    other.to_parquet(folder / "other.parquet", index=False)
    result = imgwas("latents", "consensus", "seed0.parquet", "other.parquet", "--out", "c",
                    folder=folder)  # fmt: skip
    assert result.code == 7
    assert "0 people are in all 2 tables" in result.text
    assert not any(eid in result.text for eid in EIDS)


def test_consensus_without_agreement_writes_no_latents_that_agree(folder):
    rng = np.random.default_rng(0)
    for name in "ab":
        frame = pd.DataFrame(rng.standard_normal((N, 3)), columns=list("xyz"))
        frame.insert(0, "eid", EIDS)
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    said = run(folder, "consensus", "a.parquet", "b.parquet", "--out", "c")
    assert "0 of 6 latents are found again" in said
    check_files(folder / "c", "consensus.json")
    assert not (folder / "c" / "reproduced.parquet").exists()


# --- reliability


def test_reliability_between_two_visits(folder):
    said = run(folder, "reliability", "visit2.tsv", "visit3.tsv", "--out", "r")
    found = check_files(folder / "r", "reliability.json")
    n = found["people_at_all_visits"]
    assert f"{n} people came to all visits (visit2 90, visit3 90)" in said
    table = pd.read_csv(folder / "r" / "reliability.tsv", sep="\t")
    assert (table["n"] == n).all()
    assert found["median"]["icc_2_1"] == pytest.approx(table["icc_2_1"].median())
    assert table["icc_3_1"].min() > 0.8
    (folder / "again.tsv").write_text((folder / "visit2.tsv").read_text())
    result = imgwas(
        "latents", "reliability", "visit2.tsv", "again.tsv", "--out", "s", folder=folder
    )
    assert (result.code, "hold the same number for every person" in result.text) == (7, True)


# --- predict


PREDICT = ("--targets", "covar.tsv", "--folds", "2", "--out", "p")


def test_prediction_tables_with_chance_beside_every_score(folder):
    said = run(folder, "predict", "latents=visit2.tsv", "raw=latents.parquet", "--classes", "sex",
               "--number", "age", "--bins", "age:57,67", "--models", "linear,tree", "--importance",
               "--groups", "family", *replaced(PREDICT, "--folds", "3"))  # fmt: skip
    table = pd.read_csv(folder / "p" / "prediction.tsv", sep="\t")
    assert set(table["target"]) == {"sex", "age", "age in bins"}
    assert table["chance"].notna().all()
    assert set(table["features"]) == {"latents", "raw"}
    sex = table.query("target == 'sex' and metric == 'accuracy'")
    assert (sex["score"] > sex["chance"] + 0.1).any()
    for _, row in sex.iterrows():
        assert f"{row['score']:.3f}" in said
        assert f"{row['chance']:.3f}" in said
    found = check_files(folder / "p", "prediction.json")
    assert len(found["rows"]) == len(table)
    importance = pd.read_csv(folder / "p" / "importance.tsv", sep="\t")
    top = importance.groupby(["target", "features"]).first()["feature"]
    assert top["sex", "raw"] == "z1"
    assert top["age", "raw"] == "z0"
    names = {path.stem for path in (folder / "p").glob("*.pdf")}
    assert {"prediction_accuracy", "prediction_auc", "prediction_r2", "prediction_mae"} <= names


def test_prediction_repeats_with_its_seed(folder):
    words = ("predict", "latents.parquet", "--classes", "sex", "--models", "forest", *PREDICT[:-1])
    run(folder, *words, "p1", "--threads", "1")
    run(folder, *words, "p2", "--threads", "2")
    one, two = ((folder / p / "prediction.tsv").read_bytes() for p in ("p1", "p2"))
    assert one == two


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 8, "Say what to predict: --classes, --bins or --number"),
        (["--classes", "gender"], 8, "no column 'gender'"),
        (["--classes", "age"], 6, r"age has \d+ labels. At most 30"),
        (["--number", "site"], 6, "which is no number"),
        (["--bins", "age"], 8, "COLUMN:EDGES, as age:22,26"),
        (["--bins", "age:60,50"], 8, "the edges 60, 50 do not increase"),
        (["--classes", "sex", "--models", "svm"], 8, "model is 'svm'"),
        (["--classes", "site", "--schemes", "ovo"], 8, "scheme is 'ovo'"),
        (["--classes", "sex", "--folds", "1"], 8, "1 is not in the range"),
        (["--classes", "sex", "--groups", "famly"], 8, "Did you mean family"),
    ],
)
def test_predictions_that_are_refused(folder, words, code, message):
    words = replaced(PREDICT, *words)
    result = imgwas("latents", "predict", "latents.parquet", *words, folder=folder)
    assert result.code == code, result.text
    assert re.search(message, result.text), result.text
    assert not list((folder / "p").glob("*.json"))


def test_features_need_names_and_must_not_hold_the_target(folder):
    words = ("--classes", "sex", *PREDICT)
    result = imgwas(
        "latents", "predict", "a=latents.parquet", "a=visit2.tsv", *words, folder=folder
    )
    assert (result.code, "NAME=FILE, each name once" in result.text) == (8, True)
    frame = pd.read_parquet(folder / "latents.parquet")
    frame["hidden"] = pd.read_csv(folder / "covar.tsv", sep="\t", dtype={"eid": str}).set_index(
        "eid"
    ).loc[frame["eid"], "sex"].to_numpy()  # fmt: skip
    frame.to_parquet(folder / "leak.parquet")
    result = imgwas("latents", "predict", "leak.parquet", *words, folder=folder)
    assert (result.code, "the feature hidden is the target sex itself" in result.text) == (7, True)


# --- help


@pytest.mark.parametrize("name", ["transform", "report", "consensus", "reliability", "predict"])
def test_every_subcommand_shows_an_example(tmp_path, name):
    result = imgwas("latents", name, "--help", folder=tmp_path)
    assert result.code == 0
    assert f"imgwas latents {name} " in result.text.split("Example")[1]
    assert name in imgwas("latents", "--help", folder=tmp_path).text

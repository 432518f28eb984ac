"""The commands traits, replicate, interaction and score, on a cohort small enough for seconds."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from imgwas import open_sumstats, read_latents, simulate_cohort
from tests.cli_cohort import imgwas

N = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cohort, its two halves scanned, people with dates, diagnoses and traits."""
    out = tmp_path_factory.mktemp("traits")
    cohort = simulate_cohort(out, n_samples=N, n_variants=400, n_latents=3, n_causal=6,
                             variance_explained=0.06, seed=8)  # fmt: skip
    latents = read_latents(cohort.latents)
    frame = pd.DataFrame(latents.values, columns=list(latents.names))
    frame.insert(0, "IID", latents.sample_ids)
    frame.iloc[: N // 2].to_csv(out / "first.tsv", sep="\t", index=False)
    frame.iloc[N // 2 :].to_csv(out / "second.tsv", sep="\t", index=False)
    z = (frame["L000"] - frame["L000"].mean()) / frame["L000"].std()
    rng = np.random.default_rng(1)
    years = rng.exponential(6 * np.exp(-z))
    imaged = np.datetime64("2015-01-01") + rng.integers(0, 500, N)
    found = imaged + (365.25 * years).astype(int) - 730
    records = pd.DataFrame({"IID": frame["IID"], "code": "I21.4", "date": found})
    records[years < 9].to_csv(out / "diagnoses.tsv", sep="\t", index=False)
    (out / "diseases.tsv").write_text("trait\tcode\nMI\tI21*\nStroke\tI63\n")
    bmi = 25 + z + rng.standard_normal(N)
    people = pd.DataFrame({"IID": frame["IID"], "imaging_date": imaged, "bmi": bmi,
                           "smoker": (rng.random(N) < 0.3).astype(int)})  # fmt: skip
    people.to_csv(out / "people.tsv", sep="\t", index=False)
    ids = list(latents.sample_ids[: N // 2])
    (out / "first.txt").write_text("\n".join(["IID", *ids, ""]))
    cohort.truth.to_csv(out / "leads.tsv", sep="\t", index=False)
    for half in ("first", "second"):
        done = imgwas("associate", "--bfile", "cohort", "--latents", f"{half}.tsv", "--covar",
                      "covariates.tsv", "--categorical", "sex,centre", "--min-overlap", "0.1",
                      "--out", half, folder=out)  # fmt: skip
        assert done.code == 0, done.text
    return out


def test_traits_from_a_table_and_from_records(folder):
    done = imgwas(
        "traits", "latents.parquet", "--traits", "people.tsv", "--number", "bmi", "--binary",
        "smoker", "--diagnoses", "diagnoses.tsv", "--definitions", "diseases.tsv", "--people",
        "people.tsv", "--model", "cases,survival", "--end", "2022-01-01", "--min-cases", "40",
        "--covar", "covariates.tsv", "--categorical", "sex,centre", "--permutations", "49",
        "--out", "traits", folder=folder,
    )  # fmt: skip
    assert done.code == 0, done.text
    assert "Stroke has 0 cases, fewer than 40: left out" in done.text
    table = pd.read_csv(folder / "traits/associations.tsv", sep="\t", keep_default_na=False)
    assert set(table["trait"]) == {"bmi", "smoker", "MI", "MI (follow-up)"}
    assert set(table["method"]) == {"ols", "logistic", "cox"}
    row = table[(table["trait"] == "MI (follow-up)") & (table["latent"] == "L000")].iloc[0]
    assert 2 < float(row["ratio"]) < 3.7
    assert float(row["p_max_t"]) == 1 / 50
    counts = pd.read_csv(folder / "traits/definitions.tsv", sep="\t")
    assert {"outside the window", "prevalent", "events"} <= set(counts["people"])
    for name in ("volcano_number", "volcano_binary", "volcano_survival", "forest", "survival_01"):
        assert (folder / "traits" / f"{name}.pdf").stat().st_size > 1000
    summary = json.loads((folder / "traits/traits.json").read_text())
    assert (summary["tests"], summary["permutations"]) == (12, 49)
    assert "associations.tsv" in summary["files"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--number", "bmi"], "name columns of --traits"),
        (["--traits", "people.tsv"], "needs --number or --binary"),
        (["--diagnoses", "diagnoses.tsv"], "--diagnoses, --definitions and --people together"),
        ([], "Name traits"),
    ],
)
def test_traits_say_what_is_lacking(folder, words, text):
    done = imgwas("traits", "latents.parquet", *words, "--out", "none", folder=folder)
    assert done.code == 8
    assert text in done.text
    assert not (folder / "none").exists()


def test_survival_needs_a_last_day(folder):
    words = ["--diagnoses", "diagnoses.tsv", "--definitions", "diseases.tsv", "--people",
             "people.tsv", "--model", "survival", "--min-cases", "20"]  # fmt: skip
    done = imgwas("traits", "latents.parquet", *words, "--out", "none", folder=folder)
    assert (done.code, "needs --end" in done.text) == (8, True)
    done = imgwas("traits", "latents.parquet", *words, "--end", "soon", "--out", "none",
                  folder=folder)  # fmt: skip
    assert (done.code, "--end is 'soon'" in done.text) == (8, True)


def test_replicate(folder):
    common = ["replicate", "first", "second", "--leads", "leads.tsv", "--selected-at", "0.01"]
    done = imgwas(*common, "--out", "rep", folder=folder)
    assert done.code == 21
    assert "it is not known who was scanned" in done.text
    done = imgwas(*common, "--discovery-people", "latents.parquet", "--replication-people",
                  "second.tsv", "--out", "rep", folder=folder)  # fmt: skip
    assert done.code == 21
    assert "300 of 300 people of the replication are in the discovery" in done.text
    done = imgwas(*common, "--discovery-people", "first.tsv", "--replication-people", "second.tsv",
                  "--out", "rep", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    assert "leads have the same sign" in done.text
    table = pd.read_csv(folder / "rep/replication.tsv", sep="\t")
    assert len(table) == 6
    assert len(pd.read_csv(folder / "rep/directional.tsv", sep="\t")) == 6
    summary = json.loads((folder / "rep/replication.json").read_text())["summary"]
    assert summary["same_sign"] == int(table["same_sign"].sum()) >= 5


def test_interaction(folder):
    done = imgwas("interaction", "--bfile", "cohort", "--latents", "latents.parquet", "--covar",
                  "covariates.tsv", "--categorical", "centre", "--environment", "sex",
                  "--variants", "leads.tsv", "--out", "sex.tsv", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    table = pd.read_csv(folder / "sex.tsv", sep="\t")
    assert len(table) == 18
    assert table["neg_log_10_p_interaction"].max() < 4


def test_scores_from_the_scan_to_the_catalogue(folder):
    done = imgwas("score", "clump", "first", "--variants", "leads.tsv", "--p", "1e-3", "--scanned",
                  "first.tsv", "--out", "weights.parquet", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    done = imgwas("score", "apply", "weights.parquet", "--bfile", "cohort", "--out", "all.parquet",
                  folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    evaluate = ["--traits", "people.tsv", "--number", "bmi", "--binary", "smoker", "--covar",
                "covariates.tsv", "--categorical", "sex,centre", "--bootstrap", "20"]  # fmt: skip
    done = imgwas("score", "evaluate", "all.parquet", *evaluate, "--out", "ev", folder=folder)
    assert done.code == 21
    assert "300 of 600 people are among those the scores were fitted on" in done.text
    done = imgwas("traits", "all.parquet", "--traits", "people.tsv", "--number", "bmi", "--out",
                  "pgs", folder=folder)  # fmt: skip
    assert done.code == 21
    ids = pd.read_csv(folder / "first.tsv", sep="\t", dtype=str)["IID"]
    done = imgwas("score", "apply", "weights.parquet", "--bfile", "cohort", "--remove", "first.txt",
                  "--out", "held.parquet", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    done = imgwas("score", "evaluate", "held.parquet", *evaluate, "--out", "ev", folder=folder)
    assert done.code == 0, done.text
    table = pd.read_csv(folder / "ev/evaluation.tsv", sep="\t")
    assert set(table["metric"]) == {"r2", "auc"}
    done = imgwas("score", "export", "weights.parquet", "--genome-build", "GRCh37", "--out", "pgs",
                  folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    text = gzip.decompress((folder / "pgs/L000.pgs.txt.gz").read_bytes()).decode()
    assert text.startswith("###PGS CATALOG SCORING FILE")
    assert not any(one in text for one in ids)


def test_ridge_and_combined_scores(folder):
    done = imgwas("score", "ridge", "--bfile", "cohort", "--latents", "latents.parquet", "--covar",
                  "covariates.tsv", "--categorical", "sex,centre", "--keep", "first.txt",
                  "--heritability", "0.3", "--out", "ridge.parquet", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    (folder / "alpha.tsv").write_text("score\tcoefficient\nL000\t0.5\nL002\t-1\n(intercept)\t2\n")
    done = imgwas("score", "combine", "ridge.parquet", "--coefficients", "alpha.tsv", "--fitted-on",
                  "second.tsv", "--out", "sum.parquet", folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    done = imgwas("score", "apply", "sum.parquet", "--bfile", "cohort", "--out", "sum_all.parquet",
                  folder=folder)  # fmt: skip
    assert done.code == 0, done.text
    done = imgwas("score", "evaluate", "sum_all.parquet", "--traits", "people.tsv", "--number",
                  "bmi", "--out", "ev2", folder=folder)  # fmt: skip
    assert "600 of 600 people" in done.text
    assert open_sumstats(folder / "first").latents == ("L000", "L001", "L002")

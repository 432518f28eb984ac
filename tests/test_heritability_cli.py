"""``imgwas heritability`` and ``imgwas correlation``: what they write, say and refuse."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

import imgwas
from imgwas.association import build_design
from imgwas.genetics.heritability import estimate_heritability
from tests.cli_cohort import imgwas as command_line
from tests.genetic_models import UNEVEN, polygenic_study

N, M = 300, 1200


@pytest.fixture(scope="module")
def study():
    return polygenic_study(N, M, 3, seed=4, highest=0.9, runs=UNEVEN)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    """A cohort on disk, scanned by the command line without some of the people."""
    folder = tmp_path_factory.mktemp("study")
    packed = study.genotypes.read_packed(np.arange(M))
    (folder / "c.bed").write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
    bim = [f"1\trs{j}\t0\t{1000 * (j + 1)}\tA\tG\n" for j in range(M)]
    (folder / "c.bim").write_text("".join(bim))
    ids = study.latents.sample_ids
    (folder / "c.fam").write_text("".join(f"0\t{i}\t0\t0\t1\t-9\n" for i in ids))
    for name, table in (("latents", study.latents), ("covar", study.covariates)):
        frame = pd.DataFrame(table.values, pd.Index(ids, name="IID"), list(table.names))
        frame.to_csv(folder / f"{name}.tsv", sep="\t")
    (folder / "withdrawn.txt").write_text("\n".join(ids[:20]))
    words = ["associate", "--bfile", "c", "--latents", "latents.tsv", "--covar", "covar.tsv",
             "--out", "results", "--remove", "withdrawn.txt", "--rank-normal", "--genome-build",
             "GRCh37"]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:  # the command that a scan records is the process's
        patch.setattr(sys, "argv", ["imgwas", *words])
        done = command_line(*words, folder=folder)
    assert done.code == 0, done.text
    return folder


def test_the_scan_is_enough(study, folder):
    """Inputs, people and transform come from what the scan recorded."""
    done = command_line("heritability", "results", "--out", "h2", folder=folder)
    assert done.code == 0, done.text
    assert "h2/heritability.tsv" in done.text
    table = pd.read_csv(folder / "h2" / "heritability.tsv", sep="\t")
    assert table["n"].tolist() == [N - 20] * 3
    keep = np.arange(20, N)
    design = build_design(study.genotypes.samples, study.latents, study.covariates,
                          keep=keep, rank_normal=True)  # fmt: skip
    again = estimate_heritability(study.genotypes, design)
    np.testing.assert_allclose(table["heritability"], again.heritability, atol=1e-4)
    described = json.loads((folder / "h2" / "heritability.json").read_text())
    assert described["method"] == "he"
    assert described["seed"] == 0
    pairs = pd.read_csv(folder / "h2" / "genetic_correlation_pairs.tsv", sep="\t")
    assert len(pairs) == 3
    matrix = pd.read_parquet(folder / "h2" / "genetic_covariance.parquet").set_index("latent")
    np.testing.assert_allclose(np.diag(matrix), table["heritability"], rtol=1e-5)


def test_other_methods(folder):
    done = command_line("heritability", "results", "--method", "greml", "--out", "g", folder=folder)
    assert done.code == 0, done.text
    greml = pd.read_csv(folder / "g" / "heritability.tsv", sep="\t")
    he = command_line("heritability", "results", "--matrices", "tsv", "--out", "t", folder=folder)
    assert he.code == 0, he.text
    moments = pd.read_csv(folder / "t" / "heritability.tsv", sep="\t")
    assert (folder / "t" / "genetic_correlation.tsv").exists()
    apart = (greml["heritability"] - moments["heritability"]).abs() / moments["standard_error"]
    assert (apart < 3).all()
    words = ["heritability", "results", "--method", "ldsc", "--blocks", 50, "--window-kb", 60]
    done = command_line(*words, "--out", "l", folder=folder)
    assert done.code == 0, done.text
    first = pd.read_csv(folder / "l" / "heritability.tsv", sep="\t")
    # the scores it wrote are those it reads
    done = command_line(*words, "--ld-scores", "l/ld_scores", "--out", "l2", folder=folder)
    assert done.code == 0, done.text
    again = pd.read_csv(folder / "l2" / "heritability.tsv", sep="\t")
    np.testing.assert_allclose(first["heritability"], again["heritability"], rtol=1e-3)


def test_inputs_that_moved(folder):
    for name in ("c.bed", "c.bim", "c.fam"):
        (folder / "moved").mkdir(exist_ok=True)
        (folder / "moved" / name).write_bytes((folder / name).read_bytes())
    words = ["heritability", "results", "--bfile", "moved/c", "--out", "m"]
    assert command_line(*words, folder=folder).code == 0
    done = command_line("heritability", "results", "--bfile", "gone/c", "--out", "m", folder=folder)
    assert done.code == 3
    assert "gone/c.bed" in done.text


def test_another_set_of_covariates_is_refused(folder):
    frame = pd.read_csv(folder / "covar.tsv", sep="\t", dtype={"IID": str})
    frame[["IID", "age"]].to_csv(folder / "age.tsv", sep="\t", index=False)
    done = command_line(
        "heritability", "results", "--covar", "age.tsv", "--out", "x", folder=folder
    )
    assert done.code == 7
    assert "the covariates or latents are not those of the scan" in done.text
    assert "4 covariate dimensions" in done.text


def test_a_scan_without_a_command(study, folder, tmp_path):
    """A scan from Python records no command; then the inputs are named."""
    imgwas.associate(study.genotypes, study.latents, study.covariates, out=folder / "python")
    done = command_line("heritability", "python", "--out", "p", folder=folder)
    assert done.code == 8
    assert "does not record the command" in done.text
    assert "--bfile and --latents" in done.text
    named = ["--bfile", "c", "--latents", "latents.tsv", "--covar", "covar.tsv"]
    done = command_line("heritability", "python", *named, "--out", "p", folder=folder)
    assert done.code == 0, done.text


def test_correlation_with_another_study(folder):
    """The scan's own table under other names, half its alleles swapped and one strand turned."""
    frame = imgwas.open_sumstats(folder / "results").latent("L02")
    swap = np.arange(M) % 2 == 0
    z = (frame["beta"] / frame["standard_error"]).to_numpy()
    other = pd.DataFrame(
        {
            "marker": frame["variant_id"],
            "A1": np.where(swap, frame["other_allele"], frame["effect_allele"]),
            "A2": np.where(swap, frame["effect_allele"], frame["other_allele"]),
            "Z": np.where(swap, -z, z),
        }
    )
    other.loc[5, ["A1", "A2"]] = ["T", "C"]
    other.to_csv(folder / "height.tsv", sep="\t", index=False)
    words = ["correlation", "results", "--external", "height.tsv", "--external-n", 280,
             "--blocks", 50, "--window-kb", 60, "--out", "rg"]  # fmt: skip
    done = command_line(*words, folder=folder)
    assert done.code == 6
    assert "lacks variant_id" in done.text
    done = command_line(*words, "--column", "variant_id=marker", folder=folder)
    assert done.code == 0, done.text
    alleles = pd.read_csv(folder / "rg" / "alleles.tsv", sep="\t").iloc[0]
    assert (alleles["swapped"], alleles["same"], alleles["strand"]) == (600, 599, 1)
    table = pd.read_csv(folder / "rg" / "genetic_correlation.tsv", sep="\t").set_index("latent")
    own = table.loc["L02"]
    assert own["covariance"] == pytest.approx(own["heritability"], rel=1e-3)
    done = command_line(*words, "--column", "colour=marker", folder=folder)
    assert done.code == 8
    assert "--column is 'colour'" in done.text
    done = command_line(*words, "--column", "marker", folder=folder)
    assert done.code == 8


def test_help_has_examples(folder):
    for name in ("heritability", "correlation"):
        done = command_line(name, "--help", folder=folder)
        assert done.code == 0
        assert f"imgwas {name} results/" in done.text

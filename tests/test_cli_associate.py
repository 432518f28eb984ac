"""Good runs through the command line: every way to name inputs, what is said, what is logged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import imgwas
from tests.cli_cohort import N, people, write_cohort
from tests.cli_cohort import imgwas as command_line

GOOD = ["associate", "--bfile", "cohort", "--latents", "latents.tsv", "--covar", "covar.tsv"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder)
    return folder


def run(cohort: Path, out: Path, *words: object) -> tuple[str, imgwas.SumStats]:
    done = command_line(*words, "--out", out, folder=cohort)
    assert done.code == 0, done.text
    return done.text, imgwas.open_sumstats(out)


@pytest.fixture(scope="module")
def plain(cohort, tmp_path_factory):
    return run(cohort, tmp_path_factory.mktemp("plain"), *GOOD)[1]


def test_a_scan_wakes_nothing_that_is_slow_to_start(cohort, tmp_path):
    """pyarrow imports pandas, 0.3 s of processor time, when it is given some kinds of arrays."""
    script = (
        "import sys; from imgwas_cli.main import run; code = run(sys.argv[1:]); "
        "sys.exit(code or ' '.join({'pandas', 'scipy', 'torch'} & set(sys.modules)) or 0)"
    )
    words = [*GOOD, "--out", str(tmp_path / "results"), "--quiet"]
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cohort)
    assert (done.returncode, done.stderr) == (0, "")


def t_of(results: imgwas.SumStats, name: str) -> np.ndarray:
    table = results.latent(name)
    return (table["beta"] / table["standard_error"]).to_numpy()


@pytest.mark.parametrize(
    "genotypes",
    [
        ["--bfile", "cohort"],
        ["--bed", "cohort.bed"],
        ["--bed", "cohort"],
        ["--bfile", "./cohort", "--bim", "cohort.bim", "--fam", "cohort.fam"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("traits", [["--latents", "latents.tsv"], ["--pheno", "latents.tsv"]])
def test_ways_to_name_the_inputs(cohort, plain, tmp_path, genotypes, traits):
    _, results = run(cohort, tmp_path, "associate", *genotypes, *traits, "--covar", "covar.tsv")
    for name in plain.latents:
        np.testing.assert_array_equal(t_of(results, name), t_of(plain, name))


def test_the_other_allele(cohort, plain, tmp_path):
    _, results = run(cohort, tmp_path, *GOOD, "--effect-allele", "a2")
    np.testing.assert_allclose(t_of(results, "z0"), -t_of(plain, "z0"), rtol=1e-5)
    assert set(results.latent("z0")["effect_allele"]) == {"G"}


def test_some_latents_and_some_covariates(cohort, tmp_path):
    _, results = run(cohort, tmp_path, *GOOD, "--latent-name", "z2,z0", "--covar-name", "age,sex")
    assert set(results.latents) == {"z0", "z2"}
    assert results.metadata["covariates"]["names"] == ["age", "sex"]


def test_a_formula_and_labels_are_the_same_model(cohort, tmp_path):
    _, a = run(cohort, tmp_path / "a", *GOOD, "--categorical", "sex")
    _, b = run(cohort, tmp_path / "b", *GOOD, "--formula", "age + C(sex) + centre")
    assert b.metadata["covariates"]["names"] == ["age", "sex[2]", "centre[leeds]", "centre[york]"]
    np.testing.assert_allclose(t_of(a, "z1"), t_of(b, "z1"), rtol=1e-5)


def test_the_log_counts_what_each_filter_removed(cohort, tmp_path):
    (cohort / "some.txt").write_text("\n".join(people()[:38]))
    (cohort / "variants.txt").write_text("\n".join(f"rs{i}" for i in range(25)))
    text, results = run(
        cohort, tmp_path, *GOOD, "--keep", "some.txt", "--extract", "variants.txt", "--chr", "1-2",
        "--geno", "0.04", "--maf", "0.3",
    )  # fmt: skip
    assert "--keep names 38, 38 of them genotyped" in text
    assert "chr: 20 of 30 are on 1-2" in text
    assert "extract: 25 of 25 listed ids are genotyped; 20 left" in text
    removed = {n: int(c) for n, c in re.findall(r"--(geno|maf) removed (\d+)", text)}
    assert set(removed) == {"geno", "maf"}
    assert results.n_variants == 20 - sum(removed.values())
    assert re.search(r"samples  kept +38", text)


def test_the_log_file_has_what_a_reader_needs(cohort, tmp_path):
    run(cohort, tmp_path, *GOOD, "--threads", "1")
    log = (tmp_path / "log-1.txt").read_text()
    for needed in (
        "command  imgwas",
        "imgwas   " + imgwas.__version__,
        "libraries numpy",
        "Python 3.1",
        "samples  kept",
        "variants/s",
        "peak memory",
    ):
        assert needed in log
    assert not [i for i in people() if i in log]
    run(cohort, tmp_path, *GOOD, "--threads", "1")
    assert (tmp_path / "log-2.txt").exists()
    assert (tmp_path / "log-1.txt").read_text() == log


def test_quiet_and_verbose(cohort, tmp_path):
    quiet, _ = run(cohort, tmp_path / "q", *GOOD, "--quiet")
    verbose, _ = run(cohort, tmp_path / "v", *GOOD, "--verbose")
    assert quiet == ""
    assert "libraries numpy" in verbose


def test_results_are_private_where_people_are(cohort, tmp_path):
    run(cohort, tmp_path, *GOOD)
    assert (tmp_path / "private").stat().st_mode & 0o077 == 0
    for path in tmp_path.rglob("*"):
        if path.is_file() and "private" not in path.parts:
            assert not [i for i in people() if i.encode() in path.read_bytes()], path


def test_export_and_verify_what_was_scanned(cohort, tmp_path):
    _, results = run(cohort, tmp_path / "r", *GOOD)
    done = command_line("verify", "r", folder=tmp_path)
    assert done.code == 0, done.text
    words = ("--format", "gwas-ssf", "--latent", "z1", "--out", "e", "--build", "GRCh38")
    done = command_line("export", "r", *words, folder=tmp_path)
    assert done.code == 0, done.text
    (table,) = (tmp_path / "e").glob("*.tsv.gz")
    exported = pd.read_csv(table, sep="\t")
    tested = results.latent("z1").query("reason == ''")
    assert len(exported) == len(tested)
    content = bytearray((tmp_path / "r/parts/part-00000.parquet").read_bytes())
    content[100] ^= 1
    (tmp_path / "r/parts/part-00000.parquet").write_bytes(content)
    done = command_line("verify", "r", folder=tmp_path)
    assert done.code == 6, done.text


@pytest.mark.parametrize(
    "command",
    ["associate", "export", "verify", "simulate", "demo", "plot manhattan", "plot qq"],
)
def test_every_help_has_an_example_and_explains_every_option(command, tmp_path):
    done = command_line(*command.split(), "--help", folder=tmp_path)
    assert done.code == 0
    assert "Example" in done.text
    assert f"imgwas {command.split()[0]}" in done.text
    options = re.findall(r"^  (--[\w-]+)(.*)$", done.text, re.MULTILINE)
    assert len(options) >= 2
    assert max(map(len, done.text.splitlines())) <= 100


def test_a_person_per_column_count_is_told(cohort):
    """The real program, as installed."""
    done = subprocess.run(
        [Path(sys.executable).with_name("imgwas"), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"imgwas {imgwas.__version__}"
    assert N == 41

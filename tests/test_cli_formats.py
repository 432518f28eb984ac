"""Every genotype format on the command line: options, exit codes, and commands that take calls."""

from __future__ import annotations

import numpy as np
import pytest

import imgwas
from tests.cli_cohort import imgwas as command_line
from tests.formats_cohort import make_cohort, needs_plink2

pytestmark = needs_plink2


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("formats"), m=30, n=90)


def run(cohort, *options, expect=0):
    done = command_line(*options, folder=cohort.folder)
    assert done.code == expect, done.text
    return done.text


def scan(cohort, out, *options, **more):
    tables = ["--pheno", "traits.txt", "--covar", "covariates.txt", "--out", out, "--threads", "1"]
    return run(cohort, "associate", *options, *tables, **more)


def t_of(folder):
    table = imgwas.open_sumstats(folder).latent("t1")
    return (table["beta"] / table["standard_error"]).to_numpy()


@pytest.mark.parametrize(
    ("options", "data"),
    [
        (["--pfile", "dosage"], "dosage"),
        pytest.param(
            ["--bgen", "dosage.bgen", "--sample", "dosage.sample"],
            "dosage",
            marks=pytest.mark.slow,
        ),
        (["--vcf", "dosage.vcf", "--cache", "unpacked"], "dosage"),
        pytest.param(["--pfile", "calls"], "calls", marks=pytest.mark.slow),
    ],
)
def test_each_format_is_scanned_and_checked(cohort, options, data):
    """``--check`` fits pairs again with statsmodels, from the dosages that a reader gives."""
    out = options[0].strip("-") + data
    said = scan(cohort, out, *options, "--check", "10")
    assert "30 variants x 90 samples" in said
    assert "checked  10 pairs" in said
    reference = cohort.folder / f"{data}-bed"
    if not reference.exists():
        source = ["--bfile", "calls"] if data == "calls" else ["--pfile", "dosage"]
        scan(cohort, reference.name, *source)
    tolerance = 0.05 if "--bgen" in options else 2e-5
    assert np.abs(t_of(cohort.folder / out) - t_of(reference)).max() < tolerance


def test_quality_filters_and_its_refusal(cohort):
    said = scan(cohort, "info", "--pfile", "dosage", "--info", "0.9", "--maf", "0.2")
    assert "--info removed" in said
    kept = imgwas.open_sumstats(cohort.folder / "info").variants(["imputation_r2"])
    assert (kept["imputation_r2"] >= 0.9).all()
    assert 0 < len(kept) < 30
    said = scan(cohort, "no", "--bfile", "calls", "--info", "0.9", expect=8)
    assert "these genotypes are hard calls" in said


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 8, "Name the genotypes by one of --bfile PREFIX"),
        (["--bfile", "calls", "--pfile", "calls"], 8, "--bfile and --pfile is given"),
        (["--pfile", "absent"], 3, "absent.pgen"),
        (["--bgen", "dosage.bgen", "--fam", "x.fam"], 8, "--fam cannot go with"),
        (["--bgen", "short.bgen", "--sample", "dosage.sample"], 6, "cut short"),
        (["--bgen", "bad.bgen", "--sample", "dosage.sample"], 14, "is damaged"),
        (["--bgen", "dosage.bgen", "--sample", "few.sample"], 7, "has 3 people"),
    ],
)
def test_exit_codes(cohort, options, code, words):
    content = bytearray((cohort.folder / "dosage.bgen").read_bytes())
    (cohort.folder / "short.bgen").write_bytes(content[:-7])
    content[-20] ^= 0xFF
    (cohort.folder / "bad.bgen").write_bytes(content)
    rows = "".join(f"p{i} p{i} 0 D\n" for i in range(3))
    (cohort.folder / "few.sample").write_text("ID_1 ID_2 missing sex\n0 0 0 D\n" + rows)
    assert words in scan(cohort, "refused", *options, expect=code)


def test_commands_that_work_on_calls_round_dosages_and_say_so(cohort):
    said = run(cohort, "quality", "--pfile", "dosage", "--out", "qc")
    assert "taken as hard calls" in said
    text = (cohort.folder / "qc" / "variants.tsv").read_text()
    assert len(text.splitlines()) == 31

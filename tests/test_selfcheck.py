"""The scan's check of itself finds nothing in a good scan and something in a bad one."""

from __future__ import annotations

import numpy as np
import pytest

import imgwas
from imgwas.errors import UsageError
from tests.cli_cohort import imgwas as command_line
from tests.cli_cohort import write_cohort
from tests.test_scan import study


def scanned(tmp_path, **options):
    sex = np.tile([1, 2, 2, 1, 0], 30)
    chromosomes = ["1"] * 30 + ["X"] * 6 + ["Y"] * 4
    whole = study(chromosomes=chromosomes, sex=sex)
    return whole, whole.scan(tmp_path / "out", **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"missing_genotype": "drop"}, {"rank_normal": True}, {"precision": "double"}],
    ids=str,
)
def test_a_good_scan_agrees(tmp_path, options):
    whole, results = scanned(tmp_path, **options)
    table = imgwas.check_scan(results, whole.genotypes, whole.latents, whole.covariates, pairs=160)
    assert len(table) >= 80
    assert set(table["latent"]) == set(whole.latents.names)
    assert table["difference"].max() < 1e-4


def test_a_scan_of_other_tables_does_not(tmp_path):
    whole, results = scanned(tmp_path)
    moved = imgwas.Latents(
        whole.latents.values[::-1], whole.latents.sample_ids, whole.latents.names
    )
    table = imgwas.check_scan(results, whole.genotypes, moved, whole.covariates, pairs=40)
    assert table["difference"].min() > 1e-4


def test_a_two_step_scan_cannot_be_checked(tmp_path):
    whole, results = scanned(tmp_path, residualize_first=True)
    with pytest.raises(UsageError, match="two-step"):
        imgwas.check_scan(results, whole.genotypes, whole.latents, whole.covariates)


def test_on_the_command_line(tmp_path, monkeypatch):
    write_cohort(tmp_path)
    command = [
        *("associate", "--bfile", "cohort", "--latents", "latents.tsv", "--covar", "covar.tsv"),
        *("--keep", "some.txt", "--check", "30", "--out", "out"),
    ]
    ids = (tmp_path / "cohort.fam").read_text().split()[1::6]
    (tmp_path / "some.txt").write_text("\n".join(ids[:35]))
    done = command_line(*command, folder=tmp_path)
    assert done.code == 0, done.text
    assert "checked  30 pairs with statsmodels: t and beta agree within" in done.text
    monkeypatch.setattr("imgwas_cli.running.APART", 0)
    done = command_line(*command, folder=tmp_path)
    assert done.code == 60
    assert "in statsmodels" in done.text

"""Whole scans of real genotypes against PLINK 2's ``--glm`` on the same files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data import data_file
from tests.studies import BED_SETS, Study, study_of, table_of

pytestmark = pytest.mark.skipif(
    shutil.which("plink2") is None, reason="plink2 is not installed (Debian package plink2)"
)

#: GWAS-SSF codes of Y and MT: PLINK counts one copy of a haploid call where imgwas counts two
HAPLOID = (24, 25)
X = 23


def write_tables(study: Study, folder: Path) -> None:
    """Phenotypes and covariates as PLINK reads them."""
    for name, table in (("pheno", study.latents), ("covar", study.covariates)):
        # centred, because PLINK 2's standard errors lose digits to an offset of a million
        centred = table.values - np.nanmean(table.values, axis=0)
        frame = pd.DataFrame(centred, columns=list(table.names))
        samples = study.genotypes.samples
        frame.insert(0, "IID", samples.sample_ids)
        frame.insert(0, "#FID", samples.family_ids)
        frame.to_csv(folder / f"{name}.tsv", sep="\t", index=False, na_rep="NA")


def plink2_glm(bed: Path, study: Study, folder: Path, *options: str) -> dict[str, pd.DataFrame]:
    """Run ``plink2 --glm``; a table per latent, in the order of the variants tested."""
    write_tables(study, folder)
    command = [
        *("plink2", "--bfile", str(bed.with_suffix("")), "--allow-extra-chr"),
        *("--pheno", "pheno.tsv", "--covar", "covar.tsv"),
        *("--pheno-name", *study.latents.names),
        *("--glm", "omit-ref", "hide-covar", "log10", "allow-no-covars", "cols=+a1freq"),
        # its limits on collinearity would leave out confounded variants
        *("--vif", "1e6", "--max-corr", "1", "--threads", "1", "--out", "glm", *options),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {
        name: pd.read_csv(
            folder / f"glm.{name}.glm.linear", sep="\t", dtype={"#CHROM": str, "ID": str, "A1": str}
        )
        for name in study.latents.names
    }


def differences(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """Largest disagreement on the variants that both tested."""
    assert len(ours) == len(theirs)
    assert list(ours["variant_id"]) == list(theirs["ID"])
    assert list(ours["effect_allele"]) == list(theirs["A1"])
    # who of the two refuses a variant, the other refuses it too
    both = theirs["BETA"].notna().to_numpy()
    assert list(both) == list(ours["reason"] == "")
    if not both.any():
        return {}
    ours, theirs = ours[both], theirs[both]
    assert (ours["n"].to_numpy() == theirs["OBS_CT"].to_numpy()).all()
    haploid = ours["chromosome"].isin(HAPLOID).to_numpy()
    beta = ours["beta"].to_numpy() * np.where(haploid, 2, 1)
    error = theirs["SE"].to_numpy()
    t = theirs["T_STAT"].to_numpy()
    # in this column, unlike in its --freq, PLINK 2 counts a male twice on X
    on_x = (ours["chromosome"] == X).to_numpy()
    frequency = np.abs(ours["effect_allele_frequency"].to_numpy() - theirs["A1_FREQ"].to_numpy())
    return {
        "beta": np.max(np.abs(beta - theirs["BETA"]) / error / np.maximum(1, np.abs(t))),
        "t": np.max(np.abs(ours["t"].to_numpy() - t) / np.maximum(1, np.abs(t))),
        "frequency": np.max(np.where(on_x, 0, frequency)),
        "neg_log10_p": np.max(
            np.abs(ours["neg_log_10_p_value"].to_numpy() - theirs["LOG10_P"].to_numpy())
            / np.maximum(1, theirs["LOG10_P"].to_numpy())
        ),
    }


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "hapmap3" else []) for n in BED_SETS],
)
def test_equals_plink2(tmp_path, name):
    bed = data_file(BED_SETS[name])
    study = study_of(bed)
    theirs = plink2_glm(bed, study, tmp_path)
    results = study.scan(tmp_path / "out", missing_genotype="drop")
    for latent in study.latents.names:
        found = differences(table_of(results, latent), theirs[latent])
        assert {k: v for k, v in found.items() if v >= 1e-4} == {}, latent

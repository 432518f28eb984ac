"""One made-up cohort in every format, converted by PLINK 2."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

needs_plink2 = pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not here")


@dataclass(frozen=True)
class FormatsCohort:
    """Where the files are; ``dosage`` is NaN where missing, of ALT, as written to the VCF."""

    folder: Path
    dosage: np.ndarray
    traits: np.ndarray
    covariates: np.ndarray

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the people."""
        return tuple(f"p{i}" for i in range(self.dosage.shape[1]))


def plink2(folder: Path, *options: str) -> None:
    """Run PLINK 2 in a folder."""
    command = ["plink2", "--threads", "1", "--memory", "640", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]


def write_vcf(
    path: Path, dosage: np.ndarray, *, calls: bool = False, chromosome: str = "1"
) -> None:
    """Write dosages as DS beside rounded GT, or the calls alone."""
    m, n = dosage.shape
    lines = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID={chromosome}>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Call">',
        '##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
                  + [f"p{i}" for i in range(n)]),
    ]  # fmt: skip
    text = {0: "0/0", 1: "0/1", 2: "1/1"}
    for row in range(m):
        cells = []
        for value in dosage[row]:
            if np.isnan(value):
                cells.append("./." if calls else "./.:.")
            else:
                call = text[int(np.rint(value))]
                cells.append(call if calls else f"{call}:{value:.4f}")
        form = "GT" if calls else "GT:DS"
        lines.append(
            "\t".join(["1", str(row + 1), f"rs{row}", "G", "A", ".", ".", ".", form, *cells])
        )
    path.write_text("\n".join(lines) + "\n")


def make_cohort(folder: Path, *, m: int = 40, n: int = 150, seed: int = 5) -> FormatsCohort:
    """Dosages and calls in VCF, pgen and bgen; traits and covariates for PLINK 2."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.05, 0.95, (m, 1))
    calls = rng.binomial(2, frequency, (m, n)).astype(float)
    blurred = np.clip(calls + rng.normal(0, 0.25, (m, n)) * (rng.random((m, n)) < 0.6), 0, 2)
    dosage = np.round(blurred, 4)
    dosage[rng.random((m, n)) < 0.01] = np.nan
    write_vcf(folder / "dosage.vcf", dosage)
    write_vcf(folder / "calls.vcf", np.where(np.isnan(dosage), np.nan, calls), calls=True)
    plink2(folder, "--vcf", "dosage.vcf", "dosage=DS", "--make-pgen", "--out", "dosage")
    plink2(folder, "--vcf", "calls.vcf", "--make-pgen", "--out", "calls")
    plink2(folder, "--pfile", "calls", "--make-bed", "--out", "calls")
    for name in ("dosage", "calls"):
        export = ["--export", "bgen-1.2", "ref-first", "bits=8", "id-paste=iid"]
        plink2(folder, "--pfile", name, *export, "--out", name)
    covariates = rng.standard_normal((n, 2))
    covariates[:, 0] += np.nan_to_num(dosage[0], nan=1)
    traits = rng.standard_normal((n, 2)) + covariates[:, :1]
    traits[:, 1] += 0.4 * np.nan_to_num(dosage[3], nan=1)
    for name, values in (("traits", traits), ("covariates", covariates)):
        header = ["#IID", *(f"{name[0]}{i}" for i in range(values.shape[1]))]
        rows = [[f"p{i}", *(f"{v:.17g}" for v in row)] for i, row in enumerate(values)]
        text = "\n".join("\t".join(row) for row in [header, *rows]) + "\n"
        (folder / f"{name}.txt").write_text(text)
    return FormatsCohort(folder, dosage, traits, covariates)

"""GWAS-SSF: the rules of the standard, its metadata, and the programs that read our tables."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from imgwas_cli.main import run

from imgwas.sumstats import export, open_sumstats, validate_gwas_ssf
from tests.store_fixture import random_fixture, write

HEADER = [
    "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta",
    "standard_error", "effect_allele_frequency", "neg_log_10_p_value", "variant_id", "n",
]  # fmt: skip
LEGAL = {
    "effect_allele": "A", "other_allele": "GT", "beta": "-1e-3", "standard_error": "0.02",
    "effect_allele_frequency": "0.5", "neg_log_10_p_value": "412.5", "p_value": "3e-412",
    "n": "5000", "info": "0.9", "rsid": "rs1",
}  # fmt: skip
AUTOSOMES = [str(i) for i in range(1, 23)]


def table(path, *, header=HEADER, chromosomes=AUTOSOMES, **cells):
    """A legal table with two rows per chromosome, except where cells are replaced."""
    lines = ["\t".join(header)]
    for chromosome in chromosomes:
        for position in (100, 200):
            row = LEGAL | {
                "chromosome": chromosome,
                "base_pair_location": position,
                "variant_id": f"{chromosome}_{position}_GT_A",
            }
            lines.append("\t".join(str((row | cells)[name]) for name in header))
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def with_p(name="p_value"):
    return [name if h == "neg_log_10_p_value" else h for h in HEADER]


@pytest.mark.parametrize(
    ("header", "given"),
    [
        (HEADER, {}),
        (with_p(), {}),
        (HEADER, {"chromosomes": ["23"]}),
        (HEADER, {"chromosomes": [*AUTOSOMES, "25"]}),
        ([*HEADER, "rsid", "info"], {"rsid": "#NA", "info": "#NA"}),
        (HEADER, {"effect_allele": "LONG_STRING"}),
        ([*HEADER, "anything"], {"anything": "else"}),
    ],
)
@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_legal_tables(tmp_path, header, given, suffix):
    assert validate_gwas_ssf(table(tmp_path / f"x{suffix}", header=header, **given),
                             minimum_rows=2) == []  # fmt: skip


@pytest.mark.parametrize(
    ("header", "given", "fragment"),
    [
        (HEADER, {"chromosomes": [*AUTOSOMES[:20], "22"]}, "chromosomes 21 are missing"),
        (HEADER, {"chromosomes": [*AUTOSOMES, "X"]}, r"chromosome is wrong in 2 .* line 46"),
        (HEADER, {"base_pair_location": "0"}, "base_pair_location is wrong in 44 rows"),
        (HEADER, {"effect_allele": "I"}, "effect_allele is wrong"),
        (HEADER, {"other_allele": "<DEL>"}, "other_allele is wrong"),
        (HEADER, {"beta": "#NA"}, r"beta is wrong .* '#NA'"),
        (HEADER, {"standard_error": ""}, "standard_error is wrong"),
        (HEADER, {"effect_allele_frequency": "1.2"}, "effect_allele_frequency is wrong"),
        (HEADER, {"neg_log_10_p_value": "-1"}, "neg_log_10_p_value is wrong"),
        (with_p(), {"p_value": "0"}, "p_value is wrong"),
        (with_p(), {"p_value": "0.0e-5"}, "p_value is wrong"),
        (with_p(), {"p_value": "1.5"}, "p_value is wrong"),
        (HEADER, {"variant_id": "1:123:A:G"}, "variant_id is wrong"),
        (HEADER, {"n": "5e3"}, "n is wrong"),
        ([*HEADER, "rsid"], {"rsid": "ss7"}, "rsid is wrong"),
        (["base_pair_location", "chromosome", *HEADER[2:]], {}, "column 1 is base_pair_location"),
        (HEADER[:4] + HEADER[5:], {}, "column 5 is standard_error, not beta or odds_ratio"),
        (HEADER[:7], {}, "column 8 is absent, not p_value or neg_log_10_p_value"),
    ],
)  # fmt: skip
def test_illegal_tables(tmp_path, header, given, fragment):
    problems = validate_gwas_ssf(table(tmp_path / "x.tsv", header=header, **given), minimum_rows=2)
    assert len(problems) == 1
    assert re.search(fragment, problems[0]), problems


def test_too_few_rows_and_wrong_names(tmp_path):
    path = table(tmp_path / "x.tsv")
    assert validate_gwas_ssf(path) == ["44 rows; at least 100,000 are needed"]
    path.rename(tmp_path / "x.txt")
    assert "ends neither in" in validate_gwas_ssf(tmp_path / "x.txt")[0]
    assert "is no table" in validate_gwas_ssf(tmp_path / "absent.tsv")[0]
    (tmp_path / "empty.tsv").write_text("")
    assert "is no table" in validate_gwas_ssf(tmp_path / "empty.tsv")[0]
    (tmp_path / "header.tsv").write_text("\t".join(HEADER) + "\n")
    problems = validate_gwas_ssf(tmp_path / "header.tsv", minimum_rows=1)
    assert problems[-1].startswith("0 rows")


@pytest.fixture
def sumstats(tmp_path):
    made = random_fixture(
        tmp_path / "res", n_variants=2300, chromosomes=(*AUTOSOMES, "X"), dof=(29_000,)
    )
    made.t[100, 0] = 60.0
    made.reason[7, 0] = 1
    write(made, part_size=1000)
    return open_sumstats(made.folder)


@pytest.mark.parametrize("p_column", ["neglog10", "text"])
def test_our_tables_are_legal(sumstats, tmp_path, p_column):
    for written in export(sumstats, tmp_path / "out", p_column=p_column):
        assert validate_gwas_ssf(written.path, minimum_rows=2000) == []


def test_metadata_is_nested_and_says_what_is_known(sumstats, tmp_path):
    (written,) = export(
        sumstats, tmp_path / "out", latents="L1", genome_build="GRCh38", ancestry="European",
        trait_descriptions={"L1": "ventricular volume, latent 1"}, metadata={"sex": "combined"},
    )  # fmt: skip
    path = written.path.with_name("L1.tsv.gz-meta.yaml")
    content = yaml.safe_load(path.read_text())
    assert content["genome_assembly"] == "GRCh38"
    assert content["trait_description"] == ["ventricular volume, latent 1"]
    assert content["samples"][0] == {
        "sample_ancestry_category": ["European"], "sample_size": 29_022,
        "case_control_study": False,
    }  # fmt: skip
    assert content["sex"] == "combined"
    assert content["data_file_name"] == "L1.tsv.gz"
    assert content["data_file_md5sum"] == hashlib.md5(written.path.read_bytes()).hexdigest()
    assert content["adjusted_covariates"] == ["age", "sex"]
    assert content["minor_allele_freq_lower_limit"] == 0.01
    assert content["is_sorted"] is True
    assert content["file_type"] == "GWAS-SSF v1.0"


def test_metadata_that_the_catalog_will_miss_is_named(sumstats, tmp_path, caplog):
    export(sumstats, tmp_path / "out", latents="L1", ancestry="European")
    assert "the metadata lacks the genome build, which" in caplog.text


# --- the command --------------------------------------------------------------------------------


def test_command_writes_what_was_asked_for(sumstats, tmp_path, capsys):
    meta = tmp_path / "meta.yaml"
    meta.write_text("genotyping_technology: [Genome-wide genotyping array]\n")
    out = tmp_path / "out"
    code = run(["export", str(sumstats.folder), "--latent", "L0,L2", "--out", str(out), "--build",
                "GRCh37", "--ancestry", "European", "--trait", "cortex {latent}", "--meta",
                str(meta)])  # fmt: skip
    assert code == 0
    assert sorted(p.name for p in out.glob("*.gz")) == ["L0.tsv.gz", "L2.tsv.gz"]
    content = yaml.safe_load((out / "L2.tsv.gz-meta.yaml").read_text())
    assert content["trait_description"] == ["cortex L2"]
    assert content["genotyping_technology"] == ["Genome-wide genotyping array"]
    said = capsys.readouterr().err
    assert "wrote 2 tables with 4,598 rows" in said
    assert "left out 2 rows: MONOMORPHIC" in said


def test_command_refuses_in_one_sentence(sumstats, tmp_path, capsys):
    base = ["export", str(sumstats.folder), "--out", str(tmp_path / "out")]
    assert run([*base, "--latent", "L0x"]) == 8
    assert "no latent 'L0x'" in capsys.readouterr().err
    assert run([*base, "--latent", "flat"]) == 13
    assert run([*base, "--format", "vcf"]) == 8
    assert run([*base, "--meta", str(tmp_path / "absent.yaml")]) == 3
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert run([*base, "--meta", str(tmp_path / "list.yaml")]) == 6
    assert run([*base, "--rsid-map", str(tmp_path / "absent.txt")]) == 3
    assert run(["export", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    assert "is not the folder of a scan" in capsys.readouterr().err


def test_command_marks_an_unfinished_run(sumstats, tmp_path, capsys):
    (sumstats.folder / "RUN_COMPLETE.json").unlink()
    (sumstats.folder / "parts" / "part-00001.ok.json").unlink()
    command = ["export", str(sumstats.folder), "--out", str(tmp_path / "out"), "--latent", "L0"]
    assert run(command) == 20
    assert "2 of 3 parts done" in capsys.readouterr().err
    assert run([*command, "--allow-partial", "--plain"]) == 0
    assert (tmp_path / "out" / "L0.partial.tsv").exists()


def test_verify_command(sumstats, capsys):
    from imgwas_cli.verify import verify

    assert verify.main([str(sumstats.folder)], standalone_mode=False) is None
    assert "is whole: 3 of 3 parts" in capsys.readouterr().out
    content = bytearray(sumstats.parts[0].read_bytes())
    content[300] ^= 1
    sumstats.parts[0].write_bytes(content)
    with pytest.raises(ValueError, match=r"1 of 3 parts .* are damaged"):
        verify.main([str(sumstats.folder)], standalone_mode=False)


# --- programs that read our tables, where they are at hand ---------------------------------------


def program(name, variable):
    """Path of a program on the PATH, or named by an environment variable."""
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not here (set {variable})")
    return found


def told(command, cwd):
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("p_column", ["neglog10", "text"])
def test_the_catalogs_own_validator_accepts(sumstats, tmp_path, p_column):
    validator = program("gwas-ssf", "IMGWAS_GWAS_SSF")
    (written,) = export(sumstats, tmp_path / "out", latents="L0", p_column=p_column)
    said = told([validator, "validate", "-m", 1000, written.path.name], written.path.parent)
    assert "Validation status: True" in said, said


@pytest.mark.parametrize(("p_column", "heading"), [("text", "P"), ("neglog10", "NEG_LOG10_P")])
def test_plink2_reads_our_table(sumstats, tmp_path, p_column, heading):
    plink2 = program("plink2", "IMGWAS_PLINK2")
    (written,) = export(sumstats, tmp_path / "out", latents="L0", format="plink2",
                        p_column=p_column)  # fmt: skip
    form = ["input-log10"] if p_column == "neglog10" else []
    said = told([plink2, "--adjust-file", written.path.name, "test=ADD", *form, "log10",
                 "--adjust-p-field", heading, "--out", "a"], written.path.parent)  # fmt: skip
    assert "(2299 tests)" in said, said
    first = (written.path.parent / "a.adjusted").read_text().splitlines()[1].split()
    frame = sumstats.latent("L0")
    assert first[1] == "rs100"
    assert float(first[3]) == pytest.approx(frame["neg_log_10_p_value"].max(), rel=1e-5)
    assert first[2] == frame["effect_allele"][100]


def test_ldsc_munges_our_table(sumstats, tmp_path):
    munge = program("munge_sumstats.py", "IMGWAS_MUNGE_SUMSTATS")
    (written,) = export(sumstats, tmp_path / "out", latents="L1", format="exchange",
                        compress=False)  # fmt: skip
    command = [munge, "--sumstats", written.path.name, "--out", "m", "--maf-min", "0"]
    said = told(command, written.path.parent)
    assert "Read 2299 SNPs" in said, said
    assert "Removed 0 SNPs with out-of-bounds p-values" in said
    text = gzip.decompress((written.path.parent / "m.sumstats.gz").read_bytes()).decode()
    rows = [line.split("\t") for line in text.splitlines()[1:] if line.count("\t") == 4]
    wanted = sumstats.latent("L1").set_index("variant_id")
    kept = [row for row in rows if row[3]]
    assert len(kept) > 1000
    for snp, a1, _, z, _ in kept[:200]:
        assert a1 == wanted.loc[snp, "effect_allele"]
        assert np.sign(float(z)) == np.sign(wanted.loc[snp, "beta"])


def test_gwaslab_reads_our_tables(sumstats, tmp_path):
    python = program("gwaslab-python", "IMGWAS_GWASLAB_PYTHON")
    for kind, name in (("gwas-ssf", "ssf"), ("exchange", "auto"), ("regenie", "regenie"),
                       ("plink2", "plink2")):  # fmt: skip
        (written,) = export(sumstats, tmp_path / kind, latents="L1", format=kind)
        script = (
            "import sys, gwaslab\n"
            "t = gwaslab.Sumstats(sys.argv[1], fmt=sys.argv[2], verbose=False).data\n"
            "t = t[t['POS'].astype(int) == 1100]\n"
            "row = t[t['CHR'].astype(str) == '3'].iloc[0]\n"
            "print('FOUND', row['EA'], row['NEA'], row['BETA'])\n"
        )
        said = told([python, "-c", script, written.path, name], tmp_path)
        found = said.split("FOUND", 1)[-1].split()
        row = sumstats.region(3, 1100, 1100, latents=["L1"]).iloc[0]
        assert found[:2] == [row["effect_allele"], row["other_allele"]], said
        assert float(found[2]) == pytest.approx(row["beta"], rel=1e-6)


def test_pandas_is_here_for_all_else(sumstats, tmp_path):
    import pandas as pd

    (written,) = export(sumstats, tmp_path, latents="L1", format="regenie")
    frame = pd.read_csv(Path(written.path), sep=" ")
    assert frame["BETA"].dtype == float
    assert frame["LOG10P"].to_numpy() == pytest.approx(
        sumstats.latent("L1")["neg_log_10_p_value"].dropna().to_numpy(), rel=1e-6
    )

"""Bad inputs through the command line: exit code, message, nothing that looks like a result.

Each case damages one thing in a good cohort. The names in brackets are those of the fault tables
that the project is built against: A genotypes, C tables, D latents, G statistics, H command line.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.cli_cohort import (
    M,
    N,
    edit,
    edit_line,
    imgwas,
    people,
    set_column,
    write_bed,
    write_cohort,
)

Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A damage, and how the command must end."""

    name: str
    code: int
    message: str
    damage: Damage = lambda folder: None
    options: list[str] = field(default_factory=list)
    replace: bool = False  # whether ``options`` are the whole command line


def truncate(path: Path, n: int) -> None:
    path.write_bytes(path.read_bytes()[:n])


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def bytes_of(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def drop_fam_row(folder: Path) -> None:
    """Keep the number of bytes a variant takes, lose a person (N = 41, so 42 and 43 fit too)."""
    dosage = np.random.default_rng(0).binomial(2, 0.5, (M, N + 1)).astype(float)
    write_bed(folder, dosage)


def repeat_iids(folder: Path) -> None:
    edit(folder / "cohort.fam", people()[3], people()[2])


def two_filesets(folder: Path) -> None:
    for chromosome in (1, 2):
        for suffix in ("bed", "bim", "fam"):
            content = (folder / f"cohort.{suffix}").read_bytes()
            (folder / f"chr{chromosome}.{suffix}").write_bytes(content)
    lines = (folder / "chr2.fam").read_text().splitlines()
    lines[4], lines[5] = lines[5], lines[4]
    (folder / "chr2.fam").write_text("\n".join(lines) + "\n")


def latents_with(name: str, values: object) -> Damage:
    return lambda folder: set_column(folder / "latents.tsv", name, values)


def covariate(name: str, values: object) -> Damage:
    return lambda folder: set_column(folder / "covar.tsv", name, values)


def all_constant(folder: Path) -> None:
    for name in ("z0", "z1", "z2"):
        set_column(folder / "latents.tsv", name, "1.5")


def latents_as(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def few_people(n: int) -> Damage:
    def damage(folder: Path) -> None:
        lines = (folder / "latents.tsv").read_text().splitlines()
        (folder / "latents.tsv").write_text("\n".join(lines[: n + 1]) + "\n")

    return damage


def rename_people(rule: Callable[[str], str]) -> Damage:
    def damage(folder: Path) -> None:
        table = pd.read_csv(folder / "latents.tsv", sep="\t", dtype=str)
        table["IID"] = [rule(i) for i in table["IID"]]
        table.to_csv(folder / "latents.tsv", sep="\t", index=False)

    return damage


def truncated_parquet(folder: Path) -> None:
    pd.DataFrame({"IID": people(), "z0": range(N)}).to_parquet(folder / "latents.parquet")
    truncate(folder / "latents.parquet", 500)


def flipped_parquet(folder: Path) -> None:
    path = folder / "latents.parquet"
    frame = pd.DataFrame({"IID": people(), "z0": np.arange(N) / 7})
    frame.to_parquet(path, compression=None, write_page_checksum=True, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(20 / 7).tobytes()) + 3] ^= 0x10
    path.write_bytes(content)


def float_ids(folder: Path) -> None:
    pd.DataFrame({"IID": np.arange(N) * 1.0, "z0": range(N)}).to_parquet(folder / "latents.parquet")


def other_run(folder: Path) -> None:
    good = imgwas(*COMMAND, folder=folder)
    assert good.code == 0, good.text
    (folder / "out" / "RUN_COMPLETE.json").unlink()


COMMAND = [
    *("associate", "--bfile", "cohort", "--latents", "latents.tsv"),
    *("--covar", "covar.tsv", "--out", "out"),
]
BED, BIM, FAM = "cohort.bed", "cohort.bim", "cohort.fam"
BYTES = 3 + M * 11

CASES = [
    # --- genotypes
    Case("A1 bed cut short", 6, r"cut short: it has 225 bytes.*take 333.*number 20",
         lambda f: truncate(f / BED, 225)),
    Case("A2 bed too long", 6, r"is 5 bytes too long", lambda f: append(f / BED, b"\0" * 5)),
    Case("A3 fam lost people", 7, r"cohort.fam has 41 people, but .* hold data after the last",
         drop_fam_row),
    Case("A5 bim of another bed", 7, r"cohort.bim has 29 variants, but .*cohort.bed holds 30",
         lambda f: edit(f / BIM, "3\trs29\t0\t1290\tA\tG\n", "")),
    Case("A6 bed empty", 6, r"cohort.bed is empty", lambda f: bytes_of(f / BED, b"")),
    Case("A6 bed sample-major", 6, r"sample-major.*plink --bfile cohort --make-bed",
         lambda f: bytes_of(f / BED, b"\x6c\x1b\x00" + bytes(BYTES - 3))),
    Case("A6 bed of unknown bytes", 6, r"begins with the bytes 41 42 43.*6c 1b 01",
         lambda f: bytes_of(f / BED, b"ABC" + bytes(BYTES - 3))),
    Case("A6 bed with a header only", 6, r"holds a header and no variant",
         lambda f: truncate(f / BED, 3)),
    Case("A7 bed is gzip", 6, r"is a gzip file: unpack it first",
         lambda f: bytes_of(f / BED, gzip.compress(b"x" * 100))),
    Case("A7 bed is an LFS pointer", 6, r"Git LFS pointer.*git lfs pull",
         lambda f: bytes_of(f / BED, b"version https://git-lfs.github.com/spec/v1\n")),
    Case("A7 bim is a web page", 6, r"cohort.bim is an HTML page",
         lambda f: bytes_of(f / BIM, b"<!DOCTYPE html><html></html>")),
    Case("A8 fam has five columns", 6, r"cohort.fam:1 has 5 fields. 6 are needed",
         lambda f: bytes_of(f / FAM, b"F0 person1000 0 0 1\n" * N)),
    Case("A8 last line of fam short", 6, r"cohort.fam:41 has 4 fields",
         lambda f: edit_line(f / FAM, 41, f"F40\t{people()[40]}\t0\t0")),
    Case("A8 blank line inside bim", 6, r"cohort.bim:3 has 0 fields",
         lambda f: edit(f / BIM, "1\trs2\t", "\n1\trs2\t")),
    Case("A10 IID twice, tables without FID", 7,
         r"1 sample ids occur more than once.*latents.*no family id", repeat_iids),
    Case("A13 bytes that are not UTF-8", 6, r"cohort.fam:1 holds a byte that is not UTF-8.*iconv",
         lambda f: bytes_of(f / FAM, (f / FAM).read_bytes().replace(b"F0", b"F\xe9"))),
    Case("A14 position is text", 6, r"cohort.bim:5 has the position '12k'",
         lambda f: edit(f / BIM, "\t1040\t", "\t12k\t")),
    Case("A14 position negative", 6, r"has the position '-7'",
         lambda f: edit(f / BIM, "\t1040\t", "\t-7\t")),
    Case("A14 position too large", 6, r"has the position '99999999999'",
         lambda f: edit(f / BIM, "\t1040\t", "\t99999999999\t")),
    Case("A20 filesets of other people", 7, r"differ first in row 5 of the .fam", two_filesets,
         ["--bfile", "chr{chr}"]),
    Case("A23 no such fileset", 3, r"nowhere.bed.*not found.*tried nowhere.bed, nowhere.bim",
         options=["--bfile", "nowhere"]),
    Case("A23 fam absent", 3, r"cohort.fam not found", lambda f: (f / FAM).unlink()),
    Case("effect allele of no variant", 7, r"names an allele that 1 variants do not have.*rs3",
         lambda f: bytes_of(f / "alleles.txt", b"rs3 T\n"), ["--effect-allele", "alleles.txt"]),
    Case("no variant on that chromosome", 13, r"no variant is on chromosome 21.*the file has 1, 2",
         options=["--chr", "21"]),
    Case("--extract names strangers", 13, r"none of the 2 variants of --extract",
         lambda f: bytes_of(f / "list.txt", b"rsA\nrsB\n"), ["--extract", "list.txt"]),
    Case("--keep names strangers", 7, r"none of the 2 ids of --keep",
         lambda f: bytes_of(f / "list.txt", b"q1\nq2\n"), ["--keep", "list.txt"]),
    Case("--remove takes everyone", 13, r"no sample is left.*--remove",
         lambda f: bytes_of(f / "list.txt", "\n".join(people()).encode()),
         ["--remove", "list.txt"]),
    # --- tables
    Case("C2 a field more than the header", 6, r"latents.tsv:2 has 5 fields. The header has 4",
         lambda f: edit(f / "latents.tsv", f"{people()[0]}\t", f"{people()[0]}\textra\t")),
    Case("C3 a row too short", 6, r"latents.tsv:11 has 3 fields",
         lambda f: edit_line(f / "latents.tsv", 11, f"{people()[9]}\t1\t2")),
    Case("C3 a blank line", 6, r"latents.tsv:7 is blank",
         lambda f: edit_line(f / "latents.tsv", 7, "")),
    Case("C5 cut in its last line", 6, r"latents.tsv:42, the last line, has 2 fields.*cut short",
         lambda f: edit_line(f / "latents.tsv", 42, f"{people()[40]}\t0.1")),
    Case("C5 gzip cut short", 6, r"damaged or truncated gzip",
         lambda f: bytes_of(f / "latents.tsv",
                            gzip.compress((f / "latents.tsv").read_bytes())[:-20])),
    Case("C7 NUL byte", 6, r"latents.tsv:2 holds a NUL byte",
         lambda f: edit(f / "latents.tsv", people()[0], people()[0][:-1] + "\0")),
    Case("C7 zero-width space", 6, r"latents.tsv:2 holds a zero-width space \(U\+200B\)",
         lambda f: edit(f / "latents.tsv", people()[0], people()[0] + "\u200b")),
    Case("C7 typographic minus", 6, r"typographic minus sign \(U\+2212\)",
         lambda f: edit(f / "latents.tsv", "\t-", "\t\u2212")),
    Case("C8 decimal comma", 6, r"latents.tsv:3 has '2,5' in column z1.*decimal comma",
         lambda f: edit_line(f / "latents.tsv", 3, f"{people()[1]}\t1\t2,5\t0")),
    Case("C9 a column twice", 6, r"the header names z0 more than once",
         lambda f: edit(f / "latents.tsv", "z1", "z0")),
    Case("C10 no header", 6, r"no id column \(its first line holds numbers.*--id-column",
         lambda f: edit(f / "latents.tsv", "IID\tz0\tz1\tz2\n", "")),
    Case("C11 a person twice", 7, r"the latents hold 1 rows whose sample id came before",
         lambda f: append(f / "latents.tsv", f"{people()[4]}\t1\t2\t3\n".encode())),
    Case("C12 -9 among its neighbours", 6, r"latents.tsv.*z0.*-9.*neg9",
         lambda f: (edit_line(f / "latents.tsv", 3, f"{people()[1]}\t-9\t1\t1"),
                    edit_line(f / "latents.tsv", 4, f"{people()[2]}\t-9.4\t1\t1")),
         ["--pheno", "latents.tsv"]),
    Case("C13 text among numbers", 6, r"latents.tsv:3 has 'Not known' in column z1.*--categorical",
         lambda f: edit_line(f / "latents.tsv", 3, f"{people()[1]}\t1\tNot known\t0")),
    Case("C13 infinite", 6, r"column z1 is infinite in 1 rows \(first: data row 2\)",
         lambda f: edit_line(f / "latents.tsv", 3, f"{people()[1]}\t1\tinf\t0")),
    Case("C13 a date of a spreadsheet", 6, r"latents.tsv:3 has '2-Mar' in column z1",
         lambda f: edit_line(f / "latents.tsv", 3, f"{people()[1]}\t1\t2-Mar\t0")),
    Case("C13 digits grouped by underscores", 6, r"'1_000'",
         lambda f: edit_line(f / "latents.tsv", 3, f"{people()[1]}\t1\t1_000\t0")),
    Case("C14 column misspelt", 8, r"has no column 'agee'.*age",
         options=["--covar-name", "agee"]),
    Case("C14 latent misspelt", 8, r"has no column 'z9'", options=["--latent-name", "z9"]),
    Case("C14 id column misspelt", 8, r"has no column 'EID'.*--id-column",
         options=["--id-column", "EID"]),
    Case("C15 too many levels", 13, r"column age has 4\d levels.*--max-levels",
         options=["--categorical", "age", "--max-levels", "10"]),
    Case("C16 covariate missing for all", 13, r"age is missing for 41 of 41 samples.*because of it",
         covariate("age", "NA")),
    Case("C17 nobody matches", 7, r"0 of 41 samples of the latents are among.*first:",
         rename_people(lambda i: f"q{i[-3:]}x")),
    Case("C17 a prefix too many", 7, r"41 would match if the prefix 'sub-' were removed",
         rename_people(lambda i: f"sub-{i}")),
    Case("C18 fewer than half match", 7, r"8 of 41 samples.*At least 50%.*--min-overlap",
         rename_people(lambda i: i if int(i[6:]) < 1050 else f"q{i}")),
    Case("C22 a spreadsheet", 6, r"an Excel or zip file: save it as CSV",
         latents_as("latents.tsv", b"PK\x03\x04" + bytes(200))),
    Case("C22 an R data file", 6, r"an R data file", latents_as("latents.tsv", b"RDX3\n")),
    Case("C22 UTF-16", 6, r"UTF-16 text", latents_as("latents.tsv", "IID\tz0\n".encode("utf-16"))),
    Case("table is empty", 6, r"latents.tsv is empty", latents_as("latents.tsv", b"\n\n")),
    Case("table has a header only", 6, r"has a header and no rows",
         latents_as("latents.tsv", b"IID\tz0\n")),
    Case("table has ids only", 6, r"has ids and no other column",
         latents_as("latents.tsv", "\n".join(["IID", *people()]).encode())),
    Case("table absent", 3, r"latents.tsv does not exist", lambda f: (f / "latents.tsv").unlink()),
    Case("table is a folder", 8, r"latents.*is a directory",
         lambda f: ((f / "latents.tsv").unlink(), (f / "latents.tsv").mkdir())),
    Case("D1 numpy array", 6, r"a NumPy array, which carries no sample ids",
         latents_as("latents.npy", b"\x93NUMPY\x01\x00" + bytes(100)),
         ["--latents", "latents.npy"]),
    Case("D3 pickle", 21, r"a Python pickle, which can run code",
         latents_as("latents.pkl", b"\x80\x04\x95" + bytes(50)), ["--latents", "latents.pkl"]),
    Case("D7 Parquet cut short", 6, r"is not a whole Parquet file", truncated_parquet,
         ["--latents", "latents.parquet"]),
    Case("D7 Parquet with a flipped bit", 6, r"latents.parquet is (damaged|not a whole)",
         flipped_parquet, ["--latents", "latents.parquet"]),
    Case("C1 ids became floating-point", 6, r"id column IID holds floating-point numbers",
         float_ids, ["--latents", "latents.parquet"]),
    # --- statistics
    Case("G3 every latent constant", 13, r"none of the 3 latents can be tested.*constant",
         all_constant),
    Case("G5 more covariates than people", 13, r"samples are left for a model of",
         few_people(4)),
    Case("G6 latents all missing", 13, r"none of the 1 latents.*every value is missing",
         lambda f: (f / "latents.tsv").write_text(
             "IID\tz0\n" + "".join(f"{i}\tNA\n" for i in people()))),
    # --- command line
    Case("H1 unknown option", 8, r"No such option.*--latents", options=["--latnets", "x"]),
    Case("H1 an option of REGENIE", 8, r"no option --phenoFile here: use --pheno",
         options=["--phenoFile", "x"]),
    Case("H1 unknown command", 8, r"no command 'asociate'.*associate",
         options=["asociate"], replace=True),
    Case("H1 formula with a misspelt name", 8, r"formula names 'aeg'.*age",
         options=["--formula", "aeg + sex"]),
    Case("H1 formula that is code", 8, r"the formula .* cannot be read: .* not part of a formula",
         options=["--formula", "__import__('os').system('true')"]),
    Case("H1 formula with a huge power", 8, r"a power is a whole number from 1 to 6",
         options=["--formula", "age^99"]),
    Case("H3 --maf above a half", 8, r"--maf.*5.*0<=x<=0.5", options=["--maf", "5"]),
    Case("H3 no threads", 8, r"--threads.*0.*range", options=["--threads", "0"]),
    Case("H3 chromosome range backwards", 8, r"has the range '9-2'", options=["--chr", "9-2"]),
    Case("H1 genotypes named twice", 8, r"Name the genotypes by one .*--bfile and --bed is given",
         options=["--bed", "cohort.bed"]),
    Case("H1 no latents", 8, r"--latents FILE or by --pheno FILE",
         options=["associate", "--bfile", "cohort", "--out", "out"], replace=True),
    Case("H1 no --out", 8, r"Missing option '--out'",
         options=COMMAND[:5], replace=True),
    Case("H1 formula without covariates", 8, r"--formula needs --covar",
         options=[*COMMAND[:5], "--formula", "age", "--out", "out"], replace=True),
    Case("H1 cluster started and joined", 8, r"--workers starts a cluster and --scheduler joins",
         options=["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"]),
    Case("H4 --out is a file", 8, r"--out out is a file",
         lambda f: (f / "out").write_text("mine")),
    Case("H4 another run in --out", 7, r"other inputs or settings.*maf was null, now 0.1",
         other_run, ["--maf", "0.1"]),
    Case("nothing to resume", 7, r"holds no run to resume", options=["--resume"]),
]  # fmt: skip


def command_of(case: Case) -> list[str]:
    """The good command with the case's options in place of its own or beside them."""
    if case.replace:
        return case.options
    command = list(COMMAND)
    for option, others in (("--bfile", {"--bfile"}), ("--latents", {"--latents", "--pheno"})):
        if others & set(case.options):
            at = command.index(option)
            del command[at : at + 2]
    return [*command, *case.options]


@pytest.fixture
def cohort(tmp_path):
    write_cohort(tmp_path)
    return tmp_path


def test_the_undamaged_cohort_is_good(cohort):
    done = imgwas(*COMMAND, folder=cohort)
    assert done.code == 0, done.text
    assert (cohort / "out" / "RUN_COMPLETE.json").exists()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(cohort, case):
    case.damage(cohort)
    done = imgwas(*command_of(case), folder=cohort)
    assert done.code == case.code, done.text
    assert re.search(case.message, done.text, re.DOTALL), done.text
    assert "Traceback" not in done.text
    assert not (cohort / "out" / "RUN_COMPLETE.json").exists()
    check_nobody_is_named(cohort, done.text)


def check_nobody_is_named(folder: Path, text: str) -> None:
    """No id in full, neither on the terminal nor in a log."""
    logs = (folder / "out").glob("log-*.txt") if (folder / "out").is_dir() else []
    said = text + "".join(path.read_text() for path in logs)
    assert not [i for i in people() if i in said]


def test_there_are_at_least_forty_faults():
    assert len({case.name for case in CASES}) == len(CASES) >= 80


@pytest.mark.parametrize("name", ["A1 bed cut short", "C8 decimal comma", "H1 unknown option"])
def test_bad_input_in_a_real_process(cohort, name):
    case = next(case for case in CASES if case.name == name)
    case.damage(cohort)
    done = subprocess.run(
        [sys.executable, "-m", "imgwas_cli.main", *command_of(case)],
        cwd=cohort,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == case.code
    assert re.search(case.message, done.stderr, re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr


def test_read_only_folder_is_a_write_error(cohort, monkeypatch):
    """Root may write anywhere, so the refusal of the system is put in its place."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = imgwas(*COMMAND, folder=cohort)
    assert done.code == 5
    assert "may not be written" in done.text or "Permission denied" in done.text


def test_the_log_has_the_traceback_and_the_terminal_has_not(cohort):
    edit(cohort / "cohort.bim", "\t1040\t", "\t12k\t")
    done = imgwas(*COMMAND, folder=cohort)
    assert "Traceback" not in done.text
    log = (cohort / "out" / "log-1.txt").read_text()
    assert "MalformedError" in log
    assert "12k" in log


def test_an_internal_error_says_so(cohort, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("imgwas.association.scan.build_design", fail)
    done = imgwas(*COMMAND, folder=cohort)
    assert done.code == 60
    assert "internal error: ZeroDivisionError: planted" in done.text
    assert "report it" in done.text


def test_out_of_memory_says_so(cohort, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("planted")

    monkeypatch.setattr("imgwas.association.scan.build_design", fail)
    assert imgwas(*COMMAND, folder=cohort).code == 2

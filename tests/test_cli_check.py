"""``imgwas check`` finds every problem at once, in the words of the scan, and writes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import imgwas
from imgwas.association import checking
from imgwas.errors import RefusedError
from tests.cli_cohort import edit, edit_line, people, set_column, write_cohort
from tests.cli_cohort import imgwas as command_line
from tests.filesets import random_dosage, write_fileset
from tests.test_cli_bad_inputs import CASES, COMMAND, command_of, repeat_iids

CHECK = ["check", *COMMAND[1:]]
#: cases that need a second run, or are about an option that check does not need
OTHERS = {"H4 another run in --out", "H1 no --out", "H1 unknown command"}


@pytest.fixture
def cohort(tmp_path):
    write_cohort(tmp_path)
    return tmp_path


def everything_in(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_a_good_cohort_has_a_funnel_and_no_problem(cohort):
    before = everything_in(cohort)
    done = command_line(*CHECK, folder=cohort)
    assert done.code == 0
    assert "no problem found" in done.text
    assert re.search(r"variants chosen +30\n", done.text)
    assert re.search(r"samples kept +41\n", done.text)
    assert everything_in(cohort) == before


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name not in OTHERS], ids=lambda case: case.name
)
def test_every_bad_input_is_found_with_the_code_and_words_of_the_scan(cohort, case):
    case.damage(cohort)
    before = everything_in(cohort)
    words = command_of(case)
    done = command_line("check", *words[1:], folder=cohort)
    assert done.code == case.code, done.text
    assert re.search(case.message, done.text, re.DOTALL), done.text
    assert "internal error" not in done.text
    assert everything_in(cohort) == before
    assert not [one for one in people() if one in done.text]


def six_faults(folder: Path) -> None:
    edit(folder / "cohort.bim", "\t1040\t", "\t12k\t")
    edit_line(folder / "cohort.fam", 7, "F6 short")
    edit_line(folder / "latents.tsv", 3, f"{people()[1]}\t1\t2,5\tn.a.")
    set_column(folder / "covar.tsv", "age", "old7")
    (folder / "keep.txt").write_bytes(b"a b\nc\n")


def test_six_faults_in_five_files_are_six_problems(cohort):
    six_faults(cohort)
    done = command_line(*CHECK, "--keep", "keep.txt", "--json", folder=cohort)
    found = json.loads(done.text)
    said = [problem["message"] for problem in found["problems"]]
    wanted = [r"cohort.bim:5 .*'12k'", r"cohort.fam:7 has 2 fields", r"latents.tsv:3 has '2,5'",
              r"latents.tsv:3 has 'n.a.' in column z2", r"covar.tsv:2 has 'old7'",
              r"keep.txt:2 has one field"]  # fmt: skip
    assert len(said) == 6
    for pattern in wanted:
        assert sum(bool(re.search(pattern, one)) for one in said) == 1, pattern
    assert found["exit_code"] == done.code == 6
    assert not (cohort / "out").exists()


def test_tables_are_matched_although_a_line_is_damaged(cohort):
    """Ragged lines, a bad number, and people of another cohort: three problems of one table."""
    table = (cohort / "latents.tsv").read_text().replace("person", "other")
    (cohort / "latents.tsv").write_text(table)
    edit_line(cohort / "latents.tsv", 5, "other1\t1")
    edit_line(cohort / "latents.tsv", 9, "other2\t1")
    edit_line(cohort / "latents.tsv", 12, "other3\t1\tx\t3")
    report = imgwas.check_inputs(
        cohort / "cohort", latents=cohort / "latents.tsv", covariates=cohort / "covar.tsv"
    )
    said = report.to_pandas()
    assert list(said["source"]) == ["latents"] * 3 + ["people"]
    wanted = [r":5 has 2 fields", r"1 more lines .*first: 9", r":12 has 'x' in column z1",
              r"0 of 39 samples of the latents"]  # fmt: skip
    for pattern, message in zip(wanted, said["message"], strict=True):
        assert re.search(pattern, message), message
    assert report.exit_code == 6


def test_two_tables_of_other_people_are_two_problems(cohort):
    for name in ("latents.tsv", "covar.tsv"):
        text = (cohort / name).read_text().replace("person", "other")
        (cohort / name).write_text(text)
    done = command_line(*CHECK, folder=cohort)
    assert done.code == 7
    assert "samples of the latents are among" in done.text
    assert "samples of the covariates are among" in done.text


def test_two_misspelt_covariates_are_two_problems(cohort):
    done = command_line(*CHECK, "--covar-name", "agee,sexx,centre", folder=cohort)
    assert done.code == 8
    assert "1 of 2" in done.text
    assert "'agee'" in done.text
    assert "'sexx'" in done.text


def test_a_refusal_for_safety_decides_the_exit_code(cohort):
    edit(cohort / "cohort.bim", "\t1040\t", "\t12k\t")
    (cohort / "latents.pkl").write_bytes(b"\x80\x04\x95" + bytes(50))
    words = [word.replace("latents.tsv", "latents.pkl") for word in CHECK]
    done = command_line(*words, folder=cohort)
    assert "12k" in done.text
    assert done.code == RefusedError.exit_code


def test_every_fileset_of_a_pattern_is_looked_at(tmp_path):
    for chromosome in (1, 2, 3):
        write_fileset(tmp_path, random_dosage(4, 9), name=f"chr{chromosome}")
    edit(tmp_path / "chr1.bim", "\t2\t", "\ttwo\t")
    (tmp_path / "chr2.bed").write_bytes(b"ABC")
    edit(tmp_path / "chr3.fam", "p4", "q4")
    report = imgwas.check_inputs(tmp_path / "chr{chr}", latents=tmp_path / "none.tsv")
    said = [problem.message for problem in report.problems]
    for pattern in ("'two'", "begins with the bytes 41 42 43", "differ first in row 5", "none.tsv"):
        assert sum(pattern in one for one in said) == 1, said
    assert len(said) == 4


def test_no_more_than_fifty_problems(cohort):
    columns = "\t".join(f"z{i}" for i in range(70))
    rows = "".join(f"{one}\t" + "\t".join(["x"] * 70) + "\n" for one in people())
    (cohort / "latents.tsv").write_text(f"IID\t{columns}\n{rows}")
    report = imgwas.check_inputs(cohort / "cohort", latents=cohort / "latents.tsv")
    assert len(report.problems) == checking.MOST_PROBLEMS == 50


def test_full_reads_what_a_thousand_variants_do_not_show(tmp_path, monkeypatch):
    prefix = write_fileset(tmp_path, random_dosage(3000, 9))
    content = bytearray((tmp_path / "set.bed").read_bytes())
    looked_at = np.unique(np.linspace(0, 2999, checking.SOME_VARIANTS).astype(int))
    hidden = next(row for row in range(3000) if row not in looked_at)
    content[3 + 3 * hidden + 2] |= 0b11000000
    (tmp_path / "set.bed").write_bytes(content)
    rows = "".join(f"p{i}\t{i * 7 % 5}\n" for i in range(9))
    (tmp_path / "z.tsv").write_text("IID\tz\n" + rows)
    some = imgwas.check_inputs(prefix, latents=tmp_path / "z.tsv")
    assert some.problems == []
    full = imgwas.check_inputs(prefix, latents=tmp_path / "z.tsv", full=True)
    assert "hold data after the last" in full.problems[0].message
    assert full.exit_code == 7


def test_warnings_are_kept_and_the_place_of_results_is_looked_at(cohort, monkeypatch):
    set_column(cohort / "latents.tsv", "z1", "4")
    table = {"latents": cohort / "latents.tsv", "covariates": cohort / "covar.tsv"}
    report = imgwas.check_inputs(cohort / "cohort", out=cohort / "new" / "out", **table)
    assert report.problems == []
    assert any("latent z1 is not tested: constant" in line for line in report.warnings)
    assert dict(report.funnel)["latents to be tested"] == 2
    monkeypatch.setattr("os.access", lambda *_: False)
    report = imgwas.check_inputs(cohort / "cohort", out=cohort / "new" / "out", **table)
    assert report.exit_code == 5
    assert not (cohort / "new").exists()


def test_repeated_ids_are_told_once(cohort):
    repeat_iids(cohort)
    done = command_line(*CHECK, folder=cohort)
    assert done.code == 7
    assert done.text.count("occur more than once") == 1

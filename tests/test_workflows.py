"""The examples for SLURM, WDL and Nextflow do what they say, run as engines would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import WDL

import imgwas
from tests.cli_cohort import imgwas as command_line
from tests.fake_slurm import run_array
from tests.source_tree import ROOT

EXAMPLES = ROOT / "examples"
WDL_FILE = EXAMPLES / "wdl" / "associate.wdl"
NEXTFLOW = (EXAMPLES / "nextflow" / "main.nf").read_text()
SBATCH = EXAMPLES / "slurm" / "associate.sbatch"
SCAN = ["--latents", "latents.parquet", "--covar", "covariates.tsv"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cohort, its scan of ten parts, and a program called imgwas on the PATH."""
    home = tmp_path_factory.mktemp("home")
    imgwas.simulate_cohort(
        home, n_samples=97, n_variants=600, n_latents=4, n_causal=2, missing_latents=0.1, seed=14
    )
    words = ["associate", "--bfile", "cohort", *SCAN, "--part-size", "60"]
    done = command_line(*words, "--out", "clean", folder=home)
    assert done.code == 0, done.text
    return home


@pytest.fixture(autouse=True)
def program(tmp_path, monkeypatch):
    """The command line that is being tested, whatever is installed."""
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "imgwas"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m imgwas_cli.main "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


def bash(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def copy_inputs(home: Path, folder: Path) -> Path:
    """What an engine does for a task on another machine: copies, with times of their own."""
    folder.mkdir(parents=True)
    for name in ("cohort.bed", "cohort.bim", "cohort.fam", "latents.parquet", "covariates.tsv"):
        shutil.copyfile(home / name, folder / name)
    return folder


def test_the_wdl_is_valid_and_complete():
    document = WDL.load(str(WDL_FILE))
    assert [task.name for task in document.tasks] == ["share", "finish"]
    needed = {binding.name for binding in document.workflow.required_inputs}
    assert needed == {"bed", "bim", "fam", "latents"}


def wdl_command(name: str, inputs: dict[str, object], folder: Path) -> str:
    """The shell script that an engine makes of a task's command."""
    document = WDL.load(str(WDL_FILE))
    task = next(task for task in document.tasks if task.name == name)
    kinds = {one.name: one.type for one in task.inputs}
    values = WDL.Env.Bindings()
    for key, value in inputs.items():
        made = WDL.Value.from_json(kinds[key], value)
        values = values.bind(key, made)
    library = WDL.StdLib.Base("1.0", str(folder))
    return "".join(
        part if isinstance(part, str) else part.eval(values, library).value
        for part in task.command.parts
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", ["--part-size 60", "--part-size 60 --heritability"])
def test_the_wdl_gives_the_same_numbers(home, tmp_path, options):
    """Every call in a folder of its own with its own copy of the inputs, in any order."""
    shares = []
    for number in (3, 1, 2):
        folder = copy_inputs(home, tmp_path / f"share{number}")
        inputs = inputs_in(folder) | {"options": options, "number": number, "n_tasks": 3, "cpu": 1}
        bash(wdl_command("share", inputs, folder), folder)
        shares.append(str(folder / f"share-{number}.tar"))
    folder = copy_inputs(home, tmp_path / "finish")
    bash(wdl_command("finish", inputs_in(folder) | {"options": options, "shares": shares}, folder),
         folder)  # fmt: skip
    with tarfile.open(folder / "results.tar") as tar:
        assert not [name for name in tar.getnames() if "private" in name]
        tar.extractall(tmp_path / "out", filter="data")
    made = imgwas.open_sumstats(tmp_path / "out" / "results")
    assert made.digest() == imgwas.open_sumstats(home / "clean").digest()


def inputs_in(folder: Path) -> dict[str, object]:
    return {
        "bed": str(folder / "cohort.bed"), "bim": str(folder / "cohort.bim"),
        "fam": str(folder / "cohort.fam"), "latents": str(folder / "latents.parquet"),
        "covariates": str(folder / "covariates.tsv"),
    }  # fmt: skip


def nextflow_script(process: str, **values: object) -> str:
    """The script of a process with Groovy's ``${...}`` put in, as Nextflow writes .command.sh."""
    body = NEXTFLOW.split(f"process {process} {{")[1].split("\n}\n")[0]
    text = re.search(r'"""\n(.*?)"""', body, re.DOTALL)[1]
    text = text.replace("\\\\\n", "\\\n")
    for name, value in values.items():
        text = text.replace("${" + name.replace("__", ".") + "}", str(value))
    text = text.replace("${file(params.bfile).name}", "cohort").replace(r"\$", "$")
    assert "${" not in text, text
    return "set -ue\n" + text


@pytest.mark.slow
def test_the_nextflow_module_gives_the_same_numbers(home, tmp_path):
    """Scripts of both processes under bash; Nextflow itself is not run here."""
    common = {"latents": "latents.parquet", "covar": "--covar covariates.tsv",
              "params__options": "--part-size 60", "params__out": "results"}  # fmt: skip
    for number in (2, 1):
        folder = copy_inputs(home, tmp_path / f"share{number}")
        bash(nextflow_script("SHARE", number=number, params__tasks=2, task__cpus=1, **common),
             folder)  # fmt: skip
    folder = copy_inputs(home, tmp_path / "finish")
    for number in (1, 2):
        shutil.copy(tmp_path / f"share{number}" / f"share-{number}.tar", folder)
    bash(nextflow_script("FINISH", shares="share-1.tar share-2.tar", **common), folder)
    made = imgwas.open_sumstats(folder / "results")
    assert made.digest() == imgwas.open_sumstats(home / "clean").digest()


def test_nextflow_braces_and_processes():
    """A syntax check as far as one goes without Nextflow: balanced, and every process called."""
    code = re.sub(r'""".*?"""|"[^"\n]*"|\'[^\'\n]*\'|//[^\n]*', "", NEXTFLOW, flags=re.DOTALL)
    for left, right in ("{}", "()", "[]"):
        assert code.count(left) == code.count(right)
    for process in re.findall(r"process (\w+) \{", NEXTFLOW):
        assert f"{process}(" in NEXTFLOW.split("workflow {")[1]


def test_copies_of_the_genotypes_are_other_files_unless_told(home, tmp_path):
    first, second = (copy_inputs(home, tmp_path / name) for name in ("a", "b"))
    os.utime(second / "cohort.bed", (1, 1))
    words = ["associate", "--bfile", "cohort", *SCAN, "--part-size", "60", "--threads", "1"]
    more = ["--ignore-file-times"]
    for folder, part in ((first, "1/2"), (second, "2/2")):
        done = command_line(*words, *more, "--out", tmp_path / "out", "--part", part, folder=folder)
        assert done.code == 0, done.text
    made = imgwas.open_sumstats(tmp_path / "out")
    assert made.digest() == imgwas.open_sumstats(home / "clean").digest()
    command_line(*words, "--out", tmp_path / "strict", "--part", "1/2", folder=first)
    done = command_line(*words, "--out", tmp_path / "strict", "--part", "2/2", folder=second)
    assert done.code == 7
    assert "bed_mtime_ns was" in done.text


def test_the_array_script_is_the_one_in_the_manual():
    assert SBATCH.read_text() in (ROOT / "docs" / "scale.md").read_text()


@pytest.mark.slow
def test_the_array_script_under_kills_and_requeues(home, tmp_path, capsys):
    script = tmp_path / "associate.sbatch"
    script.write_text(SBATCH.read_text().replace("--array=1-20", "--array=1-6"))
    arguments = ["--bfile", "cohort", *SCAN, "--part-size", "60", "--out", str(tmp_path / "out")]
    count = run_array(script, arguments, home, at_once=3, kills=5, seed=2)
    with capsys.disabled():
        print("\n", count)
    assert count["kills"] == 5
    assert count["starts"] == 6 + 5
    assert count["failures"] == 0
    out = tmp_path / "out"
    if not (out / "RUN_COMPLETE.json").exists():  # the last task was killed while it finished
        bash(f"imgwas associate {' '.join(arguments)} --finish", home)
    assert imgwas.open_sumstats(out).digest() == imgwas.open_sumstats(home / "clean").digest()

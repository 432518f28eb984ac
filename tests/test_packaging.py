"""What is installed, what it pulls in, and that the README keeps its word."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from imgwas_cli.main import COMMANDS

import imgwas
from tests.source_tree import FOLDERS, ROOT, all_imports, imports_at_start, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: module -> distribution, where the names differ
DISTRIBUTION = {
    "PIL": "pillow", "SimpleITK": "simpleitk", "bed_reader": "bed-reader",
    "WDL": "miniwdl", "dask_jobqueue": "dask-jobqueue",
    "pandas_plink": "pandas-plink",
    "imageio_ffmpeg": "imageio-ffmpeg", "sklearn": "scikit-learn", "yaml": "pyyaml",
}  # fmt: skip

#: declared although nothing imports them by name
NOT_IMPORTED = {
    "cryptography": "distributed makes certificates with it",
    "dask": "distributed is its other half and wants the same version",
    "pandas-plink": "its tables and arrays are accepted by what they are, not by type",
    "imgwas": "the test environment has every extra",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
}

HEAVY = {
    "dask", "distributed", "matplotlib", "pandas", "scipy", "statsmodels", "torch", "tqdm", "yaml",
}  # fmt: skip
#: what a module may import when it is imported itself
LIGHT = {"click", "numpy", "pyarrow", "threadpoolctl", *FOLDERS.values()}


def names_of(requirements: list[str]) -> set[str]:
    """Distribution names of requirement lines."""
    return {re.split(r"[\s<>=!~\[;]", line, maxsplit=1)[0].lower() for line in requirements}


def extra(name: str) -> set[str]:
    """Distributions of an optional group."""
    return names_of(PROJECT["project"]["optional-dependencies"][name])


DECLARED = names_of(PROJECT["project"]["dependencies"])
EXTRA_NAMES = (
    "register",
    "dicom",
    "pgen",
    "vcf",
    "zarr",
    "film",
    "hdf5",
    "predict",
    "tensorboard",
    "slurm",
)
EXTRAS = set().union(*map(extra, EXTRA_NAMES))


def distributions(imports: dict[str, Path]) -> set[str]:
    """Distributions that hold some packages."""
    return {DISTRIBUTION.get(name, name) for name in imports}


def test_packages_are_the_folders_on_disk():
    on_disk = {
        ".".join((FOLDERS[path.parts[0]], *path.parts[1:-1]))
        for path in modules()
        if path.name == "__init__.py"
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == on_disk


def test_every_folder_of_code_is_a_package():
    for path in modules():
        assert (ROOT / path.parent / "__init__.py").exists(), path


def test_command_is_installed():
    (script,) = metadata.entry_points(group="console_scripts", name="imgwas")
    assert script.value == "imgwas_cli.main:console"
    assert callable(script.load())


def test_no_package_called_cli_is_installed():
    owners = metadata.packages_distributions()
    assert "imgwas" not in owners.get("cli", [])


def test_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert metadata.version("imgwas") == imgwas.__version__ == citation["version"]
    assert citation["license"] == PROJECT["project"]["license"] == "Apache-2.0"


def test_help_is_instant():
    """Help of every command in one process, so that whoever loads something heavy is named."""
    words = [["--version"], [], *([name] for name in COMMANDS), ["weights", "convert"],
             ["latents", "report"]]  # fmt: skip
    script = (
        "import sys; from imgwas_cli.main import run\n"
        f"for words in {words!r}:\n"
        "    code = run(words if '--version' in words else [*words, '--help'])\n"
        f"    loaded = {HEAVY!r} & {{name.split('.')[0] for name in sys.modules}}\n"
        "    if code or loaded: sys.exit(f'{words}: {code} {sorted(loaded)}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "imgwas" in done.stdout


@pytest.mark.parametrize("module", modules(), ids=str)
def test_importing_a_module_imports_little(module):
    """What a scan does not need is imported where it is used; networks are made of torch."""
    of_torch = module.is_relative_to("imgwas/encoders") or module.name == "device.py"
    light = LIGHT | ({"torch"} if of_torch else set())
    assert imports_at_start(module) - set(sys.stdlib_module_names) - light == set()


def test_every_dependency_is_used():
    unused = DECLARED - distributions(all_imports())
    assert unused == unused & set(NOT_IMPORTED), "no module imports these"


def test_every_import_is_declared():
    # jaxtyping is imported for type checkers and under pytest only, see imgwas/shapes.py
    assert distributions(all_imports()) - DECLARED - EXTRAS == {"jaxtyping"}


def test_every_extra_is_used_and_named_in_an_error():
    """tensorboard is imported by torch, cryptography by distributed."""
    assert EXTRAS - distributions(all_imports()) == {"tensorboard", "cryptography"}
    source = "".join((ROOT / path).read_text(encoding="utf-8") for path in modules())
    for name in EXTRA_NAMES:
        assert f"imgwas[{name}]" in source, name


def test_everything_tests_import_is_declared():
    wanted = distributions(all_imports("tests"))
    assert wanted - DECLARED - EXTRAS - extra("test") == set()
    assert extra("test") - wanted - set(NOT_IMPORTED) == set()


def test_optional_groups_are_pinned_exactly():
    constraints = (ROOT / "tests/constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in constraints.splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    wanted = DECLARED.union(*map(extra, PROJECT["project"]["optional-dependencies"])) - {"imgwas"}
    assert wanted - set(pins) == set()
    assert pins["torch"] == "2.13.0"
    for requirement in PROJECT["project"]["optional-dependencies"]["lint"]:
        if "==" in requirement:
            name, version = requirement.split("==")
            assert pins[name] == version


def test_public_names_resolve_and_are_documented():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    for name in imgwas.__all__:
        assert getattr(imgwas, name) is not None
        assert name == "__version__" or f":: imgwas.{name}\n" in page, name
    for name in importlib.import_module("imgwas.plots").__all__:
        assert f":: imgwas.plots.{name}\n" in page, name


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^([a-z_]+)$", index, re.MULTILINE)
    assert sorted(listed) == sorted(
        path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index"
    )


@pytest.mark.parametrize(
    "page", sorted(p.relative_to(ROOT) for f in (".", "docs") for p in (ROOT / f).glob("*.md")),
    ids=str,
)  # fmt: skip
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (ROOT / page.parent / target).exists(), target


def readme_block(name: str) -> str:
    """A marked shell block of the README."""
    (block,) = re.findall(rf"<!-- command: {name} -->\n```shell\n(.*?)\n```", README, re.DOTALL)
    return str(block)


@pytest.mark.parametrize("name", ["demo", "test"])
def test_ci_runs_the_readme(name):
    """One line that sets itself up, and CI has no copy of it."""
    command = readme_block(name)
    assert "\n" not in command
    assert command.startswith("python3.11 -m venv .venv && ")
    assert "-c tests/constraints.txt" in command
    done = subprocess.run(
        [ROOT / ".ci" / "readme_command", name], capture_output=True, text=True, check=True
    )
    assert done.stdout == command + "\n"
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f"readme_command {name})" in script


def test_readme_leads_from_images_to_loci_and_back(tmp_path, monkeypatch):
    """On simulated brains small enough to train on in seconds."""
    import torch
    from imgwas_cli.main import run

    monkeypatch.chdir(tmp_path)
    words = "simulate . --brains --samples 48 --variants 500 --latents 3 --causal 3 --grid 16,18,16"
    assert run(words.split()) == 0
    (tmp_path / "udip.yaml").write_text(
        "encoder: {latents: 3, levels: 1, width: 2}\ntrain: {epochs: 2, batch: 8}\n"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for line in readme_block("images").splitlines():
        program, *arguments = shlex.split(line)
        assert program == "imgwas"
        assert run(arguments) == 0, line
    torch.set_num_threads(threads)
    results = imgwas.open_sumstats(tmp_path / "results")
    assert results.latents == ("L000", "L001", "L002")
    assert (tmp_path / "manhattan.pdf").stat().st_size > 1000
    assert len(list((tmp_path / "maps" / "maps").iterdir())) == 10


def test_readme_commands_run_as_written(tmp_path, monkeypatch):
    """On a cohort whose files have the names that the README uses."""
    from imgwas_cli.main import run

    imgwas.simulate_cohort(tmp_path, n_samples=300, n_variants=1000, n_latents=2, seed=3)
    monkeypatch.chdir(tmp_path)
    for line in [readme_block("real"), *readme_block("next").splitlines()]:
        program, *arguments = shlex.split(line)
        assert program == "imgwas"
        assert run(arguments) == 0, line
    assert (tmp_path / "manhattan.pdf").stat().st_size > 1000
    (snippet,) = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(ast.parse(snippet), "README.md", "exec"), names)
    assert len(names["results"].latents) == 2

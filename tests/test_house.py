"""The rules of the house, as CONTRIBUTING.md states them, read off the source itself."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import imgwas
from tests.source_tree import ROOT, body_length, functions, modules, tree

LONGEST_FILE, LONGEST_FUNCTION = 400, 60

#: files above the limit: why, and the length not to exceed
LONG_FILES = {}

#: calls that could run code from data, or write past the log
FORBIDDEN_CALLS = {
    "print": "use logging in the library and click.echo in the command line",
    "eval": "runs code",
    "exec": "runs code",
    "compile": "runs code",
    "__import__": "use importlib with a fixed name",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "yaml.load": "use yaml.safe_load",
    "yaml.unsafe_load": "use yaml.safe_load",
    "yaml.full_load": "use yaml.safe_load",
    "np.load": "say allow_pickle=False",
    "np.save": "say allow_pickle=False",
    "numpy.load": "say allow_pickle=False",
    "torch.load": "say weights_only=True",
    "pd.read_pickle": "unpickles",
}
SAFE_BY_KEYWORD = {"allow_pickle": False, "weights_only": True}
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}


def offences(source: ast.Module) -> list[str]:
    """Forbidden calls, keywords and imports in a tree."""
    found = []
    for node in ast.walk(source):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            constants = {
                k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)
            }
            safe = any(constants.get(key) is value for key, value in SAFE_BY_KEYWORD.items())
            if name in FORBIDDEN_CALLS and not safe:
                found.append(f"line {node.lineno}: {name}: {FORBIDDEN_CALLS[name]}")
            if constants.get("shell") is True:
                found.append(f"line {node.lineno}: shell=True")
        names = (
            {alias.name for alias in node.names}
            if isinstance(node, ast.Import)
            else {node.module or ""}
            if isinstance(node, ast.ImportFrom)
            else set()
        )
        found += [f"import of {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
    return found


@pytest.mark.parametrize("module", modules(), ids=str)
def test_nothing_runs_code_from_data_or_prints(module):
    assert offences(tree(module)) == []


@pytest.mark.parametrize(
    "line",
    [
        "print('x')",
        "eval(text)",
        "subprocess.run(c, shell=True)",
        "yaml.load(text)",
        "import pickle",
        "from pickle import loads",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_rule_would_notice(line):
    assert len(offences(ast.parse(line))) == 1


def test_the_rule_lets_safe_calls_pass():
    assert offences(ast.parse("np.load(p, allow_pickle=False); yaml.safe_load(t)")) == []


def test_files_are_short():
    for module in modules():
        lines = len((ROOT / module).read_text(encoding="utf-8").splitlines())
        limit, _ = LONG_FILES.get(str(module), (LONGEST_FILE, ""))
        assert lines <= limit, f"{module} has {lines} lines: split it by subject"


def test_exceptions_are_still_needed():
    for name in LONG_FILES:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > LONGEST_FILE, name


def test_functions_are_short():
    lengths = {name: body_length(function) for name, function in functions()}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FUNCTION} == {}
    median, ninetieth = np.percentile(list(lengths.values()), [50, 90])
    assert median <= 8
    assert ninetieth <= 30


def test_errors_raised_on_purpose_are_ours():
    """A user's mistake is an ImgwasError, never a bare built-in one that says nothing."""
    builtin = {"AssertionError", "BaseException", "Exception", "IOError", "OSError", "RuntimeError"}
    raised = [
        f"{module}:{node.lineno}"
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and ast.unparse(node.exc.func) in builtin
    ]
    assert raised == []


def test_no_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.{])/(?:home|root|work|Users|scratch)/\w")
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").glob("*.py")]
    for path in [*pages, *(ROOT / module for module in modules())]:
        assert not pattern.search(path.read_text(encoding="utf-8")), path


@pytest.mark.skipif(shutil.which("lint-imports", path=Path(sys.executable).parent) is None,
                    reason="import-linter is not installed here")  # fmt: skip
def test_imports_point_down():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def public_objects() -> list[str]:
    """Dotted names of everything public: functions, classes, and their own public methods."""
    plots = importlib.import_module("imgwas.plots")
    names = [f"imgwas.{name}" for name in imgwas.__all__ if name != "__version__"]
    names += [f"imgwas.plots.{name}" for name in plots.__all__]
    for name in list(names):
        owner, _, last = name.rpartition(".")
        thing = getattr(importlib.import_module(owner), last)
        if inspect.isclass(thing):
            names += [
                f"{name}.{member}"
                for member, value in vars(thing).items()
                if not member.startswith("_")
                and (inspect.isfunction(value) or isinstance(value, property))
            ]
    return names


def test_docstrings_follow_numpydoc():
    """The checks listed in pyproject.toml, on everything public."""
    numpydoc = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed here")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checks = set(settings["tool"]["numpydoc_validation"]["checks"])
    wrong = [
        f"{name}: {code} {message}"
        for name in public_objects()
        for code, message in numpydoc.validate(name)["errors"]
        if code in checks
    ]
    assert wrong == []

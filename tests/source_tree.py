"""The source as trees, for tests about the source itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"imgwas": "imgwas", "cli": "imgwas_cli"}


def modules(*folders: str) -> list[Path]:
    """Python files below some folders of the repository, relative to it."""
    return sorted(
        path.relative_to(ROOT)
        for folder in folders or FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    )


@cache
def tree(module: Path) -> ast.Module:
    """Syntax tree of a module."""
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), str(module))


def imported(node: ast.AST) -> set[str]:
    """Top-level names of the packages that a single statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module.split(".")[0]}
    return set()


def all_imports(*folders: str) -> dict[str, Path]:
    """Foreign packages imported anywhere, inside functions too, and one place for each."""
    found: dict[str, Path] = {}
    own = {*FOLDERS.values(), "tests"}
    for module in modules(*folders):
        for node in ast.walk(tree(module)):
            for name in imported(node) - own - set(sys.stdlib_module_names):
                found.setdefault(name, module)
    return found


def imports_at_start(module: Path) -> set[str]:
    """Packages that importing a module imports: nothing in functions or for type checkers."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from statements(node.orelse)
                continue
            yield node
            for block in ("body", "orelse", "finalbody"):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from statements(getattr(node, block, []))

    names: set[str] = set()
    for node in statements(tree(module).body):
        names |= imported(node)
    return names


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of the package and the command line, as (path::name, tree)."""
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef):
                yield f"{module}::{node.name}", node


def body_length(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0

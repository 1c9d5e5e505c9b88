"""What tests share has a place of its own: a test can be moved, and none has to be read to follow another."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FOLDERS = sorted(path.name for path in TESTS.iterdir() if path.is_dir() and (path / "__init__.py").exists())
SUPPORT = "support"


@cache
def imported(path: Path) -> frozenset[str]:
    """Name the modules that a file imports, for types too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_no_other(folder: str) -> None:
    """What several folders need stands in ``tests/support``, which needs none of them."""
    others = tuple(f"tests.{other}." for other in FOLDERS if other not in {folder, SUPPORT})
    found = {
        f"{path.relative_to(TESTS)}: {name}"
        for path in (TESTS / folder).rglob("*.py")
        for name in imported(path)
        if f"{name}.".startswith(others)
    }
    assert not found


def test_a_test_module_imports_no_other() -> None:
    """Somebody's tests are nobody's library: what they share has a module that holds no test."""
    modules = list(TESTS.rglob("*.py"))
    assert len(modules) > 100
    found = {
        f"{path.relative_to(TESTS)}: {name}"
        for path in modules
        for name in imported(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    }
    assert not found

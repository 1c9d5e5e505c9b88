"""The house of the tests: a folder of tests stands for itself, and what several need lies in ``tests/support``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent
SUPPORT = "support"
FOLDERS = sorted(path.name for path in TESTS.iterdir() if (path / "__init__.py").exists())


def imported(path: Path) -> Iterator[str]:
    """Return the full names of what a file imports, for its types too: of ``from a import b`` both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}:{node.lineno} does not say in full what it imports"
            assert not node.level, f"{path}:{node.lineno} does not say in full what it imports"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folders_of(modules: Iterator[str]) -> set[str]:
    """Return the folders of tests that these modules lie in."""
    parts = [module.split(".") for module in modules]
    return {part[1] for part in parts if part[0] == TESTS.name and len(part) > 1} & set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_imports_another(folder: str) -> None:
    """What two folders need is moved to support; support itself needs no folder of tests."""
    allowed = {folder, SUPPORT}
    strangers = {
        str(path.relative_to(TESTS)): others
        for path in (TESTS / folder).rglob("*.py")
        if (others := folders_of(imported(path)) - allowed)
    }
    assert strangers == {}


def test_no_test_lies_in_support() -> None:
    """What is to be run lies in the folder of what it tests."""
    assert [path.name for path in (TESTS / SUPPORT).rglob("test_*.py")] == []
    assert SUPPORT in FOLDERS

"""The comparison with the gateway's rotator names only tests that exist, and leaves out no row that was promised."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
PROMISED = ["G1", "G3", "G4", "G7", "G9", "G15", "G17", "G21", "G38", "G39", "G42"]
_ROW = re.compile(r"^\| (G\d+) \|(.+)\|([^|]+)\|$", re.MULTILINE)
_TEST = re.compile(r"`(test_[a-z0-9_]+)`")


def functions() -> set[str]:
    """Return the names of all test functions of the project."""
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names


def test_every_row_is_shown() -> None:
    """Each promised row is there, once and in order, and its last column names tests."""
    rows = _ROW.findall(PAGE)
    assert [number for number, _, _ in rows] == PROMISED
    assert [number for number, _, shown in rows if not _TEST.search(shown)] == []


def test_named_tests_exist() -> None:
    """A test that does not exist is a false claim; that goes for every page of the documentation."""
    known = functions()
    for page in (ROOT / "docs").rglob("*.md"):
        named = set(_TEST.findall(page.read_text(encoding="utf-8")))
        assert named - known == set(), page.name

"""docs/reliability.md is the table of what must hold: every row is there, and every test that it names exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "docs" / "reliability.md"
WANTED = [
    *(f"I{number}" for number in range(1, 19)),
    *(str(number) for number in (*range(1, 56), *range(57, 75))),
    *(f"S{number}" for number in range(1, 13)),
]
ON_A_REAL_SERVER = [26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 38, 39, 40, 42, 43, 48, 61, 62, 63, 64, 65, 66]
"""Faults of the API server, or that it has a part in: shown on a simulated one, and on a real one too."""
_ROW = re.compile(r"^\| (I?S?\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(test_[a-z0-9_]+)`")


@functools.cache
def rows() -> dict[str, tuple[str, list[str]]]:
    """Return what each row says and the tests that it names."""
    found = _ROW.findall(TABLE.read_text(encoding="utf-8"))
    return {number: (what, _TEST.findall(tests)) for number, what, tests in found}


@functools.cache
def functions(where: str = "") -> set[str]:
    """Return the names of all test functions of the project, or of a part of it."""
    names = set()
    for path in (ROOT / "tests" / where).rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names


def prefix(number: str) -> str:
    """Return how a row's own test begins."""
    kind = {"I": "invariant", "S": "security"}.get(number[0], "fault")
    return f"test_{kind}_{int(number.lstrip('IS')):02}_"


def test_no_row_is_missing() -> None:
    """Invariants, faults and rules of security, in order, each once."""
    assert list(rows()) == WANTED


@pytest.mark.parametrize("number", WANTED)
def test_a_row_says_what_happens_and_names_its_test(number: str) -> None:
    """A row without a test of its own number is a claim; a test that does not exist is a false one."""
    what, tests = rows()[number]
    assert len(what) > 20
    assert [name for name in tests if name.startswith(prefix(number))]
    assert [name for name in tests if name not in functions()] == []


@pytest.mark.parametrize("number", ON_A_REAL_SERVER)
def test_what_the_api_server_does_is_shown_on_a_real_one(number: int) -> None:
    """A simulated server does what its author believes; each of its faults has a test behind the real one's door."""
    _, tests = rows()[str(number)]
    assert [name for name in tests if name in functions("e2e")]

"""Vendors are named at home only: nothing else of the package knows one from another."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import credrotator

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(credrotator.__file__).parent
HOMES = ("providers/", "sandbox/", "policies/schema")
"""What makes exchanges, what stands in for the vendors, and what spells the gateway's own fields."""
VENDOR = re.compile(
    r"(?<![a-z])(aws|sts|bedrock|azure|entra|aadsts|msal|google|gcp|vertex|anthropic|openai)(?![a-z])", re.IGNORECASE
)
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if not str(path.relative_to(PACKAGE)).startswith(HOMES)]
NAMED = ("id", "attr", "name", "arg", "module")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_vendor_is_named(path: Path) -> None:
    """No identifier and no string outside of the vendors' homes names one; docstrings may, for the reader."""
    assert list(vendors_in(ast.parse(path.read_text()))) == []


def vendors_in(tree: ast.Module) -> Iterator[str]:
    """Name the vendors of a module's identifiers and strings, with their lines."""
    docstrings = {id(text) for text in _docstrings(tree)}
    for node in ast.walk(tree):
        texts = [getattr(node, field) for field in NAMED if isinstance(getattr(node, field, None), str)]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            texts.append(node.value)
        for text in texts:
            words = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text).replace("_", " ")
            yield from (f"{match[0]} in line {getattr(node, 'lineno', '?')}" for match in VENDOR.finditer(words))


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the texts that stand by themselves: docstrings of modules, classes and functions, and of constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def test_a_vendor_would_be_noticed() -> None:
    """In a name, in an attribute, in a text, in an argument; not in a docstring, nor within another word."""
    module = '"""AWS."""\nclass AwsThing: ...\nx.sts_client = "Entra"\ndef f(google): pass\nlasts = "tests"\n'
    assert len(list(vendors_in(ast.parse(module)))) == 4

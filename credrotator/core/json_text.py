"""JSON of people whom nobody vets: issuers, vendors, tenants. What is nested without end is refused before it is read.

Python's decoder ends such a text by RecursionError, deep in the stack: whatever the interpreter happens to clean up at
that moment fails as well, in places that have nothing to do with it. Source: RFC 8259 §9, which allows a limit.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 100
"""Levels. Tokens, key sets and policies have fewer than ten; the interpreter's own limit is at a thousand."""
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_INNERMOST = re.compile(r"\[\]|{}")


def read_json(text: str | bytes, *, parse_constant: Callable[[str], object] | None = None) -> object:
    """Read a JSON text as ``json.loads`` does.

    Raises:
        ValueError: It is no JSON, or is nested more than ``DEEPEST`` levels deep.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    # Counting settles it for nearly every text there is, and costs nothing.
    if text.count("[") + text.count("{") > DEEPEST and _is_deep(text):
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    return json.loads(text, parse_constant=parse_constant)


def _is_deep(text: str) -> bool:
    """Tell whether brackets are left after as many rounds, each of which takes out the innermost level.

    In rounds and not one bracket at a time: a mebibyte of them takes milliseconds. What never closes is left as well.
    """
    brackets = _NO_BRACKET.sub("", _STRING.sub("", text))
    for _ in range(DEEPEST):
        if not brackets:
            return False
        brackets = _INNERMOST.sub("", brackets)
    return bool(brackets)

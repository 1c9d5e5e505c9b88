"""JSON of people whom nobody vets: issuers, vendors, tenants. What is nested without end is refused before it is read.

Python's decoder ends such a text by RecursionError, deep in the stack: whatever the interpreter happens to clean up at
that moment fails as well, in places that have nothing to do with it. Source: RFC 8259 §9, which allows a limit.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 100
"""Levels. Tokens, key sets and policies have fewer than ten; the interpreter's own limit is at a thousand."""
_BRACKETS, _QUOTE = b"[]{}", b'"'
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(_BRACKETS + _QUOTE))


def read_json(text: str | bytes, *, parse_constant: Callable[[str], object] | None = None) -> object:
    """Read a JSON text as ``json.loads`` does.

    Raises:
        ValueError: It is no JSON, or is nested more than ``DEEPEST`` levels deep.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    if is_deep(text):
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    return json.loads(text, parse_constant=parse_constant)


def is_deep(text: str) -> bool:
    """Tell whether a JSON text, or several back to back, is nested more than ``DEEPEST`` levels deep."""
    # Counting settles it for nearly every text there is, and costs nothing.
    return text.count("[") + text.count("{") > DEEPEST and _leaves_brackets(text.encode("utf-8", "surrogatepass"))


def _leaves_brackets(text: bytes) -> bool:
    """Tell whether brackets are left after as many rounds, each of which takes out the innermost level.

    In whole passes over bytes: one bracket at a time, or by a regular expression that remembers each character of a
    string, a mebibyte would take seconds, or hundreds of mebibytes. What never closes is left as well, and brackets of
    two kinds that do not match are the decoder's to refuse.
    """
    # Escaped backslashes before escaped quotes: the one can end in the other.
    marks = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_AS_SQUARE, _OTHERS)
    # Two quotes beside each other leave what comes after them within or outside of a string as it was.
    brackets = b"".join(marks.replace(_QUOTE * 2, b"").split(_QUOTE)[::2])
    # What is plainly too deep need not be taken apart.
    if b"[" * (DEEPEST + 1) in brackets:
        return True
    for _ in range(DEEPEST):
        before, brackets = brackets, brackets.replace(b"[]", b"")
        if not brackets or len(brackets) == len(before):
            break
    return bool(brackets)

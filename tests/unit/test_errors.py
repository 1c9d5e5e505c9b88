"""Errors by what to do next, and foreign text that stays harmless."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.errors import Denied, PolicyError, RotationError, Transient, printable


@given(text=st.text(), limit=st.integers(1, 50))
def test_foreign_text_is_printable_and_short(text: str, limit: int) -> None:
    """Fault 46: escaped and cut, whatever it is; the mark of a cut is one character."""
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit + 1
    assert shown.endswith("…") or len(shown) <= limit


@given(text=st.text(alphabet=st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=300))
def test_plain_text_stays_as_it_is(text: str) -> None:
    """What is printable and short enough is not touched."""
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nlevel=error", r"a\r\nlevel=error"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202egnp", r"\u202egnp"),
        ("\ud800", r"\ud800"),
        ("Ünïcode 中文", "Ünïcode 中文"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    """No forged log line, no screen control, no reversed text, no lone surrogate; letters of all scripts stay."""
    assert printable(text) == shown


def test_a_cut_is_visible() -> None:
    """Also where only the escapes made the text too long."""
    assert printable("x" * 301) == "x" * 300 + "…"
    assert printable("\n" * 4, 6) == r"\n\n\n…"


@pytest.mark.parametrize(("kind", "error"), [("transient", Transient), ("denied", Denied), ("policy", PolicyError)])
def test_each_class_says_what_to_do_next(kind: str, error: type[RotationError]) -> None:
    """Kind, reason, message and hint are fields; the text of the exception is the message."""
    raised = error("Reason", "message", hint="hint", retry_after=timedelta(seconds=3))
    assert (raised.kind, raised.reason, raised.message, raised.hint) == (kind, "Reason", "message", "hint")
    assert raised.retry_after == timedelta(seconds=3)
    assert str(raised) == "message"

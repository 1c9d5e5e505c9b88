"""Spans of time, as people write and read them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.durations import parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("250ms", 0.25),
        ("1h0m30s", 3630),
    ],
)
def test_go_notation(text: str, seconds: float) -> None:
    """Go's notation without its smallest units, and days."""
    assert parse_duration(text) == timedelta(seconds=seconds)


BAD = ["", "30", "m", "-5m", "+5m", "5 m", " 5m", "5m ", "5M", "1,5h", ".5h", "5m x", "\uff15m", "1e3s", "nans", "5m\n"]


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    """No unit, a sign, blanks, other digits than ASCII's: refused, and the message shows what to write."""
    with pytest.raises(ValueError, match="such as 30m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3651d", "9" * 400 + "h", "9" * 5000 + "s"])
def test_nobody_means_more_than_ten_years(text: str) -> None:
    """A huge number is a mistake, and never an overflow."""
    with pytest.raises(ValueError, match="ten years") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 120


@given(text=st.text(alphabet="0123456789.smhd -\x1b", max_size=200) | st.text())
def test_any_text_is_a_duration_or_a_short_message(text: str) -> None:
    """Nothing else raises, and foreign text stays escaped and short."""
    try:
        message = ""
        assert parse_duration(text) >= timedelta(0)
    except ValueError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (-0.4, "0s"),
        (35, "35s"),
        (-35, "-35s"),
        (59.6, "1m"),
        (250, "4m10s"),
        (3600, "1h"),
        (3605, "1h"),
        (4980, "1h23m"),
        (-4980, "-1h23m"),
        (86_400, "1d"),
        (100_000, "1d3h"),
        (10**9, "11574d1h"),
    ],
)
def test_shown_in_two_units(seconds: float, text: str) -> None:
    """The two largest units, to the second."""
    assert show_duration(timedelta(seconds=seconds)) == text


@given(seconds=st.integers(0, 86_400 * 3000))
def test_what_is_shown_reads_back_within_the_smaller_unit(seconds: int) -> None:
    """Shown text is valid input, short by less than its smaller unit."""
    lost = seconds - parse_duration(show_duration(timedelta(seconds=seconds))).total_seconds()
    assert 0 <= lost < (3600 if seconds >= 86_400 else 60 if seconds >= 3600 else 1)

"""One total deadline, whoever reads it, and never a later one inside of an earlier (reliability.md 2)."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.exchange.http.deadline import deadline, remaining_s

SPANS = st.floats(min_value=1, max_value=10_000)


def test_without_a_deadline_the_limit_holds() -> None:
    """Outside of an exchange a read timeout is what the caller says."""
    assert remaining_s() is None
    assert remaining_s(5) == 5


@given(outer=SPANS, inner=SPANS, limit=SPANS)
def test_the_soonest_end_wins(outer: float, inner: float, limit: float) -> None:
    """What is left is never more than any of the deadlines in force, or the limit."""
    with deadline(timedelta(seconds=outer)):
        with deadline(timedelta(seconds=inner)):
            left = remaining_s(limit)
            assert left is not None
            assert 0 < left <= min(outer, inner, limit)
        after = remaining_s()
        assert after is not None
        assert min(outer, inner) - 1 < after <= outer


def test_a_deadline_that_passed_is_an_error() -> None:
    """Nothing is begun after the deadline, not even with a timeout of zero (which would mean: do not block)."""
    with deadline(timedelta(0)), pytest.raises(TimeoutError):
        remaining_s(5)
    assert remaining_s(5) == 5


def test_threads_have_their_own() -> None:
    """A deadline is one exchange's, not the process's."""
    seen: list[float | None] = []
    with deadline(timedelta(seconds=1)):
        thread = threading.Thread(target=lambda: seen.append(remaining_s()))
        thread.start()
        thread.join()
    assert seen == [None]

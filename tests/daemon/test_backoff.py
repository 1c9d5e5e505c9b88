"""When to try again: ceilings, jitter, Retry-After, and the life that is left."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.backoff import FIRST, LONGEST, SHORTEST, Streak, failed
from credrotator.core.model import Failure
from tests.support.twins import NOW

if TYPE_CHECKING:
    from datetime import datetime

    from credrotator.core.errors import Kind

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
KINDS: list[Kind] = ["transient", "denied", "policy"]
SPANS = st.timedeltas(SECOND, HOUR)


def wait(
    kind: Kind = "transient",
    attempt: int = 1,
    *,
    seed: str = "default/bedrock",
    expires_at: datetime | None = None,
    retry_after: timedelta | None = None,
) -> timedelta:
    """Return how long after NOW the next try is."""
    before = Streak(attempt - 1, "Refused", attempt - 1, NOW, None, NOW, early=False) if attempt > 1 else None
    error = Failure(kind, "Refused", "no", "ask", retry_after)
    return failed(before, error, seed=seed, now=NOW, expires_at=expires_at).next_try - NOW


@given(st.sampled_from(KINDS), st.integers(1, 10_000), st.text(max_size=20), st.none() | SPANS, st.none() | SPANS)
def test_bounds(kind: Kind, attempt: int, seed: str, life: timedelta | None, patience: timedelta | None) -> None:
    """Never sooner than a second, never later than the ceiling or what the server asked for (I7)."""
    expires_at = NOW + life if life else None
    found = wait(kind, attempt, seed=seed, expires_at=expires_at, retry_after=patience)
    assert SHORTEST <= found <= max(LONGEST[kind], patience or SECOND)


@given(st.sampled_from(KINDS), st.integers(1, 100), st.text(max_size=20))
def test_reproducible(kind: Kind, attempt: int, seed: str) -> None:
    """Jitter is a hash: a restart tells the same times (I11)."""
    assert wait(kind, attempt, seed=seed) == wait(kind, attempt, seed=seed)


def test_doubling() -> None:
    """A denial is tried again after 1, 2, 4, then every 8 minutes (fault 8)."""
    assert [wait("denied", attempt) / MINUTE for attempt in range(1, 7)] == [1, 2, 4, 8, 8, 8]
    assert FIRST["policy"] == FIRST["denied"] == MINUTE


@pytest.mark.parametrize(("attempt", "ceiling"), [(2, 2.0), (5, 16.0), (9, 256.0), (30, 300.0)])
def test_full_jitter(attempt: int, ceiling: float) -> None:
    """Transient failures of many policies spread over the whole wait (fault 1: 1 s to 5 min)."""
    waits = sorted(wait(attempt=attempt, seed=str(number)).total_seconds() for number in range(400))
    assert waits[0] <= max(1.0, ceiling * 0.1)
    assert ceiling * 0.9 <= waits[-1] <= ceiling
    assert ceiling * 0.4 <= waits[200] <= ceiling * 0.6 or ceiling == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_not_a_moment_before_expiry(kind: Kind) -> None:
    """The next try leaves half of the life that is left, so that it is worth something, and others may follow it."""
    assert wait("denied", 1, expires_at=NOW + 61 * SECOND) == 30.5 * SECOND
    waits = [wait(kind, 9, seed=str(number), expires_at=NOW + 2 * MINUTE) for number in range(100)]
    assert SECOND <= min(waits) <= max(waits) == MINUTE


def test_retry_after_is_obeyed() -> None:
    """The server's own wish counts, however long, while no credential is at stake (fault 10)."""
    assert wait(retry_after=HOUR) == HOUR
    assert wait("denied", 4, retry_after=MINUTE) == 8 * MINUTE


@pytest.mark.parametrize(("left_s", "expected_s"), [(600, 300), (100, 50), (2, 1)])
def test_a_probe_before_expiry(left_s: int, expected_s: int) -> None:
    """Where patience would outlast the credential there is a probe at half of what is left, then at 90 % (I7)."""
    expires_at = NOW + timedelta(seconds=left_s)
    assert wait(retry_after=HOUR, expires_at=expires_at) == timedelta(seconds=expected_s)


def test_the_second_probe() -> None:
    """Too close for half of the rest: 90 % of it; closer still, no probe: at least a second lies between two tries."""
    assert wait(retry_after=HOUR, expires_at=NOW + timedelta(seconds=1.5)) == timedelta(seconds=1.35)
    assert wait(retry_after=HOUR, expires_at=NOW + timedelta(seconds=1)) == HOUR


def test_expired_already() -> None:
    """Nothing is left to be saved, so patience is kept."""
    assert wait(retry_after=HOUR, expires_at=NOW - MINUTE) == HOUR


def test_no_probe_where_none_is_needed() -> None:
    """A try that comes before the expiry anyway is not moved."""
    assert wait("denied", 2, expires_at=NOW + HOUR) == 2 * MINUTE

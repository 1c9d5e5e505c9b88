"""When to try again: ceilings, jitter, Retry-After, and the life that is left."""

from __future__ import annotations

import heapq
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.backoff import FIRST, LONGEST, LONGEST_UNSERVED, SHORTEST, Streak, failed
from credrotator.core.outcome import Failure
from credrotator.rotation.refusal_pace import TRIES_PER_S, RefusalPace
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


def crowd_of_refused(count: int, life: timedelta) -> list[float]:
    """Return when policies of one expiry try, that an open circuit refuses all the time, in seconds from now."""
    pace, moments = RefusalPace(), []
    error = Failure("transient", "IssuerUnreachable", "no", "wait", SECOND, is_refusal=True)
    agenda = [(0.0, number) for number in range(count)]
    streaks: dict[int, Streak] = {}
    while agenda:
        at_s, number = heapq.heappop(agenda)
        now = NOW + at_s * SECOND
        if now >= NOW + life:
            continue
        moments.append(at_s)
        streak = failed(streaks.get(number), error, seed=f"default/p{number}", now=now, expires_at=NOW + life)
        streaks[number] = streak
        wait_s = pace.wait_s("default", (streak.next_try - now).total_seconds(), at_s)
        heapq.heappush(agenda, (at_s + wait_s, number))
    return moments


@pytest.mark.parametrize("count", [100, 1000, 10_000])
def test_invariant_07_a_crowd_near_its_expiry(count: int) -> None:
    """Refused by an open circuit, thousands of one expiry ask for a bounded number of attempts, to the very end."""
    life_s = 1200
    moments = [at_s for at_s in crowd_of_refused(count, life_s * SECOND) if at_s > 0]
    per_s = Counter(int(at_s) for at_s in moments)
    # One second's tries may begin at its end, and the next one's at its beginning.
    assert max(per_s.values()) <= 2 * TRIES_PER_S
    assert len(moments) / life_s <= TRIES_PER_S


def test_a_neighbour_s_crowd_delays_nobody() -> None:
    """I13: the tries of a namespace are spaced among themselves."""
    pace = RefusalPace()
    for _ in range(10_000):
        pace.wait_s("crowd", 1.0, 0.0)
    assert pace.wait_s("crowd", 1.0, 0.0) == pytest.approx(10_000 / TRIES_PER_S, abs=2)
    assert pace.wait_s("alone", 1.0, 0.0) == 1.0


@given(st.integers(1, 100), st.text(max_size=20), st.none() | SPANS)
def test_refused_by_an_open_circuit(attempt: int, seed: str, life: timedelta | None) -> None:
    """It is woken by the circuit; its own try is a precaution, and never in a hurry."""
    before = Streak(attempt, "Refused", attempt, NOW, None, NOW, early=False)
    error = Failure("transient", "Refused", "no", "wait", SECOND, is_refusal=True)
    streak = failed(before, error, seed=seed, now=NOW, expires_at=NOW + life if life else None)
    assert SECOND <= streak.next_try - NOW <= LONGEST["transient"]
    if life and life > 2 * MINUTE:
        assert streak.next_try < NOW + life


def test_fault_55_who_found_no_slot_keeps_its_back_off() -> None:
    """It is woken when a slot is free; should that fail, its own try is soon, since nobody has asked it to wait."""
    error = Failure("transient", "StsBusy", "no", "wait", is_refusal=True)
    assert failed(None, error, seed="default/bedrock", now=NOW, expires_at=None).next_try == NOW + SECOND


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
    """The server's own wish counts, however long, while a credential outlasts it (fault 10)."""
    assert wait(retry_after=HOUR, expires_at=NOW + 10 * HOUR) == HOUR
    assert wait("denied", 4, retry_after=MINUTE) == 8 * MINUTE


def test_no_credential_yet() -> None:
    """Who has never been served is tried within minutes, whatever the server wishes."""
    assert wait(retry_after=HOUR) == LONGEST_UNSERVED
    assert wait(retry_after=MINUTE) == MINUTE


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

"""One flight for all who want the same; good values; failures for a moment (reliability.md I6, I7, 10)."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.errors import Denied, NotAsked, Outage, RotationError, Throttled, Transient
from credrotator.exchange.http.deadline import deadline
from credrotator.exchange.http.single_flight import FAILURE_LIFE, MOST_BYTES, MOST_ENTRIES, Shared
from tests.support.waiting import LIMIT_S

if TYPE_CHECKING:
    from datetime import datetime

    from tests.support.exchanging import FrozenClock

HINT = "wait"


class Source:
    """What is fetched: a number for each call, held back until ``gate`` opens."""

    def __init__(self, clock: FrozenClock, *failures: BaseException) -> None:
        self.clock = clock
        self.failures = list(failures)
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.calls = 0

    def __call__(self) -> tuple[int, datetime]:
        self.calls += 1
        self.started.set()
        assert self.gate.wait(LIMIT_S)
        if self.failures:
            raise self.failures.pop(0)
        return self.calls, self.clock() + timedelta(seconds=60)


def test_values_are_shared_while_they_are_good(frozen: FrozenClock) -> None:
    """A value answers until its moment, exclusively, and is fetched anew after it."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen)
    assert [shared.get("a", source), shared.get("a", source)] == [1, 1]
    frozen.advance(59.9)
    assert shared.get("a", source) == 1
    frozen.advance(0.1)
    assert shared.get("a", source) == 2


def test_threads_at_once_make_one_flight(frozen: FrozenClock) -> None:
    """I6: whoever asks while a fetch is in flight waits for it; another key flies on its own."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen)
    source.gate.clear()
    with ThreadPoolExecutor(17) as pool:
        waiting = [pool.submit(shared.get, "a", source) for _ in range(16)]
        assert source.started.wait(LIMIT_S)
        assert pool.submit(shared.get, "b", Source(frozen)).result(LIMIT_S) == 1
        source.gate.set()
        assert [each.result(LIMIT_S) for each in waiting] == [1] * 16
    assert source.calls == 1


def test_a_failure_is_shared_and_remembered(frozen: FrozenClock) -> None:
    """I7: those who waited fail alike, and those who come within seconds; after that it is tried again."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen, Denied("InvalidClient", "no", hint=HINT))
    source.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(shared.get, "a", source) for _ in range(8)]
        assert source.started.wait(LIMIT_S)
        source.gate.set()
        failures = [each.exception(LIMIT_S) for each in waiting]
    assert all(isinstance(each, Denied) and each.reason == "InvalidClient" for each in failures)
    assert len(set(map(id, failures))) == 8, "one error raised in many threads mixes up their tracebacks"
    frozen.advance(FAILURE_LIFE.total_seconds() - 1)
    with pytest.raises(Denied, match="no"):
        shared.get("a", source)
    assert source.calls == 1
    frozen.advance(1)
    assert shared.get("a", source) == 2


def test_a_remembered_failure_keeps_no_frames(frozen: FrozenClock) -> None:
    """What is kept of a failure holds no traceback: frames would keep secrets alive, and grow with each raise."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen, Transient("IssuerFailed", "500", hint=HINT))
    depths = []
    for _ in range(3):
        with pytest.raises(Transient) as caught:
            shared.get("a", source)
        depths.append(len(caught.traceback))
    assert depths[1] == depths[2]
    assert source.calls == 1


def test_a_server_that_asks_for_patience_gets_it(frozen: FrozenClock) -> None:
    """Fault 10: Retry-After longer than the usual memory is obeyed."""
    wish = timedelta(minutes=5)
    shared = Shared[int](frozen, frozen.seconds)
    source = Source(frozen, Transient("T", "busy", hint=HINT, retry_after=wish))
    for _ in range(2):
        with pytest.raises(Transient):
            shared.get("a", source)
        frozen.advance(299)
    assert source.calls == 1
    assert shared.get("a", source) == 2


@pytest.mark.parametrize("accident", [KeyboardInterrupt(), TimeoutError("its own deadline"), RuntimeError("a bug")])
def test_accidents_of_one_thread_stay_with_it(frozen: FrozenClock, accident: BaseException) -> None:
    """What is no answer of the other side strikes the thread that fetched; one that waited fetches itself."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen, accident)
    source.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.get, "a", source)
        assert source.started.wait(LIMIT_S)
        second = pool.submit(shared.get, "a", source)
        source.gate.set()
        assert first.exception(LIMIT_S) is accident
        assert second.result(LIMIT_S) == 2


def test_waiting_ends_with_the_deadline(frozen: FrozenClock) -> None:
    """I5: the flight of another thread is waited for no longer than the own deadline."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen)
    source.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shared.get, "a", source)
        assert source.started.wait(LIMIT_S)
        with deadline(timedelta(seconds=0.05)), pytest.raises(TimeoutError):
            shared.get("a", source)
        source.gate.set()
        assert first.result(LIMIT_S) == 1


def test_a_value_is_dropped_once(frozen: FrozenClock) -> None:
    """Fault 19: many who find the same value stale lead to one new fetch, not to one each."""
    shared = Shared[str](frozen, frozen.seconds)
    calls: list[str] = []

    def fetch() -> tuple[str, datetime]:
        calls.append(f"token {len(calls)}")
        return calls[-1], frozen() + timedelta(seconds=60)

    stale = shared.get("a", fetch)
    shared.drop("a", stale)
    fresh = shared.get("a", fetch)
    shared.drop("a", stale)
    assert shared.get("a", fetch) is fresh
    assert len(calls) == 2


def test_what_is_over_is_forgotten(frozen: FrozenClock) -> None:
    """Memory is bounded by what is good, however many keys there were."""
    shared = Shared[int](frozen, frozen.seconds)
    for number in range(5000):
        shared.get(number, lambda: (1, frozen() + timedelta(seconds=1)))
        frozen.advance(0.01)
    assert len(shared._values) < 4200


def test_invariant_14_values_are_bounded_in_bytes(frozen: FrozenClock) -> None:
    """However large and many, what is kept stays within the budget; what was used last stays longest."""
    shared = Shared[str](frozen, frozen.seconds, size_bytes=len)
    for number in range(100):
        shared.get(number, lambda: ("x" * (MOST_BYTES // 10), frozen() + timedelta(hours=1)))
        shared.get(0, lambda: ("x", frozen() + timedelta(hours=1)))
    assert sum(len(value) for value, _ in shared._values.values()) <= MOST_BYTES
    assert set(shared._values) >= {0, 99}


def test_invariant_14_failures_are_bounded(frozen: FrozenClock) -> None:
    """A tenant that edits a policy again and again leaves no more than so many failures behind."""
    shared = Shared[str](frozen, frozen.seconds)

    def refuse() -> tuple[str, datetime]:
        raise Denied("InvalidClient", "no", hint=HINT)

    for number in range(MOST_ENTRIES + 100):
        with pytest.raises(Denied):
            shared.get(number, refuse)
    assert len(shared._failures) <= MOST_ENTRIES


@pytest.mark.parametrize("error", [Throttled("IssuerThrottled", "429", hint=HINT), NotAsked("X", "not", hint=HINT)])
def test_what_the_circuit_breaker_knows_better_is_not_remembered(frozen: FrozenClock, error: RotationError) -> None:
    """A rate limit and an open circuit say nothing of the next attempt here: the breaker is asked each time."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen, error)
    with pytest.raises(type(error)):
        shared.get("a", source)
    assert shared.get("a", source) == 2


def test_an_outage_answers_for_a_second(frozen: FrozenClock) -> None:
    """Who comes right after an outage is spared the question; a blip of half a second costs no more than that."""
    shared, source = Shared[int](frozen, frozen.seconds), Source(frozen, Outage("IssuerFailed", "500", hint=HINT))
    for _ in range(2):
        with pytest.raises(Outage):
            shared.get("a", source)
    frozen.advance(1.0)
    assert shared.get("a", source) == 2


@pytest.mark.parametrize("kind", [Transient, Denied])
def test_again_is_equal(kind: type[RotationError]) -> None:
    """A repeated error says all that the first one said."""
    first = kind("Reason", "message", hint=HINT, retry_after=timedelta(seconds=3), hangs=True)
    second = first.anew()
    assert type(second) is kind
    assert vars(second) == vars(first)
    assert str(second) == str(first)


def test_fault_10_nothing_left_of_a_retry_after_is_no_new_one(frozen: FrozenClock) -> None:
    """The last instant of a wait says zero: it must not be taken for "nothing said" and begin all of it once more."""
    now_s = [0.1 + 0.2]
    shared, source = Shared[int](frozen, lambda: now_s[0]), Source(frozen)
    source.failures.append(Denied("Busy", "busy", hint="wait", retry_after=timedelta(minutes=1)))
    with pytest.raises(Denied):
        shared.get("key", source)
    now_s[0] = math.nextafter(now_s[0] + 60.0, 0.0)
    with pytest.raises(Denied) as caught:
        shared.get("key", source)
    assert caught.value.retry_after == timedelta(0)


@pytest.mark.parametrize("step_s", [-1500, 1500])
def test_fault_23_a_clock_that_is_set_changes_no_patience(frozen: FrozenClock, step_s: int) -> None:
    """A failure, or a pause, lasts for as long as was said: neither shorter nor longer when the clock is put right."""
    passed_s = [0.0]
    shared: Shared[str] = Shared(frozen, lambda: passed_s[0])
    error = Transient("IssuerThrottled", "busy", hint="wait", retry_after=timedelta(minutes=1))

    def fail() -> tuple[str, datetime]:
        raise error

    with pytest.raises(Transient):
        shared.get("key", fail)
    frozen.advance(step_s)
    passed_s[0] = 59.0
    with pytest.raises(Transient) as caught:
        shared.get("key", fail)
    assert caught.value.retry_after == timedelta(seconds=1)
    passed_s[0] = 60.0
    assert shared.get("key", lambda: ("value", frozen() + timedelta(hours=1))) == "value"


def test_invariant_14_a_failure_holds_nothing_of_what_was_read(frozen: FrozenClock) -> None:
    """What a fetch had in hand goes with its error, not with a garbage collection that may be minutes away."""
    shared: Shared[int] = Shared(frozen, frozen.seconds)
    read: list[weakref.ref[set[str]]] = []

    def fetch() -> tuple[int, datetime]:
        body = {"a megabyte"}
        read.append(weakref.ref(body))
        raise Denied("InvalidToken", "no", hint=HINT)

    gc.disable()
    try:
        with contextlib.suppress(Denied):
            shared.get("key", fetch)
        assert read[0]() is None
    finally:
        gc.enable()

"""The timetable: APScheduler really running, and the sweep that finds what it misses."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.model import ObjectKey
from credrotator.rotation.timetable import Timetable
from tests.support.twins import KEY, StandingClock
from tests.support.waiting import LIMIT_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER, SOON = timedelta(hours=1), timedelta(seconds=0.05)
HOUR = timedelta(hours=1)


class Running:
    """A timetable that runs, and what became due."""

    def __init__(self, clock: StandingClock | None, sweep: timedelta) -> None:
        self.due: list[ObjectKey] = []
        self.table = Timetable(self.due.append, clock or (lambda: datetime.now(UTC)), sweep)
        self.table.start()


@pytest.fixture
def real() -> Iterator[Running]:
    """A timetable on the machine's clock that does not sweep: what fires is APScheduler's."""
    running = Running(None, NEVER)
    yield running
    running.table.stop()


@pytest.fixture
def clock() -> StandingClock:
    """A clock that is ten hours ahead, so that no timer of APScheduler comes into play before the sweep."""
    return StandingClock(datetime.now(UTC) + 10 * HOUR)


@pytest.fixture
def swept(clock: StandingClock) -> Iterator[Running]:
    """A timetable on that clock that sweeps twenty times a second."""
    running = Running(clock, SOON)
    yield running
    running.table.stop()


def test_fires_in_time(real: Running) -> None:
    """A key is due at its moment, not before, and without a sweep."""
    began_s = time.monotonic()
    real.table.put(KEY, datetime.now(UTC) + timedelta(seconds=0.2))
    assert not real.due
    eventually(lambda: real.due == [KEY])
    assert time.monotonic() - began_s >= 0.2


def test_past_moments_fire_at_once(real: Running) -> None:
    """What is overdue already needs no timer."""
    real.table.put(KEY, datetime.now(UTC) - HOUR)
    assert real.due == [KEY]


def test_2000_jobs_due_together() -> None:
    """None vanishes, which APScheduler's default grace of a second would let happen, and one thread rings them all.

    The default's ten threads start one by one over hours: to who watches a daemon's threads, that is a leak.
    """
    moment = datetime.now(UTC) + timedelta(seconds=1.5)
    keys = [ObjectKey("default", str(number)) for number in range(2000)]
    gate, due, test = threading.Event(), list[ObjectKey](), threading.current_thread()

    def hand_over(key: ObjectKey) -> None:
        # On a slow machine the last ones are due when they are put, and handed over there.
        if threading.current_thread() is not test:
            gate.wait(LIMIT_S)
        due.append(key)

    table = Timetable(hand_over, lambda: datetime.now(UTC), NEVER)
    before = set(threading.enumerate())
    table.start()
    for key in keys:
        table.put(key, moment)
    eventually(lambda: datetime.now(UTC) > moment + timedelta(seconds=1.3))
    started = set(threading.enumerate()) - before
    gate.set()
    eventually(lambda: len(due) >= 2000)
    table.stop()
    assert sorted(due) == sorted(keys)
    # APScheduler's own, the sweep's, and the one that rings.
    assert len(started) <= 3


def test_put_again_replaces(real: Running) -> None:
    """A key has one moment: the latest that was set."""
    real.table.put(KEY, datetime.now(UTC) + HOUR)
    real.table.put(KEY, datetime.now(UTC) + timedelta(seconds=0.1))
    eventually(lambda: real.due == [KEY])


def test_take(real: Running) -> None:
    """A key that was taken off is not due any more; taking tells when it would have been."""
    moment = datetime.now(UTC) + timedelta(seconds=0.1)
    real.table.put(KEY, moment)
    assert real.table.take(KEY) == moment
    assert real.table.take(KEY) is None
    later = ObjectKey("default", "later")
    real.table.put(later, datetime.now(UTC) + timedelta(seconds=0.2))
    eventually(lambda: real.due == [later])


def test_timers_are_set_shortly_before_their_time(clock: StandingClock) -> None:
    """What is due in hours costs no timer; three sweeps before it is due, the sweep sets it, once."""
    due: list[ObjectKey] = []
    table = Timetable(due.append, clock, timedelta(seconds=10), seconds=clock.seconds, machine=clock)
    table._scheduler.start(paused=True)
    jobs = table._scheduler.get_jobs
    later = ObjectKey("default", "later")
    table.put(KEY, clock() + HOUR)
    table.put_after(later, 2 * HOUR)
    table.sweep()
    assert not jobs()
    clock.now += HOUR - timedelta(seconds=30)
    table.sweep()
    (first,) = jobs()
    table.sweep()
    assert jobs() == [first]
    # Put off, the timer that was set rings for nothing, and the next one is set in time.
    table.put(KEY, clock() + HOUR)
    first.func(*first.args)
    assert not due
    clock.now += HOUR - timedelta(seconds=20)
    table.sweep()
    (second,) = jobs()
    assert (second.id, second.trigger.run_date) == (str(KEY), clock() + timedelta(seconds=20))
    assert table.take(KEY)
    assert table.take(later)
    assert not jobs()
    table._scheduler.shutdown()


def test_fault_23_a_timer_that_rang_for_nothing_is_set_again(clock: StandingClock) -> None:
    """Where the clock was put back after it was set; else the renewal would wait for a sweep after its moment."""
    due: list[ObjectKey] = []
    machine = StandingClock(clock.now)
    table = Timetable(due.append, clock, timedelta(seconds=10), seconds=clock.seconds, machine=machine)
    table._scheduler.start(paused=True)
    table.put(KEY, clock() + timedelta(seconds=20))
    (first,) = table._scheduler.get_jobs()
    clock.now -= timedelta(minutes=1)
    for standing in (clock, machine):
        standing.now += timedelta(seconds=20)
    table._scheduler.remove_job(first.id)
    first.func(*first.args)
    assert (due, table._scheduler.get_jobs()) == ([], [])
    for standing in (clock, machine):
        standing.now += timedelta(seconds=35)
    table.sweep()
    (second,) = table._scheduler.get_jobs()
    assert second.trigger.run_date == machine() + timedelta(seconds=25)
    table._scheduler.shutdown()


def test_a_timer_never_rings_early(clock: StandingClock) -> None:
    """Timers have whole microseconds: rung within the last one, it would be set for the same moment again, for ever."""
    seconds, due = [100.0], list[ObjectKey]()
    table = Timetable(due.append, clock, timedelta(seconds=10), seconds=lambda: seconds[0], machine=clock)
    table._scheduler.start(paused=True)
    table.put_after(KEY, HOUR)
    seconds[0] += HOUR.total_seconds() - 2e-7
    table.sweep()
    (job,) = table._scheduler.get_jobs()
    assert job.trigger.run_date > clock()
    table._scheduler.shutdown()


def test_fault_24_everything_overdue_after_a_suspension(swept: Running, clock: StandingClock) -> None:
    """A jump of the clock makes all that is overdue fire within a sweep, soonest first."""
    keys = [ObjectKey("default", name) for name in ("c", "a", "b")]
    for hours, key in enumerate(keys, 1):
        swept.table.put(key, clock.now + hours * HOUR)
    swept.table.sweep()
    assert not swept.due
    clock.now += 2.5 * HOUR
    eventually(lambda: len(swept.due) >= 2)
    assert [key.name for key in swept.due[:2]] == ["c", "a"]


def test_fault_23_a_clock_that_is_set_back_stops_no_sweep(swept: Running, clock: StandingClock) -> None:
    """The sweep goes by a clock that only grows; what becomes due by the new time is found as before."""
    clock.now -= 5 * HOUR
    swept.table.put(KEY, clock.now + HOUR)
    clock.now += HOUR
    eventually(lambda: KEY in swept.due)


def test_fault_23_a_machine_that_is_ahead_makes_no_loop() -> None:
    """A moment of the corrected clock is not one of APScheduler's: its timer must not ring, again and again, before."""

    def corrected() -> datetime:
        return datetime.now(UTC) - timedelta(minutes=10)

    due: list[ObjectKey] = []
    table = Timetable(due.append, corrected, NEVER)
    table.start()
    began_s = time.monotonic()
    table.put(KEY, corrected() + timedelta(seconds=0.3))
    eventually(lambda: due == [KEY])
    assert time.monotonic() - began_s >= 0.3
    table.stop()


def test_fault_23_a_wait_goes_by_no_clock() -> None:
    """A wait that began while the clock was wrong neither ends early nor lasts for as long as it was wrong."""
    due: list[ObjectKey] = []
    clock, passed_s = StandingClock(), [0.0]
    table = Timetable(due.append, clock, NEVER, seconds=lambda: passed_s[0], machine=lambda: datetime.now(UTC))
    table.put_after(KEY, timedelta(minutes=1))
    clock.now += HOUR
    table.sweep()
    clock.now -= 2 * HOUR
    passed_s[0] = 59.0
    table.sweep()
    assert not due
    passed_s[0] = 60.0
    table.sweep()
    assert due == [KEY]


def test_a_look_that_got_lost_is_repeated(swept: Running, clock: StandingClock) -> None:
    """A key stays due until somebody takes it."""
    swept.table.put(KEY, clock.now - HOUR)
    eventually(lambda: len(swept.due) >= 3)
    swept.table.take(KEY)
    swept.table.stop()
    assert KEY in swept.due


def test_stop_ends_all_threads(clock: StandingClock) -> None:
    """Nothing of it is left behind."""
    before = set(threading.enumerate())
    running = Running(clock, SOON)
    assert set(threading.enumerate()) > before
    running.table.stop()
    eventually(lambda: set(threading.enumerate()) <= before)


def test_stop_while_jobs_are_due() -> None:
    """Jobs that come due at the very moment of the end make no trace of their own."""
    for _ in range(20):
        table = Timetable(lambda _: None, lambda: datetime.now(UTC), NEVER)
        table.start()
        for number in range(50):
            table.put(ObjectKey("default", str(number)), datetime.now(UTC) + timedelta(milliseconds=number))
        table.stop()

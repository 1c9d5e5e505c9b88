"""One request for all who would send the same: results shared while they are good, flights joined, failures remembered.

Owns no knowledge of what is fetched. Source: reliability.md I6 (coalescing) and I7 (no hammering of what just failed).
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from credrotator.core.clock import suspend_aware
from credrotator.core.errors import RotationError
from credrotator.exchange.http.deadline import remaining_s
from credrotator.exchange.http.retry_after import ignores_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime

    from credrotator.core.ports import Clock

Value = TypeVar("Value")

FAILURE_LIFE = timedelta(seconds=10)
"""How long a failure answers for those who come right after; a retry waits longer than that anyway."""
_SWEEP_AT = 4096


class Shared(Generic[Value]):
    """A cache of what ``fetch`` returned, per key, with the moment up to which each is good.

    Failures are remembered by ``seconds`` that only grow: a clock that is set, or put right, makes none last.
    """

    def __init__(self, clock: Clock, seconds: Callable[[], float] = suspend_aware) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._values: dict[Hashable, tuple[Value, datetime]] = {}
        self._failures: dict[Hashable, tuple[RotationError, float, float]] = {}
        self._flights: dict[Hashable, Future[Value]] = {}

    def get(self, key: Hashable, fetch: Callable[[], tuple[Value, datetime]]) -> Value:
        """Return a good value, from memory, from another thread's flight, or from ``fetch``.

        Raises:
            RotationError: What ``fetch`` raised, here or for somebody else a moment ago.
            TimeoutError: The flight that was joined did not end within the deadline.
        """
        while True:
            with self._lock:
                if (known := self._values.get(key)) and self._clock() < known[1]:
                    return known[0]
                now_s = self._seconds()
                if (failed := self._failures.get(key)) and now_s < (failed[1] if ignores_retry_after() else failed[2]):
                    # What is left of the patience, or each who comes late would wait for all of it once more.
                    left = timedelta(seconds=failed[2] - now_s)
                    raise again(failed[0], left if failed[0].retry_after else None)
                flight = self._flights.get(key)
                joined = flight is not None
                if flight is None:
                    flight = self._flights[key] = Future()
            if not joined:
                return self._fly(key, flight, fetch)
            failure = flight.exception(remaining_s())
            if failure is None:
                return flight.result()
            if isinstance(failure, RotationError):
                raise again(failure) from failure.__cause__
            # What is no answer of the other side concerns the thread that flew: its deadline, its interrupt. This one
            # goes on, and flies itself while it still has time.

    def drop(self, key: Hashable, value: Value) -> None:
        """Forget a value that turned out to be of no use, unless somebody has replaced it already."""
        with self._lock:
            if (known := self._values.get(key)) and known[0] is value:
                del self._values[key]

    def _fly(self, key: Hashable, flight: Future[Value], fetch: Callable[[], tuple[Value, datetime]]) -> Value:
        try:
            value, good_until = fetch()
        except BaseException as error:
            self._land(key, failure=error)
            flight.set_exception(error)
            raise
        self._land(key, value=(value, good_until))
        flight.set_result(value)
        return value

    def _land(
        self, key: Hashable, *, value: tuple[Value, datetime] | None = None, failure: BaseException | None = None
    ) -> None:
        with self._lock:
            now, now_s = self._clock(), self._seconds()
            del self._flights[key]
            self._failures.pop(key, None)
            if value is not None:
                self._values[key] = value
            elif isinstance(failure, RotationError):
                life_s = FAILURE_LIFE.total_seconds()
                patience_s = max(life_s, (failure.retry_after or FAILURE_LIFE).total_seconds())
                self._failures[key] = (again(failure), now_s + life_s, now_s + patience_s)
            if len(self._values) + len(self._failures) > _SWEEP_AT:
                self._values = {name: kept for name, kept in self._values.items() if now < kept[1]}
                self._failures = {name: kept for name, kept in self._failures.items() if now_s < kept[2]}


class RateLimits:
    """Who asked for patience, and until when: Retry-After holds for all that would ask the same one."""

    def __init__(self, seconds: Callable[[], float] = suspend_aware) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._pauses: dict[Hashable, tuple[RotationError, float]] = {}

    def check(self, key: Hashable) -> None:
        """Return when ``key`` may be asked, or a probe may.

        Raises:
            RotationError: What it answered when it asked for patience; its ``retry_after`` is what is left of it.
        """
        with self._lock:
            now_s = self._seconds()
            self._pauses = {name: kept for name, kept in self._pauses.items() if now_s < kept[1]}
            if (found := self._pauses.get(key)) and not ignores_retry_after():
                raise again(found[0], retry_after=timedelta(seconds=found[1] - now_s))

    def note(self, key: Hashable, error: RotationError) -> None:
        """Remember what ``error`` asks for, if anything."""
        if error.retry_after:
            with self._lock:
                self._pauses[key] = (again(error), self._seconds() + error.retry_after.total_seconds())


def again(error: RotationError, retry_after: timedelta | None = None) -> RotationError:
    """Make an equal error to raise or keep.

    NOTE: one error raised in many threads would collect all their tracebacks, and keep alive what their frames hold.
    """
    # NOTE: what is left of a wish may be nothing; that is no reason to begin with all of it once more.
    wait = error.retry_after if retry_after is None else retry_after
    return type(error)(error.reason, error.message, hint=error.hint, retry_after=wait, settling=error.settling)
